"""How far apart pixels lie, and in which plane.

Pixel Spacing (0028,0030) is the distance a viewer should measure with. Imager Pixel Spacing (0018,1164) is the distance
on the detector: an object between tube and detector is magnified there, by Estimated Radiographic Magnification Factor
(0018,1114) if somebody knew it, so that distances in the object are smaller by that factor (PS3.3 C.8.11.5, 10.7.1.3).
Which one a spacing came from travels with it, as a reader of both must not take one for the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from xray_harmonize.dicom.exclusion import numbers

CALIBRATED = "PixelSpacing"
AT_OBJECT = "ImagerPixelSpacing / magnification"
AT_DETECTOR = "ImagerPixelSpacing"


@dataclass(frozen=True)
class Spacing:
    """Distances between neighbouring pixels.

    Parameters
    ----------
    row, column : float or None
        Distance between the centres of neighbouring rows and columns in mm.
    source : {"PixelSpacing", "ImagerPixelSpacing / magnification", "ImagerPixelSpacing"} or None
        Where they came from; None where the file does not tell.
    magnification : float or None
        Estimated Radiographic Magnification Factor as the file has it, used or not.
    """

    row: float | None
    column: float | None
    source: str | None
    magnification: float | None


def spacing_of(pixel: Sequence[float], imager: Sequence[float], magnification: Sequence[float]) -> Spacing:
    """Choose the spacing.

    Parameters
    ----------
    pixel, imager : sequence of float
        Values of Pixel Spacing and Imager Pixel Spacing, between rows first; empty where absent. Anything but two
        finite numbers above zero counts as absent: writers fill in zeros for what they do not know.
    magnification : sequence of float
        Value of Estimated Radiographic Magnification Factor; anything but one finite number above zero counts as
        absent.

    Returns
    -------
    Spacing

    Examples
    --------
    >>> spacing_of([], [0.15, 0.3], [1.25])
    Spacing(row=0.12, column=0.24, source='ImagerPixelSpacing / magnification', magnification=1.25)
    >>> spacing_of([0.0, 0.0], [0.2, 0.2], []).source
    'ImagerPixelSpacing'
    """
    factor = magnification[0] if len(magnification) == 1 and _is_distance(magnification[0]) else None
    for values, source in ((pixel, CALIBRATED), (imager, AT_OBJECT if factor else AT_DETECTOR)):
        divisor = factor if factor and source == AT_OBJECT else 1.0
        if len(values) == 2 and all(_is_distance(value / divisor) for value in values):
            return Spacing(values[0] / divisor, values[1] / divisor, source, factor)
    return Spacing(None, None, None, factor)


def read_spacing(dataset: Dataset) -> Spacing:
    """Read the spacing of a data set, see :func:`spacing_of`."""
    return spacing_of(
        numbers(dataset, "PixelSpacing"),
        numbers(dataset, "ImagerPixelSpacing"),
        numbers(dataset, "EstimatedRadiographicMagnificationFactor"),
    )


def _is_distance(value: float) -> bool:
    return math.isfinite(value) and value > 0
