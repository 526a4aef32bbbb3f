"""What a candidate may learn from under each protocol, and what it predicts.

*Fixed classifier*: trained on the reference scanner alone, then frozen; harmonizers bring other scanners to it.
*Leave one scanner out*: harmonizer and classifier are fitted without the test scanner.

In both, no patient is on both sides, and a method that may see images of the test scanner sees those of other patients:
it learns from one half of them, with or without labels, and is tested on the other, then the other way round. Labels of
a scanner that is left out are seen by nobody.

The reference's own test images say what a method costs at home. Methods that see no labels take them as fitted to the
training images. A method that learns from labels of the other scanners, or that is fitted to images of all scanners
together, learns from all of these at once, as it would before it is put to use, again of patients that it is not tested
on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone

from xray_harmonize.adaptation import adapt
from xray_harmonize.evaluation.candidates import LABELLED, NOTHING, Candidate
from xray_harmonize.evaluation.patients import cross_fit_halves, patient_codes
from xray_harmonize.evaluation.predictions import prediction_table
from xray_harmonize.evaluation.split_fits import SplitFits, whole
from xray_harmonize.evaluation.splits import (
    FIXED,
    LEAVE_ONE_OUT,
    Split,
    fixed_classifier_splits,
    leave_one_scanner_out_splits,
    scanners_of,
)
from xray_harmonize.exceptions import NotEnoughImagesError
from xray_harmonize.images import ImageSet

__all__ = [
    "FIXED",
    "LEAVE_ONE_OUT",
    "Split",
    "SplitFits",
    "check_feasible",
    "classifier_for",
    "fixed_classifier_splits",
    "leave_one_scanner_out_splits",
    "predict",
    "train_classifier",
]


def classifier_for(candidate: Candidate, classifier: BaseEstimator, split: Split) -> Any:
    """Give the classifier that a candidate uses in a split, unfitted."""
    return clone(classifier).set_params(random_state=split.seed, **candidate.classifier_parameters)


def train_classifier(
    candidate: Candidate,
    X: ImageSet,
    y: np.ndarray,
    split: Split,
    classifier: BaseEstimator,
    reference: str | None,
    fits: SplitFits | None = None,
) -> Any:
    """Train the classifier that a candidate uses in a split; X has been through the candidate's geometry.

    Under the fixed protocol it sees the reference as it is (after geometry); when a scanner is left out, what the
    candidate's harmonizer makes of all training scanners.

    Parameters
    ----------
    candidate : Candidate
    X : ImageSet
        All images, after the candidate's geometry.
    y : ndarray of shape (n,)
    split : Split
    classifier : estimator
        Unfitted.
    reference : str or None
        Scanner that harmonizers bring images to.
    fits : SplitFits, optional
        What was fitted in this split before, and is not to be fitted again.

    Raises
    ------
    KeyboardInterrupt
        Also where the classifier took it for a wish to stop early: half a training is none here.
    """
    fits = fits or SplitFits(y, split, reference)
    model = classifier_for(candidate, classifier, split)
    images = X[split.train]
    if candidate.trains_on_harmonized or split.protocol == LEAVE_ONE_OUT:
        images = fits.harmonizer(candidate, X, split.train, model).transform(images)
    return whole(lambda: model.fit(images, y[split.train]))


def predict(
    candidate: Candidate,
    X: ImageSet,
    y: np.ndarray,
    split: Split,
    classifier: Any,
    reference: str | None,
    fits: SplitFits | None = None,
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
    fits : SplitFits, optional
        What was fitted in this split before, and is not to be fitted again.

    Returns
    -------
    DataFrame
        As :func:`~xray_harmonize.evaluation.predictions.prediction_table`, with the columns ``protocol``,
        ``harmonizer`` and ``sees`` in front. A class of which the split's training images held none gets probability 0.

    Raises
    ------
    KeyboardInterrupt
        Also where a step took it for a wish to stop early.
    """
    fits = fits or SplitFits(y, split, reference)
    scanner = scanners_of(X)
    names = X.meta["path"].to_numpy() if "path" in X.meta else np.arange(len(X))
    # Folds may lack a rare class, but their tables must fit below each other.
    classes = np.unique(y)
    columns = np.searchsorted(classes, classifier.classes_)
    tables = []
    for name in sorted(set(scanner[split.test])):
        test = split.test[scanner[split.test] == name]
        proba = np.zeros((len(X), len(classes)))
        for part in _parts(candidate, X, split, name):
            harmonizer, model = _learned(candidate, X, split, classifier, part.learned, fits)
            proba[np.ix_(part.scored, columns)] = model.predict_proba(harmonizer.transform(X[part.scored]))
        whose = {"scanner": name, "patient": None if X.patient is None else X.patient[test]}
        tables.append(prediction_table(y[test], proba[test], classes, **whose, image=names[test], seed=split.seed))
    table = pd.concat(tables, ignore_index=True)
    for place, (column, value) in enumerate(
        [("protocol", split.protocol), ("harmonizer", candidate.name), ("sees", candidate.sees_under(split.protocol))]
    ):
        table.insert(place, column, value)
    return table


