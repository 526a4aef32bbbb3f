"""Plots of an audit as numbers: paths and places that the page's template draws.

Nothing here is markup. The template writes the SVG into the page, where names are escaped as all text is, and where
colours are the page's own: a plot follows a reader into dark mode, forced colours and print.

A scanner has one colour and one shape all through the page, so that neither is needed to tell it from another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xray_harmonize.report.densities import histogram_top, mean_grey, rebinned
from xray_harmonize.report.tone_words import curves_in_words
from xray_harmonize.tone import ToneCurve

# Colours and shapes have no common divisor, so that as many series as their product differ in one of them.
N_COLOURS = 7
SHAPES = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",
    "M-2.9-2.9h5.8v5.8h-5.8z",
    "M0-3.8L3.6 2.6H-3.6z",
    "M0-4.1L3.5 0L0 4.1L-3.5 0z",
    "M-1.2-3.8h2.4v2.6h2.6v2.4h-2.6v2.6h-2.4v-2.6h-2.6v-2.4h2.6z",
    "M0 3.8L3.6-2.6H-3.6z",
    "M-3.8-1.7H3.8L0 3.8zM0-3.9L3.3 1.9H-3.3z",
    "M-3.6-1.7L-1.7-3.6L0-1.9L1.7-3.6L3.6-1.7L1.9 0L3.6 1.7L1.7 3.6L0 1.9L-1.7 3.6L-3.6 1.7L-1.9 0z",
)
_LABEL_SHAPE = 3
MOST_LABELS = 10

SQUARE = 200
"""Side of a plot of tone curves, in the units of its paths."""
WIDE, LOW = 260, 130
"""Width and height of a histogram."""
PLANE = 240
"""Side of a picture of features."""
_GRID = 65
_FEWEST_LINES, _LINE_BUDGET = 4, 400
# Points are drawn a few of every series at a time, so that the last series does not hide the others.
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Series:
    """A scanner or a class as it looks in every plot.

    Parameters
    ----------
    key : str
        Name of its marker, of letters and digits alone.
    name : str
    colour : str
        Class of the page's style that gives its colour.
    shape : str
        Path of its marker around 0.
    detail : str, default=""
        What the legend adds.
    """

    key: str
    name: str
    colour: str
    shape: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One path of a plot: how it looks (a class of the page's style), whose it is, and where it goes."""

    kind: str
    series: Series
    path: str


@dataclass(frozen=True, slots=True)
class Plot:
    """One small plot.

    Parameters
    ----------
    name, detail : str
        What it shows, in the heading above it.
    alt : str
        The same for readers who do not see it.
    layers : tuple of Layer
        From the back to the front.
    """

    name: str
    detail: str
    alt: str
    layers: tuple[Layer, ...]


def scanner_series(scanners: Sequence[str], reference: str) -> list[Series]:
    """Give every scanner its colour and shape."""
    return [
        Series(f"s{i}", name, f"s{i % N_COLOURS}", SHAPES[i % len(SHAPES)], "reference" if name == reference else "")
        for i, name in enumerate(scanners)
    ]


def label_series(labels: Iterable[object]) -> list[Series]:
    """Give every class a colour and a shape that no scanner of the first few has; many classes share the last."""
    known = sorted({str(label) for label in labels} - {""})
    shown = known if len(known) <= MOST_LABELS else [*known[: MOST_LABELS - 1], f"{len(known) - MOST_LABELS + 1} more"]
    return [
        Series(f"l{i}", name, f"l{i % N_COLOURS}", SHAPES[(i + _LABEL_SHAPE) % len(SHAPES)])
        for i, name in enumerate(shown)
    ]


def curve_plots(
    curves: Mapping[str, Mapping[str, Sequence[ToneCurve]]], names: Sequence[str], series: Sequence[Series]
) -> list[Plot]:
    """One square a harmonizer: a thin line an image, a thick one for the median of each scanner.

    Parameters
    ----------
    curves : mapping of mapping of sequence of ToneCurve
        By harmonizer, then scanner.
    names : sequence of str
        Harmonizers in the order to show; those without curves are left out.
    series : sequence of Series
        The scanners.

    Returns
    -------
    list of Plot
    """
    plots = []
    for name in names:
        own = [(one, list(curves.get(name, {}).get(one.name, ()))) for one in series]
        own = [(one, found) for one, found in own if found]
        if not own:
            continue
        n_lines = max(_FEWEST_LINES, _LINE_BUDGET // (len(own) * max(len(curves), 1)))
        thin, thick, marks = [], [], []
        for place, (one, found) in enumerate(own):
            values = np.stack([curve.table(_GRID) for curve in found])
            chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), n_lines)).round().astype(int))
            lines = "".join(_line(_across(_GRID, SQUARE), SQUARE * (1 - values[i])) for i in chosen)
            thin.append(Layer("thin", one, lines))
            median = SQUARE * (1 - np.median(values, axis=0))
            thick.append(Layer("thick", one, _line(_across(_GRID, SQUARE), median)))
            marks.append(Layer("marks", one, _marks(_across(_GRID, SQUARE), median, place, len(own))))
        words = "; ".join(f"on {one.name} {curves_in_words(found)}" for one, found in own)
        plots.append(Plot(name, "", f"Tone curves of {name}: {words}.", (*thin, *thick, *marks)))
    return plots


