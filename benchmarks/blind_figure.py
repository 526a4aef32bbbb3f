"""Picture of the BlindHarmony study: one travelling subject a task on every scanner, by several methods."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from blind_cohorts import AGAIN, Patients, Subjects
from blind_measures import Fit, fit_of, harmonized
from blind_methods import BLIND, SOURCE, Method
from blind_setting import Setting
from matplotlib.figure import Figure

from xray_harmonize.datasets.vendors import Task

INK = "#222222"
SHOWN = (SOURCE, "HM", "CycleGAN", "U-Net", BLIND)
TRUTH = "reference"


def draw(setting: Setting) -> None:
    """Draw the picture of every task and write it.

    Methods that have no fit yet are learned, unless others are asked for: their places stay empty then.
    """
    size = (1.75 * (len(SHOWN) + 1), 9.3 * len(setting.tasks))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    for part, task in zip(figure.subfigures(len(setting.tasks), 1, squeeze=False)[:, 0], setting.tasks, strict=True):
        _draw_task(part, setting, task)
    setting.figures.mkdir(parents=True, exist_ok=True)
    path = setting.figures / "blind_study.png"
    figure.savefig(path, dpi=80)
    print(f"wrote {path}")


def _draw_task(figure: Figure, setting: Setting, task: Task) -> None:
    subjects = setting.subjects(task)
    scanners = [*subjects.sources, AGAIN]
    panels = figure.subplots(len(scanners), len(SHOWN) + 1, squeeze=False)
    for row, scanner in zip(panels, scanners, strict=True):
        images = _images(setting, subjects, scanner)
        for number, (panel, name) in enumerate(zip(row, (*SHOWN, TRUTH), strict=True)):
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            if name in images:
                panel.imshow(images[name], cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
            if scanner == scanners[0]:
                panel.set_title(name, fontsize=9.5, color=INK)
            if not number:
                panel.set_ylabel(scanner.removesuffix("-like"), fontsize=9.5, color=INK)


def _images(setting: Setting, subjects: Subjects, scanner: str) -> Mapping[str, np.ndarray]:
    patient = _shown_patient(subjects.test.of(scanner))
    images = {TRUTH: patient.truth.unit(0)}
    seed = setting.seeds[0]
    for method in setting.all_methods:
        if method.name in SHOWN and method.learns_for(scanner, subjects):
            fit = _fit(setting, method, subjects, scanner, seed)
            if fit is not None:
                images[method.name] = harmonized(fit, patient)[0].unit(0)
    return images


def _fit(setting: Setting, method: Method, subjects: Subjects, scanner: str, seed: int) -> Fit | None:
    if setting.wants(method):
        return fit_of(setting, method, subjects, scanner, seed)
    return setting.pieces.found(method.key(setting.subjects_key(subjects.task), scanner, seed))


def _shown_patient(patients: Patients) -> Patients:
    """Take the patient whose share of tissue is the middle one: the same on every scanner."""
    share = patients.tissue.mean(axis=(1, 2)) / patients.body.mean(axis=(1, 2))
    middle = np.argsort(share, kind="stable")[[len(share) // 2]]
    return Patients(patients.images[middle], patients.truth[middle], patients.body[middle], patients.tissue[middle])
