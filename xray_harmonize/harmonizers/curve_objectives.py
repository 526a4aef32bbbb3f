"""What the curves of GDCE are to reach: the losses with everything in them that is computed once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch

from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.harmonizers.curve_batches import LabelledImages, UnlabelledImages
from xray_harmonize.harmonizers.curve_images import CurveImages, pooled_quantiles
from xray_harmonize.networks.losses import (
    PERCEPTUAL,
    DistributionLoss,
    FrozenNetworks,
    LabelLoss,
    LossWeighting,
    frozen,
)
from xray_harmonize.networks.resnet import RadiographResNet
from xray_harmonize.networks.vgg import VGGFeatures
from xray_harmonize.training import resolve_precision

SPEEDS = ("exact", "fast", "faster")
RANDOM = "random"


@dataclass(frozen=True)
class Objective:
    """The losses of GDCE with their frozen networks.

    Parameters
    ----------
    discriminator : RadiographResNet or None
        Fitted network of the classifier; None where only grey values and perceptual features are compared.
    perceptual, weighting, perceptual_weight, vgg_weights, speed, precision
        As :class:`~xray_harmonize.harmonizers.gdce.GDCE`.
    device : torch.device
    """

    discriminator: RadiographResNet | None
    perceptual: str | None
    weighting: str
    perceptual_weight: float
    vgg_weights: str | PathLike[str] | None
    speed: str
    precision: str
    device: torch.device

    @staticmethod
    def check(perceptual: object, weighting: str, perceptual_weight: float, speed: object) -> None:
        """Refuse options out of range, before anything is computed.

        Raises
        ------
        InvalidParameterError
        """
        LossWeighting(weighting, perceptual_weight)
        if perceptual not in PERCEPTUAL:
            raise InvalidParameterError(f"perceptual must be 'pooled', 'map' or None; got {perceptual!r}.")
        if speed not in SPEEDS:
            raise InvalidParameterError(f"speed must be 'exact', 'fast' or 'faster'; got {speed!r}.")

    def labelled(
        self, sources: CurveImages, reference: CurveImages, enhance_reference: bool, flip: bool
    ) -> tuple[LabelledImages, LabelLoss]:
        """Give images and loss of a training by labels.

        Parameters
        ----------
        sources, reference : CurveImages
        enhance_reference : bool
            Whether reference images pass through the network too.
        flip : bool
            Whether images are mirrored at random.
        """
        assert self.discriminator is not None
        loss = LabelLoss(frozen(self.discriminator), self._vgg(), self._weights(), *self._how()).to(self.device)
        like = None
        if self.perceptual == "pooled":
            frames = reference.frames
            like = torch.stack([_computed(loss.perceptual_features, side) for side in (frames, frames.flip(-1))])
        return LabelledImages(sources, reference, like, self.perceptual == "map", enhance_reference, flip), loss

    def unlabelled(
        self, images: CurveImages, reference: Mapping[str, np.ndarray], pooled: bool, flip: bool
    ) -> tuple[UnlabelledImages, DistributionLoss]:
        """Give images and loss of a training without labels.

        Parameters
        ----------
        images : CurveImages
        reference : mapping of str to ndarray
            As :meth:`statistics` gives it.
        pooled : bool
            Whether grey values are compared as those of all a scanner's images together.
        flip : bool
        """
        tensors = {name: torch.as_tensor(value) for name, value in reference.items()}
        tensors["quantiles"] = tensors.pop("pooled_quantiles" if pooled else "mean_quantiles")
        network = None if self.discriminator is None else frozen(self.discriminator)
        # Distances of grey values are a hundredth of those of features: by any other weighting one of them is lost.
        weighting = LossWeighting("smooth", self.perceptual_weight)
        loss = DistributionLoss(network, self._vgg(), weighting, tensors, *self._how())
        return UnlabelledImages(images, pooled, flip), loss.to(self.device)

    def statistics(self, reference: CurveImages) -> dict[str, np.ndarray]:
        """Measure what the reference's images have in common, all that a new scanner's are later brought to.

        Returns
        -------
        dict of str to ndarray of float32
            ``mean_quantiles`` and ``pooled_quantiles`` (128,); for each network the mean of its features over images
            (``class_features``, ``perceptual_features``) and, with ``_scale``, their standard deviation.
        """
        network = None if self.discriminator is None else frozen(self.discriminator)
        networks = FrozenNetworks(network, self._vgg(), *self._how()).to(self.device)
        found = {
            "mean_quantiles": reference.quantiles.mean(dim=0),
            "pooled_quantiles": pooled_quantiles(reference.quantiles),
        }
        looks = {"class_features": networks.discriminator, "perceptual_features": networks.vgg}
        for name, looked in looks.items():
            if looked is not None:
                features = _computed(getattr(networks, name), reference.frames)
                features = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
                found[name] = features.mean(dim=0)
                # A feature that never varies says nothing, and would say it infinitely loud.
                scale = features.std(dim=0, correction=0)
                found[f"{name}_scale"] = scale.clamp_min(0.05 * float(scale.mean()) + 1e-6)
        return {name: value.numpy() for name, value in found.items()}

    def _vgg(self) -> VGGFeatures | None:
        if self.perceptual is None:
            return None
        return VGGFeatures(None if self.vgg_weights == RANDOM else self.vgg_weights)

    def warn_of_random_features(self) -> None:
        """Tell who named no VGG weights what is lost."""
        if self.perceptual is not None and self.vgg_weights is None:
            warnings.warn(
                "GDCE's perceptual loss has no VGG-16 weights (vgg_weights=None), so its features are random with a "
                "fixed seed: they compare brightness and local contrast, but nothing that a trained network finds "
                "typical of radiographs. Name a weight file, or say vgg_weights='random' or perceptual=None on "
                "purpose.",
                XRayHarmonizeWarning,
                stacklevel=3,
            )

    def _weights(self) -> LossWeighting:
        return LossWeighting(self.weighting, self.perceptual_weight)

    def _how(self) -> tuple[str | None, bool, torch.dtype]:
        precision = self.precision
        if precision == "auto" and self.speed == "exact":
            precision = "float32"
        elif precision == "auto" and self.device.type != "cuda":
            precision = "bfloat16"
        return self.perceptual, self.speed == "faster", resolve_precision(precision, self.device)


@torch.no_grad()
def _computed(function: object, frames: torch.Tensor, batch_size: int = 16) -> torch.Tensor:
    """Apply a function of images to many, some at a time, and bring the results to the CPU."""
    assert callable(function)
    device = next(function.__self__.parameters()).device  # type: ignore[attr-defined]
    return torch.cat([function(batch.to(device)).cpu() for batch in frames.split(batch_size)])
