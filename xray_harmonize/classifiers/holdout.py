"""Which training images choose the epoch, and by what score."""

from __future__ import annotations

import numpy as np


def hold_out(
    strata: np.ndarray, patients: np.ndarray | None, fraction: float, rng: np.random.RandomState
) -> np.ndarray:
    """Choose images for validation: the same share of every stratum, patients never divided.

    Parameters
    ----------
    strata : ndarray of shape (n,)
        Groups that are each to be held out in part, such as the class of each image.
    patients : ndarray of shape (n,) or None
        Whose image it is; None where every image has a patient of its own, as an image has whose
        patient is None. A patient belongs to the stratum of his first image.
    fraction : float
        Share of each stratum's patients, rounded, but at least one where there are two, and never all.
    rng : numpy.random.RandomState

    Returns
    -------
    ndarray of bool of shape (n,)
        True for validation.

    Examples
    --------
    >>> strata, patients = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array(list("aabbccdd"))
    >>> held_out = hold_out(strata, patients, 0.25, np.random.RandomState(0))
    >>> sorted(strata[held_out].tolist()), len(set(patients[held_out]) & set(patients[~held_out]))
    ([0, 0, 1, 1], 0)
    """
    _, first, patient = np.unique(patient_numbers(patients, len(strata)), return_index=True, return_inverse=True)
    chosen = np.zeros(len(first), dtype=bool)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata[first] == stratum))
        n_held = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen[members[:n_held]] = True
    held_out: np.ndarray = chosen[patient]
    return held_out


def patient_numbers(patients: np.ndarray | None, n: int) -> np.ndarray:
    """Give every patient a number; an image whose patient is None is of a patient of its own.

    Examples
    --------
    >>> patient_numbers(np.array(["b", None, "a", "b", None], dtype=object), 5)
    array([1, 3, 0, 1, 6])
    """
    if patients is None:
        return np.arange(n)
    known = np.array([patient is not None for patient in patients], dtype=bool)
    labels, numbers = np.unique(patients[known].astype(str), return_inverse=True)
    found = len(labels) + np.arange(n)
    found[known] = numbers
    return found


def worst_group_accuracy(targets: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> float:
    """Lowest accuracy among the groups that are present.

    With the classes as groups this is the lowest recall, by which the authors of GDCE stop the
    training of their classifier.

    Parameters
    ----------
    targets, predicted : ndarray of shape (n,)
        Classes.
    groups : ndarray of shape (n,)
        Group of each image.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> targets = np.array([0, 0, 1, 1])
    >>> worst_group_accuracy(targets, np.array([0, 0, 1, 0]), targets)
    0.5
    """
    _, group = np.unique(groups, return_inverse=True)
    return float((np.bincount(group, targets == predicted) / np.bincount(group)).min())
