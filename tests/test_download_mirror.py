"""Mirrors of a collection: what is kept, fetched, refused and told."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from collections import namedtuple

import pytest
from flaky_server import PASSWORD, USER, Fault, serving
from small_collection import BIG, FILES, OTHER, SMALL, contents, mirror_of, reason

from xray_harmonize.download import mirror as mirror_module
from xray_harmonize.download.credentials import Credentials
from xray_harmonize.download.mirror import mirror
from xray_harmonize.download.transfer import part_of
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeError


@pytest.fixture
def server():
    with serving(FILES) as running:
        yield running


@pytest.fixture
def bring(server, tmp_path):
    return mirror_of(server, tmp_path / "out")


def test_a_mirror_has_every_file_and_its_list(server, bring, tmp_path):
    summary = bring()
    assert summary.is_complete
    assert (summary.n_files, summary.n_fetched, summary.n_kept) == (6, 6, 0)
    assert summary.n_bytes == sum(map(len, FILES.values()))
    assert contents(tmp_path / "out") == FILES
    assert (tmp_path / "out" / "SHA256SUMS.txt").read_bytes() == server.list_bytes()


def test_a_second_run_asks_for_the_list_alone_and_only_whether_it_changed(server, bring):
    bring()
    server.requests.clear()
    summary = bring()
    assert summary.is_complete
    assert (summary.n_kept, summary.n_fetched, summary.n_bytes) == (6, 0, 0)
    (request,) = server.requests
    assert "If-None-Match" in request.headers


def test_a_list_that_was_changed_here_is_fetched_again(server, bring, tmp_path):
    bring()
    (tmp_path / "out" / "SHA256SUMS.txt").write_text("")
    assert bring().n_kept == 6
    assert "If-None-Match" not in server.requests[-1].headers


def test_verified_files_are_not_hashed_again_unless_asked(bring, tmp_path):
    bring()
    target = tmp_path / "out" / BIG
    status = target.stat()
    target.write_bytes(FILES[BIG][:-1] + b"?")
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert bring().n_kept == 6
    summary = bring(verify=True)
    assert (summary.n_kept, summary.n_fetched) == (5, 1)
    assert target.read_bytes() == FILES[BIG]


def test_a_file_that_changed_or_vanished_is_fetched_again(bring, tmp_path):
    bring()
    (tmp_path / "out" / BIG).write_bytes(b"short")
    (tmp_path / "out" / SMALL).unlink()
    summary = bring()
    assert (summary.n_kept, summary.n_fetched) == (4, 2)
    assert contents(tmp_path / "out") == FILES


def test_files_that_another_program_fetched_are_verified_and_kept(server, bring, tmp_path):
    for path, data in FILES.items():
        (tmp_path / "out" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / path).write_bytes(data)
    assert bring().n_kept == 6
    assert [request.path for request in server.requests] == ["SHA256SUMS.txt"]


def test_files_that_are_not_listed_are_left_alone(bring, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    bring()
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_server_that_goes_down_ends_the_run(server, bring):
    server.files |= {f"files/{i}": b"x" for i in range(100)}
    server.always |= {path: Fault(status=503) for path in server.files}
    summary = bring(attempts=1)
    assert summary.stopped.startswith("10 files in a row could not be had, the last since the server answers 503")
    assert not summary.is_complete
    assert 10 <= len(summary.failures) <= 14


def test_missing_files_do_not_end_the_run(server, bring):
    server.files |= {f"files/{i:03}": b"x" for i in range(30)}
    server.always |= {f"files/{i:03}": Fault(status=404) for i in range(30)}
    summary = bring()
    assert (len(summary.failures), summary.n_fetched, summary.stopped) == (30, 6, "")


def test_an_agreement_that_is_not_signed_is_one_error(server, bring):
    server.fault("SHA256SUMS.txt", Fault(status=403))
    with pytest.raises(XRayHarmonizeError, match=r"does not let this user in \(403\)\. .* agreement"):
        bring()


def test_a_login_page_instead_of_the_list_is_one_error(server, bring):
    server.listed = b"<!DOCTYPE html>\n<title>Log in</title>\n"
    with pytest.raises(XRayHarmonizeError, match=r"Line 1 of SHA256SUMS.txt .*<!DOCTYPE html>.* agreement"):
        bring()


def test_a_list_that_is_not_there_is_one_error(server, bring):
    server.fault("SHA256SUMS.txt", Fault(status=404))
    with pytest.raises(
        XRayHarmonizeError, match=r"SHA256SUMS.txt cannot be had: the server answers 404 Not Found\. Check"
    ):
        bring()


def test_a_list_without_end_is_one_error(server, bring, monkeypatch, tmp_path):
    monkeypatch.setattr(mirror_module, "MAX_LIST_BYTES", 100)
    with pytest.raises(XRayHarmonizeError, match="cannot be had: it is longer than 100 bytes"):
        bring()
    assert contents(tmp_path / "out") == {}


def test_a_list_that_breaks_off_is_fetched_again(server, bring):
    server.fault("SHA256SUMS.txt", Fault(drop_at=100))
    assert bring().is_complete


def test_a_server_that_is_not_there_is_one_error(server, bring):
    server.server_close()
    server.shutdown()
    with pytest.raises(
        XRayHarmonizeError, match="cannot be had: the connection broke, or there was none, in 2 attempts"
    ):
        bring(attempts=2)


def test_names_that_lead_out_are_refused_and_never_asked_for(server, bring, tmp_path):
    digest = hashlib.sha256(b"evil").hexdigest()
    names = ["../evil", "/tmp/evil", "files/../../evil", "files\\evil", "license.TXT", "n" * 300, "a\x1bb"]
    server.listed = server.list_bytes() + "".join(f"{digest} {name}\n" for name in names).encode()
    summary = bring()
    assert (summary.n_files, summary.n_fetched, len(summary.failures)) == (13, 6, 7)
    assert contents(tmp_path / "out") == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert {request.path for request in server.requests} == {*FILES, "SHA256SUMS.txt"}


def test_a_part_of_the_collection_is_chosen_by_pattern(bring, tmp_path):
    assert bring(only=["files/p10/*"]).n_files == 2
    assert bring(only=["*.csv.gz", "LICENSE.txt"]).n_files == 2
    assert set(contents(tmp_path / "out")) == {BIG, SMALL, "list.csv.gz", "LICENSE.txt"}


def test_no_more_connections_are_open_than_allowed(server, bring):
    server.files |= {f"files/{i}": b"x" * 1000 for i in range(40)}
    bring(n_jobs=3)
    assert 1 <= server.most_open <= 3


def test_a_folder_in_the_place_of_a_file_and_a_file_in_that_of_a_folder_are_listed(bring, tmp_path):
    (tmp_path / "out" / "LICENSE.txt").mkdir(parents=True)
    (tmp_path / "out" / "files").write_text("no folder")
    failures = dict(bring().failures)
    assert failures.pop("LICENSE.txt") == "a folder is where the file should be"
    assert set(failures) == {BIG, SMALL, OTHER}
    assert all(words.startswith("it cannot be written: ") for words in failures.values())


def test_a_file_that_cannot_be_read_is_listed(bring, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "LICENSE.txt").write_bytes(b"x")

    def refuse(path, go_on=None):
        if path.name == "LICENSE.txt":
            raise PermissionError(errno.EACCES, "Permission denied")
        return hashlib.sha256(path.read_bytes())

    monkeypatch.setattr(mirror_module, "sha256_of", refuse)
    assert reason(bring()) == "the file that is there cannot be read: Permission denied"


def test_a_fault_of_the_program_is_listed_with_the_file(bring, monkeypatch):
    monkeypatch.setattr(mirror_module, "file_address", lambda base, path: 1 / 0)
    assert {failure.reason for failure in bring().failures} == {"an unexpected ZeroDivisionError"}


def test_a_disk_without_room_is_one_error_before_anything_is_written(server, bring, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 10_000, 10_000))
    summary = bring(n_jobs=1)
    assert summary.stopped == (
        "700000 bytes are to come, and the disk has no room for them. Make room and run it again"
    )
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_runs_full_is_one_error_and_leaves_no_half_file(server, bring, tmp_path, monkeypatch, number):
    def full(descriptor):
        raise OSError(number, os.strerror(number))

    bring(only=["LICENSE.txt"])
    monkeypatch.setattr(os, "fsync", full)
    server.requests.clear()
    server.fault("SHA256SUMS.txt", Fault(status=304))
    summary = bring(n_jobs=2)
    assert summary.stopped == "the disk is full. Make room and run it again"
    assert set(contents(tmp_path / "out")) == {"LICENSE.txt"}
    assert len(server.requests) <= 6
    monkeypatch.undo()
    assert bring().is_complete


def test_an_interrupted_run_keeps_what_came_and_goes_on_from_there(server, bring, tmp_path, monkeypatch):
    monkeypatch.setattr(mirror_module, "_GRACE_SECONDS", 0.1)
    server.fault(BIG, Fault(drop_at=300_000), Fault(stall=True))

    def interrupt(progress):
        if progress.n_bytes >= 300_000 and len(server.of(BIG)) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(on_progress=interrupt, n_jobs=1, timeout=10)
    assert part_of(tmp_path / "out" / BIG).stat().st_size == 300_000
    assert not (tmp_path / "out" / BIG).exists()
    server.ended.set()
    assert bring().is_complete
    assert server.of(BIG)[-1].range == "bytes=300000-"


def test_progress_is_told(bring):
    told = []
    bring(on_progress=told.append)
    last = told[-1]
    assert (last.n_files, last.n_kept, last.n_fetched, last.n_failed) == (6, 0, 6, 0)
    assert last.n_bytes == sum(map(len, FILES.values()))
    assert last.seconds > 0


def test_two_runs_into_one_folder_are_refused(server, bring):
    server.always[BIG] = Fault(stall=True)
    ended = []
    first = threading.Thread(target=lambda: ended.append(bring(timeout=1, attempts=1)))
    first.start()
    while not server.of(BIG):
        time.sleep(0.01)
    with pytest.raises(InvalidParameterError, match=r"Another download into .* is running"):
        bring()
    first.join()
    assert ended[0].n_fetched == 5


def test_a_folder_of_another_collection_is_refused(server, bring, tmp_path):
    bring()
    with (
        serving(FILES) as other,
        pytest.raises(InvalidParameterError, match=r"is a mirror of .*, and not of .*\. Give another folder"),
    ):
        mirror(other.base, tmp_path / "out", allow_http=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_jobs": 0}, "n_jobs must be 1 to 16, got 0"),
        ({"n_jobs": 17}, "n_jobs must be 1 to 16, got 17"),
        ({"attempts": 0}, "attempts must be 1 to 100, got 0"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0, got 0"),
        ({"pause": -1}, "pause must be 0 to 60 seconds, got -1"),
        ({"only": ["nothing"]}, "No file of the collection matches 'nothing'"),
    ],
)
def test_arguments_out_of_range_are_refused(bring, settings, message):
    with pytest.raises(InvalidParameterError, match=message):
        bring(**settings)


def test_without_encryption_nothing_is_asked(server, tmp_path):
    with pytest.raises(InvalidParameterError, match="is not encrypted"):
        mirror(server.base, tmp_path / "out", credentials=Credentials(USER, PASSWORD))
    assert server.requests == []
    assert not (tmp_path / "out").exists()
