"""Grey levels: full scale, unit images, histograms and quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import float_images, integer_images

from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.levels import PROBABILITIES, as_unit, full_scale, histogram, look_up, quantiles, stored_levels
from xray_harmonize.tone import ToneCurve

# -- full scale and unit images -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "bits", "expected"),
    [("uint8", None, 255), ("uint16", 0, 65535), ("uint16", 12, 4095), ("uint32", 20, 2**20 - 1), ("float32", 12, 1)],
)
def test_full_scale_is_that_of_the_bits_in_use_and_one_for_floats(dtype: str, bits: int | None, expected: int) -> None:
    assert full_scale(dtype, bits) == expected


@pytest.mark.parametrize("bits", [-1, 9])
def test_full_scale_refuses_bits_that_do_not_fit_the_type(bits: int) -> None:
    with pytest.raises(InvalidImageError, match=f"bits_stored={bits} does not fit pixels of type uint8; expected 1 to"):
        full_scale("uint8", bits)


@pytest.mark.parametrize("dtype", ["int16", "bool", "complex64", "datetime64[s]"])
def test_full_scale_refuses_what_holds_no_stored_values(dtype: str) -> None:
    with pytest.raises(InvalidImageError, match=r"must be unsigned integers .* or floats in"):
        full_scale(dtype)


@given(integer_images())
def test_as_unit_divides_by_the_full_scale_and_not_by_the_range_of_the_image(drawn: tuple[np.ndarray, int]) -> None:
    image, bits = drawn
    unit = as_unit(image, bits)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, image / (2**bits - 1), rtol=1e-6)


def test_negative_zero_is_zero() -> None:
    image = np.array([[-0.0, 1.0]], dtype=np.float32)
    assert histogram(image)[0] == 1
    assert ToneCurve.identity()(image).tolist() == [[0, 1]]


def test_as_unit_gives_new_memory_of_floats_too() -> None:
    image = np.zeros((2, 2), dtype=np.float32)
    assert not np.shares_memory(as_unit(image), image)


@pytest.mark.parametrize("read", [as_unit, histogram, ToneCurve.identity()])
@pytest.mark.parametrize(
    ("image", "bits", "message"),
    [
        (np.array([[0.5, np.nan]]), None, "holds NaN"),
        (np.array([[0.5, -np.nan]], dtype="f4"), None, "holds NaN"),
        (np.array([[0.5, 1.01]], dtype="f4"), None, r"floats from 0.5 to 1.01; expected \[0, 1\]. Divide by the full"),
        (np.array([[-0.01, 0.5]], dtype="f4"), None, "floats from -0.01 to 0.5"),
        (np.array([[0.5, np.inf]]), None, "floats from 0.5 to inf"),
        (np.array([[4096]], dtype="u2"), 12, "stored value 4096, above the full scale 4095 of its bits_stored"),
        (np.array([[16]], dtype="u1"), 4, "stored value 16, above the full scale 15"),
        (np.array([[2**20]], dtype="u4"), 20, "stored value 1048576, above the full scale"),
        (np.array([[256]], dtype="u4"), 8, "stored value 256, above the full scale 255"),
        (np.zeros((0, 3), dtype="u1"), None, "shape .*; expected a 2-D image with at least one pixel"),
        (np.zeros((2, 2, 3), dtype="u1"), None, "shape .*; expected a 2-D image with at least one pixel"),
        (np.array([[-1, 2]]), None, "must be unsigned integers"),
    ],
)
def test_pixels_that_cannot_be_are_refused(read, image: np.ndarray, bits: int | None, message: str) -> None:
    with pytest.raises(InvalidImageError, match=message):
        read(image, bits)


# -- histograms -----------------------------------------------------------------------------------------------------


@given(integer_images())
def test_integer_histogram_counts_stored_values(drawn: tuple[np.ndarray, int]) -> None:
    image, bits = drawn
    counts = histogram(image, bits)
    assert counts.dtype == np.int64
    assert counts.sum() == image.size
    if bits <= 16:
        np.testing.assert_array_equal(counts, np.bincount(image.ravel(), minlength=2**bits))
    else:
        assert counts.shape == (65536,)


@given(float_images)
def test_float_histogram_counts_the_nearest_of_65536_levels(image: np.ndarray) -> None:
    counts = histogram(image)
    assert counts.shape == (65536,)
    levels = np.repeat(np.arange(65536), counts)
    assert np.abs(levels - np.sort(image, axis=None) * 65535.0).max() <= 0.5 + 1e-3


@given(st.sampled_from(["uint8", "uint16", "float32"]), st.randoms(use_true_random=False))
def test_masked_histogram_is_that_of_the_pixels_inside(dtype: str, random) -> None:
    rng = np.random.default_rng(random.randrange(2**32))
    shape = tuple(rng.integers(1, 8, size=2))
    image = rng.random(shape).astype(dtype) if dtype == "float32" else rng.integers(0, 200, shape).astype(dtype)
    mask = rng.random(shape) < 0.5
    expected = histogram(image[mask][None], None) if mask.any() else 0 * histogram(image)
    np.testing.assert_array_equal(histogram(image, None, mask), expected)


def test_histogram_takes_strided_byte_swapped_and_read_only_images() -> None:
    base = np.random.default_rng(0).integers(0, 65536, (40, 50)).astype("uint16")
    view = base.T[::2, ::-3]
    view.setflags(write=False)
    np.testing.assert_array_equal(histogram(view), np.bincount(view.ravel(), minlength=65536))
    np.testing.assert_array_equal(histogram(base.astype(">u2")), histogram(base))


def test_histogram_counts_exactly_beyond_what_float32_can() -> None:
    image = np.zeros((4098, 4098), dtype=np.uint8)
    image[0, 0] = 1
    assert int(np.float32(4098**2 - 1)) != 4098**2 - 1
    assert histogram(image)[:2].tolist() == [4098**2 - 1, 1]


def test_histogram_refuses_a_mask_of_another_shape() -> None:
    with pytest.raises(InvalidImageError, match=r"shape \(2, 2\) but its mask \(2, 3\); expected the same"):
        histogram(np.zeros((2, 2), "u1"), mask=np.ones((2, 3), bool))


# -- quantiles ------------------------------------------------------------------------------------------------------

counts_of_levels = hnp.arrays("int64", st.integers(2, 40), elements=st.integers(0, 5)).filter(lambda c: c.any())


@given(counts_of_levels)
def test_quantiles_rise_from_the_lowest_to_the_highest_level_present(counts: np.ndarray) -> None:
    values = quantiles(counts)
    present = np.flatnonzero(counts) / (counts.size - 1)
    assert np.all(np.diff(values) >= 0)
    assert (values[0], values[-1]) == (present[0], present[-1])


@given(counts_of_levels, st.integers(2, 5))
def test_quantiles_do_not_depend_on_how_often_an_image_is_repeated(counts: np.ndarray, times: int) -> None:
    np.testing.assert_allclose(quantiles(counts), quantiles(times * counts), atol=1e-12)


@given(counts_of_levels)
def test_quantiles_of_a_reversed_histogram_are_mirrored(counts: np.ndarray) -> None:
    p = np.linspace(0, 1, 33)
    np.testing.assert_allclose(quantiles(counts[::-1], p), 1 - quantiles(counts, 1 - p), atol=1e-9)


def test_quantiles_of_an_image_agree_across_bit_depths_within_a_level_of_the_coarser() -> None:
    unit = np.random.default_rng(0).beta(2, 5, (200, 200))
    eight, sixteen = (histogram(np.rint(unit * top).astype(kind)) for top, kind in ((255, "u1"), (65535, "u2")))
    p = PROBABILITIES[(PROBABILITIES > 0.01) & (PROBABILITIES < 0.99)]
    assert np.abs(quantiles(eight, p) - quantiles(sixteen, p)).max() < 1 / 255


def test_quantiles_of_nothing_are_an_error() -> None:
    with pytest.raises(InvalidImageError, match="no pixel to take statistics of: the mask or the foreground is empty"):
        quantiles(np.zeros(4, dtype=int))


def test_probabilities_rise_and_cannot_be_changed_by_accident() -> None:
    assert np.all(np.diff(PROBABILITIES) > 0)
    assert (PROBABILITIES[0], PROBABILITIES[-1]) == (0, 1)
    with pytest.raises(ValueError, match="read-only"):
        PROBABILITIES[0] = 0.5


# -- levels and lookups ---------------------------------------------------------------------------------------------


@given(integer_images())
def test_stored_values_of_up_to_16_bits_are_levels_already(drawn: tuple[np.ndarray, int]) -> None:
    image, bits = drawn
    levels, n_levels = stored_levels(image, bits)
    assert n_levels == 2 ** min(bits, 16)
    if bits <= 16:
        np.testing.assert_array_equal(levels, image)
    else:
        assert np.abs(levels / 65535 - image / (2**bits - 1)).max() <= 0.5 / 65535 + 1e-9


@given(integer_images())
def test_a_lookup_puts_the_value_of_a_table_in_the_place_of_every_level(drawn: tuple[np.ndarray, int]) -> None:
    levels, n_levels = stored_levels(*drawn)
    table = np.random.default_rng(0).standard_normal(n_levels)
    found = look_up(levels, table)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, table.astype(np.float32)[levels])
