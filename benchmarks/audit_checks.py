"""What the audit finds where the truth is known, and how long it takes.

Four parts, each a table under ``benchmarks/results``:

* ``--part curve``: two simulated scanners that differ by a known curve alone. Every measure of the gap must fall from
  doing nothing over half of the way to the true inverse, behind which the probe must be within its null.
* ``--part nothing``: two simulated scanners that differ in nothing, over many seeds: how often a gap is claimed, a
  harmonizer is said to help, and a control fails. ``--confounded`` gives them different shares of the classes.
* ``--part confounded``: scanners that differ, with unlike shares of the classes: the caution and the leaked gain.
* ``--part folder --data DIR``: five closed-form harmonizers on a folder with ``labels.csv`` (path, label, scanner,
  patient): seconds, and bytes of the report.

Run it as ``python benchmarks/audit_checks.py --part nothing --seeds 0 50``; seeds that the table has already are kept,
so that several runs, one after the other, make one table.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result_files import write_result
from scipy.stats import binom

from xray_harmonize import ImageSet, ToneCurve, audit, make_cohort
from xray_harmonize.auditing.conclusions import LEVEL, gap_shows, helpful
from xray_harmonize.auditing.result import AuditResult
from xray_harmonize.datasets.vendors import PRESETS
from xray_harmonize.evaluation.content import content_measures
from xray_harmonize.harmonizers.base import Harmonizer, ToneCurveMixin
from xray_harmonize.radiograph import Radiograph

RESULTS = Path(__file__).parent / "results"
REFERENCE = {"density": "reference", "pneumonia": "chest-reference"}
HALFWAY, INVERSE = "halfway", "true inverse"


class KnownCurve(ToneCurveMixin, Harmonizer):
    """Put images through curves that are known, the whole way or a part of it.

    Parameters
    ----------
    curves : dict of str to ToneCurve
        By scanner; images of others stay as they are.
    share : float, default=1.0
        0 leaves images as they are, 1 applies the curve.
    """

    def __init__(self, curves: dict[str, ToneCurve], share: float = 1.0) -> None:
        self.curves = curves
        self.share = share

    def _tone_curve(self, radiograph: Radiograph) -> ToneCurve:
        curve = self.curves.get(radiograph.scanner, ToneCurve.identity())
        x = np.linspace(0, 1, 1025)
        return ToneCurve(x, np.clip((1 - self.share) * x + self.share * curve(x), 0, 1))


def known_curve(options: argparse.Namespace) -> pd.DataFrame:
    """One row a measure: its value untouched, halfway and behind the true inverse, and whether it orders them."""
    reference = PRESETS[REFERENCE[options.task]]
    other = replace(reference, name="other", tone=replace(reference.tone, response="sigmoid", gamma=1.6))
    cohort = make_cohort(
        options.task, [reference, other], options.patients, options.size, options.seeds[0], physics="same"
    )
    curves = {name: cohort.true_curve(name) for name in (reference.name, "other")}
    harmonizers = {HALFWAY: KnownCurve(curves, 0.5), INVERSE: KnownCurve(curves)}
    found = _audit(cohort.images, cohort.labels, options, harmonizers=harmonizers, reference=reference.name)
    domain = found.domain[found.domain["scanner"] == "all"]
    rows = []
    for measure, part in domain.groupby("measure", sort=False):
        values, p = part.set_index("harmonizer")["value"], part.set_index("harmonizer")["p_value"]
        rows.append(_ordered(measure, values, part["better"].iloc[0], p["none"], p[INVERSE]))
    task = found.task[found.task["scanner"] == "other"]
    rows.append(_ordered("AUC", task.set_index("harmonizer")["auc"], "higher", np.nan, np.nan))
    truth = cohort.truth
    rendered = {name: one.fit(cohort.images).transform(cohort.images) for name, one in harmonizers.items()}
    measures = {
        name: content_measures(cohort.images, images, truth, n_bootstrap=0)
        for name, images in {"none": cohort.images, **rendered}.items()
    }
    for measure in ("PSNR", "SSIM"):
        values = pd.Series(
            {
                name: table[(table["measure"] == measure) & (table["scanner"] == "other")]["value"].iloc[0]
                for name, table in measures.items()
            }
        )
        rows.append(_ordered(f"{measure} to the truth", values, "higher", np.nan, np.nan))
    return pd.DataFrame(rows)


def _ordered(measure: Any, values: pd.Series, better: str, p_before: float, p_after: float) -> dict[str, Any]:
    steps = values[["none", HALFWAY, INVERSE]].to_numpy(dtype=float)
    rises = np.diff(steps if better == "higher" else -steps)
    return {
        "measure": measure,
        "better": better,
        "none": steps[0],
        HALFWAY: steps[1],
        INVERSE: steps[2],
        # A probe that is always right untouched may still be halfway.
        "ordered": bool((rises >= 0).all() and rises.sum() > 0),
        "p_none": p_before,
        "p_inverse": p_after,
    }


def nothing(options: argparse.Namespace, command: str) -> pd.DataFrame:
    """One row a seed: what an audit of scanners that differ in nothing says."""
    path = RESULTS / f"{options.out or 'audit_nothing'}.csv"
    done = pd.read_csv(path, comment="#") if path.exists() else pd.DataFrame({"seed": []})
    reference = PRESETS[REFERENCE[options.task]]
    twin = replace(reference, name="twin")
    labels = _classes(options.task)
    uneven = {
        name: dict(zip(labels, weights, strict=False))
        for name, weights in ((reference.name, (4, 1, 4, 1)), ("twin", (1, 4, 1, 4)))
    }
    rows = done.to_dict("records")
    for seed in range(*options.seeds):
        if seed in set(done["seed"]):
            continue
        cohort = make_cohort(
            options.task, [reference, twin], options.patients, options.size, seed,
            prevalence=uneven if options.confounded else None,
        )  # fmt: skip
        start = time.perf_counter()
        found = _audit(cohort.images, cohort.labels, options, reference=reference.name, random_state=seed)
        rows.append({"seed": seed, **_said(found), "seconds": time.perf_counter() - start})
        write_result(path, pd.DataFrame(rows).sort_values("seed"), command)
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows).sort_values("seed")
    write_result(path, table, command)
    return table


def _classes(task: str) -> list[Any]:
    from xray_harmonize.datasets.classes import CLASSES

    return list(CLASSES[task])


def _said(found: AuditResult) -> dict[str, Any]:
    task = found.task[found.task["harmonizer"] != "none"]
    probe = found.domain[(found.domain["measure"] == "probe") & (found.domain["harmonizer"] == "none")].iloc[0]
    said = {
        "probe": probe["value"],
        "null": probe["null"],
        "p": probe["p_value"],
        "gap": gap_shows(found.domain),
        "helps": len(helpful(found.task, found.domain)) > 0,
        # What would be said if no gap were asked for first.
        "helps_without_gate": bool((task["difference_low"] > 0).any()),
        "worse": bool((task["difference_high"] < 0).any()),
        "who": "; ".join(task.loc[(task["difference_low"] > 0) | (task["difference_high"] < 0), "harmonizer"]),
    }
    for name, part in found.controls.groupby(["control", "measure"], sort=False):
        measure = "highest AUC" if name[1].startswith("highest AUC") else name[1]
        said[f"{name[0]}: {measure}"] = said.get(f"{name[0]}: {measure}", False) or bool((~part["passed"]).any())
    return said


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Share of seeds in which each thing was said, and the most that the stated level lets one expect."""
    rows = []
    for column in [name for name in table if len(table[name].dropna()) and set(table[name].dropna()) <= {True, False}]:
        known = table[column].dropna().astype(bool)
        rows.append(
            {
                "said": column,
                "seeds": int(known.sum()),
                "of": len(known),
                "most_at_level": int(binom.ppf(0.99, len(known), LEVEL)),
            }
        )
    return pd.DataFrame(rows)


