"""The few attributes that are wanted of a header, without parsing the rest of it.

Most of the time that a general parser spends on a header goes into elements nobody asked for. Here the start of the
file is read in one go and its elements are walked over by their lengths, in the order of their tags that the standard
demands (PS3.5 7.1); bytes are kept of the wanted ones alone, and the walk ends at the overlays or the pixels. It is
made for the plain case: a Part 10 file in implicit or explicit little endian. Whatever is unusual (another encoding,
tags out of order, a value representation that does not belong to the tag, a length that leads nowhere) ends it without
a result, and the general parser, which knows how to read or to refuse such a file, has its turn. Both give the same
:class:`HeaderValues`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from xray_harmonize.dicom.stored import DECODER_PACKAGES

TEXT, UNSIGNED, DOUBLE, SEQUENCE = "text", "unsigned", "double", "sequence"

_FIRST_READ = 2**15
# A VOI LUT of 16 bits or a vendor's own block stands in front of the last wanted attributes now and then
_SECOND_READ = 2**20
_PREAMBLE: Final = 128
_UNDEFINED: Final = 0xFFFFFFFF
_CHARACTER_SET: Final = 0x00080005
_TRANSFER_SYNTAX: Final = 0x00020010
# Overlays (PS3.3 C.9.2) and pixel data: large, and behind all that is wanted. Other tags behind the last wanted one are
# walked over too, as a damaged tag must not pass for the end.
_END_GROUPS = frozenset([*range(0x6000, 0x6020, 2), 0x7FE0])
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONGEST_VALUE: Final = 1024

# PS3.5 7.1.2: bytes in front of the value, by value representation
_HEADER_BYTES = {
    **dict.fromkeys(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split(), 8),
    **dict.fromkeys(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split(), 12),
}
_TEXT_VRS = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UI".split())
_VRS_OF_KIND = {
    TEXT: _TEXT_VRS,
    UNSIGNED: frozenset([b"US"]),
    DOUBLE: frozenset([b"FD"]),
    SEQUENCE: frozenset[bytes](),
}
_WALKED = {
    str(syntax).encode(): (syntax, syntax != ImplicitVRLittleEndian)
    for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, *DECODER_PACKAGES)
}

_explicit_element = struct.Struct("<HH2sH").unpack_from
_implicit_element = struct.Struct("<HHI").unpack_from
_length = struct.Struct("<I").unpack_from

Value = str | int | float
"""Texts as they are stored, several values parted by a backslash; binary numbers as numbers."""


@dataclass(frozen=True, slots=True)
class HeaderValues:
    """Attributes of a header that have a value, by keyword, and the encoding of the file."""

    attributes: dict[str, Value]
    transfer_syntax: UID


class WantedTags:
    """The attributes to look for.

    Parameters
    ----------
    *keywords : str
        DICOM keywords of single-valued US and FD attributes, of texts (numbers among them, DS and IS), and of
        sequences, which are not read: a file that has one is left to the general parser.

    Examples
    --------
    >>> WantedTags("KVP", "Rows").kinds[0x00180060]
    'text'
    """

    def __init__(self, *keywords: str) -> None:
        self.keywords: dict[int, str] = {int(tag_for_keyword(keyword) or 0): keyword for keyword in keywords}
        self.kinds: dict[int, str] = {tag: _kind(dictionary_VR(tag)) for tag in self.keywords}
        self.kinds[_CHARACTER_SET] = TEXT
        self.keywords[_CHARACTER_SET] = "SpecificCharacterSet"
        self.vrs = {tag: _VRS_OF_KIND[kind] for tag, kind in self.kinds.items()}
        self.last = max(self.kinds)


def _kind(vr: str) -> str:
    return {"US": UNSIGNED, "FD": DOUBLE, "SQ": SEQUENCE}.get(vr, TEXT)


def scan_file(path: str | os.PathLike[str], wanted: WantedTags, *, max_bytes: int) -> HeaderValues | None:
    """Walk over the header of a file.

    Parameters
    ----------
    path : path-like
        The file.
    wanted : WantedTags
        What to look for.
    max_bytes : int
        Larger files are left alone.

    Returns
    -------
    HeaderValues or None
        None where the file needs the general parser: it is unusual, damaged, or no DICOM at all.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    """
    with Path(path).open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > max_bytes:
            return None
        content = file.read(_FIRST_READ)
        try:
            return scan_bytes(content, wanted)
        except struct.error:
            if len(content) < _FIRST_READ:
                return None
        content += file.read(_SECOND_READ)
    try:
        return scan_bytes(content, wanted)
    except struct.error:
        return None


def scan_bytes(content: bytes, wanted: WantedTags) -> HeaderValues | None:
    """Walk over the first bytes of a file, see :func:`scan_file`.

    Raises
    ------
    struct.error
        The walk leads beyond ``content``.
    """
    if content[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        return None
    syntax, position = _file_meta(content)
    if syntax not in _WALKED:
        return None
    transfer_syntax, explicit = _WALKED[syntax]
    # Writers that say one encoding and use the other are the parser's business
    if (content[position + 4 : position + 6] in _HEADER_BYTES) != explicit:
        return None
    found = (_explicit_elements if explicit else _implicit_elements)(content, position, wanted)
    if found is None:
        return None
    attributes = _decoded(found, wanted, found.get(_CHARACTER_SET, b""), little_endian=True)
    return None if attributes is None else HeaderValues(attributes, transfer_syntax)


def _file_meta(content: bytes) -> tuple[bytes, int]:
    """Transfer syntax (empty where there is none) and the first byte of the data set (PS3.10 7.1)."""
    position, syntax = _PREAMBLE + 4, b""
    while True:
        group, element, vr, length = _explicit_element(content, position)
        if group != 2:
            return syntax, position
        if vr not in _HEADER_BYTES:
            return b"", position
        start = position + _HEADER_BYTES[vr]
        if start == position + 12:
            (length,) = _length(content, position + 8)
        if element == _TRANSFER_SYNTAX & 0xFFFF:
            syntax = content[start : start + length].rstrip(b" \0")
        position = start + length


def _explicit_elements(content: bytes, position: int, wanted: WantedTags) -> dict[int, bytes] | None:
    """Values of the wanted tags; None where an element is not as expected."""
    found: dict[int, bytes] = {}
    header_bytes, vrs_of, last = _HEADER_BYTES.get, wanted.vrs.get, wanted.last
    size, previous = len(content), 0
    while True:
        group, element, vr, length = _explicit_element(content, position)
        tag = group << 16 | element
        if tag > last and group in _END_GROUPS:
            return found
        n_bytes = header_bytes(vr)
        if tag <= previous or n_bytes is None:
            return None
        previous = tag
        start = position + n_bytes
        if n_bytes == 12:
            (length,) = _length(content, position + 8)
            if length == _UNDEFINED:
                if vr != b"SQ" or tag in wanted.vrs:
                    return None
                position = _behind_sequence(content, start, explicit=True)
                if position < 0:
                    return None
                continue
        position = start + length
        vrs = vrs_of(tag)
        if vrs is not None:
            if vr not in vrs:
                return None
            if position > size:
                raise struct.error
            found[tag] = content[start:position]


def _implicit_elements(content: bytes, position: int, wanted: WantedTags) -> dict[int, bytes] | None:
    """Values of the wanted tags; None where an element is not as expected."""
    found: dict[int, bytes] = {}
    kind_of, last = wanted.kinds.get, wanted.last
    size, previous = len(content), 0
    while True:
        group, element, length = _implicit_element(content, position)
        tag = group << 16 | element
        if tag > last and group in _END_GROUPS:
            return found
        if tag <= previous:
            return None
        previous = tag
        start = position + 8
        kind = kind_of(tag)
        if kind == SEQUENCE:
            return None
        if length == _UNDEFINED:
            if kind is not None:
                return None
            position = _behind_sequence(content, start, explicit=False)
            if position < 0:
                return None
            continue
        position = start + length
        if kind is not None:
            if position > size:
                raise struct.error
            found[tag] = content[start:position]


def _behind_sequence(content: bytes, position: int, *, explicit: bool) -> int:
    """First byte behind a sequence of undefined length that begins here (PS3.5 7.5), -1 if it is not well formed.

    Items and sequences of undefined length hold one another; those of known length are stepped over.
    """
    depth = 1  # odd inside of a sequence, even inside of an item
    while depth:
        group, element, length = _implicit_element(content, position)
        tag = group << 16 | element
        position += 8
        in_item = depth % 2 == 0
        if tag == _ITEM and not in_item:
            if length == _UNDEFINED:
                depth += 1
            else:
                position += length
        elif tag in (_ITEM_END, _SEQUENCE_END):
            if in_item != (tag == _ITEM_END) or length:
                return -1
            depth -= 1
        elif group == _ITEM >> 16 or not in_item:
            return -1
        else:
            is_sequence = True
            if explicit:
                vr = content[position - 4 : position - 2]
                n_bytes = _HEADER_BYTES.get(vr)
                if n_bytes is None:
                    return -1
                is_sequence = vr == b"SQ"
                if n_bytes == 8:
                    length = length >> 16
                else:
                    (length,) = _length(content, position)
                    position += 4
            if length != _UNDEFINED:
                position += length
            elif is_sequence:
                depth += 1
            else:
                return -1
    return position


def dataset_values(dataset: Dataset, wanted: WantedTags) -> HeaderValues:
    """Take the same values from a data set that is parsed already.

    Parameters
    ----------
    dataset : pydicom.Dataset
        As :func:`~xray_harmonize.dicom.header.parse_dicom` gives it, before its elements are looked at: values are
        taken as stored, so that a number that is none does no harm.
    wanted : WantedTags
        What to look for.

    Returns
    -------
    HeaderValues
        Without the attributes that cannot be decoded.
    """
    found: dict[int, bytes] = {}
    others: dict[str, Value] = {}
    little_endian = True
    for tag, kind in wanted.kinds.items():
        element = dataset.get_item(tag, keep_deferred=True)
        if element is None or kind == SEQUENCE:
            continue
        if isinstance(element, RawDataElement) and element.value is None:
            continue  # too large to have been read
        # UN is what passes through software that does not know the tag: the bytes are those of the tag's own VR
        if isinstance(element, RawDataElement) and (
            element.VR in (None, "UN") or element.VR.encode() in _VRS_OF_KIND[kind]
        ):
            found[tag] = element.value
            little_endian = element.is_little_endian
        else:
            value = _converted(dataset, tag)
            if value is not None:
                others[wanted.keywords[tag]] = value
    character_set = found.get(_CHARACTER_SET) or str(others.get("SpecificCharacterSet", "")).encode()
    attributes: dict[str, Value] = {}
    for tag, stored in found.items():
        # One by one: a value that cannot be decoded leaves the others alone
        attributes |= _decoded({tag: stored}, wanted, character_set, little_endian=little_endian) or {}
    return HeaderValues(attributes | others, UID(str(dataset.file_meta.TransferSyntaxUID).strip()))


def _converted(dataset: Dataset, tag: int) -> Value | None:
    """Value of an element whose VR is not that of its tag, as the parser understands it."""
    try:
        value: Any = dataset[tag].value
        if isinstance(value, (int, float)):
            return value
        text = value if isinstance(value, str) else "\\".join(str(one) for one in value or [])
        return text[:_LONGEST_VALUE] or None
    except Exception:  # a damaged element raises whatever its parser does
        return None


def _decoded(
    found: Mapping[int, bytes], wanted: WantedTags, character_set: bytes, *, little_endian: bool
) -> dict[str, Value] | None:
    """Values by keyword, without the empty ones; None where a binary number has another length than one number."""
    attributes: dict[str, Value] = {}
    kinds, keywords = wanted.kinds, wanted.keywords
    order = "<" if little_endian else ">"
    for tag, value in found.items():
        if not value:
            continue
        kind = kinds[tag]
        if kind is TEXT:
            if value.isascii() and b"\x1b" not in value:
                text = value[:_LONGEST_VALUE].decode("ascii").strip(" \0")
            else:
                text = decoded_text(value[:_LONGEST_VALUE], character_set).strip(" \0")
            if text:
                attributes[keywords[tag]] = text
        elif len(value) != (2 if kind is UNSIGNED else 8):
            return None
        elif kind is UNSIGNED:
            attributes[keywords[tag]] = int.from_bytes(value, "little" if little_endian else "big")
        else:
            attributes[keywords[tag]] = struct.unpack(f"{order}d", value)[0]
    return attributes


@lru_cache(maxsize=4096)
def decoded_text(value: bytes, character_set: bytes) -> str:
    r"""Decode a text by Specific Character Set (0008,0005), as Latin-1 where that does not work.

    Examples
    --------
    >>> decoded_text("Röntgen".encode("utf-8"), b"ISO_IR 192"), decoded_text(b"R\xf6ntgen", b"")
    ('Röntgen', 'Röntgen')
    """
    names = [name.strip() for name in character_set.decode("ascii", "replace").strip(" \0").split("\\")]
    if any(names):
        try:
            return str(decode_bytes(value, convert_encodings(names), {"\\", "\r", "\n", "\t", "\f"}))
        except Exception:  # a set of that name, or text that it cannot hold: whatever the decoder raises
            pass
    return value.decode("latin-1")
