"""BlindHarmony's search: an image that is close to the source and likely under a flow of the reference.

Published as minimizing ``b1 (1 - NCC(x, s)) + b2 |M G x|_1 + a |f(x)|^2`` over images x, for the source s, gradients G,
a mask M of where the source has no edge, and the latents f(x). Done by turns: a step in image space against the first
two terms, a step in latent space against the third.

Every step is relative to the image's own contrast, so that neither the number of pixels nor the grey scale decides how
far it goes. Every image is searched for on its own. Knows tensors and flows, but no image sets and no estimators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.networks.flow import SplineFlow, dequantize, quantize
from xray_harmonize.parameters import check_whole_numbers

SIMILARITIES: Final = ("ncc", "cosine")
LATENTS: Final = ("typical", "origin")

_TINY: Final = 1e-12
# What a decoded image may at most be off [-1/2, 1/2]; published as 100 too.
_RUNAWAY: Final = 100.0
# Sobel's derivatives in grey values a pixel, along columns and along rows.
_SOBEL: Final = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


# -- the distance ------------------------------------------------------------------------------


def similarity(x: torch.Tensor, source: torch.Tensor, inside: torch.Tensor, kind: str = "ncc") -> torch.Tensor:
    """How alike images are to their sources, whatever their contrast.

    Parameters
    ----------
    x, source : tensor of shape (n, 1, height, width)
    inside : tensor of bool of the same shape
        Pixels that count.
    kind : {"ncc", "cosine"}, default="ncc"
        Normalized cross-correlation, whatever the brightness too; or the same of images whose means were not removed,
        as released.

    Returns
    -------
    tensor of shape (n,)
        In [-1, 1]; 0 where either is constant.

    Examples
    --------
    >>> source, inside = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    >>> similarity(0.2 + 0.5 * source, source, inside).round(decimals=4)
    tensor([1.])
    """
    x, source = _centred(x, inside, kind), _centred(source, inside, kind)
    rms = _rms(x, inside) * _rms(source, inside)
    return (_mean(x * source, inside) / rms.clamp_min(_TINY)).flatten()


def similarity_gradient(x: torch.Tensor, source: torch.Tensor, inside: torch.Tensor, kind: str = "ncc") -> torch.Tensor:
    """Direction in which images become less like their sources, in grey values.

    The gradient of ``1 - similarity``, times the number of pixels and the square of the contrast of x. A step of length
    1 against it leaves the source, at brightness and contrast of x ("cosine": at its scale), and as much of x as the
    two are unlike.

    Parameters
    ----------
    x, source : tensor of shape (n, 1, height, width)
    inside : tensor of bool of the same shape
    kind : {"ncc", "cosine"}, default="ncc"

    Returns
    -------
    tensor of shape (n, 1, height, width)
        Zero outside, and where either image is constant.

    Examples
    --------
    >>> x, source = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 0.4, 0.4])
    >>> x, source = x.view(1, 1, 2, 2), source.view(1, 1, 2, 2)
    >>> (x - similarity_gradient(x, source, torch.ones(1, 1, 2, 2, dtype=torch.bool))).flatten()
    tensor([-0.5000,  0.5000,  0.5000,  1.5000])
    """
    alike = similarity(x, source, inside, kind).view(-1, 1, 1, 1)
    x, source = _centred(x, inside, kind), _centred(source, inside, kind)
    of_x, of_source = _rms(x, inside), _rms(source, inside)
    gradient = alike * x - of_x / of_source.clamp_min(_TINY) * source
    return torch.where((of_x > _TINY) & (of_source > _TINY), gradient, torch.zeros_like(gradient))


def gradients(x: torch.Tensor) -> torch.Tensor:
    """Sobel's derivatives, of shape (n, 2, height - 2, width - 2): not of the outermost pixels, that have none.

    Examples
    --------
    >>> ramp = torch.arange(5.0).expand(1, 1, 3, 5)
    >>> gradients(ramp).flatten().tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """
    return functional.conv2d(x, _kernels(x))


def edge_gradient(x: torch.Tensor, flat: torch.Tensor, corner: torch.Tensor) -> torch.Tensor:
    """Gradient of ``|M G x|_1``, the sum of the derivatives where the source is flat.

    Parameters
    ----------
    x : tensor of shape (n, 1, height, width)
    flat : tensor of bool of shape (n, 2, height - 2, width - 2)
        M, see :func:`flat_mask`.
    corner : tensor of shape (n, 1, 1, 1)
        Derivatives below it count with their square, so that steps do not go to and fro about zero.

    Returns
    -------
    tensor of shape (n, 1, height, width)
        The exact adjoint ``G^T M sign(G x)``, at the border too.
    """
    slopes = gradients(x)
    signs = flat * slopes / torch.maximum(slopes.abs(), corner.clamp_min(_TINY))
    return functional.conv_transpose2d(signs, _kernels(x))


def flat_mask(source: torch.Tensor, inside: torch.Tensor, foreground: float, percentile: float) -> torch.Tensor:
    """Where a source has no edge, along columns and along rows.

    Parameters
    ----------
    source : tensor of shape (n, 1, height, width)
    inside : tensor of bool of the same shape
    foreground : float
        Only pixels above this fraction of the source's own range, as air is flat in every image.
    percentile : float
        Share in percent of the foreground's derivatives that counts as flat: those up to their percentile, itself
        included, so that a foreground that is mostly constant has a mask too.

    Returns
    -------
    tensor of bool of shape (n, 2, height - 2, width - 2)
    """
    steep = gradients(source).abs()
    flat = torch.zeros_like(steep, dtype=torch.bool)
    # Derivatives next to what does not count tell of a border of the mask.
    counts = -functional.max_pool2d(-inside.to(source.dtype), 3, 1) > 0.5
    for i in range(len(source)):
        values = source[i][inside[i]]
        if not len(values):
            continue
        low, high = values.min(), values.max()
        body = counts[i, 0] & (source[i, 0, 1:-1, 1:-1] > low + foreground * (high - low))
        if body.any():
            for axis in range(2):
                limit = torch.quantile(steep[i, axis][body], percentile / 100)
                flat[i, axis] = body & (steep[i, axis] <= limit)
    return flat


# -- the search --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Search:
    """How an image is searched for.

    Parameters
    ----------
    n_iterations : int
        Turns.
    similarity : {"ncc", "cosine"}
        See :func:`similarity`.
    similarity_step : float
        Share of the way back to the source each turn, in [0, 1]; see :func:`similarity_gradient`.
    edge_step : float
        Step against edges that the source lacks, in units of the image's standard deviation.
    edge_percentile : float
        See :func:`flat_mask`.
    foreground : float
        See :func:`flat_mask`.
    latent_step : float
        Share of the way in latent space each turn, in [0, 1].
    latent : {"typical", "origin"}
        Where that way leads: to latents whose channels have means and deviations that are typical of the reference, or
        to zero.
    tolerance : float
        Spreads over the reference's images, up to which a mean or deviation is typical.

    Raises
    ------
    InvalidParameterError
        If one of them is out of range.

    Examples
    --------
    >>> Search(latent="infinity")
    Traceback (most recent call last):
    xray_harmonize.exceptions.InvalidParameterError: latent must be 'typical' or 'origin'; got 'infinity'.
    """

    n_iterations: int = 10
    similarity: str = "ncc"
    similarity_step: float = 0.3
    edge_step: float = 0.01
    edge_percentile: float = 30.0
    foreground: float = 0.05
    latent_step: float = 0.5
    latent: str = "typical"
    tolerance: float = 0.5

    def __post_init__(self) -> None:
        check_whole_numbers({"n_iterations": self.n_iterations}, {"n_iterations": 1})
        for name, known in (("similarity", SIMILARITIES), ("latent", LATENTS)):
            value = getattr(self, name)
            if value not in known:
                raise InvalidParameterError(f"{name} must be {' or '.join(map(repr, known))}; got {value!r}.")
        for name, most in _MOST.items():
            value = getattr(self, name)
            if not isinstance(value, int | float | np.number) or not 0 <= value <= most:
                raise InvalidParameterError(f"{name} must lie in [0, {most:g}]; got {value!r}.")

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Search:
        """Take what belongs here from an estimator's parameters."""
        return cls(**{name: parameters[name] for name in cls.__dataclass_fields__})


