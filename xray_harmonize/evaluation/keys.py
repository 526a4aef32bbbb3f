"""What the result of a computation depends on, told apart: images and labels, estimators and candidates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from xray_harmonize.images import ImageSet


def digest(*facts: Any) -> str:
    """Digest of anything that :func:`described` describes; equal facts have equal digests in every process.

    Examples
    --------
    >>> from xray_harmonize import MinMax
    >>> digest("fit", MinMax()) == digest("fit", MinMax()) != digest("fit", MinMax((1, 99)))
    True
    """
    return hashlib.sha256(json.dumps(described(facts)).encode()).hexdigest()


def described(value: Any) -> Any:
    """Describe a value in full as JSON: estimators by class, parameters and learned state, most else by ``repr``.

    The ``repr`` of an estimator would not do, since scikit-learn shortens long ones and leaves out what was learned.

    Examples
    --------
    >>> from xray_harmonize import FullRange
    >>> described([FullRange(), {"augment": None}])
    [['xray_harmonize.harmonizers.linear.FullRange', []], [['augment', 'None']]]
    """
    if isinstance(value, BaseEstimator):
        kind = type(value)
        facts = [f"{kind.__module__}.{kind.__qualname__}", described(value.get_params(deep=False))]
        # How long the epochs of a training took has no part in what came out.
        learned = {
            name: fact
            for name, fact in vars(value).items()
            if name.endswith("_") and not name.startswith("_") and name != "history_"
        }
        return [*facts, described(learned)] if learned else facts
    if is_dataclass(value) and not isinstance(value, type):
        return [[field.name, described(getattr(value, field.name))] for field in fields(value)]
    if isinstance(value, Mapping):
        return [
            [str(key), _file(item) if str(key).endswith("weights") else described(item)]
            for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))
        ]
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "O":
            return [str(value.dtype), repr(value.tolist())]
        # A fitted network is millions of numbers, too many to write down.
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    return repr(value)


def fingerprint(X: ImageSet, y: np.ndarray) -> str:
    """Digest of images with all that is known about them, and of their labels.

    Parameters
    ----------
    X : ImageSet
    y : ndarray of shape (n,)

    Returns
    -------
    str
        Images that are files as they lie there are told by path, size and time, which is quick; all others by their
        pixels, bits and masks.

    Raises
    ------
    ImageReadError
        If a file is missing or cannot be read.
    """
    total = hashlib.sha256(digest(y, X.scanner, X.patient, X.meta.to_csv()).encode())
    for i in range(len(X)):
        # The first part of a file's key is its path; of a computed image it is something else.
        key = X.source_key(i)
        path = key[0] if X.is_lazy else None
        if path is not None and Path(path).is_file():
            total.update(json.dumps([_file(path), key[2]]).encode())
            continue
        radiograph = X.radiograph(i)
        pixels, mask = radiograph.pixels, radiograph.mask
        total.update(f"{pixels.dtype.str} {pixels.shape} {radiograph.bits_stored} {mask is None}".encode())
        total.update(np.ascontiguousarray(pixels).data)
        if mask is not None:
            total.update(np.ascontiguousarray(mask).data)
    return total.hexdigest()


def _file(path: Any) -> Any:
    """Tell a file from what it was before it was written anew."""
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return repr(path)
    status = Path(path).stat()
    return [str(path), status.st_size, status.st_mtime_ns]
