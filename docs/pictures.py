"""Draw the README's picture: one body on three scanners, as recorded and harmonized.

Run as ``python docs/pictures.py``; writes ``docs/images/problem.png``. Everything in it is simulated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from xray_harmonize import CDFMatching, ToneCurve, make_cohort

INK = "#222222"


def main() -> None:
    train = make_cohort("density", n_patients=40, size=128, random_state=1)
    shown = make_cohort("density", n_patients=4, size=320, random_state=11, paired=True)
    harmonizer = CDFMatching(reference=train.reference, scope="scanner").fit(train.images)
    scanners = [train.reference, "senograph-like", "clearview-like"]
    chosen = [int(np.flatnonzero(shown.images.scanner == name)[2]) for name in scanners]
    before = [shown.images.unit(i) for i in chosen]
    after = harmonizer.transform(shown.images[chosen])
    curves = harmonizer.tone_curves(shown.images[chosen])

    figure = Figure(figsize=(9.6, 4.9), layout="constrained", facecolor="white")
    axes = figure.subplots(2, 4, width_ratios=[1, 1, 1, 1.15])
    for column, name in enumerate(scanners):
        for row, image in enumerate([before[column], after[column]]):
            axes[row, column].imshow(image, cmap="gray", vmin=0, vmax=1)
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].set_title(name, fontsize=11, color=INK)
    axes[0, 0].set_ylabel("as recorded", fontsize=11, color=INK)
    axes[1, 0].set_ylabel("harmonized", fontsize=11, color=INK)
    styles = dict(zip(scanners, [("#888888", "-"), ("#0072b2", "-"), ("#d55e00", "--")], strict=True))
    for name, image in zip(scanners, before, strict=True):
        draw_histogram(axes[0, 3], image, name, styles[name])
    axes[0, 3].set_title("grey values of this body", fontsize=11, color=INK)
    draw_curves(axes[1, 3], dict(zip(scanners, curves, strict=True)), styles)
    path = Path(__file__).parent / "images" / "problem.png"
    figure.savefig(path, dpi=110)
    print(path)


def draw_histogram(axes, image: np.ndarray, name: str, style: tuple[str, str]) -> None:
    """Draw the density of the grey values above air."""
    density, edges = np.histogram(image[image > 0.02], bins=80, range=(0, 1), density=True)
    axes.plot((edges[:-1] + edges[1:]) / 2, np.sqrt(density), color=style[0], linestyle=style[1], label=name)
    axes.set(xlabel="fraction of full scale", yticks=[], xlim=(0, 1))
    axes.legend(frameon=False, fontsize=8)


def draw_curves(axes, curves: dict[str, ToneCurve], styles: dict[str, tuple[str, str]]) -> None:
    """Draw what the harmonizer does, one curve a scanner."""
    for name, curve in curves.items():
        curve.plot(axes, color=styles[name][0], linestyle=styles[name][1])
    axes.set_title("the curve that was learned", fontsize=11, color=INK)
    axes.set(xlabel="fraction of full scale", ylabel="harmonized")


if __name__ == "__main__":
    main()
