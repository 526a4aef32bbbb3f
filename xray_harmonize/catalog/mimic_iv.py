"""MIMIC-IV: every table of its hosp and icu folders beside the images, so that patients and admissions join in SQL.

The collection has some 30 tables, the largest of several hundred million rows; they are streamed, the small ones first.

References
----------
Johnson et al.: MIMIC-IV, a freely accessible electronic health record dataset, Scientific Data 10, 2023.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from xray_harmonize.catalog.column_types import ColumnType
from xray_harmonize.catalog.csv_tables import ImportedTable, Progress, import_csv, importing
from xray_harmonize.catalog.database import create
from xray_harmonize.catalog.mimic_cxr import TableProgress
from xray_harmonize.catalog.mimic_images import LinkedImages, link_images, make_views
from xray_harmonize.exceptions import LabelTableError

MODULES = ("hosp", "icu")
"""Folders of the collection; a table is named after its folder and file, such as ``hosp_patients``."""

_FILE = re.compile(r"([A-Za-z][A-Za-z0-9_]{0,60})\.csv(\.gz)?")
_KEYS = ("subject_id", "hadm_id", "stay_id", "study_id")
_ADVICE = "Give the table as it is distributed."

# Declared also where a table has not one of them: the types that keys are joined by do not depend on the rows.
_DECLARED: Mapping[str, ColumnType] = MappingProxyType(dict.fromkeys(_KEYS, "INTEGER"))
_TIMES: Mapping[str, ColumnType] = MappingProxyType(
    dict.fromkeys(("admittime", "dischtime", "edregtime", "intime", "outtime", "dod"), "TEXT")
)
_YEARS: Mapping[str, ColumnType] = MappingProxyType(dict.fromkeys(("anchor_age", "anchor_year"), "INTEGER"))


@dataclass(frozen=True)
class _Needed:
    """What the view patient_image takes from a table."""

    columns: tuple[str, ...]
    unique: str


_NEEDED: Mapping[str, _Needed] = MappingProxyType(
    {
        "hosp_patients": _Needed(
            ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"), "subject_id"
        ),
        "hosp_admissions": _Needed(
            ("subject_id", "hadm_id", "admittime", "dischtime", "edregtime", "admission_type"), "hadm_id"
        ),
        "icu_icustays": _Needed(("subject_id", "hadm_id", "stay_id", "intime", "outtime"), "stay_id"),
    }
)


@dataclass(frozen=True)
class MimicIvImport:
    """What came of an import.

    Parameters
    ----------
    tables : list of ImportedTable
        From the smallest file to the largest.
    images : LinkedImages
        Which indexed images are of MIMIC-CXR.
    """

    tables: list[ImportedTable]
    images: LinkedImages


def import_mimic_iv(
    folder: str | os.PathLike[str],
    db: str | os.PathLike[str],
    *,
    progress: TableProgress | None = None,
) -> MimicIvImport:
    r"""Import every table of MIMIC-IV and join patients and admissions to the images of a catalogue.

    The types of columns are inferred from all rows, and subject_id, hadm_id, stay_id and study_id are indexed. The view
    ``patient_image`` has a row for every image of MIMIC-CXR, with what header, metadata and split tell (import
    MIMIC-CXR for these), gender, age, the admission (hadm_id) and the stay in intensive care (stay_id) during which it
    was made. Age is anchor_age + year of the study - anchor_year; the dates of both collections are shifted by the same
    amount for a patient, so that order, intervals, ages and admissions are right within a patient, and years, seasons
    and comparisons of dates between patients mean nothing.

    Parameters
    ----------
    folder : path-like
        Holds the folders ``hosp`` and ``icu``, or one of them, with files ``.csv.gz`` or ``.csv``.
    db : path-like
        The catalogue, made if absent.
    progress : callable, optional
        Called with the name of the file, bytes done and bytes to do.

    Returns
    -------
    MimicIvImport

    Raises
    ------
    LabelTableError
        There is no such folder, none of the files is there or one is there twice, or a file cannot be used; see
        :func:`~xray_harmonize.catalog.csv_tables.import_csv`. Files imported before stay imported, and are skipped when
        the same is imported again.
    CatalogError
        ``db`` is no catalogue of this version or cannot be written.

    Warns
    -----
    XRayHarmonizeWarning
        Tables, folders and headers disagree on the patient or study of some images.

    Examples
    --------
    >>> import tempfile
    >>> from xray_harmonize.catalog.store import Catalog
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> (root / "hosp").mkdir()
    >>> _ = (root / "hosp" / "d_icd_diagnoses.csv").write_text("icd_code,icd_version\n0010,9\n")
    >>> imported = import_mimic_iv(root, root / "archive.sqlite")
    >>> with Catalog(root / "archive.sqlite") as catalog:
    ...     catalog.query("SELECT * FROM hosp_d_icd_diagnoses").values.tolist()
    [['0010', 9]]
    >>> folder.cleanup()
    """
    found = _find_files(Path(folder))
    with closing(create(db)) as connection, importing(connection, "MIMIC-IV"):
        make_views(connection)
        tables = []
        for name, file in found.items():
            needed = _NEEDED.get(name)
            tables.append(
                import_csv(
                    connection,
                    file,
                    name,
                    declared={**_DECLARED, **_TIMES, **_YEARS} if needed else _DECLARED,
                    required=needed.columns if needed else (),
                    unique=needed.unique if needed else None,
                    indices=_KEYS,
                    advice=_ADVICE,
                    progress=_of_file(progress, file),
                )
            )
        images = link_images(connection)
    return MimicIvImport(tables, images)


def _of_file(progress: TableProgress | None, file: Path) -> Progress | None:
    if progress is None:
        return None
    name = f"{file.parent.name}/{file.name}"
    return lambda done, total: progress(name, done, total)


def _find_files(folder: Path) -> dict[str, Path]:
    """Give tables and their files, the smallest first: what goes wrong early has cost little."""
    if not folder.is_dir():
        raise LabelTableError(f"{folder}: no such folder, expected the one that holds hosp and icu of MIMIC-IV.")
    files = [path for module in MODULES for path in sorted((folder / module).glob("*")) if path.is_file()]
    found: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: path.stat().st_size):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        table = f"{path.parent.name}_{match[1].lower()}"
        if table in found:
            raise LabelTableError(
                f"{found[table]} and {path} are the same table, expected one of each; leave the one to import."
            )
        found[table] = path
    if not found:
        raise LabelTableError(
            f"{folder}: no .csv.gz in {' or '.join(MODULES)}, expected the tables of MIMIC-IV such as "
            "hosp/patients.csv.gz. Give the folder that holds hosp and icu."
        )
    return found
