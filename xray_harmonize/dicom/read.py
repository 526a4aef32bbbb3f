"""Read a radiograph from a DICOM file.

The way of a pixel, in the order of the standard: decode (:mod:`~xray_harmonize.dicom.stored`), modality LUT or rescale
(:mod:`~xray_harmonize.dicom.grayscale`), window or VOI LUT (:mod:`~xray_harmonize.dicom.voi`), polarity. Windows and
VOI LUTs are told and not applied unless asked for: they are a presentation, and what scanners measured before it is
what a harmonizer wants to see. Padding and shutter become a mask (:mod:`~xray_harmonize.dicom.exclusion`).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from xray_harmonize.dicom.exclusion import Shutters, collimator, counted_pixels, shutter_openings
from xray_harmonize.dicom.grayscale import ModalityTransform, display_window, is_inverted, modality_transform
from xray_harmonize.dicom.header import MAX_PIXELS, PixelHeader, damage_named, max_file_bytes, parse_dicom, pixel_header
from xray_harmonize.dicom.header_text import one_line
from xray_harmonize.dicom.provenance import provenance
from xray_harmonize.dicom.spacing import read_spacing
from xray_harmonize.dicom.stored import check_decoder, stored_values
from xray_harmonize.dicom.voi import VOI_BITS, Voi, check_voi, voi_stage
from xray_harmonize.radiograph import Radiograph

_LONGEST_TEXT = 64


def read_dicom(path: str | os.PathLike[str], *, voi: str = "none", max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Read one greyscale projection image.

    Uncompressed (little and big endian, deflated), RLE, JPEG, JPEG-LS, JPEG 2000 and HTJ2K files are read, with or
    without a Part 10 header.

    Parameters
    ----------
    path : path-like
        The file.
    voi : {"none", "window", "lut", "auto"}, default="none"
        Values of interest: nothing, the first display window, the first VOI LUT, or the LUT where there is one, else
        the window, else nothing. See :mod:`~xray_harmonize.dicom.voi`.
    max_pixels : int, default=2**28
        Larger matrices are refused before memory is asked for.

    Returns
    -------
    Radiograph
        ``pixels``: uint8 (up to 8 bits) or uint16, air dark, counted from the smallest value that the header allows, so
        that ``pixels / (2**bits_stored - 1)`` is the fraction of the nominal range of modality values, for signed
        pixels and rescaled ones alike. Behind a window or VOI LUT: uint16 of 16 bits, the fraction of what it gives.
        ``mask``: False where a pixel is padding or behind the display shutter; None where all count. ``meta``, with
        None for what the file does not tell:

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
            The first display window, in units of ``pixels``; None if a window or VOI LUT was applied.
        ``voi_lut_sequence``
            Whether there is one.
        ``collimator_left``, ``_right``, ``_upper``, ``_lower``, ``collimator_in_pixels``
            See :func:`~xray_harmonize.dicom.exclusion.collimator`.
        ``pixel_spacing``, ``pixel_spacing_column``, ``pixel_spacing_source``, ``magnification``
            Distances between rows and between columns in mm, see :func:`~xray_harmonize.dicom.spacing.spacing_of`.
        ``provenance``
            The steps that the pixels went through and the tags that each came from, see
            :func:`~xray_harmonize.dicom.provenance.provenance`.

    Raises
    ------
    ImageReadError
        The file is missing, no DICOM, damaged, cut short, or compressed in a way no installed decoder reads.
    InvalidImageError
        It is DICOM, but not one greyscale image of at most 16 bits and ``max_pixels`` pixels; or it has no window or
        VOI LUT where one was asked for.
    InvalidParameterError
        ``voi`` is none of the four.

    Notes
    -----
    Rows and columns stay as stored: orientation attributes are not applied.

    References
    ----------
    DICOM PS3.3 C.7.5.1.1.2 (padding), C.7.6.3 (pixels), C.7.6.11 (shutter), C.11.1 (modality LUT), C.11.2 (windows);
    PS3.5 8 and A (encoding).
    """
    check_voi(voi)
    name = os.fspath(path)
    dataset = parse_dicom(path, max_bytes=max_file_bytes(max_pixels))
    with damage_named(name):
        return _radiograph(dataset, voi, name, max_pixels)


