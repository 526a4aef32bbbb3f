"""Callbacks of :class:`xray_harmonize.training.Net`: scores, the best state kept, and who is told how far it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch.nn.modules.batchnorm import _BatchNorm

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.training import Net, StopTraining


class ValidationScore(Callback):
    """A score of each epoch's outputs on the validation part, put into the history.

    The outputs are those of the validation loss, so the score costs no further pass.

    Parameters
    ----------
    score : callable
        ``score(targets, outputs)`` of two arrays gives a float.
    name : str
        Column of the history.
    """

    def __init__(self, score: Callable[[np.ndarray, np.ndarray], float], name: str) -> None:
        self.score = score
        self.name = name

    def on_epoch_begin(self, net: Net, **kwargs: Any) -> None:
        """Forget the outputs of the epoch before."""
        self.targets_: list[np.ndarray] = []
        self.outputs_: list[np.ndarray] = []

    def on_batch_end(self, net: Net, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        """Keep the outputs of a validation batch."""
        if not training:
            self.targets_.append(batch[1].cpu().numpy())
            self.outputs_.append(kwargs["y_pred"].detach().cpu().numpy())

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        """Score them."""
        score = self.score(np.concatenate(self.targets_), np.concatenate(self.outputs_))
        net.history.record(self.name, float(score))


class BestState(Callback):
    """Keep the weights of the best finished epoch, and put them back when training ends.

    However it ends: after the last epoch, early, or by Ctrl-C. A tie goes to the later epoch.

    Parameters
    ----------
    rank : callable
        Takes the history's row of an epoch (a dict) and gives a float or a tuple of floats, the larger the better. A
        constant keeps the last finished epoch.
    patience : int, optional
        Stop after so many epochs without a better one (a tie is not better). None: never.

    Attributes
    ----------
    best_epoch_ : int
        Counted from 1; 0 where no epoch was finished.
    """

    def __init__(self, rank: Callable[[dict[str, Any]], Any], patience: int | None = None) -> None:
        self.rank = rank
        self.patience = patience

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        """Start with nothing kept."""
        self.best_epoch_ = 0
        self.best_rank_: Any = None
        self.state_: dict[str, torch.Tensor] = {}
        self.waited_ = 0

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        """Keep the state if none was better, stop if none has been for long."""
        row = net.history[-1]
        rank = self.rank(row)
        better = self.best_rank_ is None or rank > self.best_rank_
        if better or rank == self.best_rank_:
            self.best_rank_ = rank
            self.best_epoch_ = int(row["epoch"])
            self.state_ = {name: value.detach().clone() for name, value in net.module_.state_dict().items()}
        self.waited_ = 0 if better else self.waited_ + 1
        if self.patience is not None and self.waited_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net: Net, **kwargs: Any) -> None:
        """Put the best state back."""
        if self.best_epoch_:
            net.module_.load_state_dict(self.state_)


class FiniteLoss(Callback):
    """Refuse to go on with a loss that is no number, or with weights that are none."""

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        """Look at the loss of the epoch, which is from before its last step, and at the weights behind that."""
        row = net.history[-1]
        if not math.isfinite(row["train_loss"]):
            self._refuse(net, f"the loss of epoch {row['epoch']} is {row['train_loss']}")
        if not all(bool(torch.isfinite(weights).all()) for weights in net.module_.parameters()):
            self._refuse(net, f"behind epoch {row['epoch']} weights are no finite numbers")

    def _refuse(self, net: Net, what: str) -> None:
        raise InvalidParameterError(f"The training diverged: {what}. Use a smaller lr than {net.lr:g}.")


class WarmBatchNorm(Callback):
    """Take the first steps' batch-norm statistics as plain averages, then as the usual moving ones.

    A moving average of momentum 0.1 still holds a third of its made-up start (mean 0, variance 1) after ten steps,
    which is a whole training of a few dozen images; a network so short of steps would be useless in evaluation.
    """

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        """Find the layers and their momenta."""
        self.layers_ = [module for module in net.module_.modules() if isinstance(module, _BatchNorm)]
        self.momenta_ = [layer.momentum for layer in self.layers_]
        self.n_steps_ = 0

    def on_batch_begin(self, net: Net, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        """Set the momentum of the step to come."""
        if training:
            self.n_steps_ += 1
            for layer, momentum in zip(self.layers_, self.momenta_, strict=True):
                layer.momentum = None if momentum is None else max(momentum, 1 / self.n_steps_)

    def on_train_end(self, net: Net, **kwargs: Any) -> None:
        """Put the momenta back."""
        for layer, momentum in zip(self.layers_, self.momenta_, strict=True):
            layer.momentum = momentum


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands, after an epoch.

    Parameters
    ----------
    task : str
        What is being trained, such as ``"ResNetClassifier"``.
    epoch, max_epochs : int
        Epochs done, and at most to do.
    row : dict
        The history's numbers of this epoch: ``train_loss``, ``valid_loss``, ``dur`` (s), scores.
    """

    task: str
    epoch: int
    max_epochs: int
    row: dict[str, Any]


_LISTENER: ContextVar[Callable[[Progress], None] | None] = ContextVar("listener", default=None)


@contextmanager
def report_progress(listener: Callable[[Progress], None]) -> Iterator[None]:
    """Call ``listener`` after every epoch of every network fitted inside, in this thread.

    Reaches through pipelines and searches without becoming a parameter of an estimator; not into other processes.

    Parameters
    ----------
    listener : callable
        Takes a :class:`Progress`. What it raises ends the training.

    Examples
    --------
    >>> from xray_harmonize.classifiers import ResNetClassifier
    >>> X, y = np.random.default_rng(0).random((8, 16, 16)), [0, 1] * 4
    >>> classifier = ResNetClassifier(depth=10, width=4, image_size=16, max_epochs=2, validation_fraction=0)
    >>> with report_progress(lambda progress: print(progress.epoch, "of", progress.max_epochs)):
    ...     _ = classifier.fit(X, y)
    1 of 2
    2 of 2
    """
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


class TellProgress(Callback):
    """Tell the listener of :func:`report_progress`, if there is one, of each epoch.

    Parameters
    ----------
    task : str
        Passed on as :attr:`Progress.task`.
    """

    def __init__(self, task: str) -> None:
        self.task = task

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        """Tell it."""
        listener = _LISTENER.get()
        if listener is not None:
            row = {name: value for name, value in net.history[-1].items() if name != "batches"}
            listener(Progress(self.task, int(row["epoch"]), net.max_epochs, row))
