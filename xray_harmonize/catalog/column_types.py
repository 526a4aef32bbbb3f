"""What the columns of a table of text hold: integers, reals, or text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from xray_harmonize.exceptions import LabelTableError

ColumnType = Literal["INTEGER", "REAL", "TEXT"]

# A number must come back as it was written: not 007, which is a name, nor more digits than 64 bits hold. A column is
# matched at once, its cells each ended by a line feed, which is several times faster than cell by cell. Repetitions are
# possessive: no cell can be read in two ways, so that nothing is gained by going back.
_INTEGER = r"-?(?:0|[1-9][0-9]{0,17})"
_REAL = r"-?(?:(?:0|[1-9][0-9]{0,14})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?"
_CELLS = {
    "INTEGER": re.compile(rf"(?:(?:{_INTEGER})?\n)*+"),
    "REAL": re.compile(rf"(?:(?:{_REAL})?\n)*+"),
    # "5.0" is how pandas writes 5 in a column with gaps
    "declared INTEGER": re.compile(rf"(?:(?:{_INTEGER}(?:\.0*)?)?\n)*+"),
}
_LONG_INTEGER = re.compile(r"[0-9]{16}")
_LONGEST_SHOWN = 40
_NAMES = {"INTEGER": "an integer", "REAL": "a number"}


class ColumnTypes:
    """Infer the types of columns from all their cells, or check those that are declared.

    Parameters
    ----------
    name : str
        What errors call the table.
    header : sequence of str
    declared : mapping of str to {"INTEGER", "REAL", "TEXT"}
        Types of columns that are known; of the others they are inferred.

    Examples
    --------
    >>> types = ColumnTypes("labs.csv", ["id", "code", "value"], {})
    >>> types.see([2, 3], [["10000032", "0040", "1"], ["", "V451", "0.5"]])
    >>> types.types()
    {'id': 'INTEGER', 'code': 'TEXT', 'value': 'REAL'}
    """

    def __init__(self, name: str, header: Sequence[str], declared: Mapping[str, ColumnType]) -> None:
        self._name = name
        self._header = list(header)
        self._declared = {column: declared[column] for column in header if column in declared}
        self._inferred: dict[str, ColumnType | None] = {
            column: None for column in header if column not in self._declared
        }
        self._has_long: set[str] = set()

    def see(self, numbers: Sequence[int], rows: Sequence[Sequence[str]]) -> None:
        """Look at some rows.

        Parameters
        ----------
        numbers : sequence of int
            Of the rows in the file, for errors.
        rows : sequence of sequence of str
            As many cells as the header has; "" is a gap.

        Raises
        ------
        LabelTableError
            A cell is not of the declared type; the message names row and column.
        """
        for column, cells in zip(self._header, zip(*rows, strict=True), strict=True):
            if column in self._declared:
                self._check(column, numbers, cells)
            elif self._inferred[column] != "TEXT":
                self._inferred[column] = self._widened(column, cells)

    def types(self) -> dict[str, ColumnType]:
        """Give the type of every column; one without a single cell is text."""
        return {column: self._declared.get(column) or self._inferred[column] or "TEXT" for column in self._header}

    def _widened(self, column: str, cells: Sequence[str]) -> ColumnType | None:
        known = self._inferred[column]
        text = _joined(cells)
        if text is None:
            return "TEXT"
        if len(text) == len(cells):  # all empty
            return known
        if _CELLS["INTEGER"].fullmatch(text):
            if column not in self._has_long and _LONG_INTEGER.search(text):
                self._has_long.add(column)
            wider: ColumnType = "REAL" if known == "REAL" else "INTEGER"
        elif _CELLS["REAL"].fullmatch(text):
            wider = "REAL"
        else:
            return "TEXT"
        # Identifiers of more than 15 digits would be rounded beside a fraction.
        return "TEXT" if wider == "REAL" and column in self._has_long else wider

    def _check(self, column: str, numbers: Sequence[int], cells: Sequence[str]) -> None:
        declared = self._declared[column]
        if declared == "TEXT":
            return
        pattern = _CELLS["declared INTEGER" if declared == "INTEGER" else "REAL"]
        text = _joined(cells)
        if text is not None and pattern.fullmatch(text):
            return
        for number, cell in zip(numbers, cells, strict=True):
            if "\n" in cell or not pattern.fullmatch(cell + "\n"):
                raise LabelTableError(
                    f"{self._name}: row {number}, column {column!r} has {cell[:_LONGEST_SHOWN]!r}, expected "
                    f"{_NAMES[declared]} or nothing; correct the cell."
                )


def _joined(cells: Sequence[str]) -> str | None:
    """End every cell by a line feed; None where a cell holds one itself."""
    text = "\n".join(cells) + "\n"
    return text if text.count("\n") == len(cells) else None
