"""The methods of the mapping study: trained alike, each at the learning rate that held-out bodies choose."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mapping_bodies import BODY_PARTS, Presentations
from mapping_setting import Method, Setting, file_name

from xray_harmonize import CDFMatching, FourierSwap, ImageSet, load, save

# How far apart learning rates are that are tried.
_FACTOR = 3.0
CLOSED_FORMS: Mapping[str, Callable[[], Any]] = {
    "HM": CDFMatching,
    "SSIMH": lambda: FourierSwap(mode="dct"),
}


@dataclass(frozen=True)
class Training:
    """What networks learn from.

    Parameters
    ----------
    sources, targets : ImageSet
    maps : list of ndarray, or None
        True maps, where there are any.
    """

    sources: ImageSet
    targets: ImageSet
    maps: list[np.ndarray] | None = None

    @classmethod
    def of(cls, shown: Presentations) -> Training:
        """Give pairs with their maps."""
        return cls(shown.sources, shown.targets, shown.maps)

    def fit(self, method: Method, estimator: Any) -> Any:
        """Train a method."""
        if method.sees_maps and self.maps is not None:
            return estimator.fit(self.sources, target=self.targets, maps=self.maps)
        return estimator.fit(self.sources, target=self.targets)


@dataclass(frozen=True)
class Trainer:
    """Trains methods, and keeps what is trained.

    Parameters
    ----------
    setting : Setting
    training : Training
    folder : path
        Where networks are kept.
    parameters : mapping
        Of every method that has them, beside its own.
    """

    setting: Setting
    training: Training
    folder: Path
    parameters: Mapping[str, Any]

    def chosen(self, methods: Sequence[Method]) -> tuple[dict[str, Any], pd.DataFrame]:
        """Train methods; give each at the rate chosen, and a table of all rates tried.

        Rates are chosen by short trainings: the default is tried with those three times lower and higher, and where
        the best lies at an end, the next beyond. The best is that with the smallest error on held-out training bodies.
        At that rate the whole training follows; should it end up worse than a short one, the short one is taken.
        """
        best: dict[str, Any] = {}
        tried = []
        # Those that take another's rate come after it.
        for method in sorted(methods, key=lambda one: one.rate_of is not None):
            runs = {} if method.rate_of else self._searched(method)
            lr = best[method.rate_of].lr if method.rate_of else min(runs, key=lambda rate: held_out_error(runs[rate]))
            every = [*runs.values(), self.trained(method, lr)]
            best[method.name] = min(every, key=held_out_error)
            for run in every:
                row = {"method": method.name, "lr": run.lr, "steps": run.max_steps}
                row |= {"chosen": run is best[method.name], "rate_of": method.rate_of or method.name}
                tried += [{**row, **check} for check in run.history_]
        return {method.name: best[method.name] for method in methods}, pd.DataFrame(tried)

    def _searched(self, method: Method) -> dict[float, Any]:
        steps = self.setting.lr_steps
        middle = self.setting.new(method).lr
        runs = {middle: self.trained(method, middle, steps)}
        rates = [middle / _FACTOR, middle * _FACTOR]
        while rates and len(runs) < self.setting.lr_tries:
            rate = rates.pop(0)
            runs[rate] = self.trained(method, rate, steps)
            lr = min(runs, key=lambda one: held_out_error(runs[one]))
            if not rates and lr in (min(runs), max(runs)):
                rates = [lr / _FACTOR if lr == min(runs) else lr * _FACTOR]
        return runs

    def trained(self, method: Method, lr: float, steps: int | None = None) -> Any:
        """Train a method at one rate, or find it trained."""
        steps = steps or self.setting.max_steps
        path = self.folder / f"{file_name(method.name)}-{steps}-{lr:.3g}.npz"
        if path.is_file():
            return load(path)
        started = time.monotonic()
        known = self.setting.new(method).get_params(deep=False)
        own = {key: value for key, value in self.parameters.items() if key in known}
        run = self.training.fit(method, self.setting.new(method, lr, max_steps=steps, **own))
        path.parent.mkdir(parents=True, exist_ok=True)
        save(run, path)
        seconds = time.monotonic() - started
        error, check = held_out_error(run), run.best_epoch_
        print(f"{method.name}, {steps} steps at {lr:.2g}: {error:.5f} at check {check}, {seconds:.0f} s", flush=True)
        return run


def held_out_error(run: Any) -> float:
    """Squared error of small views of held-out bodies, in the state that was kept."""
    return min(float(row["valid_loss"]) for row in run.history_)


@dataclass(frozen=True)
class ByBodyPart:
    """A closed form with one reference a body part, which every header tells.

    Parameters
    ----------
    fitted : mapping of str to estimator
    """

    fitted: Mapping[str, Any]

    @classmethod
    def fit(cls, name: str, shown: Presentations) -> ByBodyPart:
        """Learn what the reference looks like from training bodies, one image each."""
        parts = {part: shown.one_each().of(part) for part in BODY_PARTS.values()}
        return cls({part: CLOSED_FORMS[name]().fit(one.targets) for part, one in parts.items()})
