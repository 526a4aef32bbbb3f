"""The page of an audit: what it says, who can read it, and that nothing in the data can do anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from html_page import EVIL, Page
from tiny_audit import NAMES, SCANNERS, tiny_audit

from xray_harmonize.auditing.result import Sample
from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.report.audit_page import render_audit_page, write_audit_page
from xray_harmonize.report.audit_plots import MOST_LABELS, SHAPES, label_series, scanner_series


@pytest.fixture(scope="module")
def html():
    return render_audit_page(tiny_audit())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


# -- what it says -----------------------------------------------------------------------------------------------------


def test_the_verdict_comes_first_then_what_stops_then_everything_else(page):
    words = [one for one in page.elements if one["tag"] in {"h1", "section"}]
    assert words[0]["text"] == "Harmonizing to home"
    assert "Before any figure is believed" in words[1]["text"]
    assert words[2]["attrs"]["aria-label"] == "Cautions that stop"
    assert page.text("h2") == [
        "Cautions",
        "At a glance",
        "Images before and after",
        "Tone curves by scanner",
        "Grey values by scanner",
        "Features before and after",
        "Task: AUC by scanner",
        "Distances between scanners",
        "Content of the images",
        "Controls: where nothing should come out",
        "Data, methods and versions",
    ]


def test_a_caution_tells_what_was_found_what_it_means_and_what_to_do(page):
    cautions = page.all("article")
    assert [page.text("h3", within=one)[0] for one in cautions] == [
        "Stop Label and scanner confounded", "Look Groups too small", "Note Eight bits or fewer"
    ]  # fmt: skip
    stop = cautions[0]
    assert page.text("dt", within=stop) == ["Found", "Means", "Do"]
    assert page.text("dd", within=stop)[2] == "Draw the same share of every class from every scanner."


def test_at_a_glance_a_row_a_harmonizer(page):
    rows = page.rows(page.table("What each harmonizer did"))
    assert rows[1][:4] == ["none as they came", "0.97 told apart", "baseline", "1.000"]
    assert [row[0] for row in rows[2:]] == list(NAMES[1:])
    by_name = {row[0]: row for row in rows}
    assert by_name["CDF, image"][1:3] == ["0.37 no better than chance", "▲ higher on north, south"]
    assert by_name["FDA"][2] == "▼ lower on home"
    assert by_name["FDA"][4] == "✕ failed: halves of one scanner"
    assert by_name["min-max"][4] == "✓ 2 of 2 passed"


def test_no_gain_is_named_at_a_glance_where_scanners_did_not_differ():
    result = tiny_audit()
    page = Page(render_audit_page(replace(result, domain=result.domain.assign(p_value=0.4))))
    rows = page.rows(page.table("What each harmonizer did"))
    assert [row[2] for row in rows[2:]] == ["nowhere", "nowhere", "nowhere", "▼ lower on home", "nowhere"]


def test_the_task_has_each_scanner_with_the_change_to_doing_nothing(page):
    rows = page.rows(page.table("A classifier trained on"))
    assert rows[0][1:] == [f"{name} 24 images, 12 patients" for name in SCANNERS]
    assert rows[1] == ["AUC", "Change to none"] * 3
    assert rows[2][:3] == ["none as they came", "0.900 0.830 to 0.950", "–"]
    cdf = next(row for row in rows if row[0] == "CDF, image")
    assert cdf[4] == "+0.152 ▲ better +0.092 to +0.212"


def test_distances_come_with_interval_and_p_and_in_groups_of_what_is_better(page):
    rows = page.rows(page.table("With 95 % interval, and p"))
    assert rows[0] == ["Harmonizer", "Between scanners lower is better", "Between labels higher is better"]
    assert rows[1][0] == "Probe balanced accuracy"
    assert rows[2][1].startswith("0.97 0.91 to 1.00 p 0.005")
    recall = page.rows(page.table("Probe, share told rightly"))
    assert recall[0] == ["Harmonizer", *SCANNERS]


def test_an_image_that_was_not_changed_has_no_ratio(page):
    rows = page.rows(page.table("Each image compared with itself"))
    assert rows[2][4] == "same image"
    assert rows[3][4] == "24.0 23.8 to 24.0"


def test_controls_say_what_they_ask_and_how_it_was_answered(page):
    rows = page.rows(page.table("The audit repeated"))
    assert rows[1][0].startswith("Halves of one scanner One scanner's patients")
    failed = [row for row in rows if row[-1] == "✕ failed"]
    assert [(row[0], row[1], row[2]) for row in failed] == [("FDA", "change of the AUC", "−0.200 −0.250 to −0.150")]
    assert rows[-1][0] == "no harmonizer involved"


def test_curves_are_checked_beside_their_pictures(page):
    rows = page.rows(page.table("The curves drawn above"))
    assert rows[1] == ["min-max", "36 of 36", "2.0 home", "2 % home"]
    # Steeper than that is a step.
    assert rows[-1] == ["bands, scanner", "36 of 36", "over 100 home", "2 % home"]


def test_it_tells_data_methods_settings_and_versions(page):
    rows = page.rows(page.table("Images, patients"))
    assert rows[0] == ["Scanner", "Images", "Patients", "no", "yes"]
    assert rows[1] == ["home reference", "24", "12", "12", "12"]
    assert {"Two halves", "permutations", "numpy", "CDF, image"} <= set(page.text("dt"))
    assert {"200", "2.0", "Method('CDF, image')"} <= set(page.text("dd"))
    assert "Not a medical device." in page.all("footer")[0]["text"]


def test_what_is_empty_is_left_out():
    bare = tiny_audit(
        labels=(), n_samples=0, controls=tiny_audit().controls.iloc[:0], cautions=[], tone_curves={}, histograms={},
        curves=tiny_audit().curves.iloc[:0], content=tiny_audit().content.iloc[:0], versions={}, settings={},
        embeddings=pd.DataFrame(columns=["harmonizer", "x", "y", "scanner", "label"]), conclusions=["Nothing."],
    )  # fmt: skip
    page = Page(render_audit_page(bare))
    assert page.text("h2") == [
        "At a glance", "Images before and after", "Distances between scanners", "Data, methods and versions"
    ]  # fmt: skip
    assert "show=[0, 7]" in page.text("code")[0]
    assert page.rows(page.table("What each"))[0] == ["Harmonizer", "Scanners told apart probe, balanced accuracy"]


def test_methods_that_change_the_frame_are_named_where_content_is_missing():
    result = tiny_audit()
    page = Page(render_audit_page(replace(result, content=result.content[result.content["harmonizer"] != "FDA"])))
    assert any("Without FDA, which changes the size or frame" in text for text in page.text("p"))
    assert page.rows(page.table("Each image"))[6] == ["FDA", "–", "–", "–", "–", "–"]


def test_figures_that_are_not_known_are_dashes():
    result = tiny_audit()
    domain = result.domain.assign(value=np.nan, low=np.nan, high=np.nan, p_value=np.nan, null=np.nan)
    page = Page(render_audit_page(replace(result, domain=domain, task=result.task.assign(auc=np.nan))))
    assert page.rows(page.table("With 95 %"))[2][1:] == ["–"] * 8
    assert "nan" not in page.all("main")[0]["text"].lower()


def test_same_result_same_page(html):
    assert render_audit_page(tiny_audit()) == html


def test_a_result_writes_itself(tmp_path, html):
    written = tiny_audit().to_html(tmp_path / "new" / "audit.html")
    assert written.read_text(encoding="utf-8") == html


def test_a_failure_leaves_the_old_page(tmp_path):
    path = tmp_path / "audit.html"
    path.write_text("old")
    with pytest.raises(InvalidImageError, match=r"The image of sample 'a' for 'none' has shape \(3,\)"):
        write_audit_page(tiny_audit(samples=[Sample("home", "a", {"none": np.zeros(3)})]), path)
    assert path.read_text() == "old"


def test_noise_on_three_scanners_behind_six_harmonizers_stays_below_eight_megabytes():
    names = ["none", *(f"method {i}" for i in range(6))]
    result = tiny_audit(names=names, n_images=776, n_samples=6, side=256, noise=True)
    assert len(render_audit_page(result)) < 8_000_000


# -- who can read it --------------------------------------------------------------------------------------------------


def test_links_labels_and_markers_lead_somewhere(page):
    ids = [one["attrs"]["id"] for one in page.elements if "id" in one["attrs"]]
    assert len(ids) == len(set(ids))
    for name in ("href", "aria-labelledby", "for"):
        targets = {one["attrs"][name].lstrip("#") for one in page.elements if name in one["attrs"]}
        assert targets <= set(ids)
    markers = {one["attrs"]["marker-mid"] for one in page.elements if "marker-mid" in one["attrs"]}
    assert markers <= {f"url(#{name})" for name in ids}
    assert len(markers) == 5


def test_the_first_link_skips_to_the_findings(page):
    assert page.all("a")[0]["attrs"]["href"] == "#main"
    assert page.all("main")[0]["attrs"]["id"] == "main"


def test_every_picture_has_words_of_its_own(page):
    alts = [one["attrs"]["alt"] for one in page.all("img")]
    assert len(alts) == len(set(alts)) == 2 * len(NAMES)
    assert "image 1 of scanner north, after CDF, image" in alts
    plots = [one["attrs"] for one in page.all("svg") if "aria-hidden" not in one["attrs"]]
    assert len(plots) == 4 + 6 + 2 * 6
    assert all(one["role"] == "img" for one in plots)
    words = [one["aria-label"] for one in plots]
    assert len(set(words)) == len(words)
    assert re.search(r"^Tone curves of min-max: on home median of 12 images, 0\.25, 0\.5 and 0\.75 become", words[0])
    assert any(re.search(r"^Grey values, FDA: mean 0\.\d\d on home", one) for one in words)
    assert any("told apart by label: " in one and "of yes. probe 0.91, p 0.005." in one for one in words)


def test_tables_have_captions_and_every_cell_its_headers(page):
    for table in page.all("table"):
        assert page.text("caption", within=table)[0]
        heads = page.all("th", within=page.all("thead", within=table)[0])
        assert all(head["attrs"]["scope"] in {"col", "colgroup"} and head["text"].strip() for head in heads)
        columns = sum(head["attrs"]["scope"] == "col" for head in heads)
        for body in page.all("tbody", within=table):
            for row in page.all("tr", within=body):
                heading = page.all("th", within=row)
                assert len(heading) == 1
                if heading[0]["attrs"]["scope"] == "rowgroup":
                    assert int(heading[0]["attrs"]["colspan"]) == columns
                else:
                    assert len(page.all("td", within=row)) + 1 == columns


def test_tables_scroll_in_boxes_that_the_keyboard_reaches(page):
    for table in page.all("table"):
        box = table["within"][-1]["attrs"]
        assert box["class"] == "scroll"
        assert box["tabindex"] == "0"
        assert box["aria-label"]


def test_without_a_script_images_stand_side_by_side_and_the_slider_is_away(page):
    slider = next(one for one in page.all("div") if one["attrs"].get("id") == "slider")
    assert "hidden" in slider["attrs"]
    beside = next(one for one in page.all("div") if one["attrs"].get("id") == "beside")
    assert beside["attrs"]["class"] == "beside"
    assert len(page.all("img", within=beside)) == 2 * len(NAMES)


def test_scanners_differ_in_shape_as_well_as_in_colour():
    series = scanner_series([f"scanner {i}" for i in range(50)], "scanner 0")
    assert len({(one.colour, one.shape) for one in series}) == 50
    assert len({one.shape for one in series[: len(SHAPES)]}) == len(SHAPES)
    assert [one.detail for one in series[:2]] == ["reference", ""]


def test_classes_look_unlike_scanners_and_many_share_the_last_place():
    scanners, labels = scanner_series(["a", "b"], "a"), label_series([1, 0, 1])
    assert [one.name for one in labels] == ["0", "1"]
    assert not {(one.colour, one.shape) for one in labels} & {(one.colour, one.shape) for one in scanners}
    assert not {one.shape for one in labels} & {one.shape for one in scanners}
    many = label_series(range(100, 130))
    assert len(many) == MOST_LABELS
    assert many[-1].name == "21 more"


# -- that nothing in the data can do anything -------------------------------------------------------------------------

HOSTILE = [EVIL, '"><img src=x onerror=alert(1)>', r"</title></svg></style> $\frac{1}{$ & ' --> ]]> }} {% raw %}"]
HOSTILE_NAMES = ["none", '</script><script>document.title="gone"</script>', "{{ 7*7 }}\x00\x1b\ud800" + "long" * 300]


@pytest.fixture(scope="module")
def hostile():
    result = tiny_audit(scanners=HOSTILE, names=HOSTILE_NAMES, labels=HOSTILE, n_samples=3)
    return replace(
        result,
        conclusions=HOSTILE,
        cautions=[replace(one, name=EVIL, what=EVIL, means=EVIL, do=EVIL) for one in result.cautions],
        controls=result.controls.assign(control=EVIL, measure=EVIL, expected=EVIL),
        samples=[replace(one, name=EVIL) for one in result.samples],
        settings={EVIL: EVIL},
        versions={EVIL: EVIL},
        harmonizers=dict.fromkeys(HOSTILE_NAMES, EVIL),
    )


def test_no_text_from_the_data_becomes_markup(hostile):
    html = render_audit_page(hostile)
    page = Page(html)
    assert html.count("<script") == 1
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert page.text("h1") == [f"Harmonizing to {EVIL}"]
    assert not page.all("iframe", "object", "embed", "base", "form", "link")
    for one in page.elements:
        assert not [name for name in one["attrs"] if name.startswith("on") or name == "style"]
        if "src" in one["attrs"]:
            assert one["attrs"]["src"].startswith("data:image/png;base64,")
        if "href" in one["attrs"]:
            assert one["attrs"]["href"].startswith("#")


def test_script_and_style_are_those_that_the_policy_names_and_hold_no_data(html, hostile):
    other = Page(render_audit_page(hostile))
    page = Page(html)
    policy = next(one["attrs"]["content"] for one in page.all("meta") if "http-equiv" in one["attrs"])
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        content = page.all(tag)[0]["text"]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert other.all(tag)[0]["text"] == content
    assert "innerHTML" not in page.all("script")[0]["text"]
    assert not re.search(r"@import|url\((?!data:)", page.all("style")[0]["text"])


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed; they open the page as a reader would")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "no-first-run"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def visit(browser, path, *, dark=False, width=1200, media="screen", scripts=True):
    """Open a page as one reader would, and forget what was written before."""
    browser.get_log("browser"), browser.get_log("performance")
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    # Gliding to a place would have clicks miss it.
    motion = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme, motion]})
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
    browser.get(path.as_uri())
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    return browser


def console(browser):
    return [entry["message"] for entry in browser.get_log("browser")]


def requested(browser):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "audit.html"
    write_audit_page(tiny_audit(n_images=60), path)
    return path


def test_the_slider_moves_by_keyboard_and_says_where_it_is(browser, written):
    visit(browser, written)
    split = browser.find_element("id", "split")
    assert split.is_displayed()
    assert not browser.find_element("id", "beside").is_displayed()
    shown = "return getComputedStyle(document.querySelector('.frame .after')).clipPath"
    assert browser.execute_script(shown) == "inset(0px 0px 0px 50%)"
    split.send_keys("\ue014" * 5)
    assert browser.execute_script(shown) == "inset(0px 0px 0px 55%)"
    assert split.get_attribute("aria-valuetext") == "55 % as it came, 45 % after min-max"
    assert split.accessible_name.startswith("before")
    said = browser.find_element("id", "said")
    assert said.get_attribute("aria-live") == "polite"
    assert said.text == "From the left: 55 % as it came, 45 % after min-max."
    split.send_keys("\ue011")
    assert browser.execute_script(shown) == "inset(0px 0px 0px 0%)"
    assert not console(browser)


def test_image_and_harmonizer_are_chosen_by_keyboard(browser, written):
    visit(browser, written)
    before, after = browser.find_elements("css selector", "#frame img")
    # The first to see is not the reference's.
    assert before.get_attribute("alt") == "image 1 of scanner north, as it came"
    chosen = browser.find_element("css selector", "input[name=harmonizer]:checked")
    chosen.send_keys("\ue015")
    assert after.get_attribute("alt") == "image 1 of scanner north, after CDF, image"
    browser.find_element("css selector", "input[name=sample]:checked").send_keys("\ue013")
    assert before.get_attribute("alt") == "image 0 of scanner home, as it came"
    width, height = browser.execute_script(
        "const box = arguments[0].getBoundingClientRect(); return [box.width, box.height]", after
    )
    assert width > 200
    assert abs(width - height) < 2


def test_pointing_at_the_image_moves_the_edge(browser, written):
    from selenium.webdriver.common.action_chains import ActionChains

    visit(browser, written)
    frame = browser.find_element("id", "frame")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", frame)
    offset = frame.size["width"] // 4
    ActionChains(browser).move_to_element(frame).click_and_hold().move_by_offset(-offset, 0).release().perform()
    assert 23 <= int(browser.find_element("id", "split").get_attribute("value")) <= 27


def test_all_images_can_be_seen_beside_each_other(browser, written):
    visit(browser, written)
    browser.find_element("id", "all").click()
    assert len([one for one in browser.find_elements("css selector", "#beside img") if one.is_displayed()]) == 12


def test_without_scripts_everything_is_there(browser, written):
    visit(browser, written, scripts=False)
    assert not browser.find_element("id", "slider").is_displayed()
    assert len([one for one in browser.find_elements("css selector", "#beside img") if one.is_displayed()]) == 12
    browser.find_element("css selector", "label:has(#by-label)").click()
    assert browser.find_element("css selector", "svg.by-label").is_displayed()


def test_points_are_told_apart_by_scanner_or_by_label(browser, written):
    visit(browser, written)
    by_scanner, by_label = (browser.find_element("css selector", f"svg.by-{word}") for word in ("scanner", "label"))
    assert (by_scanner.is_displayed(), by_label.is_displayed()) == (True, False)
    browser.find_element("id", "by-scanner").send_keys("\ue014")
    assert (by_scanner.is_displayed(), by_label.is_displayed()) == (False, True)


@pytest.mark.parametrize("width", [360, 700, 1200])
def test_the_page_is_never_wider_than_the_window(browser, written, tmp_path, hostile, width):
    write_audit_page(hostile, tmp_path / "hostile.html")
    for path in (written, tmp_path / "hostile.html"):
        visit(browser, path, width=width)
        browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
        browser.find_element("id", "all").click()
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelector('.scroll:has(.figures)').scrollWidth") > 0


def test_dark_mode_reaches_text_and_plots(browser, written):
    def seen():
        return browser.execute_script(
            "const style = (words) => getComputedStyle(document.querySelector(words));"
            "return [style('body').backgroundColor, style('body').color, style('.thick.s0').stroke,"
            " style('#s0 path').fill, style('.axis text').fill]"
        )

    visit(browser, written)
    light = seen()
    visit(browser, written, dark=True)
    dark = seen()
    assert not set(light) & set(dark)
    assert sum(map(int, re.findall(r"\d+", dark[0])[:3])) < 120
    # Paper is white.
    visit(browser, written, dark=True, media="print")
    assert seen()[0] == "rgb(255, 255, 255)"


def contrast(first, second):
    def brightness(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((brightness(first), brightness(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_every_colour_stands_out_from_the_page(browser, written, dark):
    visit(browser, written, dark=dark)
    colours = browser.execute_script(
        "const probe = document.createElement('i'); document.body.append(probe);"
        "return ['s', 'l'].flatMap((kind) => [0, 1, 2, 3, 4, 5, 6].map((i) => {"
        " probe.style.color = `var(--${kind}${i})`; return getComputedStyle(probe).color; }))"
    )
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert len(set(colours)) == 14
    assert min(contrast(colour, background) for colour in colours) >= 3
    texts = browser.execute_script(
        "return [...document.querySelectorAll('.caution *, .interval, .hint, .badge, .role')]"
        ".map((one) => getComputedStyle(one).color)"
    )
    assert min(contrast(text, background) for text in texts if contrast(text, background) > 1.2) >= 4.5


def test_print_shows_all_images_and_open_tables(browser, written):
    visit(browser, written)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    assert all(one.get_attribute("open") for one in browser.find_elements("tag name", "details"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.find_element("id", "beside").is_displayed()
    assert not browser.find_element("id", "slider").is_displayed()
    browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert not any(one.get_attribute("open") for one in browser.find_elements("tag name", "details"))


def test_no_request_leaves_the_page_and_nothing_is_complained_of(browser, written):
    visit(browser, written)
    time.sleep(0.2)
    urls = requested(browser)
    assert urls[0] == written.as_uri()
    assert {url.split(":")[0] for url in urls[1:]} <= {"data"}
    assert not console(browser)


def test_a_browser_shows_hostile_names_without_running_any_of_them(browser, hostile, tmp_path):
    from selenium.common.exceptions import NoAlertPresentException

    control, page, unguarded = (tmp_path / f"{name}.html" for name in ("control", "page", "unguarded"))
    control.write_text("<title>a</title><script>document.title='ran'; console.error('seen')</script>")
    visit(browser, control)
    assert browser.title == "ran"
    assert console(browser)
    write_audit_page(hostile, page)
    # Escaping must do without the policy, which is a second line of defence.
    html = page.read_text(encoding="utf-8")
    unguarded.write_text(re.sub(r"<meta http-equiv[^>]*>", "", html), encoding="utf-8")
    for path in (page, unguarded):
        visit(browser, path)
        for radio in browser.find_elements("css selector", "input[name=harmonizer], input[name=sample]"):
            browser.execute_script("arguments[0].click()", radio)
        with pytest.raises(NoAlertPresentException):
            _ = browser.switch_to.alert
        assert browser.title == f"Audit: harmonizing to {EVIL}"
        assert EVIL in browser.find_element("tag name", "h1").text
        assert browser.find_element("css selector", ".tag.right").get_attribute("textContent").endswith("longlong")
        assert not console(browser)
        assert {url.split(":")[0] for url in requested(browser)} <= {"data", "file"}


def test_the_policy_stops_a_script_that_came_in(browser, written, tmp_path):
    path = tmp_path / "pierced.html"
    html = written.read_text(encoding="utf-8")
    path.write_text(html.replace("</h1>", "</h1><script>document.title = 'ran'</script>", 1), encoding="utf-8")
    visit(browser, path)
    assert browser.title == "Audit: harmonizing to home"
    assert any("Content Security Policy" in words for words in console(browser))
