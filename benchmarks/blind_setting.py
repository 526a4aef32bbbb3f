"""How large the BlindHarmony study is, what it compares, and where it keeps what is finished."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from blind_cohorts import SOURCES, Numbers, Subjects, again, simulated
from blind_methods import BLIND, SOURCE, Method, Steps, all_methods
from blind_segmentation import Segmentation
from blind_store import PACKAGE, Pieces, key_of
from result_files import write_result

from xray_harmonize import make_cohort
from xray_harmonize.datasets.cohort import Cohort
from xray_harmonize.datasets.vendors import TASKS, Task


@dataclass(frozen=True)
class Setting:
    """Sizes of the study, and what a run of it does.

    Parameters
    ----------
    numbers : Numbers
        Of patients, and pixels.
    masked : bool
        Whether methods are given a mask of the body, found in each image.
    steps : Steps
        Of training.
    segmentation : Segmentation
    seeds : tuple of int
        Trainings of every method that draws; measures are means over them.
    n_bootstrap : int
    cache, results, figures : path
        Where finished pieces, tables and pictures go.
    command : str
        What was typed.
    tasks : tuple of str
    methods, again : tuple of str
        Rows to be computed where they are not kept (all where empty), and rows to be computed anew.
    scanners : tuple of str
        Scanners that rows are computed on; all where empty.
    fresh : set of str
        Keys of what was learned anew in this run.
    """

    numbers: Numbers
    masked: bool
    steps: Steps
    segmentation: Segmentation
    seeds: tuple[int, ...]
    n_bootstrap: int
    cache: Path
    results: Path
    figures: Path
    command: str
    tasks: tuple[Task, ...] = TASKS
    methods: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    scanners: tuple[str, ...] = ()
    fresh: set[str] = field(default_factory=set, repr=False, compare=False)
    _made: dict[str, Subjects] = field(default_factory=dict, repr=False, compare=False)

    @functools.cached_property
    def pieces(self) -> Pieces:
        """Where finished pieces are kept."""
        return Pieces(self.cache / "pieces")

    @functools.cached_property
    def all_methods(self) -> list[Method]:
        """All rows, in the order of the table."""
        return all_methods(self.steps)

    def wants(self, method: Method) -> bool:
        """Tell whether a row is to be computed where it is not kept; differences need the source's always."""
        return not self.methods or method.name in (*self.methods, SOURCE)

    def seeds_of(self, method: Method) -> tuple[int, ...]:
        """Give the seeds of a method's trainings."""
        return self.seeds if method.draws else self.seeds[:1]

    def subjects(self, task: Task) -> Subjects:
        """Give the patients of a task."""
        if task not in self._made:
            self._made[task] = simulated(task, self.numbers, self.masked, self._cohort)
        return self._made[task]

    def subjects_key(self, task: Task) -> str:
        """Give what tells the patients of a task, and how methods see them, from all others."""
        return key_of("subjects", _datasets(), task, self.numbers, self.masked, SOURCES[task], again(task))

    def _cohort(self, *arguments: Any, **options: Any) -> Cohort:
        key = key_of("cohort", _datasets(), arguments, options)
        return self.pieces.get(key, lambda: make_cohort(*arguments, **options))

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Write a table beside the other results, and say where."""
        path = self.results / f"blind_{name}.csv"
        write_result(path, table, self.command)
        print(f"wrote {path}")


def _datasets() -> list[str]:
    return sorted(f"datasets/{path.stem}" for path in (PACKAGE / "datasets").glob("*.py"))


def full_setting(cache: Path, results: Path, figures: Path, command: str) -> Setting:
    """Give the study as its tables show it."""
    return Setting(
        numbers=Numbers(reference=200, source=100, travelling=100, test=40, size=128),
        masked=True,
        steps=Steps(blind=300, cycle=300, unet=1000, mapping=800, small={}),
        segmentation=Segmentation(),
        seeds=(0,),
        n_bootstrap=1000,
        cache=cache,
        results=results,
        figures=figures,
        command=command,
    )


def quick_setting(cache: Path, results: Path, figures: Path, command: str) -> Setting:
    """Give the same study so small that it says nothing and takes half a minute."""
    tiny: Mapping[str, Mapping[str, Any]] = {
        "CycleGAN": {"n_features": 2, "n_blocks": 1},
        "U-Net": {"n_features": 2},
        "mapping": {"n_features": 2},
        BLIND: {"image_size": 16, "n_levels": 2, "n_steps": 1, "channels": 4, "batch_size": 4},
    }
    return replace(
        full_setting(cache, results, figures, command),
        numbers=Numbers(reference=8, source=8, travelling=4, test=4, size=40),
        steps=Steps(blind=2, cycle=2, unet=2, mapping=2, small=tiny),
        segmentation=Segmentation(features=(2, 2, 2, 2, 2, 2), max_epochs=1),
        n_bootstrap=20,
    )
