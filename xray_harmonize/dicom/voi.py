"""The VOI stage of PS3.3 C.11.2: what the file says of which values are of interest, applied where it is asked for.

Modality values go in, the standard's "P-values before polarity" come out, here scaled to 16 bits:

* *Window*: the first one counts, since the others are alternatives. LINEAR carries the standard's half and one
  (C.11.2.1.2.1: a ramp of width ``w - 1`` around ``c - 0.5``), LINEAR_EXACT does not (C.11.2.1.3.2), SIGMOID is
  ``1 / (1 + exp(-4 (x - c) / w))`` (C.11.2.1.3.1), which never reaches black or white.
* *VOI LUT Sequence*: the first item counts. An entry of ``b`` bits, 8 to 16 as the third value of its descriptor says,
  is a fraction of ``2**b - 1``, whatever its largest entry is. Values before the first one mapped take the first entry,
  values behind the table the last one. A fractional modality value takes the entry of the nearest integer.

The first value mapped is a 16-bit number whose sign follows from what goes in, and writers get that wrong: of its two
readings, signed and not, that one is taken whose table meets more of the values that the header allows, and the one
written where they do not differ in that.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from xray_harmonize.dicom.grayscale import ModalityTransform, first_window, is_little_endian, lookup_table
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.windowing import window_values

VOI_BITS = 16
"""Bits of the pixels behind a VOI."""

VOI_CHOICES = ("none", "window", "lut", "auto")
"""What :func:`~xray_harmonize.dicom.read.read_dicom` may be asked for."""

_FULL_SCALE = (1 << VOI_BITS) - 1
_SEQUENCE = "VOI LUT Sequence (0028,3010)"


@dataclass(frozen=True)
class Voi:
    """The VOI stage of one file.

    Parameters
    ----------
    table : ndarray of uint16 of shape (2**bits,)
        Output of 16 bits for each level of the modality transform.
    source : str
        What it is and which tags it came from.
    """

    table: np.ndarray
    source: str


def check_voi(voi: str) -> None:
    """Raise InvalidParameterError unless ``voi`` is a choice there is."""
    if voi not in VOI_CHOICES:
        raise InvalidParameterError(f"voi must be one of {', '.join(map(repr, VOI_CHOICES))}; got {voi!r}.")


def voi_stage(dataset: Dataset, transform: ModalityTransform, voi: str, name: str) -> Voi | None:
    """Read the VOI stage that was asked for.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The file.
    transform : ModalityTransform
        What the levels mean.
    voi : {"none", "window", "lut", "auto"}
        The first window, the first VOI LUT, or ("auto") the LUT where there is one, else the window, else nothing: a
        writer that made a table had more to say than a window can.
    name : str
        What errors call the file.

    Returns
    -------
    Voi or None
        None where nothing is to be applied.

    Raises
    ------
    InvalidImageError
        The file has not got what was asked for, or it cannot be used.
    """
    if voi == "none":
        return None
    values = transform.modality_values()
    if not np.isfinite(values).all():
        raise InvalidImageError(
            f"{name}: the rescale gives modality values from {values[0]:g} to {values[-1]:g}, expected finite numbers "
            "to apply a window or VOI LUT to. Read it with voi='none'."
        )
    if voi == "lut" or (voi == "auto" and dataset.get("VOILUTSequence")):
        return _of_lut(dataset, values, name)
    window = first_window(dataset, name)
    if window is not None:
        shown = window_values(values, window.center, window.width, window.function)
        tags = "(0028,1050)(0028,1051)" + ("(0028,1056)" if dataset.get("VOILUTFunction") else "")
        source = f"{window.function} window, centre {window.center:g}, width {window.width:g} {tags}"
        return Voi(np.rint(shown * _FULL_SCALE).astype(np.uint16), source)
    if voi == "window":
        raise InvalidImageError(
            f"{name}: no usable Window Center (0028,1050) and Window Width (0028,1051), expected them with "
            "voi='window'. Read it with voi='auto' or 'none'."
        )
    return None


def _of_lut(dataset: Dataset, values: np.ndarray, name: str) -> Voi:
    sequence = dataset.get("VOILUTSequence")
    if not sequence:
        raise InvalidImageError(
            f"{name}: no {_SEQUENCE}, expected one with voi='lut'. Read it with voi='auto', 'window' or 'none'."
        )
    table, first, bits = lookup_table(sequence[0], name, _SEQUENCE, little_endian=is_little_endian(dataset))
    if not 8 <= bits <= VOI_BITS:
        raise InvalidImageError(
            f"{name}: the {_SEQUENCE} has entries of {bits} bits by its LUT Descriptor (0028,3002), expected 8 to 16; "
            "the header is damaged. Read it with voi='window' or 'none'."
        )
    needed = int(table.max()).bit_length()
    if needed > bits:
        warnings.warn(
            f"{name}: the {_SEQUENCE} has entries up to {int(table.max())}, expected at most {(1 << bits) - 1} as its "
            f"LUT Descriptor (0028,3002) says; they are taken for entries of {needed} bits. Look at the image.",
            XRayHarmonizeWarning,
            stacklevel=2,
        )
        bits = needed
    first = _first_value_mapped(first, len(table), values)
    place = np.clip(np.floor(values + 0.5) - first, 0, len(table) - 1).astype(np.intp)
    shown = np.rint(table * (_FULL_SCALE / ((1 << bits) - 1))).astype(np.uint16)[place]
    return Voi(shown, f"LUT of {len(table)} entries of {bits} bits from {first} (0028,3010)")


def _first_value_mapped(written: int, n_entries: int, values: np.ndarray) -> int:
    """Choose between the signed and the unsigned reading of a 16-bit number, see the head of this module."""
    unsigned = written & 0xFFFF
    signed = unsigned - 0x10000 if unsigned >= 0x8000 else unsigned

    def met(first: int) -> float:
        return min(first + n_entries - 1, math.floor(values[-1] + 0.5)) - max(first, math.floor(values[0] + 0.5))

    other = signed if written == unsigned else unsigned
    return other if met(other) > max(met(written), -1) else written
