"""How far ``GDCE(speed="fast")`` ends up from ``speed="exact"``: whole trainings from one seed, curve by curve.

Each training is done exactly, then ``fast`` and ``faster``, with the same discriminator, images, batches and start. As
the measure of what can be asked for, it is also done exactly once more with images passing the networks by threes: that
changes the rounding of sums and nothing else. Differences are those of curves on a grid of 257 grey values: along the
training, at 20 checks, of the curves of all images held out (``scope="scanner"``: of all scanners); in the rows
"fitted", of what ``tone_curves`` gives in the end for all images of the source, after the state to keep was chosen.

Run it as ``python benchmarks/gdce_fast.py`` for simulated scanners, or on real radiographs as ``python
benchmarks/gdce_fast.py --data ../shared/data/tb --reference shenzhen --source montgomery --size 512``, where the folder
holds ``labels.csv``. Writes ``benchmarks/results/gdce_fast.csv``, or ``gdce_fast_<name>.csv`` with ``--name``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from result_files import write_result
from sklearn.base import clone

from xray_harmonize import GDCE, ImageSet, ResNetClassifier, make_cohort
from xray_harmonize.exceptions import XRayHarmonizeWarning
from xray_harmonize.harmonizers import curve_learning
from xray_harmonize.harmonizers.curve_training import curve_values
from xray_harmonize.networks import losses
from xray_harmonize.networks.curve import ScannerCurves

RESULTS = Path(__file__).parent / "results"
GRID = np.linspace(0, 1, 257)
N_CHECKS = 20
FITTED, ROUNDING = "fitted", "exact, by threes"
WAYS = (ROUNDING, "fast", "faster")


@contextmanager
def recording() -> Iterator[list[tuple[int, np.ndarray]]]:
    """Record (step, curves of held-out images or of all scanners) along a training inside."""
    curves: list[tuple[int, np.ndarray]] = []
    train = curve_learning.train_curves

    def recorded(module: Any, loss: Any, images: Any, held_out: Any, steps: Any, *others: Any) -> Any:
        every = max(steps.n_epochs * steps.n_batches // N_CHECKS, 1)
        n_steps = 0

        def before(called: Any, _: Any) -> None:
            nonlocal n_steps
            if not called.training:
                return
            if n_steps % every == 0:
                called.eval()
                with torch.no_grad():
                    alpha = torch.tanh(called.raw) if isinstance(called, ScannerCurves) else called(held_out.views)
                called.train()
                curves.append((n_steps, np.stack([curve_values(one, GRID) for one in alpha.numpy()])))
            n_steps += 1

        handle = module.register_forward_pre_hook(before)
        outcome = train(module, loss, images, held_out, steps, *others)
        handle.remove()
        return outcome

    with patch.object(curve_learning, "train_curves", recorded):
        yield curves


@contextmanager
def by_threes(size: int) -> Iterator[None]:
    """Let images pass the frozen networks by threes inside."""
    with patch.object(losses, "PIXELS_AT_ONCE", dict.fromkeys(losses.PIXELS_AT_ONCE, 3 * size**2)):
        yield


@dataclass(frozen=True)
class Training:
    """What came out of one training: curves along it, those fitted, the check that was kept, and seconds."""

    along: list[tuple[int, np.ndarray]]
    fitted: np.ndarray
    best: int
    seconds: float


def trained(way: str, gdce: GDCE, X: ImageSet, y: np.ndarray) -> Training:
    """Train in one way."""
    rounding = way == ROUNDING
    harmonizer = clone(gdce).set_params(speed="exact" if rounding else way)
    assert harmonizer.discriminator is not None
    size = harmonizer.discriminator.image_size
    start = time.perf_counter()
    with recording() as along, by_threes(size) if rounding else nullcontext():
        harmonizer.fit(X, y)
    seconds = time.perf_counter() - start
    of_sources = X[X.scanner != gdce.reference]
    fitted = np.stack([curve(GRID.astype(np.float32)) for curve in harmonizer.tone_curves(of_sources)])
    return Training(along, fitted, harmonizer.best_epoch_, seconds)


def differences(way: str, found: Training, exact: Training) -> list[dict[str, object]]:
    """Table rows: how far curves are from the exact ones at every check, and in the end."""
    pairs = [(step, ours, theirs) for (step, ours), (_, theirs) in zip(found.along, exact.along, strict=True)]
    return [
        {
            "way": way,
            "step": step,
            "max_difference": float(np.abs(ours - theirs).max()),
            "mean_difference": float(np.abs(ours - theirs).mean()),
            "distance_from_identity": float(np.abs(theirs - GRID).mean()),
            "check_kept": found.best if step == FITTED else "",
            "seconds": found.seconds if step == FITTED else "",
        }
        for step, ours, theirs in [*pairs, (FITTED, found.fitted, exact.fitted)]
    ]


def images_of(options: argparse.Namespace) -> tuple[ImageSet, np.ndarray, str]:
    """Give images of a reference and a source, labels, and the reference's name."""
    if options.data is None:
        scanners = ["reference", options.source]
        size, n = options.size, options.n_patients
        cohort = make_cohort("density", scanners, n_patients=n, size=size, random_state=options.cohort_seed)
        return cohort.images, cohort.labels, cohort.reference
    X = ImageSet.from_folder(options.data, options.data / "labels.csv")
    X = X[np.isin(X.scanner.astype(str), [options.reference, options.source])]
    return X, X.label, options.reference


