"""Plots of a comparison, each a function that gives an image as a data URI.

Figures are drawn on :class:`matplotlib.figure.Figure` alone, without pyplot: nothing is registered, nothing leaks.
One colour, one role, everywhere: grey is the image as recorded, blue the harmonized one, dashed orange the reference.
Blue and orange stay apart for colour-blind readers, and line style says the same again. All three keep a contrast of 3
to 1 on white and on near-black, so that a plot without text serves light and dark pages alike.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from xray_harmonize.report.densities import histogram_top, rebinned
from xray_harmonize.report.pictures import data_uri
from xray_harmonize.report.tables import WORST, ComparisonTable, Estimate, Row
from xray_harmonize.tone import ToneCurve

__all__ = ["auc_plot", "histogram_panel", "plot_label", "tone_curve_panel"]

BEFORE = "#868f99"
AFTER = "#2b85c8"
REFERENCE = "#d4700f"
_FRAME = "#9aa3ac"

MAX_CURVES = 40

_INK = {False: "#1c2126", True: "#e4e7ea"}
_MUTED = {False: "#59636e", True: "#a3adb7"}
_RULE = {False: "#e3e6e9", True: "#2c3238"}

# Text stays text in the SVG, so the reader's own fonts draw it, in every script.
_SVG_FONT = 'text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif !important}'
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "xray_harmonize",
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
}


@contextmanager
def _own_style() -> Iterator[None]:
    """Draw by the settings above and matplotlib's defaults, whatever the user's are, and leave those as they were."""
    with matplotlib.style.context(["default", _RC]):
        yield


def plot_label(text: str, max_length: int = 30) -> str:
    """Shorten a name to what fits in a plot, and replace what XML cannot hold.

    Parameters
    ----------
    text : str
        Any text, from a file or a user.
    max_length : int, default=30
        Longest label; the middle gives way, since names often differ at their end.

    Returns
    -------
    str

    Examples
    --------
    >>> plot_label("a very long name of a scanner in room 12", 21)
    'a very lon…in room 12'
    """
    clean = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    if len(clean) <= max_length:
        return clean
    head = max_length // 2
    return f"{clean[:head].rstrip()}…{clean[-(max_length - 1 - head) :].lstrip()}"


@_own_style()
def auc_plot(table: ComparisonTable, *, confidence: float = 0.95, dark: bool = False) -> tuple[str, int, int]:
    """Dots and whiskers: harmonizers as rows, scanners as panels on one scale.

    Parameters
    ----------
    table : ComparisonTable
        What to draw, in its order.
    confidence : float, default=0.95
        Level of the intervals, for the legend.
    dark : bool, default=False
        Whether the text is for a dark page. The background is transparent.

    Returns
    -------
    uri : str
        An SVG.
    width, height : int
        Its size in CSS pixels.
    """
    lines: list[Row | str] = []
    for group in table.groups:
        lines += [f"sees {group.sees}", *group.rows]
    # As wide as the longest name needs; a reader on a phone should see dots, not a margin.
    names = 0.4 + 0.078 * max(len(_row_label(line)) for line in lines)
    panel = min(2.9, (11.4 - names) / len(table.columns))
    width = names + panel * len(table.columns)
    row, top, bottom = 0.235, 0.62, 0.6
    height = top + row * len(lines) + bottom
    figure = Figure(figsize=(width, height))
    box = (bottom / height, row * len(lines) / height)
    _draw_names(figure.add_axes((0.0, box[0], names / width, box[1])), lines, dark)
    limits = _auc_limits(table)
    for number, column in enumerate(table.columns):
        left = names + panel * number
        axes = figure.add_axes((left / width, box[0], (panel - 0.16) / width, box[1]))
        _draw_panel(axes, table, lines, column, limits, dark)
        _draw_title(axes, table, column, int(panel * 72 / 6.4), dark)
    _draw_legend(figure, table, confidence, dark)
    return _svg_uri(figure), round(width * 96), round(height * 96)


def _row_label(line: Row | str) -> str:
    return plot_label(line if isinstance(line, str) else line.harmonizer, 32)


def _draw_names(axes: Axes, lines: Sequence[Row | str], dark: bool) -> None:
    axes.set(xlim=(0, 1), ylim=(len(lines) - 0.5, -0.5))
    axes.axis("off")
    for y, line in enumerate(lines):
        heading = isinstance(line, str)
        # parse_math=False: a dollar sign in a name is a dollar sign.
        axes.text(
            0.0 if heading else 0.04, y, _row_label(line),
            va="center", fontsize=8.2 if heading else 9, color=(_MUTED if heading else _INK)[dark],
            fontstyle="italic" if heading else "normal", parse_math=False,
            fontweight="bold" if isinstance(line, Row) and line.is_best else "normal",
        )  # fmt: skip


def _draw_panel(
    axes: Axes, table: ComparisonTable, lines: Sequence[Row | str], column: str, limits: tuple[float, float], dark: bool
) -> None:
    axes.set(xlim=limits, ylim=(len(lines) - 0.5, -0.5), facecolor="none", yticks=[])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FRAME)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    axes.tick_params(axis="x", colors=_MUTED[dark], labelsize=8, length=3, color=_FRAME)
    axes.grid(axis="x", color=_RULE[dark], linewidth=0.6)
    axes.set_axisbelow(True)
    if limits[0] < 0.5 < limits[1]:
        axes.axvline(0.5, color=_MUTED[dark], linewidth=0.7, linestyle=(0, (1, 2)), zorder=1)
    if table.baseline is not None and math.isfinite(table.baseline.auc[column].value):
        axes.axvline(table.baseline.auc[column].value, color=BEFORE, linewidth=1, zorder=2)
    if math.isfinite(table.reference_auc):
        axes.axvline(table.reference_auc, color=REFERENCE, linewidth=1, linestyle=(0, (4, 2.5)), zorder=2)
    for y, line in enumerate(lines):
        if not isinstance(line, str):
            axes.axhline(y, color=_RULE[dark], linewidth=0.6, zorder=0)
            _draw_whisker(axes, y, line.auc[column], line)


def _draw_whisker(axes: Axes, y: int, auc: Estimate, row: Row) -> None:
    if not math.isfinite(auc.value):
        return
    color = BEFORE if row.is_baseline else AFTER
    if auc.interval:
        axes.plot([auc.low, auc.high], [y, y], color=color, linewidth=1.5, solid_capstyle="butt", zorder=3)
    marker, size = ("D", 5.5) if row.is_best else ("o", 4.5)
    axes.plot(auc.value, y, linestyle="none", marker=marker, markersize=size, color=color, zorder=4)


def _auc_limits(table: ComparisonTable) -> tuple[float, float]:
    cells = [cell for row in table.rows for cell in row.auc.values()]
    numbers = [number for cell in cells for number in (cell.value, cell.low, cell.high) if math.isfinite(number)]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    # A scale that is too narrow makes noise look like a result.
    pad = max(0.03 * (high - low), (0.2 - (high - low)) / 2)
    return max(low - pad, -0.02), min(high + pad, 1.02)


def _draw_title(axes: Axes, table: ComparisonTable, column: str, n_letters: int, dark: bool) -> None:
    name = "Worst scanner" if column == WORST else plot_label(column, 500)
    wrapped = textwrap.wrap(name, n_letters, break_on_hyphens=False)
    if len(wrapped) > 2:
        wrapped = [wrapped[0], plot_label(" ".join(wrapped[1:]), n_letters)]
    axes.annotate(
        "\n".join(wrapped), (0, 1), xytext=(0, 16 if column == table.reference else 5), xycoords="axes fraction",
        textcoords="offset points", va="bottom", fontsize=9, color=_INK[dark], fontweight="bold", linespacing=1.15,
        parse_math=False, annotation_clip=False,
    )  # fmt: skip
    if column == table.reference:
        axes.annotate(
            "reference", (0, 1), xytext=(0, 5), xycoords="axes fraction", textcoords="offset points", va="bottom",
            fontsize=8.2, color=_MUTED[dark], annotation_clip=False,
        )  # fmt: skip


def _draw_legend(figure: Figure, table: ComparisonTable, confidence: float, dark: bool) -> None:
    whisker = Line2D([], [], color=AFTER, linewidth=1.5, marker="o", markersize=4.5)
    entries = [(f"AUC, {confidence * 100:g} % interval", whisker)]
    if any(row.is_best for row in table.rows):
        entries.append(("best of its class", Line2D([], [], color=AFTER, linewidth=0, marker="D", markersize=5.5)))
    if table.baseline is not None:
        entries.append(("no harmonizer", Line2D([], [], color=BEFORE, linewidth=1)))
    if math.isfinite(table.reference_auc):
        dashes = Line2D([], [], color=REFERENCE, linewidth=1, linestyle=(0, (4, 2.5)))
        entries.append(("reference scanner, no harmonizer", dashes))
    entries.append(("chance", Line2D([], [], color=_MUTED[dark], linewidth=0.7, linestyle=(0, (1, 2)))))
    figure.legend(
        [line for _, line in entries],
        [text for text, _ in entries],
        loc="lower left",
        bbox_to_anchor=(0, 0),
        ncols=len(entries),
        frameon=False,
        fontsize=8.2,
        labelcolor=_MUTED[dark],
        borderaxespad=0.2,
        columnspacing=1.6,
    )


@_own_style()
def tone_curve_panel(curves: Sequence[ToneCurve], max_lines: int = MAX_CURVES) -> tuple[str, int, int]:
    """One small square: a thin line an image, their median, and the dotted diagonal that changes nothing.

    Parameters
    ----------
    curves : sequence of ToneCurve
        At least one.
    max_lines : int, default=40
        Of more curves, this many evenly chosen ones get a line; the median is of all.

    Returns
    -------
    uri : str
        An SVG without text, legible on light and dark pages.
    width, height : int
        Its size in CSS pixels.
    """
    figure, axes = _panel(1.35, 1.35)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], color=BEFORE, linewidth=0.9, linestyle=(0, (1.5, 2)))
    grid = np.linspace(0, 1, 129)
    values = np.stack([curve.table(grid.size) for curve in curves])
    shown = values[np.unique(np.linspace(0, len(values) - 1, min(len(values), max_lines)).round().astype(int))]
    # Many lines add up to a surface, few must each be seen.
    strength = float(np.clip(6.0 / len(shown), 0.25, 0.6))
    lines = [np.column_stack([grid, line]) for line in shown]
    axes.add_collection(LineCollection(lines, colors=AFTER, linewidths=0.6, alpha=strength, capstyle="butt"))
    axes.plot(grid, np.median(values, axis=0), color=AFTER, linewidth=1.5)
    return _svg_uri(figure, has_text=False), 130, 130


@_own_style()
def histogram_panel(
    before: ArrayLike | None,
    after: ArrayLike | None,
    reference: ArrayLike | None = None,
    *,
    limit: float | None = None,
) -> tuple[str, int, int]:
    """One small histogram: before as a grey surface, after as a blue line, the reference as a dashed orange one.

    Parameters
    ----------
    before, after, reference : array-like of float of shape (n_bins,), optional
        Densities over equal bins from black to white.
    limit : float, optional
        Density at the top edge; what is higher is cut.

    Returns
    -------
    uri : str
        An SVG without text, legible on light and dark pages.
    width, height : int
        Its size in CSS pixels.
    """
    figure, axes = _panel(1.75, 1.0)
    drawn = [density for density in (before, after, reference) if density is not None]
    top = limit if limit is not None else max(map(histogram_top, drawn), default=1.0)
    axes.set(xlim=(0, 1), ylim=(0, max(top, 1e-12)))
    if before is not None:
        axes.fill_between(*_outline(before), color=BEFORE, alpha=0.45, linewidth=0)
    if reference is not None:
        axes.plot(*_outline(reference), color=REFERENCE, linewidth=1, linestyle=(0, (3, 2)))
    if after is not None:
        axes.plot(*_outline(after), color=AFTER, linewidth=1.2)
    return _svg_uri(figure, has_text=False), 168, 96


def _outline(density: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    heights = rebinned(density)
    middles = (np.arange(heights.size) + 0.5) / heights.size
    return np.concatenate([[0.0], middles, [1.0]]), np.concatenate([heights[:1], heights, heights[-1:]])


def _panel(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.008, 0.008, 0.984, 0.984))
    axes.axis("off")
    axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, color=_FRAME, linewidth=0.6))
    return figure, axes


def _svg_uri(figure: Figure, *, has_text: bool = True) -> str:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that matplotlib's own font lacks are measured wrongly, but drawn by the reader's browser.
        warnings.filterwarnings("ignore", message="(?s).*missing from (current )?font")
        # No date: same data, same bytes.
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = buffer.getvalue().decode("utf-8")
    svg = svg.replace("</style>", _SVG_FONT + "</style>", 1) if has_text else _coarse(svg)
    return data_uri("image/svg+xml", svg.encode("utf-8"))


def _coarse(svg: str) -> str:
    """Keep one decimal of a point in paths and drop line breaks: half the size, and nobody can see it."""
    paths = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+|\s*\n", r"\1", path[0]), svg)
    return re.sub(r"\n\s*", " ", paths)
