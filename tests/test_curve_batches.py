"""Batches that curves are trained on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_curves import measured, textures

from xray_harmonize.harmonizers.curve_batches import BalancedDraw, CurveBatches, LabelledImages, UnlabelledImages
from xray_harmonize.harmonizers.curve_images import CurveImages, pooled_quantiles

CPU = torch.device("cpu")


def rng(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


# -- balanced draws ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 12), st.integers(0, 9))
def test_groups_differ_in_number_by_at_most_one_in_every_batch_and_over_all(
    groups: list[int], n: int, seed: int
) -> None:
    draw, total = BalancedDraw(np.array(groups), rng(seed)), Counter[int]()
    for _ in range(5):
        drawn = Counter(groups[i] for i in draw(n))
        counts = [drawn[group] for group in set(groups)]
        assert sum(counts) == n
        assert max(counts) - min(counts) <= 1
        total += drawn
    assert max(total.values()) - min(total[group] for group in set(groups)) <= 1


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 9))
def test_every_image_of_a_group_is_used_before_one_is_used_again(groups: list[int], seed: int) -> None:
    draw = BalancedDraw(np.array(groups), rng(seed))
    used = Counter(int(i) for _ in range(20) for i in draw(len(set(groups))))
    for group in set(groups):
        counts = [used[i] for i, own in enumerate(groups) if own == group]
        assert max(counts) - min(counts) <= 1


def test_draws_differ_from_one_pass_to_the_next_and_a_seed_repeats_them() -> None:
    groups = np.arange(24) % 2

    def passes(seed: int) -> list[list[int]]:
        draw = BalancedDraw(groups, rng(seed))
        return [draw(24).tolist() for _ in range(3)]

    first, second, third = passes(0)
    assert len({tuple(one) for one in (first, second, third)}) == 3
    assert all(sorted(one) == list(range(24)) for one in (first, second, third))
    assert passes(0) == [first, second, third]
    assert passes(1) != [first, second, third]


# -- images with labels -----------------------------------------------------------------------------------------------


def sources() -> CurveImages:
    """Two scanners; of the second, class 1 has a single image."""
    return measured(textures(11, 8, seed=1), [0] * 6 + [1] * 5, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1], view_size=6)


def reference() -> CurveImages:
    return measured(textures(7, 8, seed=2), [-1] * 7, [0, 0, 0, 0, 1, 1, 2], view_size=6)


def labelled(like: torch.Tensor | None = None, **options: bool) -> LabelledImages:
    settings = {"maps": False, "enhance_reference": True, "flip": True}
    return LabelledImages(sources(), reference(), like, **{**settings, **options})


def place(image: torch.Tensor, among: torch.Tensor) -> tuple[int, bool]:
    """Which of several images this is, and whether it is mirrored."""
    for mirrored, others in ((False, among), (True, among.flip(-1))):
        for i, other in enumerate(others):
            if torch.equal(image, other):
                return i, mirrored
    raise AssertionError("no such image")


def test_both_halves_of_a_batch_are_balanced_by_class_and_the_sources_by_scanner_too() -> None:
    _, batch = labelled().draws(rng())(12)
    assert batch["part"].tolist() == [0] * 12 + [1] * 12
    found = [place(image, sources().frames)[0] for image in batch["image"][:12]]
    groups = Counter((int(sources().scanner[i]), int(sources().label[i])) for i in found)
    assert set(groups.values()) == {3}
    assert Counter(batch["label"][12:].tolist()) == {0: 4, 1: 4, 2: 4}


def test_labels_go_with_their_images() -> None:
    _, batch = labelled().draws(rng())(12)
    for image, label, part in zip(batch["image"], batch["label"], batch["part"], strict=True):
        images = (sources(), reference())[int(part)]
        assert images.label[place(image, images.frames)[0]] == label


def test_the_network_is_shown_the_view_of_the_image_mirrored_alike() -> None:
    inputs, batch = labelled().draws(rng())(12)
    assert set(inputs) == {"images"}
    turns = set()
    for view, image, part in zip(inputs["images"], batch["image"], batch["part"], strict=True):
        images = (sources(), reference())[int(part)]
        i, mirrored = place(image, images.frames)
        assert torch.equal(view, images.views[i].flip(-1) if mirrored else images.views[i])
        turns.add(mirrored)
    assert turns == {False, True}


def test_without_flips_no_image_is_mirrored() -> None:
    _, batch = labelled(flip=False).draws(rng())(20)
    assert not any(place(image, sources().frames)[1] for image in batch["image"][:20])
    assert not any(place(image, reference().frames)[1] for image in batch["image"][20:])


def test_every_image_is_compared_with_the_reference_image_at_its_place_as_it_is_mirrored() -> None:
    own = reference().frames
    # What stands for features: each image's and its mirror's pixels.
    like = torch.stack([own.flatten(1), own.flip(-1).flatten(1)])
    _, batch = labelled(like).draws(rng())(12)
    assert torch.equal(batch["like"][12:], batch["image"][12:].flatten(1))
    assert torch.equal(batch["like"][:12], batch["like"][12:])


def test_whole_maps_are_compared_with_the_images_themselves() -> None:
    _, batch = labelled(maps=True).draws(rng())(12)
    assert torch.equal(batch["like"], batch["image"][12:].repeat(2, 1, 1, 1))


def test_images_are_not_paired_by_class() -> None:
    _, batch = labelled(maps=True).draws(rng())(60)
    assert not torch.equal(batch["label"][:60], batch["label"][60:])


def test_a_scanners_curve_needs_neither_views_nor_enhanced_references() -> None:
    without = [
        measured(part.frames, part.scanner.tolist(), part.label.tolist(), None) for part in (sources(), reference())
    ]
    images = LabelledImages(*without, torch.rand(2, 7, 5), False, enhance_reference=False, flip=True)
    inputs, batch = images.draws(rng())(8)
    assert set(inputs) == {"scanner"}
    assert Counter(inputs["scanner"].tolist()) == {0: 4, 1: 4}
    assert batch["part"].tolist() == [0] * 8
    assert batch["image"].shape == (8, 1, 8, 8)
    assert batch["like"].shape == (8, 5)


def test_nothing_is_compared_where_nothing_is_asked_for() -> None:
    _, batch = labelled().draws(rng())(4)
    assert "like" not in batch
    assert len(labelled()) == 11


# -- images without ---------------------------------------------------------------------------------------------------


def test_batches_without_labels_are_of_one_scanner_and_scanners_take_turns() -> None:
    images = sources().joined(reference())
    draw = UnlabelledImages(images, pooled=False, flip=True).draws(rng())
    assert len(UnlabelledImages(images, pooled=False, flip=True)) == 18
    seen = []
    for _ in range(6):
        inputs, batch = draw(4)
        found = [place(image, images.frames) for image in batch["image"]]
        assert len({int(images.scanner[i]) for i, _ in found}) == 1
        seen.append(int(images.scanner[found[0][0]]))
        assert torch.equal(batch["quantiles"], images.quantiles[[i for i, _ in found]])
        for view, (i, mirrored) in zip(inputs["images"], found, strict=True):
            assert torch.equal(view, images.views[i].flip(-1) if mirrored else images.views[i])
    assert sorted(seen[:3]) == [-1, 0, 1]
    assert seen[3:] == seen[:3]


def test_a_scanner_with_few_images_gives_small_batches() -> None:
    draw = UnlabelledImages(sources(), pooled=False, flip=False).draws(rng())
    assert [len(draw(100)[1]["image"]) for _ in range(2)] == [6, 5]


def test_pooled_quantiles_are_the_same_in_every_row_and_batch() -> None:
    images = sources()
    draw = UnlabelledImages(images, pooled=True, flip=True).draws(rng())
    for scanner in (0, 1, 0):
        _, batch = draw(3)
        expected = pooled_quantiles(images.quantiles[images.scanner == scanner])
        assert torch.equal(batch["quantiles"], expected.expand(3, -1))


# -- as skorch takes them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [labelled(maps=True), UnlabelledImages(sources(), pooled=False, flip=True)])
def test_every_epoch_has_new_batches_and_a_seed_repeats_them(images: LabelledImages | UnlabelledImages) -> None:
    def epochs(seed: int) -> list[list[torch.Tensor]]:
        batches = CurveBatches(images, batch_size=4, n_batches=3, seed=seed, device=CPU)
        assert len(batches) == 3
        return [[batch["image"] for _, batch in batches] for _ in range(2)]

    def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    first, second = epochs(0)
    assert len(first) == 3
    assert not same(first, second)
    again = epochs(0)
    assert same(again[0], first)
    assert same(again[1], second)
    assert not same(epochs(1)[0], first)


def test_every_image_is_used_in_time_even_of_the_larger_classes() -> None:
    batches = CurveBatches(labelled(), batch_size=4, n_batches=8, seed=0, device=CPU)
    used = [Counter[int](), Counter[int]()]
    for _, batch in batches:
        for image, part in zip(batch["image"], batch["part"].tolist(), strict=True):
            used[part][place(image, (sources(), reference())[part].frames)[0]] += 1
    assert set(used[0]) == set(range(11))
    assert set(used[1]) == set(range(7))
