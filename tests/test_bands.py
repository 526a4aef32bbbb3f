"""MultiBand: energies reached, contrast brought back scale by scale, masks, sizes and odd images."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.harmonizers.bands import MultiBand, band_sigmas, energy_gains, normalize_energies
from xray_harmonize.harmonizers.gaussian_bands import band_energies, join_bands, split_bands
from xray_harmonize.images import ImageSet


def body(height: int = 96, width: int = 96, seed: int = 0, contrast: float = 0.3) -> np.ndarray:
    """Structure on every scale, around 0.5, which differs from seed to seed."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height) * height, np.fft.rfftfreq(width) * width
    frequency = np.hypot(rows[:, None], columns)
    noise = np.fft.rfft2(rng.standard_normal((height, width))) / np.maximum(frequency, 1) ** 1.3
    texture = np.fft.irfft2(noise, s=(height, width))
    texture /= np.abs(texture).max()
    ramp = np.linspace(-0.4, 0.4, width) * rng.choice([-1, 1])
    return (0.5 + contrast * (texture + ramp) / 1.4).astype(np.float32)


def energies_of(image: np.ndarray, n_bands: int = 5, base_sigma: float = 1 / 128) -> np.ndarray:
    return band_energies(split_bands(image, band_sigmas(image.shape, n_bands, base_sigma)))


@pytest.mark.parametrize("tolerance", [0.1, 0.02])
def test_energies_of_the_reference_are_reached(tolerance: float) -> None:
    references = [body(seed=seed) for seed in range(4)]
    harmonizer = MultiBand(tolerance=tolerance, max_iter=100).fit(references)
    np.testing.assert_allclose(
        harmonizer.reference_energies_, np.mean([energies_of(x) for x in references], axis=0), rtol=1e-6
    )
    image = body(seed=9) ** 2 * 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = harmonizer.transform([image])[0]
    assert harmonizer.clipped_fraction([image])[0] == 0
    np.testing.assert_allclose(energies_of(result), harmonizer.reference_energies_, rtol=tolerance)
    assert result.mean() == pytest.approx(np.mean(references), abs=1e-5)


def test_band_scaled_image_comes_back() -> None:
    image = body()
    bands = split_bands(image, band_sigmas(image.shape, 5, 1 / 128))
    scaled = join_bands(bands, np.array([1.0, 2.0, 1.5, 0.7, 0.6, 0.8]), level=float(image.mean()))
    result = MultiBand(tolerance=0.01, max_iter=100).fit([image]).transform([scaled])[0]
    assert np.sqrt(np.mean((result - image) ** 2)) < 0.2 * np.sqrt(np.mean((scaled - image) ** 2))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 50),
    slope=st.floats(0.2, 1.5),
    level=st.floats(0.2, 0.8),
    height=st.integers(20, 90),
    width=st.integers(20, 90),
)
def test_affine_tone_curve_is_undone(seed: int, slope: float, level: float, height: int, width: int) -> None:
    image = body(height, width, seed)
    moved = (slope * (image - 0.5) + level).astype(np.float32)
    assume(moved.min() >= 0 and moved.max() <= 1)
    result = MultiBand(tolerance=1e-4).fit([image]).transform([moved])[0]
    np.testing.assert_allclose(result, image, atol=1e-3)


def test_affine_tone_curve_of_a_scanner_is_undone_and_bodies_stay_different() -> None:
    bodies = [body(seed=seed, contrast=0.1 + 0.1 * seed) for seed in range(4)]
    moved = [np.float32(0.2) + np.float32(0.5) * x for x in bodies]
    harmonizer = MultiBand("A", "scanner", tolerance=1e-4).fit([*bodies, *moved], scanner=["A"] * 4 + ["B"] * 4)
    for result, truth in zip(harmonizer.transform(moved, scanner=["B"] * 4), bodies, strict=True):
        np.testing.assert_allclose(result, truth, atol=1e-3)


def test_reference_alone_comes_back_as_it_was() -> None:
    image = body(70, 101)
    np.testing.assert_allclose(MultiBand().fit([image]).transform([image])[0], image, atol=1e-6)


def test_gains_are_told_and_bounded() -> None:
    weak = 0.5 + 0.05 * (body() - 0.5)
    strong = MultiBand(max_gain=3).fit([body()])
    np.testing.assert_allclose(strong.band_gains([weak, body()]), [[3] * 6, [1] * 6], rtol=1e-3)
    np.testing.assert_allclose(strong.transform([weak])[0] - 0.5, 3 * (weak - 0.5), atol=0.01)
    assert MultiBand().fit([weak]).band_gains([body()]).min() == pytest.approx(1 / 8)


