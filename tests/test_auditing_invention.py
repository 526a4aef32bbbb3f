"""The audit on a case made for it: everybody on the reference has a spot, and a pixel-wise method paints it into all.

The other scanner's images have none. A method that is a curve cannot put one there, one that makes every pixel anew
can; the audit is to name the second and never the first, without being told where to look.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from xray_harmonize import CDFMatching, CycleGAN, ImageSet, MinMax, Nyul, UNet, ZScore, audit
from xray_harmonize.evaluation.structure import STRUCTURE_KEPT, changes_structure
from xray_harmonize.harmonizers.base import Harmonizer

SIDE, N = 32, 12
SPOT, MIRRORED = (slice(10, 15), slice(6, 11)), (slice(10, 15), slice(21, 26))
CURVES = ("min-max", "z-score", "Nyul", "CDF, image", "CDF, scanner", "CDF, mixed")


class Painter(Harmonizer):
    """Puts the spot where the reference's patients have it, and does nothing else."""

    def __init__(self, reference=None):
        self.reference = reference

    def fit(self, X, y=None, *, scanner=None):
        home = X[X.scanner == self.reference]
        mean = np.mean([home.unit(i) for i in range(len(home))], axis=0)
        self.spot_ = np.clip(mean - mean[:, ::-1], 0, 1)
        return self

    def _render(self, radiograph):
        faint = radiograph.scanner != self.reference
        return np.clip(radiograph.pixels + faint * self.spot_, 0, 1).astype(np.float32)


def lungs(*, sick, gamma, seed):
    """Images of bodies that are about the same on the left and the right, but for the spot."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE + 0.5 / SIDE
    made = []
    for _ in range(N):
        down, wide = rng.uniform(-0.03, 0.03), rng.uniform(0.9, 1.1)
        image = 0.6 - 0.35 * wide * np.exp(-((np.abs(x - 0.5) - 0.25) ** 2) / 0.01 - (y - 0.45 - down) ** 2 / 0.06)
        image += 0.01 * rng.standard_normal(image.shape)
        if sick:
            image += 0.35 * np.exp(-((y - 0.4 - down) ** 2 + (x - 0.27) ** 2) / 0.01)
        made.append((np.clip(image, 0, 1) ** gamma).astype(np.float32))
    return made


def contrast(image):
    """How much brighter the place of the spot is than the same place on the other side."""
    return float(image[SPOT].mean() - image[MIRRORED].mean())


@pytest.fixture(scope="module")
def found():
    images = [*lungs(sick=True, gamma=1.0, seed=0), *lungs(sick=False, gamma=1.8, seed=1)]
    X = ImageSet(images, scanner=["ward"] * N + ["screening"] * N, patient=[f"p{i}" for i in range(2 * N)])
    gan = CycleGAN(
        n_features=6, n_blocks=1, identity_weight=0, lr=2e-3, max_steps=100, augment=False, random_state=0, device="cpu"
    )
    return audit(
        X,
        harmonizers={
            "min-max": MinMax(),
            "z-score": ZScore(),
            "Nyul": Nyul(),
            **{f"CDF, {scope}": CDFMatching(scope=scope) for scope in ("image", "scanner", "mixed")},
            "painter": Painter(),
            "MinMax, then painter": make_pipeline(MinMax(), Painter()),
            "CycleGAN": gan,
            "U-Net": UNet(max_steps=20, random_state=0, device="cpu"),
        },
        reference="ward",
        controls=False,
        show=list(range(N, 2 * N)),
        n_permutations=20,
        n_bootstrap=20,
        n_refits=20,
    )


def spots(found, name):
    return np.array([contrast(sample.images[name]) for sample in found.samples])


def test_the_case_is_one_nobody_tested_has_a_spot_and_the_pixelwise_methods_paint_one(found):
    assert np.abs(spots(found, "none")).max() < 0.05
    assert spots(found, "painter").mean() > 0.15
    assert spots(found, "CycleGAN").mean() > 0.05


@pytest.mark.parametrize("name", CURVES)
def test_no_curve_can_paint_it(found, name):
    assert np.abs(spots(found, name)).max() < 0.1


def test_structure_agreement_tells_painters_from_curves(found):
    kept = found.content[found.content["measure"] == "structure agreement"].set_index(["harmonizer", "scanner"])[
        "value"
    ]
    for name in ("none", *CURVES):
        for scanner in ("all", "ward", "screening"):
            assert kept[name, scanner] == pytest.approx(1, abs=1e-6)
    for name in ("painter", "MinMax, then painter", "CycleGAN"):
        assert kept[name, "screening"] < STRUCTURE_KEPT
    # Given the ward's own images, a painter that adds nothing there draws nothing there.
    assert kept["painter", "ward"] == 1
    assert {"painter", "MinMax, then painter", "CycleGAN"} <= set(changes_structure(found.content))


def test_the_verdict_names_those_that_draw_and_no_curve(found):
    (sentence,) = [one for one in found.conclusions if "structure" in one]
    assert "change structure: edges appear where the image has none" in sentence
    for name in ("painter", "MinMax, then painter", "CycleGAN"):
        assert f"{name} (" in sentence
    assert not any(f"{name} (" in sentence for name in CURVES)
    assert sentence in found.verdict()


def test_the_page_says_so_beside_the_method(found, tmp_path):
    page = " ".join(found.to_html(tmp_path / "audit.html").read_text(encoding="utf-8").split())
    glance = page[page.index('id="glance"') : page.index("</table>", page.index('id="glance"'))]
    rows = {name: glance[glance.index(f">{name}<") :].split("</tr>")[0] for name in ("CycleGAN", "painter", *CURVES)}
    assert "new structure" in rows["CycleGAN"]
    assert "new structure" in rows["painter"]
    assert not any("new structure" in rows[name] for name in CURVES)
    assert "change structure: edges appear where the image has none" in page
