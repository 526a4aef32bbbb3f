"""Five-level residual U-Net with 32 features everywhere, and two renderings by it and its like: image to image.

The backbone is that of the interpretable mapping (Yang et al.). Every convolution there is followed by instance
normalization, which takes brightness and contrast out of the image: exactly what the answer depends on. A constant
channel beside the image would not help, for the normalization removes it too. So global statistics and the image itself
join where no normalization follows, before the last layers, which work pixel by pixel.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.networks.rendering import (
    N_STATISTICS,
    RenderingNetwork,
    continued,
    global_statistics,
    start_at_zero,
)

SMALLEST_VIEW: Final = 32
"""Pixels a side, below which the deepest level of five would have a single one, which cannot be normalized."""


def _convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
        nn.InstanceNorm2d(n_out, affine=True),
        nn.LeakyReLU(0.1, inplace=True),
    )


class ResidualBlock(nn.Module):
    """Three convolutions of 3 x 3, each normalized and rectified, beside a shortcut.

    Parameters
    ----------
    n_in, n_out : int
        Channels; where they differ the shortcut is a convolution of 1 x 1.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(n_in, n_out), _convolution(n_out, n_out), _convolution(n_out, n_out))
        self.shortcut: nn.Module = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Feature maps of shape (n, n_out, height, width)."""
        result: torch.Tensor = self.layers(maps) + self.shortcut(maps)
        return result


class ResidualUNet(nn.Module):
    """Backbone of the interpretable mapping and of ResUNet.

    Parameters
    ----------
    out_channels : int
        Maps that come out, without any activation; all zero before the training.
    features : int, default=32
        Channels on all levels.
    levels : int, default=5
        Resolutions, each half of the one above.
    statistics : bool, default=True
        Whether global statistics and the image itself join before the last layers. False as printed.

    Notes
    -----
    Sides that are no multiples of ``2**(levels - 1)`` are continued by their last pixels and cut back.

    Examples
    --------
    >>> network = ResidualUNet(4, features=8)
    >>> images = torch.rand(2, 1, 40, 50)
    >>> network(images, torch.ones_like(images)).shape
    torch.Size([2, 4, 40, 50])
    """

    def __init__(self, out_channels: int, features: int = 32, levels: int = 5, statistics: bool = True) -> None:
        super().__init__()
        self.multiple = 2 ** (levels - 1)
        self.statistics = statistics
        self.encoder = nn.ModuleList(ResidualBlock(1 if k == 0 else features, features) for k in range(levels))
        self.decoder = nn.ModuleList(ResidualBlock(2 * features, features) for _ in range(levels - 1))
        last = nn.Conv2d(features, out_channels, 1)
        start_at_zero(last)
        joined = nn.Conv2d(features + N_STATISTICS + 1, features, 1)
        self.head = nn.Sequential(joined, nn.LeakyReLU(0.1), last) if statistics else last

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give maps of shape (n, out_channels, height, width) for images of shape (n, 1, height, width) in [0, 1]."""
        height, width = images.shape[-2:]
        maps = continued(images, self.multiple)
        kept: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            maps = block(functional.max_pool2d(maps, 2) if level else maps)
            kept.append(maps)
        maps = kept.pop()
        for block in self.decoder:
            beside = kept.pop()
            finer = functional.interpolate(maps, size=beside.shape[-2:], mode="bilinear", align_corners=False)
            maps = block(torch.cat([finer, beside], dim=1))
        maps = maps[..., :height, :width]
        if self.statistics:
            known = global_statistics(images, weight)[:, :, None, None].expand(-1, -1, height, width)
            maps = torch.cat([maps, known.to(maps.dtype), 2 * images - 1], dim=1)
        result: torch.Tensor = self.head(maps)
        return result


class ImageToImage(RenderingNetwork):
    """The backbone's one map is the image: the paper's ResUNet.

    Parameters
    ----------
    features, statistics
        As :class:`ResidualUNet`.
    """

    pointwise = False

    def __init__(self, features: int = 32, statistics: bool = True) -> None:
        super().__init__()
        self.backbone = ResidualUNet(1, features, statistics=statistics)

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1], of shape (n, 1, height, width)."""
        predicted: torch.Tensor = self.backbone(images, weight).float()
        return torch.sigmoid(predicted)

    def render(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Give what was predicted; nothing of the image itself is left in it."""
        return parameters


class ResidualImage(RenderingNetwork):
    """MONAI's U-Net of four levels, whose one map is added to the image.

    There is no normalization, so that brightness and contrast reach the output.

    Parameters
    ----------
    features : int, default=32
        Channels of the first level, doubled on each of the next.
    """

    pointwise = False

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        from monai.networks.nets import UNet

        options: dict[str, Any] = {"norm": None, "act": ("leakyrelu", {"negative_slope": 0.1})}
        channels = tuple(features * 2**level for level in range(4))
        self.backbone = UNet(2, 1, 1, channels, (2, 2, 2), **options)
        self.multiple = 8
        last = list(self.backbone.parameters())[-2:]
        for parameter in last:
            nn.init.zeros_(parameter)

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give what is to be added, of shape (n, 1, height, width)."""
        height, width = images.shape[-2:]
        maps: torch.Tensor = self.backbone(continued(2 * images - 1, self.multiple))
        return maps[..., :height, :width]

    def render(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Add it, and stay within [0, 1]."""
        return (images + parameters).clamp(0, 1)

    def distance(self, difference: torch.Tensor) -> torch.Tensor:
        """Tell the absolute difference."""
        return difference.abs()
