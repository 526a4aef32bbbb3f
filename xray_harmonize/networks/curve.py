"""GDCE's global curve and the network that reads it off an image (Lu et al., see :class:`CurveEstimator`).

The curve composes ``n_iterations`` parabolas. It rises for coefficients between -1 and 1, keeps black black and white
white, and can be inverted step by step::

    I_n = I_{n-1} + alpha_n I_{n-1} (1 - I_{n-1}),    n = 1 ... N
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.exceptions import InvalidParameterError

FIRST_CHANNELS: Final = 16
MAX_LAYERS: Final = 9
MAX_ITERATIONS: Final = 32


def apply_curve(image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Put images through their curves (equation 1 of the paper).

    Parameters
    ----------
    image : tensor of shape (n, ...)
        Values in [0, 1]; outside the iteration runs away from the interval doubly exponentially.
    alpha : tensor of shape (n, n_iterations)
        Coefficients in [-1, 1].

    Returns
    -------
    tensor of shape (n, ...)
        Values in [0, 1].

    Notes
    -----
    With all coefficients 1 the curve is 1 - (1 - x)^(2^N), with all -1 it is x^(2^N).

    Examples
    --------
    >>> image = torch.tensor([[0.0, 0.5, 1.0]])
    >>> apply_curve(image, torch.tensor([[1.0, 1.0]]))
    tensor([[0.0000, 0.9375, 1.0000]])
    """
    for step in alpha.unbind(dim=1):
        step = step.view(-1, *[1] * (image.ndim - 1))
        image = image + step * (image * (1 - image))
    return image


def invert_curve(image: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Undo :func:`apply_curve`, exactly but for rounding.

    Parameters
    ----------
    image : tensor of shape (n, ...)
        Values in [0, 1].
    alpha : tensor of shape (n, n_iterations)
        Coefficients in (-1, 1).

    Returns
    -------
    tensor of shape (n, ...)

    Notes
    -----
    Each parabola is solved for its root in [0, 1], written so that nothing cancels where a coefficient is small.

    Examples
    --------
    >>> alpha = torch.tensor([[0.9, -0.3]], dtype=torch.float64)
    >>> image = torch.tensor([[0.2, 0.7]], dtype=torch.float64)
    >>> torch.allclose(invert_curve(apply_curve(image, alpha), alpha), image)
    True
    """
    for step in reversed(alpha.unbind(dim=1)):
        step = step.view(-1, *[1] * (image.ndim - 1))
        root = ((1 + step) ** 2 - 4 * step * image).clamp_min(0).sqrt()
        # Where slope and value vanish together (alpha = -1 at black), the limit is black.
        image = 2 * image / (1 + step + root).clamp_min(torch.finfo(image.dtype).tiny)
    return image


class CurveEstimator(nn.Module):
    """Network that reads the coefficients of a curve off an image.

    Parameters
    ----------
    n_layers : int, default=5
        Convolutions, of 16, 32, 64, ... channels, in 1 ... 9.
    n_iterations : int, default=8
        Coefficients, in 1 ... 32.
    view_size : int, default=256
        Side in pixels of what the network sees of an image, at least ``2 ** (n_layers - 1)``.

    Raises
    ------
    InvalidParameterError
        For numbers out of range.

    Notes
    -----
    The image and its negative, both resized without antialiasing, are the two channels of the input. Each 3 x 3
    convolution is followed by ReLU and halving by averages, but for the last, whose maps are averaged whole; three
    linear layers (64, 32, N) and a hyperbolic tangent end it. Nothing is normalized, as that would take away the
    brightness the curve depends on.

    References
    ----------
    Lu, Wang, Juodelyte, Cheplygina. Learning to harmonize cross-vendor X-ray images by non-linear image dynamics
    correction. 2025. The input's second channel, the sizes and the pooling are those of the released network.

    Examples
    --------
    >>> network = CurveEstimator()
    >>> sum(parameter.numel() for parameter in network.parameters())
    411256
    >>> network(torch.rand(3, 1, 40, 50)).shape
    torch.Size([3, 8])
    """

    def __init__(self, n_layers: int = 5, n_iterations: int = 8, view_size: int = 256) -> None:
        super().__init__()
        check_curve(n_layers, n_iterations, view_size)
        self.n_layers = n_layers
        self.n_iterations = n_iterations
        self.view_size = view_size
        layers: list[nn.Module] = []
        channels = 2
        for i in range(n_layers):
            layers += [nn.Conv2d(channels, FIRST_CHANNELS * 2**i, 3, padding=1), nn.ReLU()]
            channels = FIRST_CHANNELS * 2**i
            if i < n_layers - 1:
                layers.append(nn.AvgPool2d(2))
        self.convolutions = nn.Sequential(*layers)
        self.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = nn.Sequential(
            nn.Linear(channels, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, n_iterations), nn.Tanh()
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Coefficients of shape (n, n_iterations) for images of shape (n, 1, height, width) in [0, 1]."""
        if images.shape[-2:] != (self.view_size, self.view_size):
            size = (self.view_size, self.view_size)
            images = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        return self.coefficients(images)

    def coefficients(self, views: torch.Tensor) -> torch.Tensor:
        """Give the same for views of any size, not resized."""
        alpha: torch.Tensor = self.head(self.features(views))
        return alpha

    def features(self, views: torch.Tensor) -> torch.Tensor:
        """Means of the last maps, of shape (n, n_channels), for views of any size."""
        both = torch.cat([views, 1 - views], dim=1).contiguous(memory_format=torch.channels_last)
        means: torch.Tensor = self.convolutions(both).mean(dim=(2, 3))
        return means


class ScannerCurves(nn.Module):
    """One curve a scanner: coefficients that are learned themselves, whatever an image shows.

    Parameters
    ----------
    n_scanners : int
    n_iterations : int, default=8

    Examples
    --------
    >>> ScannerCurves(2, 8)(torch.tensor([0, 1, 1])).shape
    torch.Size([3, 8])
    """

    def __init__(self, n_scanners: int, n_iterations: int = 8) -> None:
        super().__init__()
        # At the identity all iterations have one and the same gradient; a little noise lets them part.
        self.raw = nn.Parameter(torch.empty(n_scanners, n_iterations).uniform_(-0.05, 0.05))

    def forward(self, scanner: torch.Tensor) -> torch.Tensor:
        """Coefficients of shape (n, n_iterations) for scanners by number, of shape (n,)."""
        return torch.tanh(self.raw)[scanner]


def check_curve(n_layers: Any, n_iterations: Any, view_size: Any) -> None:
    """Refuse sizes of a :class:`CurveEstimator` that are out of range.

    Raises
    ------
    InvalidParameterError
    """
    for name, value, least, most in (
        ("n_layers", n_layers, 1, MAX_LAYERS),
        ("n_iterations", n_iterations, 1, MAX_ITERATIONS),
    ):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidParameterError(f"{name} must be a whole number from {least} to {most}; got {value!r}.")
    if not isinstance(view_size, int | np.integer) or isinstance(view_size, bool) or view_size < 2 ** (n_layers - 1):
        raise InvalidParameterError(
            f"view_size must be a whole number of pixels, at least {2 ** (n_layers - 1)} for n_layers={n_layers}, "
            f"which halves it {n_layers - 1} times; got {view_size!r}."
        )
