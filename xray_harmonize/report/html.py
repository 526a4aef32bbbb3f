"""The report: one HTML file without scripts, requests or fonts of its own, that opens anywhere and for years.

Everything that came from data passes through jinja2's escaping, and a content security policy in the page forbids
scripts and requests besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xray_harmonize.report.densities import histogram_top, mean_grey
from xray_harmonize.report.page import Panel, in_order, templates, write_page
from xray_harmonize.report.pictures import MAX_IMAGE_SIDE, image_png
from xray_harmonize.report.plots import MAX_CURVES, auc_plot, histogram_panel, tone_curve_panel
from xray_harmonize.report.tables import BASELINE, CHOSEN, DASH, WORST, all_figures, check_summary, comparison_table
from xray_harmonize.report.tone_words import curves_in_words
from xray_harmonize.tone import ToneCurve

__all__ = ["ReportData", "Sample", "render_report", "write_report"]

# Sample images share about this many pixels, and tone curves this many lines, so that the file stays below 5 MB with
# twenty harmonizers on five scanners.
_PIXEL_BUDGET = 1_700_000
_SMALLEST_SIDE = 96
_LINE_BUDGET = 2000
_FEWEST_LINES = 8

PROTOCOL_NAMES = {
    "fixed": "Fixed classifier",
    "fixed classifier": "Fixed classifier",
    "loso": "Leave one scanner out",
    "leave one scanner out": "Leave one scanner out",
}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image as every harmonizer renders it.

    Parameters
    ----------
    scanner : str
        Which scanner made it.
    name : str
        What the report calls it.
    images : mapping of str to ndarray of float of shape (height, width)
        One image in [0, 1] a harmonizer, in the order to show; ``"none"`` is the image as recorded.
    """

    scanner: str
    name: str
    images: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """What a report is made of. Whatever is left empty is left out.

    Parameters
    ----------
    title : str
        Heading.
    reference : str
        Label of the reference scanner.
    protocols : list of str
        In the order to show; ``"fixed"`` and ``"loso"`` are explained in the report.
    classes : list of str
        What the classifier tells apart.
    summary : DataFrame
        One row a protocol, harmonizer and scanner (``"worst"``: the worst over the source scanners), with columns sees,
        auc, difference (to ``"none"``) and ``_low`` and ``_high`` of both; counts and other metrics where there are.
    samples : list of Sample
        Only images that may be shown: the report holds their pixels.
    curves : dict of dict of list of ToneCurve
        By harmonizer, then scanner: one curve an image.
    histograms : dict of dict of ndarray of float of shape (n_bins,)
        By harmonizer, then scanner: density of grey values over equal bins from black to white.
    verdict : list of str
        The result in sentences, the most important one first.
    warnings, notes : list of str
        What endangers the result; what else a reader should know.
    command : str
        What made the report.
    versions : dict of str
        Package name to version.
    confidence : float, default=0.95
        Level of the intervals in the summary.
    """

    title: str
    reference: str
    protocols: list[str]
    classes: list[str]
    summary: pd.DataFrame
    samples: list[Sample] = field(default_factory=list)
    curves: dict[str, dict[str, list[ToneCurve]]] = field(default_factory=dict)
    histograms: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    verdict: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class PanelRow:
    """One row of such a grid; None where there is nothing to show."""

    heading: str
    detail: str
    panels: list[Panel | None]


