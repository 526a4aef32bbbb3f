"""The training of a flow: what it sees, how long it lasts, which state it keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from xray_harmonize import ImageSet
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.harmonizers import blind_training
from xray_harmonize.harmonizers.blind_training import (
    CountedBatches,
    FlowTraining,
    by_content,
    frame_of,
    measured,
    noisy,
    typical_latents,
)
from xray_harmonize.networks.flow import SplineFlow
from xray_harmonize.training import seeded

CPU = torch.device("cpu")


def small_images(n: int = 8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    brightness = 0.4 + 0.2 * torch.rand(n, 1, 1, 1, generator=generator)
    return (brightness + 0.02 * torch.rand(n, 1, 8, 8, generator=generator)).clamp(0, 1)


def trained(n_held_out: int = 2, **settings: Any) -> tuple[SplineFlow, Any]:
    with seeded(0, CPU):
        flow = SplineFlow(8, n_levels=2, n_steps=1, channels=4, n_bins=4)
        training = FlowTraining(**{"max_steps": 30, "batch_size": 4, "lr": 5e-3, **settings})
        return flow, training.train(flow, small_images(), small_images(8, seed=1)[:n_held_out], CPU, "BlindHarmony")


def test_training_lowers_the_bits_of_images_that_were_held_out() -> None:
    flow, outcome = trained()
    assert not flow.training
    assert outcome.history[-1]["valid_loss"] < outcome.history[0]["valid_loss"] - 0.1
    assert outcome.best_epoch == np.argmin([row["valid_loss"] for row in outcome.history]) + 1


def test_without_held_out_images_the_last_state_is_kept() -> None:
    _, outcome = trained(n_held_out=0)
    assert "valid_loss" not in outcome.history[0]
    assert outcome.best_epoch == len(outcome.history) == 15


@pytest.mark.parametrize(("max_steps", "taken"), [(1, 1), (7, 7), (20, 20), (21, 20), (30, 30), (45, 45)])
def test_no_more_steps_are_taken_than_asked_for(max_steps: int, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    step = blind_training.ClippedAdam.step

    def counting(self: Any, closure: Any = None) -> Any:
        counted.append(1)
        return step(self, closure)

    monkeypatch.setattr(blind_training.ClippedAdam, "step", counting)
    trained(max_steps=max_steps)
    assert len(counted) == taken


def test_patience_ends_a_training_that_gets_nowhere() -> None:
    _, outcome = trained(lr=1e-12, patience=2, max_steps=20)
    assert len(outcome.history) < 20


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_both_schedules_end_as_planned(schedule: str) -> None:
    assert len(trained(schedule=schedule, max_steps=5)[1].history) == 5


def test_a_training_that_diverges_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="The training diverged: the loss of epoch"):
        trained(lr=1e4, schedule="cosine")


def test_every_image_comes_before_any_comes_again() -> None:
    dataset = TensorDataset(torch.arange(10.0), torch.zeros(10))
    batches = CountedBatches(dataset, 4, n_batches=5, seed=0)
    drawn = torch.cat([images for images, _ in batches])
    assert len(batches) == 5
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))


def test_training_images_are_mirrored_whole_and_noise_is_fresh() -> None:
    images = torch.linspace(0, 1, 8).expand(16, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    first, second = (noisy(8, flip=True)(images, generator) for _ in range(2))
    mirrored = first[:, 0, 0, 0] > 0
    assert 0 < mirrored.sum() < 16
    assert torch.allclose(first[mirrored].flip(-1) + 0.5, images[mirrored], atol=1 / 128)
    assert not torch.equal(first, second)
    assert (noisy(8, flip=False)(images, generator)[:, 0, 0, 0] < 0).all()


def test_typical_latents_are_means_and_spreads_over_images_however_batched() -> None:
    flow, _ = trained(max_steps=2)
    noise = torch.rand(1, 1, 8, 8)
    once, twice = (typical_latents(flow, small_images(), noise, size) for size in (8, 3))
    assert [level.shape for level in once] == [(2, 2, 2), (2, 2, 8)]
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert (a[1] >= 0).all()


def test_where_nothing_counts_a_frame_is_the_mean_of_what_does() -> None:
    pixels = np.random.default_rng(0).random((8, 8), dtype="float32")
    mask = np.arange(64).reshape(8, 8) >= 16
    frame, inside = frame_of(pixels, mask, 8)
    np.testing.assert_array_equal(inside, mask)
    np.testing.assert_array_equal(frame[2:], pixels[2:])
    np.testing.assert_allclose(frame[:2], pixels[2:].mean(), rtol=1e-6)


def test_images_that_cannot_be_measured_are_named() -> None:
    X = ImageSet([np.ones((4, 4)), np.full((4, 4), 0.5)], mask=[None, np.zeros((4, 4), bool)])
    with pytest.raises(InvalidImageError, match=r"Image 1.*There is no pixel to take statistics of"):
        measured(X, 8)


def test_the_order_of_images_is_one_of_their_content() -> None:
    frames = np.random.default_rng(0).random((6, 1, 4, 4), dtype="float32")
    shuffled = frames[[3, 1, 5, 0, 2, 4]]
    np.testing.assert_array_equal(frames[by_content(frames)], shuffled[by_content(shuffled)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_steps": 0}, r"max_steps must be a whole number, at least 1; got 0\."),
        ({"batch_size": 1.5}, r"batch_size must be a whole number, at least 1; got 1\.5\."),
        ({"lr": 0}, r"lr must be above 0; got 0\."),
        ({"schedule": "linear"}, r"schedule must be 'one_cycle' or 'cosine'; got 'linear'\."),
        ({"patience": 0}, r"patience must be None or at least 1; got 0\."),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        FlowTraining(**wrong)
