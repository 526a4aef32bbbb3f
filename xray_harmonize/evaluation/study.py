"""A comparison as it runs: what is done, what is left, and the tables that come out.

Finished parts are kept in a folder, each under a key made of everything that it depends on, so that an interrupted
comparison goes on where it stopped and a changed one computes only what changed.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
from xray_harmonize.evaluation.protocols import check_feasible, predict, train_classifier
from xray_harmonize.evaluation.split_fits import SplitFits
from xray_harmonize.evaluation.splits import (
    FIXED,
    LEAVE_ONE_OUT,
    Split,
    fixed_classifier_splits,
    leave_one_scanner_out_splits,
)
from xray_harmonize.evaluation.study_progress import LEARNING, PREDICTION, TRAINING, StudyProgress
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError
from xray_harmonize.images import ImageSet
from xray_harmonize.persistence import load, save

__all__ = ["PROTOCOLS", "PartStore", "Study", "StudyProgress"]

PROTOCOLS = {"fixed": FIXED, "loso": LEAVE_ONE_OUT}


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
        If a protocol is not known or none of the candidates is defined under it, X and y differ in length, or
        candidates, seeds or protocols are none or repeat.
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
        for protocol in self.protocols:
            if not any(candidate.runs_under(PROTOCOLS[protocol]) for candidate in self.candidates):
                raise InvalidParameterError(
                    f"No candidate of {', '.join(map(repr, names))} is defined under protocol {protocol!r}, where "
                    "nobody sees labels of the test scanner. Add one that does without."
                )
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
            if candidate.runs_under(split.protocol)
        ]
        missing = [(split, candidate, key) for split, candidate, key in work if key not in self._store]
        for split, candidate, _ in missing:
            check_feasible(candidate, self.X, self.y, split, self.reference)
        trainings = {self._training_key(data, split, candidate) for split, candidate, _ in missing}
        kinds = [_kind(candidate) for _, candidate, _ in missing]
        n_trainings = sum(key not in self._store for key in trainings)
        progress = StudyProgress(n_trainings, kinds.count(PREDICTION), kinds.count(LEARNING))
        listener(progress)
        for _, of_split in itertools.groupby(missing, key=lambda one: id(one[0])):
            self._run_split(data, list(of_split), progress, listener)
        return pd.concat([self._store.table(key) for _, _, key in work], ignore_index=True)

    def infeasible(self) -> dict[str, str]:
        """Tell which candidates the images are too few for, and why.

        Returns
        -------
        dict of str to str
            Reasons by name; ``run`` would refuse to begin with one of these.
        """
        reasons: dict[str, str] = {}
        for split in self._splits():
            for candidate in self.candidates:
                if candidate.name not in reasons and candidate.runs_under(split.protocol):
                    try:
                        check_feasible(candidate, self.X, self.y, split, self.reference)
                    except NotEnoughImagesError as error:
                        reasons[candidate.name] = str(error)
        return reasons

    def _run_split(
        self,
        data: str,
        work: list[tuple[Split, Candidate, str]],
        progress: StudyProgress,
        listener: Callable[[StudyProgress], None],
    ) -> None:
        """Compute what is missing of one split; what was fitted on the way goes with it."""
        fits = SplitFits(self.y, work[0][0], self.reference)
        for split, candidate, key in work:
            classifier = self._train(data, split, candidate, fits, progress, listener)
            doing = f"{split.protocol}, {split.name}, seed {split.seed}: {candidate.name}"
            with _told(progress, _kind(candidate), doing, listener):
                X = self._shape(candidate)
                table = predict(candidate, X, self.y, split, classifier, self.reference, fits)
                self._store.put_table(key, table)

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
        fits: SplitFits,
        progress: StudyProgress,
        listener: Callable[[StudyProgress], None],
    ) -> Any:
        key = self._training_key(data, split, candidate)
        if key in self._store:
            return self._store.classifier(key)
        doing = f"{split.protocol}, {split.name}, seed {split.seed}: training for {candidate.name}"
        with _told(progress, TRAINING, doing, listener):
            X = self._shape(candidate)
            classifier = train_classifier(candidate, X, self.y, split, self.classifier, self.reference, fits)
            self._store.put_classifier(key, classifier)
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


def _kind(candidate: Candidate) -> str:
    return LEARNING if candidate.needs_discriminator or candidate.fine_tunes else PREDICTION


@contextmanager
def _told(progress: StudyProgress, kind: str, doing: str, listener: Callable[[StudyProgress], None]) -> Iterator[None]:
    """Tell a listener that something begins, each epoch of networks trained within, and that it is done."""
    progress.begin(kind, doing)
    listener(progress)

    def on_epoch(epoch: Progress) -> None:
        progress.epoch, progress.max_epochs = epoch.epoch, epoch.max_epochs
        listener(progress)

    with report_progress(on_epoch):
        yield
    progress.end()
    listener(progress)
