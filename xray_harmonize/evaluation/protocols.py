"""The two protocols: which images train, adapt and test, and what a candidate predicts on them.

*Fixed classifier*: trained on the reference scanner alone, then frozen; harmonizers bring other scanners to it.
*Leave one scanner out*: harmonizer and classifier are fitted without the test scanner.

In both, no patient is on both sides, and a method that may see unlabelled images of the test scanner sees those of
other patients: it adapts on one half of them and is tested on the other, then the other way round.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone

from xray_harmonize.adaptation import adapt
from xray_harmonize.evaluation.candidates import UNLABELLED, Candidate
from xray_harmonize.evaluation.patients import cross_fit_halves, patient_codes, patient_folds
from xray_harmonize.evaluation.predictions import prediction_table
from xray_harmonize.evaluation.scores import WORST
from xray_harmonize.evaluation.splitters import LeaveOneScannerOut
from xray_harmonize.exceptions import (
    InvalidParameterError,
    LabelTableError,
    MissingScannerError,
    NotEnoughImagesError,
    XRayHarmonizeWarning,
)
from xray_harmonize.images import ImageSet

FIXED = "fixed classifier"
LEAVE_ONE_OUT = "leave one scanner out"


@dataclass(frozen=True)
class Split:
    """Images that train and images that test.

    Parameters
    ----------
    protocol : str
        One of the two protocols.
    name : str
        What tells this split from others of the same protocol.
    seed : int
        Seed of the classifier.
    train, test : ndarray of int
        Positions.
    """

    protocol: str
    name: str
    seed: int
    train: np.ndarray
    test: np.ndarray


def fixed_classifier_splits(
    X: ImageSet, y: np.ndarray, reference: str, seeds: list[int], n_folds: int = 5
) -> Iterator[Split]:
    """Train on folds of the reference; test on its remaining fold and on all other scanners.

    Parameters
    ----------
    X : ImageSet
        With scanner labels.
    y : ndarray of shape (n,)
        Class labels.
    reference : str
        Scanner that the classifier is trained on.
    seeds : list of int
        Each seeds a classifier and picks a fold: ``n_folds`` consecutive seeds test every patient of the reference.
    n_folds : int, default=5
        Folds of the reference's patients.

    Yields
    ------
    Split

    Raises
    ------
    InvalidParameterError
        If the reference is none of the scanners.
    NotEnoughImagesError
        If there is no other scanner to test on, the reference is too small for the folds or lacks a class, or all
        patients of the other scanners are among those who train.
    """
    scanner = _scanners(X)
    if reference not in scanner:
        raise InvalidParameterError(
            f"reference={reference!r} is none of the scanners {', '.join(sorted(set(scanner)))}."
        )
    if len(set(scanner)) < 2:
        raise NotEnoughImagesError(
            f"A comparison needs images from at least two scanners; X.scanner holds only {reference!r}."
        )
    patient = patient_codes(X.patient, len(X))
    of_reference = np.flatnonzero(scanner == reference)
    _check_classes(y, of_reference, f"the reference {reference!r}")
    for seed in seeds:
        fold = patient_folds(patient[of_reference], y[of_reference], n_folds, random_state=seed // n_folds)
        train = of_reference[fold != seed % n_folds]
        # Patients imaged on several scanners: those who train do not test.
        test = np.flatnonzero(~np.isin(patient, patient[train]))
        if (scanner[test] == reference).all():
            raise NotEnoughImagesError(
                f"With seed {seed}, every patient of the other scanners is among those of {reference!r} who train; "
                "none is left to test on. Use fewer folds or more patients."
            )
        yield Split(FIXED, f"fold {seed % n_folds}", seed, train, test)


def leave_one_scanner_out_splits(
    X: ImageSet, y: np.ndarray, reference: str | None, seeds: list[int]
) -> Iterator[Split]:
    """Train on all scanners but one, test on that one; the reference is never held out.

    Parameters
    ----------
    X, y, seeds
        As :func:`fixed_classifier_splits`.
    reference : str or None
        Scanner to keep; None holds out every one.

    Yields
    ------
    Split

    Raises
    ------
    NotEnoughImagesError, InvalidParameterError
        As :class:`~xray_harmonize.evaluation.splitters.LeaveOneScannerOut`; also if only the scanner that is left out
        has images of a class.
    """
    scanner = _scanners(X)
    for seed in seeds:
        for train, test in LeaveOneScannerOut(keep=reference).split(X, y):
            _check_classes(y, train, f"all scanners but {scanner[test[0]]!r}")
            yield Split(LEAVE_ONE_OUT, f"without {scanner[test[0]]}", seed, train, test)


def train_classifier(
    candidate: Candidate, X: ImageSet, y: np.ndarray, split: Split, classifier: BaseEstimator, reference: str | None
) -> Any:
    """Train the classifier that a candidate uses in a split; X has been through the candidate's geometry.

    Under the fixed protocol it sees the reference as it is (after geometry); when a scanner is left out, what the
    candidate's harmonizer makes of all training scanners.

    Raises
    ------
    KeyboardInterrupt
        Also where the classifier took it for a wish to stop early: half a training is none here.
    """
    model = clone(classifier).set_params(random_state=split.seed, **candidate.classifier_parameters)
    images = X[split.train]
    if candidate.trains_on_harmonized or split.protocol == LEAVE_ONE_OUT:
        images = candidate.harmonizer(reference).fit(images).transform(images)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The training of .* was interrupted", XRayHarmonizeWarning)
        model.fit(images, y[split.train])
    if getattr(model, "interrupted_", False):
        raise KeyboardInterrupt
    return model


def predict(
    candidate: Candidate, X: ImageSet, y: np.ndarray, split: Split, classifier: Any, reference: str | None
) -> pd.DataFrame:
    """Give the predictions of a candidate on the test images of a split.

    Parameters
    ----------
    candidate : Candidate
    X : ImageSet
        All images, after the candidate's geometry.
    y : ndarray of shape (n,)
    split : Split
    classifier : estimator
        As :func:`train_classifier` gives it.
    reference : str or None
        Scanner that harmonizers bring images to.

    Returns
    -------
    DataFrame
        As :func:`~xray_harmonize.evaluation.predictions.prediction_table`, with the columns ``protocol``,
        ``harmonizer`` and ``sees`` in front. A class of which the split's training images held none gets probability 0.
    """
    scanner = _scanners(X)
    harmonizer = candidate.harmonizer(reference).fit(X[split.train])
    known = set(scanner[split.train])
    names = X.meta["path"].to_numpy() if "path" in X.meta else np.arange(len(X))
    # Folds may lack a rare class, but their tables must fit below each other.
    classes = np.unique(y)
    columns = np.searchsorted(classes, classifier.classes_)
    tables = []
    for name in sorted(set(scanner[split.test])):
        test = split.test[scanner[split.test] == name]
        proba = np.zeros((len(test), len(classes)))
        for unlabelled, scored in _adaptation_halves(candidate, X, test, name in known, split.seed):
            ready, model = harmonizer, classifier
            if unlabelled is not None:
                if candidate.learns_scanners:
                    ready = adapt(harmonizer, X[test[unlabelled]])
                if candidate.adapts_batch_norm:
                    model = classifier.adapt(ready.transform(X[test[unlabelled]]))
            proba[np.ix_(scored, columns)] = model.predict_proba(ready.transform(X[test[scored]]))
        patient = None if X.patient is None else X.patient[test]
        tables.append(
            prediction_table(y[test], proba, classes, scanner=name, patient=patient, image=names[test], seed=split.seed)
        )
    table = pd.concat(tables, ignore_index=True)
    for place, (column, value) in enumerate(
        [("protocol", split.protocol), ("harmonizer", candidate.name), ("sees", candidate.sees)]
    ):
        table.insert(place, column, value)
    return table


def check_adaptation(candidate: Candidate, X: ImageSet, split: Split) -> None:
    """Refuse a test scanner with too few patients to adapt on one half and test on the other, before anything trains.

    Raises
    ------
    NotEnoughImagesError
        If a half of some scanner would hold no image, or a single one where batch-norm statistics are re-estimated.
    """
    if candidate.sees != UNLABELLED:
        return
    scanner, patient = _scanners(X), patient_codes(X.patient, len(X))
    for name in sorted(set(scanner[split.test]) - set(scanner[split.train])):
        test = split.test[scanner[split.test] == name]
        n_patients = len(np.unique(patient[test]))
        sizes = [len(half) for half in cross_fit_halves(patient[test], split.seed)] if n_patients > 1 else [0]
        if min(sizes) < (2 if candidate.adapts_batch_norm else 1):
            raise NotEnoughImagesError(
                f"{candidate.name!r} adapts to images of other patients than it is tested on; scanner {name!r} has "
                f"{len(test)} test image(s) of {n_patients} patient(s), too few to divide. Add patients, leave the "
                "scanner out, or compare only methods that see nothing of the test scanner."
            )


def _check_classes(y: np.ndarray, train: np.ndarray, what: str) -> None:
    lacking = np.setdiff1d(y, y[train])
    if lacking.size:
        raise NotEnoughImagesError(
            f"Class {lacking[0]!s} has no image of {what} to train on. Correct the labels if two mean the same, or "
            "leave images of that class out."
        )


def _adaptation_halves(
    candidate: Candidate, X: ImageSet, test: np.ndarray, known: bool, seed: int
) -> list[tuple[np.ndarray | None, np.ndarray]]:
    """Give pairs of (positions to adapt on, positions to score); nothing to adapt on where nothing is seen."""
    if candidate.sees != UNLABELLED or known:
        return [(None, np.arange(len(test)))]
    patient = patient_codes(X.patient, len(X))[test]
    first, second = cross_fit_halves(patient, random_state=seed)
    return [(first, second), (second, first)]


def _scanners(X: ImageSet) -> np.ndarray:
    if X.scanner is None:
        raise MissingScannerError(
            "A comparison needs to know which scanner made each image. "
            "Add a scanner column to the table, or give X as ImageSet(images, scanner=...)."
        )
    if WORST in X.scanner:
        raise LabelTableError(f"A scanner is called {WORST!r}, as is the row over all scanners. Rename the scanner.")
    return X.scanner
