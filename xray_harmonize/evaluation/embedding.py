"""Features drawn on a plane, so that scanners and labels can be coloured and looked at.

What lies apart in a picture need not lie apart in the features, nor the other way round: t-SNE and UMAP keep
neighbours, not distances. A picture illustrates; the measures decide.

References
----------
.. [1] L. van der Maaten, G. Hinton, "Visualizing data using t-SNE", Journal of Machine Learning Research 9, 2008.
.. [2] L. McInnes, J. Healy, J. Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
   Reduction", arXiv:1802.03426, 2018.
.. [3] D. Kobak, P. Berens, "The art of using t-SNE for single-cell transcriptomics", Nature Communications 10, 2019
   (start from principal components).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.utils import check_random_state
from threadpoolctl import threadpool_limits

from xray_harmonize.evaluation.groups import feature_matrix
from xray_harmonize.evaluation.pairs import standardized
from xray_harmonize.exceptions import InvalidParameterError, MissingDependencyError, NotEnoughImagesError

__all__ = ["Method", "embed"]

Method = Literal["pca", "tsne", "umap"]

# Neighbourhoods are looked for in so many principal components: what lies beyond is mostly noise, and costs time.
N_COMPONENTS = 50


def embed(features: Any, method: Method = "pca", random_state: int | np.random.RandomState | None = None) -> np.ndarray:
    """Place every image on a plane by its standardized features.

    Parameters
    ----------
    features : array-like of shape (n_images, n_features)
    method : {"pca", "tsne", "umap"}, default="pca"
        First two principal components; t-SNE, started from them; or UMAP, where umap-learn is installed.
    random_state : int, RandomState or None, default=None
        Of t-SNE and UMAP; the same number gives the same picture. PCA has nothing random.

    Returns
    -------
    ndarray of float64 of shape (n_images, 2)
        The second column of PCA is 0 where there is a single feature.

    Raises
    ------
    InvalidParameterError
        If features are no finite table, or the method is not known.
    NotEnoughImagesError
        If there are fewer than four images.
    MissingDependencyError
        If UMAP is asked for and umap-learn is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.domain import embed
    >>> embed(np.random.default_rng(0).normal(size=(10, 5))).shape
    (10, 2)
    """
    matrix = feature_matrix(features)
    if method not in get_args(Method):
        raise InvalidParameterError(f"method must be one of {', '.join(map(repr, get_args(Method)))}; got {method!r}.")
    if len(matrix) < 4:
        raise NotEnoughImagesError(f"A picture of features needs at least four images; got {len(matrix)}.")
    components = _components(matrix, 2 if method == "pca" else N_COMPONENTS)
    if method == "pca":
        return components
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    return _tsne(components, seed) if method == "tsne" else _umap(components, seed)


def _components(matrix: np.ndarray, n_components: int) -> np.ndarray:
    """First principal components, at least two columns, those that do not exist 0."""
    n_known = min(n_components, *matrix.shape)
    points = np.zeros((len(matrix), max(2, n_known)))
    scaled = standardized(matrix)
    if scaled.any():
        # The whole decomposition: a randomized one would differ from machine to machine.
        points[:, :n_known] = PCA(n_known, svd_solver="full").fit_transform(scaled)
    return points


def _tsne(components: np.ndarray, seed: int) -> np.ndarray:
    perplexity = min(30.0, (len(components) - 1) / 3)
    # Several threads add up in an order of their own, and small differences grow.
    with threadpool_limits(limits=1):
        points = TSNE(perplexity=perplexity, init=_start(components), random_state=seed).fit_transform(components)
    return np.asarray(points, dtype=np.float64)


def _start(components: np.ndarray) -> np.ndarray:
    spread = float(components[:, 0].std())
    return (components[:, :2] / (spread or 1.0) * 1e-4).astype(np.float32)


def _umap(components: np.ndarray, seed: int) -> np.ndarray:
    try:
        umap = import_module("umap")
    except ImportError:
        raise MissingDependencyError(
            "method='umap' needs the package umap-learn, which is not installed. Install it, or use method='tsne'."
        ) from None
    reducer = umap.UMAP(n_components=2, n_neighbors=min(15, len(components) - 1), random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(components), dtype=np.float64)
