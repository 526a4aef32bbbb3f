"""What counts as a number, and as yes or no."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.parameters import check_number, check_truth


@pytest.mark.parametrize("value", [0, 0.5, np.float32(0.5), np.float64(0.5), np.int64(0), np.uint8(0)])
def test_numbers_of_python_and_numpy_are_numbers(value: Any) -> None:
    check_number("share", value, "lie in [0, 1)", lambda share: 0 <= share < 1)


@pytest.mark.parametrize("value", ["0.5", None, True, np.True_, 1j, np.nan, 1, [0.5], np.array([0.5])])
def test_what_is_none_or_does_not_fit_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"share must lie in \[0, 1\); got "):
        check_number("share", value, "lie in [0, 1)", lambda share: 0 <= share < 1)


@pytest.mark.parametrize("value", ["no", 1, 0, None, np.int64(1), [True]])
def test_yes_and_no_are_bools(value: Any) -> None:
    for truth in (True, False, np.True_, np.False_):
        check_truth("flip", truth)
    with pytest.raises(InvalidParameterError, match="flip must be True or False; got "):
        check_truth("flip", value)
