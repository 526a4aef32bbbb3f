"""Derived images of small files, for the tests of writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dicom_factory import make_dicom, stored_sample
from pydicom.dataset import Dataset

from xray_harmonize.dicom.write import derived_dicom, write_dicom_file

METHOD, MODEL = "CDF matching", "0123456789abcdef" * 4


def ramp(shape=(6, 7)):
    return np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)


def derive(source, pixels=None, **options):
    pixels = ramp() if pixels is None else pixels
    return derived_dicom(source, pixels, method=METHOD, model_hash=MODEL, **options)


def derived_of(path: Path, *, options=None, **attributes):
    """Derive from a small file with these attributes."""
    stored = attributes.pop("stored", stored_sample(12, signed=False))
    return derive(make_dicom(path / "a.dcm", stored, bits_stored=12, **attributes), **(options or {}))


def large(path: Path, **options):
    """Derive from a file that is large enough for every compression."""
    stored = stored_sample(12, signed=False, shape=(32, 33))
    return derive(make_dicom(path / "a.dcm", stored, bits_stored=12, SOPInstanceUID="1.2.4"), ramp((32, 33)), **options)


def written(dataset: Dataset, path: Path) -> Path:
    write_dicom_file(dataset, path)
    return path
