"""What a fitted harmonizer shows of itself in a notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import sklearn

import xray_harmonize
from xray_harmonize import GDCE, CDFMatching, FourierSwap, FullRange, ImageSet, MinMax, MultiBand, ToneCurve, load, save
from xray_harmonize.harmonizers.notebook import curves_svg, harmonizer_html, scanner_curves

RNG = np.random.default_rng(0)
BAD_NAME = "<script>alert(1)</script>"


def images(names=("A", "B")):
    pixels = RNG.random((2 * len(names), 16, 16)).astype(np.float32)
    return ImageSet(
        [image ** (1 + place // 2) for place, image in enumerate(pixels)], scanner=[n for n in names for _ in "12"]
    )


def svg_of(html):
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def lines_of(svg):
    return [path for path in svg.iter("{http://www.w3.org/2000/svg}path") if path.get("stroke", "").startswith("#")]


@pytest.mark.parametrize("scope", ["scanner", "mixed", "shrunk"])
def test_a_harmonizer_with_curves_by_scanner_draws_them(scope):
    fitted = CDFMatching(scope=scope, reference="A").fit(images())
    html = fitted._repr_html_()
    assert "Brings images to <b>A</b>. Has learned from A (2 images), B (2 images)." in html
    assert len(lines_of(svg_of(html))) == 4  # a curve and its key in the legend, for two scanners
    assert set(scanner_curves(fitted)) == {"A", "B"}


def test_curves_drawn_are_those_that_images_go_through():
    X = images()
    fitted = CDFMatching(scope="scanner", reference="A").fit(X)
    assert scanner_curves(fitted) == {"A": fitted.tone_curves(X)[0], "B": fitted.tone_curves(X)[2]}


def test_drawing_leaves_the_harmonizer_as_it_is():
    fitted = CDFMatching(scope="mixed", reference="A").fit(images())
    before = fitted.tone_curves(images())
    assert scanner_curves(fitted)["A"] is not None
    assert fitted.scope == "mixed"
    assert len(before) == 4


def test_a_harmonizer_with_a_curve_for_every_image_says_where_they_are():
    html = MinMax(output_range="reference", reference="B").fit(images())._repr_html_()
    assert "Brings images to <b>B</b>" in html
    assert "tone_curves(X)" in html
    assert "Tone curves of" not in html


@pytest.mark.parametrize("harmonizer", [FourierSwap(reference="A"), MultiBand(reference="A", scope="scanner")])
def test_a_harmonizer_without_curves_names_its_reference(harmonizer):
    html = harmonizer.fit(images())._repr_html_()
    assert "Brings images to <b>A</b>" in html
    assert "tone_curves" not in html.split("Brings images to")[1]


def test_learned_curves_are_drawn_by_scanner():
    fitted = GDCE(scope="scanner")
    fitted.reference_, fitted.scanners_ = "A", ["A", "B"]
    fitted.alpha_ = {"A": np.zeros(8), "B": np.full(8, 0.2)}
    html = harmonizer_html(fitted)
    assert "Has learned from A, B." in html
    assert len(lines_of(svg_of(html))) == 4


@pytest.mark.parametrize("harmonizer", [CDFMatching(), FullRange().fit(np.ones((1, 4, 4)))])
def test_what_has_learned_nothing_shows_what_scikit_learn_shows_alone(harmonizer):
    assert harmonizer_html(harmonizer) == ""
    assert "sk-top-container" in harmonizer._repr_html_()


def test_scikit_learns_own_picture_comes_first_in_both_ways_of_asking():
    fitted = CDFMatching(scope="scanner").fit(images())
    bundle = fitted._repr_mimebundle_()
    assert bundle["text/plain"] == repr(fitted)
    assert bundle["text/html"].index("sk-top-container") < bundle["text/html"].index("Brings images to")
    assert "Brings images to" in fitted._repr_html_()


def test_who_wants_text_alone_gets_it():
    fitted = CDFMatching(scope="scanner").fit(images())
    with sklearn.config_context(display="text"):
        assert set(fitted._repr_mimebundle_()) == {"text/plain"}
        assert not hasattr(fitted, "_repr_html_")


def test_a_loaded_harmonizer_shows_what_the_saved_one_did(tmp_path):
    fitted = CDFMatching(scope="scanner").fit(images())
    save(fitted, tmp_path / "model.npz")
    assert harmonizer_html(load(tmp_path / "model.npz")) == harmonizer_html(fitted)


def test_names_of_scanners_do_nothing():
    fitted = CDFMatching(scope="scanner", reference=BAD_NAME).fit(images((BAD_NAME, "B\x1b[31m" + "x" * 200)))
    html = harmonizer_html(fitted)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html
    assert "x" * 100 not in html
    svg_of(html)


def test_many_scanners_are_cut_short():
    names = tuple(f"scanner {place:02}" for place in range(15))
    html = harmonizer_html(CDFMatching(scope="scanner", reference=names[0]).fit(images(names)))
    assert "scanner 11 (2 images) and 3 more" in html
    assert len(lines_of(svg_of(html))) == 24


def test_a_drawing_has_a_title_and_takes_the_colours_of_its_page():
    svg = svg_of(curves_svg({"A": ToneCurve.identity(), "B": ToneCurve([0, 0.5], [0, 1])}))
    assert svg.get("role") == "img"
    assert svg[0].text == "Tone curves of A, B"
    assert svg.get("stroke") == "currentColor"


def test_drawing_needs_no_matplotlib():
    code = (
        "import sys, numpy as np, xray_harmonize as xh\n"
        "X = xh.ImageSet(np.random.default_rng(0).random((4, 8, 8)), scanner=list('AABB'))\n"
        "assert '<svg' in xh.CDFMatching(scope='scanner').fit(X)._repr_html_()\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(xray_harmonize.__file__).parent.parent)
