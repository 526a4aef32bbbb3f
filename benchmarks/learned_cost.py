"""What methods that train a network of their own cost on a processor: to fit, and to apply to small and large images.

Every method has its defaults and one thread. It is fitted to simulated mammograms of 64 x 64 pixels, 20 of the
reference and 20 of another scanner, of which all but CycleGAN look at the reference's alone or make their pairs of
them. The goal is a fit within 60 seconds of processor time.

Run as ``python benchmarks/learned_cost.py``; writes ``benchmarks/results/learned_cost.csv``. ``--methods`` measures
some, ``--quick`` takes one training step each, which shows nothing but that it runs.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from result_files import write_result

from xray_harmonize import ImageSet, make_cohort
from xray_harmonize.evaluation.candidates import ON_REQUEST, default_candidates
from xray_harmonize.exceptions import XRayHarmonizeWarning

RESULT = Path(__file__).parent / "results" / "learned_cost.csv"
GOAL_SECONDS = 60.0
SIDE, LARGE = 64, 1024
N_PATIENTS = 20
REPEATS = 3


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=ON_REQUEST, default=list(ON_REQUEST), metavar="METHOD")
    parser.add_argument("--quick", action="store_true", help="one training step each")
    parser.add_argument("--results", type=Path, default=RESULT, help="file to write")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    parameters: dict[str, Any] = {"device": "cpu", **({"max_steps": 1} if options.quick else {})}
    methods = {one.name: one for one in default_candidates(networks=parameters) if one.name in options.methods}
    scanners = ["reference", "clearview-like"]
    cohort = make_cohort("density", scanners, n_patients=N_PATIENTS, size=SIDE, random_state=0)
    # BlindHarmony leaves typical images of the reference alone: of another scanner, then.
    image = cohort.images[[N_PATIENTS]]
    large = enlarged(image)
    rows = []
    for name in options.methods:
        harmonizer = methods[name].harmonizer(cohort.reference, random_state=0)
        with warnings.catch_warnings():
            # A training of one step has learned nothing, and says so.
            warnings.simplefilter("ignore", XRayHarmonizeWarning)
            fit = seconds(lambda harmonizer=harmonizer: harmonizer.fit(cohort.images))
            small, full = (
                statistics.median(seconds(lambda X=X, h=harmonizer: h.transform(X)) for _ in range(REPEATS))
                for X in (image, large)
            )
        kind = type(harmonizer[0]).__name__
        rows.append([name, kind, len(cohort.images), SIDE, fit, small, full, fit < GOAL_SECONDS])
        print(f"{name:14} fit {fit:6.1f} s   {SIDE} pixels {small:.3f} s   {LARGE} pixels {full:.3f} s", flush=True)
    columns = ["method", "class", "n_images", "side", "fit_cpu_s", "apply_cpu_s", f"apply_{LARGE}_cpu_s", "within_goal"]
    table = pd.DataFrame(rows, columns=columns)
    write_result(options.results, table, shlex.join(["python", "benchmarks/learned_cost.py", *given]))
    return table


def enlarged(image: ImageSet) -> ImageSet:
    """Enlarge one image to the side of a small radiograph, so that networks see the same view of it."""
    return ImageSet([np.kron(image.unit(0), np.ones((LARGE // SIDE,) * 2, dtype=np.float32))], scanner=image.scanner)


def seconds(work: Callable[[], Any]) -> float:
    """Processor time, which a busy machine changes less than time on the clock."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
