"""What harmonizing is for: a classifier of the reference's images, asked about those of all scanners.

A difference between two harmonizers has two sources of chance: whose images are tested, and whose images the
classifiers happened to be trained on. Resampling the tested patients alone knows the first and takes the second for a
merit. So every resample here draws all patients anew, trains both classifiers again on those drawn, and scores them on
those drawn of the other half.

References
----------
.. [1] B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993, section 13.3 (intervals
   from bootstrap standard errors).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn import config_context
from sklearn.base import ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from xray_harmonize.auditing.cohort import Cohort
from xray_harmonize.auditing.features import HalfFeatures
from xray_harmonize.auditing.rendering import Half
from xray_harmonize.evaluation.bootstrap import resample_counts
from xray_harmonize.evaluation.compared import renumbered
from xray_harmonize.evaluation.groups import permuted_groups
from xray_harmonize.evaluation.weighted import weighted_macro_auc

TASK_COLUMNS = [
    "harmonizer",
    "scanner",
    "auc",
    "auc_low",
    "auc_high",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "n_images",
    "n_patients",
]


def default_classifier() -> ClassifierMixin:
    """Logistic regression on standardized features, classes weighing the same."""
    # Newton's steps, as there are few features and hundreds of fits.
    regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000, solver="newton-cholesky")
    return make_pipeline(StandardScaler(), regression)


@dataclass(frozen=True)
class Areas:
    """Areas under the ROC curve of one harmonizer, by scanner.

    Parameters
    ----------
    value : ndarray of float64 of shape (n_scanners,)
        In the order of ``cohort.scanners``; the mean of both halves. NaN for a scanner of a single class.
    resampled : ndarray of float64 of shape (n_refits, n_scanners)
        The same of resampled patients, classifiers trained on them.
    n_free : ndarray of int of shape (n_scanners,)
        Patients of the rarest class there or at home, less one: how much a standard error of them is worth.
    """

    value: np.ndarray
    resampled: np.ndarray
    n_free: np.ndarray


def classes_at_home(cohort: Cohort) -> int:
    """Count the classes that a classifier can learn: those on the reference in both halves; 0 without labels."""
    if cohort.y is None:
        return 0
    own = cohort.scanner == cohort.reference
    return min(len(np.unique(cohort.y[own & (cohort.half == half)])) for half in (0, 1))


def areas(
    halves: Sequence[Half],
    features: Sequence[HalfFeatures],
    cohort: Cohort,
    classifier: Any,
    *,
    n_refits: int,
    random_state: int,
) -> Areas:
    """Train on the reference's images of one half, score all images of the other, both ways round.

    Parameters
    ----------
    halves : sequence of Half
    features : sequence of (ndarray, ndarray)
        Of the images to test and of the reference's images to train on, for each half.
    cohort : Cohort
        With two classes or more at home, see :func:`classes_at_home`.
    classifier : classifier
        Of features; stays unfitted.
    n_refits : int
        Resamples.
    random_state : int
        The same number gives the same patients, whatever the harmonizer.

    Returns
    -------
    Areas
    """
    weights = _weights(cohort, n_refits, random_state)
    # What is fitted hundreds of times to the same finite rows need not be looked over each time.
    with config_context(assume_finite=True, skip_parameter_validation=True), warnings.catch_warnings():
        # A fit that stops short of its optimum ranks images all the same, and would say so hundreds of times.
        warnings.simplefilter("ignore", ConvergenceWarning)
        by_half = [
            [_trained(half, rows, cohort, classifier, weight) for weight in weights]
            for half, rows in zip(halves, features, strict=True)
        ]
    means = _known_mean(np.array(by_half))
    return Areas(means[0], means[1:], _free(cohort))


def areas_by_chance(
    halves: Sequence[Half],
    features: Sequence[HalfFeatures],
    cohort: Cohort,
    classifier: Any,
    *,
    n_permutations: int,
    random_state: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Areas of classifiers trained on labels that mean nothing, and how far these stray from one half by chance.

    Given a classifier, labels of the other half are as likely to be dealt to its patients one way as another, so the
    spread under dealing them anew is that of the area. The two halves' areas are alike, as both are high where the
    labels of the halves happen to agree: their mean strays as far as either, and not less.

    Parameters
    ----------
    halves, features, cohort, classifier
        As for :func:`areas`; labels shuffled.
    n_permutations, random_state : int

    Returns
    -------
    value, spread : ndarray of float64 of shape (n_scanners,)
        NaN for a scanner of a single class.
    """
    rng = check_random_state(random_state)
    values, spreads = [], []
    for half, rows in zip(halves, features, strict=True):
        truth, proba = _scored(half, rows, cohort, classifier, np.arange(len(half.home)))
        value, spread = np.full((2, len(cohort.scanners)), np.nan)
        for column, name in enumerate(cohort.scanners):
            own = np.flatnonzero(cohort.scanner[half.positions] == name)
            once = np.ones((1, len(own)))
            people = renumbered(cohort.patient[half.positions[own]])
            dealt = np.concatenate([truth[np.newaxis, own], permuted_groups(truth[own], people, n_permutations, rng)])
            found = [weighted_macro_auc(labels, proba[own], once)[0] for labels in dealt]
            value[column], spread[column] = found[0], np.std(found[1:], ddof=1)
        values.append(value)
        spreads.append(spread)
    return _known_mean(np.array(values)), _known_mean(np.array(spreads))


