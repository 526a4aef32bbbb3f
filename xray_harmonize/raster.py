"""PNG, TIFF and JPEG files as greyscale stored values.

Pillow decodes: it is the most widely maintained of the decoders, reads the three formats with all their compressions
from one wheel, and keeps 16-bit greyscale exact. Three things it does not do are done here: it does not invert 16-bit
and float TIFF files whose zero is white, does not turn JPEG files upright, and reduces 16-bit colour to 8 bits, so
those files go through OpenCV.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from xray_harmonize.exceptions import ImageReadError, InvalidImageError
from xray_harmonize.radiograph import Radiograph

_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339  # TIFF 6.0 and EXIF tags
_WHITE_IS_ZERO, _SIGNED = 0, 2
_GREY_MODES = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def read_raster(path: str | os.PathLike[str], image_format: str, *, max_pixels: int) -> Radiograph:
    """Read a PNG, TIFF or JPEG file of known format; see :func:`xray_harmonize.reading.read_image`."""
    name = os.fspath(path)
    # Not by name: Pillow would map plain TIFF files into memory, and maps those that lie on their side wrongly.
    with Path(path).open("rb") as file:
        image = _open(file, image_format, name, max_pixels)
        depth, signed, orientation = _sample_depth(image), _is_signed(image), _orientation(image)
        white_is_zero = isinstance(image, TiffImagePlugin.TiffImageFile) and (
            image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        )
        try:
            image.load()
            values, upright = _decode(image, file, depth)
        except Exception as error:  # decoders meet arbitrary bytes: whatever they raise, the file is at fault
            raise ImageReadError(
                f"{name}: does not decode as {image_format} ({type(error).__name__}: {error}); "
                "the file is damaged or cut short, fetch it again."
            ) from error
    if _has_transparent_value(image, values):
        raise InvalidImageError(_transparent(name))
    if values.ndim == 3:
        values = _grey(values, name)
    if not upright:
        values = _turned(values, orientation)
    pixels, bits_stored = _stored_values(values, depth, signed=signed, white_is_zero=white_is_zero, name=name)
    meta: dict[str, Any] = {"path": name, "format": image_format}
    if orientation != 1:
        meta["exif_orientation"] = orientation
    return Radiograph(np.ascontiguousarray(pixels), bits_stored, None, meta, name)


def read_raster_size(path: str | os.PathLike[str], image_format: str, *, max_pixels: int) -> tuple[int, int]:
    """Read rows and columns, upright, from the header of a PNG, TIFF or JPEG file."""
    with Path(path).open("rb") as file:
        image = _open(file, image_format, os.fspath(path), max_pixels)
        if image_format == "JPEG" and _orientation(image) >= 5:
            return image.width, image.height
        return image.height, image.width


def _open(file: BinaryIO, image_format: str, name: str, max_pixels: int) -> Image.Image:
    """Parse the header, and refuse what it already tells."""
    try:
        image = Image.open(file, formats=[image_format])
        n_frames = 1 if image_format == "JPEG" else getattr(image, "n_frames", 1)
        depth = _sample_depth(image)
    except Image.DecompressionBombError as error:
        raise InvalidImageError(
            f"{name}: {error}; expected at most {max_pixels} pixels, and radiographs have fewer. Leave the file out."
        ) from error
    except Exception as error:  # see read_raster
        raise ImageReadError(
            f"{name}: not a readable {image_format} file ({type(error).__name__}: {error}); "
            "the file is damaged or cut short, fetch it again."
        ) from error
    if image.width * image.height > max_pixels:
        message = (
            f"{image.height} x {image.width} pixels, expected at most {max_pixels}; "
            "raise max_pixels if the header is sound."
        )
    elif n_frames > 1:
        message = f"{n_frames} pages, expected a single image; split them into files."
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        message = f"colour ({image.mode}), expected greyscale; convert the file if its colours mean nothing."
    elif depth > 16 and image.mode != "F":
        message = f"integers of {depth} bits, expected 8 or 16; save it as 16 bits."
    elif image.mode == "L" and _is_signed(image):
        message = "signed integers of 8 bits, expected unsigned ones; save it as uint8."
    else:
        return image
    raise InvalidImageError(f"{name}: {message}")


def _sample_depth(image: Image.Image) -> int:
    """Bits of one sample as the file has them, where Pillow might have changed them."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))
    if image.format == "PNG":
        # The image header chunk comes first: 8 bytes signature, 8 of length and type, 4 each of width and height
        file = image.fp  # type: ignore[attr-defined]
        position = file.tell()
        file.seek(24)
        depth: int = file.read(1)[0]
        file.seek(position)
        return depth
    return 8


