"""What the BlindHarmony study measures on every image of the test patients."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from blind_cohorts import AGAIN, Patients, Subjects
from blind_methods import Method
from blind_segmentation import intersection_over_union, outlined
from blind_setting import Setting
from blind_store import key_of
from monai.networks.nets import BasicUNet

from xray_harmonize import ImageSet
from xray_harmonize.datasets.vendors import Task
from xray_harmonize.evaluation.content import psnr, ssim
from xray_harmonize.harmonizers.base import Harmonizer

# Equal images have infinitely many decibel, which would make every mean infinite.
MOST_DB = 100.0
CEILING = "reference itself"


@dataclass(frozen=True)
class Fit:
    """A harmonizer that has learned, and how long it took."""

    harmonizer: Harmonizer
    seconds: float


def measured(setting: Setting, task: Task) -> pd.DataFrame:
    """Measure every method on every scanner, as far as asked for or kept.

    Returns
    -------
    DataFrame
        A row an image, method and seed: columns ``task``, ``scanner``, ``method``, ``sees``, ``seed``, ``patient``,
        the measures, ``seconds`` (applying, an image) and ``seconds_fit``.
    """
    subjects = setting.subjects(task)
    network = segmentation_network(setting, subjects)
    parts = [ceiling(setting, subjects, network)]
    missing: Counter[str] = Counter()
    for method in setting.all_methods:
        for scanner, seed in rows_of(setting, method, subjects):
            key = _key(setting, method, subjects, scanner, seed)
            wanted = setting.wants(method) and (not setting.scanners or scanner in setting.scanners)
            if not wanted and not setting.pieces.path(key).is_file():
                missing[method.name] += 1
                continue

            def make(method: Method = method, scanner: str = scanner, seed: int = seed) -> pd.DataFrame:
                return _measured(setting, method, subjects, network, scanner, seed)

            parts.append(setting.pieces.get(key, make, anew=wanted and method.name in setting.again))
    if missing:
        told = "; ".join(f"{name} ({n})" for name, n in missing.items())
        print(f"{task}: not measured yet, and not asked for (in how many rows): {told}")
    return pd.concat(parts, ignore_index=True)


def rows_of(setting: Setting, method: Method, subjects: Subjects) -> Iterator[tuple[str, int]]:
    """Give the scanners and seeds that a method has rows for."""
    for scanner in (*subjects.sources, AGAIN):
        if method.learns_for(scanner, subjects):
            yield from ((scanner, seed) for seed in setting.seeds_of(method))


def fit_of(setting: Setting, method: Method, subjects: Subjects, scanner: str, seed: int) -> Fit:
    """Give the method as it learned, from what was kept where it was.

    A row that is computed anew (``setting.again``) is learned anew once in a run.
    """
    key = method.key(setting.subjects_key(subjects.task), scanner, seed)
    fresh = setting.fresh
    anew = method.name in setting.again and key not in fresh

    def learn() -> Fit:
        started = time.perf_counter()
        harmonizer = method.fitted(subjects, scanner, seed)
        seconds = time.perf_counter() - started
        who = f", {scanner}" if method.per_scanner else ""
        print(f"  {subjects.task}: {method.name}{who} learned in {seconds:.1f} s", flush=True)
        return Fit(harmonizer, seconds)

    fit = setting.pieces.get(key, learn, anew)
    fresh.add(key)
    return fit


def segmentation_network(setting: Setting, subjects: Subjects) -> BasicUNet:
    """Give the network that outlines tissue, trained on the reference's training patients."""
    key = key_of("outline", (), setting.subjects_key(subjects.task), setting.segmentation)

    def train() -> BasicUNet:
        started = time.perf_counter()
        network = setting.segmentation.train(subjects.own, seed=0)
        print(f"  {subjects.task}: segmentation learned in {time.perf_counter() - started:.1f} s", flush=True)
        return network

    return setting.pieces.get(key, train)


def harmonized(fit: Fit, patients: Patients) -> tuple[ImageSet, float]:
    """Give what a method makes of images, and its seconds an image."""
    started = time.perf_counter()
    made = fit.harmonizer.transform(patients.images)
    # Nothing may be left for later: transforms of sets may be lazy.
    pixels = [made.unit(i).astype(np.float32) for i in range(len(made))]
    seconds = (time.perf_counter() - started) / len(made)
    return ImageSet(pixels, scanner=patients.images.scanner, patient=patients.images.patient), seconds


def ceiling(setting: Setting, subjects: Subjects, network: BasicUNet) -> pd.DataFrame:
    """Measure the outlines on the reference's own rendering of the test patients."""
    patients = subjects.test.of(AGAIN)
    found = intersection_over_union(outlined(network, patients.truth), patients.tissue, patients.body)
    known = {"task": subjects.task, "scanner": subjects.reference, "method": CEILING, "sees": "", "seed": 0}
    return pd.DataFrame({**known, "patient": patients.images.patient, "iou": found})


def _key(setting: Setting, method: Method, subjects: Subjects, scanner: str, seed: int) -> str:
    own = setting.subjects_key(subjects.task)
    learned = method.key(own, scanner, seed)
    return key_of("measured", method.modules, learned, setting.segmentation, scanner)


def _measured(
    setting: Setting, method: Method, subjects: Subjects, network: BasicUNet, scanner: str, seed: int
) -> pd.DataFrame:
    fit = fit_of(setting, method, subjects, scanner, seed)
    patients = subjects.test.of(scanner)
    made, seconds = harmonized(fit, patients)
    rows = [_of_one(patients, made, i) for i in range(len(made))]
    outlines = intersection_over_union(outlined(network, made), patients.tissue, patients.body)
    table = pd.DataFrame(rows).assign(iou=outlines, seconds=seconds, seconds_fit=fit.seconds)
    known = {"task": subjects.task, "scanner": scanner, "method": method.name, "sees": method.sees, "seed": seed}
    columns = {**known, "patient": patients.images.patient}
    return pd.concat([pd.DataFrame(columns, index=table.index), table], axis=1)


def _of_one(patients: Patients, made: ImageSet, i: int) -> dict[str, float]:
    image, truth, source = made.unit(i), patients.truth.unit(i), patients.images.unit(i)
    body = patients.body[i]
    return {
        "psnr": min(psnr(image, truth, body), MOST_DB),
        "ssim": ssim(image, truth, body),
        "psnr_whole": min(psnr(image, truth), MOST_DB),
        "ssim_whole": ssim(image, truth),
        "psnr_to_source": min(psnr(image, source, body), MOST_DB),
        "correlation_to_source": _correlation(image[body], source[body]),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation; NaN where one of both is constant."""
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
