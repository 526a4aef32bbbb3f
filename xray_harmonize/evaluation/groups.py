"""Images in groups (scanners, or labels): what holds of figures that compare groups, whichever figure it is.

Images of one patient are not independent. So labels are permuted, and resamples drawn, by patient, and no figure
compares two images of one patient where it can be helped (:mod:`~xray_harmonize.evaluation.pairs`).

References
----------
.. [1] B. Phipson, G. K. Smyth, "Permutation P-values should never be zero", Statistical Applications in Genetics and
   Molecular Biology 9(1), 2010.
.. [2] A. M. Winkler et al., "Multi-level block permutation", NeuroImage 123, 2015 (what may be exchanged where
   observations come in blocks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from xray_harmonize.evaluation.bootstrap import bootstrap_patients
from xray_harmonize.evaluation.patients import is_missing, one_a_row
from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError, NotEnoughImagesError

__all__ = [
    "Figures",
    "feature_matrix",
    "measure_groups",
    "membership",
    "patients_of_groups",
    "permutation_p",
    "permuted_groups",
    "scanner_codes",
]

# Numbers in one block of memberships, which bounds the memory whatever the number of permutations.
BLOCK_SIZE = 2**21

Statistic = Callable[[np.ndarray], np.ndarray]


class Figures(NamedTuple):
    """Figures as they are, with permuted groups, and of resampled patients."""

    value: np.ndarray  # (n_figures,)
    null: np.ndarray  # (n_permutations, n_figures)
    resampled: np.ndarray  # (n_bootstrap, n_figures)


def feature_matrix(features: Any, name: str = "features") -> np.ndarray:
    """Features as float64 of shape (n_images, n_features), or an error that calls them `name`.

    Parameters
    ----------
    features : array-like or DataFrame of shape (n_images, n_features)
    name : str

    Raises
    ------
    InvalidParameterError
        If they are no table of finite numbers.

    Examples
    --------
    >>> feature_matrix([[1, 2], [3, 4]]).dtype
    dtype('float64')
    """
    try:
        matrix = np.asarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidParameterError(f"{name} must be a table of numbers, one row an image: {error}.") from None
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InvalidParameterError(
            f"{name} must have the shape (n_images, n_features) with at least one of each; got {matrix.shape}. "
            "Images become features by IntensityFeatures or DeepFeatures."
        )
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise InvalidParameterError(
            f"{name} must be finite; row {row} holds {matrix[row, column]} in column {column}. Leave that image out."
        )
    return matrix


def scanner_codes(scanner: ArrayLike | None, n_images: int) -> tuple[list[str], np.ndarray]:
    """Names of the scanners, sorted, and the number of every image's scanner.

    Parameters
    ----------
    scanner : array-like of str of shape (n_images,)
    n_images : int

    Returns
    -------
    names : list of str
    codes : ndarray of int64 of shape (n_images,)

    Raises
    ------
    MissingScannerError
        If the scanner of an image is not known.
    NotEnoughImagesError
        If there are fewer than two scanners.
    InvalidParameterError
        If there is not one label an image.

    Examples
    --------
    >>> scanner_codes(["b", "a", "b"], 3)
    (['a', 'b'], array([1, 0, 1]))
    """
    if scanner is None:
        raise MissingScannerError("Scanners are compared, but scanner is None. Give the scanner of every image.")
    labels = one_a_row(scanner, n_images, "scanner")
    missing = np.flatnonzero(is_missing(labels))
    if len(missing):
        raise MissingScannerError(
            f"Scanners are compared, but {len(missing)} of {n_images} images have none (the first is image "
            f"{missing[0]}). Name it or leave those images out."
        )
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    if len(names) < 2:
        raise NotEnoughImagesError(
            f"Comparing scanners needs at least two; scanner holds only {', '.join(map(repr, names.tolist()))}. "
            "Add images of another one."
        )
    return names.tolist(), codes.astype(np.int64)


def patients_of_groups(codes: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Count the patients of every group; int64 of shape (n_groups,).

    Examples
    --------
    >>> patients_of_groups(np.array([0, 0, 1]), np.array([0, 0, 1]))
    array([1, 1])
    """
    pairs = np.unique(np.column_stack([codes, patient]), axis=0)
    return np.bincount(pairs[:, 0])


