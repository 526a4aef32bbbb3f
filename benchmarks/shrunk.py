"""One tone curve a scanner, one an image, or between: fixed responses against exposure that varies.

For simulated mammograms on scanners whose response is fixed, and on the same scanners with a gamma that varies from
image to image, with classes spread evenly over scanners and not, each scope of ``CDFMatching`` is judged by

- ``rmse``: root mean square difference to the truth inside the body;
- ``auc_mean``: how well the mean grey value of the body tells dense breasts (C, D) from others, content that a curve
  may erase, without any training;
- ``auc_quantiles``: the same for a logistic regression on 16 quantiles trained on the reference's images;
- ``share``: what share of an image's own part the scanner's images are taken to vary in by exposure (shrunk only);
- ``on``: in what share of repetitions that is above zero.

First with each scanner's images all known, then with 10, 20 and 50 of a new scanner's, tested on its other images.
With ``--data DIR``, a folder of real radiographs with ``labels.csv``, half of one scanner's patients are the reference
and the others are shown through known curves, fixed or varying by gamma, gain or offset.

Run as ``python benchmarks/shrunk.py``, or with ``--data DIR --scanner NAME``. Writes
``benchmarks/results/shrunk_<name>.csv``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from result_files import write_result
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xray_harmonize import CDFMatching, ImageSet, make_cohort
from xray_harmonize.datasets.vendors import PRESETS, VendorPreset

SCOPES = ("image", "scanner", "mixed", "shrunk")
N_NEW = (10, 20, 50)
MIN_TESTED = 30
DENSE = ("C", "D")
PREVALENCE: dict[str, dict[str, float] | None] = {
    "even": None,
    "mostly dense": {"A": 0.1, "B": 0.2, "C": 0.3, "D": 0.4},
    "A and D only": {"A": 0.5, "D": 0.5},
}
JITTER = 0.35
N_PATIENTS = 80


@dataclass
class Case:
    """Images of the reference and of other scanners, with what they should become."""

    images: ImageSet
    truth: np.ndarray
    body: np.ndarray
    positive: np.ndarray
    reference: str
    facts: dict[str, Any]

    def subset(self, rows: np.ndarray) -> Case:
        """Take some rows."""
        parts = {"images": self.images[rows], "truth": self.truth[rows], "body": self.body[rows]}
        return replace(self, **parts, positive=self.positive[rows])


def mammograms(seeds: range) -> Iterator[Case]:
    """Simulate the reference and two other scanners, each with a fixed and with a varying response."""
    fixed = [PRESETS[name] for name in ("senograph-like", "clearview-like")]
    scanners = [PRESETS["reference"], *fixed, *(_varying(preset) for preset in fixed)]
    for prevalence, weights in PREVALENCE.items():
        spread = None if weights is None else {preset.name: weights for preset in scanners[1:]}
        for seed in seeds:
            cohort = make_cohort("density", scanners, N_PATIENTS, 96, seed, physics="same", prevalence=spread)
            truth = np.stack([cohort.truth.unit(i) for i in range(len(cohort.truth))])
            positive = np.isin(cohort.labels, DENSE)
            facts = {"classes": prevalence, "repetition": seed}
            yield Case(cohort.images, truth, cohort.body, positive, cohort.reference, facts)


def _varying(preset: VendorPreset) -> VendorPreset:
    return replace(preset, name=f"{preset.name}, varying", tone=replace(preset.tone, jitter=JITTER))


Curve = Callable[[np.ndarray], np.ndarray]
RESPONSES: dict[str, Curve] = {
    "gamma 3": lambda x: x**3,
    "low, offset": lambda x: 0.1 + 0.4 * x**1.8,
}
# What differs from image to image, given a standard normal number z.
VARIATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "fixed": lambda x, z: x,
    "varying gamma": lambda x, z: x ** np.exp(JITTER * z),
    "varying gain": lambda x, z: x * np.exp(-JITTER * abs(z)),
    "varying offset": lambda x, z: np.clip(x + 0.25 * JITTER * z, 0, 1),
}


def radiographs(folder: Path, scanner: str, seeds: range) -> Iterator[Case]:
    """Show half of a scanner's patients through known responses."""
    X = ImageSet.from_folder(folder, folder / "labels.csv")
    rows = np.flatnonzero(np.asarray(X.scanner) == scanner)
    size = (96, 96)
    true = np.stack([cv2.resize(X.unit(int(i)), size, interpolation=cv2.INTER_AREA) for i in rows])
    positive = np.asarray(X.label)[rows].astype(float) > 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        shuffled, z = rng.permutation(len(rows)), rng.standard_normal(len(rows))
        home, away = np.array_split(shuffled, 2)
        for classes in ("even", "other"):
            # Elsewhere one class is four times as frequent as the other, or as here.
            there = away if classes == "even" else away[positive[away] | (rng.random(len(away)) < 0.25)]
            for variation, vary in VARIATIONS.items():
                stored, names = [true[home]], ["reference"] * len(home)
                for response, curve in RESPONSES.items():
                    stored.append(np.stack([curve(vary(true[i], z[i])) for i in there]))
                    names += [f"{response}, {variation}"] * len(there)
                order = np.concatenate([home, *[there] * len(RESPONSES)])
                levels = np.rint(np.concatenate(stored) * 4095).astype(np.uint16)
                body = np.ones(levels.shape, bool)
                images = ImageSet(levels, names, bits_stored=12)
                facts = {"classes": classes, "repetition": seed}
                yield Case(images, true[order], body, positive[order], "reference", facts)


