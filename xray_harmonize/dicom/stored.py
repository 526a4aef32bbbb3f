"""Stored values: what the pixel data element holds once compression and unused bits are gone (PS3.5 8.1)."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from xray_harmonize.dicom.header import PixelHeader
from xray_harmonize.exceptions import ImageReadError, InvalidImageError

_LIBJPEG = "pylibjpeg and pylibjpeg-libjpeg"
_OPENJPEG = "pylibjpeg and pylibjpeg-openjpeg"
DECODER_PACKAGES: dict[UID, str] = {
    JPEGBaseline8Bit: _LIBJPEG,
    JPEGExtended12Bit: _LIBJPEG,
    JPEGLossless: _LIBJPEG,
    JPEGLosslessSV1: _LIBJPEG,
    JPEGLSLossless: _LIBJPEG,
    JPEGLSNearLossless: _LIBJPEG,
    JPEG2000Lossless: _OPENJPEG,
    JPEG2000: _OPENJPEG,
    HTJ2KLossless: _OPENJPEG,
    HTJ2KLosslessRPCL: _OPENJPEG,
    HTJ2K: _OPENJPEG,
    RLELossless: "pydicom",
}
"""Which packages decode a compressed transfer syntax."""

_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)


def stored_values(dataset: Dataset, header: PixelHeader, name: str) -> np.ndarray:
    """Decode the pixel data.

    Parameters
    ----------
    dataset : pydicom.Dataset
        As :func:`~xray_harmonize.dicom.header.parse_dicom` gives it.
    header : PixelHeader
        Its checked attributes.
    name : str
        What errors call the file.

    Returns
    -------
    ndarray of shape (rows, columns), dtype uint8, uint16, int8 or int16
        Within ``[header.lowest, header.highest]``: overlays and rubbish in unused bits are gone (PS3.5 8.1.1), and
        what a lossy decoder overshoots is clipped, since it would wrap around in an inversion.

    Raises
    ------
    ImageReadError
        No pixel data, an unknown syntax, a missing decoder, or data that does not decode to the matrix.
    """
    if "PixelData" not in dataset:
        raise ImageReadError(
            f"{name}: no Pixel Data (7FE0,0010), expected integer pixels; the object holds none or the file is "
            "cut short. Fetch it again or leave it out."
        )
    syntax = header.transfer_syntax
    check_decoder(syntax, name)
    if syntax.is_encapsulated:
        _check_codestream(dataset.PixelData, header, name)
    elif dataset["PixelData"].is_undefined_length:
        raise ImageReadError(
            f"{name}: compressed pixel data, expected none in a file of transfer syntax {syntax} ({syntax.name}); "
            "correct the Transfer Syntax UID (0002,0010) to the one it was compressed with."
        )
    try:
        values, _ = get_decoder(syntax).as_array(dataset, raw=True, correct_unused_bits=False)
    except Exception as error:  # decoders meet arbitrary bytes: whatever they raise, the file is at fault
        raise ImageReadError(
            f"{name}: the pixel data does not decode as {syntax.name} ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); the file is damaged or cut short, fetch it again."
        ) from error
    if values.shape != (header.rows, header.columns):
        raise ImageReadError(
            f"{name}: the pixel data decodes to shape {values.shape}, expected {(header.rows, header.columns)}; "
            "the header belongs to another image."
        )
    return _within_stored_bits(values, header, name)


def check_decoder(syntax: UID, name: str) -> None:
    """Raise ImageReadError unless a decoder for the transfer syntax is installed."""
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise ImageReadError(
            f"{name}: transfer syntax {syntax} ({syntax.name}) is not one for still images, expected uncompressed, "
            "RLE, JPEG, JPEG-LS or JPEG 2000; convert the file."
        ) from error
    if not available:
        raise ImageReadError(
            f"{name}: transfer syntax {syntax} ({syntax.name}) needs a decoder that is not installed; "
            f"install {DECODER_PACKAGES.get(syntax, 'a pydicom plugin')}."
        )


class Codestream(NamedTuple):
    """What a compressed frame says of itself."""

    rows: int
    columns: int
    precision: int


def _check_codestream(pixel_data: bytes, header: PixelHeader, name: str) -> None:
    """Compare the codestream with the header, before a decoder allocates what it announces."""
    try:
        frame = next(generate_frames(pixel_data, number_of_frames=1))
    except Exception as error:  # malformed fragments: see stored_values
        raise ImageReadError(
            f"{name}: the compressed pixel data has no readable fragment ({error}); "
            "the file is damaged or cut short, fetch it again."
        ) from error
    stream = codestream(frame)
    if stream is None:
        return
    if stream[:2] != (header.rows, header.columns) or stream.precision > header.bits_allocated:
        raise ImageReadError(
            f"{name}: the compressed image is {stream.rows} x {stream.columns} of "
            f"{stream.precision} bits, expected {header.rows} x {header.columns} of at most "
            f"{header.bits_allocated} bits as the header says; one of them is damaged."
        )


def codestream(frame: bytes) -> Codestream | None:
    """Size and depth that a JPEG, JPEG-LS or JPEG 2000 codestream announces.

    The frame header of JPEG is ISO/IEC 10918-1 B.2.2, that of JPEG 2000 the SIZ segment
    (ISO/IEC 15444-1 A.5.1).

    Parameters
    ----------
    frame : bytes
        One compressed frame.

    Returns
    -------
    Codestream or None
        Rows, columns and bits; None where the stream tells nothing (run-length coding, for one).

    Examples
    --------
    >>> codestream(bytes.fromhex("ffd8 ffc3 000b 0a 0006 0004 01 011100"))
    Codestream(rows=6, columns=4, precision=10)
    """
    if frame[:4] == b"\xff\x4f\xff\x51" and len(frame) > 42:
        width, height, left, top = struct.unpack(">4I", frame[8:24])
        return Codestream(height - top, width - left, (frame[42] & 0x7F) + 1)
    if frame[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        # SOF0 to SOF15 without DHT, JPG and DAC; SOF55 is JPEG-LS
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns = struct.unpack(">B2H", frame[position + 4 : position + 9])
            return Codestream(rows, columns, precision)
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None


def _within_stored_bits(values: np.ndarray, header: PixelHeader, name: str) -> np.ndarray:
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    encapsulated = header.transfer_syntax.is_encapsulated
    if encapsulated and header.high_bit != header.bits_stored - 1:
        raise InvalidImageError(
            f"{name}: HighBit is {header.high_bit} with {header.bits_stored} bits stored, expected "
            f"{header.bits_stored - 1} in compressed pixel data; decompress the file with the writer's own software."
        )
    if header.bits_stored == header.bits_allocated:
        return values
    if header.transfer_syntax in _LOSSY:
        return np.clip(values, header.lowest, header.highest)
    # Left, so that the high bit stands on top, and back: the right shift of a signed dtype repeats the sign.
    values = np.left_shift(values, header.bits_allocated - 1 - header.high_bit)
    np.right_shift(values, header.bits_allocated - header.bits_stored, out=values)
    return values