def test_warning_tells_when_the_rounds_do_not_suffice() -> None:
    references = [body(seed=seed) for seed in range(3)]
    harmonizer = MultiBand(tolerance=1e-4, max_iter=1).fit(references)
    with pytest.warns(
        XRayHarmonizeWarning, match="did not reach the reference's band energies within 0.0001 in 1 rounds"
    ):
        harmonizer.transform([body(seed=7)])


def test_same_body_on_more_pixels_has_nothing_to_change() -> None:
    small = body(128, 128)
    large = np.kron(small, np.ones((4, 4), np.float32))
    for reference, image in ((small, large), (large, small)):
        result = MultiBand(base_sigma=1 / 32, n_bands=4).fit([reference]).transform([image])[0]
        np.testing.assert_allclose(result, image, atol=0.02)


# -- masks and foreground ---------------------------------------------------------------------------------------------


def masked(value: float) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((96, 96), dtype=bool)
    mask[10:90, 20:80] = True
    return np.where(mask, body(), np.float32(value)), mask


def test_what_the_mask_leaves_out_changes_nothing_inside() -> None:
    harmonizer = MultiBand().fit([body(seed=1), body(seed=2, contrast=0.5)])
    mask = masked(0)[1]
    results = [harmonizer.transform(ImageSet([masked(v)[0]], mask=[mask]))[0] for v in (0.0, 0.4, 1.0)]
    for other in results[1:]:
        np.testing.assert_allclose(results[0][mask], other[mask], atol=1e-6)
    assert np.ptp(results[1][:10]) < 0.2


def test_masked_reference_is_its_own_inside() -> None:
    image, mask = masked(1.0)
    X = ImageSet([image], mask=[mask])
    np.testing.assert_allclose(MultiBand().fit(X).transform(X)[0], image, atol=1e-6)


@pytest.mark.parametrize("foreground", ["nonzero", "otsu", 0.1])
def test_energy_of_the_foreground_does_not_count_the_air(foreground: str | float) -> None:
    image, mask = masked(0.0)
    for x in (image, (image * 65535).astype(np.uint16)):
        by_level = MultiBand(foreground=foreground, base_sigma=1 / 96, n_bands=3).fit([x])
        everything = MultiBand(base_sigma=1 / 96, n_bands=3).fit([x])
        assert by_level.reference_level_ == pytest.approx(image[mask].mean(), abs=1e-4)
        assert by_level.reference_energies_[-1] < 0.7 * everything.reference_energies_[-1]


def test_foreground_and_mask_count_together() -> None:
    image, mask = masked(0.0)
    image[:, :50] = 0
    X = ImageSet([image], mask=[mask])
    harmonizer = MultiBand(foreground="nonzero").fit(X)
    assert harmonizer.reference_level_ == pytest.approx(image[mask & (image > 0)].mean(), abs=1e-5)


@pytest.mark.parametrize("foreground", ["all", "nonzero"])
def test_empty_mask_is_refused_by_the_name_of_the_image(foreground: str) -> None:
    X = ImageSet([body()], mask=[np.zeros((96, 96), dtype=bool)])
    with pytest.raises(InvalidImageError, match=r"Image 0: .*the mask is empty"):
        MultiBand(foreground=foreground).fit([body()]).transform(X)


# -- odd images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("scope", ["image", "scanner", "mixed"])
def test_constant_image_goes_to_the_level_of_the_reference(value: float, scope: str) -> None:
    constant = np.full((40, 50), value, np.float32)
    harmonizer = MultiBand("A", scope).fit([body(), constant], scanner=["A", "B"])
    result = harmonizer.transform([constant], scanner=["B"])[0]
    np.testing.assert_allclose(result, body().mean(), atol=1e-5)


def test_constant_reference_is_finite() -> None:
    result = MultiBand().fit([np.full((40, 50), 0.3, np.float32)]).transform([body()])[0]
    assert np.isfinite(result).all()
    assert result.mean() == pytest.approx(0.3, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (2, 3)])
def test_narrow_images_are_one_residual(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).uniform(0.4, 0.6, shape).astype(np.float32)
    result = MultiBand(max_gain=2).fit([body()]).transform([image])[0]
    assert result.shape == shape
    assert result.mean() == pytest.approx(body().mean(), abs=1e-5)


def test_nan_is_refused() -> None:
    image = body()
    image[3, 3] = np.nan
    with pytest.raises(InvalidImageError, match="Image 0 holds NaN"):
        MultiBand().fit([body()]).transform([image])


