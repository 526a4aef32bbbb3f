"""What an image looks like in a few numbers: its grey values, and how much contrast they have at what scale and level.

Contrast at a level tells how steep the tone is there, which grey values alone do not: a body may be dense, or shown
bright.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from xray_harmonize.geometry.resampling import resampled
from xray_harmonize.levels import as_unit
from xray_harmonize.radiograph import Radiograph

N_NUMBERS: Final = 21

# Side in pixels on which contrast is measured, so that it does not depend on the matrix.
_SIDE: Final = 128
_PROBABILITIES: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_SCALES: Final = (0.7, 1.4, 2.8, 5.6)
_FINE, _SLOPE = 0.8, 1.4
_LEVELS: Final = (0.25, 0.5, 0.75)
# Less is rounding, whose logarithm would be noise.
_LEAST: Final = 1e-5
# Around its border a mask makes contrast of its own.
_BORDER: Final = np.ones((5, 5), dtype=np.uint8)
_FEWEST: Final = 50


def appearance(radiograph: Radiograph) -> np.ndarray:
    """Describe one image.

    Parameters
    ----------
    radiograph : Radiograph
        Stored values, or floats in [0, 1]; its mask, if any, leaves at least one pixel.

    Returns
    -------
    ndarray of float64 of shape (21,)
        Nine quantiles of the grey values that count; logarithms of the standard deviation of four bands, the finest
        first; and, for each quarter of the grey values, of the median fine detail and of the median slope. All but the
        quantiles on a square of 128 pixels.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((40, 30), dtype="float32")
    >>> numbers = appearance(Radiograph(image))
    >>> numbers.shape, bool(0.45 < numbers[4] < 0.55)
    ((21,), True)
    """
    pixels = as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name or "The image")
    counted = pixels if radiograph.mask is None else pixels[radiograph.mask]
    square = resampled(pixels, (_SIDE, _SIDE))
    inner = np.ones(square.shape, dtype=bool) if radiograph.mask is None else _inner(radiograph.mask)
    return np.concatenate([np.quantile(counted, _PROBABILITIES), _bands(square, inner), _by_level(square, inner)])


def _inner(mask: np.ndarray) -> np.ndarray:
    small = resampled(mask.astype(np.float32), (_SIDE, _SIDE)) > 0.5
    inner = cv2.erode(small.astype(np.uint8), _BORDER, borderValue=0).astype(bool)
    if inner.sum() >= _FEWEST:
        return inner
    return small if small.any() else np.ones_like(small)


def _bands(square: np.ndarray, inner: np.ndarray) -> list[float]:
    energies, finer = [], square
    for scale in _SCALES:
        coarser = _blurred(square, scale)
        energies.append(_log((finer - coarser)[inner].std()))
        finer = coarser
    return energies


def _by_level(square: np.ndarray, inner: np.ndarray) -> list[float]:
    level = np.digitize(square, np.quantile(square[inner], _LEVELS))
    smooth = _blurred(square, _SLOPE)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    detail = np.abs(square - _blurred(square, _FINE))
    found = []
    for measured in (detail, slope):
        for quarter in range(len(_LEVELS) + 1):
            values = measured[inner & (level == quarter)]
            found.append(_log(float(np.median(values)) if len(values) else 0.0))
    return found


def _blurred(image: np.ndarray, width: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), width, borderType=cv2.BORDER_REFLECT_101)


def _log(value: float) -> float:
    return float(np.log(value + _LEAST))
