"""EMBED, the Emory Breast Imaging Dataset: a table of mammograms with density and scanner.

The collection comes as two tables, one row an image (``EMBED_OpenData_metadata.csv``) and one row a finding
(``EMBED_OpenData_clinical.csv``), and a folder of DICOM files. :func:`embed_table` chooses from them the images that
Lu et al. classify by breast density: craniocaudal 2D views of women, up to 500 patients a scanner and density.

What counts: ``spot_mag`` empty (no spot compression or magnification), ViewPosition CC, FinalImageType 2D, PatientSex
F. A missing ViewPosition is inferred from SeriesDescription; exaggerated views (RXCCL, LXCCL) are XCCL, whatever their
ViewPosition. Exams are joined by patient and exam, and the first row of an exam tells its density. Both breasts count,
and none is flipped.

Where this departs from the code of the authors (github.com/YCL92/GDCE):

* A missing ViewPosition is not taken for CC if the description has XCC anywhere: that is an exaggerated view too.
* ``spot_mag`` 0, which the description of the collection gives to full views, counts like an empty one.
* The images of all patients are drawn independently; there, a generator started anew for every patient draws the same
  position of all who have equally many.
* The draw does not depend on the order of rows. With the same seed it is another draw of the same kind.

An early state of that code also leaves out images whose PixelIntensityRelationship (0028,1040) is not LOG, but only
after the draw, and the paper's Table 1 counts as many images as were drawn: it seems to have left out none.

References
----------
Jeong et al.: The EMory BrEast imaging Dataset (EMBED), Radiology: Artificial Intelligence 5(1), 2023.
Lu et al.: Learning to Harmonize Cross-vendor X-ray Images by Non-linear Image Dynamics Correction, 2025.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from xray_harmonize.catalog.csv_columns import read_columns
from xray_harmonize.catalog.selection import Flow, Selection, check_count, draw
from xray_harmonize.dicom.age import age_in_years
from xray_harmonize.exceptions import InvalidParameterError, LabelTableError

SCANNERS: Mapping[str, str] = MappingProxyType(
    {
        "Selenia Dimensions": "Selenia",
        "Clearview CSm": "Clearview",
        "Senograph 2000D ADS_17.4.5": "Senograph",
        "Senograph 2000D ADS_17.5": "Senograph",
    }
)
"""Models of the study and what they are called; two are one device with two versions of its software."""

TEST_ONLY: tuple[tuple[str, int], ...] = (("Clearview", 0), ("Clearview", 3), ("Senograph", 0), ("Senograph", 3))
"""Cells of the study that are too rare to train on: densities A and D of the scanners to harmonize."""

_KEYS = ["empi_anon", "acc_anon"]
_IMAGE_COLUMNS = [
    *_KEYS,
    "anon_dicom_path",
    "SeriesDescription",
    "FinalImageType",
    "ViewPosition",
    "spot_mag",
    "PatientSex",
    "ManufacturerModelName",
]
_EXAGGERATED = ["LXCCL", "RXCCL"]
_ADVICE = "Give the full table as it is distributed, not the reduced one."


def embed_table(
    metadata: str | os.PathLike[str],
    clinical: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    n: int | None = 500,
    scanners: Mapping[str, str] = SCANNERS,
    random_state: int | np.random.RandomState | None = 42,
) -> Selection:
    r"""Choose the mammograms of the density study from the tables of EMBED.

    Parameters
    ----------
    metadata : path-like
        ``EMBED_OpenData_metadata.csv``. Only the columns needed are read.
    clinical : path-like
        ``EMBED_OpenData_clinical.csv``.
    images : path-like, optional
        Folder that holds ``cohort_1`` and ``cohort_2``: only files that are there are chosen from. Without it the
        table tells which files to fetch.
    n : int or None, default=500
        Most patients of a scanner and density; None for all.
    scanners : mapping of str to str
        Values of ManufacturerModelName and the scanner each of them is.
    random_state : int, RandomState or None, default=42
        Which patients and images are drawn.

    Returns
    -------
    Selection
        ``images`` has the columns

        ``path``
            Relative to the folder that holds the cohorts.
        ``label``
            0 to 3 for the BI-RADS densities A to D.
        ``scanner``, ``patient``
            As ``scanners`` names it; ``empi_anon``. A patient is once in a scanner and density, and may be in several
            of these.
        ``exam``, ``view``, ``laterality``, ``sex``, ``age``, ``model``
            ``acc_anon``, and what tells images apart besides; laterality and age (years) only if the tables have them.

    Raises
    ------
    LabelTableError
        A table cannot be read, lacks a column or has densities that are no numbers; there is no folder ``images``.
    NotEnoughImagesError
        No image is left after a step; the message says which.
    InvalidParameterError
        ``n`` is out of range or ``scanners`` is empty.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> metadata, clinical = pathlib.Path(folder.name, "metadata.csv"), pathlib.Path(folder.name, "clinical.csv")
    >>> _ = metadata.write_text(
    ...     "empi_anon,acc_anon,anon_dicom_path,SeriesDescription,FinalImageType,ViewPosition,spot_mag,PatientSex,"
    ...     "ManufacturerModelName\n"
    ...     "7,71,/mnt/cohort_1/7/a.dcm,L CC,2D,,,F,Clearview CSm\n"
    ...     "7,71,/mnt/cohort_1/7/b.dcm,L MLO,2D,MLO,,F,Clearview CSm\n"
    ... )
    >>> _ = clinical.write_text("empi_anon,acc_anon,tissueden\n7,71,2.0\n")
    >>> table = embed_table(metadata, clinical)
    >>> table.images[["path", "label", "scanner", "patient"]].values.tolist()
    [['cohort_1/7/a.dcm', 1, 'Clearview', '7']]
    >>> table.flow.tail(1).values.tolist()
    [['drawn', 1, 1]]
    >>> folder.cleanup()
    """
    check_count("n", n, none_means="all patients")
    if not scanners:
        raise InvalidParameterError("scanners is empty; expected at least one ManufacturerModelName and its scanner.")
    folder = _folder(images)
    exams = _exams(clinical)
    flow = Flow("EMBED")
    rows = _files(metadata, flow)
    rows = _of_the_study(rows, scanners, flow)
    rows = _with_density(rows, exams, flow)
    if folder is not None:
        rows = _in_folder(rows, folder, flow)
    rows = flow.start(draw(rows, n, random_state, one_a_patient=True), "drawn")
    return Selection(_tidy(rows), flow.table())


def _exams(clinical: str | os.PathLike[str]) -> pd.DataFrame:
    """Read patient, exam, density (float) and, if told, age of every exam."""
    table = read_columns(clinical, [*_KEYS, "tissueden"], ["age_at_study"], advice=_ADVICE)
    density = pd.to_numeric(table["tissueden"], errors="coerce")
    unknown = table.loc[density.isna() & table["tissueden"].notna(), "tissueden"]
    if len(unknown):
        raise LabelTableError(
            f"{os.fspath(clinical)}: {len(unknown)} row(s) have a tissueden that is no number, such as "
            f"{unknown.iloc[0]!r}; expected 1 to 4 (BI-RADS A to D), 5 (male) or nothing. Write it as in EMBED."
        )
    exams = pd.DataFrame({"patient": _key(table["empi_anon"]), "exam": _key(table["acc_anon"]), "tissueden": density})
    if "age_at_study" in table:
        exams["age"] = pd.to_numeric(table["age_at_study"], errors="coerce")
    # Without a key nothing may be joined: pandas would join what is missing with what is missing.
    return exams.dropna(subset=["patient", "exam"]).drop_duplicates("exam")


def _files(metadata: str | os.PathLike[str], flow: Flow) -> pd.DataFrame:
    """Read one row a file, its path made relative to the folder of the cohorts."""
    table = read_columns(metadata, _IMAGE_COLUMNS, ["ImageLateralityFinal", "PatientAge"], advice=_ADVICE)
    table = table.rename(columns={"empi_anon": "patient", "acc_anon": "exam", "anon_dicom_path": "path"})
    table["patient"], table["exam"] = _key(table["patient"]), _key(table["exam"])
    # As distributed, paths begin with a folder of the machine that made the table.
    table["path"] = table["path"].str.replace(r"^.*(?=cohort_\d+/)", "", regex=True)
    rows = flow.start(table, "rows of the metadata table")
    once = rows["path"].notna() & ~rows["path"].duplicated()
    return flow.keep(rows, once, "each file once", column="path", expected="filled in")


def _of_the_study(rows: pd.DataFrame, scanners: Mapping[str, str], flow: Flow) -> pd.DataFrame:
    """Keep full 2D craniocaudal views of women from the scanners."""
    full = rows["spot_mag"].isna() | (pd.to_numeric(rows["spot_mag"], errors="coerce") == 0)
    rows = flow.keep(rows, full, "full view", column="spot_mag", expected="empty")
    rows = rows.assign(view=_view(rows))
    rows = flow.keep(rows, rows["view"] == "CC", "craniocaudal", column="view", expected="'CC'")
    rows = flow.keep(rows, rows["FinalImageType"] == "2D", "2D", column="FinalImageType", expected="'2D'")
    rows = flow.keep(rows, rows["PatientSex"] == "F", "female", column="PatientSex", expected="'F'")
    rows = flow.keep(
        rows,
        rows["ManufacturerModelName"].isin(list(scanners)),
        "scanner of the study",
        column="ManufacturerModelName",
        expected=" or ".join(map(repr, scanners)),
        advice="Name the models to take with scanners={model: scanner}.",
    )
    return rows.assign(scanner=rows["ManufacturerModelName"].map(dict(scanners)))


def _with_density(rows: pd.DataFrame, exams: pd.DataFrame, flow: Flow) -> pd.DataFrame:
    """Keep images of exams with a density of 1 to 4, which becomes the label."""
    rows = rows.merge(exams, on=["patient", "exam"], how="left", indicator="joined")
    rows = flow.keep(
        rows, rows["joined"] == "both", "exam in the clinical table", column="exam", expected="in the clinical table"
    )
    rows = flow.keep(
        rows, rows["tissueden"].isin([1, 2, 3, 4]), "density A to D", column="tissueden", expected="1, 2, 3 or 4"
    )
    return rows.assign(label=rows["tissueden"].astype(int) - 1)


def _in_folder(rows: pd.DataFrame, folder: Path, flow: Flow) -> pd.DataFrame:
    """Keep images whose file is there."""
    return flow.keep(
        rows,
        np.array([_is_in(folder, path) for path in rows["path"]], dtype=bool),
        "file in the folder",
        column="path",
        expected=f"in {folder}",
        advice="Give the folder that holds cohort_1 and cohort_2.",
    )


def _view(rows: pd.DataFrame) -> pd.Series:
    """Give ViewPosition, inferred where it is missing, and XCCL for exaggerated views whatever it says."""
    described = rows["SeriesDescription"].fillna("").str.upper()
    inferred = pd.Series(None, index=rows.index, dtype=object)
    for view in ("MLO", "CC", "XCC"):  # from the vaguest: "XCCL" has a CC in it
        inferred[described.str.contains(view, regex=False)] = "XCCL" if view == "XCC" else view
    return rows["ViewPosition"].where(rows["ViewPosition"].notna(), inferred).mask(described.isin(_EXAGGERATED), "XCCL")


def _key(column: pd.Series) -> pd.Series:
    """Give identifiers without the ".0" of a table that was saved with gaps."""
    return column.str.replace(r"\.0+$", "", regex=True)


def _folder(images: str | os.PathLike[str] | None) -> Path | None:
    if images is None:
        return None
    folder = Path(os.path.normpath(Path(images).absolute()))
    if not folder.is_dir():
        raise LabelTableError(f"{os.fspath(images)}: no such folder, expected the one that holds the images.")
    return folder


def _is_in(folder: Path, path: str) -> bool:
    file = Path(os.path.normpath(folder / path))
    return file.is_relative_to(folder) and file.is_file()


def _tidy(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.rename(
        columns={"ImageLateralityFinal": "laterality", "PatientSex": "sex", "ManufacturerModelName": "model"}
    )
    if "age" not in rows and "PatientAge" in rows:
        rows["age"] = rows["PatientAge"].map(age_in_years)
    columns = ["path", "label", "scanner", "patient", "exam", "view", "laterality", "sex", "age", "model"]
    return rows[[column for column in columns if column in rows]]
