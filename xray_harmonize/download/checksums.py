"""A list of files and their SHA-256, as a server hands it out: none of its names is trusted."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeError

LIST_NAME = "SHA256SUMS.txt"
LEDGER_NAME = ".xray-harmonize-download.sqlite"
"""What a mirror remembers of itself lies in this file at its root."""

MAX_FILES = 10_000_000
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 240
"""Of one folder or file; file systems take 255, and unfinished files have a longer name."""

_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{64}) [ *]?(.+)")
# Nearly every name: nothing that a rule could refuse but its length, or being reserved. This is the fast way.
_PLAIN = re.compile(rb"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}/)*[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_MOST_LINE_BYTES = 64 + 3 + 4 * MAX_PATH_BYTES
_SHOWN_CHARACTERS = 120
_BLOCK = 1 << 20


class ListedFile(NamedTuple):
    """A file of a collection: its path below the root, with slashes, and its SHA-256 (32 bytes)."""

    path: str
    sha256: bytes


class Failure(NamedTuple):
    """A file that is not there, or not as it should be, and why; the path is printable."""

    path: str
    reason: str


class Listing(NamedTuple):
    """What a list holds: files in its order, and names that are refused."""

    files: list[ListedFile]
    refused: list[Failure]


def read_checksums(path: Path) -> Listing:
    r"""Read lines of a SHA-256 in hexadecimals and a relative path, as ``sha256sum`` and PhysioNet write them.

    Refused by name are absolute paths, ``..``, backslashes, control characters, names too long for file systems or
    reserved for this mirror, a second name that differs from an earlier one in case alone, and files where another
    name needs a folder. The first of several equal names counts.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Listing

    Raises
    ------
    XRayHarmonizeError
        A line that is no checksum and path, or more than 10 million of them.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "SHA256SUMS.txt"
    >>> _ = path.write_text("0" * 64 + " files/a.dcm\n" + "1" * 64 + " ../b.dcm\n")
    >>> listing = read_checksums(path)
    >>> [file.path for file in listing.files]
    ['files/a.dcm']
    >>> listing.refused
    [Failure(path='../b.dcm', reason='the path leaves its folder')]
    """
    files: list[ListedFile] = []
    refused: list[Failure] = []
    seen: dict[str, int] = {}
    folders: set[str] = set()
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_MOST_LINE_BYTES + 1):
            number += 1
            if number > MAX_FILES:
                raise XRayHarmonizeError(f"{path.name} has more than {MAX_FILES} lines, which no collection needs.")
            digest, name = _parse(line, number, path)
            if digest is None:
                continue
            text = name.decode("utf-8", "backslashreplace")
            reason = fault_of(name)
            listed = ListedFile(text, digest)
            if reason is None:
                key = _key(text)
                other = seen.get(key)
                if other is None:
                    seen[key] = len(files)
                    files.append(listed)
                    _add_folders(key, folders)
                    continue
                if files[other] == listed:
                    continue
                reason = _clash(listed, files[other])
            refused.append(Failure(shown(text), reason))
    blocked = [position for key, position in seen.items() if key in folders]
    refused += [Failure(files[position].path, "the list needs a folder of this name too") for position in blocked]
    for position in sorted(blocked, reverse=True):
        del files[position]
    return Listing(files, refused)


def _parse(line: bytes, number: int, path: Path) -> tuple[bytes | None, bytes]:
    line = line.rstrip(b"\r\n")
    if not line.strip():
        return None, b""
    match = _LINE.fullmatch(line)
    if match is None:
        # As it is when a server sends a page that asks to log in.
        raise XRayHarmonizeError(
            f"Line {number} of {path.name} is no SHA-256 and path, but {shown(line.decode('latin-1'))!r}. Check the "
            "address, the credentials, and that the collection's data use agreement is signed."
        )
    escaped, digest, name = match.groups()
    return bytes.fromhex(digest.decode("ascii")), escaped + name


def fault_of(name: bytes) -> str | None:
    """Say why a path is not safe to write to; None where it is.

    Parameters
    ----------
    name : bytes
        Path as the list has it.

    Returns
    -------
    str or None

    Examples
    --------
    >>> fault_of(b"files/p10/a.dcm") is None
    True
    >>> fault_of(b"/etc/passwd")
    'the path is absolute'
    """
    if len(name) <= MAX_PATH_BYTES and name[:1] not in b"sS" and _PLAIN.fullmatch(name):
        return None
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return "the path is not UTF-8"
    parts = text.split("/")
    rules = (
        ("\\" in text, "the path holds a backslash"),
        (not text.isprintable(), "the path holds control characters"),
        (text.startswith("/") or re.match(r"[A-Za-z]:", text) is not None, "the path is absolute"),
        (".." in parts, "the path leaves its folder"),
        ("" in parts or "." in parts, "the path has an empty or idle part"),
        (any(part != part.strip(" ") for part in parts), "a name begins or ends with a space"),
        (len(name) > MAX_PATH_BYTES, f"the path is longer than {MAX_PATH_BYTES} bytes"),
        (any(len(part.encode()) > MAX_NAME_BYTES for part in parts), f"a name is longer than {MAX_NAME_BYTES} bytes"),
        (_is_own(parts), "the name is kept for what the mirror itself writes"),
    )
    return next((reason for broken, reason in rules if broken), None)


def _is_own(parts: Sequence[str]) -> bool:
    """Tell whether a name could be an unfinished file, the list, or what the mirror remembers."""
    if any(part.startswith(".") and part.lower().endswith(".part") for part in parts):
        return True
    return parts[0].casefold().startswith((LEDGER_NAME, LIST_NAME.casefold()))


def _key(path: str) -> str:
    """Give what file systems that ignore case, or compose characters, take a path for."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _add_folders(key: str, folders: set[str]) -> None:
    folder = key.rpartition("/")[0]
    # Nearly every file lies in a folder that was seen before, and then so were those above.
    while folder and folder not in folders:
        folders.add(folder)
        folder = folder.rpartition("/")[0]


