"""Grey levels: full scale, histograms, quantile functions and lookup, the fast core under every global method.

A global method looks at an image through its histogram and answers with a monotone curve, so it costs one histogram
and one lookup an image, whatever the method. OpenCV does both: its 16-bit histogram and lookup are several times faster
than ``numpy.bincount`` and fancy indexing (``benchmarks/tone_speed.py``).

Integers are stored values, full scale is ``2**bits_stored - 1``. Floats lie in [0, 1]; float32 images are read at
16-bit resolution, the depth of the deepest detectors.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from xray_harmonize.exceptions import InvalidImageError

FLOAT_LEVELS = 65536
_BITS_OF_ONE = int(np.float32(1).view(np.int32))

# OpenCV gives counts as float32, which are exact up to here.
_PIXELS_A_PIECE = 2**24

# Probabilities at which quantile functions are kept: dense in the middle, geometric towards both tails, so that a
# collimator edge of a few pixels and a metal marker keep their own place on the curve.
_TAIL = np.geomspace(1e-6, 1 / 1024, 32, endpoint=False)
PROBABILITIES: np.ndarray = np.concatenate([[0.0], _TAIL, np.arange(1, 1024) / 1024, 1 - _TAIL[::-1], [1.0]])
PROBABILITIES.setflags(write=False)


def full_scale(dtype: Any, bits_stored: int | None = None) -> float:
    """Largest value a pixel can hold.

    Parameters
    ----------
    dtype : dtype-like
        Type of the pixels.
    bits_stored : int, optional
        Bits in use, for integers; None or 0 stands for all bits of ``dtype``.

    Returns
    -------
    float
        ``2**bits_stored - 1`` for unsigned integers, 1.0 for floats.

    Raises
    ------
    InvalidImageError
        If pixels are neither unsigned integers nor floats, or ``bits_stored`` does not fit the type.

    Examples
    --------
    >>> full_scale("uint16", 12)
    4095.0
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return 1.0
    if dtype.kind != "u":
        raise InvalidImageError(
            f"Pixels must be unsigned integers (stored values) or floats in [0, 1]; got {dtype}. "
            "Convert them first, for example with image.astype('uint16')."
        )
    bits = bits_stored or 8 * dtype.itemsize
    if not 1 <= bits <= 8 * dtype.itemsize:
        raise InvalidImageError(
            f"bits_stored={bits} does not fit pixels of type {dtype}; expected 1 to {8 * dtype.itemsize}."
        )
    return float(2**bits - 1)


def check_unit_range(image: np.ndarray, name: str) -> None:
    """Refuse floats outside [0, 1].

    Parameters
    ----------
    image : ndarray of float, with at least one element
    name : str
        What the error calls it.

    Raises
    ------
    InvalidImageError
        If a value is NaN or outside [0, 1].
    """
    if image.dtype == np.float32 and image.flags.c_contiguous and image.ndim == 2:
        # As integers, the bits of floats in [0, 1] lie between those of 0 and 1; those of all others, NaN too, do not.
        lowest, highest, _, _ = cv2.minMaxLoc(image.view(np.int32))
        if lowest >= 0 and highest <= _BITS_OF_ONE:
            return
    low, high = float(np.min(image)), float(np.max(image))
    if np.isnan(low) or np.isnan(high):
        raise InvalidImageError(f"{name} holds NaN; expected numbers in [0, 1]. Mask or fill these pixels first.")
    if low < 0 or high > 1:
        raise InvalidImageError(
            f"{name} holds floats from {low:g} to {high:g}; expected [0, 1]. "
            "Divide by the full scale of the detector, or pass integers as stored values with bits_stored."
        )


