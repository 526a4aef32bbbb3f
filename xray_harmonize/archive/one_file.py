"""One file of an archive: read, harmonized, written and accounted for, and whatever is wrong with it told in words."""

from __future__ import annotations

import errno
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from xray_harmonize.archive.model import HarmonizingSteps
from xray_harmonize.archive.outputs import file_sha256, write_output
from xray_harmonize.dicom.header import MAX_PIXELS
from xray_harmonize.dicom.header_text import one_line
from xray_harmonize.exceptions import ImageReadError, XRayHarmonizeError, XRayHarmonizeWarning
from xray_harmonize.images import ImageSet
from xray_harmonize.reading import read_size

_LONGEST_REASON = 500
# What no other file of the run would fare better with.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}

State = Literal["done", "unchanged", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for every file of a run; it goes out once a worker.

    Parameters
    ----------
    steps : HarmonizingSteps
    output_format : str
    out : path
        Folder that the outputs go below.
    max_pixels : int
    """

    steps: HarmonizingSteps
    output_format: str
    out: Path
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Task:
    """One file to harmonize, small enough to be sent anywhere.

    Parameters
    ----------
    number : int
        Its row in the manifest.
    source : str
    output : str
        Below the folder of outputs.
    scanner : str, optional
    bits_stored : int
        0 where the file tells.
    known : tuple of str, optional
        SHA-256 of source and output when they were last done with the same model; where both still hold, nothing is to
        do.
    """

    number: int
    source: str
    output: str
    scanner: str | None = None
    bits_stored: int = 0
    known: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: the columns of its row in the manifest.

    ``state`` is "done", "unchanged" (it was done before and still is), "failed" for a reason that lies with this file,
    or "stopped" for one that would meet every other file too, a full disk.
    """

    number: int
    state: State
    reason: str | None = None
    warning: str | None = None
    source_size: int | None = None
    source_mtime_ns: int | None = None
    source_sha256: str | None = None
    output_size: int | None = None
    output_sha256: str | None = None
    seconds: float = 0.0


def harmonize_file(job: Job, task: Task, *, keep_warnings: bool = True) -> Outcome:
    """Harmonize one file. Nothing about the file raises: the outcome tells what was wrong.

    Parameters
    ----------
    job : Job
    task : Task
    keep_warnings : bool, default=True
        Put what is warned of into the outcome; only where no other thread does the same, as Python's filters of
        warnings are one for all threads.

    Returns
    -------
    Outcome
    """
    start = time.perf_counter()
    caught: list[warnings.WarningMessage] | None = None
    try:
        with ExitStack() as stack:
            if keep_warnings:
                caught = stack.enter_context(warnings.catch_warnings(record=True))
                warnings.simplefilter("always", XRayHarmonizeWarning)
            outcome = _harmonize(job, task)
    except Exception as error:  # a damaged file makes decoders raise anything, and must not stop the others
        if _disk_is_full(error):
            return Outcome(task.number, "stopped", _reason(error))
        discard(job, task)
        outcome = Outcome(task.number, "failed", _reason(error))
    told = dict.fromkeys(str(one.message) for one in caught or () if issubclass(one.category, XRayHarmonizeWarning))
    return replace(outcome, warning=printable(" ".join(told)) or None, seconds=time.perf_counter() - start)


def discard(job: Job, task: Task) -> None:
    """Take away what an earlier run wrote for a file that fails now: it would be of another content."""
    with suppress(OSError):
        (job.out / task.output).unlink(missing_ok=True)


def printable(text: str) -> str:
    """Bound a text that may quote a file, and leave out what would steer a terminal."""
    clean = one_line(text)
    return clean if len(clean) <= _LONGEST_REASON else f"{clean[: _LONGEST_REASON - 4]} ..."


def _harmonize(job: Job, task: Task) -> Outcome:
    source, target = Path(task.source), job.out / task.output
    before = _version(source)
    # Hashing and decoding read the same bytes, and neither keeps the interpreter to itself.
    with ThreadPoolExecutor(1) as beside:
        hashing = beside.submit(file_sha256, source)
        if task.known is not None and hashing.result() == task.known[0] and _holds(target, task.known[1]):
            state: State = "unchanged"
            output_hash = task.known[1]
        else:
            if job.max_pixels != MAX_PIXELS:
                read_size(source, max_pixels=job.max_pixels)
            target.parent.mkdir(parents=True, exist_ok=True)
            images = ImageSet([source], scanner=task.scanner, bits_stored=task.bits_stored or None)
            state, output_hash = "done", write_output(job.steps, job.output_format, images, source, target)
        source_hash = hashing.result()
    if _version(source) != before:
        raise ImageReadError(f"{source}: it changed while it was read; run the same command again.")
    return Outcome(
        task.number,
        state,
        source_size=before[0],
        source_mtime_ns=before[1],
        source_sha256=source_hash,
        output_size=target.stat().st_size,
        output_sha256=output_hash,
    )


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise ImageReadError(
            f"{path}: cannot be opened ({error.strerror or error}); check the path and its permissions."
        ) from error
    return status.st_size, status.st_mtime_ns


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


def _disk_is_full(error: BaseException | None) -> bool:
    """Tell whether a full or read-only disk lies at the bottom of an error, whatever it was made into on the way."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, XRayHarmonizeError) else f"{type(error).__name__}: {error}"
    return printable(text)
