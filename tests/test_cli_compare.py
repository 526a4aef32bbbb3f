"""``xray-harmonize compare``: from a folder and a table to tables, report and pipeline; and every way to err."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import joblib
import numpy as np
import pandas as pd
import pytest

import xray_harmonize
from xray_harmonize import CDFMatching, ImageSet, load
from xray_harmonize.cli import main
from xray_harmonize.evaluation.candidates import LABELLED, NOTHING, UNLABELLED, Candidate
from xray_harmonize.evaluation.summary import CHOSEN
from xray_harmonize.harmonizers.gdce import GDCE

SETTINGS = [
    *("--depth", "10", "--width", "4", "--image-size", "16", "--max-epochs", "1"),
    *("--seeds", "2", "--folds", "2", "--bootstrap", "50", "--harmonizer", "CDF, scanner"),
]
OUTPUTS = {
    "best_pipeline.joblib",
    "best_pipeline.npz",
    "parts",
    "predictions.csv",
    "report.html",
    "results.csv",
    "summary.csv",
}
COUNTS = {"home": 12, "far": 8, "007": 8}


def write_table(path, rows, header=("path", "label", "scanner", "patient")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Folder of PNG images of three scanners with a table beside it, and a broken image that the table leaves out."""
    root = tmp_path_factory.mktemp("radiographs")
    rng = np.random.default_rng(0)
    rows = []
    for scanner, count in COUNTS.items():
        (root / scanner).mkdir()
        gamma = {"home": 1.0, "far": 2.0}.get(scanner, 0.6)
        for i in range(count):
            image = np.clip(rng.random((24, 20)) * 0.4 + 0.3 * (i % 2) + 0.1, 0, 1) ** gamma
            cv2.imwrite(str(root / scanner / f"{i}.png"), (image * 65535).astype(np.uint16))
            rows.append((f"{scanner}/{i}.png", ("well", "ill")[i % 2], scanner, f"{scanner}-{i}"))
    write_table(root / "labels.csv", rows)
    (root / "broken.png").write_bytes((root / "far" / "0.png").read_bytes()[:60])
    write_table(root / "with_bad.csv", [*rows, ("broken.png", "ill", "far", "x"), ("gone.png", "ill", "far", "y")])
    return root


def run(monkeypatch, *arguments):
    """Run the command as typed; give its exit status."""
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


def compare(monkeypatch, folder, out, *further, labels="labels.csv", settings=SETTINGS):
    source = ["--images", folder, "--labels", folder / labels, "--reference", "home"]
    return run(monkeypatch, "compare", *source, "--out", out, *settings, *further)


@pytest.fixture(scope="session")
def finished(folder, tmp_path_factory):
    """Folder with the results of a comparison that went through, and what was printed."""
    out = tmp_path_factory.mktemp("finished") / "results"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        assert compare(patch, folder, out) == 0
    return out, printed.getvalue()


# -- what comes out -------------------------------------------------------------------------------------------------


def test_everything_is_there_and_nothing_half_written(finished):
    out, _ = finished
    assert {path.name for path in out.iterdir()} == OUTPUTS
    assert {path.suffix for path in (out / "parts").iterdir()} == {".csv", ".npz"}
    assert all(path.stat().st_size for path in out.iterdir())


def test_the_table_is_printed_with_scanners_intervals_and_where_things_are(finished):
    out, printed = finished
    assert "AUC, fixed classifier, 2 seed(s), 95 % intervals over patients" in printed
    for word in ("harmonizer", "sees", "home", "far", "007", "worst", "none", "CDF, scanner", "unlabelled"):
        assert word in printed
    assert re.search(r"\d\.\d\d–\d\.\d\d", printed)
    assert "Without harmonization the classifier trained on home has an AUC of" in " ".join(printed.split())
    for name in OUTPUTS - {"parts"}:
        assert str(out / name) in printed


