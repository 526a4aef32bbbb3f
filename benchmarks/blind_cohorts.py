"""Who the BlindHarmony study looks at: simulated patients on a reference scanner and on four others.

Four cohorts of different patients: the reference's own, which blind methods learn; the sources' own, for methods that
learn from unpaired images; travelling subjects for methods that learn from pairs; and travelling subjects to test on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from gdce_cohorts import BETWEEN, CLEARVIEW, SENOGRAPH

from xray_harmonize import ImageSet, make_cohort
from xray_harmonize.datasets.cohort import Cohort
from xray_harmonize.datasets.physics import Acquisition
from xray_harmonize.datasets.responses import ToneResponse
from xray_harmonize.datasets.vendors import PRESETS, Task, VendorPreset
from xray_harmonize.geometry.foreground import body_mask, thumbnail

AGAIN = "reference again"
REFERENCES: Mapping[Task, str] = {"density": "reference", "pneumonia": "chest-reference"}

# Its processing sets the contrast anew for every image.
AUTO_CONTRAST = VendorPreset(
    "auto-contrast-like",
    "density",
    Acquisition(30.0, 60.0, "Rh", (("Rh", 0.025),), "CsI", scatter=0.06, blur_mm=0.5),
    ToneResponse("sigmoid", (0.0, 5.6), strength=6.0, gamma=0.8, output_range=(0.05, 0.9), jitter=0.2),
)
# A linear detector's logarithm, on a part of 14 bits.
CHEST_LOG = VendorPreset(
    "chest-log-like",
    "pneumonia",
    Acquisition(125.0, 1.8, "W", (("Al", 3.0), ("Cu", 0.2)), "CsI-thick", 180.0, 0.07, 6.0, 0.6, 0.2),
    ToneResponse("log", (0.0, 7.5), output_range=(0.0, 0.75), bits_stored=14, window="body"),
)
# At the bedside: soft, without a grid, few quanta, blurred.
CHEST_PORTABLE = VendorPreset(
    "chest-portable-like",
    "pneumonia",
    Acquisition(85.0, 1.2, "W", (("Al", 2.5),), "BaFBr", 110.0, 0.18, 5.0, 1.8, 0.2),
    ToneResponse("sigmoid", (0.4, 6.0), strength=6.0, gamma=1.3, bits_stored=10),
)
CHEST_AUTO_CONTRAST = VendorPreset(
    "chest-auto-contrast-like",
    "pneumonia",
    Acquisition(110.0, 2.0, "W", (("Al", 3.0),), "CsI-thick", 150.0, 0.10, 6.0, 1.0, 0.2),
    ToneResponse("sigmoid", (0.0, 5.0), strength=5.0, gamma=0.7, output_range=(0.05, 0.95), jitter=0.2),
)
SOURCES: Mapping[Task, tuple[VendorPreset, ...]] = {
    "density": (PRESETS[SENOGRAPH], PRESETS[CLEARVIEW], BETWEEN, AUTO_CONTRAST),
    "pneumonia": (PRESETS["chest-b-like"], CHEST_LOG, CHEST_PORTABLE, CHEST_AUTO_CONTRAST),
}


@dataclass(frozen=True)
class Numbers:
    """How many patients.

    Parameters
    ----------
    reference : int
        Of the reference alone, to learn from.
    source : int
        Of each other scanner alone, to learn from.
    travelling : int
        Seen by all scanners, to learn from.
    test : int
        Seen by all scanners, to be tested on.
    size : int
        Pixels a side.
    """

    reference: int
    source: int
    travelling: int
    test: int
    size: int


@dataclass(frozen=True)
class Patients:
    """Some patients on some scanners, with what is true of them.

    Parameters
    ----------
    images : ImageSet
        As they came.
    truth : ImageSet
        Image i is the body of ``images[i]`` on the reference.
    body, tissue : ndarray of bool of shape (n, size, size)
        Where the body is; where it is glandular, or lung.
    """

    images: ImageSet
    truth: ImageSet
    body: np.ndarray
    tissue: np.ndarray

    def of(self, *scanners: str) -> Patients:
        """Give what some scanners made."""
        chosen = np.flatnonzero(np.isin(self.images.scanner, scanners))
        return Patients(self.images[chosen], self.truth[chosen], self.body[chosen], self.tissue[chosen])


@dataclass(frozen=True)
class Subjects:
    """All patients of a task; no patient is in two of its parts.

    Parameters
    ----------
    task : {"density", "pneumonia"}
    own, unpaired, travelling, test : Patients
        The four parts, see :class:`Numbers`. The second and the last have a second exposure of the reference.
    """

    task: Task
    own: Patients
    unpaired: Patients
    travelling: Patients
    test: Patients

    @property
    def reference(self) -> str:
        """Scanner that images are brought to."""
        return REFERENCES[self.task]

    @property
    def sources(self) -> list[str]:
        """The four other scanners."""
        return [preset.name for preset in SOURCES[self.task]]


def again(task: Task) -> VendorPreset:
    """Give the reference as a scanner of its own: a hair apart, so that its images have their own noise."""
    preset = PRESETS[REFERENCES[task]]
    return replace(preset, name=AGAIN, acquisition=replace(preset.acquisition, mas=1.0001 * preset.acquisition.mas))


def simulated(task: Task, numbers: Numbers, masked: bool, make: Callable[..., Cohort] = make_cohort) -> Subjects:
    """Simulate all patients of a task.

    Parameters
    ----------
    task : {"density", "pneumonia"}
    numbers : Numbers
    masked : bool
        Whether images carry a mask of the body, found in each image as it came.
    make : callable
        :func:`~xray_harmonize.make_cohort`, or the same with a memory.
    """
    reference = PRESETS[REFERENCES[task]]
    others = [*SOURCES[task], again(task)]

    def part(name: str, scanners: Sequence[VendorPreset], n: int, seed: int, paired: bool) -> Patients:
        options: dict[str, Any] = {"n_patients": n, "size": numbers.size, "random_state": seed}
        return patients_of(make(task, list(scanners), **options, paired=paired, reference=reference), name, masked)

    return Subjects(
        task,
        part("own", [reference], numbers.reference, 11, False),
        part("unpaired", others, numbers.source, 12, False),
        part("travelling", SOURCES[task], numbers.travelling, 13, True),
        part("test", others, numbers.test, 14, True),
    )


def patients_of(cohort: Cohort, name: str, masked: bool) -> Patients:
    """Give a cohort's images, its patients named after the part that they are in."""
    (tissue,) = cohort.tissue.values()
    images, truth = (_renamed(images, name, masked) for images in (cohort.images, cohort.truth))
    return Patients(images, truth, cohort.body, tissue)


