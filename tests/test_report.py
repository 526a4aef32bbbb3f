"""The report: its reading order, its tables, what it refuses, and that nothing in the data can do anything."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from html_page import EVIL, Page

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.harmonizers.cdf import CDFMatching
from xray_harmonize.harmonizers.linear import MinMax
from xray_harmonize.report import ReportData, Sample, render_report, write_report
from xray_harmonize.report.tables import Estimate, comparison_table


def summary_of(auc, *, reference="home", sees=None, protocol="fixed"):
    """A summary from {harmonizer: {scanner: auc}}, with the worst over the source scanners."""
    rows = []
    for name, by_scanner in auc.items():
        sources = [value for scanner, value in by_scanner.items() if scanner != reference]
        for scanner, value in {**by_scanner, "worst": min(sources)}.items():
            base = auc["none"].get(scanner, min(v for s, v in auc["none"].items() if s != reference))
            rows.append(
                {
                    "protocol": protocol, "harmonizer": name, "sees": (sees or {}).get(name, "nothing"),
                    "scanner": scanner, "n_images": 40, "n_patients": 20, "n_seeds": 3,
                    "auc": value, "auc_low": value - 0.1, "auc_high": value + 0.05,
                    "balanced_accuracy": value - 0.05, "precision": np.nan,
                    "difference": value - base, "difference_low": value - base - 0.04,
                    "difference_high": value - base + 0.04,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


AUC = {
    "none": {"home": 0.9, "north": 0.55, "south": 0.6},
    "MinMax": {"home": 0.88, "north": 0.6, "south": 0.62},
    "CDFMatching": {"home": 0.89, "north": 0.7, "south": 0.75},
    "adapted": {"home": 0.9, "north": 0.52, "south": 0.5},
    "fine-tuned": {"home": 0.9, "north": 0.8, "south": 0.85},
}
SEES = {"adapted": "unlabelled images", "fine-tuned": "labelled images"}


def full_report(scanners=("home", "north", "south"), names=("none", "MinMax", "CDFMatching"), **changes):
    """Everything a report can hold, from two real harmonizers on synthetic images of three scanners."""
    rng = np.random.default_rng(0)
    body = rng.random((9, 24, 24)).cumsum(axis=1) / 24
    images = np.concatenate([body[:3] ** 0.5, body[3:6] ** 1.5, body[6:] ** 3]).clip(0, 1).astype(np.float32)
    labels = np.repeat(scanners, 3)
    fitted = {
        names[1]: MinMax(reference=scanners[0]).fit(images, scanner=labels),
        names[2]: CDFMatching(reference=scanners[0]).fit(images, scanner=labels),
    }
    rendered = {names[0]: images} | {name: harmonizer.transform(images) for name, harmonizer in fitted.items()}
    auc = dict(zip(names, list(AUC.values())[:3], strict=True))
    auc = {name: dict(zip(scanners, figures.values(), strict=True)) for name, figures in auc.items()}
    content = {
        "title": "Three scanners",
        "reference": scanners[0],
        "protocols": ["fixed", "leave one scanner out"],
        "classes": ["normal", "ill"],
        "summary": pd.concat(
            [summary_of(auc, reference=scanners[0], protocol=name) for name in ("fixed", "leave one scanner out")]
        ),
        "samples": [
            Sample(scanner, f"image {i}", {name: stack[3 * i] for name, stack in rendered.items()})
            for i, scanner in enumerate(scanners)
        ],
        "curves": {
            name: {scanner: harmonizer.tone_curves(images[labels == scanner]) for scanner in scanners}
            for name, harmonizer in fitted.items()
        },
        "histograms": {
            name: {
                scanner: np.histogram(stack[labels == scanner], bins=32, range=(0, 1), density=True)[0]
                for scanner in scanners
            }
            for name, stack in rendered.items()
        },
        "verdict": ["CDFMatching helps.", "It costs nothing at home.", "MinMax does not."],
        "warnings": ["Few patients."],
        "notes": ["Cropped before."],
        "command": "xray-harmonize compare --images a",
        "versions": {"numpy": "2.0"},
    }
    return ReportData(**content | changes)


def bare_report(**changes):
    content = {"title": "T", "reference": "home", "protocols": ["fixed"], "classes": [], "summary": summary_of(AUC)}
    return ReportData(**content | changes)


@pytest.fixture(scope="module")
def page():
    return Page(render_report(full_report()))


def test_the_verdict_comes_first_and_the_rest_in_reading_order(page):
    words = [element for element in page.elements if element["tag"] in {"h1", "h2", "h3", "section"}]
    assert words[0]["text"] == "Three scanners"
    assert "CDFMatching helps." in words[1]["text"]
    assert page.text("h2") == [
        "Fixed classifier: AUC by scanner",
        "Leave one scanner out: AUC by scanner",
        "Images before and after",
        "Tone curves by scanner",
        "Grey values by scanner",
        "Warnings",
        "How to read this",
        "Made with",
    ]


def test_it_holds_warnings_notes_command_versions_and_what_it_is_not(page):
    text = " ".join(page.all("html")[0]["text"].split())
    for words in ("Few patients.", "Cropped before.", "xray-harmonize compare --images a", "Not a medical device."):
        assert words in text
    assert page.text("a")[0] == "1 warning"
    assert {"numpy"} <= set(page.text("dt"))
    assert {"2.0", "home", "normal, ill"} <= set(page.text("dd"))


def test_it_explains_only_the_protocols_that_were_run(page):
    assert {"Fixed classifier", "Leave one scanner out", "Intervals"} <= set(page.text("dt"))
    assert "Leave one scanner out" not in Page(render_report(bare_report())).text("dt")


def test_a_protocol_without_rows_is_left_out():
    assert not Page(render_report(bare_report(protocols=["fixed", "loso"]))).heading(
        "Leave one scanner out: AUC by scanner"
    )


def test_nothing_is_loaded_from_elsewhere_and_nothing_can_run():
    page = Page(render_report(full_report()))
    assert not page.all("script", "link", "iframe", "object", "embed", "base", "form")
    for element in page.elements:
        for name, value in element["attrs"].items():
            assert not name.startswith("on")
            if name in {"src", "srcset"}:
                assert value.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,"))
            if name == "href":
                assert value.startswith("#")
    assert not re.search(r"@import|url\((?!data:)", page.all("style")[0]["text"])
    policy = next(m["attrs"]["content"] for m in page.all("meta") if m["attrs"].get("http-equiv"))
    assert "default-src 'none'" in policy


def test_links_within_the_page_lead_somewhere(page):
    ids = [element["attrs"]["id"] for element in page.elements if "id" in element["attrs"]]
    assert len(ids) == len(set(ids))
    for name in ("href", "aria-labelledby", "for"):
        targets = {element["attrs"][name].lstrip("#") for element in page.elements if name in element["attrs"]}
        assert targets <= set(ids)


def test_every_picture_has_words(page):
    pictures = page.all("img")
    assert len(pictures) == 2 + 9 + 6 + 9
    assert all(picture["attrs"]["alt"].strip() for picture in pictures)
    alts = [picture["attrs"]["alt"] for picture in pictures]
    assert "image 1 of scanner north, after CDFMatching" in alts
    assert len(set(alts[2:])) == len(alts[2:])


def test_tone_curves_and_histograms_are_told_in_numbers(page):
    alts = [picture["attrs"]["alt"] for picture in page.all("img")]
    curve = next(alt for alt in alts if alt.startswith("Tone curves of CDFMatching on north"))
    assert re.search(r"median of 3 images, 0\.25, 0\.5 and 0\.75 become [\d.]+, [\d.]+ and [\d.]+$", curve)
    histogram = next(alt for alt in alts if alt.startswith("Grey values of north, CDFMatching"))
    before, after, reference = map(float, re.findall(r"0\.\d\d", histogram))
    assert abs(after - reference) < abs(before - reference)


def test_every_cell_has_a_row_and_a_column_header(page):
    for table in page.all("table"):
        assert page.text("caption", within=table)[0]
        heads = page.all("th", within=page.all("thead", within=table)[0])
        assert all(head["attrs"]["scope"] == "col" and head["text"].strip() for head in heads)
        rows = page.all("tr", within=table)
        cells = 0
        for row in rows[1:]:
            headers, data = page.all("th", within=row), page.all("td", within=row)
            assert len(headers) == 1
            if headers[0]["attrs"]["scope"] == "rowgroup":
                assert int(headers[0]["attrs"]["colspan"]) == len(heads)
                assert not data
                continue
            assert headers[0]["attrs"]["scope"] == "row"
            assert len(data) + 1 == len(heads)
            cells += len(data)
        assert cells


def test_the_table_groups_by_what_is_seen_and_ranks_by_the_worst_scanner():
    page = Page(render_report(bare_report(summary=summary_of(AUC, sees=SEES))))
    rows = page.rows(page.table("AUC with 95 % interval"))
    assert [row[0] for row in rows] == [
        "Harmonizer",
        "Sees nothing",
        "none",
        "CDFMatching best",
        "MinMax",
        "Sees unlabelled images",
        "adapted",
        "Sees labelled images",
        "fine-tuned",
    ]
    assert rows[0][1:] == [
        "Worst scanner", "Difference to none on the worst scanner", "north", "south", "home reference"
    ]  # fmt: skip
    assert rows[2][1:3] == ["0.550 0.450 to 0.600", "baseline"]
    assert rows[3][1:3] == ["0.700 0.600 to 0.750", "+0.150 ▲ better +0.110 to +0.190"]
    assert rows[6][2] == "−0.050 ▼ worse −0.090 to −0.010"


def test_the_best_is_marked_by_a_word_and_weight_not_by_colour_alone():
    page = Page(render_report(bare_report()))
    row = next(r for r in page.all("tr") if r["attrs"].get("class", "").startswith("best"))
    assert "best" in page.text("th", within=row)[0]
    assert page.text("strong", within=row) == ["0.800"]


def test_none_is_called_best_where_nothing_helps():
    auc = {"none": AUC["none"], "MinMax": {"home": 0.9, "north": 0.5, "south": 0.5}}
    table = comparison_table(summary_of(auc), "fixed", "home")
    assert [(row.harmonizer, row.is_best) for row in table.rows] == [("none", True), ("MinMax", False)]


def test_the_choice_on_other_scanners_stands_last_and_is_never_best():
    chosen = "chosen on the other scanners"
    auc = AUC | {chosen: {"home": 0.9, "north": 0.95, "south": 0.95}}
    table = comparison_table(summary_of(auc), "fixed", "home")
    assert table.rows[-1].harmonizer == chosen
    assert [row.harmonizer for row in table.rows if row.is_best] == ["fine-tuned"]
    assert chosen.capitalize() in Page(render_report(bare_report(summary=summary_of(auc)))).text("dt")


def test_one_source_scanner_is_not_repeated_as_the_worst():
    auc = {name: {"home": 0.9, "north": figures["north"]} for name, figures in AUC.items()}
    table = comparison_table(summary_of(auc), "fixed", "home")
    assert table.columns == ("north", "home")
    assert table.rows[1].difference.value == pytest.approx(0.25)


def test_unknown_figures_are_dashes():
    summary = summary_of(AUC)
    summary.loc[summary["scanner"] == "south", ["auc", "auc_low", "auc_high"]] = np.nan
    summary = summary[~((summary["harmonizer"] == "MinMax") & (summary["scanner"] == "home"))]
    page = Page(render_report(bare_report(summary=summary)))
    rows = page.rows(page.table("AUC with"))
    assert [row[4] for row in rows[2:]] == ["–"] * 5
    assert next(row for row in rows if row[0] == "MinMax")[5] == "–"
    assert "nan" not in page.all("main")[0]["text"].lower()


def test_a_figure_without_an_interval_stands_alone():
    summary = summary_of(AUC).assign(auc_low=np.nan)
    page = Page(render_report(bare_report(summary=summary)))
    assert page.rows(page.table("AUC with"))[2][1] == "0.550"


def test_all_figures_are_there_for_those_who_look(page):
    rows = page.rows(page.table("Every figure"))
    assert rows[0] == [
        "Scanner", "Images", "Patients", "Seeds", "AUC", "AUC difference to none", "Balanced accuracy", "Precision"
    ]  # fmt: skip
    assert rows[1] == ["none"]
    north = next(row for row in rows if row[0] == "north")
    assert north == ["north", "40", "20", "3", "0.550 0.450 to 0.600", "–", "0.500", "–"]


def test_empty_sections_are_left_out():
    page = Page(render_report(bare_report()))
    assert page.text("h2") == ["Fixed classifier: AUC by scanner", "How to read this"]
    assert not page.all("pre")
    assert "Verdict" not in [section["attrs"].get("aria-label") for section in page.all("section")]


def test_rows_of_curves_without_a_curve_are_left_out():
    curves = full_report().curves
    data = bare_report(
        curves={"MinMax": {"north": []}, "CDFMatching": {"home": [], "north": curves["MinMax"]["north"]}}
    )
    page = Page(render_report(data))
    rows = page.rows(page.table("Tone curves"))
    assert rows[1:] == [["CDFMatching", "–", ""]]
    assert not Page(render_report(bare_report(curves={"MinMax": {"north": []}}))).heading("Tone curves by scanner")


def test_figures_that_are_all_unknown_make_no_plot():
    page = Page(render_report(bare_report(summary=summary_of(AUC).assign(auc=np.nan))))
    assert not page.all("img")
    assert page.all("table")


HOSTILE = [EVIL, '"><img src=x onerror=alert(1)>', r"$\frac{1}{$ & ' --> ]]> }} {% raw %}"]


@pytest.fixture(scope="module")
def hostile():
    names = ["none", '</style><script>document.title="gone"</script>', "{{ 7*7 }}\x00\x1b\ud800" + "long" * 500]
    data = full_report(scanners=HOSTILE, names=names)
    fixed = data.summary[data.summary["protocol"] == "fixed"]
    return ReportData(
        title=EVIL,
        reference=data.reference,
        protocols=["fixed", EVIL],
        classes=HOSTILE,
        summary=pd.concat([fixed, fixed.assign(protocol=EVIL, sees=EVIL)]),
        samples=data.samples,
        curves=data.curves,
        histograms=data.histograms,
        verdict=HOSTILE,
        warnings=HOSTILE,
        notes=HOSTILE,
        command=EVIL,
        versions={EVIL: EVIL},
    )


def test_no_text_from_the_data_becomes_markup(hostile):
    html = render_report(hostile)
    page = Page(html)
    assert not page.all("script")
    assert not [name for element in page.elements for name in element["attrs"] if name.startswith("on")]
    assert "<script" not in html
    assert page.text("h1") == [EVIL]
    assert len(page.all("style")) == 1
    assert any("{{ 7*7 }}" in text for text in page.text("th"))
    for name in HOSTILE:
        assert any(text.startswith(name) for text in page.text("th"))


def test_a_hostile_report_can_be_written(hostile, tmp_path):
    write_report(hostile, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8").endswith("</html>\n")


def test_same_data_same_bytes():
    assert render_report(full_report()) == render_report(full_report())


def test_the_report_appears_whole_in_a_new_folder(tmp_path):
    write_report(bare_report(), tmp_path / "new" / "report.html")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]


def test_a_failure_leaves_the_old_report_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    broken = bare_report(samples=[Sample("north", "a", {"none": np.zeros(3)})])
    with pytest.raises(InvalidImageError, match=r"The image of sample 'a' for 'none' has shape \(3,\)"):
        write_report(broken, path)
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(bare_report(), path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_summary_without_its_columns_is_refused():
    with pytest.raises(InvalidParameterError, match="summary lacks the columns sees, auc_low; it holds protocol"):
        render_report(bare_report(summary=summary_of(AUC).drop(columns=["sees", "auc_low"])))


def test_a_summary_that_repeats_itself_is_refused():
    twice = pd.concat([summary_of(AUC), summary_of(AUC)])
    with pytest.raises(InvalidParameterError, match=r"more than one row for .*harmonizer='none'.* Average the seeds"):
        render_report(bare_report(summary=twice))


def test_scanners_that_a_csv_file_turned_into_numbers_are_recognised():
    auc = {name: {"1": f["home"], "2": f["north"], "3": f["south"]} for name, f in AUC.items()}
    summary = summary_of(auc, reference="1")
    summary["scanner"] = [int(name) if name != "worst" else name for name in summary["scanner"]]
    page = Page(render_report(bare_report(summary=summary, reference="1")))
    assert page.rows(page.table("AUC with"))[0][-1] == "1 reference"


def test_other_levels_of_confidence_are_named():
    page = Page(render_report(bare_report(confidence=0.9)))
    assert page.text("caption")[0].startswith("AUC with 90 % interval")


def test_twenty_harmonizers_on_five_scanners_stay_below_five_megabytes():
    rng = np.random.default_rng(0)
    scanners = [f"scanner {i}" for i in range(5)]
    names = ["none", *(f"method {i}" for i in range(19))]
    # Noise is what compresses least.
    samples = [Sample(s, "a", dict(zip(names, rng.random((20, 300, 300)), strict=True))) for s in scanners]
    curve = full_report().curves["CDFMatching"]["north"]
    data = bare_report(
        summary=summary_of({name: dict.fromkeys(scanners, 0.7) for name in names}, reference=scanners[0]),
        reference=scanners[0],
        samples=samples,
        curves={name: dict.fromkeys(scanners, curve * 20) for name in names},
        histograms={name: {s: rng.random(64) for s in scanners} for name in names},
    )
    assert len(render_report(data)) < 5_000_000


@pytest.mark.parametrize(
    ("estimate", "text", "interval", "direction"),
    [
        (Estimate(0.5, 0.4, 0.6), "0.500", "0.400 to 0.600", ""),
        (Estimate(0.1, 0.05, 0.2, signed=True), "+0.100", "+0.050 to +0.200", "better"),
        (Estimate(-0.1, -0.2, -0.05, signed=True), "−0.100", "−0.200 to −0.050", "worse"),
        (Estimate(-0.0001, -0.1, 0.1, signed=True), "0.000", "−0.100 to +0.100", ""),
        (Estimate(), "–", "", ""),
        (Estimate(0.5, np.nan, 0.6, signed=True), "+0.500", "", ""),
    ],
)
def test_estimates_are_written_out(estimate, text, interval, direction):
    assert (estimate.text, estimate.interval, estimate.direction) == (text, interval, direction)


@pytest.fixture
def browser():
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed; it opens the report as a reader would")
    return path


def visit(browser, path, profile):
    """Open a page without a window; give its final DOM and what it wrote to the console."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
        "--disable-sync --no-first-run --enable-logging=stderr --dump-dom"
    )
    done = subprocess.run(
        [browser, *flags.split(), f"--user-data-dir={profile}", path.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_shows_a_hostile_report_without_running_any_of_it(hostile, browser, tmp_path):
    report, control, unguarded = (tmp_path / f"{name}.html" for name in ("report", "control", "unguarded"))
    write_report(hostile, report)
    html = report.read_text(encoding="utf-8")
    # Escaping must do without the policy, which is a second line of defence.
    unguarded.write_text(re.sub(r"<meta http-equiv[^>]*>", "", html), encoding="utf-8")
    control.write_text("<title>a</title><script>document.title='ran'; console.error('seen')</script>")
    dom, console = visit(browser, control, tmp_path / "profile")
    assert "<title>ran</title>" in dom
    assert console
    for path in (report, unguarded):
        dom, console = visit(browser, path, tmp_path / "profile")
        assert not console
        page = Page(dom)
        assert page.text("title") == [EVIL]
        assert not page.all("script")
        assert page.heading("How to read this")
