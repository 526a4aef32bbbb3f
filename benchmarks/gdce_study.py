"""The published study of GDCE, run again by one command, with the controls that it lacks.

Run as ``python benchmarks/gdce_study.py`` for everything, or ``--part NAME`` for one of

main       everything compared: AUC, share of the gap closed, confusion matrices (Figures 3 and 4 of the paper)
absent     densities A and D of the sources are missing from the training (Table 1)
ablation   layers and iterations (Figure 7)
chest      precision and recall on chest radiographs (Table 2)
weighting  how the losses are added and where training starts
controls   a scanner never seen, one scanner cut in two, shuffled labels
figures    pictures, from the tables and what was kept

Finished pieces are kept, so that an interrupted run goes on. ``--quick`` runs everything so small that it says
nothing. With ``--embed METADATA CLINICAL --images DIR`` or ``--rsna DIR --rsna-labels CSV`` the parts main and absent
run on your own folders. Writes ``benchmarks/results/gdce_*.csv`` and ``docs/images/gdce_*.png``.

References
----------
Lu, Wang, Juodelyte, Cheplygina. Learning to harmonize cross-vendor X-ray images by non-linear image dynamics
correction. 2025.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from gdce_cohorts import Images, embed_images, rsna_images
from gdce_controls import controls_part
from gdce_figures import figures_part
from gdce_parts import ablation_part, absent_part, chest_part, main_part, weighting_part
from gdce_setting import Setting, full_setting, quick_setting

PARTS: dict[str, Callable[[Setting], None]] = {
    "main": main_part,
    "absent": absent_part,
    "chest": chest_part,
    "ablation": ablation_part,
    "weighting": weighting_part,
    "controls": controls_part,
    "figures": figures_part,
}
# What needs no truth, no third scanner and no pixels shown.
ON_FOLDERS = ("main", "absent")

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that were asked for."""
    options = _options(arguments)
    typed = sys.argv[1:] if arguments is None else arguments
    setting = _setting(options, shlex.join(["python", "benchmarks/gdce_study.py", *typed]))
    parts = options.part or (ON_FOLDERS if setting.images is not None else tuple(PARTS))
    for name in parts:
        print(f"\n== {name} ==", flush=True)
        started = time.monotonic()
        with warnings.catch_warnings():
            # Where there is nothing to harmonize, this is what should happen; the tables show how far curves went.
            warnings.filterwarnings("ignore", "GDCE's curves stayed at the identity")
            warnings.filterwarnings("once", "Some images did not reach the reference's band energies")
            PARTS[name](setting)
        print(f"{name} took {(time.monotonic() - started) / 60:.1f} min", flush=True)


def _setting(options: argparse.Namespace, command: str) -> Setting:
    make, images = (quick_setting if options.quick else full_setting), _folders(options)
    # Neither a run that says nothing nor one on somebody's folders may pass for the study's.
    apart = "quick" if options.quick else "folders" if images is not None else None
    results = options.results or (options.cache / apart if apart else HERE / "results")
    figures = options.figures or (results if apart else HERE.parent / "docs" / "images")
    setting = replace(make(options.cache, results, figures, command), images=images)
    if options.seeds is not None:
        few = {"seeds": setting.seeds[: options.seeds], "few_seeds": setting.few_seeds[: options.seeds]}
        setting = replace(setting, **few)
    if options.image_size is not None:
        gdce = {**setting.gdce, "view_size": min(256, options.image_size)}
        setting = replace(setting, classifier=setting.classifier.set_params(image_size=options.image_size), gdce=gdce)
    return setting


def _folders(options: argparse.Namespace) -> Images | None:
    side = 2 * (options.image_size or 64)
    if options.embed:
        return embed_images(*options.embed, options.images, options.n, side)
    if options.rsna:
        return rsna_images(options.rsna, options.rsna_labels, options.rsna_mapping, options.n, side)
    return None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="one part; several may be named")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, and nothing else")
    parser.add_argument("--embed", nargs=2, type=Path, metavar=("METADATA", "CLINICAL"), help="tables of EMBED")
    parser.add_argument("--images", type=Path, help="folder that holds EMBED's cohort_1 and cohort_2")
    parser.add_argument("--rsna", type=Path, help="folder of the RSNA challenge's DICOM files")
    parser.add_argument("--rsna-labels", type=Path, help="stage_2_train_labels.csv")
    parser.add_argument("--rsna-mapping", type=Path, help="the organizers' file that tells whose image each is")
    parser.add_argument("--n", type=int, default=500, help="most images of a scanner and class of a folder")
    parser.add_argument("--seeds", type=int, help="at most so many folds in every part")
    parser.add_argument("--image-size", type=int, help="pixels that the classifier sees; 64 for simulated images")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache" / "gdce_study", help="finished pieces")
    parser.add_argument("--results", type=Path, help="where tables go")
    parser.add_argument("--figures", type=Path, help="where pictures go")
    options = parser.parse_args(arguments)
    if options.seeds is not None and options.seeds < 1:
        parser.error("--seeds must be at least 1")
    if bool(options.embed) != bool(options.images):
        parser.error("--embed and --images go together")
    if bool(options.rsna) != bool(options.rsna_labels):
        parser.error("--rsna and --rsna-labels go together")
    if options.embed and options.rsna:
        parser.error("--embed and --rsna are two studies; run one after the other")
    if (options.embed or options.rsna) and set(options.part or ()) - set(ON_FOLDERS):
        parser.error(f"on folders the study has the parts {' and '.join(ON_FOLDERS)}")
    return options


if __name__ == "__main__":
    main()
