"""The images of an audit: small enough to be measured many times, their patients dealt into two halves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from xray_harmonize.evaluation.compared import ALL
from xray_harmonize.evaluation.patients import is_missing, one_a_row, patient_codes, patient_folds
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
    XRayHarmonizeWarning,
)
from xray_harmonize.images import ImageSet
from xray_harmonize.radiograph import Radiograph

FEWEST_PATIENTS = 4
"""A scanner needs as many: two in each half, one to learn from and one to measure on are no distribution."""

_TRIES = 10


@dataclass(frozen=True)
class Cohort:
    """Images with all that the audit asks about them.

    Parameters
    ----------
    X : ImageSet
        In memory, no side longer than asked for.
    scanner : ndarray of str of shape (n,)
    patient : ndarray of int of shape (n,)
        Numbers from 0 on, the same for images of one person.
    y : ndarray of shape (n,) or None
        Labels.
    reference : str
    half : ndarray of int of shape (n,)
        0 or 1; all images of a patient are in one.
    """

    X: ImageSet
    scanner: np.ndarray
    patient: np.ndarray
    y: np.ndarray | None
    reference: str
    half: np.ndarray

    @property
    def scanners(self) -> list[str]:
        """All scanners, the reference first."""
        return [self.reference, *sorted(set(self.scanner.tolist()) - {self.reference})]

    def halves(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give positions to learn from and positions to measure on, both ways round."""
        for tested in (0, 1):
            yield np.flatnonzero(self.half != tested), np.flatnonzero(self.half == tested)

    def labels_of(self, positions: np.ndarray) -> np.ndarray | None:
        """Labels of some images, None where there are none."""
        return None if self.y is None else self.y[positions]


def make_cohort(
    images: ImageSet,
    y: ArrayLike | None,
    *,
    patient: ArrayLike | None,
    reference: str | None,
    image_size: int,
    random_state: int | np.random.RandomState | None,
) -> Cohort:
    """Check what came and make it ready.

    Parameters
    ----------
    images : ImageSet
        With scanners. Each image is read once.
    y : array-like of shape (n,) or None
    patient : array-like of shape (n,) or None
        ``images.patient`` where None.
    reference : str or None
        None: the scanner with most images.
    image_size : int
        Longest side in pixels; larger images are averaged down.
    random_state : int, RandomState or None
        How patients fall into halves.

    Returns
    -------
    Cohort

    Raises
    ------
    MissingScannerError, UnknownScannerError, InvalidParameterError
        For scanners, patients or labels that cannot be meant.
    NotEnoughImagesError
        For fewer than two scanners, or fewer than four patients of one.
    """
    if isinstance(image_size, bool) or not isinstance(image_size, int | np.integer) or image_size < 16:
        raise InvalidParameterError(f"image_size must be a whole number, at least 16; got {image_size!r}.")
    if images.scanner is None:
        raise MissingScannerError("Nothing tells the scanners: pass scanner=, or an ImageSet with scanner.")
    names = images.scanner.astype(str)
    people = patient_codes(images.patient if patient is None else patient, len(images))
    labels = None if y is None else _checked_labels(y, len(images))
    _check_scanners(names, people)
    chosen = _reference(names, reference)
    half = halves_of_patients(names, labels, people, random_state)
    return Cohort(_small(images, people, image_size), names, people, labels, chosen, half)


def _checked_labels(y: ArrayLike, n_images: int) -> np.ndarray:
    """Give labels as numbers or strings, which is what classifiers expect."""
    labels = one_a_row(y, n_images, "y")
    gaps = np.flatnonzero(is_missing(labels))
    if len(gaps):
        raise InvalidParameterError(
            f"The label of image {gaps[0]} is missing; every image needs one, or pass y=None to audit without labels."
        )
    plain = np.array(labels.tolist())
    n_classes = len(np.unique(plain))
    if n_classes > max(n_images / 2, 2):
        raise InvalidParameterError(
            f"y holds {n_classes} different values for {n_images} images, the first of them {plain[0]!s}; expected "
            "classes of several images each. Put numbers into classes, or pass y=None."
        )
    return plain


def _check_scanners(names: np.ndarray, people: np.ndarray) -> None:
    found = sorted(set(names.tolist()))
    if len(found) < 2:
        raise NotEnoughImagesError(
            f"An audit needs images of at least two scanners; got those of {', '.join(map(repr, found)) or 'none'}."
        )
    if ALL in found:
        raise InvalidParameterError(f"A scanner is called {ALL!r}, as tables call all scanners together; rename it.")
    for name in found:
        n_patients = len(set(people[names == name]))
        if n_patients < FEWEST_PATIENTS:
            raise NotEnoughImagesError(
                f"Scanner {name!r} has {n_patients} patient(s), expected at least {FEWEST_PATIENTS}: one half is "
                "learned from, the other measured on. Leave the scanner out or add images."
            )


