"""``xray-harmonize adapt``: teach a deployed model a new scanner from unlabelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xray_harmonize.exceptions import ImageReadError, NotEnoughImagesError, PersistenceError


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

    if out.suffix != model.suffix:
        raise PersistenceError(
            f"--out {out} must end in {model.suffix or 'nothing'}, as --model {model} does: the format stays the same."
        )
    fitted = _load(model)
    table = find_images(images)
    skipped = [(one.path, one.reason) for one in table.skipped]
    if skipped and not skip_bad:
        raise ImageReadError(f"{skipped[0][1]} Leave such files out with --skip-bad, or take them away.")
    paths = table.paths
    if skip_bad:
        paths, bad = readable(paths)
        skipped += [(str(path), reason) for path, reason in bad]
    for name, reason in skipped:
        typer.echo(f"skipped {name}: {reason}", err=True)
    if not paths:
        raise NotEnoughImagesError(f"{images} holds no image to adapt to. Give a folder of images of the new scanner.")
    adapted = adapt_model(fitted, ImageSet(paths), scanner=scanner, batch_norm=batch_norm)
    _save(adapted, out)
    typer.echo(f"{out}: knows {scanner}, learned from {len(paths)} unlabelled images.")


def _load(path: Path) -> Any:
    from xray_harmonize.persistence import load

    if not path.is_file():
        raise PersistenceError(f"There is no model {path}. Give the file that compare or save wrote.")
    if path.suffix == ".joblib":
        import joblib

        try:
            return joblib.load(path)
        except Exception as error:  # unpickling damaged bytes can raise anything
            raise PersistenceError(f"{path} is no model that joblib wrote, or is damaged: {error}") from error
    return load(path)


def _save(model: Any, path: Path) -> None:
    from xray_harmonize.atomic import replacing
    from xray_harmonize.persistence import save

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".joblib":
        import joblib

        with replacing(path, "wb") as stream:
            joblib.dump(model, stream)
    else:
        save(model, path)
