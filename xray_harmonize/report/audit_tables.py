"""From the tidy tables of an audit to those that are read: a row a harmonizer, a column a question."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from xray_harmonize.evaluation.compared import ALL
from xray_harmonize.report.tables import BASELINE, Estimate

# Name, what it is in a few words, digits behind the point. The audit's own names stand for measures not listed.
_MEASURES = {
    "probe": ("Probe", "balanced accuracy", 2),
    "probe_recall": ("Probe", "share told rightly", 2),
    "mmd2": ("MMD²", "features", 3),
    "kid": ("KID", "features", 2),
    "fid": ("FID", "features", 1),
    "wasserstein": ("Wasserstein", "grey values", 3),
    "silhouette_scanner": ("Silhouette", "by scanner", 2),
    "variance_scanner": ("Variance", "explained by scanner", 3),
    "silhouette_label": ("Silhouette", "by label", 2),
    "variance_label": ("Variance", "explained by label", 3),
    "edge agreement": ("Edges", "same place and direction", 3),
    "rank agreement": ("Ranks", "brighter stays brighter", 3),
    "structure agreement": ("Structure", "the image has it too", 3),
    "PSNR": ("PSNR", "to the truth, dB", 1),
    "SSIM": ("SSIM", "to the truth", 3),
    "PSNR to the input": ("PSNR", "to the input, dB", 1),
    "SSIM to the input": ("SSIM", "to the input", 3),
}
# Beyond this, figures stand for "the same image".
_SAME_IMAGE_DB = 100.0
_PSNR_SCALE, _SHARE_SCALE = (10.0, 50.0), (0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Whisker:
    """An interval as a small picture; places in percent of its width, NaN where there is nothing to draw.

    Parameters
    ----------
    low, value, high : float
        The interval and the figure.
    mark : float
        What to compare with: chance, zero, or what comes out where nothing differs.
    """

    low: float
    value: float
    high: float
    mark: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell: a figure, what else is known of it, and its picture."""

    estimate: Estimate
    note: str = ""
    whisker: Whisker | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """The heading of a column."""

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FigureTable:
    """A row a harmonizer.

    Parameters
    ----------
    spans : tuple of (Column, int)
        What several columns have in common, and over how many it stands; empty where there is nothing to say.
    columns : tuple of Column
    rows : tuple of (str, tuple of Figure)
        Harmonizer and a figure a column.
    """

    spans: tuple[tuple[Column, int], ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Figure, ...]], ...]


def number(cell: Any) -> float:
    """Give a number, NaN for what is none."""
    return math.nan if cell is None or pd.isna(cell) else float(cell)


def estimate_of(record: Mapping[Any, Any] | None, name: str = "value", **how: Any) -> Estimate:
    """Take a figure and its interval from a row: ``low`` and ``high`` of a value, else its name before them."""
    if record is None:
        return Estimate(**how)
    before = "" if name == "value" else f"{name}_"
    ends = (number(record.get(f"{before}low")), number(record.get(f"{before}high")))
    return Estimate(number(record.get(name)), *ends, **how)


def records_of(table: pd.DataFrame, *keys: str) -> dict[tuple[str, ...], dict[Any, Any]]:
    """Rows by the columns that tell them apart."""
    return {tuple(str(record[key]) for key in keys): record for record in table.to_dict("records")}


def with_whiskers(column: Sequence[tuple[Estimate, str, float]], limits: tuple[float, float] | None) -> list[Figure]:
    """Draw all figures of a column on one scale.

    Parameters
    ----------
    column : sequence of (Estimate, note, mark)
    limits : (float, float) or None
        Ends of the scale; None takes what is there. What lies beyond is drawn at the end.
    """
    numbers = [one for cell, _, mark in column for one in (cell.value, cell.low, cell.high, mark) if math.isfinite(one)]
    low, high = limits or (min(numbers, default=0.0), max(numbers, default=1.0))
    room = high - low if high > low else 1.0

    def place(value: float) -> float:
        return round(4 + 92 * min(max((value - low) / room, 0.0), 1.0), 1) if math.isfinite(value) else math.nan

    return [
        Figure(
            cell,
            note,
            Whisker(*map(place, (cell.low, cell.value, cell.high, mark))) if math.isfinite(cell.value) else None,
        )
        for cell, note, mark in column
    ]


