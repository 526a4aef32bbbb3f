"""The audit repeated where nothing should come out: halves of one scanner, and labels that mean nothing.

Each control asks several questions. Together they answer wrongly by chance in no more than one audit in twenty: the
level of each question is that of one question over their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from xray_harmonize.auditing.cohort import Cohort, halves_of_patients, in_memory
from xray_harmonize.auditing.features import AuditFeatures, in_order_of_images
from xray_harmonize.auditing.rendering import Half, rendered, unreferenced
from xray_harmonize.auditing.result import CONTROL_COLUMNS
from xray_harmonize.auditing.task import Areas, areas, areas_by_chance, classes_at_home, estimate
from xray_harmonize.evaluation.candidates import BASELINE
from xray_harmonize.evaluation.probe import scanner_probe

HALVES, PERMUTED = "halves of one scanner", "permuted labels"
TOLD_APART, AREA_CHANGES = "probe of the two halves", "change of the AUC"
FEWEST_PATIENTS = 16
"""On the reference, so that each half of each half has four."""

_LEVEL = 0.05
_RESAMPLES = 200

Telling = Callable[[str], None]


@dataclass(frozen=True)
class Asking:
    """What all controls ask with.

    Parameters
    ----------
    features : AuditFeatures
    classifier : classifier
        Of features.
    n_permutations, n_refits, random_state : int
    """

    features: AuditFeatures
    classifier: Any
    n_permutations: int
    n_refits: int
    random_state: int

    def areas(self, halves: list[Half], cohort: Cohort) -> Areas:
        """Areas under the ROC curve on every scanner of a cohort."""
        found = self.features.of(halves)
        return areas(halves, found, cohort, self.classifier, n_refits=self.n_refits, random_state=self.random_state)


def halves_control(
    cohort: Cohort, harmonizers: Mapping[str, BaseEstimator], asking: Asking, tell: Telling
) -> pd.DataFrame:
    """Cut the reference scanner's patients in two, call them two scanners, and harmonize these.

    Nothing differs but the patients, so no probe should tell the halves apart behind any harmonizer: one that does made
    the difference, be it by learning from too few of them. Each half of a half is a quarter of the reference's
    patients, so that where there are few, the control is harder than the audit itself. A change of the AUC here is one
    that harmonizing scanners has no part in, and says how much of the change on other scanners needs no scanners to
    explain it.

    Parameters
    ----------
    cohort : Cohort
    harmonizers : mapping of str to estimator
        "none" first.
    asking : Asking
    tell : callable
        Called with the name of every harmonizer.

    Returns
    -------
    DataFrame
        With the columns of :data:`~xray_harmonize.auditing.result.CONTROL_COLUMNS`; empty where the reference has
        fewer than 16 patients.
    """
    split = _in_two(cohort, asking.random_state)
    if split is None:
        return pd.DataFrame(columns=CONTROL_COLUMNS)
    rows: list[dict[str, Any]] = []
    asks_task = classes_at_home(split) > 1
    level = _LEVEL / (len(harmonizers) * (1 + asks_task))
    nothing: Areas | None = None
    for name, harmonizer in harmonizers.items():
        tell(name)
        halves = rendered(name, unreferenced(harmonizer), split, asking.random_state)
        rows.append(_told_apart(name, halves, split, asking, level))
        if not asks_task:
            continue
        found = asking.areas(halves, split)
        if name == BASELINE or nothing is None:
            nothing = found
            continue
        # Of both halves together: to the control they are one scanner.
        change = float(np.mean(found.value - nothing.value))
        if np.isnan(change):
            continue
        draws = (found.resampled - nothing.resampled).mean(axis=1)
        low, high, _ = estimate(change, draws, int(found.n_free.min()), 1 - level)
        passed = not (low > 0 or high < 0)
        rows.append(control_row(HALVES, name, AREA_CHANGES, change, low, high, "0 within the interval", passed))
    return pd.DataFrame(rows, columns=CONTROL_COLUMNS)


def _told_apart(name: str, halves: list[Half], split: Cohort, asking: Asking, level: float) -> dict[str, Any]:
    probe = scanner_probe(
        in_order_of_images(halves, asking.features.of(halves)),
        split.scanner,
        split.patient,
        label=split.y,
        # So many that a p can lie below the level at all.
        n_permutations=max(asking.n_permutations, math.ceil(4 / level)),
        n_bootstrap=_RESAMPLES,
        random_state=asking.random_state,
    )
    learned = [len(set(split.patient[own])) for own in _quarters(split)]
    expected = (
        f"{probe.null.mean():.2f}, no better than permuted halves (p {probe.p_value:.3f}), learned from "
        f"{min(learned)} patients each"
    )
    passed = not probe.p_value < level
    return control_row(HALVES, name, TOLD_APART, probe.balanced_accuracy, probe.low, probe.high, expected, passed)


def _quarters(split: Cohort) -> list[np.ndarray]:
    return [(split.scanner == name) & (split.half == half) for name in split.scanners for half in (0, 1)]


def permuted_control(
    cohort: Cohort, harmonizers: Mapping[str, BaseEstimator], asking: Asking, tell: Telling
) -> pd.DataFrame:
    """Shuffle the labels by patient within each scanner before anything learns from them.

    A harmonizer that can write a label into an image would make shuffled labels predictable.

    Parameters and returns are those of :func:`halves_control`; every harmonizer is fitted to the shuffled labels. There
    are no rows where a half of the reference holds a single class.
    """
    shuffled = replace(cohort, y=_shuffled(cohort, asking.random_state))
    if classes_at_home(shuffled) < 2:
        return pd.DataFrame(columns=CONTROL_COLUMNS)
    level = _LEVEL / (len(harmonizers) * len(cohort.scanners))
    rows = []
    for name, harmonizer in harmonizers.items():
        tell(name)
        halves = rendered(name, harmonizer, shuffled, asking.random_state)
        value, spread = areas_by_chance(
            halves,
            asking.features.of(halves),
            shuffled,
            asking.classifier,
            n_permutations=_RESAMPLES,
            random_state=asking.random_state,
        )
        # What lies below .5 by chance is no failure: all of the level goes to the other side.
        reach = float(norm.ppf(1 - level)) * spread
        if np.isnan(value).all():
            continue
        highest = int(np.nanargmax(value))
        low, high = (np.clip(value[highest] + side * reach[highest], 0, 1) for side in (-1, 1))
        measure = f"highest AUC of a scanner ({cohort.scanners[highest]})"
        passed = not (value - reach > 0.5).any()
        expected = "0.5 within the interval of every scanner"
        rows.append(control_row(PERMUTED, name, measure, value[highest], low, high, expected, passed))
    return pd.DataFrame(rows, columns=CONTROL_COLUMNS)


def _in_two(cohort: Cohort, random_state: int) -> Cohort | None:
    """Give the reference's images as two scanners, None where there are too few patients to ask anything of them."""
    own = np.flatnonzero(cohort.scanner == cohort.reference)
    patient = np.unique(cohort.patient[own], return_inverse=True)[1]
    if patient.max() + 1 < FEWEST_PATIENTS:
        return None
    labels = cohort.labels_of(own)
    rng = check_random_state(random_state)
    side = halves_of_patients(cohort.scanner[own], labels, patient, rng)
    names = np.where(side == 0, "half 1", "half 2")
    half = halves_of_patients(names, labels, patient, rng)
    return Cohort(in_memory(cohort.X[own], names), names, patient, labels, "half 1", half)


def _shuffled(cohort: Cohort, random_state: int) -> np.ndarray:
    """Labels dealt anew among the patients of each scanner; images of one patient move together."""
    assert cohort.y is not None
    rng = check_random_state(random_state)
    labels = cohort.y.copy()
    for name in cohort.scanners:
        own = np.flatnonzero(cohort.scanner == name)
        people, first, place = np.unique(cohort.patient[own], return_index=True, return_inverse=True)
        labels[own] = cohort.y[own][first][rng.permutation(len(people))][place]
    return labels


def control_row(
    control: str, harmonizer: str, measure: str, value: float, low: float, high: float, expected: str, passed: bool
) -> dict[str, Any]:
    """One row of the table of controls.

    Examples
    --------
    >>> control_row("permuted labels", "none", "AUC", 0.5, 0.4, 0.6, "0.5 within the interval", True)["passed"]
    True
    """
    given = [control, harmonizer, measure, float(value), float(low), float(high), expected, bool(passed)]
    return dict(zip(CONTROL_COLUMNS, given, strict=True))
