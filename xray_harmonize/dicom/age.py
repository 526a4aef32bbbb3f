"""The age of a patient, as DICOM headers and tables write it."""

from __future__ import annotations

import re

_AGE = re.compile(r"(\d{1,3})([DWMY]?)")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0, "": 1.0}


def age_in_years(text: str | None) -> float | None:
    """Read an Age String (PS3.5 6.2), or a plain number of years, as many files have it.

    Parameters
    ----------
    text : str or None
        Such as ``"051Y"``, ``"018M"`` or ``"51"``.

    Returns
    -------
    float or None
        Years; None if the text is no age.

    Examples
    --------
    >>> age_in_years("051Y"), age_in_years("018M"), age_in_years("51"), age_in_years("unknown")
    (51.0, 1.5, 51.0, None)
    """
    match = _AGE.fullmatch((text or "").strip().upper())
    return int(match[1]) / _PER_YEAR[match[2]] if match else None