def _assembled(
    names: Sequence[str],
    spans: Sequence[tuple[Column, int]],
    columns: Sequence[Column],
    figures: Sequence[Sequence[Figure]],
) -> FigureTable:
    """Turn columns of figures into rows."""
    rows = tuple((name, tuple(column[place] for column in figures)) for place, name in enumerate(names))
    return FigureTable(tuple(spans), tuple(columns), rows)


def p_text(p: float) -> str:
    """Write a p, or nothing where it is not known.

    Examples
    --------
    >>> p_text(0.0049), p_text(0.03), p_text(0.6213), p_text(float("nan"))
    ('p 0.005', 'p 0.030', 'p 0.62', '')
    """
    if not math.isfinite(p):
        return ""
    return f"p {p:.3f}" if p < 0.1 else f"p {p:.2f}"


def domain_table(domain: pd.DataFrame, names: Sequence[str]) -> FigureTable | None:
    """Distances over all scanners: those that should fall, then what should stay or rise.

    Parameters
    ----------
    domain : DataFrame
        Columns harmonizer, measure, scanner, value, low, high, p_value, null, better.
    names : sequence of str
        Harmonizers in the order to show.

    Returns
    -------
    FigureTable or None
        None where there is nothing to show.
    """
    whole = domain[domain["scanner"] == ALL] if len(domain) else domain
    if whole.empty:
        return None
    better = dict(zip(whole["measure"], whole["better"], strict=True))
    lower = [name for name in better if better[name] == "lower"]
    higher = [name for name in better if better[name] != "lower"]
    spans = [
        (Column("Between scanners", "lower is better"), len(lower)),
        (Column("Between labels", "higher is better"), len(higher)),
    ]
    measures = [*lower, *higher]
    return _assembled(
        names,
        [span for span in spans if span[1]],
        [_column(name) for name in measures],
        [domain_column(whole[whole["measure"] == name], name, names) for name in measures],
    )


def domain_by_scanner(
    domain: pd.DataFrame, names: Sequence[str], scanners: Sequence[str]
) -> list[tuple[str, FigureTable]]:
    """Distances scanner by scanner, a table a measure, each with its heading."""
    return _by_scanner(domain, names, scanners, domain_column)


def _by_scanner(
    table: pd.DataFrame,
    names: Sequence[str],
    scanners: Sequence[str],
    figures_of: Callable[[pd.DataFrame, str, Sequence[str]], list[Figure]],
) -> list[tuple[str, FigureTable]]:
    tables = []
    for measure in dict.fromkeys(table["measure"]) if len(table) else ():
        rows = table[table["measure"] == measure]
        there = [name for name in scanners if (rows["scanner"] == name).any()]
        figures = [figures_of(rows[rows["scanner"] == name], measure, names) for name in there]
        if figures:
            tables.append((heading_of(measure), _assembled(names, (), [Column(name) for name in there], figures)))
    return tables


def domain_column(rows: pd.DataFrame, measure: str, names: Sequence[str]) -> list[Figure]:
    """Figures of one measure, beside them p and what to expect where nothing differs."""
    records = records_of(rows, "harmonizer")
    cells = []
    for name in names:
        record = records.get((name,))
        cell = estimate_of(record, digits=digits_of(measure))
        cells.append((cell, p_text(number(record["p_value"])) if record else "", number((record or {}).get("null"))))
    return with_whiskers(cells, None)


def content_table(content: pd.DataFrame, names: Sequence[str]) -> FigureTable | None:
    """Say what became of the images, over all scanners: what should stay, then how much was changed."""
    whole = content[content["scanner"] == "all"] if len(content) else content
    if whole.empty:
        return None
    better = dict(zip(whole["measure"], whole["better"], strict=True))
    kept, changed = [name for name in better if better[name]], [name for name in better if not better[name]]
    spans = [
        (Column("Content kept", "higher is better"), len(kept)),
        (Column("How much was changed", "neither better nor worse"), len(changed)),
    ]
    measures = [*kept, *changed]
    return _assembled(
        names,
        [span for span in spans if span[1]],
        [_column(name) for name in measures],
        [_content_column(whole[whole["measure"] == name], name, names) for name in measures],
    )


