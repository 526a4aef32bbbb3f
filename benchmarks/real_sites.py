"""Crop, bands and tone on real sites, chosen on the training site alone.

Two steps, so that no label of a test site has a part in choosing:

1. The training site's held-out patients are shown as other sites might render them: known tone curves, borders, other
   fields of view, other sharpness. The candidate with the highest mean AUC over these simulated sites is chosen.
2. The chosen candidate is tested on the real sites, beside doing nothing, and its parts, so that it shows what each
   of them adds.

Run it as ``python benchmarks/real_sites.py --data DIR`` where DIR holds ``labels.csv`` with the columns path, label,
scanner, patient. Writes ``benchmarks/results/real_sites_choice.csv`` and ``real_sites.csv``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from result_files import write_result

from xray_harmonize import CDFMatching, CropForeground, ImageSet, MultiBand, ResNetClassifier
from xray_harmonize.evaluation.candidates import BASELINE, NOTHING, UNLABELLED, Candidate
from xray_harmonize.evaluation.scores import scanner_scores
from xray_harmonize.evaluation.study import Study, StudyProgress
from xray_harmonize.evaluation.summary import choose, summarize

Distortion = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def framed(image: np.ndarray, scale: float, band: float, plate: bool) -> np.ndarray:
    """Show the body smaller on black, with a black band below and perhaps a bright plate in a corner."""
    height, width = image.shape
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    result = np.zeros_like(image)
    top, left = (height - small.shape[0]) // 3, (width - small.shape[1]) // 2
    result[top : top + small.shape[0], left : left + small.shape[1]] = small
    result[round(height * (1 - band)) :] = 0.0
    if plate:
        result[2 : 2 + height // 16, 2 : 2 + width // 6] = 0.95
    return result


def zoomed(image: np.ndarray, share: float) -> np.ndarray:
    """Show the middle of the field alone."""
    height, width = image.shape
    dy, dx = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return cv2.resize(image[dy : height - dy, dx : width - dx], (width, height), interpolation=cv2.INTER_LINEAR)


def sigmoid(image: np.ndarray) -> np.ndarray:
    """Steepen the middle of the range."""
    low, high = 1 / (1 + np.exp(4.0)), 1 / (1 + np.exp(-4.0))
    return ((1 / (1 + np.exp(-8 * (image - 0.5))) - low) / (high - low)).astype(np.float32)


def sharpened(image: np.ndarray, amount: float) -> np.ndarray:
    """Add what a blur takes away."""
    return image + amount * (image - cv2.GaussianBlur(image, (0, 0), 1.5))


def noisy(image: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Add Gaussian noise."""
    return image + rng.normal(0, deviation, image.shape).astype(np.float32)


SIMULATED_SITES: dict[str, Distortion] = {
    "gamma 0.5": lambda x, rng: x**0.5,
    "gamma 3": lambda x, rng: x**3,
    "sigmoid": lambda x, rng: sigmoid(x),
    "log": lambda x, rng: np.log1p(20 * x) / np.log(21),
    "low range": lambda x, rng: 0.1 + 0.4 * x**1.8,
    "gamma jitter": lambda x, rng: x ** np.exp(rng.normal(0, 0.4)),
    "small field": lambda x, rng: framed(x, 0.8, 0.1, plate=True),
    "band": lambda x, rng: framed(x, 1.0, 0.15, plate=True),
    "zoom": lambda x, rng: zoomed(x, 0.8),
    "blur": lambda x, rng: cv2.GaussianBlur(x, (0, 0), 1.2),
    "sharp": lambda x, rng: sharpened(x, 1.5),
    "dark, band, noise": lambda x, rng: framed(noisy(x**1.8, rng, 0.02), 0.9, 0.12, plate=True),
    "bright, zoom, sharp": lambda x, rng: zoomed(sharpened(x**0.6, 1.0), 0.85),
    "sigmoid, small field, blur": lambda x, rng: framed(
        cv2.GaussianBlur(sigmoid(x), (0, 0), 0.8), 0.85, 0.0, plate=False
    ),
}


