"""A multi-scale neural spline flow: an invertible network that gives the likelihood of an image.

Every level folds 2 x 2 pixels into channels, mixes and bends these in steps, and gives half of them out as latents; the
last level gives all. A step is a scale and shift a channel, an invertible 1 x 1 convolution, and a coupling: one half
of the channels is bent by monotonic splines whose shape a small network reads off the other half. The splines are
zuko's.

Images x in [0, 1] meet the flow as ``y = (round(x (L - 1)) + u) / L - 1/2`` with L grey levels and noise u in [0, 1)
(:func:`dequantize`), so that densities of y are probabilities of levels.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from zuko.transforms import MonotonicRQSTransform  # type: ignore[import-untyped]

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.parameters import check_number

_LEAST_SLOPE: Final = 1e-3
_LIMITS: Final = {
    "n_levels": (1, 8),
    "n_steps": (1, 32),
    "channels": (1, 1024),
    "n_blocks": (0, 16),
    "n_bins": (2, 64),
    "n_bits": (1, 16),
}


def squeeze(x: torch.Tensor) -> torch.Tensor:
    """Fold 2 x 2 pixels into channels: (n, c, h, w) becomes (n, 4 c, h / 2, w / 2).

    Examples
    --------
    >>> squeeze(torch.arange(4.0).view(1, 1, 2, 2)).flatten()
    tensor([0., 1., 2., 3.])
    """
    return functional.pixel_unshuffle(x, 2)


def unsqueeze(x: torch.Tensor) -> torch.Tensor:
    """Undo :func:`squeeze`."""
    return functional.pixel_shuffle(x, 2)


def dequantize(images: torch.Tensor, noise: torch.Tensor, n_bits: int, rounded: bool = True) -> torch.Tensor:
    """Bring images to where a flow takes them.

    Parameters
    ----------
    images : tensor of shape (n, 1, height, width)
        In [0, 1].
    noise : tensor of a shape that broadcasts
        In [0, 1).
    n_bits : int
        ``L = 2 ** n_bits`` grey levels.
    rounded : bool, default=True
        Whether grey values are rounded to levels first, as likelihoods need it. A search does not, as its small steps
        would be lost; :func:`quantize` undoes it then.

    Returns
    -------
    tensor
        In [-1/2, 1/2).

    Examples
    --------
    >>> dequantize(torch.tensor([0.0, 1.0]), torch.tensor(0.5), n_bits=1)
    tensor([-0.2500,  0.2500])
    """
    levels = images * (2**n_bits - 1)
    return ((levels.round() if rounded else levels) + noise) / 2**n_bits - 0.5


def quantize(y: torch.Tensor, noise: torch.Tensor, n_bits: int) -> torch.Tensor:
    """Undo :func:`dequantize` with ``rounded=False`` and the same noise.

    Examples
    --------
    >>> noise = torch.tensor(0.25)
    >>> quantize(dequantize(torch.tensor([0.0, 0.3]), noise, 8, rounded=False), noise, 8)
    tensor([0.0000, 0.3000])
    """
    return ((y + 0.5) * 2**n_bits - noise) / (2**n_bits - 1)


class ActNorm(nn.Module):
    """Scale and shift a channel; the first batch in training sets them so that it comes out normalized.

    That this has happened is part of the state: what is loaded never starts anew.

    Parameters
    ----------
    n_channels : int

    Examples
    --------
    >>> layer = ActNorm(1)
    >>> y, log_det = layer(torch.tensor([1.0, 5.0]).view(1, 1, 1, 2))
    >>> y.detach().flatten().round(decimals=3), log_det.detach().round(decimals=3)
    (tensor([-1.,  1.]), tensor([-1.3860]))
    """

    initialized: torch.Tensor

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1, n_channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, n_channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(False))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the scaled tensor and the log-determinant of each image."""
        if self.training and not bool(self.initialized):
            self._initialize(x.detach())
        y = (x + self.shift) * self.log_scale.exp()
        return y, (self.log_scale.sum() * (x.shape[2] * x.shape[3])).expand(len(x))

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        """Undo ``forward``."""
        return y * (-self.log_scale).exp() - self.shift

    def _initialize(self, x: torch.Tensor) -> None:
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        deviation = (x - mean).square().mean(dim=(0, 2, 3), keepdim=True).sqrt()
        self.shift.data.copy_(-mean)
        self.log_scale.data.copy_(-(deviation + 1e-6).log())
        self.initialized.fill_(True)


