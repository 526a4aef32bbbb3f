"""Draw the guide's two decision figures, for light pages and for dark ones: which harmonizer, and which network.

Run as ``python docs/decision.py``; writes ``docs/images/which_harmonizer.svg``, ``which_network.svg`` and both again
with ``_dark``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

# Text stays text in the file, so that it can be read aloud, searched and zoomed; hashes do not change from run to run.
mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "xray_harmonize", "font.family": "sans-serif"})

WIDTH = 8.6  # at the width of a page, a point is a pixel


@dataclass(frozen=True)
class Palette:
    """Colours of one version; contrasts of text are at least 7 to 1."""

    ink: str
    line: str
    question: str
    answer: str
    edge: str


LIGHT = Palette(ink="#1a1a1a", line="#5a5a5a", question="#e8eef7", answer="#fdf3e1", edge="#8a94a6")
DARK = Palette(ink="#f2f2f2", line="#b5bcc8", question="#263449", answer="#46371b", edge="#7c8aa3")


def main() -> None:
    for name, draw, height in (("which_harmonizer", draw_harmonizers, 8.7), ("which_network", draw_networks, 6.5)):
        for palette, ending in ((LIGHT, ""), (DARK, "_dark")):
            path = Path(__file__).parent / "images" / f"{name}{ending}.svg"
            figure = Figure(figsize=(WIDTH, height))
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set(xlim=(0, WIDTH), ylim=(0, height))
            axes.axis("off")
            draw(axes, palette)
            figure.savefig(path, transparent=True, metadata={"Date": None})
            print(path)


def draw_harmonizers(axes: Axes, palette: Palette) -> None:
    """Draw questions down the left and answers beside them."""
    questions = [
        ("Are there 10 to 50 images\nof the scanner, unlabelled?", "no", "yes"),
        ("Is its range all that differs?\n(a histogram that is stretched)", "yes", "no: it is bent"),
        ("Does exposure vary from image\nto image, more than on the\nreference?", "yes", "no"),
        ("Do sharpness or local contrast\ndiffer as well?", "yes", "no"),
    ]
    answers = [
        (
            "MinMax((1, 99)), ZScore, MultiBand",
            "all they see is one image. A CDF curve an\nimage only where tone is not the finding",
        ),
        ("ZScore, MinMax((1, 99)), WindowClamp", "a line is enough, and costs nothing"),
        ('CDFMatching(scope="shrunk")', "a curve a scanner, corrected by image"),
        ("MultiBand, then CDFMatching", 'both with scope="scanner"; look at edges'),
    ]
    left, right, first, step = 1.85, 6.4, 6.85, 1.5
    box(axes, left, 8.2, 3.5, 0.85, "and look at a few images", palette.answer, palette, heading="CropForeground")
    arrow(axes, (left, 7.76), (left, 7.43), "", palette)
    for place, ((asked, aside, below), (name, why)) in enumerate(zip(questions, answers, strict=True)):
        y = first - place * step
        box(axes, left, y, 3.5, 1.1, asked, palette.question, palette)
        box(axes, right, y, 4.2, 1.1, why, palette.answer, palette, heading=name)
        arrow(axes, (left + 1.77, y), (right - 2.12, y), aside, palette)
        arrow(axes, (left, y - 0.57), (left, y - step + 0.57), below, palette)
    y = first - len(questions) * step
    box(axes, left, y, 3.5, 1.1, "one curve a scanner", palette.answer, palette, heading='CDFMatching(scope="scanner")')
    box(
        axes, right, y, 4.2, 1.1, "Compare GDCE with fine-tuning.\nAudit what you chose.", palette.question, palette,
        heading="Labels of the other scanners too?",
    )  # fmt: skip
    arrow(axes, (left + 1.77, y), (right - 2.12, y), "", palette)


def draw_networks(axes: Axes, palette: Palette) -> None:
    """Draw what there is to learn from side by side, and below each what learns from it and what it may do."""
    columns = [
        (
            "pairs of one body",
            "InterpretableMapping",
            ["a curve for each pixel, 10 s", "SupDCE 5 s, UNet 2 s,", "ResUNet 10 s"],
            ["edges between regions;", "U-Nets: anything, and blur"],
        ),
        (
            "the reference alone",
            "BlindHarmony",
            ["a search an image, 25 s", "or those on the left, with", "self-made pairs"],
            ["what is rare there is drawn", "towards what is common"],
        ),
        (
            "images of both, unpaired",
            "CycleGAN",
            ["makes the image anew, 12 s", "published: 200 passes", "on a GPU"],
            ["paints what the reference's", "patients have"],
        ),
    ]
    left, right, middle = 1.85, 6.4, WIDTH / 2
    box(axes, left, 5.9, 3.5, 0.9, "May pixels change otherwise\nthan by one curve?", palette.question, palette)
    box(
        axes, right, 5.9, 4.2, 0.9, "a curve that a network chooses, 10 and 22 s", palette.answer, palette,
        heading="The figure above; DLBC, LUT3D",
    )  # fmt: skip
    arrow(axes, (left + 1.77, 5.9), (right - 2.12, 5.9), "no", palette)
    for place, (there, name, how, may) in enumerate(columns):
        x, width = middle + (place - 1) * 2.82, 2.68
        box(axes, x, 4.55, width, 0.6, there, palette.question, palette)
        box(axes, x, 3.2, width, 1.3, "\n".join(how), palette.answer, palette, heading=name)
        box(axes, x, 1.75, width, 0.8, "\n".join(may), palette.question, palette)
        arrow(axes, (x, 5.15), (x, 4.87), "", palette)
        arrow(axes, (x, 4.23), (x, 3.87), "", palette)
        arrow(axes, (x, 2.53), (x, 2.17), "may do to content" if place == 0 else "", palette)
        arrow(axes, (x, 1.33), (x, 0.97), "", palette)
    axes.plot([middle - 2.82, middle + 2.82], [5.15, 5.15], color=palette.line, linewidth=1.6, solid_capstyle="round")
    axes.plot([left, left], [5.43, 5.15], color=palette.line, linewidth=1.6)
    axes.text(
        left + 0.12, 5.28, "yes: what is there to learn from?", ha="left", va="center", fontsize=12, style="italic",
        color=palette.ink,
    )  # fmt: skip
    box(
        axes, middle, 0.5, 8.32, 0.9, "structure agreement below .95: something was drawn. A curve has 1, always.",
        palette.answer, palette, heading="audit",
    )  # fmt: skip


def box(
    axes: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    text: str,
    fill: str,
    palette: Palette,
    heading: str = "",
) -> None:
    """Draw a box with its middle at (x, y)."""
    shape = FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=fill, edgecolor=palette.edge, linewidth=1.2,
    )  # fmt: skip
    axes.add_patch(shape)
    lines = [*([heading] if heading else []), *text.split("\n")]
    for place, line in enumerate(lines):
        is_heading = bool(heading) and place == 0
        axes.text(
            x, y + 0.25 * ((len(lines) - 1) / 2 - place), line, ha="center", va="center", color=palette.ink,
            fontsize=12.5 if is_heading else 12, weight="bold" if is_heading else "normal",
        )  # fmt: skip


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], label: str, palette: Palette) -> None:
    """Draw an arrow with its answer beside it."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": palette.line, "linewidth": 1.6})
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if start[1] == end[1]:
        axes.text(x, y + 0.08, label, ha="center", va="bottom", fontsize=12, style="italic", color=palette.ink)
    else:
        axes.text(x + 0.12, y, label, ha="left", va="center", fontsize=12, style="italic", color=palette.ink)


if __name__ == "__main__":
    main()
