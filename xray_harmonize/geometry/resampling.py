"""Moving pixels without changing what they are: stored values stay stored values of their dtype.

OpenCV does the work. It knows 8 and 16 bits and two floats; what it does not know goes through
float64 and is rounded back.
"""

from __future__ import annotations

import cv2
import numpy as np

from xray_harmonize.geometry.foreground import Box

Shape = tuple[int, int]

_KNOWN = ("uint8", "uint16", "float32", "float64")


def cut(pixels: np.ndarray, box: Box, angle: float = 0.0, outside: float | None = None) -> np.ndarray:
    """Turn an image upright and cut a box out of it, in new memory.

    Parameters
    ----------
    pixels : ndarray of shape (height, width)
    box : tuple of int
        (top, bottom, left, right), ends exclusive, in the turned image.
    angle : float, default=0.0
        The image is turned clockwise about its center by these degrees, bilinearly.
    outside : float, optional
        What comes in from beyond the image; its nearest pixel where absent.

    Returns
    -------
    ndarray of the same dtype

    Examples
    --------
    >>> cut(np.arange(12).reshape(3, 4), (1, 3, 0, 2)).tolist()
    [[4, 5], [8, 9]]
    """
    top, bottom, left, right = box
    if angle == 0:
        return np.array(pixels[top:bottom, left:right], order="C")
    height, width = pixels.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -angle, 1.0)
    matrix[:, 2] -= (left, top)
    turned = cv2.warpAffine(
        _known(pixels),
        matrix,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT,
        borderValue=0.0 if outside is None else outside,
    )
    return _back(turned, pixels, (bottom - top, right - left), outside)


def resampled(pixels: np.ndarray, shape: Shape) -> np.ndarray:
    """Bring an image to a shape, in new memory.

    Shrinks by averaging areas, which no detail slips through, and enlarges bilinearly.

    Parameters
    ----------
    pixels : ndarray of shape (height, width)
    shape : tuple of int
        (height, width) to come out.

    Returns
    -------
    ndarray of the same dtype

    Examples
    --------
    >>> resampled(np.array([[0, 4], [8, 12]], dtype="uint16"), (1, 1)).tolist()
    [[6]]
    """
    if pixels.shape == shape:
        return np.array(pixels, order="C")
    image = _known(pixels)
    # cv2.INTER_AREA blurs nothing when it enlarges, but leaves blocks: hence one step for each
    smaller = (min(shape[0], image.shape[0]), min(shape[1], image.shape[1]))
    if smaller != image.shape:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA).reshape(smaller)
    if smaller != shape:
        image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return _back(image, pixels, shape)


def padded(pixels: np.ndarray, shape: Shape, value: float) -> np.ndarray:
    """Center an image in a larger one that is `value` elsewhere.

    Examples
    --------
    >>> padded(np.array([[7, 8]], dtype="uint8"), (2, 4), 1).tolist()
    [[1, 7, 8, 1], [1, 1, 1, 1]]
    """
    framed = np.full(shape, value, dtype=pixels.dtype)
    top, left = (shape[0] - pixels.shape[0]) // 2, (shape[1] - pixels.shape[1]) // 2
    framed[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return framed


def background_level(pixels: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Give the level that 1 % of what counts lies below: air, wherever there is any.

    Examples
    --------
    >>> background_level(np.arange(1000, dtype="uint16").reshape(20, 50))
    10.0
    """
    # every k-th pixel is plenty for a percentile
    step = max(1, min(pixels.shape) // 256)
    some = pixels[::step, ::step]
    counted = some if mask is None else some[mask[::step, ::step]]
    return float(np.percentile(counted if counted.size else some, 1, method="nearest"))


def _known(pixels: np.ndarray) -> np.ndarray:
    native = pixels.dtype.newbyteorder("=")
    if native == np.float16:
        native = np.dtype(np.float32)
    return np.ascontiguousarray(pixels, dtype=native if native.name in _KNOWN else np.float64)


def _back(image: np.ndarray, origin: np.ndarray, shape: Shape, outside: float | None = None) -> np.ndarray:
    """Give what OpenCV made of `origin` its dtype, and no level that it did not reach."""
    image = image.reshape(shape)
    if origin.dtype.kind in "iu":
        return image if image.dtype == origin.dtype else np.rint(image).astype(origin.dtype)
    # weights that add up to 1 + 1e-7 would lift a float above full scale
    low, high = float(origin.min()), float(origin.max())
    if outside is not None:
        low, high = min(low, outside), max(high, outside)
    np.clip(image, low, high, out=image)
    return image.astype(origin.dtype, copy=False)
