"""``xray-harmonize adapt``: teach a deployed model a new scanner from unlabelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xray_harmonize.exceptions import NotEnoughImagesError, PersistenceError


def adapt(
    model: Annotated[Path, typer.Option(help="Fitted model: .npz as saved by the package, or .joblib.")],
    images: Annotated[Path, typer.Option(help="Folder of unlabelled images of the new scanner.")],
    scanner: Annotated[str, typer.Option(help="Name of the new scanner.")],
    out: Annotated[Path, typer.Option(help="Where to write the adapted model, in the same format.")],
    batch_norm: Annotated[
        bool, typer.Option("--batch-norm", help="Re-estimate the classifier's batch-norm statistics too.")
    ] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out, listing them.")] = False,
) -> None:
    """Teach a fitted model a new scanner from ten to fifty unlabelled images of it."""
    from xray_harmonize.adaptation import adapt as adapt_model
    from xray_harmonize.images import ImageSet
    from xray_harmonize.labels import find_images, readable

    table = find_images(images)
    paths, skipped = readable(table.paths) if skip_bad else (list(table.paths), [])
    for path, reason in skipped:
        typer.echo(f"skipped {path}: {reason}", err=True)
    if not paths:
        raise NotEnoughImagesError(f"{images} holds no image to adapt to. Give a folder of images of the new scanner.")
    adapted = adapt_model(_load(model), ImageSet(paths), scanner=scanner, batch_norm=batch_norm)
    _save(adapted, out, like=model)
    typer.echo(f"{out}: knows {scanner}, learned from {len(paths)} unlabelled images.")


def _load(path: Path) -> object:
    from xray_harmonize.persistence import load

    if not path.is_file():
        raise PersistenceError(f"There is no model {path}. Give the file that compare or save wrote.")
    if path.suffix == ".joblib":
        import joblib

        return joblib.load(path)
    return load(path)


def _save(model: object, path: Path, like: Path) -> None:
    from xray_harmonize.atomic import replacing
    from xray_harmonize.persistence import save

    if path.suffix != like.suffix:
        raise PersistenceError(
            f"--out {path} must end in {like.suffix or 'nothing'}, as --model {like} does: the format stays the same."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".joblib":
        import joblib

        with replacing(path, "wb") as stream:
            joblib.dump(model, stream)
    else:
        save(model, path)  # type: ignore[arg-type]
