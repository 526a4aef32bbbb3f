"""Random changes of training images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.classifiers.augment import (
    apply_tone_curves,
    augmentation,
    random_affine,
    random_borders,
    random_flip,
    random_noise,
    random_sharpness,
    random_tone,
    random_tone_curves,
)
from xray_harmonize.exceptions import InvalidParameterError

Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
CHANGES = [
    random_flip,
    random_tone,
    random_affine,
    random_borders,
    random_sharpness,
    random_noise,
    augmentation("tone", flip=True),
    augmentation("strong", flip=True),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 8, height: int = 20, width: int = 16) -> torch.Tensor:
    return torch.rand(n, 1, height, width, generator=generator(7))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_keeps_shape_type_and_range_and_makes_new_memory(change: Change) -> None:
    before = images()
    kept = before.clone()
    after = change(before, generator())
    assert after.shape == before.shape
    assert after.dtype == torch.float32
    assert 0 <= after.min() <= after.max() <= 1
    assert torch.equal(before, kept)
    assert not torch.equal(after, before)


@pytest.mark.parametrize("change", CHANGES)
def test_a_seed_gives_the_same_change_again(change: Change) -> None:
    assert torch.equal(change(images(), generator(3)), change(images(), generator(3)))
    assert not torch.equal(change(images(), generator(3)), change(images(), generator(4)))


@pytest.mark.parametrize("change", CHANGES)
def test_black_images_without_noise_stay_finite(change: Change) -> None:
    assert torch.isfinite(change(torch.zeros(4, 1, 9, 9), generator())).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), strength=st.floats(0, 2), range_loss=st.floats(0, 0.49))
def test_tone_curves_rise_inside_the_unit_square(seed: int, strength: float, range_loss: float) -> None:
    curves = random_tone_curves(5, generator(seed), strength, range_loss)
    assert curves.shape == (5, 65)
    assert (curves.diff() > 0).all()
    assert (curves[:, 0] >= 0).all()
    assert (curves[:, 0] <= range_loss).all()
    assert (curves[:, -1] <= 1).all()
    assert (curves[:, -1] >= 1 - range_loss - 1e-6).all()


def test_without_strength_and_loss_a_curve_is_the_identity() -> None:
    curves = random_tone_curves(3, generator(), strength=0.0, range_loss=0.0)
    assert torch.allclose(apply_tone_curves(images(3), curves), images(3), atol=1e-5)


def test_tone_keeps_the_order_of_grey_values_in_each_image() -> None:
    ramp = torch.linspace(0, 1, 256).view(1, 1, 16, 16).repeat(8, 1, 1, 1)
    assert (random_tone(ramp, generator()).flatten(1).diff() >= 0).all()


def test_each_image_has_its_own_curve() -> None:
    same = images(1).repeat(6, 1, 1, 1)
    assert len(torch.unique(random_tone(same, generator()).flatten(1), dim=0)) == 6


def test_a_flip_mirrors_left_and_right_or_does_nothing() -> None:
    before = images(64)
    after = random_flip(before, generator())
    mirrored = [bool(torch.equal(a, b.flip(-1))) for a, b in zip(after, before, strict=True)]
    same = [bool(torch.equal(a, b)) for a, b in zip(after, before, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48


def test_geometry_of_no_size_is_the_identity() -> None:
    before = images()
    after = random_affine(before, generator(), degrees=0, zoom=0, aspect=0, shift=0)
    assert torch.allclose(after, before, atol=1e-5)


def test_bands_lie_at_the_sides_and_the_middle_is_untouched() -> None:
    before = images(64, 40, 40)
    after = random_borders(before, generator(), width=0.2, probability=1.0)
    assert torch.equal(after[..., 8:-8, 8:-8], before[..., 8:-8, 8:-8])
    changed = (after != before).flatten(1).any(1)
    assert changed.float().mean() > 0.9
    assert set(after[after != before].unique().tolist()) <= {0.0, 1.0}


def test_sharpness_leaves_a_flat_image_flat() -> None:
    flat = torch.full((8, 1, 12, 12), 0.4)
    assert torch.allclose(random_sharpness(flat, generator()), flat, atol=1e-6)


def test_sharpness_changes_about_half_of_the_images() -> None:
    before = images(64)
    changed = (random_sharpness(before, generator()) != before).flatten(1).any(1).sum()
    assert 16 < changed < 48


def test_noise_is_no_wider_than_asked_for() -> None:
    grey = torch.full((32, 1, 40, 40), 0.5)
    deviations = random_noise(grey, generator(), deviation=0.05).flatten(1).std(dim=1)
    assert deviations.max() < 0.06
    assert deviations.min() < 0.02


def test_nothing_asked_for_is_no_change() -> None:
    assert augmentation(None, flip=False) is None


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="augment must be None, 'tone' or 'strong'; got 'weak'"):
        augmentation("weak", flip=True)
