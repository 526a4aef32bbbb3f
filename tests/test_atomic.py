"""Files that appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from xray_harmonize.atomic import replacing


def write_half(stream, error):
    stream.write("half")
    raise error


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_there_when_the_block_has_ended_and_not_before(tmp_path):
    path = tmp_path / "table.csv"
    with replacing(path) as stream:
        stream.write("a,b\n")
        stream.flush()
        assert not path.exists()
    assert path.read_text() == "a,b\n"
    assert names(tmp_path) == ["table.csv"]


def test_text_is_utf_8_and_line_ends_stay_as_they_are(tmp_path):
    path = tmp_path / "table.csv"
    with replacing(path) as stream:
        stream.write("größer\r\nx\n")
    assert path.read_bytes() == "größer\r\nx\n".encode()


def test_bytes_are_written_as_they_are(tmp_path):
    path = tmp_path / "model.npz"
    with replacing(str(path), "wb") as stream:
        stream.write(b"\x00\r\n\xff")
    assert path.read_bytes() == b"\x00\r\n\xff"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as stream:
        write_half(stream, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_a_block_that_fails_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(ValueError, match="no more"), replacing(tmp_path / "table.csv") as stream:
        write_half(stream, ValueError("no more"))
    assert names(tmp_path) == []


def test_what_cannot_be_replaced_stays_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "table.csv").mkdir()
    with pytest.raises(OSError), replacing(tmp_path / "table.csv") as stream:
        stream.write("whole")
    assert names(tmp_path) == ["table.csv"]


def test_a_missing_folder_is_an_error_and_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "missing" / "table.csv"):
        pass
    assert names(tmp_path) == []


def test_files_have_the_permissions_that_the_user_gives_to_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "table.csv") as stream:
            stream.write("whole")
    finally:
        os.umask(before)
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o640


def test_long_names_are_written_too(tmp_path):
    path = tmp_path / ("n" * 250 + ".csv")
    with replacing(path) as stream:
        stream.write("whole")
    assert path.read_text() == "whole"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "table.csv"
    with replacing(path) as first, replacing(path) as second:
        first.write("first")
        second.write("second")
    assert path.read_text() == "first"  # whose block ended last
    assert names(tmp_path) == ["table.csv"]
