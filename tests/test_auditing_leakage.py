"""What the scanner alone is worth to a figure that pools scanners."""

from __future__ import annotations

import numpy as np
import pytest
from audit_images import cohort_of, made

from xray_harmonize.auditing.leakage import pooled_control, scanner_alone_control
from xray_harmonize.auditing.task import default_classifier

RESAMPLING = {"n_bootstrap": 60, "random_state": 0}


def cohort_with(shares, n=60, **more):
    return cohort_of(*made((("A", n), ("B", n)), side=16, shares=shares, **more), image_size=16)


def alone(cohort):
    return scanner_alone_control(cohort, n_permutations=60, **RESAMPLING)


def pooled(cohort, gap, signal=0.0, seed=0):
    """The control on features that tell the scanner by `gap`, and the label by `signal`."""
    rows = np.random.default_rng(seed).normal(size=(len(cohort.y), 3))
    rows[:, 0] += gap * (cohort.scanner == "B")
    rows[:, 1] += signal * cohort.y
    return pooled_control(rows, cohort, default_classifier(), **RESAMPLING)


def test_scanners_with_like_shares_of_the_classes_predict_nothing():
    row = alone(cohort_with({"A": 0.5, "B": 0.5})).iloc[0]
    assert row["passed"]
    assert row["value"] == pytest.approx(0.5)


def test_scanners_with_unlike_shares_predict_the_label():
    row = alone(cohort_with({"A": 0.2, "B": 0.8})).iloc[0]
    # Of all pairs with unlike labels, .8 * .8 are ordered rightly and .32 are tied.
    assert row["value"] == pytest.approx(0.8)
    assert row["low"] < 0.8 < row["high"]
    assert not row["passed"]
    assert "as where labels are dealt anew among patients (p 0.016)" in row["expected"]


def test_small_differences_of_shares_are_no_alarm():
    assert alone(cohort_with({"A": 0.47, "B": 0.53})).iloc[0]["passed"]


def test_images_of_one_patient_count_as_one_patient():
    # Five patients on each scanner with twelve images each: shares differ by chance as soon as not.
    few = cohort_with({"A": 0.4, "B": 0.6}, n=5, images_a_patient=12)
    assert alone(few).iloc[0]["passed"]


def test_labels_of_one_class_have_no_row():
    assert alone(cohort_with({"A": 0.0, "B": 0.0})).empty
    assert pooled(cohort_with({"A": 0.0, "B": 0.0}), 1.0).empty


def test_a_gain_leaks_where_scanners_differ_and_classes_are_uneven():
    row = pooled(cohort_with({"A": 0.2, "B": 0.8}), gap=5.0).iloc[0]
    assert row["value"] > 0.15
    assert row["low"] > 0
    assert not row["passed"]


def test_nothing_leaks_where_classes_are_even_or_scanners_look_the_same():
    assert pooled(cohort_with({"A": 0.5, "B": 0.5}), gap=5.0).iloc[0]["passed"]
    assert pooled(cohort_with({"A": 0.2, "B": 0.8}), gap=0.0, seed=1).iloc[0]["passed"]


def test_a_scanner_that_is_easier_is_no_leak():
    cohort = cohort_with({"A": 0.5, "B": 0.5}, n=80)
    rows = np.random.default_rng(0).normal(size=(160, 2))
    rows[:, 1] += 4 * cohort.y * (cohort.scanner == "A") + 4 * (cohort.scanner == "B")
    assert pooled_control(rows, cohort, default_classifier(), **RESAMPLING).iloc[0]["passed"]


def test_scanners_of_one_class_each_leave_nothing_to_compare_with():
    assert pooled(cohort_with({"A": 0.0, "B": 1.0}), gap=3.0).empty


def test_three_classes_are_compared_too():
    X, _ = made((("A", 60), ("B", 60)), side=16)
    y = np.where(np.arange(120) < 60, np.arange(120) % 4 % 3, 2 - np.arange(120) % 4 % 3)
    cohort = cohort_of(X, y, image_size=16)
    assert not alone(cohort).iloc[0]["passed"]
    assert pooled(cohort, gap=5.0).iloc[0]["value"] > 0.05