def test_predictions_hold_a_row_for_every_test_image_method_and_seed(finished):
    predictions = pd.read_csv(finished[0] / "predictions.csv", dtype=str, keep_default_na=False)
    assert set(predictions.harmonizer) == {"none", "CDF, scanner"}
    assert set(predictions.scanner) == set(COUNTS)
    assert len(predictions) == 2 * (12 + 2 * 8 + 2 * 8)
    assert not predictions.duplicated(["harmonizer", "seed", "image"]).any()
    assert set(predictions.label) == {"ill", "well"}


def test_results_hold_a_row_a_method_scanner_and_seed_and_the_summary_one_a_method_and_scanner(finished):
    results = pd.read_csv(finished[0] / "results.csv", dtype={"scanner": str})
    assert len(results) == 2 * 3 * 2
    assert results.auc.between(0, 1).all()
    summary = pd.read_csv(finished[0] / "summary.csv", dtype={"scanner": str})
    assert sorted(set(summary.scanner)) == ["007", "far", "home", "worst"]
    assert set(summary.harmonizer) == {"none", "CDF, scanner", CHOSEN}
    assert (summary.difference[summary.harmonizer == "none"] == 0).all()


def test_the_report_is_one_file_that_asks_for_nothing(finished):
    page = (finished[0] / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert not re.search(r"<(script|link|iframe|object|embed)\b", page)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:|//|file:)""", page)
    assert "xray-harmonize compare" in page
    assert "This is no medical device" in page


def test_the_report_shows_no_image_that_was_not_asked_for(finished):
    page = (finished[0] / "report.html").read_text(encoding="utf-8")
    assert "Images before and after" not in page
    assert ".png" not in page


def test_the_pipeline_serves_both_ways(finished, folder):
    X = ImageSet.from_folder(folder, folder / "labels.csv")
    safe, quick = load(finished[0] / "best_pipeline.npz"), joblib.load(finished[0] / "best_pipeline.joblib")
    np.testing.assert_array_equal(safe.predict_proba(X), quick.predict_proba(X))
    assert set(safe.predict(X)) <= {"ill", "well"}


# -- options --------------------------------------------------------------------------------------------------------


@pytest.fixture
def results(finished, tmp_path):
    """Copy of the finished folder, whose parts need not be computed again."""
    shutil.copytree(finished[0], tmp_path / "results")
    return tmp_path / "results"


def test_a_rerun_finds_everything_and_shows_the_images_that_are_named(monkeypatch, folder, results):
    before = (results / "predictions.csv").read_bytes()
    times = {path.name: path.stat().st_mtime_ns for path in (results / "parts").iterdir()}
    assert compare(monkeypatch, folder, results, "--show", "far/3.png") == 0
    assert (results / "predictions.csv").read_bytes() == before
    assert {path.name: path.stat().st_mtime_ns for path in (results / "parts").iterdir()} == times
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "Images before and after" in page
    shown = page[page.index('aria-labelledby="samples"') : page.index('id="curves"')]
    assert shown.count("data-harmonizer") == 2  # without harmonization and with the one that was compared
    assert "007" not in shown
    assert str(folder) not in shown


def test_random_images_of_each_scanner_are_shown_if_asked_for(monkeypatch, folder, results):
    seen = {}
    monkeypatch.setattr("xray_harmonize.cli.outputs.write_report", lambda data, path: seen.update(data=data))
    assert compare(monkeypatch, folder, results, "--show-random", 2) == 0
    assert sorted(sample.scanner for sample in seen["data"].samples) == ["007", "007", "far", "far", "home", "home"]


def test_bad_rows_are_listed_and_left_out_if_asked_for(monkeypatch, folder, finished, results, capsys):
    assert compare(monkeypatch, folder, results, "--skip-bad", labels="with_bad.csv") == 0
    errors = capsys.readouterr().err
    assert re.search(r"skipped row 30, broken\.png: \S", errors)
    assert re.search(r"skipped row 31, gone\.png: no file", errors)
    assert (results / "predictions.csv").read_bytes() == (finished[0] / "predictions.csv").read_bytes()


def test_both_protocols_other_columns_and_the_largest_scanner_as_reference(monkeypatch, folder, tmp_path, capsys):
    rows = [(f"{name}/{i}.png", i % 2, name) for name in COUNTS for i in range(COUNTS[name])]
    table = write_table(tmp_path / "t.csv", rows, header=("file", "finding", "site"))
    columns = ["--path-column", "file", "--label-column", "finding", "--scanner-column", "site", "--patient-column", ""]
    settings = [*SETTINGS[:8], "--seeds", "1", "--folds", "2", "--bootstrap", "0", "--harmonizer", "CDF, image"]
    source = ["--images", folder, "--labels", table, "--out", tmp_path / "out"]
    assert run(monkeypatch, "compare", *source, *columns, *settings, "--protocol", "both") == 0
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype={"scanner": str})
    counts = predictions.groupby(["protocol", "scanner"]).size()
    assert "home" not in counts["leave one scanner out"]  # never left out
    assert counts["fixed classifier"].to_dict() == {"007": 16, "far": 16, "home": 12}
    printed = " ".join(capsys.readouterr().out.split())
    assert "Protocol leave one scanner out: " in printed
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "No patient column: every image was taken as a patient of its own" in page


