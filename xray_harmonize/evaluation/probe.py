"""Can a classifier still tell the scanner? A linear probe, retrained on what it is given, against permutations.

A classifier that was trained before harmonization and is kept frozen finds less of the scanner afterwards than one that
is trained anew: what it knew has moved. So the probe is trained on the very features it is asked about, and scored on
patients it has not seen.

The probe is linear discriminant analysis with equal priors and a shrunken covariance. It has a closed form in which
everything but the class means is free of the scanner labels: the features of a fold are standardized and whitened once,
and every permutation of the labels costs a few small products of matrices. So the null is that of the very same
classifier, not of a cheaper stand-in.

References
----------
.. [1] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
   Multivariate Analysis 88(2), 2004 (equation 14 and lemmas 3.2 to 3.4: how much to shrink).
.. [2] T. Hastie, R. Tibshirani, J. Friedman, "The Elements of Statistical Learning", 2nd edition, Springer, 2009,
   section 4.3.
.. [3] M. Ojala, G. C. Garriga, "Permutation tests for studying classifier performance", Journal of Machine Learning
   Research 11, 2010.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

from xray_harmonize.evaluation.bootstrap import bootstrap_patients, interval
from xray_harmonize.evaluation.groups import (
    BLOCK_SIZE,
    feature_matrix,
    membership,
    patients_of_groups,
    permutation_p,
    permuted_groups,
    scanner_codes,
)
from xray_harmonize.evaluation.patients import is_missing, one_a_row, patient_codes, patient_folds
from xray_harmonize.exceptions import NotEnoughImagesError

__all__ = ["ProbeResult", "scanner_probe"]

# A covariance that is not shrunk at all may be singular.
LEAST_SHRINKAGE = 1e-4


@dataclass(frozen=True)
class ProbeResult:
    """What a probe could tell of the scanner.

    Parameters
    ----------
    balanced_accuracy : float
        Mean over scanners of the share of their held-out images that were given to them.
    low, high : float
        Interval over resampled patients, around this probe; NaN without resamples.
    null : ndarray of float64 of shape (n_permutations,)
        Balanced accuracy with the scanners permuted by patient.
    p_value : float
        Of "the scanner says nothing of the features"; NaN without permutations.
    chance : float
        1 / number of scanners.
    recall : DataFrame
        One row a scanner: ``scanner``, ``recall``, ``low``, ``high``, ``null`` (its mean over permutations),
        ``p_value``, ``n_images``, ``n_patients``.
    confusion : DataFrame
        Held-out images, rows the scanner they are from, columns the one the probe named.
    n_folds : int
        Folds used.
    """

    balanced_accuracy: float
    low: float
    high: float
    null: np.ndarray = field(repr=False)
    p_value: float
    chance: float
    recall: pd.DataFrame = field(repr=False)
    confusion: pd.DataFrame = field(repr=False)
    n_folds: int


def scanner_probe(
    features: Any,
    scanner: ArrayLike,
    patient: ArrayLike | None = None,
    *,
    label: ArrayLike | None = None,
    n_folds: int = 5,
    n_permutations: int = 200,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> ProbeResult:
    """Train a linear classifier of the scanner, and score it on patients it has not seen.

    Parameters
    ----------
    features : array-like or DataFrame of shape (n_images, n_features)
        Of images as they are after (or before) harmonization. Where there are more features than images, the probe
        works in the principal components of the training images, all of them.
    scanner : array-like of str of shape (n_images,)
        Scanner, or acquisition group, of every image; at least two.
    patient : array-like of shape (n_images,), optional
        Whose images these are; without, or where missing, every image is a patient of its own.
    label : array-like of shape (n_images,), optional
        Classes. Patients then trade scanners with others of the same classes alone, so that what tells a scanner by its
        share of each class is in the null and is no evidence.
    n_folds : int, default=5
        Folds, no patient in two of them. Fewer are made where the scanner with fewest patients has fewer than two a
        fold.
    n_permutations : int, default=200
        Permutations of the scanners; 0 for none.
    n_bootstrap : int, default=1000
        Resamples of the patients; 0 for none.
    confidence : float, default=0.95
        Coverage of the intervals.
    random_state : int, RandomState or None, default=None
        Folds, permutations and resamples.

    Returns
    -------
    ProbeResult

    Raises
    ------
    InvalidParameterError
        If features are no finite table, lengths differ, or a number is out of range.
    MissingScannerError
        If an image has no scanner.
    NotEnoughImagesError
        If there are fewer than two scanners, or fewer than two patients of one.

    Notes
    -----
    Scanners are permuted by patient inside each fold (see
    :func:`~xray_harmonize.evaluation.groups.permuted_groups`), so that every permutation has the folds, and in each
    fold the shares of scanners, of the observed labels. p is the share of permutations at least as high, the observed
    one counted. With fewer than about ten patients on a scanner there are few different permutations, and p cannot be
    small.

    A probe cannot tell the scanner from the people it images. Where scanners see other patients (age, view, disease), a
    high figure is no proof that the scanner itself is visible; match, or stratify by `label`.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.probe import scanner_probe
    >>> scanner = np.repeat(["a", "b"], 20)
    >>> features = np.random.default_rng(0).normal(size=(40, 3)) + 4 * (scanner == "b")[:, np.newaxis]
    >>> result = scanner_probe(features, scanner, n_permutations=99, random_state=0)
    >>> result.balanced_accuracy, result.p_value, result.chance
    (1.0, 0.01, 0.5)
    """
    matrix = feature_matrix(features)
    names, codes = scanner_codes(scanner, len(matrix))
    people = patient_codes(patient, len(matrix))
    rng = check_random_state(random_state)
    n_patients = _checked_patients(names, codes, people)
    n_used = min(n_folds, max(2, int(n_patients.min()) // 2))
    fold = patient_folds(people, codes, n_used, rng)
    block = fold if label is None else _within_classes(fold, one_a_row(label, len(matrix), "label"), people)
    permuted = permuted_groups(codes, people, n_permutations, rng, block=block)
    truth = np.concatenate([codes[np.newaxis], permuted])
    predicted = held_out_predictions(matrix, truth, fold, len(names))
    recall = _recall(truth, predicted, len(names))
    null = recall[1:].mean(axis=1)
    observed = recall[0].mean()

    correct = predicted[0] == codes
    _, resampled = bootstrap_patients(
        lambda weight: _weighted_recall(correct, membership(codes, len(names), weight)), people, n_bootstrap, rng
    )
    low, high = interval(resampled.mean(axis=1), confidence)
    of_scanner = [interval(column, confidence) for column in resampled.T]
    return ProbeResult(
        balanced_accuracy=float(observed),
        low=low,
        high=high,
        null=null,
        p_value=permutation_p(observed, null),
        chance=1 / len(names),
        recall=pd.DataFrame(
            {
                "scanner": names,
                "recall": recall[0],
                "low": [one[0] for one in of_scanner],
                "high": [one[1] for one in of_scanner],
                "null": recall[1:].mean(axis=0) if n_permutations else np.nan,
                "p_value": [permutation_p(recall[0, k], recall[1:, k]) for k in range(len(names))],
                "n_images": np.bincount(codes),
                "n_patients": n_patients,
            }
        ),
        confusion=_confusion(codes, predicted[0], names),
        n_folds=n_used,
    )


def _checked_patients(names: list[str], codes: np.ndarray, people: np.ndarray) -> np.ndarray:
    n_patients = patients_of_groups(codes, people)
    if n_patients.min() < 2:
        raise NotEnoughImagesError(
            f"Scanner {names[n_patients.argmin()]!r} has images of one patient alone; a probe needs at least two, to "
            "train on one and be scored on the other. Leave that scanner out or add patients."
        )
    return n_patients


def _within_classes(fold: np.ndarray, label: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Blocks of patients who are in one fold and have images of the same classes."""
    _, codes = np.unique(np.where(is_missing(label), "", label).astype(str), return_inverse=True)
    has_class = np.zeros((people.max() + 1, codes.max() + 1), dtype=np.int64)
    has_class[people, codes] = 1
    return np.asarray(np.unique(np.column_stack([fold, has_class[people]]), axis=0, return_inverse=True)[1]).ravel()


