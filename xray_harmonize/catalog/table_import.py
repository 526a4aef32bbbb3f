"""Tables of labels, scanners and patients for images of a catalogue: a plain CSV, RSNA Pneumonia, EMBED."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from xray_harmonize.catalog import embed, rsna
from xray_harmonize.catalog.annotations import Annotation, TableImport, short_text, store_annotations
from xray_harmonize.catalog.column_types import ColumnTypes
from xray_harmonize.catalog.csv_stream import CsvStream, check_columns
from xray_harmonize.catalog.csv_tables import Progress, importing
from xray_harmonize.catalog.database import create, transaction
from xray_harmonize.catalog.image_files import IndexedFiles, index_files
from xray_harmonize.catalog.patients import check_salt
from xray_harmonize.catalog.store import add_provenance
from xray_harmonize.exceptions import InvalidParameterError, LabelTableError, XRayHarmonizeWarning

_PYTHON: Mapping[str, Callable[[str], int | float | str]] = MappingProxyType(
    {"INTEGER": int, "REAL": float, "TEXT": str}
)


def import_table(
    table: str | os.PathLike[str],
    db: str | os.PathLike[str],
    *,
    path: str = "path",
    labels: Sequence[str] = ("label",),
    scanner: str | None = None,
    patient: str | None = None,
    labeler: str | None = None,
    root: str | os.PathLike[str] | None = None,
    patient_salt: bytes | None = None,
    progress: Progress | None = None,
) -> TableImport:
    r"""Give indexed images the labels, scanners and patients of a CSV file.

    Parameters
    ----------
    table : path-like
        ``.csv`` or ``.csv.gz``, in UTF-8, with a header; one row an image.
    db : path-like
        The catalogue.
    path : str, default="path"
        Column with the file of the image: absolute, or relative to ``root``, to the folder of the table, or to a
        folder that was indexed.
    labels : sequence of str, default=("label",)
        Columns with labels; each is a label of this name, integer, number or text by all its cells. An empty cell, or
        "nan", is no label, and takes away what this labeler said before.
    scanner, patient : str, optional
        Columns that take the place of the scanner and patient of the header, until the file changes and is indexed
        again. An empty cell changes nothing.
    labeler : str, optional
        Who says so; the name of the table without its ending by default. What this labeler said of other images stays.
    root : path-like, optional
        Folder that paths are relative to.
    patient_salt : bytes, optional
        Hashes patients, for a catalogue that was indexed so.
    progress : callable, optional
        Called with the bytes that were read so far and those to read in all, twice the size of the file.

    Returns
    -------
    TableImport

    Raises
    ------
    LabelTableError
        The table cannot be read, lacks a column, names no indexed image or one twice, or has a text that cannot be
        kept: nothing is written then.
    CatalogError
        ``db`` is no catalogue of this version, holds patients hashed in another way, or cannot be written.
    InvalidParameterError
        There is nothing to import.

    Warns
    -----
    XRayHarmonizeWarning
        Rows whose file is not indexed.

    Examples
    --------
    >>> import tempfile
    >>> from pydicom.dataset import Dataset
    >>> from xray_harmonize.catalog.index import build_index
    >>> from xray_harmonize.catalog.store import Catalog
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = Path(folder.name)
    >>> file = Dataset()
    >>> file.Modality, file.PhotometricInterpretation, file.Rows, file.Columns = "CR", "MONOCHROME2", 2, 2
    >>> file.BitsAllocated, file.BitsStored = 8, 8
    >>> file.save_as(root / "a.dcm", implicit_vr=True, little_endian=True)
    >>> _ = build_index(root, root / "archive.sqlite")
    >>> _ = (root / "labels.csv").write_text("path,Pneumonia\na.dcm,1\n")
    >>> import_table(root / "labels.csv", root / "archive.sqlite", labels=["Pneumonia"]).n_images
    1
    >>> with Catalog(root / "archive.sqlite") as catalog:
    ...     catalog.images(label="Pneumonia", scanner=None).meta["label"].tolist()
    [1]
    >>> folder.cleanup()
    """
    columns = [*labels, *(column for column in (scanner, patient) if column is not None)]
    if not columns:
        raise InvalidParameterError("Nothing to import: expected labels=, scanner= or patient=, a column of the table.")
    name = os.fspath(table)
    by = Path(name).name.removesuffix(".gz").removesuffix(".csv") if labeler is None else labeler
    types, sha256 = _types(name, [path, *columns], labels, progress)
    folders = [*([] if root is None else [root]), Path(name).absolute().parent]

    def rows() -> Iterator[Annotation]:
        with CsvStream(name, _second_half(name, progress)) as stream:
            places = {column: stream.header.index(column) for column in [path, *columns] if column in stream.header}
            if len(places) < len({path, *columns}):
                raise _changed(name)
            for numbers, chunk in stream.chunks():
                for number, cells in zip(numbers, chunk, strict=True):
                    yield _told(name, number, cells, places, (path, labels, scanner, patient), types)
            if stream.sha256 != sha256:
                raise _changed(name)

    with closing(create(db)) as connection, importing(connection, name), transaction(connection):
        if patient is not None:
            check_salt(connection, patient_salt, os.fspath(db))
        imported = store_annotations(connection, IndexedFiles(connection, folders), rows(), by, name, patient_salt)
        add_provenance(connection, "import csv", name, imported.n_images, sha256=sha256)
    if imported.n_unknown:
        _warn_of_unknown(name, imported)
    return imported


def import_rsna(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    db: str | os.PathLike[str],
    *,
    mapping: str | os.PathLike[str] | None = None,
    n: int | None = None,
    scanners: Mapping[str, tuple[float, float]] = rsna.SCANNERS,
    random_state: int | np.random.RandomState | None = 42,
    patient_salt: bytes | None = None,
) -> TableImport:
    """Give the radiographs of RSNA Pneumonia their label, scanner and person; those not indexed yet are indexed.

    Parameters
    ----------
    images, labels, mapping, n, scanners, random_state
        As :func:`~xray_harmonize.catalog.rsna.rsna_table` takes them; all images without ``n``.
    db : path-like
        The catalogue, made if absent.
    patient_salt : bytes, optional
        Hashes patients, for a catalogue that was indexed so.

    Returns
    -------
    TableImport
        The label is "Pneumonia" by the labeler "rsna", 1 or 0.

    Raises
    ------
    LabelTableError, NotEnoughImagesError, InvalidParameterError
        As :func:`~xray_harmonize.catalog.rsna.rsna_table`.
    CatalogError
        ``db`` is no catalogue of this version, holds patients hashed in another way, or cannot be written.

    Warns
    -----
    XRayHarmonizeWarning
        As :func:`~xray_harmonize.catalog.rsna.rsna_table`; files that hold no usable image.
    """
    chosen = rsna.rsna_table(images, labels, mapping=mapping, n=n, scanners=scanners, random_state=random_state)
    return _import_chosen(chosen.images, images, labels, db, ("Pneumonia", "rsna"), patient_salt)


def import_embed(
    metadata: str | os.PathLike[str],
    clinical: str | os.PathLike[str],
    images: str | os.PathLike[str],
    db: str | os.PathLike[str],
    *,
    n: int | None = None,
    scanners: Mapping[str, str] = embed.SCANNERS,
    random_state: int | np.random.RandomState | None = 42,
    patient_salt: bytes | None = None,
) -> TableImport:
    """Give the mammograms of EMBED their density, scanner and patient; those not indexed yet are indexed.

    Parameters
    ----------
    metadata, clinical, images, n, scanners, random_state
        As :func:`~xray_harmonize.catalog.embed.embed_table` takes them; one image of every patient, scanner and density
        without ``n``.
    db : path-like
        The catalogue, made if absent.
    patient_salt : bytes, optional
        Hashes patients, for a catalogue that was indexed so.

    Returns
    -------
    TableImport
        The label is "density" by the labeler "embed", 0 to 3 for BI-RADS A to D.

    Raises
    ------
    LabelTableError, NotEnoughImagesError, InvalidParameterError
        As :func:`~xray_harmonize.catalog.embed.embed_table`.
    CatalogError
        ``db`` is no catalogue of this version, holds patients hashed in another way, or cannot be written.

    Warns
    -----
    XRayHarmonizeWarning
        Files that hold no usable image.
    """
    chosen = embed.embed_table(metadata, clinical, images=images, n=n, scanners=scanners, random_state=random_state)
    return _import_chosen(chosen.images, images, metadata, db, ("density", "embed"), patient_salt)


def _import_chosen(
    chosen: pd.DataFrame,
    folder: str | os.PathLike[str],
    table: str | os.PathLike[str],
    db: str | os.PathLike[str],
    label: tuple[str, str],
    salt: bytes | None,
) -> TableImport:
    (name, labeler), source = label, os.fspath(table)
    told = [
        Annotation(row, os.path.normpath(Path(folder).absolute() / path), {name: int(value)}, scanner, patient)
        for row, path, value, scanner, patient in zip(
            range(2, 2 + len(chosen)),
            chosen["path"],
            chosen["label"],
            chosen["scanner"],
            chosen["patient"],
            strict=True,
        )
    ]
    with closing(create(db)) as connection, importing(connection, source):
        n_new = index_files(connection, folder, chosen["path"], salt=salt, name=os.fspath(db))
        with transaction(connection):
            imported = store_annotations(connection, IndexedFiles(connection), told, labeler, source, salt)
            add_provenance(connection, f"import {labeler}", source, imported.n_images)
    if imported.n_unknown:
        warnings.warn(
            f"{source}: {imported.n_unknown} of {len(told)} image(s) are left out, as their files hold no usable "
            "image; the table error of the catalogue says why.",
            XRayHarmonizeWarning,
            stacklevel=3,
        )
    return TableImport(imported.n_images, imported.n_unknown, imported.n_labels, n_new)


def _types(
    name: str, columns: Sequence[str], labels: Sequence[str], progress: Progress | None
) -> tuple[dict[str, str], str]:
    """Read a table for the types of its labels and its hash."""
    size = Path(name).stat().st_size if Path(name).is_file() else 0
    report = None if progress is None else lambda n_bytes: progress(min(n_bytes, size), 2 * size)
    with CsvStream(name, report) as stream:
        check_columns(name, stream.header, columns, "Name the right columns.")
        places = [stream.header.index(column) for column in labels]
        types = ColumnTypes(name, labels, {})
        for numbers, rows in stream.chunks():
            if places:
                types.see(numbers, [[_cell(row[place]) for place in places] for row in rows])
        return dict(types.types()), stream.sha256


def _second_half(name: str, progress: Progress | None) -> Any:
    if progress is None:
        return None
    size = Path(name).stat().st_size
    return lambda n_bytes: progress(size + min(n_bytes, size), 2 * size)


def _told(
    name: str,
    number: int,
    cells: Sequence[str],
    places: Mapping[str, int],
    roles: tuple[str, Sequence[str], str | None, str | None],
    types: Mapping[str, str],
) -> Annotation:
    path, labels, scanner, patient = roles
    values: dict[str, int | float | str | None] = {}
    for column in labels:
        text = short_text(name, number, column, _cell(cells[places[column]]))
        values[column] = None if text is None else _PYTHON[types[column]](text)
    if not cells[places[path]].strip():
        raise LabelTableError(f"{name}: row {number}, column {path!r} is empty, expected the file of an image.")
    return Annotation(
        number,
        cells[places[path]].strip(),
        values,
        None if scanner is None else short_text(name, number, scanner, cells[places[scanner]].strip()),
        None if patient is None else short_text(name, number, patient, cells[places[patient]].strip()),
    )


def _cell(text: str) -> str:
    """Give a label without spaces around it, empty where it is missing."""
    stripped = text.strip()
    return "" if stripped.lower() == "nan" else stripped


def _warn_of_unknown(name: str, imported: TableImport) -> None:
    warnings.warn(
        f"{name}: {imported.n_unknown} of {imported.n_unknown + imported.n_images} row(s) are of no indexed image and "
        "were left out; index the folder of the images and import again.",
        XRayHarmonizeWarning,
        stacklevel=3,
    )


def _changed(name: str) -> LabelTableError:
    return LabelTableError(f"{name}: the file changed while it was imported; import it when nothing writes it.")