def write_report(data: ReportData, path: str | Path) -> None:
    """Write a comparison as one self-contained HTML file.

    Parameters
    ----------
    data : ReportData
        What to show.
    path : str or Path
        File to write. It appears whole or not at all; an older one stays until then.

    Raises
    ------
    InvalidParameterError
        If the summary lacks columns or repeats a row.
    InvalidImageError
        If a sample image is not 2-D.

    See Also
    --------
    render_report : the same as a string.

    Examples
    --------
    >>> import tempfile, pandas as pd
    >>> from pathlib import Path
    >>> summary = pd.DataFrame({"protocol": "fixed", "harmonizer": ["none", "CDF"], "sees": "nothing", "scanner": "B",
    ...     "auc": [0.6, 0.8], "auc_low": 0.5, "auc_high": 0.9,
    ...     "difference": [0.0, 0.2], "difference_low": [0.0, 0.1], "difference_high": [0.0, 0.3]})
    >>> data = ReportData("Two scanners", reference="A", protocols=["fixed"], classes=["no", "yes"], summary=summary)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(data, Path(folder) / "report.html")
    ...     (Path(folder) / "report.html").read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    write_page(render_report(data), path)


def render_report(data: ReportData) -> str:
    """Give a comparison as one self-contained HTML page.

    Parameters
    ----------
    data : ReportData
        What to show.

    Returns
    -------
    str

    Raises
    ------
    InvalidParameterError, InvalidImageError
        As :func:`write_report`.
    """
    summary = check_summary(data.summary)
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            data=data,
            results=[found for protocol in data.protocols if (found := _results(data, summary, protocol)) is not None],
            samples=_grid(*_samples(data)),
            curves=_grid(*_curves(data)),
            max_curves=_max_curves(data),
            histograms=_grid(*_histograms(data)),
            level=f"{data.confidence * 100:g} %",
            dash=DASH,
            worst=WORST,
            baseline=BASELINE,
            chosen=CHOSEN,
            harmonizers=set(summary["harmonizer"]),
        )
    )


def _results(data: ReportData, summary: pd.DataFrame, protocol: str) -> dict[str, Any] | None:
    """Everything the template needs on one protocol."""
    table = comparison_table(summary, protocol, data.reference)
    if table is None:
        return None
    cells = [cell for row in table.rows for cell in row.auc.values()]
    plots = {}
    if any(np.isfinite(cell.value) for cell in cells):
        for scheme in ("light", "dark"):
            src, width, height = auc_plot(table, confidence=data.confidence, dark=scheme == "dark")
            plots[scheme] = Panel(src, width, height, _auc_alt(len(table.rows), [_column(c) for c in table.columns]))
    headings, blocks = all_figures(summary, table)
    name = PROTOCOL_NAMES.get(protocol.lower(), protocol)
    return {"name": name, "table": table, "plots": plots, "headings": headings, "blocks": blocks}


def _auc_alt(n_rows: int, columns: Sequence[str]) -> str:
    rows = "one harmonizer" if n_rows == 1 else f"{n_rows} harmonizers"
    return f"AUC with intervals of {rows}, one panel each for {', '.join(columns)}. The table above holds the figures."


def _column(name: str) -> str:
    return "the worst scanner" if name == WORST else name


def _grid(columns: list[str], rows: list[PanelRow]) -> dict[str, Any] | None:
    """Leave out rows without a picture, and the whole grid if none is left."""
    filled = [row for row in rows if any(row.panels)]
    return {"columns": columns, "rows": filled} if filled else None


def _samples(data: ReportData) -> tuple[list[str], list[PanelRow]]:
    columns = in_order((name for sample in data.samples for name in sample.images), BASELINE)
    n_images = sum(len(sample.images) for sample in data.samples)
    side = int(min(MAX_IMAGE_SIDE, max(_SMALLEST_SIDE, (_PIXEL_BUDGET / max(n_images, 1)) ** 0.5)))
    rows = [PanelRow(sample.scanner, sample.name, _sample_row(sample, columns, side)) for sample in data.samples]
    return columns, rows


def _sample_row(sample: Sample, columns: Sequence[str], side: int) -> list[Panel | None]:
    panels: list[Panel | None] = []
    for column in columns:
        if column not in sample.images:
            panels.append(None)
            continue
        image = image_png(sample.images[column], side, name=f"The image of sample {sample.name!r} for {column!r}")
        how = "as recorded" if column == BASELINE else f"after {column}"
        panels.append(Panel(*image, f"{sample.name} of scanner {sample.scanner}, {how}"))
    return panels


def _max_curves(data: ReportData) -> int:
    n_panels = sum(len(by_scanner) for by_scanner in data.curves.values())
    return min(MAX_CURVES, max(_FEWEST_LINES, _LINE_BUDGET // max(n_panels, 1)))


def _curves(data: ReportData) -> tuple[list[str], list[PanelRow]]:
    scanners = in_order((name for by_scanner in data.curves.values() for name in by_scanner), data.reference)
    rows = []
    for harmonizer, by_scanner in data.curves.items():
        panels: list[Panel | None] = []
        for scanner in scanners:
            curves = by_scanner.get(scanner)
            alt = f"Tone curves of {harmonizer} on {scanner}: {curves_in_words(curves)}" if curves else ""
            panels.append(Panel(*tone_curve_panel(curves, _max_curves(data)), alt) if curves else None)
        rows.append(PanelRow(harmonizer, "", panels))
    return scanners, rows


def _histograms(data: ReportData) -> tuple[list[str], list[PanelRow]]:
    scanners = in_order((name for by_scanner in data.histograms.values() for name in by_scanner), data.reference)
    before_all = data.histograms.get(BASELINE, {})
    rows = []
    for harmonizer in in_order(data.histograms, BASELINE):
        after_all = data.histograms[harmonizer]
        # A row has one scale, so that its scanners can be compared.
        limit = max((histogram_top(density) for density in [*after_all.values(), *before_all.values()]), default=None)
        target = after_all.get(data.reference)
        panels: list[Panel | None] = []
        for scanner in scanners:
            after = None if harmonizer == BASELINE else after_all.get(scanner)
            before = before_all.get(scanner)
            if (before if harmonizer == BASELINE else after) is None:
                panels.append(None)
                continue
            beside = None if scanner == data.reference else target
            alt = f"Grey values of {scanner}, {harmonizer}: {_means_in_words(before, after, beside)}"
            panels.append(Panel(*histogram_panel(before, after, beside, limit=limit), alt))
        rows.append(PanelRow(harmonizer, "", panels))
    return scanners, rows


def _means_in_words(before: np.ndarray | None, after: np.ndarray | None, reference: np.ndarray | None) -> str:
    named = (("before", before), ("after", after), ("reference", reference))
    means = [f"{mean_grey(density):.2f} {name}" for name, density in named if density is not None]
    return f"mean {', '.join(means)}"
