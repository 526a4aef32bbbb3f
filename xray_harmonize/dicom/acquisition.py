"""How an image was acquired, as one row of a table: everything that tells one X-ray device from another.

Only facts that a study of scanners needs are taken: no names, dates or free text. Texts are short and printable, and
numbers are as they are in the file; which of them cannot be true is said in a column of its own.
"""

from __future__ import annotations

import math
import os
import re
from typing import Any

from xray_harmonize.dicom.age import age_in_years
from xray_harmonize.dicom.exposure import EXPOSURE_ATTRIBUTES, exposure_of, implausible_values
from xray_harmonize.dicom.grayscale import modality_transform
from xray_harmonize.dicom.header import (
    MAX_PIXELS,
    PixelHeader,
    checked_pixel_header,
    damage_named,
    max_file_bytes,
    parse_dicom,
    pixel_header,
)
from xray_harmonize.dicom.header_text import one_line
from xray_harmonize.dicom.scanner import acquisition_group, scanner_label
from xray_harmonize.dicom.spacing import spacing_of
from xray_harmonize.dicom.stored import check_decoder
from xray_harmonize.dicom.tag_scan import Value, WantedTags, dataset_values, scan_file
from xray_harmonize.dicom.vendors import normalized_vendor
from xray_harmonize.exceptions import XRayHarmonizeError

ACQUISITION_COLUMNS: dict[str, type] = {
    "sop_instance_uid": str,
    "sop_class_uid": str,
    "series_instance_uid": str,
    "study_instance_uid": str,
    "patient_id": str,
    "image_type": str,
    "modality": str,
    "rows": int,
    "columns": int,
    "bits_allocated": int,
    "bits_stored": int,
    "signed": bool,
    "photometric": str,
    "presentation_lut_shape": str,
    "presentation_intent": str,
    "transfer_syntax": str,
    "manufacturer": str,
    "vendor": str,
    "model": str,
    "device_serial": str,
    "detector_id": str,
    "detector_type": str,
    "software_versions": str,
    "processing_description": str,
    "processing_code": str,
    "body_part": str,
    "view": str,
    "laterality": str,
    "patient_orientation": str,
    "kvp": float,
    "mas": float,
    "mas_source": str,
    "tube_current_ma": float,
    "tube_current_source": str,
    "exposure_time_ms": float,
    "exposure_time_source": str,
    "exposure_index": float,
    "target_exposure_index": float,
    "deviation_index": float,
    "relative_exposure": float,
    "sensitivity": float,
    "sid_mm": float,
    "grid": str,
    "dap": float,
    "pixel_spacing_mm": float,
    "pixel_spacing_column_mm": float,
    "pixel_spacing_source": str,
    "magnification": float,
    "age_years": float,
    "sex": str,
    "portable": bool,
    "implausible": str,
    "scanner": str,
    "acquisition_group": str,
}
"""Columns of an acquisition and their types, in order; see :func:`read_acquisition`."""

# Free text: it is read, since it alone tells portable from fixed units, and never kept
_PROCEDURE = (
    "PerformedProcedureStepDescription",
    "StudyDescription",
    "SeriesDescription",
    "RequestedProcedureDescription",
    "ProtocolName",
)
_TEXTS = {
    "sop_instance_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "series_instance_uid": "SeriesInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "patient_id": "PatientID",
    "modality": "Modality",
    "presentation_lut_shape": "PresentationLUTShape",
    "presentation_intent": "PresentationIntentType",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "device_serial": "DeviceSerialNumber",
    "detector_id": "DetectorID",
    "detector_type": "DetectorType",
    "processing_description": "AcquisitionDeviceProcessingDescription",
    "processing_code": "AcquisitionDeviceProcessingCode",
    "body_part": "BodyPartExamined",
    "view": "ViewPosition",
    "sex": "PatientSex",
}
# Of several values, the first says little where they are parts of one statement
_JOINED_TEXTS = {
    "image_type": "ImageType",
    "software_versions": "SoftwareVersions",
    "patient_orientation": "PatientOrientation",
    "grid": "Grid",
}
_NUMBERS = {
    "kvp": "KVP",
    "exposure_index": "ExposureIndex",
    "target_exposure_index": "TargetExposureIndex",
    "deviation_index": "DeviationIndex",
    "relative_exposure": "RelativeXRayExposure",
    "sensitivity": "Sensitivity",
    "sid_mm": "DistanceSourceToDetector",
    "dap": "ImageAndFluoroscopyAreaDoseProduct",
}
_LATERALITIES = ("ImageLaterality", "Laterality")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "EstimatedRadiographicMagnificationFactor")
_PIXELS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
)
WANTED = WantedTags(
    *_TEXTS.values(),
    *_JOINED_TEXTS.values(),
    *_NUMBERS.values(),
    *_LATERALITIES,
    *_SPACINGS,
    *_PIXELS,
    *_PROCEDURE,
    *EXPOSURE_ATTRIBUTES,
    "PatientAge",
)
"""Attributes that are looked for in a header."""
_LONGEST_TEXT = 64
_PORTABLE = re.compile(r"\b(?:PORTABLE|BEDSIDE|MOBILE)\b")
_POSTERO_ANTERIOR = re.compile(r"\bPA\b")


