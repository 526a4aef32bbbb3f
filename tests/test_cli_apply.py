"""``xray-harmonize apply``: a model over a folder or a catalogue, and a status that tells whether all is well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archive_factory import fitted, make_dicom_images, make_images, rows, written

from xray_harmonize import CDFMatching, FullRange, ImageSet, save
from xray_harmonize.catalog.index import build_index
from xray_harmonize.cli import main


@pytest.fixture
def scans(tmp_path):
    make_images(tmp_path / "scans")
    return tmp_path / "scans"


@pytest.fixture
def model(scans, tmp_path):
    save(fitted(sorted(scans.rglob("*.npy"))), tmp_path / "model.npz")
    return tmp_path / "model.npz"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def run(monkeypatch, *arguments, jobs=1):
    arguments = ["xray-harmonize", "apply", *map(str, arguments)]
    if "--scheduler" not in arguments:
        arguments += ["--jobs", str(jobs)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


def refused(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_a_folder_is_harmonized_and_a_second_time_is_free(monkeypatch, scans, model, out, capsys):
    assert run(monkeypatch, "--model", model, "--images", scans, "--out", out, "--format", "png") == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{out}: 6 of 6 file(s) harmonized, 0 failed, in ")
    assert len(written(out)) == 6
    assert run(monkeypatch, "--model", model, "--images", scans, "--out", out, "--format", "png", "--verify") == 0
    assert "0 of 6 file(s) harmonized, 6 done before and unchanged, 0 failed" in capsys.readouterr().out


def test_failures_are_listed_with_their_reasons_and_the_status_tells(monkeypatch, scans, model, out, capsys):
    for i in range(12):
        (scans / "home" / f"bad {i:02d}.npy").write_bytes(b"\x93NUMPY and no more")
    assert run(monkeypatch, "--model", model, "--images", scans, "--out", out, "--format", "npy") == 1
    printed = capsys.readouterr()
    assert "6 of 18 file(s) harmonized, 12 failed" in printed.out
    lines = printed.err.strip().splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(f"failed {scans / 'home' / 'bad 00.npy'}: not a readable NPY array")
    assert lines[-1].startswith(
        f"and 2 more; all are in {out / 'manifest.sqlite'}: SELECT source, reason FROM image WHERE"
    )
    assert rows(out, "count(*)", "state = 'failed'") == [(12,)]


def test_a_catalogue_gives_images_and_scanners(monkeypatch, tmp_path, out, capsys):
    for vendor, kvp in (("FUJIFILM", "70"), ("GE MEDICAL SYSTEMS", "120")):
        make_dicom_images(tmp_path / "archive" / kvp, Manufacturer=vendor, ManufacturerModelName="X", KVP=kvp)
    paths = sorted(path for path in (tmp_path / "archive").rglob("*") if path.is_file())
    db = tmp_path / "a.sqlite"
    build_index(tmp_path / "archive", db)
    save(CDFMatching().fit(ImageSet(paths)), tmp_path / "model.npz")
    common = ("--model", tmp_path / "model.npz", "--db", db, "--out", out)
    assert run(monkeypatch, *common, "--where", "kvp > 100") == 0
    assert sorted(written(out)) == [f"120/1.2.840.{i}.dcm" for i in range(3)]
    scanners = {scanner for (scanner,) in rows(out, "scanner")}
    assert len(scanners) == 1
    assert "GE" in scanners.pop()
    assert run(monkeypatch, *common) == 0
    assert "3 of 6 file(s) harmonized, 3 done before and unchanged" in capsys.readouterr().out
    other = ("--model", tmp_path / "model.npz", "--db", db, "--out", tmp_path / "one", "--format", "presentation")
    assert run(monkeypatch, *other, "--scanner", "one") == 0
    assert {scanner for (scanner,) in rows(tmp_path / "one", "scanner")} == {"one"}


def test_the_scanner_of_all_images_may_be_named(monkeypatch, scans, tmp_path, out, capsys):
    paths = sorted(scans.rglob("*.npy"))
    save(fitted(paths, scope="scanner", reference="home"), tmp_path / "model.npz")
    common = ("--model", tmp_path / "model.npz", "--images", scans / "far", "--format", "png")
    assert run(monkeypatch, *common, "--out", out) == 2
    assert "needs to know which scanner made each image" in refused(capsys)
    assert run(monkeypatch, *common, "--out", out, "--scanner", "new") == 1
    assert "Scanner 'new' was not seen in fit" in capsys.readouterr().err
    assert run(monkeypatch, *common, "--out", out, "--scanner", "far") == 0


def test_another_model_needs_overwrite(monkeypatch, scans, model, out, tmp_path, capsys):
    assert run(monkeypatch, "--model", model, "--images", scans, "--out", out, "--format", "png") == 0
    capsys.readouterr()
    save(FullRange(), tmp_path / "other.npz")
    arguments = ("--model", tmp_path / "other.npz", "--images", scans, "--out", out, "--format", "png")
    assert run(monkeypatch, *arguments) == 2
    assert "holds 6 output(s) of another model" in refused(capsys)
    assert run(monkeypatch, *arguments, "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give --images DIR or --db FILE, one of them."),
        (("--images", "a", "--db", "b"), "Give --images DIR or --db FILE, one of them."),
        (
            ("--images", "a", "--where", "1"),
            "--where chooses images of a catalogue; give --db FILE in place of --images.",
        ),
        (("--images", "missing"), "--images missing: there is no such folder."),
        (("--db", "missing.sqlite"), "missing.sqlite: there is no such catalogue"),
        (("--images", ".", "--scheduler", "tcp://127.0.0.1:9", "--format", "png"), "No Dask scheduler answers at"),
    ],
)
def test_what_cannot_be_done_is_one_line(monkeypatch, scans, model, out, capsys, arguments, message):
    if "--scheduler" in arguments:
        cluster = pytest.importorskip("xray_harmonize.archive.cluster", reason="Dask is not installed (extra dask)")
        monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    monkeypatch.chdir(scans)
    assert run(monkeypatch, "--model", model, "--out", out, *arguments) == 2
    assert message in refused(capsys)


def test_a_model_is_a_file_that_the_package_wrote(monkeypatch, scans, tmp_path, out, capsys):
    assert run(monkeypatch, "--model", tmp_path / "none.npz", "--images", scans, "--out", out) == 2
    assert "There is no model " in refused(capsys)
    (tmp_path / "model.joblib").write_bytes(b"")
    assert run(monkeypatch, "--model", tmp_path / "model.joblib", "--images", scans, "--out", out) == 2
    assert "model.joblib is a pickle; give the .npz that was written with it." in refused(capsys)


def test_ctrl_c_ends_with_its_own_status_and_the_same_command_goes_on(tmp_path, out):
    make_images(tmp_path / "scans", 30)
    save(FullRange(), tmp_path / "model.npz")
    # The model of the file in place of which a slow one is applied, so that there is time to interrupt.
    code = (
        "import sys; from archive_factory import Halving; from xray_harmonize.cli import apply, main\n"
        "apply._model = lambda path: Halving(0.1)\n"
        "main.run('apply --model model.npz --images scans --out out --format png --jobs 1'.split())"
    )
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}", "OMP_NUM_THREADS": "1"}
    command = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    while command.poll() is None and len(list(out.rglob("*.png"))) < 3:
        time.sleep(0.01)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate()
    assert command.returncode == 130
    assert b"Interrupted. What is finished is kept: run the same command again to go on." in said
    assert 3 <= len(written(out)) < 30
