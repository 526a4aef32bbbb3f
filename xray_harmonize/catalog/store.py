"""The catalogue of an archive: what is in it, asked in SQL, and handed on as an ImageSet."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pandas as pd

from xray_harmonize.catalog.database import add_provenance as add_provenance
from xray_harmonize.catalog.database import create, open_readonly, transaction
from xray_harmonize.exceptions import CatalogError, InvalidParameterError, MissingScannerError, NotEnoughImagesError
from xray_harmonize.images import ImageSet

Parameters = Sequence[Any] | Mapping[str, Any]
"""Values of the placeholders in SQL: a sequence for ``?``, a mapping for ``:name``."""

_FETCHED_AT_ONCE = 10_000
_TYPES = {"INTEGER": "Int64", "REAL": "float64"}
_FLAGS = ("signed", "portable")


class Catalog:
    """Images of an archive, with acquisition, labels and where each came from, in one SQLite file.

    ``xray-harmonize index`` makes one. Reading never changes it; a catalogue travels to workers as its path.

    Parameters
    ----------
    path : path-like
        The SQLite file.

    Attributes
    ----------
    path : Path

    Raises
    ------
    CatalogError
        There is no such file, or it is no catalogue of this version of the package.

    Examples
    --------
    >>> import tempfile
    >>> from xray_harmonize.catalog.index import build_index
    >>> folder = tempfile.TemporaryDirectory()
    >>> archive = Path(folder.name, "archive")
    >>> archive.mkdir()
    >>> summary = build_index(archive, archive.parent / "a.sqlite")
    >>> with Catalog(archive.parent / "a.sqlite") as catalog:
    ...     catalog.query("SELECT count(*) AS n FROM image_full")["n"].item()
    0
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = open_readonly(self.path)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> Catalog:
        """Open a catalogue, made if there is none.

        Raises
        ------
        CatalogError
            The folder does not exist, or the file is something else.
        """
        create(path).close()
        return cls(path)

    # -- opening and closing --------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; asking again opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_connection": None}

    def __repr__(self) -> str:
        return f"Catalog({str(self.path)!r})"

    def _reading(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_readonly(self.path)
        return self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open the catalogue for writing, inside one transaction: all of it is written, or nothing.

        For importers. Waits up to a minute for another writer.

        Yields
        ------
        sqlite3.Connection
        """
        connection = create(self.path)
        try:
            with transaction(connection):
                yield connection
        finally:
            connection.close()

    # -- asking ---------------------------------------------------------------------------------------------------

    @property
    def columns(self) -> list[str]:
        """Columns of ``image_full``, which ``where`` may speak of."""
        return [name for name, _ in self._columns()]

    def _columns(self) -> list[tuple[str, str]]:
        rows = self._reading().execute("SELECT name, type FROM pragma_table_info('image_full')")
        return [(str(name), str(kind)) for name, kind in rows]

    def rows(self, sql: str, parameters: Parameters = ()) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Ask in SQL and take the answer row by row, however long it is.

        Parameters
        ----------
        sql : str
            One statement that reads.
        parameters : sequence or mapping
            Values of its placeholders.

        Returns
        -------
        columns : list of str
        rows : iterator of tuple

        Raises
        ------
        CatalogError
            SQLite refuses the statement; the message is SQLite's, with the tables there are.
        """
        with self._explained(sql):
            cursor = self._reading().execute(sql, parameters)
        if cursor.description is None:
            raise CatalogError(f"{sql!r} gives no rows; expected a SELECT, as the catalogue is only read here.")
        return [column[0] for column in cursor.description], self._fetched(cursor, sql)

    def _fetched(self, cursor: sqlite3.Cursor, sql: str) -> Iterator[tuple[Any, ...]]:
        while True:
            with self._explained(sql):  # SQLite computes rows as they are taken
                part = cursor.fetchmany(_FETCHED_AT_ONCE)
            if not part:
                return
            yield from part

    @contextmanager
    def _explained(self, sql: str) -> Iterator[None]:
        try:
            yield
        # Two statements in one are a Warning in older Pythons; text and numbers that SQLite cannot hold, the others.
        except (sqlite3.Error, sqlite3.Warning, OverflowError, UnicodeError, ValueError) as error:
            tables = self._reading().execute(
                "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' "
                "ESCAPE '\\' ORDER BY type DESC, name"
            )
            raise CatalogError(
                f"{sql!r} cannot be answered: {error}. The catalogue {self.path} can be read, not changed, and has "
                f"the tables and views {', '.join(name for (name,) in tables)}."
            ) from error

    def query(self, sql: str, parameters: Parameters = ()) -> pd.DataFrame:
        """Ask in SQL.

        Parameters
        ----------
        sql : str
            One statement that reads, such as ``"SELECT scanner, count(*) AS n FROM image_full GROUP BY scanner"``.
        parameters : sequence or mapping
            Values of its placeholders ``?`` or ``:name``.

        Returns
        -------
        DataFrame

        Raises
        ------
        CatalogError
            SQLite refuses the statement, or it would change the catalogue.
        """
        columns, rows = self.rows(sql, parameters)
        return pd.DataFrame.from_records(list(rows), columns=columns)

    def paths(self, where: str | None = None, parameters: Parameters = ()) -> list[Path]:
        """Name the files of images, in the order of their paths.

        Parameters
        ----------
        where : str, optional
            SQL over the columns of ``image_full``; all images without it.
        parameters : sequence or mapping
            Values of its placeholders.

        Raises
        ------
        CatalogError
            ``where`` is no SQL expression over these columns.
        """
        _, rows = self._chosen("path", "image_full", where, parameters)
        return [Path(path) for (path,) in rows]

    def images(
        self,
        where: str | None = None,
        *,
        parameters: Parameters = (),
        scanner: str | None = "scanner",
        label: str | None = None,
        labeler: str | None = None,
        mixed_intent: bool = False,
    ) -> ImageSet:
        """Choose images for a harmonizer or classifier.

        Parameters
        ----------
        where : str, optional
            SQL over the columns of ``image_full`` and, with ``label``, over ``label``, such as
            ``"view = 'PA' AND kvp > 100"``. All images that are there without it.
        parameters : sequence or mapping
            Values of the placeholders ``?`` or ``:name`` in it.
        scanner : str or None, default="scanner"
            Column that tells which scanner made an image; ``"acquisition_group"`` where vendors were removed. None
            leaves scanners unknown.
        label : str, optional
            Name of a label: images without a value of it are left out. What was said of a study holds for its images,
            unless something else was said of an image itself.
        labeler : str, optional
            Whose label; needed where several labelers give one of this name.
        mixed_intent : bool, default=False
            Take images for processing and for presentation together.

        Returns
        -------
        ImageSet
            Lazy, in the order of paths. ``patient`` is patient_id, ``meta`` has the columns of ``image_full`` and,
            where asked for, ``label``. A file that is gone is named when its image is asked for.

        Raises
        ------
        CatalogError
            ``where`` is no SQL expression over these columns.
        InvalidParameterError
            No such column ``scanner`` or label, several labelers, or images for processing among images for
            presentation.
        MissingScannerError
            Images without a ``scanner``.
        NotEnoughImagesError
            There is no such image.
        """
        if scanner is not None and scanner not in self.columns:
            raise InvalidParameterError(
                f"scanner={scanner!r} is no column of image_full; expected one of {', '.join(self.columns)}."
            )
        if label is None and labeler is not None:
            raise InvalidParameterError(f"labeler={labeler!r} needs label=, the name of the label that is asked for.")
        table = "image_full" if label is None else self._labelled(label, self._labeler(label, labeler))
        names, rows = self._chosen("*", table, where, parameters)
        meta = self._typed(pd.DataFrame.from_records(list(rows), columns=names))
        if meta.empty:
            wanted = "" if where is None else f" where {where}"
            labelled = "" if label is None else f" with the label {label!r}"
            (n,) = self._reading().execute("SELECT count(*) FROM image_full").fetchone()
            raise NotEnoughImagesError(
                f"{self.path}: no image{labelled}{wanted}; the catalogue holds {n} image(s). Ask for others, or index "
                "the folder that holds them."
            )
        if not mixed_intent:
            from xray_harmonize.dicom.intent import check_one_intent

            check_one_intent(meta["presentation_intent"].tolist(), meta["path"].tolist())
        return ImageSet(
            [Path(path) for path in meta["path"]],
            scanner=None if scanner is None else self._scanners(meta, scanner),
            patient=meta["patient_id"].to_numpy(dtype=object),
            meta=meta,
        )

    def _chosen(
        self, what: str, table: str, where: str | None, parameters: Parameters
    ) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        # On lines of its own, so that a comment at the end of the expression ends with it.
        condition = "" if where is None else f"WHERE (\n{where}\n)"
        try:
            columns, rows = self.rows(f"SELECT {what} FROM {table} {condition} ORDER BY path", parameters)
            return columns, iter(list(rows))
        except CatalogError as error:
            raise CatalogError(
                f"where={where!r} cannot be answered: {error.__cause__ or error}; expected an SQL expression over "
                f"{', '.join(self.columns)}."
            ) from error

    def _labeler(self, label: str, labeler: str | None) -> str:
        rows = self._reading().execute("SELECT DISTINCT labeler FROM label WHERE name = ? ORDER BY labeler", (label,))
        labelers = [str(name) for (name,) in rows]
        if not labelers:
            names = [str(name) for (name,) in self._reading().execute("SELECT DISTINCT name FROM label ORDER BY name")]
            raise InvalidParameterError(
                f"{self.path}: no label {label!r}, expected {_one_of(names)}. Import a table that has it."
            )
        if labeler is None and len(labelers) > 1:
            raise InvalidParameterError(
                f"{self.path}: the label {label!r} comes from several labelers; choose with labeler= "
                f"{_one_of(labelers)}."
            )
        if labeler is not None and labeler not in labelers:
            raise InvalidParameterError(
                f"{self.path}: no label {label!r} by {labeler!r}, expected labeler= {_one_of(labelers)}."
            )
        return labelers[0] if labeler is None else labeler

    @staticmethod
    def _labelled(label: str, labeler: str) -> str:
        """Write the table of images with a value of one label; names as literals, as placeholders are the caller's."""
        same = "{0}.name = {1} AND {0}.labeler = {2}"
        own, study = (same.format(table, _literal(label), _literal(labeler)) for table in ("own", "study"))
        return (
            "(SELECT * FROM (SELECT image_full.*, "
            "CASE WHEN own.label_id IS NULL THEN study.value ELSE own.value END AS label FROM image_full "
            f"LEFT JOIN label AS own ON {own} AND own.image_id = image_full.image_id "
            f"LEFT JOIN label AS study ON {study} AND study.study_key = image_full.study_key) "
            "WHERE label IS NOT NULL)"
        )

    def _typed(self, table: pd.DataFrame) -> pd.DataFrame:
        """Give every column the type that it was declared with, also where an image does not tell."""
        types = {name: "boolean" if name in _FLAGS else _TYPES.get(kind, "object") for name, kind in self._columns()}
        typed = table.astype(types)
        if "label" in typed:
            typed["label"] = typed["label"].infer_objects()
            if typed["label"].dtype.kind == "f" and (typed["label"] % 1 == 0).all():
                typed["label"] = typed["label"].astype("int64")
        return typed

    def _scanners(self, meta: pd.DataFrame, column: str) -> list[str]:
        missing = meta[column].isna()
        if missing.any():
            raise MissingScannerError(
                f"{column} is unknown for {missing.sum()} of {len(meta)} image(s), such as "
                f"{meta.loc[missing, 'path'].iloc[0]}; name another column with scanner=, or ask for images where "
                f"{column} IS NOT NULL."
            )
        return [str(value) for value in meta[column]]

    # -- keeping --------------------------------------------------------------------------------------------------

    def relocate(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> None:
        """Tell the catalogue that an archive was moved; nothing is read again.

        Parameters
        ----------
        old, new : path-like
            The folder as it was indexed, and where it is now.

        Raises
        ------
        CatalogError
            ``old`` was not indexed, ``new`` was already, or ``new`` is no folder.
        """
        was, is_now = (os.path.normpath(Path(folder).absolute()) for folder in (old, new))
        if not Path(is_now).is_dir():
            raise CatalogError(f"{is_now}: no such folder, expected the place that {was} was moved to.")
        with self.writing() as connection:
            roots = [root for (root,) in connection.execute("SELECT root FROM source ORDER BY root")]
            if was not in roots:
                raise CatalogError(f"{self.path}: {was} was not indexed, expected {_one_of(roots)}.")
            if is_now != was and is_now in roots:
                raise CatalogError(f"{self.path}: {is_now} is indexed already; leave the old folder as it is.")
            connection.execute("UPDATE source SET root = ? WHERE root = ?", (is_now, was))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _one_of(names: Sequence[str], shown: int = 20) -> str:
    if not names:
        return "none, as there are none"
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"one of {', '.join(map(repr, names[:shown]))}{more}"
