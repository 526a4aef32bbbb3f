"""How much of the scanner is left in features: every measure of the gap between scanners in one table.

Measures look at the gap from several sides, since no one of them sees it all: a probe finds what a linear classifier
can use, kernel distances find any difference of distributions, explained variance says how much of all there is to see
is the scanner, and Wasserstein distances speak of grey levels. A harmonizer that lowers them has removed something;
whether that was the scanner alone, they cannot say: look at the label's rows, at content measures and at the task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from xray_harmonize.evaluation.bootstrap import interval
from xray_harmonize.evaluation.compared import ALL, Compared, compared, label_groups, renumbered
from xray_harmonize.evaluation.distances import cumulative_histograms, fid, group_wasserstein, shifted_interval
from xray_harmonize.evaluation.embedding import embed
from xray_harmonize.evaluation.groups import (
    Figures,
    feature_matrix,
    measure_groups,
    membership,
    permutation_p,
)
from xray_harmonize.evaluation.pairs import (
    explained_share,
    gaussian_kernel,
    group_gaps,
    group_silhouettes,
    mean_gap,
    polynomial_kernel,
    squared_distances,
    standardized,
)
from xray_harmonize.evaluation.probe import scanner_probe
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.images import ImageSet

__all__ = ["ALL", "MEASURES", "domain_measures", "embed", "explained_variance", "silhouettes"]

# Rows of the table, by name: what they are, and which way is better.
MEASURES: dict[str, tuple[str, str]] = {
    "probe": ("Balanced accuracy of a linear probe of the scanner", "lower"),
    "probe_recall": ("Share of a scanner's images that the probe gives to it", "lower"),
    "mmd2": ("Squared maximum mean discrepancy, Gaussian kernel", "lower"),
    "kid": ("Kernel distance, polynomial of degree 3", "lower"),
    "fid": ("Fréchet distance", "lower"),
    "wasserstein": ("Wasserstein distance of grey levels, fraction of full scale", "lower"),
    "silhouette_scanner": ("Mean silhouette by scanner", "lower"),
    "silhouette_label": ("Mean silhouette by label", "higher"),
    "variance_scanner": ("Share of the features' variance explained by scanner", "lower"),
    "variance_label": ("Share of the features' variance explained by label", "higher"),
}
FAMILIES = ("probe", "mmd", "kid", "silhouette", "variance", "wasserstein")

COLUMNS = ["measure", "scanner", "value", "low", "high", "p_value", "null", "better"]


def silhouettes(
    features: Any, scanner: ArrayLike, label: ArrayLike | None = None, patient: ArrayLike | None = None
) -> pd.Series:
    """Mean silhouette of standardized features by scanner and by label, each group the same weight.

    Parameters
    ----------
    features : array-like of shape (n_images, n_features)
    scanner : array-like of str of shape (n_images,)
    label : array-like of shape (n_images,), optional
        Images without one, and classes of fewer than two patients, are left out of its figure.
    patient : array-like of shape (n_images,), optional
        An image is not compared with others of its patient.

    Returns
    -------
    Series of float64
        ``scanner`` and ``label``, in [-1, 1]; ``label`` is NaN without two classes.

    Raises
    ------
    InvalidParameterError, MissingScannerError, NotEnoughImagesError
        If features are no finite table, lengths differ, or there are not two scanners of two patients.

    See Also
    --------
    sklearn.metrics.silhouette_samples : of each image, blind to patients.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.domain import silhouettes
    >>> features = np.array([[0.0], [0.1], [1.0], [1.1]])
    >>> silhouettes(features, ["a", "a", "b", "b"], label=[0, 1, 0, 1]).round(1).to_dict()
    {'scanner': 0.9, 'label': -0.4}
    """
    matrix = feature_matrix(features)
    cohort = compared(scanner, patient, label, None, len(matrix))
    squared = squared_distances(standardized(matrix[cohort.kept]))
    return _by_scanner_and_label(cohort, _silhouette_of(np.sqrt(squared)))


def explained_variance(
    features: Any, scanner: ArrayLike, label: ArrayLike | None = None, patient: ArrayLike | None = None
) -> pd.DataFrame:
    """Share of the variance of standardized features that scanners explain, and that labels do.

    Parameters
    ----------
    features, scanner, label, patient
        As for :func:`silhouettes`.

    Returns
    -------
    DataFrame of float64
        Rows ``scanner`` and ``label`` (NaN without two classes). Columns ``eta_squared``, the trace of the covariance
        between groups over that in all, which grows with the number of groups and with images that share a patient; and
        ``corrected``, which does neither and is about 0 where groups do not differ (see
        :func:`~xray_harmonize.evaluation.pairs.explained_share`).

    Raises
    ------
    InvalidParameterError, MissingScannerError, NotEnoughImagesError
        As :func:`silhouettes`.

    Notes
    -----
    Shares of scanner and label need not add up to less than 1: where scanners hold different classes, both lay claim to
    the same variance.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.domain import explained_variance
    >>> features = np.array([[0.0], [0.1], [1.0], [1.1]])
    >>> explained_variance(features, ["a", "a", "b", "b"], label=[0, 1, 0, 1]).round(2).to_numpy().tolist()
    [[0.99, 0.98], [0.01, -0.32]]
    """
    matrix = feature_matrix(features)
    cohort = compared(scanner, patient, label, None, len(matrix))
    points = standardized(matrix[cohort.kept])
    eta = _by_scanner_and_label(cohort, lambda rows: _eta_squared(points[rows]))
    corrected = _by_scanner_and_label(cohort, _explained_of(squared_distances(points)))
    return pd.DataFrame({"eta_squared": eta, "corrected": corrected})


def domain_measures(
    features: Any,
    scanner: ArrayLike,
    patient: ArrayLike | None = None,
    label: ArrayLike | None = None,
    reference: str | None = None,
    *,
    images: ImageSet | None = None,
    measures: Sequence[str] = FAMILIES,
    n_folds: int = 5,
    n_permutations: int = 200,
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    max_images: int = 2000,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Measure the gap between scanners, and what the labels are worth beside it.

    Parameters
    ----------
    features : array-like of shape (n_images, n_features)
        Of the images as they are, before or after a harmonizer. Standardized for all measures, so that every feature
        counts the same and no harmonizer gains by making features small.
    scanner : array-like of str of shape (n_images,)
    patient : array-like of shape (n_images,), optional
        Whose images these are; an image without is a patient of its own.
    label : array-like of shape (n_images,), optional
        Classes. Images without one, and classes of fewer than two patients, are left out of the label's rows; with
        fewer than two classes there are no such rows. The probe's permutations trade scanners within classes.
    reference : str, optional
        Scanner that the others are compared with. Without one each is compared with all others together.
    images : ImageSet, optional
        The images themselves, for Wasserstein distances of their grey levels.
    measures : sequence of str
        Of ``"probe"``, ``"mmd"``, ``"kid"``, ``"silhouette"``, ``"variance"``, ``"wasserstein"`` (these by default)
        and ``"fid"``, which warns below thousands of images.
    n_folds : int, default=5
        Of the probe.
    n_permutations, n_bootstrap : int, default=200
        Permutations of scanners (or labels) by patient, and resamples of patients; 0 for none.
    confidence : float, default=0.95
        Coverage of the intervals.
    max_images : int, default=2000
        Measures of pairs of images take that many at most, patients drawn at random and scanners as evenly as can be:
        their cost grows with the square. Probe and grey levels take all.
    random_state : int, RandomState or None, default=None
        The same number gives the same folds, permutations and resamples for the same scanners and patients, so that
        tables before and after a harmonizer are paired.

    Returns
    -------
    DataFrame
        Columns ``measure`` (see :data:`MEASURES`), ``scanner`` (``"all"``: distances are then means over pairs of
        scanners), ``value``, ``low`` and ``high``, ``p_value``, ``null`` (mean over permutations: what to expect where
        nothing differs), ``better`` (``"lower"`` or ``"higher"``). NaN where a figure is not defined.

    Raises
    ------
    InvalidParameterError
        If features are no finite table, lengths differ, or an argument is out of range.
    MissingScannerError
        If an image has no scanner.
    UnknownScannerError
        If `reference` is none of the scanners.
    NotEnoughImagesError
        If there are not two scanners of two patients each.

    Warns
    -----
    XRayHarmonizeWarning
        If a scanner has a single patient: its images are left out.

    Notes
    -----
    Each p is of one measure. With many measures and scanners some fall below 0.05 by chance; ask one question, such as
    the probe's over all scanners, and read the others as description.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.domain import domain_measures
    >>> scanner = np.repeat(["a", "b"], 20)
    >>> features = np.random.default_rng(0).normal(size=(40, 3)) + 4 * (scanner == "b")[:, np.newaxis]
    >>> table = domain_measures(features, scanner, reference="a", n_permutations=99, random_state=0)
    >>> table.loc[table["scanner"] == "all", ["measure", "value", "p_value"]].round(2)
                  measure  value  p_value
    0               probe   1.00     0.01
    3                mmd2   1.11     0.01
    5                 kid  13.16     0.01
    7  silhouette_scanner   0.69     0.01
    8    variance_scanner   0.82     0.01
    """
    matrix = feature_matrix(features)
    asked = _checked_measures(measures)
    if max_images < 4:
        raise InvalidParameterError(f"max_images must be at least 4; got {max_images}.")
    if images is not None and len(images) != len(matrix):
        raise InvalidParameterError(f"There are {len(matrix)} rows of features but {len(images)} images.")
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    cohort = compared(scanner, patient, label, reference, len(matrix))
    resampling = _Resampling(n_permutations, n_bootstrap, confidence, seed)
    rows: list[dict[str, Any]] = []
    if "probe" in asked:
        rows += _probe_rows(standardized(matrix[cohort.kept]), cohort, n_folds, resampling)
    few = cohort.thinned(max_images, seed)
    points = standardized(matrix[few.kept])
    if {"mmd", "silhouette", "variance"} & asked:
        squared = squared_distances(points)
        if "mmd" in asked:
            kernel = gaussian_kernel(squared, few.people)
            rows += _gap_rows("mmd2", lambda chosen: _gaps_of(kernel, few.people, chosen), few, resampling)
    if "kid" in asked:
        polynomial = polynomial_kernel(points)
        rows += _gap_rows("kid", lambda chosen: _gaps_of(polynomial, few.people, chosen), few, resampling)
    if "fid" in asked:
        rows += _fid_rows(points, few)
    if "silhouette" in asked:
        rows += _group_rows("silhouette", _silhouette_of(np.sqrt(squared)), few, resampling)
    if "variance" in asked:
        rows += _group_rows("variance", _explained_of(squared), few, resampling)
    if "wasserstein" in asked and images is not None:
        cumulative = cumulative_histograms(images[cohort.kept])
        rows += _gap_rows(
            "wasserstein",
            lambda chosen: lambda member: group_wasserstein(cumulative[chosen], member),
            cohort,
            resampling,
        )
    return pd.DataFrame(rows, columns=COLUMNS)


