"""What the scanner alone is worth to a figure that pools scanners: the gain that leaks where classes are uneven."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from xray_harmonize.auditing.cohort import Cohort
from xray_harmonize.auditing.controls import control_row
from xray_harmonize.auditing.result import CONTROL_COLUMNS
from xray_harmonize.evaluation.bootstrap import bootstrap_patients, interval
from xray_harmonize.evaluation.compared import renumbered
from xray_harmonize.evaluation.groups import permutation_p, permuted_groups
from xray_harmonize.evaluation.weighted import weighted_macro_auc

SCANNER_ALONE, POOLED_SCANNERS = "label from the scanner alone", "scanners pooled"

_LEVEL = 0.05


def scanner_alone_control(cohort: Cohort, *, n_permutations: int, n_bootstrap: int, random_state: int) -> pd.DataFrame:
    """Predict the label by nothing but the scanner: its share of each class.

    What comes out leaks into every figure that pools scanners, and harmonizing takes it away.

    Parameters
    ----------
    cohort : Cohort
        With labels.
    n_permutations, n_bootstrap, random_state : int

    Returns
    -------
    DataFrame
        One row, see :data:`~xray_harmonize.auditing.result.CONTROL_COLUMNS`; none where all labels are the same. The
        same images tell the shares and are predicted, so that chance gives somewhat more than .5: ``expected`` tells
        how much where labels are dealt anew among patients, and p.
    """
    assert cohort.y is not None
    scanner = np.unique(cohort.scanner, return_inverse=True)[1]
    truth = np.unique(cohort.y, return_inverse=True)[1]
    if truth.max() == 0:
        return pd.DataFrame(columns=CONTROL_COLUMNS)
    patient = renumbered(cohort.patient)
    permuted = permuted_groups(truth, patient, n_permutations, random_state)
    none = np.ones((1, len(truth)))
    null = np.array([weighted_macro_auc(row, _shares(row, scanner), none)[0] for row in permuted])
    shares = _shares(truth, scanner)
    value, resampled = bootstrap_patients(
        lambda weight: weighted_macro_auc(truth, shares, weight), patient, n_bootstrap, random_state
    )
    low, high = interval(resampled)
    p = permutation_p(float(value), null)
    expected = f"{null.mean():.2f}, as where labels are dealt anew among patients (p {p:.3f})"
    row = control_row(
        SCANNER_ALONE, "", "AUC over all scanners together", float(value), low, high, expected, p >= _LEVEL
    )
    return pd.DataFrame([row], columns=CONTROL_COLUMNS)


def _shares(truth: np.ndarray, scanner: np.ndarray) -> np.ndarray:
    """Share of every class on the scanner of every image; (n_images, n_classes)."""
    counts = np.zeros((scanner.max() + 1, truth.max() + 1))
    np.add.at(counts, (scanner, truth), 1)
    return np.asarray((counts / counts.sum(axis=1, keepdims=True))[scanner])


def pooled_control(
    rows: np.ndarray, cohort: Cohort, classifier: Any, *, n_bootstrap: int, random_state: int
) -> pd.DataFrame:
    """Train and test on all scanners together, untouched, and compare the AUC over all with that within scanners.

    A classifier that knows the scanner ranks images of one above those of the other, and where classes are uneven that
    is worth something over all scanners, and nothing within any. The AUC is a share of pairs of images ranked rightly;
    within scanners, only pairs of one scanner count, so that each scanner weighs as much as it has pairs.

    Parameters
    ----------
    rows : ndarray of shape (n_images, n_features)
        Features of the images as they came.
    cohort : Cohort
        With labels.
    classifier : classifier
        Stays unfitted.
    n_bootstrap, random_state : int

    Returns
    -------
    DataFrame
        One row; none where a half holds a single class, or every scanner does.
    """
    assert cohort.y is not None
    classes, truth = np.unique(cohort.y, return_inverse=True)
    parts = []
    for learned, tested in cohort.halves():
        if len(np.unique(truth[learned])) < len(classes) or len(classes) < 2:
            return pd.DataFrame(columns=CONTROL_COLUMNS)
        proba = clone(classifier).fit(rows[learned], cohort.y[learned]).predict_proba(rows[tested])
        of_scanner = [np.flatnonzero(cohort.scanner[tested] == name) for name in cohort.scanners]
        parts.append((tested, proba, [own for own in of_scanner if len(np.unique(truth[tested][own])) > 1]))
    if not all(within for _, _, within in parts):
        return pd.DataFrame(columns=CONTROL_COLUMNS)

    def gain(weight: np.ndarray) -> np.ndarray:
        gains = []
        for tested, proba, within in parts:
            of_test, labels = weight[:, tested], truth[tested]
            own = np.stack([weighted_macro_auc(labels[one], proba[one], of_test[:, one]) for one in within], axis=1)
            pairs = np.stack([_unlike_pairs(labels[one], of_test[:, one]) for one in within], axis=1)
            total = np.where(pairs > 0, own * pairs, 0.0).sum(axis=1)
            mean = np.divide(total, pairs.sum(axis=1), out=np.full(len(total), np.nan), where=pairs.any(axis=1))
            gains.append(weighted_macro_auc(labels, proba, of_test) - mean)
        return np.asarray(np.mean(gains, axis=0))

    value, resampled = bootstrap_patients(gain, renumbered(cohort.patient), n_bootstrap, random_state)
    low, high = interval(resampled)
    row = control_row(
        POOLED_SCANNERS, "none", "AUC over all together, less that within scanners", float(value), low, high,
        "not above 0", not low > 0,
    )  # fmt: skip
    return pd.DataFrame([row], columns=CONTROL_COLUMNS)


def _unlike_pairs(truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Twice the weight of pairs of images of different classes, (n_resamples,); 0 where the area is not defined."""
    of_class = np.stack([weight[:, truth == label].sum(axis=1) for label in np.unique(truth)], axis=1)
    pairs = of_class.sum(axis=1) ** 2 - (of_class**2).sum(axis=1)
    return np.asarray(np.where((of_class > 0).all(axis=1), pairs, 0.0))
