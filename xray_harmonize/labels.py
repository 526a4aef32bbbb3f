"""Label tables: which file is which image, with its label, scanner and patient.

A table is a CSV file with one row an image. Rows are counted as a spreadsheet shows them, the header being row 1.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from xray_harmonize.exceptions import ImageReadError, LabelTableError, XRayHarmonizeError
from xray_harmonize.reading import read_image, read_size, recognize

_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})(\.0+)?")
_SHOWN_PROBLEMS = 5
_IMAGE_SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy", ".dcm"}

Check = Literal["header", "pixels"]


@dataclass(frozen=True)
class SkippedRow:
    """A row that was left out, and why."""

    row: int
    path: str
    reason: str


@dataclass(frozen=True)
class LabelTable:
    """Images of a folder with what is known of them, aligned by position.

    Parameters
    ----------
    paths : list of Path
        Files, absolute.
    labels : ndarray or None
        int64 if every label is an integer, else str; None if no label column was asked for.
    scanner, patient : ndarray of str (object) or None
        None if no such column was asked for. An empty patient cell is None.
    rows : ndarray of int
        Row of each image in the table.
    extra : DataFrame
        All other columns as text, one row an image.
    skipped : list of SkippedRow
        Rows left out.
    """

    paths: list[Path]
    labels: np.ndarray | None
    scanner: np.ndarray | None
    patient: np.ndarray | None
    rows: np.ndarray
    extra: pd.DataFrame
    skipped: list[SkippedRow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.paths)


def read_labels(
    root: str | os.PathLike[str],
    table: str | os.PathLike[str],
    *,
    path: str = "path",
    label: str | None = "label",
    scanner: str | None = "scanner",
    patient: str | None = "patient",
    check: bool | Check = False,
    skip_bad: bool = False,
) -> LabelTable:
    r"""Read a label table and find its files.

    Parameters
    ----------
    root : path-like
        Folder that the paths of the table are relative to. Absolute paths must lie in it as well.
    table : path-like
        CSV file, UTF-8, separated by commas, with a header.
    path : str, default="path"
        Name of the column with the paths.
    label, scanner, patient : str or None
        Names of these columns; None for a table without.
    check : bool or {"header", "pixels"}, default=False
        Read every image, so that unreadable files show now and not in the middle of a run. "header" (or True) finds
        all but those that break off or are damaged further on; "pixels" decodes them whole.
    skip_bad : bool, default=False
        List rows that cannot be used in ``skipped`` and go on, instead of raising. Of several rows with one path the
        first stays.

    Returns
    -------
    LabelTable
        The rows in the order of the table. Cells are text without surrounding spaces: a scanner called "NA" keeps its
        name, and a label "nan", which is how a missing one is often written, counts as missing.

    Raises
    ------
    LabelTableError
        The folder or table is missing or no CSV, a column is missing, or rows cannot be used: no path, a path that
        leaves the folder, a missing or unreadable file, no label, no scanner, a path that an earlier row has. The
        message names row, file and reason of the first five.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = pathlib.Path(folder.name)
    >>> np.save(root / "a.npy", np.zeros((4, 4), np.uint8))
    >>> _ = (root / "labels.csv").write_text("path,label,scanner\na.npy,1,NA\n")
    >>> table = read_labels(root, root / "labels.csv", patient=None)
    >>> table.labels, table.scanner
    (array([1]), array(['NA'], dtype=object))
    >>> folder.cleanup()
    """
    folder, name = _folder(root), os.fspath(table)
    header, records = _read_csv(name)
    columns = {"path": path, "label": label, "scanner": scanner, "patient": patient}
    position = {role: _column(header, column, role, name) for role, column in columns.items() if column is not None}
    finder = _FileFinder(folder, check)
    kept: list[tuple[int, Path, Sequence[str]]] = []
    skipped: list[SkippedRow] = []
    for row, record in records:
        cells = {role: record[place] for role, place in position.items()}
        reason = _problem(cells, columns)
        if not reason:
            found = finder.find(cells["path"], row)
            if isinstance(found, Path):
                kept.append((row, found, record))
                continue
            reason = found
        skipped.append(SkippedRow(row, cells["path"], reason))
    if skipped and not skip_bad:
        raise LabelTableError(_summary(name, skipped) + " Correct them, or leave them out with skip_bad=True.")
    if not kept:
        raise LabelTableError(f"{name}: no row can be used, expected at least one image. {_summary(name, skipped)}")
    return _assemble(header, kept, skipped, position)


def find_images(root: str | os.PathLike[str]) -> LabelTable:
    """Find all images below a folder that has no label table.

    Parameters
    ----------
    root : path-like
        The folder. Content tells what an image is, not the extension; hidden files and folders are left out, links to
        folders are not followed.

    Returns
    -------
    LabelTable
        Files in the order of their paths, all rows 0. ``scanner`` is the first folder below ``root``, for images that
        lie beside such folders the name of ``root``; None if all lie in ``root`` itself. ``skipped`` holds files that
        are images by their name and not by their content.

    Raises
    ------
    LabelTableError
        There is no such folder, or no image in it.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> root = pathlib.Path(folder.name)
    >>> for scanner in ("Fuji", "GE"):
    ...     (root / scanner).mkdir()
    ...     np.save(root / scanner / "a.npy", np.zeros((4, 4), np.uint8))
    >>> find_images(root).scanner
    array(['Fuji', 'GE'], dtype=object)
    >>> folder.cleanup()
    """
    folder = _folder(root)
    paths: list[Path] = []
    skipped: list[SkippedRow] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            try:
                recognize(path)
            except ImageReadError as error:
                if path.suffix.lower() in _IMAGE_SUFFIXES:
                    skipped.append(SkippedRow(0, str(path.relative_to(folder)), str(error)))
            else:
                paths.append(path)
    if not paths:
        raise LabelTableError(f"{folder}: no image, expected PNG, TIFF, JPEG, NPY or DICOM files. Check the folder.")
    paths.sort()
    below = [path.relative_to(folder).parts for path in paths]
    scanners = [parts[0] if len(parts) > 1 else folder.name for parts in below]
    return LabelTable(
        paths=paths,
        labels=None,
        scanner=np.array(scanners, dtype=object) if any(len(parts) > 1 for parts in below) else None,
        patient=None,
        rows=np.zeros(len(paths), dtype=np.int64),
        extra=pd.DataFrame(index=range(len(paths))),
        skipped=sorted(skipped, key=lambda one: one.path),
    )


def readable(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Decode files once to tell those that can be read from those that cannot.

    Parameters
    ----------
    paths : iterable of path-like

    Returns
    -------
    good : list of Path
    bad : list of (Path, str)
        With the reason.
    """
    good: list[Path] = []
    bad: list[tuple[Path, str]] = []
    for path in map(Path, paths):
        try:
            read_image(path)
        except XRayHarmonizeError as error:
            bad.append((path, str(error)))
        else:
            good.append(path)
    return good, bad


