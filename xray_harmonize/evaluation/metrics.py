"""How well a classifier does on each scanner, with intervals that resample patients.

:func:`auc` and :func:`worst_group_accuracy` are figures of one set of predictions.
:func:`confusion_matrices` and :func:`scanner_scores` tell of every scanner,
:func:`paired_difference` compares two methods on the same patients; they take the table that
:func:`prediction_table` makes.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix

from xray_harmonize.evaluation.predictions import (
    by_scanner,
    check_proba,
    class_codes,
    prediction_table,
)
from xray_harmonize.evaluation.scores import WORST, paired_difference, scanner_scores
from xray_harmonize.evaluation.weighted import METRICS, weighted_macro_auc
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError

__all__ = [
    "METRICS",
    "WORST",
    "auc",
    "confusion_matrices",
    "paired_difference",
    "prediction_table",
    "scanner_scores",
    "worst_group_accuracy",
]


def worst_group_accuracy(y_true: ArrayLike, y_pred: ArrayLike, groups: ArrayLike | None = None) -> float:
    """Lowest recall of any class on any scanner.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_images,)
        True and predicted labels.
    groups : array-like of shape (n_images,), optional
        Scanner of each image; without it all images are one group.

    Returns
    -------
    recall : float
        In [0, 1]. Classes that a scanner does not hold are left out for it, and a class that is
        predicted but never true has no recall.

    Raises
    ------
    InvalidParameterError
        If lengths differ, a label is missing, or numbers are compared with strings.
    NotEnoughImagesError
        If there is no image.

    References
    ----------
    .. [1] S. Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020.

    Examples
    --------
    >>> from xray_harmonize.evaluation.metrics import worst_group_accuracy
    >>> worst_group_accuracy([0, 0, 1, 1, 1], [0, 1, 1, 1, 1])
    0.5
    >>> worst_group_accuracy([0, 0, 1, 1, 1], [0, 1, 1, 1, 1], groups=["a", "b", "a", "b", "b"])
    0.0
    """
    truth, predicted = (pd.Series(np.asarray(y)).infer_objects() for y in (y_true, y_pred))
    group = pd.Series(0, index=truth.index) if groups is None else pd.Series(np.asarray(groups))
    if not len(truth) == len(predicted) == len(group):
        raise InvalidParameterError(
            f"y_true, y_pred and groups must have the same length; got {len(truth)}, {len(predicted)} and {len(group)}."
        )
    if truth.empty:
        raise NotEnoughImagesError("worst_group_accuracy needs at least one image; got none.")
    for name, values in (("y_true", truth), ("y_pred", predicted), ("groups", group)):
        if values.isna().any():
            raise InvalidParameterError(
                f"{name} has no value for image {values.isna().argmax()}. Leave that image out."
            )
    # Compared elementwise, 1 and "1" would silently be an error of the classifier.
    if pd.api.types.is_numeric_dtype(truth) != pd.api.types.is_numeric_dtype(predicted):
        raise InvalidParameterError(
            f"y_true ({truth.dtype}) and y_pred ({predicted.dtype}) must both be numbers or both "
            "be strings. Convert one of them."
        )
    return float((truth == predicted).groupby([group, truth]).mean().min())


def auc(y_true: ArrayLike, proba: ArrayLike, classes: ArrayLike) -> float:
    """Area under the ROC curve: of the second class of two, or macro one-versus-rest of more.

    Only the classes that are there take part. Where some are absent, each class is ranked by its
    odds against the *other classes present*: given that only these occur, that is the order of the
    posterior probability, and for two present classes it is one binary area, the same whichever of
    them is called positive.

    Parameters
    ----------
    y_true : array-like of shape (n_images,)
        True labels, each among `classes`.
    proba : array-like of shape (n_images, n_classes), or (n_images,) for two classes
        Class probabilities; one column is the probability of the second class.
    classes : array-like of shape (n_classes,)
        Class of each column, as in ``classes_``.

    Returns
    -------
    area : float
        In [0, 1]; NaN if only one class is there.

    Raises
    ------
    InvalidParameterError
        If `proba` holds no probabilities or a label is not among `classes`.

    See Also
    --------
    sklearn.metrics.roc_auc_score : the same where all classes are present.

    Notes
    -----
    A scanner on which only two of four classes were collected must not be scored by column 1 of the
    four: what a good classifier puts there can fall as it grows surer.

    Examples
    --------
    >>> from xray_harmonize.evaluation.metrics import auc
    >>> auc(["b", "b", "c"], [[0, 0.9, 0.1, 0], [0, 0.6, 0.4, 0], [0, 0.1, 0.2, 0.7]], list("abcd"))
    1.0
    """
    names = np.atleast_1d(np.asarray(classes))
    truth = class_codes(y_true, names, "y_true")
    probabilities = check_proba(proba, len(truth), names)
    return float(weighted_macro_auc(truth, probabilities, np.ones((1, len(truth))))[0])


def confusion_matrices(predictions: pd.DataFrame) -> pd.DataFrame:
    """Confusion matrix of every scanner, over all classes whether the scanner holds them or not.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`~xray_harmonize.evaluation.predictions.prediction_table` makes it.

    Returns
    -------
    confusion : DataFrame
        Rows ``(scanner, label)``, columns the predicted class; numbers of images. One that several
        seeds score counts in parts. ``confusion.loc[scanner]`` is the matrix of one scanner.

    Raises
    ------
    LabelTableError
        If the table cannot be scored.

    Examples
    --------
    >>> from xray_harmonize.evaluation.metrics import confusion_matrices, prediction_table
    >>> table = prediction_table([0, 1, 1], [0.2, 0.4, 0.9], [0, 1], scanner="delhi")
    >>> confusion_matrices(table).loc["delhi"].to_numpy()
    array([[1., 0.],
           [1., 1.]])
    """
    classes, scanners = by_scanner(predictions)
    matrices = {}
    for one in scanners:
        share = 1 / np.bincount(np.concatenate([seed.rows for seed in one.seeds]))
        counts = sum(
            confusion_matrix(
                one.truth[seed.rows],
                seed.predicted,
                labels=np.arange(len(classes)),
                sample_weight=share[seed.rows],
            )
            for seed in one.seeds
        )
        matrices[one.scanner] = pd.DataFrame(
            counts,
            index=pd.Index(classes, name="label"),
            columns=pd.Index(classes, name="predicted"),
            dtype=np.float64,
        )
    return pd.concat(matrices, names=["scanner"])
