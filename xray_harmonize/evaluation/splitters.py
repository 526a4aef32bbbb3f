"""Splits in which no scanner and no patient stands on both sides.

Two questions are asked of a harmonized classifier, and each has its split:

* *Does it work on a scanner it has never seen?* :class:`LeaveOneScannerOut`.
* *Does it work on new patients of a scanner it knows?* :class:`PatientKFold`, and the plain
  functions :func:`patient_folds` and :func:`cross_fit_halves`.

The scanner and the patient are read from the images themselves (``X.scanner``, ``X.patient``), so
the splitters work in ``cross_val_score`` and ``GridSearchCV`` without ``groups`` being passed
along.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator

from xray_harmonize.evaluation.patients import (
    cross_fit_halves,
    is_missing,
    one_a_row,
    patient_codes,
    patient_folds,
)
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
)

__all__ = [
    "LeaveOneScannerOut",
    "PatientKFold",
    "cross_fit_halves",
    "patient_codes",
    "patient_folds",
]


class PatientKFold(BaseCrossValidator):
    """K folds stratified by class, with all images of a patient in one fold.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    random_state : int, RandomState or None, default=None
        Which patients fall together.

    See Also
    --------
    patient_folds : the same as one array of fold numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.splitters import PatientKFold
    >>> patient = ["a", "a", "b", "c", "d"]
    >>> splits = PatientKFold(2, random_state=0).split(np.zeros((5, 1)), [0, 0, 1, 0, 1], patient)
    >>> for train, test in splits:
    ...     print(set(np.take(patient, train)) & set(np.take(patient, test)))
    set()
    set()
    """

    # Lets metadata routing hand `groups` to split, as scikit-learn's own group splitters do.
    __metadata_request__split = {"groups": True}

    def __init__(self, n_splits: int = 5, random_state: int | np.random.RandomState | None = None) -> None:
        self.n_splits = n_splits
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds; the arguments are not looked at."""
        return self.n_splits

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the positions of training and test images, fold by fold.

        Parameters
        ----------
        X : ImageSet or array-like of length n_images
            Images; ``X.patient`` says whose they are unless `groups` does.
        y : array-like of shape (n_images,), optional
            Class labels to stratify by; without them the folds are only even.
        groups : array-like of shape (n_images,), optional
            Patient labels, for an X that holds none.

        Yields
        ------
        train, test : ndarray of int64
            Positions in X.

        Raises
        ------
        InvalidParameterError
            If no patient is known, or `groups` and ``X.patient`` differ.
        """
        n_images = len(X)
        patient = _groups_or_own(X, groups, "patient")
        if patient is None:
            raise InvalidParameterError(
                "PatientKFold needs to know whose images these are: X.patient is not set and "
                "groups was not given. Set either."
            )
        labels = np.zeros(n_images, dtype=np.int64) if y is None else y
        fold = patient_folds(patient, labels, self.n_splits, self.random_state)
        for number in range(self.n_splits):
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


class LeaveOneScannerOut(BaseCrossValidator):
    """Hold out one scanner after another; train on all the others.

    Every image of the held-out scanner is tested on. Images of other scanners leave the training
    side if their patient was also imaged on the held-out scanner.

    Parameters
    ----------
    keep : str or sequence of str, optional
        Scanners that are never held out, such as the reference of a harmonizer that cannot be
        fitted without it.

    See Also
    --------
    PatientKFold : new patients of known scanners.
    sklearn.model_selection.LeaveOneGroupOut : the same for any groups, blind to patients.

    Notes
    -----
    Where ``X.patient`` is None, or the label of an image is missing, an image is taken for a
    patient of its own, and nothing keeps two images of one person apart.

    In a ``GridSearchCV`` inside one training side this splitter holds out the training scanners in
    turn, so that a model is never selected on the scanner it is tested on.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.splitters import LeaveOneScannerOut
    >>> scanner = ["Selenia", "Selenia", "Senograph", "Clearview"]
    >>> splitter = LeaveOneScannerOut(keep="Selenia")
    >>> for train, test in splitter.split(np.zeros((4, 1)), groups=scanner):
    ...     print(train, test)
    [0 1 2] [3]
    [0 1 3] [2]
    """

    # Lets metadata routing hand `groups` to split, as scikit-learn's own group splitters do.
    __metadata_request__split = {"groups": True}

    def __init__(self, keep: str | Sequence[str] | None = None) -> None:
        self.keep = keep

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return how many scanners are held out in turn.

        Parameters
        ----------
        X : ImageSet or array-like of length n_images
            Images; ``X.scanner`` names their scanners unless `groups` does.
        y : ignored
        groups : array-like of shape (n_images,), optional
            Scanner labels, for an X that holds none.

        Returns
        -------
        n_splits : int

        Raises
        ------
        MissingScannerError, NotEnoughImagesError, InvalidParameterError
            As :meth:`split`.
        """
        return len(self._held_out(self._scanners(X, groups)))

    def split(self, X: Any, y: Any = None, groups: ArrayLike | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the positions of training and test images, scanners in sorted order.

        Parameters
        ----------
        X : ImageSet or array-like of length n_images
            Images; ``X.scanner`` names their scanners unless `groups` does, ``X.patient`` their
            patients.
        y : ignored
        groups : array-like of shape (n_images,), optional
            Scanner labels, for an X that holds none.

        Yields
        ------
        train, test : ndarray of int64
            Positions in X.

        Raises
        ------
        MissingScannerError
            If the scanner of all or of some images is not known.
        NotEnoughImagesError
            If there is only one scanner, all are kept, or the patients of the held-out scanner
            leave nothing to train on (or nothing of a kept scanner).
        InvalidParameterError
            If `keep` names a scanner that is not there, or `groups` and ``X.scanner`` differ.
        """
        scanner = self._scanners(X, groups)
        patient = patient_codes(getattr(X, "patient", None), len(scanner))
        for held_out in self._held_out(scanner):
            is_test = scanner == held_out
            is_train = ~is_test & ~np.isin(patient, patient[is_test])
            self._check_train(scanner, is_train, held_out)
            yield np.flatnonzero(is_train), np.flatnonzero(is_test)

    def _kept(self) -> list[str]:
        if self.keep is None:
            return []
        return [self.keep] if isinstance(self.keep, str) else [str(name) for name in self.keep]

    def _scanners(self, X: Any, groups: ArrayLike | None) -> np.ndarray:
        scanner = _groups_or_own(X, groups, "scanner")
        if scanner is None:
            raise MissingScannerError(
                "LeaveOneScannerOut needs the scanner of every image: X.scanner is not set and "
                "groups was not given. Set either."
            )
        missing = np.flatnonzero(is_missing(scanner))
        if len(missing):
            raise MissingScannerError(
                f"LeaveOneScannerOut needs the scanner of every image; {len(missing)} of "
                f"{len(scanner)} have none (the first is image {missing[0]}). Name it or "
                "leave those images out."
            )
        return scanner.astype(str)

    def _held_out(self, scanner: np.ndarray) -> list[str]:
        """Scanners to hold out, sorted; checks that there are some."""
        present = np.unique(scanner).tolist()
        if len(present) < 2:
            raise NotEnoughImagesError(
                "LeaveOneScannerOut needs images from at least two scanners; "
                f"X.scanner holds only {', '.join(map(repr, present)) or 'nothing'}. "
                "Add scanners or use PatientKFold."
            )
        kept = self._kept()
        strangers = [name for name in kept if name not in present]
        if strangers:
            raise InvalidParameterError(
                f"keep names {', '.join(map(repr, strangers))}, but the scanners are "
                f"{', '.join(map(repr, present))}. Name one of them."
            )
        held_out = [name for name in present if name not in kept]
        if not held_out:
            raise NotEnoughImagesError(
                f"keep names every scanner ({', '.join(map(repr, present))}), so none is left to hold out. Keep fewer."
            )
        return held_out

    def _check_train(self, scanner: np.ndarray, is_train: np.ndarray, held_out: str) -> None:
        if not is_train.any():
            raise NotEnoughImagesError(
                f"Nothing is left to train on when scanner {held_out!r} is held out: every patient "
                "of the other scanners was imaged on it too. Split the patients first."
            )
        for name in self._kept():
            if not (is_train & (scanner == name)).any():
                raise NotEnoughImagesError(
                    f"No image of the kept scanner {name!r} is left when {held_out!r} is held out: "
                    "all its patients were imaged on that one too. Split the patients first."
                )


def _groups_or_own(X: Any, groups: ArrayLike | None, name: str) -> np.ndarray | None:
    """Labels from `groups`, else from ``X.<name>``; given twice, they must agree."""
    own = None if X is None else getattr(X, name, None)
    if groups is None:
        return None if own is None else one_a_row(own, len(X), name)
    given = np.asarray(groups, dtype=object) if X is None else one_a_row(groups, len(X), "groups")
    if own is not None and not np.array_equal(given.astype(str), np.asarray(own, dtype=object).astype(str)):
        raise InvalidParameterError(f"groups and X.{name} differ. Leave groups out, or set X.{name} to what is meant.")
    return given
