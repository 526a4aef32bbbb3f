"""Save and load fitted estimators as one file without pickle.

A file is a zip of NumPy arrays (``.npz``) with one JSON text among them. The JSON tells classes by their public names,
parameters and learned attributes; arrays stand beside it. Loading runs no code from the file: only the classes of this
package, scikit-learn's Pipeline, and those that the caller names are ever made.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from xray_harmonize.atomic import replacing
from xray_harmonize.exceptions import PersistenceError, XRayHarmonizeWarning
from xray_harmonize.networks.devices import is_absent, is_device
from xray_harmonize.tone import ToneCurve

FORMAT = "xray_harmonize model"
FORMAT_VERSION = 1
_JSON_MEMBER = "model.json"
_MAX_JSON_BYTES = 2**26
_ANY_DEVICE = "auto"
# Deflate makes at most about 1030 bytes of one, so a file that promises more than this is lying.
_MAX_RATIO = 1100
_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


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
        If something in the estimator cannot be written; the message names the attribute. If the file cannot be.

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
    try:
        with replacing(path, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_JSON_MEMBER, json.dumps(document, indent=1, allow_nan=True))
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
    except OSError as error:
        raise PersistenceError(f"{path} cannot be written ({error.strerror or error}); check the folder.") from error


def fingerprint(estimator: BaseEstimator) -> str:
    """Tell a fitted estimator from every other by what it is: its class, its parameters and its learned state.

    Two that :func:`save` would write alike have one fingerprint, whenever and wherever they were written, and so have
    an estimator and its copy that :func:`load` gives. The order of learned entries, and of an array in memory, do not
    count; nor does the ``device`` that is computed on, which is another one on another machine.

    Parameters
    ----------
    estimator : estimator
        Whatever :func:`save` can write.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits.

    Raises
    ------
    PersistenceError
        If something in the estimator cannot be written; the message names the attribute.

    Examples
    --------
    >>> from xray_harmonize import MinMax
    >>> fingerprint(MinMax()) == fingerprint(MinMax()), fingerprint(MinMax()) == fingerprint(MinMax((1, 99)))
    (True, False)
    """
    arrays: dict[str, np.ndarray] = {}
    document = _encode(estimator, arrays, type(estimator).__name__)
    digests = {name: _digest(array) for name, array in arrays.items()}
    text = json.dumps(_canonical(document, digests), sort_keys=True, allow_nan=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _digest(array: np.ndarray) -> str:
    """Hash an array by type, shape and values; neither byte order nor memory layout counts."""
    values = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    head = f"{values.dtype.str} {values.shape} ".encode("ascii")
    return hashlib.sha256(head + values.tobytes()).hexdigest()


def _canonical(value: Any, digests: dict[str, str]) -> Any:
    """Put what :func:`_encode` gave into one order, with arrays told by what they hold."""
    if isinstance(value, list):
        return [_canonical(item, digests) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return {"array": digests[value["array"]]}
    if "dict" in value:
        pairs = [_canonical(pair, digests) for pair in value["dict"]]
        return {"dict": sorted(pairs, key=lambda pair: json.dumps(pair[0], sort_keys=True))}
    if "parameters" in value and is_device(value["parameters"].get("device")):
        value = {**value, "parameters": {**value["parameters"], "device": _ANY_DEVICE}}
    return {name: _canonical(item, digests) for name, item in value.items()}


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
        Fitted as it was saved. What was to compute on a device that this machine does not have computes on the best
        that it has (``device="auto"``), which a warning says.

    Raises
    ------
    PersistenceError
        If the file cannot be opened, is none of ours, is damaged, or names a class that is not allowed.
    """
    known = {cls.__name__: cls for cls in [Pipeline, ToneCurve, *classes]}
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, Path(path).stat().st_size)
            document = json.loads(archive.read(_JSON_MEMBER))
            if document.get("format") != FORMAT:
                raise ValueError("its JSON does not say that it is one")
            if document["version"] > FORMAT_VERSION:
                raise PersistenceError(
                    f"{path} was written by a newer version of xray_harmonize (format {document['version']}; this one "
                    f"reads up to {FORMAT_VERSION}). Update the package."
                )
            moved = dict.fromkeys(_moved(document["model"]))
            estimator = _decode(document["model"], archive, known)
    except PersistenceError:
        raise
    except OSError as error:
        raise PersistenceError(f"{path} cannot be opened ({error.strerror or error}); check the path.") from error
    except Exception as error:  # what damaged bytes make zip, JSON, NumPy and constructors raise is no finite list
        raise PersistenceError(f"{path} is no saved model of xray_harmonize, or is damaged: {error}") from error
    _tell_moved(moved)
    return estimator


