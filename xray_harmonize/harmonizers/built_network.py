"""Base of the methods whose learned state is a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from xray_harmonize.harmonizers.base import Harmonizer
from xray_harmonize.networks.arrays import BuildsNetworks


class BuiltNetwork(BuildsNetworks, Harmonizer):
    """Base of methods whose learned state, ``state_``, is the weights of a network as arrays.

    Hook of a subclass: ``_new_network()``.
    """

    state_: dict[str, np.ndarray]

    def _built_network(self, state: dict[str, np.ndarray], device: torch.device) -> Any:
        """Give the network with some weights, frozen and in evaluation mode."""
        return self._built(state, self._new_network, device)

    def _new_network(self) -> Any:
        """Make the network with new weights (hook)."""
        raise TypeError(f"{type(self).__name__} must define _new_network()")  # pragma: no cover

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether a network was learned."""
        return hasattr(self, "state_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that fit is needed."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        return tags
