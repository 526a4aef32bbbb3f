"""Read a radiograph from a DICOM file.

The way of a pixel, in the order of the standard: decode (:mod:`~xray_harmonize.dicom.stored`), modality LUT or rescale,
polarity (:mod:`~xray_harmonize.dicom.grayscale`). Display windows and VOI LUTs are told, not applied: they are a
presentation, and how scanners present is what a harmonizer wants to see. Padding and shutter become a mask
(:mod:`~xray_harmonize.dicom.exclusion`).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from xray_harmonize.dicom.exclusion import collimator, counted_pixels
from xray_harmonize.dicom.grayscale import ModalityTransform, display_window, is_inverted, modality_transform
from xray_harmonize.dicom.header import MAX_PIXELS, PixelHeader, damage_named, parse_dicom, pixel_header
from xray_harmonize.dicom.stored import check_decoder, stored_values
from xray_harmonize.radiograph import Radiograph

_LONGEST_TEXT = 64


def read_dicom(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Read one greyscale projection image.

    Uncompressed (little and big endian, deflated), RLE, JPEG, JPEG-LS, JPEG 2000 and HTJ2K files are read, with or
    without a Part 10 header.

    Parameters
    ----------
    path : path-like
        The file.
    max_pixels : int, default=2**28
        Larger matrices are refused before memory is asked for.

    Returns
    -------
    Radiograph
        ``pixels``: uint8 (up to 8 bits) or uint16, air dark, counted from the smallest value that the header allows, so
        that ``pixels / (2**bits_stored - 1)`` is the fraction of the nominal range of modality values, for signed
        pixels and rescaled ones alike. ``mask``: False where a pixel is padding or behind the display shutter; None
        where all count. ``meta``, with None for what the file does not tell:

        ``path``, ``format``, ``bits_stored``
            The file, "DICOM", and the bits of ``pixels``.
        ``patient``
            PatientID, the only identifier that is kept.
        ``modality``, ``manufacturer``, ``model``, ``view``, ``laterality``, ``kvp``
            Acquisition.
        ``bits_stored_in_file``, ``photometric``, ``transfer_syntax``
            As in the file, whatever became of the pixels.
        ``presentation_lut_shape``, ``presentation_intent``
            As in the file.
        ``window_center``, ``window_width``, ``voi_lut_function``
            The first display window, in units of ``pixels``.
        ``voi_lut_sequence``
            Whether there is one.
        ``collimator_left``, ``_right``, ``_upper``, ``_lower``, ``collimator_in_pixels``
            See :func:`~xray_harmonize.dicom.exclusion.collimator`.

    Raises
    ------
    ImageReadError
        The file is missing, no DICOM, damaged, cut short, or compressed in a way no installed decoder reads.
    InvalidImageError
        It is DICOM, but not one greyscale image of at most 16 bits and ``max_pixels`` pixels.

    Notes
    -----
    Rows and columns stay as stored: orientation attributes are not applied.

    References
    ----------
    DICOM PS3.3 C.7.5.1.1.2 (padding), C.7.6.3 (pixels), C.7.6.11 (shutter), C.11.1 (modality LUT), C.11.2 (windows);
    PS3.5 8 and A (encoding).
    """
    name = os.fspath(path)
    dataset = parse_dicom(path, max_bytes=_max_bytes(max_pixels))
    with damage_named(name):
        return _radiograph(dataset, name, max_pixels)


def _radiograph(dataset: Dataset, name: str, max_pixels: int) -> Radiograph:
    header = pixel_header(dataset, name, max_pixels=max_pixels)
    stored = stored_values(dataset, header, name)
    mask = counted_pixels(dataset, stored, header, name)
    transform = modality_transform(dataset, header, name)
    pixels = transform.levels(stored)
    inverted = is_inverted(dataset, header, name)
    if inverted:
        np.subtract(pixels.dtype.type(transform.full_scale), pixels, out=pixels)
    meta = _meta(dataset, header, transform, inverted=inverted, name=name)
    return Radiograph(pixels, transform.bits, mask, meta, name)


def read_header(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """Read what the header tells, refusing all that :func:`read_dicom` would refuse by the header alone.

    Parameters and errors are those of :func:`read_dicom`; pixel data is neither read nor decoded.

    Returns
    -------
    dict
        The ``meta`` that :func:`read_dicom` gives.
    """
    name = os.fspath(path)
    dataset = parse_dicom(path, max_bytes=_max_bytes(max_pixels), header_only=True)
    with damage_named(name):
        header = pixel_header(dataset, name, max_pixels=max_pixels)
        check_decoder(header.transfer_syntax, name)
        transform = modality_transform(dataset, header, name)
        return _meta(dataset, header, transform, inverted=is_inverted(dataset, header, name), name=name)


def read_dicom_size(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read rows and columns, with the refusals of :func:`read_header`."""
    name = os.fspath(path)
    dataset = parse_dicom(path, max_bytes=_max_bytes(max_pixels), header_only=True)
    with damage_named(name):
        header = pixel_header(dataset, name, max_pixels=max_pixels)
        check_decoder(header.transfer_syntax, name)
        modality_transform(dataset, header, name)
    return header.rows, header.columns


def _meta(
    dataset: Dataset, header: PixelHeader, transform: ModalityTransform, *, inverted: bool, name: str
) -> dict[str, Any]:
    window = display_window(dataset, transform, inverted=inverted, name=name)
    return {
        "path": name,
        "format": "DICOM",
        "bits_stored": transform.bits,
        **_acquisition(dataset, header),
        "window_center": window.center if window else None,
        "window_width": window.width if window else None,
        "voi_lut_function": window.function if window else None,
        "voi_lut_sequence": bool(dataset.get("VOILUTSequence")),
        **collimator(dataset, header),
    }


def _max_bytes(max_pixels: int) -> int:
    """Two bytes a pixel, as much again for what else a file may carry, and room for the header."""
    return 4 * max_pixels + 2**26


def _acquisition(dataset: Dataset, header: PixelHeader) -> dict[str, Any]:
    """Facts that tell scanners apart; no names, dates, or free text."""
    return {
        "patient": _text(dataset, "PatientID"),
        "modality": _text(dataset, "Modality"),
        "manufacturer": _text(dataset, "Manufacturer"),
        "model": _text(dataset, "ManufacturerModelName"),
        "view": _text(dataset, "ViewPosition"),
        "laterality": _text(dataset, "ImageLaterality") or _text(dataset, "Laterality"),
        "kvp": _number(dataset, "KVP"),
        "bits_stored_in_file": header.bits_stored,
        "photometric": header.photometric,
        "presentation_lut_shape": _text(dataset, "PresentationLUTShape"),
        "presentation_intent": _text(dataset, "PresentationIntentType"),
        "transfer_syntax": str(header.transfer_syntax),
    }


def _text(dataset: Dataset, keyword: str) -> str | None:
    """Give a short printable text, None where empty: header text ends up in tables and reports."""
    try:
        text = str(dataset.get(keyword) or "")
    except Exception:  # a damaged element raises whatever its parser does
        return None
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:_LONGEST_TEXT] or None


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        number = float(dataset.get(keyword))
    except Exception:  # absent, empty, several or unreadable: there is no one number
        return None
    return number if np.isfinite(number) else None
