"""Filling a catalogue: in parallel, only what is new, safe to stop at any moment."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archive_folder import put_image, table
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.catalog import header_workers
from xray_harmonize.catalog.index import build_index
from xray_harmonize.catalog.patients import patient_key
from xray_harmonize.exceptions import CatalogError, ImageReadError, InvalidParameterError

FULL = "SELECT * FROM image_full ORDER BY path"
ERRORS = "SELECT path, kind, reason FROM error ORDER BY path"


@pytest.fixture
def archive(tmp_path):
    for number in range(3):
        put_image(tmp_path / "archive" / f"p{number}" / f"{number}.dcm", patient=f"p{number}")
    return tmp_path / "archive"


@pytest.fixture
def db(tmp_path):
    return tmp_path / "a.sqlite"


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are opened in this process."""
    names = []
    plain = header_workers.read_acquisition

    def noting(path):
        names.append(Path(path).name)
        return plain(path)

    monkeypatch.setattr(header_workers, "read_acquisition", noting)
    return names


def counts(summary):
    return {name: getattr(summary, f"n_{name}") for name in ("new", "unchanged", "changed", "gone", "errors")}


def some(**differing):
    return {"new": 0, "unchanged": 0, "changed": 0, "gone": 0, "errors": 0} | differing


def images(db, columns="path"):
    return table(db, f"SELECT {columns} FROM image_full ORDER BY path")


# -- what a run does ----------------------------------------------------------------------------------------------


def test_every_image_becomes_a_row_with_its_acquisition(archive, db):
    summary = build_index(archive, db)
    assert counts(summary) == some(new=3)
    assert summary.seconds > 0
    assert images(db, "path, patient_id, kvp, view, vendor, bits_stored, signed") == [
        (f"{archive}/p{number}/{number}.dcm", f"p{number}", 120.0, "PA", "GE", 12, 0) for number in range(3)
    ]
    ((what, file, n_rows),) = table(db, "SELECT what, file, n_rows FROM provenance")
    assert (what, file, n_rows) == ("index", str(archive), 3)


def test_files_that_have_not_changed_are_not_opened(archive, db, read):
    build_index(archive, db)
    rows = table(db, FULL)
    read.clear()
    assert counts(build_index(archive, db)) == some(unchanged=3)
    assert read == []
    assert table(db, FULL) == rows
    assert len(table(db, "SELECT * FROM provenance")) == 1


def test_new_and_changed_files_alone_are_read_and_images_keep_their_number(archive, db, read):
    build_index(archive, db)
    before = dict(images(db, "path, image_id"))
    hashes = dict(images(db, "path, (SELECT header_hash FROM image WHERE image.image_id = image_full.image_id)"))
    put_image(archive / "p1" / "1.dcm", patient="somebody else")
    put_image(archive / "new.dcm")
    read.clear()
    assert counts(build_index(archive, db)) == some(new=1, changed=1, unchanged=2)
    assert sorted(read) == ["1.dcm", "new.dcm"]
    after = dict(images(db, "path, image_id"))
    assert before.items() <= after.items()
    assert len(after) == 4
    assert (f"{archive}/p1/1.dcm", "somebody else") in images(db, "path, patient_id")
    now = dict(images(db, "path, (SELECT header_hash FROM image WHERE image.image_id = image_full.image_id)"))
    assert {Path(path).name for path, value in hashes.items() if now[path] != value} == {"1.dcm"}


def test_images_whose_file_is_gone_leave_the_view_and_come_back_without_being_read(archive, db, read):
    build_index(archive, db)
    path = archive / "p1" / "1.dcm"
    path.rename(archive.parent / "aside.dcm")
    assert counts(build_index(archive, db)) == some(unchanged=2, gone=1)
    assert len(images(db)) == 2
    assert table(db, "SELECT path, present FROM image ORDER BY path")[1] == ("p1/1.dcm", 0)
    assert counts(build_index(archive, db)) == some(unchanged=2)
    (archive.parent / "aside.dcm").rename(path)
    read.clear()
    assert counts(build_index(archive, db)) == some(unchanged=3)
    assert read == []
    assert len(images(db)) == 3


