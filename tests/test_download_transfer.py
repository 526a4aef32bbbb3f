"""One file over a server that drops, corrupts, and is busy."""

from __future__ import annotations

import pytest
from flaky_server import Fault, serving
from small_collection import BIG, FILES, SMALL, contents, mirror_of, reason

from xray_harmonize.download import mirror as mirror_module
from xray_harmonize.download.transfer import part_of


@pytest.fixture
def server():
    with serving(FILES) as running:
        yield running


@pytest.fixture
def bring(server, tmp_path):
    return mirror_of(server, tmp_path / "out")


def test_a_dropped_connection_is_resumed_where_it_broke(server, bring, tmp_path):
    server.fault(BIG, Fault(drop_at=100_000), Fault(drop_at=200_000))
    summary = bring()
    assert summary.is_complete
    assert contents(tmp_path / "out") == FILES
    first, second, third = server.of(BIG)
    assert (first.range, second.range, third.range) == (None, "bytes=100000-", "bytes=300000-")
    assert second.headers["If-Range"].startswith('"')
    assert summary.n_bytes == sum(map(len, FILES.values()))


def test_progress_does_not_count_as_an_attempt_in_vain(server, bring, monkeypatch):
    monkeypatch.setattr("xray_harmonize.download.transfer._PROGRESS_BYTES", 50_000)
    server.fault(BIG, *[Fault(drop_at=60_000)] * 8)
    assert bring(attempts=2).is_complete


def test_drops_without_progress_end_and_the_next_run_resumes(server, bring, tmp_path):
    server.fault(BIG, *[Fault(drop_at=1000)] * 3)
    summary = bring(attempts=3)
    assert reason(summary) == "the connection broke, or there was none, after 3000 of 700000 bytes, in 3 attempts"
    assert summary.n_fetched == 5
    assert not (tmp_path / "out" / BIG).exists()
    assert part_of(tmp_path / "out" / BIG).read_bytes() == FILES[BIG][:3000]
    assert bring().is_complete
    assert server.of(BIG)[-1].range == "bytes=3000-"
    assert "If-Range" in server.of(BIG)[-1].headers
    assert not part_of(tmp_path / "out" / BIG).exists()


def test_a_server_without_ranges_begins_anew(server, bring, tmp_path):
    server.fault(BIG, Fault(drop_at=1000), Fault(ignore_range=True))
    assert bring().is_complete
    assert contents(tmp_path / "out") == FILES


def test_a_server_without_etags_is_resumed_on_trust_and_checked_as_a_whole(server, bring, tmp_path):
    server.has_etags = False
    server.fault(BIG, Fault(drop_at=1000))
    assert bring().is_complete
    assert server.of(BIG)[1].range == "bytes=1000-"
    assert "If-Range" not in server.of(BIG)[1].headers


def test_a_piece_of_another_version_is_thrown_away(server, bring, tmp_path):
    server.has_etags = False
    part = part_of(tmp_path / "out" / BIG)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * 1000)
    assert bring().is_complete
    assert [request.range for request in server.of(BIG)] == ["bytes=1000-", None]
    assert contents(tmp_path / "out") == FILES


def test_a_version_that_changed_meanwhile_begins_anew_by_its_etag(server, bring, tmp_path):
    server.fault(BIG, *[Fault(drop_at=1000)] * 2)
    bring(attempts=2)
    server.files[BIG] = b"new" * 5000
    summary = bring()
    assert summary.is_complete
    assert (tmp_path / "out" / BIG).read_bytes() == b"new" * 5000


def test_a_piece_that_is_whole_already_is_not_asked_for(server, bring, tmp_path):
    part = part_of(tmp_path / "out" / BIG)
    part.parent.mkdir(parents=True)
    part.write_bytes(FILES[BIG])
    assert bring().is_complete
    assert server.of(BIG) == []


@pytest.mark.parametrize("length", [700_000, 700_001])
def test_a_piece_that_is_too_long_is_thrown_away(server, bring, tmp_path, length):
    part = part_of(tmp_path / "out" / BIG)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"?" * length)
    assert bring().is_complete
    assert contents(tmp_path / "out") == FILES


def test_another_range_than_asked_for_is_not_used(server, bring, tmp_path):
    server.fault(BIG, Fault(drop_at=1000), Fault(content_range="bytes 0-699999/700000"))
    assert bring().is_complete
    assert contents(tmp_path / "out") == FILES


