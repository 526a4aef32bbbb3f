"""Harmonized images as derived DICOM images, as PS3.3 wants them, and any data set as a file.

What a derived image keeps: patient, study, frame of reference, acquisition, and the equipment that it was acquired
with. What it gets: an instance and a series of its own, Image Type DERIVED, references to its source, and pixels that
need no transform before they are shown: MONOCHROME2, unsigned, identity rescale, a window over the full range. What
described the old pixels goes (:mod:`xray_harmonize.dicom.invalidated`).

Some decisions the standard leaves open, or answers by a note:

* *Equipment.* By the notes of C.12.1.1.5 a processing application may put itself into the General Equipment module and
  the scanner into the Contributing Equipment Sequence. Whoever reads an image wants to know its scanner, and looks for
  it under Manufacturer, so that stays as acquired; the sequence lists both the scanner and this software.
* *Dates.* Acquisition dates stay. Content, series and instance creation dates go: those of the source are not true of
  the new pixels, and today's would make every run write other bytes.
* *Pixel Intensity Relationship* must be LIN or LOG in digital radiographs. A harmonized image may be neither; its
  source's value stays, and the sign is turned round where the polarity was.
* *Presentation intent* stays with the SOP class: a raw image whose grey levels were matched is still no image for
  somebody's eyes, and gets no window.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
)

from xray_harmonize.atomic import replacing
from xray_harmonize.dicom.derivation import (
    SourceImage,
    add_equipment,
    add_scanner,
    check_method,
    code,
    file_meta,
    name_instance,
    refer_to_source,
    source_image,
)
from xray_harmonize.dicom.exclusion import shutter_openings
from xray_harmonize.dicom.grayscale import is_little_endian
from xray_harmonize.dicom.header import damage_named
from xray_harmonize.dicom.invalidated import remove_invalidated, swap_words
from xray_harmonize.dicom.transfer import ALWAYS_LOSSY, LOSSY_METHODS, chosen_syntax, set_pixel_data
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.levels import check_unit_range

_FOR_PROCESSING = (
    DigitalXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalIntraOralXRayImageStorageForProcessing,
)
_DX_FAMILY = (
    *_FOR_PROCESSING,
    DigitalXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalIntraOralXRayImageStorageForPresentation,
)
_PADDING = 0
_SERIES_STEP = 1000


def derived_dicom(
    source: Dataset | str | os.PathLike[str],
    pixels: np.ndarray,
    *,
    method: str,
    model_hash: str,
    bits_stored: int = 16,
    mask: np.ndarray | None = None,
    transfer_syntax: str | None = None,
) -> Dataset:
    r"""Make a derived image of a source and its harmonized pixels.

    Parameters
    ----------
    source : path-like or pydicom.Dataset
        The image that was harmonized: its file, or what :func:`~xray_harmonize.dicom.header.parse_dicom` gave for it.
        It is not changed.
    pixels : ndarray of float32 of shape (rows, columns)
        In [0, 1], MONOCHROME2: 0 is black.
    method : str
        What harmonized it, in 1 to 64 ASCII characters.
    model_hash : str
        What tells this fitted model from others, 8 to 128 letters and digits. Source, model and ``bits_stored``
        determine the UIDs.
    bits_stored : int, default=16
        8 to 16.
    mask : ndarray of bool of shape (rows, columns), optional
        False where a pixel is none, as :func:`~xray_harmonize.dicom.read.read_dicom` tells. These become padding (0),
        which no other pixel is: real blacks become 1. Pixels that only a display shutter hides are written as they
        are, since the shutter is kept. None writes an image without padding.
    transfer_syntax : str, optional
        "explicit", "implicit", "deflated", "rle", "jpeg2000" (lossless), "jpeg-ls" (lossless), or one of their UIDs.
        None keeps the source's where it can be written without loss, else Explicit VR Little Endian
        (:func:`~xray_harmonize.dicom.transfer.chosen_syntax`).

    Returns
    -------
    pydicom.Dataset
        Ready for :func:`write_dicom_file`. The same arguments give the same data set.

    Raises
    ------
    ImageReadError, InvalidImageError
        The source cannot be read or has no UIDs; pixels or mask do not fit it.
    InvalidParameterError
        ``method``, ``model_hash``, ``bits_stored`` or ``transfer_syntax`` cannot be written.
    MissingDependencyError
        No encoder for the transfer syntax asked for.

    References
    ----------
    DICOM PS3.3 C.7.5.1.1.2 (padding), C.7.6.1 (general image), C.7.6.3 (pixels), C.8.11.3 (DX), C.11 (transforms),
    C.12.1, C.12.4.

    Examples
    --------
    >>> from pydicom.uid import ExplicitVRLittleEndian
    >>> from pydicom.dataset import FileMetaDataset
    >>> source = Dataset()
    >>> source.file_meta = FileMetaDataset()
    >>> source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    >>> source.SOPClassUID, source.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    >>> source.Rows = source.Columns = 1
    >>> source.PhotometricInterpretation, source.BitsAllocated = "MONOCHROME1", 16
    >>> image = derived_dicom(source, np.ones((1, 1), np.float32), method="CDF matching", model_hash="0123abcd")
    >>> image.PhotometricInterpretation, image.PixelData, list(image.ImageType)
    ('MONOCHROME2', b'\xff\xff', ['DERIVED', 'PRIMARY'])
    """
    check_method(method, model_hash)
    if isinstance(bits_stored, bool) or not isinstance(bits_stored, (int, np.integer)) or not 8 <= bits_stored <= 16:
        raise InvalidParameterError(f"bits_stored must be an integer from 8 to 16; got {bits_stored!r}.")
    image = source_image(source)
    shape = (image.header.rows, image.header.columns)
    syntax = chosen_syntax(image.header.transfer_syntax, transfer_syntax, shape)
    padded = _padded(image, mask)
    stored = _stored_values(image, pixels, padded, int(bits_stored))
    with damage_named(image.name):
        statistics = "SmallestImagePixelValue" in image.dataset or "LargestImagePixelValue" in image.dataset
        derived = _header(image, method, model_hash, int(bits_stored))
    if padded is not None and padded.any():
        derived.add_new("PixelPaddingValue", "US", _PADDING)
    if statistics:
        derived.add_new("SmallestImagePixelValue", "US", int(stored.min()))
        derived.add_new("LargestImagePixelValue", "US", int(stored.max()))
    set_pixel_data(derived, stored, syntax)
    return derived


def write_dicom_file(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Write a data set as a Part 10 file that appears whole or not at all.

    Parameters
    ----------
    dataset : pydicom.Dataset
        With SOP Class and Instance UID and ``file_meta.TransferSyntaxUID``, as the functions of this package give it.
    path : path-like
        Where to; its folder must exist. What is there is replaced.

    Raises
    ------
    InvalidImageError
        The data set lacks what a file needs, or holds a value that cannot be encoded.
    OSError
        The file cannot be stored.
    """
    missing = [keyword for keyword in ("SOPClassUID", "SOPInstanceUID") if not dataset.get(keyword)]
    syntax = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    if missing or not syntax:
        raise InvalidImageError(
            f"A data set without {' and '.join([*missing, *([] if syntax else ['TransferSyntaxUID'])])} cannot be "
            "written as a file; expected one that this package made."
        )
    dataset.file_meta = file_meta(dataset, UID(syntax))
    dataset.preamble = bytes(128)
    # In memory first: what cannot be encoded is the data set's fault, what cannot be stored the disk's
    encoded = BytesIO()
    try:
        dcmwrite(encoded, dataset, enforce_file_format=True)
    except Exception as error:  # a value taken over from a damaged source raises whatever its encoder does
        raise InvalidImageError(
            f"{os.fspath(path)}: the data set cannot be encoded ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); an attribute of the source is damaged, correct it there."
        ) from error
    with replacing(Path(path), "wb") as stream:
        stream.write(encoded.getbuffer())


