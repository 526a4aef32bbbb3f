"""Which images train the curves of GDCE, and what must be known about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import clone

from xray_harmonize.classifiers.holdout import hold_out, patient_numbers
from xray_harmonize.classifiers.resnet import ResNetClassifier
from xray_harmonize.classifiers.targets import encode
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
)
from xray_harmonize.harmonizers.reference_images import check_reference
from xray_harmonize.images import ImageSet


@dataclass(frozen=True)
class TrainingSet:
    """Images with scanners and, where known, labels.

    Parameters
    ----------
    images : ImageSet
    labels : ndarray of object of shape (n,)
        None where there is none.
    reference : str
    sources : list of str
        The other scanners, by name.
    """

    images: ImageSet
    labels: np.ndarray
    reference: str
    sources: list[str]

    @classmethod
    def of(cls, images: ImageSet, y: ArrayLike | None, reference: str | None, needs_labels: bool) -> TrainingSet:
        """Check images and labels.

        Parameters
        ----------
        images : ImageSet
        y : array-like of shape (n,) or None
            Labels; None and NaN are missing ones.
        reference : str or None
            None for the scanner with most images, of equals the first by name.
        needs_labels : bool
            Whether every image needs one.

        Raises
        ------
        MissingScannerError, UnknownScannerError, NotEnoughImagesError, InvalidParameterError
        """
        if images.scanner is None:
            raise MissingScannerError(
                "GDCE.fit needs to know which scanner made each image. "
                "Give X as ImageSet(images, scanner=...), or call fit(X, y, scanner=...)."
            )
        names, counts = np.unique(images.scanner.astype(str), return_counts=True)
        scanners = names.tolist()
        check_reference(reference)
        if reference is None:
            reference = str(names[counts.argmax()])
        elif reference not in scanners:
            raise UnknownScannerError(
                f"reference={reference!r} has no training image; the scanners are {', '.join(scanners)}. "
                "Choose one of them, or None for the largest."
            )
        if needs_labels and len(scanners) == 1:
            raise NotEnoughImagesError(
                f"GDCE needs images from at least two scanners; X.scanner holds only {scanners[0]!r}. Add labelled "
                "images of another, or set supervision='distribution' and adapt to others later, or use CDFMatching."
            )
        labels = _known_labels(y, len(images))
        if needs_labels:
            _expect_labels(labels, images.scanner, y is None)
        return cls(images, labels, reference, [name for name in scanners if name != reference])

    def __getitem__(self, order: np.ndarray) -> TrainingSet:
        """Give the same in another order."""
        return TrainingSet(self.images[order], self.labels[order], self.reference, self.sources)

    def positions_of(self, *scanners: str) -> np.ndarray:
        """Positions of the images of some scanners."""
        assert self.images.scanner is not None
        return np.flatnonzero(np.isin(self.images.scanner.astype(str), scanners))

    def scanner_numbers(self) -> np.ndarray:
        """Place of each image's scanner among the sources; -1 for the reference."""
        assert self.images.scanner is not None
        numbers = {name: number for number, name in enumerate(self.sources)}
        return np.array([numbers.get(str(name), -1) for name in self.images.scanner], dtype=np.int64)

    def class_numbers(self, classes: np.ndarray) -> np.ndarray:
        """Place of each label among the classes of the discriminator; -1 where there is no label.

        Raises
        ------
        InvalidParameterError
            For a label that is none of them.
        """
        place = {label: number for number, label in enumerate(classes.tolist())}
        numbers = np.full(len(self.labels), -1, dtype=np.int64)
        for i, label in enumerate(self.labels):
            if label is not None:
                if label not in place:
                    raise InvalidParameterError(
                        f"The discriminator knows the classes {', '.join(map(repr, place))}; y holds {label!r}. Give a "
                        "discriminator that was trained on the same classes, or leave such images out."
                    )
                numbers[i] = place[label]
        return numbers

    def held_out(self, numbers: np.ndarray, fraction: float, rng: np.random.RandomState) -> np.ndarray:
        """Choose source images that pick the state to keep: a share of each class of each scanner, patients whole.

        Parameters
        ----------
        numbers : ndarray of int of shape (n,)
            Classes.
        fraction : float
        rng : numpy.random.RandomState

        Returns
        -------
        ndarray of bool of shape (n,)
        """
        chosen = np.zeros(len(self.images), dtype=bool)
        if fraction == 0:
            return chosen
        source = self.positions_of(*self.sources)
        strata = self.scanner_numbers()[source] * (1 + numbers.max()) + numbers[source]
        patient = None if self.images.patient is None else self.images.patient[source]
        chosen[source] = hold_out(strata, patient, fraction, rng)
        if not chosen.any():
            raise NotEnoughImagesError(
                f"Cannot hold out {fraction:g} of {len(source)} source images: no class of a scanner has two patients. "
                "Add images, or set validation_fraction=0."
            )
        return chosen

    def without_patients_of(self, held_out: np.ndarray) -> np.ndarray:
        """Tell which images may train: not held out, and of no patient that is.

        Raises
        ------
        NotEnoughImagesError
            If a scanner has none.
        """
        patient = patient_numbers(self.images.patient, len(self.images))
        may_train = ~np.isin(patient, patient[held_out])
        for name in (self.reference, *self.sources):
            if not may_train[self.positions_of(name)].any():
                raise NotEnoughImagesError(
                    f"Every image of scanner {name!r} is of a patient that is held out, so none is left to train on. "
                    "Add images of other patients, or set validation_fraction=0."
                )
        return may_train


