"""Images measured for a training of curves, and classifiers to judge them, all of a few pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.harmonizers.curve_images import PROBABILITIES, CurveImages
from xray_harmonize.networks.resnet import RadiographResNet


def textures(n: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    """Images of shape (n, 1, size, size) in [0, 1]: bands of any direction, of a brightness of their own, and noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    slope, brightness = rng.uniform(-9, 9, (2, n, 1, 1)), rng.uniform(0.3, 0.7, (n, 1, 1))
    bands = brightness + 0.3 * np.sin(slope[0] * rows + slope[1] * columns)
    noisy = bands + 0.03 * rng.standard_normal((n, size, size))
    return torch.tensor(np.clip(noisy, 0, 1)[:, None], dtype=torch.float32)


def measured(frames: torch.Tensor, scanner: list[int], label: list[int], view_size: int | None = 16) -> CurveImages:
    """Give what would be measured of images that lie in memory."""
    views = torch.empty(len(frames), 0)
    if view_size is not None:
        views = functional.interpolate(frames, (view_size, view_size), mode="bilinear", align_corners=False)
    functions = torch.quantile(frames.flatten(1), torch.tensor(PROBABILITIES, dtype=torch.float32), dim=1).T
    return CurveImages(frames, views, functions.contiguous(), torch.tensor(scanner), torch.tensor(label))


def used_network(n_classes: int = 2, in_channels: int = 1, seed: int = 0) -> RadiographResNet:
    """Classifier whose batch normalizations and biases are not those of the start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = RadiographResNet(n_classes, depth=10, width=4, in_channels=in_channels, head="mlp", dropout=0.5)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.2)
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


class BrightIsOne(nn.Module):
    """Classifier of two classes that takes an image for class 1 where its mean is above one half."""

    in_channels = 1

    def __init__(self, steepness: float = 20.0) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([-steepness, steepness]))
        self.modes: list[bool] = []

    def features(self, images: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return images.mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.features(images) - 0.5) * self.slope
