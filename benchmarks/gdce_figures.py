"""Pictures of the GDCE study, from its tables and from what was kept; every image in them is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from gdce_cohorts import CLEARVIEW, SENOGRAPH, SOURCES, Images, cropped
from gdce_parts import true_curve
from gdce_protocol import FixedTest, curves_of
from gdce_setting import FULL_RANGE, Setting
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xray_harmonize import ToneCurve, WindowClamp, make_cohort

INK, MUTED = "#222222", "#8a8a8a"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"


def figures_part(setting: Setting) -> None:
    """Draw all pictures whose tables are there."""
    setting.figures.mkdir(parents=True, exist_ok=True)
    confusion, scores = setting.read("main_confusion"), setting.read("main")
    if confusion is not None and scores is not None:
        for scanner, middle in ((SENOGRAPH, "display window"), (CLEARVIEW, "z-score")):
            rows = (FULL_RANGE, middle, "GDCE, image", "GDCE, scanner")
            figure = confusion_figure(confusion, scores, scanner, rows)
            save(setting, f"confusion_{scanner.removesuffix('-like')}", figure)
    ablation = setting.read("ablation")
    if ablation is not None:
        save(setting, "ablation", ablation_figure(ablation))
    images = setting.density(third=True)
    test = setting.fixed_test(images)
    save(setting, "pictures", pictures_figure(setting, test))
    save(setting, "curves", curves_figure(setting, images, test))
    save(setting, "failure", failure_figure(setting))


def save(setting: Setting, name: str, figure: Figure) -> None:
    """Write a picture and say where."""
    path = setting.figures / f"gdce_{name}.png"
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def confusion_figure(confusion: pd.DataFrame, scores: pd.DataFrame, scanner: str, rows: Sequence[str]) -> Figure:
    """Draw confusion matrices side by side, each row of which adds up to 1 (Figures 3 and 4 of the paper)."""
    figure = _figure(2.55 * len(rows) + 0.6, 3.35)
    panels = figure.subplots(1, len(rows), squeeze=False)[0]
    auc = scores[scores["scanner"] == scanner].set_index("harmonizer")["auc"]
    for panel, name in zip(panels, rows, strict=True):
        own = confusion[(confusion["scanner"] == scanner) & (confusion["harmonizer"] == name)]
        matrix = own.pivot(index="label", columns="predicted", values="share")
        title = "full range" if name == FULL_RANGE else name
        _cells(panel, matrix, f"{title}\nAUC {auc[name]:.2f}", (0, 1))
        panel.set_xlabel("predicted density", color=INK)
    panels[0].set_ylabel("true density", color=INK)
    return figure


def ablation_figure(table: pd.DataFrame) -> Figure:
    """Draw worst-group accuracy by layers and iterations, held out and tested (Figure 7 of the paper)."""
    figure = _figure(7.2, 3.3)
    panels = figure.subplots(1, 2)
    titles = ("held out of the training\n(densities B and C)", "test\n(densities A to D)")
    for panel, column, title in zip(panels, ("validation", "test"), titles, strict=True):
        matrix = table.pivot(index="n_layers", columns="n_iterations", values=column)
        _cells(panel, matrix, title, (0, 1))
        panel.set_xlabel("iterations N", color=INK)
    panels[0].set_ylabel("layers L", color=INK)
    return figure


def pictures_figure(setting: Setting, test: FixedTest) -> Figure:
    """Draw one body of the low-range scanner by several methods, and as the reference shows it (Figure 5)."""
    seed = setting.few_seeds[0]
    k = _number_of(test, SENOGRAPH, seed, "C")
    shown = make_cohort("density", [SENOGRAPH], max(4, k + 1), 3 * setting.size, random_state=7, reference="reference")
    one = shown.images[np.array([k])]
    (gdce,) = setting.rows(("GDCE, scanner",))
    harmonizer = test.learned(gdce, (SENOGRAPH,), seed)[0]
    columns = {
        "full range": one.unit(0),
        "display window": WindowClamp().fit(one).transform(one)[0],
        "GDCE, scanner": harmonizer.transform(one)[0],
        "the same body on the reference": shown.truth.unit(k),
    }
    figure = _figure(2.45 * len(columns), 2.9)
    for panel, (title, image) in zip(figure.subplots(1, len(columns)), columns.items(), strict=True):
        _picture(panel, image, title)
    return figure


def curves_figure(setting: Setting, images: Images, test: FixedTest) -> Figure:
    """Draw the curves learned by each method with the one nearest to the truth."""
    seed = setting.few_seeds[0]
    figure = _figure(9.4, 4.2)
    for panel, scanner in zip(figure.subplots(1, len(SOURCES)), SOURCES, strict=True):
        X = images.X[test.tested(scanner, seed)]
        used = float(max(np.quantile(X.unit(i), 0.999) for i in range(min(len(X), 20))))
        grid = np.linspace(0, min(1.0, 1.05 * used), 256)
        by_image, by_scanner, cdf = setting.rows(("GDCE, image", "GDCE, scanner", "CDF, scanner"))
        of_images = curves_of(test.learned(by_image, (scanner,), seed)[0], X[: min(len(X), 25)])
        for number, curve in enumerate(of_images):
            label = "GDCE, image: 25 images" if not number else None
            panel.plot(grid, curve(grid), color=MUTED, linewidth=0.7, alpha=0.6, label=label)
        for candidate, colour, style in ((by_scanner, BLUE, "-"), (cdf, GREEN, "-.")):
            (curve,) = curves_of(test.learned(candidate, (scanner,), seed)[0], X[:1])
            panel.plot(grid, curve(grid), color=colour, linestyle=style, linewidth=1.8, label=candidate.name)
        panel.plot(grid, true_curve(images, scanner)(grid), color=ORANGE, linestyle="--", linewidth=1.8, label="truth")
        panel.plot(grid, grid, color=INK, linewidth=0.6, linestyle=":")
        panel.set(xlim=(0, grid[-1]), ylim=(0, 1))
        panel.set_title(scanner, fontsize=11, color=INK)
        panel.set_xlabel("recorded, fraction of full scale", color=INK)
    figure.axes[0].set_ylabel("harmonized", color=INK)
    figure.axes[0].legend(frameon=False, fontsize=9)
    return figure


def failure_figure(setting: Setting) -> Figure:
    """Draw the test image that image-scope GDCE harms most where classes were absent (Figure 6)."""
    images = setting.density()
    test = setting.fixed_test(images, lacking=True)
    none, gdce = setting.rows((FULL_RANGE, "GDCE, image"))
    before = _right(test.predictions(none, (), CLEARVIEW, setting.seeds))
    after = _right(test.predictions(gdce, (CLEARVIEW,), CLEARVIEW, setting.seeds))
    fall = (before["right"] - after["right"]).to_numpy()
    worst = int(fall.argmax())
    seed, position = int(after["seed"].iloc[worst]), int(after["image"].iloc[worst])
    harmonizer = test.learned(gdce, (CLEARVIEW,), seed)[0]
    own = images.X[np.array([position])]
    (curve,) = curves_of(harmonizer, own)
    # The truth is another exposure of the same body, cropped by itself.
    truth = cropped(images.cohort.truth[np.array([position])]).unit(0)
    label = images.y[position]
    figure = _figure(10.4, 3.3)
    panels = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.25])
    _picture(panels[0], own.unit(0), f"as recorded\nP(density {label}) = {before['right'].iloc[worst]:.2f}")
    _picture(panels[1], curve(own.unit(0)), f"GDCE, image\nP(density {label}) = {after['right'].iloc[worst]:.2f}")
    _picture(panels[2], truth, "the same body\non the reference")
    _failure_curve(panels[3], curve, true_curve(images, CLEARVIEW))
    return figure


def _failure_curve(panel: Axes, curve: ToneCurve, true: ToneCurve) -> None:
    grid = np.linspace(0, 1, 256)
    panel.plot(grid, curve(grid), color=BLUE, linewidth=1.8, label="GDCE, this image")
    panel.plot(grid, true(grid), color=ORANGE, linestyle="--", linewidth=1.8, label="truth, the scanner")
    panel.plot(grid, grid, color=INK, linewidth=0.6, linestyle=":")
    panel.set(xlim=(0, 1), ylim=(0, 1))
    panel.set_xlabel("recorded", color=INK)
    panel.set_ylabel("harmonized", color=INK)
    panel.legend(frameon=False, fontsize=8)


def _right(predictions: pd.DataFrame) -> pd.DataFrame:
    """Give the predictions with the probability of the right class, images of a seed in order."""
    right = [row[f"proba_{row['label']}"] for _, row in predictions.iterrows()]
    table = predictions.assign(right=right, image=predictions["image"].astype(int))
    return table.sort_values(["seed", "image"], ignore_index=True)


def _number_of(test: FixedTest, scanner: str, seed: int, label: Any) -> int:
    """Which patient of a scanner, counted from 0, is the first of a class that tests."""
    first = np.flatnonzero(test.images.X.scanner == scanner)[0]
    tested = test.tested(scanner, seed)
    return int(tested[test.images.y[tested] == label][0] - first)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _cells(panel: Axes, matrix: pd.DataFrame, title: str, limits: tuple[float, float]) -> None:
    """Draw a matrix with its values in the cells."""
    values = matrix.to_numpy()
    panel.imshow(values, cmap="Blues", vmin=limits[0], vmax=limits[1])
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        colour = "white" if value > sum(limits) / 2 else INK
        panel.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=10)
    panel.set_xticks(range(values.shape[1]), matrix.columns)
    panel.set_yticks(range(values.shape[0]), matrix.index)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_title(title, fontsize=10.5, color=INK)


def _picture(panel: Axes, image: np.ndarray, title: str) -> None:
    panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize=10.5, color=INK)
