"""``xray-harmonize audit``: can harmonizing be trusted on these images, in words, tables and a page."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from xray_harmonize.exceptions import InvalidParameterError, LabelTableError, XRayHarmonizeWarning

if TYPE_CHECKING:
    from xray_harmonize.auditing.result import AuditResult
    from xray_harmonize.images import ImageSet
    from xray_harmonize.labels import LabelTable

_LABEL_COLUMN = "label"
_STYLES = {"stop": "bold red", "look": "yellow", "note": "dim"}


class FeatureChoice(StrEnum):
    """What distances, probe and classifier look at."""

    intensity = "intensity"
    deep = "deep"


def audit(
    out: Annotated[Path, typer.Option(help="Folder for audit.html and the tables.")],
    images: Annotated[Path | None, typer.Option(help="Folder of images.", show_default=False)] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns path, scanner, patient and label; without it the folders below --images name "
            "the scanners.",
            show_default=False,
        ),
    ] = None,
    db: Annotated[
        Path | None, typer.Option(help="Catalogue of images, as index wrote it, in place of a folder.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(help="Which images of the catalogue, in SQL, such as \"view = 'PA'\".", show_default=False),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Label of the task: its name in the catalogue, or its column in the CSV (label by default; '' for "
            "none).",
            show_default=False,
        ),
    ] = None,
    labeler: Annotated[
        str | None, typer.Option(help="Whose label, where a catalogue has several.", show_default=False)
    ] = None,
    harmonizer: Annotated[
        list[str] | None,
        typer.Option(
            help="Audit this one, named as in compare (repeat for several); five by default.", show_default=False
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Scanner that all images are brought to; by default the one with most images."),
    ] = None,
    features: Annotated[
        FeatureChoice, typer.Option(help="intensity: grey values and bands. deep: a network, with --weights.")
    ] = FeatureChoice.intensity,
    weights: Annotated[
        Path | None, typer.Option(help="Weights of the network (.pt or .safetensors).", show_default=False)
    ] = None,
    depth: Annotated[int, typer.Option(help="Depth of that network: 10, 18, 34 or 50.")] = 18,
    width: Annotated[int, typer.Option(help="Channels of its first stage.")] = 64,
    show: Annotated[
        list[str] | None,
        typer.Option(
            help="Path, as in the table, of an image to show in the report (repeat for several); none by default.",
            show_default=False,
        ),
    ] = None,
    show_random: Annotated[int, typer.Option(min=0, help="Show so many random images of each scanner.")] = 0,
    no_controls: Annotated[
        bool, typer.Option("--no-controls", help="Leave out the controls, which take as long again.")
    ] = False,
    image_size: Annotated[int, typer.Option(help="Longest side in pixels at which images are measured.")] = 256,
    seed: Annotated[int, typer.Option(min=0, help="Of halves, folds, permutations and resamples.")] = 0,
    scanner_column: Annotated[str, typer.Option(help="Column of the table or catalogue with scanners.")] = "scanner",
    patient_column: Annotated[
        str, typer.Option(help="Column of the CSV with patients; '' if there is none: each image is its own.")
    ] = "patient",
    mixed_intent: Annotated[
        bool, typer.Option("--mixed-intent", help="Take images for processing and for presentation together.")
    ] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unusable images out, listing them.")] = False,
) -> None:
    """Audit harmonizers on images of several scanners: what they do to scanners, to content, and to a task.

    Prints the verdict and the cautions; writes audit.html and the tables into the folder --out. Every harmonizer is
    fitted to one half of the patients and measured on the other.
    """
    from xray_harmonize.auditing.audit import audit as audit_images
    from xray_harmonize.cli.shown_images import positions_to_show

    errors, console = Console(stderr=True, highlight=False), Console(highlight=False)
    if (images is None) == (db is None):
        raise InvalidParameterError("Give --images DIR, with --labels CSV if there is one, or --db FILE, one of them.")
    transformer = _transformer(features, weights, depth, width)
    if images is not None:
        _refuse("--images", "--db FILE", where=where, labeler=labeler, mixed_intent=mixed_intent or None)
        X, y = _of_folder(images, labels, label, scanner_column, patient_column or None, skip_bad)
    else:
        assert db is not None
        _refuse("--db", "--images DIR", labels=labels)
        X, y = _of_catalog(db, where, label or None, labeler, scanner_column, mixed_intent, skip_bad)
    positions = positions_to_show(X, show or [], show_random, seed)
    out.mkdir(parents=True, exist_ok=True)
    # A warning in the middle of a progress bar is lost; each is printed once, behind it.
    with warnings.catch_warnings(record=True) as caught, _shown(errors) as listener:
        warnings.simplefilter("always", XRayHarmonizeWarning)
        found = audit_images(
            X,
            y,
            harmonizers=harmonizer,
            reference=reference,
            features=transformer,
            controls=not no_controls,
            show=positions,
            image_size=image_size,
            random_state=seed,
            progress=listener,
        )
    for message in dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, XRayHarmonizeWarning)):
        errors.print(f"warning: {message}", markup=False, style="yellow", soft_wrap=True)
    _print(found, console)
    for path in (found.to_html(out / "audit.html"), *found.save_tables(out)):
        console.print(f"{path}", markup=False, soft_wrap=True)


def _refuse(source: str, other: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise InvalidParameterError(f"--{name.replace('_', '-')} goes with {other}; leave it out with {source}.")


def _transformer(features: FeatureChoice, weights: Path | None, depth: int, width: int) -> Any:
    if features is FeatureChoice.intensity:
        if weights is not None:
            raise InvalidParameterError("--weights goes with --features deep; leave it out, or ask for deep features.")
        return None
    if weights is None:
        raise InvalidParameterError(
            "--features deep needs --weights FILE: features of an untrained network say little. Name a file, or use "
            "--features intensity."
        )
    if not weights.is_file():
        raise InvalidParameterError(f"--weights {weights}: there is no such file. Name one.")
    from xray_harmonize.classifiers.deep_features import DeepFeatures

    # What harmonizers give need not lie in [0, 1]: z-scores do not.
    return DeepFeatures(depth=depth, width=width, weights=str(weights), input_range="any")


def _of_folder(
    images: Path, labels: Path | None, label: str | None, scanner: str, patient: str | None, skip_bad: bool
) -> tuple[ImageSet, Any]:
    from xray_harmonize.images import ImageSet
    from xray_harmonize.labels import find_images, read_labels

    if labels is None:
        if label:
            raise InvalidParameterError(f"--label {label} names a column of --labels CSV; give the table.")
        table = find_images(images)
        X = ImageSet.from_table(table)
        _tell_skipped(table)
        return (_readable(X) if skip_bad else X), None
    column = _LABEL_COLUMN if label is None else label or None
    try:
        table = read_labels(
            images,
            labels,
            label=column,
            scanner=scanner,
            patient=patient,
            check="pixels" if skip_bad else False,
            skip_bad=skip_bad,
        )
    except LabelTableError as error:
        raise LabelTableError(
            f"{error} Here these are --label ('' for none), --scanner-column, --patient-column and --skip-bad."
        ) from error
    _tell_skipped(table)
    return ImageSet.from_table(table), table.labels


def _of_catalog(
    db: Path,
    where: str | None,
    label: str | None,
    labeler: str | None,
    scanner: str,
    mixed_intent: bool,
    skip_bad: bool,
) -> tuple[ImageSet, Any]:
    from xray_harmonize.catalog.store import Catalog

    with Catalog(db) as catalog:
        X = catalog.images(where, scanner=scanner, label=label, labeler=labeler, mixed_intent=mixed_intent)
    X = _readable(X) if skip_bad else X
    return X, None if label is None else X.label


def _tell_skipped(table: LabelTable) -> None:
    for one in table.skipped:
        typer.echo(f"skipped {one.path}: {one.reason}", err=True)


def _readable(X: ImageSet) -> ImageSet:
    """Leave out what cannot be decoded, saying so."""
    from xray_harmonize.labels import readable

    good, bad = readable(X.meta["path"])
    for path, reason in bad:
        typer.echo(f"skipped {path}: {reason}", err=True)
    kept = {str(path) for path in good}
    return X[[i for i, path in enumerate(X.meta["path"]) if path in kept]]


def _print(found: AuditResult, console: Console) -> None:
    for sentence in found.conclusions:
        console.print(sentence, markup=False, soft_wrap=True)
    for one in found.cautions:
        console.print(f"\n{one.severity}: {one.name}", markup=False, style=_STYLES[one.severity])
        console.print(f"{one.what} {one.means} {one.do}", markup=False, soft_wrap=True)
    console.print()


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[str, float], None]]:
    """Show a bar with what is being done and the time that it has taken."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = [
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    ]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading images", total=1.0)
        yield lambda doing, share: bar.update(task, completed=share, description=doing)
