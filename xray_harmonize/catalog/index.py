"""Fill a catalogue from the headers of a folder: in parallel, only what is new, and safe to stop at any moment.

First all files are looked at, not opened, and compared with the catalogue a stretch at a time; what is new or changed
goes to a list on disk, so that memory does not grow with the archive and the work ahead is known. Then headers are read
and written, one transaction a batch. A run that is killed leaves whole batches behind, and the next one does the rest.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from time import perf_counter
from typing import IO

from xray_harmonize.catalog.changes import (
    CHUNK_FILES,
    FileToRead,
    IndexProgress,
    IndexRun,
    behind,
    chunks_of,
    find_changes,
)
from xray_harmonize.catalog.database import add_provenance, create, now, transaction
from xray_harmonize.catalog.header_workers import Bad, Row, chunk_results
from xray_harmonize.catalog.patients import check_salt
from xray_harmonize.dicom.acquisition import ACQUISITION_COLUMNS
from xray_harmonize.exceptions import CatalogError, ImageReadError, InvalidParameterError

_WORTH_A_PROCESS = 2 * CHUNK_FILES

# What SQLite refuses of single rows: integers beyond 64 bits, text that is no Unicode.
_ROW_ERRORS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, OverflowError, UnicodeError)


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """What came of an index.

    Parameters
    ----------
    n_new, n_changed : int
        Images that were read for the first time, and again.
    n_unchanged : int
        Images that were known, not opened.
    n_gone : int
        Images whose file is no longer there: they stay in the catalogue with ``present = 0``, out of ``image_full``.
    n_errors : int
        Files of this folder that look like DICOM or cannot be opened and are in the table ``error``, whether they were
        read in this run or in one before.
    n_not_dicom : int
        Other files in the table ``error``.
    seconds : float
    """

    n_new: int
    n_unchanged: int
    n_changed: int
    n_gone: int
    n_errors: int
    n_not_dicom: int
    seconds: float


def build_index(
    folder: str | os.PathLike[str],
    db: str | os.PathLike[str],
    *,
    n_jobs: int = -1,
    batch_size: int = 500,
    follow_links: bool = False,
    patient_salt: bytes | None = None,
    progress: Callable[[IndexProgress], None] | None = None,
) -> IndexSummary:
    """Bring a catalogue up to date with the DICOM files of a folder.

    Only headers are read, and only of files that are new or have another size or time than the catalogue knows. Files
    that hold no image which the package can use are listed in its table ``error`` with the reason, and not read again
    while they stay as they are. Several runs on one catalogue, at once or after one another, end with the same rows.

    Parameters
    ----------
    folder : path-like
        Searched at any depth; file names do not matter. A folder inside one that was indexed before belongs to it.
    db : path-like
        The SQLite file, made if absent. It may lie in the folder.
    n_jobs : int, default=-1
        Processes that read headers; -1 for one a core.
    batch_size : int, default=500
        Files written in one transaction: what a run that is killed has to read again.
    follow_links : bool, default=False
        Enter folders that are symbolic links. Files that are links are always read.
    patient_salt : bytes, optional
        Secret (see :func:`~xray_harmonize.catalog.patients.read_salt`) that patient identifiers are hashed with. Paths
        are kept as they are, so that folders named after patients still tell them.
    progress : callable, optional
        Called now and then with an :class:`IndexProgress`.

    Returns
    -------
    IndexSummary

    Raises
    ------
    ImageReadError
        The folder is missing or cannot be listed.
    CatalogError
        ``db`` is no catalogue of this version, holds patients hashed in another way, or cannot be written.
    InvalidParameterError
        ``n_jobs`` or ``batch_size`` is out of range.

    Examples
    --------
    >>> import tempfile
    >>> temporary = tempfile.TemporaryDirectory()
    >>> _ = Path(temporary.name, "notes.txt").write_text("no image")
    >>> summary = build_index(temporary.name, Path(temporary.name, "archive.sqlite"))
    >>> summary.n_new, summary.n_errors, summary.n_not_dicom
    (0, 0, 1)
    >>> temporary.cleanup()
    """
    started = perf_counter()
    _check_count("n_jobs", n_jobs, -1)
    _check_count("batch_size", batch_size)
    place = Path(os.path.normpath(Path(folder).absolute()))
    if not place.is_dir():
        raise ImageReadError(f"{os.fspath(folder)}: no such folder, expected one that holds DICOM files.")
    try:
        with closing(create(db)) as connection, TemporaryFile() as spool:
            with transaction(connection):
                check_salt(connection, patient_salt, os.fspath(db))
                source_id, root, below = source_of(connection, place.as_posix().rstrip("/"))
            index = IndexRun(connection, source_id, root, below, _own_files(db, root), progress)
            find_changes(index, follow_links, spool)
            _read(index, spool, n_jobs, batch_size, patient_salt)
            counts = index.counts
            if counts.new or counts.changed or counts.gone:
                with transaction(connection):
                    add_provenance(connection, "index", place, counts.new + counts.changed)
            n_errors, n_not_dicom = connection.execute(
                "SELECT count(*) FILTER (WHERE kind <> 'not DICOM'), count(*) FILTER (WHERE kind = 'not DICOM') "
                "FROM error WHERE source_id = ? AND path >= ? AND path < ?",
                (source_id, below, behind(below)),
            ).fetchone()
    except sqlite3.Error as error:
        raise CatalogError(
            f"{os.fspath(db)}: the catalogue cannot be written ({error}). What was written before is kept: run the "
            "same again to go on."
        ) from error
    return IndexSummary(
        n_new=counts.new,
        n_unchanged=counts.unchanged,
        n_changed=counts.changed,
        n_gone=counts.gone,
        n_errors=n_errors,
        n_not_dicom=n_not_dicom,
        seconds=perf_counter() - started,
    )


def _check_count(name: str, value: object, otherwise: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != otherwise):
        every = "" if otherwise is None else f", or {otherwise} for one a core"
        raise InvalidParameterError(f"{name} must be an integer of at least 1{every}; got {value!r}.")


def source_of(connection: sqlite3.Connection, folder: str) -> tuple[int, str, str]:
    """Find the indexed folder that this one is or lies in; where it holds indexed folders, it takes their place."""
    sources = connection.execute("SELECT source_id, root FROM source").fetchall()
    for source_id, root in sources:
        if f"{folder}/".startswith(f"{root}/"):
            return source_id, root, f"{folder}/"[len(root) + 1 :]
    source_id = connection.execute("INSERT INTO source (root) VALUES (?)", (folder,)).lastrowid
    assert source_id is not None
    for inner_id, root in sources:
        if root.startswith(f"{folder}/"):
            for table in ("image", "error"):
                connection.execute(
                    f"UPDATE {table} SET source_id = ?, path = ? || path WHERE source_id = ?",
                    (source_id, f"{root[len(folder) + 1 :]}/", inner_id),
                )
            connection.execute("DELETE FROM source WHERE source_id = ?", (inner_id,))
    return source_id, folder, ""


def _own_files(db: str | os.PathLike[str], root: str) -> set[str]:
    """Name the catalogue's own files as the walk would, where it lies in the folder."""
    place = Path(os.path.normpath(Path(db).absolute())).as_posix()
    if not place.startswith(f"{root}/"):
        return set()
    return {f"{place[len(root) + 1 :]}{ending}" for ending in ("", "-wal", "-shm", "-journal")}


