"""Smooth changes of tone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xray_harmonize.harmonizers.tone_flow import GRID, N_GRID, carry, flow, fraction, row_by_row


def coefficients(largest: float) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays("float64", (2, 3), elements=st.floats(-largest, largest))


@given(coefficients(100))
def test_a_flow_is_monotone_and_keeps_its_ends_whatever_the_coefficients(b: np.ndarray) -> None:
    curves = flow(b)
    assert curves.shape == (2, N_GRID)
    assert np.all(np.diff(curves, axis=1) >= 0)
    assert curves[:, [0, -1]].tolist() == [[0, 1], [0, 1]]


@given(coefficients(0.25))
def test_coefficients_of_the_other_sign_lead_back(b: np.ndarray) -> None:
    np.testing.assert_allclose(row_by_row(flow(-b), flow(b)), np.stack([GRID, GRID]), atol=1e-2)


@given(coefficients(0.1))
def test_flowing_twice_as_fast_is_flowing_twice(b: np.ndarray) -> None:
    np.testing.assert_allclose(flow(2 * b), row_by_row(flow(b), flow(b)), atol=5e-3)


@pytest.mark.parametrize("b", [-0.4, -0.1, 0.0, 0.3])
def test_one_field_alone_has_a_closed_form(b: float) -> None:
    # dy/dt = b sin(pi y) multiplies tan(pi y / 2) by exp(pi b).
    expected = 2 / np.pi * np.arctan(np.exp(np.pi * b) * np.tan(np.pi * GRID[:-1] / 2))
    np.testing.assert_allclose(flow(np.array([[b, 0, 0]]))[0, :-1], expected, atol=2e-3)


@given(hnp.arrays("float64", 9, elements=st.floats(0, 1)), coefficients(1.0))
def test_carried_values_keep_their_order_and_those_outside_the_limits_their_place(
    values: np.ndarray, b: np.ndarray
) -> None:
    values, limits = np.sort(values), np.array([0.2, 0.7])
    carried = carry(values, flow(b)[0], limits)
    assert np.all(np.diff(carried) >= -1e-12)
    outside = (values <= 0.2) | (values >= 0.7)
    np.testing.assert_array_equal(carried[outside], values[outside])


def test_where_the_limits_are_one_everything_is_at_the_lower_end() -> None:
    assert fraction(np.array([0.3, 0.4]), np.array([0.4, 0.4])).tolist() == [0, 0]
    np.testing.assert_array_equal(carry(np.array([0.1, 0.4, 0.9]), GRID**2, np.array([0.4, 0.4])), [0.1, 0.4, 0.9])
