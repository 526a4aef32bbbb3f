"""Image-adaptive look-up tables: a few learned tables, mixed for every image by a small network (Zeng et al.).

Published for colour with tables over (red, green, blue). A grey image, whose three channels are equal, only ever meets
the cells along the diagonal of such a table. Where channels do not mix, a table of as many points on a line gives the
same, and is what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import nn

from xray_harmonize.networks.rendering import N_STATISTICS, RenderingNetwork, global_statistics, start_at_zero

HALVINGS: Final = 5
SMOOTHNESS: Final = 1e-4
MONOTONICITY: Final = 10.0

# Shares sum thousands of weights, table points are single ones: at one learning rate the points would hardly move while
# the shares jump. So points are learned in units of this.
_PACE: Final = 10.0
# Shares start near one, and so the curves near the identity.
_START: Final = 0.1
# Falls below this, a quarter of a level of 8 bits, count by their square: all tables but one start flat, and the first
# step leaves them flat but for rounding errors, whose signs would otherwise decide which way a training goes.
_SLIGHT: Final = 1e-3


def read_tables(images: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Put each image through its own table, linear between points.

    The cell is found once and the place within it is what is left, so tables are continuous at every point; the
    released code takes remainders and quotients of a rounded cell size, which disagree at some.

    Parameters
    ----------
    images : tensor of shape (n, channels, height, width)
        In [0, 1].
    tables : tensor of shape (n, n_points)
        Values at equally spaced greys from 0 to 1.

    Returns
    -------
    tensor of shape (n, channels, height, width)

    Examples
    --------
    >>> images = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3)
    >>> read_tables(images, torch.tensor([[0.0, 0.8, 1.0]])).flatten()
    tensor([0.0000, 0.4000, 1.0000])
    """
    n_cells = tables.shape[1] - 1
    place = images.flatten(1) * n_cells
    cell = place.detach().long().clamp(0, n_cells - 1)
    low, high = tables.gather(1, cell), tables.gather(1, cell + 1)
    return (low + (high - low) * (place - cell)).view_as(images)


def total_variation(tables: torch.Tensor) -> torch.Tensor:
    """Mean squared step of each table, the first and the last step counted twice; of shape (n,).

    Examples
    --------
    >>> total_variation(torch.tensor([[0.0, 1.0, 1.0, 1.0]]))
    tensor([0.6667])
    """
    steps = tables.diff(dim=1).square()
    weights = torch.ones_like(steps[0])
    weights[0] = weights[-1] = 2.0
    return (steps * weights).mean(dim=1)


def falling(tables: torch.Tensor) -> torch.Tensor:
    """Mean amount by which each table falls, less where a step falls by under 0.001; of shape (n,).

    Examples
    --------
    >>> falling(torch.tensor([[0.0, 1.0, 0.5], [0.0, 0.5, 0.5]]))
    tensor([0.2498, 0.0000])
    """
    falls = torch.relu(-tables.diff(dim=1))
    return torch.where(falls < _SLIGHT, falls.square() / (2 * _SLIGHT), falls - _SLIGHT / 2).mean(dim=1)


class TableNetwork(RenderingNetwork):
    """Tables that all images share, and the network that tells how much of each an image gets.

    Parameters
    ----------
    view_size : int, default=256
        Side of the images that it looks at, a multiple of 32.
    n_tables, n_points : int, default=8, 33
        The first table starts as the identity, the others at zero.
    features : int, default=16
        Channels of the first convolution, doubled on each of the next three.
    statistics : bool, default=True
        Whether global statistics, which the normalization takes out of the image, join at the end. False as published.

    Examples
    --------
    >>> network = TableNetwork(32, features=4).eval()
    >>> images = torch.rand(2, 1, 32, 32)
    >>> network(images, torch.ones_like(images)).shape, network.tables.shape
    (torch.Size([2, 8]), torch.Size([8, 33]))
    """

    def __init__(
        self,
        view_size: int = 256,
        n_tables: int = 8,
        n_points: int = 33,
        features: int = 16,
        statistics: bool = True,
    ) -> None:
        super().__init__()
        channels = [1, features, 2 * features, 4 * features, 8 * features, 8 * features]
        layers: list[nn.Module] = []
        for k in range(HALVINGS):
            layers += [nn.Conv2d(channels[k], channels[k + 1], 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            # The last of five may see a single pixel, and is published without.
            if k < HALVINGS - 1:
                layers.append(nn.InstanceNorm2d(channels[k + 1], affine=True))
        last = nn.Conv2d(channels[-1], n_tables, view_size // 2**HALVINGS)
        self.body = nn.Sequential(*layers, nn.Dropout(0.5), last, nn.Flatten())
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_normal_(layer.weight)
                assert layer.bias is not None
                nn.init.ones_(layer.bias) if layer is last else nn.init.zeros_(layer.bias)
        self.statistics: nn.Module | None = None
        if statistics:
            shares = nn.Linear(32, n_tables)
            start_at_zero(shares)
            self.statistics = nn.Sequential(nn.Linear(N_STATISTICS, 32), nn.LeakyReLU(0.2), shares)
        with torch.no_grad():
            last.weight.mul_(_START)
        points = torch.zeros(n_tables, n_points)
        points[0] = torch.linspace(0, 1, n_points) / _PACE
        self.points = nn.Parameter(points)

    @property
    def tables(self) -> torch.Tensor:
        """Give the learned tables, of shape (n_tables, n_points)."""
        return _PACE * self.points

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """How much of each table an image gets, of shape (n, n_tables)."""
        shares: torch.Tensor = self.body(2 * images - 1).float()
        if self.statistics is not None:
            shares = shares + self.statistics(global_statistics(images, weight))
        return shares

    def mixed(self, shares: torch.Tensor) -> torch.Tensor:
        """Tables of images, of shape (n, n_points), of their shares."""
        return shares @ self.tables

    def render(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Put every image through its own table."""
        return read_tables(images, self.mixed(parameters))

    def penalty(self, parameters: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Hold shares small and tables smooth and rising, as published."""
        rough = parameters.square().mean() + total_variation(self.tables).sum()
        return SMOOTHNESS * rough + MONOTONICITY * falling(self.tables).sum()