def main() -> None:
    """Train, compare, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with labels.csv; simulated scanners otherwise")
    parser.add_argument("--reference", help="scanner of --data that images are brought to")
    parser.add_argument("--source", default="senograph-like", help="scanner whose images are brought there")
    parser.add_argument("--n-patients", type=int, default=64, help="simulated, of each scanner")
    parser.add_argument("--cohort-seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=128, help="side at which images pass the frozen networks")
    parser.add_argument("--scopes", nargs="+", default=["scanner", "image"])
    parser.add_argument("--starts", nargs="+", default=["matched", "random"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--steps", type=int, help="of a training; GDCE's own number otherwise")
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--view-size", type=int, default=256)
    parser.add_argument("--vgg-weights", default="random", help="file of VGG-16 weights")
    parser.add_argument("--width", type=int, default=16, help="of the discriminator, a ResNet-18")
    parser.add_argument("--epochs", type=int, default=12, help="of the discriminator")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--name", help="what is added to the name of the result file")
    options = parser.parse_args()
    warnings.simplefilter("ignore", XRayHarmonizeWarning)
    X, y, reference = images_of(options)
    of_reference = X.scanner == reference
    discriminator = ResNetClassifier(
        width=options.width, image_size=options.size, max_epochs=options.epochs, random_state=0
    ).fit(X[of_reference], y[of_reference])
    fixed = {"batch_size": options.batch_size, "view_size": options.view_size, "max_steps": options.steps}
    name = f"gdce_fast_{options.name}.csv" if options.name else "gdce_fast.csv"
    table: list[dict[str, object]] = []
    for scope, start, seed in product(options.scopes, options.starts, options.seeds):
        gdce = GDCE(reference, discriminator, scope=scope, start=start, vgg_weights=options.vgg_weights, **fixed)
        gdce.set_params(random_state=seed)
        exact = trained("exact", gdce, X, y)
        for way in ["exact", *options.ways]:
            found = exact if way == "exact" else trained(way, gdce, X, y)
            rows = differences(way, found, exact)
            print(scope, start, seed, rows[-1], f"along it {max(float(row['max_difference']) for row in rows):.4f}")
            about = {"source": options.source, "size": options.size, "scope": scope, "start": start, "seed": seed}
            table += [{**about, **row} for row in rows]
        write_result(RESULTS / name, pd.DataFrame(table), f"python {shlex.join(sys.argv)}")


if __name__ == "__main__":
    main()
