"""Which grey levels are body: foreground by level, so that it costs nothing beyond the histogram.

In MONOCHROME2 air is dark. Half an image of air would otherwise decide what its histogram looks like: matching a
histogram with 50 % zeros sends zero to the reference's median.
"""

from __future__ import annotations

import numpy as np

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.levels import histogram
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.thresholding import otsu_levels

FOREGROUNDS = ("all", "nonzero", "otsu")


def check_foreground(foreground: str | float) -> None:
    """Refuse a foreground that is neither a known word nor a fraction of full scale.

    Raises
    ------
    InvalidParameterError
    """
    if isinstance(foreground, str):
        if foreground not in FOREGROUNDS:
            raise InvalidParameterError(
                f"foreground must be one of {', '.join(map(repr, FOREGROUNDS))}, or a fraction of full scale; "
                f"got {foreground!r}."
            )
    elif not 0 <= foreground < 1:
        raise InvalidParameterError(f"foreground as a fraction of full scale must lie in [0, 1); got {foreground!r}.")


def foreground_counts(radiograph: Radiograph, foreground: str | float) -> np.ndarray:
    """Histogram of an image inside its mask and its foreground.

    Parameters
    ----------
    radiograph : Radiograph
    foreground : {"all", "nonzero", "otsu"} or float
        Every pixel; those above zero; those above Otsu's level; those above this fraction of full scale. Where nothing
        is left above, every pixel counts.

    Returns
    -------
    ndarray of int64 of shape (n_levels,)

    Raises
    ------
    InvalidImageError
        As :func:`xray_harmonize.levels.histogram`.
    """
    counts = histogram(radiograph.pixels, radiograph.bits_stored, radiograph.mask)
    if foreground == "all":
        return counts
    if isinstance(foreground, str):
        last_of_air = 0 if foreground == "nonzero" else otsu_levels(counts)[0]
    else:
        last_of_air = int(foreground * (counts.size - 1))
    body = counts.copy()
    body[: last_of_air + 1] = 0
    return body if body.any() else counts
