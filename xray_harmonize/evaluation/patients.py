"""Who is a patient, and how a scanner's patients are dealt into parts that share none."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

from xray_harmonize.exceptions import (
    InvalidParameterError,
    NotEnoughImagesError,
    XRayHarmonizeWarning,
)

__all__ = ["cross_fit_halves", "is_missing", "one_a_row", "patient_codes", "patient_folds"]


def patient_codes(patient: ArrayLike | None, n_images: int) -> np.ndarray:
    """Give every patient a number from 0 on, so that images of one patient share a number.

    An image whose patient is not known (None, NaN or an empty string) is taken for a patient of its
    own. The same label means the same person, whichever scanner the image comes from.

    Parameters
    ----------
    patient : array-like of shape (n_images,) or None
        Patient labels, compared as strings; None where no patient is known.
    n_images : int
        How many images there are.

    Returns
    -------
    codes : ndarray of int64 of shape (n_images,)
        Known patients first, in the order of their sorted labels.

    Raises
    ------
    InvalidParameterError
        If there is not one label an image.

    Examples
    --------
    >>> from xray_harmonize.evaluation.patients import patient_codes
    >>> patient_codes(["p7", "p3", None, "p7"], n_images=4)
    array([1, 0, 2, 1])
    """
    if patient is None:
        return np.arange(n_images, dtype=np.int64)
    labels = one_a_row(patient, n_images, "patient")
    unknown = is_missing(labels)
    codes = np.empty(n_images, dtype=np.int64)
    known, codes[~unknown] = np.unique(labels[~unknown].astype(str), return_inverse=True)
    codes[unknown] = len(known) + np.arange(np.count_nonzero(unknown))
    return codes


def patient_folds(
    patient: ArrayLike | None,
    y: ArrayLike,
    n_folds: int = 5,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Deal the patients of one scanner into folds of about equal size and equal class shares.

    Parameters
    ----------
    patient : array-like of shape (n_images,) or None
        Patient labels; None takes every image for a patient of its own.
    y : array-like of shape (n_images,)
        Class labels, which the folds are stratified by.
    n_folds : int, default=5
        Number of folds, at least 2.
    random_state : int, RandomState or None, default=None
        Which patients fall together.

    Returns
    -------
    fold : ndarray of int64 of shape (n_images,)
        The fold, 0 to ``n_folds - 1``, that each image belongs to; those of a patient share one.

    Raises
    ------
    InvalidParameterError
        If `n_folds` is below 2 or the lengths differ.
    NotEnoughImagesError
        If there are fewer patients than folds, or every class has fewer images than folds.

    Warns
    -----
    XRayHarmonizeWarning
        If a class has fewer patients than there are folds: some fold holds none of it.

    Examples
    --------
    >>> from xray_harmonize.evaluation.splitters import patient_folds
    >>> fold = patient_folds(["a", "a", "b", "c", "d"], [0, 0, 1, 0, 1], n_folds=2, random_state=0)
    >>> bool(fold[0] == fold[1]), bool(fold[2] != fold[4])
    (True, True)
    """
    labels = np.asarray(y)
    codes = patient_codes(patient, len(labels))
    n_patients = len(np.unique(codes))
    if n_folds < 2:
        raise InvalidParameterError(f"n_folds must be at least 2; got {n_folds}.")
    if n_patients < n_folds:
        raise NotEnoughImagesError(
            f"{n_folds} folds need at least {n_folds} patients; there are {n_patients}. "
            "Ask for fewer folds or add patients."
        )
    classes, class_codes, n_of_class = np.unique(labels, return_inverse=True, return_counts=True)
    if n_of_class.max() < n_folds:
        raise NotEnoughImagesError(
            f"{n_folds} folds need a class with at least {n_folds} images; the largest class, "
            f"{classes[n_of_class.argmax()]!s}, has {n_of_class.max()}. Ask for fewer folds."
        )
    for index, label in enumerate(classes):
        n_with_label = len(np.unique(codes[class_codes == index]))
        if n_with_label < n_folds:
            warnings.warn(
                f"Class {label!s} has {n_with_label} patients for {n_folds} folds: some folds hold none of it.",
                XRayHarmonizeWarning,
                stacklevel=2,
            )
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=random_state)
    fold = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        # scikit-learn counts images where patients are what matters; ours stands above.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, test) in enumerate(splitter.split(codes, class_codes, codes)):
            fold[test] = number
    return fold


def cross_fit_halves(
    patient: ArrayLike, random_state: int | np.random.RandomState | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of a scanner's images with no patient in both.

    A method that may see unlabelled images of the test scanner adapts on one half and is scored on
    the other, then the other way round: every image is scored, and none by a model that has seen
    its patient. No class label is used, since adaptation must not know any.

    Parameters
    ----------
    patient : array-like of shape (n_images,)
        Patient labels; an image whose label is missing is a patient of its own.
    random_state : int, RandomState or None, default=None
        Which patients fall together.

    Returns
    -------
    first, second : ndarray of int64
        Sorted positions of the images. The numbers of patients differ by one at most.

    Raises
    ------
    NotEnoughImagesError
        If there are fewer than two patients.

    Examples
    --------
    >>> from xray_harmonize.evaluation.splitters import cross_fit_halves
    >>> first, second = cross_fit_halves(["a", "a", "b", "b"], random_state=0)
    >>> sorted([first.tolist(), second.tolist()])
    [[0, 1], [2, 3]]
    """
    labels = np.asarray(patient, dtype=object)
    codes = patient_codes(labels, len(labels))
    patients = np.unique(codes)
    if len(patients) < 2:
        raise NotEnoughImagesError(
            f"Cross-fitting needs at least two patients; there are {len(patients)}. "
            "Add patients, or adapt on images that are not scored."
        )
    shuffled = check_random_state(random_state).permutation(patients)
    in_first = np.isin(codes, shuffled[: (len(patients) + 1) // 2])
    return np.flatnonzero(in_first), np.flatnonzero(~in_first)


def one_a_row(labels: ArrayLike, n_images: int, name: str) -> np.ndarray:
    """Labels as an object array of shape (n_images,), or an error that calls them `name`."""
    array = np.asarray(labels, dtype=object)
    if array.shape != (n_images,):
        raise InvalidParameterError(
            f"{name} must hold one label an image, shape ({n_images},); got shape {array.shape}."
        )
    return array


def is_missing(labels: np.ndarray) -> np.ndarray:
    """Where a label is None, NaN or an empty string."""
    return np.asarray(pd.isna(labels) | (labels == ""), dtype=bool)
