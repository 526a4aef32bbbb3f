"""Headers that are no radiograph, files that are cut short or damaged, sizes that are bounded."""

from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import (
    NATIVE,
    deflate_bomb,
    image_dataset,
    make_compressed,
    make_dicom,
    make_encapsulated,
    modality_lut,
    stored_sample,
    write_dicom,
)
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from xray_harmonize.dicom.header import parse_dicom
from xray_harmonize.dicom.read import read_dicom, read_dicom_size
from xray_harmonize.exceptions import ImageReadError, InvalidImageError, XRayHarmonizeError

TABLE = np.array([0, 1, 4, 9, 16, 25, 36, 49, 300, 1023])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"NumberOfFrames": 3}, r"NumberOfFrames \(0028,0008\) is 3, expected a single frame; split"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "'RGB' with 3 sample.*expected greyscale"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "'PALETTE COLOR' with 1 sample"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation .* is ''"),
        ({"Rows": None}, "no Rows .* expected an image; the object is 'Computed Radiography Image Storage'"),
        ({"Rows": 0}, "Rows x Columns is 0 x 5, expected at least 1 x 1"),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "are 32, 32, 31, expected 8 or 16 bits"),
        ({"BitsStored": 17}, "BitsAllocated, BitsStored, HighBit are 16, 17"),
        ({"HighBit": 2}, "BitsAllocated, BitsStored, HighBit are 16, 16, 2"),
        ({"RescaleSlope": "0"}, r"RescaleSlope \(0028,1053\) is 0, expected another number"),
    ],
)
def test_headers_that_are_no_radiograph_are_refused(tmp_path: Path, attributes: dict[str, Any], message: str) -> None:
    path = make_dicom(tmp_path / "bad.dcm", np.zeros((4, 5), np.uint16), **attributes)
    with pytest.raises(InvalidImageError, match=rf"bad\.dcm: .*{message}"):
        read_dicom(path)


def test_rescale_slope_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "bad.dcm", np.zeros((4, 5), np.uint16), RescaleSlope="1.5", syntax=ImplicitVRLittleEndian
    )
    path.write_bytes(path.read_bytes().replace(b"1.5 ", b"one "))
    with pytest.raises(InvalidImageError, match=r"RescaleSlope is .*one.*, expected a finite number"):
        read_dicom(path)


def test_size_is_bounded_before_pixels_are_decoded(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "huge.dcm", np.zeros((4, 5), np.uint16), Rows=65535, Columns=65535)
    for read in (read_dicom, read_dicom_size):
        with pytest.raises(
            InvalidImageError, match="65535 x 65535, expected at most 268435456 pixels; raise max_pixels"
        ):
            read(path)
    small = make_dicom(tmp_path / "small.dcm", np.zeros((4, 5), np.uint16))
    with pytest.raises(InvalidImageError, match="4 x 5, expected at most 19 pixels"):
        read_dicom(small, max_pixels=19)
    assert read_dicom(small, max_pixels=20).pixels.shape == (4, 5)


def test_codestream_larger_than_the_header_says_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    stored = stored_sample(8, signed=False, shape=(40, 40))
    path = make_compressed(tmp_path / "a.dcm", stored, JPEG2000Lossless)
    content = path.read_bytes()
    place = content.index(bytes.fromhex("ff4fff51")) + 8
    path.write_bytes(content[:place] + (60000).to_bytes(4, "big") * 2 + content[place + 8 :])
    with pytest.raises(ImageReadError, match="the compressed image is 60000 x 60000 of 8 bits, expected 40 x 40"):
        read_dicom(path)
    jpeg = bytes.fromhex("ffd8 ffc3 000b 10 0028 0028 01 011100")
    path = make_encapsulated(tmp_path / "b.dcm", stored, jpeg, JPEGLosslessSV1)
    with pytest.raises(ImageReadError, match="40 x 40 of 16 bits, expected 40 x 40 of at most 8 bits"):
        read_dicom(path)


def test_deflated_data_set_is_not_inflated_beyond_the_bound(tmp_path: Path) -> None:
    path = deflate_bomb(tmp_path / "bomb.dcm", 2**27)
    assert path.stat().st_size < 2**20
    with pytest.raises(ImageReadError, match=r"inflates to more than .* bytes"):
        read_dicom(path, max_pixels=100)


def test_file_larger_than_any_image_is_refused_unread(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint16))
    with path.open("r+b") as file:
        file.truncate(2**26 + 10_000)  # sparse
    with pytest.raises(ImageReadError, match=r"the file is .* bytes, expected at most"):
        read_dicom(path, max_pixels=100)


def test_compressed_pixels_with_a_shifted_high_bit_are_refused(tmp_path: Path) -> None:
    path = make_compressed(
        tmp_path / "a.dcm", stored_sample(12, signed=False, shape=(8, 8)), RLELossless, bits_stored=12
    )
    dataset_bytes = path.read_bytes()
    place = dataset_bytes.index(bytes.fromhex("28000201") + b"US") + 8
    path.write_bytes(dataset_bytes[:place] + b"\x0f\0" + dataset_bytes[place + 2 :])
    with pytest.raises(InvalidImageError, match="HighBit is 15 with 12 bits stored, expected 11 in compressed"):
        read_dicom(path)


