"""What GDCE minimizes: how far enhanced images are from what frozen networks take for the reference.

The networks in here are frozen: their weights take no gradients, and they stay in evaluation mode whatever is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.networks.batch_norm import fold_batch_norm
from xray_harmonize.networks.curve import apply_curve
from xray_harmonize.networks.resnet import RadiographResNet
from xray_harmonize.networks.vgg import VGGFeatures
from xray_harmonize.parameters import check_number
from xray_harmonize.training import autocast

PERCEPTUAL: Final = ("pooled", "map", None)
WEIGHTINGS: Final = ("smooth", "sum", "ratio")

PIXELS_AT_ONCE: Final = {False: 2**17, True: 2**23}
"""Pixels that pass the frozen networks together with gradients, on a CPU and on a GPU."""

Batch = Mapping[str, torch.Tensor]
OfImages = Callable[[torch.Tensor], torch.Tensor]


def frozen(network: RadiographResNet) -> RadiographResNet:
    """Copy of a classifier for gradients with respect to its images alone, quicker by what training needs."""
    network = copy.deepcopy(network).eval()
    fold_batch_norm(network)
    if network.in_channels > 1:
        # Images repeated and kernels of three channels give what one image and the sum of the kernels give.
        stem = network.backbone.conv1
        stem.weight = nn.Parameter(stem.weight.sum(dim=1, keepdim=True))
        stem.in_channels = network.in_channels = 1
    # Weights of one channel must be told that they are channels-last, or what they give is not.
    return network.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]


class LossWeighting(nn.Module):
    """How the task's loss and the perceptual loss are added.

    Parameters
    ----------
    kind : {"smooth", "sum", "ratio"}
        "sum": task + perceptual (equation 4 of the paper). "ratio": as released, ``w r perceptual + (1 - w) task`` with
        ``r = floor(task / perceptual)`` of the batch, which switches the perceptual loss off wherever the task's is
        smaller, and jumps. "smooth": the same with the ratio of running means and no floor.
    weight : float
        The share w of the perceptual loss; "sum" has none.
    memory : float, default=0.95
        Of the running means.

    Examples
    --------
    >>> task, perceptual = torch.tensor(1.2), torch.tensor(0.5)
    >>> [round(float(LossWeighting(kind, 0.5)(task, perceptual)), 3) for kind in ("sum", "ratio", "smooth")]
    [1.7, 1.1, 1.2]
    """

    def __init__(self, kind: str, weight: float, memory: float = 0.95) -> None:
        super().__init__()
        if kind not in WEIGHTINGS:
            raise InvalidParameterError(f"weighting must be one of {', '.join(WEIGHTINGS)}; got {kind!r}.")
        check_number("perceptual_weight", weight, "lie in [0, 1)", lambda share: 0 <= share < 1)
        self.kind = kind
        self.weight = weight
        self.memory = memory
        self.means: torch.Tensor
        self.register_buffer("means", torch.zeros(2))

    def forward(self, task: torch.Tensor, perceptual: torch.Tensor) -> torch.Tensor:
        """Give one loss of two."""
        if self.kind == "sum":
            return task + perceptual
        now = torch.stack([task, perceptual]).detach()
        if self.kind == "ratio":
            ratio = torch.floor(now[0] / now[1].clamp_min(1e-12))
        else:
            if self.training or not self.means.any():
                memory = self.memory if self.means.any() else 0.0
                self.means = memory * self.means + (1 - memory) * now
            ratio = self.means[0] / self.means[1].clamp_min(1e-12)
        return self.weight * ratio * perceptual + (1 - self.weight) * task


class FrozenNetworks(nn.Module):
    """Base of losses that look at enhanced images through frozen networks.

    Parameters
    ----------
    discriminator : RadiographResNet or None
        Fitted classifier of the reference's images.
    vgg : VGGFeatures or None
    perceptual : {"pooled", "map", None}
        Which perceptual features: channel means (as released) or whole maps (as printed).
    halve : bool, default=False
        Show VGG images of half the side, where they stay 64 or more pixels wide.
    dtype : torch.dtype, default=torch.float32
        Type to compute in.
    """

    def __init__(
        self,
        discriminator: RadiographResNet | None,
        vgg: VGGFeatures | None,
        perceptual: str | None = "pooled",
        halve: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if perceptual not in PERCEPTUAL:
            raise InvalidParameterError(f"perceptual must be 'pooled', 'map' or None; got {perceptual!r}.")
        self.discriminator = discriminator
        self.vgg = None if perceptual is None else vgg
        self.perceptual = perceptual
        self.halve = halve
        self.dtype = dtype

    def train(self, mode: bool = True) -> FrozenNetworks:
        """Switch to training, the frozen networks excepted."""
        super().train(mode)
        for network in (self.discriminator, self.vgg):
            if network is not None:
                network.eval()
        return self

    def perceptual_features(self, images: torch.Tensor) -> torch.Tensor:
        """Features that the perceptual loss compares, of shape (n, 128) or (n, 128, height / 2, width / 2)."""
        assert self.vgg is not None
        if self.halve and images.shape[-1] >= 128:
            images = functional.avg_pool2d(images, 2)
        with autocast(images.device, self.dtype):
            features = self.vgg.pooled(images) if self.perceptual == "pooled" else self.vgg(images)
        return features.float()

    def class_features(self, images: torch.Tensor) -> torch.Tensor:
        """Features before the discriminator's last layers, of shape (n, n_features)."""
        assert self.discriminator is not None
        with autocast(images.device, self.dtype):
            features = self.discriminator.features(images)
        return features.float()

    def logits(self, images: torch.Tensor, exact: bool = False) -> torch.Tensor:
        """Logits of the discriminator, of shape (n, n_classes); with ``exact`` in float32 whatever the type."""
        assert self.discriminator is not None
        with autocast(images.device, torch.float32 if exact else self.dtype):
            logits: torch.Tensor = self.discriminator(images)
        return logits.float()


