"""A network that trains in a second, and images that it can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from xray_harmonize.classifiers import ResNetClassifier


def small(**parameters: Any) -> ResNetClassifier:
    """Make a classifier that trains in a second."""
    settings = {"depth": 10, "width": 4, "image_size": 24, "max_epochs": 6, "batch_size": 8, "lr": 3e-3}
    return ResNetClassifier(**{**settings, "random_state": 0, "device": "cpu", **parameters})


def bars(n: int = 40, size: int = 24, seed: int = 0, labels: tuple[Any, ...] = (0, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Float images with one bar a class: lying, standing, and for a third class none."""
    rng = np.random.default_rng(seed)
    X = 0.3 * rng.random((n, size, size))
    kind = np.arange(n) % len(labels)
    for image, k in zip(X, kind, strict=True):
        at = rng.integers(4, size - 6)
        if k == 0:
            image[at : at + 3] += 0.6
        elif k == 1:
            image[:, at : at + 3] += 0.6
    return X, np.array(labels)[kind]