def _header(image: SourceImage, method: str, model_hash: str, bits: int) -> Dataset:
    """Make all of a derived image but its pixels and what is counted from them."""
    derived = image.copy()
    derived.pop("PixelData", None)
    if not is_little_endian(image.dataset):
        swap_words(derived)
    remove_invalidated(derived, image)
    name_instance(derived, image, method, model_hash, f"derived image of {bits} bits", _SERIES_STEP)
    _set_image_type(derived)
    refer_to_source(derived, image, method, model_hash)
    add_scanner(derived)
    add_equipment(derived, code("109102", "DCM", "Processing Equipment"), method, model_hash)
    for keyword in ("ContentDate", "ContentTime"):  # type 2C: may be empty
        if keyword in derived:
            setattr(derived, keyword, "")
    _keep_loss(derived, image)
    _describe_pixels(derived, image, bits)
    return derived


def _padded(image: SourceImage, mask: np.ndarray | None) -> np.ndarray | None:
    """Pixels to be written as padding: masked, and not only behind a shutter, which stays in the header."""
    if mask is None:
        return None
    shape = (image.header.rows, image.header.columns)
    marked = np.asarray(mask)
    if marked.dtype != bool or marked.shape != shape:
        raise InvalidImageError(
            f"{image.name}: mask is {marked.dtype} of shape {marked.shape}, expected bool of shape {shape}, True where "
            "a pixel counts. Pass the mask of this image."
        )
    padded: np.ndarray = ~marked
    if "PixelPaddingValue" not in image.dataset:
        for opening in shutter_openings(image.dataset, image.header, image.name).values():
            padded &= opening
    return padded


