"""The table of predictions: one row an image and a seed, from which every figure is computed.

Columns: ``image`` (what names it, unique within a scanner and seed), ``scanner``, ``patient``,
``seed`` (which of several fits made the prediction), ``label`` (the truth), ``predicted`` and one
``proba_<class>`` a class. Labels and classes are compared as strings, so that a table that went
through a CSV file gives the same figures.

Seeds may score the same images, or each its own fold of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xray_harmonize.exceptions import InvalidParameterError, LabelTableError

__all__ = ["ScannerPredictions", "by_scanner", "check_proba", "class_codes", "prediction_table"]

PROBABILITY_PREFIX = "proba_"


@dataclass(frozen=True, slots=True, eq=False)
class SeedPredictions:
    """What one fit says about images of a scanner.

    Parameters
    ----------
    rows : ndarray of int64 of shape (n_scored,)
        Positions among the scanner's images: all of them, or those of a fold.
    predicted : ndarray of int64 of shape (n_scored,)
        Class numbers.
    proba : ndarray of float64 of shape (n_scored, n_classes)
        Class probabilities.
    """

    rows: np.ndarray
    predicted: np.ndarray
    proba: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class ScannerPredictions:
    """What several fits say about the images of one scanner.

    Parameters
    ----------
    scanner : str
        Its name.
    image : ndarray of object of shape (n_images,)
        What names each image, sorted; positions in the table where it has no such column.
    patient : ndarray of object of shape (n_images,)
        Patient labels, None where not known.
    truth : ndarray of int64 of shape (n_images,)
        Class numbers.
    seeds : list of SeedPredictions
        One a fit.
    """

    scanner: str
    image: np.ndarray
    patient: np.ndarray
    truth: np.ndarray
    seeds: list[SeedPredictions]


def prediction_table(
    y_true: ArrayLike,
    proba: ArrayLike,
    classes: ArrayLike,
    *,
    scanner: ArrayLike,
    patient: ArrayLike | None = None,
    image: ArrayLike | None = None,
    seed: Any = 0,
    y_pred: ArrayLike | None = None,
) -> pd.DataFrame:
    """Put the predictions of one fit into a table; ``pandas.concat`` puts several fits together.

    Parameters
    ----------
    y_true : array-like of shape (n_images,)
        True labels.
    proba : array-like of shape (n_images, n_classes), or (n_images,) for two classes
        What ``predict_proba`` gives; one column is the probability of the second class.
    classes : array-like of shape (n_classes,)
        Class of each column, as in ``classes_``.
    scanner : str or array-like of shape (n_images,)
        Scanner of each image.
    patient : array-like of shape (n_images,), optional
        Patient of each image; by default each image is a patient of its own.
    image : array-like of shape (n_images,), optional
        What names each image; by default its position.
    seed : scalar, default=0
        Which fit this is.
    y_pred : array-like of shape (n_images,), optional
        Predicted labels; by default the most probable class.

    Returns
    -------
    predictions : DataFrame
        Columns image, scanner, patient, seed, label, predicted and ``proba_<class>``.

    Raises
    ------
    InvalidParameterError
        If `proba` holds no probabilities, a label is not among `classes`, or lengths differ.

    Examples
    --------
    >>> from xray_harmonize.evaluation.predictions import prediction_table
    >>> proba = [[0.9, 0.1], [0.3, 0.7]]
    >>> table = prediction_table(["no", "yes"], proba, ["no", "yes"], scanner="delhi")
    >>> table.columns.tolist()
    ['image', 'scanner', 'patient', 'seed', 'label', 'predicted', 'proba_no', 'proba_yes']
    >>> table.predicted.tolist()
    ['no', 'yes']
    """
    labels = np.asarray(y_true)
    names = np.asarray(classes)
    probabilities = check_proba(proba, len(labels), names)
    class_codes(labels, names, "y_true")
    predicted = names[probabilities.argmax(axis=1)] if y_pred is None else np.asarray(y_pred)
    class_codes(predicted, names, "y_pred")
    columns = {
        "image": np.arange(len(labels)) if image is None else np.asarray(image),
        "scanner": np.full(len(labels), scanner) if isinstance(scanner, str) else np.asarray(scanner),
        "patient": np.full(len(labels), None) if patient is None else np.asarray(patient),
        "seed": np.full(len(labels), seed),
        "label": labels,
        "predicted": predicted,
    }
    for name, values in columns.items():
        if values.shape != labels.shape:
            raise InvalidParameterError(
                f"{name} must hold one value an image, shape {labels.shape}; got {values.shape}."
            )
    table = pd.DataFrame(columns)
    for column, class_name in enumerate(names):
        table[f"{PROBABILITY_PREFIX}{class_name}"] = probabilities[:, column]
    return table


def by_scanner(predictions: pd.DataFrame) -> tuple[list[str], list[ScannerPredictions]]:
    """Take a table of predictions apart.

    Parameters
    ----------
    predictions : DataFrame
        As :func:`prediction_table` makes it. ``patient``, ``image``, ``seed`` and ``predicted`` may
        be missing.

    Returns
    -------
    classes : list of str
        In the order of the probability columns.
    scanners : list of ScannerPredictions
        In the order of the scanners' names.

    Raises
    ------
    LabelTableError
        If a column is missing, a cell is empty or impossible, an image comes twice in a seed, or
        with different labels or patients.
    """
    table = predictions.reset_index(drop=True)
    prefix = len(PROBABILITY_PREFIX)
    proba_columns = [name for name in table.columns if str(name).startswith(PROBABILITY_PREFIX)]
    classes = [str(name)[prefix:] for name in proba_columns]
    _check_columns(table, proba_columns)
    try:
        proba = check_proba(table[proba_columns].to_numpy(), len(table), classes)
        truth = class_codes(table["label"], classes, "label")
        if "predicted" in table:
            predicted = class_codes(table["predicted"], classes, "predicted")
        else:
            predicted = proba.argmax(axis=1)
    except InvalidParameterError as error:
        raise LabelTableError(f"The predictions cannot be scored: {error}") from error
    seed = _texts(table, "seed", "0")
    if "image" in table:
        image = _texts(table, "image", "")
    elif len(np.unique(seed)) == 1:
        image = np.arange(len(table)).astype(object)
    else:
        raise LabelTableError(
            "Predictions of several seeds need a column 'image' that tells which rows are the same "
            f"image; the columns are {', '.join(map(str, table.columns))}."
        )
    scanner = _texts(table, "scanner", "")
    if "patient" in table:
        patient = table["patient"].to_numpy(dtype=object)
    else:
        patient = np.full(len(table), None, dtype=object)
    scanners = []
    for name in np.unique(scanner).tolist():
        own = np.flatnonzero(scanner == name)
        names, first, position = np.unique(image[own], return_index=True, return_inverse=True)
        for what, values in (("label", truth), ("patient", patient.astype(str))):
            _check_unchanged(name, image[own], what, values[own], values[own[first]][position])
        seeds = []
        for value in np.unique(seed[own]).tolist():
            of_seed = np.flatnonzero(seed[own] == value)
            of_seed = of_seed[np.argsort(position[of_seed], kind="stable")]
            _check_once(name, value, image[own[of_seed]])
            rows = own[of_seed]
            seeds.append(SeedPredictions(position[of_seed], predicted[rows], proba[rows]))
        scanners.append(ScannerPredictions(name, names, patient[own[first]], truth[own[first]], seeds))
    return classes, scanners


def check_proba(proba: ArrayLike, n_images: int, classes: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return class probabilities as float64 of shape (n_images, n_classes), or a clear error."""
    array = np.asarray(proba, dtype=np.float64)
    if array.ndim == 1 and len(classes) == 2:
        array = np.column_stack([1 - array, array])
    if array.shape != (n_images, len(classes)):
        raise InvalidParameterError(
            f"proba must have shape ({n_images}, {len(classes)}), one row an image and one column "
            f"a class; got {np.shape(proba)}."
        )
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise InvalidParameterError(
            f"proba is not finite for {bad.sum()} of {n_images} images (the first is image "
            f"{bad.argmax()}). Look at what the classifier was given."
        )
    # Half-precision networks are off by up to one percent.
    if n_images and ((array < 0).any() or np.abs(array.sum(axis=1) - 1).max() > 0.01):
        raise InvalidParameterError(
            "proba must hold probabilities: each row non-negative with sum 1. Give predict_proba's "
            "result, not decision scores."
        )
    return array


