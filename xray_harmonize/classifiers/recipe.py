"""How a classifying network is trained: the part of a deep classifier that knows neither images nor scikit-learn."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from skorch.helper import predefined_split
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import TensorDataset

from xray_harmonize.callbacks import BestState, FiniteLoss, TellProgress, ValidationScore, WarmBatchNorm
from xray_harmonize.classifiers.augment import augmentation
from xray_harmonize.classifiers.holdout import worst_group_accuracy
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.training import Net

OPTIMIZERS: Final = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
SCHEDULES: Final = ("one_cycle", "constant")
HISTORY: Final = ("epoch", "train_loss", "valid_loss", "worst_group_accuracy", "dur")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training came to; the network itself holds the best state.

    Parameters
    ----------
    history : list of dict
        Numbers of each finished epoch, by the names of ``HISTORY``.
    best_epoch : int
        Counted from 1; 0 where none was finished.
    interrupted : bool
        Whether Ctrl-C ended it.
    """

    history: list[dict[str, float]]
    best_epoch: int
    interrupted: bool


def tell_interruption(
    outcome: Outcome, task: str, unit: str = "check", planned: int | None = None, *, stacklevel: int = 3
) -> None:
    """Warn that a training is not whole; nothing to keep is an interruption still.

    Parameters
    ----------
    outcome : Outcome
    task : str
        What was trained, such as ``"training of UNet"``.
    unit : str
        What the history has a row of.
    planned : int, optional
        How many there should have been, where that is worth telling.
    stacklevel : int
        From here to the user's call.

    Raises
    ------
    KeyboardInterrupt
        If nothing was finished.
    """
    if not outcome.interrupted:
        return
    if not outcome.best_epoch:
        raise KeyboardInterrupt
    many = f"{len(outcome.history)}" + ("" if planned is None else f" of {planned}")
    warnings.warn(
        f"The {task} was interrupted after {many} {unit}s; the state of {unit} {outcome.best_epoch} is kept.",
        XRayHarmonizeWarning,
        stacklevel=stacklevel,
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training but network, data and seed.

    Parameters are those of :class:`~xray_harmonize.classifiers.ResNetClassifier`.

    Raises
    ------
    InvalidParameterError
        If one of them is out of range.

    Examples
    --------
    >>> Recipe(optimizer="lbfgs")
    Traceback (most recent call last):
    xray_harmonize.exceptions.InvalidParameterError: optimizer must be one of adamw, adam, sgd; got 'lbfgs'.
    """

    max_epochs: int = 12
    batch_size: int = 16
    lr: float = 1e-3
    schedule: str = "one_cycle"
    optimizer: str = "adamw"
    weight_decay: float = 1e-4
    flip: bool = True
    augment: str | None = None
    patience: int | None = None
    precision: str = "auto"
    verbose: int = 0

    def __post_init__(self) -> None:
        for name, known in (("optimizer", tuple(OPTIMIZERS)), ("schedule", SCHEDULES)):
            value = getattr(self, name)
            if value not in known:
                raise InvalidParameterError(f"{name} must be one of {', '.join(known)}; got {value!r}.")
        # A batch of one image has no variance for batch normalization to divide by.
        for name, least in (("max_epochs", 1), ("batch_size", 2)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < least:
                raise InvalidParameterError(f"{name} must be a whole number, at least {least}; got {value!r}.")
        if not self.lr > 0:
            raise InvalidParameterError(f"lr must be above 0; got {self.lr!r}.")
        if not self.weight_decay >= 0:
            raise InvalidParameterError(f"weight_decay must be 0 or more; got {self.weight_decay!r}.")
        if self.patience is not None and not self.patience >= 1:
            raise InvalidParameterError(f"patience must be None or at least 1 epoch; got {self.patience!r}.")
        augmentation(self.augment, self.flip)

    def train(
        self,
        network: nn.Module,
        training: TensorDataset,
        validation: TensorDataset,
        groups: np.ndarray,
        class_weights: torch.Tensor | None,
        device: torch.device,
        task: str,
    ) -> Outcome:
        """Train a network in place by cross-entropy; call it inside :func:`~xray_harmonize.training.seeded`.

        Parameters
        ----------
        network : nn.Module
            Gives logits for images of shape (n, 1, height, width).
        training, validation : TensorDataset
            Images and class numbers. Validation may be empty: then the last epoch counts.
        groups : ndarray of shape (n_validation,)
            Group of each validation image, over which the worst accuracy is taken.
        class_weights : tensor of shape (n_classes,) or None
            Weights in the loss.
        device : torch.device
        task : str
            What listeners of the progress are told.

        Returns
        -------
        Outcome
        """

        def score(targets: np.ndarray, logits: np.ndarray) -> float:
            return worst_group_accuracy(targets, logits.argmax(axis=1), groups)

        def rank(row: dict[str, Any]) -> float:
            return float(row["worst_group_accuracy"]) if len(validation) else 0.0

        best = BestState(rank, self.patience if len(validation) else None)
        callbacks = [WarmBatchNorm(), FiniteLoss(), TellProgress(task), best]
        if len(validation):
            callbacks.insert(0, ValidationScore(score, "worst_group_accuracy"))
        if self.schedule == "one_cycle":
            n_steps = self.max_epochs * -(-len(training) // self.batch_size)
            callbacks.append(LRScheduler(OneCycleLR, max_lr=self.lr, total_steps=n_steps, step_every="batch"))
        options: dict[str, Any] = {"optimizer__momentum": 0.9} if self.optimizer == "sgd" else {}
        net = Net(
            network,
            criterion=nn.CrossEntropyLoss,
            criterion__weight=class_weights,
            optimizer=OPTIMIZERS[self.optimizer],
            optimizer__weight_decay=self.weight_decay,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            iterator_train__shuffle=True,
            iterator_train__transform=augmentation(self.augment, self.flip),
            iterator_train__device=device,
            iterator_valid__device=device,
            train_split=predefined_split(validation) if len(validation) else None,
            callbacks=callbacks,
            device=device,
            precision=self.precision,
            verbose=self.verbose,
            **options,
        )
        net.fit(training)
        # An interrupted epoch has no loss yet.
        finished = [row for row in net.history if "train_loss" in row]
        history = [{name: float(row[name]) for name in HISTORY if name in row} for row in finished]
        return Outcome(history, best.best_epoch_, net.interrupted_)
