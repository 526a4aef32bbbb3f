"""Apply a fitted harmonizer to a whole archive, so that a run may be killed, repeated and shared, and loses no file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from xray_harmonize.archive.manifest import Manifest
from xray_harmonize.archive.model import HarmonizingSteps
from xray_harmonize.archive.one_file import Job, Outcome
from xray_harmonize.archive.outputs import check_format
from xray_harmonize.archive.plan import Making, Plan, plan
from xray_harmonize.archive.sources import absolute, find_sources
from xray_harmonize.archive.workers import count_processes, in_processes, in_this_process
from xray_harmonize.dicom.header import MAX_PIXELS
from xray_harmonize.exceptions import InvalidParameterError, PersistenceError

MAX_LISTED = 10


@dataclass(frozen=True)
class ArchiveProgress:
    """How far a run is.

    Parameters
    ----------
    total : int
        Files asked for.
    unchanged : int
        Done before this run, and found as they were.
    written : int
        Harmonized in this run so far.
    failed : int
    processed : int
        Files that this run has looked at.
    seconds : float
        Since it began to.
    """

    total: int
    unchanged: int = 0
    written: int = 0
    failed: int = 0
    processed: int = 0
    seconds: float = 0.0

    @property
    def fraction(self) -> float:
        """Share of the files that are settled."""
        return 1 - self.remaining / self.total

    @property
    def remaining(self) -> int:
        """Files that are still to be settled."""
        return self.total - self.unchanged - self.written - self.failed

    @property
    def files_a_second(self) -> float | None:
        """Throughput of this run; None before anything is done."""
        return self.processed / self.seconds if self.processed and self.seconds else None

    @property
    def remaining_seconds(self) -> float | None:
        """Time that the rest takes at this rate; None before it is known."""
        rate = self.files_a_second
        return None if rate is None else self.remaining / rate


@dataclass(frozen=True)
class ArchiveSummary:
    """What became of a run.

    Parameters
    ----------
    total, unchanged, written, failed : int
        Files asked for; of these, done before and unchanged; written by this run; failed.
    seconds : float
    failures : list of (str, str)
        Source and reason of the first ten that failed; all are in the manifest:
        ``SELECT source, reason FROM image WHERE state = 'failed'``.
    manifest : path
        The SQLite file that tells of every file.
    model_sha256 : str
        Fingerprint of what was applied.
    """

    total: int
    unchanged: int
    written: int
    failed: int
    seconds: float
    manifest: Path
    model_sha256: str
    failures: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every file asked for has its output."""
        return self.failed == 0