def test_files_that_cannot_be_used_are_listed_once_with_the_reason(archive, db, read):
    (archive / "notes.txt").write_text("no image")
    (archive / "cut.dcm").write_bytes((archive / "p0" / "0.dcm").read_bytes()[:400])
    put_image(archive / "colour.dcm", PhotometricInterpretation="RGB")
    summary = build_index(archive, db)
    assert counts(summary) == some(new=3, errors=2)
    assert summary.n_not_dicom == 1
    assert [row[:2] for row in table(db, ERRORS)] == [
        ("colour.dcm", "refused"),
        ("cut.dcm", "refused"),
        ("notes.txt", "not DICOM"),
    ]
    reasons = [reason for _, _, reason in table(db, ERRORS)]
    assert reasons[0].startswith("PhotometricInterpretation (0028,0004) is 'RGB'")
    assert not any(str(archive) in reason for reason in reasons)
    read.clear()
    assert counts(build_index(archive, db)) == some(unchanged=3, errors=2)
    assert read == []


def test_a_file_that_is_mended_moves_from_errors_to_images_and_back(archive, db):
    good = (archive / "p0" / "0.dcm").read_bytes()
    (archive / "p0" / "0.dcm").write_bytes(good[:400])
    assert counts(build_index(archive, db)) == some(new=2, errors=1)
    (archive / "p0" / "0.dcm").write_bytes(good)
    assert counts(build_index(archive, db)) == some(new=1, unchanged=2)
    assert table(db, ERRORS) == []
    (archive / "p0" / "0.dcm").write_bytes(good[:300])
    assert counts(build_index(archive, db)) == some(unchanged=2, errors=1)
    assert len(images(db)) == 2
    (archive / "p0" / "0.dcm").unlink()
    assert counts(build_index(archive, db)) == some(unchanged=2)
    assert table(db, ERRORS) == []


def test_what_could_not_be_opened_is_tried_again(archive, db):
    (archive / "link.dcm").symlink_to(archive.parent / "later.dcm")
    assert counts(build_index(archive, db)) == some(new=3, errors=1)
    assert table(db, ERRORS) == [("link.dcm", "unreadable", "cannot be looked at (No such file or directory)")]
    put_image(archive.parent / "later.dcm")
    assert counts(build_index(archive, db)) == some(new=1, unchanged=3)
    assert table(db, ERRORS) == []


def test_a_file_that_vanishes_or_is_locked_while_it_is_read_is_unreadable(archive, db, monkeypatch):
    plain = header_workers.read_acquisition

    def late(path):
        Path(path).unlink(missing_ok=True)
        return plain(path)

    monkeypatch.setattr(header_workers, "read_acquisition", late)
    assert counts(build_index(archive, db)) == some(errors=3)
    assert {kind for _, kind, _ in table(db, ERRORS)} == {"unreadable"}
    assert counts(build_index(archive, db)) == some()


def test_whatever_a_header_makes_its_parser_raise_stops_nothing(archive, db, monkeypatch):
    plain = header_workers.read_acquisition

    def failing(path):
        if "p1" in path:
            raise RecursionError("too\ndeep")
        return plain(path)

    monkeypatch.setattr(header_workers, "read_acquisition", failing)
    assert counts(build_index(archive, db)) == some(new=2, errors=1)
    assert table(db, ERRORS) == [("p1/1.dcm", "refused", "the header cannot be read (RecursionError: too deep)")]


@pytest.mark.parametrize("value", [2**70, "\ud800", ["a list"]])
def test_a_row_that_cannot_be_stored_becomes_an_error_alone(archive, db, monkeypatch, value):
    plain = header_workers.read_acquisition

    def absurd(path):
        return {**plain(path), **({"rows": value} if "p1" in path else {})}

    monkeypatch.setattr(header_workers, "read_acquisition", absurd)
    assert counts(build_index(archive, db)) == some(new=2, errors=1)
    ((path, kind, reason),) = table(db, ERRORS)
    assert (path, kind) == ("p1/1.dcm", "refused")
    assert reason.startswith("the header holds a value that cannot be stored (")


def test_the_catalogue_may_lie_in_the_folder(archive):
    for expected in (some(new=3), some(unchanged=3)):
        summary = build_index(archive, archive / "a.sqlite")
        assert (counts(summary), summary.n_not_dicom) == (expected, 0)


