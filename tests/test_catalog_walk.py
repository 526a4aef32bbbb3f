"""The files below a folder, in the order in which SQLite sorts their paths."""

from __future__ import annotations

import os
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.catalog import walk
from xray_harmonize.catalog.walk import Walk

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..")
)


def paths(*arguments):
    return [path for piece in Walk(*arguments) for path, _, _ in piece]


@given(st.sets(st.lists(names, min_size=1, max_size=3).map(tuple), max_size=12), st.integers(1, 5))
def test_every_file_comes_once_in_the_order_of_sqlite_in_pieces(tmp_path_factory, files, piece):
    root = tmp_path_factory.mktemp("walk")
    made = set()
    for parts in files:
        folder = root.joinpath(*parts[:-1])
        path = root.joinpath(*parts)
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
            made.add(path.relative_to(root).as_posix())
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE found (path TEXT)")
    connection.executemany("INSERT INTO found VALUES (?)", ((path,) for path in made))
    in_order = [path for (path,) in connection.execute("SELECT path FROM found ORDER BY path")]
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "_PIECE", piece)
        pieces = list(Walk(str(root)))
    assert [path for one in pieces for path, _, _ in one] == in_order
    assert all(0 < len(one) <= piece for one in pieces)


def test_size_and_time_are_told(tmp_path):
    (tmp_path / "a").write_bytes(b"four")
    os.utime(tmp_path / "a", ns=(0, 1_234_567_891))
    assert list(Walk(str(tmp_path))) == [[("a", 4, 1_234_567_891)]]


def test_a_walk_may_start_below_and_paths_stay_relative_to_the_root(tmp_path):
    for name in ("a/b/c", "a/d", "e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert paths(str(tmp_path), "a/") == ["a/b/c", "a/d"]


def test_links_to_files_are_found_and_links_to_folders_entered_only_if_asked_and_never_back(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "near").touch()
    (root / "link to file").symlink_to(root / "near")
    (root / "link to folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "loop").symlink_to(root)
    assert paths(str(root)) == ["link to file", "near"]
    assert paths(str(root), "", True) == ["link to file", "link to folder/far", "near"]


def test_pipes_are_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert paths(str(tmp_path)) == []


def test_what_cannot_be_used_is_noted(tmp_path):
    (tmp_path / "broken").symlink_to(tmp_path / "missing")
    with open(os.fsencode(tmp_path) + b"/\xff\xfe", "wb"):  # noqa: PTH123 - a name that is no text
        pass
    found = Walk(str(tmp_path))
    assert list(found) == []
    assert found.unusable == {
        "broken": "cannot be looked at (No such file or directory)",
        "\\udcff\\udcfe": "the name is no UTF-8, expected one that can be written down; rename it",
    }


@pytest.mark.parametrize("by_descriptor", [True, False])
def test_a_folder_that_cannot_be_listed_is_noted_and_the_rest_is_found(tmp_path, monkeypatch, by_descriptor):
    for name in ("a", "locked", "z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    name = "open" if by_descriptor else "scandir"
    plain = getattr(os, name)

    def refusing(folder, *arguments):
        if str(folder).endswith("locked/"):
            raise PermissionError(13, "Permission denied")
        return plain(folder, *arguments)

    monkeypatch.setattr(os, name, refusing)
    monkeypatch.setattr(os, "supports_fd", {os.scandir} if by_descriptor else set())
    found = Walk(str(tmp_path))
    assert [path for piece in found for path, _, _ in piece] == ["a/file", "z/file"]
    assert found.unusable == {"locked/": "the folder cannot be listed (Permission denied)"}
