"""The manifest of an output folder: an SQLite file that tells of every source what became of it.

It stands as ``manifest.sqlite`` beside the outputs, with the tables ``image`` (one row a source) and ``run`` (one row a
run), and may be read with any SQLite tool at any time, while a run goes on as well.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from xray_harmonize.archive.one_file import Outcome, Task
from xray_harmonize.catalog.database import now, transaction
from xray_harmonize.exceptions import InvalidParameterError, PersistenceError

MANIFEST = "manifest.sqlite"
LOCK = "manifest.lock"
WORKERS = "manifest.workers"

_VERSION = 1
_APPLICATION_ID = 0x5852484D  # "XRHM": tells a manifest from any other database
_PAGE = 256
# Far longer than one file takes: the processes of a killed run end with the file that they are at.
_LEAVING_SECONDS = 600
# What xray_harmonize.atomic.replacing writes to, left behind where a process was killed.
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.part")

SCHEMA = """
CREATE TABLE run (
    run_id        INTEGER PRIMARY KEY,
    started       TEXT NOT NULL,              -- UTC
    ended         TEXT,                       -- NULL: it goes on, or was killed
    root          TEXT NOT NULL,              -- outputs mirror the paths of sources below it
    format        TEXT NOT NULL,
    method        TEXT NOT NULL,
    model_sha256  TEXT NOT NULL,
    version       TEXT NOT NULL               -- of xray_harmonize
) STRICT;