def permuted_groups(
    codes: np.ndarray,
    patient: np.ndarray,
    n_permutations: int,
    random_state: int | np.random.RandomState | None = None,
    block: np.ndarray | None = None,
) -> np.ndarray:
    """Permute the groups of images by patient, as if group and image had nothing to do with each other.

    * Patients of a single group trade it whole: all images of a patient get the group of another such patient.
    * Patients with images in several groups trade with others of as many images, and the labels that a patient then
      holds are shuffled among the images. A cohort whose patients were all imaged on every scanner is thus permuted
      within patients.

    Parameters
    ----------
    codes : ndarray of int of shape (n_images,)
        Group of every image.
    patient : ndarray of int of shape (n_images,)
        Patient numbers from 0 on, as :func:`~xray_harmonize.evaluation.patients.patient_codes` gives them.
    n_permutations : int
    random_state : int, RandomState or None, default=None
    block : ndarray of int of shape (n_images,), optional
        Patients trade only within their block (a fold); images of one patient share a block.

    Returns
    -------
    permuted : ndarray of int of shape (n_permutations, n_images)

    Raises
    ------
    InvalidParameterError
        If `n_permutations` is negative.

    Notes
    -----
    What is tested is that the group says nothing of the patient, how many images there are of him included, and that
    images of one patient could have come from his scanners in any order. Where a scanner was replaced by another in the
    midst of the treatment of many patients, the second is not so: the time between the images then adds to the
    difference of the scanners.

    Examples
    --------
    >>> permuted = permuted_groups(np.array([0, 0, 1]), np.array([0, 0, 1]), 50, random_state=0)
    >>> np.unique(permuted, axis=0).tolist()
    [[0, 0, 1], [1, 1, 0]]
    """
    if n_permutations < 0:
        raise InvalidParameterError(f"n_permutations must be 0 or more; got {n_permutations}.")
    rng = check_random_state(random_state)
    n_images = len(codes)
    by_patient = np.argsort(patient, kind="stable")
    n_of_patient = np.bincount(patient)
    start = np.cumsum(n_of_patient) - n_of_patient
    rank = np.arange(n_images) - start[patient[by_patient]]
    parties = _trading_parties(codes[by_patient], n_of_patient, start, by_patient, block)
    permuted = np.empty((n_permutations, n_images), dtype=np.int64)
    for row in permuted:
        giver = np.arange(len(n_of_patient))
        for party in parties:
            giver[party] = rng.permutation(party)
        shuffled = codes[np.lexsort((rng.random_sample(n_images), patient))]
        gives = giver[patient[by_patient]]
        # Patients of a single group may have fewer images than they give labels for: theirs are all the same.
        row[by_patient] = shuffled[start[gives] + rank % n_of_patient[gives]]
    return permuted


def _trading_parties(
    sorted_codes: np.ndarray,
    n_of_patient: np.ndarray,
    start: np.ndarray,
    by_patient: np.ndarray,
    block: np.ndarray | None,
) -> list[np.ndarray]:
    """Numbers of the patients who trade among themselves; those who have nobody to trade with are left out."""
    lowest, highest = (extreme.reduceat(sorted_codes, start) for extreme in (np.minimum, np.maximum))
    size = np.where(lowest == highest, 0, n_of_patient)
    place = np.zeros_like(size) if block is None else np.asarray(block)[by_patient[start]]
    _, party = np.unique(np.column_stack([place, size]), axis=0, return_inverse=True)
    members = [np.flatnonzero(party == number) for number in range(party.max() + 1)]
    return [member for member in members if len(member) > 1]


