"""Tone curves, histograms, quantiles and the unit scale."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.levels import PROBABILITIES, as_unit, full_scale, histogram, quantiles
from xray_harmonize.tone import ToneCurve

LEVEL_16 = 1 / 65535
fractions = st.floats(0, 1, allow_subnormal=False, width=32)


@st.composite
def curves(draw: st.DrawFn, flat: bool = True) -> ToneCurve:
    """Monotone curves; with ``flat`` some of them have flat parts, without them all rise strictly."""
    n = draw(st.integers(1 if flat else 2, 8))
    levels = st.integers(0, 1000)
    x = draw(st.lists(levels, min_size=n, max_size=n, unique=True))
    y = draw(st.lists(levels, min_size=n, max_size=n, unique=not flat))
    return ToneCurve(np.sort(x) / 1000, np.sort(y) / 1000)


@st.composite
def integer_images(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Small stored-value images with their bits."""
    dtype = draw(st.sampled_from(["uint8", "uint16", "uint32"]))
    bits = draw(st.integers(1, 8 * np.dtype(dtype).itemsize))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    return draw(hnp.arrays(dtype, shape, elements=st.integers(0, 2**bits - 1))), bits


float_images = hnp.arrays("float32", hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=fractions)


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


# -- curves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([0, 1], [0], "as many x as y"),
        ([], [], "as many x as y"),
        ([[0, 1]], [[0, 1]], "in one dimension"),
        ([0, 0], [0, 1], "x of a tone curve must rise strictly"),
        ([0, 1.1], [0, 1], r"x of a tone curve must rise strictly within \[0, 1\]"),
        ([0, np.nan], [0, 1], "x of a tone curve must rise strictly"),
        ([0, 1], [1, 0], "y of a tone curve must not fall"),
        ([0, 1], [0, 1.5], "y of a tone curve must not fall and must stay within"),
        ([0, 1], [np.nan, 1], "y of a tone curve must not fall"),
    ],
)
def test_knots_that_make_no_tone_curve_are_refused(x: list, y: list, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        ToneCurve(x, y)


@given(curves(), hnp.arrays("float64", 20, elements=fractions))
def test_a_curve_never_falls_and_stays_between_its_ends(curve: ToneCurve, x: np.ndarray) -> None:
    y = curve(np.sort(x))
    assert np.all(np.diff(y) >= 0)
    assert y.min() >= curve.y[0]
    assert y.max() <= curve.y[-1]


@given(curves(), integer_images())
def test_lookup_of_integers_equals_interpolation(curve: ToneCurve, drawn: tuple[np.ndarray, int]) -> None:
    image, bits = drawn
    out = curve(image, bits)
    assert out.dtype == np.float32
    assert out.shape == image.shape
    exact = np.interp(image / (2**bits - 1), curve.x, curve.y)
    # Up to 16 bits there is an entry a stored value; deeper images go through 65,536 levels.
    assert np.abs(out - exact).max() <= 1e-6 + (0 if bits <= 16 else curve.max_slope * LEVEL_16)


@given(curves(), float_images)
def test_lookup_of_float32_equals_interpolation_within_a_level(curve: ToneCurve, image: np.ndarray) -> None:
    out = curve(image)
    assert out.dtype == np.float32
    assert not np.shares_memory(out, image)
    exact = np.interp(image.astype(np.float64), curve.x, curve.y)
    assert np.abs(out - exact).max() <= (curve.max_slope / 2 + 0.5) * LEVEL_16


@given(curves(), integer_images())
def test_integers_and_the_floats_they_stand_for_agree(curve: ToneCurve, drawn: tuple[np.ndarray, int]) -> None:
    image, bits = drawn
    assume(bits <= 16)
    assert np.abs(curve(image, bits) - curve(as_unit(image, bits))).max() <= (curve.max_slope / 2 + 0.5) * LEVEL_16


@pytest.mark.parametrize("dtype", ["float64", "longdouble"])
def test_float64_is_interpolated_exactly_and_kept(dtype: str) -> None:
    curve = ToneCurve([0, 0.3, 1], [0, 0.9, 1])
    x = np.linspace(0, 1, 7, dtype=dtype).reshape(1, 7)
    out = curve(x)
    assert out.dtype == x.dtype
    np.testing.assert_allclose(out.astype(float), np.interp(x.astype(float), curve.x, curve.y), rtol=1e-15)


def test_curves_take_scalars_and_arrays_of_any_dimension() -> None:
    curve = ToneCurve([0, 1], [0, 0.5])
    assert float(curve(0.5)) == 0.25
    assert curve(np.ones((2, 3, 4), "f4")).shape == (2, 3, 4)
    assert curve(np.array([])).size == 0
    with pytest.raises(InvalidImageError, match="The array holds NaN"):
        curve(np.nan)


@given(curves(flat=False), hnp.arrays("float64", 20, elements=fractions))
def test_the_inverse_undoes_a_strictly_rising_curve(curve: ToneCurve, x: np.ndarray) -> None:
    inside = np.clip(x, curve.x[0], curve.x[-1])
    np.testing.assert_allclose(curve.inverse()(curve(inside)), inside, atol=1e-9)


@given(curves(), hnp.arrays("float64", 20, elements=fractions))
def test_a_curve_undoes_its_inverse_wherever_it_reaches(curve: ToneCurve, y: np.ndarray) -> None:
    reached = np.clip(y, curve.y[0], curve.y[-1])
    np.testing.assert_allclose(curve(curve.inverse()(reached)), reached, atol=1e-8)


@given(curves())
def test_the_inverse_of_a_flat_part_is_its_middle(curve: ToneCurve) -> None:
    for value in np.unique(curve.y):
        at = curve.x[curve.y == value]
        assert float(curve.inverse()(value)) == pytest.approx((at[0] + at[-1]) / 2, abs=1e-9)


def test_a_flat_part_does_not_bend_the_inverse_elsewhere() -> None:
    window = ToneCurve([0, 0.2, 0.4, 1], [0, 0, 1, 1])
    np.testing.assert_allclose(window.inverse()(np.array([0.25, 0.5, 0.75])), [0.25, 0.3, 0.35], atol=1e-9)


@given(curves(), curves(), hnp.arrays("float64", 30, elements=fractions))
def test_composition_is_one_curve_after_the_other(outer: ToneCurve, inner: ToneCurve, x: np.ndarray) -> None:
    np.testing.assert_allclose(outer.compose(inner)(x), outer(inner(x)), atol=1e-9 * max(1, outer.max_slope))


@given(curves(), curves(), curves(), hnp.arrays("float64", 30, elements=fractions))
def test_composition_is_associative(a: ToneCurve, b: ToneCurve, c: ToneCurve, x: np.ndarray) -> None:
    left, right = a.compose(b).compose(c)(x), a.compose(b.compose(c))(x)
    np.testing.assert_allclose(left, right, atol=1e-9 * max(1, a.max_slope) * max(1, b.max_slope))


@given(curves())
def test_the_identity_is_neutral(curve: ToneCurve) -> None:
    grid, identity = np.linspace(0, 1, 101), ToneCurve.identity()
    np.testing.assert_allclose(identity.compose(curve)(grid), curve(grid), atol=1e-12)
    np.testing.assert_allclose(curve.compose(identity)(grid), curve(grid), atol=1e-12)


@given(curves())
def test_max_slope_bounds_every_slope(curve: ToneCurve) -> None:
    slopes = np.diff(curve(np.linspace(0, 1, 997))) * 996
    assert slopes.max() <= curve.max_slope + 1e-6


@given(hnp.arrays("float64", (2, 12), elements=st.integers(0, 20).map(lambda v: v / 20)))
def test_a_curve_through_points_takes_the_mean_of_those_that_share_an_x(points: np.ndarray) -> None:
    x, y = np.sort(points, axis=1)
    curve = ToneCurve.through(x, y)
    np.testing.assert_allclose(curve(curve.x), [y[x == knot].mean() for knot in curve.x], atol=1e-12)


@pytest.mark.parametrize("bits", [1, 8, 12, 16])
def test_voi_lut_holds_the_curve_at_every_stored_value(bits: int) -> None:
    curve = ToneCurve([0, 0.25, 1], [0, 0.75, 1])
    (entries, first, depth), data = curve.to_voi_lut(bits, 12)
    # A descriptor has 16 bits for the number of entries, so the standard writes 65,536 as 0 (PS3.3 C.11.2.1.1).
    assert (entries, first, depth) == (2**bits % 65536, 0, 12)
    assert data.dtype == np.uint16
    assert data.shape == (2**bits,)
    assert np.all(np.diff(data.astype(int)) >= 0)
    stored = np.arange(2**bits, dtype="uint16")[None]
    assert np.abs(data / 4095 - curve(stored, bits)).max() <= 0.5 / 4095 + 1e-6


@pytest.mark.parametrize(("bits", "output"), [(0, 16), (17, 16), (12, 7), (12, 17)])
def test_voi_lut_refuses_depths_that_the_standard_does_not_know(bits: int, output: int) -> None:
    with pytest.raises(InvalidParameterError, match="A VOI LUT takes 1 to 16 bits and gives 8 to 16"):
        ToneCurve.identity().to_voi_lut(bits, output)


def test_curves_compare_and_hash_by_value_survive_pickling_and_cannot_be_bent() -> None:
    curve = ToneCurve([0, 0.5, 1], [0, 0.2, 1])
    assert pickle.loads(pickle.dumps(curve)) == curve
    assert hash(curve) == hash(ToneCurve(curve.x, curve.y))
    assert curve != ToneCurve.identity()
    assert curve != "curve"
    assert repr(curve) == "ToneCurve(3 knots, 0 to 1, max_slope=1.6)"
    with pytest.raises(ValueError, match="read-only"):
        curve.y[0] = 1


def test_a_curve_keeps_its_shape_when_the_arrays_it_was_made_of_change() -> None:
    y = np.array([0.0, 1.0])
    curve = ToneCurve([0, 1], y)
    y[:] = 0.5
    assert curve == ToneCurve.identity()


def test_plot_draws_the_curve_to_both_ends_without_touching_global_figures() -> None:
    import matplotlib.pyplot as plt

    ax = ToneCurve([0.25, 0.75], [0, 1]).plot(label="window")
    (line,) = [line for line in ax.get_lines() if line.get_label() == "window"]
    np.testing.assert_array_equal(line.get_xdata(), [0, 0.25, 0.75, 1])
    np.testing.assert_array_equal(line.get_ydata(), [0, 0, 1, 1])
    assert plt.get_fignums() == []
    assert ToneCurve.identity().plot(ax) is ax
