"""``xray-harmonize apply``: a fitted model over a whole archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from xray_harmonize.exceptions import InvalidParameterError, PersistenceError

if TYPE_CHECKING:
    from xray_harmonize.archive import ArchiveProgress, ArchiveSummary

_SOME_FAILED = 1


class Format(StrEnum):
    """What is written."""

    dicom = "dicom"
    png = "png"
    npy = "npy"
    presentation = "presentation"
    voi_lut = "voi-lut"


def apply(
    model: Annotated[Path, typer.Option(help="Fitted harmonizer or pipeline: .npz, as fit, compare or save wrote it.")],
    out: Annotated[Path, typer.Option(help="Folder for the outputs; run again with the same to go on.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of images; its folders name the scanners.", show_default=False)
    ] = None,
    db: Annotated[
        Path | None, typer.Option(help="Catalogue of images, as index wrote it, in place of a folder.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Which images of the catalogue, in SQL, such as \"view = 'PA'\".", show_default=False),
    ] = None,
    format: Annotated[
        Format,
        typer.Option(
            help="dicom: derived images. png: 16 bits. npy: float32. presentation: presentation states that refer to "
            "the sources. voi-lut: copies with a VOI LUT."
        ),
    ] = Format.dicom,
    jobs: Annotated[int, typer.Option(help="Processes; -1 for one a core.")] = -1,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of a Dask scheduler, tcp://..., whose workers do the work.", show_default=False),
    ] = None,
    scanner: Annotated[
        str | None, typer.Option(help="Scanner that made all images, if their folders do not say.", show_default=False)
    ] = None,
    scanner_column: Annotated[str, typer.Option(help="Column of the catalogue that names the scanner.")] = "scanner",
    mixed_intent: Annotated[
        bool, typer.Option("--mixed-intent", help="Take images for processing and for presentation together.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs of another model, and files that are in the way.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash what was done before, instead of trusting size and time.")
    ] = False,
) -> None:
    """Harmonize every file of an archive, by a model that fit or compare made.

    Outputs mirror the folders of their sources. OUT/manifest.sqlite tells of every file what became of it. Unreadable
    files are listed and do not stop the others. After whatever interruption, the same command goes on.

    Ends with status 0 if every file has its output, 1 if some failed, 2 if nothing could be done, 130 after Ctrl-C.
    """
    from xray_harmonize.archive import apply as apply_model

    fitted = _model(model)
    chosen, further = _images(images, db, where, scanner, scanner_column, mixed_intent)
    if scheduler is None:
        further["n_jobs"] = jobs
    else:
        further["scheduler"] = scheduler
    console = Console(stderr=True, highlight=False)
    with _shown(console) as listener:
        summary = apply_model(
            fitted, chosen, out, format=format.value, overwrite=overwrite, verify=verify, progress=listener, **further
        )
    _tell(summary, out, console)
    if not summary.ok:
        raise typer.Exit(_SOME_FAILED)


def _model(path: Path) -> Any:
    from xray_harmonize.persistence import load

    if not path.is_file():
        raise PersistenceError(f"There is no model {path}. Give the file that fit, compare or save wrote.")
    if path.suffix == ".joblib":
        raise PersistenceError(f"{path} is a pickle; give the .npz that was written with it.")
    return load(path)


def _images(
    images: Path | None,
    db: Path | None,
    where: str | None,
    scanner: str | None,
    scanner_column: str,
    mixed_intent: bool,
) -> tuple[Any, dict[str, Any]]:
    """Give what to harmonize, and what else is to be said of it."""
    if (images is None) == (db is None):
        raise InvalidParameterError("Give --images DIR or --db FILE, one of them.")
    if images is not None:
        if where is not None:
            raise InvalidParameterError("--where chooses images of a catalogue; give --db FILE in place of --images.")
        if not images.is_dir():
            raise InvalidParameterError(f"--images {images}: there is no such folder.")
        return images, {"scanner": scanner}
    from xray_harmonize.archive.sources import catalog_root
    from xray_harmonize.catalog.store import Catalog

    assert db is not None
    with Catalog(db) as catalog:
        column = None if scanner is not None else scanner_column
        chosen = catalog.images(where, scanner=column, mixed_intent=mixed_intent)
        return chosen, {"scanner": scanner, "root": catalog_root(catalog)}


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[ArchiveProgress], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from xray_harmonize.cli.progress import time_left

    columns = [
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    ]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(progress: ArchiveProgress) -> None:
            rate = progress.files_a_second
            settled = progress.total - progress.remaining
            parts = [f"{settled} of {progress.total} files"]
            if rate is not None:
                parts += [f"{rate:.3g} a second", time_left(progress.remaining_seconds)]
            if progress.failed:
                parts.append(f"{progress.failed} failed")
            bar.update(task, completed=progress.fraction, description=", ".join(parts))

        yield show


def _tell(summary: ArchiveSummary, out: Path, console: Console) -> None:
    before = f", {summary.unchanged} done before and unchanged" if summary.unchanged else ""
    typer.echo(
        f"{out}: {summary.written} of {summary.total} file(s) harmonized{before}, {summary.failed} failed, in "
        f"{summary.seconds:.1f} s."
    )
    if summary.ok:
        return
    for source, reason in summary.failures:
        told = reason if source in reason else f"{source}: {reason}"
        console.print(f"failed {told}", markup=False, style="yellow", soft_wrap=True)
    if summary.failed > len(summary.failures):
        console.print(
            f"and {summary.failed - len(summary.failures)} more; all are in {summary.manifest}: "
            "SELECT source, reason FROM image WHERE state = 'failed'",
            markup=False,
            style="yellow",
            soft_wrap=True,
        )
