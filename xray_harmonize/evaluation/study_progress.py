"""How far a comparison is, and how long the rest will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

TRAINING = "training"
PREDICTION = "prediction"
LEARNING = "learning"

# What each kind of work counts as until it was measured: a method that trains a network for every scanner takes as
# long as several trainings.
_WEIGHTS = {TRAINING: 20.0, PREDICTION: 1.0, LEARNING: 60.0}


@dataclass
class StudyProgress:
    """How far a study is.

    Parameters
    ----------
    n_trainings, n_predictions, n_learnings : int
        Trainings of classifiers, predictions of methods, and predictions of those methods that train a network on the
        way; those found finished left out.

    Attributes
    ----------
    doing : str
        What is being done.
    epoch, max_epochs : int
        Epochs of the network that is being trained; 0 where none is.

    Examples
    --------
    >>> progress = StudyProgress(n_trainings=1, n_predictions=1)
    >>> progress.begin(TRAINING, "training a classifier")
    >>> progress.end()
    >>> round(progress.fraction, 2), progress.done
    (0.95, {'training': 1, 'prediction': 0, 'learning': 0})
    """

    n_trainings: int
    n_predictions: int
    n_learnings: int = 0
    doing: str = ""
    epoch: int = 0
    max_epochs: int = 0
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_WEIGHTS, 0))
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_WEIGHTS, 0.0))
    _kind: str = ""
    _started: float = 0.0
    _furthest: float = 0.0

    def begin(self, kind: str, doing: str) -> None:
        """Note that something begins."""
        self._kind, self.doing = kind, doing
        self.epoch, self.max_epochs = 0, 0
        self._started = time.monotonic()

    def end(self, seconds: float | None = None) -> None:
        """Note that it is done, after so many seconds; measured where not given."""
        self.done[self._kind] += 1
        self.seconds[self._kind] += time.monotonic() - self._started if seconds is None else seconds
        self.epoch, self.max_epochs = 0, 0
        self._kind = ""

    @property
    def fraction(self) -> float:
        """Share of the expected time that is over, in [0, 1].

        It never falls: where it turns out that more is left than was thought, it waits.
        """
        costs = self._costs()
        total = sum(n * costs[kind] for kind, n in self._numbers().items())
        done = sum(n * costs[kind] for kind, n in self.done.items()) + self._of_this() * costs[TRAINING]
        self._furthest = max(self._furthest, min(1.0, done / total) if total else 1.0)
        return self._furthest

    @property
    def remaining_seconds(self) -> float | None:
        """Expected time left in seconds, from what was measured in this run; None before anything was."""
        if not (any(self.done.values()) or self._of_this()):
            return None if any(self._numbers().values()) else 0.0
        costs = self._costs()
        left = sum((n - self.done[kind]) * costs[kind] for kind, n in self._numbers().items())
        return left - self._of_this() * costs[TRAINING]

    def _numbers(self) -> dict[str, int]:
        return {TRAINING: self.n_trainings, PREDICTION: self.n_predictions, LEARNING: self.n_learnings}

    def _of_this(self) -> float:
        """Share of the training in hand that is over; a method that learns trains it is not known how often."""
        return self.epoch / self.max_epochs if self.max_epochs and self._kind == TRAINING else 0.0

    def _costs(self) -> dict[str, float]:
        """Seconds that one of each kind takes: as measured, or by its weight against what was measured."""
        seconds = {kind: spent for kind, spent in self.seconds.items() if self.done[kind]}
        done: dict[str, float] = {kind: self.done[kind] for kind in seconds}
        if self._of_this() and not self.done[TRAINING]:
            # Before the first training is over, take it that none will stop early.
            seconds[TRAINING], done[TRAINING] = time.monotonic() - self._started, self._of_this()
        weight = sum(n * _WEIGHTS[kind] for kind, n in done.items())
        unit = sum(seconds.values()) / weight if weight else 1.0
        return {
            kind: seconds[kind] / done[kind] if kind in seconds else unit * expected
            for kind, expected in _WEIGHTS.items()
        }