def content_by_scanner(
    content: pd.DataFrame, names: Sequence[str], scanners: Sequence[str]
) -> list[tuple[str, FigureTable]]:
    """Say what became of the images of each scanner, a table a measure, each with its heading."""
    return _by_scanner(content, names, scanners, _content_column)


def _content_column(rows: pd.DataFrame, measure: str, names: Sequence[str]) -> list[Figure]:
    records = records_of(rows, "harmonizer")
    cells = []
    for name in names:
        cell = estimate_of(records.get((name,)), digits=digits_of(measure))
        if measure.startswith("PSNR") and cell.value >= _SAME_IMAGE_DB:
            # An infinite ratio, written as the largest: a number would pretend to be one.
            cells.append((Estimate(), "same image", math.nan))
        else:
            cells.append((cell, "", math.nan))
    return with_whiskers(cells, _limits(cells, _PSNR_SCALE if measure.startswith("PSNR") else _SHARE_SCALE))


def _limits(cells: Sequence[tuple[Estimate, str, float]], least: tuple[float, float]) -> tuple[float, float]:
    """Give the ends of a scale that holds everything and is no narrower than asked: else little looks like much."""
    ends = [one for cell, _, _ in cells for one in (cell.low, cell.value, cell.high) if math.isfinite(one)]
    return min([*ends, least[0]]), max([*ends, least[1]])


def task_table(task: pd.DataFrame | None, names: Sequence[str], scanners: Sequence[str]) -> FigureTable | None:
    """AUC on each scanner, and how it differs from doing nothing."""
    if task is None or task.empty:
        return None
    records = records_of(task, "harmonizer", "scanner")
    there = [scanner for scanner in scanners if any((name, scanner) in records for name in names)]
    spans, columns, figures = [], [], []
    for scanner in there:
        own = [records.get((name, scanner)) for name in names]
        counts = next((record for record in own if record is not None), {})
        spans.append((Column(scanner, _counts(counts)), 2))
        columns += [Column("AUC"), Column("Change", "to none")]
        aucs = [(estimate_of(record, "auc"), "", 0.5) for record in own]
        changes = [
            (Estimate(), "", math.nan) if name == BASELINE
            else (estimate_of(record, "difference", signed=True), "", 0.0)
            for name, record in zip(names, own, strict=True)
        ]  # fmt: skip
        figures += [with_whiskers(aucs, _auc_limits(task)), with_whiskers(changes, _change_limits(task))]
    return _assembled(names, spans, columns, figures)


def _auc_limits(task: pd.DataFrame) -> tuple[float, float]:
    lowest = min((number(one) for one in task["auc_low"] if pd.notna(one)), default=0.5)
    return min(lowest, 0.5), 1.0


def _change_limits(task: pd.DataFrame) -> tuple[float, float]:
    ends = pd.concat([task["difference_low"], task["difference_high"]]).abs()
    # Zero in the middle, and so wide that noise does not look like a result.
    reach = max(number(ends.max()) if ends.notna().any() else 0.0, 0.1)
    return -reach, reach


def _column(measure: str) -> Column:
    name, detail, _ = _MEASURES.get(measure, (measure, "", 3))
    return Column(name, detail)


def heading_of(measure: str) -> str:
    """How tables head a measure."""
    shown = _column(measure)
    return f"{shown.name}, {shown.detail}" if shown.detail else shown.name


def digits_of(measure: str) -> int:
    """How many digits behind the point tell something."""
    return _MEASURES.get(measure, ("", "", 3))[2]


def _counts(record: Mapping[Any, Any]) -> str:
    parts: Iterable[tuple[str, str]] = (("n_images", "images"), ("n_patients", "patients"))
    known = [f"{int(record[key])} {word}" for key, word in parts if key in record and not pd.isna(record[key])]
    return ", ".join(known)