def stored_levels(image: np.ndarray, bits_stored: int | None = None, name: str = "The image") -> tuple[np.ndarray, int]:
    """Bring an image to the equally spaced levels that histograms count and lookups read.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        Stored values, or floats in [0, 1].
    bits_stored : int, optional
        Bits in use, for integers.
    name : str
        What an error calls the image.

    Returns
    -------
    levels : ndarray of uint8 or uint16 of shape (height, width)
        Contiguous; the image itself where it can be.
    n_levels : int
        ``2**bits_stored`` up to 16 bits, 65,536 for deeper ones and floats.

    Raises
    ------
    InvalidImageError
        As :func:`as_unit`.

    Examples
    --------
    >>> stored_levels(np.array([[0.0, 0.5, 1.0]]))
    (array([[    0, 32768, 65535]], dtype=uint16), 65536)
    """
    if image.ndim != 2 or image.size == 0:
        raise InvalidImageError(f"{name} has shape {image.shape}; expected a 2-D image with at least one pixel.")
    n_levels = int(full_scale(image.dtype, bits_stored)) + 1
    if image.dtype.kind == "f":
        check_unit_range(image, name)
        single = np.ascontiguousarray(image, dtype=np.float32)
        # Scaling and rounding to the nearest level in one pass; a weighted sum with itself is OpenCV's fastest way.
        levels = cv2.addWeighted(single, float(FLOAT_LEVELS - 1), single, 0.0, 0.0, dtype=cv2.CV_16U)
        return levels.reshape(image.shape), FLOAT_LEVELS
    _checked_maximum(image, n_levels, name)
    if image.dtype.itemsize > 2:
        if n_levels <= FLOAT_LEVELS:
            return image.astype(np.uint16), n_levels
        scaled = image / (n_levels - 1) * (FLOAT_LEVELS - 1)
        return np.rint(scaled).astype(np.uint16), FLOAT_LEVELS
    native = image.astype(image.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(native), n_levels


def _checked_maximum(image: np.ndarray, n_levels: int, name: str) -> None:
    if n_levels >= 2 ** (8 * image.dtype.itemsize):
        return
    largest = int(image.max())
    if largest >= n_levels:
        raise InvalidImageError(
            f"{name} holds the stored value {largest}, above the full scale {n_levels - 1} of its bits_stored. "
            "Give the right bits_stored."
        )


def _count(levels: np.ndarray, n_levels: int) -> np.ndarray:
    n_pieces = min(-(-levels.size // _PIXELS_A_PIECE), levels.shape[0])
    pieces = [levels] if n_pieces == 1 else np.array_split(levels, n_pieces)
    counts = np.zeros(n_levels, dtype=np.int64)
    for piece in pieces:
        counts += cv2.calcHist([piece], [0], None, [n_levels], [0.0, float(n_levels)]).ravel().astype(np.int64)
    return counts


def _count_inside(levels: np.ndarray, n_levels: int, mask: np.ndarray) -> np.ndarray:
    # OpenCV's own masked histogram is several times slower than blackening the outside and taking it off again.
    inside = np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    counts = _count(cv2.copyTo(levels, inside).reshape(levels.shape), n_levels)
    counts[0] -= mask.size - cv2.countNonZero(inside)
    return counts


def as_unit(image: ArrayLike, bits_stored: int | None = None, *, name: str = "The image") -> np.ndarray:
    """Pixels as floats in [0, 1] of full scale, never of the image's own range.

    Parameters
    ----------
    image : array-like of shape (height, width)
        Stored values (unsigned integers) or floats in [0, 1].
    bits_stored : int, optional
        Bits in use, for integers; the dtype's bits where unknown.
    name : str
        What an error calls the image.

    Returns
    -------
    ndarray of float32 of shape (height, width)
        New memory.

    Raises
    ------
    InvalidImageError
        If floats lie outside [0, 1] or are NaN, or integers exceed the full scale.

    Examples
    --------
    >>> import numpy as np
    >>> as_unit(np.array([[0, 4095]], dtype="uint16"), bits_stored=12)
    array([[0., 1.]], dtype=float32)
    """
    pixels = np.asarray(image)
    if pixels.ndim != 2 or pixels.size == 0:
        raise InvalidImageError(f"{name} has shape {pixels.shape}; expected a 2-D image with at least one pixel.")
    scale = full_scale(pixels.dtype, bits_stored)
    if pixels.dtype.kind == "f":
        check_unit_range(pixels, name)
        return pixels.astype(np.float32)
    _checked_maximum(pixels, int(scale) + 1, name)
    return np.divide(pixels, scale, dtype=np.float64 if pixels.dtype.itemsize > 2 else np.float32).astype(
        np.float32, copy=False
    )


def histogram(
    image: ArrayLike, bits_stored: int | None = None, mask: np.ndarray | None = None, *, name: str = "The image"
) -> np.ndarray:
    """Count the pixels of every level.

    Parameters
    ----------
    image : array-like of shape (height, width)
        Stored values, or floats in [0, 1], which are counted at 65,536 levels.
    bits_stored : int, optional
        Bits in use, for integers.
    mask : ndarray of bool of shape (height, width), optional
        Pixels to count; all where None.
    name : str
        What an error calls the image.

    Returns
    -------
    ndarray of int64 of shape (n_levels,)
        ``n_levels`` is ``2**bits_stored`` for integers, 65,536 for floats.

    Raises
    ------
    InvalidImageError
        As :func:`as_unit`, and if the mask has another shape than the image.

    Examples
    --------
    >>> import numpy as np
    >>> histogram(np.array([[0, 3, 3]], dtype="uint8"), bits_stored=2)
    array([1, 0, 0, 2])
    """
    pixels = np.asarray(image)
    levels, n_levels = stored_levels(pixels, bits_stored, name)
    if mask is not None and mask.shape != pixels.shape:
        raise InvalidImageError(f"{name} has shape {pixels.shape} but its mask {mask.shape}; expected the same.")
    return _count(levels, n_levels) if mask is None else _count_inside(levels, n_levels, mask)


def quantiles(counts: np.ndarray, probabilities: ArrayLike = PROBABILITIES) -> np.ndarray:
    """Quantile function of a histogram, by linear interpolation of the mid-distribution function.

    A level holding many pixels sits in the middle of its step of the distribution function, so that the quantile
    function of an image and that of the same image at another bit depth agree within a level.

    Parameters
    ----------
    counts : ndarray of shape (n_levels,)
        Pixels a level, at equally spaced levels from 0 to 1.
    probabilities : array-like of float
        Where to evaluate, in [0, 1]; 0 and 1 give the lowest and the highest level present.

    Returns
    -------
    ndarray of float64
        Levels in [0, 1], non-decreasing where ``probabilities`` are.

    Raises
    ------
    InvalidImageError
        If nothing was counted.

    Examples
    --------
    >>> import numpy as np
    >>> quantiles(np.array([1, 0, 2, 0, 1]), [0, 0.5, 1])
    array([0. , 0.5, 1. ])
    """
    present = np.flatnonzero(counts)
    if present.size == 0:
        raise InvalidImageError(
            "There is no pixel to take statistics of: the mask or the foreground is empty. "
            "Check the mask, or choose another foreground."
        )
    weight = counts[present].astype(np.float64)
    middle = (np.cumsum(weight) - 0.5 * weight) / weight.sum()
    values = np.interp(np.asarray(probabilities, dtype=np.float64), middle, present / (counts.size - 1))
    return np.asarray(values)


@lru_cache(maxsize=8)
def level_grid(n_levels: int) -> np.ndarray:
    """Give ``n_levels`` equally spaced levels from 0 to 1, read-only."""
    grid = np.arange(n_levels) / (n_levels - 1)
    grid.setflags(write=False)
    return grid


def look_up(levels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Put a value of a table in the place of every level.

    Parameters
    ----------
    levels : ndarray of uint8 or uint16 of shape (height, width)
        Contiguous, all below ``len(table)``.
    table : ndarray of float of shape (n_levels,)

    Returns
    -------
    ndarray of float32 of shape (height, width)
        New memory.

    Examples
    --------
    >>> look_up(np.array([[0, 1, 1]], dtype="uint8"), np.array([0.25, 0.75]))
    array([[0.25, 0.75, 0.75]], dtype=float32)
    """
    # OpenCV wants a table for all values of the type.
    whole = np.zeros(2 ** (8 * levels.dtype.itemsize), dtype=np.float32)
    whole[: len(table)] = table
    return cv2.LUT(levels, whole).reshape(levels.shape)
