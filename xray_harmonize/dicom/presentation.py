"""Harmonization without touching a pixel: tone curves as VOI LUTs, in a copy or in a presentation state.

A tone curve takes the fraction of full scale that :func:`~xray_harmonize.dicom.read.read_dicom` gives, behind the
modality transform and in MONOCHROME2 polarity. The standard's VOI stage stands between these two (PS3.3 C.11), so the
curve is carried back over the polarity: with the modality value ``m``, its fraction ``f`` of the nominal range, and a
viewer that turns MONOCHROME1 round behind the VOI LUT, the LUT is

* ``curve(f)`` for MONOCHROME2,
* ``1 - curve(1 - f)`` for MONOCHROME1.

A VOI LUT has one entry for every integer (C.11.2.1.1). A copy can therefore hold an exact one only where modality
values are integers and at most 65,536 lie between the smallest and the largest; others are refused.

A presentation state replaces all stages of the image, its modality transform and its Photometric Interpretation too
(PS3.4 N.2.1). Its LUT is written over stored values, counted from the smallest, and gives P-values: exact for every
image, whatever its slope, LUT, sign or polarity.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from fractions import Fraction
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from xray_harmonize import __version__
from xray_harmonize.dicom.derivation import (
    SOFTWARE,
    SourceImage,
    add_equipment,
    check_method,
    code,
    derived_uid,
    file_meta,
    name_instance,
    refer_to_source,
    source_image,
)
from xray_harmonize.dicom.exclusion import numbers
from xray_harmonize.dicom.grayscale import is_little_endian
from xray_harmonize.dicom.header import damage_named
from xray_harmonize.dicom.invalidated import SIGNATURES, remove
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.tone import ToneCurve

_FULL_SCALE = 65535
_VOI = ("VOILUTSequence", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
_SERIES_STEP, _STATE_SERIES_STEP = 2000, 3000
_DATES = ("Content", "Acquisition", "Series", "Study")
_NO_DATE = datetime(1900, 1, 1)
_SHUTTER = (
    "ShutterShape",
    "ShutterLeftVerticalEdge",
    "ShutterRightVerticalEdge",
    "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge",
    "CenterOfCircularShutter",
    "RadiusOfCircularShutter",
    "VerticesOfThePolygonalShutter",
    "ShutterPresentationValue",
)


def voi_lut_copy(
    source: Dataset | str | os.PathLike[str], curve: ToneCurve, *, method: str, model_hash: str
) -> Dataset:
    """Copy an image with a tone curve as its only VOI LUT, its pixel data byte for byte as they were.

    The copy is a new instance, in a new series, that refers to its source. Image Type stays, ORIGINAL too: its first
    value speaks of pixel values (PS3.3 C.7.6.1.1.2), and these are the same. Windows and VOI LUTs of the source go,
    signatures too.

    Parameters
    ----------
    source : path-like or pydicom.Dataset
        The image, which is not changed.
    curve : ToneCurve
        Over the fraction of full scale that :func:`~xray_harmonize.dicom.read.read_dicom` gives.
    method, model_hash : str
        As in :func:`~xray_harmonize.dicom.write.derived_dicom`.

    Returns
    -------
    pydicom.Dataset
        Ready for :func:`~xray_harmonize.dicom.write.write_dicom_file`, in the transfer syntax of the source.

    Raises
    ------
    ImageReadError, InvalidImageError
        The source cannot be read; its modality values are no integers, or too many, for a VOI LUT to hold the curve;
        or it is FOR PROCESSING, which has no VOI LUT.
    InvalidParameterError
        ``curve`` is no ToneCurve, or a text cannot be written.
    """
    image = _checked(source, curve, method, model_hash)
    intent = str(image.dataset.get("PresentationIntentType", "") or "").strip().upper()
    if intent == "FOR PROCESSING":
        raise InvalidImageError(
            f"{image.name}: PresentationIntentType (0008,0068) is FOR PROCESSING, expected an image to be shown; a raw "
            "image has no VOI LUT (PS3.3 C.8.11.3). Write a derived image or a presentation state."
        )
    first, table = _over_modality_values(image, curve)
    with damage_named(image.name):
        result = image.copy()
        remove(result, _VOI + SIGNATURES)
        name_instance(result, image, method, model_hash, "voi lut copy", _SERIES_STEP)
        refer_to_source(result, image, method, model_hash)
        add_equipment(result, code("109103", "DCM", "Modifying Equipment"), method, model_hash)
        if "PresentationLUTShape" in result:
            # The LUT is made for this polarity: a shape that contradicts it would turn the picture round
            result.PresentationLUTShape = "INVERSE" if image.inverted else "IDENTITY"
        little_endian = is_little_endian(image.dataset)
        result.VOILUTSequence = [_lut_item(first, table, _explanation(method, model_hash), little_endian)]
    return result


def presentation_state(
    source: Dataset | str | os.PathLike[str],
    curve: ToneCurve,
    *,
    method: str,
    model_hash: str,
    created: datetime | None = None,
) -> Dataset:
    """Make a Grayscale Softcopy Presentation State that shows an image through a tone curve.

    Parameters
    ----------
    source : path-like or pydicom.Dataset
        The image that the state refers to; it is neither changed nor copied.
    curve : ToneCurve
        Over the fraction of full scale that :func:`~xray_harmonize.dicom.read.read_dicom` gives.
    method, model_hash : str
        As in :func:`~xray_harmonize.dicom.write.derived_dicom`.
    created : datetime, optional
        Presentation Creation Date and Time, which a state must have. None takes the first date that the image has
        (content, acquisition, series, study), 1900-01-01 where it has none, so that two runs write the same bytes.

    Returns
    -------
    pydicom.Dataset
        Ready for :func:`~xray_harmonize.dicom.write.write_dicom_file`. Patient and study are those of the image; what
        the standard wants there and the image lacks is empty. No person is named as its creator.

    Raises
    ------
    ImageReadError, InvalidImageError
        The source cannot be read, belongs to no study or series, or its SOP class is none of the standard.
    InvalidParameterError
        ``curve`` is no ToneCurve, or a text cannot be written.

    References
    ----------
    DICOM PS3.3 A.33.1, C.11.1, C.11.6, C.11.8, C.11.10; PS3.4 N.2.1.
    """
    image = _checked(source, curve, method, model_hash)
    with damage_named(image.name):
        for keyword, tag in (("StudyInstanceUID", "(0020,000D)"), ("SeriesInstanceUID", "(0020,000E)")):
            if not image.dataset.get(keyword):
                raise InvalidImageError(
                    f"{image.name}: no {keyword} {tag}, expected one; a presentation state refers to its image by "
                    "study and series. Give it one with a DICOM toolkit, or write a derived image."
                )
        state = _state(image, _over_stored_values(image, curve), method, model_hash)
        moment = created or _date_of(image.dataset)
        state.PresentationCreationDate = moment.strftime("%Y%m%d")
        state.PresentationCreationTime = moment.strftime("%H%M%S")
        state.SeriesDescription = f"harmonized ({method})"[:64]
        remove(state, ("InstanceCreationDate", "InstanceCreationTime"))
        for item in state.get("ContributingEquipmentSequence") or []:  # highdicom names itself, and the time
            remove(item, ("ContributionDateTime",))
        side = str(image.dataset.get("Laterality") or image.dataset.get("ImageLaterality") or "")
        state.Laterality = side if side in ("L", "R") else ""  # type 2C of the series
        ratio = _aspect_ratio(image.dataset)
        state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio = ratio
        shape = image.dataset.get("ShutterShape")
        if shape and "BITMAP" not in shape:
            # A state without a shutter shows the image without its own (PS3.4 N.2.2)
            for keyword in _SHUTTER:
                if keyword in image.dataset:
                    state[keyword] = image.dataset[keyword]
        add_equipment(state, code("109102", "DCM", "Processing Equipment"), method, model_hash)
    state.file_meta = file_meta(state, ExplicitVRLittleEndian)
    return state


def _checked(source: Dataset | str | os.PathLike[str], curve: ToneCurve, method: str, model_hash: str) -> SourceImage:
    check_method(method, model_hash)
    if not isinstance(curve, ToneCurve):
        raise InvalidParameterError(
            f"curve must be a ToneCurve over the fraction of full scale; got {type(curve).__name__}. "
            "Take it from tone_curves(X) of a harmonizer."
        )
    return source_image(source)


def _explanation(method: str, model_hash: str) -> str:
    return f"{method[:40]}, model {model_hash[:16]}"


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    return np.rint(values * _FULL_SCALE).astype(np.uint16)


def _over_modality_values(image: SourceImage, curve: ToneCurve) -> tuple[int, np.ndarray]:
    """First modality value and VOI LUT entries from there on, before the polarity."""
    transform = image.transform
    n_entries = transform.scale * transform.full_scale + 1
    whole = float(transform.offset).is_integer() and float(transform.scale).is_integer()
    # The first value mapped is a number of 16 bits, signed where it must be
    if not whole or n_entries > _FULL_SCALE + 1 or not -32768 <= transform.offset <= _FULL_SCALE:
        largest = transform.offset + transform.scale * transform.full_scale
        raise InvalidImageError(
            f"{image.name}: modality values run from {transform.offset:g} to {largest:g} in steps of "
            f"{transform.scale:g}, expected integers, at most 65536 of them from -32768 on: a VOI LUT has one entry "
            "for each (PS3.3 C.11.2.1.1). Write a presentation state, which has a modality transform of its own."
        )
    table = _sixteen_bits(curve.table(int(n_entries)))
    return int(transform.offset), np.subtract(_FULL_SCALE, table[::-1], dtype=np.uint16) if image.inverted else table


def _over_stored_values(image: SourceImage, curve: ToneCurve) -> np.ndarray:
    """P-value of 16 bits for each stored value, from the smallest that the header allows."""
    transform = image.transform
    stored = np.arange(image.header.lowest, image.header.highest + 1, dtype=np.int32)
    levels = transform.levels(stored).astype(np.int64)
    shown = transform.full_scale - levels if image.inverted else levels
    return _sixteen_bits(curve.table(transform.full_scale + 1))[shown]


def _lut_item(first: int, table: np.ndarray, explanation: str, little_endian: bool) -> Dataset:
    item = Dataset()
    # All three values share one VR, but the first is unsigned whatever it is, and 0 stands for 65,536
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table) % (_FULL_SCALE + 1), first, 16])
    item.LUTExplanation = explanation
    # As words: US has a length of 16 bits in explicit VR, which 32,768 entries do not fit into
    item.add_new("LUTData", "OW", table.astype("<u2" if little_endian else ">u2").tobytes())
    return item


def _state(image: SourceImage, table: np.ndarray, method: str, model_hash: str) -> Dataset:
    from highdicom import VOILUT, ModalityLUTTransformation
    from highdicom.pr import GrayscaleSoftcopyPresentationState, SoftcopyVOILUTTransformation

    series = str(image.dataset.SeriesInstanceUID)
    voi = VOILUT(first_mapped_value=0, lut_data=table, lut_explanation=_explanation(method, model_hash))
    intercept = float(-image.header.lowest)
    rescale = ModalityLUTTransformation(rescale_intercept=intercept, rescale_slope=1.0, rescale_type="US")
    try:
        state: Dataset = GrayscaleSoftcopyPresentationState(
            referenced_images=[_reference(image)],
            series_instance_uid=derived_uid(series, model_hash, "presentation state, series"),
            series_number=_number(image.dataset, "SeriesNumber", 0) + _STATE_SERIES_STEP,
            sop_instance_uid=derived_uid(image.sop_instance_uid, model_hash, "presentation state, instance"),
            instance_number=_number(image.dataset, "InstanceNumber", 1),
            manufacturer=SOFTWARE,
            manufacturer_model_name=SOFTWARE,
            software_versions=__version__,
            device_serial_number=None,
            content_label="HARMONIZED",
            content_description=_explanation(method, model_hash),
            modality_lut_transformation=rescale,
            voi_lut_transformations=[SoftcopyVOILUTTransformation(voi_luts=[voi])],
        )
        # What the image says of patient and study, faults included: the state belongs to the same ones
        state.copy_patient_and_study_information(image.dataset)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InvalidImageError(
            f"{image.name}: no presentation state can refer to it ({type(error).__name__}: {error}), expected an image "
            "of a storage SOP class of the standard. Write a derived image."
        ) from error
    if "SpecificCharacterSet" in image.dataset:
        state.SpecificCharacterSet = image.dataset.SpecificCharacterSet
    return state


def _reference(image: SourceImage) -> Dataset:
    """Make the least that a state needs to know of its image; patient and study are copied afterwards, unchecked."""
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID = image.sop_class_uid, image.sop_instance_uid
    item.StudyInstanceUID = image.dataset.StudyInstanceUID
    item.SeriesInstanceUID = image.dataset.SeriesInstanceUID
    item.SamplesPerPixel, item.Rows, item.Columns = 1, image.header.rows, image.header.columns
    # Type 2: may be empty, must be there
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(item, keyword, "")
    item.StudyDate = item.StudyTime = item.ReferringPhysicianName = None
    return item


def _number(dataset: Dataset, keyword: str, least: int) -> int:
    """Read a number of the series or instance, ``least`` where there is none as large."""
    values = numbers(dataset, keyword)
    return max(int(values[0]), least) if values and values[0] < 2**30 else least


def _aspect_ratio(dataset: Dataset) -> list[int]:
    """Height to width of a pixel (PS3.3 C.10.4), 1:1 where nothing tells."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"):
        values: Any = numbers(dataset, keyword)
        if len(values) == 2 and min(values) > 0:
            ratio = Fraction(values[0] / values[1]).limit_denominator(1000)
            return [ratio.numerator, ratio.denominator] if ratio else [1, 1]
    return [1, 1]


def _date_of(dataset: Dataset) -> datetime:
    for kind in _DATES:
        date = re.sub(r"\D", "", str(dataset.get(f"{kind}Date", "") or ""))
        time = re.sub(r"\..*|\D", "", str(dataset.get(f"{kind}Time", "") or "").replace(":", ""))
        for text, layout in ((date + time[:6], "%Y%m%d%H%M%S"), (date, "%Y%m%d")):
            try:
                return datetime.strptime(text, layout)
            except ValueError:  # no date, or none of this layout
                continue
    return _NO_DATE