def _read(index: IndexRun, spool: IO[bytes], n_jobs: int, batch_size: int, salt: bytes | None) -> None:
    reading: dict[int, list[FileToRead]] = {}

    def chunks() -> Iterator[list[str]]:
        for number, chunk in enumerate(chunks_of(spool)):
            reading[number] = chunk
            yield [file[0] for file in chunk]

    n_to_read, n_read = index.counts.to_read, 0
    index.tell(0, n_to_read)
    batch: list[tuple[FileToRead, Row | Bad]] = []
    for number, rows in chunk_results(index.root, chunks(), _n_workers(n_jobs, n_to_read), salt):
        batch += zip(reading.pop(number), rows, strict=True)
        n_read += len(rows)
        while len(batch) >= batch_size:
            _write(index, batch[:batch_size])
            batch = batch[batch_size:]
        index.tell(n_read, n_to_read)
    if batch:
        _write(index, batch)


def _n_workers(n_jobs: int, n_to_read: int) -> int:
    if n_to_read < _WORTH_A_PROCESS:
        return 1
    if n_jobs != -1:
        return n_jobs
    from joblib import cpu_count  # knows what a container may use

    return int(cpu_count())


_N_ACQUISITION = len(ACQUISITION_COLUMNS)
_WRITE_IMAGE = """
    INSERT INTO image (source_id, path, size, mtime_ns, header_hash, indexed_at) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (source_id, path) DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns,
        header_hash = excluded.header_hash, indexed_at = excluded.indexed_at, present = 1
"""
_WRITE_ACQUISITION = f"""
    INSERT OR REPLACE INTO acquisition (image_id, {", ".join(ACQUISITION_COLUMNS)})
    VALUES ((SELECT image_id FROM image WHERE source_id = ? AND path = ?){", ?" * _N_ACQUISITION})
"""


def _write(index: IndexRun, batch: list[tuple[FileToRead, Row | Bad]]) -> None:
    """Write a batch at once; a row that SQLite refuses becomes an error, alone."""
    try:
        with transaction(index.connection) as connection:
            n_new, n_changed = write_batch(connection, index.source_id, batch)
    except _ROW_ERRORS as error:
        if len(batch) > 1:
            half = len(batch) // 2
            _write(index, batch[:half])
            _write(index, batch[half:])
        else:
            ((file, row),) = batch
            if len(row) == 2:  # it is not the header that is wrong
                raise
            _write(index, [(file, ("refused", f"the header holds a value that cannot be stored ({error})"))])
        return
    index.counts.new += n_new
    index.counts.changed += n_changed


def write_batch(
    connection: sqlite3.Connection, source_id: int, batch: list[tuple[FileToRead, Row | Bad]]
) -> tuple[int, int]:
    """Write what was read of some files, without committing; give how many images are new and how many changed."""
    at = now()
    images, acquisitions, bad, seen = [], [], [], []
    n_changed = 0
    for (path, size, mtime_ns, known), row in batch:
        key = (source_id, path)
        if len(row) == 2:
            bad.append((*key, size, mtime_ns, *row, at))
        else:
            seen.append(key)
            images.append((*key, size, mtime_ns, row[0], at))
            acquisitions.append((*key, *row[1:]))
            n_changed += known
    connection.executemany(_WRITE_IMAGE, images)
    connection.executemany(_WRITE_ACQUISITION, acquisitions)
    connection.executemany("DELETE FROM error WHERE source_id = ? AND path = ?", seen)
    connection.executemany("INSERT OR REPLACE INTO error VALUES (?, ?, ?, ?, ?, ?, ?)", bad)
    connection.executemany("UPDATE image SET present = 0 WHERE source_id = ? AND path = ?", (row[:2] for row in bad))
    return len(images) - n_changed, n_changed
