"""CDF matching and Nyúl's landmarks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import curves

import xray_harmonize
from xray_harmonize import CDFMatching, FourierSwap, ImageSet, MinMax, MultiBand, Nyul, ToneCurve
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


# -- between scanner and image --------------------------------------------------------------------------------------

N_EACH = 40


@cache
def truth() -> np.ndarray:
    """Give half ellipsoids of different size and thickness in air, twice N_EACH of them."""
    rng = np.random.default_rng(3)
    rows, columns = np.meshgrid(*2 * [np.linspace(-1, 1, 32)], indexing="ij")
    images = []
    for _ in range(2 * N_EACH):
        height, width = rng.uniform(0.65, 0.95, 2)
        thickness = np.sqrt(np.clip(1 - (rows / height) ** 2 - (columns / width) ** 2, 0, None))
        noise = 0.03 * rng.standard_normal(rows.shape)
        images.append(np.clip(0.9 * (1 - np.exp(-1.5 * rng.uniform(0.9, 1.1) * thickness)) + noise * thickness, 0, 1))
    return np.stack(images)


@cache
def scanners(varying: bool) -> ImageSet:
    """Show the first half on A and the others on B, which bends them alike or each with a gamma of its own."""
    z = np.random.default_rng(4).standard_normal((N_EACH, 1, 1)) if varying else 0.0
    bent = 0.1 + 0.7 * (truth()[N_EACH:] ** np.exp(0.5 * z)) ** 0.6
    stored = np.rint(np.concatenate([truth()[:N_EACH], bent]) * 4095).astype("u2")
    return ImageSet(stored, ["A"] * N_EACH + ["B"] * N_EACH, bits_stored=12)


def error(method: CDFMatching, X: ImageSet) -> float:
    out = np.stack(list(method.fit(X).transform(X)))
    return float(np.sqrt(np.mean((out - truth())[N_EACH:] ** 2)))


def assert_same_results(first: CDFMatching, second: CDFMatching, X: ImageSet, atol: float = 0.0) -> None:
    for a, b in zip(first.transform(X), second.transform(X), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@cache
def shrunk() -> CDFMatching:
    fitted = CDFMatching("A", "shrunk").fit(scanners(varying=True))
    assert fitted.scanner_tones_["B"]["share"].any()
    return fitted


def test_shrunk_is_one_curve_a_scanner_where_the_response_is_fixed() -> None:
    X = scanners(varying=False)
    assert_same_results(CDFMatching("A", "shrunk").fit(X), CDFMatching("A", "scanner").fit(X), X, atol=1e-6)


def test_shrunk_is_nearer_to_the_truth_than_either_scope_where_exposure_varies() -> None:
    X = scanners(varying=True)
    others = min(error(CDFMatching("A", scope), X) for scope in ("image", "scanner"))
    assert error(CDFMatching("A", "shrunk"), X) < 0.85 * others


def test_shrunk_keeps_what_differs_between_bodies() -> None:
    def kept(scope: str) -> float:
        out = CDFMatching("A", scope).fit(scanners(varying=True)).transform(scanners(varying=True))
        means = [image.mean() for image in out][N_EACH:]
        return float(np.corrcoef(means, truth()[N_EACH:].mean(axis=(1, 2)))[0, 1])

    assert kept("shrunk") > max(kept("image"), kept("scanner"))


def test_shrunk_leaves_the_references_own_images_alone() -> None:
    X = scanners(varying=True)[:N_EACH]
    assert not shrunk().scanner_tones_["A"]["share"].any()
    assert_same_results(shrunk(), CDFMatching("A", "scanner").fit(X), X, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_few_images_of_a_scanner_are_shrunk_to_its_curve(n: int) -> None:
    X = scanners(varying=True)[: N_EACH + n]
    assert_same_results(CDFMatching("A", "shrunk").fit(X), CDFMatching("A", "scanner").fit(X), X, atol=1e-6)


def test_shrunk_learns_an_adapted_scanner_as_if_it_had_been_there_from_the_start() -> None:
    X = scanners(varying=True)
    known = CDFMatching("A", "shrunk").fit(X[:N_EACH])
    adapted = known.adapt(X[N_EACH:])
    assert_same_results(adapted, shrunk(), X, atol=1e-6)
    assert set(known.scanner_tones_) == {"A"}
    twice = adapted.adapt(ImageSet(list(X[N_EACH:]), "C", bits_stored=12))
    assert_same_results(twice, shrunk(), X, atol=1e-6)
    np.testing.assert_allclose(twice.scanner_tones_["C"]["share"], shrunk().scanner_tones_["B"]["share"])


def test_shrunk_learns_the_same_in_any_order_and_in_chunks() -> None:
    X, streamed = scanners(varying=True), CDFMatching("A", "shrunk")
    for start in range(0, len(X), 16):
        streamed.partial_fit(X[start : start + 16])
    for name, tone in shrunk().scanner_tones_.items():
        for key, value in tone.items():
            np.testing.assert_allclose(streamed.scanner_tones_[name][key], value, rtol=1e-12, atol=1e-12)
    order = np.random.default_rng(0).permutation(len(X))
    assert_same_results(CDFMatching("A", "shrunk").fit(X[order]), shrunk(), X, atol=1e-6)


def test_shrunk_forgets_the_scanners_of_an_earlier_fit() -> None:
    X = scanners(varying=True)
    again = CDFMatching("A", "shrunk").fit(X).fit(X[:N_EACH])
    assert set(again.scanner_tones_) == {"A"}


def test_shrunk_is_saved_and_loaded(tmp_path: Path) -> None:
    X = scanners(varying=True)
    shrunk().save(tmp_path / "shrunk.npz")
    loaded = xray_harmonize.load(tmp_path / "shrunk.npz")
    assert_same_results(loaded, shrunk(), X)
    known = CDFMatching("A", "shrunk").fit(X[:N_EACH])
    known.save(tmp_path / "known.npz")
    assert_same_results(xray_harmonize.load(tmp_path / "known.npz").adapt(X[N_EACH:]), shrunk(), X, atol=1e-6)


def test_a_shrunk_image_depends_on_no_other_in_the_call() -> None:
    X = scanners(varying=True)
    together = shrunk().transform(X)
    for i in (3, N_EACH, N_EACH + 5):
        np.testing.assert_array_equal(shrunk().transform(X[[i]])[0], together[i])


@pytest.mark.parametrize("level", [0, 900, 4095])
def test_shrunk_curves_of_odd_images_are_monotone(level: int) -> None:
    X = ImageSet([np.full((9, 7), level, "u2"), np.eye(9, dtype="u2") * level], "B", bits_stored=12)
    for curve in shrunk().tone_curves(X):
        assert np.all(np.diff(curve.table(4096)) >= 0)
    assert np.ptp(shrunk().transform(X)[0]) == 0


def test_shrunk_to_all_scanners_alike_takes_the_mean_of_their_variances_for_content() -> None:
    X = scanners(varying=True)
    pooled = CDFMatching("pooled", "shrunk").fit(X)
    assert pooled.content_["n_images"] == len(X) - 1
    assert not pooled.scanner_tones_["A"]["share"].any()
    # Half of what varies on B counts as content.
    assert pooled.scanner_tones_["B"]["share"].max() < shrunk().scanner_tones_["B"]["share"].max()


def test_image_weight_is_without_effect_on_shrunk() -> None:
    X = scanners(varying=True)
    assert_same_results(CDFMatching("A", "shrunk", image_weight=0.9).fit(X), shrunk(), X)


@pytest.mark.parametrize("method", [FourierSwap, MinMax, MultiBand, Nyul])
def test_other_methods_refuse_to_be_shrunk(method: type) -> None:
    parameters: dict[str, Any] = {"output_range": "reference"} if method is MinMax else {}
    with pytest.raises(InvalidParameterError, match=r"scope must be 'image', 'scanner' or 'mixed'; got 'shrunk'\."):
        method(scope="shrunk", **parameters).fit(bodies(1))


def test_cdf_matching_names_all_its_scopes() -> None:
    with pytest.raises(
        InvalidParameterError, match=r"scope must be 'image', 'scanner', 'mixed' or 'shrunk'; got 'pixel'\."
    ):
        CDFMatching(scope="pixel").fit(bodies(1))


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
