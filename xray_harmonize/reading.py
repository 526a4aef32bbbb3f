"""Read one radiograph from a file, whatever its format.

The content decides, not the extension: archives rename files, and DICOM files often have none.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from xray_harmonize.dicom.header import MAX_PIXELS, looks_like_dicom
from xray_harmonize.dicom.read import read_dicom, read_dicom_size
from xray_harmonize.exceptions import ImageReadError, InvalidImageError
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.raster import read_raster, read_raster_size, unit_floats

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x93NUMPY": "NPY",
}
_HEAD_BYTES = 132


def sniff_format(head: bytes) -> str | None:
    r"""Name the format of a file by its first bytes.

    Parameters
    ----------
    head : bytes
        The first 132 bytes, or the whole file if it is shorter.

    Returns
    -------
    {"DICOM", "PNG", "TIFF", "JPEG", "NPY"} or None
        A file that is DICOM and TIFF at once, which its preamble allows, is DICOM.

    Examples
    --------
    >>> sniff_format(b"\x93NUMPY and so on")
    'NPY'
    >>> sniff_format(b"<html>") is None
    True
    """
    if head[128:132] == b"DICM":
        return "DICOM"
    for magic, image_format in _MAGIC.items():
        if head.startswith(magic):
            return image_format
    return "DICOM" if looks_like_dicom(head) else None


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Read a greyscale image: PNG, TIFF, JPEG, NPY or DICOM.

    Parameters
    ----------
    path : path-like
        The file. Its content tells the format.
    max_pixels : int, default=2**28
        Larger images are refused by their header, before memory is asked for.

    Returns
    -------
    Radiograph
        ``pixels`` of shape (height, width), air dark, in memory of their own:

        ============================ ============================================================
        DICOM                        see :func:`xray_harmonize.dicom.read.read_dicom`
        PNG, TIFF, JPEG of 8 bits    uint8, 8 bits (greyscale of 2 and 4 bits comes scaled to 8)
        PNG, TIFF of 16 bits         uint16, 16 bits; TIFF of 9 to 15 bits keeps its depth
        1 bit                        uint8 of 0 and 1, 1 bit
        TIFF of floats               float32, must lie in [0, 1]
        NPY                          uint8 and uint16 as they are, int8 and int16 without negative
                                     values as the unsigned type of their size with 7 and 15 bits,
                                     floats in [0, 1] as float32
        ============================ ============================================================

        ``mask`` is None but for DICOM. ``meta`` holds ``path`` and ``format``, for DICOM much more.

    Raises
    ------
    ImageReadError
        The file is missing, of none of these formats, damaged or cut short.
    InvalidImageError
        It decodes to something that is no radiograph: colour that is not grey, transparency, several pages, floats
        outside [0, 1], negative integers, booleans, integers of unknown depth, too many pixels.

    Notes
    -----
    Colour images whose channels are equal are grey, palettes included. TIFF files whose zero is white are inverted.
    Gamma and colour profiles are ignored: stored values are what harmonizers work on. JPEG and TIFF files that ask to
    be turned are turned, as every viewer shows them; ``meta["exif_orientation"]`` then holds what they asked for.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "chest.npy")
    >>> np.save(path, np.full((4, 3), 700, dtype=np.uint16))
    >>> image = read_image(path)
    >>> image.pixels.shape, image.bits_stored, image.meta["format"]
    ((4, 3), 16, 'NPY')
    >>> folder.cleanup()
    """
    image_format = recognize(path)
    if image_format == "DICOM":
        return read_dicom(path, max_pixels=max_pixels)
    if image_format == "NPY":
        return _read_npy(path, max_pixels)
    return read_raster(path, image_format, max_pixels=max_pixels)


def read_size(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read rows and columns of an image from its header.

    Nothing is decoded; files that :func:`read_image` would refuse by their header are refused with the same errors.

    Parameters
    ----------
    path : path-like
        The file.
    max_pixels : int, default=2**28
        Larger images are refused.

    Returns
    -------
    tuple of int
        (rows, columns).
    """
    image_format = recognize(path)
    if image_format == "DICOM":
        return read_dicom_size(path, max_pixels=max_pixels)
    if image_format == "NPY":
        rows, columns = _map_npy(path, max_pixels).shape
        return rows, columns
    return read_raster_size(path, image_format, max_pixels=max_pixels)


def recognize(path: str | os.PathLike[str]) -> str:
    """Name the format of a file: "DICOM", "PNG", "TIFF", "JPEG" or "NPY".

    Raises
    ------
    ImageReadError
        If the file cannot be opened or is of none of these formats.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ImageReadError(
            f"{name}: cannot be opened ({error.strerror or error}); check the path and its permissions."
        ) from error
    image_format = sniff_format(head)
    if image_format is None:
        raise ImageReadError(
            f"{name}: no image that can be read, expected PNG, TIFF, JPEG, NPY or DICOM, got a file of "
            f"{'no bytes' if not head else f'first bytes {head[:8]!r}'}; convert it or leave it out."
        )
    return image_format


def _map_npy(path: str | os.PathLike[str], max_pixels: int) -> np.ndarray:
    """Map an array without reading its data: the header is checked before memory is asked for."""
    name = os.fspath(path)
    try:
        # A map is refused if the file is shorter than its header says; pickled objects never load.
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # the parser meets arbitrary bytes: whatever it raises, the file is at fault
        raise ImageReadError(
            f"{name}: not a readable NPY array of numbers ({type(error).__name__}: {error}); "
            "the file is damaged, cut short or holds objects, save it again."
        ) from error
    if array.ndim != 2 or array.size == 0:
        raise InvalidImageError(
            f"{name}: an array of shape {array.shape}, expected (height, width); save one image a file."
        )
    if array.size > max_pixels:
        raise InvalidImageError(
            f"{name}: {array.shape[0]} x {array.shape[1]} pixels, expected at most {max_pixels}; "
            "raise max_pixels if the header is sound."
        )
    if array.dtype.kind not in "uif" or (array.dtype.kind != "f" and array.dtype.itemsize > 2):
        raise InvalidImageError(
            f"{name}: an array of {array.dtype}, expected uint8, uint16 or floats in [0, 1]; this type does not "
            "tell how many bits its values have, save it as one of those."
        )
    return array


def _read_npy(path: str | os.PathLike[str], max_pixels: int) -> Radiograph:
    name = os.fspath(path)
    array = np.array(_map_npy(path, max_pixels), order="C", subok=False)
    meta = {"path": name, "format": "NPY"}
    if array.dtype.kind == "f":
        return Radiograph(unit_floats(array, name), 0, None, meta, name)
    if array.min() < 0:
        raise InvalidImageError(
            f"{name}: integers from {array.min()}, expected none below 0; add the offset and save it as uint16."
        )
    # A sign bit that is never set holds no level: full scale is what the type can hold
    bits_stored = 8 * array.dtype.itemsize - (array.dtype.kind == "i")
    return Radiograph(array.astype(f"u{array.dtype.itemsize}"), bits_stored, None, meta, name)
