"""``xray-harmonize import``: tables of labels, patients and scanners beside the images of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from xray_harmonize.cli.interruption import goes_on, starts_over

if TYPE_CHECKING:
    from xray_harmonize.catalog.annotations import TableImport
    from xray_harmonize.catalog.csv_tables import ImportedTable

app = typer.Typer(
    name="import",
    help="Import tables of labels, patients and scanners into a catalogue, to stand beside its images.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Db = Annotated[Path, typer.Option(help="The catalogue: an SQLite file, made if there is none.")]
HashPatientsWith = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="XRAY_HARMONIZE_SALT_FILE",
        help="The secret that the catalogue was indexed with, where it keeps patient identifiers as hashes.",
        show_default=False,
    ),
]
Most = Annotated[
    int | None,
    typer.Option("--n", min=1, help="Most images of a scanner and label; all by default.", show_default=False),
]
Seed = Annotated[int, typer.Option(help="Seed of the draw, where --n leaves images out.")]


@app.command("mimic-cxr")
@goes_on
def mimic_cxr(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folder(s) that hold the tables.")],
    db: Db,
) -> None:
    """Import metadata, split, chexpert, negbio, record list and manual labels of MIMIC-CXR, as far as they are there.

    Index its DICOM files first, or import again afterwards: unchanged tables are skipped. Ask the view mimic_image.
    The images of MIMIC-CXR-JPG are histogram-equalized and of no use here; its tables are these.
    """
    from xray_harmonize.catalog.mimic_cxr import import_mimic_cxr

    with _shown() as listener:
        imported = import_mimic_cxr(directories, db, progress=listener)
    _tell(imported.tables)
    for labeler, n_labels in imported.n_labels.items():
        typer.echo(f"labels by {labeler}: {n_labels}")
    typer.echo(f"{db}: {imported.images.n_linked} images joined, {imported.images.n_others} of other collections.")


@app.command("mimic-iv")
@goes_on
def mimic_iv(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that holds hosp and icu.")], db: Db
) -> None:
    """Import every table of MIMIC-IV's hosp and icu folders.

    Ask the view patient_image for age, sex and admission of every image of MIMIC-CXR. It may be stopped at any moment:
    run it again to go on with the tables that are not there yet. Unchanged tables are skipped.
    """
    from xray_harmonize.catalog.mimic_iv import import_mimic_iv

    with _shown() as listener:
        imported = import_mimic_iv(directory, db, progress=listener)
    _tell(imported.tables)
    typer.echo(f"{db}: {imported.images.n_linked} images joined, {imported.images.n_others} of other collections.")


@app.command("rsna")
@goes_on
def rsna(
    images: Annotated[Path, typer.Option(help="Folder of the DICOM files.")],
    labels: Annotated[Path, typer.Option(help="stage_2_train_labels.csv.")],
    db: Db,
    mapping: Annotated[
        Path | None,
        typer.Option(help="pneumonia-challenge-dataset-mappings_2018.json, which tells persons.", show_default=False),
    ] = None,
    n: Most = None,
    seed: Seed = 42,
    hash_patients_with: HashPatientsWith = None,
) -> None:
    """Import the RSNA Pneumonia challenge: label, scanner by pixel spacing, and person of its radiographs.

    Images that are not indexed yet are indexed.
    """
    from xray_harmonize.catalog.table_import import import_rsna

    imported = import_rsna(
        images, labels, db, mapping=mapping, n=n, random_state=seed, patient_salt=_salt(hash_patients_with)
    )
    _tell_images(db, imported)


@app.command("embed")
@goes_on
def embed(
    metadata: Annotated[Path, typer.Option(help="EMBED_OpenData_metadata.csv.")],
    clinical: Annotated[Path, typer.Option(help="EMBED_OpenData_clinical.csv.")],
    images: Annotated[Path, typer.Option(help="Folder that holds cohort_1 and cohort_2.")],
    db: Db,
    n: Most = None,
    seed: Seed = 42,
    hash_patients_with: HashPatientsWith = None,
) -> None:
    """Import EMBED: density, scanner and patient of its craniocaudal mammograms.

    Of every patient, scanner and density one image is drawn. Images that are not indexed yet are indexed.
    """
    from xray_harmonize.catalog.table_import import import_embed

    imported = import_embed(
        metadata, clinical, images, db, n=n, random_state=seed, patient_salt=_salt(hash_patients_with)
    )
    _tell_images(db, imported)


@app.command("csv")
@starts_over
def csv(
    table: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with one row an image; .gz may follow.")],
    db: Db,
    path: Annotated[str, typer.Option(help="Column with the file of the image.")] = "path",
    label: Annotated[
        list[str] | None,
        typer.Option(help="Column with a label (repeat for several); 'label' by default.", show_default=False),
    ] = None,
    scanner: Annotated[
        str | None, typer.Option(help="Column with the scanner, in place of the header's.", show_default=False)
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="Column with the patient, in place of the header's.", show_default=False)
    ] = None,
    labeler: Annotated[
        str | None, typer.Option(help="Who says so; the name of the table by default.", show_default=False)
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that paths in the table are relative to.", show_default=False)
    ] = None,
    hash_patients_with: HashPatientsWith = None,
) -> None:
    """Import labels, scanners and patients of indexed images from a CSV file.

    Paths are absolute, or relative to --root, to the folder of the table, or to a folder that was indexed.
    """
    from xray_harmonize.catalog.table_import import import_table

    labels = label if label is not None else [] if scanner or patient else ["label"]
    with _shown() as listener:
        imported = import_table(
            table,
            db,
            path=path,
            labels=labels,
            scanner=scanner,
            patient=patient,
            labeler=labeler,
            root=root,
            patient_salt=_salt(hash_patients_with),
            progress=lambda done, total: listener(table.name, done, total),
        )
    _tell_images(db, imported)


def _salt(file: Path | None) -> bytes | None:
    from xray_harmonize.catalog.patients import read_salt

    return None if file is None else read_salt(file)


def _tell(tables: list[ImportedTable]) -> None:
    for table in tables:
        typer.echo(f"{table.name}: {table.rows} rows{', unchanged' if table.unchanged else ''}")


def _tell_images(db: Path, imported: TableImport) -> None:
    for label, n_images in imported.n_labels.items():
        typer.echo(f"label {label}: {n_images} images")
    new = f", {imported.n_new} of them indexed now" if imported.n_new else ""
    typer.echo(f"{db}: {imported.n_images} images{new}, {imported.n_unknown} rows left out.")


@contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with the file, bytes a second and the time left."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = [
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    ]
    with Progress(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        task, shown = bar.add_task("", total=None), ""

        def show(name: str, done: int, total: int) -> None:
            nonlocal shown
            if name != shown:
                shown = name
                bar.reset(task, total=total, description=name)
            bar.update(task, completed=done)

        yield show
