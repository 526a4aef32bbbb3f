"""Which images take part where scanners are compared, and who is compared with whom."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from xray_harmonize.evaluation.groups import patients_of_groups, scanner_codes
from xray_harmonize.evaluation.patients import is_missing, one_a_row, patient_codes
from xray_harmonize.exceptions import NotEnoughImagesError, UnknownScannerError, XRayHarmonizeWarning

__all__ = ["ALL", "Compared", "compared", "label_groups", "renumbered"]

ALL = "all"  # what all scanners together are called


@dataclass(frozen=True)
class Compared:
    """Scanners of two patients or more, and the images kept of them.

    Parameters
    ----------
    names : list of str
        Scanners, sorted.
    codes, people : ndarray of int64 of shape (n_kept,)
        Scanner and patient of every image kept, numbers from 0 on.
    label : ndarray of object of shape (n_kept,) or None
    reference : str or None
        One of `names`.
    kept : ndarray of int64 of shape (n_kept,)
        Positions among all images, ascending.
    """

    names: list[str]
    codes: np.ndarray
    people: np.ndarray
    label: np.ndarray | None
    reference: str | None
    kept: np.ndarray

    def thinned(self, max_images: int, seed: int) -> Compared:
        """Keep whole patients at random, scanners in turn, up to `max_images` images.

        Two patients of every scanner are kept whatever happens.
        """
        if len(self.codes) <= max_images:
            return self
        rng = check_random_state(seed)
        turn = np.empty(len(self.codes), dtype=np.int64)
        for number in range(len(self.names)):
            own = np.flatnonzero(self.codes == number)
            patients = rng.permutation(np.unique(self.people[own]))
            place = np.empty(self.people.max() + 1, dtype=np.int64)
            place[patients] = np.arange(len(patients))
            turn[own] = place[self.people[own]]
        # A patient of several scanners comes at his first turn, with all his images.
        first = np.full(self.people.max() + 1, len(turn))
        np.minimum.at(first, self.people, turn)
        order = np.argsort(first[self.people], kind="stable")
        ranks = first[self.people[order]]
        # Two patients of every scanner whatever happens; beyond, whole turns.
        last = max(1, ranks[max_images] - 1)
        chosen = np.sort(order[ranks <= last])
        return Compared(
            self.names,
            self.codes[chosen],
            renumbered(self.people[chosen]),
            None if self.label is None else self.label[chosen],
            self.reference,
            self.kept[chosen],
        )

    def comparisons(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Name, images and groups of each: all scanners, then every one against the reference or the rest."""
        everything = np.arange(len(self.codes))
        yield ALL, everything, self.codes
        for number, name in enumerate(self.names):
            if name == self.reference:
                continue
            if self.reference is None:
                yield name, everything, (self.codes == number).astype(np.int64)
            else:
                of_both = self.codes == self.names.index(self.reference)
                chosen = np.flatnonzero(of_both | (self.codes == number))
                yield name, chosen, (self.codes[chosen] == number).astype(np.int64)


def compared(
    scanner: ArrayLike, patient: ArrayLike | None, label: ArrayLike | None, reference: str | None, n_images: int
) -> Compared:
    """Check labels, and leave out scanners of a single patient.

    Parameters
    ----------
    scanner, patient, label : array-like of shape (n_images,)
        The last two may be None.
    reference : str or None
    n_images : int

    Returns
    -------
    Compared

    Raises
    ------
    InvalidParameterError, MissingScannerError
        If there is not one label an image, or a scanner is missing.
    UnknownScannerError
        If `reference` is none of the scanners.
    NotEnoughImagesError
        If there are not two scanners of two patients each, the reference among them.

    Warns
    -----
    XRayHarmonizeWarning
        If a scanner is left out.

    Examples
    --------
    >>> two = compared(["b", "b", "a", "a"], None, None, "a", 4)
    >>> two.names, two.codes.tolist()
    (['a', 'b'], [1, 1, 0, 0])
    """
    names, codes = scanner_codes(scanner, n_images)
    people = patient_codes(patient, n_images)
    labels = None if label is None else one_a_row(label, n_images, "label")
    if reference is not None and reference not in names:
        raise UnknownScannerError(
            f"reference={reference!r} is none of the scanners; there are {', '.join(map(repr, names))}."
        )
    n_patients = patients_of_groups(codes, people)
    enough = n_patients >= 2
    if enough.sum() < 2 or (reference is not None and not enough[names.index(reference)]):
        counted = ", ".join(f"{name!r}: {n}" for name, n in zip(names, n_patients, strict=True))
        raise NotEnoughImagesError(
            "Measuring the gap needs two scanners with at least two patients each, the reference among them; patients "
            f"a scanner are {counted}. Add patients."
        )
    for name in (name for name, is_enough in zip(names, enough, strict=True) if not is_enough):
        warnings.warn(
            f"Scanner {name!r} has a single patient, too few to measure a gap; its images are left out.",
            XRayHarmonizeWarning,
            stacklevel=3,
        )
    kept = np.flatnonzero(enough[codes])
    return Compared(
        [name for name, is_enough in zip(names, enough, strict=True) if is_enough],
        renumbered(codes[kept]),
        renumbered(people[kept]),
        None if labels is None else labels[kept],
        reference,
        kept,
    )


def renumbered(codes: np.ndarray) -> np.ndarray:
    """Numbers from 0 on in the order of the old ones, without gaps.

    Examples
    --------
    >>> renumbered(np.array([7, 2, 7]))
    array([1, 0, 1])
    """
    return np.asarray(np.unique(codes, return_inverse=True)[1])


def label_groups(label: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images whose class has two patients or more, and their classes as numbers; none with fewer than two classes.

    Examples
    --------
    >>> label_groups(np.array(["x", "y", "x", None, "y", "z"], dtype=object), np.arange(6))
    (array([0, 1, 2, 4]), array([0, 1, 0, 1]))
    """
    known = np.flatnonzero(~is_missing(label))
    # As strings, labels of any kind can be sorted.
    codes = renumbered(label[known].astype(str)) if len(known) else known
    if len(known):
        enough = patients_of_groups(codes, renumbered(people[known])) >= 2
        known, codes = known[enough[codes]], codes[enough[codes]]
    codes = renumbered(codes)
    return (known, codes) if len(np.unique(codes)) > 1 else (known[:0], codes[:0])
