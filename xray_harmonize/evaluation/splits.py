"""Which images train and which test, under either protocol.

*Fixed classifier*: trained on the reference scanner alone, then frozen; harmonizers bring other scanners to it.
*Leave one scanner out*: harmonizer and classifier are fitted without the test scanner.

In both, no patient is on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xray_harmonize.evaluation.patients import patient_codes, patient_folds
from xray_harmonize.evaluation.scores import WORST
from xray_harmonize.evaluation.splitters import LeaveOneScannerOut
from xray_harmonize.exceptions import (
    InvalidParameterError,
    LabelTableError,
    MissingScannerError,
    NotEnoughImagesError,
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
    scanner = scanners_of(X)
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
    scanner = scanners_of(X)
    for seed in seeds:
        for train, test in LeaveOneScannerOut(keep=reference).split(X, y):
            _check_classes(y, train, f"all scanners but {scanner[test[0]]!r}")
            yield Split(LEAVE_ONE_OUT, f"without {scanner[test[0]]}", seed, train, test)


def scanners_of(X: ImageSet) -> np.ndarray:
    """Scanner labels of images that are to be compared.

    Raises
    ------
    MissingScannerError
        If there are none.
    LabelTableError
        If a scanner has the name of the row over all of them.
    """
    if X.scanner is None:
        raise MissingScannerError(
            "A comparison needs to know which scanner made each image. "
            "Add a scanner column to the table, or give X as ImageSet(images, scanner=...)."
        )
    if WORST in X.scanner:
        raise LabelTableError(f"A scanner is called {WORST!r}, as is the row over all scanners. Rename the scanner.")
    return X.scanner


def _check_classes(y: np.ndarray, train: np.ndarray, what: str) -> None:
    lacking = np.setdiff1d(y, y[train])
    if lacking.size:
        raise NotEnoughImagesError(
            f"Class {lacking[0]!s} has no image of {what} to train on. Correct the labels if two mean the same, or "
            "leave images of that class out."
        )
