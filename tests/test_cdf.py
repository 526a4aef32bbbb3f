"""CDF matching and Nyúl's landmarks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import curves

from xray_harmonize import CDFMatching, ImageSet, Nyul, ToneCurve
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.cdf import landmark_curve, limit_slope, matching_curve, smooth_curve
from xray_harmonize.levels import PROBABILITIES, histogram, quantiles

LEVEL = 1 / 65535
rising = hnp.arrays("float64", st.integers(2, 12), elements=st.integers(0, 50).map(lambda v: v / 50)).map(np.sort)


def bodies(n: int = 6, side: int = 40, seed: int = 0) -> np.ndarray:
    """Give n different images whose grey values fill [0, 1]."""
    rng = np.random.default_rng(seed)
    return rng.beta(2, 2, (n, side, side)) ** rng.uniform(0.8, 1.2, (n, 1, 1))


# -- the matching curve ---------------------------------------------------------------------------------------------


@given(rising)
def test_matching_a_source_to_itself_changes_none_of_its_values(q: np.ndarray) -> None:
    np.testing.assert_allclose(matching_curve(q, q)(q), q, atol=1e-12)


@given(rising, st.data())
def test_matching_brings_every_quantile_of_the_source_to_the_references(q: np.ndarray, data: st.DataObject) -> None:
    distinct = np.unique(q)
    reference = np.sort(data.draw(hnp.arrays("float64", distinct.size, elements=st.floats(0, 1))))
    np.testing.assert_allclose(matching_curve(distinct, reference)(distinct), reference, atol=1e-12)


def test_what_lies_outside_the_sources_range_keeps_its_side() -> None:
    curve = matching_curve(np.array([0.2, 0.4]), np.array([0.5, 0.6]))
    np.testing.assert_allclose(curve(np.array([0, 0.1, 0.7, 1])), [0, 0.25, 0.8, 1])


# -- smoothing and slope --------------------------------------------------------------------------------------------


@given(curves(), st.floats(0.001, 0.999))
def test_a_smoothed_curve_is_monotone_and_keeps_its_ends(curve: ToneCurve, smoothness: float) -> None:
    smooth = smooth_curve(curve, smoothness)
    assert np.all(np.diff(smooth.y) >= 0)
    np.testing.assert_allclose(smooth(np.array([0.0, 1.0])), curve(np.array([0.0, 1.0])), atol=1e-9)


@given(curves(), st.floats(0.001, 0.2))
def test_smoothing_never_makes_a_curve_steeper_than_it_was(curve: ToneCurve, smoothness: float) -> None:
    assert smooth_curve(curve, smoothness).max_slope <= max(curve.max_slope, curve.y[-1] - curve.y[0]) + 1e-6


def test_smoothing_leaves_a_straight_line_and_flattens_a_step() -> None:
    line = ToneCurve([0, 1], [0.2, 0.7])
    np.testing.assert_allclose(smooth_curve(line, 0.1)(line.x), line.y)
    step = ToneCurve([0, 0.5, 0.501, 1], [0, 0.25, 0.75, 1])
    # A step of height h under a Gaussian of width s has the slope h / (s sqrt(2 pi)), on top of the line it stands on.
    assert smooth_curve(step, 0.05).max_slope == pytest.approx(0.5 / (0.05 * np.sqrt(2 * np.pi)) + 0.5, rel=0.01)


@given(curves(), st.floats(1, 20))
def test_a_limited_curve_is_monotone_keeps_its_ends_and_is_never_steeper(curve: ToneCurve, max_slope: float) -> None:
    limited = limit_slope(curve, max_slope)
    assert limited.max_slope <= max_slope * (1 + 1e-9)
    assert np.all(np.diff(limited.y) >= 0)
    np.testing.assert_allclose(limited(np.array([0.0, 1.0])), curve(np.array([0.0, 1.0])), atol=1e-9)


def test_a_step_narrower_than_the_grid_is_limited_too() -> None:
    step = ToneCurve([0, 0.5, 0.50001, 1], [0, 0.5, 0.501, 1])
    assert step.max_slope > 90
    assert limit_slope(step, 5).max_slope <= 5


@given(curves())
def test_a_curve_within_the_bound_is_left_alone(curve: ToneCurve) -> None:
    bound = max(1.0, curve.max_slope)
    assert limit_slope(curve, bound) == curve


# -- CDF matching ---------------------------------------------------------------------------------------------------


def test_one_curve_a_scanner_undoes_a_fixed_response() -> None:
    images = bodies(12)
    X = np.concatenate([images[:6], images[6:] ** 1.8 * 0.7])
    out = CDFMatching(reference="A", scope="scanner").fit_transform(X, scanner=["A"] * 6 + ["B"] * 6)
    middle = (images[6:] > 0.05) & (images[6:] < 0.95)
    assert np.abs(out[6:] - images[6:])[middle].max() < 0.06
    assert np.abs(out[:6] - images[:6]).max() < 1e-3


def test_one_curve_an_image_undoes_a_response_that_varies_and_gives_all_the_references_distribution() -> None:
    images = bodies(6)
    X = np.stack([image**gamma for image, gamma in zip(images, np.linspace(0.5, 2, 6), strict=True)])
    fitted = CDFMatching().fit(images)
    out = fitted.transform(X)
    np.testing.assert_allclose(out, fitted.transform(images), atol=5e-3)
    for image in out:
        np.testing.assert_allclose(quantiles(histogram(image))[40:-40], fitted.reference_quantiles_[40:-40], atol=5e-3)


def test_mixed_stands_between_image_and_scanner() -> None:
    images = bodies(8)
    X = ImageSet(np.concatenate([images[:4], images[4:] ** 2]), scanner=["A"] * 4 + ["B"] * 4)

    def curve(**scope: object) -> ToneCurve:
        return CDFMatching("A", **scope).fit(X).tone_curves(X[[5]])[0]

    for weight, same in ((0.0, "scanner"), (1.0, "image")):
        mixed = curve(scope="mixed", image_weight=weight)
        np.testing.assert_allclose(mixed.table(99), curve(scope=same).table(99), atol=1e-9)
    low, high = np.sort([curve(scope="image").inverse().table(99), curve(scope="scanner").inverse().table(99)], axis=0)
    middle = curve(scope="mixed").inverse().table(99)
    assert np.all((low - 1e-6 <= middle) & (middle <= high + 1e-6))


def test_cdf_matching_is_idempotent() -> None:
    X = np.rint(bodies(4) * 4095).astype("u2")
    fitted = CDFMatching().fit(bodies(5, seed=1))
    once = fitted.transform(ImageSet(X, bits_stored=12))
    twice = fitted.transform(once)
    assert max(np.abs(a - b).max() for a, b in zip(once, twice, strict=True)) < 2e-3


def test_matching_an_image_to_itself_changes_nothing() -> None:
    image = bodies(1).astype("f4")
    np.testing.assert_allclose(CDFMatching().fit(image).transform(image), image, atol=2e-3)


def test_one_reference_image_gives_what_scikit_image_gives() -> None:
    exposure = pytest.importorskip("skimage.exposure")
    source, reference = bodies(2, side=150)
    ours = CDFMatching().fit(reference[None]).transform(source[None] ** 2)[0]
    theirs = exposure.match_histograms(source**2, reference)
    inner = (source > np.quantile(source, 0.01)) & (source < np.quantile(source, 0.99))
    assert np.abs(ours - theirs)[inner].max() < 2e-3


def test_the_reference_is_the_mean_of_quantile_functions() -> None:
    X = np.stack([bodies(1)[0] * 0.4, bodies(1)[0] * 0.4 + 0.5])
    learned = CDFMatching().fit(X).reference_quantiles_
    np.testing.assert_allclose(learned, quantiles(histogram(bodies(1)[0] * 0.4 + 0.25)), atol=2e-3)
    assert learned.shape == PROBABILITIES.shape


def test_pooled_gives_every_scanner_the_same_weight() -> None:
    images = bodies(6)
    X = ImageSet(np.concatenate([images[:4] * 0.5, images[4:]]), scanner=["A"] * 4 + ["B"] * 2)
    pooled = CDFMatching("pooled").fit(X).reference_quantiles_
    each = [CDFMatching().fit(X[X.scanner == scanner]).reference_quantiles_ for scanner in "AB"]
    np.testing.assert_allclose(pooled, np.mean(each, axis=0), atol=1e-12)


def test_air_stays_air_where_the_foreground_leaves_it_out() -> None:
    body, reference = (np.where(np.arange(40)[:, None] < 20, 0, 0.3 + 0.6 * image) for image in bodies(2))
    with_air = CDFMatching().fit((reference * 0.5 + 0.3)[None]).transform(body[None])[0]
    assert with_air[:20].min() > 0.2
    for foreground in ("nonzero", 0.1, "otsu"):
        out = CDFMatching(foreground=foreground).fit(reference[None]).transform(body[None])[0]
        assert not out[:20].any(), foreground
        assert out[20:].min() > 0.25, foreground


def test_smoothness_and_max_slope_bound_the_curves() -> None:
    X = np.rint(bodies(3) * 4).astype("u1") * 60
    for parameters, bound in (({"max_slope": 2.5}, 2.5), ({"smoothness": 0.05}, 20), ({}, np.inf)):
        slopes = [curve.max_slope for curve in CDFMatching(**parameters).fit(bodies(3)).tone_curves(X)]
        assert max(slopes) <= bound * (1 + 1e-9)
    assert max(slopes) > 2.5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"smoothness": 1.0}, r"smoothness must lie in \[0, 1\); got 1.0"),
        ({"smoothness": -0.1}, r"smoothness must lie in \[0, 1\)"),
        ({"max_slope": 0.5}, "max_slope must be at least 1, or the curve cannot reach white; got 0.5"),
        ({"max_slope": np.nan}, "max_slope must be at least 1"),
        ({"foreground": 1.0}, r"foreground as a fraction of full scale must lie in \[0, 1\); got 1.0"),
    ],
)
def test_cdf_matching_refuses_parameters_out_of_range(parameters: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        CDFMatching(**parameters).fit(bodies(1))


# -- Nyúl -----------------------------------------------------------------------------------------------------------


@given(rising, st.data())
def test_the_landmark_curve_goes_through_the_landmarks(source: np.ndarray, data: st.DataObject) -> None:
    x = np.unique(source)
    y = np.sort(data.draw(hnp.arrays("float64", x.size, elements=st.integers(0, 50).map(lambda v: v / 50))))
    curve = landmark_curve(x, y)
    np.testing.assert_allclose(curve(x), y, atol=1e-9)


@given(rising)
def test_the_landmark_curve_of_equal_landmarks_is_the_identity(landmarks: np.ndarray) -> None:
    x = np.unique(landmarks)
    if x.size > 1:
        np.testing.assert_allclose(landmark_curve(x, x).table(101), np.linspace(0, 1, 101), atol=1e-9)


def test_the_landmark_curve_is_drawn_on_straight_until_black_or_white() -> None:
    curve = landmark_curve(np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.5, 0.7]))
    # 3 and 2 are the slopes of the outer pieces.
    np.testing.assert_allclose(curve(np.array([0, 1 / 3, 0.35, 0.7, 0.75, 1])), [0, 0, 0.05, 0.9, 1, 1], atol=1e-9)
    shallow = landmark_curve(np.array([0.4, 0.6]), np.array([0.4, 0.5]))
    np.testing.assert_allclose(shallow(np.array([0.0, 1.0])), [0.2, 0.7], atol=1e-9)


def test_nyul_brings_the_landmarks_of_every_image_to_their_standard_places() -> None:
    images = bodies(5, side=80)
    fitted = Nyul().fit(images[:4])
    out = fitted.transform(images[4:] ** 2 * 0.8)
    landmarks = quantiles(histogram(out[0]), np.asarray(fitted.percentiles) / 100)
    np.testing.assert_allclose(landmarks, fitted.standard_landmarks_, atol=1e-3)


def test_the_standard_is_the_mean_of_landmarks_after_the_first_linear_step() -> None:
    # Two images of one shape but different ranges: their relative landmarks agree, and so does the standard.
    image = bodies(1, side=80)
    X = np.concatenate([image * 0.5, 0.2 + image * 0.8])
    fitted = Nyul(output_range=(0.1, 0.9)).fit(X)
    alone = Nyul(output_range=(0.1, 0.9)).fit(X[:1])
    np.testing.assert_allclose(fitted.standard_landmarks_, alone.standard_landmarks_, atol=1e-3)
    assert fitted.standard_landmarks_[[0, -1]].tolist() == pytest.approx([0.1, 0.9])


def test_nyul_changes_nothing_where_the_source_is_the_reference() -> None:
    image = bodies(1, side=80)
    np.testing.assert_allclose(Nyul().fit(image).transform(image), image, atol=2 * LEVEL)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"percentiles": (1, 50, 50, 99)}, "percentiles must be at least two rising numbers"),
        ({"percentiles": (50,)}, "percentiles must be at least two rising numbers"),
        ({"percentiles": (-1, 99)}, r"percentiles must lie in \[0, 100\]"),
        ({"output_range": (0.9, 0.1)}, r"output_range must be two rising numbers from 0 to 1; got \(0.9, 0.1\)"),
        ({"output_range": (0.1, 0.5, 0.9)}, "output_range must be two rising numbers from 0 to 1"),
    ],
)
def test_nyul_refuses_parameters_out_of_range(parameters: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        Nyul(**parameters).fit(bodies(1))
