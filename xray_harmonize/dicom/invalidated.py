"""What a header says of pixels that are gone: attributes that a derived image must not inherit.

Removed are transforms and windows of the old values, statistics of them, icons, signatures, where the old file is
stored, and everything private: a vendor's private elements hold windows, LUTs and processing states of the old pixels
in words that nobody else can read, so none of them can be trusted to be still true.
"""

from __future__ import annotations

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder

from xray_harmonize.dicom.derivation import SourceImage

_OF_THE_OLD_PIXELS = (
    # Modality, VOI and presentation stages (PS3.3 C.11)
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "VOILUTSequence",
    "SoftcopyVOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "PresentationLUTSequence",
    "RealWorldValueMappingSequence",
    # Padding (C.7.5.1.1.2) and statistics
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "HistogramSequence",
    "IconImageSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelDataProviderURL",
    "DataSetTrailingPadding",
)
_OF_THE_OLD_INSTANCE = (
    # Whether and where the old instance is kept, and who vouched for it (C.12.1)
    "RetrieveAETitle",
    "RetrieveURL",
    "InstanceAvailability",
    "StorageMediaFileSetID",
    "StorageMediaFileSetUID",
    "SOPInstanceStatus",
    "SOPAuthorizationDateTime",
    "SOPAuthorizationComment",
    "AuthorizationEquipmentCertificationNumber",
    "ConversionSourceAttributesSequence",
    "AlternateRepresentationSequence",
)
SIGNATURES = ("DigitalSignaturesSequence", "MACParametersSequence")
"""What vouches for bytes that were changed."""

_WORD_BYTES = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}
_FIRST_OVERLAY, _LAST_OVERLAY = 0x6000, 0x601E
_ROI_MEAN, _ROI_DEVIATION = 0x1302, 0x1303


def remove(dataset: Dataset, keywords: tuple[str, ...]) -> None:
    """Delete attributes that are there."""
    for keyword in keywords:
        if keyword in dataset:
            delattr(dataset, keyword)


def remove_invalidated(target: Dataset, source: SourceImage) -> None:
    """Remove from a copy what no longer holds once its pixels are others.

    Overlays with a plane of their own stay, without the mean and deviation of the pixels below them; planes in unused
    bits of the pixels (retired, PS3.5 8.1.2) get an element of their own, or go where compression has lost them.

    Parameters
    ----------
    target : pydicom.Dataset
        Copy of the source; changed in place.
    source : SourceImage
        What it was made from.
    """
    _remove_private(target)
    remove(target, _OF_THE_OLD_PIXELS + _OF_THE_OLD_INSTANCE + SIGNATURES)
    tags = list(target.keys())
    for group in {tag.group for tag in tags if _FIRST_OVERLAY <= tag.group <= _LAST_OVERLAY}:
        _free_overlay(target, source, group)


def swap_words(dataset: Dataset) -> None:
    """Bring words that a big-endian file holds as bytes into little-endian order, items of sequences too."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                swap_words(item)
        elif element.VR in _WORD_BYTES and isinstance(element.value, bytes):
            words = np.frombuffer(element.value, f">u{_WORD_BYTES[element.VR]}")
            element.value = words.astype(words.dtype.newbyteorder("<")).tobytes()


def _remove_private(dataset: Dataset) -> None:
    for tag in list(dataset.keys()):
        if tag.is_private:
            del dataset[tag]
            continue
        # Elements of an implicit VR have none before they are looked at, and looking at all of them takes long
        representation = dataset.get_item(tag).VR or _representation(tag)
        if representation == "SQ":
            for item in dataset[tag].value or []:
                _remove_private(item)


def _representation(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:  # not in the dictionary: nothing that could be looked into
        return "UN"


def _free_overlay(target: Dataset, source: SourceImage, group: int) -> None:
    for element in (_ROI_MEAN, _ROI_DEVIATION):
        if (group, element) in target:
            del target[group, element]
    if (group, 0x3000) in target:
        return
    position = int(target[group, 0x0102].value or 0) if (group, 0x0102) in target else 0
    plane = _embedded_plane(source, position)
    if plane is None:
        for tag in list(target.keys()):
            if tag.group == group:
                del target[tag]
        return
    target.add_new((group, 0x0100), "US", 1)
    target.add_new((group, 0x0102), "US", 0)
    target.add_new((group, 0x3000), "OW", plane)


def _embedded_plane(source: SourceImage, position: int) -> bytes | None:
    """Bits of the pixels' cells that stand beside the stored value, packed as Overlay Data is."""
    header = source.header
    stored = range(header.high_bit + 1 - header.bits_stored, header.high_bit + 1)
    if header.transfer_syntax.is_encapsulated or position in stored or position >= header.bits_allocated:
        return None
    cells, _ = get_decoder(header.transfer_syntax).as_array(source.dataset, raw=True, correct_unused_bits=False)
    bits = np.packbits(((cells >> position) & 1).astype(np.uint8).ravel(), bitorder="little").tobytes()
    return bits + b"\0" * (len(bits) % 2)
