"""Deep curve estimation pixel by pixel: the network of Zero-DCE, taught by pairs (Sup-DCE)."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.networks.rendering import RenderingNetwork, start_at_zero

N_ITERATIONS: Final = 8


def apply_curve_maps(images: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Put every pixel through its own curve: ``I_n = I_{n-1} + alpha_n I_{n-1} (1 - I_{n-1})``.

    Parameters
    ----------
    images : tensor of shape (n, 1, height, width)
        In [0, 1].
    alpha : tensor of shape (n, n_iterations, height, width)
        In [-1, 1]; above 0 brightens, as in GDCE. The released Zero-DCE writes the opposite sign.

    Returns
    -------
    tensor of shape (n, 1, height, width)
        In [0, 1]; black stays black and white white.

    Examples
    --------
    >>> image = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    >>> apply_curve_maps(image, torch.ones(1, 2, 1, 3)).flatten()
    tensor([0.0000, 0.9375, 1.0000])
    """
    for step in alpha.split(1, dim=1):
        images = images + step * (images * (1 - images))
    return images


class CurveMaps(RenderingNetwork):
    """Seven convolutions of 3 x 3 in full view, with three shortcuts, and a map an iteration.

    Parameters
    ----------
    features : int, default=32
        Channels of the first six.
    n_iterations : int, default=8

    Notes
    -----
    The fifth sees the third beside the fourth, the sixth the second, the last the first, as released. The last starts
    at zero, the identity.

    Examples
    --------
    >>> images = torch.rand(2, 1, 20, 20)
    >>> network = CurveMaps(4)
    >>> torch.equal(network.render(images, network(images, torch.ones_like(images))), images)
    True
    """

    def __init__(self, features: int = 32, n_iterations: int = N_ITERATIONS) -> None:
        super().__init__()
        once, twice = features, 2 * features
        widths = [(1, once), (once, once), (once, once), (once, once), (twice, once), (twice, once)]
        self.layers = nn.ModuleList(nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in widths)
        self.last = nn.Conv2d(twice, n_iterations, 3, padding=1)
        start_at_zero(self.last)

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Coefficients of shape (n, n_iterations, height, width)."""
        first, second, third, fourth, fifth, sixth = self.layers
        x1 = functional.relu(first(images))
        x2 = functional.relu(second(x1))
        x3 = functional.relu(third(x2))
        x4 = functional.relu(fourth(x3))
        x5 = functional.relu(fifth(torch.cat([x3, x4], dim=1)))
        x6 = functional.relu(sixth(torch.cat([x2, x5], dim=1)))
        return torch.tanh(self.last(torch.cat([x1, x6], dim=1)).float())

    def render(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Put every pixel through its own curve."""
        return apply_curve_maps(images, parameters)