class InvertibleConvolution(nn.Module):
    """1 x 1 convolution ``P L U`` whose determinant is a product of what is learned; starts as a random rotation.

    Parameters
    ----------
    n_channels : int
    """

    permutation: torch.Tensor
    sign: torch.Tensor

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(n_channels, n_channels))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        self.log_diagonal = nn.Parameter(diagonal.abs().log())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))

    def weight(self) -> torch.Tensor:
        """Matrix of shape (n_channels, n_channels)."""
        one = torch.eye(len(self.sign), dtype=self.lower.dtype, device=self.lower.device)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        product: torch.Tensor = self.permutation @ (self.lower.tril(-1) + one) @ upper
        return product

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the mixed tensor and the log-determinant of each image."""
        mixed = functional.conv2d(x, self.weight()[:, :, None, None])
        return mixed, (self.log_diagonal.sum() * (x.shape[2] * x.shape[3])).expand(len(x))

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        """Undo ``forward``."""
        matrix = torch.linalg.inv(self.weight().double()).to(y.dtype)
        return functional.conv2d(y, matrix[:, :, None, None])


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        # Close to doing nothing at the start, as released.
        for parameter in self.second.parameters():
            nn.init.uniform_(parameter, -1e-3, 1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.second(functional.relu(self.first(functional.relu(x))))
        return x + inner


class SplineCoupling(nn.Module):
    """Bend half of the channels by splines that the other half chooses; beyond ``tail_bound`` nothing is bent.

    Parameters
    ----------
    n_channels : int
        Even.
    channels, n_blocks : int
        Of the network that chooses.
    n_bins : int
    tail_bound : float

    Notes
    -----
    Starts as the identity. Nothing in the network depends on other images of a batch.
    """

    def __init__(self, n_channels: int, channels: int, n_blocks: int, n_bins: int, tail_bound: float) -> None:
        super().__init__()
        self.n_bins = n_bins
        self.tail_bound = tail_bound
        half = n_channels // 2
        last = nn.Conv2d(channels, half * (3 * n_bins - 1), 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Conv2d(half, channels, 1), *(_Residual(channels) for _ in range(n_blocks)), nn.ReLU(), last
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the bent tensor and the log-determinant of each image."""
        kept, bent = x.chunk(2, dim=1)
        bent, log_slope = self._splines(kept).call_and_ladj(bent)
        return torch.cat([kept, bent], dim=1), log_slope.flatten(1).sum(dim=1)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        """Undo ``forward``."""
        kept, bent = y.chunk(2, dim=1)
        return torch.cat([kept, self._splines(kept).inv(bent)], dim=1)

    def _splines(self, kept: torch.Tensor) -> Any:
        shape = self.network(kept)
        n, _, height, width = shape.shape
        shape = shape.view(n, -1, 3 * self.n_bins - 1, height, width).permute(0, 1, 3, 4, 2)
        widths, heights, slopes = shape.split([self.n_bins, self.n_bins, self.n_bins - 1], dim=-1)
        return MonotonicRQSTransform(widths, heights, slopes, bound=self.tail_bound, slope=_LEAST_SLOPE)


