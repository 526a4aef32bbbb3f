"""What a deep classifier does with the network that it has learned: rebuild it, look through it, hand it out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.classifiers.frames import frame_batches
from xray_harmonize.images import ImageSet
from xray_harmonize.networks.arrays import BuildsNetworks
from xray_harmonize.networks.resnet import RadiographResNet
from xray_harmonize.training import resolve_device


class FittedNetwork(BuildsNetworks):
    """Part of a classifier whose learned state is arrays, from which the network is built where it is needed.

    The class that it is a part of has ``device``, ``image_size``, ``input_range``, ``classes_``, ``state_``, and the
    hook ``_new_network(n_classes)``.
    """

    device: str
    image_size: int
    input_range: str
    classes_: np.ndarray
    state_: dict[str, np.ndarray]

    def network(self) -> RadiographResNet:
        """Give the fitted network by itself, frozen, for what is to learn by its answers.

        Returns
        -------
        RadiographResNet
            A copy that belongs to the caller: in evaluation mode, its parameters take no gradients, on the device of
            the classifier. It maps images of shape (n, 1, image_size, image_size) to logits in the order of
            ``classes_``; gradients still flow through it to the images.

        Raises
        ------
        NotFittedError
            scikit-learn's, before ``fit``.

        Examples
        --------
        >>> from xray_harmonize.classifiers import ResNetClassifier
        >>> X, y = np.random.default_rng(0).random((8, 16, 16)), np.arange(8) % 2
        >>> network = ResNetClassifier(width=4, image_size=16, max_epochs=1, validation_fraction=0).fit(X, y).network()
        >>> network(torch.zeros(3, 1, 16, 16)).shape, any(p.requires_grad for p in network.parameters())
        (torch.Size([3, 2]), False)
        """
        return copy.deepcopy(self._network())

    def embed(self, X: Any) -> np.ndarray:
        """Features before the head.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays

        Returns
        -------
        ndarray of float32 of shape (n, n_features)
            Averages of the last feature maps: ``8 * width`` of them, 4 times as many for depth 50.
        """
        return self._through(X, features=True)

    def _through(self, X: Any, features: bool) -> np.ndarray:
        network = self._network()
        device = resolve_device(self.device)
        outputs = []
        with torch.inference_mode():
            for batch in frame_batches(ImageSet.of(X), self.image_size, 32, self.input_range):
                batch = batch.to(device)
                output = network.features(batch) if features else network(batch)
                outputs.append(output.float().cpu().numpy())
        if not outputs:
            width = network.n_features if features else len(self.classes_)
            return np.empty((0, width), dtype=np.float32)
        return np.concatenate(outputs)

    def _network(self) -> RadiographResNet:
        """Give the fitted network, built from ``state_`` when it is first needed in this process."""
        check_is_fitted(self, "state_")
        network: RadiographResNet = self._built(
            self.state_, lambda: self._new_network(len(self.classes_)), resolve_device(self.device)
        )
        return network

    def _new_network(self, n_classes: int) -> RadiographResNet:
        """Make the network with new weights (hook)."""
        raise TypeError(f"{type(self).__name__} must define _new_network(n_classes)")  # pragma: no cover