def _renamed(images: ImageSet, name: str, masked: bool) -> ImageSet:
    # Cohorts number their patients alike: without the name two strangers would pass for one.
    return ImageSet(
        [images[i] for i in range(len(images))],
        scanner=images.scanner,
        patient=[f"{name} {patient}" for patient in images.patient],
        bits_stored=images.bits_stored,
        mask=[_found(images.unit(i)) for i in range(len(images))] if masked else None,
        meta=images.meta,
    )


def _found(image: np.ndarray) -> np.ndarray:
    """Find the body in one image, without knowing where it is."""
    thumb, inside = thumbnail(image, longest=max(image.shape))
    found = body_mask(thumb, inside)
    return found if found.any() else np.ones_like(found)


def joined(*parts: ImageSet) -> ImageSet:
    """Put sets of images together."""
    masks = [part.mask(i) for part in parts for i in range(len(part))]
    return ImageSet(
        [part[i] for part in parts for i in range(len(part))],
        scanner=np.concatenate([part.scanner for part in parts]),
        patient=np.concatenate([part.patient for part in parts]),
        bits_stored=np.concatenate([part.bits_stored for part in parts]),
        mask=None if all(mask is None for mask in masks) else masks,
        meta=pd.concat([part.meta for part in parts], ignore_index=True),
    )
