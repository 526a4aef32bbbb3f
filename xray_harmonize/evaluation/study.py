"""A comparison as it runs: what is done, what is left, and the tables that come out.

Finished parts are kept in a folder, each under a key made of everything that it depends on, so that an interrupted
comparison goes on where it stopped and a changed one computes only what changed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from xray_harmonize import __version__
from xray_harmonize.atomic import replacing
from xray_harmonize.evaluation.candidates import Candidate
from xray_harmonize.evaluation.protocols import (
    FIXED,
    LEAVE_ONE_OUT,
    Split,
    fixed_classifier_splits,
    leave_one_scanner_out_splits,
    predict,
    train_classifier,
)
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.images import ImageSet
from xray_harmonize.persistence import load, save
from xray_harmonize.callbacks import Progress, report_progress

PROTOCOLS = {"fixed": FIXED, "loso": LEAVE_ONE_OUT}


@dataclass
class StudyProgress:
    """How far a study is.

    Parameters
    ----------
    n_trainings, n_predictions : int
        Trainings and predictions in all, those found finished left out.
    """

    n_trainings: int
    n_predictions: int
    trainings_done: int = 0
    predictions_done: int = 0
    training_seconds: float = 0.0
    prediction_seconds: float = 0.0
    epoch: int = 0
    max_epochs: int = 0
    epoch_started: float = 0.0
    doing: str = ""

    @property
    def fraction(self) -> float:
        """Share of the expected time that is over, in [0, 1]; a training counts as 20 predictions until measured."""
        training, prediction = self._training_cost(), self._prediction_cost()
        total = self.n_trainings * training + self.n_predictions * prediction
        done = self.trainings_done * training + self.predictions_done * prediction + self._of_this() * training
        return min(1.0, done / total) if total else 1.0

    @property
    def remaining_seconds(self) -> float | None:
        """Expected time left in seconds, from what was measured in this run; None before anything was."""
        if not self.trainings_done and self.n_trainings and not self.epoch:
            return None
        left = self.n_trainings - self.trainings_done - self._of_this()
        return left * self._training_cost() + (self.n_predictions - self.predictions_done) * self._prediction_cost()

    def _of_this(self) -> float:
        return self.epoch / self.max_epochs if self.max_epochs else 0.0

    def _training_cost(self) -> float:
        if self.trainings_done:
            return self.training_seconds / self.trainings_done
        if self.epoch:
            # Before the first training is over, take it that none will stop early.
            return (time.monotonic() - self.epoch_started) / self._of_this()
        return 20.0 * self._prediction_cost()

    def _prediction_cost(self) -> float:
        if self.predictions_done:
            return self.prediction_seconds / self.predictions_done
        return 1.0


class PartStore:
    """Finished parts of a study in a folder, or in memory where there is none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._memory: dict[str, Any] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key: str) -> bool:
        return key in self._memory if self.folder is None else any(self.folder.glob(f"{key}.*"))

    def table(self, key: str) -> pd.DataFrame:
        """Give a finished table of predictions."""
        if self.folder is None:
            return self._memory[key]
        # Names of scanners and harmonizers are text, even if they look like numbers or like missing values.
        text = dict.fromkeys(("image", "scanner", "patient", "label", "predicted", "harmonizer", "sees"), str)
        return pd.read_csv(self.folder / f"{key}.csv", dtype=text, keep_default_na=False)

    def put_table(self, key: str, table: pd.DataFrame) -> None:
        """Keep a table of predictions."""
        if self.folder is None:
            self._memory[key] = table
        else:
            with replacing(self.folder / f"{key}.csv") as stream:
                table.to_csv(stream, index=False)

    def classifier(self, key: str) -> Any:
        """Give a trained classifier."""
        return self._memory[key] if self.folder is None else load(self.folder / f"{key}.npz")

    def put_classifier(self, key: str, classifier: Any) -> None:
        """Keep a trained classifier."""
        if self.folder is None:
            self._memory[key] = classifier
        else:
            save(classifier, self.folder / f"{key}.npz")


