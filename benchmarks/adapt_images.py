"""How many unlabelled images of a new scanner it takes to adapt.

A classifier is trained on the reference alone. Each method learns another scanner from 5, 10, 20 or 50 of its
unlabelled images, drawn several times, and is tested on other patients of that scanner.

Run as ``python benchmarks/adapt_images.py`` for the simulated cohort, with ``--data DIR --reference NAME`` for a folder
that holds ``labels.csv``. Writes ``benchmarks/results/adapt_images_<name>.csv``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result_files import write_result

from xray_harmonize import CDFMatching, ImageSet, MultiBand, ResNetClassifier, make_cohort
from xray_harmonize.adaptation import adapt
from xray_harmonize.evaluation.candidates import Candidate
from xray_harmonize.evaluation.metrics import auc
from xray_harmonize.evaluation.patients import cross_fit_halves, patient_codes
from xray_harmonize.evaluation.protocols import fixed_classifier_splits, train_classifier

N_IMAGES = (5, 10, 20, 50)
BATCH_NORM = "batch-norm adaptation"


def methods(reference: str) -> dict[str, Any]:
    """Give what learns a scanner; the classifier itself stands under its name as None."""
    return {
        "CDF, scanner": CDFMatching(reference, scope="scanner"),
        "CDF, mixed": CDFMatching(reference, scope="mixed"),
        "bands, scanner": MultiBand(reference=reference, scope="scanner"),
        BATCH_NORM: None,
    }


def measure(
    X: ImageSet, y: np.ndarray, reference: str, classifier: ResNetClassifier, seeds: list[int], repeats: int
) -> pd.DataFrame:
    """Give one row a method, scanner, number of images, seed and draw."""
    patient = patient_codes(X.patient, len(X))
    rows = []
    for split in fixed_classifier_splits(X, y, reference, seeds):
        model = train_classifier(Candidate("none"), X, y, split, classifier, reference)
        fitted = {name: method and method.fit(X[split.train]) for name, method in methods(reference).items()}
        for scanner in sorted(set(X.scanner) - {reference}):
            positions = split.test[X.scanner[split.test] == scanner]
            halves = cross_fit_halves(patient[positions], random_state=split.seed)
            for half, (pool, scored) in enumerate([halves, halves[::-1]]):
                test = positions[scored]
                rng = np.random.default_rng([split.seed, half])
                untouched = model.predict_proba(X[test])
                rows.append((scanner, "none", 0, split.seed, half, 0, auc(y[test], untouched, model.classes_)))
                for n in [n for n in N_IMAGES if n <= len(pool)]:
                    for draw in range(repeats):
                        unlabelled = X[positions[rng.choice(pool, n, replace=False)]]
                        for name, method in fitted.items():
                            if method is None:
                                proba = model.adapt(unlabelled).predict_proba(X[test])
                            else:
                                proba = model.predict_proba(adapt(method, unlabelled).transform(X[test]))
                            figure = auc(y[test], proba, model.classes_)
                            rows.append((scanner, name, n, split.seed, half, draw, figure))
        print(f"seed {split.seed} done")
    return pd.DataFrame(rows, columns=["scanner", "method", "n_images", "seed", "half", "draw", "auc"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with labels.csv; the simulated cohort otherwise")
    parser.add_argument("--reference", help="scanner to train on")
    parser.add_argument("--name", default="cohort", help="what the result file is called")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.data is None:
        cohort = make_cohort("density", n_patients=120, size=96, random_state=5)
        X, y, reference = cohort.images, cohort.labels, cohort.reference
        classifier = ResNetClassifier(
            depth=10, width=32, image_size=64, max_epochs=16, dropout=0.0, validation_fraction=0
        )
    else:
        X = ImageSet.from_folder(options.data, options.data / "labels.csv")
        y, reference = X.label, options.reference
        classifier = ResNetClassifier(depth=10, width=32, max_epochs=12, dropout=0.0, validation_fraction=0)
    table = measure(X, y, reference, classifier, list(range(options.seeds)), options.repeats)
    figures = table.groupby(["scanner", "method", "n_images"], sort=False)["auc"]
    summary = figures.agg(["mean", "std", "min", "max", "size"]).reset_index()
    path = Path(__file__).parent / "results" / f"adapt_images_{options.name}.csv"
    write_result(path, summary, shlex.join(["python", *sys.argv]))
    print(summary.pivot_table(index=["scanner", "method"], columns="n_images", values="mean", sort=False).round(3))


if __name__ == "__main__":
    main()