def test_object_without_pixel_data_is_refused(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint16), PixelData=None)
    with pytest.raises(ImageReadError, match=r"a.dcm: no Pixel Data \(7FE0,0010\), expected integer pixels"):
        read_dicom(path)


def test_missing_file_and_other_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"none\.dcm: cannot be opened \(No such file"):
        read_dicom(tmp_path / "none.dcm")
    path = tmp_path / "text.dcm"
    path.write_text("not an image")
    with pytest.raises(ImageReadError, match=r"text.dcm: expected a DICOM file.*read_image"):
        read_dicom(path)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, NATIVE[-1], RLELossless, JPEG2000Lossless])
def test_truncated_file_is_an_error_that_names_it(tmp_path: Path, syntax: str) -> None:
    stored = stored_sample(12, signed=False, shape=(40, 40))
    make = make_dicom if syntax in NATIVE else make_compressed
    content = make(tmp_path / "whole.dcm", stored, syntax=syntax, bits_stored=12).read_bytes()
    path = tmp_path / "cut.dcm"
    for length in range(0, len(content) - 8, max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        with pytest.raises((ImageReadError, InvalidImageError), match=r"cut\.dcm: "):
            read_dicom(path)


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    folder = tmp_path_factory.mktemp("flips")
    stored = stored_sample(12, signed=True, shape=(16, 16))
    options: dict[str, Any] = {
        "bits_stored": 12,
        "WindowCenter": 3,
        "WindowWidth": 9,
        "PixelPaddingValue": 4,
        "ShutterShape": "RECTANGULAR",
        "ModalityLUTSequence": modality_lut(TABLE, 0, signed=True),
    }
    files = [make_dicom(folder / f"{i}", stored, syntax=syntax, **options) for i, syntax in enumerate(NATIVE)]
    files += [make_compressed(folder / "rle", stored, RLELossless, **options)]
    return folder, [file.read_bytes() for file in files]


@pytest.mark.filterwarnings("ignore")
@given(which=st.integers(0, 4), place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_damaged_byte_is_read_or_refused_never_a_crash(
    small_files: tuple[Path, list[bytes]], which: int, place: float, value: int
) -> None:
    folder, contents = small_files
    content = bytearray(contents[which])
    content[int(place * len(content))] = value
    path = folder / "flipped"
    path.write_bytes(content)
    with contextlib.suppress(XRayHarmonizeError):
        image = read_dicom(path, max_pixels=2**20)
        assert int(image.pixels.max()) <= 2**image.bits_stored - 1


def test_sequence_items_do_not_stand_in_for_the_image(tmp_path: Path) -> None:
    icon = image_dataset(np.zeros((2, 2), np.uint8))
    path = make_dicom(
        tmp_path / "a.dcm", np.ones((4, 5), np.uint16), PixelData=None, IconImageSequence=Sequence([Dataset(icon)])
    )
    with pytest.raises(ImageReadError, match="no Pixel Data"):
        read_dicom(path)


def test_deflated_file_without_group_length_is_refused(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint16), syntax=NATIVE[-1])
    content = path.read_bytes()
    path.write_bytes(content[:132] + content[144:])
    with pytest.raises(ImageReadError, match=r"a\.dcm: .*without File Meta Information Group Length \(0002,0000\)"):
        read_dicom(path)


def test_data_set_that_cannot_be_parsed_is_refused(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint16), syntax=NATIVE[-1])
    content = path.read_bytes()
    place = 144 + int.from_bytes(content[140:144], "little")
    path.write_bytes(content[:place] + b"\xff" * 20 + content[place + 20 :])
    with pytest.raises(ImageReadError, match=r"a\.dcm: not a readable DICOM data set \(error: .*damaged or cut short"):
        read_dicom(path)


def test_number_that_is_none_is_refused(tmp_path: Path) -> None:
    dataset = image_dataset(np.zeros((4, 5), np.uint16))
    del dataset.BitsStored
    dataset.add_new("BitsStored", "LO", "many")
    with pytest.raises(InvalidImageError, match=r"a\.dcm: BitsStored is 'many', expected an integer"):
        read_dicom(write_dicom(tmp_path / "a.dcm", dataset))


def test_length_that_the_file_does_not_hold_asks_for_no_memory(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "long.dcm", np.zeros((4, 4), dtype=np.uint16))
    content = bytearray(path.read_bytes())
    # The version in the file meta group, whose elements are read whatever their length, claims four gibibytes.
    place = content.index(bytes.fromhex("02000100 4f420000"))
    content[place + 8 : place + 12] = bytes.fromhex("f0ffffff")
    path.write_bytes(content)
    tracemalloc.start()
    with contextlib.suppress(ImageReadError):
        parse_dicom(path, max_bytes=2**26, header_only=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