def held_out_predictions(matrix: np.ndarray, truth: np.ndarray, fold: np.ndarray, n_scanners: int) -> np.ndarray:
    """Name a scanner for every image by the probe of the other folds, for every row of labels.

    Parameters
    ----------
    matrix : ndarray of float of shape (n_images, n_features)
    truth : ndarray of int of shape (n_cases, n_images)
        Scanners to train on, one labelling a row.
    fold : ndarray of int of shape (n_images,)
        From 0 on.
    n_scanners : int

    Returns
    -------
    ndarray of int of shape (n_cases, n_images)

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [8.0], [9.0]])
    >>> held_out_predictions(x, np.array([[0, 0, 1, 1]]), np.array([0, 1, 0, 1]), 2)
    array([[0, 0, 1, 1]])
    """
    predicted = np.empty_like(truth)
    for number in range(fold.max() + 1):
        test = fold == number
        train_points, test_points, shrinkage = _whitened(matrix[~test], matrix[test])
        of_train = truth[:, ~test]
        step = max(1, BLOCK_SIZE // (of_train.shape[1] * n_scanners))
        named = [
            discriminate(train_points, membership(of_train[first : first + step], n_scanners), test_points, shrinkage)
            for first in range(0, len(truth), step)
        ]
        predicted[:, test] = np.concatenate(named)
    return predicted


def _whitened(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Coordinates in which the shrunken total covariance of the training images is the identity, and its shrinkage."""
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    n_images, n_features = train.shape
    if n_features <= n_images:
        squares, axes = np.linalg.eigh(train.T @ train)
        train_points, test_points = train @ axes, test @ axes
    else:
        # The same rotation by way of the smaller matrix; directions no training image has are no loss.
        squares, vectors = np.linalg.eigh(train @ train.T)
        kept = squares > 1e-10 * max(float(squares[-1]), 1.0)
        squares, vectors = squares[kept], vectors[:, kept]
        train_points = vectors * np.sqrt(squares)
        test_points = test @ (train.T @ (vectors / np.sqrt(squares)))
    variance = np.maximum(squares, 0.0) / n_images
    shrinkage = ledoit_wolf_shrinkage(variance, np.einsum("ij,ij->i", train, train), n_features)
    target = variance.sum() / n_features
    scale = (1 - shrinkage) * variance + shrinkage * target
    # All training images the same: nothing to scale.
    scale = np.sqrt(np.where(scale > 0, scale, 1.0))
    return train_points / scale, test_points / scale, shrinkage


def ledoit_wolf_shrinkage(variance: np.ndarray, squared_norm: np.ndarray, n_features: int) -> float:
    r"""How far to shrink a covariance towards a multiple of the identity.

    With the sample covariance S of n centred images and :math:`\mu = \operatorname{tr} S / d`,

    .. math:: \frac{\min(\beta, \delta)}{\delta}, \quad \delta = \lVert S \rVert_F^2 - d \mu^2, \quad
              \beta = \frac1n \left(\frac1n \sum_i \lVert x_i \rVert^4 - \lVert S \rVert_F^2\right).

    Parameters
    ----------
    variance : ndarray of float
        Eigenvalues of S, those that are 0 left out or not.
    squared_norm : ndarray of float of shape (n_images,)
        Squared length of every image.
    n_features : int
        d.

    Returns
    -------
    float
        In [0.0001, 1].

    See Also
    --------
    sklearn.covariance.ledoit_wolf_shrinkage : the same from the images.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(ledoit_wolf_shrinkage(np.array([4.5, 0.5]), (x**2).sum(axis=1), 2), 3)
    0.641
    """
    n_images = len(squared_norm)
    of_squares = float(np.sum(variance**2))
    delta = of_squares - float(variance.sum()) ** 2 / n_features
    beta = (float(np.mean(squared_norm**2)) - of_squares) / n_images
    if delta <= 0:
        return 1.0
    return float(np.clip(beta / delta, LEAST_SHRINKAGE, 1.0))


def discriminate(train: np.ndarray, member: np.ndarray, test: np.ndarray, shrinkage: float) -> np.ndarray:
    r"""Linear discriminant analysis with equal priors, for many labellings of the same images at once.

    In coordinates where the total covariance is the identity, the covariance within classes is
    :math:`W = I - (1 - a) \sum_k p_k m_k m_k^\top`, with means :math:`m_k`, class shares :math:`p_k` and shrinkage a.
    With M the matrix of means, :math:`G = M M^\top` and :math:`Q = (I - (1 - a) \operatorname{diag}(p) G)^{-1}`, the
    identity of Woodbury gives all discriminants :math:`x^\top W^{-1} m_k - \frac12 m_k^\top W^{-1} m_k` as the columns
    of :math:`x^\top M^\top Q - \frac12 \operatorname{diag}(G Q)`: no matrix larger than classes by classes is inverted.

    Parameters
    ----------
    train : ndarray of float of shape (n_train, n_coordinates)
        Centred, of unit (shrunken) covariance.
    member : ndarray of float of shape (n_cases, n_train, n_classes)
        1 where an image is of a class.
    test : ndarray of float of shape (n_test, n_coordinates)
    shrinkage : float
        a.

    Returns
    -------
    ndarray of int64 of shape (n_cases, n_test)
        Class of the largest discriminant; never one without training images.

    Examples
    --------
    >>> import numpy as np
    >>> train = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    >>> member = np.array([[[1, 0], [1, 0], [0, 1], [0, 1]]], dtype=float)
    >>> discriminate(train, member, np.array([[-0.2], [0.3]]), 0.1)
    array([[0, 1]])
    """
    n_of_class = member.sum(axis=1)
    sums = member.transpose(0, 2, 1) @ train
    means = sums / np.maximum(n_of_class, 1)[:, :, np.newaxis]
    share = (1 - shrinkage) * n_of_class / len(train)
    products = means @ means.transpose(0, 2, 1)
    mixing = np.linalg.inv(np.eye(member.shape[2]) - share[:, :, np.newaxis] * products)
    threshold = np.einsum("ckl,clk->ck", products, mixing) / 2
    score = (test @ means.transpose(0, 2, 1)) @ mixing - threshold[:, np.newaxis]
    return np.asarray(np.where(n_of_class[:, np.newaxis] > 0, score, -np.inf).argmax(axis=2))


def _recall(truth: np.ndarray, predicted: np.ndarray, n_scanners: int) -> np.ndarray:
    """Share of every scanner's images given to it, for each row; (n_rows, n_scanners)."""
    columns = []
    for number in range(n_scanners):
        own = truth == number
        columns.append(np.count_nonzero(own & (predicted == number), axis=1) / own.sum(axis=1))
    return np.stack(columns, axis=1)


def _weighted_recall(correct: np.ndarray, member: np.ndarray) -> np.ndarray:
    weight = member.sum(axis=1)
    hits = np.einsum("i,cik->ck", correct.astype(np.float64), member)
    return np.divide(hits, weight, out=np.full_like(hits, np.nan), where=weight > 0)


def _confusion(codes: np.ndarray, predicted: np.ndarray, names: list[str]) -> pd.DataFrame:
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (codes, predicted), 1)
    return pd.DataFrame(counts, index=pd.Index(names, name="scanner"), columns=pd.Index(names, name="predicted"))
