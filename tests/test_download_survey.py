"""What a mirror would bring."""

from __future__ import annotations

import pytest
from flaky_server import PASSWORD, USER, Fault, serving

from xray_harmonize.download import survey as survey_module
from xray_harmonize.download.credentials import Credentials
from xray_harmonize.download.survey import survey
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeError

FILES = {f"files/p{i % 2 + 10}/{i:03}.dcm": b"x" * (100 + i) for i in range(40)}


@pytest.fixture
def server():
    with serving(FILES) as running:
        yield running


@pytest.fixture
def count(server, tmp_path):
    def count(**settings):
        settings = {"credentials": Credentials(USER, PASSWORD), "timeout": 10, "pause": 0.001} | settings
        return survey(server.base, tmp_path / "out", allow_http=True, **settings)

    return count


def test_files_and_bytes_are_counted_and_nothing_is_written(server, count, tmp_path):
    found = count()
    assert (found.n_files, found.n_there, found.n_missing, found.n_sized) == (40, 0, 40, 40)
    assert found.n_bytes == found.expected_bytes == sum(map(len, FILES.values()))
    assert list(tmp_path.iterdir()) == []
    assert {request.method for request in server.requests[1:]} == {"HEAD"}


def test_files_that_are_there_are_not_asked_for(server, count, tmp_path):
    for path in list(FILES)[:38]:
        (tmp_path / "out" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / path).write_bytes(FILES[path])
    found = count()
    assert (found.n_there, found.n_missing, found.n_asked, found.expected_bytes) == (38, 2, 2, 138 + 139)


def test_of_many_files_some_are_asked_for_at_even_steps(server, count, monkeypatch):
    monkeypatch.setattr(survey_module, "MAX_ASKED", 10)
    found = count()
    assert (found.n_asked, found.n_sized) == (10, 10)
    assert found.expected_bytes == pytest.approx(sum(map(len, FILES.values())), rel=0.05)


def test_patterns_and_refused_names_are_told(server, count):
    server.listed = server.list_bytes() + b"0" * 64 + b" files/p10/../evil\n"
    found = count(only=["files/p10/*"])
    assert found.n_files == 20
    assert [one.path for one in found.refused] == ["files/p10/../evil"]


def test_a_server_that_does_not_say_leaves_the_bytes_open(server, count):
    server.always |= {path: Fault(no_length=True) for path in FILES}
    found = count()
    assert (found.n_sized, found.expected_bytes) == (0, None)


def test_a_file_that_the_server_does_not_have_is_left_out_of_the_mean(server, count):
    server.always[next(iter(FILES))] = Fault(status=404)
    assert count().n_sized == 39


@pytest.mark.parametrize("status", [429, 503, 401])
def test_a_server_under_load_is_not_asked_for_figures(server, count, status):
    server.always |= {path: Fault(status=status) for path in FILES}
    assert count(n_jobs=2).expected_bytes is None
    assert len(server.requests) <= 3


def test_a_connection_that_breaks_leaves_the_size_open(server, count):
    server.always[next(iter(FILES))] = Fault(stall=True)
    assert count(timeout=0.2).n_sized == 39


def test_everything_there_needs_nothing(server, count, tmp_path):
    server.files = {"a": b"x"}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"x")
    assert count().expected_bytes == 0


def test_its_errors_are_those_of_the_mirror(count):
    with pytest.raises(InvalidParameterError, match="n_jobs must be 1 to 16, got 0"):
        count(n_jobs=0)
    with pytest.raises(XRayHarmonizeError, match=r"does not accept the user name and password \(401\)"):
        count(credentials=None)
