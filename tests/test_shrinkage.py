"""How much of an image's own tone is exposure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xray_harmonize import ToneCurve
from xray_harmonize.harmonizers.shrinkage import (
    MIN_IMAGES,
    N_FIELDS,
    Content,
    estimate_exposures,
    exposure_share,
    learn_content,
    learn_exposure,
    learn_tone,
    misfit_variance,
    scatter,
    shrunk_curve,
)
from xray_harmonize.harmonizers.sketches import SKETCH_PROBABILITIES, pooled, profile
from xray_harmonize.harmonizers.tone_flow import GRID, flow, row_by_row

UNIT = np.array([0.0, 1.0])
excesses = hnp.arrays("float64", N_FIELDS, elements=st.floats(0, 1e6))
numbers = st.integers(1, 1000)


def bodies(n: int, seed: int = 0) -> np.ndarray:
    """Give sketches of images that differ in how much air there is, and in brightness and spread of the body."""
    z = np.random.default_rng(seed).standard_normal((3, n, 1))
    air = 0.3 + 0.05 * z[0]
    rank = np.clip((SKETCH_PROBABILITIES - air) / (1 - air), 0, 1)
    body = 0.15 + (0.6 + 0.03 * z[1]) * rank ** np.exp(0.08 * z[2])
    return np.where(air < SKETCH_PROBABILITIES, body, 0)


def gammas(n: int, seed: int = 0) -> np.ndarray:
    return np.exp(0.4 * np.random.default_rng([seed, 7]).standard_normal((n, 1)))


def content(n: int = 60) -> Content:
    return learn_content([bodies(n, 1)], UNIT)


# -- the share that is exposure -------------------------------------------------------------------------------------


@given(excesses, numbers, numbers)
def test_a_share_lies_from_zero_to_one_and_is_zero_without_excess(excess: np.ndarray, n: int, m: int) -> None:
    share = exposure_share(excess, n, m)
    assert np.all((share >= 0) & (share < 1))
    assert not share[excess <= 1].any()
    assert min(n, m) >= MIN_IMAGES or not share.any()


@given(excesses, numbers, numbers)
def test_more_excess_and_more_images_never_make_a_share_smaller(excess: np.ndarray, n: int, m: int) -> None:
    share = exposure_share(excess, n, m)
    assert np.all(exposure_share(1.5 * excess, n, m) >= share)
    assert np.all(exposure_share(excess, 2 * n, 2 * m) >= share - 1e-12)


def test_of_many_images_the_share_is_the_best_linear_one() -> None:
    np.testing.assert_allclose(exposure_share(np.array([2.0, 5.0]), 10**6, 10**6), [0.5, 0.8], atol=0.01)


def test_curves_learned_from_more_images_are_less_off() -> None:
    assert misfit_variance(10, 60) > misfit_variance(60, 60) > misfit_variance(10**9, 10**9) > 0


# -- covariances ----------------------------------------------------------------------------------------------------


def test_scatter_of_ordinary_points_is_about_their_covariance_and_turns_with_them() -> None:
    points = np.random.default_rng(0).standard_normal((400, 3)) @ np.diag([1.0, 2.0, 0.5])
    mean, covariance = scatter(points)
    np.testing.assert_allclose(covariance, np.cov(points.T), atol=0.35)
    turn = np.array([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0], [0.5, 0.0, 3.0]])
    turned = scatter(points @ turn.T + 5)
    np.testing.assert_allclose(turned[0], turn @ mean + 5, atol=1e-9)
    np.testing.assert_allclose(turned[1], turn @ covariance @ turn.T, atol=1e-8)


def test_scatter_of_points_that_are_all_alike_is_zero() -> None:
    mean, covariance = scatter(np.ones((5, 2)))
    assert mean.tolist() == [1, 1]
    assert not covariance.any()


def test_the_estimator_gives_an_exposure_back_and_small_content_noise() -> None:
    learned = content()
    exposed = row_by_row(flow(np.tile([0.05, 0.0, 0.0], (60, 1))), bodies(60, 1))
    moved = (profile(exposed) - profile(bodies(60, 1))) @ learned.estimator.T
    np.testing.assert_allclose(moved.mean(axis=0), [0.05, 0, 0], atol=0.01)


def test_groups_of_the_reference_count_alike_and_around_their_own_mean() -> None:
    first, second = bodies(20, 1), row_by_row(flow(np.tile([0.1, 0.0, 0.0], (20, 1))), bodies(20, 2))
    once, again = learn_content([first, second], UNIT), learn_content([first, np.tile(second, (3, 1))], UNIT)
    np.testing.assert_allclose(np.diag(again.covariance) / np.diag(once.covariance), 1, atol=0.35)
    assert once.n_images == 39
    # A shift between groups is no content: taken as one group, the same images vary more.
    together = learn_content([np.concatenate([first, second])], UNIT)
    assert np.trace(together.covariance) > 0.99 * np.trace(once.covariance)


# -- exposure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 10, 20, 50])
def test_other_bodies_shown_alike_are_not_taken_for_exposure(n: int) -> None:
    for seed in range(5):
        exposure, curve = learn_exposure(bodies(n, 100 + seed), content())
        assert not exposure.share.any()
        np.testing.assert_array_equal(curve, GRID)
        assert not estimate_exposures(bodies(3, 5), exposure).any()


def test_exposure_that_varies_is_found_in_every_image() -> None:
    varying = bodies(60, 2) ** gammas(60)
    exposure, curve = learn_exposure(varying, content())
    assert exposure.share.max() > 0.7
    b = estimate_exposures(np.interp(varying, GRID, curve), exposure)
    # Larger gammas darken.
    assert np.corrcoef(b[:, 0], np.log(gammas(60)[:, 0]))[0, 1] < -0.9


def test_what_is_taken_off_brings_images_nearer_to_their_truth() -> None:
    truth, varying = bodies(60, 2), bodies(60, 2) ** gammas(60)
    exposure, curve = learn_exposure(varying, content())
    seen = np.interp(varying, GRID, curve)
    corrected = row_by_row(flow(-estimate_exposures(seen, exposure)), seen)
    assert np.abs(corrected - truth).mean() < 0.6 * np.abs(varying - truth).mean()
    assert np.abs(pooled([corrected]) - pooled([truth])).mean() < 0.02


@pytest.mark.parametrize("n_reference", [1, 2, MIN_IMAGES - 1])
def test_a_reference_of_few_images_says_nothing_about_content(n_reference: int) -> None:
    learned = learn_content([bodies(n_reference)], UNIT)
    exposure, _ = learn_exposure(bodies(60, 2) ** gammas(60), learned)
    assert not exposure.share.any()


def test_a_few_odd_images_do_not_make_exposure_of_content() -> None:
    odd = np.stack([np.zeros(SKETCH_PROBABILITIES.size), np.ones(SKETCH_PROBABILITIES.size)])
    exposure, _ = learn_exposure(np.concatenate([bodies(60, 2), odd]), content())
    assert not exposure.share.any()
    exposure, _ = learn_exposure(bodies(60, 2), learn_content([np.concatenate([bodies(60, 1), odd])], UNIT))
    assert not exposure.share.any()


def test_the_order_of_images_decides_nothing() -> None:
    order = np.random.default_rng(0).permutation(60)
    varying = bodies(60, 2) ** gammas(60)
    first, curve = learn_exposure(varying, content())
    second, other_curve = learn_exposure(varying[order], learn_content([bodies(60, 1)[order]], UNIT))
    np.testing.assert_allclose(curve, other_curve, atol=1e-9)
    np.testing.assert_allclose(
        estimate_exposures(bodies(5, 3), first), estimate_exposures(bodies(5, 3), second), atol=1e-9
    )


@pytest.mark.parametrize("grey", [0.0, 0.3, 1.0])
def test_no_image_is_corrected_without_bounds(grey: float) -> None:
    exposure, _ = learn_exposure(bodies(60, 2) ** gammas(60), content())
    b = estimate_exposures(np.full((1, SKETCH_PROBABILITIES.size), grey), exposure)
    assert np.isfinite(b).all()
    assert np.pi * np.abs(b).sum() <= 2.5 + 1e-9


@pytest.mark.parametrize("reference", [np.zeros((20, 137)), np.full((20, 137), 0.4), np.tile(bodies(1), (20, 1))])
def test_a_reference_whose_images_are_all_alike_has_a_defined_result(reference: np.ndarray) -> None:
    learned = learn_content([reference], UNIT)
    for sketches in (reference, bodies(20), np.zeros((20, 137))):
        exposure, curve = learn_exposure(sketches, learned)
        assert np.isfinite(estimate_exposures(sketches, exposure)).all()
        assert np.all(np.diff(curve) >= 0)


# -- curves of images -----------------------------------------------------------------------------------------------


def test_without_exposure_an_image_gets_its_scanners_curve() -> None:
    curve = ToneCurve(GRID, GRID**0.5)
    tone = learn_tone(curve, bodies(60, 2) ** 2, content())
    assert not tone["share"].any()
    np.testing.assert_allclose(shrunk_curve(tone, bodies(1)[0], UNIT).table(999), curve.table(999), atol=1e-12)


def test_darker_exposures_get_brighter_curves() -> None:
    tone = learn_tone(ToneCurve.identity(), bodies(60, 2) ** gammas(60), content())
    dark, bright = (shrunk_curve(tone, bodies(1, 9)[0] ** gamma, UNIT) for gamma in (1.6, 0.6))
    middle = np.linspace(0.2, 0.8, 9)
    assert np.all(dark(middle) > bright(middle) + 0.03)


def test_what_lies_outside_the_references_range_stays_where_the_scanners_curve_puts_it() -> None:
    limits = np.array([0.0, 0.5])
    reference, varying = bodies(60, 1) / 2, bodies(60, 2) ** gammas(60) / 2
    tone = learn_tone(ToneCurve.identity(), varying, learn_content([reference], limits))
    assert tone["share"].any()
    curve = shrunk_curve(tone, varying[0], limits)
    np.testing.assert_allclose(curve(np.array([0.5, 0.7, 1.0])), [0.5, 0.7, 1.0], atol=1e-9)
    assert np.all(np.diff(curve.table(4096)) >= 0)