def test_input_is_left_alone_and_output_is_new() -> None:
    image = body(70, 50)
    before = image.copy()
    image.setflags(write=False)
    for X in (ImageSet([image]), ImageSet([image], mask=[image > 0.3])):
        result = MultiBand().fit([image]).transform(X)[0]
        assert not np.shares_memory(result, image)
        assert result.dtype == np.float32
    np.testing.assert_array_equal(image, before)


# -- scanners ---------------------------------------------------------------------------------------------------------


def test_mixed_scope_runs_from_scanner_to_image() -> None:
    images = [body(seed=seed, contrast=0.2 + 0.05 * seed) for seed in range(6)]
    X = ImageSet(images, scanner=["A"] * 3 + ["B"] * 3)
    results = {
        (scope, weight): np.stack(list(MultiBand("A", scope, image_weight=weight).fit(X).transform(X)))
        for scope, weight in [("image", 0.5), ("scanner", 0.5), ("mixed", 0.0), ("mixed", 0.5), ("mixed", 1.0)]
    }
    np.testing.assert_allclose(results["mixed", 1.0], results["image", 0.5], atol=1e-6)
    np.testing.assert_allclose(results["mixed", 0.0], results["scanner", 0.5], atol=1e-6)
    assert np.abs(results["mixed", 0.5] - results["scanner", 0.5]).max() > 1e-3


def test_adapted_scanner_is_as_if_it_had_been_there() -> None:
    images = [body(seed=seed, contrast=0.2 + 0.05 * seed) for seed in range(6)]
    whole = MultiBand("A", "scanner").fit(images, scanner=["A"] * 3 + ["B"] * 3)
    adapted = MultiBand("A", "scanner").fit(images[:3], scanner="A").adapt(images[3:], scanner="B")
    for one, other in zip(
        adapted.transform(images[3:], scanner="B"), whole.transform(images[3:], scanner="B"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_chunks_give_exactly_what_fit_gives() -> None:
    images = [body(40 + 9 * seed, 90 - 5 * seed, seed) for seed in range(6)]
    scanner = ["A", "B", "A", "A", "B", "B"]
    whole = MultiBand("A", "scanner").fit(images, scanner=scanner)
    chunked = MultiBand("A", "scanner")
    for part in (slice(0, 2), slice(2, 3), slice(3, 6)):
        chunked.partial_fit(images[part], scanner=scanner[part])
    for one, other in zip(
        whole.transform(images, scanner=scanner), chunked.transform(images, scanner=scanner), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_order_of_the_training_images_does_not_matter() -> None:
    images = [body(40 + 9 * seed, 90 - 5 * seed, seed) for seed in range(6)]
    one, other = MultiBand().fit(images), MultiBand().fit(images[::-1])
    np.testing.assert_allclose(one.transform(images[:1])[0], other.transform(images[:1])[0], atol=1e-6)


# -- the equations ----------------------------------------------------------------------------------------------------


def test_widths_double_from_a_fraction_of_the_shorter_side() -> None:
    np.testing.assert_allclose(band_sigmas((256, 300), 4, 1 / 128), [2, 4, 8, 16])


def test_empty_band_is_left_alone() -> None:
    np.testing.assert_array_equal(energy_gains(np.array([0.5, 0.0, 1e-7]), np.array([0.1, 0.1, 0.0])), [0.2, 1, 1])


def test_normalized_energies_without_a_mask_keep_the_mean() -> None:
    image = body()
    sigmas = band_sigmas(image.shape, 3, 1 / 64)
    result, gains, converged = normalize_energies(image, sigmas, 2 * energies_of(image, 3, 1 / 64), tolerance=1e-3)
    assert converged
    np.testing.assert_allclose(gains, 2, rtol=1e-3)
    np.testing.assert_allclose(result - image.mean(), 2 * (image - image.mean()), atol=2e-3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_bands": 0}, "n_bands must be a whole number of at least 1; got 0"),
        ({"n_bands": 2.5}, "n_bands must be a whole number of at least 1; got 2.5"),
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1; got 0"),
        ({"base_sigma": 0}, "The widest Gaussian, .* got base_sigma=0 and n_bands=5"),
        ({"base_sigma": 0.05, "n_bands": 5}, "must lie between 0 and half of the shorter side; got base_sigma=0.05"),
        ({"tolerance": 0}, "tolerance must be above 0; got 0"),
        ({"max_gain": 0.5}, "max_gain must be at least 1; got 0.5"),
        ({"foreground": "lung"}, "foreground must be one of 'all', 'nonzero', 'otsu'"),
        ({"image_weight": 2}, r"image_weight must lie in \[0, 1\]; got 2"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        MultiBand(**parameters).fit([body()])
