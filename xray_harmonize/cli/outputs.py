"""What a comparison leaves behind: tables, report, and a pipeline to deploy."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import joblib
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.pipeline import Pipeline

from xray_harmonize import __version__
from xray_harmonize.atomic import replacing
from xray_harmonize.evaluation.candidates import BASELINE, LABELLED, NOTHING, SEES, UNLABELLED, Candidate
from xray_harmonize.evaluation.deployment import Deployment
from xray_harmonize.evaluation.scores import WORST
from xray_harmonize.evaluation.study import PROTOCOLS, Study
from xray_harmonize.evaluation.summary import CHOSEN, choose, chosen_elsewhere, seed_results, summarize
from xray_harmonize.evaluation.verdict import headline, verdict
from xray_harmonize.persistence import save
from xray_harmonize.report.html import ReportData, write_report
from xray_harmonize.report.illustrations import Illustrator

# So many candidates fit beside each other in a report.
MAX_ILLUSTRATED = 8


def write_outputs(
    study: Study,
    predictions: pd.DataFrame,
    out: Path,
    *,
    command: str,
    shown_positions: list[int],
    warned: list[str],
    n_bootstrap: int,
    console: Console,
) -> None:
    """Write the tables, the report and the best pipeline; print the table and where everything is.

    Parameters
    ----------
    study : Study
    predictions : DataFrame
        As ``study.run`` gives.
    out : path
        Folder, made if absent.
    command : str
        What was typed, for the report.
    shown_positions : list of int
        Images that the report shows.
    warned : list of str
        Warnings that came up on the way.
    n_bootstrap : int
    console : Console
        Where the table is printed.
    """
    parts, chosen_by_protocol = [predictions], {}
    for protocol, part in predictions.groupby("protocol", sort=False):
        honest, chosen_by_protocol[protocol] = chosen_elsewhere(part, study.reference)
        parts.append(honest)
    everything = pd.concat(parts, ignore_index=True)
    summary = summarize(everything, study.reference, n_bootstrap=n_bootstrap)
    for name, table in [
        ("predictions", predictions),
        ("results", seed_results(predictions)),
        ("summary", summary),
    ]:
        with replacing(out / f"{name}.csv") as stream:
            table.to_csv(stream, index=False, float_format="%.6g")
    words = []
    for protocol, part in summary.groupby("protocol", sort=False):
        words.append(headline(part, study.reference, str(protocol)))
        words += verdict(part, study.reference, chosen_by_protocol[protocol])
    best = _best(study, predictions)
    # The report shows what the same fits do to images.
    deployment = Deployment(
        study.X,
        study.y,
        protocol=PROTOCOLS[study.protocols[0]],
        classifier=study.classifier,
        reference=study.reference,
        seed=study.seeds[0],
    )
    _write_pipeline(deployment.pipeline(best), out)
    words.append(_saved(best, study))
    write_report(_report(study, deployment, summary, words, command, shown_positions, warned), out / "report.html")
    _print(summary, study, words, console)
    tables = ("summary.csv", "results.csv", "predictions.csv")
    for name in ("report.html", *tables, "best_pipeline.npz", "best_pipeline.joblib"):
        console.print(f"{out / name}", markup=False, soft_wrap=True)


def _best(study: Study, predictions: pd.DataFrame) -> Candidate:
    deployable = {candidate.name: candidate for candidate in study.candidates if candidate.serves_every_scanner}
    first = predictions[predictions["protocol"] == PROTOCOLS[study.protocols[0]]]
    first = first[first["harmonizer"].isin(list(deployable))]
    scanners = [name for name in first["scanner"].unique() if name != study.reference]
    return deployable[choose(first, scanners)]


def _saved(best: Candidate, study: Study) -> str:
    sees = best.sees_under(PROTOCOLS[study.protocols[0]])
    learned = "" if sees == NOTHING else f" It has learned from {sees} of every scanner."
    return (
        f"The pipeline of '{best.name}', which has the highest mean AUC over the scanners other than "
        f"{study.reference}, is saved for deployment.{learned}"
    )


def _write_pipeline(pipeline: Pipeline, out: Path) -> None:
    save(pipeline, out / "best_pipeline.npz")
    with replacing(out / "best_pipeline.joblib", "wb") as stream:
        joblib.dump(pipeline, stream)


def _report(
    study: Study,
    deployment: Deployment,
    summary: pd.DataFrame,
    words: list[str],
    command: str,
    shown_positions: list[int],
    warned: list[str],
) -> ReportData:
    harmonizing = [candidate for candidate in study.candidates if candidate.steps or candidate.geometry]
    baseline = [candidate for candidate in study.candidates if candidate.name == BASELINE]
    illustrated = [*baseline, *_most_telling(harmonizing, summary)]
    illustrator = Illustrator(study.X, study.reference, learned=deployment.harmonizer)
    names = ("numpy", "scipy", "scikit-learn", "opencv-python-headless", "torch", "monai")
    return ReportData(
        title="Harmonizers compared",
        reference=study.reference,
        protocols=[PROTOCOLS[name] for name in study.protocols],
        classes=sorted({str(label) for label in study.y}),
        summary=summary,
        samples=illustrator.samples(illustrated, shown_positions),
        curves=illustrator.tone_curves(illustrated[1:]),
        histograms=illustrator.histograms(illustrated),
        verdict=words,
        warnings=[*_warnings(study, summary), *warned],
        notes=_notes(study),
        command=command,
        versions={"xray_harmonize": __version__, "Python": platform.python_version()}
        | {name: version(name) for name in names},
    )


def _most_telling(candidates: list[Candidate], summary: pd.DataFrame) -> list[Candidate]:
    """Give those with the highest figure on the worst scanner, in the order of the table."""
    worst = summary[summary["scanner"] == WORST].drop_duplicates("harmonizer").set_index("harmonizer")["auc"]
    ranked = sorted(candidates, key=lambda candidate: -worst.get(candidate.name, 0.0))[: MAX_ILLUSTRATED - 1]
    return [candidate for candidate in candidates if candidate in ranked]


def _warnings(study: Study, summary: pd.DataFrame) -> list[str]:
    warnings = []
    if study.X.patient is None:
        warnings.append(
            "No patient column: every image was taken as a patient of its own. If patients have several images, they "
            "may be on both sides of a split, and the figures are too good."
        )
    small = summary[(summary["n_patients"] < 50) & (summary["scanner"] != WORST)]
    for scanner, n in small.groupby("scanner")["n_patients"].min().items():
        warnings.append(f"{scanner} has only {n} patients in the test: read the interval, not the figure.")
    n_methods = summary["harmonizer"].nunique()
    if n_methods > 5:
        warnings.append(
            f"{n_methods} methods on the same images: some intervals exclude zero by chance alone, about one in twenty "
            "where nothing helps."
        )
    return warnings


def _notes(study: Study) -> list[str]:
    notes = []
    if "fixed" in study.protocols:
        notes.append(
            f"Fixed classifier: trained on {study.reference} alone (after cropping, where a method crops) and then "
            "frozen; images of other scanners are harmonized and handed to it."
        )
    if "loso" in study.protocols:
        notes.append(
            "Leave one scanner out: harmonizer and classifier are fitted on all scanners but one and tested on that "
            f"one; {study.reference} is never left out."
        )
    notes += _notes_on_classes(study)
    notes.append(
        f"{len(study.seeds)} seed(s); figures are means over seeds, intervals are 95 % over resampled patients. "
        "Differences are paired: the same patients under both methods."
    )
    notes.append("This is no medical device; its figures say nothing about any patient.")
    return notes


def _notes_on_classes(study: Study) -> list[str]:
    """Say how methods learn from images of the test scanner, as far as some do."""
    notes = []
    seen = {one.sees_under(PROTOCOLS[protocol]) for one in study.candidates for protocol in study.protocols}
    if UNLABELLED in seen:
        notes.append(
            "Methods that see unlabelled images of the test scanner see those of other patients than they are tested "
            "on: they adapt on one half and are tested on the other, both ways."
        )
    if LABELLED in seen:
        notes.append(
            "Methods that see labelled images of the test scanner learn from one half of its patients and the "
            "reference's training images, and are tested on the other half, both ways. On the reference itself they "
            "are tested after learning from the labelled images of all other scanners at once."
        )
    if "loso" in study.protocols and any(one.sees == LABELLED for one in study.candidates):
        notes.append(
            "Where a scanner is left out, nobody sees its labels: methods that learn from labels learn from those of "
            "the training scanners, and stand where what they see of the left-out scanner puts them."
        )
        undefined = [one.name for one in study.candidates if not one.runs_under(PROTOCOLS["loso"])]
        if undefined:
            notes.append(f"Not compared where a scanner is left out, for want of its labels: {', '.join(undefined)}.")
    return notes


def _print(summary: pd.DataFrame, study: Study, words: list[str], console: Console) -> None:
    scanners = [study.reference, *sorted(set(summary["scanner"]) - {study.reference, WORST}), WORST]
    for protocol, part in summary.groupby("protocol", sort=False):
        table = Table(title=f"AUC, {protocol}, {len(study.seeds)} seed(s), 95 % intervals over patients")
        table.add_column("harmonizer", overflow="fold")
        table.add_column("sees", overflow="fold")
        present = [name for name in scanners if name in set(part["scanner"])]
        for name in present:
            table.add_column(name, justify="right", overflow="fold", min_width=9)
        order = [candidate.name for candidate in study.candidates] + [CHOSEN]
        for sees in [name for name in SEES if name in set(part["sees"])]:
            rows = part[part["sees"] == sees]
            for harmonizer in [name for name in order if name in set(rows["harmonizer"])]:
                cells = rows[rows["harmonizer"] == harmonizer].set_index("scanner")
                table.add_row(harmonizer, sees, *(_cell(cells, name) for name in present))
            table.add_section()
        console.print(table)
    for sentence in words:
        console.print(sentence, markup=False)


def _cell(rows: pd.DataFrame, scanner: str) -> str:
    if scanner not in rows.index or pd.isna(rows.loc[scanner, "auc"]):
        return "–"
    row = rows.loc[scanner]
    if pd.isna(row["auc_low"]):
        return f"{row['auc']:.3f}"
    # The interval on a line of its own: narrow columns keep it whole.
    return f"{row['auc']:.3f}\n{row['auc_low']:.2f}–{row['auc_high']:.2f}"
