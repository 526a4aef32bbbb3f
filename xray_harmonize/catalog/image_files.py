"""Files in a catalogue by their path: found if they are indexed, and indexed one by one where they are not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from xray_harmonize.catalog.database import transaction
from xray_harmonize.catalog.header_workers import read_rows
from xray_harmonize.catalog.index import source_of, write_batch
from xray_harmonize.catalog.patients import check_salt

_BATCH = 500


class IndexedFiles:
    """Find images by path.

    Parameters
    ----------
    connection : sqlite3.Connection
        Of a catalogue.
    folders : sequence of path-like
        What relative paths may be relative to, besides the folders that were indexed; the first that has the file
        counts.
    """

    def __init__(self, connection: sqlite3.Connection, folders: Sequence[str | os.PathLike[str]] = ()) -> None:
        self._connection = connection
        self._sources = connection.execute("SELECT source_id, root FROM source ORDER BY source_id").fetchall()
        self._folders = [
            *(Path(folder).absolute().as_posix() for folder in folders),
            *(root for _, root in self._sources),
        ]

    def image_id(self, path: str) -> int | None:
        """Give the image_id of a file, None if it is not indexed or no longer there."""
        if Path(path).is_absolute():
            return self._known(path)
        found = (self._known(f"{folder}/{path}") for folder in self._folders)
        return next((image_id for image_id in found if image_id is not None), None)

    def _known(self, path: str) -> int | None:
        place = os.path.normpath(path).replace(os.sep, "/")
        for source_id, root in self._sources:
            if place.startswith(f"{root}/"):
                row = self._connection.execute(
                    "SELECT image_id FROM image WHERE source_id = ? AND path = ? AND present = 1",
                    (source_id, place[len(root) + 1 :]),
                ).fetchone()
                if row is not None:
                    return int(row[0])
        return None


def index_files(
    connection: sqlite3.Connection,
    folder: str | os.PathLike[str],
    paths: Iterable[str],
    *,
    salt: bytes | None = None,
    name: str = "the catalogue",
) -> int:
    """Index single files of a folder, as far as they are not indexed yet.

    Parameters
    ----------
    connection : sqlite3.Connection
        Of a catalogue, open for writing, outside a transaction.
    folder : path-like
        What paths are relative to.
    paths : iterable of str
        Files; one that holds no usable image goes to the table ``error``.
    salt : bytes, optional
        Hashes patient identifiers.
    name : str
        What errors call the catalogue.

    Returns
    -------
    int
        How many images are new.
    """
    place = Path(os.path.normpath(Path(folder).absolute())).as_posix().rstrip("/")
    with transaction(connection):
        check_salt(connection, salt, name)
        source_id, root, below = source_of(connection, place)
    known = IndexedFiles(connection)
    new = (path for path in paths if known.image_id(f"{place}/{path}") is None)
    n_new = 0
    while batch := list(islice(new, _BATCH)):
        files = []
        for path in batch:
            try:
                status = Path(place, path).stat()
            except OSError:  # it is gone; reading it says why
                files.append((below + path, 0, 0, False))
            else:
                files.append((below + path, status.st_size, status.st_mtime_ns, False))
        rows = read_rows(root, [file[0] for file in files], salt)
        with transaction(connection):
            n_new += write_batch(connection, source_id, list(zip(files, rows, strict=True)))[0]
    return n_new
