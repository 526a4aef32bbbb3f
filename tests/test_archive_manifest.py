"""The manifest: one run at a time, rows that tell the truth, and files that are no manifest."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from archive_factory import Halving, make_images, rows, written

from xray_harmonize import FullRange
from xray_harmonize.archive import apply, manifest
from xray_harmonize.archive.manifest import Manifest, show_presence
from xray_harmonize.exceptions import InvalidParameterError, PersistenceError


@pytest.fixture
def scans(tmp_path):
    make_images(tmp_path / "scans")
    return tmp_path / "scans"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def asked(out, sql):
    connection = sqlite3.connect(out / "manifest.sqlite")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_every_run_is_noted(scans, out):
    apply(FullRange(), scans, out, format="png")
    apply(FullRange(), scans, out, format="png")
    first, second = asked(out, "SELECT format, method, root, ended >= started, version FROM run ORDER BY run_id")
    assert first == second == ("png", "FullRange()", str(scans), 1, "0.1.0")


def test_it_can_be_read_while_a_run_goes_on(scans, out):
    seen = []

    def look(progress):
        done = rows(out, "count(*)", "state = 'done'")[0][0]
        assert done == progress.written
        seen.append(done)

    apply(FullRange(), scans, out, format="png", progress=look)
    assert seen == [0, 1, 2, 3, 4, 5, 6]


def test_two_runs_at_once_are_refused(scans, out):
    with Manifest(out), pytest.raises(InvalidParameterError, match=f"Another run is writing to {out}. Wait until"):
        apply(FullRange(), scans, out, format="png")
    assert apply(FullRange(), scans, out, format="png").written == 6


def test_a_run_of_another_process_is_seen_and_its_death_too(scans, out):
    hold = (
        "import sys; from xray_harmonize.archive.manifest import *; m = Manifest(Path(sys.argv[1])); print(1); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert holder.stdout.readline() == "1\n"
        with pytest.raises(InvalidParameterError, match="Another run is writing"):
            apply(FullRange(), scans, out, format="png")
    finally:
        holder.kill()
        holder.communicate()
    assert apply(FullRange(), scans, out, format="png").written == 6


def test_workers_of_a_killed_run_are_waited_for(scans, out, monkeypatch):
    apply(FullRange(), scans, out, format="png")
    with Manifest(out) as held:
        held.connection.execute("UPDATE run SET ended = NULL")
    monkeypatch.setattr(manifest, "_LEAVING_SECONDS", 0.1)
    worker = show_presence(out)
    with pytest.raises(InvalidParameterError, match="Processes of a killed run still write to"):
        apply(FullRange(), scans, out, format="png")
    worker.close()
    assert apply(FullRange(), scans, out, format="png").unchanged == 6


def test_what_a_killed_run_left_half_is_taken_away_and_nothing_else(scans, out):
    apply(FullRange(), scans, out, format="png")
    before = written(out)
    with Manifest(out) as held:
        held.connection.execute("UPDATE run SET ended = NULL")
    (out / "far" / f".{'0f' * 16}.part").write_bytes(b"half")
    (out / "far" / ".mine.part").write_bytes(b"not ours")
    apply(FullRange(), scans, out, format="png")
    assert written(out) == {**before, "far/.mine.part": b"not ours"}


def test_what_was_planned_and_not_begun_is_done_by_the_next_run(scans, out):
    apply(FullRange(), scans, out, format="png")
    before = written(out)
    (out / "home" / "0003.png").write_bytes(b"of a run that was killed before it noted this")
    with Manifest(out) as held:
        held.connection.execute("UPDATE image SET state = 'pending', output_sha256 = NULL WHERE image_id > 2")
    assert apply(FullRange(), scans, out, format="png").written == 4
    assert written(out) == before


def test_many_tasks_are_read_page_by_page(tmp_path, out, monkeypatch):
    monkeypatch.setattr(manifest, "_PAGE", 2)
    make_images(tmp_path / "scans", 5, size=3)
    assert apply(FullRange(), tmp_path / "scans", out, format="npy").written == 5


def test_a_warning_about_a_file_stands_in_its_row(scans, out):
    assert apply(Halving(warns="0003"), scans, out, format="png").ok
    assert rows(out, "state, warning", "warning IS NOT NULL") == [("done", "it looks odd")]
    assert apply(Halving(warns="0003"), scans, out, format="png", verify=True).unchanged == 6
    assert rows(out, "warning", "warning IS NOT NULL") == [("it looks odd",)]


def test_a_file_of_the_same_name_is_no_manifest(scans, out):
    out.mkdir()
    for content in (b"no database at all, but long enough for one", b""):
        (out / "manifest.sqlite").write_bytes(content)
        if not content:
            with sqlite3.connect(out / "manifest.sqlite") as other:
                other.execute("CREATE TABLE theirs (n)")
            other.close()
        with pytest.raises(
            PersistenceError, match=r"manifest.sqlite (cannot be written \(file is not|is no manifest of)"
        ):
            apply(FullRange(), scans, out, format="png")
        (out / "manifest.sqlite").unlink()


def test_a_folder_that_cannot_be_made_is_named(scans, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PersistenceError, match=r"file/out cannot be made \(Not a directory\); name a folder"):
        apply(FullRange(), scans, tmp_path / "file" / "out", format="png")
    (tmp_path / "out" / "manifest.lock").mkdir(parents=True)
    with pytest.raises(PersistenceError, match=r"manifest.lock cannot be written \(unable to open"):
        apply(FullRange(), scans, tmp_path / "out", format="png")


def test_source_and_output_names_are_text_of_any_language(tmp_path, out):
    paths = make_images(tmp_path / "scans", 1)
    odd = paths[0].with_name("Größe '; DROP TABLE image; --.npy")
    paths[0].rename(odd)
    apply(FullRange(), tmp_path / "scans", out, format="npy")
    assert rows(out, "output") == [(f"far/{odd.name}",)]
    assert np.load(out / "far" / odd.name).size
