"""One file over HTTP: resumed where it broke off, checked as a whole, and only then under its name."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from xray_harmonize.download.brake import Brake
from xray_harmonize.download.checksums import sha256_of
from xray_harmonize.download.connection import Connection, Ending, Status
from xray_harmonize.download.ledger import Ledger

_CHUNK = 1 << 18
# An attempt that brings so much more than any before has got on, and does not count as in vain.
_PROGRESS_BYTES = 1 << 20
_LONGEST_PAUSE_SECONDS = 60.0
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\d{1,18}|\*)")
_FULL = {errno.ENOSPC, errno.EDQUOT}

OnBytes = Callable[[int], None]


def part_of(target: Path) -> Path:
    """Give the hidden file beside a target that holds what of it has come.

    Examples
    --------
    >>> part_of(Path("files/a.dcm")).as_posix()
    'files/.a.dcm.part'
    """
    # Not atomic.replacing: its file vanishes with the run, and this one is to be resumed by the next.
    return target.with_name(f".{target.name}.part")


class Transfer:
    """Fetches files over a connection, each until it is whole or has failed so many times.

    Parameters
    ----------
    connection : Connection
    ledger : Ledger
        Remembers which version an unfinished file is of.
    brake : Brake
        Shared by all transfers of a mirror.
    attempts : int
        Attempts in vain after which a file has failed.
    pause : float
        Seconds before the second attempt; doubled with every further one, up to a minute, and jittered.
    on_bytes : callable
        Told of every piece that comes.
    """

    def __init__(
        self,
        connection: Connection,
        ledger: Ledger,
        brake: Brake,
        *,
        attempts: int,
        pause: float,
        on_bytes: OnBytes = lambda n_bytes: None,
    ) -> None:
        self._connection = connection
        self._ledger = ledger
        self._brake = brake
        self._attempts = attempts
        self._pause = pause
        self._on_bytes = on_bytes

    def fetch(self, url: str, path: str, target: Path, sha256: bytes) -> Ending:
        """Bring a file, resuming what of it is there, and give it its name when it has its checksum.

        Parameters
        ----------
        url : str
        path : str
            Its name in the ledger.
        target : Path
        sha256 : bytes

        Returns
        -------
        Ending
            Fetched, failed, unreachable, denied, disk full or stopped.
        """
        return self._finished(target, lambda: self._attempt(url, path, target, sha256))

    def fetch_list(self, url: str, path: str, target: Path, *, most_bytes: int, is_current: bool) -> Ending:
        """Bring a file whose checksum nobody knows, from its beginning, or keep it if the server's has not changed.

        Parameters
        ----------
        url, path, target
            As in :meth:`fetch`.
        most_bytes : int
            A longer file has failed.
        is_current : bool
            Whether the target is as this mirror has fetched it.

        Returns
        -------
        Ending
        """

        def attempt() -> Ending:
            part_of(target).unlink(missing_ok=True)
            validator = self._ledger.validator(path) if is_current else None
            headers = {} if validator is None else {_condition(validator): validator}
            answer = self._connection.ask(url, headers)
            if isinstance(answer, Ending):
                return answer
            with answer:
                if answer.status_code == 304 and headers:
                    return Ending(Status.kept)
                if answer.status_code == 403:
                    return Ending(Status.denied, "the server does not let this user in (403)")
                if answer.status_code != 200:
                    return self._connection.refusal(answer)
                digest = hashlib.sha256()
                ending = self._receive(answer, part_of(target), 0, digest, most_bytes)
                if ending.status is not Status.fetched:
                    return ending
                part_of(target).replace(target)
                self._ledger.remember(path, _validator_of(answer, weak=True))
                self._ledger.verified(path, target.stat(), digest.digest())
                return ending

        return self._finished(target, attempt)

    def _finished(self, target: Path, attempt: Callable[[], Ending]) -> Ending:
        """Attempt until something final comes out; disk errors end here too."""
        part = part_of(target)
        in_vain = discarded = 0
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            farthest = _size(part)
            pause = 0.0
            while self._brake.wait(pause):
                ending = attempt()
                if ending.status is not Status.again:
                    break
                if ending.is_discarded:
                    discarded, farthest = discarded + 1, 0
                elif (size := _size(part)) >= farthest + _PROGRESS_BYTES:
                    in_vain, farthest = 0, size
                else:
                    in_vain += 1
                if max(in_vain, discarded) >= self._attempts:
                    status = Status.failed if ending.is_discarded else Status.unreachable
                    ending = Ending(status, f"{ending.reason}, in {self._attempts} attempts")
                    break
                if ending.wait is not None:
                    self._brake.hold(ending.wait)
                doubled = self._pause * 2.0 ** (max(in_vain, discarded, 1) - 1)
                pause = self._brake.jittered(min(doubled, _LONGEST_PAUSE_SECONDS))
            else:
                ending = Ending(Status.stopped)
        except OSError as error:
            ending = _disk_error(error)
        if ending.status is Status.disk_full:
            self._brake.stop(disk_is_full=True)
        if self._brake.disk_is_full:
            _forget(part)
        return ending

    def _attempt(self, url: str, path: str, target: Path, sha256: bytes) -> Ending:
        part = part_of(target)
        offset = _size(part)
        digest = sha256_of(part, lambda: not self._brake.is_stopped) if offset else hashlib.sha256()
        if digest is None:
            return Ending(Status.stopped)
        headers = {}
        if offset:
            if digest.digest() == sha256:  # all came, and the run ended before it was renamed
                return self._complete(part, target, path, digest, sha256)
            headers["Range"] = f"bytes={offset}-"
            # Without one, a piece of another version is found out by the checksum.
            if validator := self._ledger.validator(path):
                headers["If-Range"] = validator
        answer = self._connection.ask(url, headers)
        if isinstance(answer, Ending):
            return answer
        with answer:
            if answer.status_code == 416 and offset:
                return self._discard(part, path, "the server has not the rest of what came before")
            if answer.status_code == 206 and offset:
                start = _RANGE.match(answer.headers.get("Content-Range", ""))
                if start is None or int(start[1]) != offset:
                    return self._discard(part, path, "the server sent another range than was asked for")
            elif answer.status_code == 200:
                offset, digest = 0, hashlib.sha256()
                self._ledger.remember(path, _validator_of(answer, weak=False))
            else:
                return self._connection.refusal(answer)
            ending = self._receive(answer, part, offset, digest, None)
        if ending.status is not Status.fetched:
            return ending
        return self._complete(part, target, path, digest, sha256)

    def _receive(
        self, answer: requests.Response, part: Path, offset: int, digest: hashlib._Hash, most_bytes: int | None
    ) -> Ending:
        """Append what comes to the unfinished file; whole when all that was announced has come."""
        announced = answer.headers.get("Content-Length", "")
        length = int(announced) if re.fullmatch(r"[0-9]{1,18}", announced) else None
        if length is not None and length > shutil.disk_usage(part.parent).free:
            return Ending(Status.disk_full, f"{length} bytes are to come, and the disk has no room for them")
        received = 0
        fault = None
        # As they are sent: a file that ends in .gz is sent by some servers as an encoding, and would be unpacked.
        chunks = answer.raw.stream(_CHUNK, decode_content=False)
        with part.open("ab" if offset else "wb") as stream:
            while True:
                if self._brake.is_stopped:
                    return Ending(Status.stopped)
                try:
                    chunk = next(chunks, b"")
                except (HTTPError, OSError) as error:  # of the network: nothing is written here
                    fault = self._connection.broken(error)
                if fault is not None or not chunk:
                    break
                received += len(chunk)
                if most_bytes is not None and received > most_bytes:
                    fault = Ending(Status.failed, f"it is longer than {most_bytes} bytes")
                    break
                stream.write(chunk)
                digest.update(chunk)
                self._on_bytes(len(chunk))
            if fault is None:
                stream.flush()
                os.fsync(stream.fileno())
        if fault is not None and fault.status is Status.failed:
            _forget(part)
            return fault
        if fault is not None or (length is not None and received < length):
            expected = "" if length is None else f" of {offset + length}"
            why = fault.reason if fault is not None else "the connection broke"
            return Ending(Status.again, f"{why}, after {offset + received}{expected} bytes")
        return Ending(Status.fetched)

    def _complete(self, part: Path, target: Path, path: str, digest: hashlib._Hash, sha256: bytes) -> Ending:
        if digest.digest() != sha256:
            came = f"{_size(part)} bytes came with the SHA-256 {digest.hexdigest()[:12]}…"
            return self._discard(part, path, f"{came}, and the list has {sha256.hex()[:12]}…")
        part.replace(target)
        self._ledger.remember(path, None)
        self._ledger.verified(path, target.stat(), sha256)
        return Ending(Status.fetched)

    def _discard(self, part: Path, path: str, reason: str) -> Ending:
        part.unlink(missing_ok=True)
        self._ledger.remember(path, None)
        return Ending(Status.again, reason, is_discarded=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _forget(part: Path) -> None:
    try:
        part.unlink(missing_ok=True)
    except OSError:  # the folder is gone or closed, and nothing can be done about the file
        return


def _disk_error(error: OSError) -> Ending:
    if error.errno in _FULL:
        return Ending(Status.disk_full, "the disk is full")
    return Ending(Status.failed, f"it cannot be written: {error.strerror or type(error).__name__}")


def _validator_of(answer: requests.Response, *, weak: bool) -> str | None:
    """Give what names this version of a file; weak names do not do for joining pieces (RFC 9110, 13.1.5)."""
    for name in ("ETag", "Last-Modified"):
        value = answer.headers.get(name, "")
        if 0 < len(value) <= 256 and value.isascii() and value.isprintable() and (weak or not value.startswith("W/")):
            return value
    return None


def _condition(validator: str) -> str:
    return "If-None-Match" if validator.startswith(('"', "W/")) else "If-Modified-Since"
