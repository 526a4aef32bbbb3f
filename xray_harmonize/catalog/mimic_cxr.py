"""MIMIC-CXR: its tables beside the indexed images, joined by dicom_id, study and patient.

The tables are those of MIMIC-CXR and MIMIC-CXR-JPG (metadata, split, labels), the images the DICOM files of MIMIC-CXR.
Images of MIMIC-CXR-JPG were histogram-equalized when they were made: every tone curve is gone from them.

References
----------
Johnson et al.: MIMIC-CXR, a de-identified publicly available database of chest radiographs with free-text reports,
Scientific Data 6, 2019.
"""

from __future__ import annotations

import os
import re
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from xray_harmonize.catalog.column_types import ColumnType
from xray_harmonize.catalog.csv_stream import CsvStream
from xray_harmonize.catalog.csv_tables import ImportedTable, import_csv, importing, quoted
from xray_harmonize.catalog.database import create, transaction
from xray_harmonize.catalog.mimic_images import LinkedImages, link_images, make_views
from xray_harmonize.catalog.store import add_provenance
from xray_harmonize.exceptions import LabelTableError, XRayHarmonizeWarning

TableProgress = Callable[[str, int, int], None]
"""Called with the file that is imported, bytes done and bytes to do."""

FINDINGS = (
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
)
"""Labels of CheXpert and NegBio; 1 is present, 0 absent, -1 uncertain."""

_VERSION = r"(-v?\d+(\.\d+)*)?"
_ADVICE = "Give the table as it is distributed."
_IDS: MappingProxyType[str, ColumnType] = MappingProxyType(
    {"dicom_id": "TEXT", "subject_id": "INTEGER", "study_id": "INTEGER"}
)
_VALUES = (-1, 0, 1)


@dataclass(frozen=True)
class _Table:
    """One file of the collection, and what must be in it."""

    pattern: str
    required: tuple[str, ...]
    unique: str
    declared: MappingProxyType[str, ColumnType]
    labeler: str | None = None

    @property
    def file(self) -> re.Pattern[str]:
        return re.compile(rf"{self.pattern}\.csv(\.gz)?")


_METADATA_TYPES: dict[str, ColumnType] = {
    "PerformedProcedureStepDescription": "TEXT",
    "ViewPosition": "TEXT",
    "Rows": "INTEGER",
    "Columns": "INTEGER",
    "StudyDate": "INTEGER",
    "StudyTime": "REAL",
    "ProcedureCodeSequence_CodeMeaning": "TEXT",
    "ViewCodeSequence_CodeMeaning": "TEXT",
    "PatientOrientationCodeSequence_CodeMeaning": "TEXT",
}
_TABLES: MappingProxyType[str, _Table] = MappingProxyType(
    {
        "mimic_cxr_metadata": _Table(
            rf"mimic-cxr{_VERSION}-metadata",
            (*_IDS, *_METADATA_TYPES),
            "dicom_id",
            MappingProxyType({**_IDS, **_METADATA_TYPES}),
        ),
        "mimic_cxr_split": _Table(
            rf"mimic-cxr{_VERSION}-split",
            (*_IDS, "split"),
            "dicom_id",
            MappingProxyType({**_IDS, "split": "TEXT"}),
        ),
        "mimic_cxr_record_list": _Table(
            rf"(mimic-)?cxr{_VERSION}-record-list",
            (*_IDS, "path"),
            "dicom_id",
            MappingProxyType({**_IDS, "path": "TEXT"}),
        ),
        "mimic_cxr_chexpert": _Table(
            rf"mimic-cxr{_VERSION}-chexpert", ("subject_id", "study_id", *FINDINGS), "study_id", _IDS, "chexpert"
        ),
        "mimic_cxr_negbio": _Table(
            rf"mimic-cxr{_VERSION}-negbio", ("subject_id", "study_id", *FINDINGS), "study_id", _IDS, "negbio"
        ),
        "mimic_cxr_test_set_labeled": _Table(
            rf"mimic-cxr{_VERSION}-test-set-labeled", ("study_id",), "study_id", _IDS, "manual"
        ),
    }
)


