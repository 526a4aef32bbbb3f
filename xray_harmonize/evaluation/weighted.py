r"""Figures of the same predictions under many weightings of the images, for all of them at once.

* The area under the ROC curve is a rank statistic. Images are sorted once; for all weightings
  together, a cumulative sum over the negatives gives the weight below each positive.
* A weighted confusion matrix is a product of the weights with an indicator matrix.

References
----------
.. [1] J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating
   characteristic (ROC) curve", Radiology 143(1), 1982 (the area as the probability that a pair is
   ordered rightly, a tie as one half).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "LOWER_IS_BETTER",
    "METRICS",
    "weighted_auc",
    "weighted_confusion",
    "weighted_macro_auc",
    "weighted_metrics",
]

METRICS = (
    "auc",
    "balanced_accuracy",
    "worst_group_accuracy",
    "precision",
    "recall",
    "f1",
    "brier",
)
LOWER_IS_BETTER = frozenset({"brier"})


def weighted_auc(positive: ArrayLike, score: ArrayLike, weight: ArrayLike) -> np.ndarray:
    r"""Areas under the ROC curve of the same images under many weightings.

    .. math:: A_b = \frac{\sum_{i \in +} \sum_{j \in -} w_{bi} w_{bj}
              \left([s_i > s_j] + \tfrac12 [s_i = s_j]\right)}
              {\sum_{i \in +} w_{bi} \sum_{j \in -} w_{bj}}

    Parameters
    ----------
    positive : array-like of bool of shape (n_images,)
        True for the images that should score high.
    score : array-like of float of shape (n_images,)
        Only the order matters; infinities are allowed.
    weight : array-like of shape (n_resamples, n_images)
        Non-negative weights, such as how often an image was drawn.

    Returns
    -------
    area : ndarray of float64 of shape (n_resamples,)
        In [0, 1]; NaN where the positives or the negatives weigh nothing.

    See Also
    --------
    sklearn.metrics.roc_auc_score : the same for one weighting.

    Examples
    --------
    >>> from xray_harmonize.evaluation.weighted import weighted_auc
    >>> weighted_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8], [[1, 1, 1, 1], [1, 0, 1, 1]])
    array([0.875, 1.   ])
    """
    is_positive = np.asarray(positive, dtype=bool)
    scores = np.asarray(score, dtype=np.float64)
    weights = np.atleast_2d(np.asarray(weight, dtype=np.float64))
    negatives = np.flatnonzero(~is_positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    ordered = scores[negatives]
    of_positive = weights[:, is_positive]
    below = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(weights[:, negatives], axis=1, out=below[:, 1:])
    # Weight strictly below and weight not above, averaged: a tie counts one half.
    first = np.searchsorted(ordered, scores[is_positive], side="left")
    last = np.searchsorted(ordered, scores[is_positive], side="right")
    twice_won = np.einsum("bi,bi->b", of_positive, below[:, first] + below[:, last])
    pairs = of_positive.sum(axis=1) * below[:, -1]
    return np.divide(twice_won, 2 * pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def weighted_confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int, weight: ArrayLike) -> np.ndarray:
    """Confusion matrices of the same images under many weightings.

    Parameters
    ----------
    truth, predicted : ndarray of int of shape (n_images,)
        Class numbers from 0 to ``n_classes - 1``.
    n_classes : int
        Number of classes.
    weight : array-like of shape (n_resamples, n_images)
        Non-negative weights.

    Returns
    -------
    confusion : ndarray of float64 of shape (n_resamples, n_classes, n_classes)
        Rows are the truth, columns the prediction.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.weighted import weighted_confusion
    >>> weighted_confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2, [[1, 1, 2]])
    array([[[1., 0.],
            [1., 2.]]])
    """
    weights = np.atleast_2d(np.asarray(weight, dtype=np.float64))
    indicator = np.zeros((len(truth), n_classes * n_classes))
    indicator[np.arange(len(truth)), truth * n_classes + predicted] = 1.0
    return (weights @ indicator).reshape(len(weights), n_classes, n_classes)


def weighted_macro_auc(truth: np.ndarray, proba: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Areas as :func:`~xray_harmonize.evaluation.metrics.auc`, shape (n_resamples,)."""
    areas = [weighted_auc(truth == number, score, weight) for number, score in _class_scores(proba, np.unique(truth))]
    return np.mean(areas, axis=0) if areas else np.full(len(weight), np.nan)


def _class_scores(proba: np.ndarray, present: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """List the classes whose areas are averaged, each with what ranks the images for it."""
    n_classes = proba.shape[1]
    if len(present) < 2:
        return []
    if len(present) == n_classes:
        # As they are: dividing would break or make ties by rounding.
        numbers = [1] if n_classes == 2 else list(range(n_classes))
        return [(number, proba[:, number]) for number in numbers]
    scores = []
    for number in present[-1:] if len(present) == 2 else present:
        others = proba[:, present[present != number]].sum(axis=1)
        # Odds keep apart what the quotient p / (p + others) rounds to 1; they may be infinite. An
        # image that has no probability for any class present says nothing: it gets the odds of an
        # even guess.
        odds = np.full(len(proba), 1 / (len(present) - 1))
        with np.errstate(divide="ignore", over="ignore"):
            np.divide(proba[:, number], others, out=odds, where=(others > 0) | (proba[:, number] > 0))
        scores.append((int(number), odds))
    return scores


def weighted_metrics(
    truth: np.ndarray,
    predicted: np.ndarray,
    proba: np.ndarray,
    weight: np.ndarray,
    metrics: Sequence[str],
) -> np.ndarray:
    """Metrics of one fit under many weightings, shape (n_resamples, n_metrics)."""
    n_classes = proba.shape[1]
    present = np.unique(truth)
    confusion = weighted_confusion(truth, predicted, n_classes, weight)
    correct = np.diagonal(confusion, axis1=1, axis2=2)[:, present]
    is_class = confusion.sum(axis=2)[:, present]
    said_class = confusion.sum(axis=1)[:, present]
    # Where a class is missing the quotient is replaced below.
    recall = correct / np.maximum(is_class, 1e-300)
    precision = correct / np.maximum(said_class, 1e-300)
    f1 = 2 * correct / np.maximum(is_class + said_class, 1e-300)

    def of_positive(by_class: np.ndarray) -> np.ndarray:
        if n_classes > 2:
            return by_class.mean(axis=1)
        return by_class[:, -1] if present[-1] == 1 else np.full(len(weight), np.nan)

    def brier() -> np.ndarray:
        error = (proba - np.eye(n_classes)[truth]) ** 2
        of_image = error[:, 1] if n_classes == 2 else error.sum(axis=1)
        return weight @ of_image / np.maximum(weight.sum(axis=1), 1e-300)

    compute: dict[str, Callable[[], np.ndarray]] = {
        "auc": lambda: weighted_macro_auc(truth, proba, weight),
        "balanced_accuracy": lambda: recall.mean(axis=1),
        "worst_group_accuracy": lambda: recall.min(axis=1),
        "precision": lambda: of_positive(precision),
        "recall": lambda: of_positive(recall),
        "f1": lambda: of_positive(f1),
        "brier": brier,
    }
    values = np.column_stack([compute[metric]() for metric in metrics])
    values[(is_class == 0).any(axis=1)] = np.nan
    return values
