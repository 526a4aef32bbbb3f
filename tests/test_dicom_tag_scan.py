"""The scan of wanted tags: the same values as the general parser, and no values where a file is not plain."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import NATIVE, image_dataset, make_compressed, make_dicom, modality_lut, stored_sample, write_dicom
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from xray_harmonize.dicom.acquisition import WANTED
from xray_harmonize.dicom.header import parse_dicom
from xray_harmonize.dicom.tag_scan import HeaderValues, WantedTags, dataset_values, decoded_text, scan_bytes, scan_file

STORED = np.zeros((4, 5), np.uint16)
PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
LARGE = 2**30


def by_parser(path: Path, wanted: WantedTags = WANTED) -> HeaderValues:
    return dataset_values(parse_dicom(path, max_bytes=LARGE, header_only=True), wanted)


def scanned(path: Path, wanted: WantedTags = WANTED) -> HeaderValues | None:
    return scan_file(path, wanted, max_bytes=LARGE)


def code_sequence(*, undefined: bool, depth: int) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "R-10202", "frontal"
    if depth:
        item.ModifierCodeSequence = code_sequence(undefined=undefined, depth=depth - 1)
        item["ModifierCodeSequence"].is_undefined_length = undefined
    item.is_undefined_length_sequence_item = undefined
    return Sequence([item, Dataset(item)])


def add_clutter(dataset: Dataset, *, undefined: bool) -> None:
    """Add what stands between wanted elements in files of devices."""
    dataset.ViewCodeSequence = code_sequence(undefined=undefined, depth=2)
    dataset["ViewCodeSequence"].is_undefined_length = undefined
    dataset.AnatomicRegionSequence = Sequence([])
    for group in (0x0009, 0x0019, 0x0053):
        block = dataset.private_block(group, "DEVICE", create=True)
        block.add_new(1, "LO", "a private text")
        block.add_new(2, "OB", bytes(50))
        block.add_new(3, "UN", b"1234")
        block.add_new(4, "SQ", code_sequence(undefined=undefined, depth=1))
        block.add_new(5, "FD", 1.5)


digits = st.from_regex(r"[+-]?[0-9]{1,4}(\.[0-9]{1,4})?", fullmatch=True)
words = st.text(st.characters(codec="latin-1", categories=["Lu", "Ll", "Nd", "Zs", "Po"]), max_size=40)
values = st.fixed_dictionaries(
    {},
    optional={
        "Manufacturer": words,
        "ManufacturerModelName": words,
        "SoftwareVersions": st.lists(words, max_size=3),
        "ImageType": st.just(["DERIVED", "PRIMARY", ""]),
        "ViewPosition": st.sampled_from(["PA", "AP", ""]),
        "KVP": digits,
        "Exposure": st.integers(0, 9999).map(str),
        "ExposureInmAs": st.floats(allow_nan=False),
        "PixelSpacing": st.lists(digits, min_size=2, max_size=2),
        "PatientAge": st.sampled_from(["", "051Y", "018M"]),
        "PresentationLUTShape": st.sampled_from(["IDENTITY", "INVERSE"]),
    },
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scan")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@given(attributes=values, syntax=st.sampled_from(PLAIN), undefined=st.booleans(), utf_8=st.booleans())
def test_scan_and_parser_give_the_same(
    folder: Path, attributes: dict[str, Any], syntax: str, undefined: bool, utf_8: bool
) -> None:
    dataset = image_dataset(STORED, SpecificCharacterSet="ISO_IR 192" if utf_8 else "ISO_IR 100", **attributes)
    add_clutter(dataset, undefined=undefined)
    path = write_dicom(folder / "a.dcm", dataset, syntax=syntax)
    found = scanned(path)
    assert found is not None
    assert found == by_parser(path)
    assert found.transfer_syntax == syntax
    assert (found.attributes["Rows"], found.attributes["BitsStored"]) == (4, 16)
    told = str(attributes.get("KVP", "")).strip()
    assert found.attributes.get("KVP", "") == told
    if attributes.get("ExposureInmAs") is not None:
        assert found.attributes["ExposureInmAs"] == attributes["ExposureInmAs"]


@pytest.mark.parametrize("syntax", PLAIN)
def test_empty_values_are_left_out(tmp_path: Path, syntax: str) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, syntax=syntax, KVP="", ViewPosition="", Manufacturer="  ")
    found = scanned(path)
    assert found == by_parser(path)
    assert found is not None
    assert not {"KVP", "ViewPosition", "Manufacturer"} & set(found.attributes)


def test_compressed_file_is_scanned(tmp_path: Path) -> None:
    path = make_compressed(tmp_path / "a.dcm", stored_sample(8, signed=False, shape=(8, 8)), RLELossless, KVP="70")
    found = scanned(path)
    assert found == by_parser(path)
    assert found is not None
    assert (found.attributes["KVP"], found.transfer_syntax) == ("70", RLELossless)


@pytest.mark.parametrize("syntax", PLAIN)
def test_large_element_in_front_of_the_last_wanted_one_is_stepped_over(tmp_path: Path, syntax: str) -> None:
    dataset = image_dataset(STORED, PresentationLUTShape="IDENTITY")
    dataset.private_block(0x0029, "DEVICE", create=True).add_new(1, "OB", bytes(200_000))
    path = write_dicom(tmp_path / "a.dcm", dataset, syntax=syntax)
    found = scanned(path)
    assert found is not None
    assert found.attributes["PresentationLUTShape"] == "IDENTITY"


@pytest.mark.parametrize("syntax", PLAIN)
def test_overlay_ends_the_scan(tmp_path: Path, syntax: str) -> None:
    dataset = image_dataset(STORED, PresentationLUTShape="IDENTITY")
    dataset.add_new(0x60003000, "OW", bytes(2**21))
    found = scanned(write_dicom(tmp_path / "a.dcm", dataset, syntax=syntax))
    assert found is not None
    assert found.attributes["PresentationLUTShape"] == "IDENTITY"


@pytest.mark.parametrize("syntax", PLAIN)
def test_header_longer_than_is_read_is_left_to_the_parser(tmp_path: Path, syntax: str) -> None:
    dataset = image_dataset(STORED, PresentationLUTShape="IDENTITY")
    dataset.private_block(0x0029, "DEVICE", create=True).add_new(1, "OB", bytes(2**21))
    path = write_dicom(tmp_path / "a.dcm", dataset, syntax=syntax)
    assert scanned(path) is None
    assert by_parser(path).attributes["PresentationLUTShape"] == "IDENTITY"


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_encodings_are_left_to_the_parser_which_gives_the_same(tmp_path: Path, syntax: str) -> None:
    attributes: dict[str, Any] = {"KVP": "85", "ExposureInmAs": 2.5, "Manufacturer": "Röntgen"}
    attributes["SpecificCharacterSet"] = "ISO_IR 100"
    other = make_dicom(tmp_path / "other.dcm", STORED, syntax=syntax, **attributes)
    plain = make_dicom(tmp_path / "plain.dcm", STORED, **attributes)
    assert scanned(other) is None
    assert by_parser(other).attributes == by_parser(plain).attributes


def test_file_without_preamble_is_left_to_the_parser(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, syntax=ImplicitVRLittleEndian, preamble=False, KVP="85")
    assert scanned(path) is None
    assert by_parser(path).attributes["KVP"] == "85"


def test_modality_lut_is_left_to_the_parser(tmp_path: Path) -> None:
    lut = modality_lut(np.arange(16), 0)
    for syntax in PLAIN:
        assert scanned(make_dicom(tmp_path / "a.dcm", STORED, syntax=syntax, ModalityLUTSequence=lut)) is None


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "expected"),
    [
        ("Rows", "IS", "4", 4),
        ("Rows", "UL", 4, 4),
        ("KVP", "FD", 81.5, 81.5),
        ("ExposureInmAs", "DS", "2.5", 2.5),
        ("PixelSpacing", "FL", [0.5, 0.25], "0.5\\0.25"),
        ("SamplesPerPixel", "US", [1, 2], "1\\2"),
    ],
)
def test_unusual_representation_is_left_to_the_parser(
    tmp_path: Path, keyword: str, vr: str, value: Any, expected: Any
) -> None:
    dataset = image_dataset(STORED)
    if keyword in dataset:
        del dataset[keyword]
    dataset.add_new(keyword, vr, value)
    path = write_dicom(tmp_path / "a.dcm", dataset)
    assert scanned(path) is None
    assert by_parser(path).attributes.get(keyword, expected) == expected


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def file_of(*elements: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    return bytes(128) + b"DICM" + element(0x00020010, b"UI", syntax) + b"".join(elements)


ROWS = element(0x00280010, b"US", b"\4\0")
END = b"\xe0\x7f\x10\0OW\0\0\0\0\0\0"
UNDEFINED = b"\xff\xff\xff\xff"
SEQUENCE = b"\x18\0\x12\0SQ\0\0" + UNDEFINED
ITEM, ITEM_END, SEQUENCE_END = (struct.pack("<HH", 0xFFFE, n) for n in (0xE000, 0xE00D, 0xE0DD))
NONE = bytes(4)


def test_wanted_values_of_a_file_made_by_hand() -> None:
    content = file_of(element(0x00080060, b"CS", b"DX"), ROWS, END)
    found = scan_bytes(content, WANTED)
    assert found is not None
    assert found.attributes == {"Modality": "DX", "Rows": 4}


@pytest.mark.parametrize(
    "content",
    [
        b"a text, no DICOM" * 20,
        file_of(ROWS, element(0x00280002, b"US", b"\1\0"), END),  # out of order
        file_of(ROWS, ROWS, END),  # twice
        file_of(element(0x00180060, b"??", b"80"), ROWS, END),
        file_of(element(0x00280010, b"US", b"\4\0\5\0"), END),  # two values
        file_of(ROWS, ITEM_END + NONE, END),
        file_of(ROWS, END, syntax=b"1.2.840.10008.1.2\0"),  # says implicit, is explicit
        file_of(ROWS, END, syntax=b"1.2.840.10008.1.2.2\0"),
        file_of(ROWS, END, syntax=b"1.2.3.4 "),
        bytes(128) + b"DICM" + ROWS + END,  # no transfer syntax
        bytes(128) + b"DICM" + element(0x00020010, b"ui", b"1.2.840.10008.1.2.1\0") + ROWS + END,
        file_of(b"\x18\0\x12\0UN\0\0" + UNDEFINED + SEQUENCE_END + NONE, ROWS, END),
        file_of(b"\x18\0\x60\0SQ\0\0" + UNDEFINED + SEQUENCE_END + NONE, ROWS, END),  # KVP
        file_of(SEQUENCE + ITEM_END + NONE, ROWS, END),
        file_of(SEQUENCE + ROWS + SEQUENCE_END + NONE, ROWS, END),  # element outside of an item
        file_of(SEQUENCE + ITEM + UNDEFINED + SEQUENCE_END + NONE, ROWS, END),
        file_of(SEQUENCE + ITEM + UNDEFINED + ITEM + NONE + ITEM_END + NONE, ROWS, END),
        file_of(SEQUENCE + ITEM + UNDEFINED + element(0x00080100, b"??", b""), ROWS, END),
        file_of(SEQUENCE + ITEM + UNDEFINED + b"\x18\0\x12\0OB\0\0" + UNDEFINED, ROWS, END),
    ],
)
def test_file_that_is_not_plain_has_no_scan(content: bytes) -> None:
    assert scan_bytes(content, WANTED) is None


def test_unknown_representation_is_that_of_the_tag(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    unknown = [b"\x18\0\x60\0UN\0\0\4\0\0\x0081.5", b"\x28\0\x10\0UN\0\0\2\0\0\0\4\0"]
    path.write_bytes(file_of(*unknown, END))
    assert scanned(path) is None
    assert by_parser(path).attributes == {"KVP": "81.5", "Rows": 4}


def test_sequences_of_either_length_in_one_another() -> None:
    inner = SEQUENCE + ITEM + NONE + SEQUENCE_END + NONE
    long_text = b"\x20\0\x10\0UT\0\0\4\0\0\0text"
    items = ITEM + UNDEFINED + inner + long_text + ROWS + ITEM_END + NONE + ITEM + b"\x0a\0\0\0" + ROWS
    found = scan_bytes(file_of(SEQUENCE + items + SEQUENCE_END + NONE, ROWS, END), WANTED)
    assert found is not None
    assert found.attributes == {"Rows": 4}


@pytest.mark.parametrize("syntax", PLAIN)
def test_header_that_is_cut_short_has_no_scan(tmp_path: Path, syntax: str) -> None:
    dataset = image_dataset(STORED, KVP="85")
    add_clutter(dataset, undefined=True)
    content = write_dicom(tmp_path / "whole.dcm", dataset, syntax=syntax).read_bytes()
    path = tmp_path / "cut.dcm"
    for length in range(0, len(content) - 52, 7):
        path.write_bytes(content[:length])
        assert scanned(path) is None


def test_file_larger_than_allowed_has_no_scan(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED)
    assert scan_file(path, WANTED, max_bytes=path.stat().st_size) is not None
    assert scan_file(path, WANTED, max_bytes=path.stat().st_size - 1) is None


@pytest.fixture(scope="module")
def whole_files(folder: Path) -> list[bytes]:
    contents = []
    for syntax in NATIVE:
        dataset = image_dataset(STORED, KVP="85", ExposureInmAs=2.5, PresentationLUTShape="IDENTITY")
        add_clutter(dataset, undefined=syntax == ExplicitVRLittleEndian)
        contents.append(write_dicom(folder / "whole.dcm", dataset, syntax=syntax).read_bytes())
    return contents


@given(which=st.integers(0, 3), place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_damaged_byte_never_breaks_the_scan(
    folder: Path, whole_files: list[bytes], which: int, place: float, value: int
) -> None:
    content = bytearray(whole_files[which])
    content[int(place * len(content))] = value
    path = folder / "flipped.dcm"
    path.write_bytes(content)
    found = scanned(path)
    assert found is None or set(found.attributes) <= set(WANTED.keywords.values())


@pytest.mark.parametrize(
    ("character_set", "stored", "text"),
    [
        (b"", b"R\xf6ntgen", "Röntgen"),
        (b"ISO_IR 100", b"R\xf6ntgen", "Röntgen"),
        (b"ISO_IR 192 ", "Röntgen 放射線".encode(), "Röntgen 放射線"),
        (b"GB18030", "放射".encode("gb18030"), "放射"),
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
    ],
)
def test_texts_are_decoded_by_their_character_set(character_set: bytes, stored: bytes, text: str) -> None:
    assert decoded_text(stored, character_set) == text


@pytest.mark.filterwarnings("error")
def test_text_that_its_character_set_cannot_hold_is_read_as_latin_1() -> None:
    assert decoded_text(b"R\xf6ntgen", b"ISO_IR 192") == "Röntgen"
    assert decoded_text(b"R\xf6ntgen", b"NO SUCH SET") == "Röntgen"


def test_huge_text_counts_as_absent(tmp_path: Path) -> None:
    dataset = image_dataset(STORED)
    dataset.add_new("ProtocolName", "UT", "x" * 2**21)
    path = write_dicom(tmp_path / "a.dcm", dataset)
    assert scanned(path) is None
    assert "ProtocolName" not in by_parser(path).attributes
