"""Which images are held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.classifiers.holdout import hold_out, worst_group_accuracy


@settings(max_examples=60, deadline=None)
@given(
    strata=st.lists(st.integers(0, 3), min_size=2, max_size=60),
    n_patients=st.integers(1, 60),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_a_patient_is_never_divided(strata: list[int], n_patients: int, fraction: float, seed: int) -> None:
    rng = np.random.RandomState(seed)
    patients = rng.randint(n_patients, size=len(strata)).astype(str)
    held_out = hold_out(np.array(strata), patients, fraction, rng)
    assert not set(patients[held_out]) & set(patients[~held_out])


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_every_stratum_gives_its_share(fraction: float) -> None:
    strata = np.repeat([0, 1, 2], [100, 50, 10])
    held_out = hold_out(strata, None, fraction, np.random.RandomState(0))
    assert np.bincount(strata[held_out]).tolist() == [round(fraction * n) for n in (100, 50, 10)]


def test_a_stratum_of_two_gives_one_and_of_one_none() -> None:
    strata = np.array([0, 0, 1, 2, 2, 2])
    held_out = hold_out(strata, None, 0.01, np.random.RandomState(0))
    assert np.bincount(strata[held_out], minlength=3).tolist() == [1, 0, 1]


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_stratum_is_never_held_out_whole(n: int) -> None:
    held_out = hold_out(np.zeros(n), None, 0.99, np.random.RandomState(0))
    assert held_out.sum() == n - 1


def test_a_seed_repeats_the_choice() -> None:
    strata = np.arange(40) % 2
    first, again, other = (hold_out(strata, None, 0.3, np.random.RandomState(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_worst_group_counts() -> None:
    targets, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 1, 0, 0])
    assert worst_group_accuracy(targets, predicted, targets) == pytest.approx(1 / 3)
    assert worst_group_accuracy(targets, predicted, np.array([7, 7, 7, 9, 9])) == 0
