"""Some columns of a CSV file that may be too large to be kept whole."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from xray_harmonize.exceptions import LabelTableError

_MISSING = {"", "nan", "na", "n/a", "<na>", "none", "null"}
_SHOWN_COLUMNS = 12


def read_columns(
    table: str | os.PathLike[str], required: Sequence[str], optional: Sequence[str] = (), *, advice: str = ""
) -> pd.DataFrame:
    r"""Read columns of a CSV file as text.

    Nothing is read as a number: identifiers of 16 digits do not fit a float, which is what pandas makes of a column of
    integers with a gap. Rows go by one at a time, and equal cells are kept once.

    Parameters
    ----------
    table : path-like
        CSV in UTF-8, separated by commas, with a header.
    required, optional : sequence of str
        Names of the columns; optional ones are left out where the table has none.
    advice : str
        What the error about a missing column ends with.

    Returns
    -------
    DataFrame of object
        Text without surrounding spaces; None for what is empty, or "NaN" and the like.

    Raises
    ------
    LabelTableError
        The file cannot be opened or is no CSV, a required column is missing or there twice, or a row is longer than
        the header.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "table.csv")
    >>> _ = path.write_text("exam,view,more\n9938236302743644,CC,1\n,MLO,2\n")
    >>> read_columns(path, ["exam"], ["view", "age"]).values.tolist()
    [['9938236302743644', 'CC'], [None, 'MLO']]
    >>> folder.cleanup()
    """
    name = os.fspath(table)
    rows = _rows(name)
    header = [cell.strip() for cell in next(rows, [])]
    if not any(header):
        raise LabelTableError(f"{name}: row 1 is empty, expected the names of the columns.")
    columns = _present(name, header, required, optional, advice)
    places = [header.index(column) for column in columns]
    cells: list[list[str | None]] = [[] for _ in columns]
    known: dict[str, str | None] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) > len(header):
            raise LabelTableError(
                f"{name}: row {number} has {len(row)} cells, expected {len(header)} as in the header; put cells that "
                "hold a comma in double quotes."
            )
        if not row:
            continue
        row.extend([""] * (len(header) - len(row)))
        for column, place in zip(cells, places, strict=True):
            text = row[place]
            if text not in known:
                known[text] = None if text.strip().lower() in _MISSING else text.strip()
            column.append(known[text])
    return pd.DataFrame(dict(zip(columns, cells, strict=True)), dtype=object)


def _rows(name: str) -> Iterator[list[str]]:
    try:
        with Path(name).open(encoding="utf-8-sig", newline="") as file:
            yield from csv.reader(file)
    except OSError as error:
        raise LabelTableError(f"{name}: cannot be opened ({error.strerror or error}); check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelTableError(f"{name}: no CSV in UTF-8 ({error}); save the table as CSV UTF-8.") from error


def _present(
    name: str, header: Sequence[str], required: Sequence[str], optional: Sequence[str], advice: str
) -> list[str]:
    missing = [column for column in required if column not in header]
    if missing:
        others = f" and {len(header) - _SHOWN_COLUMNS} more" if len(header) > _SHOWN_COLUMNS else ""
        raise LabelTableError(
            f"{name}: no column {_quoted(missing)}, expected {_quoted(required)}; the table has "
            f"{_quoted(header[:_SHOWN_COLUMNS])}{others}.{' ' if advice else ''}{advice}"
        )
    columns = [*required, *(column for column in optional if column in header)]
    twice = [column for column in columns if header.count(column) > 1]
    if twice:
        raise LabelTableError(f"{name}: several columns are named {_quoted(twice)}, expected one; rename the others.")
    return columns


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
