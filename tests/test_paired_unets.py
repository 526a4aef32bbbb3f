"""What ResUNet and UNet learn, and what they can do to an image. What all paired methods share: test_paired.py."""

from __future__ import annotations

import numpy as np
from tiny_pairs import SETTINGS, bodies, darker, off

from xray_harmonize import ResUNet, UNet


def test_an_image_is_made_anew() -> None:
    learned = ResUNet(**{**SETTINGS, "n_features": 8, "lr": 2e-2}).fit(darker(), target=bodies())
    assert off(learned.transform(darker()), bodies()) < 0.06


def test_what_was_made_smaller_is_blurred() -> None:
    learned = ResUNet(**{**SETTINGS, "max_steps": 1, "n_features": 2, "downscale": 8}).fit(bodies())
    checkered = np.where(np.indices((256, 256)).sum(axis=0) % 2, 0.6, 0.4).astype("float32")
    assert np.abs(np.diff(learned.transform(checkered[None])[0], axis=1)).max() < 0.05


def test_what_is_added_to_an_image_is_learned() -> None:
    learned = UNet(**{**SETTINGS, "n_features": 8, "lr": 1e-2}).fit(darker(), target=bodies())
    assert off(learned.transform(darker()), bodies()) < 0.05


def test_what_is_added_leaves_fine_detail() -> None:
    learned = UNet(**{**SETTINGS, "max_steps": 1, "n_features": 2, "downscale": 8}).fit(bodies())
    checkered = np.where(np.indices((256, 256)).sum(axis=0) % 2, 0.6, 0.4).astype("float32")
    assert np.abs(np.diff(learned.transform(checkered[None])[0], axis=1)).min() > 0.15
