"""Radiographs as pictures that stand in the page itself."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import ArrayLike

from xray_harmonize.exceptions import InvalidImageError

MAX_IMAGE_SIDE = 256


def image_png(
    image: ArrayLike, max_side: int = MAX_IMAGE_SIDE, *, name: str = "The sample image"
) -> tuple[str, int, int]:
    """Write an image as an 8-bit grey PNG, made smaller where it is larger than `max_side`.

    Parameters
    ----------
    image : array-like of float of shape (height, width)
        0 is black and 1 is white; what lies beyond is shown as black or white, NaN as black.
    max_side : int, default=256
        Longest side of the result in pixels.
    name : str
        What an error calls the image.

    Returns
    -------
    uri : str
        The PNG.
    width, height : int
        Its size in pixels.

    Raises
    ------
    InvalidImageError
        If it is not 2-D, or has no pixel.
    """
    pixels = np.asarray(image, dtype=np.float32)
    if pixels.ndim != 2 or pixels.size == 0:
        raise InvalidImageError(f"{name} has shape {pixels.shape}; expected a 2-D image with at least one pixel.")
    pixels = np.clip(np.nan_to_num(pixels, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)
    height, width = pixels.shape
    scale = max_side / max(height, width)
    if scale < 1:
        # Averaging the pixels that become one keeps fine texture from turning into moiré.
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    grey = np.rint(pixels * 255).astype(np.uint8)
    _, encoded = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return data_uri("image/png", encoded.tobytes()), grey.shape[1], grey.shape[0]


def data_uri(media_type: str, content: bytes) -> str:
    """Give content as an address that needs no request."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
