"""Which files of a folder are new, changed or gone against a catalogue, without opening any.

All files are looked at before the first is read: the work ahead is then known. What must be read goes to a list on
disk, and files are compared with the catalogue a stretch of paths at a time, so that memory does not grow with the
archive. Sets do the comparing: over files that have not changed, nothing here runs once a file but their system call.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from xray_harmonize.catalog.database import now, transaction
from xray_harmonize.catalog.walk import FoundFile, Walk
from xray_harmonize.exceptions import ImageReadError

CHUNK_FILES = 128
"""Files that a process reads between two messages."""

_CHUNK_CHARACTERS = 32_768  # of paths, so that chunks fit into a pipe
_END: Any = b""  # behind every path, as SQLite sorts bytes behind text

FileToRead = tuple[str, int, int, bool]
"""Path, size, time, and whether the catalogue knows the image as it was before."""


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far an index is.

    Parameters
    ----------
    n_found : int
        Files looked at.
    n_read : int
        Headers read.
    n_to_read : int or None
        Headers to read in all; None while files are still looked at.
    """

    n_found: int
    n_read: int
    n_to_read: int | None


@dataclass
class Counts:
    """What was found so far; see IndexSummary."""

    found: int = 0
    new: int = 0
    unchanged: int = 0
    changed: int = 0
    gone: int = 0
    to_read: int = 0


@dataclass
class IndexRun:
    """One run over one folder of one catalogue.

    Parameters
    ----------
    connection : sqlite3.Connection
        Open for writing.
    source_id, root
        As in the table ``source``.
    below : str
        Folder below ``root`` that is indexed: "" for all of it, else with a slash at its end.
    own_files : set of str
        Paths of the catalogue's own files, as the walk names them.
    progress : callable or None
    """

    connection: sqlite3.Connection
    source_id: int
    root: str
    below: str
    own_files: set[str]
    progress: Callable[[IndexProgress], None] | None
    counts: Counts = field(default_factory=Counts)

    def tell(self, n_read: int, n_to_read: int | None) -> None:
        """Tell how far the run is."""
        if self.progress is not None:
            self.progress(IndexProgress(self.counts.found, n_read, n_to_read))


def find_changes(index: IndexRun, follow_links: bool, spool: IO[bytes]) -> None:
    """Compare all files with the catalogue, and put those that must be read on a list on disk.

    Images whose file is gone are marked, those whose file is back unmarked, errors of files that are gone removed.

    Parameters
    ----------
    index : IndexRun
        Its counts are filled.
    follow_links : bool
    spool : binary file
        For :func:`chunks_of`.

    Raises
    ------
    ImageReadError
        The folder itself cannot be listed. Folders in it that cannot are listed as errors; their images stay.
    """
    walk = Walk(index.root, index.below, follow_links)
    start: str = index.below
    stretch: list[FoundFile] = []
    for piece in walk:
        if stretch:  # it reaches to where the next one begins
            _compare(index, walk, stretch, start, piece[0][0], spool)
            start = piece[0][0]
        stretch = piece
    if (index.below or "/") in walk.unusable:
        raise ImageReadError(
            f"{index.root}/{index.below}: {walk.unusable[index.below or '/']}; check its rights and that it is mounted."
        )
    _compare(index, walk, stretch, start, behind(index.below), spool)
    if walk.unusable:
        found_at = now()
        with transaction(index.connection):
            index.connection.executemany(
                "INSERT OR REPLACE INTO error VALUES (?, ?, 0, 0, 'unreadable', ?, ?)",
                ((index.source_id, path, reason, found_at) for path, reason in walk.unusable.items()),
            )
    spool.seek(0)


def _compare(
    index: IndexRun, walk: Walk, stretch: list[FoundFile], start: str, end: str | bytes, spool: IO[bytes]
) -> None:
    """Compare the files of a stretch of paths, ``start`` within and ``end`` not, with the rows of that stretch."""
    connection, counts = index.connection, index.counts
    bounds = (index.source_id, start, end)

    def held(table: str, condition: str) -> list[FoundFile]:
        where = f"source_id = ? AND path >= ? AND path < ? AND {condition}"
        rows = connection.execute(f"SELECT path, size, mtime_ns FROM {table} WHERE {where} ORDER BY path", bounds)
        return rows.fetchall()

    known, errors = held("image", "present = 1"), set(held("error", "TRUE"))
    if known == stretch and not errors:  # nothing has happened here, which is the rule
        counts.found += len(stretch)
        counts.unchanged += len(stretch)
        index.tell(0, None)
        return
    found, images = {file for file in stretch if file[0] not in index.own_files}, set(known)
    # What could not be read is tried again, as rights and mounts change without a trace in size or time.
    to_read = found - images - set(held("error", "kind <> 'unreadable'"))
    stale_images = images - found
    counts.found += len(found)
    counts.unchanged += len(images) - len(stale_images)
    back = to_read & set(held("image", "present = 0"))
    to_read -= back
    counts.unchanged += len(back)
    paths_to_read = {path for path, _, _ in to_read}
    stale = {path for path, _, _ in stale_images}
    unlisted = tuple(path for path in walk.unusable if path.endswith("/"))
    gone = {path for path in stale - paths_to_read if not path.startswith(unlisted)}
    solved = {path for path, _, _ in errors - found if not path.startswith(unlisted)} - paths_to_read
    counts.gone += len(gone)
    if gone or back or solved:
        with transaction(connection):
            for present, paths in ((0, gone), (1, {path for path, _, _ in back})):
                connection.executemany(
                    f"UPDATE image SET present = {present} WHERE source_id = ? AND path = ?",
                    ((index.source_id, path) for path in paths),
                )
            connection.executemany(
                "DELETE FROM error WHERE source_id = ? AND path = ?", ((index.source_id, path) for path in solved)
            )
    if to_read:
        counts.to_read += len(to_read)
        pickle.dump([(*file, file[0] in stale) for file in stretch if file in to_read], spool)
    index.tell(0, None)


def chunks_of(spool: IO[bytes]) -> Iterator[list[FileToRead]]:
    """Give the list of files to read back in small chunks, none of them larger than a pipe holds."""
    chunk: list[FileToRead] = []
    length = 0
    while True:
        try:
            files = pickle.load(spool)  # what this process wrote, into a file that has no name
        except EOFError:
            break
        for file in files:
            chunk.append(file)
            length += len(file[0])
            if len(chunk) == CHUNK_FILES or length > _CHUNK_CHARACTERS:
                yield chunk
                chunk, length = [], 0
    if chunk:
        yield chunk


def behind(below: str) -> Any:
    """Give what sorts behind every path in a folder, and before what follows the folder."""
    return f"{below[:-1]}0" if below else _END  # "0" is the character behind "/"
