"""Training and test part of a study: so many images of every scanner and label, and no patient in both."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from xray_harmonize.catalog.selection import check_count
from xray_harmonize.exceptions import InvalidParameterError

_CELL = ["scanner", "label"]


def partition(
    images: pd.DataFrame,
    *,
    n_train: int = 400,
    n_test: int = 100,
    test_only: Iterable[tuple[str, Hashable]] = (),
    random_state: int | np.random.RandomState | None = 42,
) -> pd.DataFrame:
    """Deal the patients of a study into a training and a test part.

    The sizes are those of Table 1 of Lu et al.: 400 images to train and 100 to test of every scanner and label, except
    where a label is too rare to train on. There, images were dealt cell by cell; here a patient goes whole, since one
    who is in several cells would else be trained and tested on.

    Parameters
    ----------
    images : DataFrame
        With the columns ``scanner``, ``label`` and ``patient``; an image without a patient is one of its own.
    n_train, n_test : int
        Images of every scanner and label. Of a cell with more, the rest is tested on too; one with fewer is dealt in
        the ratio of the two.
    test_only : iterable of (scanner, label)
        Cells with nothing to train on, such as :data:`xray_harmonize.catalog.embed.TEST_ONLY`.
    random_state : int, RandomState or None, default=42
        Who goes where.

    Returns
    -------
    DataFrame
        ``images`` with the column ``partition``, "train" or "test". The sizes are exact unless patients in several
        cells prevent it: all of a patient who is in a ``test_only`` cell is tested on. :func:`partition_sizes` shows
        what came out.

    Raises
    ------
    InvalidParameterError
        A column is missing, a size is out of range, or ``test_only`` names a scanner or label that there is not.

    References
    ----------
    Lu, Wang, Juodelyte, Cheplygina: Learning to Harmonize Cross-vendor X-ray Images by Non-linear Image Dynamics
    Correction, 2025, Table 1.

    Examples
    --------
    >>> images = pd.DataFrame({"scanner": "GE", "label": [0] * 5 + [1] * 2, "patient": list("abcdeab")})
    >>> parts = partition(images, n_train=4, n_test=1, test_only=[("GE", 1)])
    >>> partition_sizes(parts)
       scanner  label  train  test
    0  GE       0      3      2
    1  GE       1      0      2
    """
    _check_columns(images, [*_CELL, "patient"])
    check_count("n_train", n_train)
    check_count("n_test", n_test)
    cells = pd.MultiIndex.from_frame(images[_CELL])
    cell, names = pd.factorize(cells)
    sizes = np.bincount(cell, minlength=len(names))
    untrained = _checked(test_only, images)
    only = np.array([name in untrained for name in names], dtype=bool)
    n_trained = np.minimum(n_train, np.rint(sizes * n_train / (n_train + n_test))).astype(int)
    tested = _deal(
        cell, _patient_codes(images["patient"]), np.where(only, sizes, sizes - n_trained), only, random_state
    )
    return images.assign(partition=np.where(tested, "test", "train"))


def partition_sizes(images: pd.DataFrame) -> pd.DataFrame:
    """Count the images of every scanner and label in the two parts.

    Parameters
    ----------
    images : DataFrame
        As :func:`partition` gives.

    Returns
    -------
    DataFrame
        Columns ``scanner``, ``label``, ``train`` and ``test``.

    Raises
    ------
    InvalidParameterError
        If a column is missing.
    """
    _check_columns(images, [*_CELL, "partition"])
    counts = images.groupby([*_CELL, "partition"], observed=True).size().unstack(fill_value=0)
    return counts.reindex(columns=["train", "test"], fill_value=0).rename_axis(columns=None).reset_index()


def _deal(
    cell: np.ndarray,
    patient: np.ndarray,
    n_tested: np.ndarray,
    only: np.ndarray,
    random_state: int | np.random.RandomState | None,
) -> np.ndarray:
    """Choose patients for the test so that every cell gets its number; True where an image is tested on.

    Patients come one after the other and are chosen with the share of their cells that is still to be chosen (Knuth's
    algorithm S for a cell of single images). Those with many images come first: later ones make up for their overshoot.
    """
    rng = check_random_state(random_state)
    images_of = pd.Series(np.arange(len(patient))).groupby(patient).indices
    codes = np.array(list(images_of))[rng.permutation(len(images_of))]
    codes = codes[np.argsort([-len(images_of[code]) for code in codes], kind="stable")]
    forced = set(patient[only[cell]])
    to_test = n_tested.copy()
    left = np.bincount(cell, minlength=len(n_tested))
    tested = np.zeros(len(cell), dtype=bool)
    for code in sorted(codes, key=lambda code: code not in forced):
        own, counts = np.unique(cell[images_of[code]], return_counts=True)
        chosen = code in forced or rng.random_sample() < _probability(to_test[own], left[own], counts)
        left[own] -= counts
        if chosen:
            to_test[own] -= counts
            tested[images_of[code]] = True
    return tested


def _probability(to_test: np.ndarray, left: np.ndarray, counts: np.ndarray) -> float:
    """Chance of a patient for the test: none where a cell would get too many, certain where one would get too few."""
    if np.any(to_test < counts):
        return 0.0
    if np.any(left - counts < to_test):
        return 1.0
    return float(np.mean(to_test / left))


def _patient_codes(patient: pd.Series) -> np.ndarray:
    codes = pd.factorize(patient.replace("", None))[0]
    unknown = codes < 0
    codes[unknown] = codes.max(initial=-1) + 1 + np.arange(np.count_nonzero(unknown))
    return codes


def _checked(test_only: Iterable[tuple[str, Hashable]], images: pd.DataFrame) -> set[tuple[str, Hashable]]:
    cells = set(test_only)
    for role, place in (("scanner", 0), ("label", 1)):
        there = images[role].unique().tolist()
        absent = sorted({repr(cell[place]) for cell in cells if cell[place] not in there})
        if absent:
            raise InvalidParameterError(
                f"test_only names the {role} {', '.join(absent)}; expected one of "
                f"{', '.join(sorted(map(repr, there)))}."
            )
    return cells


def _check_columns(images: pd.DataFrame, columns: list[str]) -> None:
    missing = [column for column in columns if column not in images]
    if missing:
        raise InvalidParameterError(
            f"The table of images lacks the column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, images.columns))}."
        )