class SplineFlow(nn.Module):
    """Multi-scale neural spline flow over images of one channel.

    Parameters
    ----------
    image_size : int
        Side in pixels, divisible by ``2 ** n_levels``.
    n_levels : int, default=4
        Times that 2 x 2 pixels are folded into channels.
    n_steps : int, default=4
        Steps a level.
    channels, n_blocks : int, default=32 and 1
        Width and residual blocks of the networks that choose splines.
    n_bins : int, default=8
        Pieces of a spline.
    tail_bound : float, default=3.0
        Beyond it splines leave values as they are.
    n_bits : int, default=8
        Grey levels that likelihoods count are ``2 ** n_bits``.

    Raises
    ------
    InvalidParameterError
        For sizes out of range.

    Notes
    -----
    As released but for two things: the networks have no batch normalization, which would let densities differ between
    training and use, and each level ends with one more scale and shift, so that the latents it gives out start
    normalized.

    References
    ----------
    Durkan, Bekasov, Murray, Papamakarios. Neural spline flows. NeurIPS 2019.
    Kingma, Dhariwal. Glow: generative flow with invertible 1x1 convolutions. NeurIPS 2018.

    Examples
    --------
    >>> flow = SplineFlow(8, n_levels=2, n_steps=1, channels=4).eval()
    >>> y = torch.rand(3, 1, 8, 8) - 0.5
    >>> latents, log_det = flow.encode(y)
    >>> [tuple(z.shape) for z in latents], torch.allclose(flow.decode(latents), y, atol=1e-5)
    ([(3, 2, 4, 4), (3, 8, 2, 2)], True)
    """

    def __init__(
        self,
        image_size: int,
        n_levels: int = 4,
        n_steps: int = 4,
        channels: int = 32,
        n_blocks: int = 1,
        n_bins: int = 8,
        tail_bound: float = 3.0,
        n_bits: int = 8,
    ) -> None:
        super().__init__()
        check_flow(image_size, n_levels, n_steps, channels, n_blocks, n_bins, tail_bound, n_bits)
        self.image_size = image_size
        self.n_bits = n_bits
        self.levels = nn.ModuleList()
        n_channels = 1
        for level in range(n_levels):
            n_channels *= 4
            layers: list[nn.Module] = []
            for _ in range(n_steps):
                coupling = SplineCoupling(n_channels, channels, n_blocks, n_bins, tail_bound)
                layers += [ActNorm(n_channels), InvertibleConvolution(n_channels), coupling]
            self.levels.append(nn.ModuleList([*layers, InvertibleConvolution(n_channels), ActNorm(n_channels)]))
            if level < n_levels - 1:
                n_channels //= 2

    def encode(self, y: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Latents of images.

        Parameters
        ----------
        y : tensor of shape (n, 1, image_size, image_size)
            As :func:`dequantize` gives it.

        Returns
        -------
        latents : list of tensor
            Of each level, finest first, of shape (n, channels, height, width); standard normal where y is what the
            flow was trained on.
        log_det : tensor of shape (n,)
            Logarithm of the absolute determinant of the Jacobian.
        """
        latents = []
        total = y.new_zeros(len(y))
        for number, level in enumerate(self.levels):
            y = squeeze(y)
            assert isinstance(level, nn.ModuleList)
            for layer in level:
                y, log_det = layer(y)
                total = total + log_det
            if number < len(self.levels) - 1:
                out, y = y.chunk(2, dim=1)
                latents.append(out)
        return [*latents, y], total

    def decode(self, latents: list[torch.Tensor]) -> torch.Tensor:
        """Undo ``encode``."""
        y = latents[-1]
        for number in reversed(range(len(self.levels))):
            if number < len(self.levels) - 1:
                y = torch.cat([latents[number], y], dim=1)
            level = self.levels[number]
            assert isinstance(level, nn.ModuleList)
            layers: list[Any] = list(level)
            for layer in reversed(layers):
                y = layer.inverse(y)
            y = unsqueeze(y)
        return y

    def log_prob(self, y: torch.Tensor) -> torch.Tensor:
        """Log-density of each image, of shape (n,)."""
        latents, log_det = self.encode(y)
        squares = torch.stack([z.square().flatten(1).sum(dim=1) for z in latents]).sum(dim=0)
        n_pixels = self.image_size**2
        return log_det - 0.5 * (squares + n_pixels * math.log(2 * math.pi))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Bits per dimension of each image, of shape (n,): what a level costs in the best code, the less the likelier.

        Parameters
        ----------
        y : tensor of shape (n, 1, image_size, image_size)
            As :func:`dequantize` gives it.
        """
        return self.n_bits - self.log_prob(y) / (self.image_size**2 * math.log(2))


def check_flow(
    image_size: Any,
    n_levels: Any,
    n_steps: Any,
    channels: Any,
    n_blocks: Any,
    n_bins: Any,
    tail_bound: Any,
    n_bits: Any,
) -> None:
    """Refuse sizes of a :class:`SplineFlow` that are out of range.

    Raises
    ------
    InvalidParameterError
    """
    given = locals()
    for name, (least, most) in _LIMITS.items():
        value = given[name]
        if not _whole(value) or not least <= value <= most:
            raise InvalidParameterError(f"{name} must be a whole number from {least} to {most}; got {value!r}.")
    if not _whole(image_size) or image_size < 2**n_levels or image_size % 2**n_levels:
        raise InvalidParameterError(
            f"image_size must be a whole number of pixels divisible by {2**n_levels} for n_levels={n_levels}, "
            f"which halves it {n_levels} times; got {image_size!r}."
        )
    check_number("tail_bound", tail_bound, "be a number above 0", lambda bound: 0 < bound < math.inf)


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
