"""Headers of all DICOM files in a folder; those that cannot be read are listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from xray_harmonize.dicom.acquisition import read_acquisition
from xray_harmonize.dicom.spacing import CALIBRATED
from xray_harmonize.exceptions import NotEnoughImagesError, XRayHarmonizeError
from xray_harmonize.labels import SkippedRow

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
        is, ``patient_id``, ``view``, ``sex``, ``age`` (years) and ``pixel_spacing`` (Pixel Spacing between rows, mm).
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
    row = read_acquisition(path)
    is_calibrated = row["pixel_spacing_source"] == CALIBRATED
    return {
        "patient_id": row["patient_id"],
        "view": row["view"],
        "sex": row["sex"],
        "age": row["age_years"],
        "pixel_spacing": row["pixel_spacing_mm"] if is_calibrated else None,
    }
