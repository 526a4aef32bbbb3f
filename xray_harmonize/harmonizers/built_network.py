"""Base of the methods whose learned state is a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from xray_harmonize.harmonizers.base import Harmonizer
from xray_harmonize.networks.arrays import BuildsNetworks


class BuiltNetwork(BuildsNetworks, Harmonizer):
    """Base of methods whose learned state is a network: its weights as arrays, and the parameters it was made with.

    Hooks of a subclass: ``_network_parameters``, ``_new_network(made_with)``, and a fit that sets ``state_`` and
    ``network_``.
    """

    _network_parameters: ClassVar[tuple[str, ...]] = ()

    state_: dict[str, np.ndarray]
    network_: dict[str, Any]

    def _built_network(self, state: dict[str, np.ndarray], device: torch.device) -> Any:
        """Give the network with some weights, frozen and in evaluation mode."""
        return self._built(state, lambda: self._new_network(self.network_), device)

    def _to_be_made_with(self) -> dict[str, Any]:
        """Give the parameters of the network that ``fit`` is to train; what is set later does not change it."""
        return {name: getattr(self, name) for name in self._network_parameters}

    def _new_network(self, made_with: Mapping[str, Any]) -> Any:
        """Make the network with new weights (hook)."""
        raise TypeError(f"{type(self).__name__} must define _new_network(made_with)")  # pragma: no cover
