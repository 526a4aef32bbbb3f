"""Who is a patient, and how patients are dealt into parts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.evaluation.patients import cross_fit_halves, patient_codes, patient_folds
from xray_harmonize.exceptions import (
    InvalidParameterError,
    NotEnoughImagesError,
    XRayHarmonizeWarning,
)


def test_images_of_one_patient_share_a_number():
    assert patient_codes(["b", "a", "b"], 3).tolist() == [1, 0, 1]


@pytest.mark.parametrize("unknown", [None, float("nan"), ""])
def test_an_image_of_an_unknown_patient_is_a_patient_of_its_own(unknown):
    assert patient_codes(["b", unknown, "b", unknown], 4).tolist() == [0, 1, 0, 2]


def test_without_labels_every_image_is_a_patient():
    assert patient_codes(None, 3).tolist() == [0, 1, 2]


def test_numbers_and_strings_name_the_same_patients():
    assert np.array_equal(patient_codes([7, 3, 7], 3), patient_codes(["7", "3", "7"], 3))


def test_labels_of_another_length_are_refused():
    with pytest.raises(InvalidParameterError, match=r"patient must hold one label.*\(3,\).*\(2,\)"):
        patient_codes(["a", "b"], 3)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 15), st.sampled_from(["no", "yes"])), min_size=6, max_size=40),
    st.integers(2, 4),
    st.integers(0, 5),
)
def test_no_patient_is_in_two_folds(rows, n_folds, random_state):
    patient, y = zip(*rows, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XRayHarmonizeWarning)
        try:
            fold = patient_folds(patient, y, n_folds, random_state)
        except NotEnoughImagesError:
            return
    assert set(fold) <= set(range(n_folds))
    for one in set(patient):
        assert len(set(fold[np.array(patient) == one])) == 1


def test_folds_hold_equal_shares_of_each_class():
    y = np.repeat(["no", "yes"], [30, 10])
    fold = patient_folds(None, y, 5, random_state=0)
    for number in range(5):
        assert (y[fold == number] == "yes").sum() == 2
        assert (y[fold == number] == "no").sum() == 6


def test_folds_repeat_themselves_for_the_same_random_state():
    y = np.tile([0, 1], 15)
    first = patient_folds(None, y, 3, random_state=1)
    assert np.array_equal(first, patient_folds(None, y, 3, random_state=1))
    assert not np.array_equal(first, patient_folds(None, y, 3, random_state=2))


def test_fewer_patients_than_folds_is_an_error():
    with pytest.raises(NotEnoughImagesError, match="3 folds need at least 3 patients; there are 2"):
        patient_folds(["a", "a", "b"], [0, 1, 1], 3)


def test_classes_smaller_than_the_number_of_folds_are_an_error():
    with pytest.raises(NotEnoughImagesError, match="the largest class, 1, has 2"):
        patient_folds(None, [0, 1, 1, 2], 3)


def test_a_single_fold_is_refused():
    with pytest.raises(InvalidParameterError, match="n_folds must be at least 2; got 1"):
        patient_folds(None, [0, 1], 1)


def test_a_class_with_fewer_patients_than_folds_warns_by_name():
    with pytest.warns(XRayHarmonizeWarning, match="Class yes has 1 patients for 2 folds"):
        patient_folds(["a", "b", "c", "c"], ["no", "no", "yes", "yes"], 2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 5))
def test_halves_share_no_patient_and_cover_every_image(patient, random_state):
    if len(set(patient)) < 2:
        with pytest.raises(NotEnoughImagesError):
            cross_fit_halves(patient, random_state)
        return
    labels = np.array(patient)
    first, second = cross_fit_halves(patient, random_state)
    assert not set(labels[first]) & set(labels[second])
    assert abs(len(set(labels[first])) - len(set(labels[second]))) <= 1
    assert sorted([*first, *second]) == list(range(len(patient)))


def test_halves_repeat_themselves_for_the_same_random_state():
    patient = np.arange(40)
    first, _ = cross_fit_halves(patient, 0)
    assert np.array_equal(first, cross_fit_halves(patient, 0)[0])
    assert not np.array_equal(first, cross_fit_halves(patient, 1)[0])


def test_one_patient_cannot_be_halved():
    with pytest.raises(NotEnoughImagesError, match="at least two patients; there are 1"):
        cross_fit_halves(["a", "a"])
