"""The page of an audit: one HTML file with a small script of its own, that asks for nothing and runs nothing else.

Everything that came from data passes through jinja2's escaping. A content security policy in the page names the one
style sheet and the one script by their hash, so that nothing else could run even if it came in; both are the same for
all audits and hold no data. Without the script, images stand side by side and all else is as it is.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from xray_harmonize.evaluation.compared import ALL
from xray_harmonize.evaluation.domain import MEASURES
from xray_harmonize.report.audit_plots import (
    LOW,
    N_COLOURS,
    PLANE,
    SQUARE,
    WIDE,
    curve_plots,
    embedding_plots,
    histogram_plots,
    label_series,
    scanner_series,
)
from xray_harmonize.report.audit_summary import control_groups, curve_rows, glance
from xray_harmonize.report.audit_tables import (
    content_by_scanner,
    content_table,
    domain_by_scanner,
    domain_table,
    heading_of,
    number,
    p_text,
    records_of,
    task_table,
)
from xray_harmonize.report.page import Panel, in_order, templates, write_page
from xray_harmonize.report.pictures import image_png
from xray_harmonize.report.tables import BASELINE, DASH

if TYPE_CHECKING:
    from xray_harmonize.auditing.result import AuditResult, Sample

__all__ = ["render_audit_page", "write_audit_page"]

# Of the audit's one question, whether scanners can be told apart.
_LEVEL = 0.05
# Images share about this many pixels, so that a page stays below 8 MB even where they are noise.
_PIXEL_BUDGET = 4_000_000
_SMALLEST_SIDE, _LARGEST_SIDE = 96, 512
_OVERVIEW = {"scanner": "Scanner", "n_images": "Images", "n_patients": "Patients"}
_SEVERITIES = {
    "stop": ("Stop", "Figures are wrong as they stand."),
    "look": ("Look", "Figures may be wrong."),
    "note": ("Note", "Good to know."),
}


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One image as it came and behind each harmonizer; None where there is none."""

    scanner: str
    name: str
    panels: tuple[tuple[str, Panel | None], ...]


def write_audit_page(result: AuditResult, path: str | Path) -> None:
    """Write an audit as one self-contained HTML file.

    Parameters
    ----------
    result : AuditResult
        What to show.
    path : str or Path
        File to write. It appears whole or not at all; an older one stays until then.

    Raises
    ------
    InvalidImageError
        If a sample image is not 2-D.

    See Also
    --------
    render_audit_page : the same as a string.
    """
    write_page(render_audit_page(result), path)


def render_audit_page(result: AuditResult) -> str:
    """Give an audit as one self-contained HTML page.

    Parameters
    ----------
    result : AuditResult
        What to show. Whatever is empty is left out.

    Returns
    -------
    str
        The same for the same result.

    Raises
    ------
    InvalidImageError
        As :func:`write_audit_page`.
    """
    environment = templates()
    style = environment.get_template("audit.css.j2").render(n_colours=N_COLOURS)
    script = environment.get_template("audit.js").render()
    names = in_order(result.harmonizers, BASELINE)
    scanners = scanner_series(result.scanners, result.reference)
    labels = label_series(result.embeddings["label"]) if len(result.embeddings) else []
    return environment.get_template("audit.html.j2").render(
        result=result,
        # Neither holds anything but what stands in the package.
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        names=names,
        scanners=scanners,
        labels=labels,
        stops=[one for one in result.cautions if one.severity == "stop"],
        others=[one for one in result.cautions if one.severity != "stop"],
        severities=_SEVERITIES,
        glance=glance(result.domain, result.task, result.content, result.controls, names, _LEVEL),
        samples=_samples(result.samples, result.reference),
        curves=curve_plots(result.tone_curves, names, scanners),
        curve_rows=curve_rows(result.curves, names),
        histograms=histogram_plots(result.histograms, names, scanners, _details(result.domain, "wasserstein")),
        embeddings=embedding_plots(result.embeddings, names, scanners, labels, _details(result.domain, "probe")),
        task=task_table(result.task, names, result.scanners),
        domain=domain_table(result.domain, names),
        domain_by_scanner=domain_by_scanner(result.domain, names, result.scanners),
        content=content_table(result.content, names),
        content_by_scanner=content_by_scanner(result.content, names, result.scanners),
        without_content=_without(result.content, names),
        controls=control_groups(result.controls),
        overview=_overview(result.overview),
        measures=_measures(result.domain),
        sizes={"square": SQUARE, "wide": WIDE, "low": LOW, "plane": PLANE},
        level=_LEVEL,
        baseline=BASELINE,
        dash=DASH,
    )


