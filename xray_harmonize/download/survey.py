"""How much a mirror would bring, before it does."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xray_harmonize.download.address import file_address
from xray_harmonize.download.brake import Brake
from xray_harmonize.download.checksums import LIST_NAME, Failure, ListedFile, select
from xray_harmonize.download.connection import Ending, Status
from xray_harmonize.download.credentials import Credentials
from xray_harmonize.download.ledger import Ledger
from xray_harmonize.download.mirror import MAX_JOBS, Source, checked_source, fetch_listing
from xray_harmonize.exceptions import InvalidParameterError

MAX_ASKED = 500
"""Of more files than that, the size of so many is asked for, at even steps: each costs the server a request."""


@dataclass(frozen=True)
class Survey:
    """What a mirror would bring."""

    n_files: int
    """Files that the list has and ``only`` chooses, refused names left out."""
    n_there: int
    """Of these, files that are in the folder, right or not."""
    n_asked: int
    """Files, not in the folder, whose size the server was asked for."""
    n_sized: int
    """Of these, files whose size it told."""
    n_bytes: int
    """Bytes of those."""
    refused: tuple[Failure, ...] = ()

    @property
    def n_missing(self) -> int:
        """Files that are to be fetched."""
        return self.n_files - self.n_there

    @property
    def expected_bytes(self) -> int | None:
        """Bytes of all files that are to be fetched, by the mean of those that are known; None if none is."""
        if not self.n_missing:
            return 0
        return round(self.n_bytes / self.n_sized * self.n_missing) if self.n_sized else None


def survey(
    collection: str,
    out: str | Path,
    *,
    credentials: Credentials | None = None,
    only: Iterable[str] = (),
    n_jobs: int = 4,
    attempts: int = 5,
    allow_http: bool = False,
    timeout: float = 60.0,
    pause: float = 1.0,
) -> Survey:
    """Count what :func:`~xray_harmonize.download.mirror.mirror` would bring; nothing is written.

    Parameters
    ----------
    collection, out, credentials, only, n_jobs, attempts, allow_http, timeout, pause
        As there.

    Returns
    -------
    Survey

    Raises
    ------
    InvalidParameterError, XRayHarmonizeError
        As there.

    Examples
    --------
    >>> survey("mimic-iv", "mimic-iv", n_jobs=99)
    Traceback (most recent call last):
    ...
    xray_harmonize.exceptions.InvalidParameterError: n_jobs must be 1 to 16, got 99.
    """
    source = checked_source(collection, credentials, allow_http, timeout, attempts, pause)
    if not 1 <= n_jobs <= MAX_JOBS:
        raise InvalidParameterError(f"n_jobs must be 1 to {MAX_JOBS}, got {n_jobs}.")
    with tempfile.TemporaryDirectory() as folder, Ledger(":memory:", source.base) as ledger:
        listing = select(fetch_listing(source, Path(folder) / LIST_NAME, ledger), only)
    missing = [listed for listed in listing.files if not (Path(out) / listed.path).is_file()]
    step = max(1, -(-len(missing) // MAX_ASKED))
    asked = missing[::step]
    sizes = [size for size in _sizes(source, asked, n_jobs) if size is not None]
    return Survey(
        n_files=len(listing.files),
        n_there=len(listing.files) - len(missing),
        n_asked=len(asked),
        n_sized=len(sizes),
        n_bytes=sum(sizes),
        refused=tuple(listing.refused),
    )


def _sizes(source: Source, files: list[ListedFile], n_jobs: int) -> list[int | None]:
    """Ask for the size of files, over some connections; None where the server does not tell."""
    brake = Brake()
    sizes: list[int | None] = [None] * len(files)

    def ask(first: int) -> None:
        with source.connection() as connection:
            for i in range(first, len(files), n_jobs):
                if brake.is_stopped:
                    return
                answer = connection.ask(file_address(source.base, files[i].path), {}, method="HEAD")
                if isinstance(answer, Ending):
                    continue
                with answer:
                    length = answer.headers.get("Content-Length", "")
                    if answer.status_code == 200 and re.fullmatch(r"[0-9]{1,18}", length):
                        sizes[i] = int(length)
                    elif connection.refusal(answer).status in {Status.again, Status.unreachable, Status.denied}:
                        brake.stop()  # a server under load is not asked for mere figures

    threads = [threading.Thread(target=ask, args=(first,), daemon=True) for first in range(n_jobs)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        brake.stop()
    return sizes
