"""Methods learned on some images of a scanner and tested on fixed others, with everything that was fitted kept.

The published study has one test set for the models of all folds, and classes that nothing may be learned from. That is
not the cross-fitting of :class:`xray_harmonize.evaluation.study.Study`; candidates, scores and stores are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from gdce_cohorts import Images
from sklearn.base import BaseEstimator, clone

from xray_harmonize.adaptation import adapt
from xray_harmonize.catalog.partition import partition
from xray_harmonize.evaluation.candidates import LABELLED, UNLABELLED, Candidate
from xray_harmonize.evaluation.keys import digest, fingerprint
from xray_harmonize.evaluation.predictions import prediction_table
from xray_harmonize.evaluation.splits import fixed_classifier_splits
from xray_harmonize.evaluation.study import PartStore


@dataclass
class FixedTest:
    """A classifier trained on folds of the reference; sources cut once into what may be learned from and what tests.

    Parameters
    ----------
    images : Images
    classifier : ResNetClassifier
        Unfitted.
    store : PartStore
        Where classifiers, harmonizers and predictions are kept.
    lacking : bool
        Whether the cells ``images.test_only`` are tested on alone.
    n_folds : int
        Of the reference's patients.
    """

    images: Images
    classifier: BaseEstimator
    store: PartStore
    lacking: bool = False
    n_folds: int = 5
    _learned: np.ndarray = field(init=False, repr=False)
    _data: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        X, y = self.images.X, self.images.y
        table = pd.DataFrame({"scanner": X.scanner, "label": y, "patient": X.patient})
        # Halves of every class, as in cross-fitting.
        n_half = max(1, int(table.groupby(["scanner", "label"]).size().max()) // 2)
        test_only = self.images.test_only if self.lacking else ()
        parts = partition(table, n_train=n_half, n_test=n_half, test_only=test_only, random_state=0)
        self._learned = (parts["partition"] == "train").to_numpy()
        self._data = fingerprint(X, y)
        self._splits: dict[int, Any] = {}

    def trained_on(self, seed: int) -> np.ndarray:
        """Positions of the reference's images that train the classifier of a seed."""
        return self._split(seed).train

    def learned_from(self, *scanners: str) -> np.ndarray:
        """Positions of the sources' images that methods may learn from."""
        return np.flatnonzero(self._learned & np.isin(self.images.X.scanner, scanners))

    def tested(self, scanner: str, seed: int) -> np.ndarray:
        """Positions of a scanner's images that test; for the reference, the fold that did not train."""
        of_scanner = self._split(seed).test
        of_scanner = of_scanner[self.images.X.scanner[of_scanner] == scanner]
        return of_scanner if scanner == self.images.reference else of_scanner[~self._learned[of_scanner]]

    def judge(self, seed: int) -> Any:
        """Give the classifier of a seed, trained on the reference as it is."""
        key = f"classifier-{digest(self._data, self.classifier, self.n_folds, seed)[:20]}"
        if key not in self.store:
            train = self.trained_on(seed)
            model = clone(self.classifier).set_params(random_state=seed)
            self.store.put_classifier(key, model.fit(self.images.X[train], self.images.y[train]))
        return self.store.classifier(key)

    def learned(
        self, candidate: Candidate, sources: Sequence[str], seed: int, labels: np.ndarray | None = None
    ) -> tuple[Any, Any]:
        """Give harmonizer and classifier once they have learned from what they may see of some sources.

        Parameters
        ----------
        candidate : Candidate
            Without geometry; its classifier is the common one.
        sources : sequence of str
        seed : int
        labels : ndarray of shape (n,), optional
            Used in place of the true labels by what learns a harmonizer.
        """
        X, y = self.images.X, self.images.y
        train, more, judge = self.trained_on(seed), self.learned_from(*sources), self.judge(seed)
        labelled = candidate.sees == LABELLED
        learn = np.concatenate([train, more]) if labelled else train
        given = y if labels is None else labels
        key = f"harmonizer-{digest(self._key(candidate, sources, seed), given[learn])[:20]}"
        if key not in self.store:
            steps = candidate.harmonizer(self.images.reference, judge, seed)
            harmonizer = steps.fit(X[learn], given[learn])
            if candidate.sees == UNLABELLED and candidate.learns_scanners:
                harmonizer = adapt(harmonizer, X[more])
            self.store.put_classifier(key, harmonizer)
        harmonizer = self.store.classifier(key)
        if candidate.fine_tunes:
            judge = judge.fine_tune(harmonizer.transform(X[more]), y[more])
        if candidate.adapts_batch_norm:
            judge = judge.adapt(harmonizer.transform(X[more]))
        return harmonizer, judge

    def predictions(
        self, candidate: Candidate, sources: Sequence[str], scanner: str, seeds: Sequence[int]
    ) -> pd.DataFrame:
        """Predict a scanner's test images for every seed, by methods that have learned from some sources."""
        tables = []
        for seed in seeds:
            key = f"predictions-{digest(self._key(candidate, sources, seed), scanner)[:20]}"
            if key not in self.store:
                harmonizer, model = self.learned(candidate, sources, seed)
                table = self.scored(harmonizer, model, self.tested(scanner, seed), self.images.y, seed)
                self.store.put_table(key, table)
                print(f"seed {seed}, {candidate.name} on {scanner}: done", flush=True)
            tables.append(self.store.table(key))
        return pd.concat(tables, ignore_index=True)

    def scored(self, harmonizer: Any, model: Any, positions: np.ndarray, labels: np.ndarray, seed: int) -> pd.DataFrame:
        """Give the table of predictions on some images, against any labels."""
        X = self.images.X[positions]
        seen = X if harmonizer is None else harmonizer.transform(X)
        who = {"scanner": X.scanner, "patient": X.patient, "image": positions, "seed": seed}
        return prediction_table(labels[positions], model.predict_proba(seen), model.classes_, **who)

    def _split(self, seed: int) -> Any:
        if seed not in self._splits:
            X, y = self.images.X, self.images.y
            (self._splits[seed],) = fixed_classifier_splits(X, y, self.images.reference, [seed], self.n_folds)
        return self._splits[seed]

    def _key(self, candidate: Candidate, sources: Sequence[str], seed: int) -> str:
        positions = np.concatenate([self.trained_on(seed), self.learned_from(*sources)])
        shared = (self.classifier, candidate.steps, candidate.sees, candidate.fine_tunes, candidate.adapts_batch_norm)
        return digest(self._data, self.n_folds, seed, positions, *shared)


def curves_of(harmonizer: Any, X: Any) -> list[Any]:
    """Give the tone curve of every image, where the harmonizer is one global method."""
    return harmonizer.steps[-1][1].tone_curves(X)