def membership(codes: np.ndarray, n_groups: int, weight: np.ndarray | None = None) -> np.ndarray:
    """How much every image weighs in every group.

    Parameters
    ----------
    codes : ndarray of int of shape (n_cases, n_images) or (n_images,)
    n_groups : int
    weight : ndarray of float of shape (n_cases, n_images), optional
        How often every image was drawn.

    Returns
    -------
    ndarray of float64 of shape (n_cases, n_images, n_groups)

    Examples
    --------
    >>> membership(np.array([[0, 1]]), 2).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    indicator = (np.atleast_2d(codes)[:, :, np.newaxis] == np.arange(n_groups)).astype(np.float64)
    return indicator if weight is None else indicator * weight[:, :, np.newaxis]


def measure_groups(
    statistic: Statistic,
    codes: np.ndarray,
    patient: np.ndarray,
    *,
    n_permutations: int = 200,
    n_bootstrap: int = 200,
    random_state: int | np.random.RandomState | None = None,
) -> Figures:
    """Compute figures of groups as they are, with groups permuted by patient, and of resampled patients.

    Parameters
    ----------
    statistic : callable
        Takes a membership of shape (n_cases, n_images, n_groups), gives an ndarray of shape (n_cases, n_figures).
    codes, patient : ndarray of int of shape (n_images,)
        Group and patient numbers from 0 on.
    n_permutations, n_bootstrap : int, default=200
        0 for none.
    random_state : int, RandomState or None, default=None
        The same number gives the same permutations and resamples, whatever the statistic.

    Returns
    -------
    Figures

    Raises
    ------
    InvalidParameterError
        If a number is negative.

    Examples
    --------
    >>> def share(weight):
    ...     return weight.sum(axis=1) / weight.sum(axis=(1, 2))[:, np.newaxis]
    >>> codes = np.array([0, 1, 1])
    >>> figures = measure_groups(share, codes, np.arange(3), n_permutations=5, n_bootstrap=7, random_state=0)
    >>> figures.value.round(2).tolist(), figures.null.shape, figures.resampled.shape
    ([0.33, 0.67], (5, 2), (7, 2))
    """
    rng = check_random_state(random_state)
    n_groups = int(codes.max()) + 1
    permuted = permuted_groups(codes, patient, n_permutations, rng)

    def weighted(weight: np.ndarray) -> np.ndarray:
        return _in_blocks(lambda rows: statistic(membership(codes, n_groups, rows)), weight, n_groups)

    value, resampled = bootstrap_patients(weighted, patient, n_bootstrap, rng)
    null = _in_blocks(lambda rows: statistic(membership(rows, n_groups)), permuted, n_groups)
    return Figures(value, null.reshape(n_permutations, len(value)), resampled)


def _in_blocks(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, n_groups: int) -> np.ndarray:
    if not len(rows):
        return np.empty((0, 0))
    step = max(1, BLOCK_SIZE // (rows.shape[1] * n_groups))
    return np.concatenate([function(rows[first : first + step]) for first in range(0, len(rows), step)])


def permutation_p(observed: float, null: np.ndarray) -> float:
    r"""One-sided p of a figure: how often a permutation comes as high, the figure itself counted.

    .. math:: p = (1 + \#\{i : \mathrm{null}_i \ge \mathrm{observed}\}) / (1 + n)

    Parameters
    ----------
    observed : float
    null : ndarray of float of shape (n_permutations,)
        Permutations that do not define the figure (NaN) count as high.

    Returns
    -------
    p : float
        In (0, 1]; NaN without permutations, or where `observed` is NaN.

    Examples
    --------
    >>> permutation_p(0.9, np.array([0.4, 0.5, 0.6]))
    0.25
    """
    if not len(null) or np.isnan(observed):
        return float("nan")
    # A sum in another order may differ in its last digits, which must not make a tie an excess.
    slack = 1e-9 * max(1.0, abs(observed))
    return float((1 + np.count_nonzero(~(null < observed - slack))) / (1 + len(null)))
