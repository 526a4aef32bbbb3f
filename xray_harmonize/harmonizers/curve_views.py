"""An image as GDCE's network sees it: a small square, sampled where it is needed and nowhere else."""

from __future__ import annotations

import numpy as np

from xray_harmonize.levels import full_scale
from xray_harmonize.radiograph import Radiograph


def bilinear_view(radiograph: Radiograph, size: int) -> np.ndarray:
    """Resize an image to a square by bilinear interpolation without antialiasing.

    Only the pixels between which is interpolated are read, so the cost depends on the square and not on the image.

    Parameters
    ----------
    radiograph : Radiograph
        Stored values, or floats in [0, 1]. Where its mask is False, black is taken for what is there.
    size : int
        Side of the square in pixels.

    Returns
    -------
    ndarray of float32 of shape (size, size)
        Fractions of full scale, in [0, 1].

    Notes
    -----
    Centres of pixels are half a pixel from the edge (``align_corners=False``), as in the released GDCE.

    Examples
    --------
    >>> view = bilinear_view(Radiograph(np.array([[0, 255], [0, 255]], dtype=np.uint8), 8), 4)
    >>> view[0]
    array([0.  , 0.25, 0.75, 1.  ], dtype=float32)
    """
    pixels, mask = radiograph.pixels, radiograph.mask
    above, below, down = _neighbours(pixels.shape[0], size)
    left, right, along = _neighbours(pixels.shape[1], size)
    scale = np.float32(1 / full_scale(pixels.dtype, radiograph.bits_stored))

    def at(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        place = np.ix_(rows, columns)
        values = pixels[place].astype(np.float32) * scale
        return values if mask is None else values * mask[place]

    top = at(above, left) * (1 - along) + at(above, right) * along
    bottom = at(below, left) * (1 - along) + at(below, right) * along
    view: np.ndarray = top * (1 - down[:, None]) + bottom * down[:, None]
    return np.clip(view, 0, 1)


def _neighbours(n: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels on both sides of each sample along an axis of ``n``, and how far the sample is on the way between them."""
    place = np.maximum((np.arange(size) + 0.5) * (n / size) - 0.5, 0)
    before = np.minimum(place.astype(np.intp), n - 1)
    return before, np.minimum(before + 1, n - 1), (place - before).astype(np.float32)
