"""Interpretable mapping: a look-up table for every pixel, made of four numbers (Yang et al.).

Of an image x in [0, 1], slope a and bias b of its region give ``r = clip(a x + b, 0, 1)``, a piecewise linear table
that rises; centre wc and width ww of a window give ``y = 1 / (1 + exp(-4 (r - wc) / ww))``, DICOM's sigmoid
(PS3.3 C.11.2.1.3.1), whose slope at the centre is that of a linear window as wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch.nn import functional

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.networks.rendering import RenderingNetwork
from xray_harmonize.networks.resunet import ResidualUNet

MAPS: Final = ("a", "b", "wc", "ww")
RESCALES: Final = ("endpoint", "dicom")
LARGEST_SLOPE: Final = 10.0
SMALLEST_WIDTH: Final = 1e-3
LARGEST_WIDTH: Final = 10.0

# Where the training starts: widest for the rescaled sigmoid, which then hardly bends; for the other at slope 1.
_START_WIDTH: Final = {"endpoint": 2.0, "dicom": 1.0}


def regional_lut(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Stretch and shift greys as the region asks for: ``clip(a x + b, 0, 1)``.

    Examples
    --------
    >>> regional_lut(torch.tensor([0.0, 0.5, 1.0]), torch.tensor(2.0), torch.tensor(-0.5))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return (a * x + b).clamp(0, 1)


def global_lut(r: torch.Tensor, wc: torch.Tensor, ww: torch.Tensor, rescale: str = "endpoint") -> torch.Tensor:
    """Put greys through a sigmoid window.

    Parameters
    ----------
    r : tensor
        Greys in [0, 1].
    wc, ww : tensor
        Centre and width in the same units, the width above 0; as ``r``, or of a shape that goes with it.
    rescale : {"endpoint", "dicom"}, default="endpoint"
        "dicom": the sigmoid as the standard has it. It contains no identity and never reaches black or white: with
        wc = 0.5, ww = 1 it spans 0.12 to 0.88. "endpoint": ``(s(r) - s(0)) / (s(1) - s(0))``, which leaves black black
        and white white, and goes to the identity as the window widens.

    Returns
    -------
    tensor as r
        In [0, 1], not falling where ``r`` rises.

    Examples
    --------
    >>> r, half, one = torch.tensor([0.0, 0.5, 1.0]), torch.tensor(0.5), torch.tensor(1.0)
    >>> global_lut(r, half, one), global_lut(r, half, one, "dicom")
    (tensor([0.0000, 0.5000, 1.0000]), tensor([0.1192, 0.5000, 0.8808]))
    """
    steepness = 4 / ww
    sigmoid = torch.sigmoid(steepness * (r - wc))
    if rescale == "dicom":
        return sigmoid
    black, white = torch.sigmoid(-steepness * wc), torch.sigmoid(steepness * (1 - wc))
    return (sigmoid - black) / (white - black)


def inverse_global_lut(y: torch.Tensor, wc: torch.Tensor, ww: torch.Tensor, rescale: str = "endpoint") -> torch.Tensor:
    """Undo :func:`global_lut`; what it cannot give comes from beyond [0, 1].

    Examples
    --------
    >>> y, wc, ww = torch.tensor([0.0, 0.3, 1.0]), torch.tensor(0.4), torch.tensor(0.7)
    >>> torch.allclose(global_lut(inverse_global_lut(y, wc, ww), wc, ww), y, atol=1e-6)
    True
    """
    steepness = 4 / ww
    if rescale == "endpoint":
        black, white = torch.sigmoid(-steepness * wc), torch.sigmoid(steepness * (1 - wc))
        y = black + y * (white - black)
    return torch.logit(y, eps=1e-6) / steepness + wc


def apply_maps(images: torch.Tensor, maps: torch.Tensor, rescale: str = "endpoint") -> torch.Tensor:
    """Put every pixel through its own table.

    Parameters
    ----------
    images : tensor of shape (n, 1, height, width)
        In [0, 1].
    maps : tensor of shape (n, 4, height, width)
        a, b, wc and ww of each pixel.
    rescale : {"endpoint", "dicom"}, default="endpoint"

    Returns
    -------
    tensor of shape (n, 1, height, width)
        In [0, 1].
    """
    a, b, wc, ww = maps.split(1, dim=1)
    return global_lut(regional_lut(images, a, b), wc, ww, rescale)


class MappingNetwork(RenderingNetwork):
    """The backbone's four maps, brought to where they mean something.

    Parameters
    ----------
    features, statistics
        As :class:`~xray_harmonize.networks.resunet.ResidualUNet`.
    rescale : {"endpoint", "dicom"}, default="endpoint"
        See :func:`global_lut`.
    smoothness : float, default=0.01
        Weight of the maps' total variation in the loss of images whose true maps are unknown.
    map_weight : float, default=1
        Weight of the maps' distance from the truth where that is known; 1 as printed.

    Notes
    -----
    ``a = 10^tanh(.)`` lies in (0.1, 10), ``b = tanh(.)`` in (-1, 1), ``wc = sigmoid(.)`` in (0, 1) and
    ``ww = softplus(.) + 0.001`` above 0, up to 10; so a table always rises.

    Examples
    --------
    >>> images = torch.rand(2, 1, 32, 32)
    >>> network = MappingNetwork(features=4)
    >>> [round(one.mean().item(), 3) for one in network(images, torch.ones_like(images)).unbind(1)]
    [1.0, 0.0, 0.5, 2.0]
    """

    def __init__(
        self,
        features: int = 32,
        statistics: bool = True,
        rescale: str = "endpoint",
        smoothness: float = 0.01,
        map_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if rescale not in RESCALES:
            raise InvalidParameterError(f"rescale must be 'endpoint' or 'dicom'; got {rescale!r}.")
        if not smoothness >= 0:
            raise InvalidParameterError(f"smoothness must be 0 or more; got {smoothness!r}.")
        self.backbone = ResidualUNet(len(MAPS), features, statistics=statistics)
        self.rescale = rescale
        self.smoothness = smoothness
        self.map_weight = map_weight
        self._shift = math.log(math.expm1(_START_WIDTH[rescale] - SMALLEST_WIDTH))

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give maps of shape (n, 4, height, width)."""
        raw = self.backbone(images, weight).float()
        a = torch.exp(math.log(LARGEST_SLOPE) * torch.tanh(raw[:, :1]))
        b = torch.tanh(raw[:, 1:2])
        wc = torch.sigmoid(raw[:, 2:3])
        ww = (functional.softplus(raw[:, 3:] + self._shift) + SMALLEST_WIDTH).clamp_max(LARGEST_WIDTH)
        return torch.cat([a, b, wc, ww], dim=1)

    def render(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Put every pixel through its own table."""
        return apply_maps(images, parameters, self.rescale)

    def penalty(self, parameters: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Squared distance of each map from the truth where that is known, and the maps' roughness where it is not.

        Parameters
        ----------
        parameters : tensor of shape (n, 4, height, width)
        batch : mapping of str to tensor
            ``maps``, as the parameters, and ``known`` of shape (n,): whether they are true. Without both nothing is.
        """
        rough = self.smoothness * _total_variation(parameters)
        if "known" not in batch:
            return rough.mean()
        weight = batch["weight"]
        squared = (parameters - batch["maps"]).square().sum(dim=1, keepdim=True) * weight
        off = squared.sum(dim=(1, 2, 3)) / weight.sum(dim=(1, 2, 3)).clamp_min(1e-6)
        return torch.where(batch["known"], self.map_weight * off, rough).mean()


def _total_variation(maps: torch.Tensor) -> torch.Tensor:
    """Mean absolute step between neighbouring pixels of each image, its maps added up; of shape (n,)."""
    down = maps.diff(dim=2).abs().mean(dim=(2, 3))
    along = maps.diff(dim=3).abs().mean(dim=(2, 3))
    return (down + along).sum(dim=1)
