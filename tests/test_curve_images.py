"""Images measured for a training of curves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_curves import measured, textures

from xray_harmonize.classifiers.frames import to_square
from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.harmonizers.curve_images import (
    PROBABILITIES,
    CurveImages,
    canonical_order,
    measure,
    pooled_quantiles,
)
from xray_harmonize.harmonizers.curve_views import bilinear_view
from xray_harmonize.images import ImageSet

RNG = np.random.default_rng(0)
SIZES = [(20, 30), (31, 9), (16, 16)]
STORED = [RNG.integers(0, 4096, size).astype("uint16") for size in SIZES]
SCANNER = np.array([1, 0, 1])


def test_frames_views_and_quantiles_are_those_of_each_image() -> None:
    images = ImageSet(STORED, bits_stored=12)
    found = measure(images, SCANNER, np.array([0, 2, 1]), 12, 8)
    assert len(found) == 3
    assert found.frames.shape == (3, 1, 12, 12)
    assert found.views.shape == (3, 1, 8, 8)
    assert found.scanner.tolist() == [1, 0, 1]
    assert found.label.tolist() == [0, 2, 1]
    for i, image in enumerate(STORED):
        unit = image / np.float32(4095)
        np.testing.assert_allclose(found.frames[i, 0], to_square(unit, 12), atol=1e-6)
        np.testing.assert_array_equal(found.views[i, 0], bilinear_view(images.radiograph(i), 8))
        np.testing.assert_allclose(found.quantiles[i], np.quantile(unit, PROBABILITIES, method="nearest"), atol=0.02)


def test_without_labels_and_network_both_are_empty() -> None:
    found = measure(ImageSet(STORED, bits_stored=12), SCANNER, None, 12, None)
    assert found.label.tolist() == [-1, -1, -1]
    assert found.views.shape == (3, 0)


def test_quantiles_are_taken_inside_the_mask() -> None:
    image = np.where(np.arange(40) < 20, 0.25, 0.9).astype("float32")[None].repeat(8, axis=0)
    found = measure(ImageSet([image], mask=[image > 0.5]), np.zeros(1, dtype=int), None, 8, None)
    np.testing.assert_allclose(found.quantiles, 0.9, atol=1e-4)


@pytest.mark.parametrize(("value", "message"), [(1.2, r"expected \[0, 1\]"), (np.nan, "NaN")])
def test_images_outside_the_unit_interval_are_refused(value: float, message: str) -> None:
    images = [np.zeros((9, 9)), np.full((9, 9), value)]
    with pytest.raises(InvalidImageError, match=message):
        measure(ImageSet(images), np.zeros(2, dtype=int), None, 8, 8)


def some() -> CurveImages:
    return measured(textures(8, 8), [1, 0, 1, 0, 1, 0, 1, 0], [0, 0, 1, 1, 0, 0, 1, 1], view_size=8)


def equal(one: CurveImages, other: CurveImages) -> bool:
    names = ("frames", "views", "quantiles", "scanner", "label")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def test_the_canonical_order_forgets_the_order_given() -> None:
    images = some()
    ordered = images[canonical_order(images)]
    for seed in range(3):
        shuffled = images[np.random.default_rng(seed).permutation(8)]
        assert equal(shuffled[canonical_order(shuffled)], ordered)
    assert ordered.scanner.tolist() == [0] * 4 + [1] * 4
    assert canonical_order(ordered).tolist() == list(range(8))


def test_a_choice_takes_everything_along() -> None:
    images = some()
    chosen = images[np.array([5, 0])]
    assert torch.equal(chosen.frames, images.frames[[5, 0]])
    assert torch.equal(chosen.quantiles, images.quantiles[[5, 0]])
    assert chosen.scanner.tolist() == [0, 1]
    assert equal(images[np.arange(8) < 3], images[np.array([0, 1, 2])])


def test_images_are_joined_in_order() -> None:
    images = some()
    assert equal(images[np.arange(3)].joined(images[np.arange(3, 8)]), images)


@given(st.integers(1, 6), st.integers(0, 99))
def test_quantiles_of_several_images_are_those_of_all_their_pixels(n: int, seed: int) -> None:
    # As many pixels an image as there are probabilities: then nothing is lost between.
    pixels = torch.rand(n, 128, generator=torch.Generator().manual_seed(seed)) ** (1 + seed % 3)
    together = np.sort(pixels.numpy().ravel())
    found = pooled_quantiles(pixels.sort(dim=1).values).numpy()
    low, high = together[0 : n * 128 : n], together[n - 1 :: n]
    assert ((found >= low) & (found <= high)).all()


def test_quantiles_of_one_image_or_equal_ones_are_its_own() -> None:
    own = some().quantiles[:1]
    assert torch.equal(pooled_quantiles(own), own[0])
    assert torch.equal(pooled_quantiles(own.expand(5, -1)), own[0])
