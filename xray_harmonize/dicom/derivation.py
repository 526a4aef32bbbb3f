"""How a new object says what it was made from, by what, and how: UIDs, references, descriptions (PS3.3 C.7.6.1, C.12).

Nothing here knows the time. Whatever is written follows from the source and the model, so that a second run gives the
same bytes under the same UIDs, and an archive can tell what it has already got.
"""

from __future__ import annotations

import copy
import os
import re
from dataclasses import dataclass
from uuid import UUID, uuid5

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from xray_harmonize import __version__
from xray_harmonize.dicom.exclusion import numbers
from xray_harmonize.dicom.grayscale import ModalityTransform, modality_transform
from xray_harmonize.dicom.header import MAX_PIXELS, PixelHeader, damage_named, max_file_bytes, parse_dicom, pixel_header
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError

_NAMESPACE = UUID("6f1c2f3e-5b0e-5d0a-9a3c-8a5e3c1f7d42")
_IMPLEMENTATION = "2.25." + str(uuid5(_NAMESPACE, "implementation").int)
_SCHEME = "99XRAYHARM"  # private schemes begin with 99 (PS3.16 8.2)
_LONG_STRING = 64
_SHORT_TEXT = 1024
_LARGEST_INTEGER_STRING = 2**31 - 1

SOFTWARE = "xray_harmonize"


