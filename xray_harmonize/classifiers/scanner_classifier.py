"""ScannerClassifier: which scanner made an image, or which group of acquisitions it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.classifiers.intensity_features import IntensityFeatures
from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError, NotEnoughImagesError
from xray_harmonize.images import ImageSet

if TYPE_CHECKING:
    from xray_harmonize.classifiers.resnet import ResNetClassifier

PROBES = ("linear", "resnet")
# A probe of more dimensions than images tells whatever it is asked.
_MOST_COMPONENTS = 64


class ScannerClassifier(ClassifierMixin, BaseEstimator):
    """Name the scanner of an image by how it renders.

    It serves two ends: to sort an archive whose headers do not tell scanners, and to probe harmonized images for what
    still tells them apart. For the second it must be fitted *after* harmonization, to harmonized images of other
    patients than those it is asked about: a probe from before overlooks most of what is left.

    Parameters
    ----------
    probe : {"linear", "resnet"}, default="linear"
        "linear": logistic regression on frozen features, standardized and reduced to at most 64 principal components.
        "resnet": a network trained on the images themselves, which sees more and takes longer.
    features : transformer or None, default=None
        What the linear probe looks at: a transformer from images to rows of numbers, such as
        :class:`DeepFeatures`. None: :class:`IntensityFeatures`.
    network : ResNetClassifier, optional
        Unfitted, for ``probe="resnet"``; by default ``ResNetClassifier(class_weight="balanced")``.
    C : float, default=1.0
        Inverse strength of the linear probe's regularization.
    random_state : int or None, default=0
        Of the principal components and of a network that has none of its own.

    Attributes
    ----------
    classes_ : ndarray of str of shape (n_scanners,)
    network_ : ResNetClassifier
        The fitted network, with ``probe="resnet"``.
    features_ : transformer
        What makes rows of images, where the linear probe was fitted to images.
    center_, projection_, coef_, intercept_ : ndarray
        The linear probe: logits are ``(row - center_) @ projection_ @ coef_.T + intercept_``.

    See Also
    --------
    xray_harmonize.evaluation.probe.scanner_probe : The same question with intervals and a permutation null.

    Notes
    -----
    Where vendor tags were removed, name groups of acquisitions instead
    (:func:`xray_harmonize.dicom.scanner.acquisition_group`); they are not vendors, and tables should not call them so.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> images = rng.random((20, 16, 16)).astype("float32")
    >>> images[10:] **= 2
    >>> X = ImageSet(images, scanner=["A"] * 10 + ["B"] * 10)
    >>> ScannerClassifier().fit(X).predict(X[[0, 19]]).tolist()
    ['A', 'B']
    """

    def __init__(
        self,
        probe: str = "linear",
        features: Any = None,
        network: ResNetClassifier | None = None,
        C: float = 1.0,
        random_state: int | None = 0,
    ) -> None:
        self.probe = probe
        self.features = features
        self.network = network
        self.C = C
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike | None = None) -> ScannerClassifier:
        """Learn how scanners render.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), list of 2-D arrays, or ndarray of shape (n, n_features)
            Images, or features of them for the linear probe.
        y : array-like of str of shape (n,), optional
            Scanner of each image; ``X.scanner`` by default.

        Returns
        -------
        ScannerClassifier
            Itself.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range, X and y differ in length, or features come to the network.
        MissingScannerError
            If nothing tells the scanners.
        NotEnoughImagesError
            For fewer than two scanners.
        """
        if self.probe not in PROBES:
            raise InvalidParameterError(f"probe must be 'linear' or 'resnet'; got {self.probe!r}.")
        if not self.C > 0:
            raise InvalidParameterError(f"C must be greater than 0; got {self.C!r}.")
        scanner = self._scanners(X, y)
        self.classes_ = np.unique(scanner)
        if len(self.classes_) < 2:
            raise NotEnoughImagesError(
                f"A scanner classifier needs images of at least two scanners; got those of {self.classes_.tolist()}."
            )
        for name in ("features_", "network_", "coef_"):
            if hasattr(self, name):
                delattr(self, name)
        if self.probe == "resnet":
            self.network_ = self._network().fit(self._images(X), scanner)
        else:
            self._fit_linear(self._table(X, fit=True), scanner)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each scanner.

        Parameters
        ----------
        X : as in ``fit``

        Returns
        -------
        ndarray of float64 of shape (n, n_scanners)
            In the order of ``classes_``.
        """
        check_is_fitted(self, "classes_")
        if hasattr(self, "network_"):
            return np.asarray(self.network_.predict_proba(self._images(X)))
        logits = (self._table(X) - self.center_) @ self.projection_ @ self.coef_.T + self.intercept_
        return np.asarray(softmax(logits, axis=1))

    def predict(self, X: Any) -> np.ndarray:
        """Most probable scanner of each image, shape (n,)."""
        names: np.ndarray = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return names

    def _scanners(self, X: Any, y: ArrayLike | None) -> np.ndarray:
        given = getattr(X, "scanner", None) if y is None else y
        if given is None:
            raise MissingScannerError("Nothing tells the scanners: pass y, or an ImageSet with scanner.")
        scanner = np.asarray(given, dtype=object).astype(str)
        if scanner.shape != (len(X),):
            raise InvalidParameterError(
                f"There are {len(X)} images but the scanners have shape {scanner.shape}; expected ({len(X)},)."
            )
        return scanner

    def _network(self) -> ResNetClassifier:
        if self.network is not None:
            return clone(self.network)
        # Here, as it draws in torch, which the linear probe does without.
        from xray_harmonize.classifiers.resnet import ResNetClassifier

        return ResNetClassifier(class_weight="balanced", input_range="any", random_state=self.random_state)

    def _fit_linear(self, table: np.ndarray, scanner: np.ndarray) -> None:
        """Fit logistic regression and keep it as arrays, which a file can hold."""
        self.center_ = table.mean(axis=0)
        spread = table.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        n_components = min(_MOST_COMPONENTS, *table.shape)
        pca = PCA(n_components, random_state=self.random_state).fit((table - self.center_) / scale)
        self.projection_ = pca.components_.T / scale[:, None]
        regression = LogisticRegression(C=self.C, class_weight="balanced", max_iter=1000)
        regression.fit((table - self.center_) @ self.projection_, scanner)
        two = len(self.classes_) == 2  # scikit-learn keeps one row of coefficients for two classes
        self.coef_ = np.vstack([np.zeros_like(regression.coef_), regression.coef_]) if two else regression.coef_
        self.intercept_ = np.append(0.0, regression.intercept_) if two else regression.intercept_

    def _images(self, X: Any) -> ImageSet:
        if _is_table(X):
            raise InvalidParameterError(
                f"probe='resnet' looks at images; got features of shape {np.shape(X)}. Use probe='linear'."
            )
        return ImageSet.of(X)

    def _table(self, X: Any, *, fit: bool = False) -> np.ndarray:
        if _is_table(X):
            return np.asarray(X, dtype=np.float64)
        if fit:
            self.features_ = IntensityFeatures() if self.features is None else clone(self.features)
            self.features_.fit(X)
        elif not hasattr(self, "features_"):
            raise InvalidParameterError(
                "This ScannerClassifier was fitted to features; give features of the same kind, not images."
            )
        return np.asarray(self.features_.transform(X), dtype=np.float64)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.no_validation = True
        tags.target_tags.required = False
        return tags


def _is_table(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype != object
