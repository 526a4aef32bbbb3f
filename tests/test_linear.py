"""Full range, min-max, z-score and display windows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.pixels import apply_windowing

from xray_harmonize import FullRange, ImageSet, MinMax, WindowClamp, ZScore
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.harmonizers.linear import min_max_curve, window_curve, window_function, z_score

LEVEL = 1 / 65535
small_images = hnp.arrays("uint16", hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
FUNCTIONS = ["LINEAR", "LINEAR_EXACT", "SIGMOID"]


def with_window(pixels: np.ndarray, bits: int = 12, **window: object) -> ImageSet:
    return ImageSet([pixels], bits_stored=bits, meta=pd.DataFrame({key: [value] for key, value in window.items()}))


# -- full range -----------------------------------------------------------------------------------------------------


def test_full_range_divides_by_the_full_scale_of_the_bits_stored() -> None:
    X = ImageSet([np.array([[0, 1000, 4095]], "u2"), np.array([[0.25, 1]])], bits_stored=[12, 0])
    first, second = FullRange().fit_transform(X)
    np.testing.assert_allclose(first, [[0, 1000 / 4095, 1]], rtol=1e-6)
    np.testing.assert_allclose(second, [[0.25, 1]], atol=LEVEL)


# -- min-max --------------------------------------------------------------------------------------------------------


@given(st.floats(0, 0.4), st.floats(0.6, 1), st.floats(0, 0.5), st.floats(0.5, 1))
def test_min_max_curve_is_the_line_through_both_ends_of_the_range(low: float, high: float, a: float, b: float) -> None:
    x = np.linspace(low, high, 11)
    expected = (x - low) / (high - low) * (b - a) + a
    np.testing.assert_allclose(min_max_curve(low, high, a, b)(x), expected, atol=1e-12)


@given(small_images)
def test_min_max_stretches_to_the_whole_range_and_a_constant_image_to_its_lower_end(image: np.ndarray) -> None:
    out = MinMax(output_range=(0.25, 0.75)).fit_transform([image])[0]
    assert out.min() == 0.25
    assert out.max() == (0.75 if image.min() < image.max() else 0.25)


@given(small_images)
def test_min_max_is_idempotent(image: np.ndarray) -> None:
    once = MinMax().fit_transform([image])
    np.testing.assert_allclose(MinMax().fit_transform(once)[0], once[0], atol=LEVEL)


def test_min_max_changes_nothing_where_the_source_has_the_range_of_the_reference() -> None:
    X = np.random.default_rng(0).integers(300, 3000, (3, 20, 20)).astype("uint16")
    X[:, 0, 0], X[:, 0, 1] = 300, 3000
    stack = ImageSet(X, bits_stored=12)
    out = MinMax(output_range="reference").fit_transform(stack)
    np.testing.assert_allclose(np.stack(list(out)), X / 4095, atol=1e-6)


def test_min_max_takes_the_median_range_of_the_references_training_images() -> None:
    X = np.array([[[10, 200]], [[20, 210]], [[90, 255]], [[0, 5]]], dtype="uint8")
    fitted = MinMax(output_range="reference", reference="A").fit(X, scanner=["A", "A", "A", "B"])
    np.testing.assert_allclose(fitted.output_range_, [20 / 255, 210 / 255])
    np.testing.assert_allclose(fitted.transform(X[3:])[0, 0], [20 / 255, 210 / 255], rtol=1e-6)


def test_percentiles_forgive_outliers_and_the_foreground_leaves_air_out() -> None:
    image = np.full((20, 20), 1000, "uint16")
    image[:10] = np.linspace(2000, 3000, 200).reshape(10, 20)
    image[0, 0] = 60000
    out = MinMax(percentiles=(1, 99), foreground=0.02).fit_transform([image])[0]
    assert 0.4 < out[5, 0] < 0.6
    assert (out[0, 0], out[15, 0]) == (1, 0)


def test_one_range_a_scanner_keeps_differences_between_its_images() -> None:
    X = np.array([[[10, 20]], [[10, 40]], [[10, 40]]], dtype="uint8")
    out = MinMax(scope="scanner").fit_transform(X, scanner="A")
    np.testing.assert_allclose(out[:, 0, 1], [1 / 3, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"percentiles": (99, 1)}, r"percentiles must be two rising numbers from 0 to 100; got \(99, 1\)"),
        ({"percentiles": (1, 101)}, "percentiles must be two rising numbers from 0 to 100"),
        ({"percentiles": (1,)}, "percentiles must be two rising numbers"),
        ({"output_range": (0.5, 2)}, r"output_range must be two rising numbers from 0 to 1; got \(0.5, 2\)"),
        ({"foreground": "bones"}, "foreground must be one of 'all', 'nonzero', 'otsu', or a fraction"),
        ({"scope": "batch"}, "scope must be 'image', 'scanner' or 'mixed'; got 'batch'"),
        ({"unseen": "ignore"}, "unseen must be 'error' or 'image'; got 'ignore'"),
        ({"image_weight": 1.5}, r"image_weight must lie in \[0, 1\]; got 1.5"),
        ({"image_weight": np.nan}, r"image_weight must lie in \[0, 1\]; got nan"),
    ],
)
def test_min_max_refuses_parameters_out_of_range(parameters: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        MinMax(**parameters).fit(np.zeros((1, 2, 2), "u1"))


# -- z-score --------------------------------------------------------------------------------------------------------


@given(small_images.filter(lambda image: image.max() > image.min()))
def test_z_score_has_zero_mean_and_unit_unbiased_deviation(image: np.ndarray) -> None:
    out = ZScore().fit_transform([image])[0].astype(np.float64)
    assert abs(out.mean()) < 1e-3
    assert out.std(ddof=1) == pytest.approx(1, abs=2e-3)


def test_z_score_is_exact_for_images_of_little_contrast() -> None:
    image = np.float32(0.5) + np.random.default_rng(0).integers(0, 3, (50, 50)).astype("f4") * np.float32(2**-24)
    wide = image.astype(np.float64)
    expected = (wide - wide.mean()) / (wide.std(ddof=1) + 1e-8)
    np.testing.assert_allclose(z_score(image), expected, rtol=0, atol=0.05)


def test_z_score_takes_mean_and_deviation_inside_the_mask_and_carries_the_outside_along() -> None:
    image = np.random.default_rng(0).random((9, 8)).astype("f4")
    mask = image > 0.4
    inside = image[mask].astype(np.float64)
    expected = (image - inside.mean()) / (inside.std(ddof=1) + 1e-8)
    X = ImageSet([image], mask=[mask])
    np.testing.assert_allclose(ZScore().fit_transform(X)[0], expected, atol=1e-5)


@given(small_images, st.integers(0, 5))
def test_z_score_of_stored_values_is_that_of_the_floats_they_stand_for(image: np.ndarray, n_outside: int) -> None:
    mask = np.ones(image.shape, bool)
    mask.flat[1 : 1 + n_outside] = False
    X = ImageSet([image, image / 65535], mask=[mask, mask])
    stored, floats = ZScore().fit_transform(X)
    # Outside of a mask within which all is constant, values are divided by next to nothing.
    np.testing.assert_allclose(stored, floats, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_z_score_of_constant_stored_values_is_zero(value: int) -> None:
    assert not ZScore().fit_transform([np.full((30, 50), value, "u2")])[0].any()


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
def test_z_score_of_a_constant_image_is_zero(value: float) -> None:
    assert not z_score(np.full((7, 5), value, "f4")).any()
    assert not z_score(np.full((1, 1), value, "f4")).any()


def test_z_score_leaves_its_input_alone_and_refuses_an_empty_mask() -> None:
    image = np.random.default_rng(0).random((4, 5)).astype("f4")
    before = image.copy()
    z_score(image)
    np.testing.assert_array_equal(image, before)
    with pytest.raises(InvalidImageError, match="no pixel to take statistics of: the mask is empty"):
        z_score(image, np.zeros((4, 5), bool))


# -- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("center", "width", "black", "white"),
    [(2048, 4096, 0, 4095), (2048, 1, 2047, 2048), (0, 100, -50, 49), (0, 1, -1, 0), (100, 2, 99, 100)],
)
def test_a_linear_window_begins_and_ends_at_the_values_the_standard_names(
    center: float, width: float, black: float, white: float
) -> None:
    # PS3.3 C.11.2.1.2.1 gives the first two and, in notes, such values for windows around zero.
    values = window_function(np.array([black - 1, black, white, white + 1]), center, width)
    assert values.tolist() == [0, 0, 1, 1]
    between = (np.arange(black, white + 1) - black) / (white - black)
    np.testing.assert_allclose(window_function(np.arange(black, white + 1), center, width), between, atol=1e-12)


def test_a_value_at_the_edge_of_a_window_of_width_one_is_black() -> None:
    assert window_function(np.array([9.0, 10.0, 11.0]), 10.5, 1).tolist() == [0, 0, 1]


@given(st.floats(-3000, 9000), st.floats(1, 9000), hnp.arrays("float64", 9, elements=st.integers(-100, 70000)))
def test_the_linear_window_is_the_standards_case_distinction(center: float, width: float, x: np.ndarray) -> None:
    # PS3.3 C.11.2.1.2.1, with output from 0 to 1
    with np.errstate(divide="ignore", invalid="ignore"):
        ramp = (x - (center - 0.5)) / (width - 1) + 0.5
    below, above = x <= center - 0.5 - (width - 1) / 2, x > center - 0.5 + (width - 1) / 2
    expected = np.where(below, 0.0, np.where(above, 1.0, ramp))
    np.testing.assert_allclose(window_function(x, center, width, "LINEAR"), expected, atol=1e-9)


@given(st.floats(-3000, 9000), st.floats(1e-3, 9000), hnp.arrays("float64", 9, elements=st.integers(-100, 70000)))
def test_the_exact_linear_window_is_the_standards_case_distinction(center: float, width: float, x: np.ndarray) -> None:
    # PS3.3 C.11.2.1.3.2
    below, above = x <= center - width / 2, x > center + width / 2
    expected = np.where(below, 0.0, np.where(above, 1.0, (x - center) / width + 0.5))
    np.testing.assert_allclose(window_function(x, center, width, "LINEAR_EXACT"), expected, atol=1e-9)


def test_the_sigmoid_window_is_the_standards_and_does_not_overflow() -> None:
    # PS3.3 C.11.2.1.3.1
    x = np.array([0.0, 1000, 2000, 3000])
    np.testing.assert_allclose(window_function(x, 2000, 800, "SIGMOID"), 1 / (1 + np.exp(-4 * (x - 2000) / 800)))
    with np.errstate(over="raise"):
        assert window_function(np.array([0, 1e9]), 2000, 1e-3, "SIGMOID").tolist() == [0, 1]


@pytest.mark.parametrize("function", FUNCTIONS)
@given(center=st.floats(-500, 5000), width=st.floats(1, 9000), bits=st.sampled_from([8, 10, 12, 16]))
def test_the_curve_of_a_window_is_the_window_at_every_stored_value(
    function: str, center: float, width: float, bits: int
) -> None:
    stored = np.arange(2**bits, dtype="uint16")[None]
    curve = window_curve(center, width, function, 2**bits - 1)
    np.testing.assert_allclose(curve(stored, bits), window_function(stored, center, width, function), atol=1.2e-5)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@given(center=st.integers(0, 2**17).map(lambda v: v / 2))
def test_a_window_of_width_one_is_a_step_between_two_stored_values(bits: int, center: float) -> None:
    stored = np.arange(2**bits, dtype="uint16")[None]
    out = window_curve(center, 1, "LINEAR", 2**bits - 1)(stored, bits)
    np.testing.assert_allclose(out, stored > center - 0.5, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "width", "message"),
    [
        ("LINEAR", 0.5, "A LINEAR window needs a width of at least 1; got 0.5"),
        ("LINEAR_EXACT", 0, "A LINEAR_EXACT window needs a width above 0; got 0"),
        ("SIGMOID", -1, "A SIGMOID window needs a width above 0; got -1"),
        ("CUBIC", 10, "voi_lut_function must be 'LINEAR', 'LINEAR_EXACT' or 'SIGMOID'; got 'CUBIC'"),
    ],
)
def test_windows_that_the_standard_does_not_define_are_refused(function: str, width: float, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        window_function(np.zeros(1), 0, width, function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_window_clamp_agrees_with_pydicom(function: str) -> None:
    stored = np.arange(4096, dtype="uint16").reshape(64, 64)
    header = pydicom.Dataset()
    header.update({"WindowCenter": 1500, "WindowWidth": 900, "VOILUTFunction": function, "BitsStored": 12})
    header.update({"PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0})
    X = with_window(stored, window_center=1500.0, window_width=900.0, voi_lut_function=function)
    np.testing.assert_allclose(WindowClamp().fit_transform(X)[0], apply_windowing(stored, header) / 4095, atol=1.2e-5)


def test_the_window_of_the_metadata_comes_first_and_percentiles_where_there_is_none() -> None:
    ramp = np.arange(4096, dtype="uint16").reshape(64, 64)
    meta = pd.DataFrame({"window_center": [2048, np.nan], "window_width": [101, np.nan]})
    known, unknown = WindowClamp(percentiles=(10, 90)).fit_transform(ImageSet([ramp, ramp], bits_stored=12, meta=meta))
    assert (np.count_nonzero(known == 0), np.count_nonzero(unknown == 0)) == (1998, 410)
    assert np.mean(unknown == 1) == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("voi_lut_function", [None, *FUNCTIONS])
@pytest.mark.parametrize("window", [(0.4, 0.3), "percentiles"])
def test_a_window_in_fractions_means_the_same_at_every_depth(window: object, voi_lut_function: str | None) -> None:
    unit = np.linspace(0, 1, 256).reshape(16, 16)
    images = [np.rint(unit * 255).astype("u1"), np.rint(unit * 65535).astype("u2"), unit.astype("f4")]
    out = WindowClamp(window, (5, 90), voi_lut_function=voi_lut_function).fit_transform(images)
    # The standard's half and one are a level and a half of 8 bits.
    tolerance = (2 / 255 if voi_lut_function == "LINEAR" else 1e-3) / 0.3
    np.testing.assert_allclose(out[0], out[1], atol=tolerance)
    np.testing.assert_allclose(out[2], out[1], atol=tolerance)


def test_windows_of_floats_are_in_fractions_and_exact() -> None:
    X = with_window(np.array([[0.2, 0.4, 0.6]]), 0, window_center=0.4, window_width=0.4, voi_lut_function="LINEAR")
    np.testing.assert_allclose(WindowClamp().fit_transform(X)[0], [[0, 0.5, 1]], atol=6 * LEVEL)


@pytest.mark.parametrize("voi_lut_function", [None, *FUNCTIONS])
@pytest.mark.parametrize("image", [np.full((3, 3), 7, "u2"), np.full((3, 3), 0.3), np.zeros((1, 1), "u1")])
def test_the_percentile_window_of_a_constant_image_is_defined(image: np.ndarray, voi_lut_function: str | None) -> None:
    out = WindowClamp("percentiles", voi_lut_function=voi_lut_function).fit_transform([image])[0]
    assert np.ptp(out) == 0
    assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"window_center": 10.0, "window_width": 0.0}, "Image 0: the metadata's display window .* of at least 1"),
        ({"window_center": 10.0, "window_width": -5.0}, "Image 0: the metadata's display window is unusable"),
        ({"window_center": np.inf, "window_width": 5.0}, "window_center=inf"),
        ({"window_center": "wide", "window_width": "open"}, "Image 0: the metadata's display window is unusable"),
        ({"window_center": (10, 20), "window_width": (5, 5)}, "Image 0: the metadata's display window is unusable"),
        (
            {"window_center": 10.0, "window_width": 5.0, "voi_lut_function": "CUBIC"},
            "Image 0: the metadata's voi_lut_function is 'CUBIC'; expected one of LINEAR",
        ),
    ],
)
def test_a_senseless_window_in_the_metadata_is_an_error_naming_the_image(window: dict, message: str) -> None:
    with pytest.raises(InvalidImageError, match=message):
        WindowClamp().fit_transform(with_window(np.zeros((2, 2), "u2"), **window))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window": "header"}, r"window must be 'meta', 'percentiles' or \(center, width\); got 'header'"),
        ({"window": (0.5, 0)}, r"window must be \(center, width\) in fractions of full scale, width above 0"),
        ({"window": (0.5,)}, r"window must be \(center, width\) in fractions"),
        ({"percentiles": (5, 5)}, "percentiles must be two rising numbers"),
        ({"voi_lut_function": "CUBIC"}, "voi_lut_function must be 'LINEAR', 'LINEAR_EXACT' or 'SIGMOID'"),
    ],
)
def test_window_clamp_refuses_parameters_out_of_range(parameters: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        WindowClamp(**parameters).fit(np.zeros((1, 2, 2), "u1"))
