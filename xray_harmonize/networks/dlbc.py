"""Brightness and contrast by one window an image, its centre and width read off by a small network (DLBC)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.networks.rendering import RenderingNetwork, start_at_zero

SMALLEST_WIDTH: Final = 0.01
# What softplus makes the width 1 of: the training starts at the identity.
_SHIFT: Final = math.log(math.expm1(1 - SMALLEST_WIDTH))


def linear_window(x: torch.Tensor, center: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """Put greys through a linear window: ``clip((x - center) / width + 1/2, 0, 1)``.

    DICOM's LINEAR_EXACT (PS3.3 C.11.2.1.3.2) in fractions of full scale; at center 1/2, width 1 it is the identity.

    Parameters
    ----------
    x : tensor
    center, width : tensor
        As x, or of a shape that goes with it; the width above 0.

    Examples
    --------
    >>> linear_window(torch.tensor([0.0, 0.5, 1.0]), torch.tensor(0.6), torch.tensor(0.4))
    tensor([0.0000, 0.2500, 1.0000])
    """
    return ((x - center) / width + 0.5).clamp(0, 1)


class WindowNetwork(RenderingNetwork):
    """Five convolutions of stride 2, averaged, and two layers that give centre and width.

    The authors' network is not told in the paper that compares it; this one is as deep as that of the tables. Without
    any normalization, brightness and contrast reach the averages.

    Parameters
    ----------
    features : int, default=16
        Channels of the first convolution, doubled on each of the next three.

    Examples
    --------
    >>> images = torch.rand(2, 1, 32, 32)
    >>> WindowNetwork(4)(images, torch.ones_like(images)).detach()
    tensor([[0.5000, 1.0000],
            [0.5000, 1.0000]])
    """

    def __init__(self, features: int = 16) -> None:
        super().__init__()
        channels = [1, features, 2 * features, 4 * features, 8 * features, 8 * features]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(channels):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        last = nn.Linear(64, 2)
        start_at_zero(last)
        self.head = nn.Sequential(nn.Linear(channels[-1], 64), nn.LeakyReLU(0.2), last)

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Centre in (-1/2, 3/2) and width above 0.01, of shape (n, 2)."""
        raw = self.head(self.body(2 * images - 1)).float()
        center = 0.5 + torch.tanh(raw[:, :1])
        width = functional.softplus(raw[:, 1:] + _SHIFT) + SMALLEST_WIDTH
        return torch.cat([center, width], dim=1)

    def render(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Put every image through its own window."""
        center, width = parameters[:, :, None, None].split(1, dim=1)
        return linear_window(images, center, width)
