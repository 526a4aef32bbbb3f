"""CSV files of any size as typed tables of a SQLite database.

A file goes by twice, in chunks: first for the types of its columns, then into a table of its own, one transaction a
chunk, which takes the place of the old one at last. An import that is interrupted, by Ctrl-C or by a kill, leaves the
old table, or none; what it left unfinished goes away with the next import of that table.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from xray_harmonize.catalog.column_types import ColumnType, ColumnTypes
from xray_harmonize.catalog.csv_stream import CsvStream, check_columns, file_sha256
from xray_harmonize.catalog.database import now, transaction
from xray_harmonize.exceptions import CatalogError, LabelTableError

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes to do."""

_CHUNK_CELLS = 200_000
_UNFINISHED = "unfinished_import_of_"
_FULL = "database or disk is full"
_BYTES_A_BYTE = 0.5  # a table takes 0.6 to 1.2 times its text


@dataclass(frozen=True)
class ImportedTable:
    """A table that was imported, or was there already.

    Parameters
    ----------
    name : str
        Of the table.
    rows : int
    columns : dict of str to {"INTEGER", "REAL", "TEXT"}
    sha256 : str
        Of the file.
    unchanged : bool
        The file was imported before, and nothing was done.
    """

    name: str
    rows: int
    columns: dict[str, ColumnType]
    sha256: str
    unchanged: bool


def import_csv(
    connection: sqlite3.Connection,
    path: str | os.PathLike[str],
    table: str,
    *,
    declared: Mapping[str, ColumnType] | None = None,
    required: Sequence[str] = (),
    unique: str | None = None,
    allowed: Mapping[str, Sequence[str | int]] | None = None,
    indices: Sequence[str] = (),
    advice: str = "",
    progress: Progress | None = None,
) -> ImportedTable:
    r"""Import a CSV file as a table, unless the table holds that very file already.

    Parameters
    ----------
    connection : sqlite3.Connection
        Of a catalogue, as :func:`~xray_harmonize.catalog.database.create` opens it; no transaction may be open.
    path : path-like
        ``.csv`` or ``.csv.gz``, in UTF-8, with a header, separated by commas.
    table : str
        Name of the table, which is replaced.
    declared : mapping of str to {"INTEGER", "REAL", "TEXT"}, optional
        Types of columns, where the table has them. The others are inferred from all cells: INTEGER and REAL only if
        every cell is a number that comes back as it was written, so that codes such as 0040 stay text.
    required : sequence of str
        Columns that must be there.
    unique : str, optional
        Column that must be filled in, with another value in every row.
    allowed : mapping of str to sequence, optional
        The values that columns may have, besides nothing.
    indices : sequence of str
        Columns to be indexed, where the table has them.
    advice : str
        What the error about a missing column ends with.
    progress : callable, optional
        Called with the bytes that were read so far and those to read in all, twice the size of the file.

    Returns
    -------
    ImportedTable

    Raises
    ------
    LabelTableError
        The file is missing, truncated, damaged, no CSV, changed while it was read, lacks a column, repeats a value of
        ``unique``, has text where a number is declared, or another value than is ``allowed``.
    CatalogError
        The disk is too small, the database cannot be written, or another import of the same table was started.

    Examples
    --------
    >>> import tempfile
    >>> from xray_harmonize.catalog.database import create
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "patients.csv")
    >>> _ = path.write_text("subject_id,gender,anchor_age\n10000032,F,52\n10000048,F,\n")
    >>> connection = create(Path(folder.name, "archive.sqlite"))
    >>> import_csv(connection, path, "hosp_patients", indices=["subject_id"]).columns
    {'subject_id': 'INTEGER', 'gender': 'TEXT', 'anchor_age': 'INTEGER'}
    >>> connection.execute("SELECT * FROM hosp_patients").fetchall()
    [(10000032, 'F', 52), (10000048, 'F', None)]
    >>> import_csv(connection, path, "hosp_patients").unchanged
    True
    >>> connection.close()
    >>> folder.cleanup()
    """
    name, size = os.fspath(path), _size(path)

    def report(n_bytes: int) -> None:
        if progress is not None:
            progress(min(n_bytes, 2 * size), 2 * size)

    with importing(connection, name):
        known = _unchanged(connection, name, table, declared or {})
    if known is not None:
        report(2 * size)
        return known
    types, sha256, text_bytes = _survey(name, declared or {}, required, advice, report)
    _check_space(connection, name, text_bytes)
    with importing(connection, name), _staging(connection, table, types) as staging:
        with CsvStream(name, lambda n_bytes: report(size + n_bytes)) as stream:
            if stream.header != list(types):
                raise _changed(name)
            rows = _fill(connection, staging, stream)
            if stream.sha256 != sha256:
                raise _changed(name)
        if unique is not None:
            _check_unique(connection, name, staging, unique)
        for column, values in (allowed or {}).items():
            _check_allowed(connection, name, staging, column, values)
        imported = ImportedTable(table, rows, types, sha256, unchanged=False)
        with transaction(connection):
            _take_over(connection, staging, imported, [column for column in indices if column in types])
            _record(connection, imported, name)
    report(2 * size)
    return imported


