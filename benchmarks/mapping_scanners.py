"""The same methods on simulated scanners, where no map of the mapping's kind leads from source to target exactly.

The main part's truth lies within what the interpretable mapping can give, which favours it. Here sources are other
scanners' radiographs of the same bodies, with a physics, a noise and a tone response of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from mapping_methods import CLOSED_FORMS, Trainer, Training
from mapping_parts import kept, show
from mapping_scores import score_table, similarity
from mapping_setting import MAPPING, METHODS, NOTHING, Setting, file_name

from xray_harmonize import CDFMatching, ImageSet, make_cohort
from xray_harmonize.datasets.cohort import Cohort

SOURCES = {
    "density": ("reference", ("senograph-like", "clearview-like")),
    "pneumonia": ("chest-reference", ("chest-b-like",)),
}
COMPARED = ("ResUNet x8", "DLBC", "LUT3D", "SupDCE x8", MAPPING)
PER_SCANNER = "HM, one curve a scanner"


@dataclass(frozen=True)
class Pairs:
    """Radiographs of some scanners, and the same bodies on the reference of the body part."""

    cohorts: tuple[Cohort, ...]
    chosen: tuple[np.ndarray, ...]

    @property
    def images(self) -> ImageSet:
        """Those to be changed."""
        return _joined([one.images[at] for one, at in zip(self.cohorts, self.chosen, strict=True)])

    @property
    def targets(self) -> ImageSet:
        """What they are to become; noise of its own included."""
        return _joined([one.truth[at] for one, at in zip(self.cohorts, self.chosen, strict=True)])

    @property
    def body(self) -> np.ndarray:
        """Where the bodies are."""
        return np.concatenate([one.body[at] for one, at in zip(self.cohorts, self.chosen, strict=True)])


def scanners_part(setting: Setting) -> None:
    """Train and test on pairs of simulated scanners."""
    training, test = pairs(setting)
    trainer = Trainer(
        setting,
        Training(training.images, training.targets),
        setting.cache / "scanners",
        {"downscale": setting.scanner_downscale},
    )
    learned, rates = trainer.chosen([method for method in METHODS if method.name in COMPARED])
    folder = setting.cache / f"scores_scanners-{setting.max_steps}"
    tables = []
    for name in (NOTHING, *CLOSED_FORMS, PER_SCANNER, *learned):
        path = folder / f"{file_name(name)}.csv"
        tables.append(kept(path, lambda name=name: _scored(name, learned.get(name), training, test)))
    names = {name: name.replace("x8", f"x{setting.scanner_downscale}") for name in learned}
    scores = pd.concat(tables, ignore_index=True).replace({"method": names})
    table = score_table(scores, names[MAPPING], setting.n_bootstrap)
    chosen = rates[rates["chosen"]].replace({"method": names}).groupby("method")["lr"].first()
    setting.write("scanners", table.assign(lr=table["method"].map(chosen)))
    show(table)


def pairs(setting: Setting) -> tuple[Pairs, Pairs]:
    """Give the pairs to learn from and those to test on; patients are of one or the other."""
    cohorts, training, test = [], [], []
    for task, (reference, sources) in SOURCES.items():
        n, size = setting.scanner_patients, setting.scanner_size
        cohort = make_cohort(task, sources, n, size, random_state=21, paired=True, reference=reference)
        number = np.array([int(name.rsplit("-", 1)[1]) for name in cohort.images.patient])
        tests = number >= n - n // 3
        cohorts.append(cohort)
        training.append(np.flatnonzero(~tests))
        test.append(np.flatnonzero(tests))
    return Pairs(tuple(cohorts), tuple(training)), Pairs(tuple(cohorts), tuple(test))


def _scored(name: str, method: object, training: Pairs, test: Pairs) -> pd.DataFrame:
    images, targets, body = test.images, test.targets, test.body
    rendered = _rendered(name, method, training, test)
    rows = []
    for i in range(len(images)):
        scanner, patient = str(images.scanner[i]), str(images.patient[i])
        about = {"method": name, "image": f"{scanner} {patient}", "patient": patient, "scanner": scanner}
        rows.append({**about, **similarity(rendered[i], targets.unit(i), body[i])})
    return pd.DataFrame(rows)


def _rendered(name: str, method: object, training: Pairs, test: Pairs) -> list[np.ndarray]:
    """Give the test images as a method renders them; closed forms learn of one body part at a time."""
    images = test.images
    if name == NOTHING:
        return [images.unit(i) for i in range(len(images))]
    if hasattr(method, "transform"):
        return list(method.transform(images))
    rendered: list[np.ndarray] = []
    for cohort, at, tested in zip(training.cohorts, training.chosen, test.chosen, strict=True):
        truth, seen = cohort.truth[at], cohort.images[at]
        truth = ImageSet(list(truth), cohort.reference, truth.patient, truth.bits_stored)
        if name == PER_SCANNER:
            harmonizer = CDFMatching(cohort.reference, scope="scanner").fit(_joined([truth, seen]))
        else:
            harmonizer = CLOSED_FORMS[name]().fit(truth)
        rendered += list(harmonizer.transform(cohort.images[tested]))
    return rendered


def _joined(sets: list[ImageSet]) -> ImageSet:
    """Put sets together; patients of different body parts stay apart by the reference's name."""
    scanner = np.concatenate([one.scanner for one in sets])
    patient = np.concatenate([one.patient for one in sets])
    named = [
        f"{'chest' if str(where).startswith('chest') else 'breast'} {who}"
        for where, who in zip(scanner, patient, strict=True)
    ]
    images = [one[i] for one in sets for i in range(len(one))]
    return ImageSet(images, scanner, named, np.concatenate([one.bits_stored for one in sets]))
