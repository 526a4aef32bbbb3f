"""Weights of a VGG-16 as files hold them, and what its first layers make of an image, written out."""

from __future__ import annotations

import torch
from torch.nn import functional

from xray_harmonize.networks.vgg import CHANNELS, PLACES

State = dict[str, torch.Tensor]


def vgg_16(seed: int = 0) -> State:
    """Make weights under the common names: the first convolutions, another one, and a classifier of any shape."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    state = {}
    for name, (n_in, n_out) in CHANNELS.items():
        state[f"features.{PLACES[name]}.weight"] = random(n_out, n_in, 3, 3)
        state[f"features.{PLACES[name]}.bias"] = random(n_out)
    state["features.10.weight"] = random(256, 128, 1, 1)
    # As misleading as can be: layers of a classifier start from 0 again.
    for number in (0, 2, 5, 7):
        state[f"classifier.{number}.weight"] = torch.full_like(state[f"features.{number}.weight"], 9.0)
        state[f"classifier.{number}.bias"] = torch.full_like(state[f"features.{number}.bias"], 9.0)
    return state


def written_out(state: State, images: torch.Tensor) -> torch.Tensor:
    """Compute the output of convolution 2-2 for the grey image repeated three times."""
    x = images.repeat(1, 3, 1, 1)
    for number in (0, 2, 5, 7):
        x = functional.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1)
        if number != 7:
            x = functional.relu(x)
        if number == 2:
            x = functional.max_pool2d(x, 2, stride=2)
    return x
