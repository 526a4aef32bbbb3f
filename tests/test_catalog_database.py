"""The SQLite file of a catalogue: what it is made of, and what is refused."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest

from xray_harmonize.catalog.database import SCHEMA_VERSION, add_provenance, create, open_readonly, transaction
from xray_harmonize.dicom.acquisition import ACQUISITION_COLUMNS
from xray_harmonize.exceptions import CatalogError

SQL_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER"}


@pytest.fixture
def db(tmp_path):
    create(tmp_path / "a.sqlite").close()
    return tmp_path / "a.sqlite"


def columns(connection, table):
    return {name: kind for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table})")}


def test_the_acquisition_table_has_the_columns_of_an_acquisition_in_their_order_and_types(db):
    with closing(open_readonly(db)) as connection:
        held = columns(connection, "acquisition")
    assert list(held.items()) == [
        ("image_id", "INTEGER"),
        *((name, SQL_TYPES[kind]) for name, kind in ACQUISITION_COLUMNS.items()),
    ]


def test_the_view_has_them_too_behind_id_path_and_study(db):
    with closing(open_readonly(db)) as connection:
        assert list(columns(connection, "image_full")) == ["image_id", "path", "study_key", *ACQUISITION_COLUMNS]


def test_every_table_is_strict_and_what_queries_filter_by_is_indexed(db):
    with closing(open_readonly(db)) as connection:
        tables = connection.execute("SELECT name, strict FROM pragma_table_list WHERE type = 'table'").fetchall()
        assert {name for name, strict in tables if not strict} == {"sqlite_schema", "sqlite_temp_schema"}
        for column in ("patient_id", "study_instance_uid", "scanner", "sop_instance_uid"):
            plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM image_full WHERE {column} = 'x'").fetchall()
            assert any(f"acquisition_{column}" in step[-1] for step in plan), plan


def test_opening_twice_keeps_what_is_there_and_write_ahead_logging_is_on(db):
    with closing(create(db)) as connection:
        add_provenance(connection, "test", "some file", 3, sha256="00")
    with closing(create(db)) as connection:
        rows = connection.execute("SELECT what, file, n_rows, sha256 FROM provenance").fetchall()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert rows == [("test", "some file", 3, "00")]


def test_a_transaction_that_fails_leaves_nothing(db):
    def write_and_fail(connection):
        with transaction(connection):
            add_provenance(connection, "test", "some file", 1)
            raise ZeroDivisionError

    with closing(create(db)) as connection:
        with pytest.raises(ZeroDivisionError):
            write_and_fail(connection)
        assert connection.execute("SELECT * FROM provenance").fetchall() == []
        assert not connection.in_transaction


def test_a_reader_can_change_nothing(db):
    with closing(open_readonly(db)) as connection:
        for sql in ("DELETE FROM setting", "PRAGMA query_only = OFF", "CREATE TABLE t (n)"):
            if "query_only" in sql:
                connection.execute(sql)
                continue
            with pytest.raises(sqlite3.Error, match="readonly"):
                connection.execute(sql)


def test_a_catalogue_on_a_medium_that_cannot_be_written_is_read(db, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with closing(open_readonly(db)) as connection:
        assert connection.execute("SELECT count(*) FROM image").fetchone() == (0,)
    assert [path.name for path in db.parent.iterdir()] == [db.name]


@pytest.mark.parametrize("way", [create, open_readonly])
def test_another_database_is_refused_and_left_as_it_is(way, tmp_path):
    alien = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(alien)) as connection:
        connection.execute("CREATE TABLE theirs (n)")
    with pytest.raises(CatalogError, match=r"other.sqlite: an SQLite database, but no catalogue of xray_harmonize"):
        way(alien)
    with closing(sqlite3.connect(alien)) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]


@pytest.mark.parametrize("way", [create, open_readonly])
def test_a_newer_catalogue_is_refused(way, db):
    with closing(create(db)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(CatalogError, match=f"of version {SCHEMA_VERSION + 1}, expected version {SCHEMA_VERSION}; use"):
        way(db)


@pytest.mark.parametrize("way", [create, open_readonly])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(way, tmp_path):
    (tmp_path / "a.txt").write_text("no database at all" * 100)
    with pytest.raises(CatalogError, match=r"a.txt: cannot be used as a catalogue \(file is not a database\)"):
        way(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "no database at all" * 100


def test_a_missing_catalogue_is_not_made_by_reading(tmp_path):
    with pytest.raises(CatalogError, match=r"there is no such catalogue; make it with `xray-harmonize index DIR --db"):
        open_readonly(tmp_path / "missing.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_hold_a_catalogue_is_named(tmp_path):
    with pytest.raises(CatalogError, match="the folder of the catalogue does not exist; make it"):
        create(tmp_path / "missing" / "a.sqlite")
    with pytest.raises(CatalogError, match=r"the catalogue cannot be opened \(unable to open database file\)"):
        create(tmp_path)
