"""Everything that is fitted within one split, each thing once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from xray_harmonize.evaluation.candidates import Candidate
from xray_harmonize.evaluation.keys import digest
from xray_harmonize.evaluation.splits import FIXED, Split, scanners_of
from xray_harmonize.exceptions import XRayHarmonizeWarning
from xray_harmonize.images import ImageSet

Fitted = TypeVar("Fitted")

_INTERRUPTED = ".* was interrupted after"


class SplitFits:
    """Harmonizers fitted in one split, and the classifiers that they learn by; kept until the split is done.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Class labels of all images.
    split : Split
    reference : str or None
        Scanner that harmonizers bring images to.
    """

    def __init__(self, y: np.ndarray, split: Split, reference: str | None) -> None:
        self.y = y
        self.split = split
        self.reference = reference
        self._harmonizers: dict[str, Pipeline] = {}
        self._discriminators: dict[str, Any] = {}

    def harmonizer(self, candidate: Candidate, X: ImageSet, positions: np.ndarray, classifier: Any) -> Pipeline:
        """Fit the steps of a candidate to some images with their labels, unless that was done before.

        Parameters
        ----------
        candidate : Candidate
        X : ImageSet
            All images, after the candidate's geometry.
        positions : ndarray of int
            Which of them to fit to.
        classifier : estimator
            The classifier of the split. Under the fixed protocol, steps that learn by the answers of a classifier learn
            by this one; otherwise by one like it that is fitted to the reference's training images alone.

        Returns
        -------
        Pipeline
            Fitted; not to be changed.

        Raises
        ------
        KeyboardInterrupt
            Also where a step took it for a wish to stop early.
        """
        shared = candidate.training_key() if candidate.needs_discriminator else ""
        key = digest(candidate.geometry, candidate.steps, positions, shared)
        if key not in self._harmonizers:
            discriminator = self._discriminator(candidate, X, classifier) if candidate.needs_discriminator else None
            if discriminator is not None and hasattr(discriminator, "classes_"):
                # By a class that the classifier has never seen nothing can be learned.
                positions = positions[np.isin(self.y[positions], discriminator.classes_)]
            steps = candidate.harmonizer(self.reference, discriminator, self.split.seed)
            # Of images beyond the training images, a method that may not see labels is given none.
            labels = None if candidate.fits_to_all else self.y[positions]
            self._harmonizers[key] = whole(lambda: steps.fit(X[positions], labels))
        return self._harmonizers[key]

    def _discriminator(self, candidate: Candidate, X: ImageSet, classifier: Any) -> Any:
        if self.split.protocol == FIXED:
            return classifier
        if self.reference is None:
            # Which scanner is the reference is known once the harmonizer has counted; it trains one for itself.
            return clone(classifier)
        key = candidate.training_key()
        if key not in self._discriminators:
            train = self.split.train[scanners_of(X)[self.split.train] == self.reference]
            model: BaseEstimator = clone(classifier)
            self._discriminators[key] = whole(lambda: model.fit(X[train], self.y[train]))
        return self._discriminators[key]


def whole(train: Callable[[], Fitted]) -> Fitted:
    """Train something, and take an interruption for one, even where it was taken for a wish to stop early.

    Raises
    ------
    KeyboardInterrupt
        Half a training is none in a comparison.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", _INTERRUPTED, XRayHarmonizeWarning)
        try:
            trained = train()
        except XRayHarmonizeWarning as warning:
            if re.match(_INTERRUPTED, str(warning)):
                raise KeyboardInterrupt from warning
            raise
    if getattr(trained, "interrupted_", False):
        raise KeyboardInterrupt
    return trained
