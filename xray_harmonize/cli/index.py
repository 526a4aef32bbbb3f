"""``xray-harmonize index``: the headers of an archive in one SQLite file, kept up to date."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from xray_harmonize.catalog.changes import IndexProgress

_SOME_FAILED = 1
_SHOWN_FAILURES = 10


def index(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that is searched for DICOM, at any depth.")],
    db: Annotated[Path, typer.Option(help="The catalogue: an SQLite file, made if there is none.")],
    jobs: Annotated[int, typer.Option(help="Processes that read headers; -1 for one a core.")] = -1,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Enter folders that are symbolic links.")
    ] = False,
    hash_patients_with: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="XRAY_HARMONIZE_SALT_FILE",
            help="Keep patient identifiers only as hashes, keyed with the secret in this file (16 bytes or more, such "
            "as `head -c 32 /dev/urandom > FILE` makes). The same secret gives the same patient the same hash in every "
            "file and table, so that they still join; keep it, and keep it apart from the catalogue. File names are "
            "not hashed.",
            show_default=False,
        ),
    ] = None,
    moved_from: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD", help="DIR was indexed as OLD and has been moved: nothing is read again.", show_default=False
        ),
    ] = None,
) -> None:
    """Bring a catalogue up to date with a folder of DICOM files, from their headers alone.

    Files that are known and have the same size and time are not opened. Images whose file is gone stay in the
    catalogue with present = 0 and leave the view image_full. Files that cannot be used are listed in the table error,
    with the reason, and read again once they change. Names, birth dates and free text are not stored.

    It may be stopped at any moment: run it again to go on. The exit status is 0 if all is well, 1 if files that look
    like DICOM could not be indexed, 2 if nothing could be done.
    """
    from xray_harmonize.catalog.index import build_index
    from xray_harmonize.catalog.patients import read_salt

    salt = None if hash_patients_with is None else read_salt(hash_patients_with)
    if moved_from is not None:
        from xray_harmonize.catalog.store import Catalog

        with Catalog(db) as catalog:
            catalog.relocate(moved_from, directory)
    with _shown(Console(stderr=True, highlight=False)) as listener:
        summary = build_index(
            directory, db, n_jobs=jobs, follow_links=follow_links, patient_salt=salt, progress=listener
        )
    typer.echo(
        f"{db}: {summary.n_new} new, {summary.n_changed} changed, {summary.n_unchanged} unchanged, "
        f"{summary.n_gone} gone, {summary.n_errors} failed, {summary.n_not_dicom} no DICOM, in {summary.seconds:.1f} s."
    )
    if summary.n_errors:
        _list_failures(directory, db, summary.n_errors)
        raise typer.Exit(_SOME_FAILED)


def _list_failures(directory: Path, db: Path, n_errors: int) -> None:
    from contextlib import closing

    from xray_harmonize.catalog.database import open_readonly

    root = Path(os.path.normpath(directory.absolute())).as_posix().rstrip("/")
    with closing(open_readonly(db)) as connection:
        failures = connection.execute(
            "SELECT root || '/' || path AS whole, reason FROM error JOIN source USING (source_id) "
            "WHERE kind <> 'not DICOM' AND whole >= ? AND whole < ? ORDER BY whole LIMIT ?",
            (f"{root}/", f"{root}0", _SHOWN_FAILURES),
        ).fetchall()
    for path, reason in failures:
        typer.echo(f"failed {''.join(sign if sign.isprintable() else '?' for sign in path)}: {reason}", err=True)
    if n_errors > len(failures):
        typer.echo(
            f'and {n_errors - len(failures)} more: xray-harmonize query "SELECT * FROM error" --db {db}', err=True
        )


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[IndexProgress], None]]:
    """Show a bar with files a second and the time left by the pace of this run."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = [
        BarColumn(bar_width=24),
        TextColumn("{task.completed} of {task.total} headers, left"),
        TimeRemainingColumn(),
        TaskProgressColumn("", show_speed=True),
        TextColumn("{task.description}"),
    ]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("looking at files", total=None)

        def show(progress: IndexProgress) -> None:
            if progress.n_to_read is None:
                bar.update(task, description=f"{progress.n_found} files looked at")
            else:
                bar.update(task, total=progress.n_to_read, completed=progress.n_read)

        yield show