def test_the_demo_shows_some_images_of_its_own(monkeypatch, tmp_path):
    from xray_harmonize import datasets

    whole = datasets.make_cohort
    monkeypatch.setattr(
        datasets, "make_cohort", lambda task, **options: whole(task, **{**options, "n_patients": 24, "size": 32})
    )
    seen = {}
    monkeypatch.setattr("xray_harmonize.cli.outputs.write_report", lambda data, path: seen.update(data=data))
    settings = [*SETTINGS[:8], "--seeds", "1", "--folds", "2", "--bootstrap", "0", "--harmonizer", "min-max"]
    assert run(monkeypatch, "compare", "--demo", "--task", "pneumonia", "--out", tmp_path / "demo", *settings) == 0
    assert {path.name for path in (tmp_path / "demo").iterdir()} == OUTPUTS - {"report.html"}
    scanners = [sample.scanner for sample in seen["data"].samples]
    assert len(scanners) == 2 * len(set(scanners)) >= 4


@pytest.fixture
def few_candidates(monkeypatch):
    """Compare a few candidates by default, one of each class and the control beside it, all quick to fit."""

    def candidates(vgg_weights=None, gdce=None, networks=None, batch_size=2):
        given.update(vgg_weights=vgg_weights, gdce=gdce, networks=networks)
        quick = {"perceptual": None, "max_steps": 4, "lr": 0.5, "batch_size": batch_size, "validation_fraction": 0}
        return [
            Candidate("none"),
            Candidate("CDF, scanner", (CDFMatching(scope="scanner"),), sees=UNLABELLED),
            Candidate("GDCE, scanner", (GDCE(scope="scanner", **quick, **gdce),), sees=LABELLED),
            Candidate("fine-tuned", sees=LABELLED, fine_tunes=True),
        ]

    given = {}
    monkeypatch.setattr("xray_harmonize.evaluation.candidates.default_candidates", candidates)
    return given


FEW = [*SETTINGS[:8], "--seeds", "1", "--folds", "2", "--bootstrap", "20", "--device", "cpu"]