@dataclass(frozen=True)
class MimicCxrImport:
    """What came of an import.

    Parameters
    ----------
    tables : list of ImportedTable
        In the order of the collection.
    images : LinkedImages
        Which indexed images are of the collection.
    n_labels : dict of str to int
        For every labeler, how many labels of studies there are.
    """

    tables: list[ImportedTable]
    images: LinkedImages
    n_labels: dict[str, int]


def import_mimic_cxr(
    folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    db: str | os.PathLike[str],
    *,
    progress: TableProgress | None = None,
) -> MimicCxrImport:
    r"""Import the tables of MIMIC-CXR and join them to the images of a catalogue.

    Taken are, as far as they are there and whatever version their names tell, ``mimic-cxr-2.0.0-metadata``,
    ``-split``, ``-chexpert``, ``-negbio``, ``mimic-cxr-2.1.0-test-set-labeled`` and ``cxr-record-list``, each as
    ``.csv.gz`` or ``.csv``. They become the tables ``mimic_cxr_metadata`` and so on, the view ``mimic_image`` joins
    metadata and split to every image, and what is labelled becomes labels of all images of the study, by the labelers
    "chexpert", "negbio" and "manual": 1, 0, or -1 for uncertain; what is not mentioned has no label.

    A file that was imported before and has not changed is not imported again. Images that were indexed since are
    joined by importing again.

    Parameters
    ----------
    folders : path-like or sequence of path-like
        Folders of these files; not searched any deeper.
    db : path-like
        The catalogue, made if absent.
    progress : callable, optional
        Called with the name of the file, bytes done and bytes to do.

    Returns
    -------
    MimicCxrImport

    Raises
    ------
    LabelTableError
        A folder is missing, none of the files is there or one is there twice, or a file cannot be used; see
        :func:`~xray_harmonize.catalog.csv_tables.import_csv`. Files imported before stay imported.
    CatalogError
        ``db`` is no catalogue of this version or cannot be written.

    Warns
    -----
    XRayHarmonizeWarning
        No indexed image is of the collection; tables, folders and headers disagree on some; a folder holds the images
        of MIMIC-CXR-JPG.

    Examples
    --------
    >>> import tempfile
    >>> from xray_harmonize.catalog.store import Catalog
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> _ = (root / "mimic-cxr-2.0.0-split.csv").write_text("dicom_id,study_id,subject_id,split\nab,5,1,train\n")
    >>> with warnings.catch_warnings(action="ignore"):  # none of its images is indexed here
    ...     imported = import_mimic_cxr(root, root / "archive.sqlite")
    >>> [(table.name, table.rows) for table in imported.tables]
    [('mimic_cxr_split', 1)]
    >>> with Catalog(root / "archive.sqlite") as catalog:
    ...     catalog.query("SELECT split FROM mimic_cxr_split").values.tolist()
    [['train']]
    >>> folder.cleanup()
    """
    places = [Path(one) for one in ([folders] if isinstance(folders, str | os.PathLike) else folders)]
    found = _find_files(places)
    with closing(create(db)) as connection, importing(connection, "MIMIC-CXR"):
        make_views(connection)
        tables = [_import(connection, name, file, progress) for name, file in found.items()]
        n_labels = {}
        for imported in tables:
            labeler = _TABLES[imported.name].labeler
            if labeler is not None:
                n_labels[labeler] = _store_labels(connection, imported, labeler, found[imported.name])
        images = link_images(connection)
    for place in places:
        _warn_of_jpg(place)
    if not images.n_linked:
        warnings.warn(
            f"{os.fspath(db)}: no indexed image is of these tables; index the DICOM files of MIMIC-CXR and import "
            "again.",
            XRayHarmonizeWarning,
            stacklevel=2,
        )
    return MimicCxrImport(tables, images, n_labels)