def quantile_features(images: np.ndarray) -> np.ndarray:
    """Sixteen quantiles of every image."""
    return np.quantile(images.reshape(len(images), -1), (np.arange(16) + 0.5) / 16, axis=1).T


def body_means(images: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Mean grey value inside the body of every image."""
    return np.array([image[inside].mean() for image, inside in zip(images, body, strict=True)])


def judge(case: Case, images: np.ndarray, classifier: Any, sign: float) -> dict[str, float]:
    """Compare harmonized images of one scanner with the truth, and with their labels in the reference's sense."""
    errors = [
        np.sqrt(np.mean((image - true)[body] ** 2))
        for image, true, body in zip(images, case.truth, case.body, strict=True)
    ]
    scores = classifier.decision_function(quantile_features(images))
    return {
        "rmse": float(np.mean(errors)),
        "auc_mean": float(roc_auc_score(case.positive, sign * body_means(images, case.body))),
        "auc_quantiles": float(roc_auc_score(case.positive, scores)),
    }


def rows_of(case: Case) -> Iterator[dict[str, Any]]:
    """Judge every scope on every scanner, known from all of its images or from a few others."""
    scanner = np.asarray(case.images.scanner)
    home = case.subset(scanner == case.reference)
    # Whatever the scope but "image", the reference's own images stay as they are.
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(quantile_features(home.truth), home.positive)
    # Which of the two classes is the brighter one is what the reference says.
    sign = np.sign(roc_auc_score(home.positive, body_means(home.truth, home.body)) - 0.5)
    methods = {scope: CDFMatching(case.reference, scope).fit(home.images) for scope in SCOPES}
    for name in sorted(set(scanner) - {case.reference}):
        shuffled = np.random.default_rng(case.facts["repetition"]).permutation(np.flatnonzero(scanner == name))
        for n_new in (None, *(n for n in N_NEW if n + MIN_TESTED <= len(shuffled))):
            learned, tested = shuffled[:n_new], shuffled[0 if n_new is None else n_new :]
            test = case.subset(tested)
            facts = {"scanner": name, "known": "all" if n_new is None else f"{n_new}", **case.facts}
            yield {**facts, "scope": "truth", **judge(test, test.truth, classifier, sign)}
            for scope, fitted in methods.items():
                method = fitted.adapt(case.images[learned])
                results = judge(test, np.stack(list(method.transform(test.images))), classifier, sign)
                if scope == "shrunk":
                    share = float(method.scanner_tones_[name]["share"].max())
                    results = {**results, "share": share, "on": float(share > 0)}
                yield {**facts, "scope": scope, **results}


def measure(cases: Iterator[Case]) -> pd.DataFrame:
    """Give the mean of every figure over repetitions."""
    table = pd.DataFrame([row for case in cases for row in rows_of(case)])
    keys = ["known", "classes", "scanner", "scope"]
    figures = table.groupby(keys, sort=False)[["rmse", "auc_mean", "auc_quantiles", "share", "on"]]
    return figures.mean().reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with labels.csv; simulated mammograms otherwise")
    parser.add_argument("--scanner", help="whose radiographs in that folder to take")
    parser.add_argument("--name", help="what the result file is called")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions")
    options = parser.parse_args()
    # Smaller seeds took part in choosing the constants of the method.
    seeds = range(100, 100 + options.seeds)
    cases = mammograms(seeds) if options.data is None else radiographs(options.data, options.scanner, seeds)
    table = measure(cases)
    name = options.name or ("cohort" if options.data is None else options.scanner)
    write_result(Path(__file__).parent / "results" / f"shrunk_{name}.csv", table, shlex.join(["python", *sys.argv]))
    with pd.option_context("display.width", 200, "display.max_rows", None, "display.max_columns", None):
        for figure in ("rmse", "auc_mean", "auc_quantiles"):
            wide = table.pivot_table(index=["known", "classes", "scanner"], columns="scope", values=figure, sort=False)
            print(f"\n{figure}\n{wide.round(3)}")
        shares = table[table["scope"] == "shrunk"].set_index(["known", "classes", "scanner"])[["share", "on"]]
        print(f"\nshrunk\n{shares.round(3)}")


if __name__ == "__main__":
    main()
