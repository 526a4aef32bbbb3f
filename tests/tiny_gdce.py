"""GDCE small enough to be trained in tests, and a cohort whose scanners differ by known curves."""

from __future__ import annotations

from functools import cache
from typing import Any

import joblib
import numpy as np
import pytest

from xray_harmonize import (
    GDCE,
    ImageSet,
    ResNetClassifier,
    make_cohort,
)
from xray_harmonize.datasets import Cohort

SIZE = 32
REFERENCE, BRIGHT, DARK = "reference", "clearview-like", "senograph-like"

every_scope = pytest.mark.parametrize("scope", ["image", "scanner"])
every_supervision = pytest.mark.parametrize("supervision", ["labels", "distribution"])


@cache
def cohort() -> Cohort:
    """The same 24 patients on three scanners that expose alike, so that the truth of every image is known."""
    scanners = [REFERENCE, BRIGHT, DARK]
    return make_cohort("density", scanners, n_patients=24, size=SIZE, random_state=0, physics="same", paired=True)


def images(*scanners: str) -> ImageSet:
    return cohort().images[np.isin(cohort().images.scanner, scanners)]


def labels(*scanners: str) -> np.ndarray:
    """Dense breasts are 1."""
    return np.isin(cohort().labels[np.isin(cohort().images.scanner, scanners)], ["C", "D"]).astype(int)


def off_the_truth(harmonizer: GDCE, scanner: str) -> float:
    """Mean absolute distance of harmonized images from what the reference would have made of the same patients."""
    X, truth = images(scanner), cohort().truth[cohort().images.scanner == scanner]
    return float(np.mean([np.abs(one - truth.unit(i)).mean() for i, one in enumerate(harmonizer.transform(X))]))


def small_classifier(**parameters: Any) -> ResNetClassifier:
    settings = {"width": 4, "image_size": SIZE, "max_epochs": 20, "batch_size": 8, "lr": 3e-3}
    settings |= {"validation_fraction": 0, "random_state": 0, "device": "cpu"}
    return ResNetClassifier(**{**settings, **parameters})


@cache
def judge() -> ResNetClassifier:
    """A classifier fitted to the reference's images."""
    return small_classifier().fit(images(REFERENCE), labels(REFERENCE))


def gdce(discriminator: ResNetClassifier | None = None, **parameters: Any) -> GDCE:
    """Make one that learns in a second."""
    settings = {"perceptual": None, "n_layers": 3, "view_size": 16, "batch_size": 8, "max_steps": 20}
    settings |= {"reference": REFERENCE, "random_state": 0, "device": "cpu"}
    return GDCE(discriminator=discriminator or judge(), **{**settings, **parameters})


def quick(discriminator: ResNetClassifier | None = None, **parameters: Any) -> GDCE:
    """Make one that learns next to nothing in next to no time."""
    settings = {"start": "random", "max_steps": 2, "n_layers": 2, "view_size": 8, "lr": 0.05}
    return gdce(discriminator, **{**settings, **parameters})


@cache
def taught(scope: str, supervision: str) -> GDCE:
    """One that knows the dark scanner, and with one curve a scanner also the bright one."""
    known = (REFERENCE, DARK) if scope == "image" else (REFERENCE, BRIGHT, DARK)
    y = labels(*known) if supervision == "labels" else None
    return gdce(scope=scope, supervision=supervision).fit(images(*known), y)


def state_of(estimator: Any) -> str:
    """Tell parameters and learned state of an estimator apart from any other's."""
    return joblib.hash(estimator.__getstate__())


def same_curves(first: GDCE, second: GDCE, X: ImageSet, atol: float = 0) -> bool:
    x = np.linspace(0, 1, 257)
    pairs = zip(first.tone_curves(X), second.tone_curves(X), strict=True)
    return all(np.abs(one(x) - other(x)).max() <= atol for one, other in pairs)