def _radiograph(dataset: Dataset, choice: str, name: str, max_pixels: int) -> Radiograph:
    header = pixel_header(dataset, name, max_pixels=max_pixels)
    transform = modality_transform(dataset, header, name)
    voi = voi_stage(dataset, transform, choice, name)
    stored = stored_values(dataset, header, name)
    shutters = shutter_openings(dataset, header, name)
    mask = counted_pixels(dataset, stored, header, shutters)
    pixels = transform.levels(stored)
    full_scale = transform.full_scale
    if voi is not None:
        pixels, full_scale = voi.table[pixels], (1 << VOI_BITS) - 1
    inverted = is_inverted(dataset, header, name)
    if inverted:
        np.subtract(pixels.dtype.type(full_scale), pixels, out=pixels)
    meta = _meta(dataset, header, transform, voi, shutters, inverted=inverted, name=name)
    return Radiograph(pixels, meta["bits_stored"], mask, meta, name)


def read_header(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """Read what the header tells, refusing all that :func:`read_dicom` would refuse by the header alone.

    Parameters and errors are those of :func:`read_dicom`; pixel data is neither read nor decoded.

    Returns
    -------
    dict
        The ``meta`` that :func:`read_dicom` gives with ``voi="none"``.
    """
    name = os.fspath(path)
    dataset = parse_dicom(path, max_bytes=max_file_bytes(max_pixels), header_only=True)
    with damage_named(name):
        header = pixel_header(dataset, name, max_pixels=max_pixels)
        check_decoder(header.transfer_syntax, name)
        transform = modality_transform(dataset, header, name)
        shutters = shutter_openings(dataset, header, name)
        inverted = is_inverted(dataset, header, name)
        return _meta(dataset, header, transform, None, shutters, inverted=inverted, name=name)


def read_dicom_size(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read rows and columns, with the refusals of :func:`read_header`."""
    name = os.fspath(path)
    dataset = parse_dicom(path, max_bytes=max_file_bytes(max_pixels), header_only=True)
    with damage_named(name):
        header = pixel_header(dataset, name, max_pixels=max_pixels)
        check_decoder(header.transfer_syntax, name)
        modality_transform(dataset, header, name)
    return header.rows, header.columns


def _meta(
    dataset: Dataset,
    header: PixelHeader,
    transform: ModalityTransform,
    voi: Voi | None,
    shutters: Shutters,
    *,
    inverted: bool,
    name: str,
) -> dict[str, Any]:
    window = display_window(dataset, transform, inverted=inverted, name=name) if voi is None else None
    spacing = read_spacing(dataset)
    return {
        "path": name,
        "format": "DICOM",
        "bits_stored": transform.bits if voi is None else VOI_BITS,
        **_acquisition(dataset, header),
        "window_center": window.center if window else None,
        "window_width": window.width if window else None,
        "voi_lut_function": window.function if window else None,
        "voi_lut_sequence": bool(dataset.get("VOILUTSequence")),
        **collimator(dataset, header),
        "pixel_spacing": spacing.row,
        "pixel_spacing_column": spacing.column,
        "pixel_spacing_source": spacing.source,
        "magnification": spacing.magnification,
        "provenance": provenance(dataset, header, transform, voi, inverted=inverted, shutters=list(shutters)),
    }


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
    return one_line(text)[:_LONGEST_TEXT] or None


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        number = float(dataset.get(keyword))
    except Exception:  # absent, empty, several or unreadable: there is no one number
        return None
    return number if np.isfinite(number) else None