def known_classes(given: ResNetClassifier | None, data: TrainingSet) -> np.ndarray:
    """Give the classes of the classifier that judges curves, in its order, before it is trained."""
    if given is not None and hasattr(given, "state_"):
        return given.classes_
    of_reference = data.labels[data.positions_of(data.reference)]
    return encode(np.array(of_reference.tolist()), len(of_reference))[0]


def fitted_discriminator(
    given: ResNetClassifier | None,
    data: TrainingSet,
    may_train: np.ndarray,
    by_labels: bool,
    device: str,
    rng: np.random.RandomState,
) -> ResNetClassifier | None:
    """Give the classifier that judges curves: the given one where it is fitted, or one trained on the reference.

    Parameters
    ----------
    given : ResNetClassifier or None
    data : TrainingSet
    may_train : ndarray of bool of shape (n,)
        Which images it may be trained on.
    by_labels : bool
        Whether there must be one; where not, and the reference has no labels, there is none.
    device : str
        Of a classifier that was not given.
    rng : numpy.random.RandomState
    """
    if given is not None and hasattr(given, "state_"):
        return given
    of_reference = data.positions_of(data.reference)
    labelled = of_reference[[data.labels[i] is not None and may_train[i] for i in of_reference]]
    if not by_labels and not len(labelled):
        return None
    classifier = ResNetClassifier(device=device) if given is None else clone(given)
    if classifier.random_state is None:
        classifier.set_params(random_state=int(rng.randint(2**31 - 1)))
    fitted: ResNetClassifier = classifier.fit(data.images[labelled], np.array(data.labels[labelled].tolist()))
    if fitted.interrupted_:
        # Half a discriminator would have curves trained to please it.
        raise KeyboardInterrupt
    return fitted


def _known_labels(y: Any, n: int) -> np.ndarray:
    labels = np.full(n, None, dtype=object)
    if y is None:
        return labels
    # As objects: among strings NumPy would spell NaN out.
    given = np.asarray(y, dtype=object)
    if given.shape != (n,):
        raise InvalidParameterError(f"X holds {n} images and y has shape {given.shape}; give one label an image.")
    # None, NaN and pandas' NA are what tables give for no label.
    labels[~pd.isna(given)] = given[~pd.isna(given)]
    return labels


def _expect_labels(labels: np.ndarray, scanner: np.ndarray, none_given: bool) -> None:
    if none_given:
        raise InvalidParameterError(
            "GDCE needs the labels of the training images; y is None. Call fit(X, y), or set "
            "supervision='distribution', which needs none of the sources."
        )
    lacking = np.array([label is None for label in labels])
    for name in sorted(set(scanner[lacking])):
        of_scanner = scanner.astype(str) == name
        raise InvalidParameterError(
            f"GDCE needs labels of all training images; {lacking[of_scanner].sum()} of {of_scanner.sum()} images of "
            f"scanner {name!r} have none. Leave them out, or set supervision='distribution'."
        )
