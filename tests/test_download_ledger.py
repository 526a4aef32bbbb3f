"""What a mirror remembers of itself."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from xray_harmonize.download.ledger import Ledger
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeError

BASE = "https://archive.example/"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def test_a_verified_file_is_known_until_it_or_its_checksum_changes(path, tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"x")
    with Ledger(path, BASE) as ledger:
        assert not ledger.is_verified("a", file.stat(), b"1")
        ledger.verified("a", file.stat(), b"1")
        assert ledger.is_verified("a", file.stat(), b"1")
    with Ledger(path, BASE) as ledger:
        assert ledger.is_verified("a", file.stat(), b"1")
        assert not ledger.is_verified("a", file.stat(), b"2")
        assert not ledger.is_verified("b", file.stat(), b"1")
        os.utime(file, ns=(0, 1))
        assert not ledger.is_verified("a", file.stat(), b"1")


def test_validators_are_remembered_and_forgotten(path):
    with Ledger(path, BASE) as ledger:
        ledger.remember("a", '"v1"')
        ledger.remember("a", '"v2"')
    with Ledger(path, BASE) as ledger:
        assert ledger.validator("a") == '"v2"'
        ledger.remember("a", None)
        assert ledger.validator("a") is None


def test_a_second_run_is_refused_while_the_first_is_on(path):
    with (
        Ledger(path, BASE),
        pytest.raises(InvalidParameterError, match=r"Another download into .* is running"),
    ):
        Ledger(path, BASE)
    Ledger(path, BASE).close()


def test_a_mirror_of_another_address_is_refused(path):
    Ledger(path, BASE).close()
    with pytest.raises(InvalidParameterError, match=r"is a mirror of https://archive.example/, and not of https://b/"):
        Ledger(path, "https://b/")
    Ledger(path, BASE).close()


def test_a_damaged_ledger_is_named_and_may_be_deleted(path):
    path.write_bytes(b"something else, longer than the header of a database, which has a hundred bytes" * 3)
    with pytest.raises(XRayHarmonizeError, match=r"ledger.sqlite cannot be used: .* Delete it if it is damaged"):
        Ledger(path, BASE)


def test_a_ledger_of_a_later_version_is_named(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(XRayHarmonizeError, match="is of version 9, and this program writes 1"):
        Ledger(path, BASE)


def test_threads_share_it_and_one_that_outlives_it_does_no_harm(path, tmp_path):
    status = tmp_path.stat()
    with Ledger(path, BASE) as ledger, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: ledger.verified(str(i), status, b"1"), range(200)))
        assert all(ledger.is_verified(str(i), status, b"1") for i in range(200))
    ledger.verified("late", status, b"1")
    assert ledger.validator("late") is None
    assert not ledger.is_verified("late", status, b"1")
