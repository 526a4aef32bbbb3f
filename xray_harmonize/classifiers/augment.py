"""Random changes of training images, a whole batch at a time.

Pure functions: a batch of images in [0, 1] and a random generator in, a new batch of the same
shape in [0, 1] out. Every image draws its own change. Numbers are drawn on the CPU, so that one
seed gives one training whatever the device.

``"tone"`` is the control that any harmonizer has to beat: a classifier which has seen many tone
curves needs no harmonization of tone. ``"strong"`` adds what else differs between sites: field of
view, sharpness, noise, borders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch.nn import functional

from xray_harmonize.exceptions import InvalidParameterError

AUGMENTATIONS: Final = ("tone", "strong")
N_KNOTS: Final = 65


def augmentation(augment: str | None, flip: bool) -> Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None:
    """Chain of changes by name.

    Parameters
    ----------
    augment : {None, "tone", "strong"}
        ``"tone"``: :func:`random_tone`. ``"strong"``: :func:`random_affine`,
        :func:`random_sharpness`, :func:`random_tone`, :func:`random_noise`,
        :func:`random_borders`, in this order.
    flip : bool
        Whether :func:`random_flip` comes first.

    Returns
    -------
    callable or None
        ``change(images, generator)``; None where nothing is to be changed.

    Raises
    ------
    InvalidParameterError
        For another name.

    Examples
    --------
    >>> change = augmentation("strong", flip=True)
    >>> images = torch.rand(4, 1, 32, 32)
    >>> changed = change(images, torch.Generator().manual_seed(0))
    >>> changed.shape, bool((changed >= 0).all() and (changed <= 1).all())
    (torch.Size([4, 1, 32, 32]), True)
    """
    if augment is not None and augment not in AUGMENTATIONS:
        raise InvalidParameterError(f"augment must be None, 'tone' or 'strong'; got {augment!r}.")
    steps: list[Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = []
    if flip:
        steps.append(random_flip)
    if augment == "tone":
        steps.append(random_tone)
    if augment == "strong":
        steps += [random_affine, random_sharpness, random_tone, random_noise, random_borders]
    if not steps:
        return None

    def change(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        for step in steps:
            images = step(images, generator)
        return images

    return change


def _uniform(images: torch.Tensor, generator: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    """One number (or ``shape`` of them) an image, on the images' device."""
    drawn = torch.rand(len(images), *shape, generator=generator)
    return (low + (high - low) * drawn).to(images.device)


def _chosen(images: torch.Tensor, generator: torch.Generator, probability: float) -> torch.Tensor:
    """Draw True for images that are to be changed, shaped to broadcast over their pixels."""
    return _uniform(images, generator, 0.0, 1.0, 1, 1, 1) < probability


# -- tone --------------------------------------------------------------------------------------


def random_tone_curves(
    n: int, generator: torch.Generator, strength: float = 1.0, range_loss: float = 0.5
) -> torch.Tensor:
    """Smooth increasing curves of [0, 1] into [0, 1].

    The logarithm of a curve's slope is a random sum of three cosines, log y'(x) =
    sum_k a_k cos(pi k x), a_k normal with deviation ``strength / k``: the first bends like a
    gamma, the second like a sigmoid or its inverse. Half the curves also lose range: black rises
    from 0 and white falls from 1, each uniformly by up to ``range_loss``.

    Parameters
    ----------
    n : int
        Number of curves.
    generator : torch.Generator
        On the CPU.
    strength : float, default=1.0
        0 gives straight lines.
    range_loss : float, default=0.5
        Largest loss at either end, below 0.5 for curves that always rise.

    Returns
    -------
    tensor of shape (n, 65)
        Values at equally spaced knots from 0 to 1.

    Examples
    --------
    >>> curves = random_tone_curves(2, torch.Generator().manual_seed(0))
    >>> bool((curves.diff() > 0).all())
    True
    """
    x = (torch.arange(N_KNOTS - 1) + 0.5) / (N_KNOTS - 1)
    order = torch.arange(1, 4)
    waves = torch.cos(torch.pi * order[:, None] * x)
    slope = torch.exp((strength * torch.randn(n, 3, generator=generator) / order) @ waves)
    rise = torch.cumsum(slope, dim=1)
    curves = functional.pad(rise / rise[:, -1:], (1, 0))
    ends = range_loss * torch.rand(n, 2, generator=generator)
    ends = ends * (torch.rand(n, 1, generator=generator) < 0.5)
    black, white = ends[:, :1], 1 - ends[:, 1:]
    return black + (white - black) * curves


def apply_tone_curves(images: torch.Tensor, curves: torch.Tensor) -> torch.Tensor:
    """Put each image through its own curve, linear between knots.

    Parameters
    ----------
    images : tensor of shape (n, channels, height, width)
        In [0, 1].
    curves : tensor of shape (n, n_knots)
        As :func:`random_tone_curves` gives them.

    Returns
    -------
    tensor of shape (n, channels, height, width)

    Examples
    --------
    >>> identity = torch.linspace(0, 1, 65).repeat(2, 1)
    >>> images = torch.rand(2, 1, 4, 4)
    >>> torch.allclose(apply_tone_curves(images, identity), images, atol=1e-6)
    True
    """
    n_intervals = curves.shape[1] - 1
    position = images.flatten(1) * n_intervals
    left = position.long().clamp_(0, n_intervals - 1)
    low = torch.gather(curves, 1, left)
    rise = torch.gather(curves.diff(dim=1), 1, left)
    return (low + rise * (position - left)).view_as(images)


