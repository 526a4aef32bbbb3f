"""Smooth changes of tone: flows of a few fields, monotone whatever their coefficients.

With fields ``sin(pi k y) / k``, k = 1, 2, ..., and coefficients b, grey values y move for a unit of time by
``dy/dt = sum_k b_k sin(pi k y) / k``. Values never overtake one another, 0 and 1 stay where they are, -b leads back.
"""

from __future__ import annotations

import numpy as np

N_GRID = 257
GRID: np.ndarray = np.linspace(0, 1, N_GRID)
GRID.setflags(write=False)
_N_STEPS = 5


def flow(coefficients: np.ndarray) -> np.ndarray:
    """Curves that smooth fields carry the grey values along.

    Parameters
    ----------
    coefficients : ndarray of float of shape (n_curves, n_fields)
        b above, a row for each curve.

    Returns
    -------
    ndarray of float of shape (n_curves, n_grid)
        Values at equally spaced grey values from 0 to 1; non-decreasing, ends fixed. Coefficients of the other sign
        give the inverse, to the accuracy of the integration.

    Examples
    --------
    >>> brighter = flow(np.array([[0.2, 0.0, 0.0]]))
    >>> float(brighter[0, 128].round(2))
    0.69
    """
    order = np.arange(1, coefficients.shape[1] + 1)
    velocity = coefficients / order @ np.sin(np.pi * np.outer(order, GRID))
    velocity[:, [0, -1]] = 0  # rounding leaves the sine of pi a little off
    y = np.broadcast_to(GRID, velocity.shape)
    for _ in range(_N_STEPS):  # midpoint rule
        middle = np.clip(y + row_by_row(velocity, y) / (2 * _N_STEPS), 0, 1)
        y = np.clip(y + row_by_row(velocity, middle) / _N_STEPS, 0, 1)
    # Steps of huge coefficients could overtake one another.
    return np.maximum.accumulate(y, axis=1)


def row_by_row(curves: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Look up row i of values in curve i.

    Parameters
    ----------
    curves : ndarray of float of shape (n_curves, n_grid)
        At equally spaced points from 0 to 1.
    values : ndarray of float of shape (n_curves, n_values)
        In [0, 1].

    Returns
    -------
    ndarray of float of shape (n_curves, n_values)

    Examples
    --------
    >>> row_by_row(np.array([[0.0, 1.0], [0.5, 1.0]]), np.array([[0.5], [0.5]])).ravel()
    array([0.5 , 0.75])
    """
    place = values * (curves.shape[1] - 1)
    left = np.minimum(place.astype(np.intp), curves.shape[1] - 2)
    rest = place - left
    return (1 - rest) * np.take_along_axis(curves, left, 1) + rest * np.take_along_axis(curves, left + 1, 1)


def carry(values: np.ndarray, curve: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Put grey values through a curve that holds between two limits, and leave those outside where they are.

    Parameters
    ----------
    values : ndarray of float
        Grey values of the reference.
    curve : ndarray of float of shape (n_grid,)
        In fractions of the way from the lower limit to the upper one, ends fixed.
    limits : ndarray of float of shape (2,)

    Returns
    -------
    ndarray of float
        Same shape.

    Examples
    --------
    >>> carry(np.array([0.1, 0.4, 0.9]), np.array([0, 0.8, 1]), np.array([0.2, 0.6])).round(3)
    array([0.1 , 0.52, 0.9 ])
    """
    low, high = limits
    inside = (values > low) & (values < high)
    carried = low + (high - low) * row_by_row(curve[None], fraction(values, limits).reshape(1, -1))
    return np.where(inside, carried.reshape(values.shape), values)


def fraction(values: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Fraction of the way from the lower limit to the upper one, cut off at both; zero where they are one."""
    low, high = limits
    return np.clip((values - low) / (high - low if high > low else 1.0), 0, 1)
