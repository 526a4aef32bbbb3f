"""CSV files of any size as typed tables: types, chunks, idempotence, interruptions, and files that are none."""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import namedtuple
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.catalog import csv_tables
from xray_harmonize.catalog.csv_stream import CsvStream
from xray_harmonize.catalog.csv_tables import import_csv
from xray_harmonize.catalog.database import create
from xray_harmonize.exceptions import CatalogError, LabelTableError


@pytest.fixture
def database(tmp_path):
    connection = create(tmp_path / "archive.sqlite")
    yield connection
    connection.close()


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(csv_tables, "_CHUNK_CELLS", 4)


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if name.endswith(".gz") else text.encode())
    return path


def rows_of(connection, table="t"):
    return connection.execute(f'SELECT * FROM "{table}"').fetchall()


def tables_of(connection):
    found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return found - {"source", "image", "acquisition", "label", "provenance", "error", "setting"}


# What comes in


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "compressed without saying.csv"])
def test_compressed_and_plain_files_give_the_same_table(tmp_path, database, name):
    text = "subject_id,code\n10000032,0040\n10000048,V451\n"
    path = written(tmp_path, text, name)
    if "compressed" in name:
        path.write_bytes(gzip.compress(text.encode(), mtime=0))
    import_csv(database, path, "t")
    assert rows_of(database) == [(10000032, "0040"), (10000048, "V451")]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "", "-2"], "INTEGER", [1, None, -2]),
        (["1", "0.5", ""], "REAL", [1.0, 0.5, None]),
        ([".5", "1e-3", "-2."], "REAL", [0.5, 0.001, -2.0]),
        (["1", "1.0"], "REAL", [1.0, 1.0]),
        (["007", "8"], "TEXT", ["007", "8"]),
        (["00.5", "8"], "TEXT", ["00.5", "8"]),
        (["+5", "8"], "TEXT", ["+5", "8"]),
        (["8", "110/65"], "TEXT", ["8", "110/65"]),
        (["nan", "8"], "TEXT", ["nan", "8"]),
        (["0x10", "8"], "TEXT", ["0x10", "8"]),
        ([" 8", "9"], "TEXT", [" 8", "9"]),
        (["٣", "9"], "TEXT", ["٣", "9"]),
        (["", ""], "TEXT", [None, None]),
        (["9938236302743645", "1"], "INTEGER", [9938236302743645, 1]),
        (["99382363027436451234", "1"], "TEXT", ["99382363027436451234", "1"]),
        (["9938236302743645", "1.5"], "TEXT", ["9938236302743645", "1.5"]),
        (["1.5", "9938236302743645"], "TEXT", ["1.5", "9938236302743645"]),
        (["1e999", "1"], "TEXT", ["1e999", "1"]),
        (['"1\n2"', "3"], "TEXT", ["1\n2", "3"]),
        (['"1,2"', "3"], "TEXT", ["1,2", "3"]),
    ],
)
@pytest.mark.parametrize("chunk", [2, 200_000])
def test_types_are_those_that_every_cell_has(tmp_path, database, monkeypatch, cells, kind, values, chunk):
    monkeypatch.setattr(csv_tables, "_CHUNK_CELLS", chunk)
    path = written(tmp_path, "a,b\n" + "".join(f"{cell},x\n" for cell in cells))
    assert import_csv(database, path, "t").columns == {"a": kind, "b": "TEXT"}
    assert [row[0] for row in rows_of(database)] == values
    assert {type(row[0]) for row in rows_of(database)} == {type(value) for value in values}


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(-(10**20), 10**20).map(str), st.text("0123456789.eE-+ x\n,\"'", max_size=6)),
            st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(str), st.just("")),
        ),
        max_size=12,
    )
)
def test_no_cell_is_changed_on_its_way(rows):
    rows = [row for row in rows if any(row)]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_tables, "_CHUNK_CELLS", 6)
        path = Path(folder, "t.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("a", "b"), *rows])
        with closing(create(Path(folder, "archive.sqlite"))) as connection:
            kinds = import_csv(connection, path, "t").columns
            table = rows_of(connection)
    for stored, row in zip(table, rows, strict=True):
        for value, cell, kind in zip(stored, row, kinds.values(), strict=True):
            assert value == (None if cell == "" else {"INTEGER": int, "REAL": float, "TEXT": str}[kind](cell))


def test_a_table_without_rows_has_its_columns(tmp_path, database):
    imported = import_csv(database, written(tmp_path, "a,b\n"), "t")
    assert (imported.rows, imported.columns, rows_of(database)) == (0, {"a": "TEXT", "b": "TEXT"}, [])


def test_blank_lines_byte_order_mark_and_windows_line_ends_are_no_cells(tmp_path, database):
    import_csv(database, written(tmp_path, "\ufeffa,b\r\n1,2\r\n\r\n3,4\r\n"), "t")
    assert rows_of(database) == [(1, 2), (3, 4)]


def test_names_with_spaces_and_quotes_are_columns(tmp_path, database):
    import_csv(database, written(tmp_path, '"No Finding","a""b"\n1,2\n'), "t")
    assert database.execute('SELECT "No Finding", "a""b" FROM t').fetchall() == [(1, 2)]


def test_columns_without_a_name_are_called_by_their_place(tmp_path, database):
    assert list(import_csv(database, written(tmp_path, ",a,\n0,1,2\n"), "t").columns) == ["column_1", "a", "column_3"]


def test_declared_types_win_over_inferred_ones(tmp_path, database):
    path = written(tmp_path, "dicom_id,n,more\n1,5.0,1\n2,,2\n")
    imported = import_csv(database, path, "t", declared={"dicom_id": "TEXT", "n": "INTEGER", "absent": "REAL"})
    assert imported.columns == {"dicom_id": "TEXT", "n": "INTEGER", "more": "INTEGER"}
    assert rows_of(database) == [("1", 5, 1), ("2", None, 2)]


def test_indices_are_made_where_the_columns_are(tmp_path, database):
    import_csv(database, written(tmp_path, "subject_id,b\n1,2\n"), "t", indices=["subject_id", "hadm_id"])
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 't'").fetchall()
    assert found == [("t_by_subject_id",)]


def test_memory_holds_a_chunk_and_not_the_table(tmp_path, database, small_chunks):
    sizes = []
    path = written(tmp_path, "a,b\n" + "1,2\n" * 11)
    with CsvStream(path) as stream:
        sizes = [len(rows) for _, rows in stream.chunks(2)]
    assert sizes == [2, 2, 2, 2, 2, 1]
    assert import_csv(database, path, "t").rows == 11


def test_progress_goes_from_the_first_byte_to_twice_the_last(tmp_path, database, small_chunks):
    path, seen = written(tmp_path, "a,b\n" + "1,2\n" * 50), []
    import_csv(database, path, "t", progress=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {2 * path.stat().st_size}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (2 * path.stat().st_size,) * 2
    seen.clear()
    import_csv(database, path, "t", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2 * path.stat().st_size,) * 2]


# Again


def test_an_unchanged_file_is_skipped_and_a_changed_one_replaces(tmp_path, database):
    path = written(tmp_path, "a\n1\n2\n")
    first = import_csv(database, path, "t")
    database.execute("INSERT INTO t VALUES (99)")
    again = import_csv(database, path, "t")
    assert (first.unchanged, again.unchanged, again.rows, again.sha256) == (False, True, 2, first.sha256)
    assert rows_of(database) == [(1,), (2,), (99,)]
    path.write_text("a\nx\n")
    assert not import_csv(database, path, "t").unchanged
    assert rows_of(database) == [("x",)]
    assert database.execute("SELECT what, file, n_rows, length(sha256) FROM provenance").fetchall() == [
        ("table t", str(path), 2, 64),
        ("table t", str(path), 1, 64),
    ]


def test_a_table_that_was_dropped_or_is_declared_otherwise_is_imported_again(tmp_path, database):
    path = written(tmp_path, "a\n1\n")
    import_csv(database, path, "t")
    database.execute("DROP TABLE t")
    assert not import_csv(database, path, "t").unchanged
    assert not import_csv(database, path, "t", declared={"a": "TEXT"}).unchanged
    assert rows_of(database) == [("1",)]


def test_views_of_a_table_outlive_its_replacement(tmp_path, database):
    path = written(tmp_path, "a\n1\n")
    import_csv(database, path, "t", indices=["a"])
    database.execute("CREATE VIEW doubled AS SELECT 2 * a AS a FROM t")
    path.write_text("a\n5\n")
    import_csv(database, path, "t", indices=["a"])
    assert rows_of(database, "doubled") == [(10,)]


# Interruptions


def interrupt_after(n_calls, error):
    calls = iter(range(10**6))

    def progress(done, total):
        if next(calls) == n_calls:
            raise error

    return progress


@pytest.mark.parametrize("n_calls", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("had_one", [False, True])
def test_ctrl_c_leaves_the_old_table_or_none(tmp_path, database, small_chunks, n_calls, had_one):
    path = written(tmp_path, "a,b\n" + "1,2\n" * 20)
    if had_one:
        import_csv(database, path, "t")
        path.write_text("a,b\n" + "3,4\n" * 20)
    with pytest.raises(KeyboardInterrupt):
        import_csv(database, path, "t", progress=interrupt_after(n_calls, KeyboardInterrupt()))
    assert tables_of(database) == ({"t"} if had_one else set())
    assert not database.in_transaction
    assert set(rows_of(database) if had_one else []) == ({(1, 2)} if had_one else set())
    assert import_csv(database, path, "t").rows == 20
    assert set(rows_of(database)) == ({(3, 4)} if had_one else {(1, 2)})


class Interrupted(sqlite3.Connection):
    def executemany(self, statement, rows):
        super().executemany(statement, rows[:1])
        assert self.in_transaction
        raise KeyboardInterrupt


def test_ctrl_c_within_a_chunk_takes_the_chunk_back(tmp_path, database, small_chunks):
    path = written(tmp_path, "a,b\n" + "1,2\n" * 20)
    interrupted = sqlite3.connect(tmp_path / "archive.sqlite", isolation_level=None, factory=Interrupted)
    with closing(interrupted), pytest.raises(KeyboardInterrupt):
        import_csv(interrupted, path, "t")
    assert tables_of(database) == set()
    assert import_csv(database, path, "t").rows == 20


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_a_kill_leaves_a_sound_database_and_the_next_import_clears_what_is_left(tmp_path, database):
    path = written(tmp_path, "a,b\n" + "1,2\n" * 40)
    import_csv(database, path, "t")
    path.write_text("a,b\n" + "3,4\n" * 40)
    code = (
        "import os, signal, sys\n"
        "from xray_harmonize.catalog import csv_tables\n"
        "from xray_harmonize.catalog.database import create\n"
        "csv_tables._CHUNK_CELLS, n = 4, []\n"
        "connection = create(sys.argv[1])\n"
        "def trace(statement):\n"
        "    n.append(statement.startswith('INSERT INTO \"unfinished'))\n"
        "    if sum(n) == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
        "connection.set_trace_callback(trace)\n"
        "csv_tables.import_csv(connection, sys.argv[2], 't')\n"
    )
    archive = tmp_path / "archive.sqlite"
    done = subprocess.run([sys.executable, "-c", code, archive, path], cwd=Path(csv_tables.__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert set(rows_of(database)) == {(1, 2)}
    assert len(tables_of(database)) == 2
    assert import_csv(database, path, "t").rows == 40
    assert tables_of(database) == {"t"}
    assert set(rows_of(database)) == {(3, 4)}


def test_leftovers_of_other_tables_and_tables_of_other_names_stay(tmp_path, database):
    others = {"unfinished_import_of_t_more_" + "0" * 32, "unfinished_import_of_t_x"}
    for other in others:
        database.execute(f"CREATE TABLE {other} (a)")
    import_csv(database, written(tmp_path, "a\n1\n"), "t")
    assert tables_of(database) == {"t", *others}


def test_of_two_imports_of_one_table_the_later_goes_on_and_the_earlier_says_so(tmp_path, database, small_chunks):
    path, other = written(tmp_path, "a,b\n" + "1,2\n" * 20), written(tmp_path, "a,b\n3,4\n", "other.csv")
    calls = iter(range(10**6))

    def meanwhile(done, total):
        if done > total // 2 and next(calls) == 0:
            second = create(tmp_path / "archive.sqlite")
            import_csv(second, other, "t")
            second.close()

    with pytest.raises(CatalogError, match=r"no such table: .*; check that it can be written, and that no other"):
        import_csv(database, path, "t", progress=meanwhile)
    assert rows_of(database) == [(3, 4)]


# Files that are no tables


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "row 1 is empty, expected the names of the columns"),
        (b",,\n", "row 1 is empty, expected the names of the columns"),
        (b"a,b\x07\n1,2\n", r"column 2 is named 'b\\x07', expected 1 to 128 printable characters; rename it"),
        (b"a," + b"b" * 129 + b"\n", r"column 2 is named 'b+', expected 1 to 128 printable"),
        (b"a,b,A\n1,2,3\n", "several columns are named 'a', 'A', expected each name once, whatever its case; rename"),
        (",".join(f"c{i}" for i in range(1001)).encode(), "1001 columns, expected at most 1000; leave out what is not"),
        (b"a,b\n1,2\n1,2,3\n", r"row 3 has 3 cell\(s\), expected 2 as in the header; put cells that hold a comma in"),
        (b"a,b\n1,2\n\n1\n", r"row 4 has 1 cell\(s\), expected 2 as .* fetch the file again if it breaks off there"),
        (b'a,b\n1,"2\n', r"no CSV in UTF-8 \(unexpected end of data\); save the table as CSV UTF-8"),
        ("a\nDichte-ä\n".encode("latin-1"), r"no CSV in UTF-8 \(.*\); save the table as CSV UTF-8"),
        (b'a\n"' + b"x" * 200_000 + b'"\n', r"no CSV in UTF-8 \(field larger than field limit .*\); save"),
        (
            gzip.compress(b"a,b\n" + bytes(range(48, 58)) * 999, mtime=0)[:-9],
            "the file is truncated, its compressed data break",
        ),
        (b"\x1f\x8bnothing of the kind", r"the compressed data are damaged \(.*\); fetch it again"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path, database, content, message):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(LabelTableError, match=rf"table\.csv: {message}"):
        import_csv(database, path, "t")
    assert tables_of(database) == set()


def test_a_damaged_middle_is_damage(tmp_path, database):
    content = bytearray(gzip.compress(b"a\n" + os.urandom(5000).hex().encode() + b"\n"))
    content[-6] ^= 1  # of the checksum
    path = tmp_path / "table.csv.gz"
    path.write_bytes(content)
    with pytest.raises(LabelTableError, match=r"table\.csv\.gz: the compressed data are damaged \(CRC check failed"):
        import_csv(database, path, "t")


def test_missing_files_and_folders_are_named(tmp_path, database):
    with pytest.raises(LabelTableError, match=r"nowhere\.csv: cannot be read \(No such file or directory\); check"):
        import_csv(database, tmp_path / "nowhere.csv", "t")
    with pytest.raises(LabelTableError, match=r"cannot be read \(Is a directory\); check path and permissions"):
        import_csv(database, tmp_path, "t")


def test_missing_columns_are_named_with_those_that_came(tmp_path, database):
    path = written(tmp_path, ",".join(f"c{i}" for i in range(14)) + "\n")
    with pytest.raises(
        LabelTableError, match=r"no column 'a', 'b', expected 'c0', 'a', 'b'; the table has 'c0', .* and 2 more\. Look"
    ):
        import_csv(database, path, "t", required=["c0", "a", "b"], advice="Look.")
    with pytest.raises(LabelTableError, match=r"no column 'a', expected 'a'; the table has 'c0'\.$"):
        import_csv(database, written(tmp_path, "c0\n"), "t", required=["a"])


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        (["1", "x"], "INTEGER", "row 3, column 'a' has 'x', expected an integer or nothing; correct the cell"),
        (["1", "1.5"], "INTEGER", "row 3, column 'a' has '1.5', expected an integer or nothing"),
        (["1.5", "", "one"], "REAL", "row 4, column 'a' has 'one', expected a number or nothing"),
        (["1", '"2\n3"'], "INTEGER", r"row 3, column 'a' has '2\\n3', expected an integer"),
        (["x" * 99], "REAL", f"row 2, column 'a' has '{'x' * 40}', expected a number"),
    ],
)
def test_text_where_a_number_is_declared_is_named_by_row_and_column(tmp_path, database, cells, kind, message):
    path = written(tmp_path, "a,b\n" + "".join(f"{cell},x\n" for cell in cells))
    with pytest.raises(LabelTableError, match=message):
        import_csv(database, path, "t", declared={"a": kind})
    assert tables_of(database) == set()


def test_a_key_that_is_there_twice_or_missing_is_named(tmp_path, database):
    with pytest.raises(LabelTableError, match=r"dicom_id 'b' is in 2 rows, expected each once; leave one of them"):
        import_csv(database, written(tmp_path, "dicom_id,n\na,1\nb,1\nb,2\n"), "t", unique="dicom_id")
    with pytest.raises(LabelTableError, match=r"2 row\(s\) have no 'dicom_id', expected one in every row; correct"):
        import_csv(database, written(tmp_path, "dicom_id,n\na,1\n,1\n,2\n"), "t", unique="dicom_id")
    assert tables_of(database) == set()


def test_values_that_are_not_allowed_are_named(tmp_path, database):
    path = written(tmp_path, "split,n\ntrain,1\n,2\nvalid,-1\n")
    with pytest.raises(
        LabelTableError, match="column 'split' has 'valid', expected train, test or nothing; correct the"
    ):
        import_csv(database, path, "t", allowed={"split": ("train", "test")})
    assert import_csv(database, path, "t", allowed={"split": ("train", "valid"), "n": (-1, 1, 2)}).rows == 3


@pytest.mark.parametrize("later", ["a,b\n9,9\n", "a,c\n1,2\n", "a,b\n1,x\n"])
def test_a_file_that_changes_meanwhile_is_refused(tmp_path, database, later):
    path = written(tmp_path, "a,b\n1,2\n")

    def progress(done, total):
        if done == total // 2:  # between the two times it is read
            path.write_text(later)

    with pytest.raises(LabelTableError, match=r"table\.csv: the file changed while it was imported; import it when"):
        import_csv(database, path, "t", progress=progress)
    assert tables_of(database) == set()


# Databases that cannot take it


def test_a_disk_that_is_too_small_is_told_beforehand(tmp_path, database, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(CatalogError, match=r"table\.csv: the table needs 0\.0 GB or more, .* has 0\.0 GB free\. Make"):
        import_csv(database, written(tmp_path, "a,b\n" + "1,2\n" * 9), "t")
    assert tables_of(database) == set()


def test_a_disk_that_fills_up_leaves_the_tables_there_were(tmp_path, database, small_chunks):
    path = written(tmp_path, "a,b\n1,2\n")
    import_csv(database, path, "t")
    path.write_text("a,b\n" + f"{'x' * 400},{'y' * 400}\n" * 60)
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0] + 4}")
    with pytest.raises(CatalogError, match=r"cannot be imported, .*archive\.sqlite has no room left on its disk; make"):
        import_csv(database, path, "t")
    database.execute("PRAGMA max_page_count = 100000")
    assert tables_of(database) == {"t"}
    assert rows_of(database) == [(1, 2)]
    assert import_csv(database, path, "t").rows == 60


def test_a_database_that_cannot_be_written_is_named(tmp_path, database):
    database.execute("CREATE TABLE t (a)")
    uri = f"file:{tmp_path / 'archive.sqlite'}?mode=ro"
    connection = sqlite3.connect(uri, uri=True)
    with pytest.raises(CatalogError, match=r"cannot be imported into .*archive\.sqlite \(attempt to write a readonly"):
        import_csv(connection, written(tmp_path, "a\n1\n"), "t")
    connection.close()
