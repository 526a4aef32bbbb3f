"""Small pairs of images with a known way from one to the other."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from xray_harmonize import ImageSet


@cache
def bodies(n: int = 12, size: int = 32) -> ImageSet:
    """Give smooth bodies in dark air, float32."""
    rng = np.random.default_rng(0)
    rows, columns = np.meshgrid(*2 * [np.linspace(-1, 1, size)], indexing="ij")
    images = []
    for _ in range(n):
        distance = np.hypot(rows - rng.uniform(-0.2, 0.2), columns - rng.uniform(-0.2, 0.2))
        body = rng.uniform(0.75, 0.85) / (1 + np.exp(8 * (distance - rng.uniform(0.5, 0.8))))
        images.append(np.clip(body + 0.05 * np.sin(6 * rows + rng.uniform(0, 6)), 0, 1).astype("float32"))
    return ImageSet(images, "reference", [f"P{i}" for i in range(n)])


@cache
def darker(n: int = 12, size: int = 32) -> ImageSet:
    """Give the same bodies on a scanner that shows them darker, with less range."""
    return ImageSet([0.1 + 0.6 * image**1.6 for image in bodies(n, size)], "dark", [f"P{i}" for i in range(n)])


def off(images: Any, truth: ImageSet) -> float:
    """Tell the mean absolute distance."""
    return float(np.mean([np.abs(one - truth.unit(i)).mean() for i, one in enumerate(images)]))


SETTINGS: dict[str, Any] = {"max_steps": 40, "validation_fraction": 0, "device": "cpu", "random_state": 0}
MOMENT: dict[str, Any] = {**SETTINGS, "max_steps": 2}
