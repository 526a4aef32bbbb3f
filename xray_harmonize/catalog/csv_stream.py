"""A CSV file, compressed or not, as chunks of rows, hashed while it is read."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from xray_harmonize.exceptions import LabelTableError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20
_MOST_COLUMNS = 1000
_LONGEST_NAME = 128
_SHOWN_COLUMNS = 12

OnBytes = Callable[[int], None]
Chunk = tuple[Sequence[int], list[list[str]]]
"""Numbers of the rows, the header being row 1, and their cells, as many as the header has."""


class CsvStream:
    r"""Read a CSV file once, from its beginning to its end.

    Parameters
    ----------
    path : path-like
        CSV in UTF-8 with a header, separated by commas; content and not the name tells whether gzip compressed it.
    on_bytes : callable, optional
        Called with the bytes of the file that were read so far.

    Attributes
    ----------
    header : list of str
        Names of the columns; one without is called ``column_1`` by its place.
    sha256 : str
        Of the file as it was read; whole after the last chunk.

    Raises
    ------
    LabelTableError
        The file is missing, truncated, damaged or no CSV in UTF-8; the header is empty or repeats a name (SQL does not
        tell ``a`` from ``A``); a row is longer or shorter than the header. Also raised while chunks are read.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "table.csv.gz")
    >>> _ = path.write_bytes(gzip.compress(b"exam,view\n7,CC\n\n8,MLO\n"))
    >>> with CsvStream(path) as stream:
    ...     stream.header, [(list(numbers), rows) for numbers, rows in stream.chunks()]
    (['exam', 'view'], [([2, 4], [['7', 'CC'], ['8', 'MLO']])])
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], on_bytes: OnBytes | None = None) -> None:
        self.name = os.fspath(path)
        with ExitStack() as opened, self._explained():
            file = opened.enter_context(Path(self.name).open("rb", buffering=0))
            compressed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            self._raw = _Hashed(file, on_bytes)
            content = io.BufferedReader(self._raw, _BLOCK)
            self._inflated = gzip.GzipFile(fileobj=content) if compressed else None
            text = io.TextIOWrapper(self._inflated or content, encoding="utf-8-sig", newline="")
            self._reader = csv.reader(text, strict=True)
            self.header = _checked_header(self.name, next(self._reader, []))
            self._opened = opened.pop_all()

    def __enter__(self) -> CsvStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._opened.close()

    @property
    def sha256(self) -> str:
        """Hash of what was read so far, in hexadecimal."""
        return self._raw.hash.hexdigest()

    @property
    def text_bytes(self) -> int:
        """Length of what was read so far, decompressed."""
        return self._raw.n_bytes if self._inflated is None else self._inflated.tell()

    def chunks(self, rows: int = 10_000) -> Iterator[Chunk]:
        """Give the rows below the header, blank ones left out, in lists of up to ``rows``."""
        first, width = 2, len(self.header)
        while True:
            with self._explained():
                chunk = list(islice(self._reader, rows))
            if not chunk:
                break
            numbers: Sequence[int] = range(first, first + len(chunk))
            first += len(chunk)
            if set(map(len, chunk)) != {width}:
                numbers, chunk = self._filled(numbers, chunk)
            if chunk:
                yield numbers, chunk
        with self._explained():
            while self._raw.read(_BLOCK):  # what gzip leaves: the hash is that of the file
                pass

    def _filled(self, numbers: Sequence[int], chunk: list[list[str]]) -> tuple[list[int], list[list[str]]]:
        """Leave blank rows out; another row of the wrong length is an error."""
        kept = [(number, row) for number, row in zip(numbers, chunk, strict=True) if row]
        for number, row in kept:
            if len(row) != len(self.header):
                raise LabelTableError(
                    f"{self.name}: row {number} has {len(row)} cell(s), expected {len(self.header)} as in the header; "
                    "put cells that hold a comma in double quotes, or fetch the file again if it breaks off there."
                )
        return [number for number, _ in kept], [row for _, row in kept]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except EOFError as error:
            raise LabelTableError(
                f"{self.name}: the file is truncated, its compressed data break off; fetch it again."
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise LabelTableError(f"{self.name}: the compressed data are damaged ({error}); fetch it again.") from error
        except OSError as error:
            raise LabelTableError(
                f"{self.name}: cannot be read ({error.strerror or error}); check path and permissions."
            ) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise LabelTableError(f"{self.name}: no CSV in UTF-8 ({error}); save the table as CSV UTF-8.") from error


def check_columns(name: str, header: Sequence[str], required: Sequence[str], advice: str = "") -> None:
    """Raise LabelTableError, naming them, if required columns are missing.

    Examples
    --------
    >>> check_columns("labs.csv", ["subject_id", "value"], ["subject_id"])
    """
    missing = [column for column in required if column not in header]
    if missing:
        others = f" and {len(header) - _SHOWN_COLUMNS} more" if len(header) > _SHOWN_COLUMNS else ""
        raise LabelTableError(
            f"{name}: no column {_quoted(missing)}, expected {_quoted(required)}; the table has "
            f"{_quoted(header[:_SHOWN_COLUMNS])}{others}.{' ' if advice else ''}{advice}"
        )


def file_sha256(path: str | os.PathLike[str], on_bytes: OnBytes | None = None) -> str:
    """Hash a file, 1 MiB at a time.

    Raises
    ------
    LabelTableError
        It cannot be read.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb", buffering=0) as file:
            raw = _Hashed(file, on_bytes)
            while raw.read(_BLOCK):
                pass
    except OSError as error:
        raise LabelTableError(
            f"{name}: cannot be read ({error.strerror or error}); check path and permissions."
        ) from error
    return raw.hash.hexdigest()


class _Hashed(io.RawIOBase):
    """Bytes of a file, hashed and counted as they pass."""

    def __init__(self, file: io.RawIOBase | io.FileIO, on_bytes: OnBytes | None) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self.n_bytes = 0
        self.hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        n_read = self._file.readinto(view) or 0
        self.hash.update(view[:n_read])
        self.n_bytes += n_read
        if self._on_bytes is not None:
            self._on_bytes(self.n_bytes)
        return n_read


def _checked_header(name: str, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if not any(header):
        raise LabelTableError(f"{name}: row 1 is empty, expected the names of the columns.")
    if len(header) > _MOST_COLUMNS:
        raise LabelTableError(
            f"{name}: {len(header)} columns, expected at most {_MOST_COLUMNS}; leave out what is not needed."
        )
    # pandas leaves the column of its row numbers without a name
    header = [column or f"column_{place}" for place, column in enumerate(header, start=1)]
    for place, column in enumerate(header, start=1):
        if not column.isprintable() or len(column) > _LONGEST_NAME:
            raise LabelTableError(
                f"{name}: column {place} is named {column[:40]!r}, expected 1 to {_LONGEST_NAME} printable characters; "
                "rename it."
            )
    lower = [column.lower() for column in header]
    twice = [column for column in header if lower.count(column.lower()) > 1]
    if twice:
        raise LabelTableError(
            f"{name}: several columns are named {_quoted(twice)}, expected each name once, whatever its case; rename "
            "the others."
        )
    return header


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
