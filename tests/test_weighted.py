"""Figures under many weightings at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from xray_harmonize.evaluation.weighted import (
    METRICS,
    weighted_auc,
    weighted_confusion,
    weighted_metrics,
)


@st.composite
def weighted_scores(draw):
    n = draw(st.integers(2, 30))
    positive = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    # Few distinct values, so that ties are the rule.
    score = draw(st.lists(st.integers(-3, 3).map(float), min_size=n, max_size=n))
    weight = draw(st.lists(st.lists(st.integers(0, 4), min_size=n, max_size=n), min_size=1, max_size=4))
    return np.array(positive), np.array(score), np.array(weight)


@settings(max_examples=150, deadline=None)
@given(weighted_scores())
def test_areas_equal_those_of_scikit_learn_under_the_same_weights(case):
    positive, score, weight = case
    for area, row in zip(weighted_auc(positive, score, weight), weight, strict=True):
        drawn = row > 0
        if len(set(positive[drawn])) < 2:
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(positive[drawn], score[drawn], sample_weight=row[drawn]))


@settings(max_examples=100, deadline=None)
@given(weighted_scores())
def test_a_weight_is_as_good_as_that_many_copies(case):
    positive, score, weight = case
    row = weight[0]
    assume(row.sum() > 0)
    copied = weighted_auc(np.repeat(positive, row), np.repeat(score, row), np.ones(row.sum()))
    assert np.allclose(weighted_auc(positive, score, row), copied, equal_nan=True)


@settings(max_examples=100, deadline=None)
@given(weighted_scores())
def test_turning_the_classes_round_turns_the_area_round(case):
    positive, score, weight = case
    area = weighted_auc(positive, score, weight)
    assert np.allclose(area, 1 - weighted_auc(~positive, score, weight), equal_nan=True)
    assert np.allclose(area, 1 - weighted_auc(positive, -score, weight), equal_nan=True)


def test_fractional_weights_equal_scikit_learn():
    rng = np.random.default_rng(0)
    positive, score = rng.random(50) < 0.4, rng.normal(size=50).round(1)
    weight = rng.random((3, 50))
    expected = [roc_auc_score(positive, score, sample_weight=row) for row in weight]
    assert weighted_auc(positive, score, weight) == pytest.approx(expected)


def test_infinite_scores_are_ranked_last():
    area = weighted_auc([True, True, False], [np.inf, 0.0, 1.0], np.ones(3))
    assert area.tolist() == [0.5]


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_a_single_class_has_no_area(positive):
    assert np.isnan(weighted_auc(positive, [0.1, 0.2], np.ones(2))).all()


def test_confusion_matrices_equal_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(3, size=(2, 40))
    weight = rng.integers(3, size=(5, 40))
    for ours, row in zip(weighted_confusion(truth, predicted, 4, weight), weight, strict=True):
        theirs = confusion_matrix(truth, predicted, labels=range(4), sample_weight=row)
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_all_metrics_equal_those_of_scikit_learn_under_the_same_weights(n_classes):
    rng = np.random.default_rng(n_classes)
    n = 60
    truth = rng.integers(n_classes, size=n)
    proba = rng.dirichlet(np.ones(n_classes), size=n)
    predicted = proba.argmax(axis=1)
    weight = rng.integers(1, 4, size=(6, n))
    ours = weighted_metrics(truth, predicted, proba, weight.astype(float), METRICS)
    average = {"average": "binary" if n_classes == 2 else "macro", "zero_division": 0.0}
    for values, row in zip(ours, weight, strict=True):
        weighted = {"sample_weight": row}
        got = dict(zip(METRICS, values, strict=True))
        assert got["auc"] == pytest.approx(
            roc_auc_score(truth, proba[:, 1] if n_classes == 2 else proba, multi_class="ovr", **weighted)
        )
        assert got["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted, **weighted))
        assert got["worst_group_accuracy"] == pytest.approx(
            recall_score(truth, predicted, average=None, **weighted).min()
        )
        for name, metric in (
            ("precision", precision_score),
            ("recall", recall_score),
            ("f1", f1_score),
        ):
            assert got[name] == pytest.approx(metric(truth, predicted, **average, **weighted))
        assert got["brier"] == pytest.approx(
            brier_score_loss(truth, proba[:, 1] if n_classes == 2 else proba, **weighted)
        )


def test_metrics_of_partly_present_classes_average_over_those_present():
    truth = np.array([1, 1, 2, 2])
    predicted = np.array([1, 3, 2, 2])
    proba = np.eye(4)[predicted]
    metrics = ("balanced_accuracy", "precision", "recall", "f1")
    values = weighted_metrics(truth, predicted, proba, np.ones((1, 4)), metrics)[0]
    average = {"labels": [1, 2], "average": "macro"}
    assert values == pytest.approx(
        [
            0.75,
            precision_score(truth, predicted, **average),
            recall_score(truth, predicted, **average),
            f1_score(truth, predicted, **average),
        ]
    )


def test_a_class_never_predicted_has_precision_zero():
    proba = np.array([[0.9, 0.1], [0.8, 0.2]])
    values = weighted_metrics(np.array([0, 1]), np.array([0, 0]), proba, np.ones((1, 2)), ("precision", "recall", "f1"))
    assert values.tolist() == [[0.0, 0.0, 0.0]]


def test_without_positives_there_is_specificity_but_no_recall():
    proba = np.array([[0.9, 0.1], [0.8, 0.2]])
    metrics = ("recall", "precision", "f1", "auc", "balanced_accuracy")
    truth = np.array([0, 0])
    values = weighted_metrics(truth, truth, proba, np.ones((1, 2)), metrics)[0]
    assert np.isnan(values[:4]).all()
    assert values[4] == 1.0


def test_a_weighting_without_one_of_the_classes_defines_nothing():
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]])
    truth = np.array([0, 0, 1])
    weight = np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]])
    values = weighted_metrics(truth, truth, proba, weight, METRICS)
    assert np.isnan(values[0]).all()
    assert not np.isnan(values[1]).any()