def _clash(listed: ListedFile, other: ListedFile) -> str:
    if listed.path == other.path:
        return "the list has two checksums for it, and the first counts"
    return f"the name differs from {other.path} in case or composition alone"


def select(listing: Listing, only: Iterable[str]) -> Listing:
    """Choose files whose path matches one of some patterns; all, if there is no pattern.

    Parameters
    ----------
    listing : Listing
    only : iterable of str
        Patterns of the shell, in which ``*`` stands for slashes too.

    Returns
    -------
    Listing

    Raises
    ------
    InvalidParameterError
        A pattern matches nothing.

    Examples
    --------
    >>> listing = Listing([ListedFile("files/p10/a.dcm", b""), ListedFile("list.csv.gz", b"")], [])
    >>> [file.path for file in select(listing, ["files/p10/*"]).files]
    ['files/p10/a.dcm']
    """
    patterns = tuple(only)
    if not patterns:
        return listing
    paths = [one.path for one in listing.files] + [one.path for one in listing.refused]
    for pattern in patterns:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise InvalidParameterError(
                f"No file of the collection matches {pattern!r}. Paths are those of {LIST_NAME}, and * stands for "
                "slashes too: 'files/p10/*', '*.csv.gz'."
            )
    return Listing(
        [one for one in listing.files if any(fnmatchcase(one.path, pattern) for pattern in patterns)],
        [one for one in listing.refused if any(fnmatchcase(one.path, pattern) for pattern in patterns)],
    )


def shown(text: str) -> str:
    r"""Make a text fit to be printed: no control character, no more than 120 characters.

    Examples
    --------
    >>> shown("a\nb")
    'a\\nb'
    """
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return safe if len(safe) <= _SHOWN_CHARACTERS else f"{safe[: _SHOWN_CHARACTERS - 1]}…"


def sha256_of(path: Path, go_on: Callable[[], bool] = lambda: True) -> hashlib._Hash | None:
    """Hash a file; None if ``go_on`` says no in between.

    Examples
    --------
    >>> sha256_of(Path("/dev/null")).hexdigest()[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            if not go_on():
                return None
            digest.update(block)
    return digest
