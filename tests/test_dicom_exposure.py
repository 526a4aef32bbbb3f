"""Exposure by the precedence of its attributes, and values that cannot be true."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.dicom.exposure import EXPOSURE_ATTRIBUTES, PLAUSIBLE, exposure_of, implausible_values

# Each tells another exposure, so that the value gives away where it came from
ALL = {
    "ExposureInuAs": 1100.0,
    "ExposureInmAs": 2.2,
    "Exposure": 3.0,
    "XRayTubeCurrent": 200.0,
    "ExposureTime": 20.0,
    "XRayTubeCurrentInuA": 250_000.0,
    "ExposureTimeInuS": 20_000.0,
}


@pytest.mark.parametrize(
    ("n_absent", "mas", "source"),
    [
        (0, 1.1, "ExposureInuAs"),
        (1, 2.2, "ExposureInmAs"),
        (2, 3.0, "Exposure"),
        (3, 4.0, "XRayTubeCurrent * ExposureTime"),
        (4, 5.0, "XRayTubeCurrentInuA * ExposureTimeInuS"),
        (5, 5.0, "XRayTubeCurrentInuA * ExposureTimeInuS"),
        (6, None, None),
        (7, None, None),
    ],
)
def test_exposure_is_taken_by_precedence(n_absent: int, mas: float | None, source: str | None) -> None:
    exposure = exposure_of(dict(list(ALL.items())[n_absent:]))
    assert exposure.mas == pytest.approx(mas)
    assert exposure.mas_source == source


@pytest.mark.parametrize(
    ("values", "current", "time"),
    [
        (ALL, (250.0, "XRayTubeCurrentInuA"), (20.0, "ExposureTimeInuS")),
        (
            {"XRayTubeCurrentInmA": 12.5, "XRayTubeCurrent": 13.0, "ExposureTimeInms": 4.5, "ExposureTime": 5.0},
            (12.5, "XRayTubeCurrentInmA"),
            (4.5, "ExposureTimeInms"),
        ),
        ({"XRayTubeCurrent": 13.0, "ExposureTime": 5.0}, (13.0, "XRayTubeCurrent"), (5.0, "ExposureTime")),
        ({}, (None, None), (None, None)),
    ],
)
def test_current_and_time_come_from_their_finest_attribute(
    values: dict[str, float], current: tuple[Any, Any], time: tuple[Any, Any]
) -> None:
    exposure = exposure_of(values)
    assert (exposure.tube_current_ma, exposure.tube_current_source) == current
    assert (exposure.exposure_time_ms, exposure.exposure_time_source) == time


def test_zero_gives_way_to_a_positive_value_and_stays_where_there_is_none() -> None:
    assert exposure_of({"ExposureInuAs": 0.0, "Exposure": 0.0, "XRayTubeCurrent": 100.0, "ExposureTime": 4.0})[:2] == (
        0.4,
        "XRayTubeCurrent * ExposureTime",
    )
    assert exposure_of({"ExposureInuAs": 0.0, "Exposure": -3.0})[:2] == (0.0, "ExposureInuAs")


@given(st.dictionaries(st.sampled_from(EXPOSURE_ATTRIBUTES), st.floats(0, 1e9)))
def test_a_value_and_its_source_are_there_together_and_the_source_was_given(values: dict[str, float]) -> None:
    exposure = exposure_of(values)
    for value, source in zip(exposure[::2], exposure[1::2], strict=True):
        assert (value is None) == (source is None)
        assert source is None or set(str(source).split(" * ")) <= set(values)


@pytest.mark.parametrize("column", PLAUSIBLE)
def test_values_at_the_ends_of_a_range_are_plausible_and_those_beyond_are_named(column: str) -> None:
    lowest, highest = PLAUSIBLE[column]
    for value in (lowest, highest, None):
        assert implausible_values({column: value}) == ""
    for value in (lowest - 0.5 * abs(lowest) - 1e-6, highest * 1.01):
        assert implausible_values({column: value}).startswith(column)


def test_names_are_in_the_order_of_the_table() -> None:
    assert implausible_values({"age_years": 999.0, "sid_mm": 10.0, "kvp": 10.0}) == "kvp,sid_mm,age_years"


@pytest.mark.parametrize(("modality", "kvp", "named"), [("MG", 28.0, ""), ("MG", 85.0, "kvp"), ("DX", 28.0, "kvp")])
def test_tube_voltage_is_judged_by_modality(modality: str, kvp: float, named: str) -> None:
    assert implausible_values({"modality": modality, "kvp": kvp}) == named


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"mas": 2500.0}, "mas*1000"),  # microampere seconds
        ({"mas": 0.0025}, "mas/1000"),
        ({"mas": 1e7}, "mas"),
        ({"mas": 0.0}, "mas"),
        ({"kvp": 80_000.0}, "kvp*1000"),
        ({"tube_current_ma": 200_000.0}, "tube_current_ma*1000"),
        ({"exposure_time_ms": 20_000.0}, "exposure_time_ms*1000"),
        ({"sid_mm": 1.8}, "sid_mm/1000"),
        ({"exposure_index": 400_000.0}, "exposure_index"),
    ],
)
def test_outliers_by_a_thousand_are_named_as_such(values: dict[str, float], named: str) -> None:
    assert implausible_values(values) == named


@pytest.mark.parametrize(
    ("mas", "current", "time", "named"),
    [
        (300.0, 100.0, 3.0, "mas*1000"),  # in range, and yet 1000 times what current and time give
        (0.3, 100.0, 3000.0, "mas/1000"),
        (600.0, 300.0, 1500.0, "mas"),  # out of range, but current and time agree
        (2.0, 100.0, 20.0, ""),
        (2.0, 100.0, 0.6, ""),
        (2.0, 100.0, 0.0, ""),
    ],
)
def test_current_and_time_tell_which_outliers_are_of_unit(mas: float, current: float, time: float, named: str) -> None:
    acquisition = {"mas": mas, "tube_current_ma": current, "exposure_time_ms": time}
    assert [name for name in implausible_values(acquisition).split(",") if name.startswith("mas")] == named.split()
