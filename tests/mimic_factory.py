"""A tiny MIMIC-CXR and MIMIC-IV, with the names of files and columns that the collections have."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dicom_factory import make_dicom

FINDINGS = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
]
METADATA = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
]

IMAGES = {"02aa804e-bde0afdd": (10000032, 50414267), "174413ec-4ec4c1f7": (10000032, 50414267)} | {
    "2a2277a9-b0ded155": (10000032, 53189527),
    "68b5c4b1-227d0485": (10000764, 57375967),
}
"""Names of images with subject and study."""


def write_table(path: Path, header: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows given by column, compressed if the name says so; absent cells are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(header), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_images(root: Path, images: Mapping[str, tuple[int, int]] = IMAGES, **attributes: Any) -> Path:
    """Write DICOM files where MIMIC-CXR has them."""
    for name, (subject, study) in images.items():
        folder = root / "files" / f"p{str(subject)[:2]}" / f"p{subject}" / f"s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        options = {"PatientID": str(subject), "ViewPosition": "PA", **attributes}
        make_dicom(folder / f"{name}.dcm", np.zeros((2, 2), np.uint16), bits_stored=12, **options)
    return root


def metadata_row(name: str, **cells: Any) -> dict[str, Any]:
    subject, study = IMAGES[name]
    return {
        "dicom_id": name,
        "subject_id": subject,
        "study_id": study,
        "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
        "ViewPosition": "PA",
        "Rows": 3056,
        "Columns": 2544,
        "StudyDate": 21800506,
        "StudyTime": "213014.531",
        **cells,
    }


def write_metadata(folder: Path, name: str = "mimic-cxr-2.0.0-metadata.csv.gz", **cells: Mapping[str, Any]) -> Path:
    """Write one row an image; keywords are places in IMAGES (``i1``) and what is other there."""
    rows = [metadata_row(image, **cells.get(f"i{place}", {})) for place, image in enumerate(IMAGES)]
    return write_table(folder / name, METADATA, rows)


def write_split(folder: Path, name: str = "mimic-cxr-2.0.0-split.csv.gz", split: str = "train") -> Path:
    rows = [
        {"dicom_id": image, "study_id": study, "subject_id": subject, "split": split}
        for image, (subject, study) in IMAGES.items()
    ]
    return write_table(folder / name, ["dicom_id", "study_id", "subject_id", "split"], rows)


def write_labels(folder: Path, name: str = "mimic-cxr-2.0.0-chexpert.csv.gz", **pneumonia: Any) -> Path:
    """Write one row a study; keywords are studies (``s50414267``) and their Pneumonia."""
    studies = {study: subject for subject, study in IMAGES.values()}
    rows = [
        {"subject_id": subject, "study_id": study, "Pneumonia": pneumonia.get(f"s{study}", ""), "Edema": "0.0"}
        for study, subject in studies.items()
    ]
    return write_table(folder / name, ["subject_id", "study_id", *FINDINGS], rows)


PATIENTS = ["subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"]
ADMISSIONS = [
    "subject_id",
    "hadm_id",
    "admittime",
    "dischtime",
    "deathtime",
    "admission_type",
    "admit_provider_id",
    "admission_location",
    "discharge_location",
    "insurance",
    "language",
    "marital_status",
    "race",
    "edregtime",
    "edouttime",
    "hospital_expire_flag",
]
ICUSTAYS = ["subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit", "intime", "outtime", "los"]


def write_patients(folder: Path, *rows: Mapping[str, Any], name: str = "patients.csv.gz") -> Path:
    return write_table(folder / "hosp" / name, PATIENTS, rows)


def write_admissions(folder: Path, *rows: Mapping[str, Any]) -> Path:
    return write_table(folder / "hosp" / "admissions.csv.gz", ADMISSIONS, rows)


def write_icustays(folder: Path, *rows: Mapping[str, Any]) -> Path:
    return write_table(folder / "icu" / "icustays.csv.gz", ICUSTAYS, rows)
