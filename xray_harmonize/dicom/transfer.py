"""Transfer syntaxes that images are written in: uncompressed or losslessly compressed, never lossy."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import get_encoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from xray_harmonize.exceptions import InvalidParameterError, MissingDependencyError

SYNTAXES: dict[str, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg2000": JPEG2000Lossless,
    "jpeg-ls": JPEGLSLossless,
}
"""Names of the transfer syntaxes that can be asked for."""

_ENCODERS = {
    RLELossless: "pydicom",
    JPEG2000Lossless: "pylibjpeg and pylibjpeg-openjpeg",
    JPEGLSLossless: "pyjpegls",
}
LOSSY_METHODS: dict[UID, str] = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}
"""Lossy Image Compression Method (0028,2114) of the syntaxes that lose, or may lose."""

# OpenJPEG halves an image five times
_SMALLEST_JPEG2000 = 32

ALWAYS_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)


def chosen_syntax(source: UID, wanted: str | None, shape: tuple[int, int]) -> UID:
    """Choose the transfer syntax of a derived image.

    Parameters
    ----------
    source : pydicom.uid.UID
        That of the source.
    wanted : str or None
        A name of :data:`SYNTAXES` or its UID. None keeps the source's where it can be written without loss; else
        Explicit VR Little Endian takes its place: for lossy syntaxes, which would lose once more, for lossless JPEG and
        HTJ2K, for which there is no encoder, for Explicit VR Big Endian, which is retired, and for JPEG 2000 where
        the image is smaller than its six resolutions (32 pixels).
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    pydicom.uid.UID

    Raises
    ------
    InvalidParameterError
        The syntax asked for is none that is written, or not at this size.
    MissingDependencyError
        Its encoder is not installed.

    Examples
    --------
    >>> chosen_syntax(JPEGBaseline8Bit, None, (3000, 3000)).name
    'Explicit VR Little Endian'
    """
    too_small = min(shape) < _SMALLEST_JPEG2000
    if wanted is None:
        fits = source in SYNTAXES.values() and not (too_small and source == JPEG2000Lossless)
        return source if fits and _is_installed(source) else ExplicitVRLittleEndian
    syntax = next((uid for name, uid in SYNTAXES.items() if wanted in (name, uid)), None)
    if syntax is None:
        raise InvalidParameterError(
            f"transfer_syntax must be one of {', '.join(map(repr, SYNTAXES))} or the UID of one of them; "
            f"got {str(wanted)[:80]!r}. Nothing is written lossy, big endian or as lossless JPEG."
        )
    if too_small and syntax == JPEG2000Lossless:
        raise InvalidParameterError(
            f"transfer_syntax {str(wanted)!r} needs at least {_SMALLEST_JPEG2000} rows and columns, got {shape[0]} x "
            f"{shape[1]}; take 'explicit' or 'rle' for so small an image."
        )
    if not _is_installed(syntax):
        raise MissingDependencyError(
            f"transfer_syntax {syntax} ({syntax.name}) needs an encoder that is not installed; "
            f"install {_ENCODERS[syntax]}."
        )
    return syntax


def _is_installed(syntax: UID) -> bool:
    return syntax not in _ENCODERS or bool(get_encoder(syntax).is_available)


def set_pixel_data(dataset: Dataset, stored: np.ndarray, syntax: UID) -> None:
    """Encode stored values into a data set whose Image Pixel attributes already describe them."""
    if syntax in _ENCODERS:
        if "PixelData" in dataset:
            del dataset.PixelData
        dataset.compress(syntax, stored, generate_instance_uid=False)
        return
    data = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<")).tobytes()
    dataset.add_new("PixelData", "OW" if stored.dtype.itemsize > 1 else "OB", data + b"\0" * (len(data) % 2))
    dataset.file_meta.TransferSyntaxUID = syntax
