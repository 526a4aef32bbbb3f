"""Splits that keep scanners and patients apart."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from xray_harmonize.evaluation.splitters import LeaveOneScannerOut, PatientKFold
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
)
from xray_harmonize.images import ImageSet


def radiographs(scanner=None, patient=None, n=None):
    """Tiny images, brighter where their position is odd."""
    n = len(scanner if scanner is not None else patient if patient is not None else range(n))
    pixels = np.full((n, 3, 4), 0.3, dtype=np.float32)
    pixels[1::2] = 0.6
    return ImageSet(pixels, scanner=scanner, patient=patient)


class MeanIntensity(TransformerMixin, BaseEstimator):
    """One feature an image, and a record of the scanners that fit has seen."""

    def fit(self, X, y=None):
        self.scanners_ = sorted(set(X.scanner))
        return self

    def transform(self, X):
        return np.array([[image.mean()] for image in X])


def classifier():
    return make_pipeline(MeanIntensity(), LogisticRegression(C=1e3))


def held_out(splitter, X):
    return [np.unique(X.scanner[test]).tolist() for _, test in splitter.split(X)]


def test_every_scanner_is_held_out_once_in_sorted_order():
    X = radiographs(["b", "a", "c", "a"])
    assert held_out(LeaveOneScannerOut(), X) == [["a"], ["b"], ["c"]]
    assert LeaveOneScannerOut().get_n_splits(X) == 3


def test_train_and_test_together_are_all_images_when_no_patient_is_shared():
    X = radiographs(["b", "a", "c", "a"], patient=["1", "2", "3", "4"])
    for train, test in LeaveOneScannerOut().split(X):
        assert sorted([*train, *test]) == [0, 1, 2, 3]


@pytest.mark.parametrize("keep", ["a", ["a"], ("a",), np.array(["a"])])
def test_a_kept_scanner_is_always_trained_on(keep):
    X = radiographs(["a", "b", "c", "a"])
    splitter = LeaveOneScannerOut(keep=keep)
    assert held_out(splitter, X) == [["b"], ["c"]]
    assert splitter.get_n_splits(X) == 2
    assert all({0, 3} <= set(train) for train, _ in splitter.split(X))


def test_several_scanners_are_kept():
    X = radiographs(["a", "b", "c", "a"])
    assert held_out(LeaveOneScannerOut(keep=["a", "b"]), X) == [["c"]]


def test_images_of_a_patient_of_the_held_out_scanner_leave_the_training_side():
    X = radiographs(["a", "a", "b", "b", "c"], patient=["1", "2", "2", "3", "3"])
    splits = {X.scanner[test][0]: (train, test) for train, test in LeaveOneScannerOut().split(X)}
    assert splits["a"][0].tolist() == [3, 4]
    assert splits["b"][0].tolist() == [0]
    assert splits["c"][0].tolist() == [0, 1, 2]
    assert splits["b"][1].tolist() == [2, 3]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_neither_scanner_nor_patient_is_ever_on_both_sides(data):
    n = data.draw(st.integers(4, 25))
    scanner = data.draw(st.lists(st.sampled_from("abc"), min_size=n, max_size=n))
    patient = data.draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))
    X = radiographs(scanner, patient=patient)
    try:
        for train, test in LeaveOneScannerOut().split(X):
            assert not set(X.scanner[train]) & set(X.scanner[test])
            assert not set(X.patient[train]) & set(X.patient[test])
            assert len(set(X.scanner[test])) == 1
            assert len(train)
            assert len(test)
    except NotEnoughImagesError:
        pass


def test_groups_name_the_scanners_of_a_plain_array():
    splits = list(LeaveOneScannerOut().split(np.zeros((3, 2)), groups=[20, 10, 10]))
    assert [test.tolist() for _, test in splits] == [[1, 2], [0]]
    assert LeaveOneScannerOut().get_n_splits(groups=[20, 10, 10]) == 2


def test_groups_equal_to_the_scanners_of_X_are_accepted():
    X = radiographs(["a", "b"])
    assert len(list(LeaveOneScannerOut().split(X, groups=["a", "b"]))) == 2


def test_groups_that_contradict_X_are_refused():
    X = radiographs(["a", "b"])
    with pytest.raises(InvalidParameterError, match=r"groups and X.scanner differ"):
        next(LeaveOneScannerOut().split(X, groups=["b", "a"]))


def test_groups_of_another_length_are_refused():
    with pytest.raises(InvalidParameterError, match=r"groups must hold one label an image.*\(2,\)"):
        next(LeaveOneScannerOut().split(np.zeros((2, 1)), groups=["a", "b", "c"]))


@pytest.mark.parametrize("X", [np.zeros((3, 2)), radiographs(n=3), None])
def test_no_scanner_known_is_an_error_that_names_both_ways(X):
    with pytest.raises(MissingScannerError, match=r"X.scanner is not set and groups was not given"):
        LeaveOneScannerOut().get_n_splits(X)


def test_a_single_missing_scanner_is_an_error_that_names_the_image():
    with pytest.raises(MissingScannerError, match=r"1 of 3 have none \(the first is image 1\)"):
        next(LeaveOneScannerOut().split(np.zeros((3, 1)), groups=["a", None, "b"]))


def test_one_scanner_only_is_an_error_that_names_it():
    with pytest.raises(NotEnoughImagesError, match=r"at least two scanners; X.scanner holds only 'a'"):
        next(LeaveOneScannerOut().split(radiographs(["a", "a"])))


def test_a_kept_scanner_that_is_not_there_is_an_error_that_names_the_others():
    with pytest.raises(InvalidParameterError, match="keep names 'z', but the scanners are 'a', 'b'"):
        next(LeaveOneScannerOut(keep="z").split(radiographs(["a", "b"])))


def test_keeping_all_scanners_is_an_error():
    with pytest.raises(NotEnoughImagesError, match="keep names every scanner"):
        LeaveOneScannerOut(keep=["a", "b"]).get_n_splits(radiographs(["a", "b"]))


def test_the_same_patients_on_all_scanners_leave_nothing_to_train_on():
    X = radiographs(["a", "a", "b", "b"], patient=["1", "2", "1", "2"])
    with pytest.raises(NotEnoughImagesError, match="Nothing is left to train on when scanner 'a'"):
        next(LeaveOneScannerOut().split(X))


def test_a_kept_scanner_that_loses_all_its_patients_is_an_error():
    X = radiographs(["ref", "b", "c"], patient=["1", "1", "2"])
    with pytest.raises(NotEnoughImagesError, match="kept scanner 'ref' is left when 'b' is held out"):
        next(LeaveOneScannerOut(keep="ref").split(X))


def test_repr_shows_what_is_kept():
    assert repr(LeaveOneScannerOut(keep="Selenia")) == "LeaveOneScannerOut(keep='Selenia')"


def test_cross_val_score_reads_the_scanner_from_the_images():
    X = radiographs(["a"] * 6 + ["b"] * 6 + ["c"] * 6)
    y = np.tile(["no", "yes"], 9)
    scores = cross_val_score(
        classifier(), X, y, cv=LeaveOneScannerOut(keep="a"), scoring="roc_auc", error_score="raise"
    )
    assert scores.tolist() == [1.0, 1.0]


def test_grid_search_reads_the_scanner_from_the_images():
    X = radiographs(["a"] * 6 + ["b"] * 6 + ["c"] * 6)
    search = GridSearchCV(
        classifier(),
        {"logisticregression__C": [1.0, 1e3]},
        cv=LeaveOneScannerOut(),
        error_score="raise",
    )
    search.fit(X, np.tile([0, 1], 9))
    assert search.n_splits_ == 3
    assert search.best_estimator_[0].scanners_ == ["a", "b", "c"]


def test_a_search_inside_a_training_side_never_meets_the_test_scanner():
    X = radiographs(["a"] * 6 + ["b"] * 6 + ["c"] * 6)
    search = GridSearchCV(classifier(), {"logisticregression__C": [1e3]}, cv=LeaveOneScannerOut(), error_score="raise")
    scores = cross_val_score(search, X, np.tile([0, 1], 9), cv=LeaveOneScannerOut(), error_score="raise")
    assert scores.tolist() == [1.0] * 3


def test_metadata_routing_hands_groups_to_the_splitter():
    X = np.tile([[0.0], [1.0]], (6, 1))
    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_val_score(
            LogisticRegression(C=1e3),
            X,
            np.tile([0, 1], 6),
            cv=LeaveOneScannerOut(),
            params={"groups": ["a"] * 4 + ["b"] * 8},
        )
    assert scores.tolist() == [1.0, 1.0]


def test_patient_k_fold_reads_the_patients_from_the_images():
    X = radiographs(patient=np.repeat(list("abcdefgh"), 3))
    y = np.repeat([0, 1], 12)
    splitter = PatientKFold(4, random_state=0)
    tested = []
    for train, test in splitter.split(X, y):
        assert not set(X.patient[train]) & set(X.patient[test])
        assert y[test].mean() == 0.5
        tested += test.tolist()
    assert sorted(tested) == list(range(24))
    assert splitter.get_n_splits(X, y) == 4


def test_patient_k_fold_works_without_labels_and_with_groups():
    splits = list(PatientKFold(2, random_state=0).split(np.zeros((4, 1)), groups=list("aabb")))
    assert sorted(test.tolist() for _, test in splits) == [[0, 1], [2, 3]]


def test_patient_k_fold_repeats_itself_for_the_same_random_state():
    X = radiographs(patient=np.arange(20))
    y = np.tile([0, 1], 10)

    def tests(random_state):
        return [test.tolist() for _, test in PatientKFold(4, random_state).split(X, y)]

    assert tests(3) == tests(3) != tests(4)


def test_patient_k_fold_without_patients_is_an_error():
    with pytest.raises(InvalidParameterError, match=r"X.patient is not set and groups was not given"):
        next(PatientKFold(2).split(radiographs(["a", "b"]), [0, 1]))


def test_patient_k_fold_refuses_groups_that_contradict_X():
    with pytest.raises(InvalidParameterError, match=r"groups and X.patient differ"):
        next(PatientKFold(2).split(radiographs(patient=[1, 2]), [0, 1], groups=[2, 1]))


def test_patient_k_fold_works_in_cross_val_score():
    X = radiographs(scanner=["a"] * 12, patient=np.repeat(np.arange(6), 2))
    scores = cross_val_score(
        classifier(), X, np.tile([0, 1], 6), cv=PatientKFold(3, random_state=0), error_score="raise"
    )
    assert scores.tolist() == [1.0] * 3