def _orientation(image: Image.Image) -> int:
    """Orientation by the EXIF or TIFF tag, 1 (upright) where it is absent, unknown or unreadable."""
    if image.format == "PNG":
        return 1
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged side note does not make the pixels unreadable
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _is_signed(image: Image.Image) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile) and _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ())


def _decode(image: Image.Image, file: BinaryIO, depth: int) -> tuple[np.ndarray, bool]:
    """Give grey, RGB or RGBA values without loss, and whether they are upright already."""
    if depth > 8 and len(image.getbands()) > 1:
        file.seek(0)
        values = cv2.imdecode(np.frombuffer(file.read(), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None or values.dtype != np.uint16:
            raise ValueError("colour of 16 bits that cannot be decoded")
        return values, False
    # Pillow itself turns TIFF files when it loads them
    upright = image.format == "TIFF"
    if image.mode in _GREY_MODES or image.mode == "RGB":
        return np.array(image), upright
    return np.array(image.convert("RGBA")), upright


def _has_transparent_value(image: Image.Image, values: np.ndarray) -> bool:
    """Tell whether one value stands for transparency (PNG 11.3.2.1) and occurs."""
    value = image.info.get("transparency")
    if value is None or image.mode not in ("1", "L", "I;16", "RGB"):
        return False  # palettes have become RGBA
    return bool(np.any(np.all(np.atleast_3d(values) == np.atleast_1d(value), axis=-1)))


def _transparent(name: str) -> str:
    return f"{name}: transparent pixels, expected an opaque image; flatten it onto black first."


def _grey(values: np.ndarray, name: str) -> np.ndarray:
    """Take the one grey channel out of colour that is grey, and opaque."""
    grey = values[..., 0]
    if not (np.array_equal(values[..., 1], grey) and np.array_equal(values[..., 2], grey)):
        raise InvalidImageError(
            f"{name}: colour, expected greyscale or equal red, green and blue; remove annotations in colour, "
            "leave screenshots out."
        )
    if values.shape[-1] == 4 and not np.all(values[..., 3] == np.iinfo(values.dtype).max):
        raise InvalidImageError(_transparent(name))
    return grey


def _turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror an image upright, as orientations 2 to 8 ask for."""
    if orientation >= 5:
        values = values.T
    mirrored_rows = orientation in (3, 4, 7, 8)
    mirrored_columns = orientation in (2, 3, 6, 7)
    return values[:: -1 if mirrored_rows else 1, :: -1 if mirrored_columns else 1]


def _stored_values(
    values: np.ndarray, depth: int, *, signed: bool, white_is_zero: bool, name: str
) -> tuple[np.ndarray, int]:
    """Bring what was decoded to unsigned stored values (or floats in [0, 1]) with air dark."""
    if values.dtype.kind == "f":
        values = unit_floats(values, name)
        return (1 - values if white_is_zero else values), 0
    if values.dtype == bool:
        return values.astype(np.uint8), 1
    if values.dtype == np.uint8:
        return values, 8  # Pillow has inverted these
    if values.dtype.kind == "i" and values.min() < 0:
        raise InvalidImageError(
            f"{name}: integers from {values.min()}, expected none below 0; add the offset and save it as uint16."
        )
    # A sign bit that is never set holds no level: full scale is what the type can hold
    bits_stored = depth - signed if 8 < depth <= 16 else 16
    values = values.astype(np.uint16)
    if white_is_zero:
        np.subtract(np.uint16(2**bits_stored - 1), values, out=values)
    return values, bits_stored


def unit_floats(values: np.ndarray, name: str) -> np.ndarray:
    """Check that floats lie in [0, 1]; give them as float32.

    Raises
    ------
    InvalidImageError
        If one is NaN or lies outside.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise InvalidImageError(
            f"{name}: floats from {low:g} to {high:g}, expected [0, 1] without NaN; divide by the largest value "
            "that the scanner can give (not by that of the image) and save it again."
        )
    return values.astype(np.float32)
