"""The first four convolutions of VGG-16, whose last output is the perceptual feature of GDCE.

Weights come from a file that the user names. Without one they are random with a fixed seed: random convolutions still
tell brightness and local contrast apart, but know nothing of what radiographs look like.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.exceptions import PersistenceError
from xray_harmonize.networks.weights import match_channels, read_weights

N_FEATURES: Final = 128

PLACES: Final = {"conv1_1": 0, "conv1_2": 2, "conv2_1": 5, "conv2_2": 7}
"""Convolution -> its place among the layers of the common VGG-16, ReLU and pooling counted."""

CHANNELS: Final = {"conv1_1": (3, 64), "conv1_2": (64, 64), "conv2_1": (64, 128), "conv2_2": (128, 128)}


class VGGFeatures(nn.Module):
    """VGG-16 up to its convolution 2-2, before that one's ReLU, for grey images.

    Parameters
    ----------
    weights : path, optional
        File of VGG-16 weights (``.pt``, ``.pth``, ``.safetensors``); None: random ones, always the same.

    Raises
    ------
    PersistenceError
        If the file cannot be read or lacks one of the four convolutions; the message lists what it lacks.

    Notes
    -----
    Grey images repeated three times and kernels of three channels give what grey images and the sums of the kernels
    give, so only that is computed. Images are not normalized (the authors of GDCE did not).

    References
    ----------
    Simonyan, Zisserman. Very deep convolutional networks for large-scale image recognition. ICLR 2015.

    Examples
    --------
    >>> network = VGGFeatures()
    >>> images = torch.rand(2, 1, 32, 32)
    >>> network(images).shape, network.pooled(images).shape
    (torch.Size([2, 128, 16, 16]), torch.Size([2, 128]))
    >>> torch.allclose(network.pooled(images), network(images).mean(dim=(2, 3)), atol=1e-5)
    True
    """

    def __init__(self, weights: str | PathLike[str] | None = None) -> None:
        super().__init__()
        kernels = _random_kernels() if weights is None else _kernels_of(read_weights(weights), weights)
        kernels["conv1_1.weight"] = match_channels(kernels["conv1_1.weight"], 1)
        # Without memory of their own, so that no random start is drawn from whoever's generator.
        self.conv1_1 = nn.Conv2d(1, 64, 3, padding=1, device="meta")
        self.conv1_2 = nn.Conv2d(64, 64, 3, padding=1, device="meta")
        self.conv2_1 = nn.Conv2d(64, 128, 3, padding=1, device="meta")
        self.conv2_2 = nn.Conv2d(128, 128, 3, padding=1, device="meta")
        self.load_state_dict(kernels, assign=True)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps of shape (n, 128, height / 2, width / 2) for images of shape (n, 1, height, width)."""
        maps: torch.Tensor = self.conv2_2(self._before_last(images))
        return maps

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """Mean of each feature map, of shape (n, 128), without computing the last maps.

        Convolution is linear, and so is the mean: the mean of what a convolution gives is its kernel on the means of
        what it takes, shifted by each tap. That spares two fifths of the network.
        """
        maps = self._before_last(images)
        height, width = maps.shape[-2:]
        taps: torch.Tensor = _TapSums.apply(maps)
        # These are few numbers, so they cost nothing in float32; rounded, they would be what is rounded worst.
        with torch.autocast(maps.device.type, enabled=False):
            means = taps.flatten(1) / (height * width)
            return functional.linear(means, self.conv2_2.weight.flatten(1), self.conv2_2.bias)

    def _before_last(self, images: torch.Tensor) -> torch.Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        maps = self.conv1_2(functional.relu(self.conv1_1(images), inplace=True))
        # Maxima first: the same values, and a quarter of them to rectify.
        maps = functional.relu(functional.max_pool2d(maps, 2), inplace=True)
        return functional.relu(self.conv2_1(maps), inplace=True)


