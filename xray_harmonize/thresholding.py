"""Otsu's threshold, on a histogram."""

from __future__ import annotations

import numpy as np


def otsu_levels(counts: np.ndarray) -> tuple[int, int]:
    """Levels between which two classes of pixels differ most (greatest variance between them).

    Parameters
    ----------
    counts : ndarray of shape (n_levels,)
        Pixels a level.

    Returns
    -------
    darker_end, brighter_start : int
        Highest level of the darker class and lowest of the brighter one; what lies between them is empty. (-1, 0)
        where one level holds everything.

    References
    ----------
    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and
    Cybernetics 9(1), 1979, equation 18.

    Examples
    --------
    >>> otsu_levels(np.array([8, 1, 0, 0, 1, 6]))
    (1, 4)
    """
    weight = np.cumsum(counts, dtype=np.float64)
    moment = np.cumsum(counts * np.arange(counts.size, dtype=np.float64))
    below, above = weight[:-1], weight[-1] - weight[:-1]
    spread = below * above
    between = np.zeros_like(spread)
    if weight.size and weight[-1] > 0:
        np.divide((moment[-1] * below / weight[-1] - moment[:-1]) ** 2, spread, out=between, where=spread > 0)
    if not between.size or between.max() == 0:
        return -1, 0
    darker_end = int(np.argmax(between))
    present = np.flatnonzero(counts)
    return int(present[present <= darker_end][-1]), int(present[present > darker_end][0])
