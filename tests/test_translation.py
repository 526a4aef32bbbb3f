"""CycleGAN: what it learns without pairs, and what it refuses. The contracts of all harmonizers: test_common.py."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pairs import bodies, darker, off

from xray_harmonize import CycleGAN, ImageSet
from xray_harmonize.callbacks import report_progress
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
    XRayHarmonizeWarning,
)
from xray_harmonize.harmonizers.translation_training import UnpairedImages


def gan(**parameters: Any) -> CycleGAN:
    settings = {"reference": "reference", "n_features": 4, "n_blocks": 1, "max_steps": 2, "device": "cpu"}
    return CycleGAN(**{**settings, "random_state": 0, **parameters})


def both() -> ImageSet:
    """Different bodies on the two scanners."""
    return ImageSet([*bodies()[:6], *darker()[6:]], ["reference"] * 6 + ["dark"] * 6)


def test_a_last_step_that_goes_off_to_infinity_is_noticed() -> None:
    with pytest.raises(InvalidParameterError, match=r"diverged: behind epoch 1 weights are no finite numbers\. Use"):
        gan(max_steps=1, lr=1e38).fit(both())


def test_images_of_another_scanner_come_to_look_like_the_references() -> None:
    learned = gan(max_steps=150, lr=2e-3, n_features=8).fit(both())
    assert off(darker(), bodies()) > 0.1
    assert off(learned.transform(darker()), bodies()) < 0.08
    assert learned.reference_ == "reference"
    assert learned.history_[-1]["train_loss"] < learned.history_[0]["train_loss"]


def test_history_tells_the_losses_of_both_sides() -> None:
    learned = gan(max_steps=3).fit(both())
    assert [set(row) for row in learned.history_] == [{"epoch", "train_loss", "critic_loss", "dur"}] * 3
    assert learned.best_epoch_ == 3


def test_passes_over_the_larger_set_can_be_counted_instead_of_steps() -> None:
    told = []
    with report_progress(told.append):
        gan(max_epochs=1, batch_size=2).fit(both()[:9])
    # Six images of the reference, two a step.
    assert told[-1].max_epochs == 3


def test_only_the_generator_that_leads_to_the_reference_is_kept() -> None:
    learned = gan().fit(both())
    assert all(name.startswith("layers.") for name in learned.state_)
    made = gan(downscale=4).fit(both()).transform(both())
    assert made[0].shape == (32, 32)


def test_one_seed_gives_one_training() -> None:
    first, second, other = (gan(random_state=seed).fit(both()) for seed in (0, 0, 1))
    X = darker()[:1]
    np.testing.assert_array_equal(first.transform(X)[0], second.transform(X)[0])
    assert not np.array_equal(first.transform(X)[0], other.transform(X)[0])


def test_the_rate_falls_to_zero_over_the_second_half(monkeypatch: pytest.MonkeyPatch) -> None:
    from xray_harmonize.harmonizers.translation_training import CycleNet

    rates: list[float] = []
    original = CycleNet._set_rate

    def watched(self: CycleNet) -> None:
        original(self)
        rates.append(self.critic_optimizer_.param_groups[0]["lr"])

    monkeypatch.setattr(CycleNet, "_set_rate", watched)
    gan(max_steps=8, lr=1e-3).fit(both())
    assert rates == pytest.approx([1e-3] * 5 + [0.75e-3, 0.5e-3, 0.25e-3])
    rates.clear()
    gan(max_steps=3, lr=1e-3, schedule="constant").fit(both())
    assert rates == [1e-3] * 3


def test_every_image_comes_once_before_any_comes_again_and_large_ones_are_cropped() -> None:
    generator = torch.Generator().manual_seed(0)
    source, reference = torch.rand(4, 1, 40, 48, generator=generator), torch.rand(3, 1, 8, 8, generator=generator)
    draw = UnpairedImages(source, reference, crop_size=32, augment=False).draws(np.random.RandomState(0))
    batches = [draw(1)[0] for _ in range(6)]
    assert {batch["source"].shape for batch in batches} == {(1, 1, 32, 32)}
    seen = [one["reference"].sum().item() for one in batches]
    assert sorted(seen[:3]) == sorted(seen[3:]) == pytest.approx(sorted(one.sum().item() for one in reference))


def test_an_interrupted_training_keeps_the_last_state_and_says_so() -> None:
    def stop(progress: Any) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    message = "The training of CycleGAN was interrupted after 2 checks; the state of check . is kept"
    with report_progress(stop), pytest.warns(XRayHarmonizeWarning, match=message):
        assert gan(max_steps=5).fit(both()).interrupted_


def test_lower_precision_is_taken() -> None:
    made = gan(precision="bfloat16").fit(both()).transform(darker()[:1])[0]
    assert made.dtype == np.float32
    assert np.isfinite(made).all()


def test_as_published_is_large_and_long() -> None:
    published = CycleGAN.as_published()
    assert (published.n_features, published.n_blocks, published.max_epochs) == (64, 9, 200)


def test_two_scanners_are_needed() -> None:
    with pytest.raises(NotEnoughImagesError, match=r"at least two scanners; X\.scanner holds only 'reference'"):
        gan().fit(bodies())
    with pytest.raises(MissingScannerError, match=r"CycleGAN\.fit needs to know which scanner made each image"):
        gan(reference=None).fit(list(bodies()))
    with pytest.raises(UnknownScannerError, match="reference='Z' has no training image; the scanners are dark, ref"):
        gan(reference="Z").fit(both())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_features": 0}, "n_features must be a whole number, at least 1; got 0"),
        ({"n_blocks": -1}, "n_blocks must be a whole number, at least 0; got -1"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1; got 0"),
        ({"max_steps": 0}, "max_steps must be a whole number, at least 1; got 0"),
        ({"max_epochs": 0}, "max_epochs must be a whole number, at least 1; got 0"),
        ({"buffer_size": -1}, "buffer_size must be a whole number, at least 0; got -1"),
        ({"crop_size": 16}, "crop_size must be a whole number, at least 32; got 16"),
        ({"crop_size": 33}, "crop_size must be a multiple of 4; got 33"),
        ({"cycle_weight": -1}, "cycle_weight must be 0 or more; got -1"),
        ({"identity_weight": -1}, "identity_weight must be 0 or more; got -1"),
        ({"schedule": "cosine"}, "schedule must be 'linear' or 'constant'; got 'cosine'"),
        ({"lr": 0}, "lr must be above 0; got 0"),
        ({"lr": "fast"}, "lr must be above 0; got 'fast'"),
        ({"cycle_weight": "x"}, "cycle_weight must be 0 or more; got 'x'"),
        ({"identity_weight": np.inf}, "identity_weight must be 0 or more; got inf"),
        ({"precision": [1]}, "precision must be one of auto, float32, bfloat16, float16; got [1]"),
        (
            {"reference": ["reference"]},
            "reference must be the name of a scanner as text, or None; got ['reference']",
        ),
        ({"downscale": 0}, "downscale must be a whole number, at least 1; got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        gan(**parameters).fit(both())
