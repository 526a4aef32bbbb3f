"""The training of networks by pairs of images: steps counted, the best state on held-out pairs kept."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from skorch.callbacks import Callback, LRScheduler
from torch.optim.lr_scheduler import OneCycleLR

from xray_harmonize.callbacks import BestState, FiniteLoss, TellProgress
from xray_harmonize.classifiers.recipe import Outcome
from xray_harmonize.harmonizers.curve_batches import CurveBatches
from xray_harmonize.harmonizers.curve_training import Steps
from xray_harmonize.harmonizers.pair_images import PairImages
from xray_harmonize.networks.rendering import RenderingLoss, RenderingNetwork
from xray_harmonize.training import Net

HISTORY: Final = ("epoch", "train_loss", "valid_loss", "dur")

# Times that held-out pairs are looked at.
N_CHECKS: Final = 10
_AT_ONCE: Final = 8
# Self-made pairs to choose the state by: whether distortions were hard ones shall not matter.
_AT_LEAST: Final = 16


class PairScore(Callback):
    """Distance of held-out images from their targets after every epoch, without what else is in the loss.

    Self-made pairs are made once, so that epochs can be compared, and several of an image where these are few.

    Parameters
    ----------
    loss : RenderingLoss
    held_out : PairImages
    seed : int
        Of how they are made.
    """

    def __init__(self, loss: RenderingLoss, held_out: PairImages, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        n_times = 1 if held_out.source is not None else -(-_AT_LEAST // len(held_out))
        rows = np.tile(np.arange(len(held_out)), n_times)
        parts = [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]
        self.loss = loss
        self.batches = [held_out.batch(part, generator, augment=False) for part in parts]

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        """Score the state of now."""
        net.module_.eval()
        total, n = 0.0, 0
        with torch.no_grad():
            for inputs, batch in self.batches:
                predicted = net.module_(**{name: value.to(net.device_) for name, value in inputs.items()})
                of_part = self.loss.distance(predicted, {name: value.to(net.device_) for name, value in batch.items()})
                total += float(of_part) * len(batch["target"])
                n += len(batch["target"])
        net.history.record("valid_loss", total / n)


def steps_of(max_steps: int, batch_size: int, lr: float, schedule: str, patience: int | None, verbose: int) -> Steps:
    """Divide a training into checks.

    Raises
    ------
    InvalidParameterError
        For a rate, schedule or patience out of range.

    Examples
    --------
    >>> steps = steps_of(95, 4, 1e-3, "one_cycle", None, 0)
    >>> steps.n_epochs, steps.n_batches
    (10, 10)
    """
    n_epochs = min(N_CHECKS, int(max_steps))
    return Steps(n_epochs, -(-int(max_steps) // n_epochs), int(batch_size), lr, schedule, patience, verbose)


def train_pairs(
    network: RenderingNetwork,
    pairs: PairImages,
    held_out: PairImages | None,
    steps: Steps,
    device: torch.device,
    precision: str,
    task: str,
) -> Outcome:
    """Train a network in place; call it inside :func:`~xray_harmonize.training.seeded`.

    Parameters
    ----------
    network : RenderingNetwork
    pairs : PairImages
        To train on.
    held_out : PairImages or None
        To choose the state by; None keeps the last.
    steps : Steps
    device : torch.device
    precision : str
    task : str
        What listeners of the progress are told.

    Returns
    -------
    Outcome
        An epoch of its history is ``steps.n_batches`` steps.
    """
    loss = RenderingLoss(network)
    seed = int(torch.randint(2**31 - 1, ()))
    callbacks: list[Callback] = [FiniteLoss(), TellProgress(task)]
    if held_out is None:
        best = BestState(lambda row: 0.0)
    else:
        best = BestState(lambda row: -row["valid_loss"], steps.patience)
        callbacks.insert(0, PairScore(loss, held_out, seed))
    callbacks.append(best)
    if steps.schedule == "one_cycle":
        total = steps.n_epochs * steps.n_batches
        callbacks.append(LRScheduler(OneCycleLR, max_lr=steps.lr, total_steps=total, step_every="batch"))
    net = Net(
        network,
        criterion=loss,
        optimizer=torch.optim.Adam,
        lr=steps.lr,
        max_epochs=steps.n_epochs,
        batch_size=steps.batch_size,
        iterator_train=CurveBatches,
        iterator_train__n_batches=steps.n_batches,
        iterator_train__seed=seed,
        iterator_train__device=device,
        callbacks=callbacks,
        device=device,
        precision=precision,
        verbose=steps.verbose,
    )
    net.fit(pairs)
    finished = [row for row in net.history if "train_loss" in row]
    history = [{name: float(row[name]) for name in HISTORY if name in row} for row in finished]
    return Outcome(history, best.best_epoch_, net.interrupted_)