def apply(
    harmonizer: Any,
    images: Any,
    out: str | os.PathLike[str],
    *,
    format: str,
    n_jobs: int = 1,
    scheduler: str | None = None,
    scanner: ArrayLike | None = None,
    root: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    verify: bool = False,
    progress: Callable[[ArchiveProgress], None] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> ArchiveSummary:
    """Harmonize every file of an archive into a folder, and keep account of each.

    Outputs mirror the folders of their sources and appear whole or not at all. ``out/manifest.sqlite`` has one row a
    source: hashes of source, model and output, or the reason why there is none. A run that ends early, killed by
    whatever and at whatever moment, goes on when it is called again, and ends with the same bytes. A file that cannot
    be harmonized never stops the others.

    Parameters
    ----------
    harmonizer : harmonizer or Pipeline
        Fitted. Of a Pipeline the transformers are applied; a classifier at its end is left aside.
    images : path of a folder, ImageSet over files, Catalog, or sequence of paths
        What to harmonize. Of a folder, all images; its folders name the scanners, as in ``ImageSet.from_folder``.
    out : path-like
        Folder for the outputs, made if absent.
    format : {"dicom", "png", "npy", "presentation", "voi-lut"}
        ================ ==========================================================================================
        "dicom"          a derived image in DICOM, 16 bits
        "png"            16 bits, full scale 65535
        "npy"            float32
        "presentation"   a DICOM presentation state that refers to the source, whose pixels are not copied
        "voi-lut"        a DICOM copy with the pixels of the source and a VOI LUT
        ================ ==========================================================================================

        "dicom", "presentation" and "voi-lut" are made of DICOM sources, and of models that keep pixels in place: no
        ``CropForeground``, no ``Resize``. "presentation" and "voi-lut" take methods with ``tone_curves``.
    n_jobs : int, default=1
        Processes on this machine; 1 works in this process, -1 takes all cores.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``, whose workers do the work in place of this
        machine. They see sources and ``out`` under the same paths, and have this version of xray_harmonize.
    scanner : array-like of str of shape (n,), or str, optional
        Which scanner made each image, where the images do not say.
    root : path-like, optional
        Folder whose folders the outputs mirror; by default the folder given, or what all files have in common. It is
        settled by the first run into ``out``.
    overwrite : bool, default=False
        Replace outputs of another model, and files that are in the way. What this model has done stays.
    verify : bool, default=False
        Hash sources and outputs that were done before. By default a source of the same size and modification time, and
        an output of the same size, count as unchanged.
    progress : callable, optional
        Called with an :class:`ArchiveProgress` after every file.
    max_pixels : int, default=2**28
        Larger images are refused.

    Returns
    -------
    ArchiveSummary

    Raises
    ------
    InvalidParameterError
        If the model cannot be written in the format, or is to compute on a device that this machine does not have;
        if another run is writing to ``out``, or ``out`` holds what another model, in another format or of another
        archive, has made.
    MissingScannerError
        If the harmonizer needs to know the scanners and nothing says them.
    NotEnoughImagesError
        If there is no file.
    PersistenceError
        If ``out`` cannot be written to, or its disk is full; what is finished is kept.
    MissingDependencyError
        If ``scheduler`` is given and Dask is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from xray_harmonize import FullRange
    >>> folder = tempfile.TemporaryDirectory()
    >>> scans = Path(folder.name, "scans")
    >>> scans.mkdir()
    >>> np.save(scans / "a.npy", np.arange(12, dtype=np.uint16).reshape(3, 4))
    >>> summary = apply(FullRange(), scans, Path(folder.name, "out"), format="png")
    >>> summary.written, summary.ok, sorted(path.name for path in Path(folder.name, "out").glob("*.png"))
    (1, True, ['a.png'])
    >>> apply(FullRange(), scans, Path(folder.name, "out"), format="png").unchanged
    1
    >>> folder.cleanup()
    """
    start = time.monotonic()
    n_processes = count_processes(n_jobs)
    if scheduler is not None and n_jobs != 1:
        raise InvalidParameterError(
            f"Give n_jobs={n_jobs} for processes of this machine or scheduler={scheduler!r} for a cluster, not both."
        )
    steps = HarmonizingSteps.of(harmonizer)
    chosen = check_format(steps, format)
    folder = absolute(out)
    sources = find_sources(images, folder, scanner=scanner, root=None if root is None else Path(root))
    steps.check_ready(sources.scanner_known, here=scheduler is None)
    job = Job(steps, format, folder, max_pixels)
    making = Making(steps.model_hash, steps.method, format, chosen.extension)
    with Manifest(folder) as manifest:
        last = manifest.last_run()
        if last is not None and last["ended"] is None:
            manifest.clear()
        planned = plan(manifest, sources, making, overwrite=overwrite, verify=verify)
        run = _Run(manifest, planned, making, progress)
        to_do = run.to_do
        tasks = manifest.tasks(planned.run, making.model_sha256)
        workers_died = False
        if to_do and scheduler is not None:
            from xray_harmonize.archive.cluster import on_cluster

            workers_died = on_cluster(job, tasks, run.record, scheduler)
        elif to_do and n_processes > 1:
            workers_died = in_processes(job, tasks, run.record, min(n_processes, to_do))
        else:
            in_this_process(job, tasks, run.record)
        if run.stopped is not None:
            raise PersistenceError(
                f"{folder} cannot take more files ({run.stopped}). Make room, then run the same command again: "
                f"{run.written} file(s) of this run are finished and kept."
            )
        if workers_died:
            manifest.sweep()
        manifest.end(planned.run)
        return ArchiveSummary(
            total=planned.total,
            unchanged=run.unchanged,
            written=run.written,
            failed=run.failed,
            seconds=time.monotonic() - start,
            manifest=manifest.path,
            model_sha256=making.model_sha256,
            failures=manifest.failures(planned.run, MAX_LISTED),
        )


class _Run:
    """Writes outcomes into the manifest and tells how far the run is."""

    def __init__(
        self,
        manifest: Manifest,
        planned: Plan,
        making: Making,
        progress: Callable[[ArchiveProgress], None] | None,
    ) -> None:
        self.manifest = manifest
        self.making = making
        self.progress = progress
        self.total = planned.total
        self.unchanged = planned.unchanged
        self.written = 0
        counts = manifest.counts(planned.run)
        self.failed = counts.get("failed", 0)
        self.to_do = counts.get("pending", 0)
        self.processed = 0
        self.stopped: str | None = None
        self.start = time.monotonic()
        self._tell()

    def record(self, outcome: Outcome) -> None:
        """Account for one file."""
        self.manifest.record(outcome, self.making.model_sha256)
        if outcome.state == "stopped":
            self.stopped = self.stopped or outcome.reason
        else:
            self.processed += 1
            self.written += outcome.state == "done"
            self.unchanged += outcome.state == "unchanged"
            self.failed += outcome.state == "failed"
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(
                ArchiveProgress(
                    self.total,
                    unchanged=self.unchanged,
                    written=self.written,
                    failed=self.failed,
                    processed=self.processed,
                    seconds=time.monotonic() - self.start,
                )
            )