@dataclass(frozen=True)
class _Resampling:
    n_permutations: int
    n_bootstrap: int
    confidence: float
    seed: int

    def figures(self, statistic: Callable[[np.ndarray], np.ndarray], codes: np.ndarray, people: np.ndarray) -> Figures:
        return measure_groups(
            statistic,
            codes,
            renumbered(people),
            n_permutations=self.n_permutations,
            n_bootstrap=self.n_bootstrap,
            random_state=self.seed,
        )


def _checked_measures(measures: Sequence[str]) -> set[str]:
    known = {*FAMILIES, "fid"}
    unknown = [name for name in measures if name not in known]
    if unknown or isinstance(measures, str):
        raise InvalidParameterError(
            f"measures must be a list of names among {', '.join(sorted(known))}; got {measures!r}."
        )
    return set(measures)


def _row(measure: str, scanner: str, value: float, bounds: tuple[float, float], null: np.ndarray) -> dict[str, Any]:
    return {
        "measure": measure,
        "scanner": scanner,
        "value": float(value),
        "low": bounds[0],
        "high": bounds[1],
        "p_value": permutation_p(float(value), null),
        "null": float(null.mean()) if len(null) else float("nan"),
        "better": MEASURES[measure][1],
    }


def _probe_rows(points: np.ndarray, cohort: Compared, n_folds: int, resampling: _Resampling) -> list[dict[str, Any]]:
    names = np.array(cohort.names, dtype=object)
    probe = scanner_probe(
        points,
        names[cohort.codes],
        cohort.people,
        label=cohort.label,
        n_folds=n_folds,
        n_permutations=resampling.n_permutations,
        n_bootstrap=resampling.n_bootstrap,
        confidence=resampling.confidence,
        random_state=resampling.seed,
    )
    rows = [_row("probe", ALL, probe.balanced_accuracy, (probe.low, probe.high), probe.null)]
    recall = probe.recall.rename(columns={"recall": "value"})
    recall = recall.assign(measure="probe_recall", better=MEASURES["probe_recall"][1])
    return rows + recall[COLUMNS].to_dict("records")