def test_methods_that_see_labels_stand_in_a_class_of_their_own(monkeypatch, folder, tmp_path, capsys, few_candidates):
    weights = tmp_path / "vgg.pt"
    weights.write_bytes(b"never read without a perceptual loss")
    options = ["--protocol", "both", "--vgg-weights", weights, "--show", "far/3.png"]
    assert compare(monkeypatch, folder, tmp_path / "out", *options, settings=FEW) == 0
    gdce = {"device": "cpu", "speed": "faster", "view_size": 64}
    assert few_candidates == {"vgg_weights": weights, "gdce": gdce, "networks": {"device": "cpu"}}
    printed = capsys.readouterr().out
    first = printed[: printed.index("AUC, leave one scanner out")]
    places = [first.index(name) for name in ("none", "CDF, scanner", "GDCE, scanner", "fine-tuned")]
    assert places == sorted(places)
    summary = pd.read_csv(tmp_path / "out" / "summary.csv", dtype={"scanner": str})
    sees = summary.drop_duplicates(["protocol", "harmonizer", "sees"]).set_index(["protocol", "harmonizer"])["sees"]
    assert sees["fixed classifier", "GDCE, scanner"] == sees["fixed classifier", "fine-tuned"] == LABELLED
    assert sees["leave one scanner out", "GDCE, scanner"] == UNLABELLED
    assert ("leave one scanner out", "fine-tuned") not in sees.index
    assert set(sees["fixed classifier", CHOSEN]) == {UNLABELLED, LABELLED}
    page = " ".join((tmp_path / "out" / "report.html").read_text(encoding="utf-8").split())
    assert page.count("Sees labelled images") == 1
    assert "learn from one half of its patients and the reference's training images" in page.replace("&#39;", "'")
    assert "Where a scanner is left out, nobody sees its labels" in page
    assert "Not compared where a scanner is left out, for want of its labels: fine-tuned." in page
    assert 'data-harmonizer="GDCE, scanner"' in page
    assert "Of the methods that see labelled images of far" in page
    assert "is saved for deployment." in page


def test_what_the_images_are_too_few_for_is_left_out_unless_it_was_named(
    monkeypatch, folder, tmp_path, capsys, few_candidates
):
    import xray_harmonize.evaluation.candidates as module

    many = functools.partial(module.default_candidates, batch_size=12)
    monkeypatch.setattr(module, "default_candidates", many)
    assert compare(monkeypatch, folder, tmp_path / "out", settings=FEW) == 0
    errors = capsys.readouterr().err
    reason = "'GDCE, scanner' learns from labelled images of other patients than it is tested on; scanner '007' has 8"
    assert errors.count(f"warning: Left out: {reason}") == 1
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert "GDCE, scanner" not in set(summary.harmonizer)
    assert "fine-tuned" in set(summary.harmonizer)
    assert "Left out" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    named = [*FEW, "--harmonizer", "GDCE, scanner"]
    assert compare(monkeypatch, folder, tmp_path / "out", settings=named) == 2
    assert reason in capsys.readouterr().err


def test_the_demo_leaves_out_what_takes_long_and_says_so(monkeypatch, tmp_path, capsys, few_candidates):
    from xray_harmonize import datasets
    from xray_harmonize.cli import compare as module

    whole = datasets.make_cohort
    monkeypatch.setattr(
        datasets, "make_cohort", lambda task, **options: whole(task, **{**options, "n_patients": 24, "size": 32})
    )
    monkeypatch.setattr(module, "_NOT_IN_DEMO", ("GDCE, scanner",))
    assert run(monkeypatch, "compare", "--demo", "--task", "pneumonia", "--out", tmp_path / "demo", *FEW) == 0
    assert few_candidates["gdce"]["speed"] == "faster"
    warning = "warning: Left out: 'GDCE, scanner' takes too long for a demo. Name it with --harmonizer."
    assert capsys.readouterr().err.splitlines().count(warning) == 1
    assert "GDCE, scanner" not in set(pd.read_csv(tmp_path / "demo" / "summary.csv").harmonizer)


@pytest.fixture
def tiny_networks(monkeypatch):
    """Compare methods that train networks of their own, with a step each, and one that does not."""
    import xray_harmonize.evaluation.candidates as module

    whole = module.default_candidates

    def candidates(vgg_weights=None, gdce=None, networks=None):
        given = {one.name: one for one in whole(vgg_weights, gdce, {**networks, "max_steps": 1})}
        return [given[name] for name in ("none", "min-max", "DLBC", "U-Net", "CycleGAN")]

    monkeypatch.setattr(module, "default_candidates", candidates)