def test_a_folder_that_cannot_be_listed_keeps_its_images(archive, db, monkeypatch):
    (archive / "p1" / "bad.dcm").write_bytes(bytes(128) + b"DICM")
    build_index(archive, db)
    plain = os.open

    def refusing(path, *arguments, **keywords):
        if str(path).endswith("p1/"):
            raise PermissionError(13, "Permission denied")
        return plain(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", refusing)
    assert counts(build_index(archive, db)) == some(unchanged=2, errors=2)
    assert len(images(db)) == 3
    assert ("p1/", "unreadable", "the folder cannot be listed (Permission denied)") in table(db, ERRORS)
    monkeypatch.undo()
    assert counts(build_index(archive, db)) == some(unchanged=3, errors=1)


# -- folders in folders -------------------------------------------------------------------------------------------


def test_a_folder_inside_an_indexed_one_belongs_to_it(archive, db):
    put_image(archive / "p10" / "10.dcm")  # its name begins like the folder's
    build_index(archive, db)
    put_image(archive / "p1" / "new.dcm")
    (archive / "p0" / "0.dcm").unlink()
    (archive / "p10" / "10.dcm").unlink()
    assert counts(build_index(archive / "p1", db)) == some(new=1, unchanged=1)
    assert len(images(db)) == 5, "what lies outside was not looked at"
    assert counts(build_index(archive, db)) == some(unchanged=3, gone=2)


def test_a_folder_around_indexed_ones_takes_their_place(archive, db, read):
    (archive / "p1" / "bad.dcm").write_bytes(bytes(128) + b"DICM")
    for name in ("p0", "p1"):
        build_index(archive / name, db)
    read.clear()
    assert counts(build_index(archive, db)) == some(new=1, unchanged=2, errors=1)
    assert read == ["2.dcm"]
    assert table(db, "SELECT root FROM source") == [(str(archive),)]
    assert len(images(db)) == 3


def test_links_to_folders_are_followed_if_asked(archive, db):
    put_image(archive.parent / "elsewhere" / "far.dcm")
    (archive / "link").symlink_to(archive.parent / "elsewhere")
    assert counts(build_index(archive, db)) == some(new=3)
    assert counts(build_index(archive, db, follow_links=True)) == some(new=1, unchanged=3)


# -- patients -----------------------------------------------------------------------------------------------------


def test_hashed_patients_still_join(archive, db):
    salt = b"a secret of many bytes"
    put_image(archive / "again.dcm", patient="p1")
    put_image(archive / "nobody.dcm", patient="")
    build_index(archive, db, patient_salt=salt)
    held = {Path(path).name: patient for path, patient in images(db, "path, patient_id")}
    assert held["1.dcm"] == held["again.dcm"] == patient_key("p1", salt)
    assert held["nobody.dcm"] is None
    assert len(set(held.values())) == 4
    with pytest.raises(CatalogError, match="its patient identifiers are hashed; give the salt"):
        build_index(archive, db)
    assert counts(build_index(archive, db, patient_salt=salt)) == some(unchanged=5)


# -- in parallel, stopped, at once --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """An archive that is worth several processes."""
    root = tmp_path_factory.mktemp("large")
    content = put_image(root / "0" / "0.dcm").read_bytes()
    for number in range(1, 400):
        folder = root / f"{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.dcm").write_bytes(content if number % 50 else content[:300])
    return root


PLAIN = "SELECT path, header_hash, acquisition.* FROM image JOIN acquisition USING (image_id) ORDER BY path"


@pytest.fixture(scope="module")
def expected(large, tmp_path_factory):
    db = tmp_path_factory.mktemp("expected") / "a.sqlite"
    assert counts(build_index(large, db, n_jobs=1)) == some(new=393, errors=7)
    return content(db)


def content(db):
    rows = [(path, *values) for path, values, _, *others in table(db, PLAIN) for values in [(values, *others)]]
    return rows, table(db, ERRORS)


def test_several_processes_find_what_one_finds(large, db, expected):
    assert counts(build_index(large, db, n_jobs=2, batch_size=30)) == some(new=393, errors=7)
    assert content(db) == expected
    assert counts(build_index(large, db, n_jobs=2)) == some(unchanged=393, errors=7)


def test_what_was_finished_before_ctrl_c_is_kept(large, db, expected):
    def impatient(progress):
        if progress.n_read >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(large, db, n_jobs=2, batch_size=50, progress=impatient)
    ((n_kept,),) = table(db, "SELECT count(*) FROM image")
    assert 100 <= n_kept < 393
    summary = build_index(large, db, n_jobs=1)
    assert summary.n_new == 393 - n_kept
    assert content(db) == expected


