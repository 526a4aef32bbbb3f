"""One reader for PNG, TIFF, JPEG, NPY and DICOM, told apart by content."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from dicom_factory import make_dicom
from PIL import Image

from xray_harmonize.exceptions import ImageReadError, InvalidImageError, XRayHarmonizeError
from xray_harmonize.reading import read_image, read_size, sniff_format

DEEP = np.arange(0, 60000, 5000, dtype=np.uint16).reshape(3, 4)
SHALLOW = (DEEP // 256).astype(np.uint8)


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def plain_tiff(path: Path, data: bytes, *, bits: int, sample_format: int = 1, white_is_zero: bool = False) -> Path:
    """Write 3 x 4 samples as they are (TIFF 6.0, one strip)."""
    fields = {256: 4, 257: 3, 258: bits, 259: 1, 262: int(not white_is_zero), 277: 1, 278: 3, 279: len(data)}
    fields |= {339: sample_format, 273: 8 + 2 + 12 * 10 + 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + data)
    return path


# ---------------------------------------------------------------- formats and depths


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_exact(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (50, 40)).astype(np.uint16)
    image = read_image(save(tmp_path / f"a.{suffix}", values))
    np.testing.assert_array_equal(image.pixels, values)
    assert (image.pixels.dtype, image.bits_stored, image.mask) == (np.uint16, 16, None)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_8_bits_are_exact(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", SHALLOW)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, SHALLOW)
    assert (image.pixels.dtype, image.bits_stored) == (np.uint8, 8)
    assert image.name == image.meta["path"] == str(path)
    assert image.meta["format"] == {"png": "PNG", "tif": "TIFF"}[suffix]


def test_pixels_are_native_contiguous_and_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "big_endian.npy", np.asfortranarray(DEEP.astype(">u2")))
    save(tmp_path / "a.png", SHALLOW, "RGB")
    for name in ("big_endian.npy", "a.png"):
        pixels = read_image(tmp_path / name).pixels
        assert pixels.dtype.isnative
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        assert type(pixels) is np.ndarray


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff(tmp_path: Path, compression: str) -> None:
    path = save(tmp_path / "a.tif", DEEP, compression=compression)
    np.testing.assert_array_equal(read_image(path).pixels, DEEP)


def test_jpeg_of_8_bits(tmp_path: Path) -> None:
    values = np.add.outer(np.arange(40), np.arange(30)).astype(np.uint8) * 3
    image = read_image(save(tmp_path / "a.jpg", values, quality=100, subsampling=0))
    np.testing.assert_allclose(image.pixels.astype(int), values, atol=3)
    assert (image.bits_stored, image.meta["format"]) == (8, "JPEG")


def test_1_bit_is_0_and_1(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png", DEEP > 20000))
    np.testing.assert_array_equal(image.pixels, DEEP > 20000)
    assert (image.pixels.dtype, image.bits_stored) == (np.uint8, 1)


def test_tiff_of_12_bits_keeps_its_depth(tmp_path: Path) -> None:
    values = np.arange(0, 4092, 341).reshape(3, 4)
    rows = ["".join(f"{value:012b}" for value in row) for row in values]
    path = plain_tiff(tmp_path / "a.tif", b"".join(int(row, 2).to_bytes(6, "big") for row in rows), bits=12)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, values)
    assert image.bits_stored == 12


def test_tiff_of_floats_and_of_signed_integers(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    image = read_image(plain_tiff(tmp_path / "f.tif", values.tobytes(), bits=32, sample_format=3))
    np.testing.assert_array_equal(image.pixels, values)
    assert (image.pixels.dtype, image.bits_stored) == (np.float32, 0)
    values = DEEP // 2
    image = read_image(plain_tiff(tmp_path / "i.tif", values.astype("<i2").tobytes(), bits=16, sample_format=2))
    np.testing.assert_array_equal(image.pixels, values)
    assert (image.pixels.dtype, image.bits_stored) == (np.uint16, 15)


@pytest.mark.parametrize(
    ("values", "sample_format", "full_scale"),
    [(SHALLOW, 1, 255), (DEEP.astype("<u2"), 1, 65535), ((DEEP / 65536).astype("<f4"), 3, 1)],
)
def test_tiff_whose_zero_is_white_is_inverted_once(
    tmp_path: Path, values: np.ndarray, sample_format: int, full_scale: int
) -> None:
    path = plain_tiff(
        tmp_path / "a.tif",
        values.tobytes(),
        bits=8 * values.dtype.itemsize,
        sample_format=sample_format,
        white_is_zero=True,
    )
    np.testing.assert_array_equal(read_image(path).pixels, full_scale - values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colour_that_is_grey_is_grey(tmp_path: Path, mode: str) -> None:
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", SHALLOW, mode)).pixels, SHALLOW)


def test_colour_jpeg_that_is_grey_is_grey(tmp_path: Path) -> None:
    grey, colour = save(tmp_path / "a.jpg", SHALLOW), save(tmp_path / "b.jpg", SHALLOW, "RGB")
    assert read_image(colour).pixels.ndim == 2
    np.testing.assert_allclose(read_image(colour).pixels.astype(int), read_image(grey).pixels, atol=1)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_grey_colour_of_16_bits_is_exact(tmp_path: Path, suffix: str, channels: int) -> None:
    opaque = np.full_like(DEEP, 65535)
    values = np.stack([DEEP, DEEP, DEEP, opaque][:channels], axis=-1)
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), values)
    np.testing.assert_array_equal(read_image(path).pixels, DEEP)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "tif", "lzw.tif"])
def test_files_that_ask_to_be_turned_are_turned(tmp_path: Path, suffix: str, orientation: int) -> None:
    values = np.zeros((16, 24), dtype=np.uint8)
    values[:8, :8], values[:8, 8:16] = 250, 100  # the corner that orientation 1 shows at the upper left
    turned = {
        1: values,
        2: values[:, ::-1],
        3: values[::-1, ::-1],
        4: values[::-1],
        5: values.T,
        6: np.rot90(values, -1),
        7: values[::-1, ::-1].T,
        8: np.rot90(values),
    }
    path = tmp_path / f"a.{suffix}"
    if suffix == "jpg":
        exif = Image.Exif()
        exif[274] = orientation
        save(path, values, quality=100, exif=exif)
    else:
        save(path, values, tiffinfo={274: orientation}, compression="tiff_lzw" if suffix == "lzw.tif" else None)
    image = read_image(path)
    np.testing.assert_allclose(image.pixels.astype(int), turned[orientation], atol=3)
    assert image.meta.get("exif_orientation", 1) == orientation
    assert read_size(path) == turned[orientation].shape


# ---------------------------------------------------------------- NPY


@pytest.mark.parametrize(
    ("array", "dtype", "bits_stored"),
    [
        (SHALLOW, np.uint8, 8),
        (DEEP, np.uint16, 16),
        (DEEP.astype(">u2"), np.uint16, 16),
        ((DEEP // 2).astype(np.int16), np.uint16, 15),
        ((SHALLOW // 2).astype(np.int8), np.uint8, 7),
        ((DEEP / 65535).astype(np.float64), np.float32, 0),
        ((DEEP / 65536).astype(np.float16), np.float32, 0),
    ],
)
def test_npy_types(tmp_path: Path, array: np.ndarray, dtype: type, bits_stored: int) -> None:
    np.save(tmp_path / "a.npy", array)
    image = read_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(image.pixels, array.astype(dtype))
    assert (image.pixels.dtype, image.bits_stored) == (dtype, bits_stored)
    assert read_size(tmp_path / "a.npy") == array.shape


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (DEEP > 3, "an array of bool, expected uint8, uint16 or floats"),
        (DEEP.astype(np.int64), "an array of int64, expected uint8, uint16 or floats.*how many bits"),
        (DEEP.astype(complex), "an array of complex128, expected"),
        (DEEP.astype(np.int16) - np.int16(7), r"integers from -\d+, expected none below 0"),
        (DEEP / 1000, r"floats from 0 to 55, expected \[0, 1\]"),
        (np.array([[0.5, np.nan]]), r"floats from nan to nan, expected \[0, 1\] without NaN"),
        (np.array([[-0.1, 0.5]]), r"floats from -0.1 to 0.5"),
        (np.zeros((2, 3, 4), np.uint8), r"shape \(2, 3, 4\), expected \(height, width\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\), expected \(height, width\)"),
    ],
)
def test_npy_that_is_no_image_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(InvalidImageError, match=rf"bad\.npy: .*{message}"):
        read_image(tmp_path / "bad.npy")


def test_npy_never_unpickles(tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(ImageReadError, match=r"bad\.npy: not a readable NPY array of numbers .*holds objects"):
        read_image(tmp_path / "bad.npy")


def test_npy_header_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<u2', 'fortran_order': False, 'shape': (100000, 100000), }"
    header = header.ljust(117) + b"\n"
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(100))
    with pytest.raises(ImageReadError, match=r"bad\.npy: not a readable NPY"):
        read_image(tmp_path / "bad.npy")


# ---------------------------------------------------------------- which format


def test_content_decides_not_the_extension(tmp_path: Path) -> None:
    path = save(tmp_path / "image.dcm", SHALLOW, format="PNG")
    np.testing.assert_array_equal(read_image(path).pixels, SHALLOW)
    dicom = make_dicom(tmp_path / "image.png", DEEP)
    np.testing.assert_array_equal(read_image(dicom).pixels, DEEP)
    assert read_image(dicom).meta["format"] == "DICOM"
    assert read_size(dicom) == DEEP.shape


def test_dicom_without_header_is_recognized(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "image", DEEP, preamble=False)
    np.testing.assert_array_equal(read_image(path).pixels, DEEP)


def test_file_that_is_tiff_and_dicom_at_once_is_dicom() -> None:
    assert sniff_format(b"II*\0".ljust(128, b"\0") + b"DICM") == "DICOM"


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG", b"GIF89a", b"<html>", b"%PDF-1.7", b"PK\3\4", b"\1\2\3\4\5\6\7\10"]
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(
        ImageReadError, match=r"x\.png: no image that can be read, expected PNG, TIFF, JPEG, NPY or DICOM"
    ):
        read_image(tmp_path / "x.png")


def test_missing_file_and_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"none\.png: cannot be opened \(No such file or directory\)"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageReadError, match=r"cannot be opened \(Is a directory\)"):
        read_size(tmp_path)


# ---------------------------------------------------------------- refusals of raster files


def test_colour_is_refused(tmp_path: Path) -> None:
    colour = np.stack([SHALLOW, SHALLOW, SHALLOW + 1], axis=-1)
    for name in ("a.png", "a.tif"):
        with pytest.raises(InvalidImageError, match="colour, expected greyscale or equal red, green and blue"):
            read_image(save(tmp_path / name, colour))
    with pytest.raises(InvalidImageError, match=r"colour \(CMYK\), expected greyscale"):
        read_image(save(tmp_path / "a.jpg", SHALLOW, "CMYK"))


def test_transparency_is_refused(tmp_path: Path) -> None:
    alpha = np.stack([SHALLOW, SHALLOW], axis=-1)
    with pytest.raises(InvalidImageError, match=r"a\.png: transparent pixels, expected an opaque image"):
        read_image(save(tmp_path / "a.png", alpha))
    with pytest.raises(InvalidImageError, match=r"b\.png: transparent pixels"):
        read_image(save(tmp_path / "b.png", SHALLOW, transparency=int(SHALLOW[1, 1])))
    np.testing.assert_array_equal(read_image(save(tmp_path / "c.png", SHALLOW, transparency=255)).pixels, SHALLOW)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(SHALLOW)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    with pytest.raises(InvalidImageError, match=r"a\.tif: 3 pages, expected a single image; split"):
        read_image(tmp_path / "a.tif")


def test_tiff_of_other_numbers_is_refused(tmp_path: Path) -> None:
    path = plain_tiff(tmp_path / "a.tif", DEEP.astype("<u4").tobytes(), bits=32)
    with pytest.raises(InvalidImageError, match="integers of 32 bits, expected 8 or 16"):
        read_image(path)
    path = plain_tiff(tmp_path / "b.tif", SHALLOW.tobytes(), bits=8, sample_format=2)
    with pytest.raises(InvalidImageError, match="signed integers of 8 bits, expected unsigned"):
        read_image(path)
    path = plain_tiff(tmp_path / "c.tif", (-DEEP.astype("<i2")).tobytes(), bits=16, sample_format=2)
    with pytest.raises(InvalidImageError, match=r"integers from -.* expected none below 0"):
        read_image(path)
    path = plain_tiff(tmp_path / "d.tif", DEEP.astype("<f4").tobytes(), bits=32, sample_format=3)
    with pytest.raises(InvalidImageError, match=r"floats from 0 to 55000, expected \[0, 1\]"):
        read_image(path)


def test_size_is_bounded_by_the_header(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", SHALLOW)
    for path in (save(tmp_path / "a.png", SHALLOW), tmp_path / "a.npy", make_dicom(tmp_path / "a.dcm", SHALLOW)):
        for read in (read_image, read_size):
            with pytest.raises(InvalidImageError, match=rf"{path.name}: .*3 x 4.*, expected at most 11"):
                read(path, max_pixels=11)
        assert read_size(path, max_pixels=12) == (3, 4)


def test_png_header_of_an_impossible_size_is_refused(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path / "a.png", SHALLOW).read_bytes())
    content[16:24] = struct.pack(">II", 200000, 200000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InvalidImageError, match=r"a\.png: .*expected at most 268435456 pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "lzw.tif", "a.npy"])
def test_truncated_files_are_errors_that_name_them(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8)
    if name == "a.npy":
        np.save(tmp_path / name, values)
    else:
        save(tmp_path / name, values, **({"compression": "tiff_lzw"} if name == "lzw.tif" else {}))
    content = (tmp_path / name).read_bytes()
    path = tmp_path / f"cut.{name}"
    for length in range(0, len(content) - 20, max(1, len(content) // 50)):
        path.write_bytes(content[:length])
        with pytest.raises(ImageReadError, match=rf"cut\.{name}: "):
            read_image(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.npy"])
def test_damaged_bytes_are_read_or_refused_never_a_crash(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 256, (20, 20)).astype(np.uint8)
    if name == "a.npy":
        np.save(tmp_path / name, values)
    else:
        save(tmp_path / name, values)
    content = (tmp_path / name).read_bytes()
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(content)
        damaged[int(rng.integers(min(len(content), 200)))] = int(rng.integers(256))
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            outcomes.add(read_image(tmp_path / "damaged", max_pixels=2**20).pixels.ndim)
        except XRayHarmonizeError as error:
            outcomes.add("damaged" in str(error))
    assert outcomes <= {2, True}
