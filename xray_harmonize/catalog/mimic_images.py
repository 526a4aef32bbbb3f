"""Which indexed images are of MIMIC-CXR, and the views that join them with the tables of MIMIC."""

from __future__ import annotations

import re
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePosixPath

from xray_harmonize.catalog.database import transaction
from xray_harmonize.exceptions import XRayHarmonizeWarning

_PLACE = re.compile(r"p(\d{8})/s(\d{8})/[^/]+$")
_FETCHED_AT_ONCE = 10_000

# Who says which study an image is of; the first that knows is believed.
_TABLES = ("mimic_cxr_metadata", "mimic_cxr_split", "mimic_cxr_record_list")
_KNOWN_STUDIES = ("mimic_cxr_chexpert", "mimic_cxr_negbio", "mimic_cxr_test_set_labeled")


@dataclass(frozen=True)
class LinkedImages:
    """What became of the indexed images.

    Parameters
    ----------
    n_linked : int
        Images of MIMIC-CXR.
    n_conflicts : int
        Images whose study or patient is another by their folder or header than by the tables; they are not linked.
    n_others : int
        Images of which the tables know nothing.
    """

    n_linked: int
    n_conflicts: int
    n_others: int


def make_views(connection: sqlite3.Connection) -> None:
    """Make the tables and views of ``mimic.sql`` where they are not there yet.

    Parameters
    ----------
    connection : sqlite3.Connection
        Of a catalogue, open for writing, outside a transaction.
    """
    statement = ""
    with transaction(connection):
        for line in files("xray_harmonize.catalog").joinpath("mimic.sql").read_text(encoding="utf-8").splitlines():
            statement += f"{line}\n"
            if sqlite3.complete_statement(statement):
                connection.execute(statement)
                statement = ""


def link_images(connection: sqlite3.Connection) -> LinkedImages:
    """Find the indexed images of MIMIC-CXR by dicom_id, which is the name of the file, study and patient.

    Study and patient come from the metadata, split or record list; of an image that none of these has, from its place
    ``p10000032/s50414267/`` if a table of labels or patients knows that study or patient. Where folder or header
    (PatientID (0010,0020), unless the catalogue hashes it) says another, the image is not linked.

    Parameters
    ----------
    connection : sqlite3.Connection
        Of a catalogue with the tables of :func:`make_views`, outside a transaction.

    Returns
    -------
    LinkedImages

    Warns
    -----
    XRayHarmonizeWarning
        Images are not linked because their study or patient is not the same everywhere.
    """
    with transaction(connection):
        _find(connection)
        conflicts = (
            "study_id <> coalesce(place_study_id, study_id) OR subject_id <> coalesce(place_subject_id, subject_id) "
            "OR subject_id <> coalesce(header_subject_id, subject_id)"
        )
        n_found, n_conflicts, example = connection.execute(
            f"SELECT count(*), count(*) FILTER (WHERE {conflicts}), min(dicom_id) FILTER (WHERE {conflicts}) "
            "FROM temp.found WHERE study_id IS NOT NULL AND subject_id IS NOT NULL"
        ).fetchone()
        connection.execute("UPDATE image SET study_key = NULL WHERE image_id IN (SELECT image_id FROM mimic_cxr_image)")
        connection.execute("DELETE FROM mimic_cxr_image")
        connection.execute(
            "INSERT INTO mimic_cxr_image SELECT image_id, dicom_id, study_id, subject_id FROM temp.found "
            f"WHERE study_id IS NOT NULL AND subject_id IS NOT NULL AND NOT ({conflicts})"
        )
        connection.execute(
            "UPDATE image SET study_key = CAST(linked.study_id AS TEXT) "
            "FROM mimic_cxr_image AS linked WHERE linked.image_id = image.image_id"
        )
        (n_images,) = connection.execute("SELECT count(*) FROM temp.found").fetchone()
        connection.execute("DROP TABLE temp.found")
    if n_conflicts:
        warnings.warn(
            f"{n_conflicts} of {n_images} indexed image(s) belong to another study or patient by their folder or "
            f"header than by the tables of MIMIC-CXR, such as {example!r}, and were left out. Check that tables and "
            "images are of one version.",
            XRayHarmonizeWarning,
            stacklevel=3,
        )
    return LinkedImages(n_found - n_conflicts, n_conflicts, n_images - n_found)


def _find(connection: sqlite3.Connection) -> None:
    """Collect every indexed image with what tables, folder and header tell of its study and patient."""
    connection.execute("DROP TABLE IF EXISTS temp.found")
    connection.execute(
        "CREATE TEMP TABLE found (image_id INTEGER PRIMARY KEY, dicom_id TEXT, place_study_id INTEGER, "
        "place_subject_id INTEGER, header_subject_id INTEGER, study_id INTEGER, subject_id INTEGER)"
    )
    connection.executemany("INSERT INTO temp.found VALUES (?, ?, ?, ?, ?, NULL, NULL)", _indexed(connection))
    for table in _TABLES:
        connection.execute(
            f"UPDATE temp.found SET study_id = known.study_id, subject_id = known.subject_id FROM {table} AS known "
            "WHERE known.dicom_id = found.dicom_id AND found.study_id IS NULL"
        )
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    known = [f"place_study_id IN (SELECT study_id FROM {table})" for table in _KNOWN_STUDIES if table in there]
    known.append("place_subject_id IN (SELECT subject_id FROM hosp_patients)")
    connection.execute(
        "UPDATE temp.found SET study_id = place_study_id, subject_id = place_subject_id "
        f"WHERE study_id IS NULL AND ({' OR '.join(known)})"
    )


def _indexed(connection: sqlite3.Connection) -> Iterator[tuple[int, str, int | None, int | None, int | None]]:
    (hashed,) = connection.execute(
        "SELECT count(*) FROM setting WHERE name = 'patients' AND value LIKE 'hashed %'"
    ).fetchone()
    cursor = connection.execute("SELECT image_id, path, patient_id FROM image_full")
    while rows := cursor.fetchmany(_FETCHED_AT_ONCE):
        for image_id, path, patient in rows:
            place = _PLACE.search(path)
            in_header = None if hashed or not _is_number(patient) else int(patient)
            yield (
                image_id,
                PurePosixPath(path).stem,
                int(place[2]) if place else None,
                int(place[1]) if place else None,
                in_header,
            )


def _is_number(patient: str | None) -> bool:
    return patient is not None and patient.isascii() and patient.isdigit() and len(patient) <= 18
