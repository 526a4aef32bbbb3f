"""BlindHarmony's evaluation on simulated travelling subjects, by one command.

Run as ``python benchmarks/blind_study.py`` for everything, or ``--part NAME`` for one of

measures   PSNR, SSIM and the IoU of a segmentation network for every method on four source scanners and a second
           exposure of the reference, for mammograms and chest radiographs, with the distance from the source
figure     one patient by every scanner and method

``--method`` (repeatable) computes less; the tables hold whatever is finished. Tables of one ``--task`` or ``--scanner``
go beside the cache. Every training and every measurement is kept under a key made of parameters, patients and the
method's program (comments apart), so that only what changed is computed again; ``--again METHOD`` computes it in any
case. ``--quick`` runs everything so small that it says nothing. Writes ``benchmarks/results/blind_study.csv``,
``blind_mean.csv`` and ``docs/images/blind_study.png``.

Methods are given a mask of the body that is found in each image as it came (``--unmasked``: none), since how much of
an image is air differs between patients more than between scanners. On training patients of the mammograms, histogram
matching and BlindHarmony came nearer to the truth with it.

PSNR (data range 1, full scale) and SSIM (Gaussian window, sigma 1.5, data range 1; the mean of its map) are taken in
the body; columns ``_whole`` over the whole image. Intervals are 95 %, over resampled patients. The test patients are
seen by all scanners; nothing is fitted to them, or chosen by them.

References
----------
Jeong, Byun, Kang, Lee. BlindHarmony: "blind" harmonization for MR images via flow model. ICCV 2023.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from blind_figure import draw
from blind_measures import measured
from blind_methods import all_methods
from blind_setting import Setting, full_setting, quick_setting
from blind_tables import findings, mean_table, printed, study_table

from xray_harmonize.datasets.vendors import TASKS

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that were asked for."""
    options = _options(arguments)
    typed = sys.argv[1:] if arguments is None else arguments
    setting = _setting(options, shlex.join(["python", "benchmarks/blind_study.py", *typed]))
    for name in options.part or PARTS:
        print(f"\n== {name} ==", flush=True)
        started = time.monotonic()
        PARTS[name](setting)
        print(f"{name} took {(time.monotonic() - started) / 60:.1f} min", flush=True)


def measures_part(setting: Setting) -> None:
    """Measure, and write the tables."""
    table = pd.concat([measured(setting, task) for task in setting.tasks], ignore_index=True)
    study, mean = study_table(table, setting.n_bootstrap), mean_table(table, setting.n_bootstrap)
    setting.write("study", study)
    setting.write("mean", mean)
    print(f"\n{printed(study)}\n\nmean of the sources:\n{printed(mean)}\n\n{findings(study)}")


PARTS: dict[str, Callable[[Setting], None]] = {"measures": measures_part, "figure": draw}


def _setting(options: argparse.Namespace, command: str) -> Setting:
    make = quick_setting if options.quick else full_setting
    # A run that says nothing may not pass for the study's, nor may a part of it.
    apart = "quick" if options.quick else "part" if options.task or options.scanner else None
    results = options.results or (options.cache / apart if apart else HERE / "results")
    figures = options.figures or (results if apart else HERE.parent / "docs" / "images")
    setting = replace(
        make(options.cache, results, figures, command),
        methods=tuple(options.method or ()),
        again=tuple(options.again or ()),
        scanners=tuple(options.scanner or ()),
    )
    if options.task:
        setting = replace(setting, tasks=tuple(task for task in TASKS if task in options.task))
    if options.unmasked:
        setting = replace(setting, masked=False)
    if options.seeds is not None:
        setting = replace(setting, seeds=tuple(range(options.seeds)))
    return setting


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [method.name for method in all_methods(quick_setting(HERE, HERE, HERE, "").steps)]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one part; several may be named")
    parser.add_argument("--task", action="append", choices=TASKS, help="one task")
    parser.add_argument("--method", action="append", choices=names, help="one method; several may be named")
    parser.add_argument("--again", action="append", choices=names, help="a method to compute anew")
    parser.add_argument("--scanner", action="append", help="compute rows of this scanner alone; several may be named")
    parser.add_argument("--seeds", type=int, help="trainings of every method that draws; 1 unless told")
    parser.add_argument("--unmasked", action="store_true", help="give methods no mask of the body")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, and nothing else")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache" / "blind_study", help="finished pieces")
    parser.add_argument("--results", type=Path, help="where tables go")
    parser.add_argument("--figures", type=Path, help="where the picture goes")
    options = parser.parse_args(arguments)
    if options.seeds is not None and options.seeds < 1:
        parser.error("--seeds must be at least 1")
    return options


if __name__ == "__main__":
    main()