def start(large, db, *, wait):
    code = (
        "import sys, time\n"
        "from xray_harmonize.catalog.index import build_index\n"
        f"def slow(progress):\n    print(progress.n_read, flush=True)\n    time.sleep({wait})\n"
        f"build_index({str(large)!r}, {str(db)!r}, n_jobs=2, batch_size=20, progress=slow)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_run_that_is_killed_leaves_whole_batches_and_no_process_behind(large, db, expected):
    run = start(large, db, wait=0.05)
    assert run.stdout is not None
    while int(run.stdout.readline()) < 100:
        pass
    workers = children(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    ((n_kept,),) = table(db, "SELECT count(*) FROM image")
    assert 0 < n_kept < 393
    until = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() and _alive(worker) for worker in workers):
        assert time.monotonic() < until, "a worker outlives the run"
        time.sleep(0.01)
    assert len(workers) == 2
    assert build_index(large, db, n_jobs=1).n_new == 393 - n_kept
    assert content(db) == expected


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_two_runs_at_once_end_with_every_image_once(large, db, expected):
    other = start(large, db, wait=0.001)
    build_index(large, db, n_jobs=1, batch_size=10)
    other.communicate()
    assert other.returncode == 0
    assert content(db) == expected


def test_a_worker_that_is_killed_is_said_and_what_was_read_is_kept(large, db, expected, monkeypatch):
    parent, plain = os.getpid(), header_workers.read_acquisition

    def deadly(path):
        if path.endswith("399.dcm") and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(path)

    monkeypatch.setattr(header_workers, "read_acquisition", deadly)
    with pytest.raises(CatalogError, match="A process that reads headers was killed, perhaps for want of memory"):
        build_index(large, db, n_jobs=2, batch_size=10)
    monkeypatch.undo()
    build_index(large, db, n_jobs=2)
    assert content(db) == expected


def test_progress_tells_how_far_it_is(large, db):
    told = []
    build_index(large, db, n_jobs=1, progress=told.append)
    assert told[0].n_to_read is None
    assert (told[-1].n_found, told[-1].n_read, told[-1].n_to_read) == (400, 400, 400)
    assert [one.n_read for one in told] == sorted(one.n_read for one in told)


operations = st.lists(
    st.tuples(
        st.sampled_from(["write", "spoil", "remove", "index", "index below"]), st.sampled_from("abc"), st.integers(0, 3)
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(operations)
def test_whatever_happened_between_runs_the_catalogue_ends_like_a_new_one(tmp_path_factory, steps):
    root = tmp_path_factory.mktemp("steps")
    archive = root / "archive"
    (archive / "below").mkdir(parents=True)
    clock = 0
    for what, name, number in [*steps, ("index", "a", 0)]:
        path = archive / ("below" if number % 2 else ".") / name
        clock += 1
        if what == "write":
            put_image(path, patient=str(number))
        elif what == "spoil":
            path.write_text(name * number)
        elif what == "remove":
            path.unlink(missing_ok=True)
        else:
            build_index(archive / "below" if "below" in what else archive, root / "a.sqlite")
            continue
        if path.exists():
            os.utime(path, ns=(clock, clock))
    build_index(archive, root / "new.sqlite")
    for sql in ("SELECT path, patient_id, scanner FROM image_full ORDER BY path", ERRORS):
        assert table(root / "a.sqlite", sql) == table(root / "new.sqlite", sql)


# -- refused ------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named_and_no_catalogue_made(tmp_path, db):
    with pytest.raises(ImageReadError, match="missing: no such folder, expected one that holds DICOM files"):
        build_index(tmp_path / "missing", db)
    assert not db.exists()


def test_a_folder_that_cannot_be_listed_at_all_is_an_error(archive, db, monkeypatch):
    plain = os.open

    def refusing(path, *arguments, **keywords):
        if str(path).startswith(str(archive)):
            raise PermissionError(13, "Permission denied")
        return plain(path, *arguments, **keywords)

    build_index(archive, db)
    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(ImageReadError, match=r"archive/: the folder cannot be listed \(Permission denied\); check its"):
        build_index(archive, db)
    monkeypatch.undo()
    assert len(images(db)) == 3


@pytest.mark.parametrize("n_jobs", [0, -2, 1.5, True])
def test_n_jobs_is_a_number_of_processes(archive, db, n_jobs):
    with pytest.raises(InvalidParameterError, match=f"n_jobs must be an integer of at least 1, or -1 .*; got {n_jobs}"):
        build_index(archive, db, n_jobs=n_jobs)


def test_batch_size_is_a_number_of_files(archive, db):
    with pytest.raises(InvalidParameterError, match="batch_size must be an integer of at least 1; got 0"):
        build_index(archive, db, batch_size=0)


def test_a_catalogue_that_cannot_be_written_is_said(archive, db, monkeypatch):
    def full(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("xray_harmonize.catalog.index.write_batch", full)
    with pytest.raises(CatalogError, match=r"cannot be written \(database or disk is full\). What was written"):
        build_index(archive, db)


@pytest.mark.realdata
def test_the_real_files_are_all_indexed(real_data, db):
    assert counts(build_index(real_data / "dicom", db)) == some(new=8)
    vendors = {vendor for (vendor,) in images(db, "vendor")}
    assert {"GE", "Fujifilm", "Philips", "Canon", "Konica Minolta"} <= vendors
