"""Resampling patients.

A bootstrap resample of patients is a vector of counts: how often each patient was drawn. An image
weighs as much as its patient counts, so a thousand resamples are one matrix of weights, and every
figure of them is a weighted figure of the same images (see
:mod:`~xray_harmonize.evaluation.weighted`).

Images of one patient are never drawn apart, since they are not independent: an interval that
ignores this is too narrow.

References
----------
.. [1] B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993,
   chapter 13 (percentile intervals) and section 15.4 (significance from intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from sklearn.utils import check_random_state

from xray_harmonize.exceptions import InvalidParameterError

__all__ = [
    "bootstrap_patients",
    "interval",
    "p_value",
    "resample_counts",
]

# Numbers in one block of the weight matrix: 2**20 of 8 bytes stay near the processor's cache, and
# the memory needed does not grow with the number of resamples.
BLOCK_SIZE = 2**20


def resample_counts(
    n_patients: int,
    n_bootstrap: int,
    random_state: int | np.random.RandomState | None = None,
    block: int | None = None,
) -> Iterator[np.ndarray]:
    """Draw patients with replacement, and count.

    Parameters
    ----------
    n_patients : int
        Patients in a resample, as many as there are.
    n_bootstrap : int
        Number of resamples.
    random_state : int, RandomState or None, default=None
        The draws. They do not depend on `block`.
    block : int, optional
        Resamples in one block; by default such that memory stays bounded.

    Yields
    ------
    counts : ndarray of int64 of shape (at most block, n_patients)
        How often each patient was drawn; every row sums to `n_patients`.

    Examples
    --------
    >>> from xray_harmonize.evaluation.bootstrap import resample_counts
    >>> counts = next(resample_counts(4, n_bootstrap=3, random_state=0))
    >>> counts.shape, counts.sum(axis=1).tolist()
    ((3, 4), [4, 4, 4])
    """
    rng = check_random_state(random_state)
    rows = block or max(1, BLOCK_SIZE // max(1, n_patients))
    for start in range(0, n_bootstrap, rows):
        n_rows = min(rows, n_bootstrap - start)
        drawn = rng.randint(n_patients, size=(n_rows, n_patients))
        drawn += n_patients * np.arange(n_rows)[:, np.newaxis]
        counts = np.bincount(drawn.ravel(), minlength=n_rows * n_patients)
        yield counts.reshape(n_rows, n_patients)


def bootstrap_patients(
    statistic: Callable[[np.ndarray], np.ndarray],
    patient: np.ndarray,
    n_bootstrap: int = 1000,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a statistic of the images, and of the images of resampled patients.

    Parameters
    ----------
    statistic : callable
        Takes weights, an ndarray of float64 of shape (n_resamples, n_images), and returns an
        ndarray of shape (n_resamples, ...), NaN where a resample does not define it.
    patient : ndarray of int of shape (n_images,)
        Patient numbers from 0 on, as :func:`~xray_harmonize.evaluation.patients.patient_codes`
        gives them.
    n_bootstrap : int, default=1000
        Number of resamples; 0 for none.
    random_state : int, RandomState or None, default=None
        The draws. The same number and the same patients give the same resamples, whatever the
        statistic.

    Returns
    -------
    estimate : ndarray of shape (...)
        The statistic of the images as they are.
    resampled : ndarray of shape (n_bootstrap, ...)
        The statistic of every resample.

    Raises
    ------
    InvalidParameterError
        If `n_bootstrap` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.bootstrap import bootstrap_patients
    >>> value = np.array([1.0, 2.0, 6.0])
    >>> estimate, resampled = bootstrap_patients(
    ...     lambda weight: weight @ value / weight.sum(axis=1),
    ...     patient=np.array([0, 0, 1]),
    ...     n_bootstrap=5,
    ...     random_state=0,
    ... )
    >>> float(estimate), resampled.shape
    (3.0, (5,))
    """
    if n_bootstrap < 0:
        raise InvalidParameterError(f"n_bootstrap must be 0 or more; got {n_bootstrap}.")
    estimate = statistic(np.ones((1, len(patient))))
    # There are at least as many images as patients, so the images bound the block.
    block = max(1, BLOCK_SIZE // len(patient))
    counts = resample_counts(int(patient.max()) + 1, n_bootstrap, random_state, block)
    resampled = [statistic(count[:, patient].astype(np.float64)) for count in counts]
    return estimate[0], np.concatenate([estimate[:0], *resampled])


def interval(resampled: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the resamples that define the statistic.

    Parameters
    ----------
    resampled : ndarray of float of shape (n_bootstrap,)
        Values of the resamples; NaN are left out.
    confidence : float, default=0.95
        Coverage aimed at, in (0, 1).

    Returns
    -------
    low, high : float
        NaN where no resample defines the statistic.

    Raises
    ------
    InvalidParameterError
        If `confidence` is not inside (0, 1).

    Notes
    -----
    With few patients percentile intervals are somewhat too narrow, and where the classes are
    separated without an error every resample says 1: the interval then has no width, which is not
    certainty.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.bootstrap import interval
    >>> interval(np.array([0.0, 0.5, 1.0, np.nan]), confidence=0.5)
    (0.25, 0.75)
    """
    if not 0 < confidence < 1:
        raise InvalidParameterError(f"confidence must lie between 0 and 1; got {confidence}.")
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def p_value(resampled: np.ndarray) -> float:
    """Two-sided p of "the difference is zero", from resampled differences.

    Twice the share of resamples on the rarer side of zero, zero itself on both sides, with one
    added to each count so that p is never 0. It is below ``1 - confidence`` about when
    :func:`interval` leaves zero out.

    Parameters
    ----------
    resampled : ndarray of float of shape (n_bootstrap,)
        Differences; NaN are left out.

    Returns
    -------
    p : float
        In (0, 1]; NaN where no resample defines the difference.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.bootstrap import p_value
    >>> p_value(np.array([0.2, 0.1, 0.3]))
    0.5
    >>> p_value(np.zeros(3))
    1.0
    """
    defined = resampled[~np.isnan(resampled)]
    if not len(defined):
        return float("nan")
    rarer = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    return float(min(1.0, 2 * (rarer + 1) / (len(defined) + 1)))
