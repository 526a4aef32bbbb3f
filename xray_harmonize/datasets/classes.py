"""The classes of each task, and how many patients of each a scanner gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xray_harmonize.datasets.vendors import Task
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError

__all__ = ["CLASSES", "class_plan"]

CLASSES: dict[str, tuple[Any, ...]] = {"density": ("A", "B", "C", "D"), "pneumonia": (0, 1)}
"""Labels of each task."""


def class_plan(
    task: Task,
    scanners: list[str],
    n_patients: int,
    prevalence: Mapping[str, Mapping[Any, float]] | None,
    paired: bool,
) -> dict[str, list[Any]]:
    """Decide which class each patient of each scanner belongs to.

    Parameters
    ----------
    task : {"density", "pneumonia"}
    scanners : list of str
    n_patients : int
        Patients for each scanner.
    prevalence : dict of {scanner: {label: weight}}, optional
        Class proportions; balanced where a scanner is not named.
    paired : bool
        Whether scanners share their patients, and so cannot differ in prevalence.

    Returns
    -------
    dict of {scanner: list of labels}
        The first k labels do not depend on how many follow.

    Raises
    ------
    InvalidParameterError, NotEnoughImagesError
        As :func:`.make_cohort`.
    """
    prevalence = prevalence or {}
    if paired and prevalence:
        raise InvalidParameterError("prevalence needs paired=False: paired scanners share their patients.")
    if unknown := set(prevalence) - set(scanners):
        raise InvalidParameterError(f"prevalence names {sorted(unknown)}, but the scanners are {', '.join(scanners)}.")
    classes = CLASSES[task]
    plan = {}
    for scanner in scanners:
        weights = prevalence.get(scanner, dict.fromkeys(classes, 1.0))
        if set(weights) - set(classes) or min(weights.values(), default=0) < 0 or not sum(weights.values()) > 0:
            raise InvalidParameterError(
                f"prevalence of {scanner!r} must give weights of at least 0, not all 0, to labels among "
                f"{', '.join(map(repr, classes))}; got {dict(weights)}."
            )
        share = np.array([weights.get(label, 0.0) for label in classes]) / sum(weights.values())
        if n_patients < np.count_nonzero(share):
            raise NotEnoughImagesError(
                f"Task {task!r} has {np.count_nonzero(share)} classes on scanner {scanner!r} and needs as many "
                f"patients; got n_patients={n_patients}."
            )
        given = np.zeros(len(classes))
        labels = []
        for k in range(n_patients):
            chosen = int(np.argmax(np.where(share > 0, share * (k + 1) - given, -np.inf)))
            given[chosen] += 1
            labels.append(classes[chosen])
        plan[scanner] = labels
    return plan
