"""Distances between pixels and the plane they are measured in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import make_dicom
from pydicom.uid import ImplicitVRLittleEndian

from xray_harmonize.dicom.read import read_dicom, read_header

IMAGER = {"ImagerPixelSpacing": [0.2, 0.3]}
MAGNIFIED = {**IMAGER, "EstimatedRadiographicMagnificationFactor": 1.25}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, (None, None, None, None)),
        ({"PixelSpacing": [0.1, 0.15]}, (0.1, 0.15, "PixelSpacing", None)),
        ({"PixelSpacing": [0.1, 0.15], **MAGNIFIED}, (0.1, 0.15, "PixelSpacing", 1.25)),
        (IMAGER, (0.2, 0.3, "ImagerPixelSpacing", None)),
        (MAGNIFIED, (0.16, 0.24, "ImagerPixelSpacing / magnification", 1.25)),
        ({"PixelSpacing": [0, 0], **MAGNIFIED}, (0.16, 0.24, "ImagerPixelSpacing / magnification", 1.25)),
        ({"PixelSpacing": [0.1, -0.1]}, (None, None, None, None)),
        ({"PixelSpacing": 0.1}, (None, None, None, None)),
        ({"PixelSpacing": None, **IMAGER}, (0.2, 0.3, "ImagerPixelSpacing", None)),
        ({**IMAGER, "EstimatedRadiographicMagnificationFactor": 0}, (0.2, 0.3, "ImagerPixelSpacing", None)),
        ({"EstimatedRadiographicMagnificationFactor": 1.1}, (None, None, None, 1.1)),
        ({**IMAGER, "EstimatedRadiographicMagnificationFactor": "1e-320"}, (None, None, None, 1e-320)),
    ],
)
def test_spacing_and_where_it_came_from(tmp_path: Path, attributes: dict[str, Any], expected: tuple[Any, ...]) -> None:
    kept = {keyword: value for keyword, value in attributes.items() if value is not None}
    path = make_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), **kept)
    for meta in (read_dicom(path).meta, read_header(path)):
        keys = ("pixel_spacing", "pixel_spacing_column", "pixel_spacing_source", "magnification")
        assert tuple(meta[key] for key in keys) == pytest.approx(expected)


def test_spacing_that_is_no_number_counts_as_absent(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), PixelSpacing=[0.5, 0.5], syntax=ImplicitVRLittleEndian
    )
    path.write_bytes(path.read_bytes().replace(b"0.5\\0.5 ", b"0.5\\wide"))
    assert read_dicom(path).meta["pixel_spacing"] is None
