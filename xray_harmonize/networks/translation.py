"""Unpaired translation between two sets of images: the networks and losses of CycleGAN (Zhu et al.)."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from xray_harmonize.networks.rendering import RenderingNetwork, continued

DEVIATION: Final = 0.02
"""Of all weights at the start."""


def _reflected(n_in: int, n_out: int, size: int) -> list[nn.Module]:
    return [nn.ReflectionPad2d(size // 2), nn.Conv2d(n_in, n_out, size), nn.InstanceNorm2d(n_out)]


class _ResidualBlock(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        layers = [*_reflected(features, features, 3), nn.ReLU(inplace=True), *_reflected(features, features, 3)]
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = maps + self.layers(maps)
        return result


class Generator(RenderingNetwork):
    """ResNet generator: convolution of 7 x 7, two of stride 2, residual blocks, and the way back up.

    Parameters
    ----------
    features : int, default=64
        Channels at full resolution, four times as many in the blocks.
    n_blocks : int, default=9

    Notes
    -----
    Its answer is the difference to the image, so that it can be found of a small view and added to the full one; at
    full resolution this is the published generator. Sides that are no multiples of 4 are continued by their last pixels
    and cut back.

    Padding by reflection and normalization without parameters make it blind to brightness and contrast of the whole
    image: images that differ in these alone are given the same answer.

    Examples
    --------
    >>> network = Generator(features=4, n_blocks=1)
    >>> images = torch.rand(2, 1, 32, 30)
    >>> network.translated(images).shape
    torch.Size([2, 1, 32, 30])
    """

    pointwise = False
    multiple = 4
    """Sides are made multiples of this, as they are halved twice."""

    def __init__(self, features: int = 64, n_blocks: int = 9) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_reflected(1, features, 7), nn.ReLU(inplace=True)]
        for n_in, n_out in ((features, 2 * features), (2 * features, 4 * features)):
            layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), nn.InstanceNorm2d(n_out), nn.ReLU(inplace=True)]
        layers += [_ResidualBlock(4 * features) for _ in range(n_blocks)]
        for n_in, n_out in ((4 * features, 2 * features), (2 * features, features)):
            up = nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=1)
            layers += [up, nn.InstanceNorm2d(n_out), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(features, 1, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        _start(self)

    def translated(self, images: torch.Tensor) -> torch.Tensor:
        """Give images of the other set, of shape (n, 1, height, width), in [0, 1]."""
        height, width = images.shape[-2:]
        result: torch.Tensor = self.layers(continued(2 * images - 1, self.multiple))[..., :height, :width]
        return (result.float() + 1) / 2

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give what is to be added to images, of shape (n, 1, height, width)."""
        return self.translated(images) - images

    def render(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Add it, and stay within [0, 1]."""
        return (images + parameters).clamp(0, 1)


class PatchCritic(nn.Module):
    """PatchGAN: tells of every patch of 70 x 70 pixels whether it is taken from the set or made.

    Parameters
    ----------
    features : int, default=64
        Channels of the first convolution, doubled on each of the next three.

    Examples
    --------
    >>> PatchCritic(4)(torch.rand(2, 1, 32, 32)).shape
    torch.Size([2, 1, 2, 2])
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, features, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for k, stride in ((1, 2), (2, 2), (4, 1)):
            convolution = nn.Conv2d(k * features, 2 * k * features, 4, stride=stride, padding=1)
            layers += [convolution, nn.InstanceNorm2d(2 * k * features), nn.LeakyReLU(0.2, inplace=True)]
        layers.append(nn.Conv2d(8 * features, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        _start(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give a number a patch, of shape (n, 1, rows, columns): 1 for those of the set, 0 for those that were made."""
        result: torch.Tensor = self.layers(2 * images - 1)
        return result.float()


def _start(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=DEVIATION)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


class ImageBuffer:
    """Images made before, some of which a critic sees in place of the newest.

    Parameters
    ----------
    size : int
        So many are kept; 0 keeps none.
    generator : torch.Generator
        On the CPU.

    Examples
    --------
    >>> buffer = ImageBuffer(1, torch.Generator().manual_seed(0))
    >>> [int(buffer.exchange(torch.full((1, 1, 1, 1), float(k)))) for k in range(6)]
    [0, 0, 1, 2, 3, 4]
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size = size
        self.generator = generator
        self.kept: list[torch.Tensor] = []

    def exchange(self, images: torch.Tensor) -> torch.Tensor:
        """Give as many images: half of them new, half from before, in whose place new ones are kept.

        Parameters
        ----------
        images : tensor of shape (n, 1, height, width)
            Without gradients, all of one shape.
        """
        if not self.size:
            return images
        shown = []
        for image in images.split(1):
            if len(self.kept) < self.size:
                self.kept.append(image)
            elif torch.rand((), generator=self.generator) < 0.5:
                place = int(torch.randint(self.size, (), generator=self.generator))
                image, self.kept[place] = self.kept[place], image
            shown.append(image)
        return torch.cat(shown)


class CycleNetworks(nn.Module):
    """Both generators and both critics, and what each of them minimizes.

    Parameters
    ----------
    features, n_blocks
        As :class:`Generator`; critics have as many channels.
    cycle_weight : float, default=10
        Of the mean absolute difference between an image and what came back after both ways.
    identity_weight : float, default=0.5
        Times ``cycle_weight``: of the difference between an image of the set and its translation into that set.
    """

    def __init__(
        self, features: int = 64, n_blocks: int = 9, cycle_weight: float = 10.0, identity_weight: float = 0.5
    ) -> None:
        super().__init__()
        self.to_reference = Generator(features, n_blocks)
        self.to_source = Generator(features, n_blocks)
        self.of_reference = PatchCritic(features)
        self.of_source = PatchCritic(features)
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight

    def generators(self) -> list[nn.Parameter]:
        """Give the weights of both generators."""
        return [*self.to_reference.parameters(), *self.to_source.parameters()]

    def critics(self) -> list[nn.Parameter]:
        """Give the weights of both critics."""
        return [*self.of_reference.parameters(), *self.of_source.parameters()]

    def forward(self, source: torch.Tensor, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Translate both: give made images of the reference, and of the source."""
        return self.to_reference.translated(source), self.to_source.translated(reference)

    def generator_loss(
        self,
        source: torch.Tensor,
        reference: torch.Tensor,
        made_reference: torch.Tensor,
        made_source: torch.Tensor,
    ) -> torch.Tensor:
        """Tell how far made images are from passing for those of the set, from the way back, and from staying."""
        passing = _away_from(self.of_reference(made_reference), 1.0) + _away_from(self.of_source(made_source), 1.0)
        cycle = _difference(self.to_source.translated(made_reference), source)
        cycle = cycle + _difference(self.to_reference.translated(made_source), reference)
        loss = passing + self.cycle_weight * cycle
        if self.identity_weight:
            staying = _difference(self.to_reference.translated(reference), reference)
            staying = staying + _difference(self.to_source.translated(source), source)
            loss = loss + self.cycle_weight * self.identity_weight * staying
        return loss

    def critic_loss(
        self,
        source: torch.Tensor,
        reference: torch.Tensor,
        made_reference: torch.Tensor,
        made_source: torch.Tensor,
    ) -> torch.Tensor:
        """Tell how far the critics are from telling those of the set from made ones, given without gradients."""
        of_reference = _away_from(self.of_reference(reference), 1.0) + _away_from(
            self.of_reference(made_reference), 0.0
        )
        of_source = _away_from(self.of_source(source), 1.0) + _away_from(self.of_source(made_source), 0.0)
        return 0.5 * (of_reference + of_source)


def _away_from(judged: torch.Tensor, wanted: float) -> torch.Tensor:
    return (judged - wanted).square().mean()


def _difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    # In [-1, 1], as published: twice the difference of greys in [0, 1].
    return 2 * (first - second).abs().mean()
