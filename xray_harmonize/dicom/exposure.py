"""How much radiation made an image: which attribute each number comes from, and which numbers cannot be true.

A header may tell the exposure in five ways, and devices fill in one or several of them, with different rounding and now
and then in the wrong unit. The rule here: take the finest, say which one it was, and where a value cannot be true, say
so and leave it as it is. Whoever analyses the values decides what becomes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

EXPOSURE_ATTRIBUTES = (
    "ExposureInuAs",
    "ExposureInmAs",
    "Exposure",
    "XRayTubeCurrent",
    "XRayTubeCurrentInmA",
    "XRayTubeCurrentInuA",
    "ExposureTime",
    "ExposureTimeInms",
    "ExposureTimeInuS",
)
"""Keywords of the attributes that :func:`exposure_of` looks at."""

# (keywords to be multiplied, factor to the unit of the column), the first that is there and positive counts
_MAS = (
    (("ExposureInuAs",), 1e-3),  # (0018,1153), microampere seconds
    (("ExposureInmAs",), 1.0),  # (0018,9332)
    (("Exposure",), 1.0),  # (0018,1152), whole milliampere seconds
    (("XRayTubeCurrent", "ExposureTime"), 1e-3),  # (0018,1151) in mA, (0018,1150) in ms
    (("XRayTubeCurrentInuA", "ExposureTimeInuS"), 1e-9),  # (0018,8151) in uA, (0018,8150) in us
)
_TUBE_CURRENT = (
    (("XRayTubeCurrentInuA",), 1e-3),
    (("XRayTubeCurrentInmA",), 1.0),  # (0018,9330)
    (("XRayTubeCurrent",), 1.0),
)
_EXPOSURE_TIME = (
    (("ExposureTimeInuS",), 1e-3),
    (("ExposureTimeInms",), 1.0),  # (0018,9328)
    (("ExposureTime",), 1.0),
)

PLAUSIBLE: dict[str, tuple[float, float]] = {
    "kvp": (40.0, 150.0),
    "mas": (0.1, 500.0),
    "tube_current_ma": (0.5, 1500.0),
    "exposure_time_ms": (0.5, 10_000.0),
    "exposure_index": (1.0, 100_000.0),
    "target_exposure_index": (1.0, 100_000.0),
    "deviation_index": (-20.0, 20.0),
    "relative_exposure": (1e-3, 100_000.0),
    "sensitivity": (1e-3, 100_000.0),
    "sid_mm": (250.0, 5000.0),
    "dap": (1e-5, 1000.0),
    "pixel_spacing_mm": (0.01, 1.0),
    "pixel_spacing_column_mm": (0.01, 1.0),
    "magnification": (0.9, 5.0),
    "age_years": (0.0, 120.0),
}
"""Smallest and largest value of a column, in its unit, that a projection radiograph can have."""

MAMMOGRAPHY_KVP = (20.0, 50.0)
"""Tube voltage of mammography (Modality MG), the high-energy exposure of contrast mammography included."""

# Columns whose unit devices get wrong by a factor of 1000 (V for kV, uAs for mAs, us for ms, m for mm)
_MISTAKABLE_UNITS = {"kvp", "mas", "tube_current_ma", "exposure_time_ms", "sid_mm"}
_SAME_WITHIN = 1.5


class Exposure(NamedTuple):
    """What :func:`exposure_of` finds; None where the header does not tell."""

    mas: float | None
    mas_source: str | None
    tube_current_ma: float | None
    tube_current_source: str | None
    exposure_time_ms: float | None
    exposure_time_source: str | None


def exposure_of(values: Mapping[str, float]) -> Exposure:
    """Tube current, exposure time and their product, with the attribute that each comes from.

    The product in mAs is the first of these that is there and positive: ExposureInuAs (0018,1153) / 1000,
    ExposureInmAs (0018,9332), Exposure (0018,1152), XRayTubeCurrent (0018,1151) x ExposureTime (0018,1150) / 1000,
    XRayTubeCurrentInuA (0018,8151) x ExposureTimeInuS (0018,8150) / 10**9. Current and time come from their attribute
    of finest unit. A zero counts only where nothing else is there: Exposure is a whole number, and short exposures are
    rounded down to it.

    Parameters
    ----------
    values : mapping of str to float
        Finite numbers by DICOM keyword (see :data:`EXPOSURE_ATTRIBUTES`); absent where the header has none.

    Returns
    -------
    Exposure
        Sources are keywords, a product ``"XRayTubeCurrent * ExposureTime"``.

    Examples
    --------
    >>> exposure_of({"Exposure": 71.0, "ExposureInuAs": 71400.0})[:2]
    (71.4, 'ExposureInuAs')
    >>> exposure_of({"Exposure": 0.0, "XRayTubeCurrent": 100.0, "ExposureTime": 4.0})[:2]
    (0.4, 'XRayTubeCurrent * ExposureTime')
    """
    return Exposure(
        *_first(values, _MAS),
        *_first(values, _TUBE_CURRENT),
        *_first(values, _EXPOSURE_TIME),
    )


def _first(
    values: Mapping[str, float], ways: tuple[tuple[tuple[str, ...], float], ...]
) -> tuple[float | None, str | None]:
    rest: tuple[float | None, str | None] = (None, None)
    for keywords, factor in ways:
        number = values.get(keywords[0])
        if number is None:
            continue
        if len(keywords) > 1:
            other = values.get(keywords[1])
            if other is None:
                continue
            number *= other
        # Divided where the unit is smaller: 71400 / 1000 is 71.4, 71400 * 0.001 is not
        value = number / round(1 / factor)
        if value > 0:
            return value, " * ".join(keywords)
        if rest[0] is None:
            rest = value, " * ".join(keywords)
    return rest


def implausible_values(acquisition: Mapping[str, Any]) -> str:
    """Name the values of an acquisition that cannot be true.

    Parameters
    ----------
    acquisition : mapping
        By the names of :data:`~xray_harmonize.dicom.acquisition.ACQUISITION_COLUMNS`; what is None or absent is left
        out.

    Returns
    -------
    str
        Names of columns with a value outside of :data:`PLAUSIBLE`, separated by commas, in the order of that table;
        empty if there is none. A name is followed by ``*1000`` where the value looks 1000 times too large, as where
        microampere seconds stand in an attribute for milliampere seconds, and by ``/1000`` where it looks 1000 times
        too small: dividing (or multiplying) by 1000 makes it plausible, and for mAs, the product of tube current and
        time, if there is one, says the same.

    Examples
    --------
    >>> implausible_values({"kvp": 85.0, "mas": 2500.0, "sid_mm": 180.0})
    'mas*1000,sid_mm'
    >>> implausible_values({"modality": "MG", "kvp": 28.0, "mas": 71.4})
    ''
    """
    names = []
    for column, (lowest, highest) in PLAUSIBLE.items():
        value = acquisition.get(column)
        if value is None:
            continue
        if column == "kvp" and acquisition.get("modality") == "MG":
            lowest, highest = MAMMOGRAPHY_KVP
        if column == "mas":
            name = _doubt_about_mas(acquisition, value, lowest, highest)
        elif lowest <= value <= highest:
            continue
        else:
            name = f"{column}{_factor(column, value, lowest, highest)}"
        if name:
            names.append(name)
    return ",".join(names)


def _factor(column: str, value: float, lowest: float, highest: float) -> str:
    if column not in _MISTAKABLE_UNITS:
        return ""
    if lowest <= value / 1000 <= highest:
        return "*1000"
    return "/1000" if lowest <= value * 1000 <= highest else ""


def _doubt_about_mas(acquisition: Mapping[str, Any], mas: float, lowest: float, highest: float) -> str:
    """Compare with current x time where both are there: an outlier by 1000 may lie inside of the plausible range."""
    current, time = acquisition.get("tube_current_ma"), acquisition.get("exposure_time_ms")
    product = current * time / 1000 if current and time else None
    plausible = lowest <= mas <= highest
    if product is None or not lowest <= product <= highest:
        return "" if plausible else f"mas{_factor('mas', mas, lowest, highest)}"
    if 1000 / _SAME_WITHIN < mas / product < 1000 * _SAME_WITHIN:
        return "mas*1000"
    if 1 / (1000 * _SAME_WITHIN) < mas / product < _SAME_WITHIN / 1000:
        return "mas/1000"
    return "" if plausible else "mas"
