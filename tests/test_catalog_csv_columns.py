"""Columns of large CSV files, read as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from xray_harmonize.catalog.csv_columns import read_columns
from xray_harmonize.exceptions import LabelTableError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def test_columns_come_in_the_order_asked_for_and_absent_optional_ones_are_left_out(table: Path) -> None:
    table.write_text("a,b,c\n1,2,3\n4,5,6\n")
    found = read_columns(table, ["c", "a"], ["z", "b"])
    assert found.to_dict("list") == {"c": ["3", "6"], "a": ["1", "4"], "b": ["2", "5"]}


def test_cells_are_text_without_spaces_and_missing_ones_none(table: Path) -> None:
    table.write_text("\ufeff a , b\n 007 ,NaN\n9938236302743645,none\n1.0\n\n,N/A\n", encoding="utf-8")
    found = read_columns(table, ["a", "b"])
    assert found.to_dict("list") == {"a": ["007", "9938236302743645", "1.0", None], "b": [None] * 4}


def test_table_without_rows_has_its_columns(table: Path) -> None:
    table.write_text("a,b\n")
    assert read_columns(table, ["b"]).columns.tolist() == ["b"]


def test_equal_cells_are_kept_once(table: Path) -> None:
    table.write_text("a\n" + "a long description of the series\n" * 3)
    assert len({id(cell) for cell in read_columns(table, ["a"])["a"]}) == 1


def test_cells_may_hold_commas_and_lines_in_quotes(table: Path) -> None:
    table.write_text('a,b\n"1,2","x\ny"\n3,4\n')
    assert read_columns(table, ["a"])["a"].tolist() == ["1,2", "3"]


def test_names_that_nobody_asks_for_may_be_repeated(table: Path) -> None:
    table.write_text("a,b,b\n1,2,3\n")
    assert read_columns(table, ["a"]).to_dict("list") == {"a": ["1"]}
    with pytest.raises(LabelTableError, match=r"table\.csv: several columns are named 'b', expected one; rename"):
        read_columns(table, ["a"], ["b"])


def test_missing_columns_are_named_with_the_first_that_came(table: Path) -> None:
    table.write_text(",".join(f"c{i}" for i in range(15)) + "\n")
    with pytest.raises(
        LabelTableError,
        match=r"table\.csv: no column 'a', 'b', expected 'a', 'c1', 'b'; the table has 'c0', .*'c11' and 3 more\. "
        "Look",
    ):
        read_columns(table, ["a", "c1", "b"], advice="Look.")
    table.write_text("c0\n")
    with pytest.raises(LabelTableError, match=r"the table has 'c0'\.$"):
        read_columns(table, ["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "row 1 is empty, expected the names of the columns"),
        (b",,\n", "row 1 is empty, expected the names of the columns"),
        (b"a,b\n1,2\n1,2,3\n", "row 3 has 3 cells, expected 2 as in the header; put cells that hold a comma in double"),
        ("a\nDichte-ä\n".encode("latin-1"), r"no CSV in UTF-8 \(.*\); save the table as CSV UTF-8"),
        (b'a\n"' + b"x" * 200_000 + b'"\n', r"no CSV in UTF-8 \(field larger than field limit .*\); save"),
    ],
)
def test_files_that_are_no_tables_are_refused(table: Path, content: bytes, message: str) -> None:
    table.write_bytes(content)
    with pytest.raises(LabelTableError, match=rf"table\.csv: {message}"):
        read_columns(table, ["a"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"nowhere\.csv: cannot be opened \(No such file or directory\); check"):
        read_columns(tmp_path / "nowhere.csv", ["a"])
