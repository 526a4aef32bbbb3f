"""One fitted Pipeline to deploy, from the candidate that a comparison chose."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from xray_harmonize.adaptation import adapt
from xray_harmonize.evaluation.candidates import Candidate
from xray_harmonize.evaluation.protocols import FIXED, Split, train_classifier
from xray_harmonize.images import ImageSet


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
        Not one that adapts batch-norm statistics: those belong to one scanner, and a pipeline serves all.
    X : ImageSet
    y : ndarray of shape (n,)
    protocol : str
        Under the fixed protocol the classifier is trained on the reference alone; otherwise on all scanners.
    classifier : estimator
        Unfitted.
    reference : str
    seed : int, default=0

    Returns
    -------
    Pipeline
        Its steps are those of the candidate, then ``"classifier"``.
    """
    assert X.scanner is not None
    geometry = candidate.geometry_pipeline()
    shaped = X if geometry is None else geometry.fit(X).transform(X)
    is_reference = X.scanner == reference
    train = np.flatnonzero(is_reference) if protocol == FIXED else np.arange(len(X))
    split = Split(protocol, "all", seed, train, np.arange(0))
    fitted = train_classifier(candidate, shaped, y, split, classifier, reference)
    harmonizer = candidate.harmonizer(reference).fit(shaped[train])
    if protocol == FIXED and candidate.learns_scanners and not is_reference.all():
        harmonizer = adapt(harmonizer, shaped[~is_reference])
    steps = [*(geometry.steps if geometry is not None else []), *harmonizer.steps]
    return Pipeline([*steps, ("classifier", fitted)])