def _moved(value: Any) -> Iterator[tuple[str, str]]:
    """Set absent devices of estimators in the JSON to any, wherever they stand; give each class and its device."""
    if isinstance(value, list):
        for item in value:
            yield from _moved(item)
    elif isinstance(value, dict):
        parameters = value["parameters"] if "class" in value and "parameters" in value else {}
        if is_absent(parameters.get("device")):
            yield value["class"], parameters["device"]
            parameters["device"] = _ANY_DEVICE
        for item in value.values():
            yield from _moved(item)


def _tell_moved(moved: Iterable[tuple[str, str]]) -> None:
    for name, device in moved:
        # Only where there is an absent device: a network is there, and PyTorch with it.
        from xray_harmonize.training import resolve_device

        warnings.warn(
            f"{name} was fitted on {device!r}, which this machine does not have; it computes on "
            f"{str(resolve_device(_ANY_DEVICE))!r} here (device={_ANY_DEVICE!r}).",
            XRayHarmonizeWarning,
            stacklevel=3,
        )


def _check_sizes(archive: zipfile.ZipFile, n_bytes: int) -> None:
    """Refuse a file of ``n_bytes`` that claims more than it can hold, before memory is taken for it."""
    claimed = sum(member.file_size for member in archive.infolist())
    if claimed > _MAX_RATIO * n_bytes:
        raise ValueError(f"it claims to hold {claimed} bytes, more than its {n_bytes} can")
    text = archive.getinfo(_JSON_MEMBER).file_size
    if text > _MAX_JSON_BYTES:
        raise ValueError(f"its JSON has {text} bytes, expected at most {_MAX_JSON_BYTES}")


def _encode(value: Any, arrays: dict[str, np.ndarray], place: str) -> Any:
    """Turn a value into JSON, setting arrays aside; ``place`` is what an error calls it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _encode(value.item(), arrays, place)
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OT":  # labels: strings, or numbers in an object array
            return {"objects": _encode(value.ravel().tolist(), arrays, place), "shape": list(value.shape)}
        if not value.dtype.hasobject:
            # What stands in two places, as a frozen classifier that is also a parameter, is stored once.
            name = next((name for name, array in arrays.items() if array is value), f"array_{len(arrays)}")
            arrays[name] = value
            return {"array": name}
    if isinstance(value, tuple):
        return {"tuple": _encode(list(value), arrays, place)}
    if isinstance(value, list):
        return [_encode(item, arrays, f"{place}[{i}]") for i, item in enumerate(value)]
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
        return _read_array(archive, f"{value['array']}.npy")
    if "objects" in value:
        array = np.empty(len(value["objects"]), dtype=object)
        for i, item in enumerate(value["objects"]):  # one by one, as NumPy would take lists for further axes
            array[i] = _decode(item, archive, known)
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
        if name.startswith("_") or not name.endswith("_"):
            raise ValueError(f"{name} is no name of a learned attribute")
        setattr(estimator, name, _decode(learned, archive, known))
    return estimator


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read an array whose header agrees with the size of its member: NumPy believes the header and allocates."""
    member = archive.getinfo(name)
    with archive.open(member) as stream:
        shape, _, dtype = _HEADER_READERS[np.lib.format.read_magic(stream)](stream)
        expected, there = math.prod(shape) * dtype.itemsize, member.file_size - stream.tell()
    if expected != there:
        raise ValueError(f"{name} holds {there} bytes, expected {expected} for {dtype} of shape {shape}")
    with archive.open(member) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
        return array


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
