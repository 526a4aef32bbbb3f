"""Coarse quantile functions of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xray_harmonize.harmonizers.sketches import (
    N_PROFILE,
    SKETCH_PROBABILITIES,
    pooled,
    profile,
    profile_slopes,
    sketch,
)
from xray_harmonize.levels import histogram

sketches = hnp.arrays("float64", (3, SKETCH_PROBABILITIES.size), elements=st.floats(0, 1)).map(np.sort)


def of(pixels: np.ndarray) -> np.ndarray:
    return sketch(histogram(pixels[None].astype(np.float32)))[None]


@given(hnp.arrays("int64", st.integers(2, 20), elements=st.integers(0, 50)).filter(np.any))
def test_a_sketch_rises_from_the_darkest_to_the_brightest_pixel_through_levels_there_are(counts: np.ndarray) -> None:
    s = sketch(counts)
    present = np.flatnonzero(counts) / (counts.size - 1)
    assert np.all(np.diff(s) >= 0)
    assert np.isin(s, present).all()
    assert s[[0, -1]].tolist() == present[[0, -1]].tolist()


def test_a_level_takes_as_much_of_a_sketch_as_it_has_pixels() -> None:
    s = sketch(np.array([3, 0, 1]))
    assert s[SKETCH_PROBABILITIES <= 0.75].tolist() == [0] * int((SKETCH_PROBABILITIES <= 0.75).sum())
    assert s[SKETCH_PROBABILITIES > 0.75].tolist() == [1] * int((SKETCH_PROBABILITIES > 0.75).sum())


@given(sketches)
def test_a_profile_is_finite_and_rises_whatever_the_image(s: np.ndarray) -> None:
    f = profile(s)
    assert f.shape == (3, N_PROFILE)
    assert np.isfinite(f).all()
    assert np.all(np.diff(f, axis=1) >= -1e-9)


@pytest.mark.parametrize("grey", [0.0, 0.1, 0.5, 1.0])
def test_a_constant_image_has_a_constant_profile(grey: float) -> None:
    assert np.ptp(profile(np.full((1, SKETCH_PROBABILITIES.size), grey))) < 1e-9


def test_how_much_air_there_is_does_not_show_in_the_profile() -> None:
    body = np.linspace(0.2, 0.9, 4000)
    little, much = (np.concatenate([np.zeros(n), body]) for n in (1000, 12000))
    np.testing.assert_allclose(profile(of(little)), profile(of(much)), atol=0.1)


def test_each_image_has_a_profile_and_slopes_of_its_own() -> None:
    rng = np.random.default_rng(0)
    s = np.sort(rng.random((4, SKETCH_PROBABILITIES.size)), axis=1)
    for i in range(4):
        np.testing.assert_array_equal(profile(s[[i]]), profile(s)[[i]])
        np.testing.assert_array_equal(profile_slopes(s[[i]], 3), profile_slopes(s, 3)[[i]])


def test_no_exposure_shows_on_a_black_image() -> None:
    assert not profile_slopes(np.zeros((1, SKETCH_PROBABILITIES.size)), 6).any()


def test_images_that_are_all_alike_pool_to_what_each_of_them_is() -> None:
    one = of(np.random.default_rng(0).beta(2, 3, 5000))
    np.testing.assert_allclose(pooled([np.repeat(one, 3, axis=0)]), one[0], atol=0.02)


def test_pooling_knows_no_order_and_weighs_groups_alike() -> None:
    rng = np.random.default_rng(0)
    first, second = (np.sort(rng.random((n, SKETCH_PROBABILITIES.size)) * n / 5, axis=1) for n in (5, 2))
    expected = pooled([first, second])
    np.testing.assert_allclose(pooled([second[::-1], first[::-1]]), expected, atol=1e-12)
    np.testing.assert_allclose(pooled([first, np.repeat(second, 4, axis=0)]), expected, atol=0.01)
