"""What networks have in common that give the parameters of a rendering, and what they are taught by pairs of images.

Such a network looks at a small view of an image and answers with numbers: a few for the whole image, or some for every
pixel of the view. ``render`` puts an image of any resolution through what these numbers say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import nn
from torch.nn import functional

N_QUANTILES: Final = 16
N_STATISTICS: Final = N_QUANTILES + 2
"""Quantiles, mean and standard deviation."""


def global_statistics(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Measure brightness and contrast of whole images: what instance normalization takes out of them.

    Parameters
    ----------
    images : tensor of shape (n, 1, height, width)
        In [0, 1].
    weight : tensor of shape (n, 1, height, width)
        How much of each pixel counts, in [0, 1]; not zero everywhere.

    Returns
    -------
    tensor of shape (n, 18)
        Quantiles at the middles of 16 equal shares, mean, and standard deviation; those of greys doubled and moved to
        [-1, 1].

    Examples
    --------
    >>> images = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    >>> global_statistics(images, torch.ones_like(images))[0, [0, 15, 16, 17]]
    tensor([-1.,  1.,  0.,  1.])
    """
    greys, weights = images.flatten(1).float(), weight.flatten(1).float()
    # Nothing may count: where an image was turned and moved, its mask may have left the picture.
    shares = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-6)
    mean = (greys * shares).sum(dim=1, keepdim=True)
    deviation = ((greys - mean).square() * shares).sum(dim=1, keepdim=True).sqrt()
    ordered, order = greys.sort(dim=1)
    reached = shares.gather(1, order).cumsum(dim=1)
    middles = (torch.arange(N_QUANTILES, device=images.device) + 0.5) / N_QUANTILES
    # Rounding may leave the last sum a hair below one.
    at = torch.searchsorted(reached.contiguous(), middles.expand(len(greys), -1).contiguous())
    quantiles = ordered.gather(1, at.clamp_max(greys.shape[1] - 1))
    return torch.cat([2 * quantiles - 1, 2 * mean - 1, 2 * deviation], dim=1)


def continued(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Continue images by their last rows and columns, so that their sides can be halved.

    Parameters
    ----------
    images : tensor of shape (n, channels, height, width)
    multiple : int
        Of which the sides become multiples.

    Examples
    --------
    >>> continued(torch.rand(1, 1, 30, 32), 16).shape
    torch.Size([1, 1, 32, 32])
    """
    height, width = images.shape[-2:]
    return functional.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def start_at_zero(*layers: nn.Module) -> None:
    """Set the weights of last layers to zero: what a training starts from is then known, mostly the identity.

    Examples
    --------
    >>> layer = nn.Linear(2, 3)
    >>> start_at_zero(layer)
    >>> layer(torch.rand(1, 2)).detach()
    tensor([[0., 0., 0.]])
    """
    for layer in layers:
        for weights in layer.parameters():
            nn.init.zeros_(weights)


class RenderingNetwork(nn.Module):
    """Base of networks that give the parameters of a rendering.

    Hooks of a subclass: ``forward(images, weight)``, ``render(images, parameters)``, and where there is more to the
    loss than a squared difference of images ``penalty(parameters, batch)`` and ``distance(difference)``.
    """

    pointwise = True
    """Whether what becomes of a pixel depends on the parameters and its own grey value alone."""

    def forward(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Give parameters for images of shape (n, 1, height, width), of which ``weight`` tells what counts (hook)."""
        raise TypeError(f"{type(self).__name__} must define forward(images, weight)")  # pragma: no cover

    def render(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Put images of shape (n, 1, height, width) through what the parameters say (hook)."""
        raise TypeError(f"{type(self).__name__} must define render(images, parameters)")  # pragma: no cover

    def penalty(self, parameters: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Give what is added to the distance of images (hook)."""
        return parameters.new_zeros(())

    def distance(self, difference: torch.Tensor) -> torch.Tensor:
        """Tell how bad each pixel's difference is (hook)."""
        return difference.square()


class RenderingLoss(nn.Module):
    """Distance of rendered images from their targets, over the pixels that count, and the network's own penalty.

    Parameters
    ----------
    network : RenderingNetwork
        Whose parameters are judged.
    """

    def __init__(self, network: RenderingNetwork) -> None:
        super().__init__()
        # Within a tuple it is no part of this module: its weights are the optimizer's already.
        self._network = (network,)

    def forward(self, parameters: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Give the loss of a batch.

        Parameters
        ----------
        parameters : tensor
            As the network gave them.
        batch : mapping of str to tensor
            ``source``, ``target`` and ``weight`` of shape (n, 1, height, width), and what the penalty asks for.
        """
        return self.distance(parameters, batch) + self._network[0].penalty(parameters, batch)

    def distance(self, parameters: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Give the part of the loss that compares images."""
        (network,) = self._network
        rendered = network.render(batch["source"], parameters)
        weight = batch["weight"]
        return (network.distance(rendered - batch["target"]) * weight).sum() / weight.sum().clamp_min(1e-6)
