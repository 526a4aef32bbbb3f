"""The training of GDCE's curves: steps counted, the best state by the worst group kept.

Knows networks and measured images, but no estimator; :mod:`xray_harmonize.harmonizers.gdce` decides what is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from xray_harmonize.callbacks import BestState, FiniteLoss, TellProgress
from xray_harmonize.classifiers.holdout import worst_group_accuracy
from xray_harmonize.classifiers.recipe import Outcome
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.curve_batches import CurveBatches, DrawnImages
from xray_harmonize.harmonizers.curve_images import CurveImages
from xray_harmonize.networks.curve import ScannerCurves, apply_curve
from xray_harmonize.networks.losses import FrozenNetworks
from xray_harmonize.parameters import check_number
from xray_harmonize.training import Net, StopTraining

HISTORY: Final = ("epoch", "train_loss", "valid_loss", "worst_group_accuracy", "dur")
SCHEDULES: Final = ("one_cycle", "constant")


@dataclass(frozen=True, slots=True)
class Steps:
    """How long and how fast curves are trained.

    Parameters
    ----------
    n_epochs : int
        Checks of the held-out images.
    n_batches : int
        Steps between two of them.
    batch_size : int
    lr : float
    schedule : {"one_cycle", "constant"}
    patience : int or None
        Stop after so many checks without a better state.
    verbose : int
    """

    n_epochs: int
    n_batches: int
    batch_size: int
    lr: float
    schedule: str = "one_cycle"
    patience: int | None = None
    verbose: int = 0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise InvalidParameterError(f"schedule must be one of {', '.join(SCHEDULES)}; got {self.schedule!r}.")
        check_number("lr", self.lr, "be above 0", lambda lr: lr > 0)
        if self.patience is not None:
            check_number("patience", self.patience, "be None or at least 1", lambda checks: checks >= 1)


class CurveScore(Callback):
    """Worst-group accuracy and loss of the discriminator on held-out source images, after every epoch.

    Parameters
    ----------
    loss : FrozenNetworks
        Holds the discriminator.
    held_out : CurveImages
    batch_size : int
    """

    def __init__(self, loss: FrozenNetworks, held_out: CurveImages, batch_size: int) -> None:
        self.loss = loss
        self.held_out = held_out
        self.batch_size = batch_size

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        """Score the state of now."""
        images = self.held_out
        net.module_.eval()
        logits = []
        with torch.no_grad():
            for rows in torch.arange(len(images)).split(self.batch_size):
                enhanced = apply_curve(images.frames[rows].to(net.device_), self._curves(net, rows))
                # States of neighbouring checks are almost as good as each other, and rounding shall not choose.
                logits.append(self.loss.logits(enhanced, exact=True).cpu())
        predicted = torch.cat(logits)
        groups = images.scanner * predicted.shape[1] + images.label
        worst = worst_group_accuracy(images.label.numpy(), predicted.argmax(dim=1).numpy(), groups.numpy())
        net.history.record("worst_group_accuracy", worst)
        net.history.record("valid_loss", float(functional.cross_entropy(predicted, images.label)))

    def _curves(self, net: Net, rows: torch.Tensor) -> torch.Tensor:
        inputs = self.held_out.scanner if isinstance(net.module_, ScannerCurves) else self.held_out.views
        alpha: torch.Tensor = net.module_(inputs[rows].to(net.device_))
        return alpha


class BestWorstGroup(Callback):
    """Keep the state whose worst group fares best, as far as the held-out images can tell, and put it back at the end.

    The largest of many noisy accuracies is mostly luck. States whose worst group is within a standard error of the best
    are therefore taken as equal, and of these the one with the smallest loss is kept.

    Parameters
    ----------
    margin : float
        Difference in accuracy that counts as none.
    patience : int, optional
        Stop after so many epochs that changed nothing in which state would be kept.

    Attributes
    ----------
    best_epoch_ : int
        Counted from 1; 0 where no epoch was finished.
    """

    def __init__(self, margin: float, patience: int | None = None) -> None:
        self.margin = margin
        self.patience = patience

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        """Start with nothing kept."""
        self.kept_: list[tuple[float, float, int, dict[str, torch.Tensor]]] = []
        self.best_epoch_ = 0
        self.waited_ = 0

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        """Keep what could still be chosen, stop if that has not changed for long."""
        row = net.history[-1]
        now = (float(row["worst_group_accuracy"]), float(row["valid_loss"]), int(row["epoch"]))
        state = {name: value.detach().clone() for name, value in net.module_.state_dict().items()}
        kept = [*self.kept_, (*now, state)]
        least = max(accuracy for accuracy, *_ in kept) - self.margin

        def beats(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
            # Of equals the earlier, so that a training that stands still ends.
            as_good = first[0] >= second[0] and first[1] <= second[1]
            return as_good and (first[:2] != second[:2] or first[2] < second[2])

        # One that is beaten in both will never be chosen, so few states are in memory at a time.
        self.kept_ = [one for one in kept if one[0] >= least and not any(beats(other, one) for other in kept)]
        best = min(self.kept_, key=lambda one: one[1])[2]
        self.waited_ = 0 if best != self.best_epoch_ else self.waited_ + 1
        self.best_epoch_ = best
        if self.patience is not None and self.waited_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net: Net, **kwargs: Any) -> None:
        """Put the best state back."""
        for _, _, epoch, state in self.kept_:
            if epoch == self.best_epoch_:
                net.module_.load_state_dict(state)


def _standard_error(held_out: CurveImages) -> float:
    """Largest standard error that an accuracy in the smallest group can have."""
    groups = torch.stack([held_out.scanner, held_out.label]).unique(dim=1, return_counts=True)[1]
    return 0.5 / float(groups.min()) ** 0.5


def train_curves(
    module: nn.Module,
    loss: FrozenNetworks,
    images: DrawnImages,
    held_out: CurveImages | None,
    steps: Steps,
    device: torch.device,
    task: str,
) -> Outcome:
    """Train a network of curves in place; call it inside :func:`~xray_harmonize.training.seeded`.

    Parameters
    ----------
    module : CurveEstimator or ScannerCurves
    loss : LabelLoss or DistributionLoss
    images : LabelledImages or UnlabelledImages
    held_out : CurveImages or None
        Source images with labels that choose the state to keep; None keeps the last.
    steps : Steps
    device : torch.device
    task : str
        What listeners of the progress are told.

    Returns
    -------
    Outcome
        An epoch of its history is ``steps.n_batches`` steps.

    Notes
    -----
    The state kept has the highest accuracy in its worst group, the class of a scanner that fares worst, see
    :class:`BestWorstGroup`.
    """
    callbacks: list[Callback] = [FiniteLoss(), TellProgress(task)]
    best: BestState | BestWorstGroup
    if held_out is None:
        best = BestState(lambda row: 0.0)
    else:
        best = BestWorstGroup(_standard_error(held_out), steps.patience)
        callbacks.insert(0, CurveScore(loss, held_out, 4 * steps.batch_size))
    callbacks.append(best)
    if steps.schedule == "one_cycle":
        total = steps.n_epochs * steps.n_batches
        callbacks.append(LRScheduler(OneCycleLR, max_lr=steps.lr, total_steps=total, step_every="batch"))
    net = Net(
        module,
        criterion=loss,
        optimizer=torch.optim.Adam,
        lr=steps.lr,
        max_epochs=steps.n_epochs,
        batch_size=steps.batch_size,
        iterator_train=CurveBatches,
        iterator_train__n_batches=steps.n_batches,
        iterator_train__seed=int(torch.randint(2**31 - 1, ())),
        iterator_train__device=device,
        callbacks=callbacks,
        device=device,
        # The curve itself is computed exactly; what is heavy, the frozen networks, chooses its own precision.
        precision="float32",
        verbose=steps.verbose,
    )
    net.fit(images)
    finished = [row for row in net.history if "train_loss" in row]
    history = [{name: float(row[name]) for name in HISTORY if name in row} for row in finished]
    return Outcome(history, best.best_epoch_, net.interrupted_)


def curve_values(alpha: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values of a curve at grey values, in double precision.

    Parameters
    ----------
    alpha : ndarray of float of shape (n_iterations,)
    x : ndarray of float
        In [0, 1].

    Returns
    -------
    ndarray of float64, as x

    Examples
    --------
    >>> curve_values(np.array([1.0, 1.0]), np.array([0.0, 0.5, 1.0]))
    array([0.    , 0.9375, 1.    ])
    """
    coefficients = torch.as_tensor(np.asarray(alpha, dtype=np.float64))[None]
    values: np.ndarray = apply_curve(torch.as_tensor(np.asarray(x, dtype=np.float64))[None], coefficients)[0].numpy()
    return values


def stayed_at_identity(curves: Mapping[str, np.ndarray], within: float = 0.01) -> list[str]:
    """Tell the scanners whose curves, for all purposes, change nothing.

    Parameters
    ----------
    curves : mapping of str to ndarray of shape (n, n_iterations)
        Coefficients of some curves of each scanner.
    within : float, default=0.01
        Mean distance from the identity, below which a curve counts as it.

    Returns
    -------
    list of str
        Names with the distance found.

    Examples
    --------
    >>> stayed_at_identity({"A": np.full((2, 8), 0.4), "B": np.full((2, 8), 0.001)})
    ['B (mean distance 0.001)']
    """
    x = np.linspace(0, 1, 257)
    found = {name: np.mean([np.abs(curve_values(one, x) - x).mean() for one in own]) for name, own in curves.items()}
    return [f"{name} (mean distance {distance:.3f})" for name, distance in found.items() if distance < within]
