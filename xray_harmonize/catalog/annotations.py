"""What a table says of indexed images, a row at a time: labels, scanner, patient."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xray_harmonize.catalog.image_files import IndexedFiles
from xray_harmonize.catalog.patients import patient_key
from xray_harmonize.exceptions import LabelTableError

_LONGEST_TEXT = 64
_LONGEST_PATH = 200
_SHOWN = 40


@dataclass(frozen=True)
class TableImport:
    """What came of an import.

    Parameters
    ----------
    n_images : int
        Images that the table tells something of.
    n_unknown : int
        Rows whose file is not indexed.
    n_labels : dict of str to int
        How many images have each label.
    n_new : int
        Images that were indexed for it.
    """

    n_images: int
    n_unknown: int
    n_labels: dict[str, int] = field(default_factory=dict)
    n_new: int = 0


@dataclass(frozen=True)
class Annotation:
    """What one row says of an image.

    Parameters
    ----------
    row : int
        Of the table, for errors.
    path : str
        File of the image.
    labels : mapping of str to int, float, str or None
        None takes away what this labeler said before.
    scanner, patient : str or None
        None leaves them as they are.
    """

    row: int
    path: str
    labels: Mapping[str, int | float | str | None]
    scanner: str | None
    patient: str | None


def store_annotations(
    connection: sqlite3.Connection,
    files: IndexedFiles,
    rows: Iterable[Annotation],
    labeler: str,
    name: str,
    salt: bytes | None,
) -> TableImport:
    """Write what rows say of indexed images, inside a transaction.

    Parameters
    ----------
    connection : sqlite3.Connection
        Of a catalogue, open for writing.
    files : IndexedFiles
    rows : iterable of Annotation
        Taken one at a time.
    labeler : str
        Who says so.
    name : str
        What errors call the table.
    salt : bytes or None
        Hashes patients.

    Returns
    -------
    TableImport

    Raises
    ------
    LabelTableError
        No row is of an indexed image, or two are of one.
    """
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS told (image_id INTEGER PRIMARY KEY, row INTEGER)")
    connection.execute("DELETE FROM temp.told")
    n_rows = n_images = 0
    n_labels: dict[str, int] = {}
    unknown: str | None = None
    for told in rows:
        n_rows += 1
        image_id = files.image_id(told.path)
        if image_id is None:
            unknown = unknown or told.path
            continue
        n_images += 1
        before = connection.execute("SELECT row FROM temp.told WHERE image_id = ?", (image_id,)).fetchone()
        if before is not None:
            raise LabelTableError(
                f"{name}: row {told.row} is the same file as row {before[0]}, {told.path!r}; expected each file once."
            )
        connection.execute("INSERT INTO temp.told VALUES (?, ?)", (image_id, told.row))
        _write(connection, image_id, told, labeler, salt)
        for label, value in told.labels.items():
            n_labels[label] = n_labels.get(label, 0) + (value is not None)
    if not n_images:
        raise LabelTableError(
            f"{name}: none of {n_rows} row(s) is of an indexed image, such as {(unknown or '')[:_LONGEST_PATH]!r}; "
            "index the folder of the images first, or say what paths are relative to."
        )
    return TableImport(n_images, n_rows - n_images, n_labels)


def _write(connection: sqlite3.Connection, image_id: int, told: Annotation, labeler: str, salt: bytes | None) -> None:
    for label, value in told.labels.items():
        if value is None:
            connection.execute(
                "DELETE FROM label WHERE name = ? AND labeler = ? AND image_id = ?", (label, labeler, image_id)
            )
        else:
            connection.execute(
                "INSERT OR REPLACE INTO label (image_id, labeler, name, value) VALUES (?, ?, ?, ?)",
                (image_id, labeler, label, value),
            )
    if told.scanner is not None:
        connection.execute("UPDATE acquisition SET scanner = ? WHERE image_id = ?", (told.scanner, image_id))
    if told.patient is not None:
        key = patient_key(told.patient, salt)
        connection.execute("UPDATE acquisition SET patient_id = ? WHERE image_id = ?", (key, image_id))


def short_text(name: str, number: int, column: str, text: str) -> str | None:
    """Give a text that may be kept, None for an empty one.

    Raises
    ------
    LabelTableError
        It is longer than 64 characters, or cannot be printed; the message names row and column.
    """
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise LabelTableError(
            f"{name}: row {number}, column {column!r} has {text[:_SHOWN]!r}, expected at most {_LONGEST_TEXT} "
            "printable characters; shorten it."
        )
    return text or None