def candidates() -> list[Candidate]:
    """Every combination of geometry, augmentation, bands and tone that is chosen from."""
    crop = (CropForeground(),)
    geometries = {"": (), "crop": crop}
    # What varies from epoch to epoch takes more epochs to learn.
    augmentations = {
        "": {},
        "strong augmentation": {"augment": "strong", "max_epochs": 24},
    }
    scanner_curve = CDFMatching(scope="scanner")
    harmonizers = {
        "": ((), NOTHING),
        "CDF scanner": ((scanner_curve,), UNLABELLED),
        "CDF mixed": ((CDFMatching(scope="mixed"),), UNLABELLED),
        "bands scanner": ((MultiBand(scope="scanner"),), UNLABELLED),
        "bands scanner + CDF scanner": ((MultiBand(scope="scanner"), scanner_curve), UNLABELLED),
    }
    made = []
    for (shape, geometry), (augment, parameters), (tone, (steps, sees)) in product(
        geometries.items(), augmentations.items(), harmonizers.items()
    ):
        name = " + ".join(part for part in (shape, augment, tone) if part) or BASELINE
        made.append(Candidate(name, steps, geometry, parameters, sees))
    return made


def with_parts(chosen: list[str]) -> list[Candidate]:
    """Give the candidates whose parts are all among those of the chosen ones."""
    parts = {part for name in chosen for part in name.split(" + ")}
    return [one for one in candidates() if one.name == BASELINE or parts.issuperset(one.name.split(" + "))]


def simulated_sites(X: ImageSet, y: np.ndarray, reference: str) -> tuple[ImageSet, np.ndarray]:
    """Give the training site's images, and beside them the same patients as other sites might render them."""
    assert X.scanner is not None
    assert X.patient is not None
    own = np.flatnonzero(X.scanner == reference)
    images, scanner, patient, labels = [], [], [], []
    for name, distort in {reference: None, **SIMULATED_SITES}.items():
        rng = np.random.default_rng(0)
        for i in own:
            unit = X.unit(int(i))
            image = unit if distort is None else np.clip(distort(unit, rng), 0, 1).astype(np.float32)
            images.append(image)
            scanner.append(name)
            patient.append(X.patient[i])
            labels.append(y[i])
    return ImageSet(images, scanner=scanner, patient=patient), np.array(labels)


def announce(progress: StudyProgress) -> None:
    """Say what is being trained."""
    if not progress.epoch or progress.epoch == progress.max_epochs:
        left = progress.remaining_seconds
        print(f"{progress.fraction:6.1%}  {'' if left is None else f'{left / 60:5.1f} min left'}  {progress.doing}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv and the images it names")
    parser.add_argument("--reference", default="shenzhen")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", type=Path, default=Path("results/real_sites"), help="where finished parts are kept")
    options = parser.parse_args()

    X = ImageSet.from_folder(options.data, options.data / "labels.csv")
    y = X.label
    # The recipe that reaches its AUC on held-out patients of the training site soonest.
    classifier = ResNetClassifier(depth=10, width=32, max_epochs=12, dropout=0.0, validation_fraction=0)
    common = {"reference": options.reference, "seeds": list(range(options.seeds)), "folder": options.parts}
    command = shlex.join(["python", *sys.argv])

    simulated = Study(*simulated_sites(X, y, options.reference), candidates(), classifier, **common).run(announce)
    sites = list(SIMULATED_SITES)
    # The best of all, and the best of those that crop, match bands and match tone.
    whole = [one.name for one in candidates() if one.geometry and len(one.steps) == 2]
    chosen = [choose(simulated, sites), choose(simulated[simulated["harmonizer"].isin(whole)], sites)]
    figures = []
    for name, part in simulated.groupby("harmonizer", sort=False):
        scores = scanner_scores(part, metrics=["auc"], n_bootstrap=0).set_index("scanner")["estimate"]
        mean = scores[sites].mean()
        figures.append({"candidate": name, "chosen": name in chosen, "mean": mean, **scores})
    table = pd.DataFrame(figures).sort_values("mean", ascending=False)
    write_result(Path(__file__).parent / "results" / "real_sites_choice.csv", table, command)
    print(table[["candidate", "mean", options.reference]].to_string(index=False))
    print(f"\nChosen on {options.reference} alone: {chosen[0]}; of crop, bands and tone together: {chosen[1]}\n")

    real = Study(X, y, with_parts(chosen), classifier, **common).run(announce)
    summary = summarize(real, options.reference)
    summary.insert(2, "chosen", summary["harmonizer"].isin(chosen))
    write_result(Path(__file__).parent / "results" / "real_sites.csv", summary, command)
    columns = ["harmonizer", "scanner", "auc", "auc_low", "auc_high", "difference", "difference_low", "difference_high"]
    print(summary[columns].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
