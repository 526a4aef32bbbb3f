"""A small folder of DICOM files for tests of the catalogue."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from dicom_factory import make_dicom

from xray_harmonize.catalog.database import open_readonly

STORED = np.arange(12, dtype=np.uint16).reshape(3, 4)


def put_image(path: Path, *, patient: str = "p1", study: str = "1.2.1", **attributes: Any) -> Path:
    """Write one radiograph; attributes are DICOM keywords, None leaves one out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    described = {
        "Manufacturer": "GE Healthcare",
        "ManufacturerModelName": "XR656",
        "KVP": "120",
        "ViewPosition": "PA",
        "PatientID": patient,
        "StudyInstanceUID": study,
        "SOPInstanceUID": f"1.2.{zlib.crc32(path.stem.encode())}",
    }
    told = {keyword: value for keyword, value in {**described, **attributes}.items() if value is not None}
    return make_dicom(path, STORED, bits_stored=12, **told)


def table(db: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a catalogue without the class that is tested."""
    connection = open_readonly(db)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