class _TapSums(torch.autograd.Function):
    """Sums of maps over what each tap of a 3 x 3 kernel reaches with zero padding, (n, c, 3, 3) of (n, c, h, w).

    They are float32. The gradient is one value a map but for its border. Autograd would write whole maps for every row
    and column that is looked at.
    """

    @staticmethod
    def forward(ctx: Any, maps: torch.Tensor) -> torch.Tensor:
        ctx.shape, ctx.dtype = maps.shape, maps.dtype
        lines = maps.sum(dim=3, dtype=torch.float32)
        edges = maps[:, :, :, 0].float(), maps[:, :, :, -1].float()
        rows, left, right = (_sums_in_reach(line) for line in (lines, *edges))
        return torch.stack([rows - right, rows, rows - left], dim=3)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        of_taps = gradients[0].to(ctx.dtype)
        maps = torch.empty(ctx.shape, dtype=ctx.dtype, device=of_taps.device, memory_format=torch.channels_last)
        height, width = ctx.shape[-2:]
        for rows, row_taps in _places(height):
            of_rows = of_taps[:, :, row_taps].sum(dim=2)
            for columns, column_taps in _places(width):
                value = of_rows[:, :, column_taps].sum(dim=2)
                maps[:, :, rows, columns] = value[:, :, None, None]
        return maps


def _sums_in_reach(lines: torch.Tensor) -> torch.Tensor:
    """Sum over the lines that each row of taps reaches: all but the last, all, all but the first."""
    total = lines.sum(dim=2)
    return torch.stack([total - lines[:, :, -1], total, total - lines[:, :, 0]], dim=2)


def _places(length: int) -> list[tuple[slice, slice]]:
    """Lines of an axis with the taps that reach them: the first, those between, the last."""
    if length == 1:
        return [(slice(0, 1), slice(1, 2))]
    return [
        (slice(0, 1), slice(0, 2)),
        (slice(1, length - 1), slice(0, 3)),
        (slice(length - 1, length), slice(1, 3)),
    ]


def _random_kernels() -> dict[str, torch.Tensor]:
    """He's initialization with zero biases, as VGG is commonly started, from a seed of its own."""
    generator = torch.Generator().manual_seed(0)
    kernels = {}
    for name, (n_in, n_out) in CHANNELS.items():
        deviation = (2 / (9 * n_out)) ** 0.5
        kernels[f"{name}.weight"] = deviation * torch.randn(n_out, n_in, 3, 3, generator=generator)
        kernels[f"{name}.bias"] = torch.zeros(n_out)
    return kernels


def _kernels_of(tensors: Mapping[str, torch.Tensor], path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """Find the four convolutions, whatever stands in front of ``features.`` or of their numbers."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        # Classifiers number their layers too, and start again from 0.
        if len(parts) >= 2 and "classifier" not in parts[:-2] and "fc" not in parts[:-2]:
            for convolution, place in PLACES.items():
                if parts[-2] == str(place) and parts[-1] in ("weight", "bias"):
                    found.setdefault(f"{convolution}.{parts[-1]}", tensor.float())
    problems = []
    for convolution, (n_in, n_out) in CHANNELS.items():
        for kind, shape in (("weight", (n_out, n_in, 3, 3)), ("bias", (n_out,))):
            name = f"{convolution}.{kind}"
            what = f"features.{PLACES[convolution]}.{kind}"
            # The first convolution may have been made for grey images.
            fitting = [shape, (n_out, 1, 3, 3)] if name == "conv1_1.weight" else [shape]
            if name not in found:
                problems.append(f"{what} is missing")
            elif tuple(found[name].shape) not in fitting:
                problems.append(f"{what} has shape {tuple(found[name].shape)} for {shape}")
    if problems:
        raise PersistenceError(
            f"vgg_weights={str(path)!r} holds no VGG-16: {'; '.join(problems)}. Expected the tensors features.0, .2, "
            ".5 and .7 of a VGG-16 without batch normalization."
        )
    return found