def test_what_trains_a_network_of_its_own_is_compared_where_it_is_asked_for(
    monkeypatch, folder, tmp_path, capsys, tiny_networks
):
    assert compare(monkeypatch, folder, tmp_path / "some", settings=FEW) == 0
    warning = (
        "warning: Left out: 'DLBC', 'U-Net', 'CycleGAN' train networks of their own in every split, for minutes to "
        "hours in all. Name them with --harmonizer, or compare everything with --all."
    )
    assert capsys.readouterr().err.splitlines().count(warning) == 1
    assert set(pd.read_csv(tmp_path / "some" / "summary.csv").harmonizer) == {"none", "min-max", CHOSEN}
    settings = [*FEW, "--protocol", "both", "--harmonizer", "U-Net", "--harmonizer", "CycleGAN"]
    assert compare(monkeypatch, folder, tmp_path / "named", settings=settings) == 0
    assert "Left out" not in capsys.readouterr().err
    summary = pd.read_csv(tmp_path / "named" / "summary.csv")
    assert set(summary.harmonizer) == {"none", "U-Net", "CycleGAN", CHOSEN}
    sees = summary.drop_duplicates("harmonizer").set_index("harmonizer")["sees"]
    assert (sees["U-Net"], sees["CycleGAN"]) == (NOTHING, UNLABELLED)
    assert compare(monkeypatch, folder, tmp_path / "all", "--all", settings=FEW) == 0
    assert {"DLBC", "U-Net", "CycleGAN"} < set(pd.read_csv(tmp_path / "all" / "summary.csv").harmonizer)


def test_a_warning_is_one_line_and_stands_in_the_report_too(monkeypatch, folder, tmp_path, capsys):
    rows = list(csv.reader((folder / "labels.csv").open()))[1:]
    rows[0][1] = "rare"
    table = write_table(tmp_path / "rare.csv", rows)
    settings = [*SETTINGS[:8], "--seeds", "1", "--folds", "2", "--bootstrap", "0", "--harmonizer", "none"]
    source = ["--images", folder, "--labels", table, "--reference", "home", "--out", tmp_path / "out"]
    assert run(monkeypatch, "compare", *source, *settings) == 0
    warning = "Class rare has 1 patients for 2 folds: some folds hold none of it."
    assert capsys.readouterr().err.splitlines().count(f"warning: {warning}") == 1
    assert warning in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


# -- what is refused ------------------------------------------------------------------------------------------------


def refused(capsys):
    """Give the one line that was printed."""
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert "Traceback" not in line
    return line


