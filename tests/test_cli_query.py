"""``xray-harmonize query``: SQL in, an aligned table or CSV out."""

from __future__ import annotations

import csv
import sys

import pytest
from archive_folder import put_image
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.catalog.index import build_index
from xray_harmonize.cli import main
from xray_harmonize.cli.query import aligned


@pytest.fixture
def db(tmp_path):
    for number in range(3):
        put_image(tmp_path / "archive" / f"{number}.dcm", patient=f"p{number}", KVP=str(95 + 10 * number))
    build_index(tmp_path / "archive", tmp_path / "a.sqlite")
    return tmp_path / "a.sqlite"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", "query", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


def test_the_answer_is_an_aligned_table(monkeypatch, db, capsys):
    sql = "SELECT patient_id, kvp, NULL AS empty, view FROM image_full ORDER BY kvp"
    assert run(monkeypatch, sql, "--db", db) == 0
    assert capsys.readouterr().out.splitlines() == [
        "patient_id  kvp    empty  view",
        "----------  -----  -----  ----",
        "p0           95.0         PA",
        "p1          105.0         PA",
        "p2          115.0         PA",
    ]


MANY = "WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 300) SELECT n FROM many"


def test_a_long_answer_is_cut_and_says_so(monkeypatch, db, capsys):
    assert run(monkeypatch, MANY, "--db", db) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 102
    assert printed.err.strip() == "The first 100 rows; ask for more with --limit, or for all with --csv."
    assert run(monkeypatch, MANY, "--db", db, "--limit", 200) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 202
    assert printed.err == ""


def test_all_of_it_goes_to_csv_or_as_much_as_asked(monkeypatch, db, capsys):
    out = db.parent / "out.csv"
    assert run(monkeypatch, MANY, "--db", db, "--csv", out) == 0
    assert capsys.readouterr().out.strip() == f"{out}: 300 rows."
    with out.open(newline="") as stream:
        assert list(csv.reader(stream)) == [["n"], *([str(n)] for n in range(1, 301))]
    assert run(monkeypatch, "SELECT x'00ff' AS bytes, NULL, 'a,b'", "--db", db, "--csv", out, "--limit", 1) == 0
    assert out.read_text() == "bytes,NULL,'a,b'\n".replace("'a,b'", "\"'a,b'\"") + '00ff,,"a,b"\n'
    assert capsys.readouterr().out.strip() == f"{out}: 1 row."


def test_a_query_that_fails_midway_leaves_no_file(monkeypatch, db, capsys):
    sql = f"SELECT abs(CASE n WHEN 299 THEN -9223372036854775807 - 1 ELSE n END) FROM ({MANY})"
    assert run(monkeypatch, sql, "--db", db, "--csv", db.parent / "out.csv") == 2
    assert "integer overflow" in capsys.readouterr().err
    assert not list(db.parent.glob("*out*")) + list(db.parent.glob(".*"))


@pytest.mark.parametrize("sql", ["DELETE FROM image", "SELECT * FROM nowhere", "SELECT", ""])
def test_what_cannot_be_answered_is_one_message(monkeypatch, db, sql, capsys):
    assert run(monkeypatch, sql, "--db", db) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")


def test_a_missing_catalogue_is_named(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "SELECT 1", "--db", tmp_path / "none.sqlite") == 2
    assert "there is no such catalogue; make it with `xray-harmonize index DIR --db" in capsys.readouterr().err


values = st.none() | st.text() | st.integers() | st.floats() | st.binary()


@given(
    st.lists(st.text(), min_size=1, max_size=3).flatmap(
        lambda names: st.tuples(st.just(names), st.lists(st.tuples(*[values] * len(names)), max_size=4))
    )
)
def test_every_line_is_printable_and_no_longer_than_the_rule(answer):
    names, rows = answer
    lines = list(aligned(names, rows))
    assert len(lines) == len(rows) + 2
    assert all(line.isprintable() for line in lines)
    assert all(len(line) <= len(lines[1]) for line in lines)


def test_control_characters_are_shown_as_escapes():
    assert list(aligned(["a\x1bb"], [("two\nlines",), ("\u202eright to left",)])) == [
        "a\\x1bb",
        "-------------------",
        "two\\nlines",
        "\\u202eright to left",
    ]
