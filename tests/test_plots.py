"""The plots of the report: what they show, and that no name can break them."""

from __future__ import annotations

import base64
import logging
import subprocess
import sys
import warnings
from xml.etree import ElementTree

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest

from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.report.densities import histogram_top
from xray_harmonize.report.pictures import image_png
from xray_harmonize.report.plots import auc_plot, histogram_panel, plot_label, tone_curve_panel
from xray_harmonize.report.tables import comparison_table
from xray_harmonize.tone import ToneCurve

SVG = "{http://www.w3.org/2000/svg}"


def decoded(uri, media_type):
    prefix = f"data:{media_type};base64,"
    assert uri.startswith(prefix)
    return base64.b64decode(uri.removeprefix(prefix))


def svg_of(uri):
    return ElementTree.fromstring(decoded(uri, "image/svg+xml"))


def texts_of(uri):
    return ["".join(element.itertext()) for element in svg_of(uri).iter(f"{SVG}text")]


def table_of(names, scanners, auc=0.7, reference="home"):
    rows = [
        {"harmonizer": name, "scanner": scanner, "auc": auc + 0.01 * place}
        for place, name in enumerate(names)
        for scanner in scanners
    ]
    summary = pd.DataFrame(rows).assign(protocol="fixed", sees="nothing", difference=0.0)
    for figure in ("auc", "difference"):
        summary[f"{figure}_low"], summary[f"{figure}_high"] = summary[figure] - 0.05, summary[figure] + 0.05
    return comparison_table(summary, "fixed", reference)


def test_auc_plot_names_every_harmonizer_and_scanner():
    uri, width, height = auc_plot(table_of(["none", "MinMax", "CDFMatching"], ["home", "north", "south", "worst"]))
    texts = texts_of(uri)
    for name in (
        "none",
        "MinMax",
        "CDFMatching",
        "home",
        "reference",
        "north",
        "south",
        "Worst scanner",
        "sees nothing",
    ):
        assert name in texts
    assert width > 600
    assert height > 100


def test_auc_plot_draws_the_references_only_where_they_are_known():
    assert "no harmonizer" in texts_of(auc_plot(table_of(["none", "MinMax"], ["home", "north"]))[0])
    texts = texts_of(auc_plot(table_of(["MinMax", "Nyul"], ["north"]))[0])
    assert "no harmonizer" not in texts
    assert "reference scanner, no harmonizer" not in texts


def test_auc_plot_names_the_level_of_its_intervals():
    assert "AUC, 90 % interval" in texts_of(auc_plot(table_of(["none"], ["north"]), confidence=0.9)[0])


def test_auc_plot_is_transparent_and_has_text_for_dark_pages():
    table = table_of(["none", "MinMax"], ["home", "north"])
    light, dark = (decoded(auc_plot(table, dark=dark)[0], "image/svg+xml").decode() for dark in (False, True))
    assert "#1c2126" in light
    assert "#e4e7ea" not in light
    assert "#e4e7ea" in dark
    assert "#1c2126" not in dark
    assert "#ffffff" not in light + dark


