"""A classifier of the reference's images, asked about all scanners: its areas, and how far they are to be trusted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_images import cohort_of, made
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.metrics import roc_auc_score

from xray_harmonize.auditing.rendering import Half
from xray_harmonize.auditing.task import (
    TASK_COLUMNS,
    areas,
    areas_by_chance,
    classes_at_home,
    default_classifier,
    estimate,
    task_rows,
)


def set_up(n=40, signal=2.0, n_classes=2, seed=0, shares=None):
    """Cohort of two scanners with features that tell the class, and no images to speak of."""
    X, y = made((("A", n), ("B", n)), side=16, shares=shares)
    if n_classes > 2:
        y = np.arange(2 * n) % n_classes
    cohort = cohort_of(X, y, image_size=16, seed=seed)
    rows = np.random.default_rng(seed).normal(size=(len(X), 3))
    rows[:, 0] += signal * y
    halves, features = [], []
    for learned, tested in cohort.halves():
        home = learned[cohort.scanner[learned] == "A"]
        halves.append(Half(tested, X[tested], home, X[home], None))
        features.append((rows[tested], rows[home]))
    return cohort, halves, features, rows


def test_areas_are_those_of_a_classifier_of_the_other_half_at_home():
    cohort, halves, features, _ = set_up()
    found = areas(halves, features, cohort, default_classifier(), n_refits=20, random_state=0)
    for column, name in enumerate(cohort.scanners):
        of_halves = []
        for half, (tested, home) in zip(halves, features, strict=True):
            fitted = clone(default_classifier()).fit(home, cohort.y[half.home])
            own = cohort.scanner[half.positions] == name
            score = fitted.predict_proba(tested[own])[:, 1]
            of_halves.append(roc_auc_score(cohort.y[half.positions][own], score))
        assert found.value[column] == pytest.approx(np.mean(of_halves))
    assert found.resampled.shape == (20, 2)
    assert found.n_free.tolist() == [19, 19]


def test_the_same_seed_draws_the_same_patients_whatever_the_features():
    cohort, halves, features, _ = set_up()
    first, again = (
        areas(halves, features, cohort, default_classifier(), n_refits=20, random_state=3) for _ in range(2)
    )
    assert np.array_equal(first.resampled, again.resampled)


def test_several_classes_are_scored_against_each_other():
    cohort, halves, features, _ = set_up(n_classes=3, signal=3.0)
    found = areas(halves, features, cohort, default_classifier(), n_refits=20, random_state=0)
    assert (found.value > 0.8).all()


def test_a_class_that_home_lacks_is_never_predicted_and_breaks_nothing():
    cohort, halves, features, _ = set_up()
    y = cohort.y.copy()
    y[cohort.scanner == "B"] += 1  # classes 0 and 1 at home, 1 and 2 away
    found = areas(halves, features, replace(cohort, y=y), default_classifier(), n_refits=20, random_state=0)
    assert found.value[0] > 0.7
    assert np.isfinite(found.value[1])


def test_a_scanner_of_one_class_has_no_area():
    cohort, halves, features, _ = set_up(shares={"A": 0.5, "B": 0.0})
    found = areas(halves, features, cohort, default_classifier(), n_refits=20, random_state=0)
    rows = task_rows("none", found, found, cohort, confidence=0.99)
    assert np.isnan(found.value[1])
    assert rows.loc[1, ["auc", "auc_low", "difference", "difference_low", "p"]].isna().all()


@pytest.mark.parametrize(("share", "n_classes"), [(0.5, 2), (0.0, 1), (0.03, 1)])
def test_classes_at_home_are_counted_in_the_poorer_half(share, n_classes):
    X, y = made((("A", 40), ("B", 40)), side=16, shares={"A": share, "B": 0.5})
    assert classes_at_home(cohort_of(X, y, image_size=16)) == n_classes


def test_without_labels_there_are_no_classes():
    assert classes_at_home(cohort_of(made()[0])) == 0


def test_a_table_tells_areas_and_differences_by_scanner():
    cohort, halves, features, _ = set_up()
    worse = [(np.zeros_like(tested), np.zeros_like(home)) for tested, home in features]
    settings = {"classifier": default_classifier(), "n_refits": 30, "random_state": 0}
    good, poor = (areas(halves, one, cohort, **settings) for one in (features, worse))
    table = task_rows("poor", poor, good, cohort, confidence=0.95)
    assert table.columns.tolist() == TASK_COLUMNS
    assert table["scanner"].tolist() == ["A", "B"]
    assert (table["auc"] == 0.5).all()
    assert (table["difference_high"] < 0).all()
    assert (table["p"] < 0.05).all()
    assert table["n_patients"].tolist() == [40, 40]
    same = task_rows("good", good, good, cohort, confidence=0.95)
    assert (same[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)
    assert (same["p"] == 1).all()
    assert ((same["auc_low"] >= 0) & (same["auc_high"] <= 1)).all()


def test_intervals_count_whose_images_the_classifier_was_trained_on():
    cohort, halves, features, _ = set_up(n=40, signal=0.7)
    found = areas(halves, features, cohort, default_classifier(), n_refits=60, random_state=0)
    fixed = DummyClassifier(strategy="prior")
    never = areas(halves, features, cohort, fixed, n_refits=60, random_state=0)
    assert found.resampled.std(axis=0).min() > 0.05
    assert never.resampled.std() == 0


def test_two_classifiers_that_differ_by_their_training_alone_are_not_told_apart():
    alarms = 0
    for seed in range(5):
        cohort, halves, features, rows = set_up(n=24, signal=1.0, seed=seed)
        rng = np.random.default_rng(1000 + seed)
        # Features with other noise of the same kind: neither is better.
        twin = rows.copy()
        twin[:, 1:] = rng.normal(size=(len(rows), 2))
        others = [(twin[half.positions], twin[half.home]) for half in halves]
        first, second = (
            areas(halves, one, cohort, default_classifier(), n_refits=20, random_state=seed)
            for one in (features, others)
        )
        table = task_rows("twin", second, first, cohort, confidence=0.95)
        alarms += bool((table["p"] < 0.025).any())
    assert alarms <= 2


def test_shuffled_labels_stray_from_one_half_by_chance_and_not_more():
    inside = 0
    for seed in range(10):
        cohort, halves, features, _ = set_up(n=20, signal=0.0, seed=seed)
        value, spread = areas_by_chance(
            halves, features, cohort, default_classifier(), n_permutations=60, random_state=0
        )
        assert value.shape == spread.shape == (2,)
        inside += int((np.abs(value - 0.5) < 2 * spread).all())
    assert inside >= 8


def test_features_that_tell_a_label_are_far_from_chance():
    cohort, halves, features, _ = set_up(signal=3.0)
    value, spread = areas_by_chance(halves, features, cohort, default_classifier(), n_permutations=60, random_state=0)
    assert ((value - 0.5) / spread > 3).all()


# -- intervals ------------------------------------------------------------------------------------------------------


@given(st.floats(-1, 1), st.integers(2, 200), st.floats(0.5, 0.999))
def test_an_interval_lies_around_its_value_and_grows_with_its_coverage(value, n_free, confidence):
    draws = np.linspace(-0.2, 0.2, 50) + value
    low, high, p = estimate(value, draws, n_free, confidence)
    wider = estimate(value, draws, n_free, (1 + confidence) / 2)
    assert wider[0] < low < value < high < wider[1]
    assert (low > 0 or high < 0) == (p < 1 - confidence) or abs(p - (1 - confidence)) < 1e-9


def test_few_patients_make_intervals_wide():
    draws = np.linspace(0, 0.2, 101)
    widths = [np.subtract(*estimate(0.1, draws, n_free, 0.99)[1::-1]) for n_free in (1, 5, 100)]
    assert widths[0] > 5 * widths[1] > 5 * widths[2]


@pytest.mark.parametrize(
    ("value", "draws", "n_free"),
    [
        (float("nan"), np.ones(30), 10),
        (0.1, np.full(30, np.nan), 10),
        (0.1, np.r_[np.full(20, np.nan), np.linspace(0, 1, 10)], 10),
        (0.1, np.linspace(0, 1, 30), 0),
    ],
)
def test_what_cannot_be_estimated_has_no_interval(value, draws, n_free):
    assert np.isnan(estimate(value, draws, n_free, 0.95)).all()


def test_figures_that_never_vary_are_certain():
    assert estimate(0.0, np.zeros(30), 10, 0.95) == (0.0, 0.0, 1.0)
    assert estimate(0.5, np.full(30, 0.5), 10, 0.95) == (0.5, 0.5, 0.0)