GapsOf = Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]]


def _gaps_of(kernel: np.ndarray, people: np.ndarray, chosen: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    part = kernel if len(chosen) == len(kernel) else kernel[np.ix_(chosen, chosen)]
    own = renumbered(people[chosen])
    return lambda member: group_gaps(part, member, own)


def _gap_rows(measure: str, gaps_of: GapsOf, cohort: Compared, resampling: _Resampling) -> list[dict[str, Any]]:
    """Rows of a distance between groups: mean over pairs of scanners, and of every scanner."""
    rows: list[dict[str, Any]] = []
    for scanner, chosen, codes in cohort.comparisons():
        if rows and len(cohort.names) == 2:
            # Two scanners have one distance, whatever it is called.
            rows.append({**rows[0], "scanner": scanner})
            continue
        gaps = gaps_of(chosen)
        figures = resampling.figures(lambda member, gaps=gaps: mean_gap(gaps(member)), codes, cohort.people[chosen])  # type: ignore[misc]
        value, draws = float(figures.value[0]), figures.resampled[:, 0]
        # Kernel distances are unbiased in resamples too; a distance that is never negative is not.
        bounds = shifted_interval if measure == "wasserstein" else lambda _, *rest: interval(*rest)
        rows.append(_row(measure, scanner, value, bounds(value, draws, resampling.confidence), figures.null[:, 0]))
    return rows


def _fid_rows(points: np.ndarray, cohort: Compared) -> list[dict[str, Any]]:
    nothing, unknown = np.empty(0), (float("nan"), float("nan"))
    pairs = [
        fid(points[cohort.codes == first], points[cohort.codes == second])
        for first, second in zip(*np.triu_indices(len(cohort.names), 1), strict=True)
    ]
    rows = [_row("fid", ALL, float(np.mean(pairs)), unknown, nothing)]
    for scanner, chosen, codes in list(cohort.comparisons())[1:]:
        value = fid(points[chosen[codes == 0]], points[chosen[codes == 1]])
        rows.append(_row("fid", scanner, value, unknown, nothing))
    return rows


StatisticOf = Callable[[np.ndarray], Callable[[np.ndarray, np.ndarray], np.ndarray]]


def _silhouette_of(distance: np.ndarray) -> StatisticOf:
    def of(rows: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        part = distance[np.ix_(rows, rows)]
        return lambda member, people: group_silhouettes(part, member, people)

    return of


def _explained_of(squared: np.ndarray) -> StatisticOf:
    def of(rows: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        part = squared[np.ix_(rows, rows)]
        return lambda member, people: explained_share(part, member, people)

    return of


def _eta_squared(points: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    centred = points - points.mean(axis=0)
    total = float(np.sum(centred**2))

    def statistic(member: np.ndarray, people: np.ndarray) -> np.ndarray:
        sums = member.transpose(0, 2, 1) @ centred
        between = (np.sum(sums**2, axis=2) / member.sum(axis=1)).sum(axis=1)
        return np.asarray(between / total if total else np.zeros_like(between))[:, np.newaxis]

    return statistic


def _groupings(cohort: Compared) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """By scanner, and by label where there are two classes: name, images and their groups."""
    groupings = [("scanner", np.arange(len(cohort.codes)), cohort.codes)]
    if cohort.label is not None:
        chosen, codes = label_groups(cohort.label, cohort.people)
        groupings += [("label", chosen, codes)] if len(chosen) else []
    return groupings


def _group_rows(
    measure: str, statistic_of: StatisticOf, cohort: Compared, resampling: _Resampling
) -> list[dict[str, Any]]:
    """Rows of a figure that groups have as a whole: by scanner, and by label where there are labels."""
    rows = []
    for name, chosen, codes in _groupings(cohort):
        statistic, people = statistic_of(chosen), renumbered(cohort.people[chosen])
        figures = resampling.figures(
            lambda member, statistic=statistic, people=people: statistic(member, people),  # type: ignore[misc]
            codes,
            people,
        )
        bounds = interval(figures.resampled[:, 0], resampling.confidence)
        rows.append(_row(f"{measure}_{name}", ALL, figures.value[0], bounds, figures.null[:, 0]))
    return rows


def _by_scanner_and_label(cohort: Compared, statistic_of: StatisticOf) -> pd.Series:
    values = {"scanner": float("nan"), "label": float("nan")}
    for name, chosen, codes in _groupings(cohort):
        people = renumbered(cohort.people[chosen])
        values[name] = float(statistic_of(chosen)(membership(codes, int(codes.max()) + 1), people)[0, 0])
    return pd.Series(values)
