"""Resampling patients."""

from __future__ import annotations

import numpy as np
import pytest

from xray_harmonize.evaluation.bootstrap import (
    bootstrap_patients,
    interval,
    p_value,
    resample_counts,
)
from xray_harmonize.exceptions import InvalidParameterError


def mean_of(value):
    return lambda weight: weight @ value / weight.sum(axis=1)


def test_every_resample_draws_as_many_patients_as_there_are():
    counts = np.concatenate(list(resample_counts(13, 50, random_state=0)))
    assert counts.shape == (50, 13)
    assert (counts.sum(axis=1) == 13).all()


def test_the_draws_do_not_depend_on_the_block():
    whole = np.concatenate(list(resample_counts(7, 20, random_state=0)))
    parts = list(resample_counts(7, 20, random_state=0, block=6))
    assert [len(part) for part in parts] == [6, 6, 6, 2]
    assert np.array_equal(whole, np.concatenate(parts))


def test_images_of_one_patient_always_weigh_the_same():
    patient = np.array([0, 1, 1, 2, 2, 2])

    def check(weight):
        assert (weight[:, 1] == weight[:, 2]).all()
        assert (weight[:, 3:] == weight[:, [3]]).all()
        return weight.sum(axis=1)

    bootstrap_patients(check, patient, 50, random_state=0)


def test_the_estimate_gives_every_image_weight_one():
    estimate, resampled = bootstrap_patients(
        mean_of(np.array([1.0, 2.0, 6.0])), np.array([0, 0, 1]), 30, random_state=0
    )
    assert estimate == 3.0
    # Patient 0 twice, one of each, or patient 1 twice.
    assert set(resampled) == {1.5, 3.0, 6.0}


def test_the_same_random_state_gives_the_same_resamples():
    value, patient = np.arange(20.0), np.arange(20)
    first = bootstrap_patients(mean_of(value), patient, 10, random_state=5)[1]
    assert np.array_equal(first, bootstrap_patients(mean_of(value), patient, 10, random_state=5)[1])
    other = bootstrap_patients(mean_of(value), patient, 10, random_state=6)[1]
    assert not np.array_equal(first, other)


def test_no_resamples_give_an_estimate_alone():
    estimate, resampled = bootstrap_patients(mean_of(np.ones(3)), np.arange(3), n_bootstrap=0)
    assert estimate == 1.0
    assert resampled.shape == (0,)


def test_the_spread_is_the_standard_error_of_a_mean():
    value = np.random.default_rng(0).normal(size=400)
    resampled = bootstrap_patients(mean_of(value), np.arange(400), 2000, random_state=0)[1]
    assert resampled.std() == pytest.approx(value.std() / 20, rel=0.06)


def test_many_images_are_taken_in_blocks(monkeypatch):
    monkeypatch.setattr("xray_harmonize.evaluation.bootstrap.BLOCK_SIZE", 100)
    sizes = []

    def note(weight):
        sizes.append(len(weight))
        return weight.sum(axis=1)

    bootstrap_patients(note, np.arange(30), 10, random_state=0)
    assert sizes == [1, 3, 3, 3, 1]


def test_a_negative_number_of_resamples_is_refused():
    with pytest.raises(InvalidParameterError, match="n_bootstrap must be 0 or more; got -1"):
        bootstrap_patients(mean_of(np.ones(3)), np.arange(3), -1)


def test_the_interval_cuts_equal_tails_and_leaves_undefined_resamples_out():
    values = np.append(np.linspace(0, 1, 101), [np.nan] * 9)
    assert interval(values, 0.9) == pytest.approx((0.05, 0.95))


def test_nothing_defined_has_neither_interval_nor_p():
    nothing = np.full(5, np.nan)
    assert np.isnan(interval(nothing)).all()
    assert np.isnan(p_value(nothing))


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_outside_of_0_to_1_is_refused(confidence):
    with pytest.raises(InvalidParameterError, match=f"between 0 and 1; got {confidence}"):
        interval(np.ones(3), confidence)


def test_p_is_small_only_when_nearly_all_differences_have_one_sign():
    differences = np.arange(1, 1000) / 1000
    assert p_value(differences) == pytest.approx(0.002)
    assert p_value(-differences) == p_value(differences)
    assert p_value(differences - 0.5) == pytest.approx(1.0, abs=0.01)


def test_p_of_no_difference_at_all_is_one():
    assert p_value(np.zeros(100)) == 1.0
