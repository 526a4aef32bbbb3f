"""A folder that becomes, and stays, a verified copy of a collection on a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from xray_harmonize.download.address import base_address, file_address
from xray_harmonize.download.brake import Brake
from xray_harmonize.download.checksums import (
    LEDGER_NAME,
    LIST_NAME,
    Failure,
    ListedFile,
    Listing,
    read_checksums,
    select,
    sha256_of,
)
from xray_harmonize.download.connection import Connection, Ending, Status
from xray_harmonize.download.credentials import Credentials
from xray_harmonize.download.ledger import Ledger
from xray_harmonize.download.transfer import Transfer
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeError

MAX_JOBS = 16
MAX_LIST_BYTES = 1 << 30
MAX_UNREACHABLE = 10
"""So many files in a row that the server does not give are taken for a server that is down."""

_SECONDS_BETWEEN_PROGRESS = 0.2
_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class MirrorProgress:
    """How far a mirror is."""

    n_files: int
    """Files to have, refused names left out."""
    n_kept: int
    """Of these, files that were there and are as they should be."""
    n_fetched: int
    n_failed: int
    n_bytes: int
    """Bytes that came in this run."""
    seconds: float


@dataclass(frozen=True)
class MirrorSummary:
    """What a run of a mirror did."""

    n_files: int
    """Files that the list has and ``only`` chooses, refused names among them."""
    n_kept: int
    n_fetched: int
    n_bytes: int
    failures: tuple[Failure, ...] = ()
    """Files that are not there, with the reason, refused names first."""
    stopped: str = ""
    """Why the run ended before every file had its turn, if it did."""

    @property
    def is_complete(self) -> bool:
        """Whether every file is there and verified."""
        return not self.failures and not self.stopped


@dataclass
class _Tally:
    """Counts that the threads share."""

    n_files: int
    n_kept: int = 0
    n_fetched: int = 0
    n_bytes: int = 0
    failures: list[Failure] = field(default_factory=list)
    in_a_row: int = 0
    begun: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_bytes(self, n_bytes: int) -> None:
        with self.lock:
            self.n_bytes += n_bytes

    def progress(self) -> MirrorProgress:
        seconds = time.monotonic() - self.begun
        return MirrorProgress(self.n_files, self.n_kept, self.n_fetched, len(self.failures), self.n_bytes, seconds)


@dataclass(frozen=True)
class Source:
    """Where files come from, and how they are asked for; the fields are arguments of :func:`mirror`."""

    base: str
    credentials: Credentials | None
    allow_http: bool
    timeout: float
    attempts: int
    pause: float

    @contextmanager
    def transfer(self, ledger: Ledger, brake: Brake, on_bytes: Callable[[int], None]) -> Iterator[Transfer]:
        """Open a connection that fetches files."""
        with self.connection() as connection:
            yield Transfer(connection, ledger, brake, attempts=self.attempts, pause=self.pause, on_bytes=on_bytes)

    def connection(self) -> Connection:
        """Make a connection, which is opened by the first request."""
        return Connection(self.base, self.credentials, allow_http=self.allow_http, timeout=self.timeout)


def mirror(
    collection: str,
    out: str | Path,
    *,
    credentials: Credentials | None = None,
    only: Iterable[str] = (),
    n_jobs: int = 4,
    attempts: int = 5,
    verify: bool = False,
    allow_http: bool = False,
    timeout: float = 60.0,
    pause: float = 1.0,
    on_progress: Callable[[MirrorProgress], None] | None = None,
) -> MirrorSummary:
    """Bring the files of a collection into a folder, each verified by its SHA-256.

    The server lists its files in SHA256SUMS.txt. Access to the collections that are known by name needs credentials of
    PhysioNet and its data use agreement, signed for each collection; who mirrors a collection is bound by it.

    A file appears whole and verified, or not at all: what of it has come waits in a hidden ``.part`` beside it, and is
    resumed by this run or the next. Files that are there and verified are not asked for again. One that fails is listed
    and the others go on.

    Parameters
    ----------
    collection : str
        A name out of :data:`~xray_harmonize.download.address.COLLECTIONS`, or the https address of a folder.
    out : path
        Folder, made if absent. Files in it that the list does not have are left alone.
    credentials : Credentials, optional
        Sent to the host of the collection alone; none is sent to a host that it redirects to.
    only : iterable of str
        Patterns of paths to have, such as ``"files/p10/*"``; ``*`` stands for slashes too. All files by default.
    n_jobs : int, default=4
        Connections at a time, at most 16.
    attempts : int, default=5
        Attempts in vain after which a file is listed as failed.
    verify : bool, default=False
        Hash files again that were verified before.
    allow_http : bool, default=False
        Accept an address without encryption.
    timeout : float, default=60
        Seconds without a byte after which a connection counts as broken.
    pause : float, default=1
        Seconds before a second attempt, doubled with every further one; a server's Retry-After is honoured besides.
    on_progress : callable, optional
        Told several times a second how far the mirror is.

    Returns
    -------
    MirrorSummary

    Raises
    ------
    InvalidParameterError
        An argument out of range, an address that is not accepted, a pattern that no file matches, or a folder that
        mirrors another address or is being written by another run.
    XRayHarmonizeError
        The list cannot be had, or is none.
    OSError
        The folder cannot be made.
    KeyboardInterrupt
        Unfinished files stay, and are resumed by the next run.

    Examples
    --------
    >>> mirror("https://archive.example/chest/", "chest", n_jobs=0)
    Traceback (most recent call last):
    ...
    xray_harmonize.exceptions.InvalidParameterError: n_jobs must be 1 to 16, got 0.
    """
    source = checked_source(collection, credentials, allow_http, timeout, attempts, pause)
    if not 1 <= n_jobs <= MAX_JOBS:
        raise InvalidParameterError(f"n_jobs must be 1 to {MAX_JOBS}, got {n_jobs}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with Ledger(out / LEDGER_NAME, source.base) as ledger:
        listing = select(fetch_listing(source, out / LIST_NAME, ledger), only)
        tally = _Tally(len(listing.files), failures=list(listing.refused))
        stopped = _run(source, listing.files, out, ledger, tally, n_jobs, verify, on_progress)
    return MirrorSummary(
        n_files=len(listing.files) + len(listing.refused),
        n_kept=tally.n_kept,
        n_fetched=tally.n_fetched,
        n_bytes=tally.n_bytes,
        failures=tuple(tally.failures),
        stopped=stopped,
    )


def checked_source(
    collection: str, credentials: Credentials | None, allow_http: bool, timeout: float, attempts: int, pause: float
) -> Source:
    """Check what :func:`mirror` is given about the server."""
    base = base_address(collection, allow_http=allow_http)
    if not 1 <= attempts <= 100:
        raise InvalidParameterError(f"attempts must be 1 to 100, got {attempts}.")
    if not timeout > 0:
        raise InvalidParameterError(f"timeout must be a number of seconds above 0, got {timeout}.")
    if not 0 <= pause <= 60:
        raise InvalidParameterError(f"pause must be 0 to 60 seconds, got {pause}.")
    return Source(base, credentials, allow_http, timeout, attempts, pause)


def fetch_listing(source: Source, target: Path, ledger: Ledger) -> Listing:
    """Fetch the list, unless the one that is there is the server's, and read it."""
    is_current = False
    if target.is_file():
        digest = sha256_of(target)
        assert digest is not None
        is_current = ledger.is_verified(LIST_NAME, target.stat(), digest.digest())
    with source.transfer(ledger, Brake(), lambda n_bytes: None) as transfer:
        ending = transfer.fetch_list(
            source.base + LIST_NAME, LIST_NAME, target, most_bytes=MAX_LIST_BYTES, is_current=is_current
        )
    if ending.status is Status.denied:
        raise XRayHarmonizeError(
            f"{source.base}: {ending.reason}. Check the user name and password, and that the data use agreement of the "
            "collection is signed."
        )
    if ending.status not in {Status.fetched, Status.kept}:
        raise XRayHarmonizeError(f"{source.base}{LIST_NAME} cannot be had: {ending.reason}. Check address and network.")
    return read_checksums(target)


