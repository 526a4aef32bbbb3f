"""What harmonizing does to the content of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize import ImageSet, ToneCurve
from xray_harmonize.evaluation.content import (
    content_measures,
    curve_checks,
    edge_agreement,
    psnr,
    rank_agreement,
    ssim,
)
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError


@pytest.fixture
def image():
    rows, columns = np.mgrid[0:40, 0:30] / 40
    texture = np.random.default_rng(2).random((40, 30))
    return (0.2 + 0.4 * np.sin(3 * rows) * columns + 0.05 * texture).clip(0, 1)


def test_psnr_is_ten_times_the_logarithm_of_range_over_error():
    assert psnr(np.zeros((3, 3)), np.full((3, 3), 0.01)) == pytest.approx(40)
    assert psnr(np.zeros((3, 3)), np.full((3, 3), 655.35), data_range=65535) == pytest.approx(40)


def test_equal_images_have_infinite_psnr_and_full_ssim(image):
    assert psnr(image, image) == np.inf
    assert ssim(image, image) == pytest.approx(1)


def test_what_the_mask_leaves_out_does_not_count(image):
    mask = np.ones(image.shape, dtype=bool)
    mask[:20] = False
    changed = image.copy()
    changed[:8] = 1  # farther from the mask than the window of SSIM reaches
    assert psnr(changed, image, mask) == np.inf
    assert ssim(changed, image, mask) == pytest.approx(1)
    assert edge_agreement(changed, image, mask) == pytest.approx(1)
    assert rank_agreement(changed, image, mask) == pytest.approx(1)


def test_ssim_falls_with_noise(image):
    noise = np.random.default_rng(0).normal(size=image.shape)
    assert 1 > ssim(image + 0.02 * noise, image) > ssim(image + 0.2 * noise, image)


@given(st.floats(0.3, 3))
def test_rising_curve_keeps_edges_and_order(gamma):
    image = np.random.default_rng(1).random((20, 20))
    assert edge_agreement(image, image**gamma) > 0.8
    assert rank_agreement(image, image**gamma) == pytest.approx(1)


def test_inverted_image_has_opposite_edges_and_order(image):
    assert edge_agreement(image, 1 - image) == pytest.approx(-1)
    assert rank_agreement(image, 1 - image) == pytest.approx(-1)


def test_structure_that_was_not_there_counts_against_edges(image):
    invented = image.copy()
    invented[10:20, 10:20] += 0.5
    assert edge_agreement(image, invented) < edge_agreement(image, image**0.5) - 0.1


def test_edges_of_flat_images(image):
    flat = np.zeros(image.shape)
    assert edge_agreement(flat, flat + 0.5) == 1
    assert edge_agreement(flat, image) == 0


def test_constant_image_has_no_order(image):
    assert np.isnan(rank_agreement(image, np.ones(image.shape)))


def test_curves_are_looked_at():
    curves = [ToneCurve.identity(), ToneCurve([0, 0.25, 0.5, 1], [0.1, 0.1, 0.9, 0.9])]
    table = curve_checks(curves)
    assert table["monotone"].all()
    assert table["max_slope"].tolist() == pytest.approx([1, 3.2])
    assert table["lost"].tolist() == pytest.approx([0, 0.75], abs=0.01)
    assert table.loc[1, ["lowest", "highest"]].tolist() == [0.1, 0.9]


def test_no_curve_gives_an_empty_table():
    assert curve_checks([]).empty


def test_measures_are_means_by_scanner_with_intervals(image):
    noise = np.random.default_rng(0).normal(scale=0.01, size=(6, *image.shape))
    before = ImageSet(np.stack([image] * 6).astype("float32"), scanner=["A"] * 3 + ["B"] * 3, patient=list("ppqrst"))
    after = before.map(lambda radiograph: np.sqrt(radiograph.pixels))
    table = content_measures(before, after, ImageSet((image + noise).clip(0, 1).astype("float32")), n_bootstrap=50)
    assert set(table["scanner"]) == {"all", "A", "B"}
    rows = table.set_index(["measure", "scanner"])
    assert rows.loc[("rank agreement", "all"), "value"] == pytest.approx(1, abs=1e-4)
    assert rows.loc[("PSNR", "A"), "better"] == "higher"
    assert rows.loc[("PSNR to the input", "B"), "better"] == ""
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    expected = np.mean([psnr(after[i], (image + noise[i]).clip(0, 1)) for i in range(3)])
    assert rows.loc[("PSNR", "A"), "value"] == pytest.approx(expected, abs=0.01)


def test_images_that_did_not_change_have_a_finite_mean(image):
    X = ImageSet(np.stack([image] * 2).astype("float32"))
    table = content_measures(X, X, n_bootstrap=0).set_index("measure")
    assert table.loc["PSNR to the input", "value"] == 100


def test_scores_without_a_range_are_compared_as_they_are(image):
    X = ImageSet(np.stack([image] * 2).astype("float32"))
    scores = ImageSet([image * 9 - 4, image * 9 - 4])
    assert content_measures(X, scores, n_bootstrap=0).set_index("measure").loc["rank agreement", "value"] > 0.999


def test_images_too_small_for_ssim_have_none():
    X = ImageSet(np.random.default_rng(0).random((2, 8, 8)))
    table = content_measures(X, X, n_bootstrap=5).set_index("measure")
    assert np.isnan(table.loc["SSIM to the input", "value"])


def test_wrong_inputs_are_named(image):
    with pytest.raises(InvalidImageError, match=r"two images of the same shape .* got \(40, 30\) and \(4, 4\)"):
        psnr(image, np.zeros((4, 4)))
    with pytest.raises(InvalidImageError, match=r"a mask of shape .* with at least one pixel that counts; got one of"):
        psnr(image, image, np.zeros(image.shape, dtype=bool))
    with pytest.raises(InvalidImageError, match=r"SSIM needs at least 11 pixels a side; got .* \(5, 5\)"):
        ssim(np.zeros((5, 5)), np.zeros((5, 5)))
    X = ImageSet([image, image])
    with pytest.raises(InvalidParameterError, match=r"the same images before and after .* got \[2, 1\]"):
        content_measures(X, X[:1])
    with pytest.raises(InvalidImageError, match=r"Image 0 has shape \(40, 30\) before and \(20, 30\) after"):
        content_measures(X, ImageSet([image[:20], image]))