def _reference(names: np.ndarray, reference: str | None) -> str:
    if reference is None:
        found, counts = np.unique(names, return_counts=True)
        return str(found[counts.argmax()])
    if reference not in set(names):
        raise UnknownScannerError(
            f"The reference {reference!r} is none of the scanners {', '.join(sorted(set(names)))}; name one of them."
        )
    return reference


def halves_of_patients(
    names: np.ndarray, labels: np.ndarray | None, people: np.ndarray, random_state: int | np.random.RandomState | None
) -> np.ndarray:
    """Deal patients into two halves with about the same share of every scanner, and of every class on it.

    Parameters
    ----------
    names, labels, people : ndarray of shape (n,)
        Scanner, class and patient of every image.
    random_state : int, RandomState or None

    Returns
    -------
    ndarray of int64 of shape (n,)
        0 or 1.

    Raises
    ------
    NotEnoughImagesError
        If some scanner's patients cannot be had in both halves, because they were imaged on several.
    """
    rng = check_random_state(random_state)
    strata = [names]
    if labels is not None:
        strata.insert(0, np.array([f"{name}\0{label}" for name, label in zip(names, labels, strict=True)]))
    best, most = None, 0
    for stratum in strata:
        if np.unique(stratum, return_counts=True)[1].max() < 2:
            continue
        for _ in range(_TRIES):
            with warnings.catch_warnings():
                # A class of one patient on one scanner is no reason to stop: cautions tell of it.
                warnings.simplefilter("ignore", XRayHarmonizeWarning)
                half = patient_folds(people, stratum, 2, rng)
            fewest = min(len(set(people[(names == name) & (half == side)])) for name in set(names) for side in (0, 1))
            if fewest >= FEWEST_PATIENTS // 2:
                return half
            # Where classes are rare, balancing them may leave a scanner on one side alone.
            if fewest > most:
                best, most = half, fewest
    if best is None:
        raise NotEnoughImagesError(
            "Patients cannot be dealt into two halves that both hold every scanner: too many of them were imaged on "
            "several. Leave the scanner with fewest patients out, or add images."
        )
    return best


def _small(images: ImageSet, people: np.ndarray, image_size: int) -> ImageSet:
    shrunk = [shrink(images.radiograph(i), image_size) for i in range(len(images))]
    return ImageSet(
        [one.pixels for one in shrunk],
        scanner=images.scanner,
        patient=people,
        mask=[one.mask for one in shrunk],
        bits_stored=[one.bits_stored if one.pixels.dtype.kind != "f" else 0 for one in shrunk],
        meta=_meta(images, shrunk),
    )


def _meta(images: ImageSet, shrunk: list[Radiograph]) -> Any:
    """Give the set's table with the display windows that the files told, which a set in memory reads no more."""
    table = images.meta
    for column in ("window_center", "window_width", "voi_lut_function", "presentation_intent"):
        values = [one.meta.get(column) for one in shrunk]
        if any(value is not None for value in values):
            table[column] = values
    return table


def shrink(radiograph: Radiograph, image_size: int) -> Radiograph:
    """Average a radiograph down until no side is longer than ``image_size``; values stay in their units.

    Examples
    --------
    >>> shrink(Radiograph(np.ones((100, 50), dtype="uint16"), 12), 20).pixels.shape
    (20, 10)
    """
    height, width = radiograph.pixels.shape
    longest = max(height, width)
    if longest <= image_size:
        return radiograph
    shape = (max(round(width * image_size / longest), 1), max(round(height * image_size / longest), 1))
    pixels = radiograph.pixels
    # Of other types than these OpenCV makes no means.
    known = pixels if pixels.dtype in (np.uint8, np.uint16, np.float32, np.float64) else pixels.astype(np.float64)
    means = cv2.resize(known, shape, interpolation=cv2.INTER_AREA)
    pixels = (np.rint(means) if pixels.dtype.kind == "u" else means).astype(pixels.dtype)
    mask = radiograph.mask
    if mask is not None:
        counted = cv2.resize(mask.astype(np.float32), shape, interpolation=cv2.INTER_AREA)
        # What is padding in part is left out: its value is between a measurement and none. Where nothing else is left,
        # what is padding least stays.
        mask = counted >= min(0.999, float(counted.max())) if counted.any() else np.zeros(counted.shape, dtype=bool)
    return replace(radiograph, pixels=pixels, mask=mask)


def in_memory(X: ImageSet, scanner: np.ndarray | None) -> ImageSet:
    """Give images computed and held, under other names of scanners if asked for."""
    radiographs = [X.radiograph(i) for i in range(len(X))]
    return ImageSet(
        [one.pixels for one in radiographs],
        scanner=scanner,
        patient=X.patient,
        mask=[one.mask for one in radiographs],
        bits_stored=[one.bits_stored for one in radiographs],
        meta=X.meta,
    )
