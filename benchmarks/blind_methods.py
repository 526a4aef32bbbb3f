"""What the BlindHarmony study compares: the rows of the paper, and a few beyond them.

Every method has its package defaults; only the numbers of training steps are the study's, since those for a laptop's
first try are too few for a comparison.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from blind_cohorts import Subjects, joined
from blind_store import key_of, modules_behind

from xray_harmonize import BlindHarmony, CDFMatching, CycleGAN, FourierSwap, FullRange, InterpretableMapping, UNet
from xray_harmonize.evaluation.keys import described
from xray_harmonize.harmonizers.base import Harmonizer

SOURCE = "source"
BLIND = "BlindHarmony"
MATCHED = "BlindHarmony, from matched"
PUBLISHED = "BlindHarmony, as published"
# What BlindHarmony.as_published sets for a GPU; the rest of it is the search.
_SIZES = ("image_size", "n_levels", "n_steps", "channels", "n_blocks", "n_bins", "tail_bound", "n_bits")
_TRAINING = ("batch_size", "max_steps", "lr", "schedule", "flip", "validation_fraction", "patience")

Sees = Literal["nothing", "reference", "scanner", "unpaired", "pairs"]
SEEN: Mapping[Sees, str] = {
    "nothing": "nothing",
    "reference": "reference",
    "scanner": "reference, unlabelled images of each scanner",
    "unpaired": "reference and this scanner, unpaired",
    "pairs": "pairs of this scanner and the reference",
}


@dataclass(frozen=True)
class Method:
    """A row of the study.

    Parameters
    ----------
    name : str
    sees : {"nothing", "reference", "scanner", "unpaired", "pairs"}
        What is learned from.
    make : callable
        Gives the unfitted harmonizer, by the reference's name and a seed.
    module : str
        Where in the package it is written; what was kept counts while its program, and that of harmonizers and
        networks that it imports, is the same.
    draws : bool
        Whether seeds make a difference.
    """

    name: str
    sees: Sees
    make: Callable[[str, int], Harmonizer]
    module: str
    draws: bool = False

    @property
    def per_scanner(self) -> bool:
        """Whether each source scanner has a fit of its own."""
        return self.sees in ("unpaired", "pairs")

    @functools.cached_property
    def modules(self) -> list[str]:
        """Modules of the package that decide what comes out."""
        return modules_behind(self.module)

    def learns_for(self, scanner: str, subjects: Subjects) -> bool:
        """Tell whether a scanner has a row: the second exposure of the reference has no pair of its own."""
        return not self.per_scanner or scanner in subjects.sources

    def fitted(self, subjects: Subjects, scanner: str, seed: int) -> Harmonizer:
        """Learn from the training patients.

        Parameters
        ----------
        subjects : Subjects
        scanner : str
            Which fit, of a method that has one for each scanner.
        seed : int
        """
        harmonizer = self.make(subjects.reference, seed)
        own = subjects.own.images
        if self.sees == "pairs":
            pairs = subjects.travelling.of(scanner)
            return harmonizer.fit(pairs.images, target=pairs.truth)
        if self.sees == "unpaired":
            return harmonizer.fit(joined(own, subjects.unpaired.of(scanner).images))
        if self.sees == "scanner":
            return harmonizer.fit(joined(own, subjects.unpaired.images))
        return harmonizer.fit(own)

    def key(self, subjects: str, scanner: str, seed: int) -> str:
        """Give the key that the fit is kept under; `subjects` is the patients' own."""
        facts = [described(self.make("", seed)), self.sees, scanner if self.per_scanner else ""]
        return key_of("fit", self.modules, subjects, *facts)


@dataclass(frozen=True)
class Steps:
    """Numbers of training steps, and what else a quick run makes small.

    Parameters
    ----------
    blind, cycle, unet, mapping : int
    small : mapping of {str: dict}
        Further parameters by method; empty in the study.
    """

    blind: int
    cycle: int
    unet: int
    mapping: int
    small: Mapping[str, Mapping[str, Any]]


def all_methods(steps: Steps) -> list[Method]:
    """Give all rows in the order of the table."""

    def small(name: str) -> dict[str, Any]:
        return dict(steps.small.get(name, {}))

    def search_as_published() -> dict[str, Any]:
        published = BlindHarmony.as_published().get_params()
        apart = (*_SIZES, *_TRAINING, "reference", "random_state", "device", "verbose")
        return {name: value for name, value in published.items() if name not in apart}

    def make_blind(reference: str, seed: int, **search: Any) -> Harmonizer:
        given = {**search, "max_steps": steps.blind, **small(BLIND)}
        return BlindHarmony(**{**given, "reference": reference, "random_state": seed})

    return [
        Method(SOURCE, "nothing", lambda reference, seed: FullRange(), "harmonizers/linear"),
        Method("HM", "reference", lambda reference, seed: CDFMatching(reference), "harmonizers/cdf"),
        Method(
            "SSIMH",
            "reference",
            lambda reference, seed: FourierSwap(reference, mode="dct"),
            "harmonizers/fourier",
        ),
        Method(
            "CycleGAN",
            "unpaired",
            lambda reference, seed: CycleGAN(reference, max_steps=steps.cycle, random_state=seed, **small("CycleGAN")),
            "harmonizers/translation",
            draws=True,
        ),
        Method(
            "U-Net",
            "pairs",
            lambda reference, seed: UNet(max_steps=steps.unet, random_state=seed, **small("U-Net")),
            "harmonizers/paired_unets",
            draws=True,
        ),
        Method(BLIND, "reference", make_blind, "harmonizers/blind", draws=True),
        Method(
            "CDF, scanner",
            "scanner",
            lambda reference, seed: CDFMatching(reference, scope="scanner"),
            "harmonizers/cdf",
        ),
        Method(
            "mapping, self-made pairs",
            "reference",
            lambda reference, seed: InterpretableMapping(
                reference, max_steps=steps.mapping, random_state=seed, **small("mapping")
            ),
            "harmonizers/mapping",
            draws=True,
        ),
        # Better in the mapping study; here without the truth of real pairs.
        Method(
            "mapping, map weight 0.01",
            "reference",
            lambda reference, seed: InterpretableMapping(
                reference, max_steps=steps.mapping, map_weight=0.01, random_state=seed, **small("mapping")
            ),
            "harmonizers/mapping",
            draws=True,
        ),
        Method(
            MATCHED,
            "reference",
            lambda reference, seed: make_blind(reference, seed, start="matched"),
            "harmonizers/blind",
            draws=True,
        ),
        Method(
            PUBLISHED,
            "reference",
            lambda reference, seed: make_blind(reference, seed, **search_as_published()),
            "harmonizers/blind",
            draws=True,
        ),
    ]
