"""A comparison as it runs: what is done, what is left, and the tables that come out.

Finished parts are kept in a folder, each under a key made of everything that it depends on, so that an interrupted
comparison goes on where it stopped and a changed one computes only what changed.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from xray_harmonize import __version__
from xray_harmonize.atomic import replacing
from xray_harmonize.callbacks import Progress, report_progress
from xray_harmonize.evaluation.candidates import Candidate
from xray_harmonize.evaluation.keys import digest, fingerprint
from xray_harmonize.evaluation.predictions import PROBABILITY_PREFIX
from xray_harmonize.evaluation.protocols import (
    FIXED,
    LEAVE_ONE_OUT,
    Split,
    check_adaptation,
    fixed_classifier_splits,
    leave_one_scanner_out_splits,
    predict,
    train_classifier,
)
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.images import ImageSet
from xray_harmonize.persistence import load, save

PROTOCOLS = {"fixed": FIXED, "loso": LEAVE_ONE_OUT}

# How many predictions a training counts as until both were measured.
_TRAINING_TO_PREDICTION = 20.0


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
    furthest: float = 0.0

    @property
    def fraction(self) -> float:
        """Share of the expected time that is over, in [0, 1]; a training counts as 20 predictions until measured.

        It never falls: where it turns out that more is left than was thought, it waits.
        """
        training, prediction = self._training_cost(), self._prediction_cost()
        total = self.n_trainings * training + self.n_predictions * prediction
        done = self.trainings_done * training + self.predictions_done * prediction + self._of_this() * training
        self.furthest = max(self.furthest, min(1.0, done / total) if total else 1.0)
        return self.furthest

    @property
    def remaining_seconds(self) -> float | None:
        """Expected time left in seconds, from what was measured in this run; None before anything was."""
        if not (self.trainings_done or self.predictions_done or self._of_this()):
            return None if self.n_trainings or self.n_predictions else 0.0
        left = self.n_trainings - self.trainings_done - self._of_this()
        return left * self._training_cost() + (self.n_predictions - self.predictions_done) * self._prediction_cost()

    def _of_this(self) -> float:
        return self.epoch / self.max_epochs if self.max_epochs else 0.0

    def _training_cost(self) -> float:
        measured = self._measured_training()
        return _TRAINING_TO_PREDICTION * self._prediction_cost() if measured is None else measured

    def _prediction_cost(self) -> float:
        if self.predictions_done:
            return self.prediction_seconds / self.predictions_done
        measured = self._measured_training()
        return 1.0 if measured is None else measured / _TRAINING_TO_PREDICTION

    def _measured_training(self) -> float | None:
        if self.trainings_done:
            return self.training_seconds / self.trainings_done
        if self._of_this():
            # Before the first training is over, take it that none will stop early.
            return (time.monotonic() - self.epoch_started) / self._of_this()
        return None


class PartStore:
    """Finished parts of a study in a folder, or in memory where there is none.

    Parameters
    ----------
    folder : path or None
        Made if absent.
    classes : iterable of type
        Estimator classes beyond this package's that classifiers are made of.
    """

    def __init__(self, folder: Path | None, classes: Iterable[type] = ()) -> None:
        self.folder = folder
        self._classes = list(classes)
        self._memory: dict[str, Any] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key: str) -> bool:
        return key in self._memory if self.folder is None else any(self.folder.glob(f"{key}.*"))

    def table(self, key: str) -> pd.DataFrame:
        """Give a finished table of predictions."""
        if self.folder is None:
            return self._memory[key]
        # Names of scanners and harmonizers are text, even if they look like numbers or like missing values; and pandas'
        # own way of reading numbers loses their last bits.
        table = pd.read_csv(self.folder / f"{key}.csv", dtype=str, keep_default_na=False)
        numbers = dict.fromkeys([name for name in table if name.startswith(PROBABILITY_PREFIX)], float)
        return table.astype({**numbers, "seed": int})

    def put_table(self, key: str, table: pd.DataFrame) -> None:
        """Keep a table of predictions."""
        if self.folder is None:
            self._memory[key] = table
        else:
            with replacing(self.folder / f"{key}.csv") as stream:
                # Text in quotes, as a carriage return within would end the row.
                table.to_csv(stream, index=False, quoting=csv.QUOTE_NONNUMERIC)

    def classifier(self, key: str) -> Any:
        """Give a trained classifier."""
        if self.folder is None:
            return self._memory[key]
        return load(self.folder / f"{key}.npz", classes=self._classes)

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
    y : array-like of shape (n,)
        Class labels.
    candidates : list of Candidate
        What is compared.
    classifier : estimator
        Unfitted; takes ``random_state``. With a folder, its learned state must be what
        :func:`xray_harmonize.persistence.save` can write.
    reference : str
        Scanner that the fixed classifier is trained on and that harmonizers bring images to.
    protocols : list of {"fixed", "loso"}
    seeds : list of int
    n_folds : int, default=5
        Folds of the reference's patients; a seed tests one of them.
    folder : path, optional
        Where finished parts are kept; memory otherwise.

    Raises
    ------
    InvalidParameterError
        If a protocol is not known, X and y differ in length, or candidates, seeds or protocols are none or repeat.
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
        self.y = np.asarray(self.y)
        if self.y.shape != (len(self.X),):
            raise InvalidParameterError(f"X holds {len(self.X)} images but y has shape {self.y.shape}.")
        names = [candidate.name for candidate in self.candidates]
        once: dict[str, list[Any]] = {"candidates": names, "seeds": self.seeds, "protocols": self.protocols}
        for what, values in once.items():
            if not values or len(set(values)) < len(values):
                raise InvalidParameterError(f"{what} must hold at least one, and each once; got {values!r}.")
        parts = [self.classifier, *self.classifier.get_params().values()]
        self._store = PartStore(self.folder, {type(part) for part in parts if isinstance(part, BaseEstimator)})
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
        missing = [(split, candidate) for split, candidate, key in work if key not in self._store]
        for split, candidate in missing:
            check_adaptation(candidate, self.X, split)
        trainings = {self._training_key(data, split, candidate) for split, candidate in missing}
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
        name = digest(candidate.geometry)
        if name not in self._shaped:
            self._shaped[name] = candidate.shaped(self.X)
        return self._shaped[name]

    def _training_key(self, data: str, split: Split, candidate: Candidate) -> str:
        shared = candidate.training_key()
        if split.protocol == LEAVE_ONE_OUT:
            # The classifier is refitted on what the harmonizer makes, but adapting it comes after.
            shared += digest(candidate.steps)
        return self._key("classifier", data, split, shared)

    def _key(self, kind: str, data: str, split: Split, what: Candidate | str) -> str:
        train = [self.reference, self.classifier, split.protocol, split.name, split.seed, split.train]
        return f"{kind}-{digest(__version__, data, *train, what)[:20]}"
