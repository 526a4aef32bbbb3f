"""The work shared among the workers of a Dask cluster.

The harmonizer goes out once a worker, as a plugin that the scheduler also gives to workers that join later or come back
after they died. Tasks carry paths, and outcomes come back as rows; pixels never travel. A task whose worker dies is
given to another one by the scheduler, and has failed when its ``distributed.scheduler.allowed-failures`` is spent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from xray_harmonize import __version__
from xray_harmonize.archive.one_file import Job, Outcome, Task, discard, harmonize_file, printable
from xray_harmonize.archive.workers import IN_FLIGHT, Record
from xray_harmonize.exceptions import InvalidParameterError, MissingDependencyError

try:
    from distributed import Client, Security, WorkerPlugin, as_completed, get_worker
    from distributed.comm import connect
except ImportError as missing:  # pragma: no cover - told by a test in a process that hides the package
    raise MissingDependencyError(
        "A scheduler is Dask's, which is not installed. Install it with pip install 'xray_harmonize[dask]', or leave "
        "scheduler out and use n_jobs."
    ) from missing

CONNECT_SECONDS = 30


def on_cluster(job: Job, tasks: Iterator[Task], record: Record, scheduler: str) -> bool:
    """Share the tasks among the workers of a scheduler.

    Parameters
    ----------
    job : Job
    tasks : iterator of Task
    record : callable
    scheduler : str
        Its address.

    Returns
    -------
    bool
        Whether a worker went away, which may have left an unfinished file.

    Raises
    ------
    InvalidParameterError
        If the scheduler does not answer, has no worker, or a worker has another version of this package or does not
        see the folder of the outputs.
    """
    try:
        _greet(scheduler)
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidParameterError(
            f"No Dask scheduler answers at {scheduler} ({printable(str(error))}). Start one with `dask scheduler`, and "
            "workers with `dask worker ADDRESS`."
        ) from error
    name = f"xray_harmonize-{uuid4().hex}"
    with client:
        n_threads = _check_workers(client, job, scheduler)
        before = _departures(client)
        client.register_plugin(_JobPlugin(job), name=name)
        try:
            _share(client, name, job, tasks, record, max(4, IN_FLIGHT * n_threads))
        finally:
            client.unregister_worker_plugin(name)
        return not _departures(client) <= before


def _greet(scheduler: str) -> None:
    """See that a scheduler answers.

    A ``Client`` for which none does is left half made; the collector of garbage may close it while another one starts,
    and then each waits for the other without end.
    """

    async def connection() -> None:
        secured = Security().get_connection_args("client")
        stream = await connect(scheduler, timeout=CONNECT_SECONDS, **secured)
        await stream.close()

    # In a thread, since notebooks have an event loop running in theirs.
    with ThreadPoolExecutor(1) as beside:
        beside.submit(asyncio.run, connection()).result()


def _check_workers(client: Any, job: Job, scheduler: str) -> int:
    """Give the number of threads in the cluster, once every worker is found fit."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        raise InvalidParameterError(
            f"The Dask scheduler at {scheduler} has no worker. Start some with `dask worker {scheduler}`."
        ) from error
    for worker, (version, sees) in sorted(client.run(_who_are_you, str(job.out)).items()):
        if version != __version__:
            raise InvalidParameterError(
                f"The Dask worker at {worker} has xray_harmonize {version}, expected {__version__} as here; install "
                "the same version everywhere."
            )
        if not sees:
            raise InvalidParameterError(
                f"The Dask worker at {worker} does not see {job.out}; name a folder on a file system that all workers "
                "share under the same path."
            )
    return sum(client.nthreads().values())


def _departures(client: Any) -> set[tuple[float, str]]:
    """Give when workers went away, and which, as far back as the scheduler remembers."""
    events = [(when, event) for when, event in client.get_events("all") if isinstance(event, dict)]
    return {(when, event["worker"]) for when, event in events if event.get("action") == "remove-worker"}


def _share(client: Any, name: str, job: Job, tasks: Iterator[Task], record: Record, in_flight: int) -> None:
    waiting: dict[str, Task] = {}

    def send(task: Task) -> Any:
        future = client.submit(_work, name, task, key=f"{name}-{task.number}", pure=False)
        waiting[future.key] = task
        return future

    first = [send(task) for task in islice(tasks, in_flight)]
    feeding, running = True, as_completed(first)
    for future in running:
        task = waiting.pop(future.key)
        outcome = _outcome(future, job, task)
        record(outcome)
        feeding = feeding and outcome.state != "stopped"
        following = next(tasks, None) if feeding else None
        if following is not None:
            running.add(send(following))


def _outcome(future: Any, job: Job, task: Task) -> Outcome:
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    discard(job, task)
    if future.status == "error":
        error = future.exception()
        reason = f"its workers died, or could not work on it: {type(error).__name__}: {error}"
    else:
        reason = f"the cluster has dropped it (Dask calls it {future.status}); run the same command again"
    return Outcome(task.number, "failed", printable(reason))


class _JobPlugin(WorkerPlugin):
    """Carries the job to the workers, and has each keep no images meanwhile."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def setup(self, worker: Any) -> None:
        """Nothing is kept of images that come but once (runs on the worker)."""
        from xray_harmonize.image_sources import image_cache

        self.cached_bytes = image_cache().max_bytes
        image_cache().resize(0)

    def teardown(self, worker: Any) -> None:
        """Leave the worker as it was (runs there)."""
        from xray_harmonize.image_sources import image_cache

        image_cache().resize(self.cached_bytes)


def _who_are_you(out: str) -> tuple[str, bool]:
    from xray_harmonize import __version__ as version
    from xray_harmonize.archive.manifest import MANIFEST

    return version, Path(out, MANIFEST).is_file()


def _work(name: str, task: Task) -> Outcome:
    worker = get_worker()
    plugin: _JobPlugin = worker.plugins[name]
    return harmonize_file(plugin.job, task, keep_warnings=worker.state.nthreads == 1)
