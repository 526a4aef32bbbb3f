"""Who does the work: this process, or several on this machine; for a cluster see ``cluster.py``.

Each way takes tasks, keeps a bounded number of them in flight, and hands every outcome to ``record`` as it comes. An
outcome that is "stopped" ends the feeding: what is in flight is waited for and recorded, and no more is begun.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor, cpu_count

from xray_harmonize.archive.manifest import show_presence
from xray_harmonize.archive.one_file import Job, Outcome, Task, discard, harmonize_file
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.image_sources import image_cache

# In flight for each worker: one that it works on and one that waits, so that it never does.
IN_FLIGHT = 2
_LOOK_SECONDS = 0.5

Record = Callable[[Outcome], None]


def in_this_process(job: Job, tasks: Iterator[Task], record: Record) -> None:
    """Work through the tasks one after the other."""
    # Python's filters of warnings are one for all threads: in a thread of somebody else's they are left alone.
    alone = threading.current_thread() is threading.main_thread()
    with no_images_kept():
        for task in tasks:
            outcome = harmonize_file(job, task, keep_warnings=alone)
            record(outcome)
            if outcome.state == "stopped":
                return


@contextmanager
def no_images_kept() -> Iterator[None]:
    """Switch the cache of decoded images off: an archive is streamed, and no image comes twice."""
    cache = image_cache()
    before = cache.max_bytes
    cache.resize(0)
    try:
        yield
    finally:
        cache.resize(before)


def in_processes(job: Job, tasks: Iterator[Task], record: Record, n_jobs: int) -> bool:
    """Share the tasks among processes of this machine.

    A process that dies, killed for want of memory or crashed in a decoder, takes down the pool it is in. Whatever was
    in flight is then done again, each file alone; the one that kills its process once more has failed.

    Parameters
    ----------
    job : Job
    tasks : iterator of Task
    record : callable
    n_jobs : int

    Returns
    -------
    bool
        Whether a process died, which may have left an unfinished file.
    """
    pool = _Pool(job, n_jobs)
    try:
        feeding = True
        while True:
            while feeding and len(pool.waiting) < IN_FLIGHT * n_jobs:
                task = next(tasks, None)
                if task is None:
                    feeding = False
                elif not pool.submit(task):
                    break
            if not pool.waiting and not pool.lost:
                return pool.has_broken
            outcomes = pool.finished()
            if any(one.state == "stopped" for one in outcomes):
                pool.lost.clear()  # stays to do, as all that was not begun
                feeding = False
            elif pool.lost:
                outcomes += pool.retried()
            for outcome in outcomes:
                record(outcome)
                feeding = feeding and outcome.state != "stopped"
    except KeyboardInterrupt:
        # The workers do not hear of it: what they have begun they end, what only waits for them stays to do.
        for outcome in pool.wound_up():
            record(outcome)
        raise
    finally:
        pool.shut(at_once=sys.exc_info()[0] is not None)


class _Pool:
    """A pool of processes that know the job, and what is in flight there."""

    def __init__(self, job: Job, n_jobs: int) -> None:
        self.job = job
        self.n_jobs = n_jobs
        self.waiting: dict[Future[Outcome], Task] = {}
        self.lost: list[Task] = []
        self.has_broken = False
        self.executor: Any = self._new(n_jobs)
        try:
            self.executor.submit(_is_ready).result()
        except BrokenProcessPool as error:
            self.shut(at_once=True)
            raise InvalidParameterError(
                f"The processes for n_jobs={n_jobs} do not start ({error}). Try n_jobs=1, which needs none; what it "
                "says of the harmonizer may help."
            ) from error

    def _new(self, n_jobs: int) -> Any:
        # As many threads each as give all cores work.
        threads = str(max(1, cpu_count() // n_jobs))
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        return ProcessPoolExecutor(
            max_workers=n_jobs,
            initializer=_start,
            initargs=(self.job, int(threads), os.getpid()),
            env=dict.fromkeys(names, threads),
        )

    def submit(self, task: Task) -> bool:
        """Send a task out, or count it among the lost if the pool has broken in the meantime."""
        try:
            if self.executor is None:
                self.executor = self._new(self.n_jobs)
            self.waiting[self.executor.submit(_work, task)] = task
        except BrokenProcessPool:
            self.lost.append(task)
            return False
        return True

    def finished(self) -> list[Outcome]:
        """Wait for the next outcomes; if the pool breaks, for all, with the tasks that have none put in ``lost``."""
        outcomes: list[Outcome] = []
        done, _ = wait(self.waiting, return_when=FIRST_COMPLETED)
        while done:
            for future in done:
                task = self.waiting.pop(future)
                try:
                    outcomes.append(future.result())
                except BrokenProcessPool:
                    self.lost.append(task)
            done = wait(self.waiting)[0] if self.lost else set()
        return outcomes

    def retried(self) -> list[Outcome]:
        """Do what was lost once more, each file alone in a process. Who submits more gets a new pool."""
        outcomes: list[Outcome] = []
        self.has_broken = True
        tasks, self.lost = sorted(self.lost, key=lambda task: task.number), []
        self.shut(at_once=True)
        for task in tasks:
            try:
                if self.executor is None:
                    self.executor = self._new(1)
                outcomes.append(self.executor.submit(_work, task).result())
            except BrokenProcessPool:
                discard(self.job, task)
                outcomes.append(Outcome(task.number, "failed", _DIED))
                self.shut(at_once=True)
        self.shut()
        return outcomes

    def wound_up(self) -> list[Outcome]:
        """Wait for what has begun, and call back what has not."""
        for future in list(self.waiting):
            if future.cancel():
                del self.waiting[future]
        outcomes: list[Outcome] = []
        while self.waiting:
            outcomes += self.finished()
        return outcomes

    def shut(self, *, at_once: bool = False) -> None:
        """End the processes, the working ones too if ``at_once``."""
        if self.executor is not None:
            self.executor.shutdown(wait=True, kill_workers=at_once)
            self.executor = None


_DIED = (
    "its process was killed or crashed, twice: often for want of memory. Try this file by itself with n_jobs=1 and "
    "more memory, or leave it out."
)

# What a worker process was started with; set there alone.
_job: Job | None = None
_presence: object = None


def _start(job: Job, n_threads: int, parent: int) -> None:
    """Make a process a worker (runs there)."""
    import cv2

    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()

    global _job, _presence
    _job = job
    _presence = show_presence(job.out)
    image_cache().resize(0)
    cv2.setNumThreads(n_threads)
    # Ctrl-C reaches every process of a terminal; the one that hands out the work decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with(parent: int) -> None:
    """Leave when the process that hands out the work has been killed: nobody else would end this one."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _is_ready() -> bool:
    return _job is not None


def _work(task: Task) -> Outcome:
    assert _job is not None
    return harmonize_file(_job, task)


def count_processes(n_jobs: int) -> int:
    """Give the number of processes that ``n_jobs`` stands for: negative counts from all cores, -1 being all.

    Raises
    ------
    InvalidParameterError
        If it is 0 or no integer.

    Examples
    --------
    >>> count_processes(3)
    3
    """
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0:
        raise InvalidParameterError(f"n_jobs must be a number of processes, or -1 for all cores; got {n_jobs!r}.")
    return n_jobs if n_jobs > 0 else max(1, cpu_count() + 1 + n_jobs)