def class_codes(labels: ArrayLike, classes: Sequence[Any] | np.ndarray, name: str) -> np.ndarray:
    """Return the number of each label in `classes`, both compared as strings; int64 of shape (n_images,)."""
    index = pd.Index([str(label) for label in classes])
    if not index.is_unique:
        raise InvalidParameterError(f"classes must differ from each other; got {list(index)}.")
    values = np.asarray(labels)
    if values.ndim != 1:
        raise InvalidParameterError(f"{name} must be one-dimensional; got shape {values.shape}.")
    codes = index.get_indexer(pd.Index([str(label) for label in values], dtype=object))
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        raise InvalidParameterError(
            f"{name} holds {values[unknown[0]]!s} (at {unknown[0]}), which is not among the classes {', '.join(index)}."
        )
    return codes.astype(np.int64)


def _check_columns(table: pd.DataFrame, proba_columns: list[Any]) -> None:
    missing = [name for name in ("scanner", "label") if name not in table]
    if len(proba_columns) < 2:
        missing.append(f"{PROBABILITY_PREFIX}<class>, one a class and at least two")
    if missing:
        raise LabelTableError(
            f"Predictions lack {' and '.join(missing)}; the columns are "
            f"{', '.join(map(str, table.columns))}. prediction_table makes such a table."
        )
    if table.empty:
        raise LabelTableError("Predictions hold no row, so there is nothing to score.")
    for name in ("scanner", "label"):
        empty = np.flatnonzero(table[name].isna())
        if len(empty):
            raise LabelTableError(f"Predictions have an empty {name} in row {empty[0]}.")


def _texts(table: pd.DataFrame, name: str, default: str) -> np.ndarray:
    if name not in table:
        return np.full(len(table), default, dtype=object)
    return np.array([str(value) for value in table[name]], dtype=object)


def _check_once(scanner: str, seed: str, image: np.ndarray) -> None:
    repeated = np.flatnonzero(image[1:] == image[:-1])
    if len(repeated):
        raise LabelTableError(
            f"Image {image[repeated[0]]!r} of scanner {scanner!r} comes twice in seed {seed}. Name every image once."
        )


def _check_unchanged(scanner: str, image: np.ndarray, what: str, values: np.ndarray, first: np.ndarray) -> None:
    differs = np.flatnonzero(values != first)
    if len(differs):
        raise LabelTableError(
            f"Image {image[differs[0]]!r} of scanner {scanner!r} comes with two values of {what}; it can have one."
        )
