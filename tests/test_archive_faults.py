"""What can go wrong with an archive, and that nothing is lost, done twice or left half when it does."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from archive_factory import Halving, fitted, make_dicom_images, make_images, rows, written

from xray_harmonize import FullRange
from xray_harmonize.archive import apply, workers
from xray_harmonize.exceptions import InvalidParameterError, PersistenceError, XRayHarmonizeError

TESTS = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def scans(tmp_path):
    make_images(tmp_path / "scans")
    return tmp_path / "scans"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


# -- bad files ----------------------------------------------------------------------------------------------------


def test_bad_files_are_listed_and_the_good_ones_done(tmp_path, out):
    paths = [*make_images(tmp_path / "scans"), *make_dicom_images(tmp_path / "scans" / "home")]
    cut_dicom, cut_npy, garbage = (
        tmp_path / "scans/home/cut.dcm",
        tmp_path / "scans/home/cut.npy",
        tmp_path / "scans/a.png",
    )
    cut_dicom.write_bytes(paths[-1].read_bytes()[:-100])
    cut_npy.write_bytes(paths[0].read_bytes()[:-100])
    garbage.write_bytes(b"no image")
    summary = apply(FullRange(), tmp_path / "scans", out, format="png")
    assert (summary.total, summary.written, summary.failed, summary.ok) == (12, 9, 3, False)
    assert sorted(source for source, _ in summary.failures) == sorted(map(str, (cut_dicom, cut_npy, garbage)))
    assert all(source in reason for source, reason in summary.failures)
    assert len(written(out)) == 9
    again = apply(FullRange(), tmp_path / "scans", out, format="png")
    assert (again.unchanged, again.failed) == (9, 3)
    cut_npy.write_bytes(paths[0].read_bytes())
    assert apply(FullRange(), tmp_path / "scans", out, format="png").written == 1


def test_missing_unreadable_and_changing_files_are_bad_files(scans, out, monkeypatch):
    missing, folder = scans / "home" / "gone.npy", scans / "home"
    summary = apply(FullRange(), [*sorted(scans.rglob("*.npy")), missing, folder], out, format="png")
    assert (summary.written, summary.failed) == (6, 2)
    told = dict(summary.failures)
    assert (
        told[str(missing)]
        == f"{missing}: cannot be opened (No such file or directory); check the path and its permissions."
    )
    assert "Is a directory" in told[str(folder)]

    def touching(image):
        os.utime(image.name, ns=(1, 1))
        return image.pixels / np.float32(65535)

    restless = Halving()
    monkeypatch.setattr(Halving, "_halve", lambda _, image: touching(image))
    summary = apply(restless, [scans / "far" / "0000.npy"], out.with_name("other"), format="png")
    assert summary.failures[0][1].endswith("0000.npy: it changed while it was read; run the same command again.")
    assert written(out.with_name("other")) == {}


def test_a_file_that_became_bad_has_no_output_any_more(scans, out):
    apply(FullRange(), scans, out, format="png")
    (scans / "home" / "0001.npy").write_bytes(b"\x93NUMPY and no more")
    (scans / "home" / "0003.npy").write_bytes(b"nothing that looks like an image")
    assert apply(FullRange(), scans, out, format="png").failed == 2
    assert sorted(written(out)) == ["far/0000.png", "far/0002.png", "far/0004.png", "home/0005.png"]
    assert rows(out, "state, output_sha256 IS NULL", "source LIKE '%home%'") == [
        ("failed", 1),
        ("failed", 1),
        ("done", 0),
    ]


def test_a_name_that_is_no_text_is_a_bad_file(scans, out):
    odd = os.fsencode(scans / "home") + b"/\xff.npy"
    shutil.copy(scans / "home" / "0001.npy", odd)
    summary = apply(FullRange(), scans, out, format="png")
    assert (summary.written, summary.failed) == (6, 1)
    assert summary.failures[0][1].endswith(r"\udcff.npy: its name is no valid UTF-8; rename it.")


def test_images_that_are_too_large_are_bad_files(scans, out):
    np.save(scans / "home" / "large.npy", np.ones((50, 50), dtype=np.uint16))
    summary = apply(FullRange(), scans, out, format="png", max_pixels=1000)
    assert (summary.written, summary.failed) == (6, 1)
    assert "50 x 50 pixels, expected at most 1000" in summary.failures[0][1]


def test_whatever_a_harmonizer_raises_is_told_in_one_line(scans, out):
    summary = apply(Halving(fails="0003"), scans, out, format="png")
    assert (summary.written, summary.failed) == (5, 1)
    reason = summary.failures[0][1]
    assert reason.startswith("RuntimeError: a line and [31manother long long")
    assert len(reason) == 500
    assert reason.isprintable()


def test_scanners_that_were_not_seen_are_bad_files(scans, out):
    paths = sorted(scans.rglob("*.npy"))
    harmonizer = fitted(paths, scope="scanner", reference="home")
    (scans / "new").mkdir()
    shutil.copy(paths[0], scans / "new" / "a.npy")
    summary = apply(harmonizer, scans, out, format="png")
    assert (summary.written, summary.failed) == (6, 1)
    assert summary.failures[0][1].startswith("Scanner 'new' was not seen in fit; known are far, home. Call adapt")


# -- killed -------------------------------------------------------------------------------------------------------


def test_runs_killed_at_any_moment_end_with_the_same_bytes(tmp_path, out):
    make_images(tmp_path / "scans", 40)
    script = [sys.executable, str(TESTS / "killed_runs.py"), str(tmp_path / "scans"), str(out), "12", "0"]
    done = int(subprocess.run(script, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True).stdout)
    assert 0 < done < 40
    last = apply(Halving(0.005), tmp_path / "scans", out, format="png")
    assert last.ok
    assert last.total == len(rows(out)) == len(written(out)) == 40
    apply(Halving(0.005), tmp_path / "scans", tmp_path / "undisturbed", format="png")
    assert written(out) == written(tmp_path / "undisturbed")
    columns = "output, state, reason, source_sha256, output_sha256, model_sha256"
    assert rows(out, columns) == rows(tmp_path / "undisturbed", columns)


def test_a_worker_that_dies_takes_one_file_with_it_and_the_others_are_done(tmp_path, out):
    paths = make_images(tmp_path / "scans", 9)
    apply(Halving(), paths, tmp_path / "alone", format="png")
    paths[4].rename(paths[4].with_name("killer.npy"))
    harmonizer = Halving(kills="killer", litters=str(out))
    summary = apply(harmonizer, tmp_path / "scans", out, format="png", n_jobs=2)
    assert (summary.written, summary.failed) == (8, 1)
    assert "killer" in summary.failures[0][0]
    assert "its process was killed or crashed, twice: often for want of memory" in summary.failures[0][1]
    expected = written(tmp_path / "alone")
    assert written(out) == {name: content for name, content in expected.items() if paths[4].stem not in name}


def interrupted_run(scans, out, number):
    """Start a run with two processes, send it a signal once something is done, and give what it said."""
    code = (
        "import sys; from archive_factory import Halving; from xray_harmonize.archive import apply\n"
        "apply(Halving(0.1), sys.argv[1], sys.argv[2], format='png', n_jobs=2)"
    )
    command = [sys.executable, "-c", code, scans, out]
    run = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True)
    while run.poll() is None and len(list(out.rglob("*.png"))) < 3:
        time.sleep(0.01)
    if number == signal.SIGINT:  # which a terminal sends to all
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    return run.communicate()[1]


def test_ctrl_c_keeps_what_is_finished(tmp_path, out):
    make_images(tmp_path / "scans", 30)
    assert b"KeyboardInterrupt" in interrupted_run(tmp_path / "scans", out, signal.SIGINT)
    done = written(out)
    assert 3 <= len(done) < 30
    assert rows(out, "count(*)", "state = 'done'") == [(len(done),)]
    assert all(name.endswith(".png") for name in done)


def test_processes_of_a_killed_run_leave_and_the_next_run_ends_with_the_same_bytes(tmp_path, out):
    make_images(tmp_path / "scans", 16)
    interrupted_run(tmp_path / "scans", out, signal.SIGKILL)
    assert rows(out, "count(*)", "state = 'done'")[0][0] < 16
    assert apply(Halving(0.1), tmp_path / "scans", out, format="png").ok
    apply(Halving(0.1), tmp_path / "scans", tmp_path / "undisturbed", format="png")
    assert written(out) == written(tmp_path / "undisturbed")


def test_an_interrupted_run_goes_on(scans, out, monkeypatch):
    def interrupted(progress):
        if progress.written == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply(FullRange(), scans, out, format="png", progress=interrupted)
    assert len(written(out)) == 2
    assert apply(FullRange(), scans, out, format="png").unchanged == 2


def test_processes_that_do_not_start_are_told_of(scans, out, monkeypatch):
    class Broken:
        def __init__(self, **_):
            pass

        def submit(self, *_):
            raise workers.BrokenProcessPool("no memory for it")

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Broken)
    with pytest.raises(
        InvalidParameterError, match=r"processes for n_jobs=2 do not start \(no memory for it\). Try n_j"
    ):
        apply(FullRange(), scans, out, format="png", n_jobs=2)


# -- a full disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_the_run_with_one_error(scans, out, monkeypatch, error):
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(error, os.strerror(error))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    message = (
        rf"out cannot take more files \(OSError: .*{os.strerror(error)}\). Make room, .* 2 file\(s\) of this run are"
    )
    with pytest.raises(PersistenceError, match=message):
        apply(FullRange(), scans, out, format="png")
    assert len(calls) == 3
    assert len(written(out)) == 2
    assert rows(out, "state, count(*)", "1 GROUP BY state") == [("done", 2), ("pending", 4)]
    monkeypatch.undo()
    summary = apply(FullRange(), scans, out, format="png")
    assert (summary.unchanged, summary.written) == (2, 4)


def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        make_images(tmp_path / "scans", 20, size=150)
        with pytest.raises(PersistenceError, match=r"cannot (take more files|be written)"):
            apply(FullRange(), tmp_path / "scans", disk / "out", format="npy")
        done = written(disk / "out")
        assert 0 < len(done) < 20
        assert all(len(content) >= 4 * 150 * 150 for content in done.values())
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        assert apply(FullRange(), tmp_path / "scans", disk / "out", format="npy").written >= 20 - len(done)
        apply(FullRange(), tmp_path / "scans", tmp_path / "undisturbed", format="npy")
        assert written(disk / "out") == written(tmp_path / "undisturbed")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full_below_another_error_is_seen_as_well(scans, out, monkeypatch):
    def wrapped(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise XRayHarmonizeError("it cannot be written") from error

    monkeypatch.setattr("xray_harmonize.archive.one_file.write_output", wrapped)
    with pytest.raises(PersistenceError, match=r"cannot take more files \(it cannot be written\)"):
        apply(FullRange(), scans, out, format="png")


def test_a_manifest_that_cannot_grow_ends_the_run(scans, out, monkeypatch):
    from xray_harmonize.archive.manifest import Manifest

    real = Manifest.record

    def record(self, outcome, model):
        if outcome.number == 3:
            self.connection.execute("PRAGMA max_page_count = 1")
            self.connection.execute("PRAGMA query_only = ON")
        real(self, outcome, model)

    monkeypatch.setattr(Manifest, "record", record)
    with pytest.raises(
        PersistenceError, match=r"manifest.sqlite cannot be written \(.*\). Check the folder and the free"
    ):
        apply(FullRange(), scans, out, format="png")
    monkeypatch.undo()
    assert apply(FullRange(), scans, out, format="png").ok
    assert len(written(out)) == 6
