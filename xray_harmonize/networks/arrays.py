"""What estimators keep of networks: the weights as arrays, from which a network is built where it is needed.

Arrays open anywhere, whatever device they were learned on; a network itself is neither saved nor pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch

from xray_harmonize.training import seeded

# A harmonizer adapted to scanners goes from one's network to another's.
_MOST_KEPT = 4


def arrays_of(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """Weights and statistics of a network as arrays, by name."""
    return {name: value.cpu().numpy().copy() for name, value in network.state_dict().items()}


class BuildsNetworks:
    """Part of an estimator that learns arrays, ``state_``: builds networks of them, and keeps the last few."""

    def _built(self, state: Mapping[str, np.ndarray], new: Callable[[], Any], device: torch.device) -> Any:
        """Give the network of some arrays, in evaluation mode and frozen.

        Parameters
        ----------
        state : mapping of str to ndarray
            The same network is given again while this is the same object.
        new : callable
            Makes the network with weights of its own.
        device : torch.device
        """
        kept: list[tuple[Any, torch.device, Any]] = self.__dict__.setdefault("_networks", [])
        for known, place, network in tuple(kept):
            if known is state and place == device:
                return network
        with seeded(0, torch.device("cpu")):
            network = new()
        network.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
        network.eval().requires_grad_(False).to(device)
        kept.insert(0, (state, device, network))
        del kept[_MOST_KEPT:]
        return network

    def __copy__(self) -> Self:
        # Every transform computes with a copy; what one of them builds, the next is to find.
        self.__dict__.setdefault("_networks", [])
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether a network was learned."""
        return hasattr(self, "state_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that fit must come first."""
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.requires_fit = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        state.pop("_networks", None)
        return state
