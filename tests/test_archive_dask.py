"""An archive on a Dask cluster: nothing is lost when a worker is killed, and unfit clusters are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from archive_factory import Halving, make_images, rows, written

from xray_harmonize import FullRange
from xray_harmonize.archive import apply
from xray_harmonize.exceptions import InvalidParameterError

distributed = pytest.importorskip("distributed", reason="Dask is not installed (extra dask)")
cluster_module = pytest.importorskip("xray_harmonize.archive.cluster")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as running:
        yield running


@pytest.fixture
def scans(tmp_path):
    make_images(tmp_path / "scans", 30)
    return tmp_path / "scans"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_a_worker_killed_in_mid_run_loses_nothing(cluster, scans, out, tmp_path):
    with distributed.Client(cluster) as client:
        pids = list(client.run(os.getpid).values())
    killed = threading.Event()

    def kill_one(progress):
        if progress.written >= 5 and not killed.is_set():
            killed.set()
            os.kill(pids[0], signal.SIGKILL)

    address = cluster.scheduler_address
    summary = apply(Halving(0.02), scans, out, format="png", scheduler=address, progress=kill_one)
    assert killed.is_set()
    assert (summary.written, summary.failed, summary.total) == (30, 0, 30)
    apply(Halving(0.02), scans, tmp_path / "here", format="png")
    assert written(out) == written(tmp_path / "here")
    assert apply(Halving(0.02), scans, out, format="png", scheduler=address).unchanged == 30


def test_bad_files_and_warnings_come_back_as_rows(cluster, scans, out):
    (scans / "home" / "bad.npy").write_bytes(b"\x93NUMPY and no more")
    harmonizer = Halving(warns="0003", fails="0004")
    summary = apply(harmonizer, scans, out, format="png", scheduler=cluster.scheduler_address)
    assert (summary.written, summary.failed) == (29, 2)
    assert rows(out, "warning", "warning IS NOT NULL") == [("it looks odd",)]


def test_a_file_that_kills_its_workers_is_one_failure(cluster, scans, out):
    few = sorted(scans.rglob("*.npy"))[:4]
    with distributed.Client(cluster) as client:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    summary = apply(
        Halving(kills="0004", litters=str(out)), few, out, format="png", scheduler=cluster.scheduler_address
    )
    assert summary.failed >= 1
    assert summary.written + summary.failed == 4
    told = dict(summary.failures)[str(scans / "far" / "0004.npy")]
    assert told.startswith("its workers died, or could not work on it: KilledWorker")
    assert len(written(out)) == summary.written, "what the dying wrote is swept away"


def test_a_full_disk_ends_the_run(cluster, scans, out, monkeypatch):
    from xray_harmonize.archive.one_file import Outcome
    from xray_harmonize.exceptions import PersistenceError

    real = cluster_module._outcome
    monkeypatch.setattr(
        cluster_module,
        "_outcome",
        lambda future, job, task: Outcome(7, "stopped", "no space") if task.number == 7 else real(future, job, task),
    )
    with pytest.raises(PersistenceError, match=r"cannot take more files \(no space\)"):
        apply(FullRange(), scans, out, format="png", scheduler=cluster.scheduler_address)
    assert 0 < len(rows(out, "source", "state = 'done'")) < 30
    monkeypatch.undo()
    assert apply(FullRange(), scans, out, format="png", scheduler=cluster.scheduler_address).ok


def test_workers_that_do_not_see_the_outputs_are_refused(cluster, scans, out, monkeypatch):
    monkeypatch.setattr(cluster_module, "_who_are_you", lambda _: ("0.1.0", False))
    with pytest.raises(
        InvalidParameterError, match=r"worker at tcp://.* does not see .*out; name a folder on a file s"
    ):
        apply(FullRange(), scans, out, format="png", scheduler=cluster.scheduler_address)
    monkeypatch.setattr(cluster_module, "_who_are_you", lambda _: ("0.0.1", True))
    with pytest.raises(
        InvalidParameterError, match=r"worker at tcp://.* has xray_harmonize 0.0.1, expected 0.1.0 as he"
    ):
        apply(FullRange(), scans, out, format="png", scheduler=cluster.scheduler_address)


def test_a_scheduler_that_does_not_answer_or_has_no_worker_is_told_of(scans, out, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.3)
    threads = set(threading.enumerate())
    for address in ("tcp://127.0.0.1:9", "no address", "udp://a:1"):
        with pytest.raises(InvalidParameterError, match=f"No Dask scheduler answers at {address} .* Start one with"):
            apply(FullRange(), scans, out, format="png", scheduler=address)
    assert set(threading.enumerate()) <= threads, "nothing half made stays behind"
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(
            InvalidParameterError, match=r"The Dask scheduler at .* has no worker. Start some with `dask work"
        ),
    ):
        apply(FullRange(), scans, out, format="png", scheduler=empty.scheduler_address)


def test_without_dask_the_extra_is_named(scans, out):
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        "from xray_harmonize import FullRange; from xray_harmonize.archive import apply\n"
        "apply(FullRange(), sys.argv[1], sys.argv[2], format='png', scheduler='tcp://a:1')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(scans), str(out)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert "MissingDependencyError: A scheduler is Dask's, which is not installed" in done.stderr
    assert "pip install 'xray_harmonize[dask]'" in done.stderr