def _hash(content: str) -> str:
    """Name a style sheet or script as a content security policy does."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")


def _details(domain: pd.DataFrame, measure: str) -> dict[str, str]:
    """One figure over all scanners by harmonizer, as it stands beside a plot."""
    if domain.empty:
        return {}
    word = {"probe": "probe {:.2f}", "wasserstein": "Wasserstein {:.3f}"}[measure]
    rows = records_of(domain[(domain["measure"] == measure) & (domain["scanner"] == ALL)], "harmonizer")
    found = {}
    for (name,), record in rows.items():
        value, p = number(record["value"]), p_text(number(record["p_value"]))
        if np.isfinite(value):
            found[name] = word.format(value) + (f", {p}" if p and measure == "probe" else "")
    return found


def _without(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    there = set(table["harmonizer"]) if len(table) else set(names)
    return [name for name in names if name not in there]


def _measures(domain: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Explain the measures that are shown: name in the tables, heading, words."""
    shown = list(dict.fromkeys(domain["measure"])) if len(domain) else []
    return [(name, heading_of(name), MEASURES[name][0]) for name in shown if name in MEASURES]


def _overview(overview: pd.DataFrame) -> dict[str, Any] | None:
    """Give the table of scanners, its totals, and how it is headed."""
    if overview.empty:
        return None
    columns = [str(name) for name in overview.columns]
    rows = [[_count(cell) for cell in row] for row in overview.itertuples(index=False)]
    return {
        "headings": [_OVERVIEW.get(name, name) for name in columns],
        "n_known": sum(name in _OVERVIEW for name in columns),
        "rows": rows,
        "n_images": int(overview["n_images"].sum()),
        "n_patients": int(overview["n_patients"].sum()),
    }


def _count(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, int | float | np.number) and np.isfinite(cell) else str(cell)


def _samples(samples: Sequence[Sample], reference: str) -> dict[str, Any] | None:
    """Images in rows, small enough that all of them fit into the page."""
    if not samples:
        return None
    columns = in_order((name for sample in samples for name in sample.images), BASELINE)
    n_images = sum(len(sample.images) for sample in samples)
    side = int(min(_LARGEST_SIDE, max(_SMALLEST_SIDE, (_PIXEL_BUDGET / max(n_images, 1)) ** 0.5)))
    rows = []
    for sample in samples:
        panels = tuple((name, _panel(sample, sample.images, name, side)) for name in columns)
        rows.append(SampleRow(sample.scanner, sample.name, panels))
    # The first to see is one that is to change much: not the reference's.
    first = next((place for place, row in enumerate(rows) if row.scanner != reference), 0)
    return {"columns": columns, "rows": rows, "first": first, "has_baseline": BASELINE in columns}


def _panel(sample: Sample, images: Mapping[str, np.ndarray], name: str, side: int) -> Panel | None:
    if name not in images:
        return None
    picture = image_png(images[name], side, name=f"The image of sample {sample.name!r} for {name!r}")
    how = "as it came" if name == BASELINE else f"after {name}"
    return Panel(*picture, f"{sample.name} of scanner {sample.scanner}, {how}")
