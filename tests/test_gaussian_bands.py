"""Frequency bands on grids of their own: exact sum, Gaussians as scipy computes them, energies that no grid decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.harmonizers.gaussian_bands import (
    band_energies,
    gaussian_blur,
    join_bands,
    mask_pyramid,
    split_bands,
)
from xray_harmonize.harmonizers.masked import deviation_inside, mean_inside


def body(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes, a sharp edge and noise, the same body whatever the number of pixels."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    image = 0.4 + 0.15 * np.sin(9 * x + 3) * np.cos(7 * y) + 0.05 * np.sin(40 * x + 30 * y) + 0.2 * (x + 0.3 * y > 0.5)
    return (image + 0.02 * rng.standard_normal((height, width))).clip(0, 1).astype(np.float32)


@settings(max_examples=30)
@given(height=st.integers(1, 300), width=st.integers(1, 300), base=st.floats(0.001, 0.03), n_bands=st.integers(1, 5))
def test_bands_add_up_to_the_image(height: int, width: int, base: float, n_bands: int) -> None:
    image = body(height, width)
    bands = split_bands(image, base * min(height, width) * 2.0 ** np.arange(n_bands))
    assert len(bands.bands) == n_bands + 1
    np.testing.assert_allclose(join_bands(bands, np.ones(n_bands + 1)), image, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.7, 6.0])
def test_blur_is_that_of_scipy(sigma: float) -> None:
    image = body(70, 50)
    np.testing.assert_allclose(gaussian_blur(image, sigma), gaussian_filter(image, sigma), atol=2e-6)


@pytest.mark.parametrize("shape", [(512, 512), (400, 560), (321, 515)])
def test_bands_are_differences_of_gaussians(shape: tuple[int, int]) -> None:
    image = body(*shape)
    sigmas = min(shape) / 128 * 2.0 ** np.arange(5)
    bands = split_bands(image, sigmas)
    assert max(bands.halvings) >= 2
    lows = [image, *(gaussian_filter(image.astype(np.float64), sigma) for sigma in sigmas)]
    for i in range(5):
        expected = lows[i] - lows[i + 1]
        alone = join_bands(bands, np.eye(6)[i])
        assert np.sqrt(np.mean((alone - expected) ** 2)) < 0.05 * expected.std()
        inner = (slice(shape[0] // 8, -shape[0] // 8), slice(shape[1] // 8, -shape[1] // 8))
        assert np.sqrt(np.mean((alone - expected)[inner] ** 2)) < 0.03 * expected.std()
        assert band_energies(bands)[i] == pytest.approx(expected.std(), rel=0.01)


def test_energies_do_not_depend_on_the_number_of_pixels() -> None:
    small, large = body(256, 320), body(1024, 1280)
    energies = [band_energies(split_bands(x, min(x.shape) / 64 * 2.0 ** np.arange(4))) for x in (small, large)]
    # Of the finest band only the noise differs.
    np.testing.assert_allclose(energies[0][1:], energies[1][1:], rtol=0.02)


def test_masked_energies_are_those_inside() -> None:
    image = body(256, 256)
    image[:, 128:] = 0.5
    mask = np.zeros((256, 256), dtype=bool)
    mask[:, 160:] = True
    bands = split_bands(image, np.array([2.0, 4.0]))
    energies = band_energies(bands, mask_pyramid(mask, bands))
    assert energies.max() < 1e-3
    assert band_energies(bands).min() > 0.005


def test_mask_of_few_pixels_still_counts_on_coarse_grids() -> None:
    image = body(300, 300)
    bands = split_bands(image, np.array([4.0, 8.0]))
    mask = np.zeros((300, 300), dtype=bool)
    mask[[3, 200], [40, 111]] = True
    assert all(grid.any() for grid in mask_pyramid(mask, bands))
    assert np.isfinite(band_energies(bands, mask_pyramid(mask, bands))).all()


def test_empty_mask_is_refused() -> None:
    bands = split_bands(body(20, 20), np.array([1.0]))
    with pytest.raises(InvalidImageError, match="the mask is empty"):
        band_energies(bands, mask_pyramid(np.zeros((20, 20), dtype=bool), bands))


def test_level_stays_where_the_residual_is_scaled() -> None:
    image = np.full((10, 12), 0.25, np.float32)
    bands = split_bands(image, np.array([1.0]))
    np.testing.assert_allclose(join_bands(bands, np.array([1.0, 3.0]), level=0.25), image, atol=1e-6)
    np.testing.assert_allclose(join_bands(bands, np.array([1.0, 3.0])), 3 * image, atol=1e-6)


@given(seed=st.integers(0, 1000), share=st.floats(0.05, 1))
def test_masked_mean_and_deviation_are_those_of_numpy(seed: int, share: float) -> None:
    image = body(17, 23, seed)
    mask = np.random.default_rng(seed).random((17, 23)) < share
    mask[3, 4] = True
    assert mean_inside(image, mask) == pytest.approx(image[mask].mean(dtype=np.float64), rel=1e-6)
    assert deviation_inside(image, mask) == pytest.approx(image[mask].std(dtype=np.float64), rel=1e-5, abs=1e-7)
    assert deviation_inside(image) == pytest.approx(image.std(dtype=np.float64), rel=1e-5)


@given(value=st.floats(0, 1, width=32), masked=st.booleans())
def test_constant_image_has_exactly_no_deviation(value: float, masked: bool) -> None:
    image = np.full((33, 7), value, np.float32)
    mask = np.tri(33, 7, dtype=bool) if masked else None
    assert mean_inside(image, mask) == pytest.approx(value, abs=1e-15)
    assert deviation_inside(image, mask) == 0
