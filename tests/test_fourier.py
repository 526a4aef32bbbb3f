"""FourierSwap: the published formulas, and what they lack: sizes, masks, scanners, a bound to what is clipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn, idctn

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError, UnknownScannerError
from xray_harmonize.harmonizers.fourier import FourierSwap, bandwidth, swap_amplitude, taper
from xray_harmonize.harmonizers.partial_transform import add_low_frequencies, low_frequencies
from xray_harmonize.images import ImageSet


def body(height: int, width: int, seed: int = 0, contrast: float = 0.3) -> np.ndarray:
    """Shapes that differ from seed to seed, with an edge and noise, around 0.5."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    a, b, c = rng.uniform(1, 6, 3)
    image = np.sin(a * x + b) * np.cos(b * y + c) + 0.5 * (x > 0.3 + 0.1 * c / 6) + 0.2 * rng.standard_normal(x.size)
    return (0.5 + contrast * 0.5 * image / np.abs(image).max() + 0.02 * a / 6).astype(np.float32)


def plain_fda(source: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    """The published formulation, two whole transforms and one back, in double precision; not clipped."""
    spectrum = np.fft.fft2(source.astype(np.float64))
    amplitude = np.fft.fftshift(np.abs(spectrum))
    target_amplitude = np.fft.fftshift(np.abs(np.fft.fft2(target.astype(np.float64))))
    height, width = source.shape
    b = int(np.floor(min(height, width) * beta))
    window = np.s_[height // 2 - b : height // 2 + b + 1, width // 2 - b : width // 2 + b + 1]
    amplitude[window] = target_amplitude[window]
    return np.fft.ifft2(np.fft.ifftshift(amplitude) * np.exp(1j * np.angle(spectrum))).real


def fitted(reference: Any, **parameters: Any) -> FourierSwap:
    return FourierSwap(**parameters).fit([reference])


# -- the published formulas -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0, 0.01, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("shape", [(64, 64), (63, 63), (64, 81), (75, 48), (260, 250)])
def test_square_window_is_the_published_formula(shape: tuple[int, int], beta: float) -> None:
    source, target = body(*shape, seed=1, contrast=0.9), body(*shape, seed=2)
    expected = np.clip(plain_fda(source, target, beta), 0, 1)
    result = fitted(target, beta=beta).transform([source])[0]
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("block", [1, 3, 8])
def test_dct_is_the_published_formula(block: int) -> None:
    source, target = body(40, 31, seed=1), body(40, 31, seed=2)
    coefficients = dctn(source.astype(np.float64), norm="ortho")
    coefficients[:block, :block] = dctn(target.astype(np.float64), norm="ortho")[:block, :block]
    expected = np.clip(idctn(coefficients, norm="ortho"), 0, 1)
    result = fitted(target, mode="dct", block=block).transform([source])[0]
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_dct_block_of_one_moves_the_mean() -> None:
    source, target = body(40, 31, seed=1), body(50, 20, seed=2)
    result = fitted(target, mode="dct", block=1).transform([source])[0]
    np.testing.assert_allclose(result, source - source.mean() + target.mean(), atol=1e-6)


def test_b_of_zero_moves_the_mean_as_a_factor_of_the_zeroth_coefficient() -> None:
    source, target = body(40, 31, seed=1), body(40, 31, seed=2)
    result = fitted(target, beta=0).transform([source])[0]
    np.testing.assert_allclose(result, source - source.mean() + target.mean(), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    beta=st.floats(0, 0.5),
    window=st.sampled_from(["square", "gaussian", "cosine"]),
    padding=st.sampled_from([None, "reflect"]),
    mode=st.sampled_from(["amplitude", "dct"]),
)
def test_reference_comes_back_as_it_was(
    height: int, width: int, beta: float, window: str, padding: str | None, mode: str
) -> None:
    image = np.random.default_rng(height * width).random((height, width), dtype=np.float32)
    harmonizer = fitted(image, beta=beta, window=window, padding=padding, mode=mode)
    np.testing.assert_allclose(harmonizer.transform([image])[0], image, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), beta=st.floats(0, 0.5), window=st.sampled_from(["square", "gaussian", "cosine"]))
def test_mean_is_the_mean_of_the_references(seed: int, beta: float, window: str) -> None:
    references = [body(32, 40, seed, 0.1), body(48, 30, seed + 1, 0.1), body(20, 20, seed + 2, 0.1)]
    harmonizer = FourierSwap(beta=beta, window=window).fit(references)
    result = harmonizer.transform([body(36, 36, seed + 3, 0.1)])[0]
    assert result.mean(dtype=np.float64) == pytest.approx(np.mean([r.mean() for r in references]), abs=1e-5)


def test_amplitudes_become_the_geometric_mean_of_the_references() -> None:
    references = [body(32, 32, seed) for seed in range(3)]
    result = FourierSwap(beta=0.1).fit(references).transform([body(32, 32, 7)])[0]
    amplitudes = [np.abs(low_frequencies(x, 3)) for x in references]
    expected = np.exp(np.mean(np.log(amplitudes), axis=0))
    expected[0, 3] = np.mean([x.mean() for x in references])
    np.testing.assert_allclose(np.abs(low_frequencies(result, 3)), expected, rtol=1e-3, atol=1e-6)


def test_negative_mean_comes_to_the_mean_of_the_reference_not_its_opposite() -> None:
    image = body(24, 24) - np.float32(0.95)
    spectrum = low_frequencies(image, 2)
    assert spectrum[0, 2].real < -0.3
    reference = np.abs(low_frequencies(body(24, 24, 1), 2))
    swapped = swap_amplitude(spectrum, reference)
    result = add_low_frequencies(image.copy(), swapped - spectrum)
    assert result.mean() == pytest.approx(body(24, 24, 1).mean(), abs=1e-6)


# -- sizes, windows, padding ------------------------------------------------------------------------------------------


def test_same_body_on_more_pixels_has_nothing_to_change() -> None:
    def waves(n: int) -> np.ndarray:
        y, x = (np.arange(n)[:, None] + 0.5) / n, (np.arange(n) + 0.5) / n
        return (0.5 + 0.2 * np.cos(2 * np.pi * (x + 2 * y)) + 0.1 * np.sin(2 * np.pi * (3 * x - y))).astype(np.float32)

    for mode in ("amplitude", "dct"):
        small, large = waves(64), waves(160)
        for reference, image in ((small, large), (large, small)):
            result = fitted(reference, beta=0.1, mode=mode).transform([image])[0]
            np.testing.assert_allclose(result, image, atol=2e-3 if mode == "dct" else 1e-6)


def test_frequencies_that_no_reference_has_stay() -> None:
    image = body(128, 128, 1)
    result = fitted(body(32, 32), beta=0.25).transform([image])[0]
    before, after = low_frequencies(image, 32), low_frequencies(result, 32)
    known = np.zeros(before.shape, dtype=bool)
    known[:9, 24:41] = True
    np.testing.assert_allclose(after[~known], before[~known], atol=1e-7)
    assert np.abs(after[known] - before[known]).max() > 1e-3


def test_window_is_one_at_zero_and_falls() -> None:
    for window in ("square", "gaussian", "cosine"):
        for b in (0, 1, 7):
            weights = taper(window, b)
            assert weights.shape == (b + 1, 2 * b + 1)
            assert weights[0, b] == 1
            assert weights.min() >= 0
            assert (np.diff(weights[0, b:]) <= 0).all()
    assert taper("cosine", 7)[0, -1] < 0.05
    assert taper("gaussian", 7)[0, -1] < 0.05


@pytest.mark.parametrize("window", ["gaussian", "cosine"])
def test_tapered_windows_ring_less_beside_an_edge(window: str) -> None:
    image = np.full((128, 128), 0.2, np.float32)
    image[:, 40:90] = 0.7
    reference = 0.35 + 0.3 * image

    def ringing(window: str) -> float:
        change = (fitted(reference, beta=0.1, window=window).transform([image])[0] - image).mean(axis=0)[96:]
        return float(np.abs(np.diff(change)).sum() / np.abs(change).max())

    assert ringing(window) < 0.5 * ringing("square")


def test_reflection_keeps_a_bright_border_from_shining_through_at_the_opposite_one() -> None:
    image = np.full((96, 96), 0.4, np.float32)
    image[:, 88:] = 0.8
    reference = 0.2 + 0.5 * image

    def shine(padding: str | None) -> float:
        change = (fitted(reference, beta=0.06, padding=padding).transform([image])[0] - image).mean(axis=0)
        return float(np.ptp(change[:12]))

    assert shine("reflect") < 0.3 * shine(None)


def test_bandwidth_counts_cycles_of_the_padded_field() -> None:
    assert bandwidth((512, 640), 0.01) == 5
    assert bandwidth((512, 640), 0.01, "reflect") == 7
    assert bandwidth((1, 640), 0.5) == 0


# -- clipping, masks, odd images --------------------------------------------------------------------------------------


def test_clipping_happens_once_at_the_end_and_is_counted() -> None:
    source, target = body(48, 48, 1, contrast=0.9), 0.2 * body(48, 48, 2) + np.float32(0.8)
    harmonizer = fitted(target, beta=0)
    plain = plain_fda(source, target, 0)
    fraction = np.mean((plain < 0) | (plain > 1))
    assert 0.01 < fraction < 0.5
    np.testing.assert_allclose(harmonizer.clipped_fraction([source, target]), [fraction, 0], atol=1e-3)
    result = harmonizer.transform([source])[0]
    assert result.min() >= 0
    assert result.max() == 1


def test_what_the_mask_leaves_out_changes_nothing_inside() -> None:
    image = body(40, 50, 1)
    mask = np.zeros((40, 50), dtype=bool)
    mask[8:, 5:45] = True
    other = np.where(mask, image, np.float32(1))
    for parameters in ({"beta": 0.1}, {"mode": "dct"}, {"beta": 0.1, "padding": "reflect"}):
        harmonizer = fitted(body(40, 50), **parameters)
        results = [harmonizer.transform(ImageSet([x], mask=[mask]))[0] for x in (image, other)]
        np.testing.assert_allclose(results[0][mask], results[1][mask], atol=1e-6)
        assert harmonizer.clipped_fraction(ImageSet([image], mask=[mask])) == 0


def test_masked_reference_is_its_own_inside() -> None:
    mask = np.zeros((40, 50), dtype=bool)
    mask[8:, 5:45] = True
    X = ImageSet([body(40, 50)], mask=[mask])
    np.testing.assert_allclose(FourierSwap(beta=0.2).fit(X).transform(X)[0], body(40, 50), atol=1e-6)


def test_empty_mask_is_refused_by_the_name_of_the_image() -> None:
    X = ImageSet([body(20, 20)], mask=[np.zeros((20, 20), dtype=bool)])
    with pytest.raises(InvalidImageError, match=r"Image 0: .*the mask is empty"):
        fitted(body(20, 20)).transform(X)


def test_nan_is_refused() -> None:
    image = body(20, 20)
    image[3, 3] = np.nan
    with pytest.raises(InvalidImageError, match="Image 0 holds NaN"):
        fitted(body(20, 20)).transform([image])


@pytest.mark.parametrize("mode", ["amplitude", "dct"])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_image_becomes_the_mean_or_the_layout_of_the_reference(mode: str, value: float) -> None:
    reference = body(32, 32)
    result = fitted(reference, mode=mode, beta=0.3).transform([np.full((32, 32), value, np.float32)])[0]
    assert result.mean() == pytest.approx(reference.mean(), abs=1e-5)
    if mode == "amplitude":  # without contrast there is no phase that amplitudes could go with
        assert np.ptp(result) < 1e-6


def test_constant_reference_is_finite() -> None:
    result = fitted(np.full((32, 32), 0.25, np.float32), beta=0.3).transform([body(32, 32)])[0]
    assert np.isfinite(result).all()
    assert result.mean() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("mode", ["amplitude", "dct"])
def test_narrow_images_take_what_they_have_frequencies_for(shape: tuple[int, int], mode: str) -> None:
    image = np.random.default_rng(0).uniform(0.4, 0.6, shape).astype(np.float32)
    reference = body(32, 32, contrast=0.1)
    result = fitted(reference, mode=mode, beta=0.5, padding="reflect").transform([image])[0]
    assert result.shape == shape
    assert np.isfinite(result).all()
    assert fitted(reference, mode=mode).transform([image])[0].mean() == pytest.approx(reference.mean(), abs=1e-5)


def test_stored_values_and_floats_agree() -> None:
    stored = (body(40, 40, 1) * 4095).astype(np.uint16)
    harmonizer = fitted(body(40, 40), beta=0.1)
    of_integers = harmonizer.transform(ImageSet([stored], bits_stored=12))[0]
    of_floats = harmonizer.transform([stored / 4095])[0]
    np.testing.assert_allclose(of_integers, of_floats, atol=1e-6)


def test_input_is_left_alone() -> None:
    image = body(40, 40, 1)
    before = image.copy()
    image.setflags(write=False)
    result = fitted(body(40, 40), beta=0.1).transform([image])[0]
    assert not np.shares_memory(result, image)
    np.testing.assert_array_equal(image, before)


# -- scanners ---------------------------------------------------------------------------------------------------------


def two_scanners(n: int = 4) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    bodies = [body(48, 48, seed, contrast=0.6) for seed in range(n)]
    return bodies, [np.float32(0.6) * x for x in bodies], ["A"] * n + ["B"] * n


def test_scanner_scope_undoes_a_gain_and_keeps_what_differs_between_bodies() -> None:
    bodies, dimmed, scanner = two_scanners()
    harmonizer = FourierSwap("A", "scanner", beta=0.5).fit([*bodies, *dimmed], scanner=scanner)
    for result, truth in zip(harmonizer.transform(dimmed, scanner=["B"] * 4), bodies, strict=True):
        np.testing.assert_allclose(result, truth, atol=1e-4)


def test_scanner_scope_of_dct_undoes_an_added_shading() -> None:
    bodies, _, scanner = two_scanners()
    shading = (0.05 + 0.05 * np.cos(np.pi * (np.arange(48) + 0.5) / 48)).astype(np.float32)
    shaded = [x + shading for x in bodies]
    harmonizer = FourierSwap("A", "scanner", mode="dct").fit([*bodies, *shaded], scanner=scanner)
    for result, truth in zip(harmonizer.transform(shaded, scanner=["B"] * 4), bodies, strict=True):
        np.testing.assert_allclose(result, truth, atol=1e-5)


@pytest.mark.parametrize("mode", ["amplitude", "dct"])
def test_mixed_scope_runs_from_scanner_to_image(mode: str) -> None:
    bodies, dimmed, scanner = two_scanners()
    X = ImageSet([*bodies, *dimmed], scanner=scanner)
    results = {
        (scope, weight): np.stack(
            list(FourierSwap("A", scope, mode=mode, beta=0.2, image_weight=weight).fit(X).transform(X))
        )
        for scope, weight in [("image", 0.5), ("scanner", 0.5), ("mixed", 0.0), ("mixed", 0.5), ("mixed", 1.0)]
    }
    np.testing.assert_allclose(results["mixed", 1.0], results["image", 0.5], atol=1e-6)
    np.testing.assert_allclose(results["mixed", 0.0], results["scanner", 0.5], atol=1e-6)
    assert np.abs(results["mixed", 0.5] - results["scanner", 0.5]).max() > 1e-3


@pytest.mark.parametrize("mode", ["amplitude", "dct"])
def test_adapted_scanner_is_as_if_it_had_been_there(mode: str) -> None:
    bodies, dimmed, scanner = two_scanners()
    larger = [np.kron(x, np.ones((2, 2), np.float32)) for x in dimmed]
    whole = FourierSwap("A", "scanner", mode=mode, beta=0.2).fit([*bodies, *larger], scanner=scanner)
    first = FourierSwap("A", "scanner", mode=mode, beta=0.2).fit(bodies, scanner="A")
    adapted = first.adapt(larger, scanner="B")
    for one, other in zip(adapted.transform(larger, scanner="B"), whole.transform(larger, scanner="B"), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    with pytest.raises(UnknownScannerError, match="Scanner 'B' was not seen in fit"):
        first.transform(larger, scanner="B")


def test_pooled_reference_weighs_scanners_alike() -> None:
    bodies, dimmed, scanner = two_scanners()
    X = ImageSet([*bodies, *dimmed, *dimmed], scanner=[*scanner, *["B"] * 4])
    harmonizer = FourierSwap("pooled", beta=0).fit(X)
    means = [np.mean([x.mean() for x in images]) for images in (bodies, dimmed)]
    assert harmonizer.transform(X)[0].mean() == pytest.approx(np.mean(means), abs=1e-5)


@pytest.mark.parametrize("mode", ["amplitude", "dct"])
def test_chunks_give_exactly_what_fit_gives(mode: str) -> None:
    images = [body(20 + 9 * seed, 60 - 5 * seed, seed) for seed in range(6)]
    scanner = ["A", "B", "A", "A", "B", "B"]
    whole = FourierSwap("A", "scanner", mode=mode, beta=0.2).fit(images, scanner=scanner)
    chunked = FourierSwap("A", "scanner", mode=mode, beta=0.2)
    for part in (slice(0, 2), slice(2, 3), slice(3, 6)):
        chunked.partial_fit(images[part], scanner=scanner[part])
    for name in ("A", "B"):
        for key, value in whole.statistics_[name].items():
            np.testing.assert_array_equal(chunked.statistics_[name][key], value)
    for one, other in zip(
        whole.transform(images, scanner=scanner), chunked.transform(images, scanner=scanner), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_order_of_the_training_images_does_not_matter() -> None:
    images = [body(20 + 9 * seed, 60 - 5 * seed, seed) for seed in range(6)]
    one, other = FourierSwap(beta=0.2).fit(images), FourierSwap(beta=0.2).fit(images[::-1])
    np.testing.assert_allclose(one.reference_amplitude_, other.reference_amplitude_, rtol=1e-9)
    np.testing.assert_allclose(one.transform(images[:1])[0], other.transform(images[:1])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mode": "phase"}, "mode must be 'amplitude' or 'dct'; got 'phase'"),
        ({"beta": -0.1}, r"beta must lie in \[0, 0.5\] cycles a pixel; got -0.1"),
        ({"beta": 0.6}, r"beta must lie in \[0, 0.5\] cycles a pixel; got 0.6"),
        ({"beta": float("nan")}, r"beta must lie in \[0, 0.5\]"),
        ({"window": "hann"}, "window must be 'square', 'gaussian' or 'cosine'; got 'hann'"),
        ({"padding": "zero"}, "padding must be None or 'reflect'; got 'zero'"),
        ({"block": 0}, "block must be a whole number of at least 1; got 0"),
        ({"block": 2.5}, "block must be a whole number of at least 1; got 2.5"),
        ({"scope": "pixel"}, "scope must be 'image', 'scanner' or 'mixed'; got 'pixel'"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        FourierSwap(**parameters).fit([body(16, 16)])
