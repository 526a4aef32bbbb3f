"""The files that an archive run is asked for: where they lie, who made them, and what their outputs are called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from xray_harmonize.archive.one_file import printable
from xray_harmonize.catalog.store import Catalog
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError
from xray_harmonize.images import ImageSet
from xray_harmonize.labels import find_images

# Taken off before the extension of the output comes on. Nothing else is: what follows the last dot of a file that is
# named after a UID is a part of its name.
_IMAGE_SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".npy", ".dcm", ".dicom"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that a run is asked for.

    ``unusable`` says why it cannot even be tried, None where it can.
    """

    path: str
    scanner: str | None = None
    bits_stored: int = 0
    unusable: str | None = None


@dataclass(frozen=True)
class Sources:
    """Files in the order of their paths, each once, and the folder that all lie in."""

    files: list[SourceFile]
    root: Path

    @property
    def scanner_known(self) -> bool:
        """Whether every file that can be tried has the name of a scanner."""
        return all(one.scanner is not None for one in self.files if one.unusable is None)


def find_sources(images: Any, out: Path, *, scanner: ArrayLike | None = None, root: Path | None = None) -> Sources:
    """Give the files of a folder, a list of paths, an ImageSet over files, or a Catalog.

    Parameters
    ----------
    images : path of a folder, ImageSet, Catalog, or sequence of paths
        Of a folder all images are taken, those below ``out`` left out; the folders below it name the scanners.
    out : path
        Where outputs go.
    scanner : array-like of str of shape (n,), or str, optional
        Which scanner made each image; for a folder, in place of the names of its folders.
    root : path, optional
        Folder that output paths mirror; the folder itself, or the one that all files have in common.

    Raises
    ------
    InvalidParameterError
        If the images are not in files, a file lies in ``out``, or two scanners are given for one file.
    NotEnoughImagesError
        If there is no file.
    """
    if isinstance(images, str | os.PathLike):
        folder = absolute(images)
        files = _of_folder(folder, out, scanner)
        root = folder if root is None else root
    else:
        if isinstance(images, Catalog):
            root = catalog_root(images) if root is None else root
            images = images.images()
        files = _of_set(ImageSet.of(images, scanner))
    files = list(_each_once(sorted(files, key=lambda one: one.path)))
    if not files:
        raise NotEnoughImagesError("There is no image to harmonize; expected at least one.")
    real_out = out.resolve()
    for folder in sorted({Path(one.path).parent for one in files}):
        if folder.resolve().is_relative_to(real_out):
            raise InvalidParameterError(
                f"Images in {folder} lie in the folder for the outputs, {out}, which might overwrite them. Name "
                "another folder."
            )
    common = _common_folder(files)
    if root is not None and not common.is_relative_to(root := absolute(root)):
        outside = next(one.path for one in files if not Path(one.path).is_relative_to(root))
        raise InvalidParameterError(f"{outside} does not lie below root={root}, whose folders the outputs mirror.")
    return Sources(files, common if root is None else root)


def catalog_root(catalog: Catalog) -> Path | None:
    """Give the folder that all indexed folders lie in, whichever images are chosen; None before any is indexed."""
    roots = catalog.query("SELECT root FROM source ORDER BY root")["root"].tolist()
    return Path(os.path.commonpath(roots)) if roots else None


def absolute(path: str | os.PathLike[str]) -> Path:
    """Give the whole path by name only: links are the user's own and stay in the names of outputs."""
    return Path(os.path.normpath(Path(path).absolute()))


def output_names(source: str, root: Path, extension: str) -> Iterator[str]:
    """Give names for the output of a file, below the folder of outputs and with slashes, the best one first.

    Parameters
    ----------
    source : str
    root : path
        Folder whose folders are mirrored.
    extension : str

    Yields
    ------
    str
        The source's own path with the extension changed; then with the extension added, which tells files apart that
        differ in it alone.

    Examples
    --------
    >>> list(output_names("/scans/GE/a.dcm", Path("/scans"), ".png"))
    ['GE/a.png', 'GE/a.dcm.png']
    >>> list(output_names("/scans/1.2.840.17", Path("/scans"), ".dcm"))
    ['1.2.840.17.dcm']
    """
    below = Path(source).relative_to(root)
    if below.suffix.lower() in _IMAGE_SUFFIXES:
        yield below.with_suffix(extension).as_posix()
    yield below.with_name(f"{below.name}{extension}").as_posix()


def _of_folder(folder: Path, out: Path, scanner: ArrayLike | None) -> list[SourceFile]:
    table = find_images(folder)
    inside = out != folder and out.is_relative_to(folder)
    kept = [i for i, path in enumerate(table.paths) if not (inside and path.is_relative_to(out))]
    paths = [table.paths[i] for i in kept]
    labels = None if table.scanner is None else table.scanner[kept]
    files = _of_set(ImageSet(paths, scanner=labels if scanner is None else scanner)) if paths else []
    for bad in table.skipped:
        path = folder / bad.path
        if not (inside and path.is_relative_to(out)):
            files.append(_unusable(str(path), bad.reason))
    return files


def _of_set(images: ImageSet) -> list[SourceFile]:
    source = images.files
    if not len(images):
        return []
    if source is None:
        raise InvalidParameterError(
            "The images of an archive are files as they lie there; got images in memory or computed ones. Give paths, "
            "put transformers before the harmonizer into one Pipeline with it, or call transform."
        )
    if any(mask is not None for mask in source.masks):
        raise InvalidParameterError("The masks of an archive come from its files; give the ImageSet without masks.")
    scanners = [None] * len(images) if images.scanner is None else images.scanner.tolist()
    files = []
    for path, scanner, bits in zip(source.paths, scanners, source.bits_stored, strict=True):
        name = str(absolute(path))
        try:
            name.encode()
        except UnicodeEncodeError:
            files.append(_unusable(name, "its name is no valid UTF-8; rename it."))
        else:
            files.append(SourceFile(name, scanner, int(bits)))
    return files


def _unusable(path: str, reason: str) -> SourceFile:
    # SQLite holds no text that is not valid; so told, the name no longer opens the file, but who looks finds it.
    shown = path.encode("utf-8", "backslashreplace").decode()
    return SourceFile(shown, unusable=printable(f"{shown}: {reason}" if shown not in reason else reason))


def _each_once(files: Iterable[SourceFile]) -> Iterator[SourceFile]:
    before: SourceFile | None = None
    for one in files:
        if before is None or one.path != before.path:
            yield one
        elif one != before:
            raise InvalidParameterError(
                f"{one.path} is named twice, once from scanner {before.scanner!r} and once from {one.scanner!r}, or "
                "with other bits_stored; name each file once."
            )
        before = one


def _common_folder(files: list[SourceFile]) -> Path:
    # Of sorted paths the first and the last have in common what all have.
    return Path(os.path.commonpath([Path(one.path).parent for one in (files[0], files[-1])]))
