"""Pairs as a training takes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pairs import bodies, darker

from xray_harmonize import ImageSet, Radiograph
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.harmonizers.pair_images import PairImages, read_pairs, read_target_set, read_targets, small_view


def as_it_is(shape: tuple[int, int]) -> tuple[int, int]:
    return shape


def pairs(maps: bool = False, augment: bool = True) -> PairImages:
    truth = [np.full((4, 8, 8), value, "float32") for value in np.linspace(0.2, 1.4, 12)] if maps else None
    return read_pairs(darker(), bodies(), truth, as_it_is, augment)


# -- views ----------------------------------------------------------------------------------------------------------


def test_a_view_averages_areas_of_what_counts() -> None:
    pixels = np.array([[0, 200], [100, 200]], dtype="uint8")
    view, weight = small_view(Radiograph(pixels), (1, 1))
    assert (view.item(), weight.item()) == (pytest.approx(125 / 255, abs=1e-6), 1)
    view, weight = small_view(Radiograph(pixels, mask=np.array([[True, False], [True, False]])), (1, 2))
    np.testing.assert_allclose(view, [[50 / 255, 0]], atol=1e-6)
    np.testing.assert_array_equal(weight, [[1, 0]])


def test_what_a_mask_leaves_out_is_not_in_the_view() -> None:
    image = bodies()[0]
    mask = np.ones((32, 32), dtype=bool)
    mask[:7, :5] = False
    disturbed = np.where(mask, image, 1)
    first, second = (small_view(Radiograph(one, mask=mask), (10, 9))[0] for one in (image, disturbed))
    np.testing.assert_array_equal(first, second)


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(InvalidImageError, match="There is no pixel to look at: the mask is empty"):
        small_view(Radiograph(bodies()[0], mask=np.zeros((32, 32), dtype=bool)), (8, 8))


# -- reading --------------------------------------------------------------------------------------------------------


def test_images_of_several_shapes_are_brought_to_the_middle_one() -> None:
    X = ImageSet([np.zeros((8, 9)), np.zeros((12, 9)), np.zeros((30, 40))])
    read = read_targets(X, as_it_is, "mixed", "endpoint", augment=True)
    assert read.target.shape == read.weight.shape == (3, 1, 12, 9)
    assert read.source is None


def test_pixels_of_a_pair_count_where_both_masks_say_so() -> None:
    upper, left = np.zeros((2, 8, 8), dtype=bool)
    upper[:4], left[:, :4] = True, True
    X, Y = (ImageSet([np.zeros((8, 8))], mask=[mask]) for mask in (upper, left))
    np.testing.assert_array_equal(read_pairs(X, Y, None, as_it_is, augment=True).weight[0, 0], upper & left)


def test_numbers_of_images_and_targets_must_agree() -> None:
    with pytest.raises(InvalidParameterError, match="There are 12 images but 11 targets; expected one an image"):
        read_pairs(darker(), bodies()[:11], None, as_it_is, augment=True)


def test_the_images_of_a_pair_must_have_one_shape() -> None:
    cropped = ImageSet([bodies()[0], bodies()[1][:30]])
    with pytest.raises(InvalidImageError, match=r"Image 1 has shape \(32, 32\) but its target \(30, 32\); expected"):
        read_pairs(darker()[:2], cropped, None, as_it_is, augment=True)


def test_maps_must_be_maps_and_one_an_image() -> None:
    with pytest.raises(InvalidParameterError, match="There are 12 images but maps of 1; expected one array an image"):
        read_pairs(darker(), bodies(), [np.zeros((4, 8, 8))], as_it_is, augment=True)
    for wrong in (np.zeros((3, 8, 8)), np.zeros((8, 8)), np.zeros((4, 0, 8))):
        with pytest.raises(InvalidParameterError, match=r"The maps of image 0 have shape .*; expected finite numbers"):
            read_pairs(darker()[:1], bodies()[:1], [wrong], as_it_is, augment=True)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
def test_maps_that_are_not_finite_are_refused_as_such(wrong: float) -> None:
    with pytest.raises(
        InvalidParameterError, match="The maps of image 1 hold NaN or infinity; expected finite numbers"
    ):
        read_pairs(darker()[:2], bodies()[:2], [None, np.full((4, 8, 8), wrong)], as_it_is, augment=True)


@pytest.mark.parametrize(
    "wrong", [np.ones((4, 8, 8), complex), np.full((4, 8, 8), "a"), [[1, 2], [3]], [[[10**400]]] * 4]
)
def test_maps_of_no_real_numbers_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"The maps of image 0 hold no real numbers \(.*; expected finite"):
        read_pairs(darker()[:1], bodies()[:1], [wrong], as_it_is, augment=True)


@pytest.mark.parametrize(
    ("k", "value", "message"),
    [
        (0, 0.0, "have a from 0 to 0; expected above 0, up to 100"),
        (0, -1.0, "have a from -1 to -1; expected above 0, up to 100"),
        (1, -4095.0, "have b from -4095 to -4095; expected from -100 to 100"),
        (
            2,
            2047.0,
            "have wc from 2047 to 2047; expected from -100 to 100, as maps are for greys in [0, 1]. Divide b, ",
        ),
        (3, 4095.0, "have ww from 4095 to 4095; expected above 0, up to 100"),
        (3, 0.0, "have ww from 0 to 0; expected above 0, up to 100"),
    ],
)
def test_maps_for_other_greys_than_those_in_0_to_1_are_refused(k: int, value: float, message: str) -> None:
    maps = np.full((4, 8, 8), 0.5)
    maps[k] = value
    with pytest.raises(InvalidParameterError, match=re.escape(f"The maps of image 0 {message}")):
        read_pairs(darker()[:1], bodies()[:1], [maps], as_it_is, augment=True)


@pytest.mark.parametrize("wrong", ["abc", 3, {0: np.ones((4, 8, 8))}, (one for one in "ab"), np.array(3.0)])
def test_maps_come_in_a_list(wrong: Any) -> None:
    message = f"maps must be a list with an array .*, or None where its maps are not known; got {type(wrong).__name__}"
    with pytest.raises(InvalidParameterError, match=message):
        read_pairs(darker()[:1], bodies()[:1], wrong, as_it_is, augment=True)


def test_where_some_maps_are_known_the_others_are_not_taken_for_true() -> None:
    truth = [np.full((4, 8, 8), 0.5), None, np.full((4, 8, 8), 0.7)]
    read = read_pairs(darker()[:3], bodies()[:3], truth, as_it_is, augment=False)
    _, batch = read.take(np.array([2, 1])).batch(np.array([0, 1, 0]), torch.Generator(), augment=False)
    assert batch["known"].tolist() == [True, False, True]
    torch.testing.assert_close(batch["maps"][::2], torch.full((2, 4, 32, 32), 0.7))
    assert read_pairs(darker()[:2], bodies()[:2], [None, None], as_it_is, augment=False).maps is None


def test_a_pair_whose_masks_have_no_pixel_in_common_is_refused() -> None:
    left = np.zeros((32, 32), dtype=bool)
    # Small views hold a column that is of both in part; the images themselves have none.
    left[:, :15] = True
    X = ImageSet(list(darker()[:2]), mask=[None, left])
    Y = ImageSet(list(bodies()[:2]), mask=[None, ~left])
    message = "Image 1 and its target have no pixel in common: their masks hold 480 and 544 pixels, but none in both"
    with pytest.raises(InvalidImageError, match=message):
        read_pairs(X, Y, None, lambda shape: (8, 8), augment=True)


@pytest.mark.parametrize(
    ("number", "mask", "message"),
    [
        (np.nan, True, "Target 2 holds NaN"),
        (0.5, False, "Target 2: There is no pixel to look at: the mask is empty"),
    ],
)
def test_what_is_wrong_with_a_target_is_told_of_the_target(number: float, mask: bool, message: str) -> None:
    images = [*bodies()[:2], np.full((32, 32), number)]
    Y = ImageSet(images, mask=[None, None, np.full((32, 32), mask)])
    with pytest.raises(InvalidImageError, match=message):
        read_pairs(darker()[:3], Y, None, as_it_is, augment=True)
    with pytest.raises(InvalidImageError, match=message.replace("Target", "Image")):
        read_pairs(Y, darker()[:3], None, as_it_is, augment=True)


def test_what_computing_a_target_says_is_told_of_the_target(tmp_path: Path) -> None:
    def flat(radiograph: Radiograph) -> np.ndarray:
        raise InvalidImageError(f"{radiograph.name} is flat")

    np.save(tmp_path / "a.npy", bodies()[0])
    with pytest.raises(InvalidImageError, match=r"target: .*a\.npy is flat"):
        read_pairs(darker()[:1], ImageSet([tmp_path / "a.npy"]).map(flat), None, as_it_is, augment=True)


def test_a_target_from_a_file_is_told_with_its_path() -> None:
    Y = ImageSet([np.full((32, 32), np.nan)]).map(lambda one: Radiograph(one.pixels, name="/data/a.png"))
    with pytest.raises(InvalidImageError, match=r"Target /data/a\.png holds NaN"):
        read_pairs(darker()[:1], Y, None, as_it_is, augment=True)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            np.zeros((8, 8)),
            "target: Expected a set of images, got one array of shape (8, 8). For one image pass target[",
        ),
        (
            "a.png",
            "target: Expected an ImageSet, a stack (n, height, width), or a list of 2-D arrays or paths; got str",
        ),
        ([np.zeros((8, 8)), np.zeros((2, 8, 8))], "Target 1 has shape (2, 8, 8); expected a 2-D grey image"),
    ],
)
def test_targets_that_are_no_images_are_told_of_the_target(target: Any, message: str) -> None:
    with pytest.raises(InvalidImageError, match=re.escape(message)):
        read_target_set(target)


# -- batches --------------------------------------------------------------------------------------------------------


def test_every_pair_comes_once_before_any_comes_again() -> None:
    read = pairs(augment=False)
    draw = read.draws(np.random.RandomState(0))
    seen = torch.cat([draw(4)[1]["target"] for _ in range(3)])
    assert sorted(one.sum().item() for one in seen) == pytest.approx(sorted(one.sum().item() for one in read.target))


def test_source_target_and_maps_are_mirrored_and_turned_together() -> None:
    rows, columns = np.meshgrid(*2 * [np.linspace(0.1, 0.9, 16, dtype="float32")], indexing="ij")
    X = ImageSet([0.5 * (rows + columns) for _ in range(6)])
    maps = [np.stack([0.5 * (rows + columns)] * 4) for _ in range(6)]
    read = read_pairs(X, X, maps, as_it_is, augment=True)
    inputs, batch = read.draws(np.random.RandomState(0))(6)
    assert not torch.equal(batch["target"], read.target)
    inside = batch["weight"] > 0.99999
    torch.testing.assert_close(batch["source"], batch["target"])
    torch.testing.assert_close(inputs["images"], batch["source"])
    for k in range(4):
        torch.testing.assert_close(batch["maps"][:, k : k + 1][inside], batch["target"][inside], atol=1e-4, rtol=0)
    assert batch["known"].all()


def test_without_maps_no_truth_is_known() -> None:
    _, batch = pairs().draws(np.random.RandomState(0))(4)
    assert not batch["known"].any()
    _, batch = pairs(maps=True).draws(np.random.RandomState(0))(4)
    assert batch["known"].all()


def test_self_made_sources_are_made_anew_for_every_batch_and_black_where_nothing_counts() -> None:
    mask = np.ones((32, 32), dtype=bool)
    mask[:10] = False
    X = ImageSet([bodies()[0]], mask=[mask])
    read = read_targets(X, as_it_is, "global", "endpoint", augment=False)
    draw = read.draws(np.random.RandomState(0))
    first, second = (draw(1)[1]["source"] for _ in range(2))
    assert not torch.equal(first, second)
    assert not first[..., :10, :].any()


def test_the_canonical_order_does_not_depend_on_the_given_one() -> None:
    read = pairs()
    shuffled = read.take(np.random.default_rng(0).permutation(12))
    first, second = (one.take(one.canonical_order()) for one in (read, shuffled))
    assert torch.equal(first.target, second.target)
    assert torch.equal(first.source, second.source)
