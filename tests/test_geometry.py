from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from xray_harmonize import CropForeground, ImageSet, MinMax, Resize, load, save
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError

SIDES = ["top", "bottom", "left", "right"]
few = settings(max_examples=30, deadline=None)


def chest(height: int = 140, width: int = 150) -> np.ndarray:
    """Soft tissue up to the edges with two lungs, a spine and a little noise; float in [0, 1]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    image = np.full((height, width), 0.6)
    for side in (-0.45, 0.45):
        image[((x - side) / 0.3) ** 2 + ((y + 0.1) / 0.7) ** 2 < 1] = 0.25
    image[np.abs(x) < 0.08] = 0.9
    noise = np.random.default_rng(0).normal(0, 0.01, image.shape)
    return np.clip(ndimage.gaussian_filter(image, 1.5) + noise, 0, 1).astype(np.float32)


def framed(body: np.ndarray, top: int, bottom: int, left: int, right: int, level: float = 0.0) -> np.ndarray:
    return np.pad(body, ((top, bottom), (left, right)), constant_values=level)


def tilted(degrees: float, surroundings: float = 0.0) -> np.ndarray:
    """A chest whose collimation leans counter-clockwise."""
    return ndimage.rotate(
        framed(chest(), 40, 40, 40, 40, surroundings), degrees, reshape=False, order=1, cval=surroundings
    )


def cut_of(image: np.ndarray, **parameters: object) -> pd.Series:
    return CropForeground(**parameters).crops([image]).iloc[0]


# -- what is found -----------------------------------------------------------------------------------------------------

borders = st.tuples(*[st.integers(0, 45)] * 4)


@few
@given(borders)
def test_black_borders_are_cut_to_the_pixel_or_two(widths: tuple[int, int, int, int]) -> None:
    cut = cut_of(framed(chest(), *widths))
    np.testing.assert_allclose(cut[SIDES].astype(int), widths, atol=2)
    assert cut.angle == 0


@few
@given(borders, st.floats(0.85, 1.0))
def test_white_borders_are_cut_to_the_pixel_or_two(widths: tuple[int, int, int, int], level: float) -> None:
    cut = cut_of(framed(chest(), *widths, level))
    np.testing.assert_allclose(cut[SIDES].astype(int), widths, atol=2)


def test_borders_of_a_large_image_are_cut_within_a_hundredth_of_it() -> None:
    large = np.kron(framed(chest(), 10, 30, 20, 0), np.ones((12, 12), dtype=np.float32))
    np.testing.assert_allclose(cut_of(large)[SIDES].astype(int), (120, 360, 240, 0), atol=20)


def test_black_band_and_a_plate_in_it_are_cut_at_the_bottom() -> None:
    image = framed(chest(), 0, 40, 0, 0)
    image[160:172, 10:30] = 1
    np.testing.assert_allclose(cut_of(image)[SIDES].astype(int), (0, 40, 0, 0), atol=1)


def test_bright_thin_line_along_a_band_does_not_keep_the_band() -> None:
    image = framed(chest(), 0, 40, 30, 30)
    image[139:141] = 1
    np.testing.assert_allclose(cut_of(image)[SIDES].astype(int), (0, 40, 30, 30), atol=3)


@few
@given(st.floats(1.5, 10), st.sampled_from([-1, 1]), st.sampled_from([0.0, 1.0]))
def test_tilted_collimation_is_turned_upright(degrees: float, sign: int, surroundings: float) -> None:
    image = tilted(sign * degrees, surroundings)
    cut = cut_of(image)
    assert cut.angle == pytest.approx(sign * degrees, abs=0.6)
    upright = CropForeground().transform([image])[0]
    np.testing.assert_allclose(upright.shape, (140, 150), atol=6)
    assert np.abs(upright[2:-2, 2:-2] - surroundings).min() > 0.05


def test_deskew_can_be_left_out() -> None:
    assert cut_of(tilted(6), deskew=False).angle == 0


def test_anatomy_that_leans_is_not_turned() -> None:
    torso = np.zeros((160, 160), dtype=np.float32)
    for row in range(160):
        torso[row, 50 - row // 5 : 110 + row // 5] = 0.7
    assert cut_of(ndimage.gaussian_filter(torso, 3)).angle == 0


def test_body_in_air_is_cut_to_its_box_and_the_margin() -> None:
    y, x = np.mgrid[:200, :160]
    body = ndimage.gaussian_filter((((y - 110) / 60.0) ** 2 + ((x - 70) / 40.0) ** 2 < 1) * 0.8, 1.0)
    np.testing.assert_allclose(cut_of(body, margin=0)[SIDES].astype(int), (50, 30, 30, 50), atol=2)
    np.testing.assert_allclose(cut_of(body, margin=0.1)[SIDES].astype(int), (38, 18, 18, 38), atol=2)


def test_both_of_two_bodies_are_kept() -> None:
    legs = np.zeros((120, 120))
    legs[:, 20:40] = legs[:, 80:105] = 0.7
    np.testing.assert_allclose(cut_of(legs, margin=0)[SIDES].astype(int), (0, 0, 20, 15), atol=1)


def test_unexposed_bright_bands_beside_a_limb_are_cut() -> None:
    image = np.full((200, 200), 0.02, dtype=np.float32)
    image[:, 80:120] = 0.6
    image[:, :50] = image[:, 150:] = 1.0
    cut = cut_of(ndimage.gaussian_filter(image, 1.0), margin=0)
    np.testing.assert_allclose(cut[SIDES].astype(int), (0, 0, 80, 80), atol=3)
    assert cut.reason == "body; bright bands left, right"


def test_saturated_abdomen_is_no_white_border() -> None:
    image = chest(160, 160)
    y, x = np.mgrid[:160, :160]
    domes = 125 + 0.015 * (np.abs(x - 80.0) - 40) ** 2
    image[y > domes] = 1.0
    assert cut_of(image).kept_fraction == 1


def test_mask_bounds_the_crop() -> None:
    image = framed(chest(), 0, 0, 0, 60, 0.5)
    mask = np.zeros(image.shape, dtype=bool)
    mask[:, :150] = True
    cut = CropForeground().crops(ImageSet([image], mask=[mask])).iloc[0]
    assert cut[SIDES].tolist() == [0, 0, 0, 60]
    assert cut.reason == "body; mask"


def test_air_that_is_masked_as_padding_does_not_make_the_skin_air() -> None:
    y, x = np.mgrid[:200, :160]
    breast = np.clip(1 - ((y - 100) / 70.0) ** 2 - (x / 90.0) ** 2, 0, 1) ** 0.5
    mask = breast > 0
    cut = CropForeground().crops(ImageSet([breast.astype(np.float32)], mask=[mask])).iloc[0]
    np.testing.assert_allclose(cut[SIDES].astype(int), (31, 31, 0, 70), atol=3)


def collimated(**edges: object) -> ImageSet:
    return ImageSet([chest(100, 120)], meta=pd.DataFrame([{f"collimator_{k}": v for k, v in edges.items()}]))


def test_collimator_edges_of_the_header_bound_the_crop() -> None:
    X = collimated(upper=11, lower=90, left=21, right=100, in_pixels=True)
    cut = CropForeground().crops(X).iloc[0]
    assert cut[SIDES].tolist() == [10, 10, 20, 20]
    assert cut.reason == "body; collimator edges in the header"
    assert CropForeground(use_collimator=False).crops(X).kept_fraction[0] == 1


@pytest.mark.parametrize(
    "edges",
    [
        {"upper": 907, "lower": 1299, "left": -184, "right": 184},
        {"upper": 1, "lower": 5, "left": 1, "right": 5},
        {"upper": 11, "lower": 90, "left": 21, "right": 100, "in_pixels": False},
        {"upper": "11", "lower": 90, "left": 21, "right": 100},
    ],
)
def test_collimator_edges_that_are_no_positions_are_not_used_and_it_says_so(edges: dict[str, object]) -> None:
    cut = CropForeground().crops(collimated(**edges)).iloc[0]
    assert cut.kept_fraction == 1
    assert cut.reason.endswith("no positions in the image, not used")


@pytest.mark.parametrize("first", [CropForeground(), Resize((100, 120))])
def test_collimator_edges_count_only_until_pixels_have_moved(first: CropForeground | Resize) -> None:
    moved = first.transform(collimated(upper=11, lower=90, left=21, right=100))
    assert CropForeground().crops(moved).kept_fraction[0] == 1


def test_a_second_crop_cuts_nothing() -> None:
    once = CropForeground().transform([framed(chest(), 10, 30, 0, 25), tilted(5)])
    assert CropForeground().crops(once).kept_fraction.min() > 0.97


# -- where nothing is found --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((40, 40), 7, dtype="uint16"), "no body, all of it has one level"),
        (np.zeros((40, 40)), "no body, all of it has one level"),
        (np.ones((50, 1), dtype="uint8"), "50 x 1 pixels are too few"),
        (np.eye(40, 4000), "40 x 4000 pixels are too few or too long"),
        (np.pad(np.ones((20, 20)), 60), "below min_fraction"),
        (np.pad(np.ones((400, 15)), ((0, 0), (200, 200))), "below min_fraction"),
    ],
)
def test_whole_image_is_kept_with_the_reason_where_no_body_is_plausible(image: np.ndarray, reason: str) -> None:
    cut = cut_of(image)
    assert cut.kept_fraction == 1
    assert cut.reason.startswith("whole image: ")
    assert reason in cut.reason
    np.testing.assert_array_equal(CropForeground().transform([image])[0], image)


def test_whole_image_is_kept_where_the_body_would_be_a_strip() -> None:
    image = np.pad(np.ones((400, 15)), ((0, 0), (200, 200)))
    assert cut_of(image, min_fraction=0).reason == "whole image: the body would be a strip"


def test_whole_image_is_kept_where_the_mask_leaves_nothing() -> None:
    X = ImageSet([chest()], mask=[np.zeros((140, 150), dtype=bool)])
    assert CropForeground().crops(X).reason[0] == "whole image: what counts is next to nothing; mask"


@pytest.mark.parametrize("estimator", [CropForeground(), Resize(20)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_by_the_image_that_holds_them(
    estimator: CropForeground | Resize, bad: float
) -> None:
    image = chest()
    image[70, 70] = bad
    with pytest.raises(InvalidImageError, match=r"Image 1 holds NaN or infinite pixels.*leave the image out"):
        estimator.transform([chest(), image])


# -- what comes out ----------------------------------------------------------------------------------------------------


@few
@given(borders, st.floats(-8, 8))
def test_crops_tell_the_shape_that_comes_out(widths: tuple[int, int, int, int], degrees: float) -> None:
    image = ndimage.rotate(framed(chest(), *widths), degrees, reshape=False, order=1)
    cut, out = cut_of(image), CropForeground().transform([image])[0]
    assert cut[SIDES].min() >= 0
    assert out.shape == (image.shape[0] - cut.top - cut.bottom, image.shape[1] - cut.left - cut.right)
    assert cut.kept_fraction == pytest.approx(out.size / image.size)


@pytest.mark.parametrize("angle", [0, 4])
def test_depth_of_the_pixels_makes_no_difference_and_is_kept(angle: float) -> None:
    eight = np.rint(255 * (tilted(angle) if angle else framed(chest(), 10, 30, 0, 25))).astype("uint8")
    images = [eight, eight * np.uint16(257), eight / np.float32(255), eight / 255, eight.astype("uint32")]
    images += [eight.astype(">u2"), (eight / 255).astype("float16")]
    crop = CropForeground()
    cuts = crop.crops(images[:-1])
    assert (cuts[SIDES] == cuts[SIDES].iloc[0]).all(axis=None)
    assert np.ptp(cuts.angle) < 1e-3
    assert [out.dtype for out in crop.transform(images)] == [image.dtype for image in images]
    np.testing.assert_allclose(crop.transform(images[2:3])[0], crop.transform(images[:1])[0] / 255, atol=1 / 255)


def test_image_set_keeps_labels_bits_and_window_and_its_mask_moves_along() -> None:
    image = np.rint(4095 * framed(chest(), 20, 0, 0, 20)).astype("uint16")
    mask = np.ones(image.shape, dtype=bool)
    mask[30:40, 50:60] = False
    meta = pd.DataFrame({"window_center": [2000.0], "window_width": [3000.0], "kvp": [120.0]})
    X = ImageSet([image], scanner=["A"], patient=["p"], bits_stored=12, mask=[mask], meta=meta)
    out = CropForeground(margin=0).fit(X).transform(X)
    assert (out.scanner.tolist(), out.patient.tolist(), out.bits_stored.tolist()) == (["A"], ["p"], [12])
    assert out.radiograph(0).meta["window_center"] == 2000
    assert out.meta.kvp.tolist() == [120]
    cut = CropForeground(margin=0).crops(X).iloc[0]
    rows, columns = slice(cut.top, image.shape[0] - cut.bottom), slice(cut.left, image.shape[1] - cut.right)
    np.testing.assert_array_equal(out[0], image[rows, columns])
    np.testing.assert_array_equal(out.mask(0), mask[rows, columns])


def test_pixels_that_turning_brings_in_are_masked() -> None:
    wedge = ndimage.rotate(chest(), 6, reshape=False, order=1)
    X = CropForeground().transform(ImageSet([wedge]))
    mask = X.mask(0)
    assert mask is not None
    assert 0.9 < mask.mean() < 1


def test_lists_of_any_shapes_stay_lists_and_stacks_stay_stacks_of_one_shape() -> None:
    stack = np.stack([framed(chest(), 10, 10, 10, 10), framed(chest(), 0, 20, 20, 0)])
    assert isinstance(CropForeground().transform(list(stack)), list)
    resized = CropForeground(size=64, fill="square").transform(stack)
    assert isinstance(resized, np.ndarray)
    assert resized.shape == (2, 64, 64)
    ragged = CropForeground().transform([stack[0], chest(90, 70), chest(50, 60)])
    assert len({image.shape for image in ragged}) == 3


def test_lazy_set_stays_lazy_and_computes_with_the_parameters_of_then(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", framed(chest(), 10, 30, 0, 25))
    crop = CropForeground(size=32, fill="stretch")
    X = crop.transform(ImageSet([tmp_path / "a.npy"]))
    crop.size = 64
    assert X.is_lazy
    assert pickle.loads(pickle.dumps(X))[0].shape == (32, 32)


def test_images_do_not_influence_each_other() -> None:
    images = [framed(chest(), 10, 30, 0, 25), tilted(5), chest()]
    together = CropForeground().transform(images)
    for image, out in zip(reversed(images), CropForeground().transform(images[::-1]), strict=True):
        np.testing.assert_array_equal(out, CropForeground().transform([image])[0])
    np.testing.assert_array_equal(together[1], CropForeground().transform([images[1]])[0])


@pytest.mark.parametrize("estimator", [CropForeground(), CropForeground(fill="square", size=50), Resize(50)])
@pytest.mark.parametrize("make", [chest, lambda: tilted(5), lambda: np.zeros((30, 30))])
def test_input_is_not_written_to_and_output_is_new_memory(estimator: CropForeground | Resize, make: object) -> None:
    image = make()  # type: ignore[operator]
    before = image.copy()
    image.setflags(write=False)
    out = estimator.transform([image])[0]
    np.testing.assert_array_equal(image, before)
    assert not np.shares_memory(out, image)


def test_fill_square_centers_the_crop_in_its_own_background() -> None:
    image = framed(np.clip(chest(60, 120) + 0.2, 0, 1), 30, 30, 0, 0)
    X = CropForeground(fill="square").transform(ImageSet([image]))
    assert X[0].shape == (120, 120)
    top = X[0][:25]
    assert np.ptp(top) == 0
    assert top[0, 0] == pytest.approx(0.43, abs=0.03)
    assert X.mask(0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("fill", "size", "shape"),
    [
        ("aspect", 60, (30, 60)),
        ("square", 60, (60, 60)),
        ("stretch", (20, 40), (20, 40)),
        ("square", (80, 60), (80, 60)),
    ],
)
def test_size_and_fill_say_what_shape_comes_out(fill: str, size: object, shape: tuple[int, int]) -> None:
    image = np.clip(chest(60, 120) + 0.2, 0, 1)
    assert CropForeground(fill=fill, size=size).transform([image])[0].shape == shape
    assert Resize(size, fill=fill).transform([image])[0].shape == shape


@few
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_resize_stays_within_the_range_of_the_image(height: int, width: int, rows: int, columns: int) -> None:
    image = np.random.default_rng(height * 61 + width).integers(100, 4000, (height, width)).astype("uint16")
    out = Resize((rows, columns), fill="stretch").transform([image])[0]
    assert out.shape == (rows, columns)
    assert out.dtype == image.dtype
    assert image.min() <= out.min() <= out.max() <= image.max()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "uint32"])
def test_white_stays_white_however_it_is_resampled(dtype: str) -> None:
    white = np.ones((31, 47), dtype=dtype)
    for out in (Resize((13, 61), fill="stretch"), Resize((200, 7), fill="stretch")):
        np.testing.assert_array_equal(out.transform([white])[0], 1)


def test_resize_by_a_whole_factor_averages_areas() -> None:
    image = chest(120, 80).astype(np.float64)
    means = image.reshape(30, 4, 20, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(Resize((30, 20), fill="stretch").transform([image])[0], means, atol=1e-12)


# -- estimators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [CropForeground(margin=0.1, size=(8, 9)), Resize((8, 9), fill="stretch")])
def test_clone_pickle_and_file_keep_the_parameters(estimator: CropForeground | Resize, tmp_path: Path) -> None:
    save(estimator.fit([chest()]), tmp_path / "model.npz")
    for copy in (clone(estimator), pickle.loads(pickle.dumps(estimator)), load(tmp_path / "model.npz")):
        assert copy.get_params() == estimator.get_params()
        np.testing.assert_array_equal(copy.transform([chest()])[0], estimator.transform([chest()])[0])


def test_crop_works_before_a_harmonizer_in_a_pipeline() -> None:
    X = ImageSet([framed(chest(), 10, 30, 0, 25), tilted(5)], scanner=["A", "B"])
    out = Pipeline([("crop", CropForeground(size=32, fill="stretch")), ("tone", MinMax())]).fit(X).transform(X)
    assert out.scanner.tolist() == ["A", "B"]
    assert all(image.shape == (32, 32) and image.dtype == np.float32 for image in out)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (CropForeground(margin=-0.1), r"CropForeground: margin is -0.1, expected a number from 0 to 1"),
        (CropForeground(threshold="otsu"), r"threshold is 'otsu', expected a number from 0 to 1"),
        (CropForeground(min_fraction=2), r"min_fraction is 2, expected a number from 0 to 1"),
        (CropForeground(fill="pad"), r"fill is 'pad', expected one of 'aspect', 'square', 'stretch'"),
        (CropForeground(fill="stretch"), r"fill='stretch' needs a size"),
        (CropForeground(size=0), r"size is 0, expected an int or \(height, width\), each from 1 to 16384"),
        (CropForeground(size=(4, 5, 6)), r"size is \(4, 5, 6\), expected an int or \(height, width\)"),
        (Resize(True), r"Resize: size is True, expected an int"),
        (Resize(None), r"Resize: size is None, expected an int or \(height, width\) of at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(estimator: CropForeground | Resize, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        estimator.fit([chest()])
    with pytest.raises(InvalidParameterError, match=message):
        estimator.transform([chest()])


@pytest.mark.realdata
def test_black_bands_of_a_real_site_are_gone_and_no_body_is_lost(real_data: Path) -> None:
    paths = sorted((real_data / "tb" / "montgomery").glob("*.png"))
    if not paths:
        pytest.skip(f"{real_data / 'tb' / 'montgomery'} is absent")
    X = ImageSet(paths)
    for before, after in zip(X, CropForeground().transform(X), strict=True):
        assert np.median(after[-2]) > 20
        assert (after > 60).sum() > 0.93 * (before > 60).sum()
