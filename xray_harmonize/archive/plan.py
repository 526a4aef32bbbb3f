"""What a run has to do: which files are done already, which are to be done anew, and where each output goes."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from xray_harmonize import __version__
from xray_harmonize.archive.manifest import Manifest
from xray_harmonize.archive.sources import SourceFile, Sources, output_names
from xray_harmonize.catalog.database import now
from xray_harmonize.exceptions import InvalidParameterError


@dataclass(frozen=True)
class Plan:
    """A run that is written into the manifest.

    Parameters
    ----------
    run : int
        Its number there.
    total : int
        Files that were asked for.
    unchanged : int
        Of these, done before by the same model, and as they were then.
    """

    run: int
    total: int
    unchanged: int


@dataclass(frozen=True)
class Making:
    """How the outputs of a run are made."""

    model_sha256: str
    method: str
    output_format: str
    extension: str


def plan(manifest: Manifest, sources: Sources, making: Making, *, overwrite: bool, verify: bool) -> Plan:
    """Write into the manifest what a run is to do.

    Parameters
    ----------
    manifest : Manifest
    sources : Sources
    making : Making
    overwrite : bool
        Whether outputs of another model, and files that are in the way, may be replaced.
    verify : bool
        Whether files that look unchanged are hashed anew, sources and outputs, instead of trusting size and time.

    Returns
    -------
    Plan

    Raises
    ------
    InvalidParameterError
        If the folder holds outputs of another model and ``overwrite`` is False, outputs in another format, or
        outputs of files below another folder; if two files would have one output, or a file that no run wrote is in
        the way of one.
    """
    root = _root(manifest, sources, making, overwrite)
    with manifest.planning() as connection:
        run = _new_run(connection, making, root)
        planner = _Planner(connection, manifest.out, root, making, run, overwrite=overwrite, verify=verify)
        for source in sources.files:
            planner.add(source)
    return Plan(run, len(sources.files), planner.unchanged)


def _root(manifest: Manifest, sources: Sources, making: Making, overwrite: bool) -> Path:
    """Give the folder that outputs mirror, as the first run settled it, if this run goes with the earlier ones."""
    last = manifest.last_run()
    if last is None:
        return sources.root
    out, root = manifest.out, Path(str(last["root"]))
    if last["format"] != making.output_format:
        raise InvalidParameterError(
            f"{out} holds outputs in the format {last['format']!r}, asked is {making.output_format!r}. "
            "Name another folder for these."
        )
    others = manifest.other_outputs(making.model_sha256)
    if not overwrite and (others or last["model_sha256"] != making.model_sha256):
        raise InvalidParameterError(
            f"{out} holds {others} output(s) of another model; the last run there was with {last['method']} "
            f"({str(last['model_sha256'])[:12]}), this one is {making.method} ({making.model_sha256[:12]}). "
            "Name another folder, or replace them with overwrite=True."
        )
    if not sources.root.is_relative_to(root):
        raise InvalidParameterError(
            f"{out} mirrors the folders below {root}, and {sources.root} lies elsewhere. Name another folder for "
            "these, or give the same root to all runs."
        )
    return root


def _new_run(connection: sqlite3.Connection, making: Making, root: Path) -> int:
    cursor = connection.execute(
        "INSERT INTO run (started, root, format, method, model_sha256, version) VALUES (?, ?, ?, ?, ?, ?)",
        [now(), str(root), making.output_format, making.method, making.model_sha256, __version__],
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


_COLUMNS = (
    "image_id, output, scanner, bits_stored, state, source_size, source_mtime_ns, output_size, output_sha256, "
    "model_sha256"
)


class _Planner:
    """Put files into the manifest one by one, and count those that are done."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        out: Path,
        root: Path,
        making: Making,
        run: int,
        *,
        overwrite: bool,
        verify: bool,
    ) -> None:
        self.connection = connection
        self.out = out
        self.root = root
        self.making = making
        self.run = run
        self.overwrite = overwrite
        self.verify = verify
        self.unchanged = 0

    def add(self, source: SourceFile) -> None:
        """Plan one file."""
        row = self.connection.execute(f"SELECT {_COLUMNS} FROM image WHERE source = ?", [source.path]).fetchone()
        if row is None:
            self._add_new(source)
            return
        number, output, scanner, bits, state, size, mtime_ns, output_size, output_sha256, model = row
        # What the output was made with; if it was something else, nothing that is recorded of it matters.
        same = (scanner, bits, model) == (source.scanner, source.bits_stored, self.making.model_sha256)
        if same and state == "done" and not self.verify and source.unusable is None:
            seen = (size, mtime_ns, output_size)
            if seen == (*_size_and_time(Path(source.path)), _size_and_time(self.out / output)[0]):
                self.unchanged += 1
                return
        if source.unusable is not None:  # what an earlier run made of it is of another content
            (self.out / output).unlink(missing_ok=True)
        self.connection.execute(
            "UPDATE image SET state = ?, reason = ?, run_id = ?, scanner = ?, bits_stored = ?, output_sha256 = ? "
            "WHERE image_id = ?",
            [
                *self._state(source),
                self.run,
                source.scanner,
                source.bits_stored,
                output_sha256 if same and source.unusable is None else None,
                number,
            ],
        )

    def _add_new(self, source: SourceFile) -> None:
        self.connection.execute(
            "INSERT INTO image (source, output, state, reason, run_id, scanner, bits_stored) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                source.path,
                self._free_name(source),
                *self._state(source),
                self.run,
                source.scanner,
                source.bits_stored,
            ],
        )

    @staticmethod
    def _state(source: SourceFile) -> tuple[str, str | None]:
        return ("pending", None) if source.unusable is None else ("failed", source.unusable)

    def _free_name(self, source: SourceFile) -> str:
        """Give the first name that no other source has; files come in the order of their paths, always the same."""
        taken = ""
        for name in output_names(source.path, self.root, self.making.extension):
            row = self.connection.execute("SELECT source FROM image WHERE output = ?", [name]).fetchone()
            if row is None:
                if not self.overwrite and os.path.lexists(self.out / name):
                    raise InvalidParameterError(
                        f"{self.out / name} is there already, and no run has written it. Name another folder, or "
                        "replace such files with overwrite=True."
                    )
                return name
            taken = row[0]
        raise InvalidParameterError(
            f"The outputs of {taken} and {source.path} would have one name, {name}. Rename one of them, or write them "
            "to two folders."
        )


def _size_and_time(path: Path) -> tuple[int, int] | tuple[None, None]:
    try:
        status = path.stat()
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns
