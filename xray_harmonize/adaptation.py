"""Adapt anything that was fitted, a harmonizer, a classifier or a Pipeline of them, to a new scanner."""

from __future__ import annotations

import copy
from typing import Any

from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.images import ImageSet


def adapt(model: Any, X: Any, *, scanner: ArrayLike | None = None, batch_norm: bool = False) -> Any:
    """Teach a fitted model a new scanner from unlabelled images alone.

    Parameters
    ----------
    model : harmonizer, classifier or Pipeline
        Fitted. The model itself is not changed.
    X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        Images of the new scanner, ten to fifty of them; no labels are needed.
    scanner : array-like of str of shape (n,), or str, optional
        Name of the new scanner; ``X.scanner`` where absent.
    batch_norm : bool, default=False
        Whether the classifier at the end of a Pipeline re-estimates its batch-norm statistics too. A classifier passed
        by itself always does.

    Returns
    -------
    model
        A new object of the same kind that knows the scanner as well.

    Raises
    ------
    InvalidParameterError
        If nothing in the model can learn a scanner.
    MissingScannerError
        If a step needs the scanner's name and nothing says it.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize import CDFMatching
    >>> rng = np.random.default_rng(0)
    >>> harmonizer = CDFMatching(scope="scanner").fit(rng.random((4, 8, 8)), scanner="old")
    >>> sorted(adapt(harmonizer, rng.random((4, 8, 8)) ** 2, scanner="new").statistics_)
    ['new', 'old']
    """
    images = ImageSet.of(X, scanner)
    whole = isinstance(model, Pipeline)
    if not whole and not hasattr(model, "adapt"):
        raise InvalidParameterError(
            f"{type(model).__name__} cannot learn a scanner from unlabelled images. Give a fitted harmonizer, "
            f"{_THAT_LEARNS}, a classifier that has adapt, or a Pipeline of them."
        )
    adapted = _adapted(model, images, batch_norm or not whole)
    # Who learns nothing gives itself back. To call that adapted would be to promise what nobody has done.
    if adapted is model:
        raise _nothing_learned(model)
    return adapted


_THAT_LEARNS = "such as CDFMatching(scope='scanner')"


def _nothing_learned(model: Any) -> InvalidParameterError:
    if not isinstance(model, Pipeline):
        return InvalidParameterError(
            f"{type(model).__name__} as it was fitted learns nothing of a new scanner: it treats all scanners alike. "
            f"Use it on their images as it is, or fit a method that learns scanners, {_THAT_LEARNS}."
        )
    last = model.steps[-1][1]
    tunes = hasattr(last, "adapt") and not hasattr(last, "transform")
    return InvalidParameterError(
        f"No step of the pipeline ({', '.join(name for name, _ in model.steps)}) learns anything about a scanner: it "
        f"treats all scanners alike. Use it on their images as it is, or fit one with a method that learns scanners, "
        f"{_THAT_LEARNS}{', or adapt its classifier with batch_norm=True (--batch-norm)' if tunes else ''}."
    )


def _adapted(step: Any, images: ImageSet, batch_norm: bool) -> Any:
    """Give the step as it is where it learns nothing, so that who asks can tell."""
    if not isinstance(step, Pipeline):
        learns = hasattr(step, "adapt") and (hasattr(step, "transform") or batch_norm)
        return step.adapt(images) if learns else step
    steps = []
    for place, (name, old) in enumerate(step.steps):
        new = _adapted(old, images, batch_norm)
        steps.append((name, new))
        if place < len(step.steps) - 1 and old not in (None, "passthrough"):
            images = new.transform(images)
    if all(new is old for (_, new), (_, old) in zip(steps, step.steps, strict=True)):
        return step
    adapted = copy.copy(step)
    adapted.steps = steps
    return adapted