def histogram_plots(
    histograms: Mapping[str, Mapping[str, ArrayLike]],
    names: Sequence[str],
    series: Sequence[Series],
    details: Mapping[str, str],
) -> list[Plot]:
    """One plot a harmonizer: a line a scanner, the reference filled as well.

    Parameters
    ----------
    histograms : mapping of mapping of array-like
        By harmonizer, then scanner: density over equal bins from black to white.
    names : sequence of str
        Harmonizers in the order to show.
    series : sequence of Series
        The scanners, the reference first.
    details : mapping of str to str
        What stands beside a harmonizer's name.

    Returns
    -------
    list of Plot
    """
    plots = []
    for name in names:
        own = [(one, np.asarray(histograms[name][one.name])) for one in series if one.name in histograms.get(name, {})]
        if not own:
            continue
        top = max(histogram_top(density) for _, density in own)
        layers: list[Layer] = []
        marks: list[Layer] = []
        for place, (one, density) in enumerate(own):
            heights = np.minimum(rebinned(density) / top, 1.0)
            x = (np.arange(heights.size) + 0.5) / heights.size * WIDE
            y = LOW * (1 - heights)
            if one.detail:
                layers.append(Layer("filled", one, f"M{_number(x[0])} {LOW}L{_places(x, y)} {_number(x[-1])} {LOW}z"))
            layers.append(Layer("thick", one, _line(x, y)))
            marks.append(Layer("marks", one, _marks(x, y, place, len(own), n_marks=4)))
        means = ", ".join(f"{mean_grey(density):.2f} on {one.name}" for one, density in own)
        alt = f"Grey values, {name}: mean {means}."
        plots.append(Plot(name, details.get(name, ""), alt, (*layers, *marks)))
    return plots


def embedding_plots(
    embeddings: pd.DataFrame,
    names: Sequence[str],
    scanners: Sequence[Series],
    labels: Sequence[Series],
    details: Mapping[str, str],
) -> list[tuple[Plot, Plot | None]]:
    """One picture a harmonizer of all images by their features, coloured by scanner, and the same by label.

    Parameters
    ----------
    embeddings : DataFrame
        Columns harmonizer, x, y, scanner, label.
    names : sequence of str
        Harmonizers in the order to show.
    scanners, labels : sequence of Series
    details : mapping of str to str
        What stands beside a harmonizer's name.

    Returns
    -------
    list of (Plot, Plot or None)
        None without labels.
    """
    plots: list[tuple[Plot, Plot | None]] = []
    for name in names:
        own = embeddings[embeddings["harmonizer"] == name] if len(embeddings) else embeddings
        places = own[["x", "y"]].to_numpy(dtype=float) if len(own) else np.empty((0, 2))
        known = np.isfinite(places).all(axis=1)
        if not known.any():
            continue
        own, places = own[known], _within_plane(places[known])
        detail = details.get(name, "")
        by_scanner = _point_plot(name, detail, places, own["scanner"], "scanner", scanners)
        by_label = _point_plot(name, detail, places, own["label"], "label", labels) if labels else None
        plots.append((by_scanner, by_label))
    return plots


def _point_plot(
    name: str, detail: str, places: np.ndarray, values: pd.Series, word: str, series: Sequence[Series]
) -> Plot:
    member = _member(values.astype(str).to_numpy(), series)
    counts = ", ".join(f"{np.sum(member == i)} of {one.name}" for i, one in enumerate(series))
    alt = f"Images as points by their features, {name}, told apart by {word}: {counts}." + f" {detail}." * bool(detail)
    return Plot(name, detail, alt, _point_layers(places, member, series))


def _member(values: np.ndarray, series: Sequence[Series]) -> np.ndarray:
    """Tell which series each value is of; what has none of its own is of the last."""
    index = {one.name: i for i, one in enumerate(series)}
    return np.array([index.get(value, len(series) - 1) for value in values])


def _point_layers(places: np.ndarray, member: np.ndarray, series: Sequence[Series]) -> tuple[Layer, ...]:
    turn = np.random.default_rng(0).permutation(len(places)) % _ROUNDS
    layers = []
    for number in range(_ROUNDS):
        for i, one in enumerate(series):
            chosen = places[(turn == number) & (member == i)]
            if len(chosen):
                layers.append(Layer("marks", one, f"M{_places(chosen[:, 0], chosen[:, 1])}"))
    return tuple(layers)


def _within_plane(places: np.ndarray) -> np.ndarray:
    """Fit points into the picture; both directions have one scale, as distances do."""
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    reach = float(np.ptp(places, axis=0).max()) or 1.0
    scaled = (places - middle) / reach * (PLANE - 16)
    return np.column_stack([PLANE / 2 + scaled[:, 0], PLANE / 2 - scaled[:, 1]])


def _across(n: int, width: float) -> np.ndarray:
    return np.linspace(0, width, n)


def _marks(x: np.ndarray, y: np.ndarray, place: int, n_series: int, n_marks: int = 3) -> str:
    """Give a few points of a line; other series have theirs elsewhere, so that lines on each other are both seen."""
    shares = (np.arange(n_marks) + (place + 0.5) / n_series) / n_marks
    chosen = np.unique((shares * (len(x) - 1)).round().astype(int))
    return f"M{_places(x[chosen], y[chosen])}"


def _line(x: np.ndarray, y: np.ndarray) -> str:
    return f"M{_places(x, y)}"


def _places(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{_number(a)} {_number(b)}" for a, b in zip(x, y, strict=True))


def _number(value: float) -> str:
    """One decimal, and none where it is 0: a page holds thousands."""
    return f"{value:.1f}".removesuffix(".0")