@dataclass
class Study:
    """Candidates compared on images under one or both protocols.

    Parameters
    ----------
    X : ImageSet
        With scanner labels, and patients where known.
    y : ndarray of shape (n,)
        Class labels.
    candidates : list of Candidate
        What is compared.
    classifier : estimator
        Unfitted; takes ``random_state``.
    reference : str
        Scanner that the fixed classifier is trained on and that harmonizers bring images to.
    protocols : list of {"fixed", "loso"}
    seeds : list of int
    n_folds : int, default=5
        Folds of the reference's patients; a seed tests one of them.
    folder : path, optional
        Where finished parts are kept; memory otherwise.
    """

    X: ImageSet
    y: np.ndarray
    candidates: list[Candidate]
    classifier: BaseEstimator
    reference: str
    protocols: list[str] = field(default_factory=lambda: ["fixed"])
    seeds: list[int] = field(default_factory=lambda: [0])
    n_folds: int = 5
    folder: Path | None = None

    def __post_init__(self) -> None:
        for protocol in self.protocols:
            if protocol not in PROTOCOLS:
                raise InvalidParameterError(
                    f"There is no protocol {protocol!r}; known are {', '.join(map(repr, PROTOCOLS))}."
                )
        self._store = PartStore(self.folder)
        self._shaped: dict[str, ImageSet] = {}

    def run(self, listener: Callable[[StudyProgress], None] = lambda progress: None) -> pd.DataFrame:
        """Compute what is not there yet.

        Parameters
        ----------
        listener : callable
            Called with the state after every epoch, training and prediction.

        Returns
        -------
        DataFrame
            All predictions: ``protocol``, ``harmonizer``, ``sees`` and the columns of
            :func:`~xray_harmonize.evaluation.predictions.prediction_table`.

        Raises
        ------
        XRayHarmonizeError
            If the images, labels and scanners allow no comparison; the message says why.
        """
        data = fingerprint(self.X, self.y)
        work = [
            (split, candidate, self._key("predictions", data, split, candidate))
            for split in self._splits()
            for candidate in self.candidates
        ]
        missing = [key for _, _, key in work if key not in self._store]
        trainings = {self._training_key(data, s, c) for s, c, key in work if key in missing}
        progress = StudyProgress(sum(key not in self._store for key in trainings), len(missing))
        listener(progress)
        for split, candidate, key in work:
            if key not in self._store:
                classifier = self._train(data, split, candidate, progress, listener)
                progress.doing = f"{split.protocol}, {split.name}, seed {split.seed}: {candidate.name}"
                listener(progress)
                start = time.monotonic()
                table = predict(candidate, self._shape(candidate), self.y, split, classifier, self.reference)
                self._store.put_table(key, table)
                progress.predictions_done += 1
                progress.prediction_seconds += time.monotonic() - start
                listener(progress)
        return pd.concat([self._store.table(key) for _, _, key in work], ignore_index=True)

    def _splits(self) -> Iterator[Split]:
        for protocol in self.protocols:
            if protocol == "fixed":
                yield from fixed_classifier_splits(self.X, self.y, self.reference, self.seeds, self.n_folds)
            else:
                yield from leave_one_scanner_out_splits(self.X, self.y, self.reference, self.seeds)

    def _train(
        self,
        data: str,
        split: Split,
        candidate: Candidate,
        progress: StudyProgress,
        listener: Callable[[StudyProgress], None],
    ) -> Any:
        key = self._training_key(data, split, candidate)
        if key in self._store:
            return self._store.classifier(key)
        progress.doing = f"{split.protocol}, {split.name}, seed {split.seed}: training for {candidate.name}"
        progress.epoch, progress.max_epochs = 0, 0
        start = progress.epoch_started = time.monotonic()
        listener(progress)

        def on_epoch(epoch: Progress) -> None:
            progress.epoch, progress.max_epochs = epoch.epoch, epoch.max_epochs
            listener(progress)

        with report_progress(on_epoch):
            classifier = train_classifier(
                candidate, self._shape(candidate), self.y, split, self.classifier, self.reference
            )
        self._store.put_classifier(key, classifier)
        progress.epoch, progress.max_epochs = 0, 0
        progress.trainings_done += 1
        progress.training_seconds += time.monotonic() - start
        return classifier

    def _shape(self, candidate: Candidate) -> ImageSet:
        """Put all images through a candidate's geometry, once for all candidates that share it."""
        name = repr(candidate.geometry)
        if name not in self._shaped:
            geometry = candidate.geometry_pipeline()
            self._shaped[name] = self.X if geometry is None else geometry.fit(self.X).transform(self.X)
        return self._shaped[name]

    def _training_key(self, data: str, split: Split, candidate: Candidate) -> str:
        shared = candidate.training_key()
        if split.protocol == LEAVE_ONE_OUT:
            # The classifier is refitted on what the harmonizer makes, but adapting it comes after.
            shared += f" steps={candidate.steps!r}"
        return self._key("classifier", data, split, shared)

    def _key(self, kind: str, data: str, split: Split, what: Candidate | str) -> str:
        facts = {
            "version": __version__,
            "data": data,
            "reference": self.reference,
            "classifier": repr(self.classifier),
            "split": [split.protocol, split.name, split.seed],
            "train": hashlib.sha256(split.train.tobytes()).hexdigest(),
            "what": repr(what),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
        return f"{kind}-{digest}"


def fingerprint(X: ImageSet, y: np.ndarray) -> str:
    """Digest of images, scanners, patients and labels: of files by path, size and time, of arrays by their pixels."""
    digest = hashlib.sha256()
    for labels in (y, X.scanner, X.patient):
        digest.update(repr(None if labels is None else np.asarray(labels).tolist()).encode())
    for i in range(len(X)):
        path = X.meta_value(i, "path")
        if X.is_lazy and path is not None:
            status = Path(path).stat()
            digest.update(f"{path} {status.st_size} {status.st_mtime_ns}".encode())
        else:
            digest.update(np.ascontiguousarray(X[i]).tobytes())
    return digest.hexdigest()
