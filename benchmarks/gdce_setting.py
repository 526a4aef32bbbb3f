"""How large the GDCE study is, what it compares, and where it keeps what is finished."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from gdce_cohorts import Images, simulated
from gdce_protocol import FixedTest
from result_files import write_result

from xray_harmonize import GDCE, ResNetClassifier
from xray_harmonize.evaluation.candidates import LABELLED, Candidate, default_candidates
from xray_harmonize.evaluation.study import PartStore

FULL_RANGE = "none"
# What changes one image by itself, in closed form, and knows nothing of the scanner.
CLOSED_FORMS = (
    "min-max",
    "percentiles",
    "display window",
    "z-score",
    "CDF, image",
    "Nyul",
    "FDA",
    "SSIMH",
    "bands, image",
)
UNLABELLED_ROWS = ("CDF, scanner", "CDF, mixed", "CDF, shrunk", "batch-norm adaptation", "GDCE, unlabelled")
LABELLED_ROWS = ("GDCE, image", "GDCE, scanner", "fine-tuned")
MAIN = (FULL_RANGE, *CLOSED_FORMS, *UNLABELLED_ROWS, *LABELLED_ROWS, "random tone curves")
ABSENT = (FULL_RANGE, "CDF, scanner", "CDF, shrunk", "GDCE, unlabelled", *LABELLED_ROWS)
CHEST = (FULL_RANGE, "CDF, scanner", *LABELLED_ROWS)
NEGATIVE = ("CDF, scanner", "CDF, shrunk", "GDCE, unlabelled", "GDCE, image", "GDCE, scanner")


@dataclass(frozen=True)
class Setting:
    """Sizes of the study.

    Parameters
    ----------
    n_patients, size : int
        Of each simulated scanner; pixels of its images.
    seeds, few_seeds : tuple of int
        Folds of the reference's patients, one a seed; the second where many variants are compared.
    n_folds : int
    classifier : ResNetClassifier
        Unfitted.
    gdce : mapping
        Parameters of every GDCE.
    layers, iterations : tuple of int
        Grid of the ablation.
    weightings : tuple of str
        What the part "weighting" compares, the default first.
    n_bootstrap : int
    released : mapping
        What differs from the published training in the row "as released".
    cache, results, figures : path
        Where finished pieces, tables and pictures go.
    command : str
        What was typed.
    images : Images, optional
        The user's; simulated otherwise.
    """

    n_patients: int
    size: int
    seeds: tuple[int, ...]
    few_seeds: tuple[int, ...]
    n_folds: int
    classifier: ResNetClassifier
    gdce: Mapping[str, Any]
    layers: tuple[int, ...]
    iterations: tuple[int, ...]
    weightings: tuple[str, ...]
    n_bootstrap: int
    released: Mapping[str, Any]
    cache: Path
    results: Path
    figures: Path
    command: str
    images: Images | None = None
    _made: dict[str, Images] = field(default_factory=dict, repr=False, compare=False)

    def density(self, third: bool = False) -> Images:
        """Give the mammograms, the third scanner's among them if asked; the user's images where there are any."""
        if self.images is not None:
            return self.images
        return self._simulated("density", third)

    def chest(self) -> Images:
        """Give the chest radiographs."""
        return self._simulated("pneumonia", third=False)

    def _simulated(self, task: str, third: bool) -> Images:
        name = f"{task} {third}"
        if name not in self._made:
            self._made[name] = simulated(task, self.n_patients, self.size, self.cache, third)
        return self._made[name]

    def rows(self, names: tuple[str, ...]) -> list[Candidate]:
        """Give candidates by name, in this order."""
        known = {one.name: one for one in default_candidates(gdce=self.gdce)}
        return [known[name] for name in names]

    def fixed_test(self, images: Images, lacking: bool = False) -> FixedTest:
        """Give the protocol with one test set for all folds."""
        return FixedTest(images, self.classifier, self.store, lacking, self.n_folds)

    @functools.cached_property
    def store(self) -> PartStore:
        """Where the pieces of :class:`FixedTest` are kept."""
        return PartStore(self.cache / "pieces")

    def variant(self, name: str, **parameters: Any) -> Candidate:
        """Give a GDCE with other parameters as a candidate."""
        return Candidate(name, (GDCE(**{**self.gdce, **parameters}),), sees=LABELLED)

    def released_variant(self, name: str, **parameters: Any) -> Candidate:
        """Give GDCE by its published training as a candidate."""
        return Candidate(name, (GDCE.as_released(**{**self.gdce, **parameters, **self.released}),), sees=LABELLED)

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Write a table beside the other results, and say where."""
        path = self.results / f"gdce_{name}.csv"
        write_result(path, table, self.command)
        print(f"wrote {path}")

    def read(self, name: str) -> pd.DataFrame | None:
        """Read a table that was written; None where it was not."""
        path = self.results / f"gdce_{name}.csv"
        if not path.is_file():
            print(f"{path} is missing; run the part that makes it first")
            return None
        return pd.read_csv(path, comment="#", keep_default_na=False, na_values=[""])


def full_setting(cache: Path, results: Path, figures: Path, command: str) -> Setting:
    """Give the study as its tables show it."""
    return Setting(
        n_patients=400,
        size=128,
        seeds=(0, 1, 2, 3, 4),
        few_seeds=(0, 1),
        n_folds=5,
        classifier=ResNetClassifier(image_size=64, max_epochs=16, validation_fraction=0),
        gdce={"view_size": 64, "vgg_weights": "random", "speed": "fast"},
        layers=(3, 5, 7),
        iterations=(2, 5, 8),
        weightings=("smooth", "ratio", "sum"),
        n_bootstrap=1000,
        released={},
        cache=cache,
        results=results,
        figures=figures,
        command=command,
    )


def quick_setting(cache: Path, results: Path, figures: Path, command: str) -> Setting:
    """Give the same study so small that it says nothing and takes a minute."""
    return replace(
        full_setting(cache, results, figures, command),
        n_patients=32,
        size=40,
        seeds=(0,),
        few_seeds=(0,),
        n_folds=2,
        classifier=ResNetClassifier(width=4, image_size=24, max_epochs=2, validation_fraction=0),
        gdce={"view_size": 16, "vgg_weights": "random", "max_steps": 2, "batch_size": 4, "start": "random"},
        layers=(2, 3),
        iterations=(2, 3),
        weightings=("smooth",),
        n_bootstrap=20,
        released={"max_epochs": 1},
    )