@dataclass(frozen=True)
class SourceImage:
    """A greyscale image that something is to be made from, with the checked parts of its header."""

    dataset: Dataset
    header: PixelHeader
    transform: ModalityTransform
    name: str

    @property
    def inverted(self) -> bool:
        """Whether small values are bright, as Photometric Interpretation has it."""
        return self.header.photometric == "MONOCHROME1"

    @property
    def sop_class_uid(self) -> UID:
        """SOP Class UID (0008,0016)."""
        return UID(str(self.dataset.SOPClassUID))

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID (0008,0018)."""
        return str(self.dataset.SOPInstanceUID)

    def copy(self) -> Dataset:
        """Copy the data set, the bytes of its pixels shared."""
        # The buffer that the file was parsed from is as large as the file, and none of a copy's business
        buffer = getattr(self.dataset, "buffer", None)
        return copy.deepcopy(self.dataset, {id(buffer): None} if buffer is not None else {})


def source_image(source: Dataset | str | os.PathLike[str]) -> SourceImage:
    """Check that something can be derived from a file or data set.

    Parameters
    ----------
    source : path-like or pydicom.Dataset
        A file, or what :func:`~xray_harmonize.dicom.header.parse_dicom` gave for it.

    Returns
    -------
    SourceImage

    Raises
    ------
    ImageReadError, InvalidImageError
        As :func:`~xray_harmonize.dicom.read.read_dicom`; also where SOP Class or Instance UID is missing, since nothing
        could refer to the source.
    """
    if isinstance(source, Dataset):
        dataset, name = source, str(source.get("SOPInstanceUID", "") or "the data set")
    else:
        dataset, name = parse_dicom(source, max_bytes=max_file_bytes(MAX_PIXELS)), os.fspath(source)
    with damage_named(name):
        header = pixel_header(dataset, name)
        for keyword, tag in (("SOPClassUID", "(0008,0016)"), ("SOPInstanceUID", "(0008,0018)")):
            if not dataset.get(keyword):
                raise InvalidImageError(
                    f"{name}: no {keyword} {tag}, expected one; what is derived from an image refers to it by its "
                    "UIDs. Give it one with a DICOM toolkit."
                )
        return SourceImage(dataset, header, modality_transform(dataset, header, name), name)


def derived_uid(source_uid: str, model_hash: str, kind: str) -> str:
    """Make a UID that follows from what an object was made of (PS3.5 B.2: "2.25." and a UUID as an integer).

    Parameters
    ----------
    source_uid : str
        UID of the source: an instance for an instance, a series for a series.
    model_hash : str
        What tells one fitted model from another.
    kind : str
        What the UID is for; different kinds give different UIDs.

    Returns
    -------
    str
        At most 44 characters.

    Examples
    --------
    >>> derived_uid("1.2.3", "5f0c", "image") == derived_uid("1.2.3", "5f0c", "image")
    True
    >>> derived_uid("1.2.3", "5f0c", "image") == derived_uid("1.2.3", "5f0c", "series")
    False
    """
    return f"2.25.{uuid5(_NAMESPACE, '|'.join((kind, source_uid, model_hash))).int}"


def check_method(method: str, model_hash: str) -> None:
    """Refuse texts that cannot stand in a header.

    Raises
    ------
    InvalidParameterError
        ``method`` is not 1 to 64 printable ASCII characters without a backslash, which separates values in DICOM, or
        ``model_hash`` not 8 to 128 letters and digits.
    """
    sound = isinstance(method, str) and re.fullmatch(r"[ -\[\]-~]{1,64}", method) and method.strip()
    if not sound:
        raise InvalidParameterError(
            f"method must be 1 to 64 printable ASCII characters without a backslash; got {method!r:.80}. "
            "It is written into DICOM headers."
        )
    if not (isinstance(model_hash, str) and re.fullmatch(r"[0-9A-Za-z]{8,128}", model_hash)):
        raise InvalidParameterError(
            f"model_hash must be 8 to 128 letters and digits; got {model_hash!r:.140}. "
            "Pass the fingerprint of the fitted model."
        )


def describe(method: str, model_hash: str) -> str:
    """Say in one sentence what was done, for Derivation and Contribution Description."""
    return f"Grey levels harmonized by {method}, {SOFTWARE} {__version__}, model {model_hash}"


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Make an item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def name_instance(target: Dataset, source: SourceImage, method: str, model_hash: str, kind: str, number: int) -> None:
    """Give a copy its own place: a new instance in a new series of the same study.

    All images of one source series that went through one model come into one series. Dates of the instance and the
    series go (all are optional): those of the source are no longer true, and today's would make two runs differ.

    Parameters
    ----------
    target : pydicom.Dataset
        Copy of the source; changed in place.
    source : SourceImage
        What it was made from.
    method, model_hash : str
        As :func:`check_method` wants them.
    kind : str
        As in :func:`derived_uid`.
    number : int
        What the series number grows by, so that viewers list the new series apart.
    """
    series = str(target.get("SeriesInstanceUID", "") or source.sop_instance_uid)
    target.SOPInstanceUID = derived_uid(source.sop_instance_uid, model_hash, f"{kind}, instance")
    target.SeriesInstanceUID = derived_uid(series, model_hash, f"{kind}, series")
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID", "SeriesDate", "SeriesTime"):
        if keyword in target:
            delattr(target, keyword)
    before = numbers(target, "SeriesNumber")
    if before and before[0] <= _LARGEST_INTEGER_STRING - number:
        target.SeriesNumber = int(before[0]) + number
    ending = f"harmonized ({method})"[:_LONG_STRING]
    title = _text(target, "SeriesDescription")[: max(_LONG_STRING - 1 - len(ending), 0)]
    target.SeriesDescription = f"{title} {ending}".strip()
    target.file_meta = file_meta(target, source.header.transfer_syntax)


def refer_to_source(target: Dataset, source: SourceImage, method: str, model_hash: str) -> None:
    """Write Source Image Sequence, Derivation Description and Derivation Code Sequence (PS3.3 C.12.4.1).

    The source alone is named: what it was derived from, it says itself. Its own description and codes, such as a lossy
    compression, stay before the new ones, which are steps in order. CID 7203 has no code for a change of grey levels,
    but may be extended.
    """
    item = Dataset()
    item.ReferencedSOPClassUID = source.sop_class_uid
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    item.SpatialLocationsPreserved = "YES"
    item.PurposeOfReferenceCodeSequence = [code("121322", "DCM", "Source image for image processing operation")]
    target.SourceImageSequence = [item]
    new = describe(method, model_hash)
    before = _text(target, "DerivationDescription")
    target.DerivationDescription = f"{before[: _SHORT_TEXT - 2 - len(new)]}; {new}" if before else new
    steps = list(target.get("DerivationCodeSequence") or [])
    target.DerivationCodeSequence = [*steps, code("harmonization", _SCHEME, "Grey level harmonization")]
    schemes = list(target.get("CodingSchemeIdentificationSequence") or [])
    if not any(scheme.get("CodingSchemeDesignator") == _SCHEME for scheme in schemes):
        scheme = Dataset()
        scheme.CodingSchemeDesignator, scheme.CodingSchemeName = _SCHEME, f"Codes of {SOFTWARE}"
        target.CodingSchemeIdentificationSequence = [*schemes, scheme]


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return value.strip() if isinstance(value, str) else ""


def add_equipment(target: Dataset, purpose: Dataset, method: str, model_hash: str) -> None:
    """Add this software to the Contributing Equipment Sequence (PS3.3 C.12.1.1.5)."""
    item = Dataset()
    item.Manufacturer = SOFTWARE
    item.ManufacturerModelName = SOFTWARE
    item.SoftwareVersions = __version__
    item.ContributionDescription = describe(method, model_hash)
    item.PurposeOfReferenceCodeSequence = [purpose]
    target.ContributingEquipmentSequence = [*(target.get("ContributingEquipmentSequence") or []), item]


def add_scanner(target: Dataset) -> None:
    """List the scanner as acquisition equipment, unless it is listed already or nobody knows its manufacturer."""
    items = list(target.get("ContributingEquipmentSequence") or [])
    purposes = [purpose for item in items for purpose in item.get("PurposeOfReferenceCodeSequence") or []]
    if any(purpose.get("CodeValue") == "109101" for purpose in purposes) or not target.get("Manufacturer"):
        return
    item = Dataset()
    for keyword in ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"):
        if target.get(keyword):
            item[keyword] = copy.deepcopy(target[keyword])
    item.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
    target.ContributingEquipmentSequence = [*items, item]


def file_meta(dataset: Dataset, syntax: UID) -> FileMetaDataset:
    """Make the File Meta Information (PS3.10 7.1), which names this package and not the library that writes."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = _IMPLEMENTATION
    meta.ImplementationVersionName = f"XRAYHARM_{__version__}"[:16]
    return meta
