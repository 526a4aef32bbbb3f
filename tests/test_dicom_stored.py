"""Encodings and compressions, and what keeps them from being decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from damaged_dicom import lossless_jpeg, whole_files
from dicom_factory import (
    NATIVE,
    make_baseline_jpeg,
    make_compressed,
    make_dicom,
    make_encapsulated,
    stored_sample,
)
from PIL import Image
from pydicom.pixels.decoders import JPEG2000LosslessDecoder
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from xray_harmonize.dicom.header import looks_like_dicom
from xray_harmonize.dicom.read import read_dicom, read_dicom_size
from xray_harmonize.dicom.stored import Codestream, codestream
from xray_harmonize.exceptions import ImageReadError


@pytest.mark.parametrize(
    ("syntax", "preamble"),
    # A deflated data set cannot stand without its header
    [(syntax, True) for syntax in NATIVE] + [(syntax, False) for syntax in NATIVE[:-1]],
)
@pytest.mark.parametrize("bits_stored", [8, 12])
def test_native_encodings_give_the_same_pixels(tmp_path: Path, syntax: str, preamble: bool, bits_stored: int) -> None:
    stored = stored_sample(bits_stored, signed=False)
    path = make_dicom(tmp_path / "a", stored, bits_stored=bits_stored, syntax=syntax, preamble=preamble)
    assert looks_like_dicom(path.read_bytes()[:132])
    image = read_dicom(path)
    np.testing.assert_array_equal(image.pixels, stored)
    assert image.pixels.dtype.isnative
    assert read_dicom_size(path) == stored.shape


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits_stored", [8, 12, 16])
def test_lossless_compression_gives_the_same_pixels(
    tmp_path: Path, syntax: str, signed: bool, bits_stored: int
) -> None:
    stored = stored_sample(bits_stored, signed=signed, shape=(40, 37))
    path = make_compressed(tmp_path / "a.dcm", stored, syntax, bits_stored=bits_stored)
    image = read_dicom(path)
    np.testing.assert_array_equal(image.pixels, stored.astype(int) - int(stored.min()))
    assert image.meta["transfer_syntax"] == syntax
    assert read_dicom_size(path) == (40, 37)


def test_baseline_jpeg_is_decoded(tmp_path: Path) -> None:
    stored = np.add.outer(np.arange(32), np.arange(24)).astype(np.uint8) * 4
    image = read_dicom(make_baseline_jpeg(tmp_path / "a.dcm", stored, photometric="MONOCHROME1"))
    np.testing.assert_allclose(image.pixels.astype(int), 255 - stored.astype(int), atol=3)


def test_baseline_jpeg_is_decoded_as_pillow_does(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    path = make_baseline_jpeg(tmp_path / "a.dcm", stored)
    content = path.read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[content.index(b"\xff\xd8") :])
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(read_dicom(path).pixels, np.asarray(image))


@pytest.mark.parametrize("bits_stored", [8, 12, 16])
def test_lossless_jpeg_gives_the_same_pixels(tmp_path: Path, bits_stored: int) -> None:
    stored = stored_sample(bits_stored, signed=False, shape=(20, 31))
    codestream_ = lossless_jpeg(stored, bits_stored)
    path = make_encapsulated(tmp_path / "a.dcm", stored, codestream_, JPEGLosslessSV1, bits_stored=bits_stored)
    np.testing.assert_array_equal(read_dicom(path).pixels, stored)


def test_every_lossless_encoding_of_one_image_gives_the_same_pixels(tmp_path: Path) -> None:
    contents = whole_files(tmp_path)
    path = tmp_path / "a.dcm"
    path.write_bytes(contents["no Part 10 header"])
    plain = read_dicom(path).pixels
    for name in ("RLE Lossless", "JPEG 2000 Image Compression (Lossless Only)", "JPEG lossless"):
        path.write_bytes(contents[name])
        np.testing.assert_array_equal(read_dicom(path).pixels, plain)


def test_lossy_overshoot_is_clipped_before_the_inversion(tmp_path: Path) -> None:
    decoded = np.full((16, 16), 200, dtype=np.uint8)
    path = make_baseline_jpeg(tmp_path / "a.dcm", decoded, bits_stored=7, photometric="MONOCHROME1")
    assert np.all(read_dicom(path).pixels == 0)


def test_missing_decoder_names_syntax_and_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_compressed(tmp_path / "a.dcm", stored_sample(8, signed=False, shape=(40, 40)), JPEG2000Lossless)
    monkeypatch.setattr(JPEG2000LosslessDecoder, "_available", {})
    for read in (read_dicom, read_dicom_size):
        with pytest.raises(
            ImageReadError, match=r"4\.90 \(JPEG 2000.*needs a decoder.*install pylibjpeg and pylibjpeg-openj"
        ):
            read(path)


def test_compressed_pixels_under_an_uncompressed_syntax_are_refused(tmp_path: Path) -> None:
    path = make_compressed(tmp_path / "a.dcm", stored_sample(8, signed=False, shape=(40, 40)), JPEG2000Lossless)
    content = path.read_bytes()
    path.write_bytes(content.replace(JPEG2000Lossless.encode(), ExplicitVRLittleEndian.encode().ljust(22, b"\0")))
    with pytest.raises(ImageReadError, match=r"a\.dcm: compressed pixel data, expected none .*Explicit VR Little"):
        read_dicom(path)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_pixels_of_more_frames_than_the_header_says_are_refused(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint8), PixelData=bytes(60))
    with pytest.raises(ImageReadError, match=r"decodes to shape \(3, 4, 5\), expected \(4, 5\)"):
        read_dicom(path)


def test_video_is_refused(tmp_path: Path) -> None:
    stored = np.zeros((4, 4), np.uint8)
    path = make_encapsulated(tmp_path / "a.dcm", stored, b"\0\0\1\xb3", MPEG2MPML)
    with pytest.raises(ImageReadError, match=r"MPEG2.* is not one for still images"):
        read_dicom(path)


def test_encapsulated_syntax_without_fragments_is_refused(tmp_path: Path) -> None:
    path = make_compressed(tmp_path / "a.dcm", stored_sample(8, signed=False), RLELossless)
    content = path.read_bytes()
    place = content.index(bytes.fromhex("feff00e0"), 300)
    path.write_bytes(content[:place] + bytes(4) + content[place + 4 :])
    with pytest.raises(ImageReadError, match=r"a\.dcm: "):
        read_dicom(path)


def test_codestream_header_is_found_behind_other_segments_and_fill_bytes() -> None:
    frame = bytes.fromhex("ffd8 ffe0 0004 0000 ffff fff7 000b 0c 0140 0100 01 011100")
    assert codestream(frame) == Codestream(rows=320, columns=256, precision=12)


@pytest.mark.parametrize("frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\4\0\0", b"\xff\x4f\xff\x51", bytes(64)])
def test_codestream_that_tells_nothing_is_none(frame: bytes) -> None:
    assert codestream(frame) is None


def test_codestream_header_is_found_inside_its_file_format() -> None:
    siz = bytes.fromhex("ff4fff51 0029 0000 00000140 00000100") + bytes(8) + bytes(16) + bytes.fromhex("0001 0b0101")
    wrapped = b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40) + siz
    assert codestream(siz) == codestream(wrapped) == Codestream(rows=256, columns=320, precision=12)


def test_codestream_of_several_components_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    jpeg = bytes.fromhex("ffd8 ffc3 0011 08 0004 0004 03 011100 021100 031100")
    path = make_encapsulated(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), jpeg, JPEGLosslessSV1)
    with pytest.raises(ImageReadError, match=r"a\.dcm: the compressed image has 3 components, expected 1 as the"):
        read_dicom(path)


def test_codestream_without_a_readable_header_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = make_encapsulated(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), b"not a codestream", JPEGBaseline8Bit)
    with pytest.raises(ImageReadError, match=r"begins with 6e 6f 74 20 61 20 63 6f, expected the frame header of a"):
        read_dicom(path)


def test_run_lengths_that_swell_beyond_the_image_are_refused_before_they_are_expanded(tmp_path: Path) -> None:
    swelling = bytes([1, 0, 0, 0, 64, *[0] * 59]) + b"\x81\0" * 2_200_000
    path = make_encapsulated(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), swelling, RLELossless)
    with pytest.raises(ImageReadError, match=r"run-length coded pixel data expands to more than 268435456 bytes, exp"):
        read_dicom(path)
