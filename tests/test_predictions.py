"""The table of predictions."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from xray_harmonize.evaluation.metrics import scanner_scores
from xray_harmonize.evaluation.predictions import by_scanner, prediction_table
from xray_harmonize.exceptions import InvalidParameterError, LabelTableError

PROBA = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6]])


def table(seed=0, **changes):
    arguments = {
        "y_true": ["no", "yes", "no"],
        "proba": PROBA,
        "classes": ["no", "yes"],
        "scanner": ["a", "a", "b"],
        "patient": ["p1", "p2", "p3"],
        "image": ["one", "two", "three"],
        "seed": seed,
    }
    return prediction_table(**(arguments | changes))


def test_the_most_probable_class_is_predicted():
    assert table().predicted.tolist() == ["no", "yes", "yes"]


def test_predictions_of_ones_own_are_kept():
    assert table(y_pred=["no", "no", "no"]).predicted.tolist() == ["no", "no", "no"]


def test_one_column_is_the_probability_of_the_second_class():
    assert table(proba=PROBA[:, 1])[["proba_no", "proba_yes"]].to_numpy() == pytest.approx(PROBA)


def test_one_scanner_name_stands_for_all_images():
    assert table(scanner="a").scanner.tolist() == ["a", "a", "a"]


def test_a_table_comes_apart_by_scanner_and_seed():
    shuffled = pd.concat([table(0), table(1, proba=PROBA[::-1])]).sample(frac=1, random_state=0)
    classes, (a, b) = by_scanner(shuffled)
    assert classes == ["no", "yes"]
    assert (a.scanner, b.scanner) == ("a", "b")
    assert a.image.tolist() == ["one", "two"]
    assert a.patient.tolist() == ["p1", "p2"]
    assert a.truth.tolist() == [0, 1]
    assert [seed.rows.tolist() for seed in a.seeds] == [[0, 1], [0, 1]]
    assert [seed.predicted.tolist() for seed in a.seeds] == [[0, 1], [1, 1]]
    assert np.array_equal([seed.proba for seed in a.seeds], [PROBA[:2], PROBA[:0:-1]])
    assert [len(seed.proba) for seed in b.seeds] == [1, 1]


def test_scanners_may_be_scored_by_different_numbers_of_seeds():
    one_more = table(1)
    _, (a, b) = by_scanner(pd.concat([table(0), one_more[one_more.scanner == "a"]]))
    assert len(a.seeds) == 2
    assert len(b.seeds) == 1


def test_seeds_may_each_score_a_fold():
    folds = pd.concat([table(0)[1:], table(1)[:1]])
    _, (a, b) = by_scanner(folds)
    assert a.image.tolist() == ["one", "two"]
    assert [seed.rows.tolist() for seed in a.seeds] == [[1], [0]]
    assert [seed.predicted.tolist() for seed in a.seeds] == [[1], [0]]
    assert len(b.seeds) == 1


def test_optional_columns_may_be_missing():
    bare = table().drop(columns=["image", "patient", "seed", "predicted"])
    _, (a, _) = by_scanner(bare)
    assert a.patient.tolist() == [None, None]
    assert a.seeds[0].predicted.tolist() == [0, 1]


@pytest.mark.parametrize("classes", [[0, 1], ["0", "1"], [False, True]])
def test_a_table_that_went_through_csv_gives_the_same_figures(classes):
    rng = np.random.default_rng(0)
    y = np.asarray(classes)[rng.integers(2, size=40)]
    before = prediction_table(y, rng.random(40), classes, scanner="a", patient=np.arange(40) // 2)
    after = pd.read_csv(io.StringIO(before.to_csv(index=False)))
    pd.testing.assert_frame_equal(
        scanner_scores(before, n_bootstrap=50, random_state=0),
        scanner_scores(after, n_bootstrap=50, random_state=0),
    )


def test_single_precision_probabilities_are_accepted():
    assert table(proba=PROBA.astype(np.float32)).proba_no.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"proba": PROBA[:2]}, r"proba must have shape \(3, 2\).*got \(2, 2\)"),
        ({"proba": PROBA - 0.5}, "proba must hold probabilities.*not decision scores"),
        ({"proba": PROBA * 2}, "proba must hold probabilities"),
        (
            {"proba": np.where(PROBA == 0.7, np.nan, PROBA)},
            r"1 of 3 images \(the first is image 1\)",
        ),
        ({"y_true": ["no", "maybe", "no"]}, r"y_true holds maybe \(at 1\).*the classes no, yes"),
        ({"y_pred": ["no", "maybe", "no"]}, "y_pred holds maybe"),
        (
            {"y_true": [["no"], ["yes"], ["no"]]},
            r"y_true must be one-dimensional; got shape \(3, 1\)",
        ),
        ({"classes": ["no", "no"]}, "classes must differ"),
        (
            {"scanner": ["a", "b"]},
            r"scanner must hold one value an image, shape \(3,\); got \(2,\)",
        ),
    ],
)
def test_impossible_arguments_are_named(changes, message):
    with pytest.raises(InvalidParameterError, match=message):
        table(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="scanner"), "Predictions lack scanner; the columns are image"),
        (lambda t: t.drop(columns=["label"]), "Predictions lack label"),
        (
            lambda t: t.drop(columns=["proba_no"]),
            "lack proba_<class>, one a class and at least two",
        ),
        (lambda t: t[:0], "Predictions hold no row"),
        (lambda t: t.assign(label=["no", None, "no"]), "an empty label in row 1"),
        (lambda t: t.assign(scanner=["a", "a", None]), "an empty scanner in row 2"),
        (lambda t: t.assign(label="maybe"), "cannot be scored: label holds maybe"),
        (lambda t: t.assign(predicted="maybe"), "cannot be scored: predicted holds maybe"),
        (lambda t: t.assign(proba_no=2.0), "cannot be scored: proba must hold probabilities"),
        (lambda t: pd.concat([t, t]), "Image 'one' of scanner 'a' comes twice in seed 0"),
        (
            lambda t: pd.concat([t, t.assign(seed=1)]).drop(columns="image"),
            "several seeds need a column 'image'",
        ),
        (
            lambda t: pd.concat([t, t.assign(seed=1, label="no")]),
            "Image 'two' of scanner 'a' comes with two values of label",
        ),
        (
            lambda t: pd.concat([t, t.assign(seed=1, patient="p1")]),
            "Image 'two' of scanner 'a' comes with two values of patient",
        ),
    ],
)
def test_an_impossible_table_is_refused_by_name(change, message):
    with pytest.raises(LabelTableError, match=message):
        by_scanner(change(table()))