def random_tone(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Put each image through a random tone curve, see :func:`random_tone_curves`."""
    curves = random_tone_curves(len(images), generator).to(images.device)
    return apply_tone_curves(images, curves).clamp_(0, 1)


# -- geometry ----------------------------------------------------------------------------------


def random_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirror half of the images left to right."""
    return torch.where(_chosen(images, generator, 0.5), images.flip(-1), images)


def random_affine(
    images: torch.Tensor,
    generator: torch.Generator,
    degrees: float = 7.0,
    zoom: float = 0.15,
    aspect: float = 0.08,
    shift: float = 0.06,
) -> torch.Tensor:
    """Turn, zoom, stretch and move each image a little; what comes in from outside is black.

    Parameters
    ----------
    images : tensor of shape (n, 1, height, width)
    generator : torch.Generator
    degrees : float, default=7.0
        Largest rotation.
    zoom : float, default=0.15
        Largest relative enlargement and reduction.
    aspect : float, default=0.08
        Largest relative stretch of the width against the height.
    shift : float, default=0.06
        Largest move, in image sides.

    Returns
    -------
    tensor of shape (n, 1, height, width)
    """
    angle = torch.deg2rad(_uniform(images, generator, -degrees, degrees))
    scale = 1 / (1 + _uniform(images, generator, -zoom, zoom))
    stretch = 1 + _uniform(images, generator, -aspect, aspect)
    move = _uniform(images, generator, -2 * shift, 2 * shift, 2)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cos * stretch, -sin, move[:, 0], sin * stretch, cos, move[:, 1]], dim=1)
    grid = functional.affine_grid(rows.view(-1, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False).clamp_(0, 1)


def random_borders(
    images: torch.Tensor, generator: torch.Generator, width: float = 0.12, probability: float = 0.2
) -> torch.Tensor:
    """Cover bands along the sides, as collimators, padding and film edges do.

    Parameters
    ----------
    images : tensor of shape (n, 1, height, width)
    generator : torch.Generator
    width : float, default=0.12
        Widest band, in image sides.
    probability : float, default=0.2
        Of a band at each side. Four of five are black, the rest white.

    Returns
    -------
    tensor of shape (n, 1, height, width)
    """
    height, length = images.shape[-2:]
    bands = _uniform(images, generator, 0.0, width, 4)
    bands = bands * (_uniform(images, generator, 0.0, 1.0, 4) < probability)
    value = (_uniform(images, generator, 0.0, 1.0, 1, 1, 1) < 0.2).to(images.dtype)
    # Centres of pixels, in image sides, so that no band covers nothing.
    y = ((torch.arange(height, device=images.device) + 0.5) / height)[None, :, None]
    x = ((torch.arange(length, device=images.device) + 0.5) / length)[None, None, :]
    top, bottom, left, right = (bands[:, i, None, None] for i in range(4))
    covered = (y < top) | (y > 1 - bottom) | (x < left) | (x > 1 - right)
    return torch.where(covered[:, None], value, images)


# -- sharpness and noise -----------------------------------------------------------------------


def random_sharpness(
    images: torch.Tensor,
    generator: torch.Generator,
    sigma: float = 1.2,
    sharpen: float = 1.0,
    probability: float = 0.5,
) -> torch.Tensor:
    """Blur or sharpen half of the images: I + a (I - G I), G a Gaussian.

    Parameters
    ----------
    images : tensor of shape (n, 1, height, width)
    generator : torch.Generator
    sigma : float, default=1.2
        Widest Gaussian, in pixels.
    sharpen : float, default=1.0
        Largest a; the smallest is -1, which is G I.
    probability : float, default=0.5
        Of a change.

    Returns
    -------
    tensor of shape (n, 1, height, width)
    """
    sigmas = _uniform(images, generator, 0.4, sigma)
    amount = _uniform(images, generator, -1.0, sharpen, 1, 1, 1)
    amount = amount * _chosen(images, generator, probability)
    radius = min(int(3 * sigma + 0.5), min(images.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / sigmas[:, None]) ** 2)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    # One channel an image, so that each gets its own kernel in one convolution.
    stack = functional.pad(images.transpose(0, 1), (radius,) * 4, mode="reflect")
    smooth = functional.conv2d(stack, kernels[:, None, :, None], groups=len(images))
    smooth = functional.conv2d(smooth, kernels[:, None, None, :], groups=len(images)).transpose(0, 1)
    return (images + amount * (images - smooth)).clamp_(0, 1)


def random_noise(images: torch.Tensor, generator: torch.Generator, deviation: float = 0.03) -> torch.Tensor:
    """Add white noise, its standard deviation uniform from 0 to ``deviation`` in each image."""
    sigmas = _uniform(images, generator, 0.0, deviation, 1, 1, 1)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return (images + sigmas * noise).clamp_(0, 1)
