"""Headers of all DICOM files in a folder; those that cannot be read are listed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
from pydicom.dataset import Dataset

from xray_harmonize.dicom.age import age_in_years
from xray_harmonize.dicom.header import MAX_PIXELS, parse_dicom, pixel_header
from xray_harmonize.dicom.stored import check_decoder
from xray_harmonize.exceptions import NotEnoughImagesError, XRayHarmonizeError
from xray_harmonize.labels import SkippedRow

_LONGEST_TEXT = 64
_SHOWN_REASONS = 3
_COLUMNS = ["path", "stem", "readable", "patient_id", "view", "sex", "age", "pixel_spacing"]


def read_headers(folder: Path) -> tuple[pd.DataFrame, list[SkippedRow]]:
    """Read the headers of the files ``*.dcm`` below a folder, without their pixels.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    files : DataFrame
        One row a file, in the order of paths: ``path`` (relative to the folder), ``stem``, ``readable``, and where it
        is, ``patient_id``, ``view``, ``sex``, ``age`` (years) and ``pixel_spacing`` (between rows, mm).
    skipped : list of SkippedRow
        Files whose header cannot be read or is none of a radiograph, and why.

    Raises
    ------
    NotEnoughImagesError
        There is no such file, or none that can be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".dcm" and path.is_file())
    if not paths:
        raise NotEnoughImagesError(f"{folder}: no file .dcm, expected radiographs in DICOM. Check the folder.")
    records: list[dict[str, Any]] = []
    skipped: list[SkippedRow] = []
    for path in paths:
        place = path.relative_to(folder).as_posix()
        record: dict[str, Any] = {"path": place, "stem": path.stem, "readable": True}
        try:
            record |= _header(path)
        except XRayHarmonizeError as error:
            record["readable"] = False
            skipped.append(SkippedRow(0, place, str(error)))
        records.append(record)
    if len(skipped) == len(paths):
        reasons = "; ".join(one.reason for one in skipped[:_SHOWN_REASONS])
        more = f"; and {len(paths) - _SHOWN_REASONS} more" if len(paths) > _SHOWN_REASONS else ""
        raise NotEnoughImagesError(
            f"{folder}: none of {len(paths)} header(s) can be read: {reasons}{more}. Fetch the files again."
        )
    return pd.DataFrame(records, columns=_COLUMNS).astype({"age": float, "pixel_spacing": float}), skipped


def _header(path: Path) -> dict[str, Any]:
    name = os.fspath(path)
    dataset = parse_dicom(path, max_bytes=4 * MAX_PIXELS, header_only=True)
    header = pixel_header(dataset, name)
    check_decoder(header.transfer_syntax, name)
    return {
        "patient_id": _text(dataset, "PatientID"),
        "view": _text(dataset, "ViewPosition"),
        "sex": _text(dataset, "PatientSex"),
        "age": age_in_years(_text(dataset, "PatientAge")),
        "pixel_spacing": _first_number(dataset, "PixelSpacing"),
    }


def _text(dataset: Dataset, keyword: str) -> str | None:
    """Give a short printable text as stored: ages often lack their unit, which pydicom objects to when it converts."""
    element = dataset.get_item(keyword)
    value = None if element is None else element.value
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return "".join(character for character in text if character.isprintable()).strip()[:_LONGEST_TEXT] or None


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    try:
        return float((_text(dataset, keyword) or "").split("\\")[0])
    except ValueError:
        return None
