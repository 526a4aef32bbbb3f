"""Which scanner made an image: a label from vendor and model, or from the traits of the image where these are removed.

Collections for research often lack the names of the vendors. What is left still tells devices apart: the matrix and the
spacing of the detector, the bits it stores, and which of the exposure attributes its software fills in. A label made of
these is called an acquisition group, since it stands for a way to acquire, not for a device: two devices of one model
share it, and one device with two settings may have two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xray_harmonize.exceptions import InvalidParameterError

SCANNER_PARTS = ("vendor", "model", "detector_id", "device_serial")
"""Columns that a scanner label can be made of."""

_NAMED = {"detector_id": "detector", "device_serial": "serial"}
# What a device fills in or leaves out, under the short name that a group has for it
_TRACES = {
    "exposure_index": "EI",
    "deviation_index": "DI",
    "relative_exposure": "REX",
    "sensitivity": "S",
    "kvp": "kVp",
    "mas": "mAs",
    "dap": "DAP",
}


def scanner_label(
    acquisition: Mapping[str, Any],
    *,
    by: Sequence[str] = ("vendor", "model"),
    overrides: Mapping[str | tuple[str, str], str] | None = None,
) -> str:
    """Name the scanner of an image.

    Parameters
    ----------
    acquisition : mapping
        As :func:`~xray_harmonize.dicom.acquisition.read_acquisition` gives it.
    by : sequence of str, default=("vendor", "model")
        Columns that the label is made of, of "vendor", "model", "detector_id" and "device_serial". With the latter two,
        devices of one model are told apart.
    overrides : mapping, optional
        Labels of your own. A key is the label that would be given, or a pair of vendor (or manufacturer as in the file)
        and model; letter case does not matter. The label is looked up first, so that one device can be named among all
        of its model.

    Returns
    -------
    str
        Such as ``"GE Senographe Essential"`` or ``"GE Senographe Essential [serial 123]"``; the acquisition group where
        neither vendor nor model (as far as asked for) is known.

    Raises
    ------
    InvalidParameterError
        ``by`` is empty or names another column; a key of ``overrides`` is neither a text nor a pair of texts.

    See Also
    --------
    acquisition_group : The label of images without vendor.

    Examples
    --------
    >>> acquisition = {"vendor": "Canon", "model": "CXDI-70C", "detector_id": "14a"}
    >>> scanner_label(acquisition), scanner_label(acquisition, by=("model", "detector_id"))
    ('Canon CXDI-70C', 'CXDI-70C [detector 14a]')
    >>> scanner_label(acquisition, overrides={("Canon", "CXDI-70C"): "room 3"})
    'room 3'
    """
    unknown = [part for part in by if part not in SCANNER_PARTS]
    if isinstance(by, str) or unknown or not by:
        raise InvalidParameterError(
            f"scanner_label: by is {by!r}, expected one or more of {', '.join(SCANNER_PARTS)} in a tuple. Name these."
        )
    vendor, model = acquisition.get("vendor"), acquisition.get("model")
    names = [acquisition[part] for part in ("vendor", "model") if part in by and acquisition.get(part)]
    if vendor and model and len(names) == 2 and str(model).casefold().startswith(f"{vendor} ".casefold()):
        names = [model]
    details = [f"[{_NAMED[part]} {acquisition[part]}]" for part in _NAMED if part in by and acquisition.get(part)]
    label = " ".join([*(names or [acquisition_group(acquisition)]), *details])
    if not overrides:
        return label
    chosen = _lower_case(overrides)
    pairs = [_pair(name, model) for name in (vendor, acquisition.get("manufacturer"))]
    return next((chosen[key] for key in (label.casefold(), *pairs) if key in chosen), label)


def acquisition_group(acquisition: Mapping[str, Any]) -> str:
    """Name the way an image was acquired, from what is left when the vendor's tags are removed.

    Parameters
    ----------
    acquisition : mapping
        As :func:`~xray_harmonize.dicom.acquisition.read_acquisition` gives it.

    Returns
    -------
    str
        Matrix (the longer side first, since a detector turned by 90 degrees is the same detector), spacing between rows
        in mm, bits stored, ``portable`` or ``fixed`` where that is known, ``mono1`` for MONOCHROME1, and the exposure
        attributes with a value: EI (ExposureIndex), DI (DeviationIndex), REX (RelativeXRayExposure), S (Sensitivity),
        kVp, mAs, DAP (dose area product); ``bare`` where there is none.

    Examples
    --------
    >>> acquisition_group({"rows": 3056, "columns": 2544, "pixel_spacing_mm": 0.139, "bits_stored": 12,
    ...                    "portable": False, "photometric": "MONOCHROME2", "exposure_index": 410.0, "kvp": 90.0})
    '3056x2544 0.139mm 12bit fixed EI+kVp'
    """
    sides = sorted((acquisition.get("rows") or 0, acquisition.get("columns") or 0), reverse=True)
    parts = [f"{sides[0]}x{sides[1]}"]
    spacing = acquisition.get("pixel_spacing_mm")
    if spacing is not None:
        parts.append(f"{spacing:.3f}mm")
    parts.append(f"{acquisition.get('bits_stored')}bit")
    portable = acquisition.get("portable")
    if portable is not None:
        parts.append("portable" if portable else "fixed")
    if acquisition.get("photometric") == "MONOCHROME1":
        parts.append("mono1")
    parts.append("+".join(short for column, short in _TRACES.items() if acquisition.get(column) is not None) or "bare")
    return " ".join(parts)


def _lower_case(overrides: Mapping[str | tuple[str, str], str]) -> dict[str | tuple[str, str], str]:
    chosen: dict[str | tuple[str, str], str] = {}
    for key, label in overrides.items():
        if isinstance(key, str):
            chosen[key.casefold()] = label
        elif isinstance(key, tuple) and len(key) == 2:
            chosen[_pair(*key)] = label
        else:
            raise InvalidParameterError(
                f"scanner_label: overrides has the key {key!r}, expected a label or a pair of vendor and model."
                " Correct the key."
            )
    return chosen


def _pair(vendor: Any, model: Any) -> tuple[str, str]:
    return str(vendor or "").casefold(), str(model or "").casefold()