def _run(
    source: Source,
    files: list[ListedFile],
    out: Path,
    ledger: Ledger,
    tally: _Tally,
    n_jobs: int,
    verify: bool,
    on_progress: Callable[[MirrorProgress], None] | None,
) -> str:
    """Bring all files by some threads; give why it ended early, if it did."""
    brake = Brake()
    tasks: SimpleQueue[ListedFile | None] = SimpleQueue()
    endings: SimpleQueue[tuple[ListedFile, Ending]] = SimpleQueue()

    def work() -> None:
        with source.transfer(ledger, brake, tally.add_bytes) as transfer:
            while (listed := tasks.get()) is not None:
                try:
                    ending = _bring(listed, out, transfer, ledger, brake, source.base)
                except Exception as error:  # a thread that dies would leave the others waiting for it
                    ending = Ending(Status.failed, f"an unexpected {type(error).__name__}")
                endings.put((listed, ending))

    # Daemons, since a connection that is silent cannot be waited for after Ctrl-C.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(n_jobs)]
    for thread in threads:
        thread.start()
    stopped, in_flight, told = "", 0, 0.0
    waiting = iter(files)
    try:
        while True:
            # Few at a time: a queue of a million files would only be thrown away by a stop.
            while not stopped and in_flight < 2 * n_jobs and (listed := next(waiting, None)) is not None:
                if not verify and _is_there(listed, out, ledger):
                    tally.n_kept += 1
                else:
                    tasks.put(listed)
                    in_flight += 1
                if on_progress is not None and time.monotonic() - told > _SECONDS_BETWEEN_PROGRESS:
                    told = time.monotonic()
                    on_progress(tally.progress())
            if not in_flight:
                break
            try:
                listed, ending = endings.get(timeout=_SECONDS_BETWEEN_PROGRESS)
            except Empty:
                pass
            else:
                in_flight -= 1
                stopped = stopped or _count(listed, ending, tally)
                if stopped:
                    brake.stop()
            if on_progress is not None and time.monotonic() - told > _SECONDS_BETWEEN_PROGRESS:
                told = time.monotonic()
                on_progress(tally.progress())
        if on_progress is not None:
            on_progress(tally.progress())
    finally:
        brake.stop()
        for _ in threads:
            tasks.put(None)
        until = time.monotonic() + _GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
    return stopped


