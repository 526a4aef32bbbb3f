"""The SQLite file of a catalogue: opened for reading or writing, and refused if it is something else."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from xray_harmonize.exceptions import CatalogError

SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the catalogues that this version of the package writes and reads."""

_APPLICATION_ID = 0x58524841  # "XRHA": tells a catalogue from any other database
_BUSY_SECONDS = 60.0
_WRITE_CACHE_KIBIBYTES = 64 * 1024


def create(path: str | os.PathLike[str]) -> sqlite3.Connection:
    """Open a catalogue for writing; one that does not exist is made.

    Parameters
    ----------
    path : path-like
        The SQLite file; its folder must exist.

    Returns
    -------
    sqlite3.Connection
        In autocommit mode, for :func:`transaction`. Write-ahead logging is on, so that readers do not wait, and a
        writer waits up to a minute for another one.

    Raises
    ------
    CatalogError
        The folder does not exist, or the file is no catalogue of this version.
    """
    name = os.fspath(path)
    if not Path(name).absolute().parent.is_dir():
        raise CatalogError(f"{name}: the folder of the catalogue does not exist; make it, or name another place.")
    connection = _connect(name, f"{_uri(name)}?mode=rwc")
    try:
        with _named(name):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{_WRITE_CACHE_KIBIBYTES}")
            with transaction(connection):  # of two that start at once, one makes the tables
                if _is_empty(connection):
                    _make_tables(connection)
            _check_version(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


def open_readonly(path: str | os.PathLike[str]) -> sqlite3.Connection:
    """Open a catalogue so that nothing that is asked of it can change it.

    Parameters
    ----------
    path : path-like
        The SQLite file.

    Returns
    -------
    sqlite3.Connection

    Raises
    ------
    CatalogError
        There is no such file, or it is no catalogue of this version.
    """
    name = os.fspath(path)
    place = Path(name).absolute()
    if not place.is_file():
        raise CatalogError(f"{name}: there is no such catalogue; make it with `xray-harmonize index DIR --db {name}`.")
    uri = f"{_uri(name)}?mode=ro"
    if not os.access(place.parent, os.W_OK) and not place.with_name(f"{place.name}-wal").exists():
        # SQLite wants to put its shared memory beside the file, which a read-only medium does not allow.
        uri += "&immutable=1"
    connection = _connect(name, uri)
    try:
        with _named(name):
            connection.execute("PRAGMA query_only = ON")
            # ATTACH and VACUUM INTO would make other files, whatever this one allows.
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            _check_version(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Write what the block does at once, or nothing of it where it raises.

    Examples
    --------
    >>> connection = sqlite3.connect(":memory:", isolation_level=None)
    >>> with transaction(connection):
    ...     _ = connection.execute("CREATE TABLE kept (n INTEGER)")
    >>> connection.execute("SELECT count(*) FROM kept").fetchone()
    (0,)
    >>> connection.close()
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after a full disk, and says so if asked again.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def now() -> str:
    """Give the time as catalogues write it, such as ``'2025-03-01T12:00:00Z'``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def add_provenance(
    connection: sqlite3.Connection,
    what: str,
    file: str | os.PathLike[str],
    n_rows: int,
    *,
    sha256: str | None = None,
) -> None:
    """Write down which file filled what.

    Parameters
    ----------
    connection : sqlite3.Connection
        Inside the transaction that writes the rows.
    what : str
        Who wrote, such as ``"index"`` or ``"import mimic-cxr"``.
    file : path-like
        Folder or table that was read.
    n_rows : int
        How many rows it gave.
    sha256 : str, optional
        Of the table.
    """
    connection.execute(
        "INSERT INTO provenance (what, file, sha256, n_rows, at) VALUES (?, ?, ?, ?, ?)",
        (what, os.fspath(file), sha256, n_rows, now()),
    )


def _uri(name: str) -> str:
    return Path(name).absolute().as_uri()


def _connect(name: str, uri: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    except sqlite3.Error as error:
        raise CatalogError(f"{name}: the catalogue cannot be opened ({error}); check its rights.") from error


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise CatalogError(
            f"{name}: cannot be used as a catalogue ({error}); name the file that `xray-harmonize index` wrote."
        ) from error


def _is_empty(connection: sqlite3.Connection) -> bool:
    (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    return n_tables == 0 and application == 0


def _make_tables(connection: sqlite3.Connection) -> None:
    statement = ""
    # Not by executescript, which would end the transaction that keeps a second process out.
    for line in files("xray_harmonize.catalog").joinpath("schema.sql").read_text(encoding="utf-8").splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _check_version(connection: sqlite3.Connection, name: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise CatalogError(
            f"{name}: an SQLite database, but no catalogue of xray_harmonize; name the file that "
            "`xray-harmonize index` wrote, or another for a new catalogue."
        )
    if found != SCHEMA_VERSION:
        raise CatalogError(
            f"{name}: a catalogue of version {found}, expected version {SCHEMA_VERSION}; use the xray_harmonize that "
            "wrote it, or index the archive into a new file."
        )