class LabelLoss(FrozenNetworks):
    """Loss of GDCE as published: right classes for a frozen classifier, and features as the reference has them.

    A batch holds ``image`` (n, 1, height, width), ``label`` (n,), ``part`` (n,; 0 source, 1 reference) and, with
    perceptual features, ``like`` (n, 128): those of an image of the reference, drawn anew for each. With whole maps it
    holds that image itself.

    Parameters
    ----------
    discriminator, vgg, perceptual, halve, dtype
        As :class:`FrozenNetworks`.
    weighting : LossWeighting

    References
    ----------
    Lu et al. 2025, equations 2 to 4. That source and reference images are both enhanced, and each part's losses are
    means that are added, is how it was released.
    """

    def __init__(
        self,
        discriminator: RadiographResNet,
        vgg: VGGFeatures | None,
        weighting: LossWeighting,
        perceptual: str | None = "pooled",
        halve: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(discriminator, vgg, perceptual, halve, dtype)
        self.weighting = weighting

    def forward(self, alpha: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Loss of a batch whose images go through the curves of ``alpha``."""
        if torch.is_grad_enabled() and alpha.requires_grad:
            found = _ImageByImage.apply(alpha, self._of_images, batch)
        else:
            found, _ = _image_by_image(alpha, self._of_images, batch, gradients=False)
        task, *perceptual = (_by_part(values, batch["part"]) for values in found)
        return self.weighting(task, *perceptual) if perceptual else task

    def _of_images(self, batch: Batch) -> list[OfImages]:
        """Give functions from enhanced images to the losses of each, of shape (n,)."""

        def task(enhanced: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(self.logits(enhanced), batch["label"], reduction="none")

        def distance(enhanced: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                like = batch["like"] if self.perceptual == "pooled" else self.perceptual_features(batch["like"])
            return (self.perceptual_features(enhanced) - like).abs().flatten(1).mean(dim=1)

        return [task] if self.vgg is None else [task, distance]


class _ImageByImage(torch.autograd.Function):
    """Losses of single images, of shape (n_losses, n), with their gradients computed at once.

    What a batch makes of them is linear in them, as weights are detached; so no gradient has to wait for the others. A
    few images' activations are all that is ever held, which saves gigabytes, and the time that it takes to get them.
    """

    @staticmethod
    def forward(ctx: Any, alpha: torch.Tensor, losses: Callable[[Batch], list[OfImages]], batch: Batch) -> torch.Tensor:
        values, gradients = _image_by_image(alpha, losses, batch, gradients=True)
        ctx.save_for_backward(gradients)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (of_losses,) = ctx.saved_tensors
        return (gradients[0].unsqueeze(2) * of_losses).sum(dim=0), None, None


def _image_by_image(
    alpha: torch.Tensor, losses: Callable[[Batch], list[OfImages]], batch: Batch, gradients: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of shape (n_losses, n) and, where wanted, their gradients of shape (n_losses, n, n_iterations)."""
    images = batch["image"]
    n_at_once = max(PIXELS_AT_ONCE[images.device.type == "cuda"] // images[0].numel(), 1)
    values, slopes = [], []
    for start in range(0, len(images), n_at_once):
        few = {name: tensor[start : start + n_at_once] for name, tensor in batch.items()}
        coefficients = alpha[start : start + n_at_once].detach().requires_grad_(gradients)
        with torch.set_grad_enabled(gradients):
            enhanced = apply_curve(few["image"], coefficients)
        shown = enhanced.detach().requires_grad_(gradients)
        of_few: list[torch.Tensor] = []
        slopes_of_few: list[torch.Tensor] = []
        for loss in losses(few):
            with torch.set_grad_enabled(gradients):
                value = loss(shown)
            if gradients:
                (of_pixels,) = torch.autograd.grad(value, shown, torch.ones_like(value))
                slopes_of_few += torch.autograd.grad(enhanced, coefficients, of_pixels, retain_graph=True)
            of_few.append(value.detach())
        values.append(torch.stack(of_few))
        slopes.append(torch.stack(slopes_of_few) if gradients else values[-1])
    return torch.cat(values, dim=1), torch.cat(slopes, dim=1)


class DistributionLoss(FrozenNetworks):
    """Loss without labels of the sources: grey values and mean features as the reference has them.

    A batch holds ``image`` (n, 1, height, width) and ``quantiles`` (n, n_quantiles) of source images. With
    ``pooled=True`` the quantiles are those of all a scanner's images together, the same in each row.

    Parameters
    ----------
    discriminator, vgg, perceptual, halve, dtype
        As :class:`FrozenNetworks`; either network may be None.
    weighting : LossWeighting
        Its task is the distance of grey values.
    reference : mapping of str to tensor
        ``quantiles`` (n_quantiles,), and for each network the mean over the reference's images of ``class_features``
        and ``perceptual_features`` and, under the same names with ``_scale``, their standard deviations.

    Notes
    -----
    Grey values: mean absolute difference of quantile functions, the Wasserstein-1 distance of the distributions. A
    rising curve maps quantiles to quantiles, so no pixel is touched for it. Features: mean absolute difference of batch
    means in units of the reference's standard deviation.
    """

    def __init__(
        self,
        discriminator: RadiographResNet | None,
        vgg: VGGFeatures | None,
        weighting: LossWeighting,
        reference: Mapping[str, torch.Tensor],
        perceptual: str | None = "pooled",
        halve: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(discriminator, vgg, perceptual, halve, dtype)
        self.weighting = weighting
        for name, value in reference.items():
            self.register_buffer(f"reference_{name}", value)

    def forward(self, alpha: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Loss of a batch whose images go through the curves of ``alpha``."""
        grey = apply_curve(batch["quantiles"], alpha).mean(dim=0)
        task = (grey - self.get_buffer("reference_quantiles")).abs().mean()
        features = []
        if self.discriminator is not None or self.vgg is not None:
            enhanced = apply_curve(batch["image"], alpha)
            if self.discriminator is not None:
                features.append(self._distance("class_features", self.class_features(enhanced)))
            if self.vgg is not None:
                found = self.perceptual_features(enhanced)
                means = found.flatten(2).mean(dim=2) if found.ndim > 2 else found
                features.append(self._distance("perceptual_features", means))
        return self.weighting(task, torch.stack(features).mean()) if features else task

    def _distance(self, name: str, features: torch.Tensor) -> torch.Tensor:
        mean, scale = self.get_buffer(f"reference_{name}"), self.get_buffer(f"reference_{name}_scale")
        return ((features.mean(dim=0) - mean).abs() / scale).mean()


def _by_part(values: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Sum of the means over sources and over reference images, where a batch holds any."""
    means = [values[part == which].mean() for which in (0, 1) if bool((part == which).any())]
    return torch.stack(means).sum()
