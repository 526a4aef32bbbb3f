"""How usual an image is among those of one scanner, by a few numbers of every image.

Numbers that vary together are judged together: the distance is Mahalanobis's, with a covariance shrunk towards its
diagonal, as there are about as many numbers as images. How far images of the scanner itself lie is measured on images
that the covariance has not seen, so that a new image of it is no farther.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import GroupKFold

from xray_harmonize.classifiers.holdout import patient_numbers

FEWEST: int = 10
"""Patients below which nobody can tell what is usual."""

_N_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Typicality:
    """Where the images of a scanner lie.

    Parameters
    ----------
    center, spread : ndarray of float64 of shape (n_numbers,)
        Mean and standard deviation over images.
    precision : ndarray of float64 of shape (n_numbers, n_numbers)
        Inverse covariance of standardized numbers.
    held_out : ndarray of float64 of shape (n_images,) or (0,)
        Squared distances of the scanner's own images from what the others are like, ascending; empty where there are
        fewer than :data:`FEWEST` patients.
    """

    center: np.ndarray
    spread: np.ndarray
    precision: np.ndarray
    held_out: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray, patient: np.ndarray | None = None) -> Self:
        """Learn what is usual.

        Parameters
        ----------
        numbers : ndarray of float of shape (n_images, n_numbers)
        patient : ndarray of shape (n_images,), optional
            Images of one patient are held out together; None, as a whole or for an image: each is a patient of its own.

        Returns
        -------
        Typicality

        Examples
        --------
        >>> usual = Typicality.of(np.random.default_rng(0).normal(size=(200, 2)))
        >>> usual.held_out.shape, bool(usual.distance(np.zeros((1, 2)))[0] < 0.1)
        ((200,), True)
        """
        numbers = np.asarray(numbers, dtype=np.float64)
        groups = patient_numbers(patient, len(numbers))
        held_out = np.empty(0)
        if len(np.unique(groups)) >= FEWEST:
            held_out = np.empty(len(numbers))
            for others, own in GroupKFold(_N_FOLDS).split(numbers, groups=groups):
                held_out[own] = _of_all(numbers[others]).distance(numbers[own])
        whole = _of_all(numbers)
        return cls(whole.center, whole.spread, whole.precision, np.sort(held_out))

    def distance(self, numbers: np.ndarray) -> np.ndarray:
        """Squared distances of images from the middle, float64 of shape (n_images,)."""
        off = (np.asarray(numbers, dtype=np.float64) - self.center) / self.spread
        return np.asarray(np.einsum("ij,jk,ik->i", off, self.precision, off))

    def limit(self, share: float) -> float:
        """Distance up to which an image is usual.

        Parameters
        ----------
        share : float
            Of the scanner's own images that are to be usual, in [0, 1].

        Returns
        -------
        float
            Zero, which no image keeps, where `share` is, or where there were too few patients.
        """
        return float(np.quantile(self.held_out, share)) if share > 0 and len(self.held_out) else 0.0


def _of_all(numbers: np.ndarray) -> Typicality:
    center, spread = numbers.mean(axis=0), numbers.std(axis=0)
    # What never varied counts as it is.
    spread = np.where(spread > 0, spread, 1.0)
    precision = np.eye(len(center)) if len(numbers) < 2 else LedoitWolf().fit((numbers - center) / spread).precision_
    return Typicality(center, spread, precision, np.empty(0))
