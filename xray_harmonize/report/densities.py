"""Histograms of grey values, made ready to be drawn and told."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

MAX_BINS = 64


def histogram_top(density: ArrayLike) -> float:
    """Height that shows a histogram well: its highest bin but for black and white, which background and clipping fill.

    Parameters
    ----------
    density : array-like of float of shape (n_bins,)

    Returns
    -------
    float
    """
    heights = rebinned(density)
    inner = heights[1:-1] if heights.size > 2 else heights
    return 1.08 * float(inner.max(initial=0.0)) or float(heights.max(initial=0.0)) or 1.0


def rebinned(density: ArrayLike) -> np.ndarray:
    """At most 64 bins of the same area: finer ones show the gaps between 8-bit levels, and no more."""
    heights = np.nan_to_num(np.asarray(density, dtype=float))
    n_bins = min(heights.size, MAX_BINS)
    share = np.concatenate([[0.0], np.cumsum(heights)]) / max(heights.size, 1)
    return np.diff(np.interp(np.linspace(0, 1, n_bins + 1), np.linspace(0, 1, heights.size + 1), share)) * n_bins


def mean_grey(density: ArrayLike) -> float:
    """Mean grey value of a histogram over equal bins from black to white; 0 for an empty one.

    Examples
    --------
    >>> mean_grey([0, 0, 1, 1])
    0.75
    """
    heights = np.nan_to_num(np.asarray(density, dtype=float))
    middles = (np.arange(heights.size) + 0.5) / max(heights.size, 1)
    return float(np.average(middles, weights=heights)) if heights.sum() > 0 else 0.0
