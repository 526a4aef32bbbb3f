"""Partial transforms: equal to the whole ones, and inverse of each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn
from threadpoolctl import threadpool_info

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.harmonizers.partial_transform import (
    add_low_cosines,
    add_low_frequencies,
    low_cosines,
    low_frequencies,
)

# The last two want so many coefficients that the fast transform is taken.
SHAPES = [((32, 32), 3), ((33, 48), 16), ((64, 41), 20), ((1, 9), 0), ((2, 2), 1), ((150, 151), 75), ((160, 200), 80)]


def image_of(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def block_of(spectrum: np.ndarray, b: int) -> np.ndarray:
    """Rows 0..b and columns -b..b of a two-dimensional transform."""
    return spectrum[: b + 1][:, np.arange(-b, b + 1)]


@pytest.mark.parametrize(("shape", "b"), SHAPES)
def test_low_frequencies_are_those_of_the_whole_transform(shape: tuple[int, int], b: int) -> None:
    image = image_of(shape)
    whole = np.fft.fft2(image.astype(np.float64)) / image.size
    np.testing.assert_allclose(low_frequencies(image, b), block_of(whole, b), atol=1e-7)


@pytest.mark.parametrize(("shape", "b"), [((32, 40), 4), ((33, 45), 20), ((150, 150), 100)])
def test_padded_frequencies_are_those_of_the_mirrored_image(shape: tuple[int, int], b: int) -> None:
    image = image_of(shape)
    padded = np.pad(image.astype(np.float64), [(n // 4, n // 4) for n in shape], mode="symmetric")
    whole = np.fft.fft2(padded) / padded.size
    np.testing.assert_allclose(low_frequencies(image, b, padding="reflect"), block_of(whole, b), atol=1e-7)


@pytest.mark.parametrize("padding", [None, "reflect"])
@pytest.mark.parametrize("shape", [(15, 20), (20, 15), (16, 16), (150, 152)])
def test_all_frequencies_together_are_the_image(shape: tuple[int, int], padding: str | None) -> None:
    square = image_of((min(shape), min(shape)))
    sides = [n + 2 * (n // 4) if padding else n for n in square.shape]
    spectrum = low_frequencies(square, sides[0] // 2, padding=padding)
    total = add_low_frequencies(np.zeros_like(square), spectrum, padding=padding)
    np.testing.assert_allclose(total, square, atol=1e-5)


@pytest.mark.parametrize("b", [5, 60])
def test_added_frequencies_are_the_inverse_transform(b: int) -> None:
    rng = np.random.default_rng(1)
    shape = (128, 130)
    change = block_of(np.fft.fft2(rng.random(shape)) / (shape[0] * shape[1]), b)
    whole = np.zeros(shape, dtype=complex)
    rows, columns = np.arange(b + 1), np.arange(-b, b + 1)
    whole[np.ix_(-rows, -columns)] = change.conj()
    whole[np.ix_(rows, columns)] = change
    added = add_low_frequencies(np.ones(shape, np.float32), change)
    np.testing.assert_allclose(added, 1 + np.fft.ifft2(whole).real * whole.size, atol=2e-6)


def test_masked_frequencies_do_not_see_what_is_outside() -> None:
    image = image_of((40, 30))
    mask = np.zeros((40, 30), dtype=bool)
    mask[5:35, 3:20] = True
    other = np.where(mask, image, np.float32(1))
    np.testing.assert_allclose(low_frequencies(image, 4, mask=mask), low_frequencies(other, 4, mask=mask), atol=1e-8)
    assert low_frequencies(image, 4, mask=mask)[0, 4].real == pytest.approx(image[mask].mean(), abs=1e-6)


def test_mask_is_seen_alike_by_both_ways_of_computing() -> None:
    image = image_of((128, 128))
    mask = image_of((128, 128), 1) > 0.3
    few, many = low_frequencies(image, 10, mask=mask), low_frequencies(image, 64, mask=mask)
    np.testing.assert_allclose(few, many[:11, 54:75], atol=1e-7)


def test_empty_mask_is_refused() -> None:
    with pytest.raises(InvalidImageError, match="the mask is empty"):
        low_frequencies(image_of((8, 8)), 1, mask=np.zeros((8, 8), dtype=bool))


@pytest.mark.parametrize("b", [-1, 5])
def test_frequency_that_the_image_does_not_have_is_refused(b: int) -> None:
    with pytest.raises(InvalidParameterError, match=f"8 x 9 pixels has frequencies from 0 to 4 .* got b={b}"):
        low_frequencies(image_of((8, 9)), b)


@given(value=st.floats(0, 1, width=32), height=st.integers(1, 40), width=st.integers(1, 40))
def test_constant_image_has_its_mean_and_exactly_nothing_else(value: float, height: int, width: int) -> None:
    b = min(height, width) // 2
    spectrum = low_frequencies(np.full((height, width), value, np.float32), b)
    assert spectrum[0, b] == pytest.approx(value)
    spectrum[0, b] = 0
    assert not np.any(np.abs(spectrum) > 1e-15)


@pytest.mark.parametrize("shape", [(16, 16), (31, 20)])
def test_low_cosines_are_those_of_the_orthonormal_transform(shape: tuple[int, int]) -> None:
    image = image_of(shape)
    whole = dctn(image.astype(np.float64), norm="ortho") / np.sqrt(image.size)
    np.testing.assert_allclose(low_cosines(image, 5), whole[:5, :5], atol=1e-7)


def test_all_cosines_together_are_the_image() -> None:
    image = image_of((24, 24))
    np.testing.assert_allclose(add_low_cosines(np.zeros_like(image), low_cosines(image, 24)), image, atol=1e-5)


def test_cosines_that_a_narrow_image_does_not_have_are_unknown() -> None:
    coefficients = low_cosines(image_of((1, 9)), 3)
    assert np.isnan(coefficients[1:]).all()
    assert not np.isnan(coefficients[0]).any()


def test_blas_threads_are_as_before_after_concurrent_use() -> None:
    before = [pool["num_threads"] for pool in threadpool_info()]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: low_frequencies(image_of((300, 300), seed), 5), range(16)))
    assert [pool["num_threads"] for pool in threadpool_info()] == before
