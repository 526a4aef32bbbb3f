"""Lists of checksums whose names are not trusted."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.download import checksums
from xray_harmonize.download.checksums import (
    Failure,
    ListedFile,
    Listing,
    fault_of,
    read_checksums,
    select,
    sha256_of,
    shown,
)
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeError

DIGEST = hashlib.sha256(b"x").hexdigest()


@pytest.fixture
def read(tmp_path):
    def read(*names, separator=b" "):
        path = tmp_path / "SHA256SUMS.txt"
        lines = [DIGEST.encode() + separator + (name if isinstance(name, bytes) else name.encode()) for name in names]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return read_checksums(path)

    return read


@pytest.mark.parametrize("separator", [b" ", b"  ", b" *"])
def test_lines_are_read_as_sha256sum_and_physionet_write_them(read, separator):
    listing = read("files/p10/a.dcm", "LICENSE.txt", "files/ä b.dcm", separator=separator)
    assert [one.path for one in listing.files] == ["files/p10/a.dcm", "LICENSE.txt", "files/ä b.dcm"]
    assert {one.sha256.hex() for one in listing.files} == {DIGEST}
    assert listing.refused == []


def test_empty_lines_ends_of_windows_and_capitals_are_read(tmp_path):
    path = tmp_path / "SHA256SUMS.txt"
    path.write_text(f"\r\n{DIGEST.upper()} a.dcm\r\n\n{DIGEST} b.dcm")
    assert read_checksums(path).files == [
        ListedFile("a.dcm", bytes.fromhex(DIGEST)),
        ListedFile("b.dcm", bytes.fromhex(DIGEST)),
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("C:/windows", "absolute"),
        ("c:evil", "absolute"),
        ("../evil", "leaves its folder"),
        ("files/../../evil", "leaves its folder"),
        ("files/..", "leaves its folder"),
        ("files//evil", "empty or idle part"),
        ("./evil", "empty or idle part"),
        ("files/", "empty or idle part"),
        ("files\\evil", "backslash"),
        ("..\\evil", "backslash"),
        ("a\tb", "control characters"),
        ("a\x1b[31mb", "control characters"),
        ("a\x00b", "control characters"),
        ("a\u202eb", "control characters"),
        (b"a\xff", "not UTF-8"),
        ("files /a", "begins or ends with a space"),
        ("n" * 241, "a name is longer than 240 bytes"),
        ("ä" * 121, "a name is longer than 240 bytes"),
        ("n/" * 600 + "n", "the path is longer than 1024 bytes"),
        ("files/.a.dcm.part", "kept for what the mirror itself writes"),
        (".a.PART/b", "kept for what the mirror itself writes"),
        (".xray-harmonize-download.sqlite", "kept for what the mirror itself writes"),
        (".xray-harmonize-download.sqlite-journal", "kept for what the mirror itself writes"),
        ("sha256sums.TXT", "kept for what the mirror itself writes"),
    ],
)
def test_names_that_are_not_safe_are_refused_by_name_and_the_others_stay(read, name, reason):
    listing = read("a.dcm", name, "b.dcm")
    assert [one.path for one in listing.files] == ["a.dcm", "b.dcm"]
    (refused,) = listing.refused
    assert reason in refused.reason
    assert refused.path.isprintable()
    assert len(refused.path) <= 120


@pytest.mark.parametrize(
    "name", ["files/SHA256SUMS.txt", "a..b", "...", ".hidden", "a.part", "-rf", "~", "ab:c", "x" * 240]
)
def test_names_that_are_only_odd_are_accepted(read, name):
    assert [one.path for one in read(name).files] == [name]


def test_names_that_differ_in_case_or_composition_alone_are_refused(read):
    listing = read("files/a.dcm", "Files/A.dcm", "\u00e9", "e\u0301", "ß", "ss")
    assert [one.path for one in listing.files] == ["files/a.dcm", "\u00e9", "ß"]
    assert listing.refused[0] == Failure(
        "Files/A.dcm", "the name differs from files/a.dcm in case or composition alone"
    )
    assert len(listing.refused) == 3


def test_a_name_that_is_a_file_and_a_folder_is_refused(read):
    listing = read("files", "files/a.dcm", "FILES/a/b.dcm", "b")
    assert [one.path for one in listing.files] == ["files/a.dcm", "FILES/a/b.dcm", "b"]
    assert listing.refused == [Failure("files", "the list needs a folder of this name too")]


def test_a_line_that_comes_twice_counts_once_and_two_checksums_are_refused(tmp_path):
    path = tmp_path / "SHA256SUMS.txt"
    path.write_text(f"{DIGEST} a\n{DIGEST} a\n{'0' * 64} a\n")
    listing = read_checksums(path)
    assert listing.files == [ListedFile("a", bytes.fromhex(DIGEST))]
    assert listing.refused == [Failure("a", "the list has two checksums for it, and the first counts")]


def test_a_name_that_sha256sum_has_escaped_is_refused(tmp_path):
    path = tmp_path / "SHA256SUMS.txt"
    path.write_text(f"\\{DIGEST}  a\\nb\n")
    assert "backslash" in read_checksums(path).refused[0].reason


@pytest.mark.parametrize(
    "line", ["<!DOCTYPE html>", f"{DIGEST[:-1]} a", f"{DIGEST}", f"{DIGEST}\ta", f"{DIGEST[:-1]}g a"]
)
def test_a_line_that_is_no_checksum_is_an_error_that_shows_it(tmp_path, line):
    path = tmp_path / "SHA256SUMS.txt"
    path.write_text(f"{DIGEST} a\n{line}\n")
    with pytest.raises(XRayHarmonizeError, match=r"Line 2 of SHA256SUMS.txt is no SHA-256 and path, but .*data use"):
        read_checksums(path)


def test_an_endless_line_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "SHA256SUMS.txt"
    path.write_bytes(b"\x1b" * 10_000_000)
    with pytest.raises(XRayHarmonizeError, match="Line 1") as error:
        read_checksums(path)
    assert len(str(error.value)) < 400
    assert str(error.value).isprintable()


def test_endless_lists_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "MAX_FILES", 3)
    path = tmp_path / "SHA256SUMS.txt"
    path.write_text("".join(f"{DIGEST} {i}\n" for i in range(4)))
    with pytest.raises(XRayHarmonizeError, match="has more than 3 lines, which no collection needs"):
        read_checksums(path)


@given(st.text(max_size=40) | st.text("./\\ aA:\x00", max_size=12))
def test_an_accepted_path_stays_below_its_folder(tmp_path_factory, text):
    if fault_of(text.encode("utf-8", "replace")) is None:
        root = tmp_path_factory.getbasetemp() / "root"
        target = (root / text).resolve()
        assert target != root
        assert target.is_relative_to(root)
        assert target.relative_to(root).as_posix() == text


LISTING = Listing(
    [ListedFile("files/p10/s1/a.dcm", b""), ListedFile("files/p11/s2/b.dcm", b""), ListedFile("list.csv.gz", b"")],
    [Failure("files/p10/../x", "leaves")],
)


def test_patterns_choose_files_and_refused_names():
    assert select(LISTING, []) is LISTING
    assert [one.path for one in select(LISTING, ["files/p10/*"]).files] == ["files/p10/s1/a.dcm"]
    assert select(LISTING, ["files/p10/*"]).refused == LISTING.refused
    chosen = select(LISTING, ["*.csv.gz", "files/p11/*"])
    assert [one.path for one in chosen.files] == ["files/p11/s2/b.dcm", "list.csv.gz"]
    assert chosen.refused == []


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(InvalidParameterError, match=r"No file of the collection matches 'p12/\*'"):
        select(LISTING, ["files/*", "p12/*"])


def test_what_is_shown_is_printable_and_short():
    assert shown("a\x1b[31m\n") == "a\\x1b[31m\\n"
    assert len(shown("x" * 500)) == 120


def test_hashing_can_be_stopped(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert sha256_of(tmp_path / "a").hexdigest() == DIGEST
    assert sha256_of(tmp_path / "a", lambda: False) is None
