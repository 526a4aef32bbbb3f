"""Read headers in other processes, without losing one when a run is stopped.

A plain pool, as what goes to and fro is all that parallel reading costs: a worker gets paths and gives back rows of
plain values. A worker ends when its pipe does, so that none outlives a run that was killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from xray_harmonize.catalog.patients import patient_key
from xray_harmonize.dicom.acquisition import ACQUISITION_COLUMNS, read_acquisition
from xray_harmonize.dicom.header import looks_like_dicom
from xray_harmonize.exceptions import CatalogError, XRayHarmonizeError

Row = tuple[Any, ...]
"""Hash of the values, and the values of ACQUISITION_COLUMNS."""

Bad = tuple[str, str]
"""Kind of an error ('refused', 'unreadable', 'not DICOM') and the reason."""

_HEAD_BYTES = 132 + 1024
_HASH_BYTES = 16
_LONGEST_REASON = 500
_PATIENT = list(ACQUISITION_COLUMNS).index("patient_id")
# One chunk is read while the next one waits in the pipe, so that no worker idles while the parent writes.
_CHUNKS_AHEAD = 2


def read_rows(root: str, paths: Iterable[str], salt: bytes | None = None) -> list[Row | Bad]:
    """Read the headers of files; one that cannot be used gives a reason in place of a row.

    Parameters
    ----------
    root : str
        Folder that the paths are relative to.
    paths : iterable of str
    salt : bytes, optional
        Hashes patient identifiers.

    Returns
    -------
    list of Row or Bad
        In the order of ``paths``.
    """
    with warnings.catch_warnings():
        # What a header makes its parser say is about that one file; columns tell what is wrong with it.
        warnings.simplefilter("ignore")
        return [_read_row(f"{root}/{path}", salt) for path in paths]


def _read_row(name: str, salt: bytes | None) -> Row | Bad:
    try:
        values = tuple(read_acquisition(name).values())
    except XRayHarmonizeError as error:
        return _bad(name, error)
    except Exception as error:  # whatever a damaged header makes its parser raise: one bad file stops nothing
        return "refused", _reason(name, f"the header cannot be read ({type(error).__name__}: {error})")
    if salt is not None and values[_PATIENT]:
        values = (*values[:_PATIENT], patient_key(values[_PATIENT], salt), *values[_PATIENT + 1 :])
    described = "\x1f".join(map(str, values)).encode("utf-8", "backslashreplace")
    return (blake2b(described, digest_size=_HASH_BYTES).hexdigest(), *values)


def _bad(name: str, error: XRayHarmonizeError) -> Bad:
    reason = _reason(name, str(error))
    if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, XRayHarmonizeError):
        return "unreadable", reason
    try:
        with Path(name).open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return "unreadable", reason
    return ("refused" if looks_like_dicom(head) else "not DICOM"), reason


def _reason(name: str, message: str) -> str:
    """Make one printable line; the file is named by the row, wherever its folder comes to lie."""
    line = "".join(character if character.isprintable() else " " for character in message.removeprefix(f"{name}: "))
    return line[:_LONGEST_REASON]


def chunk_results(
    root: str, chunks: Iterator[list[str]], n_jobs: int, salt: bytes | None = None
) -> Iterator[tuple[int, list[Row | Bad]]]:
    """Read chunks of files in worker processes.

    Parameters
    ----------
    root : str
    chunks : iterator of list of str
        Paths below the root; few enough in a chunk to wait in a pipe. Taken only as they are needed.
    n_jobs : int
        Processes; 1 reads in this one.
    salt : bytes, optional

    Yields
    ------
    number : int
        Which chunk, counted from 0.
    rows : list of Row or Bad
        As :func:`read_rows` gives. Chunks come in the order in which they are ready.

    Raises
    ------
    CatalogError
        A worker was killed.
    """
    if n_jobs == 1:
        yield from ((number, read_rows(root, paths, salt)) for number, paths in enumerate(chunks))
        return
    with _Workers(partial(read_rows, root, salt=salt), n_jobs) as workers:
        yield from workers.map(chunks)


class _Workers:
    def __init__(self, function: Callable[[list[str]], list[Row | Bad]], n_jobs: int) -> None:
        # Forking starts a worker in milliseconds, with everything imported. Elsewhere it is not safe, or not there.
        method = "fork" if sys.platform == "linux" else "spawn"
        context: Any = multiprocessing.get_context(method)
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        try:
            for _ in range(n_jobs):
                ours, theirs = context.Pipe()
                self._pipes.append(ours)
                inherited = self._pipes if method == "fork" else []
                process = context.Process(target=_work, args=(theirs, inherited, function), daemon=True)
                process.start()
                self._processes.append(process)
                theirs.close()
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()  # it may be in the middle of a chunk that nobody waits for
            process.join()

    def map(self, chunks: Iterator[list[str]]) -> Iterator[tuple[int, list[Row | Bad]]]:
        waiting: dict[Connection, list[int]] = {pipe: [] for pipe in self._pipes}
        numbered = enumerate(chunks)
        try:
            for pipe in self._pipes * _CHUNKS_AHEAD:
                self._send(pipe, numbered, waiting)
            while any(waiting.values()):
                for ready in wait([pipe for pipe, numbers in waiting.items() if numbers]):
                    assert isinstance(ready, Connection)
                    rows = ready.recv()
                    number = waiting[ready].pop(0)
                    self._send(ready, numbered, waiting)
                    yield number, rows
        except (EOFError, ConnectionError) as error:
            raise CatalogError(
                "A process that reads headers was killed, perhaps for want of memory. What was read before is kept: "
                "run the same again to go on, with fewer n_jobs."
            ) from error

    @staticmethod
    def _send(
        pipe: Connection, numbered: Iterator[tuple[int, list[str]]], waiting: dict[Connection, list[int]]
    ) -> None:
        following = next(numbered, None)
        if following is not None:
            pipe.send(following[1])
            waiting[pipe].append(following[0])


def _work(pipe: Connection, inherited: list[Connection], function: Callable[[list[str]], list[Row | Bad]]) -> None:
    """Answer what comes through the pipe until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in inherited:  # a pipe ends when nobody holds its other end, forked copies included
        other.close()
    with suppress(EOFError, ConnectionError):
        while True:
            pipe.send(function(pipe.recv()))
    os._exit(0)  # nothing of the parent's that was copied is to be tidied up here
