"""A network that is built from learned arrays where it is first needed, and kept until they are others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from xray_harmonize.harmonizers.base import Harmonizer
from xray_harmonize.training import seeded


class BuiltNetwork(Harmonizer):
    """Base of methods whose learned state, ``state_``, is the weights of a network as arrays.

    Hook of a subclass: ``_new_network()``.
    """

    state_: dict[str, np.ndarray]

    def _built_network(self, state: dict[str, np.ndarray], device: torch.device) -> Any:
        """Give the network with some weights, frozen and in evaluation mode; the last one built is kept."""
        cached = self.__dict__.get("_network")
        if cached is None or cached[0] is not state or cached[1] != device:
            with seeded(0, torch.device("cpu")):
                network = self._new_network()
            network.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
            cached = (state, device, network.eval().requires_grad_(False).to(device))
            self._network = cached
        return cached[2]

    def _new_network(self) -> Any:
        """Make the network with new weights (hook)."""
        raise TypeError(f"{type(self).__name__} must define _new_network()")  # pragma: no cover

    def __getstate__(self) -> dict[str, Any]:
        # Networks stay behind: a model fitted on a GPU opens where there is none.
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_network", None)
        return state

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether a network was learned."""
        return hasattr(self, "state_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that fit is needed."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        return tags
