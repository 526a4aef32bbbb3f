"""DeepFeatures: what a network sees in a radiograph, as a transformer that stands in a Pipeline."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.classifiers.frames import frames
from xray_harmonize.classifiers.resnet import ResNetClassifier
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.image_transformer import ImageTransformer
from xray_harmonize.images import ImageSet
from xray_harmonize.networks.arrays import BuildsNetworks, arrays_of
from xray_harmonize.networks.resnet import RadiographResNet
from xray_harmonize.networks.weights import load_backbone
from xray_harmonize.parameters import check_whole_numbers
from xray_harmonize.training import autocast, resolve_device, resolve_precision, seeded

RANDOM = "random"
_CACHE_BYTES = 2**26


class DeepFeatures(BuildsNetworks, ImageTransformer):
    """Features of a frozen network before its last layers, a row of numbers an image.

    Parameters
    ----------
    backbone : ResNetClassifier, optional
        A fitted classifier, whose features before the head are taken; it brings its own size, depth and width. None: a
        ResNet of ``depth`` and ``width`` with ``weights``.
    depth : {10, 18, 34, 50}, default=18
        Layers of the network, without ``backbone``.
    width : int, default=64
        Channels of its first stage, without ``backbone``; 64 is the published network, and what files of weights need.
    in_channels : {1, 3}, default=1
        1: the network takes grey images. 3: the grey image is repeated, as for weights trained on colour.
    weights : path or "random", optional
        File of weights (ImageNet or RadImageNet layout, ``.pt`` or ``.safetensors``), see
        :mod:`xray_harmonize.networks.weights`. None: random weights, with a warning; "random": the same on purpose.
    image_size : int, default=128
        Side in pixels to which images are resized, without ``backbone``.
    input_range : {"unit", "any"}, default="unit"
        "unit": floats must lie in [0, 1]. "any": they are taken as they are, such as z-scores.
    batch_size : int, default=32
        Images that pass the network at a time.
    cache : bool, default=True
        Keep features by what an image and the network hold, up to 64 MiB in a process, so that a search over what comes
        after does not pass the same images through the network again.
    device, precision : str, default="auto"
        As in :class:`ResNetClassifier`.
    random_state : int, default=0
        Of random weights.

    Attributes
    ----------
    state_ : dict of str to ndarray
        Weights and batch-norm statistics of the network without its head.
    network_ : dict
        ``depth``, ``width``, ``in_channels``, ``image_size``, ``input_range`` of the network.
    n_features_out_ : int
        Length of a row: ``8 * width``, 4 times as many for depth 50.

    See Also
    --------
    IntensityFeatures : Cheaper ones that need no network.

    Notes
    -----
    Random weights are not worthless: a random network's features still tell textures and grey values apart. But they
    know nothing of bodies; distances between them are not those that published figures (FID, KID) are about.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from xray_harmonize import MinMax
    >>> X = np.random.default_rng(0).random((8, 24, 24)).astype("float32")
    >>> features = DeepFeatures(depth=10, width=4, weights="random", image_size=16)
    >>> features.fit_transform(X).shape
    (8, 32)
    >>> make_pipeline(MinMax(), features, LogisticRegression()).fit(X, np.arange(8) % 2).predict(X).shape
    (8,)
    """

    def __init__(
        self,
        backbone: ResNetClassifier | None = None,
        *,
        depth: int = 18,
        width: int = 64,
        in_channels: int = 1,
        weights: str | None = None,
        image_size: int = 128,
        input_range: str = "unit",
        batch_size: int = 32,
        cache: bool = True,
        device: str = "auto",
        precision: str = "auto",
        random_state: int = 0,
    ) -> None:
        self.backbone = backbone
        self.depth = depth
        self.width = width
        self.in_channels = in_channels
        self.weights = weights
        self.image_size = image_size
        self.input_range = input_range
        self.batch_size = batch_size
        self.cache = cache
        self.device = device
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> DeepFeatures:
        """Make the network; nothing is learned from the images.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays
        y : ignored

        Returns
        -------
        DeepFeatures
            Itself.

        Raises
        ------
        InvalidParameterError
            If ``backbone`` is no ResNetClassifier, or a parameter is out of range.
        NotFittedError
            scikit-learn's, if ``backbone`` is not fitted.
        PersistenceError
            If ``weights`` cannot be read or do not fit.
        """
        self._check()
        if self.backbone is not None:
            check_is_fitted(self.backbone, "state_")
            named = self.backbone
        else:
            named = self
        self.network_ = {
            name: getattr(named, name) for name in ("depth", "width", "in_channels", "image_size", "input_range")
        }
        with seeded(int(self.random_state), torch.device("cpu")):
            network = self._new_network()
            if self.backbone is not None:
                wanted = network.state_dict()
                network.load_state_dict({k: torch.as_tensor(self.backbone.state_[k]) for k in wanted})
            elif self.weights not in (None, RANDOM):
                load_backbone(network.backbone, str(self.weights))
        if self.backbone is None and self.weights is None:
            warnings.warn(
                "DeepFeatures has random weights: they tell textures apart but know nothing of bodies. Name a file of "
                "weights, give a fitted ResNetClassifier as backbone, or say weights='random' if this is meant.",
                XRayHarmonizeWarning,
                stacklevel=2,
            )
        self.state_ = arrays_of(network)
        self.n_features_out_ = network.n_features
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Pass images through the network.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays

        Returns
        -------
        ndarray of float32 of shape (n, n_features)
            A row depends on its own image alone, but for rounding (1e-6).

        Raises
        ------
        InvalidImageError
            If an image holds NaN, or lies outside of [0, 1] with ``input_range="unit"``.
        """
        check_is_fitted(self, "state_")
        images = ImageSet.of(X)
        rows = np.empty((len(images), self.n_features_out_), dtype=np.float32)
        network = self._network()
        for start in range(0, len(images), self.batch_size):
            part = images[start : start + self.batch_size]
            batch = frames(part, self.network_["image_size"], self.network_["input_range"])
            rows[start : start + len(batch)] = self._rows(network, batch)
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns, as objects: ``feature_0`` and so on."""
        check_is_fitted(self, "state_")
        return np.array([f"feature_{i}" for i in range(self.n_features_out_)], dtype=object)

    def _rows(self, network: RadiographResNet, batch: torch.Tensor) -> np.ndarray:
        rows = np.empty((len(batch), self.n_features_out_), dtype=np.float32)
        keys = [self._key(image) for image in batch] if self.cache else []
        held = [feature_cache().get(key) for key in keys] if keys else [None] * len(batch)
        missing = [i for i, row in enumerate(held) if row is None]
        for i, row in enumerate(held):
            if row is not None:
                rows[i] = row
        if missing:
            device = resolve_device(self.device)
            dtype = resolve_precision(self.precision, device)
            with torch.inference_mode(), autocast(device, dtype):
                rows[missing] = network.features(batch[missing].to(device)).float().cpu().numpy()
            for i in missing if keys else ():
                feature_cache().put(keys[i], rows[i].copy())
        return rows

    def _key(self, image: torch.Tensor) -> bytes:
        digest = blake2b(self._network_digest(), digest_size=16)
        digest.update(image.numpy().tobytes())
        return digest.digest()

    def _network_digest(self) -> bytes:
        """Name the network by what it holds; other precision, other features."""
        known = getattr(self, "_digest", None)
        if known is None or known[0] is not self.state_:
            digest = blake2b(digest_size=16)
            for name, array in sorted(self.state_.items()):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(array).tobytes())
            self._digest = known = (self.state_, digest.digest())
        return bytes(known[1]) + f"{self.precision} {resolve_device(self.device)}".encode()

    def _network(self) -> RadiographResNet:
        network: RadiographResNet = self._built(self.state_, self._new_network, resolve_device(self.device))
        return network

    def _new_network(self) -> RadiographResNet:
        network = RadiographResNet(1, self.network_["depth"], self.network_["width"], self.network_["in_channels"])
        network.head = torch.nn.Sequential()
        return network

    def _check(self) -> None:
        if self.backbone is not None and not isinstance(self.backbone, ResNetClassifier):
            raise InvalidParameterError(
                f"backbone must be a fitted ResNetClassifier or None; got {type(self.backbone).__name__}. A file of "
                "weights goes into weights."
            )
        check_whole_numbers(self.get_params(deep=False), {"batch_size": 1, "image_size": 8})

    def __sklearn_clone__(self) -> DeepFeatures:
        """Keep a fitted backbone as it is: it is a frozen part, nothing to be fitted anew."""
        return type(self)(**self.get_params(deep=False))

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        assert isinstance(state, dict)
        return {name: value for name, value in state.items() if name != "_digest"}


class FeatureCache:
    """Least recently used rows of features, never more bytes than the bound."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: bytes) -> np.ndarray | None:
        """Give the row under a key, None where there is none."""
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: bytes, row: np.ndarray) -> None:
        """Keep a row, letting go of the oldest for it."""
        with self._lock:
            if key not in self._rows:
                self._rows[key] = row
                self._n_bytes += row.nbytes
            while self._n_bytes > self._max_bytes:
                self._n_bytes -= self._rows.popitem(last=False)[1].nbytes


@lru_cache(maxsize=1)
def feature_cache() -> FeatureCache:
    """Give the one cache of this process, made on first use."""
    return FeatureCache(_CACHE_BYTES)
