"""What was done to the pixels of a file on the way in, step by step, and which tags said so."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from xray_harmonize.dicom.exclusion import padding_range
from xray_harmonize.dicom.grayscale import ModalityTransform
from xray_harmonize.dicom.header import PixelHeader
from xray_harmonize.dicom.voi import Voi


def provenance(
    dataset: Dataset,
    header: PixelHeader,
    transform: ModalityTransform,
    voi: Voi | None,
    *,
    inverted: bool,
    shutters: Sequence[str],
) -> str:
    """Tell the steps in their order, separated by semicolons, as ``step: what (tags)``.

    ``decode`` names the transfer syntax, ``mask`` what does not count, ``modality``, ``VOI`` and ``polarity`` the three
    stages of PS3.3 C.11; "none" where the header asks for nothing or nothing was asked for. Only numbers and words of
    the standard are told.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The file, as :func:`~xray_harmonize.dicom.header.parse_dicom` gives it.
    header, transform, voi, inverted
        What was read from it.
    shutters : sequence of str
        Shapes of the display shutters that were applied.

    Returns
    -------
    str
        For instance ``decode: Explicit VR Little Endian (0002,0010); mask: none; modality: slope 1, intercept 0
        (0028,1053)(0028,1052); VOI: none; polarity: inverted, MONOCHROME1 (0028,0004)``.
    """
    direction = "inverted" if inverted else "kept"
    return "; ".join(
        [
            f"decode: {header.transfer_syntax.name} {_syntax_tag(dataset)}",
            f"mask: {_mask(dataset, header, shutters)}",
            f"modality: {transform.source}",
            f"VOI: {voi.source if voi else 'none'}",
            f"polarity: {direction}, {header.photometric} (0028,0004){_shape(dataset, inverted)}",
        ]
    )


def _syntax_tag(dataset: Dataset) -> str:
    return "(0002,0010)" if getattr(dataset, "transfer_syntax_told", True) else "as found, no (0002,0010)"


def _mask(dataset: Dataset, header: PixelHeader, shutters: Sequence[str]) -> str:
    parts = []
    padding = padding_range(dataset, header)
    if padding is not None:
        limit = "(0028,0121)" if padding[0] != padding[1] else ""
        parts.append(f"padding {padding[0]} to {padding[1]} (0028,0120){limit}")
    parts += [f"{shape} shutter (0018,1600)" for shape in shutters]
    return ", ".join(parts) or "none"


def _shape(dataset: Dataset, inverted: bool) -> str:
    """Name Presentation LUT Shape where it says the same as Photometric Interpretation, once more."""
    shape = "INVERSE" if inverted else "IDENTITY"
    told = str(dataset.get("PresentationLUTShape", "") or "").strip().upper()
    return f", {shape} (2050,0020)" if told == shape else ""