def read_acquisition(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> dict[str, Any]:
    """Read how an image was acquired from its header.

    Pixel data is neither read nor decoded. What :func:`~xray_harmonize.dicom.read.read_header` refuses is refused here,
    with the same message, except for damage in a part of the header that holds nothing of what is wanted, such as the
    items of a sequence.

    Parameters
    ----------
    path : path-like
        The file.
    max_pixels : int, default=2**28
        Larger matrices are refused.

    Returns
    -------
    dict
        The keys of :data:`ACQUISITION_COLUMNS`, in that order, None where the file does not tell (or tells what is
        no number). Texts are printable and at most 64 characters; of several values the first, but all of image_type,
        software_versions, patient_orientation and grid, parted by a backslash.

        ``patient_id``, ``*_uid``
            As in the file.
        ``rows``, ``columns``, ``bits_allocated``, ``bits_stored``, ``signed``, ``photometric``, ``transfer_syntax``
            How pixels are stored. ``signed`` is Pixel Representation.
        ``vendor``
            Manufacturer by one name, see :func:`~xray_harmonize.dicom.vendors.normalized_vendor`.
        ``laterality``
            Image Laterality (0020,0062), else Laterality (0020,0060).
        ``kvp``, ``mas``, ``tube_current_ma``, ``exposure_time_ms``, ``*_source``
            Tube voltage in kV and exposure in mAs, mA and ms with the attribute each comes from, see
            :func:`~xray_harmonize.dicom.exposure.exposure_of`.
        ``exposure_index``, ``target_exposure_index``, ``deviation_index``, ``relative_exposure``, ``sensitivity``
            (0018,1411), (0018,1412), (0018,1413), (0018,1405), (0018,6000).
        ``sid_mm``, ``grid``, ``dap``
            Distance Source to Detector, Grid, dose area product in dGy cm2 (0018,115E).
        ``pixel_spacing_mm``, ``pixel_spacing_column_mm``, ``pixel_spacing_source``, ``magnification``
            Between rows and between columns, see :func:`~xray_harmonize.dicom.spacing.spacing_of`.
        ``age_years``, ``sex``
            Patient's Age (0010,1010) and Sex (0010,0040).
        ``portable``
            True for a mobile unit: the description of the procedure, study or series says so, and the view, if there
            is one, is AP. False for a fixed one: a PA view, or a description that names PA, since a patient who is
            imaged from behind stands at a wall stand. None where neither or both is said. Descriptions are not kept.
        ``implausible``
            Names of values that cannot be true, see :func:`~xray_harmonize.dicom.exposure.implausible_values`.
        ``scanner``, ``acquisition_group``
            See :func:`~xray_harmonize.dicom.scanner.scanner_label` and
            :func:`~xray_harmonize.dicom.scanner.acquisition_group`.

    Raises
    ------
    ImageReadError
        The file is missing, no DICOM, damaged, or compressed in a way no installed decoder reads.
    InvalidImageError
        It is DICOM, but not one greyscale image of at most 16 bits and ``max_pixels`` pixels.

    References
    ----------
    DICOM PS3.3 C.7.5.1 (equipment), C.8.7 and C.8.11 (X-ray acquisition), C.8.11.1 (DX series).

    Examples
    --------
    >>> list(ACQUISITION_COLUMNS)[7:10]
    ['rows', 'columns', 'bits_allocated']
    """
    plain = _read_plain(path, max_pixels)
    return _read_any(path, max_pixels) if plain is None else plain


def _read_plain(path: str | os.PathLike[str], max_pixels: int) -> dict[str, Any] | None:
    """Read a file of the common encodings; None for all that is unusual or refused, which the parser then tells of."""
    name = os.fspath(path)
    try:
        values = scan_file(path, WANTED, max_bytes=max_file_bytes(max_pixels))
        if values is None or not _has_usable_rescale(values.attributes):
            return None
        header = checked_pixel_header(values.attributes, values.transfer_syntax, name, max_pixels=max_pixels)
        check_decoder(header.transfer_syntax, name)
    except (OSError, XRayHarmonizeError):
        return None
    return _acquisition(values.attributes, header)


def _read_any(path: str | os.PathLike[str], max_pixels: int) -> dict[str, Any]:
    """Read any file with the general parser, or say why it is refused."""
    name = os.fspath(path)
    dataset = parse_dicom(path, max_bytes=max_file_bytes(max_pixels), header_only=True)
    with damage_named(name):
        values = dataset_values(dataset, WANTED)
        header = pixel_header(dataset, name, max_pixels=max_pixels)
        check_decoder(header.transfer_syntax, name)
        modality_transform(dataset, header, name)
        return _acquisition(values.attributes, header)


def _has_usable_rescale(attributes: dict[str, Value]) -> bool:
    slope = _number(attributes, "RescaleSlope") if "RescaleSlope" in attributes else 1.0
    intercept = _number(attributes, "RescaleIntercept") if "RescaleIntercept" in attributes else 0.0
    return bool(slope) and intercept is not None


def _acquisition(attributes: dict[str, Value], header: PixelHeader) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(ACQUISITION_COLUMNS)
    for column, keyword in _TEXTS.items():
        if keyword in attributes:
            row[column] = _clean(str(attributes[keyword]).partition("\\")[0])
    for column, keyword in _JOINED_TEXTS.items():
        if keyword in attributes:
            row[column] = _clean(str(attributes[keyword]))
    for column, keyword in _NUMBERS.items():
        if keyword in attributes:
            row[column] = _number(attributes, keyword)
    for keyword in _LATERALITIES:
        row["laterality"] = row["laterality"] or _clean(str(attributes.get(keyword, "")).partition("\\")[0])
    for column in ("rows", "columns", "bits_allocated", "bits_stored", "signed", "photometric"):
        row[column] = getattr(header, column)
    row["transfer_syntax"] = str(header.transfer_syntax)
    numbers = {keyword: _number(attributes, keyword) for keyword in EXPOSURE_ATTRIBUTES if keyword in attributes}
    row |= exposure_of({keyword: number for keyword, number in numbers.items() if number is not None})._asdict()
    spacing = spacing_of(*(_numbers(attributes, keyword) for keyword in _SPACINGS))
    row["pixel_spacing_mm"], row["pixel_spacing_column_mm"] = spacing.row, spacing.column
    row["pixel_spacing_source"], row["magnification"] = spacing.source, spacing.magnification
    row["age_years"] = age_in_years(str(attributes.get("PatientAge", "")))
    row["vendor"] = normalized_vendor(row["manufacturer"])
    row["portable"] = _is_portable(row["view"], " ".join(str(attributes.get(keyword, "")) for keyword in _PROCEDURE))
    row["implausible"] = implausible_values(row)
    row["acquisition_group"] = acquisition_group(row)
    row["scanner"] = scanner_label(row)
    return row


def _clean(text: str) -> str | None:
    """Short printable text, None where empty: header text ends up in tables and reports."""
    return one_line(text)[:_LONGEST_TEXT].rstrip() or None


def _number(attributes: dict[str, Value], keyword: str) -> float | None:
    """Give the first value as a finite number."""
    value = attributes[keyword]
    if isinstance(value, str):
        value = value.partition("\\")[0][:_LONGEST_TEXT]
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _numbers(attributes: dict[str, Value], keyword: str) -> list[float]:
    """Give all values, none where one of them is no number."""
    try:
        return [float(value) for value in str(attributes[keyword]).split("\\")]
    except (KeyError, ValueError):
        return []


def _is_portable(view: str | None, procedure: str) -> bool | None:
    procedure = procedure.upper()
    portable = bool(_PORTABLE.search(procedure))
    fixed = view == "PA" or bool(_POSTERO_ANTERIOR.search(procedure))
    if portable and view in ("AP", None) and not fixed:
        return True
    return False if fixed and not portable else None
