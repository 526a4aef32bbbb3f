"""What GDCE costs, applied and trained, against the same written out as it was released.

Applied: ``GDCE.transform`` on one large uint16 image, against resizing, predicting and iterating over the image in
torch, and against ``CDFMatching.transform`` with the predictor on top. Trained: one step on images of 512 x 512, with
each ``speed``, against the released loop (see ``gdce_released.py``), and how far the gradient of the predictor is from
that loop's. Peak memory is that of a process of its own that takes one step, read as Linux keeps it.

Run it as ``python benchmarks/gdce_speed.py`` on a machine that does nothing else; the released loop holds 11 GB with
the 12 + 12 images of a published step, so ``--batch 4`` takes 4 + 4. All ways take turns in one process; a ratio is the
median over the rounds of the ratio within a round. Writes ``benchmarks/results/gdce_speed.csv``, unless a ``--part`` of
it alone is wanted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from fourier_speed import radiograph, rows, take_turns
from gdce_released import ReleasedEnhancer, ReleasedStep
from result_files import write_result

from xray_harmonize import GDCE, CDFMatching, ImageSet
from xray_harmonize.datasets import make_cohort
from xray_harmonize.harmonizers.curve_images import measure
from xray_harmonize.harmonizers.curve_objectives import SPEEDS, Objective
from xray_harmonize.harmonizers.curve_views import bilinear_view
from xray_harmonize.networks.batch_norm import reestimate_batch_norm
from xray_harmonize.networks.curve import CurveEstimator
from xray_harmonize.networks.resnet import RadiographResNet
from xray_harmonize.networks.vgg import VGGFeatures

RESULT = Path(__file__).parent / "results" / "gdce_speed.csv"
RELEASED, BOTH = "released", "CDFMatching.transform + predictor"


def fitted(n_iterations: int) -> GDCE:
    """GDCE with curves an image, learned in a moment from images of few pixels."""
    images = [radiograph(32, seed, 0.3) ** (1 + seed % 2) for seed in range(8)]
    small = ImageSet(images, [f"{seed % 2}" for seed in range(8)])
    quick = {"supervision": "distribution", "perceptual": None, "batch_size": 4, "max_steps": 1, "random_state": 0}
    return GDCE("0", n_iterations=n_iterations, **quick).fit(small)


def transform_rows(size: int, n_rounds: int) -> list[dict[str, object]]:
    """Compare ways of applying the curves to one image."""
    image, reference = (np.rint(radiograph(size, i, 0.3) * 65535).astype(np.uint16) for i in range(2))
    floats = torch.from_numpy(image.astype(np.float32) / np.float32(65535))[None, None]
    X, matching = ImageSet([image], "1"), CDFMatching().fit([reference])
    table = []
    for n_iterations in (2, 8, 16):
        harmonizer = fitted(n_iterations)
        network = CurveEstimator(n_iterations=n_iterations).eval()
        network.load_state_dict({name: torch.as_tensor(value) for name, value in harmonizer.state_.items()})
        released = ReleasedEnhancer(network).eval()
        view = torch.from_numpy(bilinear_view(X.radiograph(0), network.view_size))[None, None]
        ways: dict[str, Callable[[], Any]] = {
            RELEASED: lambda net=released: net(floats),
            "released, from uint16": lambda net=released: net(
                torch.from_numpy(image.astype(np.float32))[None, None] / 65535
            ),
            "GDCE.transform": lambda gdce=harmonizer: gdce.transform(X),
            "CDFMatching.transform": lambda: matching.transform(X),
            "predictor": lambda net=network, seen=view: net(seen),
        }
        with torch.inference_mode():
            difference = float(np.abs(ways["GDCE.transform"]()[0] - released(floats)[0, 0].numpy()).max())
            times = take_turns(ways, n_rounds)
        times[BOTH] = times["CDFMatching.transform"] + times["predictor"]
        for baseline in (RELEASED, BOTH):
            named = [{**row, "baseline": baseline} for row in rows(f"N = {n_iterations}", baseline, times)]
            table += named if baseline == RELEASED else [row for row in named if row["way"] == "GDCE.transform"]
        print(f"N = {n_iterations}: GDCE.transform differs from the released formulation by at most {difference:.1e}")
    return [{"images": f"{size} x {size} uint16", **row} for row in table]


class Steps:
    """One batch, and steps on it in every way, each from the same weights.

    Parameters
    ----------
    depth : int
        Of the ResNet.
    batch : int
        Images of the source, and as many of the reference.
    size : int
        Side of the images.
    """

    def __init__(self, depth: int, batch: int, size: int) -> None:
        cohort = make_cohort("density", ["clearview-like", "reference"], n_patients=batch, size=size, random_state=0)
        of_reference = cohort.images.scanner == "reference"
        label = np.unique(cohort.labels, return_inverse=True)[1]
        images = measure(cohort.images, np.where(of_reference, -1, 0), label, size, 256)
        self.sources, self.reference = images[np.flatnonzero(~of_reference)], images[np.flatnonzero(of_reference)]
        torch.manual_seed(0)
        self.estimator = CurveEstimator()
        self.classifier = RadiographResNet(4, depth, in_channels=3, head="mlp", dropout=0.5).eval()
        # Without weights, statistics of real activations at least.
        reestimate_batch_norm(self.classifier, lambda: [self.reference.frames[:4]])

    def way(self, name: str) -> Step:
        """Give the step of one way."""
        estimator = CurveEstimator()
        estimator.load_state_dict(self.estimator.state_dict())
        options = {"perceptual": "pooled", "weighting": "smooth", "perceptual_weight": 0.5, "vgg_weights": "random"}
        speed = "exact" if name == RELEASED else name
        objective = Objective(self.classifier, **options, speed=speed, precision="auto", device=torch.device("cpu"))
        images, loss = objective.labelled(self.sources, self.reference, enhance_reference=True, flip=False)
        n = len(self.sources)
        inputs, batch = images.draws(np.random.RandomState(0))(n)
        if name != RELEASED:
            loss.train()
            return Step(list(estimator.parameters()), lambda: loss(estimator(**inputs), batch))
        # The first step's smooth ratio is the ratio that was released but for its being rounded down.
        step = ReleasedStep(estimator, self.classifier, VGGFeatures(), options["perceptual_weight"], floor=False)
        source, reference = batch["image"].split(n)
        labels = batch["label"].split(n)
        return Step(list(step.enhancer.parameters()), lambda: step.loss(source, reference, labels))


class Step:
    """Loss, gradient and a step of Adam; keeps the gradient of the first."""

    def __init__(self, parameters: list[torch.nn.Parameter], loss: Callable[[], torch.Tensor]) -> None:
        self.parameters, self.loss = parameters, loss
        self.optimizer = torch.optim.Adam(parameters, lr=1e-4)
        self.gradient: torch.Tensor | None = None

    def __call__(self) -> None:
        """Take a step."""
        self.optimizer.zero_grad()
        self.loss().backward()
        if self.gradient is None:
            self.gradient = torch.cat([p.grad.flatten() for p in self.parameters if p.grad is not None]).clone()
        self.optimizer.step()


def peak_mebibytes(step: Step) -> float:
    """Take a step and give the most memory that the process held in it."""
    # Forget what making the images took; the resource module would even count what the parent process held.
    Path("/proc/self/clear_refs").write_text("5")
    step()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return float(status["VmHWM"].split()[0]) / 1024


def step_rows(depth: int, batch: int, size: int, n_rounds: int, skip_peak: bool) -> list[dict[str, object]]:
    """Compare ways of training a step."""
    steps = Steps(depth, batch, size)
    ways = {name: steps.way(name) for name in (RELEASED, *SPEEDS)}
    table = rows(f"ResNet-{depth}", RELEASED, take_turns(ways, n_rounds))
    wanted = ways[RELEASED].gradient
    for row in table:
        name = str(row["way"])
        found = ways[name].gradient
        command = [sys.executable, __file__, "--peak", name, "--depths", str(depth)]
        command += ["--batch", str(batch), "--step-size", str(size), "--threads", str(torch.get_num_threads())]
        peak = float("nan") if skip_peak else float(subprocess.run(command, capture_output=True, check=True).stdout)
        row["images"] = f"{batch} + {batch} of {size} x {size}"
        row["gradient_error"] = float((found - wanted).norm() / wanted.norm())
        row["gradient_cosine"] = float(torch.nn.functional.cosine_similarity(found, wanted, dim=0))
        row["peak_mebibytes"] = peak
        print(row, flush=True)
    return table


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("transform", "step"), help="measure this alone, and write nothing")
    parser.add_argument("--size", type=int, default=3000, help="side of the image that curves are applied to")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of applying that medians are taken over")
    parser.add_argument("--batch", type=int, default=12, help="images of the source in a step, and of the reference")
    parser.add_argument("--step-size", type=int, default=512, help="side of the images in a step")
    parser.add_argument("--step-rounds", type=int, default=3, help="rounds of steps that medians are taken over")
    parser.add_argument("--depths", type=int, nargs="+", default=[18, 50], help="of the ResNet")
    parser.add_argument("--skip-peak", action="store_true", help="do not measure peak memory")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--peak", metavar="WAY", help="take one step of this way and print the peak memory")
    options = parser.parse_args()
    if options.peak:
        torch.set_num_threads(options.threads[0])
        print(peak_mebibytes(Steps(options.depths[0], options.batch, options.step_size).way(options.peak)))
        return
    table = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        found = [] if options.part == "step" else transform_rows(options.size, options.rounds)
        for depth in options.depths if options.part != "transform" else []:
            found += step_rows(depth, options.batch, options.step_size, options.step_rounds, options.skip_peak)
        table += [{"threads": threads, **row} for row in found]
    frame = pd.DataFrame(table)
    frame.insert(4, "median_s", frame.pop("median_ms") / 1e3)
    with pd.option_context("display.width", 220, "display.max_columns", 20):
        print(frame.to_string(index=False, float_format="{:.4g}".format))
    if options.part is None:
        write_result(RESULT, frame, f"python {shlex.join(sys.argv)}")


if __name__ == "__main__":
    main()
