"""A comparison small enough for tests: images of a few pixels, a classifier of their means, and steps that keep a log.

``LOG`` holds what was done to which images, one entry a call, since estimators are cloned before they are used.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

from xray_harmonize import CDFMatching, ImageSet
from xray_harmonize.evaluation.predictions import prediction_table
from xray_harmonize.exceptions import NotEnoughImagesError
from xray_harmonize.harmonizers.base import Harmonizer


@dataclass
class Call:
    """What was called on which images."""

    who: str
    method: str
    scanners: list[str]
    patients: list[Any]
    ids: list[int]
    means: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


LOG: list[Call] = []


def calls(who, method):
    return [call for call in LOG if (call.who, call.method) == (who, method)]


def record(who, method, X, **facts):
    X = ImageSet.of(X)
    LOG.append(
        Call(
            type(who).__name__,
            method,
            [] if X.scanner is None else X.scanner.tolist(),
            [] if X.patient is None else X.patient.tolist(),
            X.meta["id"].tolist() if "id" in X.meta else [],
            np.array([np.mean(X.unit(i) if X[i].dtype.kind == "u" else X[i]) for i in range(len(X))]),
            facts,
        )
    )


class MeanClassifier(ClassifierMixin, BaseEstimator):
    """The nearer the mean of an image is to that of a class, the more probable the class."""

    def __init__(self, sharpness=20.0, augment=None, weights=None, class_weight=None, random_state=None):
        self.sharpness = sharpness
        self.augment = augment
        self.weights = weights
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X, y):
        record(self, "fit", X, random_state=self.random_state, augment=self.augment)
        means = _means(X)
        self.classes_ = np.unique(y)
        self.centers_ = np.array([means[y == label].mean() for label in self.classes_])
        # Seeds differ, as those of a network do.
        self.centers_ += 0.003 * np.random.default_rng(self.random_state).standard_normal(len(self.centers_))
        self.offset_ = 0.0
        return self

    def predict_proba(self, X):
        record(self, "predict_proba", X, offset=self.offset_)
        distance = np.abs(_means(X)[:, None] + self.offset_ - self.centers_)
        odds = np.exp(-self.sharpness * distance)
        return odds / odds.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def adapt(self, X):
        record(self, "adapt", X)
        adapted = MeanClassifier(**self.get_params())
        adapted.classes_, adapted.centers_ = self.classes_, self.centers_
        adapted.offset_ = float(self.centers_.mean() - _means(X).mean())
        return adapted

    def fine_tune(self, X, y):
        record(self, "fine_tune", X, labels=list(y))
        tuned = MeanClassifier(**self.get_params())
        tuned.classes_, tuned.offset_ = self.classes_, 0.0
        means = _means(X)
        tuned.centers_ = np.array(
            [
                means[y == label].mean() if (y == label).any() else center
                for label, center in zip(self.classes_, self.centers_, strict=True)
            ]
        )
        return tuned


class SpyCDF(CDFMatching):
    """CDFMatching that logs what it sees."""

    def fit(self, X, y=None, *, scanner=None):
        record(self, "fit", X)
        return super().fit(X, y, scanner=scanner)

    def adapt(self, X, *, scanner=None):
        record(self, "adapt", X)
        return super().adapt(X, scanner=scanner)

    def transform(self, X, *, scanner=None):
        record(self, "transform", X)
        return super().transform(X, scanner=scanner)


class SpyLearner(Harmonizer):
    """Learns from labels and a classifier as GDCE does, but no more than a shift a scanner, and logs what it sees."""

    def __init__(
        self,
        reference=None,
        discriminator=None,
        *,
        scope="image",
        supervision="labels",
        batch_size=2,
        validation_fraction=0.0,
        random_state=None,
    ):
        self.reference = reference
        self.discriminator = discriminator
        self.scope = scope
        self.supervision = supervision
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X, y=None, *, scanner=None):
        given = self.discriminator
        facts = {"labels": list(y), "random_state": self.random_state, "discriminator": given}
        record(self, "fit", X, **facts)
        if self.supervision == "labels" and len(set(X.scanner)) < 2:
            raise NotEnoughImagesError("SpyLearner needs images of two scanners.")
        self.discriminator_ = given
        if not hasattr(given, "centers_"):
            at_home = X.scanner == self.reference
            self.discriminator_ = given.fit(X[at_home], y[at_home])
        own = _means(X)
        if self.supervision == "labels":
            places = np.searchsorted(self.discriminator_.classes_, y)
            wanted = self.discriminator_.centers_[places]
        else:
            wanted = np.full(len(own), self.discriminator_.centers_.mean())
        self.shifts_ = {
            name: 0.0 if name == self.reference else float((wanted - own)[X.scanner == name].mean())
            for name in sorted(set(X.scanner))
        }
        return self

    def adapt(self, X, *, scanner=None):
        record(self, "adapt", X)
        adapted = copy.copy(self)
        shift = float(self.discriminator_.centers_.mean() - _means(X).mean())
        adapted.shifts_ = {**self.shifts_, **dict.fromkeys(sorted(set(X.scanner)), shift)}
        return adapted

    def _render(self, radiograph):
        if self.scope == "scanner":
            shift = self.shifts_[radiograph.scanner]
        else:
            shift = np.mean(list(self.shifts_.values()))
        return np.clip(radiograph.pixels + shift, 0, 1).astype("f4")


def _means(X):
    X = ImageSet.of(X)
    return np.array([np.mean(X.unit(i) if X[i].dtype.kind == "u" else X[i]) for i in range(len(X))])


GAMMA = {"home": 1.0, "far": 2.2, "near": 0.6}


def images_of(n=None, *, paired=False, per_patient=1, seed=0, side=6):
    """Images of three scanners: "ill" ones are brighter, and every scanner has a gamma of its own.

    Parameters
    ----------
    n : dict, optional
        Number of images by scanner.
    paired : bool
        Whether all scanners imaged the same patients.
    per_patient : int
        Images of each patient on a scanner.
    """
    rng = np.random.default_rng(seed)
    images, labels, scanners, patients = [], [], [], []
    for name, count in (n or {"home": 20, "far": 12, "near": 10}).items():
        for i in range(count):
            patient = i // per_patient
            ill = patient % 2
            base = rng.random((side, side)) * 0.5 + 0.2 * ill + 0.1 * rng.random()
            images.append((np.clip(base, 0, 1) ** GAMMA.get(name, 1.0)).astype("f4"))
            labels.append("ill" if ill else "well")
            scanners.append(name)
            patients.append(f"p{patient}" if paired else f"{name}-{patient}")
    meta = pd.DataFrame({"id": range(len(images))})
    return ImageSet(images, scanner=scanners, patient=patients, meta=meta), np.array(labels)


def predictions_of(skill, *, n=40, seeds=(0, 1), protocol="fixed classifier", sees=None, seed=0):
    """Binormal predictions from {harmonizer: {scanner: distance of the classes}}."""
    rng = np.random.default_rng(seed)
    noise = {}
    tables = []
    for harmonizer, by_scanner in skill.items():
        for scanner, distance in by_scanner.items():
            for fit in seeds:
                y = np.arange(n) % 2
                base = noise.setdefault((scanner, fit), rng.standard_normal(n))
                score = 1 / (1 + np.exp(-(base + distance * (y - 0.5))))
                table = prediction_table(
                    np.where(y, "ill", "well"),
                    np.column_stack([score, 1 - score]),
                    ["ill", "well"],
                    scanner=scanner,
                    patient=[f"{scanner}-{i // 2}" for i in range(n)],
                    image=[f"{scanner}/{i}.png" for i in range(n)],
                    seed=fit,
                )
                table.insert(0, "protocol", protocol)
                table.insert(1, "harmonizer", harmonizer)
                table.insert(2, "sees", (sees or {}).get(harmonizer, "nothing"))
                tables.append(table)
    return pd.concat(tables, ignore_index=True)