def _folder(root: str | os.PathLike[str]) -> Path:
    folder = Path(os.path.normpath(Path(root).absolute()))
    if not folder.is_dir():
        raise LabelTableError(f"{os.fspath(root)}: no such folder, expected the one that holds the images.")
    return folder


def _read_csv(name: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read header and numbered records, blank rows left out.

    The csv module and not pandas, whose inference takes "NA" for a gap, shifts rows that are one cell too long, and
    forgets blank ones when it counts.
    """
    try:
        with Path(name).open(encoding="utf-8-sig", newline="") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except OSError as error:
        raise LabelTableError(f"{name}: cannot be opened ({error.strerror or error}); check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelTableError(f"{name}: no CSV in UTF-8 ({error}); save the table as CSV UTF-8.") from error
    if not rows or not any(rows[0]):
        raise LabelTableError(f"{name}: row 1 is empty, expected the names of the columns.")
    header = rows[0]
    records = []
    for row, record in enumerate(rows[1:], start=2):
        if not any(record):
            continue
        if len(record) > len(header):
            raise LabelTableError(
                f"{name}: row {row} has {len(record)} cells, expected {len(header)} as in the header; "
                "put cells that hold a comma in double quotes."
            )
        records.append((row, record + [""] * (len(header) - len(record))))
    return header, records


def _column(header: list[str], column: str, role: str, name: str) -> int:
    count = header.count(column)
    if count == 1:
        return header.index(column)
    if count > 1:
        raise LabelTableError(f"{name}: {count} columns are named '{column}', expected one; rename the others.")
    without = "" if role == "path" else f", or {role}=None for a table without"
    separator = " Is the separator a comma?" if len(header) == 1 else ""
    raise LabelTableError(
        f"{name}: no column '{column}', the columns are {', '.join(repr(one) for one in header)}; "
        f"name the right one with {role}=...{without}.{separator}"
    )


def _problem(cells: Mapping[str, str], columns: Mapping[str, str | None]) -> str:
    """Tell why the cells of a row cannot be used, "" if they can."""
    if not cells["path"]:
        return f"column '{columns['path']}' is empty, expected a file"
    if "label" in cells and cells["label"].lower() in ("", "nan"):
        return f"column '{columns['label']}' is empty, expected a label"
    if cells.get("scanner") == "":
        return f"column '{columns['scanner']}' is empty, expected a scanner"
    return ""


class _FileFinder:
    """Find the files of a table below a folder, each of them once."""

    def __init__(self, folder: Path, check: bool | Check) -> None:
        self.folder = folder
        self.check = check
        self.rows: dict[Path, int] = {}

    def find(self, cell: str, row: int) -> Path | str:
        """Give the absolute path, or the reason why there is none."""
        if "\0" in cell:
            return "the path holds a NUL character, expected a file name"
        # By name only: links inside the folder are the user's own and may point anywhere.
        path = Path(os.path.normpath(self.folder / cell))
        if not (path.is_relative_to(self.folder) or path.is_relative_to(self.folder.resolve())):
            return f"the path leaves {self.folder}, expected a file in that folder"
        if path in self.rows:
            return f"the same file as in row {self.rows[path]}, expected each file once"
        try:
            if not path.is_file():
                return f"{path} is a folder" if path.is_dir() else f"no file {path}"
            if self.check == "pixels":
                read_image(path)
            elif self.check:
                read_size(path)
        except (OSError, XRayHarmonizeError) as error:
            return str(error)
        self.rows[path] = row
        return path


def _summary(name: str, skipped: list[SkippedRow]) -> str:
    if not skipped:
        return ""
    lines = [f"row {one.row} ('{one.path}'): {one.reason}" for one in skipped[:_SHOWN_PROBLEMS]]
    if len(skipped) > _SHOWN_PROBLEMS:
        lines.append(f"and {len(skipped) - _SHOWN_PROBLEMS} more")
    return f"{name}: {len(skipped)} row(s) cannot be used: {'; '.join(lines)}."


def _assemble(
    header: list[str],
    kept: list[tuple[int, Path, Sequence[str]]],
    skipped: list[SkippedRow],
    position: Mapping[str, int],
) -> LabelTable:
    def cells(role: str) -> list[str] | None:
        return [record[position[role]] for _, _, record in kept] if role in position else None

    labels, scanner, patient = cells("label"), cells("scanner"), cells("patient")
    others = [place for place in range(len(header)) if place not in position.values()]
    extra = pd.DataFrame([[record[place] for place in others] for _, _, record in kept])
    extra.columns = pd.Index([header[place] for place in others], dtype=object)
    return LabelTable(
        paths=[path for _, path, _ in kept],
        labels=None if labels is None else _as_labels(labels),
        scanner=None if scanner is None else np.array(scanner, dtype=object),
        patient=None if patient is None else np.array([cell or None for cell in patient], dtype=object),
        rows=np.array([row for row, _, _ in kept]),
        extra=extra,
        skipped=skipped,
    )


def _as_labels(cells: list[str]) -> np.ndarray:
    """Integers if all are ("1.0" is how pandas writes one beside a gap), else text; "007" is a name, not 7."""
    if all(_INTEGER.fullmatch(cell) for cell in cells):
        return np.array([int(cell.split(".")[0]) for cell in cells], dtype=np.int64)
    return np.array(cells)
