"""What parameters of estimators may be: numbers in a range, whole numbers, and yes or no."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xray_harmonize.exceptions import InvalidParameterError


def check_number(name: str, value: Any, said: str, fits: Callable[[float], bool]) -> None:
    """Refuse what is no real number, or none that fits.

    Parameters
    ----------
    name : str
        Of the parameter.
    value : object
        NumPy's numbers are numbers; bools, text and complex numbers are none.
    said : str
        What the number must do, as the message says it.
    fits : callable
        Given the number, tells whether it does so.

    Raises
    ------
    InvalidParameterError

    Examples
    --------
    >>> check_number("lr", 1e-3, "be above 0", lambda lr: lr > 0)
    >>> check_number("lr", "fast", "be above 0", lambda lr: lr > 0)
    Traceback (most recent call last):
    xray_harmonize.exceptions.InvalidParameterError: lr must be above 0; got 'fast'.
    """
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not real or not fits(float(value)):
        raise InvalidParameterError(f"{name} must {said}; got {value!r}.")


def check_whole_numbers(parameters: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """Refuse parameters that are no whole numbers, or too small.

    Parameters
    ----------
    parameters : mapping of str to object
        Those of an estimator; Python's and NumPy's integers are whole numbers, bools are none.
    least : mapping of str to int
        The smallest that each may be; others are not looked at.

    Raises
    ------
    InvalidParameterError

    Examples
    --------
    >>> check_whole_numbers({"max_steps": np.int64(3), "lr": 0.1}, {"max_steps": 1})
    >>> check_whole_numbers({"max_steps": 0.5}, {"max_steps": 1})
    Traceback (most recent call last):
    xray_harmonize.exceptions.InvalidParameterError: max_steps must be a whole number, at least 1; got 0.5.
    """
    for name, lowest in least.items():
        number = parameters[name]
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < lowest:
            raise InvalidParameterError(f"{name} must be a whole number, at least {lowest}; got {number!r}.")


def check_truth(name: str, value: Any) -> None:
    """Refuse what is neither True nor False, as text, which always counts as true.

    Raises
    ------
    InvalidParameterError

    Examples
    --------
    >>> check_truth("flip", np.bool_(True))
    >>> check_truth("flip", "no")
    Traceback (most recent call last):
    xray_harmonize.exceptions.InvalidParameterError: flip must be True or False; got 'no'.
    """
    if not isinstance(value, bool | np.bool_):
        raise InvalidParameterError(f"{name} must be True or False; got {value!r}.")
