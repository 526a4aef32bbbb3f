"""Tone curves: monotone maps, applied by lookup."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import curves, float_images, fractions, integer_images

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.levels import as_unit
from xray_harmonize.tone import ToneCurve

LEVEL_16 = 1 / 65535


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


@pytest.mark.parametrize("n_knots", [1, 2, 3, 15, 16, 17, 40])
@pytest.mark.parametrize("n_levels", [2, 256, 4096, 65536])
def test_a_table_is_the_interpolated_curve_however_many_knots(n_knots: int, n_levels: int) -> None:
    rng = np.random.default_rng(n_knots)
    x = np.sort(rng.choice(np.arange(1, 10_000), n_knots, replace=False)) / 10_000
    curve = ToneCurve(x, np.sort(rng.random(n_knots)))
    expected = np.interp(np.arange(n_levels) / (n_levels - 1), curve.x, curve.y)
    np.testing.assert_allclose(curve.table(n_levels), expected, rtol=0, atol=1e-12)


def test_a_table_holds_the_ends_of_a_curve_that_spans_the_range() -> None:
    assert ToneCurve([0, 1], [0, 1]).table(4).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