def test_corrupt_bytes_are_fetched_again(server, bring, tmp_path):
    server.fault(BIG, Fault(corrupt=True))
    assert bring().is_complete
    assert contents(tmp_path / "out") == FILES
    assert len(server.of(BIG)) == 2


@pytest.mark.parametrize("fault", [Fault(corrupt=True), Fault(body=b"short"), Fault(body=b"long" * 300_000)])
def test_a_file_that_stays_wrong_is_listed_and_the_others_go_on(server, bring, tmp_path, fault):
    server.always[BIG] = fault
    summary = bring(attempts=3)
    assert summary.failures[0].path == BIG
    assert "bytes came with the SHA-256 " in reason(summary)
    assert reason(summary).endswith("…, in 3 attempts")
    assert len(server.of(BIG)) == 3
    assert (summary.n_fetched, summary.is_complete) == (5, False)
    assert contents(tmp_path / "out") == {path: data for path, data in FILES.items() if path != BIG}


def test_an_old_file_stays_until_the_new_one_is_verified(server, bring, tmp_path):
    target = tmp_path / "out" / BIG
    target.parent.mkdir(parents=True)
    target.write_bytes(b"old")
    server.always[BIG] = Fault(corrupt=True)
    bring(attempts=2)
    assert target.read_bytes() == b"old"


def test_a_body_without_a_length_is_checked_too(server, bring, tmp_path):
    server.fault(BIG, Fault(no_length=True, drop_at=1000), Fault(no_length=True))
    assert bring().is_complete
    assert contents(tmp_path / "out") == FILES


def test_bytes_are_stored_as_they_were_sent(server, bring, tmp_path):
    server.always["list.csv.gz"] = Fault(headers={"Content-Encoding": "gzip"})
    assert bring().is_complete
    assert contents(tmp_path / "out") == FILES
    assert {request.headers["Accept-Encoding"] for request in server.requests} == {"identity"}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_server_that_is_busy_is_asked_again(server, bring, status):
    server.fault(SMALL, Fault(status=status), Fault(status=status))
    assert bring().is_complete
    assert len(server.of(SMALL)) == 3


def test_retry_after_lets_every_connection_wait(server, bring, monkeypatch):
    held = []
    hold = mirror_module.Brake.hold
    monkeypatch.setattr(mirror_module.Brake, "hold", lambda self, seconds: held.append(seconds) or hold(self, 0))
    server.fault(SMALL, Fault(status=503, retry_after="7"), Fault(status=429, retry_after="soon"))
    assert bring().is_complete
    assert held == [7]


def test_a_server_that_asks_for_hours_is_left_alone(server, bring):
    server.fault(SMALL, Fault(status=503, retry_after="7200"))
    summary = bring()
    assert reason(summary) == "the server answers 503 Service Unavailable and asks to come back in 120 min"
    assert summary.n_fetched == 5


@pytest.mark.parametrize(
    ("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone"), (299, "299")]
)
def test_a_file_that_the_server_does_not_give_is_listed_at_once(server, bring, status, words):
    server.fault(SMALL, Fault(status=status))
    summary = bring()
    assert reason(summary) == f"the server answers {words}"
    assert len(server.of(SMALL)) == 1


def test_a_silent_server_is_given_up(server, bring):
    server.always[SMALL] = Fault(stall=True)
    assert reason(bring(timeout=0.2, attempts=2)) == "no answer within 0.2 s, in 2 attempts"


def test_a_weak_name_of_a_version_does_not_join_pieces(server, bring, tmp_path):
    server.always[BIG] = Fault(headers={"ETag": 'W/"1"'})
    server.fault(BIG, Fault(headers={"ETag": 'W/"1"'}, drop_at=1000))
    assert bring().is_complete
    assert server.of(BIG)[1].range == "bytes=1000-"
    assert "If-Range" not in server.of(BIG)[1].headers


def test_a_name_of_a_version_that_no_header_could_hold_is_not_used(server, bring):
    server.fault(BIG, Fault(headers={"ETag": '"' + "x" * 300 + '"'}, drop_at=1000))
    assert bring().is_complete
    assert "If-Range" not in server.of(BIG)[1].headers
