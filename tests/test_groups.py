"""Groups of images: checks, permutations by patient, and figures with a null and resamples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.evaluation.groups import (
    feature_matrix,
    measure_groups,
    membership,
    patients_of_groups,
    permutation_p,
    permuted_groups,
    scanner_codes,
)
from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError, NotEnoughImagesError


def test_features_may_be_a_data_frame():
    assert feature_matrix(pd.DataFrame({"a": [1, 2], "b": [3, 4]})).tolist() == [[1.0, 3.0], [2.0, 4.0]]


def test_features_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidParameterError, match="features must be a table of numbers, one row an image"):
        feature_matrix([["a", "b"]])


@pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 0), (2, 2, 2)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidParameterError, match=r"a must have the shape \(n_images, n_features\)"):
        feature_matrix(np.zeros(shape), "a")


def test_features_that_are_not_finite_are_named():
    features = np.zeros((3, 2))
    features[1, 0] = np.nan
    with pytest.raises(InvalidParameterError, match="must be finite; row 1 holds nan in column 0"):
        feature_matrix(features)


def test_scanners_that_nobody_gave_are_asked_for():
    with pytest.raises(MissingScannerError, match="scanner is None"):
        scanner_codes(None, 3)


def test_an_image_without_scanner_is_named():
    with pytest.raises(MissingScannerError, match=r"1 of 3 images have none \(the first is image 1\)"):
        scanner_codes(["a", None, "b"], 3)


def test_a_single_scanner_is_compared_with_nothing():
    with pytest.raises(NotEnoughImagesError, match="needs at least two; scanner holds only 'a'"):
        scanner_codes(["a", "a"], 2)


def test_scanners_must_be_one_an_image():
    with pytest.raises(InvalidParameterError, match="scanner must hold one label an image"):
        scanner_codes(["a", "b"], 3)


def test_patients_of_a_group_are_counted_once():
    assert patients_of_groups(np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2])).tolist() == [2, 2]


@st.composite
def cohorts(draw):
    n_patients = draw(st.integers(2, 8))
    sizes = draw(st.lists(st.integers(1, 4), min_size=n_patients, max_size=n_patients))
    patient = np.repeat(np.arange(n_patients), sizes)
    order = draw(st.permutations(range(len(patient))))
    codes = draw(st.lists(st.integers(0, 2), min_size=len(patient), max_size=len(patient)))
    return np.array(codes), patient[list(order)]


def single_group(codes, patient):
    return {p for p in set(patient) if len(set(codes[patient == p])) == 1}


@given(cohorts())
def test_patients_of_a_single_group_stay_so_and_trade_it_among_themselves(cohort):
    codes, patient = cohort
    single = single_group(codes, patient)

    def held(row):
        return sorted(row[patient == p][0] for p in single)

    for row in permuted_groups(codes, patient, 5, random_state=0):
        assert single <= single_group(row, patient)
        assert held(row) == held(codes)


@given(cohorts())
def test_patients_of_several_groups_trade_with_those_of_as_many_images(cohort):
    codes, patient = cohort
    several = set(patient) - single_group(codes, patient)

    def held(row):
        return sorted((np.sum(patient == p), *sorted(row[patient == p])) for p in several)

    for row in permuted_groups(codes, patient, 5, random_state=0):
        assert held(row) == held(codes)


def test_a_patient_of_several_scanners_is_permuted_within():
    codes, patient = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    permuted = np.unique(permuted_groups(codes, patient, 100, random_state=0), axis=0)
    assert permuted.tolist() == [[0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0]]


def test_every_order_is_as_likely():
    permuted = permuted_groups(np.array([0, 0, 1, 1]), np.arange(4), 6000, random_state=0)
    _, counts = np.unique(permuted, axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - 1000).max() < 120


def test_nobody_trades_across_blocks():
    block = np.array([0, 0, 1, 1, 1])
    codes = np.array([0, 1, 0, 0, 1])
    permuted = permuted_groups(codes, np.arange(5), 50, random_state=0, block=block)
    for number in (0, 1):
        assert (np.sort(permuted[:, block == number]) == np.sort(codes[block == number])).all()


def test_a_negative_number_of_permutations_is_refused():
    with pytest.raises(InvalidParameterError, match="n_permutations must be 0 or more; got -1"):
        permuted_groups(np.array([0, 1]), np.arange(2), -1)


def test_membership_weighs_by_how_often_an_image_was_drawn():
    member = membership(np.array([0, 1]), 2, np.array([[2.0, 0.0]]))
    assert member.tolist() == [[[2.0, 0.0], [0.0, 0.0]]]


def mean_difference(value):
    def statistic(member):
        means = np.einsum("cik,i->ck", member, value) / member.sum(axis=1)
        return means[:, [1]] - means[:, [0]]

    return statistic


def test_figures_do_not_depend_on_the_blocks(monkeypatch):
    value = np.random.default_rng(0).normal(size=30)
    codes = np.repeat([0, 1], 15)
    whole = measure_groups(mean_difference(value), codes, np.arange(30), random_state=0)
    monkeypatch.setattr("xray_harmonize.evaluation.groups.BLOCK_SIZE", 200)
    parts = measure_groups(mean_difference(value), codes, np.arange(30), random_state=0)
    assert all(np.allclose(one, other) for one, other in zip(whole, parts, strict=True))


def test_without_permutations_or_resamples_there_is_the_value_alone():
    figures = measure_groups(
        mean_difference(np.array([1.0, 4.0])), np.array([0, 1]), np.arange(2), n_permutations=0, n_bootstrap=0
    )
    assert figures.value.tolist() == [3.0]
    assert figures.null.shape == figures.resampled.shape == (0, 1)


def test_p_counts_the_observed_figure_and_ties():
    assert permutation_p(1.0, np.array([0.0, 1.0, 2.0])) == 0.75
    assert permutation_p(3.0, np.zeros(19)) == 0.05


def test_a_tie_in_all_but_the_last_digit_is_a_tie():
    assert permutation_p(0.1 + 0.2, np.array([0.3])) == 1.0


def test_a_permutation_that_defines_nothing_counts_as_high():
    assert permutation_p(1.0, np.array([np.nan, 0.0, 0.0])) == 0.5


@pytest.mark.parametrize(("observed", "null"), [(np.nan, np.zeros(3)), (1.0, np.empty(0))])
def test_p_of_nothing_is_nan(observed, null):
    assert np.isnan(permutation_p(observed, null))
