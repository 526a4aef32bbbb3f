"""Table 1 of the interpretable mapping's paper on simulated radiographs of 1000 to 3000 pixels, by one command.

Run as ``python benchmarks/mapping_study.py`` for everything, or ``--part NAME`` for one of

main      PSNR and SSIM of every method on test bodies, in full resolution (Table 1), and what of the paper came out
maps      the predicted maps beside the true ones
longer    the main comparison with trainings three times as long
confirm   the same networks on bodies that nobody had looked at before
speed     seconds an image: the network on the small view, and the application of its answer
clipped   the main comparison where presentations have lost grey values
scanners  pairs of simulated scanners, whose truth is none of the mapping's kind
figures   pictures, from what was kept

Targets are the reference's renderings, and sources what random regional and global maps make of them on the way back.
All networks learn from the same pairs in as many steps. Learning rates are searched for on held-out training bodies,
in the same way for each; test bodies choose nothing. Finished pieces are kept, so that an interrupted run goes on.
``--quick`` runs everything so small that it says nothing. Writes ``benchmarks/results/mapping_*.csv`` and
``docs/images/mapping_*.png``.

References
----------
Yang et al. Quality enhancement of radiographic X-ray images by interpretable mapping. 2023.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mapping_figures import figures_part
from mapping_longer import confirm_part, longer_part
from mapping_maps import maps_part
from mapping_parts import clipped_part, main_part, speed_part
from mapping_scanners import scanners_part
from mapping_setting import Setting, full_setting, quick_setting

PARTS: dict[str, Callable[[Setting], None]] = {
    "main": main_part,
    "maps": maps_part,
    "longer": longer_part,
    "confirm": confirm_part,
    "speed": speed_part,
    "clipped": clipped_part,
    "scanners": scanners_part,
    "figures": figures_part,
}

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that were asked for."""
    options = _options(arguments)
    typed = sys.argv[1:] if arguments is None else arguments
    setting = _setting(options, shlex.join(["python", "benchmarks/mapping_study.py", *typed]))
    for name in options.part or PARTS:
        print(f"\n== {name} ==", flush=True)
        started = time.monotonic()
        PARTS[name](setting)
        print(f"{name} took {(time.monotonic() - started) / 60:.1f} min", flush=True)


def _setting(options: argparse.Namespace, command: str) -> Setting:
    make = quick_setting if options.quick else full_setting
    # A run that says nothing must not pass for the study's.
    cache = options.cache / "quick" if options.quick else options.cache
    results = options.results or (cache if options.quick else HERE / "results")
    figures = options.figures or (results if options.quick else HERE.parent / "docs" / "images")
    setting = make(cache, results, figures, command)
    return setting if options.steps is None else replace(setting, max_steps=options.steps)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one part; several may be named")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, and nothing else")
    parser.add_argument("--steps", type=int, help="steps of every training, 200 in the tables")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache" / "mapping_study", help="finished pieces")
    parser.add_argument("--results", type=Path, help="where tables go")
    parser.add_argument("--figures", type=Path, help="where pictures go")
    options = parser.parse_args(arguments)
    if options.steps is not None and options.steps < 1:
        parser.error("--steps must be at least 1")
    return options


if __name__ == "__main__":
    main()