@pytest.mark.parametrize(
    "name",
    [
        r"$\alpha$",
        "$unbalanced_{",
        "under_score^2",
        "<script>alert(1)</script>",
        "a & b \"c\" 'd' ]]> --> ",
        "x" * 5000,
        "two\nlines\tand\x00\x1b\ud800 worse",
        "",
        "东软 医疗",
        "%d {} \\",
    ],
)
def test_no_name_breaks_the_auc_plot_or_is_interpreted(name, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        uri, width, _ = auc_plot(table_of(["none", name], ["north", name, "worst"]))
    texts = texts_of(uri)
    assert texts.count(plot_label(name, 32)) >= 1 or not name
    assert not list(svg_of(uri).iter(f"{SVG}script"))
    assert width < 1300
    assert not caplog.records


def test_twenty_harmonizers_on_six_scanners_keep_their_row_height():
    few = auc_plot(table_of([f"m{i}" for i in range(10)], ["north"]))[2]
    many = auc_plot(table_of([f"m{i}" for i in range(20)], [f"scanner {i}" for i in range(6)]))[2]
    assert many - few == pytest.approx(10 * 0.235 * 96, abs=2)


def test_auc_plot_of_unknown_figures_alone_is_still_a_plot():
    assert "MinMax" in texts_of(auc_plot(table_of(["none", "MinMax"], ["north"], auc=np.nan))[0])


def test_same_data_give_the_same_bytes_whatever_the_settings_of_matplotlib_are():
    table = table_of(["none", "MinMax"], ["home", "north"])
    curves = [ToneCurve([0, 0.5, 1], [0, 0.7, 1])]
    density = np.ones(64)

    def drawn():
        return auc_plot(table), tone_curve_panel(curves), histogram_panel(density, density, density)

    plain = drawn()
    with matplotlib.rc_context(
        {"axes.facecolor": "red", "lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path"}
    ):
        assert drawn() == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_drawing_needs_no_pyplot():
    code = (
        "import sys; from xray_harmonize.report.plots import tone_curve_panel; "
        "from xray_harmonize.tone import ToneCurve; tone_curve_panel([ToneCurve.identity()]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tone_curves_get_a_line_an_image_their_median_and_the_diagonal():
    curves = [ToneCurve([0, 0.5, 1], [0, y, 1]) for y in (0.3, 0.5, 0.9)]
    uri, width, height = tone_curve_panel(curves)
    lines = svg_of(uri).find(f".//{SVG}g[@id='LineCollection_1']")
    assert len(list(lines.iter(f"{SVG}path"))) == 3
    assert len([g for g in svg_of(uri).iter(f"{SVG}g") if g.get("id", "").startswith("line2d")]) == 2
    assert width == height


def test_many_tone_curves_are_thinned():
    curves = [ToneCurve([0, 0.5, 1], [0, y, 1]) for y in np.linspace(0.2, 0.8, 500)]
    lines = svg_of(tone_curve_panel(curves, max_lines=12)[0]).find(f".//{SVG}g[@id='LineCollection_1']")
    assert len(list(lines.iter(f"{SVG}path"))) == 12


def test_a_panel_stays_small():
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, 2049)
    curves = [ToneCurve.through(x, np.sort(rng.random(2049))) for _ in range(40)]
    assert len(tone_curve_panel(curves)[0]) < 60_000
    assert len(histogram_panel(rng.random(4096), rng.random(4096), rng.random(4096))[0]) < 12_000


def test_histogram_panel_draws_what_it_is_given():
    density = np.ones(32)
    all_three, before_alone = histogram_panel(density, density, density)[0], histogram_panel(density, None)[0]

    def roles(uri):
        text = decoded(uri, "image/svg+xml").decode()
        return [color in text for color in ("#868f99", "#2b85c8", "#d4700f")]

    assert roles(all_three) == [True, True, True]
    assert roles(before_alone) == [True, False, False]


def test_panels_hold_no_text():
    assert texts_of(tone_curve_panel([ToneCurve.identity()])[0]) == []
    assert texts_of(histogram_panel(np.ones(8), None)[0]) == []


@pytest.mark.parametrize("density", [np.zeros(16), np.full(16, np.nan), np.ones(1), np.ones(2)])
def test_odd_histograms_are_drawn(density):
    svg_of(histogram_panel(density, density, density)[0])


def test_height_of_a_histogram_is_not_set_by_black_and_white():
    assert histogram_top([1000, 1, 2, 1, 500]) == pytest.approx(2.16)
    assert histogram_top([5, 0, 0, 5]) == 5
    assert histogram_top([0.0, 0.0, 0.0]) == 1


def test_fine_histograms_keep_their_area():
    density = np.zeros(256)
    density[::2] = 2.0
    assert histogram_top(density) == pytest.approx(1.08)


def image_of(uri):
    return cv2.imdecode(np.frombuffer(decoded(uri, "image/png"), np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_small_image_is_written_without_loss():
    image = np.arange(256, dtype=np.float32).reshape(16, 16) / 255
    uri, width, height = image_png(image)
    assert (width, height) == (16, 16)
    np.testing.assert_array_equal(image_of(uri), np.arange(256).reshape(16, 16))


def test_a_large_image_is_averaged_down_and_keeps_its_aspect():
    uri, width, height = image_png(np.tile([[0.0, 1.0], [1.0, 0.0]], (400, 200)))
    assert (width, height) == (128, 256)
    assert image_of(uri).mean() == pytest.approx(127.5, abs=1)


def test_a_very_long_image_keeps_a_pixel():
    assert image_png(np.zeros((1, 5000)))[1:] == (256, 1)


def test_values_out_of_range_become_black_or_white():
    uri, *_ = image_png(np.array([[-3.0, np.nan, np.inf, 7.0]]))
    assert image_of(uri).tolist() == [[0, 0, 255, 255]]


@pytest.mark.parametrize("shape", [(4,), (2, 2, 3), (0, 4)])
def test_what_is_no_image_is_refused_by_name(shape):
    with pytest.raises(InvalidImageError, match=r"Sample 3 has shape .*; expected a 2-D image"):
        image_png(np.zeros(shape), name="Sample 3")


def test_labels_keep_both_ends_of_a_long_name():
    assert plot_label("CDFMatching(scope='image', max_slope=2)", 20) == "CDFMatchin…_slope=2)"
    assert plot_label("short") == "short"
    assert plot_label(" a\n b\x07") == "a b\ufffd"
