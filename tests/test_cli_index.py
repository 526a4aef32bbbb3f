"""``xray-harmonize index``: one line when all is well, and which files failed when not."""

from __future__ import annotations

import re
import sys

import pytest
from archive_folder import put_image, table

from xray_harmonize.catalog.patients import patient_key
from xray_harmonize.cli import main


@pytest.fixture
def archive(tmp_path):
    for number in range(3):
        put_image(tmp_path / "archive" / f"{number}.dcm", patient=f"p{number}")
    return tmp_path / "archive"


@pytest.fixture
def db(tmp_path):
    return tmp_path / "a.sqlite"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", "index", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


def test_a_folder_is_indexed_and_again_at_no_cost(monkeypatch, archive, db, capsys):
    (archive / "notes.txt").write_text("no image")
    for expected in ("3 new, 0 changed, 0 unchanged", "0 new, 0 changed, 3 unchanged"):
        assert run(monkeypatch, archive, "--db", db, "--jobs", 1) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(f"{db}: {expected}, 0 gone, 0 failed, 1 no DICOM, in ")
        assert re.search(r"in \d+\.\d s\.$", line)


def test_failures_are_listed_with_their_reason_and_the_status_tells(monkeypatch, archive, db, capsys):
    put_image(archive / "colour.dcm", PhotometricInterpretation="RGB")
    for _ in range(2):  # all is not well either when nothing is read again
        assert run(monkeypatch, archive, "--db", db) == 1
        printed = capsys.readouterr()
        assert "1 failed" in printed.out
        (line,) = printed.err.splitlines()
        assert line.startswith(f"failed {archive}/colour.dcm: PhotometricInterpretation (0028,0004) is 'RGB'")


def test_of_many_failures_ten_are_listed_safely(monkeypatch, archive, db, capsys):
    for number in range(12):
        (archive / f"bad\x1b[31m{number:02d}").write_bytes(bytes(128) + b"DICM")
    assert run(monkeypatch, archive, "--db", db) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(f"failed {archive}/bad?[31m00: ")
    assert lines[-1] == f'and 2 more: xray-harmonize query "SELECT * FROM error" --db {db}'


@pytest.mark.parametrize("by", ["option", "environment"])
def test_patients_are_hashed_if_asked(monkeypatch, archive, db, by, capsys):
    salt = archive.parent / "salt"
    salt.write_text("a secret of many bytes\n")
    if by == "environment":
        monkeypatch.setenv("XRAY_HARMONIZE_SALT_FILE", str(salt))
        assert run(monkeypatch, archive, "--db", db) == 0
        monkeypatch.delenv("XRAY_HARMONIZE_SALT_FILE")
    else:
        assert run(monkeypatch, archive, "--db", db, "--hash-patients-with", salt) == 0
    held = {patient for (patient,) in table(db, "SELECT patient_id FROM acquisition")}
    assert held == {patient_key(f"p{number}", b"a secret of many bytes") for number in range(3)}
    capsys.readouterr()
    assert run(monkeypatch, archive, "--db", db) == 2
    assert "give the salt that they were hashed with" in capsys.readouterr().err


def test_an_archive_that_was_moved_is_not_read_again(monkeypatch, archive, db, capsys):
    assert run(monkeypatch, archive, "--db", db) == 0
    moved = archive.rename(archive.with_name("moved"))
    assert run(monkeypatch, moved, "--db", db, "--moved-from", archive) == 0
    assert "0 new, 0 changed, 3 unchanged" in capsys.readouterr().out
    assert table(db, "SELECT count(*) FROM image_full WHERE path LIKE '%/moved/%'") == [(3,)]


def test_links_to_folders_are_entered_if_asked(monkeypatch, archive, db, capsys):
    put_image(archive.parent / "elsewhere" / "far.dcm")
    (archive / "link").symlink_to(archive.parent / "elsewhere")
    assert run(monkeypatch, archive, "--db", db, "--follow-links") == 0
    assert "4 new" in capsys.readouterr().out


def test_what_cannot_be_done_is_one_message(monkeypatch, archive, db, capsys):
    assert run(monkeypatch, archive.parent / "missing", "--db", db) == 2
    assert "missing: no such folder" in capsys.readouterr().err
    assert run(monkeypatch, archive, "--db", db, "--jobs", 0) == 2
    assert "n_jobs must be an integer of at least 1, or -1" in capsys.readouterr().err
    assert run(monkeypatch, archive) == 2
    assert "--db" in capsys.readouterr().err


def test_the_help_says_what_is_kept_of_patients(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Names, birth dates and free text are not stored." in text
    assert "The same secret gives the same patient the same hash" in text
