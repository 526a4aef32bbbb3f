"""From stored values to unsigned levels in MONOCHROME2 polarity, and display windows in the same units.

The chain of PS3.3 C.11 is: stored value, modality LUT or rescale, VOI LUT, presentation polarity. Pixels of a
:class:`~xray_harmonize.radiograph.Radiograph` stand after the first of these and in the polarity of the last, counted
from the smallest value that the header allows. With the modality value ``m`` of a stored value ``v``:

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
    """

    bits: int
    first: int
    sign: int = 1
    offset: float = 0.0
    scale: float = 1.0
    table: np.ndarray | None = None

    @property
    def full_scale(self) -> int:
        """Largest level."""
        return (1 << self.bits) - 1

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
        little_endian = dataset.original_encoding[1] is not False
        table, first = _modality_table(sequence[0], header, name, little_endian=little_endian)
        return ModalityTransform(max(int(table.max()).bit_length(), 1), first, table=table)
    slope = _finite(dataset, "RescaleSlope", 1.0, name)
    intercept = _finite(dataset, "RescaleIntercept", 0.0, name)
    if slope == 0:
        raise InvalidImageError(
            f"{name}: RescaleSlope (0028,1053) is 0, expected another number; every pixel would be equal. "
            "Correct the header."
        )
    first = header.lowest if slope > 0 else header.highest
    return ModalityTransform(
        header.bits_stored,
        first,
        sign=1 if slope > 0 else -1,
        offset=slope * first + intercept,
        scale=abs(slope),
    )


def _modality_table(item: Dataset, header: PixelHeader, name: str, *, little_endian: bool) -> tuple[np.ndarray, int]:
    """Entries and first mapped value of a LUT (PS3.3 C.11.1.1), whichever way they are packed."""
    try:
        n_entries, first, _ = (int(value) for value in item.LUTDescriptor)
        n_entries = n_entries or 65536  # 2**16 does not fit into 16 bits and is written as 0
        data = item.LUTData
        if isinstance(data, bytes):
            # PS3.5 A.2: byte order is the file's; entries of 8 bits come one or two to a word
            order = "<" if little_endian else ">"
            dtype = f"{order}u2" if len(data) >= 2 * n_entries else "u1"
            table = np.frombuffer(data, dtype).astype(np.int64)
        else:
            table = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
        if len(table) < n_entries:
            raise ValueError(f"{len(table)} entries of {n_entries}")
    except Exception as error:  # a damaged element raises whatever its parser does
        raise InvalidImageError(
            f"{name}: the Modality LUT Sequence (0028,3000) cannot be used ({error}), expected as many LUT Data "
            "(0028,3006) as LUT Descriptor (0028,3002) says; the header is damaged."
        ) from error
    return table[:n_entries], header.in_pixel_representation(first)


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
    """The first display window of a file, in units of the pixels returned."""

    center: float
    width: float
    function: str


def display_window(
    dataset: Dataset, transform: ModalityTransform, *, inverted: bool, name: str
) -> DisplayWindow | None:
    """Read the first window (PS3.3 C.11.2.1.2) and carry it along the way the pixels went.

    LINEAR is a ramp of width ``w - 1`` around ``c - 0.5`` (C.11.2.1.2.1); LINEAR_EXACT and SIGMOID are symmetric about
    ``c`` (C.11.2.1.3). Ramp and centre are what is scaled, shifted and mirrored, so that windowing the pixels returned
    shows the same picture as windowing the modality values and inverting.

    Returns
    -------
    DisplayWindow or None
        None where the file has no usable one; a width that the function is not defined for is warned about.
    """
    center, width = _first_number(dataset, "WindowCenter"), _first_number(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction", "") or "LINEAR").strip().upper()
    half, one = (0.5, 1.0) if function == "LINEAR" else (0.0, 0.0)
    middle = (center - half - transform.offset) / transform.scale
    if inverted:
        middle = transform.full_scale - middle
    new_center, new_width = middle + half, (width - one) / transform.scale + one
    defined = function in VOI_LUT_FUNCTIONS and (width >= 1 if function == "LINEAR" else width > 0)
    if not (defined and math.isfinite(new_center) and math.isfinite(new_width)):
        warnings.warn(
            f"{name}: the display window (centre {center:g}, width {width:g}, {function}) is not defined; expected "
            f"one of {', '.join(VOI_LUT_FUNCTIONS)} with a positive width, at least 1 for LINEAR. It is left out.",
            XRayHarmonizeWarning,
            stacklevel=2,
        )
        return None
    return DisplayWindow(new_center, new_width, function)


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
