"""Batch-normalization statistics of a network for images that it was not trained on (AdaBN).

A network whose batch normalizations hold the mean and variance of another scanner's images takes
its tone for content. Measuring both anew needs images of the scanner, but no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


@torch.inference_mode()
def reestimate_batch_norm(
    network: nn.Module,
    batches: Callable[[], Iterable[torch.Tensor]],
    max_refinements: int = 3,
    tolerance: float = 1e-3,
) -> None:
    """Set the mean and variance of every batch normalization to those of its input over images.

    One batch with all images is exact after one pass: each layer is normalized by the statistics
    that it will have. With several batches a first pass averages their statistics; then each
    refinement measures mean and variance over all images, every layer seeing what the layers below
    make with the statistics so far. A refinement makes one more layer exact, that is independent of
    how images were put into batches, and brings the others closer.

    Parameters
    ----------
    network : nn.Module
        Changed in place; left in evaluation mode. Weights stay as they are.
    batches : callable
        Gives the batches of images, the same at each call; of about equal size, and of more than
        one image.
    max_refinements : int, default=3
        Passes after the first, where there are several batches.
    tolerance : float, default=1e-3
        No further pass once means have moved by less than so many standard deviations, and
        standard deviations by less than this share.

    References
    ----------
    Li, Wang, Shi, Hou, Liu. Adaptive batch normalization for practical domain adaptation. Pattern
    Recognition 80, 2018.

    Examples
    --------
    >>> network = nn.Sequential(nn.BatchNorm2d(1))
    >>> images = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    >>> reestimate_batch_norm(network, lambda: [images])
    >>> network[0].running_mean, network[0].running_var
    (tensor([2.]), tensor([1.]))
    """
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    network.eval()
    for layer in layers:
        layer.train()
    n_batches = 0
    with _recording(layers) as moments:
        for images in batches():
            network(images)
            n_batches += 1
    _set_statistics(layers, moments)
    network.eval()
    if n_batches == 1:
        return
    for _ in range(max_refinements):
        with _recording(layers) as moments:
            for images in batches():
                network(images)
        if _set_statistics(layers, moments) < tolerance:
            break


class _Moments:
    """Mean and variance of each channel over all that was shown, in float64."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    def add(self, values: torch.Tensor) -> None:
        dims = [0, *range(2, values.ndim)]
        n = values.numel() // values.shape[1]
        variance, mean = torch.var_mean(values.float(), dim=dims, correction=0)
        mean, squares = mean.double(), variance.double() * n
        # Chan, Golub, LeVeque 1983: sums of squares around two means become one around their mean.
        total = self.n + n
        delta = mean - self.mean
        self.squares = self.squares + squares + delta**2 * (self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total


@contextmanager
def _recording(layers: list[_BatchNorm]) -> Iterator[list[_Moments]]:
    moments = [_Moments() for _ in layers]
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, m=m: m.add(inputs[0]))
        for layer, m in zip(layers, moments, strict=True)
    ]
    try:
        yield moments
    finally:
        for handle in handles:
            handle.remove()


def _set_statistics(layers: list[_BatchNorm], moments: list[_Moments]) -> float:
    """Put the moments into the layers; largest change in units of the standard deviation."""
    moved = 0.0
    for layer, m in zip(layers, moments, strict=True):
        old_mean, old_variance = layer.running_mean, layer.running_var
        assert old_mean is not None
        assert old_variance is not None
        mean, variance = m.mean.to(old_mean), (m.squares / m.n).to(old_variance)
        deviation = torch.sqrt(variance + layer.eps)
        shift = ((mean - old_mean) / deviation).abs().max()
        stretch = (torch.sqrt(old_variance + layer.eps) / deviation - 1).abs().max()
        moved = max(moved, float(shift), float(stretch))
        old_mean.copy_(mean)
        old_variance.copy_(variance)
    return moved


def fold_batch_norm(network: nn.Module) -> None:
    """Put every batch normalization of a ResNet into the convolution before it; the output changes by rounding alone.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode; changed in place. Pairs are told by name (``conv1`` and ``bn1``) and, in an
        ``nn.Sequential``, by place.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    >>> images = torch.rand(1, 1, 5, 5)
    >>> before = network(images)
    >>> fold_batch_norm(network)
    >>> torch.allclose(network(images), before, atol=1e-6), type(network[1]).__name__
    (True, 'Identity')
    """
    for module in list(network.modules()):
        children = dict(module.named_children())
        names = list(children)
        pairs = [(name, name.replace("conv", "bn", 1)) for name in names if name.startswith("conv")]
        if isinstance(module, nn.Sequential):
            pairs = list(pairwise(names))
        for convolution, normalization in pairs:
            first, second = children[convolution], children.get(normalization)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(first, second))
                setattr(module, normalization, nn.Identity())
