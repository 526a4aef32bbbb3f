"""Figures of every scanner with patient-level bootstrap intervals, and paired comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from xray_harmonize.evaluation.bootstrap import bootstrap_patients, interval, p_value
from xray_harmonize.evaluation.patients import patient_codes
from xray_harmonize.evaluation.predictions import ScannerPredictions, by_scanner
from xray_harmonize.evaluation.weighted import LOWER_IS_BETTER, METRICS, weighted_metrics
from xray_harmonize.exceptions import InvalidParameterError, LabelTableError

__all__ = ["WORST", "paired_difference", "scanner_scores"]

WORST = "worst"  # what the row over all scanners is called

Statistic = Callable[[np.ndarray], np.ndarray]


def scanner_scores(
    predictions: pd.DataFrame,
    *,
    metrics: Sequence[str] = METRICS,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """All figures of every scanner and of the worst one, with patient-level intervals.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`~xray_harmonize.evaluation.predictions.prediction_table` makes it, of one method;
        several seeds one below the other.
    metrics : sequence of str, default=METRICS
        Of ``"auc"`` (see :func:`auc`), ``"balanced_accuracy"`` (mean recall of the classes
        present), ``"worst_group_accuracy"`` (their lowest recall), ``"precision"``, ``"recall"``,
        ``"f1"`` (of the second class of two, NaN where the scanner does not hold it; macro over the
        classes present if there are more than two; a class never predicted has precision 0) and
        ``"brier"`` (mean squared error of the probabilities, lower is better; of the second class
        of two, summed over classes if there are more).
    n_bootstrap : int, default=1000
        Resamples; 0 for estimates alone.
    confidence : float, default=0.95
        Coverage aimed at.
    random_state : int, RandomState or None, default=None
        The resamples.

    Returns
    -------
    scores : DataFrame
        One row a scanner and metric, and rows for the scanner ``"worst"``: the lowest figure of any
        scanner (of Brier the highest). Columns scanner, metric, estimate, low, high, n_images,
        n_patients, n_seeds, n_undefined.

    Raises
    ------
    LabelTableError
        If the table cannot be scored.
    InvalidParameterError
        If a metric is not known, or `n_bootstrap` or `confidence` is out of range.

    Notes
    -----
    Patients are drawn with replacement, over all scanners at once, so that a patient who was imaged
    on two of them is drawn on both. Within a resample a figure is computed for every seed and
    averaged: the interval speaks of patients, around the average fit, and not of the spread between
    fits.

    A seed may score its own fold of a scanner's images. Its figures are then those of the fold, and
    their average over seeds is the usual average over folds: scores of different fits are never
    ranked against each other.

    A resample that lacks a class which a seed scores defines no figure of that seed, and the average
    is over the others. Resamples that define none are left out of the interval and counted in
    ``n_undefined``. Where fewer than two patients hold a class, there is no interval (NaN).

    The lowest of several noisy figures is lower than the figure of the truly worst scanner: read
    ``"worst"`` as a warning, and compare it between methods only on the same images.

    Examples
    --------
    >>> from xray_harmonize.evaluation.metrics import prediction_table, scanner_scores
    >>> y = [0, 0, 0, 1, 1, 1]
    >>> table = prediction_table(y, [0.1, 0.2, 0.6, 0.4, 0.8, 0.9], [0, 1], scanner="delhi")
    >>> scores = scanner_scores(table, metrics=["auc"], n_bootstrap=200, random_state=0)
    >>> scores[["scanner", "metric", "estimate", "n_patients"]]
      scanner metric  estimate  n_patients
    0   delhi    auc  0.888889           6
    1   worst    auc  0.888889           6
    """
    _check_metrics(metrics)
    _, scanners = by_scanner(predictions)
    _check_no_worst(scanners)
    patient, statistic = _statistic(scanners, metrics)
    estimate, resampled = bootstrap_patients(statistic, patient, n_bootstrap, random_state)
    rows = []
    for about, figures, draws in zip(_rows(scanners, patient), estimate, resampled.swapaxes(0, 1), strict=True):
        for metric, figure, values in zip(metrics, figures, draws.T, strict=True):
            low, high = interval(values, confidence)
            rows.append(
                {
                    "scanner": about.scanner,
                    "metric": metric,
                    "estimate": float(figure),
                    "low": low if about.has_interval else float("nan"),
                    "high": high if about.has_interval else float("nan"),
                    "n_images": about.n_images,
                    "n_patients": about.n_patients,
                    "n_seeds": about.n_seeds,
                    "n_undefined": int(np.isnan(values).sum()),
                }
            )
    return pd.DataFrame(rows)


def paired_difference(
    predictions: pd.DataFrame,
    baseline: pd.DataFrame,
    *,
    metric: str = "auc",
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """How much better one method is than another on the same patients, scanner by scanner.

    Parameters
    ----------
    predictions, baseline : DataFrame
        Tables as :func:`~xray_harmonize.evaluation.predictions.prediction_table` makes them, over
        the same images. They may hold different numbers of seeds.
    metric : str, default="auc"
        One of the metrics of :func:`scanner_scores`.
    n_bootstrap : int, default=1000
        Resamples; every one draws the same patients for both methods.
    confidence : float, default=0.95
        Coverage aimed at.
    random_state : int, RandomState or None, default=None
        The resamples.

    Returns
    -------
    differences : DataFrame
        One row a scanner and one for ``"worst"``. Columns scanner, metric, estimate, baseline (the
        two figures), difference (the first less the second), low, high, p, n_images, n_patients,
        n_undefined.

    Raises
    ------
    LabelTableError
        If a table cannot be scored, or the two are not of the same images, patients and labels.
    InvalidParameterError
        If the metric is not known, or `n_bootstrap` or `confidence` is out of range.

    Notes
    -----
    `p` is two-sided, of one comparison: with many methods and scanners some fall below 0.05 by
    chance alone.

    Examples
    --------
    >>> from xray_harmonize.evaluation.metrics import paired_difference, prediction_table
    >>> y = [0, 0, 0, 1, 1, 1]
    >>> good = prediction_table(y, [0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [0, 1], scanner="delhi")
    >>> poor = prediction_table(y, [0.1, 0.9, 0.3, 0.7, 0.2, 0.8], [0, 1], scanner="delhi")
    >>> differences = paired_difference(good, poor, random_state=0)
    >>> differences.loc[0, ["estimate", "baseline"]].round(3).tolist()
    [1.0, 0.556]
    """
    _check_metrics([metric])
    _, ours = by_scanner(predictions)
    _, theirs = by_scanner(baseline)
    _check_no_worst(ours)
    _check_same_images(ours, theirs)
    patient, of_ours = _statistic(ours, [metric])
    _, of_theirs = _statistic(theirs, [metric])
    both, resampled = bootstrap_patients(
        lambda weight: np.concatenate([of_ours(weight), of_theirs(weight)], axis=2),
        patient,
        n_bootstrap,
        random_state,
    )
    rows = []
    for about, (first, second), draws in zip(_rows(ours, patient), both, resampled.swapaxes(0, 1), strict=True):
        difference = draws[:, 0] - draws[:, 1]
        low, high = interval(difference, confidence)
        rows.append(
            {
                "scanner": about.scanner,
                "metric": metric,
                "estimate": float(first),
                "baseline": float(second),
                "difference": float(first - second),
                "low": low if about.has_interval else float("nan"),
                "high": high if about.has_interval else float("nan"),
                "p": p_value(difference) if about.has_interval else float("nan"),
                "n_images": about.n_images,
                "n_patients": about.n_patients,
                "n_undefined": int(np.isnan(difference).sum()),
            }
        )
    return pd.DataFrame(rows)


def _statistic(scanners: list[ScannerPredictions], metrics: Sequence[str]) -> tuple[np.ndarray, Statistic]:
    """Patient numbers of all images, and weights -> (n_resamples, n_scanners + 1, n_metrics)."""
    sizes = [len(one.truth) for one in scanners]
    stops = np.cumsum(sizes).tolist()
    columns = [slice(stop - size, stop) for stop, size in zip(stops, sizes, strict=True)]
    patient = patient_codes(np.concatenate([one.patient for one in scanners]), sum(sizes))
    sign = np.array([-1.0 if metric in LOWER_IS_BETTER else 1.0 for metric in metrics])

    def of_scanners(weight: np.ndarray) -> np.ndarray:
        means = [_mean_of_seeds(one, weight[:, column], metrics) for one, column in zip(scanners, columns, strict=True)]
        return np.stack(means, axis=1)

    # A scanner that never defines a metric (the area of a single class) is no candidate for the
    # worst. One that a resample leaves undefined is, so that resample knows no worst.
    never = np.isnan(of_scanners(np.ones((1, sum(sizes))))[0])

    def statistic(weight: np.ndarray) -> np.ndarray:
        values = of_scanners(weight)
        worst = sign * np.where(never, np.inf, sign * values).min(axis=1)
        worst[:, never.all(axis=0)] = np.nan
        return np.concatenate([values, worst[:, np.newaxis]], axis=1)

    return patient, statistic


def _mean_of_seeds(predictions: ScannerPredictions, weight: np.ndarray, metrics: Sequence[str]) -> np.ndarray:
    """Metrics of a scanner, averaged over the seeds that define them; (n_resamples, n_metrics)."""
    total = np.zeros((len(weight), len(metrics)))
    n_defined = np.zeros_like(total)
    for seed in predictions.seeds:
        truth = predictions.truth[seed.rows]
        values = weighted_metrics(truth, seed.predicted, seed.proba, weight[:, seed.rows], metrics)
        defined = ~np.isnan(values)
        total += np.where(defined, values, 0.0)
        n_defined += defined
    return np.divide(total, n_defined, out=np.full_like(total, np.nan), where=n_defined > 0)


class _Row(NamedTuple):
    """Who a row of the result is about."""

    scanner: str
    n_images: int
    n_patients: int
    n_seeds: int
    has_interval: bool  # at least two patients of every class


def _rows(scanners: list[ScannerPredictions], patient: np.ndarray) -> list[_Row]:
    """Every scanner and all together, in the order of the statistic."""
    rows = []
    start = 0
    for one in scanners:
        own = patient[start : start + len(one.truth)]
        start += len(one.truth)
        of_class = [own[one.truth == number] for number in np.unique(one.truth)]
        has_interval = all(len(np.unique(patients)) > 1 for patients in of_class)
        n_patients = len(np.unique(own))
        rows.append(_Row(one.scanner, len(own), n_patients, len(one.seeds), has_interval))
    n_seeds = max(row.n_seeds for row in rows)
    has_interval = all(row.has_interval for row in rows)
    n_patients = len(np.unique(patient))
    return [*rows, _Row(WORST, len(patient), n_patients, n_seeds, has_interval)]


def _check_metrics(metrics: Sequence[str]) -> None:
    for metric in metrics:
        if metric not in METRICS:
            raise InvalidParameterError(f"Unknown metric {metric!r}. Known are {', '.join(METRICS)}.")


def _check_no_worst(scanners: list[ScannerPredictions]) -> None:
    if any(one.scanner == WORST for one in scanners):
        raise LabelTableError(f"A scanner is called {WORST!r}, as is the row over all scanners. Rename the scanner.")


def _check_same_images(ours: list[ScannerPredictions], theirs: list[ScannerPredictions]) -> None:
    names = [[one.scanner for one in side] for side in (ours, theirs)]
    if names[0] != names[1]:
        raise LabelTableError(
            "A paired comparison needs the same scanners on both sides; got "
            f"{', '.join(names[0])} and {', '.join(names[1])}."
        )
    for a, b in zip(ours, theirs, strict=True):
        for what in ("image", "patient", "truth"):
            first, second = getattr(a, what), getattr(b, what)
            if what == "patient":
                first, second = first.astype(str), second.astype(str)
            if not np.array_equal(first, second):
                raise LabelTableError(
                    f"A paired comparison needs the same images, patients and labels: {what} "
                    f"differs on scanner {a.scanner!r} ({len(a.image)} and {len(b.image)} images)."
                )
