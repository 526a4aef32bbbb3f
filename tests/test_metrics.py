"""Figures of one set of predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, recall_score, roc_auc_score

from xray_harmonize.evaluation.metrics import (
    auc,
    confusion_matrices,
    prediction_table,
    worst_group_accuracy,
)
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError

DENSITIES = ["A", "B", "C", "D"]


def softmax(logits):
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def density_classifier(truth, strength=3.0, random_state=0):
    """Four-class probabilities that know the truth up to noise."""
    logits = np.random.default_rng(random_state).normal(size=(len(truth), 4))
    logits[np.arange(len(truth)), truth] += strength
    return softmax(logits)


def test_worst_group_accuracy_without_groups_is_the_lowest_recall():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(4, size=(2, 100))
    expected = recall_score(truth, predicted, average=None).min()
    assert worst_group_accuracy(truth, predicted) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 2)),
        min_size=1,
        max_size=30,
    )
)
def test_worst_group_accuracy_is_the_lowest_over_scanners_and_classes_present(rows):
    group, truth, predicted = map(np.array, zip(*rows, strict=True))
    recalls = []
    for name in set(group):
        own = group == name
        matrix = confusion_matrix(truth[own], predicted[own], labels=[0, 1, 2])
        recalls += [matrix[i, i] / matrix[i].sum() for i in range(3) if matrix[i].sum()]
    assert worst_group_accuracy(truth, predicted, group) == pytest.approx(min(recalls))


def test_worst_group_accuracy_leaves_out_what_a_scanner_does_not_hold():
    # Scanner b has no "no"; that "no" was predicted there is an error of "yes" alone.
    assert worst_group_accuracy(["no", "yes", "yes"], ["no", "yes", "no"], ["a", "b", "b"]) == 0.5


def test_worst_group_accuracy_refuses_to_compare_numbers_with_strings():
    with pytest.raises(InvalidParameterError, match="both be numbers or both be strings"):
        worst_group_accuracy([0, 1], ["0", "1"])


def test_worst_group_accuracy_takes_numbers_in_object_arrays():
    assert worst_group_accuracy(np.array([0, 1], dtype=object), [0, 1]) == 1.0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((["a", None], ["a", "b"]), "y_true"),
        ((["a", "b"], ["a", None]), "y_pred"),
        ((["a", "b"], ["a", "b"], ["x", None]), "groups"),
    ],
)
def test_worst_group_accuracy_names_a_missing_label(arguments, name):
    with pytest.raises(InvalidParameterError, match=f"{name} has no value for image 1"):
        worst_group_accuracy(*arguments)


def test_worst_group_accuracy_refuses_different_lengths():
    with pytest.raises(InvalidParameterError, match="same length; got 2, 1 and 2"):
        worst_group_accuracy([0, 1], [0])


def test_worst_group_accuracy_of_nothing_is_an_error():
    with pytest.raises(NotEnoughImagesError, match="at least one image; got none"):
        worst_group_accuracy([], [])


@pytest.mark.parametrize("labels", [[0, 1], ["no", "yes"], [False, True]])
def test_the_binary_area_is_that_of_the_second_class(labels):
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=50)
    score = rng.random(50).round(1)
    expected = roc_auc_score(truth, score)
    y = np.asarray(labels)[truth]
    assert auc(y, score, labels) == pytest.approx(expected)
    assert auc(y, np.column_stack([1 - score, score]), labels) == pytest.approx(expected)


def test_the_area_of_many_classes_is_macro_one_versus_rest():
    truth = np.random.default_rng(0).integers(4, size=80)
    proba = density_classifier(truth, strength=1)
    expected = roc_auc_score(truth, proba, multi_class="ovr", average="macro")
    assert auc(np.array(DENSITIES)[truth], proba, DENSITIES) == pytest.approx(expected)


def test_classes_need_not_be_sorted():
    proba = [[0.8, 0.2], [0.3, 0.7]]
    assert auc(["yes", "no"], proba, ["yes", "no"]) == 1.0


def test_two_of_four_classes_are_not_scored_by_column_one():
    truth = np.repeat([1, 2], 100)
    proba = density_classifier(truth)
    assert roc_auc_score(truth == 2, proba[:, 1]) < 0.1
    assert auc(np.array(DENSITIES)[truth], proba, DENSITIES) > 0.97


@pytest.mark.parametrize("pair", [(0, 1), (0, 3), (1, 2), (2, 3)])
def test_two_of_four_classes_are_ranked_by_their_odds(pair):
    truth = np.repeat(pair, 60)
    logits = np.random.default_rng(1).normal(size=(120, 4))
    logits[np.arange(120), truth] += 1
    expected = roc_auc_score(truth == pair[1], logits[:, pair[1]] - logits[:, pair[0]])
    assert auc(truth, softmax(logits), range(4)) == pytest.approx(expected)


def test_what_an_absent_class_gets_does_not_matter():
    """The odds of B and C decide, however much of the rest goes to A or D."""
    truth = np.repeat(["B", "C"], 50)
    proba = density_classifier(np.repeat([1, 2], 50), strength=1)
    taken = np.random.default_rng(2).random((100, 1))
    moved = proba * (1 - taken)
    moved[:, [0]] += taken
    assert auc(truth, moved, DENSITIES) == pytest.approx(auc(truth, proba, DENSITIES))


def test_three_of_four_classes_are_renormalised_over_those_present():
    truth = np.repeat([0, 1, 3], 30)
    proba = density_classifier(truth, strength=1)
    present = proba[:, [0, 1, 3]] / proba[:, [0, 1, 3]].sum(axis=1, keepdims=True)
    expected = roc_auc_score(truth, present, multi_class="ovr", average="macro")
    assert auc(truth, proba, range(4)) == pytest.approx(expected)


def test_an_image_without_probability_for_any_class_present_is_an_even_guess():
    proba = [[0, 0.9, 0.1, 0], [1, 0, 0, 0], [0, 0.2, 0.8, 0]]
    assert auc(["B", "B", "C"], proba, DENSITIES) == 1.0
    assert auc(["B", "C", "C"], proba, DENSITIES) == 1.0


def test_odds_keep_apart_what_would_round_to_certainty():
    proba = [[0, 1e-18, 1 - 1e-18, 0], [0, 1e-20, 1 - 1e-20, 0]]
    assert auc(["B", "C"], proba, DENSITIES) == 1.0


@pytest.mark.parametrize("y", [["B", "B"], []])
def test_fewer_than_two_classes_have_no_area(y):
    assert np.isnan(auc(y, np.full((len(y), 4), 0.25), DENSITIES))


def test_the_area_refuses_labels_that_are_no_class():
    with pytest.raises(InvalidParameterError, match=r"y_true holds E \(at 0\)"):
        auc(["E"], [[0.25] * 4], DENSITIES)


def test_the_area_refuses_decision_scores():
    with pytest.raises(InvalidParameterError, match="not decision scores"):
        auc([0, 1], [[-2.0, 3.0], [1.0, 0.0]], [0, 1])


def test_confusion_matrices_are_over_all_classes_whatever_a_scanner_holds():
    truth = np.array([1, 1, 2, 2, 2])
    proba = np.eye(4)[[1, 2, 2, 2, 0]]
    scanner = ["a", "a", "a", "b", "b"]
    table = prediction_table(np.array(DENSITIES)[truth], proba, DENSITIES, scanner=scanner)
    confusion = confusion_matrices(table)
    assert confusion.loc["a"].index.tolist() == DENSITIES
    assert confusion.columns.tolist() == DENSITIES
    assert confusion.index.names == ["scanner", "label"]
    assert confusion.loc["b"].to_numpy().sum() == 2
    assert confusion.loc[("a", "B"), "C"] == 1
    assert confusion.loc[("b", "C"), "A"] == 1


def test_confusion_matrices_count_every_image_once_however_many_seeds_score_it():
    tables = [
        prediction_table([0, 1], np.eye(2), [0, 1], scanner="a", image=image, seed=seed)
        for seed, image in enumerate([[0, 1], [0, 2], [0, 3]])
    ]
    matrix = confusion_matrices(pd.concat(tables)).loc["a"].to_numpy()
    assert matrix == pytest.approx(np.diag([1, 3]))


def test_confusion_matrices_average_over_seeds():
    tables = [
        prediction_table([0, 1], [[1, 0], p], [0, 1], scanner="a", seed=seed) for seed, p in enumerate([[1, 0], [0, 1]])
    ]
    assert confusion_matrices(pd.concat(tables)).loc["a"].to_numpy().tolist() == [
        [1, 0],
        [0.5, 0.5],
    ]
