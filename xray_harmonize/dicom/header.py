"""A DICOM file as a data set, and the attributes of it that say how its pixels are laid out.

Nothing in a header is believed before it is checked: the matrix is bounded before memory is asked for, deflated
data sets are inflated only as far as that bound allows, and whatever cannot be a greyscale projection image of at
most 16 bits is refused with the attribute that says so.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import Any, Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from xray_harmonize.exceptions import ImageReadError, InvalidImageError, XRayHarmonizeError, XRayHarmonizeWarning

MAX_PIXELS = 2**28
"""Largest matrix that is read unless the caller says otherwise: 16384 x 16384, some 20 times a mammogram."""

_PREAMBLE = 128
_META_START = _PREAMBLE + 4
# No LUT is as long (PS3.3 C.11.1: 65536 entries of 16 bits), private elements may be
_DEFERRED_BYTES = 2**20


class Attributes(Protocol):
    """Values by DICOM keyword: a pydicom data set, or a dictionary."""

    def __contains__(self, keyword: object, /) -> bool: ...

    def get(self, keyword: Any, default: Any = None, /) -> Any:
        """Give the value of an attribute, the default where it is absent."""
        ...


@dataclass(frozen=True, slots=True)
class PixelHeader:
    """The checked attributes of the Image Pixel module (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    transfer_syntax: UID

    @property
    def lowest(self) -> int:
        """Smallest value that ``bits_stored`` bits can hold."""
        return -(1 << (self.bits_stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """Largest value that ``bits_stored`` bits can hold."""
        return self.lowest + (1 << self.bits_stored) - 1

    def in_pixel_representation(self, value: int) -> int:
        """Read a 16-bit attribute in the signedness of the pixels.

        Attributes of VR "US or SS" (padding value, first mapped value of a LUT) take the signedness of the pixels,
        and writers often get that wrong: -2000 then arrives as 63536, or the other way round.
        """
        span = 1 << self.bits_allocated
        if self.signed and value >= span // 2:
            return value - span
        if not self.signed and value < 0:
            return value + span
        return value


def looks_like_dicom(head: bytes) -> bool:
    """Tell from the first bytes of a file whether it is DICOM, with or without the Part 10 header.

    A Part 10 file carries "DICM" after 128 bytes of preamble (PS3.10 7.1). Older files start with the data set
    itself: a first element of group 0002 or 0008, followed either by the two letters of its VR (explicit) or by a
    small 32-bit length (implicit).

    Examples
    --------
    >>> looks_like_dicom(bytes(128) + b"DICM")
    True
    >>> looks_like_dicom(bytes.fromhex("08000000 04000000 1e010000"))
    True
    >>> looks_like_dicom(b"a text file, not an image")
    False
    """
    if head[_PREAMBLE:_META_START] == b"DICM":
        return True
    if len(head) < 8:
        return False
    tags = {(int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order)) for order in ("little", "big")}
    if not any(group in (0x0002, 0x0008) and element < 0x0100 for group, element in tags):
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") < 1024


def max_file_bytes(max_pixels: int) -> int:
    """Bound the bytes of a file: two a pixel, as much again for what else it may carry, and room for the header."""
    return 4 * max_pixels + 2**26


def parse_dicom(path: str | os.PathLike[str], *, max_bytes: int, header_only: bool = False) -> Dataset:
    """Parse a DICOM file.

    Parameters
    ----------
    path : path-like
        The file.
    max_bytes : int
        Files (and inflated data sets) larger than this are refused before they are read.
    header_only : bool, default=False
        Stop before the pixel data.

    Returns
    -------
    pydicom.Dataset
        With ``file_meta.TransferSyntaxUID`` set, also where the file has no Part 10 header.

    Raises
    ------
    ImageReadError
        The file is missing, too large, no DICOM, or breaks off.
    """
    name = os.fspath(path)
    try:
        size = Path(path).stat().st_size
        if size > max_bytes:
            raise ImageReadError(
                f"{name}: the file is {size} bytes, expected at most {max_bytes}; raise max_pixels if it is sound."
            )
        with _WithinFile(FileIO(path)) as file:
            head = file.read(_META_START + 1024)
            if not looks_like_dicom(head):
                raise ImageReadError(
                    f"{name}: expected a DICOM file ('DICM' at byte 128, or a data set from the first byte), "
                    f"got bytes {head[:8]!r}; read it with read_image if it is another format."
                )
            with damage_named(name):
                return _parse(file, head, max_bytes, header_only, name)
    except ImageReadError:
        raise
    except OSError as error:
        raise ImageReadError(
            f"{name}: cannot be opened ({error.strerror or error}); check the path and its permissions."
        ) from error


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn whatever a damaged data set makes its parser raise into an error that names the file."""
    try:
        yield
    except (XRayHarmonizeError, XRayHarmonizeWarning):
        raise
    except Exception as error:
        raise ImageReadError(
            f"{name}: not a readable DICOM data set ({type(error).__name__}: {error}); "
            "the file is damaged or cut short, fetch it again."
        ) from error


class _WithinFile(BufferedReader):
    """A file that never makes room for more than it holds, whatever length a damaged element claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _DEFERRED_BYTES:
            size = min(size, max(os.fstat(self.fileno()).st_size - self.tell(), 0))
        return super().read(size)


def _parse(file: BufferedReader, head: bytes, max_bytes: int, header_only: bool, name: str) -> Dataset:
    dataset: Dataset
    deflated = DeflatedExplicitVRLittleEndian.encode() in head
    if header_only and not deflated:
        file.seek(0)
        dataset = dcmread(file, stop_before_pixels=True, force=True, defer_size=_DEFERRED_BYTES)
    else:
        content = head + file.read()
        dataset = _parse_deflated(content, max_bytes, name) if deflated else dcmread(BytesIO(content), force=True)
    _set_transfer_syntax(dataset)
    return dataset


def _parse_deflated(content: bytes, max_bytes: int, name: str) -> Dataset:
    """Inflate a data set (PS3.5 A.5), but never beyond ``max_bytes``."""
    if content[_META_START : _META_START + 6] != b"\x02\0\0\0UL":
        raise ImageReadError(
            f"{name}: a deflated data set without File Meta Information Group Length (0002,0000), "
            "expected it as the first element; write the file anew with a DICOM toolkit."
        )
    # (0002,0000) UL, length 4, value: where the file meta information ends
    meta_end = _META_START + 12 + int.from_bytes(content[_META_START + 8 : _META_START + 12], "little")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(content[meta_end:], max_bytes)
    if inflater.unconsumed_tail:
        raise ImageReadError(
            f"{name}: the deflated data set inflates to more than {max_bytes} bytes, expected at most that; "
            "raise max_pixels if it is sound."
        )
    if not inflater.eof:
        raise ImageReadError(f"{name}: the deflated data set breaks off; the file is cut short, fetch it again.")
    file_meta = dcmread(BytesIO(content[:meta_end])).file_meta
    dataset: Dataset = dcmread(BytesIO(inflated), force=True)
    dataset.file_meta = file_meta
    return dataset


def _set_transfer_syntax(dataset: Dataset) -> None:
    """Name the encoding of a file without a Part 10 header as the parser found it."""
    file_meta = dataset.file_meta
    dataset.transfer_syntax_told = bool(file_meta.get("TransferSyntaxUID"))
    if dataset.transfer_syntax_told:
        return
    implicit, little_endian = dataset.original_encoding
    if implicit:
        file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    else:
        file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def pixel_header(dataset: Dataset, name: str, *, max_pixels: int = MAX_PIXELS) -> PixelHeader:
    """Check that a data set describes one greyscale image that fits into memory.

    Parameters
    ----------
    dataset : pydicom.Dataset
        As :func:`parse_dicom` gives it.
    name : str
        What errors call the file.
    max_pixels : int, default=2**28
        Largest number of pixels.

    Raises
    ------
    InvalidImageError
        Not an image, several frames, colour, more than 16 bits, no pixels or more than ``max_pixels``, or
        attributes that contradict one another.
    """
    return checked_pixel_header(dataset, str(dataset.file_meta.TransferSyntaxUID), name, max_pixels=max_pixels)


def checked_pixel_header(
    attributes: Attributes, transfer_syntax: str, name: str, *, max_pixels: int = MAX_PIXELS
) -> PixelHeader:
    """Do the work of :func:`pixel_header` on anything that gives values by keyword, a plain dictionary for one."""
    if "Rows" not in attributes or "Columns" not in attributes:
        kind = UID(str(attributes.get("SOPClassUID", ""))).name or "unknown"
        raise InvalidImageError(
            f"{name}: no Rows (0028,0010) and Columns (0028,0011), expected an image; the object is "
            f"'{kind}' or the file is cut short. Leave it out."
        )
    rows, columns = _integer(attributes, "Rows", name), _integer(attributes, "Columns", name)
    if rows < 1 or columns < 1:
        raise InvalidImageError(f"{name}: Rows x Columns is {rows} x {columns}, expected at least 1 x 1. Leave it out.")
    if rows * columns > max_pixels:
        raise InvalidImageError(
            f"{name}: Rows x Columns is {rows} x {columns}, expected at most {max_pixels} pixels; "
            "raise max_pixels if the header is sound."
        )
    frames = _integer(attributes, "NumberOfFrames", name, default=1)
    if frames > 1:
        raise InvalidImageError(
            f"{name}: NumberOfFrames (0028,0008) is {frames}, expected a single frame; split the frames into files."
        )
    photometric = str(attributes.get("PhotometricInterpretation", "") or "").strip().upper()
    samples = _integer(attributes, "SamplesPerPixel", name, default=1)
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InvalidImageError(
            f"{name}: PhotometricInterpretation (0028,0004) is '{photometric}' with {samples} sample(s) a pixel, "
            "expected greyscale (MONOCHROME1 or MONOCHROME2 with 1). Leave colour and screen captures out."
        )
    bits_allocated = _integer(attributes, "BitsAllocated", name)
    bits_stored = _integer(attributes, "BitsStored", name, default=bits_allocated)
    high_bit = _integer(attributes, "HighBit", name, default=bits_stored - 1)
    if bits_allocated not in (8, 16) or not bits_stored - 1 <= high_bit < bits_allocated or bits_stored < 1:
        raise InvalidImageError(
            f"{name}: BitsAllocated, BitsStored, HighBit are {bits_allocated}, {bits_stored}, {high_bit}, expected "
            "8 or 16 bits allocated that hold the stored ones. Convert the file to 16 bits."
        )
    return PixelHeader(
        rows=rows,
        columns=columns,
        bits_allocated=bits_allocated,
        bits_stored=bits_stored,
        high_bit=high_bit,
        signed=bool(_integer(attributes, "PixelRepresentation", name, default=0)),
        photometric=photometric,
        transfer_syntax=UID(transfer_syntax.strip()),
    )


def _integer(attributes: Attributes, keyword: str, name: str, default: int | None = None) -> int:
    """Read one integer attribute; empty counts as absent."""
    value: Any = None
    try:
        value = attributes.get(keyword)
        if value is None or value == "":
            value = default
        return int(value)
    except Exception as error:  # a damaged element raises whatever its parser does
        raise InvalidImageError(
            f"{name}: {keyword} is {value!r}, expected an integer; the header is damaged or cut short."
        ) from error
