"""Headers a second: ``read_acquisition`` against a plain loop over ``pydicom.dcmread(stop_before_pixels=True)``.

Run it as ``python benchmarks/header_speed.py``. Headers of some 120 elements are generated as digital and computed
radiography writes them: code sequences of defined and undefined length, blocks of private elements, two vendors in
three encoded explicitly. All ways take turns in one process on one core, over files that the system holds in memory:
nobody waits for a disk. The plain loop collects the same attributes into dictionaries, and does nothing with them
(``read_acquisition`` also checks, cleans and derives). Writes ``benchmarks/results/header_speed.csv``.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
from fourier_speed import take_turns
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from result_files import write_result

from xray_harmonize.dicom import acquisition
from xray_harmonize.dicom.acquisition import WANTED, read_acquisition

RESULT = Path(__file__).parent / "results" / "header_speed.csv"
KEYWORDS = list(WANTED.keywords.values())
DEVICES = (
    ("GE Healthcare", "Discovery XR656", (3056, 2544), "0.139", ExplicitVRLittleEndian),
    ("Philips Medical Systems", "DigitalDiagnost", (2846, 2330), "0.148", ExplicitVRLittleEndian),
    ("FUJIFILM Corporation", "CR-IR 357", (2140, 1760), "0.200", ImplicitVRLittleEndian),
)
CODES = (
    "ProcedureCodeSequence",
    "ViewCodeSequence",
    "AnatomicRegionSequence",
    "PatientOrientationCodeSequence",
    "PerformedProtocolCodeSequence",
)


def code(value: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SRT", meaning
    return Sequence([item])


def header(number: int, generator: random.Random) -> tuple[Dataset, str]:
    """Make a data set of some 120 elements and name its transfer syntax."""
    vendor, model, (rows, columns), spacing, syntax = DEVICES[number % len(DEVICES)]
    dataset = Dataset()
    values = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["DERIVED", "PRIMARY", "", "100000"],
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": f"1.2.826.0.1.3680043.8.498.{number}.1",
        "SeriesInstanceUID": f"1.2.826.0.1.3680043.8.498.{number}.2",
        "StudyInstanceUID": f"1.2.826.0.1.3680043.8.498.{number // 2}.3",
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "Manufacturer": vendor,
        "InstitutionName": "General Hospital",
        "StationName": f"XR{number % 7}",
        "ManufacturerModelName": model,
        "StudyDescription": "CHEST (PA AND LAT)",
        "SeriesDescription": "CHEST",
        "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
        "PatientID": f"{10_000_000 + number // 2}",
        "PatientSex": generator.choice("MF"),
        "PatientAge": f"{generator.randint(20, 95):03d}Y",
        "BodyPartExamined": "CHEST",
        "KVP": str(generator.choice([81, 90, 109, 125])),
        "DeviceSerialNumber": f"SN{number % 7:06d}",
        "DetectorID": f"D{number % 7:04d}",
        "DetectorType": "SCINTILLATOR",
        "SoftwareVersions": ["dm_Platform_release_superbee-FW03_6", "5.2"],
        "ProtocolName": "Chest",
        "DistanceSourceToDetector": "1800",
        "DistanceSourceToPatient": "1700",
        "EstimatedRadiographicMagnificationFactor": "1.06",
        "ExposureTime": str(generator.randint(2, 40)),
        "XRayTubeCurrent": str(generator.choice([200, 320, 400])),
        "Exposure": str(generator.randint(1, 9)),
        "ExposureInuAs": str(generator.randint(1000, 9000)),
        "ImageAndFluoroscopyAreaDoseProduct": f"{generator.random():.5f}",
        "ImagerPixelSpacing": [spacing, spacing],
        "Grid": ["FOCUSED", "RECIPROCATING"],
        "FocalSpots": "1.2",
        "FilterType": "FLAT",
        "FilterMaterial": ["ALUMINUM", "COPPER"],
        "FilterThicknessMaximum": ["1.0", "0.1"],
        "CollimatorShape": "RECTANGULAR",
        "AcquisitionDeviceProcessingDescription": "CHEST PA",
        "AcquisitionDeviceProcessingCode": "CHEST1",
        "RelativeXRayExposure": str(generator.randint(100, 900)),
        "ExposureIndex": f"{generator.uniform(100, 900):.2f}",
        "TargetExposureIndex": "400",
        "DeviationIndex": f"{generator.uniform(-3, 3):.1f}",
        "ViewPosition": generator.choice(["PA", "LL"]),
        "Sensitivity": "400",
        "DetectorTemperature": "31.5",
        "DetectorConditionsNominalFlag": "YES",
        "ImageLaterality": "U",
        "PatientOrientation": ["L", "F"],
        "InstanceNumber": "1",
        "SeriesNumber": "1",
        "ImagesInAcquisition": "1",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": 14,
        "HighBit": 13,
        "PixelRepresentation": 0,
        "BurnedInAnnotation": "NO",
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": -1,
        "WindowCenter": "8192",
        "WindowWidth": "16384",
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "US",
        "LossyImageCompression": "00",
        "RequestedProcedureDescription": "XR CHEST 2 VIEWS",
        "PerformedProcedureStepID": f"{number}",
        "PresentationLUTShape": "IDENTITY",
    }
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    for day in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PerformedProcedureStepStartDate"):
        setattr(dataset, day, "20240131")
    for time in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime", "PerformedProcedureStepStartTime"):
        setattr(dataset, time, "101530.123")
    for keyword in CODES:
        setattr(dataset, keyword, code("T-D3000", "Chest"))
        dataset[keyword].is_undefined_length = number % 2 == 0
    for group in (0x0011, 0x0019, 0x0045):
        block = dataset.private_block(group, "VENDOR_PRIVATE_01", create=True)
        for element in range(8):
            block.add_new(element, "LO", f"private value {element}")
        block.add_new(9, "OB", bytes(200))
    dataset.PixelData = bytes(128)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset, syntax


def write_headers(folder: Path, n_files: int, random_state: int = 0) -> list[Path]:
    """Write files, each with its own values, and hand back where they are."""
    generator = random.Random(random_state)
    paths = [folder / f"{number:06d}.dcm" for number in range(n_files)]
    for number, path in enumerate(paths):
        dataset, syntax = header(number, generator)
        dataset.save_as(
            path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True
        )
    return paths


def plain(path: Path) -> dict[str, object]:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return {keyword: dataset.get(keyword) for keyword in KEYWORDS}


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="number of headers")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that medians are taken over")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_headers(Path(folder), options.files)
        ways = {
            "pydicom.dcmread and get": lambda: [plain(path) for path in paths],
            "pydicom.dcmread alone": lambda: [pydicom.dcmread(path, stop_before_pixels=True) for path in paths],
            "read_acquisition": lambda: [read_acquisition(path) for path in paths],
            "read_acquisition by pydicom": lambda: [acquisition._read_any(path, 2**28) for path in paths],
        }
        times = take_turns(ways, options.rounds)
    baseline = times["pydicom.dcmread and get"]
    table = [
        {
            "way": name,
            "files_per_second": options.files / float(np.median(milliseconds)) * 1000,
            "faster_than_pydicom": float(np.median(baseline / milliseconds)),
            "files": options.files,
            "rounds": options.rounds,
        }
        for name, milliseconds in times.items()
    ]
    frame = pd.DataFrame(table)
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    write_result(RESULT, frame, f"python {shlex.join(sys.argv)}")


if __name__ == "__main__":
    main()