_MOST: Final = {
    "similarity_step": 1.0,
    "edge_step": 1.0,
    "edge_percentile": 100.0,
    "foreground": 1.0,
    "latent_step": 1.0,
    "tolerance": 100.0,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Parameters
    ----------
    images : tensor of shape (n, 1, image_size, image_size)
        In [0, 1].
    fallbacks : tensor of int of shape (n,)
        Turns whose step in latent space was not taken, as it led to no image.
    """

    images: torch.Tensor
    fallbacks: torch.Tensor


def search(
    flow: SplineFlow,
    source: torch.Tensor,
    inside: torch.Tensor,
    noise: torch.Tensor,
    typical: list[torch.Tensor],
    settings: Search,
) -> Found:
    """Search for the harmonized images of sources, by turns in image space and in latent space.

    Parameters
    ----------
    flow : SplineFlow
        Of the reference, in evaluation mode.
    source : tensor of shape (n, 1, image_size, image_size)
        What the search starts from and stays close to, in [0, 1].
    inside : tensor of bool of the same shape
        Pixels that count.
    noise : tensor of shape (1, 1, image_size, image_size)
        In [0, 1); the same in every turn, so that it is put in and taken out again.
    typical : list of tensor of shape (2, 2, n_channels)
        Of each level: mean and spread, over images of the reference, of :func:`channel_statistics`.
    settings : Search

    Returns
    -------
    Found
    """
    flat = flat_mask(source, inside, settings.foreground, settings.edge_percentile)
    x, fallbacks = source, torch.zeros(len(source), dtype=torch.int64, device=source.device)
    for _ in range(settings.n_iterations):
        x = image_step(x, source, inside, flat, settings)
        y = latent_step(flow, dequantize(x, noise, flow.n_bits, rounded=False), typical, settings)
        led_nowhere = ~(y.abs() <= _RUNAWAY).flatten(1).all(dim=1)
        fallbacks = fallbacks + led_nowhere
        decoded = quantize(y, noise, flow.n_bits)
        x = torch.where(led_nowhere.view(-1, 1, 1, 1), x, decoded).clamp(0, 1)
    return Found(x, fallbacks)


def image_step(
    x: torch.Tensor, source: torch.Tensor, inside: torch.Tensor, flat: torch.Tensor, settings: Search
) -> torch.Tensor:
    """One step towards the source and against edges that it lacks."""
    length = settings.edge_step * _rms(_centred(x, inside, "ncc"), inside)
    towards = settings.similarity_step * similarity_gradient(x, source, inside, settings.similarity)
    return x - towards - length * edge_gradient(x, flat, length)


def latent_step(flow: SplineFlow, y: torch.Tensor, typical: list[torch.Tensor], settings: Search) -> torch.Tensor:
    """One step in latent space, and back to images.

    Towards the origin, as published, every image is pulled to the flow's one most expected image, those of the
    reference too. Towards typical statistics, images of the reference stay where they are.
    """
    latents, _ = flow.encode(y)
    moved = []
    for z, (center, spread) in zip(latents, typical, strict=True):
        goal = torch.zeros_like(z)
        if settings.latent == "typical":
            own = channel_statistics(z)
            far = settings.tolerance * spread
            mean, deviation = torch.minimum(torch.maximum(own, center - far), center + far).unbind(dim=1)
            own_mean, own_deviation = own.unbind(dim=1)
            gain = deviation.clamp_min(0) / own_deviation.clamp_min(_TINY)
            goal = (z - _spatial(own_mean)) * _spatial(gain) + _spatial(mean)
        moved.append(z + settings.latent_step * (goal - z))
    return flow.decode(moved)


def channel_statistics(z: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of every channel over its pixels, of shape (n, 2, n_channels).

    A change of tone shifts a channel as a whole, and is lost in the sum over all latents that a likelihood is.
    """
    mean = z.mean(dim=(2, 3))
    deviation = (z - _spatial(mean)).square().mean(dim=(2, 3)).sqrt()
    return torch.stack([mean, deviation], dim=1)


def _spatial(values: torch.Tensor) -> torch.Tensor:
    return values[:, :, None, None]


# -- sums over what counts ---------------------------------------------------------------------


def _mean(x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    number = inside.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)
    return (x * inside).sum(dim=(1, 2, 3), keepdim=True) / number


def _centred(x: torch.Tensor, inside: torch.Tensor, kind: str) -> torch.Tensor:
    return (x - _mean(x, inside)) * inside if kind == "ncc" else x * inside


def _rms(x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    return _mean(x.square(), inside).sqrt()


def _kernels(x: torch.Tensor) -> torch.Tensor:
    along = x.new_tensor(_SOBEL) / 8
    return torch.stack([along, along.T])[:, None]
