"""``xray-harmonize fit``: one harmonizer, learned from labelled folders or a catalogue, and saved."""

from __future__ import annotations

import ast
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xray_harmonize.cli.interruption import INTERRUPTED
from xray_harmonize.exceptions import InvalidParameterError, PersistenceError

if TYPE_CHECKING:
    from xray_harmonize.images import ImageSet


class Method(StrEnum):
    """Harmonizers by short names."""

    cdf = "cdf"
    nyul = "nyul"
    minmax = "minmax"
    zscore = "zscore"
    fullrange = "fullrange"
    window = "window"
    fourier = "fourier"
    bands = "bands"
    gdce = "gdce"
    blind = "blind"
    mapping = "mapping"
    lut3d = "lut3d"
    dlbc = "dlbc"
    supdce = "supdce"
    resunet = "resunet"
    unet = "unet"
    cyclegan = "cyclegan"


_CLASSES = {
    Method.cdf: "CDFMatching",
    Method.nyul: "Nyul",
    Method.minmax: "MinMax",
    Method.zscore: "ZScore",
    Method.fullrange: "FullRange",
    Method.window: "WindowClamp",
    Method.fourier: "FourierSwap",
    Method.bands: "MultiBand",
    Method.gdce: "GDCE",
    Method.blind: "BlindHarmony",
    Method.mapping: "InterpretableMapping",
    Method.lut3d: "LUT3D",
    Method.dlbc: "DLBC",
    Method.supdce: "SupDCE",
    Method.resunet: "ResUNet",
    Method.unet: "UNet",
    Method.cyclegan: "CycleGAN",
}
# Others' images teach these nothing.
_OF_THE_REFERENCE_ALONE = {
    Method.blind,
    Method.mapping,
    Method.lut3d,
    Method.dlbc,
    Method.supdce,
    Method.resunet,
    Method.unet,
}


def fit(
    harmonizer: Annotated[
        Method, typer.Option(help="What is fitted; from gdce on it trains networks. Pairs are self-made here.")
    ],
    out: Annotated[Path, typer.Option(help="Where to write the model, ending in .npz.")],
    images: Annotated[Path | None, typer.Option(help="Folder of images.", show_default=False)] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns path and scanner; without it the folders below --images name the scanners.",
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
            help="Label that the method learns from (gdce): its name in the catalogue, or its column in the CSV.",
            show_default=False,
        ),
    ] = None,
    labeler: Annotated[
        str | None, typer.Option(help="Whose label, where a catalogue has several.", show_default=False)
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Scanner that all images are brought to; by default the one with most images."),
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="image: each image by itself. scanner: one curve a scanner. More: see the method."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Further parameter, as smoothness=0.02 (repeat for several).", show_default=False),
    ] = None,
    scanner_column: Annotated[
        str, typer.Option(help="Column of the table or catalogue that names the scanner; '' if there is none.")
    ] = "scanner",
    mixed_intent: Annotated[
        bool, typer.Option("--mixed-intent", help="Take images for processing and for presentation together.")
    ] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unusable images out, listing them.")] = False,
) -> None:
    """Fit one harmonizer to images of several scanners and save it for apply."""
    import xray_harmonize
    from xray_harmonize.persistence import fingerprint, save

    if out.suffix != ".npz":
        raise PersistenceError(f"--out {out} must end in .npz, the format that apply reads.")
    model = getattr(xray_harmonize, _CLASSES[harmonizer])()
    model.set_params(**_parameters(model, reference, scope, set_ or []))
    if (images is None) == (db is None):
        raise InvalidParameterError("Give --images DIR, with --labels CSV if there is one, or --db FILE, one of them.")
    if images is not None:
        _refuse_with("--images", "--db FILE", where=where, labeler=labeler)
        X = _of_folder(images, labels, label, scanner_column or None, skip_bad)
    else:
        assert db is not None
        _refuse_with("--db", "--images DIR", labels=labels)
        X = _of_catalog(db, where, label, labeler, scanner_column or None, mixed_intent, skip_bad)
    if label is None:
        model.fit(X)
    else:
        model.fit(X, X.label)
    out.parent.mkdir(parents=True, exist_ok=True)
    save(model, out)
    for line in _learned(model, _teachers(harmonizer, model, X)):
        typer.echo(line)
    typer.echo(f"{out}: fingerprint {fingerprint(model)}")
    if getattr(model, "interrupted_", False):
        # A warning has told of it; a script that goes on must not take this for a whole training.
        raise typer.Exit(INTERRUPTED)


