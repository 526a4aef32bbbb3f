"""Whether harmonized images show structure that the images themselves lack.

A rising curve cannot put two pixels into another order, nor tell two of the same value apart, however steep it is. So
contrast of a result between pixels that its image orders otherwise was not there before: it was drawn. This holds for
every such curve exactly, one an image or one a scanner, whatever it does to noise, and needs no truth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xray_harmonize.exceptions import InvalidImageError

STRUCTURE_KEPT = 0.95
"""Structure agreement on some scanner below which a method is said to change structure.

Curves have 1 by construction, in floating point too, so none is ever named: on simulated mammograms of 64 and 128
pixels and chest radiographs of 64, min-max, percentiles, windows, z-scores, Nyul and CDF matching of every scope kept
1.0000 of every single image. What is left open is how much new contrast counts. It was set so that methods which move
local contrast and nothing else stay unnamed: :class:`~xray_harmonize.MultiBand` kept .963 or more on every scanner
there. :class:`~xray_harmonize.FourierSwap` puts the reference's shading under an image: it kept .99 of the chest
radiographs, but .70 of the mammograms of the worst scanner, most of whose large-scale contrast became the reference's.
"""

MEASURE = "structure agreement"

# How far apart pixels are that are compared, as shares of the shorter side: edges, and the small structures they bound.
_APART = (32, 16, 8)


def structure_agreement(before: ArrayLike, after: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Share of the result's contrast that the image has as well.

    Pixels are compared with those a 32nd, a 16th and an 8th of the shorter side to their right and below. A pair counts
    as much as its two values in the result differ, and agrees if they differ the same way in the image.

    Parameters
    ----------
    before, after : array-like of float of shape (height, width)
    mask : array-like of bool of shape (height, width), optional
        Pixels that count; of a pair, both must.

    Returns
    -------
    float
        1 behind any curve that rises or is flat, exactly; .5 for unrelated structure; 0 for an inverted image. 1 where
        the result has no contrast, as nothing was drawn then: what was *lost* is for other measures.

    Raises
    ------
    InvalidImageError
        If shapes differ, or no pixel counts.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((32, 32))
    >>> painted = image.copy()
    >>> painted[12:20, 12:20] = 1 - painted[12:20, 12:20]
    >>> structure_agreement(image, image**3), structure_agreement(image, painted) < 0.95
    (1.0, True)
    """
    a, b, counted = checked_pair(before, after, mask)
    total = kept = 0.0
    for apart in sorted({max(min(a.shape) // share, 1) for share in _APART}):
        for axis in (0, 1):
            both = _first(counted, apart, axis) & _last(counted, apart, axis)
            seen = (_last(a, apart, axis) - _first(a, apart, axis))[both]
            made = (_last(b, apart, axis) - _first(b, apart, axis))[both]
            contrast = np.abs(made)
            total += float(contrast.sum())
            kept += float(contrast[np.sign(seen) == np.sign(made)].sum())
    return kept / total if total else 1.0


def changes_structure(content: pd.DataFrame) -> dict[str, float]:
    """Tell which harmonizers show structure that images lack.

    Parameters
    ----------
    content : DataFrame
        With the columns ``harmonizer``, ``measure`` and ``value``, a row a scanner.

    Returns
    -------
    dict of str to float
        Lowest structure agreement on a scanner, of those for which it is below :data:`STRUCTURE_KEPT`; the lowest
        first.

    Examples
    --------
    >>> rows = [("CDF", MEASURE, 1.0), ("U-Net", MEASURE, 0.97), ("U-Net", MEASURE, 0.8)]
    >>> changes_structure(pd.DataFrame(rows, columns=["harmonizer", "measure", "value"]))
    {'U-Net': 0.8}
    """
    if content.empty:
        return {}
    rows = content[content["measure"] == MEASURE]
    lowest = rows.groupby("harmonizer", sort=False)["value"].min().sort_values(kind="stable")
    return {str(name): float(value) for name, value in lowest[lowest < STRUCTURE_KEPT].items()}


def checked_pair(image: Any, other: Any, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give two images as float64 and the pixels that count.

    Raises
    ------
    InvalidImageError
        If shapes differ, or no pixel counts.

    Examples
    --------
    >>> checked_pair([[0, 1]], [[1, 1]], None)[2].tolist()
    [[True, True]]
    """
    a, b = np.asarray(image, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise InvalidImageError(f"Expected two images of the same shape (height, width); got {a.shape} and {b.shape}.")
    counted = np.ones(a.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if counted.shape != a.shape or not counted.any():
        raise InvalidImageError(
            f"Expected a mask of shape {a.shape} with at least one pixel that counts; got one of shape {counted.shape} "
            f"with {int(counted.sum())}."
        )
    return a, b, counted


def _first(image: np.ndarray, apart: int, axis: int) -> np.ndarray:
    return image[:-apart] if axis == 0 else image[:, :-apart]


def _last(image: np.ndarray, apart: int, axis: int) -> np.ndarray:
    return image[apart:] if axis == 0 else image[:, apart:]
