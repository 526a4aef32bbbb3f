"""How a harmonized image is written: what each format holds, what it asks of a model and of a source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xray_harmonize.archive.model import HarmonizingSteps
from xray_harmonize.atomic import replacing
from xray_harmonize.dicom.header import MAX_PIXELS, max_file_bytes, parse_dicom
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import as_unit, stored_levels
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.reading import recognize

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Level 1 takes half the time of OpenCV's default on a radiograph and gives the same size within one per cent.
_PNG_LEVEL = 1


@dataclass(frozen=True)
class OutputFormat:
    """One way to write a harmonized image.

    Parameters
    ----------
    extension : str
    write : callable
        ``write(steps, images, source, target)`` for a set of one image; gives the SHA-256 of what was written.
    from_dicom : bool
        Whether it is made of the source's own data set, so that the source has to be DICOM, and of the same matrix.
    from_curve : bool
        Whether it holds a tone curve in place of pixels.
    """

    extension: str
    write: Callable[[HarmonizingSteps, ImageSet, Path, Path], str]
    from_dicom: bool = False
    from_curve: bool = False


def check_format(steps: HarmonizingSteps, name: str) -> OutputFormat:
    """Give a format by its name, unless the model cannot be written in it.

    Parameters
    ----------
    steps : HarmonizingSteps
    name : {"dicom", "png", "npy", "presentation", "voi-lut"}

    Returns
    -------
    OutputFormat

    Raises
    ------
    InvalidParameterError
        If there is no such format, or a step of the model has no place in it.
    """
    if name not in FORMATS:
        raise InvalidParameterError(f"format must be {', '.join(map(repr, FORMATS))}; got {name!r}.")
    chosen = FORMATS[name]
    if chosen.from_dicom and steps.geometric:
        raise InvalidParameterError(
            f"{steps.geometric[0]} moves pixels, and format={name!r} keeps the matrix of its source, to which spacing, "
            "collimation and overlays refer. Write 'png' or 'npy', or give the harmonizer without that step."
        )
    if chosen.from_curve and steps.without_curves:
        raise InvalidParameterError(
            f"format={name!r} holds one tone curve an image, and {steps.without_curves[0]} has none (no tone_curves). "
            "Write 'dicom', 'png' or 'npy', or use a global method such as CDFMatching."
        )
    return chosen


def write_output(steps: HarmonizingSteps, name: str, images: ImageSet, source: Path, target: Path) -> str:
    """Harmonize one file and write the result, whole or not at all.

    Parameters
    ----------
    steps : HarmonizingSteps
        What is done to it.
    name : str
        The format, checked by :func:`check_format`.
    images : ImageSet
        The one image.
    source, target : path
        Where it lies, and where the result goes; the folder of ``target`` must exist.

    Returns
    -------
    str
        SHA-256 of the file that was written.

    Raises
    ------
    InvalidImageError
        If the source is not DICOM and the format is made of it, or the result does not fit the format.
    ImageReadError
        If the source cannot be read.
    """
    chosen = FORMATS[name]
    if chosen.from_dicom and (found := recognize(source)) != "DICOM":
        raise InvalidImageError(
            f"{source}: a {found} file, expected DICOM, of which format={name!r} is made; write 'png' or 'npy'."
        )
    return chosen.write(steps, images, source, target)


def file_sha256(path: Path) -> str:
    """Hash what a file holds, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_png(steps: HarmonizingSteps, images: ImageSet, source: Path, target: Path) -> str:
    import cv2

    harmonized = steps.render(images)
    levels, _ = stored_levels(_unit(harmonized), name=str(source))
    encoded, data = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])
    if not encoded:  # pragma: no cover - OpenCV refuses only what is no image
        raise InvalidImageError(f"{source}: {levels.shape} pixels cannot be written as PNG; write 'npy'.")
    return _store(target, data.data)


def _write_npy(steps: HarmonizingSteps, images: ImageSet, source: Path, target: Path) -> str:
    # Floats stay as they are: a z-score is not bounded to [0, 1].
    pixels = np.ascontiguousarray(_unit(steps.render(images)))
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(pixels))
    return _store(target, head.getbuffer(), pixels.data.cast("B"))


def _store(target: Path, *parts: memoryview) -> str:
    """Write bytes and hash them meanwhile, as storing a file is mostly waiting for the disk."""

    def digest() -> str:
        sha256 = hashlib.sha256()
        for part in parts:
            sha256.update(part)
        return sha256.hexdigest()

    with ThreadPoolExecutor(1) as beside:
        hashed = beside.submit(digest)
        with replacing(target, "wb") as stream:
            for part in parts:
                stream.write(part)
        return hashed.result()


def _unit(radiograph: Radiograph) -> np.ndarray:
    """Give floats as they are, and what a model has left as stored values as the fraction of full scale."""
    if radiograph.pixels.dtype.kind == "f":
        return radiograph.pixels.astype(np.float32, copy=False)
    return as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name)


def _write_derived(steps: HarmonizingSteps, images: ImageSet, source: Path, target: Path) -> str:
    from xray_harmonize.dicom.write import derived_dicom

    harmonized = steps.render(images)
    dataset = derived_dicom(
        dicom_header(source),
        _unit(harmonized),
        method=steps.header_method,
        model_hash=steps.model_hash,
        mask=harmonized.mask,
    )
    return _write_dataset(dataset, target)


def _write_presentation(steps: HarmonizingSteps, images: ImageSet, source: Path, target: Path) -> str:
    from xray_harmonize.dicom.presentation import presentation_state

    curve = steps.curve(images)
    dataset = presentation_state(dicom_header(source), curve, method=steps.header_method, model_hash=steps.model_hash)
    return _write_dataset(dataset, target)


def _write_voi_lut(steps: HarmonizingSteps, images: ImageSet, source: Path, target: Path) -> str:
    from xray_harmonize.dicom.presentation import voi_lut_copy

    dataset = voi_lut_copy(source, steps.curve(images), method=steps.header_method, model_hash=steps.model_hash)
    return _write_dataset(dataset, target)


def dicom_header(source: Path) -> Dataset | Path:
    """Parse what new pixels or a reference need of a file, all but the old pixels.

    Compressed files are left to the writer: how far a lossy one was compressed follows from the length of its pixels.
    """
    header = parse_dicom(source, max_bytes=max_file_bytes(MAX_PIXELS), header_only=True)
    return source if header.file_meta.TransferSyntaxUID.is_compressed else header


def _write_dataset(dataset: Dataset, target: Path) -> str:
    from xray_harmonize.dicom.write import write_dicom_file

    write_dicom_file(dataset, target)
    return file_sha256(target)


FORMATS = {
    "dicom": OutputFormat(".dcm", _write_derived, from_dicom=True),
    "png": OutputFormat(".png", _write_png),
    "npy": OutputFormat(".npy", _write_npy),
    "presentation": OutputFormat(".dcm", _write_presentation, from_dicom=True, from_curve=True),
    "voi-lut": OutputFormat(".dcm", _write_voi_lut, from_dicom=True, from_curve=True),
}
"""The formats by name: derived DICOM, PNG of 16 bits, NPY of float32, presentation state, DICOM copy with a VOI LUT."""
