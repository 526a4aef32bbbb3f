"""Pictures of the mapping study; every image in them is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mapping_bodies import BITS, Presentation
from mapping_longer import learn_longer
from mapping_parts import bodies_to_test, learn, rendering
from mapping_setting import MAPPING, NOTHING, Setting
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xray_harmonize import ImageSet
from xray_harmonize.geometry.resampling import resampled
from xray_harmonize.networks.mapping import MAPS

INK = "#222222"
COLUMNS = ("HM", "DLBC", "LUT3D", "SupDCE x8", "ResUNet x8", MAPPING)
# Pixels a side of a picture, and of the enlarged piece of the image with the finest detail.
_SHOWN, _PIECE = 320, 100


def figures_part(setting: Setting) -> None:
    """Draw bodies by every method, trained as long as in the part "longer", and the maps of one."""
    learned = {**learn(setting)[0], **learn_longer(setting)}
    rows = bodies_to_test(setting).rows
    # The first of each body part in the smallest size, and one of another size.
    chosen = [next(row for row in rows if row.body_part == part) for part in ("mammogram", "chest radiograph")]
    chosen.append(next(row for row in reversed(rows) if row.size < max(setting.test_sizes) or len(rows) == 8))
    setting.figures.mkdir(parents=True, exist_ok=True)
    for name, figure in (
        ("mapping_study", study_figure(chosen, learned)),
        ("mapping_maps", maps_figure(chosen[1], learned[MAPPING])),
    ):
        path = setting.figures / f"{name}.png"
        figure.savefig(path, dpi=110)
        print(f"wrote {path}")


def study_figure(chosen: Sequence[Presentation], learned: dict[str, Any]) -> Figure:
    """Draw test bodies by every method, and a piece of the last one enlarged (Figure 3 of the paper)."""
    titles = ("as it came", *COLUMNS, "target")
    figure = Figure(
        figsize=(1.62 * len(titles), 1.66 * (len(chosen) + 1) + 0.3), layout="constrained", facecolor="white"
    )
    panels = figure.subplots(len(chosen) + 1, len(titles))
    for row, across in zip(chosen, panels, strict=False):
        pictures = _pictures(row, learned)
        for panel, picture in zip(across, pictures, strict=True):
            _picture(panel, resampled(picture, (_SHOWN, _SHOWN)))
    piece = _piece(chosen[-1])
    for panel, picture in zip(panels[-1], pictures, strict=True):
        _picture(panel, picture[piece])
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=10, color=INK)
    for across, row in zip(panels, chosen, strict=False):
        across[0].set_ylabel(f"{row.body_part}\n{row.size} pixels", fontsize=9, color=INK)
    panels[-1][0].set_ylabel(f"the same,\n{piece[0].stop - piece[0].start} pixels of it", fontsize=9, color=INK)
    return figure


def maps_figure(row: Presentation, mapping: Any) -> Figure:
    """Draw the maps that were predicted for one body, and the true ones."""
    image = ImageSet([np.load(row.source)], bits_stored=BITS)
    truth = row.true_maps()
    predicted = [resampled(one, truth.shape[1:]) for one in mapping.maps(image)[0]]
    figure = Figure(figsize=(10.6, 4.3), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 5)
    pictures = (mapping.transform(image)[0], np.load(row.target) / (2**BITS - 1))
    for across, picture, title in zip(panels, pictures, ("mapped", "target"), strict=True):
        _picture(across[0], resampled(np.asarray(picture, dtype=np.float32), (_SHOWN, _SHOWN)))
        across[0].set_title(title, fontsize=10, color=INK)
    names = ("slope a", "bias b", "centre wc", "width ww")
    for k, name in enumerate(names[: len(MAPS)]):
        together = np.concatenate([predicted[k].ravel(), np.asarray(truth[k]).ravel()])
        limits = np.quantile(together, [0.005, 0.995])
        for across, shown, whose in ((panels[0], predicted[k], "predicted"), (panels[1], truth[k], "true")):
            panel = across[k + 1]
            drawn = panel.imshow(shown, cmap="viridis", vmin=limits[0], vmax=limits[1])
            panel.set(xticks=[], yticks=[])
            panel.set_title(f"{whose} {name}", fontsize=10, color=INK)
        figure.colorbar(drawn, ax=list(panels[:, k + 1]), shrink=0.7)
    return figure


def _pictures(row: Presentation, learned: dict[str, Any]) -> list[np.ndarray]:
    image = ImageSet([np.load(row.source)], bits_stored=BITS)
    rendered = [rendering(name, learned.get(name), image, row) for name in (NOTHING, *COLUMNS)]
    return [*rendered, np.load(row.target).astype(np.float32) / np.float32(2**BITS - 1)]


def _piece(row: Presentation) -> tuple[slice, slice]:
    """Give the square of the body with the most detail, away from its edge."""
    target = np.load(row.target).astype(np.float32)
    # Neither noise nor shading: what lies between.
    fine, coarse = (cv2.GaussianBlur(target, (0, 0), row.size / parts) for parts in (400, 100))
    target = fine - coarse
    body = np.load(row.body).astype(np.float32)
    side = min(_PIECE * row.size // 1000, row.size // 2)
    n = row.size // side
    squares = target[: n * side, : n * side].reshape(n, side, n, side)
    inside = body[: n * side, : n * side].reshape(n, side, n, side).min(axis=(1, 3)) > 0
    detail = np.where(inside, squares.std(axis=(1, 3)), -1)
    top, left = np.unravel_index(int(detail.argmax()), detail.shape)
    return slice(top * side, (top + 1) * side), slice(left * side, (left + 1) * side)


def _picture(panel: Axes, image: np.ndarray) -> None:
    panel.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
    panel.set(xticks=[], yticks=[])
