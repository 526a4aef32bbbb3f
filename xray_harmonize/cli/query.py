"""``xray-harmonize query``: ask a catalogue in SQL."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

_ROWS_SHOWN = 100


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One statement that reads, such as a SELECT.")],
    db: Annotated[Path, typer.Option(help="The catalogue that `xray-harmonize index` made.")],
    out: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write all rows as CSV.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Most rows; all of them into a file, 100 onto the screen.", show_default=False),
    ] = None,
) -> None:
    """Ask a catalogue in SQL and print the answer as a table, or write it as CSV. Nothing is changed.

    The view image_full has one row an image, with its path and acquisition; label_full one row an image and label:

    xray-harmonize query "SELECT scanner, count(*) AS n FROM image_full GROUP BY scanner" --db archive.sqlite
    """
    from xray_harmonize.catalog.store import Catalog

    with Catalog(db) as catalog:
        columns, rows = catalog.rows(sql)
        if out is not None:
            n_rows = _write_csv(out, columns, islice(rows, limit))
            typer.echo(f"{out}: {n_rows} row{'' if n_rows == 1 else 's'}.")
            return
        shown = list(islice(rows, limit or _ROWS_SHOWN))
        is_cut = limit is None and next(rows, None) is not None
    for line in aligned(columns, shown):
        typer.echo(line)
    if is_cut:
        typer.echo(f"The first {_ROWS_SHOWN} rows; ask for more with --limit, or for all with --csv.", err=True)


def aligned(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    r"""Lay out rows under their columns, numbers to the right, in lines that are safe to print.

    Parameters
    ----------
    columns : sequence of str
    rows : sequence of sequences
        What SQLite gives: str, int, float, bytes, None (left empty).

    Yields
    ------
    str
        A line without control characters: what is not printable is shown as an escape.

    Examples
    --------
    >>> for line in aligned(["scanner", "kvp"], [("GE", 125.0), ("Ph\x1b[31m", None), (None, 81.5)]):
    ...     line
    'scanner     kvp'
    '----------  -----'
    'GE          125.0'
    'Ph\\x1b[31m'
    '             81.5'
    """
    cells = [[_printable(value) for value in row] for row in rows]
    names = [_printable(name) for name in columns]
    for place, name in enumerate(names):
        width = max([len(name), *(len(row[place]) for row in cells)])
        numeric = all(row[place] is None or isinstance(row[place], int | float) for row in rows) and bool(rows)
        names[place] = name.ljust(width)
        for row in cells:
            row[place] = row[place].rjust(width) if numeric else row[place].ljust(width)
    yield "  ".join(names).rstrip()
    yield "  ".join("-" * len(name) for name in names)
    for row in cells:
        yield "  ".join(row).rstrip()


def _printable(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    text = str(value)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    from xray_harmonize.atomic import replacing

    n_rows = 0
    with replacing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([value.hex() if isinstance(value, bytes) else value for value in row])
            n_rows += 1
    return n_rows