def _teachers(harmonizer: Method, model: Any, X: ImageSet) -> ImageSet:
    """Give the images that something was learned from."""
    if harmonizer not in _OF_THE_REFERENCE_ALONE or X.scanner is None or model.reference_ not in X.scanner:
        return X
    return X[X.scanner == model.reference_]


def _parameters(model: Any, reference: str | None, scope: str | None, settings: list[str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InvalidParameterError(f"--set {setting}: expected a name and a value, as in smoothness=0.02.")
        try:
            chosen[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # a word without quotes
            chosen[name] = text
    given = {"reference": reference, "scope": scope}
    chosen |= {name: value for name, value in given.items() if value is not None}
    known = model.get_params(deep=False)
    unknown = sorted(set(chosen) - set(known))
    if unknown:
        raise InvalidParameterError(
            f"{type(model).__name__} has no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}."
        )
    seed = chosen.get("random_state")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32):
        raise InvalidParameterError(f"random_state must be a whole number from 0 to 2**32 - 1; got {seed!r}.")
    return chosen


def _refuse_with(source: str, other: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise InvalidParameterError(f"--{name} goes with {other}; leave it out with {source}.")


def _of_folder(images: Path, labels: Path | None, label: str | None, scanner: str | None, skip_bad: bool) -> ImageSet:
    from xray_harmonize.images import ImageSet
    from xray_harmonize.labels import find_images, read_labels

    if labels is None:
        if label is not None:
            raise InvalidParameterError(f"--label {label} names a column of --labels CSV; give the table.")
        table = find_images(images)
        X = ImageSet.from_table(table)
    else:
        table = read_labels(images, labels, label=label, scanner=scanner, patient=None, skip_bad=skip_bad)
        X = ImageSet.from_table(table)
    for row in table.skipped:
        typer.echo(f"skipped {row.path}: {row.reason}", err=True)
    return _readable(X) if skip_bad else X


def _of_catalog(
    db: Path,
    where: str | None,
    label: str | None,
    labeler: str | None,
    scanner: str | None,
    mixed_intent: bool,
    skip_bad: bool,
) -> ImageSet:
    from xray_harmonize.catalog.store import Catalog

    with Catalog(db) as catalog:
        X = catalog.images(where, scanner=scanner, label=label, labeler=labeler, mixed_intent=mixed_intent)
    return _readable(X) if skip_bad else X


def _readable(X: ImageSet) -> ImageSet:
    """Leave out what cannot be decoded, saying so."""
    from xray_harmonize.labels import readable

    good, bad = readable(X.meta["path"])
    for path, reason in bad:
        typer.echo(f"skipped {path}: {reason}", err=True)
    kept = {str(path) for path in good}
    return X[[i for i, path in enumerate(X.meta["path"]) if path in kept]]


def _learned(model: Any, X: ImageSet) -> list[str]:
    """Say what was learned, and from how many images of which scanners."""
    lines = [f"{' '.join(repr(model).split())}"]
    reference = getattr(model, "reference_", None)
    if reference is not None:
        lines.append(f"reference: {reference}")
    if X.scanner is None:
        lines.append(f"learned from {len(X)} image(s) without names of scanners")
    else:
        shown = ", ".join(f"{name} {count}" for name, count in sorted(Counter(X.scanner.tolist()).items()))
        lines.append(f"learned from {len(X)} image(s): {shown}")
    return lines
