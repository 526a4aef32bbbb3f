"""Fitted Pipelines to deploy, from the candidates of a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from xray_harmonize.adaptation import adapt
from xray_harmonize.evaluation.candidates import LABELLED, Candidate
from xray_harmonize.evaluation.keys import digest
from xray_harmonize.evaluation.protocols import classifier_for, train_classifier
from xray_harmonize.evaluation.split_fits import SplitFits, whole
from xray_harmonize.evaluation.splits import FIXED, Split
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.images import ImageSet


class Deployment:
    """Fits candidates on all images that a protocol trains on, each part once, and lets them learn every scanner.

    Parameters
    ----------
    X : ImageSet
        With scanner labels.
    y : ndarray of shape (n,)
    protocol : str
        Under the fixed protocol the classifier is trained on the reference alone; otherwise on all scanners.
    classifier : estimator
        Unfitted.
    reference : str
    seed : int, default=0
    """

    def __init__(
        self, X: ImageSet, y: np.ndarray, *, protocol: str, classifier: BaseEstimator, reference: str, seed: int = 0
    ) -> None:
        assert X.scanner is not None
        self.X = X
        self.y = y
        self.classifier = classifier
        self.reference = reference
        self._is_reference = X.scanner == reference
        train = np.flatnonzero(self._is_reference) if protocol == FIXED else np.arange(len(X))
        self.split = Split(protocol, "all", seed, train, np.arange(0))
        self._fits = SplitFits(y, self.split, reference)
        self._classifiers: dict[str, Any] = {}
        self._harmonizers: dict[str, Pipeline] = {}
        self._shapes: dict[str, ImageSet] = {}

    def pipeline(self, candidate: Candidate) -> Pipeline:
        """Give geometry, harmonizer and classifier, fitted.

        Parameters
        ----------
        candidate : Candidate

        Returns
        -------
        Pipeline
            Its steps are those of the candidate, then ``"classifier"``.

        Raises
        ------
        InvalidParameterError
            If the candidate changes the classifier for a single scanner, so that it serves no other.
        """
        if not candidate.serves_every_scanner:
            raise InvalidParameterError(
                f"{candidate.name!r} changes the classifier for one scanner, and a pipeline serves all. Deploy a "
                "method that leaves the classifier as it is, or adapt or fine-tune a classifier for each scanner."
            )
        geometry = candidate.geometry_pipeline()
        # Stateless: fitted for scikit-learn's sake.
        first = [] if geometry is None else geometry.fit(self.X).steps
        classifier = self._trained(candidate, self._shaped(candidate))
        return Pipeline([*first, *self.harmonizer(candidate).steps, ("classifier", classifier)])

    def harmonizer(self, candidate: Candidate) -> Pipeline:
        """Give the harmonizer of a candidate, fitted, for images after its geometry; it knows every scanner.

        A method that sees labelled images of the test scanner under the fixed protocol, or is fitted to images of all
        scanners together, has seen those of all scanners.
        """
        key = digest(candidate)
        if key not in self._harmonizers:
            X = self._shaped(candidate)
            fixed = self.split.protocol == FIXED
            labelled = fixed and candidate.sees == LABELLED
            positions = np.arange(len(X)) if labelled or candidate.fits_to_all else self.split.train
            needs_trained = fixed and candidate.needs_discriminator
            classifier = (
                self._trained(candidate, X) if needs_trained else classifier_for(candidate, self.classifier, self.split)
            )
            harmonizer = self._fits.harmonizer(candidate, X, positions, classifier)
            if fixed and not labelled and candidate.learns_scanners and not self._is_reference.all():
                fitted = harmonizer
                harmonizer = whole(lambda: adapt(fitted, X[~self._is_reference]))
            self._harmonizers[key] = harmonizer
        return self._harmonizers[key]

    def _trained(self, candidate: Candidate, X: ImageSet) -> Any:
        key = candidate.training_key() + ("" if self.split.protocol == FIXED else digest(candidate.steps))
        if key not in self._classifiers:
            self._classifiers[key] = train_classifier(
                candidate, X, self.y, self.split, self.classifier, self.reference, self._fits
            )
        return self._classifiers[key]

    def _shaped(self, candidate: Candidate) -> ImageSet:
        key = digest(candidate.geometry)
        if key not in self._shapes:
            self._shapes[key] = candidate.shaped(self.X)
        return self._shapes[key]


def fit_pipeline(
    candidate: Candidate,
    X: ImageSet,
    y: np.ndarray,
    *,
    protocol: str,
    classifier: BaseEstimator,
    reference: str,
    seed: int = 0,
) -> Pipeline:
    """Fit geometry, harmonizer and classifier on all images that the protocol trains on, and learn every scanner.

    Parameters
    ----------
    candidate : Candidate
    X, y, protocol, classifier, reference, seed
        As :class:`Deployment`.

    Returns
    -------
    Pipeline
        Its steps are those of the candidate, then ``"classifier"``.

    Raises
    ------
    InvalidParameterError
        If the candidate changes the classifier for a single scanner, so that it serves no other.
    """
    deployment = Deployment(X, y, protocol=protocol, classifier=classifier, reference=reference, seed=seed)
    return deployment.pipeline(candidate)
