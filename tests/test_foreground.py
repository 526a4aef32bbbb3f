"""Foreground by grey level: which part of a histogram is body."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.foreground import check_foreground, foreground_counts
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.thresholding import otsu_levels

IMAGE = np.array([[0, 0, 0, 1, 50], [60, 60, 200, 210, 220]], dtype="uint8")


def counted(foreground: str | float, mask: np.ndarray | None = None, image: np.ndarray = IMAGE) -> list[int]:
    """Give the grey values that are counted, as often as they are."""
    return np.repeat(np.arange(256), foreground_counts(Radiograph(image, 8, mask), foreground)).tolist()


histograms = hnp.arrays("int64", st.integers(2, 30), elements=st.integers(0, 9))


@given(histograms.filter(lambda counts: np.count_nonzero(counts) > 1))
def test_otsus_level_gives_the_greatest_variance_between_two_classes(counts: np.ndarray) -> None:
    levels = np.arange(counts.size)

    def between(level: int) -> float:
        weight = np.array([counts[: level + 1].sum(), counts[level + 1 :].sum()])
        if not weight.all():
            return 0.0
        means = [np.average(levels[: level + 1], weights=counts[: level + 1])]
        means.append(np.average(levels[level + 1 :], weights=counts[level + 1 :]))
        return float(weight[0] * weight[1] * (means[0] - means[1]) ** 2)

    found = otsu_levels(counts)[0]
    assert between(found) == pytest.approx(max(between(level) for level in levels), rel=1e-9)


@given(st.integers(1, 30), st.data())
def test_otsu_finds_no_level_where_one_holds_everything(n: int, data: st.DataObject) -> None:
    counts = np.zeros(n, dtype=int)
    counts[data.draw(st.integers(0, n - 1))] = 7
    assert otsu_levels(counts)[0] == -1


@pytest.mark.parametrize(
    ("foreground", "expected"),
    [
        ("all", [0, 0, 0, 1, 50, 60, 60, 200, 210, 220]),
        ("nonzero", [1, 50, 60, 60, 200, 210, 220]),
        (0, [1, 50, 60, 60, 200, 210, 220]),
        ("otsu", [200, 210, 220]),
        (0.2, [60, 60, 200, 210, 220]),
        (50 / 255, [60, 60, 200, 210, 220]),
    ],
)
def test_only_grey_values_above_air_are_counted(foreground: str | float, expected: list[int]) -> None:
    assert counted(foreground) == expected


def test_the_mask_comes_before_the_foreground() -> None:
    mask = IMAGE > 55
    assert counted("nonzero", mask) == [60, 60, 200, 210, 220]
    assert counted("otsu", mask) == [200, 210, 220]


@pytest.mark.parametrize("foreground", ["nonzero", "otsu", 0.99])
def test_where_nothing_is_left_above_air_every_pixel_counts(foreground: str | float) -> None:
    assert counted(foreground, image=np.zeros((2, 3), "u1")) == [0] * 6


@pytest.mark.parametrize("foreground", ["all", "nonzero", "otsu", 0, 0.5, np.float32(0.25)])
def test_known_foregrounds_pass(foreground: str | float) -> None:
    check_foreground(foreground)
    assert counted(foreground)


@pytest.mark.parametrize(
    ("foreground", "message"),
    [
        ("lungs", "foreground must be one of 'all', 'nonzero', 'otsu', or a fraction of full scale; got 'lungs'"),
        (1.0, r"foreground as a fraction of full scale must lie in \[0, 1\); got 1.0"),
        (-0.1, r"foreground as a fraction of full scale must lie in \[0, 1\); got -0.1"),
        (np.nan, r"must lie in \[0, 1\); got nan"),
    ],
)
def test_unknown_foregrounds_are_refused(foreground: str | float, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        check_foreground(foreground)
