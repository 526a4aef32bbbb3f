"""From stored values to unsigned levels in MONOCHROME2 polarity, and display windows in the same units.

The chain of PS3.3 C.11 is: stored value, modality LUT or rescale, VOI LUT, presentation polarity. Pixels of a
:class:`~xray_harmonize.radiograph.Radiograph` stand after the first of these and in the polarity of the last, counted
from the smallest value that the header allows, unless a VOI is asked for (:mod:`~xray_harmonize.dicom.voi`). With the
modality value ``m`` of a stored value ``v``:

* rescale, ``m = slope * v + intercept``: ``level = (m - m_min) / abs(slope)``, where ``m_min`` is the smallest ``m``
  that ``bits_stored`` bits can give. That is ``v - v_min`` for a positive slope and ``v_max - v`` for a negative one:
  an exact integer again, however negative or fractional ``m`` is, and with as many bits as were stored.
* modality LUT: ``level = m``, as many bits as its largest entry needs. The third value of the LUT descriptor is the
  width of an entry in the file (8 or 16), which says nothing of the range: real tables of 16 bits end at 1023.
* MONOCHROME1: ``level`` becomes ``2**bits - 1 - level``. By the nominal range, never by the image's maximum, so that
  two images of one scanner stay comparable.

The fraction ``level / (2**bits - 1)`` is therefore ``(m - m_min) / (m_max - m_min)``, whatever the encoding.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from xray_harmonize.dicom.header import PixelHeader
from xray_harmonize.exceptions import InvalidImageError, XRayHarmonizeWarning

VOI_LUT_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class ModalityTransform:
    """Stored values to levels, and modality values to the same scale.

    Parameters
    ----------
    bits : int
        Levels are unsigned integers of so many bits.
    first : int
        Stored value that is mapped to the first level (``slope`` given) or the first entry of ``table``.
    sign : int
        +1 if levels grow with stored values, -1 if they fall.
    offset, scale : float
        ``modality value = offset + scale * level``, with ``scale > 0``.
    table : ndarray, optional
        Modality LUT; stored values before and after it take its first and last entry (PS3.3 C.11.1.1).
    source : str
        What it is and which tags it came from.
    """

    bits: int
    first: int
    sign: int = 1
    offset: float = 0.0
    scale: float = 1.0
    table: np.ndarray | None = None
    source: str = "none"

    @property
    def full_scale(self) -> int:
        """Largest level."""
        return (1 << self.bits) - 1

    def modality_values(self) -> np.ndarray:
        """Modality value of each level, float64 of shape (2**bits,), rising."""
        with np.errstate(over="ignore", invalid="ignore"):  # a rescale beyond floats is for the caller to refuse
            return self.offset + self.scale * np.arange(1 << self.bits, dtype=np.float64)

    def levels(self, stored: np.ndarray) -> np.ndarray:
        """Map stored values to levels, uint8 up to 8 bits and uint16 above, in new memory."""
        dtype = np.uint8 if self.bits <= 8 else np.uint16
        if self.table is not None:
            place = np.clip(stored.astype(np.int32) - self.first, 0, len(self.table) - 1)
            return self.table.astype(dtype)[place]
        if self.sign > 0 and self.first == 0:
            return stored.astype(dtype)
        return (self.sign * (stored.astype(np.int32) - self.first)).astype(dtype)


def modality_transform(dataset: Dataset, header: PixelHeader, name: str) -> ModalityTransform:
    """Read the Modality LUT module (PS3.3 C.11.1) or the rescale attributes.

    Where a file has both, which the standard forbids, the table counts: writers add slope 1 and intercept 0 by habit.

    Raises
    ------
    InvalidImageError
        A slope of zero, numbers that are none, or a table that does not hold what its descriptor says.
    """
    sequence = dataset.get("ModalityLUTSequence")
    if sequence:
        what = "Modality LUT Sequence (0028,3000)"
        table, first, _ = lookup_table(sequence[0], name, what, little_endian=is_little_endian(dataset))
        return ModalityTransform(
            bits=max(int(table.max()).bit_length(), 1),
            first=header.in_pixel_representation(first),
            table=table,
            source="LUT (0028,3000)",
        )
    slope = _finite(dataset, "RescaleSlope", 1.0, name)
    intercept = _finite(dataset, "RescaleIntercept", 0.0, name)
    if slope == 0:
        raise InvalidImageError(
            f"{name}: RescaleSlope (0028,1053) is 0, expected another number; every pixel would be equal. "
            "Correct the header."
        )
    first = header.lowest if slope > 0 else header.highest
    tags = (("RescaleSlope", "(0028,1053)"), ("RescaleIntercept", "(0028,1052)"))
    told = "".join(tag for keyword, tag in tags if keyword in dataset)
    return ModalityTransform(
        header.bits_stored,
        first,
        sign=1 if slope > 0 else -1,
        offset=slope * first + intercept,
        scale=abs(slope),
        source=f"slope {slope:g}, intercept {intercept:g} {told}" if told else "none",
    )


def is_little_endian(dataset: Dataset) -> bool:
    """Tell the byte order that the data set was written in."""
    return dataset.original_encoding[1] is not False


def lookup_table(item: Dataset, name: str, what: str, *, little_endian: bool) -> tuple[np.ndarray, int, int]:
    """Read the entries of a LUT (PS3.3 C.11.1.1, C.11.2.1.1), whichever way they are packed.

    Entries of 16 bits fill a word each. Entries of 8 bits come one to a word or two, the earlier one in the lower
    byte (PS3.5 8.1.1), so that in a big-endian file the second byte is the first entry.

    Parameters
    ----------
    item : pydicom.Dataset
        Item of a Modality or VOI LUT Sequence.
    name, what : str
        What errors call the file and the sequence.
    little_endian : bool
        Byte order of the file.

    Returns
    -------
    table : ndarray of int64 of shape (n,)
        The entries.
    first : int
        First value mapped, as the file has it: its signedness is for the caller to know.
    bits : int
        Third value of the descriptor, unchecked.

    Raises
    ------
    InvalidImageError
        The item does not hold what its descriptor says.
    """
    try:
        n_entries, first, bits = (int(value) for value in item.LUTDescriptor)
        n_entries = n_entries & 0xFFFF or 65536  # 2**16 does not fit into 16 bits and is written as 0
        data = item.LUTData
        if isinstance(data, bytes):
            table = np.frombuffer(data + b"\0" * (len(data) % 2), "<u2" if little_endian else ">u2").astype(np.int64)
        else:
            table = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
        if len(table) < n_entries <= 2 * len(table) and bits <= 8:
            table = np.stack([table & 0xFF, table >> 8], axis=1).ravel()
        if len(table) < n_entries:
            raise ValueError(f"{len(table)} entries of {n_entries}")
    except Exception as error:  # a damaged element raises whatever its parser does
        raise InvalidImageError(
            f"{name}: the {what} cannot be used ({error}), expected as many LUT Data "
            "(0028,3006) as LUT Descriptor (0028,3002) says; the header is damaged."
        ) from error
    return table[:n_entries], first, bits


def is_inverted(dataset: Dataset, header: PixelHeader, name: str) -> bool:
    """Tell whether small values are bright.

    Photometric Interpretation decides. Presentation LUT Shape repeats it (PS3.3 C.8.11.3.1.2: INVERSE goes with
    MONOCHROME1, IDENTITY with MONOCHROME2), so the two together ask for one inversion, not for two; where they
    contradict each other, as some writers have it, Photometric Interpretation is the one that images rarely get wrong,
    and a warning says so.
    """
    inverted = header.photometric == "MONOCHROME1"
    shape = str(dataset.get("PresentationLUTShape", "") or "").strip().upper()
    if shape in ("IDENTITY", "INVERSE") and (shape == "INVERSE") != inverted:
        warnings.warn(
            f"{name}: PresentationLUTShape (2050,0020) {shape} contradicts {header.photometric}; "
            f"{header.photometric} is taken. Look at the image.",
            XRayHarmonizeWarning,
            stacklevel=2,
        )
    return inverted


@dataclass(frozen=True)
class DisplayWindow:
    """The first display window of a file."""

    center: float
    width: float
    function: str


def first_window(dataset: Dataset, name: str) -> DisplayWindow | None:
    """Read the first window (PS3.3 C.11.2.1.2), in modality values as the file has it.

    Returns
    -------
    DisplayWindow or None
        None where the file has no usable one; a width that the function is not defined for is warned about.
    """
    center, width = _first_number(dataset, "WindowCenter"), _first_number(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction", "") or "LINEAR").strip().upper()
    defined = function in VOI_LUT_FUNCTIONS and (width >= 1 if function == "LINEAR" else width > 0)
    if not defined:
        _warn_undefined(center, width, function, name)
        return None
    return DisplayWindow(center, width, function)


def display_window(
    dataset: Dataset, transform: ModalityTransform, *, inverted: bool, name: str
) -> DisplayWindow | None:
    """Read the first window and carry it along the way the pixels went.

    LINEAR is a ramp of width ``w - 1`` around ``c - 0.5`` (C.11.2.1.2.1); LINEAR_EXACT and SIGMOID are symmetric about
    ``c`` (C.11.2.1.3). Ramp and centre are what is scaled, shifted and mirrored, so that windowing the pixels returned
    shows the same picture as windowing the modality values and inverting.

    Returns
    -------
    DisplayWindow or None
        As :func:`first_window`, in units of the pixels.
    """
    window = first_window(dataset, name)
    if window is None:
        return None
    half, one = (0.5, 1.0) if window.function == "LINEAR" else (0.0, 0.0)
    middle = (window.center - half - transform.offset) / transform.scale
    if inverted:
        middle = transform.full_scale - middle
    center, width = middle + half, (window.width - one) / transform.scale + one
    if not (math.isfinite(center) and math.isfinite(width)):
        _warn_undefined(window.center, window.width, window.function, name)
        return None
    return DisplayWindow(center, width, window.function)


def _warn_undefined(center: float, width: float, function: str, name: str) -> None:
    warnings.warn(
        f"{name}: the display window (centre {center:g}, width {width:g}, {function[:16]!r}) is not defined; expected "
        f"one of {', '.join(VOI_LUT_FUNCTIONS)} with a positive width, at least 1 for LINEAR. It is left out.",
        XRayHarmonizeWarning,
        stacklevel=3,
    )


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    """Give the first value of an attribute as a finite number, else None."""
    try:
        value: Any = dataset.get(keyword)
        if value is not None and not isinstance(value, (str, int, float)):
            value = value[0]
        number = float(value)
    except Exception:  # absent, empty or unreadable alike: there is no number
        return None
    return number if math.isfinite(number) else None


def _finite(dataset: Dataset, keyword: str, default: float, name: str) -> float:
    if keyword not in dataset or dataset[keyword].is_empty:
        return default
    number = _first_number(dataset, keyword)
    if number is None:
        raise InvalidImageError(
            f"{name}: {keyword} is {str(dataset.get_item(keyword).value)[:40]!r}, expected a finite number; "
            "the header is damaged."
        )
    return number