CREATE TABLE image (
    image_id        INTEGER PRIMARY KEY,
    source          TEXT NOT NULL UNIQUE,
    output          TEXT NOT NULL UNIQUE COLLATE NOCASE, -- below the folder of the manifest
    scanner         TEXT,
    bits_stored     INTEGER NOT NULL,         -- as the caller said, 0 where the file tells
    state           TEXT NOT NULL CHECK (state IN ('pending', 'done', 'failed')),
    reason          TEXT,                     -- why it failed
    warning         TEXT,
    seconds         REAL,
    run_id          INTEGER NOT NULL REFERENCES run, -- that it was last asked for in
    source_size     INTEGER,
    source_mtime_ns INTEGER,
    source_sha256   TEXT,
    model_sha256    TEXT,                     -- that the output was made with
    output_size     INTEGER,
    output_sha256   TEXT
) STRICT;
CREATE INDEX image_state ON image (run_id, state);
"""


class Manifest:
    """The open manifest of a folder, held by one run at a time.

    Parameters
    ----------
    out : path
        Folder of the outputs, made if absent.

    Raises
    ------
    InvalidParameterError
        If another run holds it.
    PersistenceError
        If the folder cannot be written, or holds something else by the name of a manifest.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out, Manifest(Path(out)) as manifest:
    ...     manifest.counts(0)
    {}
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / MANIFEST
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PersistenceError(
                f"{out} cannot be made ({error.strerror or error}); name a folder that can be written."
            ) from error
        self._lock = self._locked()
        try:
            with self._writing():
                # Each row is written as soon as it is known: a killed process loses none that was.
                self.connection = sqlite3.connect(self.path, isolation_level=None)
                self._open()
        except BaseException:
            self.close()
            raise

    def _locked(self) -> sqlite3.Connection:
        """Take the lock, which the system takes back from a process that ends in whatever way."""
        lock: sqlite3.Connection | None = None
        try:
            lock = sqlite3.connect(self.out / LOCK, timeout=0, isolation_level=None)
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if lock is not None:
                lock.close()
            if "locked" in str(error):
                raise InvalidParameterError(
                    f"Another run is writing to {self.out}. Wait until it ends, or name another folder."
                ) from error
            raise PersistenceError(f"{self.out / LOCK} cannot be written ({error}); check the folder.") from error
        return lock

    def _open(self) -> None:
        (application,) = self.connection.execute("PRAGMA application_id").fetchone()
        (version,) = self.connection.execute("PRAGMA user_version").fetchone()
        (n_tables,) = self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not n_tables and not application:
            self.connection.executescript(
                f"PRAGMA journal_mode = WAL; BEGIN; {SCHEMA} PRAGMA application_id = {_APPLICATION_ID}; "
                f"PRAGMA user_version = {_VERSION}; COMMIT"
            )
        elif application != _APPLICATION_ID or version != _VERSION:
            raise PersistenceError(
                f"{self.path} is no manifest of this version of xray_harmonize; name another folder for the outputs."
            )
        self.connection.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Let go of the file and of the lock."""
        if hasattr(self, "connection"):
            self.connection.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise PersistenceError(
                f"{self.path} cannot be written ({error}). Check the folder and the free space, then run the same "
                "command again: what is finished is kept."
            ) from error

    # -- runs -----------------------------------------------------------------------------------------------------

    def last_run(self) -> dict[str, str | None] | None:
        """Give the columns of the last run, None before the first."""
        with self._writing():
            cursor = self.connection.execute("SELECT * FROM run ORDER BY run_id DESC LIMIT 1")
            row = cursor.fetchone()
        return None if row is None else dict(zip([column[0] for column in cursor.description], row, strict=True))

    def other_outputs(self, model_sha256: str) -> int:
        """Count the outputs that another model made."""
        with self._writing():
            (count,) = self.connection.execute(
                "SELECT count(*) FROM image WHERE output_sha256 IS NOT NULL AND model_sha256 <> ?", [model_sha256]
            ).fetchone()
        return int(count)

    @contextmanager
    def planning(self) -> Iterator[sqlite3.Connection]:
        """Write everything that the block plans, or nothing of it."""
        with self._writing(), transaction(self.connection):
            yield self.connection

    def end(self, run: int) -> None:
        """Note that a run has come to an end, so that the next one need not look for what it left."""
        with self._writing():
            self.connection.execute("UPDATE run SET ended = ? WHERE run_id = ?", [now(), run])

    def clear(self) -> None:
        """Wait until the processes of a run that was killed have left, and sweep away their unfinished files.

        Raises
        ------
        InvalidParameterError
            If they do not leave.
        """
        others = sqlite3.connect(self.out / WORKERS, timeout=_LEAVING_SECONDS, isolation_level=None)
        try:
            others.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise InvalidParameterError(
                f"Processes of a killed run still write to {self.out}. End them, then run the same command again."
            ) from error
        finally:
            others.close()
        self.sweep()

    def sweep(self) -> None:
        """Take away unfinished files; nobody may be writing any more."""
        for folder, _, names in os.walk(self.out):
            for name in names:
                if _UNFINISHED.fullmatch(name):
                    Path(folder, name).unlink(missing_ok=True)

    # -- images ---------------------------------------------------------------------------------------------------

    def tasks(self, run: int, model_sha256: str) -> Iterator[Task]:
        """Give what is still to do in a run, read page by page while rows are being written."""
        last = 0
        while True:
            with self._writing():
                rows = self.connection.execute(
                    "SELECT image_id, source, output, scanner, bits_stored, "
                    "source_sha256, output_sha256, model_sha256 FROM image "
                    "WHERE run_id = ? AND state = 'pending' AND image_id > ? ORDER BY image_id LIMIT ?",
                    [run, last, _PAGE],
                ).fetchall()
            if not rows:
                return
            for number, source, output, scanner, bits, source_hash, output_hash, made_with in rows:
                known = (source_hash, output_hash) if output_hash and made_with == model_sha256 else None
                yield Task(number, source, output, scanner, bits, known)
                last = number

    def record(self, outcome: Outcome, model_sha256: str) -> None:
        """Write what became of a task; one that was stopped stays to do."""
        if outcome.state == "stopped":
            return
        columns = {
            name: getattr(outcome, name)
            for name in ("source_size", "source_mtime_ns", "source_sha256", "output_size", "output_sha256", "reason")
        }
        if outcome.state != "unchanged":  # a warning, and the time it took, are told of the making
            columns |= {"warning": outcome.warning, "seconds": outcome.seconds}
        columns["state"] = "failed" if outcome.state == "failed" else "done"
        columns["model_sha256"] = None if outcome.state == "failed" else model_sha256
        with self._writing():
            self.connection.execute(
                f"UPDATE image SET {', '.join(f'{name} = ?' for name in columns)} WHERE image_id = ?",
                [*columns.values(), outcome.number],
            )

    def counts(self, run: int) -> dict[str, int]:
        """Count the images that a run asked for, by state."""
        with self._writing():
            rows = self.connection.execute("SELECT state, count(*) FROM image WHERE run_id = ? GROUP BY state", [run])
            return dict(rows.fetchall())

    def failures(self, run: int, limit: int) -> list[tuple[str, str]]:
        """Give source and reason of the first images of a run that failed."""
        with self._writing():
            return self.connection.execute(
                "SELECT source, reason FROM image WHERE run_id = ? AND state = 'failed' ORDER BY image_id LIMIT ?",
                [run, limit],
            ).fetchall()


def show_presence(out: Path) -> sqlite3.Connection:
    """Let the next run see that a process writes to a folder, until it ends in whatever way."""
    presence = sqlite3.connect(out / WORKERS, timeout=_LEAVING_SECONDS, isolation_level=None)
    presence.execute("BEGIN")
    presence.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return presence
