"""``xray-harmonize compare``: which harmonizer helps, on which scanner, by how much, and a pipeline to deploy."""

from __future__ import annotations

import shlex
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from xray_harmonize.exceptions import InvalidParameterError, LabelTableError, XRayHarmonizeWarning

if TYPE_CHECKING:
    import numpy as np

    from xray_harmonize.images import ImageSet


# The demo is to end within minutes: GDCE trains a network for every scanner, half and seed.
_NOT_IN_DEMO = ("GDCE, image", "GDCE, scanner")


class ProtocolChoice(StrEnum):
    """What the classifier is trained on."""

    fixed = "fixed"
    loso = "loso"
    both = "both"


class Task(StrEnum):
    """Simulated cohorts to try things on."""

    density = "density"
    pneumonia = "pneumonia"


def compare(
    images: Annotated[Path | None, typer.Option(help="Folder of images.", show_default=False)] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV with the columns path, label, scanner, patient.", show_default=False)
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Scanner to train on and to bring all others to; by default the one with most images."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results; run again with the same to go on.")] = Path(
        "results"
    ),
    demo: Annotated[bool, typer.Option("--demo", help="Use a simulated cohort instead of images.")] = False,
    task: Annotated[Task, typer.Option(help="Which simulated cohort.")] = Task.density,
    protocol: Annotated[
        ProtocolChoice,
        typer.Option(help="fixed: classifier trained on the reference alone. loso: leave one scanner out."),
    ] = ProtocolChoice.fixed,
    harmonizer: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare only this one (repeat for several). By default all but those that train a network of their "
            "own in every split: BlindHarmony, mapping, LUT3D, DLBC, Sup-DCE, ResUNet, U-Net and CycleGAN, and in the "
            "demo GDCE from labels.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Compare all of them, which takes hours instead of minutes.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with so many seeds, each testing another fold.")] = 3,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the reference's patients.")] = 5,
    show: Annotated[
        list[str] | None,
        typer.Option(
            help="Path, as in the table, of an image to show in the report (repeat for several); none by default.",
            show_default=False,
        ),
    ] = None,
    show_random: Annotated[
        int | None, typer.Option(min=0, help="Show so many random images of each scanner.", show_default=False)
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unusable rows out, listing them.")] = False,
    path_column: Annotated[str, typer.Option(help="Name of the column with paths.")] = "path",
    label_column: Annotated[str, typer.Option(help="Name of the column with labels.")] = "label",
    scanner_column: Annotated[str, typer.Option(help="Name of the column with scanners.")] = "scanner",
    patient_column: Annotated[
        str, typer.Option(help="Name of the column with patients; '' if there is none: each image is its own.")
    ] = "patient",
    depth: Annotated[int, typer.Option(help="Depth of the ResNet: 10, 18, 34 or 50.")] = 10,
    width: Annotated[int, typer.Option(help="Channels of its first stage.")] = 32,
    image_size: Annotated[int, typer.Option(help="Side of the square that it sees, in pixels.")] = 128,
    max_epochs: Annotated[int, typer.Option(help="Epochs of training.")] = 12,
    weights: Annotated[
        Path | None, typer.Option(help="File with pretrained weights (.pt or .safetensors).", show_default=False)
    ] = None,
    vgg_weights: Annotated[
        Path | None,
        typer.Option(
            help="File with VGG-16 weights for GDCE (.pt or .safetensors); random ones without.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples of the patients for intervals.")] = 1000,
) -> None:
    """Compare harmonizers on images of several scanners.

    Writes results.csv, summary.csv, predictions.csv, report.html and the best pipeline into the folder --out.
    """
    from xray_harmonize.classifiers import ResNetClassifier
    from xray_harmonize.cli.outputs import write_outputs
    from xray_harmonize.cli.progress import shown
    from xray_harmonize.cli.shown_images import positions_to_show
    from xray_harmonize.evaluation.candidates import ON_REQUEST, default_candidates, select_candidates
    from xray_harmonize.evaluation.study import Study

    console = Console(stderr=True, highlight=False)
    if everything and harmonizer:
        raise InvalidParameterError("--harmonizer names what to compare; leave it out with --all.")
    if demo:
        _refuse_with_demo(images=images, labels=labels)
        X, y, simulated = _demo_cohort(task)
        reference = reference or simulated
        show_random = 2 if show_random is None else show_random
    else:
        X, y = _read(
            images,
            labels,
            skip_bad,
            console,
            path=path_column,
            label=label_column,
            scanner=scanner_column,
            patient=patient_column or None,
        )
    reference = reference or _largest_scanner(X)
    if vgg_weights is not None and not vgg_weights.is_file():
        raise InvalidParameterError(f"--vgg-weights {vgg_weights}: there is no such file. Name one, or leave it out.")
    # The curve's network need not see more of an image than the classifier does; it would only take longer.
    gdce = {"device": device, "speed": "faster", "view_size": min(256, max(64, image_size))}
    candidates = default_candidates(vgg_weights, gdce, {"device": device})
    left_out: dict[str, str] = {}
    if harmonizer:
        candidates = select_candidates(candidates, harmonizer)
    elif not everything:
        left_out = _not_by_default([candidate.name for candidate in candidates], ON_REQUEST, demo)
        candidates = [candidate for candidate in candidates if candidate.name not in left_out]
    shown_positions = positions_to_show(X, show or [], show_random or 0)
    classifier = ResNetClassifier(
        depth=depth,
        width=width,
        image_size=image_size,
        max_epochs=max_epochs,
        # Few images and a short schedule: nothing held out for choosing the epoch, no dropout before a linear head.
        validation_fraction=0,
        dropout=0.0,
        weights=None if weights is None else str(weights),
        device=device,
    )
    out.mkdir(parents=True, exist_ok=True)
    study = Study(
        X,
        y,
        candidates,
        classifier,
        reference,
        protocols=["fixed", "loso"] if protocol is ProtocolChoice.both else [protocol.value],
        seeds=list(range(seeds)),
        n_folds=folds,
        folder=out / "parts",
    )
    # A warning in the middle of a progress bar is lost; each goes into the report and is printed once.
    with warnings.catch_warnings(record=True) as caught, shown(console) as listener:
        warnings.simplefilter("always", XRayHarmonizeWarning)
        # Who names methods wants these; who names none wants those that can be had.
        left_out |= {} if harmonizer else study.infeasible()
        study.candidates = [candidate for candidate in candidates if candidate.name not in left_out]
        predictions = study.run(listener)
    warned = [f"Left out: {reason}" for reason in dict.fromkeys(left_out.values())]
    warned += dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, XRayHarmonizeWarning))
    for message in warned:
        console.print(f"warning: {message}", markup=False, style="yellow", soft_wrap=True)
    write_outputs(
        study,
        predictions,
        out,
        command=shlex.join(["xray-harmonize", *sys.argv[1:]]),
        shown_positions=shown_positions,
        warned=warned,
        n_bootstrap=bootstrap,
        console=Console(highlight=False),
    )


