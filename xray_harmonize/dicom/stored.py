"""Stored values: what the pixel data element holds once compression and unused bits are gone (PS3.5 8.1).

Decoders are native code that believes what a codestream announces. Before one of them is called, the frame header is
found and compared with the data set's: a stream whose header cannot be found, or that announces another matrix, more
bits or more than one component, never reaches it, and run-length coding is followed to its end without decoding
wherever it could swell beyond what the matrix needs.
"""

from __future__ import annotations

import struct
from itertools import pairwise
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

_PLUGINS = {RLELossless: "pydicom"}
_SOC_SIZ = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
# Two bytes of a run become at most 128
_LARGEST_SWELLING = 64
_HARMLESS_BYTES = 2**28
# Larger images make Pillow suspect a decompression bomb
_PILLOW_PIXELS = 2**26
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
        values, _ = get_decoder(syntax).as_array(
            dataset, raw=True, correct_unused_bits=False, decoding_plugin=_decoder_name(header)
        )
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
    """Raise ImageReadError unless the decoder for the transfer syntax is installed."""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageReadError(
            f"{name}: transfer syntax {syntax} ({syntax.name}) is not one for still images, expected uncompressed, "
            "RLE, JPEG, JPEG-LS or JPEG 2000; convert the file."
        ) from error
    if syntax.is_encapsulated and _PLUGINS.get(syntax, "pylibjpeg") not in decoder.available_plugins:
        raise ImageReadError(
            f"{name}: transfer syntax {syntax} ({syntax.name}) needs a decoder that is not installed; "
            f"install {DECODER_PACKAGES.get(syntax, 'a pydicom plugin')}."
        )


def _decoder_name(header: PixelHeader) -> str:
    """Choose the decoder, so that pixels do not depend on what else is installed.

    Left to itself, pydicom tries one after another, and what the first one refuses may keep another busy for ten
    seconds.

    Rebuilding 8-bit values from cosines leaves room for rounding. Pillow does so with the arithmetic of the Independent
    JPEG Group, as dcmtk and most viewers do; libjpeg of pylibjpeg is one level beside it here and there.
    """
    syntax = header.transfer_syntax
    if not syntax.is_encapsulated:
        return ""
    if syntax == JPEGBaseline8Bit and header.bits_allocated == 8 and header.rows * header.columns <= _PILLOW_PIXELS:
        return "pillow"
    return _PLUGINS.get(syntax, "pylibjpeg")


class Codestream(NamedTuple):
    """What a compressed frame says of itself."""

    rows: int
    columns: int
    precision: int
    components: int = 1


def _check_codestream(pixel_data: bytes, header: PixelHeader, name: str) -> None:
    """Compare the codestream with the header, before a decoder allocates what it announces."""
    try:
        frame = next(generate_frames(pixel_data, number_of_frames=1))
    except Exception as error:  # malformed fragments: see stored_values
        raise ImageReadError(
            f"{name}: the compressed pixel data has no readable fragment ({error}); "
            "the file is damaged or cut short, fetch it again."
        ) from error
    if header.transfer_syntax == RLELossless:
        _check_run_lengths(frame, header, name)
        return
    stream = codestream(frame)
    if stream is None:
        raise ImageReadError(
            f"{name}: the compressed pixel data begins with {frame[:8].hex(' ')}, expected the frame header of a "
            f"codestream of {header.transfer_syntax.name}; the file is damaged or its transfer syntax another."
        )
    if stream[:2] != (header.rows, header.columns) or stream.precision > header.bits_allocated:
        raise ImageReadError(
            f"{name}: the compressed image is {stream.rows} x {stream.columns} of "
            f"{stream.precision} bits, expected {header.rows} x {header.columns} of at most "
            f"{header.bits_allocated} bits as the header says; one of them is damaged."
        )
    if stream.components != 1:
        raise ImageReadError(
            f"{name}: the compressed image has {stream.components} components, expected 1 as the header says; one of "
            "them is damaged."
        )


def _check_run_lengths(frame: bytes, header: PixelHeader, name: str) -> None:
    """Follow the runs (PS3.5 G.3) of a frame that could swell, since a decoder expands them all before it counts."""
    expected = header.rows * header.columns
    most = max(_HARMLESS_BYTES, 4 * expected)
    if len(frame) * _LARGEST_SWELLING <= most:
        return
    n_segments = min(int.from_bytes(frame[:4], "little"), 15)
    starts = struct.unpack(f"<{n_segments}L", frame[4 : 4 + 4 * n_segments])
    for start, end in pairwise([*starts, len(frame)]):
        n_bytes, position = 0, start
        while position < min(end, len(frame)):
            length = frame[position]
            n_bytes += length + 1 if length < 128 else 257 - length
            position += length + 2 if length < 128 else 2
            if n_bytes > most:
                raise ImageReadError(
                    f"{name}: the run-length coded pixel data expands to more than {most} bytes, expected {expected} "
                    "a segment; the file is damaged."
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
        Rows, columns, bits and components; None where the stream tells nothing (run-length coding, for one).

    Examples
    --------
    >>> codestream(bytes.fromhex("ffd8 ffc3 000b 0a 0006 0004 01 011100"))
    Codestream(rows=6, columns=4, precision=10, components=1)
    """
    if frame[:12] == _JP2_SIGNATURE:
        # The file format around a codestream (ISO/IEC 15444-1 annex I), which some writers leave there
        frame = frame[max(frame.find(_SOC_SIZ), 0) :]
    if frame[:4] == _SOC_SIZ and len(frame) > 42:
        width, height, left, top = struct.unpack(">4I", frame[8:24])
        components = int.from_bytes(frame[40:42], "big")
        return Codestream(height - top, width - left, (frame[42] & 0x7F) + 1, components)
    if frame[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 10 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        # SOF0 to SOF15 without DHT, JPG and DAC; SOF55 is JPEG-LS
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns, components = struct.unpack(">B2HB", frame[position + 4 : position + 10])
            return Codestream(rows, columns, precision, components)
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