def quoted(identifier: str) -> str:
    """Write the name of a table or column as SQL does.

    Examples
    --------
    >>> quoted("No Finding")
    '"No Finding"'
    """
    return '"' + identifier.replace('"', '""') + '"'


def _size(path: str | os.PathLike[str]) -> int:
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise LabelTableError(
            f"{os.fspath(path)}: cannot be read ({error.strerror or error}); check path and permissions."
        ) from error


def _unchanged(
    connection: sqlite3.Connection, name: str, table: str, declared: Mapping[str, ColumnType]
) -> ImportedTable | None:
    """Give what was imported if it is still there and was this very file."""
    record = connection.execute(
        "SELECT n_rows, sha256 FROM provenance WHERE what = ? ORDER BY provenance_id DESC LIMIT 1", (_what(table),)
    ).fetchone()
    columns = {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({quoted(table)})")}
    as_declared = all(declared.get(column, kind) == kind for column, kind in columns.items())
    if record is None or not columns or not as_declared or file_sha256(name) != record[1]:
        return None
    return ImportedTable(table, record[0], columns, record[1], unchanged=True)


def _survey(
    name: str,
    declared: Mapping[str, ColumnType],
    required: Sequence[str],
    advice: str,
    report: Callable[[int], None],
) -> tuple[dict[str, ColumnType], str, int]:
    """Read a file for the types of its columns, its hash, and how long its text is."""
    with CsvStream(name, report) as stream:
        check_columns(name, stream.header, required, advice)
        types = ColumnTypes(name, stream.header, declared)
        for numbers, rows in stream.chunks(_chunk_rows(stream.header)):
            types.see(numbers, rows)
        return types.types(), stream.sha256, stream.text_bytes


def _chunk_rows(header: Sequence[str]) -> int:
    return max(1, _CHUNK_CELLS // len(header))


def _check_space(connection: sqlite3.Connection, name: str, text_bytes: int) -> None:
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if not file:
        return
    needed, free = int(_BYTES_A_BYTE * text_bytes), shutil.disk_usage(Path(file).parent).free
    if free < needed:
        raise CatalogError(
            f"{name}: the table needs {needed / 1e9:.1f} GB or more, {Path(file).parent} has {free / 1e9:.1f} GB free. "
            "Make room, or put the database on a larger disk."
        )


@contextmanager
def _staging(connection: sqlite3.Connection, table: str, types: Mapping[str, ColumnType]) -> Iterator[str]:
    """Give a new table that is gone afterwards, unless it was renamed."""
    prefix = f"{_UNFINISHED}{table}_"
    staging = f"{prefix}{uuid4().hex}"
    columns = ", ".join(f"{quoted(column)} {kind}" for column, kind in types.items())
    with transaction(connection):
        # Left by a kill. Were one alive instead, its import would end with an error, and this one go on.
        for left in _tables(connection):
            if left.startswith(prefix) and len(left) == len(staging):
                connection.execute(f"DROP TABLE {quoted(left)}")
        connection.execute(f"CREATE TABLE {quoted(staging)} ({columns})")
    try:
        yield staging
    finally:
        with suppress(sqlite3.Error):  # the next import does it, and what went wrong first is what the user must know
            connection.execute(f"DROP TABLE IF EXISTS {quoted(staging)}")


def _tables(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _fill(connection: sqlite3.Connection, staging: str, stream: CsvStream) -> int:
    """Insert all rows, one transaction a chunk; SQLite makes numbers of text by the type of the column."""
    cells = ", ".join(["NULLIF(?, '')"] * len(stream.header))
    statement = f"INSERT INTO {quoted(staging)} VALUES ({cells})"
    n_rows = 0
    for _, rows in stream.chunks(_chunk_rows(stream.header)):
        with transaction(connection):
            connection.executemany(statement, rows)
        n_rows += len(rows)
    return n_rows


def _check_unique(connection: sqlite3.Connection, name: str, staging: str, column: str) -> None:
    key = quoted(column)
    found = connection.execute(
        f"SELECT {key}, count(*) FROM {quoted(staging)} GROUP BY {key} HAVING {key} IS NULL OR count(*) > 1 LIMIT 1"
    ).fetchone()
    if found is not None and found[0] is None:
        raise LabelTableError(f"{name}: {found[1]} row(s) have no {column!r}, expected one in every row; correct them.")
    if found is not None:
        raise LabelTableError(
            f"{name}: {column} {found[0]!r} is in {found[1]} rows, expected each once; leave one of them."
        )


def _check_allowed(
    connection: sqlite3.Connection, name: str, staging: str, column: str, values: Sequence[str | int]
) -> None:
    marks = ", ".join("?" * len(values))
    found = connection.execute(
        f"SELECT {quoted(column)} FROM {quoted(staging)} WHERE {quoted(column)} NOT IN ({marks}) LIMIT 1", values
    ).fetchone()
    if found is not None:
        raise LabelTableError(
            f"{name}: column {column!r} has {str(found[0])[:40]!r}, expected {', '.join(map(str, values))} or nothing; "
            "correct the cell."
        )


def _take_over(connection: sqlite3.Connection, staging: str, imported: ImportedTable, indices: Sequence[str]) -> None:
    connection.execute(f"DROP TABLE IF EXISTS {quoted(imported.name)}")
    connection.execute(f"ALTER TABLE {quoted(staging)} RENAME TO {quoted(imported.name)}")
    for column in indices:
        index = quoted(f"{imported.name}_by_{column}")
        connection.execute(f"CREATE INDEX {index} ON {quoted(imported.name)} ({quoted(column)})")


def _record(connection: sqlite3.Connection, imported: ImportedTable, name: str) -> None:
    connection.execute(
        "INSERT INTO provenance (what, file, sha256, n_rows, at) VALUES (?, ?, ?, ?, ?)",
        (_what(imported.name), name, imported.sha256, imported.rows, now()),
    )


def _what(table: str) -> str:
    return f"table {table}"


def _changed(name: str) -> LabelTableError:
    return LabelTableError(f"{name}: the file changed while it was imported; import it when nothing writes it.")


@contextmanager
def importing(connection: sqlite3.Connection, name: str) -> Iterator[None]:
    """Turn what SQLite says when it cannot write into CatalogError.

    Parameters
    ----------
    connection : sqlite3.Connection
    name : str
        What is imported.
    """
    try:
        # Views may name the table that is replaced; they stay as they are and find the new one.
        connection.execute("PRAGMA legacy_alter_table = ON")
        yield
    except sqlite3.Error as error:
        file = connection.execute("PRAGMA database_list").fetchone()[2]
        if str(error) == _FULL:
            raise CatalogError(
                f"{name}: cannot be imported, {file or 'the database'} has no room left on its disk; make room and "
                "import again. Tables imported before are whole."
            ) from error
        raise CatalogError(
            f"{name}: cannot be imported into {file or 'the database'} ({error}); check that it can be written, and "
            "that no other import is running."
        ) from error
