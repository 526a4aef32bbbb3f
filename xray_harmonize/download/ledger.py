"""What a mirror remembers between runs: which files are verified, and which version an unfinished one is of."""

from __future__ import annotations

import sqlite3
import threading
import time
from os import stat_result
from pathlib import Path
from types import TracebackType

from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeError

_VERSION = 1
_SCHEMA = """
CREATE TABLE source (base TEXT NOT NULL);
CREATE TABLE verified (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE validator (path TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_SECONDS_BETWEEN_COMMITS = 2.0


class Ledger:
    """A small SQLite file that spares a rerun to hash what it has hashed before.

    One process at a time holds it, and thereby the mirror: the file is locked until it is closed. Losing it costs
    time, not correctness. Threads may share it.

    Parameters
    ----------
    path : Path or str
        The file, made if absent, or ``":memory:"``.
    base : str
        Address of what is mirrored; a mirror is of one address.

    Raises
    ------
    InvalidParameterError
        The mirror is one of another address, or another process is at work on it.
    XRayHarmonizeError
        The file is damaged, cannot be written, or of a later version.

    Examples
    --------
    >>> with Ledger(":memory:", "https://archive.example/") as ledger:
    ...     ledger.remember("a.dcm", "v1")
    ...     ledger.validator("a.dcm")
    'v1'
    """

    def __init__(self, path: Path | str, base: str) -> None:
        self._lock = threading.Lock()
        self._path = Path(path)
        try:
            # Not None for isolation: a transaction runs from the first change to the next commit.
            self._connection: sqlite3.Connection | None = sqlite3.connect(path, timeout=0.5, check_same_thread=False)
            self._open(base)
        except sqlite3.Error as error:
            self.close()
            if "locked" in str(error):
                raise InvalidParameterError(
                    f"Another download into {self._path.parent} is running. Let it end, or give another folder."
                ) from error
            raise XRayHarmonizeError(
                f"{path} cannot be used: {error}. Delete it if it is damaged: the files beside it stay, and are "
                "verified anew."
            ) from error
        except XRayHarmonizeError:
            self.close()
            raise
        self._committed = time.monotonic()

    def _open(self, base: str) -> None:
        connection = self._connection
        assert connection is not None
        # An exclusive lock that stays: two runs would write into one unfinished file.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute("INSERT INTO source VALUES (?)", (base,))
        elif version != _VERSION:
            raise XRayHarmonizeError(
                f"{self._path} is of version {version}, and this program writes {_VERSION}. Use a newer one."
            )
        (known,) = connection.execute("SELECT base FROM source").fetchone()
        if known != base:
            raise InvalidParameterError(
                f"{self._path.parent} is a mirror of {known}, and not of {base}. Give another folder."
            )
        connection.commit()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write down what is known and let go of the file."""
        with self._lock:
            connection, self._connection = getattr(self, "_connection", None), None
        if connection is not None:
            try:
                connection.commit()
            except sqlite3.Error:  # a full disk: the next run hashes some files again
                connection.rollback()
            finally:
                connection.close()

    def is_verified(self, path: str, status: stat_result, sha256: bytes) -> bool:
        """Tell whether a file was found to have this SHA-256 and has not changed since, by size and time."""
        row = self._one("SELECT size, mtime_ns, sha256 FROM verified WHERE path = ?", path)
        return row == (status.st_size, status.st_mtime_ns, sha256)

    def verified(self, path: str, status: stat_result, sha256: bytes) -> None:
        """Remember that a file has this SHA-256."""
        self._write(
            "INSERT OR REPLACE INTO verified VALUES (?, ?, ?, ?)",
            (path, status.st_size, status.st_mtime_ns, sha256),
        )

    def validator(self, path: str) -> str | None:
        """Give the ETag or date of the version that an unfinished file, or the list, is of."""
        row = self._one("SELECT value FROM validator WHERE path = ?", path)
        return None if row is None else str(row[0])

    def remember(self, path: str, validator: str | None) -> None:
        """Remember an ETag or date, or forget it."""
        if validator is None:
            self._write("DELETE FROM validator WHERE path = ?", (path,))
        else:
            self._write("INSERT OR REPLACE INTO validator VALUES (?, ?)", (path, validator))

    def _one(self, statement: str, path: str) -> tuple[object, ...] | None:
        with self._lock:
            if self._connection is None:
                return None
            row: tuple[object, ...] | None = self._connection.execute(statement, (path,)).fetchone()
            return row

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        with self._lock:
            if self._connection is None:  # a thread that outlives an interrupted run
                return
            try:
                self._connection.execute(statement, values)
                if time.monotonic() - self._committed > _SECONDS_BETWEEN_COMMITS:
                    self._connection.commit()
                    self._committed = time.monotonic()
            except sqlite3.OperationalError:  # a full disk, which the file's own transfer will report
                return