def _refuse_with_demo(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise InvalidParameterError(f"--demo makes its own images; leave --{name} out, or --demo.")


def _not_by_default(names: list[str], on_request: tuple[str, ...], demo: bool) -> dict[str, str]:
    """Why some methods are compared only where they are asked for, by name."""
    trained = [name for name in names if name in on_request]
    reason = (
        f"{', '.join(map(repr, trained))} train networks of their own in every split, for minutes to hours in all. "
        "Name them with --harmonizer, or compare everything with --all."
    )
    short = {name: f"{name!r} takes too long for a demo. Name it with --harmonizer." for name in _NOT_IN_DEMO}
    return dict.fromkeys(trained, reason) | (short if demo else {})


def _demo_cohort(task: Task) -> tuple[ImageSet, np.ndarray, str]:
    from xray_harmonize.datasets import make_cohort

    name: Literal["density", "pneumonia"] = "density" if task is Task.density else "pneumonia"
    cohort = make_cohort(name, n_patients=160, size=96, random_state=0)
    return cohort.images, cohort.labels, cohort.reference


def _read(
    images: Path | None, labels: Path | None, skip_bad: bool, console: Console, **columns: Any
) -> tuple[ImageSet, np.ndarray]:
    from xray_harmonize.images import ImageSet
    from xray_harmonize.labels import read_labels

    if images is None or labels is None:
        raise InvalidParameterError("Give --images DIR and --labels CSV, or --demo to try a simulated cohort.")
    try:
        table = read_labels(images, labels, **columns, check="pixels", skip_bad=skip_bad)
    except LabelTableError as error:
        raise LabelTableError(
            f"{error} Here these are --path-column, --label-column, --scanner-column, --patient-column and --skip-bad."
        ) from error
    for skipped in table.skipped:
        line = f"skipped row {skipped.row}, {skipped.path}: {skipped.reason}"
        console.print(line, markup=False, style="yellow", soft_wrap=True)
    X = ImageSet.from_table(table)
    assert table.labels is not None
    return X, table.labels


def _largest_scanner(X: ImageSet) -> str:
    import numpy as np

    if X.scanner is None:
        raise InvalidParameterError("A comparison needs a scanner column; name it with --scanner-column.")
    names, counts = np.unique(X.scanner.astype(str), return_counts=True)
    return str(names[counts.argmax()])
