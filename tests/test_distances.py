"""Distances between scanners: of features, and of grey levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, wasserstein_distance

from xray_harmonize import ImageSet
from xray_harmonize.evaluation.distances import (
    cumulative_histograms,
    fid,
    histogram_wasserstein,
    kid,
    mmd,
    shifted_interval,
)
from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    XRayHarmonizeWarning,
)


def normal(n, d=4, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def test_mmd_grows_with_the_gap():
    values = [mmd(normal(60), normal(60, seed=1, shift=gap), n_permutations=99, random_state=0) for gap in (0, 0.5, 2)]
    assert values[0].mmd2 < values[1].mmd2 < values[2].mmd2
    assert values[0].p_value > 0.05
    assert values[2].p_value == 0.01


def test_mmd_finds_a_difference_that_no_mean_shows():
    assert mmd(normal(80), 2 * normal(80, seed=1), n_permutations=99, random_state=0).p_value <= 0.02


def test_mmd_is_not_negative_only_because_it_is_biased():
    values = [mmd(normal(20, seed=2 * s), normal(20, seed=2 * s + 1), n_permutations=0).mmd2 for s in range(60)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
    assert min(values) < 0


def test_mmd_raises_an_alarm_as_rarely_as_stated():
    p = [
        mmd(normal(20, seed=2 * seed), normal(35, seed=2 * seed + 1), n_permutations=99, random_state=seed).p_value
        for seed in range(40)
    ]
    assert np.sum(np.array(p) <= 0.05) <= binom.ppf(0.999, 40, 0.05)


def test_mmd_raises_no_alarm_because_images_of_a_patient_are_alike():
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        patient = np.repeat(np.arange(24), rng.integers(1, 6, size=24))
        features = 3 * rng.normal(size=(24, 3))[patient] + rng.normal(size=(len(patient), 3)) / 2
        is_a = (rng.permutation(24) < 12)[patient]
        people = np.concatenate([patient[is_a], patient[~is_a]])
        result = mmd(features[is_a], features[~is_a], patient=people, n_permutations=99, random_state=seed)
        alarms += result.p_value <= 0.05
    assert alarms <= binom.ppf(0.999, 40, 0.05)


def test_mmd_without_permutations_has_no_p():
    assert np.isnan(mmd(normal(5), normal(5, seed=1), n_permutations=0).p_value)


def test_sets_must_have_the_same_features():
    with pytest.raises(InvalidParameterError, match="a has 4 columns and b 3"):
        mmd(normal(5), normal(5, d=3))


def test_a_side_of_one_patient_is_refused():
    with pytest.raises(NotEnoughImagesError, match="at least two patients on each side; b holds 1"):
        kid(normal(3), normal(2), patient=[0, 1, 2, 3, 3])


def test_kid_is_about_zero_of_the_same_and_grows_with_the_gap():
    means = [kid(normal(80), normal(80, seed=1, shift=gap), random_state=0).mean for gap in (0, 0.5, 1)]
    assert abs(means[0]) < means[1] / 3 < means[2] / 6


def test_kid_does_not_depend_on_how_many_images_there_are():
    few = [kid(normal(12, seed=2 * s), normal(12, seed=2 * s + 1), n_subsets=5, random_state=0).mean for s in range(80)]
    assert abs(np.mean(few)) < 3 * np.std(few) / np.sqrt(80)


def test_kid_of_whole_sets_has_no_spread():
    result = kid(normal(20), normal(20, seed=1), subset_size=20, n_subsets=3, random_state=0)
    assert result.std == pytest.approx(0, abs=1e-12)


def test_the_same_random_state_gives_the_same_kid():
    assert kid(normal(20), normal(20, seed=1), random_state=1) == kid(normal(20), normal(20, seed=1), random_state=1)


@pytest.mark.parametrize("size", [1, 21])
def test_a_subset_must_fit_both_sets(size):
    with pytest.raises(InvalidParameterError, match=f"between 2 and 20, the images of the smaller set; got {size}"):
        kid(normal(20), normal(30), subset_size=size)


def test_kid_needs_a_subset():
    with pytest.raises(InvalidParameterError, match="n_subsets must be at least 1; got 0"):
        kid(normal(20), normal(30), n_subsets=0)


@pytest.mark.filterwarnings("ignore:A Fréchet distance")
def test_fid_is_the_distance_of_normal_distributions():
    a = normal(300, d=1)
    expected = 4 + a.var(ddof=1) * (3 - 1) ** 2
    assert fid(a, 3 * (a - a.mean()) + a.mean() + 2) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:A Fréchet distance")
def test_fid_of_a_set_with_itself_is_nothing_even_with_more_features_than_images():
    assert fid(normal(10, d=30), normal(10, d=30)) == pytest.approx(0, abs=1e-5)


@pytest.mark.filterwarnings("ignore:A Fréchet distance")
def test_fid_does_not_depend_on_the_order_or_a_rotation():
    a, b = normal(50), normal(60, seed=1, shift=1) * [1, 2, 3, 4]
    rotation = np.linalg.qr(normal(4, seed=2))[0]
    assert fid(a, b) == pytest.approx(fid(b, a))
    assert fid(a, b) == pytest.approx(fid(a @ rotation, b @ rotation))


def test_fid_warns_of_few_images():
    with pytest.warns(
        XRayHarmonizeWarning, match="of 4 features from 50 images is biased upwards; it wants at least 20"
    ):
        fid(normal(50), normal(60, seed=1))


def test_fid_warns_of_fewer_images_than_features(monkeypatch):
    monkeypatch.setattr("xray_harmonize.evaluation.distances.ENOUGH_FOR_FID", 20)
    with pytest.warns(
        XRayHarmonizeWarning, match="of 40 features from 30 images is biased upwards; it wants at least 40"
    ):
        fid(normal(30, d=40), normal(30, d=40, seed=1))
    fid(normal(30, d=4), normal(30, d=4, seed=1))


def images_of(*sets, **options):
    pixels = [image for images in sets for image in images]
    return ImageSet(pixels, scanner=np.repeat(list("abc")[: len(sets)], [len(images) for images in sets]), **options)


@given(st.integers(0, 1000), st.sampled_from([2, 8, 12, 16]))
def test_grey_levels_are_as_far_apart_as_scipy_says(seed, bits):
    rng = np.random.default_rng(seed)
    top = 2**bits - 1
    first = rng.integers(0, top, size=(2, 6, 5), endpoint=True).astype("uint16")
    second = (rng.beta(2, 5, size=(3, 6, 5)) * top).astype("uint16")
    table = histogram_wasserstein(images_of(first, second, bits_stored=bits), n_permutations=0, n_bootstrap=0)
    expected = wasserstein_distance(first.ravel() / top, second.ravel() / top)
    # Averaged in 1,024 cells: where the curves cross inside a cell, at most its share is lost.
    assert table["wasserstein"].item() == pytest.approx(expected, abs=1e-3)


def test_bits_do_not_matter():
    levels = np.random.default_rng(0).integers(0, 255, size=(4, 8, 8), endpoint=True)
    eight, sixteen = levels.astype("uint8"), (levels * 257).astype("uint16")
    table = histogram_wasserstein(images_of(list(eight), list(sixteen)), n_permutations=0, n_bootstrap=0)
    assert table["wasserstein"].item() < 1e-3


def test_pixels_outside_the_mask_do_not_count():
    images = np.full((4, 6, 6), 0.5)
    mask = np.ones((4, 6, 6), dtype=bool)
    images[2:, :3], mask[2:, :3] = 1.0, False
    inside = histogram_wasserstein(images_of(images[:2], images[2:], mask=mask), n_bootstrap=0, n_permutations=0)
    assert inside["wasserstein"].item() == 0
    everything = histogram_wasserstein(images_of(images[:2], images[2:]), n_bootstrap=0, n_permutations=0)
    assert everything["wasserstein"].item() == pytest.approx(0.25, abs=1e-3)


def test_a_large_image_counts_as_much_as_a_small_one():
    small, large = np.full((2, 2), 0.25), np.full((20, 20), 0.75)
    table = histogram_wasserstein(images_of([small, large], [small, small]), n_bootstrap=0, n_permutations=0)
    assert table["wasserstein"].item() == pytest.approx(0.25, abs=1e-3)


def test_every_pair_of_scanners_has_a_row_with_interval_p_and_null():
    rng = np.random.default_rng(0)
    sets = [rng.uniform(0, 1, size=(12, 8, 8)) ** gamma for gamma in (1.0, 1.0, 3.0)]
    table = histogram_wasserstein(images_of(*sets), random_state=0).set_index(["scanner_a", "scanner_b"])
    assert list(table.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert table.loc[("a", "b"), "p_value"] > 0.05
    assert table.loc[("a", "c"), "p_value"] < 0.01
    assert (table["low"] <= table["wasserstein"]).all()
    assert (table["wasserstein"] <= table["high"]).all()
    assert table.loc[("a", "b"), "wasserstein"] < 2 * table.loc[("a", "b"), "null"]


def test_grey_levels_raise_an_alarm_as_rarely_as_stated():
    alarms = 0
    for seed in range(40):
        gammas = np.exp(np.random.default_rng(seed).normal(size=24) / 3)
        images = np.linspace(0, 1, 64).reshape(8, 8) ** gammas[:, np.newaxis, np.newaxis]
        table = histogram_wasserstein(
            images_of(images[:9], images[9:]), n_permutations=99, n_bootstrap=0, random_state=seed
        )
        alarms += table["p_value"].item() <= 0.05
    assert alarms <= binom.ppf(0.999, 40, 0.05)


def test_scanners_are_permuted_by_patient():
    images = np.repeat(np.random.default_rng(0).uniform(size=(4, 8, 8)) ** np.array([1, 1, 3, 3])[:, None, None], 5, 0)
    X = images_of(images[:10], images[10:], patient=np.repeat(list("wxyz"), 5))
    # Four patients can be dealt in six ways, two of which are this one.
    assert histogram_wasserstein(X, n_permutations=300, random_state=0)["p_value"].item() > 0.25
    as_images = histogram_wasserstein(X, patient=np.arange(20), n_permutations=300, random_state=0)
    assert as_images["p_value"].item() < 0.01


def test_scanners_may_be_given_apart():
    table = histogram_wasserstein(np.zeros((4, 3, 3)), ["a", "b", "a", "b"], n_bootstrap=0, n_permutations=0)
    assert table["wasserstein"].item() == 0
    assert np.isnan(table["null"].item())


def test_scanners_that_nobody_gave_are_asked_for():
    with pytest.raises(MissingScannerError, match="scanner is None"):
        histogram_wasserstein(np.zeros((4, 3, 3)))


def test_an_empty_mask_is_named():
    X = ImageSet(np.zeros((2, 3, 3)), mask=np.array([np.ones((3, 3)), np.zeros((3, 3))]))
    with pytest.raises(InvalidImageError, match="Image 1 has no pixel inside its mask"):
        cumulative_histograms(X)


def test_the_interval_of_a_distance_is_never_negative_and_nan_without_resamples():
    low, high = shifted_interval(0.01, np.array([0.02, 0.03, 0.07]))
    assert low == 0
    assert high > 0.01
    assert np.isnan(shifted_interval(0.01, np.empty(0))).all()