def test_nothing_to_compare_says_what_to_give(monkeypatch, folder, tmp_path, capsys):
    for arguments in ([], ["--images", folder], ["--labels", folder / "labels.csv"]):
        assert run(monkeypatch, "compare", "--out", tmp_path / "out", *arguments) == 2
        assert refused(capsys) == "error: Give --images DIR and --labels CSV, or --demo to try a simulated cohort."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "{folder}/missing.csv"], r"missing\.csv: cannot be opened \(No such file or directory\)"),
        (["--images", "{folder}/missing"], r"missing: no such folder"),
        (["--scanner-column", "site"], r"no column 'site', the columns are 'path', 'label', 'scanner', 'patient'"),
        (["--patient-column", "person"], r"no column 'person'.* Here these are --path-column, .* and --skip-bad\."),
        (["--reference", "hoem"], r"reference='hoem' is none of the scanners 007, far, home"),
        (
            ["--reference", "hoem", "--protocol", "loso"],
            r"keep names 'hoem', but the scanners are '007', 'far', 'home'",
        ),
        (["--harmonizer", "CDF"], r"There is no harmonizer 'CDF' to compare; known are 'none', 'min-max'"),
        (["--demo"], r"--demo makes its own images; leave --images out, or --demo"),
        (["--all"], r"--harmonizer names what to compare; leave it out with --all\."),
        (["--show", "far/99.png"], r"--show far/99\.png: the table has no such image"),
        (["--labels", "{folder}/with_bad.csv"], r"2 row\(s\) cannot be used: row 30 \('broken\.png'\)"),
        (["--folds", "50"], r"50 folds need at least 50 patients; there are 12"),
        (["--depth", "11"], r"depth.*11"),
        (["--weights", "{folder}/missing.pt"], r"missing\.pt"),
        (
            ["--vgg-weights", "{folder}/gone.pt"],
            r"--vgg-weights .*gone\.pt: there is no such file",
        ),
        (["--device", "abacus"], r"device='abacus' is not there on this machine"),
        (["--out", "{folder}/labels.csv"], r"File exists: .*labels\.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_and_status_2(monkeypatch, folder, tmp_path, capsys, arguments, message):
    given = [argument.format(folder=folder) for argument in arguments]
    assert compare(monkeypatch, folder, tmp_path / "out", *given) == 2
    line = refused(capsys)
    assert line.startswith("error: ")
    assert re.search(message, line)


def test_one_scanner_is_no_comparison(monkeypatch, folder, tmp_path, capsys):
    rows = [(f"home/{i}.png", i % 2, "home", i) for i in range(12)]
    table = write_table(tmp_path / "one.csv", rows)
    source = ["--images", folder, "--labels", table, "--out", tmp_path / "out"]
    assert run(monkeypatch, "compare", *source, *SETTINGS) == 2
    assert "at least two scanners; X.scanner holds only 'home'" in refused(capsys)


def test_an_error_is_red_in_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert run(monkeypatch, "compare") == 2
    assert capsys.readouterr().err.startswith("\x1b[31merror: ")


@pytest.mark.parametrize("arguments", [["--seeds", "0"], ["--folds", "1"], ["--protocol", "x"], ["--unknown"]], ids=str)
def test_options_out_of_range_are_refused_with_status_2(monkeypatch, tmp_path, capsys, arguments):
    assert run(monkeypatch, "compare", "--out", tmp_path / "out", *arguments) == 2
    assert arguments[0] in capsys.readouterr().err


# -- the command itself ---------------------------------------------------------------------------------------------


def test_the_version_is_printed(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"xray-harmonize {xray_harmonize.__version__}\n"


def test_help_names_commands_and_options(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    printed = capsys.readouterr().out
    assert "compare" in printed
    assert "adapt" in printed
    assert "Not a medical device" in " ".join(printed.split())
    assert "Usage: xray-harmonize " in printed
    assert run(monkeypatch, "compare", "--help") == 0
    printed = capsys.readouterr().out
    for option in ("--images", "--labels", "--reference", "--protocol", "--skip-bad", "--show"):
        assert option in printed


def test_the_version_and_help_need_no_network_library():
    code = (
        "import sys\n"
        "from xray_harmonize.cli import main\n"
        "try:\n"
        "    main.run(['compare', '--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    package = Path(xray_harmonize.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


# -- Ctrl-C ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_with_a_word_and_status_130_and_a_rerun_goes_on(monkeypatch, folder, finished, tmp_path):
    out = tmp_path / "results"
    arguments = ["--images", folder, "--labels", folder / "labels.csv", "--reference", "home", "--out", out, *SETTINGS]
    package = Path(xray_harmonize.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "xray_harmonize.cli.main", "compare", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(package)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs deaf to Ctrl-C, and tests may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("parts/classifier-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. What is finished is kept: run the same command again to go on." in errors
    assert "Traceback" not in errors
    kept = {path: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert kept
    assert all(path.suffix in (".csv", ".npz") for path in kept)
    assert compare(monkeypatch, folder, out) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (out / "predictions.csv").read_bytes() == (finished[0] / "predictions.csv").read_bytes()
    assert {path.name for path in out.iterdir()} == OUTPUTS