def _stored_values(image: SourceImage, pixels: np.ndarray, padded: np.ndarray | None, bits: int) -> np.ndarray:
    shape = (image.header.rows, image.header.columns)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.float32 or pixels.shape != shape:
        got = f"{pixels.dtype} of shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise InvalidImageError(
            f"{image.name}: pixels are {got}, expected an array of float32 of shape {shape}, as its Rows and Columns "
            "say. Pass the harmonized pixels of this image."
        )
    check_unit_range(pixels, f"{image.name}: pixels")
    stored = np.multiply(pixels, np.float32((1 << bits) - 1))
    np.rint(stored, out=stored)
    levels = stored.astype(np.uint8 if bits == 8 else np.uint16)
    if padded is not None and padded.any():
        np.maximum(levels, _PADDING + 1, out=levels)
        levels[padded] = _PADDING
    return levels


def _set_image_type(derived: Dataset) -> None:
    """Write Image Type (PS3.3 C.7.6.1.1.2): DERIVED, then what the source says."""
    value = derived.get("ImageType")
    values = [value] if isinstance(value, str) else [str(one or "") for one in value or []]
    second = values[1] if len(values) > 1 and values[1] in ("PRIMARY", "SECONDARY") else "PRIMARY"
    rest = values[2:]
    if not rest and derived.SOPClassUID in _DX_FAMILY:
        rest = [""]  # C.8.11.3.1.1: the third is there and empty
    derived.ImageType = ["DERIVED", second, *rest]


def _keep_loss(derived: Dataset, image: SourceImage) -> None:
    """Keep that a lossy compression once was: what it lost is not found again by decompressing (C.7.6.1.1.5)."""
    syntax = image.header.transfer_syntax
    if syntax not in LOSSY_METHODS:
        return
    told = str(derived.get("LossyImageCompression", "") or "").strip()
    if told == "01" or (told == "00" and syntax not in ALWAYS_LOSSY):
        return
    derived.LossyImageCompression = "01"
    derived.LossyImageCompressionMethod = LOSSY_METHODS[syntax]
    full = image.header.rows * image.header.columns * image.header.bits_stored / 8
    derived.LossyImageCompressionRatio = f"{full / max(len(image.dataset.get('PixelData') or b''), 1):.3g}"


def _describe_pixels(derived: Dataset, image: SourceImage, bits: int) -> None:
    """Write the Image Pixel module and the three stages of the grayscale transform as identities."""
    attributes: dict[str, Any] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 if bits == 8 else 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
    }
    digital = image.sop_class_uid in _DX_FAMILY
    if digital:
        attributes |= {"RescaleIntercept": "0", "RescaleSlope": "1", "RescaleType": "US"}
    if digital or "PresentationLUTShape" in derived:
        attributes["PresentationLUTShape"] = "IDENTITY"
    intent = str(derived.get("PresentationIntentType", "") or "").strip().upper()
    if image.sop_class_uid not in _FOR_PROCESSING and intent != "FOR PROCESSING":
        # LINEAR from 0 to the full scale (C.11.2.1.2.1): centre - 0.5 plus and minus half of width - 1
        attributes |= {"WindowCenter": str(1 << (bits - 1)), "WindowWidth": str(1 << bits)}
    for keyword, value in attributes.items():
        setattr(derived, keyword, value)
    if not digital and "PixelIntensityRelationship" in derived:
        # Elsewhere nobody needs it, and after a curve it is not known
        del derived.PixelIntensityRelationship
        derived.pop("PixelIntensityRelationshipSign", None)
    sign = derived.get("PixelIntensityRelationshipSign")
    if sign in (1, -1) and _falls(image):
        derived.PixelIntensityRelationshipSign = -sign


def _falls(image: SourceImage) -> bool:
    """Tell whether the derived image rises where the stored values fell."""
    table = image.transform.table
    falls = image.transform.sign < 0 if table is None else bool(table[-1] < table[0])
    return falls != image.inverted
