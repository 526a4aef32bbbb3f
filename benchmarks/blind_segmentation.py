"""The network that outlines tissue on the reference's images, and how well it does on others.

Trained on the reference's training patients alone and never adapted: what it loses on another scanner's images, and
wins back on harmonized ones, is what harmonizing is worth to a task that looks at every pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from blind_cohorts import Patients
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import TensorDataset

from xray_harmonize import ImageSet
from xray_harmonize.classifiers.augment import random_flip
from xray_harmonize.training import Net, seeded

# Images with less of the tissue than this share of the body tell nothing of an outline.
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Segmentation:
    """How the network is made and trained.

    Parameters
    ----------
    features : tuple of int
        Channels of MONAI's basic U-Net: five levels, and the last layer.
    max_epochs, batch_size : int
    lr : float
        Highest of a one-cycle schedule.
    """

    features: tuple[int, ...] = (8, 16, 32, 32, 64, 8)
    max_epochs: int = 20
    batch_size: int = 8
    lr: float = 3e-3

    def train(self, patients: Patients, seed: int) -> BasicUNet:
        """Train on images as they came.

        Parameters
        ----------
        patients : Patients
            Of the reference.
        seed : int
        """
        images = tensor_of(patients.images)
        tissue = torch.from_numpy(patients.tissue[:, None].astype(np.float32))
        together = TensorDataset(torch.cat([images, tissue], dim=1))
        n_steps = self.max_epochs * -(-len(images) // self.batch_size)
        with seeded(seed, torch.device("cpu")):
            # Batch normalization: that of single images would take brightness and contrast out by itself.
            network = BasicUNet(2, 1, 1, self.features, norm="batch")
            net = _OutlineNet(
                network,
                criterion=DiceCELoss(sigmoid=True),
                optimizer=torch.optim.AdamW,
                lr=self.lr,
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                iterator_train__shuffle=True,
                iterator_train__transform=random_flip,
                iterator_train__seed=seed,
                callbacks=[LRScheduler(OneCycleLR, max_lr=self.lr, total_steps=n_steps, step_every="batch")],
                device="cpu",
                precision="float32",
                verbose=0,
            )
            net.fit(together)
        return network.eval().requires_grad_(False)


class _OutlineNet(Net):
    """The loop for images that carry their outline as a second channel, so that both are mirrored alike."""

    def train_step(self, batch: tuple[torch.Tensor], **fit_params: object) -> dict[str, torch.Tensor]:
        (together,) = batch
        return super().train_step((together[:, :1], together[:, 1:]), **fit_params)


def tensor_of(images: ImageSet) -> torch.Tensor:
    """Give images of one size as a tensor of shape (n, 1, height, width), fractions of full scale."""
    return torch.from_numpy(np.stack([images.unit(i) for i in range(len(images))])[:, None].astype(np.float32))


def outlined(network: BasicUNet, images: ImageSet, batch_size: int = 16) -> np.ndarray:
    """Give what the network takes for the tissue, bool of shape (n, height, width)."""
    with torch.inference_mode():
        return np.concatenate([(network(part) > 0)[:, 0].numpy() for part in tensor_of(images).split(batch_size)])


def intersection_over_union(found: np.ndarray, tissue: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Compare outlines of every image.

    Parameters
    ----------
    found, tissue, body : ndarray of bool of shape (n, height, width)

    Returns
    -------
    ndarray of float of shape (n,)
        Intersection over union of what was found in the body and what is there; NaN where there is as good as nothing.
    """
    inside = (found & body, tissue & body)
    both, either = (operation(*inside).sum(axis=(1, 2)) for operation in (np.logical_and, np.logical_or))
    enough = inside[1].sum(axis=(1, 2)) >= LEAST_SHARE * body.sum(axis=(1, 2))
    return np.where(enough, both / np.maximum(either, 1), np.nan)