def confounded(options: argparse.Namespace) -> pd.DataFrame:
    """Cautions and controls of scanners with unlike shares of the classes."""
    other = [
        name for name, preset in PRESETS.items() if preset.task == options.task and name != REFERENCE[options.task]
    ]
    names = [REFERENCE[options.task], other[0]]
    classes = _classes(options.task)
    weights = {
        names[0]: {label: 4.0 if label in classes[: len(classes) // 2] else 1.0 for label in classes},
        names[1]: {label: 1.0 if label in classes[: len(classes) // 2] else 4.0 for label in classes},
    }
    cohort = make_cohort(options.task, names, options.patients, options.size, options.seeds[0], prevalence=weights)
    found = _audit(cohort.images, cohort.labels, options, reference=names[0])
    print(found.verdict())
    warned = pd.DataFrame(
        [{"control": one.severity, "measure": one.name, "expected": one.what} for one in found.cautions]
    )
    return pd.concat([warned, found.controls], ignore_index=True)


def folder(options: argparse.Namespace) -> pd.DataFrame:
    """Seconds of an audit of a folder, and bytes of its report."""
    X = ImageSet.from_folder(options.data, options.data / "labels.csv")
    start = time.perf_counter()
    show = [int(np.flatnonzero(X.scanner == name)[0]) for name in sorted(set(X.scanner))]
    found = _audit(X, X.label, options, show=show)
    audited = time.perf_counter()
    print(found.verdict())
    with tempfile.TemporaryDirectory() as place:
        report = found.to_html(Path(place) / "audit.html")
        size = report.stat().st_size
    written = time.perf_counter()
    return pd.DataFrame(
        [
            {
                "images": len(X),
                "scanners": len(found.scanners),
                "harmonizers": len(found.harmonizers) - 1,
                "image_size": options.size,
                "seconds_audit": audited - start,
                "seconds_report": written - audited,
                "report_bytes": size,
            }
        ]
    )


def _audit(X: ImageSet, y: Any, options: argparse.Namespace, **more: Any) -> AuditResult:
    return audit(
        X,
        y,
        **{
            "image_size": options.size,
            "n_permutations": options.permutations,
            "n_bootstrap": options.bootstrap,
            "n_refits": options.refits,
            "random_state": options.seeds[0],
            "controls": options.controls,
            "harmonizers": options.harmonizers,
            **more,
        },
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["curve", "nothing", "confounded", "folder"], required=True)
    parser.add_argument("--task", choices=list(REFERENCE), default="pneumonia")
    parser.add_argument("--data", type=Path, help="folder with labels.csv, for --part folder")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="one seed, or the first and the one behind the last"
    )
    parser.add_argument("--patients", type=int, default=80, help="of each scanner")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--permutations", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--refits", type=int, default=100)
    parser.add_argument("--confounded", action="store_true", help="unlike shares of the classes, for --part nothing")
    parser.add_argument("--harmonizers", nargs="+", help="names as in compare; the audit's own five by default")
    parser.add_argument("--no-controls", dest="controls", action="store_false")
    parser.add_argument("--out", help="name of the table; audit_<part> by default")
    options = parser.parse_args(arguments)
    if len(options.seeds) == 1:
        options.seeds = [options.seeds[0], options.seeds[0] + 1]
    command = shlex.join(["python", *sys.argv] if arguments is None else ["audit_checks.py", *arguments])
    if options.part == "nothing":
        print(shares(nothing(options, command)).to_string(index=False))
        return
    if options.part == "folder" and options.data is None:
        parser.error("--part folder needs --data DIR")
    table = {"curve": known_curve, "confounded": confounded, "folder": folder}[options.part](options)
    write_result(RESULTS / f"{options.out or f'audit_{options.part}'}.csv", table, command)
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
