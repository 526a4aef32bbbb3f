"""Labels as a network takes them: the place of each among the classes, and what each class weighs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError


def encode(y: ArrayLike | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the classes of training labels.

    Parameters
    ----------
    y : array-like of shape (n,)
        Numbers or strings.
    n : int
        How many images they are for.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        In order.
    targets : ndarray of int64 of shape (n,)
        Place of each label among them.

    Raises
    ------
    InvalidParameterError
        If labels are absent, missing in part, too many, too few, or of both kinds.
    NotEnoughImagesError
        If there are fewer than two classes.

    Examples
    --------
    >>> encode(["ill", "well", "ill"], 3)
    (array(['ill', 'well'], dtype='<U4'), array([0, 1, 0]))
    """
    classes, targets = _distinct(y, n)
    if len(classes) < 2:
        raise NotEnoughImagesError(f"ResNetClassifier needs images of at least two classes; y holds {listed(classes)}.")
    return classes, targets


def encode_as(y: ArrayLike | None, n: int, classes: np.ndarray) -> np.ndarray:
    """Find the places of labels among classes that are there already; some classes may have no label.

    Parameters
    ----------
    y : array-like of shape (n,)
    n : int
        How many images they are for.
    classes : ndarray of shape (n_classes,)
        In order.

    Returns
    -------
    ndarray of int64 of shape (n,)

    Raises
    ------
    InvalidParameterError
        As :func:`encode`; also if a label is none of the classes.

    Examples
    --------
    >>> encode_as(["well", "well"], 2, np.array(["ill", "well"]))
    array([1, 1])
    """
    labels, targets = _distinct(y, n)
    known = classes.tolist()
    unknown = [label for label in labels.tolist() if label not in known]
    if unknown:
        raise InvalidParameterError(
            f"y holds {listed(unknown)}, but the classifier was fitted to the classes {listed(known)}. Leave images of "
            "other classes out, correct their labels, or fit a classifier to all classes."
        )
    places: np.ndarray = np.array([known.index(label) for label in labels.tolist()], dtype=np.int64)[targets]
    return places


def class_weights(
    class_weight: str | dict[Any, float] | None, classes: np.ndarray, targets: np.ndarray
) -> np.ndarray | None:
    """Weight of each class in the loss.

    Parameters
    ----------
    class_weight : {None, "balanced"} or dict
        By label; "balanced": inversely to the frequency among the targets, so that the mean over them is 1.
    classes : ndarray of shape (n_classes,)
    targets : ndarray of int64 of shape (n,)

    Returns
    -------
    ndarray of float32 of shape (n_classes,) or None
        None where all weigh the same. A class that no target holds weighs nothing when balanced.

    Raises
    ------
    InvalidParameterError
        If `class_weight` is none of these, or names a label that is no class.

    Examples
    --------
    >>> class_weights("balanced", np.array(["a", "b"]), np.array([0, 0, 0, 1]))
    array([0.6666667, 2.       ], dtype=float32)
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, dict):
        unknown = [label for label in class_weight if label not in classes]
        if unknown:
            raise InvalidParameterError(f"class_weight names {unknown[0]!r}; y holds {listed(classes)}.")
        return np.array([class_weight.get(label, 1.0) for label in classes.tolist()], dtype=np.float32)
    if class_weight != "balanced":
        raise InvalidParameterError(f"class_weight must be None, 'balanced' or a dict; got {class_weight!r}.")
    counts = np.bincount(targets, minlength=len(classes))
    weights = np.zeros(len(classes), dtype=np.float32)
    weights[counts > 0] = len(targets) / (np.count_nonzero(counts) * counts[counts > 0])
    return weights


def listed(names: Iterable[Any]) -> str:
    """Labels for a sentence."""
    return ", ".join(repr(name) for name in np.asarray(list(names)).tolist()) or "no labels"


def _distinct(y: ArrayLike | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    if y is None:
        raise InvalidParameterError("ResNetClassifier needs labels; y is None.")
    labels = column_or_1d(y, warn=True)
    if len(labels) != n:
        raise InvalidParameterError(f"X holds {n} images and y {len(labels)} labels.")
    if any(label is None or label != label for label in labels.tolist()):
        raise InvalidParameterError("y holds missing labels (None or NaN). Leave these images out.")
    try:
        distinct, targets = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise InvalidParameterError("y mixes numbers and strings; use one kind of label.") from error
    check_classification_targets(labels)
    return distinct, targets.astype(np.int64)
