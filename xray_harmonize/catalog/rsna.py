"""RSNA Pneumonia Detection Challenge: a table of chest radiographs with pneumonia and a proxy of the scanner.

The collection comes as a table with one row a box (``stage_2_train_labels.csv``) and a folder of DICOM files. It does
not tell the scanner; Lu et al. take pixel spacing for it, and so does :func:`rsna_table`. The radiographs come from PNG
files of 8 bits that were processed for display, so a tone curve between the groups is not that of a detector.

Where this departs from the code of the authors (github.com/YCL92/GDCE): persons can be told apart; headers are read
without the pixels; files that only look like images are skipped; a file whose PatientID is not in the table is known by
its name; the draw does not depend on the order of files. With the same seed it is therefore another draw of the same
kind.

References
----------
Shih et al.: Augmenting the National Institutes of Health Chest Radiograph Dataset with Expert Annotations of
Possible Pneumonia, Radiology: Artificial Intelligence 1(1), 2019.
Lu et al.: Learning to Harmonize Cross-vendor X-ray Images by Non-linear Image Dynamics Correction, 2025.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from xray_harmonize.catalog.csv_columns import read_columns
from xray_harmonize.catalog.headers import read_headers
from xray_harmonize.catalog.selection import Flow, Selection, check_count, draw
from xray_harmonize.exceptions import InvalidParameterError, LabelTableError, XRayHarmonizeWarning

SCANNERS: Mapping[str, tuple[float, float]] = MappingProxyType({"Brand X": (0.171, 5e-4), "Brand Y": (0.143, 5e-4)})
"""Pixel spacings of the study in mm with their tolerances; Brand Y is the reference. A third group, which the authors
set aside, lies at 0.1943 with a tolerance of 1e-3."""

_ROUNDING = 1e-5
_COLUMNS = ["path", "label", "scanner", "patient", "view", "sex", "age", "pixel_spacing"]


def rsna_table(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    *,
    mapping: str | os.PathLike[str] | None = None,
    n: int | None = 500,
    scanners: Mapping[str, tuple[float, float]] = SCANNERS,
    random_state: int | np.random.RandomState | None = 42,
) -> Selection:
    r"""Choose the radiographs of the pneumonia study from the folder of the challenge.

    Parameters
    ----------
    images : path-like
        Folder of files ``*.dcm``, at any depth. Only headers are read. A file is known by its PatientID (0010,0020),
        or by its name where that is not in the table.
    labels : path-like
        ``stage_2_train_labels.csv``, with the columns patientId and Target.
    mapping : path-like, optional
        ``pneumonia-challenge-dataset-mappings_2018.json`` of the organizers, which tells the image of ChestX-ray14
        that each radiograph is, and with it the person. Without it every image counts as a patient of its own and
        persons may stand on both sides of a split, about which a warning speaks.
    n : int or None, default=500
        Most images of a scanner and label; None for all.
    scanners : mapping of str to (float, float)
        For every scanner its pixel spacing (first value of PixelSpacing (0028,0030), between rows) and tolerance, mm.
    random_state : int, RandomState or None, default=42
        Which images are drawn.

    Returns
    -------
    Selection
        ``skipped`` lists files whose header cannot be read or is none of a radiograph; ``images`` has the columns

        ``path``
            Relative to ``images``.
        ``label``
            1 where a row of the image has Target 1, else 0.
        ``scanner``
            As ``scanners`` names it.
        ``patient``
            Number of the person in ChestX-ray14, or patientId, which is the image's.
        ``view``, ``sex``, ``age``, ``pixel_spacing``
            What the groups differ in besides: pixel spacing goes with view (AP or PA), and both with the label. Age
            in years, spacing in mm.

    Raises
    ------
    LabelTableError
        The folder, table or mapping is missing, lacks a column or names none of the files, or a Target is not 0 or 1.
    NotEnoughImagesError
        No file, no readable header, or no image left after a step; the message says which.
    InvalidParameterError
        ``n`` or ``scanners`` is out of range, or two scanners share spacings.

    Warns
    -----
    XRayHarmonizeWarning
        Images lack a row of labels (they count as 0, as in the code of the authors) or a patient.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from pydicom.dataset import Dataset
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = pathlib.Path(folder.name)
    >>> file = Dataset()
    >>> file.PatientID, file.PixelSpacing, file.PhotometricInterpretation = "c0ffee", [0.143, 0.143], "MONOCHROME2"
    >>> file.Modality, file.Rows, file.Columns, file.BitsAllocated = "CR", 2, 2, 8
    >>> file.save_as(root / "c0ffee.dcm", implicit_vr=True, little_endian=True)
    >>> _ = (root / "labels.csv").write_text("patientId,x,y,width,height,Target\nc0ffee,1,1,1,1,1\n")
    >>> _ = (root / "mapping.json").write_text('[{"subset_img_id": "c0ffee", "img_id": "00000013_008.png"}]')
    >>> table = rsna_table(root, root / "labels.csv", mapping=root / "mapping.json")
    >>> table.images[["path", "label", "scanner", "patient"]].values.tolist()
    [['c0ffee.dcm', 1, 'Brand Y', '00000013']]
    >>> folder.cleanup()
    """
    check_count("n", n, none_means="all images")
    _check_scanners(scanners)
    folder = Path(os.path.normpath(Path(images).absolute()))
    if not folder.is_dir():
        raise LabelTableError(f"{os.fspath(images)}: no such folder, expected the one with the DICOM files.")
    targets = _targets(labels)
    persons = None if mapping is None else _persons(mapping)
    flow = Flow("RSNA")
    files, skipped = read_headers(folder)
    files["image"] = _image_ids(files, targets, os.fspath(labels))
    files["patient"] = _patients(files["image"], persons, os.fspath(mapping or ""))
    rows = flow.start(files, "files .dcm")
    rows = flow.start(rows[rows["readable"]], "readable header")
    rows = rows.assign(scanner=[_scanner(spacing, scanners) for spacing in rows["pixel_spacing"]])
    rows = flow.keep(
        rows,
        rows["scanner"].notna(),
        "pixel spacing of the study",
        column="pixel_spacing",
        expected=" or ".join(f"{spacing:g} within {tolerance:g}" for spacing, tolerance in scanners.values()),
        advice="Name the spacings to take with scanners={scanner: (spacing, tolerance)}.",
    )
    rows = _labelled(rows, targets, os.fspath(labels))
    rows = flow.start(draw(rows, n, random_state, one_a_patient=False), "drawn")
    return Selection(rows[_COLUMNS], flow.table(), skipped)


def _check_scanners(scanners: Mapping[str, tuple[float, float]]) -> None:
    if not scanners:
        raise InvalidParameterError("scanners is empty; expected at least one {scanner: (spacing, tolerance)}.")
    for name, value in scanners.items():
        spacing, tolerance = value if len(value) == 2 else (np.nan, np.nan)
        if not (spacing > 0 and tolerance >= 0):
            raise InvalidParameterError(
                f"scanners[{name!r}] must be a spacing above 0 and a tolerance of at least 0, in mm; got {value!r}."
            )
    ordered = sorted(scanners, key=lambda name: scanners[name][0])
    for one, other in pairwise(ordered):
        if sum(scanners[one]) >= scanners[other][0] - scanners[other][1]:
            raise InvalidParameterError(
                f"The scanners {one!r} and {other!r} share pixel spacings: {scanners[one]} and {scanners[other]}; "
                "make the tolerances smaller."
            )


def _targets(labels: str | os.PathLike[str]) -> pd.Series:
    """Read the largest Target of every patientId; NaN where none is given."""
    name = os.fspath(labels)
    table = read_columns(name, ["patientId", "Target"], advice="Give stage_2_train_labels.csv as it is distributed.")
    target = pd.to_numeric(table["Target"], errors="coerce")
    wrong = (table["Target"].notna() & ~target.isin([0, 1])) | table["patientId"].isna()
    if wrong.any():
        first = table[wrong].iloc[0]
        raise LabelTableError(
            f"{name}: {wrong.sum()} row(s) cannot be used, such as patientId {first['patientId']!r} with Target "
            f"{first['Target']!r}; expected a patientId and a Target of 0 or 1. Correct them."
        )
    return target.groupby(table["patientId"]).max()


def _persons(mapping: str | os.PathLike[str]) -> dict[str, str]:
    """Read whose image each is: names of ChestX-ray14 begin with the number of the person (00013118_008.png)."""
    name = os.fspath(mapping)
    try:
        entries: Any = json.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        raise LabelTableError(f"{name}: cannot be opened ({error.strerror or error}); check the path.") from error
    except ValueError as error:
        raise LabelTableError(f"{name}: no JSON in UTF-8 ({error}); fetch the file again.") from error
    try:
        return {entry["subset_img_id"]: str(entry["img_id"]).split("_")[0] for entry in entries}
    except (TypeError, KeyError) as error:
        raise LabelTableError(
            f"{name}: expected a list of entries with subset_img_id and img_id, got another JSON; give the mapping of "
            "the challenge as it is distributed."
        ) from error


def _scanner(spacing: float, scanners: Mapping[str, tuple[float, float]]) -> str | None:
    near = (
        name
        for name, (center, tolerance) in scanners.items()
        # A spacing at the very end of the tolerance is within, whatever its last digit in binary
        if abs(spacing - center) <= tolerance + _ROUNDING * center
    )
    return next(near, None)


def _image_ids(files: pd.DataFrame, targets: pd.Series, name: str) -> list[str]:
    ids = [
        next((one for one in (known, stem) if one in targets.index), stem if pd.isna(known) else known)
        for known, stem in zip(files["patient_id"], files["stem"], strict=True)
    ]
    if not set(ids) & set(targets.index):
        raise LabelTableError(
            f"{name}: none of {len(ids)} file(s) is in the table, whose first patientId is "
            f"{next(iter(targets.index), None)!r}; expected files such as {ids[0]!r}. Give the table of these images."
        )
    return ids


def _patients(ids: pd.Series, persons: dict[str, str] | None, name: str) -> pd.Series:
    if persons is None:
        warnings.warn(
            "patientId numbers the images of the challenge, not persons, so that one person may be trained and tested "
            "on; give mapping=, the organizers' file that tells whose image each is.",
            XRayHarmonizeWarning,
            stacklevel=3,
        )
        return ids
    unknown = ids[~ids.isin(list(persons))]
    if len(unknown):
        warnings.warn(
            f"{name}: {len(unknown)} of {len(ids)} image(s) are not in the mapping, such as {unknown.iloc[0]!r}; each "
            "counts as a patient of its own. Give the mapping of these images.",
            XRayHarmonizeWarning,
            stacklevel=3,
        )
    return ids.map(persons).fillna(ids)


def _labelled(rows: pd.DataFrame, targets: pd.Series, name: str) -> pd.DataFrame:
    target = rows["image"].map(targets)
    n_unknown = int(target.isna().sum())
    if n_unknown:
        warnings.warn(
            f"{name}: {n_unknown} of {len(rows)} image(s) have no Target, such as "
            f"{rows.loc[target.isna(), 'image'].iloc[0]!r}, and count as 0, without pneumonia. Leave them out of the "
            "folder if nobody has read them.",
            XRayHarmonizeWarning,
            stacklevel=3,
        )
    return rows.assign(label=target.fillna(0).astype(int))
