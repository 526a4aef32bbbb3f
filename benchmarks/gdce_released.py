"""GDCE written out as it was released, in plain torch, to be measured against: nothing cached, shared or rearranged."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.networks.curve import CurveEstimator
from xray_harmonize.networks.resnet import RadiographResNet
from xray_harmonize.networks.vgg import VGGFeatures


def plain(network: nn.Module) -> nn.Module:
    """Copy of a network in the order of memory that torch gives by itself."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)


class ReleasedEnhancer(nn.Module):
    """Predictor and curve in one: images of shape (n, 1, height, width) in, enhanced ones out.

    Parameters
    ----------
    estimator : CurveEstimator
        Whose weights are copied.
    """

    def __init__(self, estimator: CurveEstimator) -> None:
        super().__init__()
        self.size = (estimator.view_size, estimator.view_size)
        self.convolutions, self.head = plain(estimator.convolutions), plain(estimator.head)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Resize image and negative, predict, and iterate over the whole image."""
        small = [functional.interpolate(shown, self.size, mode="bilinear") for shown in (images, 1 - images)]
        features = functional.adaptive_avg_pool2d(self.convolutions(torch.cat(small, dim=1)), 1)
        alpha = self.head(features.flatten(1))
        enhanced = images.clone()
        for n in range(alpha.shape[1]):
            enhanced = enhanced + alpha[:, n].view(-1, 1, 1, 1) * enhanced * (1 - enhanced)
        return enhanced


class ReleasedStep:
    """The released loop's step up to the gradient of the predictor.

    Source and reference images pass one after the other; the reference's features are computed anew for each of the two
    perceptual terms; the classifier's weights take gradients that nobody uses; images are repeated to three channels.

    Parameters
    ----------
    estimator : CurveEstimator
    classifier : RadiographResNet
        In evaluation mode, with three input channels.
    vgg : VGGFeatures
        Whose kernels are copied.
    perceptual_weight : float
    floor : bool
        Whether the ratio of the losses is rounded down, as released.
    """

    def __init__(
        self,
        estimator: CurveEstimator,
        classifier: RadiographResNet,
        vgg: VGGFeatures,
        perceptual_weight: float,
        floor: bool = True,
    ) -> None:
        self.enhancer = ReleasedEnhancer(estimator)
        self.backbone = plain(classifier.backbone).eval().requires_grad_(True)
        self.head = plain(classifier.head).eval().requires_grad_(True)
        self.vgg = vgg_of_three_channels(vgg)
        self.weight, self.floor = perceptual_weight, floor

    def loss(self, source: torch.Tensor, reference: torch.Tensor, labels: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Loss of a batch of source images and one of reference images."""
        of_source, of_reference = self.enhancer(source), self.enhancer(reference)
        task = functional.cross_entropy(self._logits(of_source), labels[0])
        task = task + functional.cross_entropy(self._logits(of_reference), labels[1])
        perceptual = self._distance(of_source, reference) + self._distance(of_reference, reference)
        ratio = task.item() / perceptual.item()
        ratio = float(int(ratio)) if self.floor else ratio
        return self.weight * ratio * perceptual + (1 - self.weight) * task

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.backbone(images.repeat(1, 3, 1, 1)))
        return logits

    def _distance(self, images: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        found, wanted = (self.vgg(shown.repeat(1, 3, 1, 1)) for shown in (images, reference))
        pooled = (functional.adaptive_avg_pool2d(maps, 1) for maps in (found, wanted))
        return functional.l1_loss(*pooled)


def vgg_of_three_channels(vgg: VGGFeatures) -> nn.Sequential:
    """VGG-16 up to its convolution 2-2 as it is usually laid out, with kernels that add up to those for grey images."""
    first = nn.Conv2d(3, 64, 3, padding=1)
    with torch.no_grad():
        first.weight.copy_(vgg.conv1_1.weight.expand(-1, 3, -1, -1) / 3)
        assert first.bias is not None
        first.bias.copy_(vgg.conv1_1.bias)
    layers: list[nn.Module] = [first, nn.ReLU(inplace=True), plain(vgg.conv1_2), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    layers += [plain(vgg.conv2_1), nn.ReLU(inplace=True), plain(vgg.conv2_2)]
    return nn.Sequential(*layers).requires_grad_(False).eval()