def _weights(cohort: Cohort, n_resamples: int, random_state: int) -> np.ndarray:
    """How often every image is drawn, patients being drawn: first each once, then resamples."""
    # Patient numbers may leave gaps; only those present are drawn.
    codes = np.unique(cohort.patient, return_inverse=True)[1]
    counts = next(resample_counts(int(codes.max()) + 1, n_resamples, random_state, block=n_resamples))
    return np.concatenate([np.ones((1, len(codes)), dtype=np.int64), counts[:, codes]])


def _known_mean(both: np.ndarray) -> np.ndarray:
    """Mean over halves that define a figure, NaN where none does."""
    known = ~np.isnan(both)
    total = np.where(known, both, 0.0).sum(axis=0)
    return np.divide(total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0))


def _scored(
    half: Half, features: HalfFeatures, cohort: Cohort, classifier: Any, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers and probabilities of the tested images, by a classifier of these images at home."""
    assert cohort.y is not None
    tested, home = features
    classes = np.unique(cohort.y)
    fitted = clone(classifier).fit(home[drawn], cohort.y[half.home][drawn])
    proba = np.zeros((len(tested), len(classes)))
    proba[:, np.searchsorted(classes, fitted.classes_)] = fitted.predict_proba(tested)
    return np.searchsorted(classes, cohort.y[half.positions]), proba


def _trained(half: Half, features: HalfFeatures, cohort: Cohort, classifier: Any, weight: np.ndarray) -> np.ndarray:
    """Areas on every scanner of patients drawn, by a classifier of patients drawn; NaN where a class was not."""
    assert cohort.y is not None
    found = np.full(len(cohort.scanners), np.nan)
    labels = cohort.y[half.home]
    drawn = np.repeat(np.arange(len(labels)), weight[half.home])
    # A resample that lacks a class trains another classifier than the one asked about.
    if len(np.unique(labels[drawn])) < len(np.unique(labels)):
        return found
    truth, proba = _scored(half, features, cohort, classifier, drawn)
    of_test = weight[half.positions]
    for column, name in enumerate(cohort.scanners):
        own = np.flatnonzero(cohort.scanner[half.positions] == name)
        kept = own[of_test[own] > 0]
        # As above: the area over fewer classes is another figure.
        if len(np.unique(truth[kept])) == len(np.unique(truth[own])):
            found[column] = weighted_macro_auc(truth[kept], proba[kept], of_test[np.newaxis, kept])[0]
    return found


def _free(cohort: Cohort) -> np.ndarray:
    assert cohort.y is not None
    fewest = []
    for name in cohort.scanners:
        own = cohort.scanner == name
        people = [len(set(cohort.patient[own & (cohort.y == label)])) for label in np.unique(cohort.y[own])]
        fewest.append(min(people))
    return np.minimum(fewest, fewest[0]) - 1


def estimate(value: float, resampled: np.ndarray, n_free: int, confidence: float) -> tuple[float, float, float]:
    """Interval and two-sided p of "it is zero" from a bootstrap standard error.

    Student's t stands in for the normal: a standard error of few patients, or of few resamples, is itself uncertain.

    Parameters
    ----------
    value : float
    resampled : ndarray of float of shape (n_refits,)
        NaN where undefined.
    n_free : int
        Degrees of freedom, at most as many as there are resamples.
    confidence : float

    Returns
    -------
    low, high, p : float
        NaN where fewer than half of the resamples are defined, or there is nothing to estimate a spread from.

    Examples
    --------
    >>> low, high, p = estimate(0.2, np.array([0.1, 0.2, 0.3] * 40), 50, 0.95)
    >>> round(low, 2), round(high, 2), round(p, 3)
    (0.04, 0.36, 0.018)
    """
    known = resampled[~np.isnan(resampled)]
    free = min(n_free, len(known) - 1)
    if np.isnan(value) or free < 1 or 2 * len(known) < len(resampled):
        return float("nan"), float("nan"), float("nan")
    spread = float(known.std(ddof=1))
    if spread == 0:
        return value, value, float(value == 0)
    reach = spread * float(student.ppf((1 + confidence) / 2, free))
    return value - reach, value + reach, float(2 * student.sf(abs(value) / spread, free))


def task_rows(name: str, found: Areas, baseline: Areas, cohort: Cohort, *, confidence: float) -> pd.DataFrame:
    """AUC of one harmonizer on every scanner, and how it differs from doing nothing.

    Parameters
    ----------
    name : str
        Of the harmonizer.
    found, baseline : Areas
        Of it and of doing nothing, from the same resamples.
    cohort : Cohort
    confidence : float
        Coverage of the intervals of differences, already corrected for how many are looked at. Those of the AUC itself
        cover 95 %.

    Returns
    -------
    DataFrame
        With :data:`TASK_COLUMNS`.
    """
    rows = []
    for column, scanner in enumerate(cohort.scanners):
        own = cohort.scanner == scanner
        n_free = int(found.n_free[column])
        value = float(found.value[column])
        low, high, _ = estimate(value, found.resampled[:, column], n_free, 0.95)
        difference = value - float(baseline.value[column])
        draws = found.resampled[:, column] - baseline.resampled[:, column]
        below, above, p = estimate(difference, draws, n_free, confidence)
        given = [name, scanner, value, *np.clip([low, high], 0, 1), difference, below, above, p]
        rows.append([*given, int(own.sum()), len(set(cohort.patient[own]))])
    return pd.DataFrame(rows, columns=TASK_COLUMNS)
