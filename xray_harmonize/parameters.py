"""What parameters of estimators may be: numbers in a range, and yes or no."""

from __future__ import annotations

from collections.abc import Callable
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