def check_feasible(candidate: Candidate, X: ImageSet, y: np.ndarray, split: Split, reference: str | None) -> None:
    """Refuse a split with too few images or scanners for what a candidate learns from, before anything trains.

    Raises
    ------
    NotEnoughImagesError
        If a half of the patients of some test scanner would hold too few images: none, a single one where a network is
        trained or its batch-norm statistics are measured, or fewer than a step needs for a batch; where a scanner is
        left out, if a method that learns from labels finds too few images of further scanners to train on.
    """
    sees = candidate.sees_under(split.protocol)
    scanner, patient = scanners_of(X), patient_codes(X.patient, len(X))
    known, n_classes = set(scanner[split.train]), len(np.unique(y))
    if candidate.fits_to_all and split.protocol == LEAVE_ONE_OUT and len(known) < 2:
        raise NotEnoughImagesError(
            f"{candidate.name!r} is fitted to images of {reference!r} and of other scanners; {split.name} there is no "
            "other to train on. Add a scanner, or leave this method or this protocol out."
        )
    if candidate.sees == LABELLED and sees != LABELLED:
        n_sources = np.count_nonzero(scanner[split.train] != reference)
        at_least = candidate.fewest_images(n_classes * (len(known) - 1))
        if n_sources < at_least or len(known) < 2:
            raise NotEnoughImagesError(
                f"{candidate.name!r} learns from labelled images of scanners beside {reference!r}; {split.name} there "
                f"are {n_sources} to train on, and it needs at least {at_least}. Add a scanner or images, or leave "
                "this method or this protocol out."
            )
    if sees == NOTHING:
        return
    at_least = 1 if sees != LABELLED and candidate.serves_every_scanner else candidate.fewest_images(n_classes)
    for name in sorted(set(scanner[split.test]) - known):
        test = split.test[scanner[split.test] == name]
        n_patients = len(np.unique(patient[test]))
        if n_patients < 2 or min(len(part.learned) for part in _parts(candidate, X, split, name)) < at_least:
            raise NotEnoughImagesError(
                f"{candidate.name!r} learns from {sees} of other patients than it is tested on; scanner {name!r} has "
                f"{len(test)} test image(s) of {n_patients} patient(s), too few for halves of at least {at_least}. Add "
                "patients, leave the scanner out, or compare only methods that see nothing of the test scanner."
            )


@dataclass(frozen=True)
class _Part:
    """Test images that are learned from beyond the training images, and others that are then scored: positions."""

    learned: np.ndarray
    scored: np.ndarray


def _parts(candidate: Candidate, X: ImageSet, split: Split, name: str) -> list[_Part]:
    """Divide the test images of a scanner so that each is scored once, and nobody learns from a patient he scores."""
    sees = candidate.sees_under(split.protocol)
    scanner, patient = scanners_of(X), patient_codes(X.patient, len(X))
    test = split.test[scanner[split.test] == name]
    if name not in scanner[split.train]:
        if sees == NOTHING:
            return [_Part(test[:0], test)]
        first, second = (test[half] for half in cross_fit_halves(patient[test], random_state=split.seed))
        return [_Part(first, second), _Part(second, first)]
    if sees != LABELLED and not candidate.fits_to_all:
        return [_Part(test[:0], test)]
    # At home, all other scanners are learned from. Patients imaged here and there are divided.
    others = split.test[~np.isin(scanner[split.test], scanner[split.train])]
    both = np.intersect1d(patient[test], patient[others])
    if len(both) < 2:
        return [_Part(others[~np.isin(patient[others], both)], test)]
    first, second = (both[half] for half in cross_fit_halves(both, random_state=split.seed))
    return [
        _Part(others[~np.isin(patient[others], first)], test[~np.isin(patient[test], second)]),
        _Part(others[~np.isin(patient[others], second)], test[np.isin(patient[test], second)]),
    ]


def _learned(
    candidate: Candidate, X: ImageSet, split: Split, classifier: Any, more: np.ndarray, fits: SplitFits
) -> tuple[Any, Any]:
    """Give harmonizer and classifier once they have learned from the training images and from `more`."""
    y = fits.y
    labelled = candidate.sees_under(split.protocol) == LABELLED
    train = np.concatenate([split.train, more]) if labelled or candidate.fits_to_all else split.train
    harmonizer = fits.harmonizer(candidate, X, train, classifier)
    if not len(more):
        return harmonizer, classifier
    if candidate.learns_scanners and not labelled:
        fitted = harmonizer
        harmonizer = whole(lambda: adapt(fitted, X[more]))
    model = classifier
    if candidate.fine_tunes:
        known = more[np.isin(y[more], classifier.classes_)]
        model = whole(lambda: classifier.fine_tune(harmonizer.transform(X[known]), y[known]))
    if candidate.adapts_batch_norm:
        model = model.adapt(harmonizer.transform(X[more]))
    return harmonizer, model