def _is_there(listed: ListedFile, out: Path, ledger: Ledger) -> bool:
    try:
        status = (out / listed.path).stat()
    except OSError:
        return False
    return ledger.is_verified(listed.path, status, listed.sha256)


def _bring(listed: ListedFile, out: Path, transfer: Transfer, ledger: Ledger, brake: Brake, base: str) -> Ending:
    """Keep a file that is there and has its checksum, and fetch any other."""
    target = out / listed.path
    if target.is_dir():
        return Ending(Status.failed, "a folder is where the file should be")
    try:
        status = target.stat() if target.exists() else None
        if status is not None:
            digest = sha256_of(target, lambda: not brake.is_stopped)
            if digest is None:
                return Ending(Status.stopped)
            if digest.digest() == listed.sha256:
                ledger.verified(listed.path, status, listed.sha256)
                return Ending(Status.kept)
    except OSError as error:
        return Ending(Status.failed, f"the file that is there cannot be read: {error.strerror}")
    return transfer.fetch(file_address(base, listed.path), listed.path, target, listed.sha256)


def _count(listed: ListedFile, ending: Ending, tally: _Tally) -> str:
    """Count what became of a file; give why the run is to stop, if it is."""
    tally.in_a_row = tally.in_a_row + 1 if ending.status is Status.unreachable else 0
    if ending.status is Status.fetched:
        tally.n_fetched += 1
    elif ending.status is Status.kept:
        tally.n_kept += 1
    elif ending.status is not Status.stopped:
        tally.failures.append(Failure(listed.path, ending.reason))
    if ending.status is Status.disk_full:
        return f"{ending.reason}. Make room and run it again"
    if ending.status is Status.denied:
        return f"{ending.reason}. Check the user name and password, and that the data use agreement is signed"
    if tally.in_a_row >= MAX_UNREACHABLE:
        return f"{MAX_UNREACHABLE} files in a row could not be had, the last since {ending.reason}. Run it again later"
    return ""
