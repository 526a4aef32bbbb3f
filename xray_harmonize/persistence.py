"""Save and load fitted estimators as one file without pickle.

A file is a zip of NumPy arrays (``.npz``) with one JSON text among them. The JSON tells classes by their public names,
parameters and learned attributes; arrays stand beside it. Loading runs no code from the file: only the classes of this
package, scikit-learn's Pipeline, and those that the caller names are ever made.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from xray_harmonize.atomic import replacing
from xray_harmonize.exceptions import PersistenceError
from xray_harmonize.tone import ToneCurve

FORMAT = "xray_harmonize model"
FORMAT_VERSION = 1
_JSON_MEMBER = "model.json"


def save(estimator: BaseEstimator, path: str | Path) -> None:
    """Write a fitted estimator, or a Pipeline of them, to one file.

    The file appears whole or not at all.

    Parameters
    ----------
    estimator : estimator
        A harmonizer, classifier or Pipeline whose parameters and learned state are numbers, strings, arrays, and lists
        or dicts of these.
    path : path
        Where to write, by convention ending in ``.npz``.

    Raises
    ------
    PersistenceError
        If something in the estimator cannot be written; the message names the attribute.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from xray_harmonize import MinMax, load
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "harmonizer.npz"
    >>> save(MinMax().fit(np.ones((2, 3, 3))), path)
    >>> load(path)
    MinMax()
    """
    arrays: dict[str, np.ndarray] = {}
    document = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model": _encode(estimator, arrays, type(estimator).__name__),
    }
    with replacing(path, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_JSON_MEMBER, json.dumps(document, indent=1, allow_nan=True))
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(path: str | Path, *, classes: Iterable[type] = ()) -> Any:
    """Read an estimator that :func:`save` wrote.

    Parameters
    ----------
    path : path
        File to read.
    classes : iterable of type
        Estimator classes beyond this package's that the file may hold, for example a harmonizer of one's own.

    Returns
    -------
    estimator
        Fitted as it was saved.

    Raises
    ------
    PersistenceError
        If the file is none of ours, is damaged, or names a class that is not allowed.
    """
    known = {cls.__name__: cls for cls in [Pipeline, ToneCurve, *classes]}
    try:
        with zipfile.ZipFile(path) as archive:
            document = json.loads(archive.read(_JSON_MEMBER))
            if document.get("format") != FORMAT:
                raise PersistenceError(f"{path} is no saved model of xray_harmonize.")
            if document["version"] > FORMAT_VERSION:
                raise PersistenceError(
                    f"{path} was written by a newer version of xray_harmonize (format {document['version']}; this one "
                    f"reads up to {FORMAT_VERSION}). Update the package."
                )
            return _decode(document["model"], archive, known)
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, UnicodeDecodeError, EOFError, AttributeError) as error:
        raise PersistenceError(f"{path} is no saved model of xray_harmonize, or is damaged: {error}") from error


def _encode(value: Any, arrays: dict[str, np.ndarray], place: str) -> Any:
    """Turn a value into JSON, setting arrays aside; ``place`` is what an error calls it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _encode(value.item(), arrays, place)
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "O":  # labels: strings, or numbers in an object array
            return {"objects": [_encode(item, arrays, place) for item in value.ravel()], "shape": list(value.shape)}
        name = f"array_{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, arrays, place) for item in value]}
    if isinstance(value, list):
        return [_encode(item, arrays, place) for item in value]
    if isinstance(value, dict):
        return {"dict": [[_encode(k, arrays, place), _encode(v, arrays, f"{place}[{k!r}]")] for k, v in value.items()]}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, ToneCurve):
        return {"class": "ToneCurve", "x": _encode(value.x, arrays, place), "y": _encode(value.y, arrays, place)}
    if isinstance(value, BaseEstimator):
        parameters = value.get_params(deep=False)
        learned = {k: v for k, v in vars(value).items() if k.endswith("_") and not k.startswith("_")}
        return {
            "class": type(value).__name__,
            "parameters": {k: _encode(v, arrays, f"{place}.{k}") for k, v in parameters.items()},
            "learned": {k: _encode(v, arrays, f"{place}.{k}") for k, v in learned.items()},
        }
    raise PersistenceError(
        f"{place} is a {type(value).__name__}, which this format cannot hold; it holds numbers, strings, arrays, "
        "lists, dicts and estimators. Use joblib.dump instead, or keep such objects out of the estimator."
    )


def _decode(value: Any, archive: zipfile.ZipFile, known: dict[str, type]) -> Any:
    if isinstance(value, list):
        return [_decode(item, archive, known) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        with archive.open(f"{value['array']}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    if "objects" in value:
        array = np.empty(len(value["objects"]), dtype=object)
        array[:] = [_decode(item, archive, known) for item in value["objects"]]
        return array.reshape(value["shape"])
    if "tuple" in value:
        return tuple(_decode(item, archive, known) for item in value["tuple"])
    if "dict" in value:
        return {_decode(k, archive, known): _decode(v, archive, known) for k, v in value["dict"]}
    cls = _class(value["class"], known)
    if cls is ToneCurve:
        return ToneCurve(_decode(value["x"], archive, known), _decode(value["y"], archive, known))
    estimator = cls(**{k: _decode(v, archive, known) for k, v in value["parameters"].items()})
    for name, learned in value["learned"].items():
        setattr(estimator, name, _decode(learned, archive, known))
    return estimator


def _class(name: str, known: dict[str, type]) -> type:
    if name in known:
        return known[name]
    import xray_harmonize

    cls = getattr(xray_harmonize, name) if name in xray_harmonize.__all__ else None
    if not (isinstance(cls, type) and issubclass(cls, BaseEstimator)):
        raise PersistenceError(
            f"The file holds a {name}, which is no estimator of xray_harmonize. "
            f"If you trust it, pass load(path, classes=[{name}])."
        )
    return cls
