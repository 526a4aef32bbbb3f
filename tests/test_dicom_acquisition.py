"""Acquisitions from headers: the columns, what they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import NATIVE, image_dataset, make_dicom, make_encapsulated, modality_lut, write_dicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from xray_harmonize.dicom.acquisition import ACQUISITION_COLUMNS, WANTED, read_acquisition
from xray_harmonize.dicom.header import parse_dicom
from xray_harmonize.dicom.read import read_header
from xray_harmonize.dicom.tag_scan import dataset_values, scan_file
from xray_harmonize.exceptions import ImageReadError, InvalidImageError

STORED = np.zeros((6, 5), np.uint16)
FULL: dict[str, Any] = {
    "ImageType": ["DERIVED", "PRIMARY"],
    "SeriesInstanceUID": "1.2.3",
    "StudyInstanceUID": "1.2.4",
    "PatientID": "17",
    "PatientName": "Doe^Jane",
    "PatientBirthDate": "19500101",
    "PatientAge": "018M",
    "PatientSex": "F",
    "StudyDescription": "CHEST (PORTABLE AP)",
    "PresentationLUTShape": "IDENTITY",
    "PresentationIntentType": "FOR PRESENTATION",
    "Manufacturer": "GE Healthcare",
    "ManufacturerModelName": "Optima XR220",
    "DeviceSerialNumber": "S1",
    "DetectorID": "D1",
    "DetectorType": "SCINTILLATOR",
    "SoftwareVersions": ["1.0", "2.0"],
    "AcquisitionDeviceProcessingDescription": "CHEST AP",
    "AcquisitionDeviceProcessingCode": "C1",
    "BodyPartExamined": "CHEST",
    "ViewPosition": "AP",
    "ImageLaterality": "U",
    "Laterality": "L",
    "PatientOrientation": ["L", "F"],
    "KVP": "85",
    "ExposureInuAs": "1600",
    "Exposure": "2",
    "XRayTubeCurrent": "200",
    "ExposureTime": "8",
    "ExposureIndex": "410.5",
    "TargetExposureIndex": "400",
    "DeviationIndex": "0.1",
    "RelativeXRayExposure": "300",
    "Sensitivity": "200",
    "DistanceSourceToDetector": "1800",
    "Grid": ["FIXED", "FOCUSED"],
    "ImageAndFluoroscopyAreaDoseProduct": "0.5",
    "ImagerPixelSpacing": ["0.15", "0.3"],
    "EstimatedRadiographicMagnificationFactor": "1.5",
}
EXPECTED = {
    "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1",
    "series_instance_uid": "1.2.3",
    "study_instance_uid": "1.2.4",
    "patient_id": "17",
    "image_type": "DERIVED\\PRIMARY",
    "modality": "CR",
    "rows": 6,
    "columns": 5,
    "bits_allocated": 16,
    "bits_stored": 12,
    "signed": False,
    "photometric": "MONOCHROME2",
    "presentation_lut_shape": "IDENTITY",
    "presentation_intent": "FOR PRESENTATION",
    "manufacturer": "GE Healthcare",
    "vendor": "GE",
    "model": "Optima XR220",
    "device_serial": "S1",
    "detector_id": "D1",
    "detector_type": "SCINTILLATOR",
    "software_versions": "1.0\\2.0",
    "processing_description": "CHEST AP",
    "processing_code": "C1",
    "body_part": "CHEST",
    "view": "AP",
    "laterality": "U",
    "patient_orientation": "L\\F",
    "kvp": 85.0,
    "mas": 1.6,
    "mas_source": "ExposureInuAs",
    "tube_current_ma": 200.0,
    "tube_current_source": "XRayTubeCurrent",
    "exposure_time_ms": 8.0,
    "exposure_time_source": "ExposureTime",
    "exposure_index": 410.5,
    "target_exposure_index": 400.0,
    "deviation_index": 0.1,
    "relative_exposure": 300.0,
    "sensitivity": 200.0,
    "sid_mm": 1800.0,
    "grid": "FIXED\\FOCUSED",
    "dap": 0.5,
    "pixel_spacing_mm": 0.1,
    "pixel_spacing_column_mm": 0.2,
    "pixel_spacing_source": "ImagerPixelSpacing / magnification",
    "magnification": 1.5,
    "age_years": 1.5,
    "sex": "F",
    "portable": True,
    "implausible": "",
    "scanner": "GE Optima XR220",
    "acquisition_group": "6x5 0.100mm 12bit portable EI+DI+REX+S+kVp+mAs+DAP",
}


def read(tmp_path: Path, **attributes: Any) -> dict[str, Any]:
    return read_acquisition(make_dicom(tmp_path / "a.dcm", STORED, **attributes))


@pytest.mark.parametrize("syntax", NATIVE)
def test_every_column_comes_from_its_attribute_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    row = read(tmp_path, syntax=syntax, bits_stored=12, **FULL)
    assert list(row) == list(ACQUISITION_COLUMNS)
    assert row["sop_instance_uid"].startswith("1.2.826.0.1.3680043.8.498.")
    assert row["transfer_syntax"] == syntax
    assert {column: row[column] for column in EXPECTED} == pytest.approx(EXPECTED)


def test_values_have_the_types_of_their_columns(tmp_path: Path) -> None:
    for row in (read(tmp_path, **FULL), read(tmp_path)):
        assert all(value is None or type(value) is ACQUISITION_COLUMNS[column] for column, value in row.items())


def test_neither_names_nor_dates_nor_descriptions_are_kept(tmp_path: Path) -> None:
    text = str(read(tmp_path, **FULL))
    assert not any(private in text for private in ("Doe", "1950", "PORTABLE"))


def test_what_the_file_does_not_tell_is_none(tmp_path: Path) -> None:
    row = read(tmp_path)
    told = {column for column, value in row.items() if value is not None}
    assert told == {
        *(
            "sop_instance_uid",
            "sop_class_uid",
            "modality",
            "rows",
            "columns",
            "bits_allocated",
            "bits_stored",
            "signed",
        ),
        *("photometric", "transfer_syntax", "implausible", "scanner", "acquisition_group"),
    }
    assert row["scanner"] == row["acquisition_group"] == "6x5 16bit bare"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"Laterality": "L"}, {"laterality": "L"}),
        ({"Laterality": "L", "ImageLaterality": ""}, {"laterality": "L"}),
        ({"PixelSpacing": ["0.2", "0.2"], "ImagerPixelSpacing": ["0.1", "0.1"]}, {"pixel_spacing_mm": 0.2}),
        ({"PixelSpacing": ["0", "0"], "ImagerPixelSpacing": ["0.1", "0.1"]}, {"pixel_spacing_mm": 0.1}),
        ({"KVP": "+125.0"}, {"kvp": 125.0}),
        ({"Exposure": "2500"}, {"mas": 2500.0, "implausible": "mas*1000"}),
        ({"PatientAge": ""}, {"age_years": None}),
        ({"Manufacturer": "ANONYMIZED"}, {"manufacturer": "ANONYMIZED", "vendor": None}),
        ({"DetectorID": ["A", "B"]}, {"detector_id": "A"}),
    ],
)
def test_values_that_need_a_choice(tmp_path: Path, attributes: dict[str, Any], expected: dict[str, Any]) -> None:
    row = read(tmp_path, **attributes)
    assert {column: row[column] for column in expected} == expected


@pytest.mark.parametrize(
    ("view", "description", "portable"),
    [
        ("AP", "CHEST (PORTABLE AP)", True),
        ("", "Chest, mobile unit", True),
        ("AP", "CHEST (PA AND LAT)", False),
        ("PA", "", False),
        ("LATERAL", "CHEST (PA AND LAT)", False),
        ("PA", "CHEST (PORTABLE AP)", None),
        ("LATERAL", "CHEST (PORTABLE AP)", None),
        ("AP", "CHEST", None),
        ("AP", "SPACE OF IMMOBILE PATIENT", None),
        ("", "", None),
    ],
)
@pytest.mark.parametrize("keyword", ["StudyDescription", "PerformedProcedureStepDescription", "ProtocolName"])
def test_portable_is_told_by_view_and_procedure(
    tmp_path: Path, keyword: str, view: str, description: str, portable: bool | None
) -> None:
    assert read(tmp_path, ViewPosition=view, **{keyword: description})["portable"] is portable


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_texts_are_printable_and_short(tmp_path: Path, syntax: str) -> None:
    dataset = image_dataset(STORED, SpecificCharacterSet="ISO_IR 192")
    dataset.add_new("ManufacturerModelName", "LO", "Röntgen\x07 \u200e" + "x" * 100)
    row = read_acquisition(write_dicom(tmp_path / "a.dcm", dataset, syntax=syntax))
    assert row["model"] == "Röntgen " + "x" * 56


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("stored", [b"abc ", b"nan ", b"1e99", b"inf ", b"\\85 "])
def test_what_is_no_finite_number_is_none(tmp_path: Path, stored: bytes) -> None:
    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian):
        path = make_dicom(tmp_path / "a.dcm", STORED, syntax=syntax, KVP="9876", PixelSpacing=["0.15", "9876"])
        path.write_bytes(path.read_bytes().replace(b"9876", stored))
        row = read_acquisition(path)
        assert row["kvp"] == (1e99 if stored == b"1e99" else None)
        assert row["pixel_spacing_mm"] is None or stored == b"1e99"


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"NumberOfFrames": 3}, InvalidImageError, r"NumberOfFrames \(0028,0008\) is 3, expected a single frame"),
    ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, InvalidImageError, "'RGB' with 3 sample"),
    ({"Rows": None}, InvalidImageError, "no Rows .* the object is 'Computed Radiography Image Storage'"),
    ({"Rows": 0}, InvalidImageError, "Rows x Columns is 0 x 5"),
    ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, InvalidImageError, "are 32, 32, 31, expected 8 or 16"),
    ({"RescaleSlope": "0"}, InvalidImageError, r"RescaleSlope \(0028,1053\) is 0"),
    ({"ModalityLUTSequence": modality_lut(np.arange(0), 0)}, InvalidImageError, "Modality LUT Sequence .* cannot be"),
]


@pytest.mark.parametrize(("attributes", "error", "message"), REFUSED)
def test_refusals_are_those_of_read_header(
    tmp_path: Path, attributes: dict[str, Any], error: type[Exception], message: str
) -> None:
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        path = make_dicom(tmp_path / "bad.dcm", STORED, syntax=syntax, **attributes)
        with pytest.raises(error, match=rf"bad\.dcm: .*{message}") as refused:
            read_acquisition(path)
        with pytest.raises(error) as other:
            read_header(path)
        assert str(refused.value) == str(other.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a text, no image" * 20, "expected a DICOM file"),
        (b"", "expected a DICOM file"),
        (bytes(128) + b"DICM\x08\0\x05", "not a readable DICOM data set|no Rows"),
    ],
)
def test_what_is_no_dicom_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.dcm"
    path.write_bytes(content)
    with pytest.raises((ImageReadError, InvalidImageError), match=message):
        read_acquisition(path)


def test_missing_file_folder_and_unknown_syntax_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match=r"none\.dcm: cannot be opened"):
        read_acquisition(tmp_path / "none.dcm")
    with pytest.raises(ImageReadError, match="cannot be opened"):
        read_acquisition(tmp_path)
    video = make_encapsulated(tmp_path / "a.dcm", STORED, b"\0\0", "1.2.840.10008.1.2.4.100")
    with pytest.raises(ImageReadError, match=r"transfer syntax 1\.2\.840\.10008\.1\.2\.4\.100 .* not one for still"):
        read_acquisition(video)


def test_larger_matrix_than_allowed_is_refused(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED)
    assert read_acquisition(path, max_pixels=30)["rows"] == 6
    with pytest.raises(InvalidImageError, match="6 x 5, expected at most 29 pixels"):
        read_acquisition(path, max_pixels=29)


def test_modality_lut_is_accepted(tmp_path: Path) -> None:
    assert read(tmp_path, ModalityLUTSequence=modality_lut(np.arange(16), 0), KVP="70")["kvp"] == 70.0


REAL: dict[str, dict[str, Any]] = {
    "cr_dental_modality_lut": {"rows": 1576, "bits_stored": 10, "pixel_spacing_mm": 0.15, "sensitivity": 470.0},
    "cr_fuji_chest_mono1_nopreamble": {"scanner": "Fujifilm 9000", "view": "PA", "body_part": "CHEST"},
    "cr_fuji_hip_jpeg_lossless": {"vendor": "Fujifilm", "body_part": "HIP", "pixel_spacing_mm": 0.2, "sex": "M"},
    "cr_fuji_leg_j2k_lossless": {"scanner": "Fujifilm IRS", "laterality": "R", "patient_orientation": "R\\F"},
    "cr_konica_chest_mono1_jpeg": {"vendor": "Konica Minolta", "relative_exposure": 437.0, "bits_stored": 8},
    "cr_philips_chest_j2k": {
        "vendor": "Philips",
        "kvp": 150.0,
        "mas": 2.0,
        "mas_source": "Exposure",
        "sid_mm": 1996.0,
        "pixel_spacing_mm": None,
        "implausible": "sensitivity",
    },
    "dx_canon_chest_mono1_j2k_lossless": {
        "scanner": "Canon",
        "kvp": 125.0,
        "mas": 1.0,
        "tube_current_ma": 200.0,
        "exposure_time_ms": 6.0,
        "portable": False,
    },
    "mg_ge_senographe_voi_lut": {
        "scanner": "GE Senographe Essential VERSION ADS_54.10",
        "mas": 71.4,
        "mas_source": "ExposureInuAs",
        "kvp": 30.0,
        "grid": "RECIPROCATING\\FOCUSED",
        "pixel_spacing_source": "ImagerPixelSpacing / magnification",
        "implausible": "",
    },
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_header_is_read_and_its_scan_is_what_the_parser_gives(real_data: Path, name: str) -> None:
    path = real_data / "dicom" / f"{name}.dcm"
    row = read_acquisition(path)
    assert {column: row[column] for column in REAL[name]} == REAL[name]
    found = scan_file(path, WANTED, max_bytes=2**30)
    if name in ("cr_dental_modality_lut", "cr_fuji_chest_mono1_nopreamble"):
        assert found is None  # the plain case is not theirs
    else:
        assert found == dataset_values(parse_dicom(path, max_bytes=2**30, header_only=True), WANTED)
