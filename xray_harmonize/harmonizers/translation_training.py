"""The training of CycleGAN: two sets of images drawn side by side, generators and critics in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from xray_harmonize.callbacks import BestState, FiniteLoss, TellProgress
from xray_harmonize.classifiers.augment import random_flip
from xray_harmonize.classifiers.recipe import Outcome
from xray_harmonize.harmonizers.curve_batches import Batch, CurveBatches, DrawnImages, Inputs
from xray_harmonize.harmonizers.curve_training import Steps
from xray_harmonize.networks.translation import CycleNetworks, ImageBuffer
from xray_harmonize.training import Net, autocast

HISTORY: Final = ("epoch", "train_loss", "critic_loss", "dur")


@dataclass(frozen=True)
class UnpairedImages(DrawnImages):
    """Images of two sets, each drawn in an order of its own.

    Parameters
    ----------
    source, reference : tensor of shape (n, 1, height, width)
        In [0, 1]; the sets may differ in number and shape.
    crop_size : int
        Larger images are cropped to this side, at random places.
    augment : bool
        Whether images are mirrored at random.
    """

    source: torch.Tensor
    reference: torch.Tensor
    crop_size: int
    augment: bool

    def __len__(self) -> int:
        return max(len(self.source), len(self.reference))

    def draws(self, rng: np.random.RandomState) -> Callable[[int], tuple[Inputs, Batch]]:
        """Give a function that draws batches, of both sets every image once before any comes again."""
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        left: dict[str, list[int]] = {"source": [], "reference": []}

        def drawn(name: str, images: torch.Tensor, batch_size: int) -> torch.Tensor:
            chosen = []
            for _ in range(batch_size):
                if not left[name]:
                    left[name].extend(rng.permutation(len(images)).tolist())
                chosen.append(left[name].pop())
            some = self._cropped(images[torch.tensor(chosen)], generator)
            return random_flip(some, generator) if self.augment else some

        def draw(batch_size: int) -> tuple[Inputs, Batch]:
            source = drawn("source", self.source, batch_size)
            return {"source": source, "reference": drawn("reference", self.reference, batch_size)}, {}

        return draw

    def _cropped(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        for axis in (2, 3):
            more = images.shape[axis] - self.crop_size
            if more > 0:
                start = int(torch.randint(more + 1, (), generator=generator))
                images = images.narrow(axis, start, self.crop_size)
        return images


class CycleNet(Net):
    """The loop with two optimizers, one for the generators and one for the critics, one step of each in turn.

    Parameters
    ----------
    *args, **kwargs
        As :class:`~xray_harmonize.training.Net`.
    n_steps : int
        Of the whole training; in its second half the rate falls to zero with ``schedule="linear"``.
    schedule : {"linear", "constant"}
    buffer_size : int
        Of made images that critics are shown again.
    seed : int
        Of the buffers.
    """

    def __init__(
        self, *args: Any, n_steps: int, schedule: str = "linear", buffer_size: int = 50, seed: int = 0, **kwargs: Any
    ) -> None:
        self.n_steps = n_steps
        self.schedule = schedule
        self.buffer_size = buffer_size
        self.seed = seed
        super().__init__(*args, **kwargs)

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> CycleNet:
        """Make both optimizers, and the buffers."""
        options: dict[str, Any] = {"lr": self.lr, "betas": (0.5, 0.999)}
        self.optimizer_ = torch.optim.Adam(self.module_.generators(), **options)
        self.critic_optimizer_ = torch.optim.Adam(self.module_.critics(), **options)
        generator = torch.Generator().manual_seed(self.seed)
        self.buffers_ = [ImageBuffer(self.buffer_size, generator) for _ in range(2)]
        self.n_done_ = 0
        return self

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, torch.Tensor]:
        """One step of the generators, and one of the critics."""
        self._set_training(True)
        self._set_rate()
        networks: CycleNetworks = self.module_
        source, reference = batch[0]["source"], batch[0]["reference"]
        # The generators' step passes through the critics, whose own gradients it does not want.
        _require_gradients(networks.critics(), False)
        with autocast(self.device_, self.dtype_):
            made = networks(source, reference)
            loss = networks.generator_loss(source, reference, *made)
        self._step(self.optimizer_, loss)
        _require_gradients(networks.critics(), True)
        shown = [buffer.exchange(one.detach()) for buffer, one in zip(self.buffers_, made, strict=True)]
        with autocast(self.device_, self.dtype_):
            critic_loss = networks.critic_loss(source, reference, *shown)
        self._step(self.critic_optimizer_, critic_loss)
        self.scaler_.update()
        self.n_done_ += 1
        self.history.record_batch("critic_loss", float(critic_loss.detach()))
        return {"loss": loss.detach(), "y_pred": made[0].detach()}

    def _step(self, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.scaler_.scale(loss).backward()
        self.scaler_.step(optimizer)

    def _set_rate(self) -> None:
        left = 1.0 if self.schedule == "constant" else min(1.0, 2 * (1 - self.n_done_ / self.n_steps))
        for optimizer in (self.optimizer_, self.critic_optimizer_):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * left


def _require_gradients(weights: list[nn.Parameter], wanted: bool) -> None:
    for weight in weights:
        weight.requires_grad_(wanted)


def train_cycle(
    networks: CycleNetworks,
    images: UnpairedImages,
    steps: Steps,
    schedule: str,
    buffer_size: int,
    device: torch.device,
    precision: str,
    task: str,
) -> Outcome:
    """Train networks in place; call it inside :func:`~xray_harmonize.training.seeded`.

    Parameters
    ----------
    networks : CycleNetworks
    images : UnpairedImages
    steps : Steps
    schedule : {"linear", "constant"}
    buffer_size : int
    device : torch.device
    precision : str
    task : str
        What listeners of the progress are told.

    Returns
    -------
    Outcome
        An epoch of its history is ``steps.n_batches`` steps; losses are means over them. The last state is kept: the
        loss of either side says little of how well made images pass.
    """
    seed = int(torch.randint(2**31 - 1, ()))
    best = BestState(lambda row: 0.0)
    net = CycleNet(
        networks,
        criterion=nn.L1Loss,
        n_steps=steps.n_epochs * steps.n_batches,
        schedule=schedule,
        buffer_size=buffer_size,
        seed=seed,
        lr=steps.lr,
        max_epochs=steps.n_epochs,
        batch_size=steps.batch_size,
        iterator_train=CurveBatches,
        iterator_train__n_batches=steps.n_batches,
        iterator_train__seed=seed,
        iterator_train__device=device,
        callbacks=[FiniteLoss(), TellProgress(task), best],
        device=device,
        precision=precision,
        verbose=steps.verbose,
    )
    net.fit(images)
    history = []
    for row in net.history:
        if "train_loss" in row:
            critic = float(np.mean([one["critic_loss"] for one in row["batches"]]))
            row = {**row, "critic_loss": critic}
            history.append({name: float(row[name]) for name in HISTORY})
    return Outcome(history, best.best_epoch_, net.interrupted_)