def _find_files(folders: Sequence[Path]) -> dict[str, Path]:
    files: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise LabelTableError(f"{folder}: no such folder, expected the one with the tables of MIMIC-CXR.")
        files += sorted(path for path in folder.iterdir() if path.is_file())
    found: dict[str, Path] = {}
    for name, table in _TABLES.items():
        here = [path for path in files if table.file.fullmatch(path.name)]
        if len(here) > 1:
            raise LabelTableError(
                f"{here[0]} and {here[1]} are the same table, expected one of each; leave the one to import."
            )
        if here:
            found[name] = here[0]
    if not found:
        raise LabelTableError(
            f"{', '.join(map(str, folders)) or 'no folder'}: none of the tables of MIMIC-CXR, expected "
            "mimic-cxr-2.0.0-metadata.csv.gz, -split, -chexpert, -negbio, mimic-cxr-2.1.0-test-set-labeled.csv or "
            "cxr-record-list.csv.gz. Give the folder that holds them."
        )
    return found


def _import(connection: sqlite3.Connection, name: str, file: Path, progress: TableProgress | None) -> ImportedTable:
    table = _TABLES[name]
    declared = dict(table.declared)
    allowed: dict[str, Sequence[str | int]] = {}
    if name == "mimic_cxr_split":
        allowed["split"] = ("train", "validate", "test")
    if table.labeler is not None:
        with CsvStream(file) as stream:
            findings = [column for column in stream.header if column not in _IDS]
        if not findings:
            raise LabelTableError(f"{file}: no column with a finding, expected some such as 'Pneumonia'. {_ADVICE}")
        declared |= dict.fromkeys(findings, "INTEGER")
        allowed |= dict.fromkeys(findings, _VALUES)
    return import_csv(
        connection,
        file,
        name,
        declared=declared,
        required=table.required,
        unique=table.unique,
        allowed=allowed,
        indices=["dicom_id", "study_id", "subject_id"],
        advice=_ADVICE,
        progress=None if progress is None else lambda done, total: progress(file.name, done, total),
    )


def _store_labels(connection: sqlite3.Connection, imported: ImportedTable, labeler: str, file: Path) -> int:
    """Make labels of a table with one row a study and one column a finding, unless they were made of it before."""
    what = f"labels {labeler}"
    with transaction(connection):
        # The table may be there and its labels not yet: an import may have been stopped between the two.
        made = connection.execute(
            "SELECT sha256 FROM provenance WHERE what = ? ORDER BY provenance_id DESC LIMIT 1", (what,)
        ).fetchone()
        if made != (imported.sha256,):
            connection.execute("DELETE FROM label WHERE labeler = ?", (labeler,))
            for column in imported.columns:
                if column not in _IDS:
                    connection.execute(
                        "INSERT INTO label (study_key, labeler, name, value) "
                        f"SELECT CAST(study_id AS TEXT), ?, ?, {quoted(column)} FROM {quoted(imported.name)} "
                        f"WHERE {quoted(column)} IS NOT NULL",
                        (labeler, column),
                    )
            add_provenance(connection, what, file, _count(connection, labeler), sha256=imported.sha256)
    return _count(connection, labeler)


def _count(connection: sqlite3.Connection, labeler: str) -> int:
    return int(connection.execute("SELECT count(*) FROM label WHERE labeler = ?", (labeler,)).fetchone()[0])


def _warn_of_jpg(folder: Path) -> None:
    """Warn if the images in the folder are those of MIMIC-CXR-JPG, looking at one of them."""
    place = folder / "files"
    for _ in range(4):  # p10, p10000032, s50414267, image
        try:
            following = next(place.iterdir(), None)
        except OSError:  # no folder, or none that can be listed: there is nothing to warn of
            return
        if following is None:
            return
        place = following
        if place.suffix.lower() in (".jpg", ".jpeg"):
            warnings.warn(
                f"{folder} holds the images of MIMIC-CXR-JPG, which are histogram-equalized and have 8 bits: what "
                "scanners differ in is gone from them. Use its tables, and index the DICOM files of MIMIC-CXR.",
                XRayHarmonizeWarning,
                stacklevel=3,
            )
            return
