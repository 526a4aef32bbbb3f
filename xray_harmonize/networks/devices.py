"""Devices by name: which there are at all, and which of them a machine lacks."""

from __future__ import annotations

from typing import Any

from xray_harmonize.exceptions import InvalidParameterError


def is_device(name: Any) -> bool:
    """Tell whether this is a name for a device to compute on, wherever there may be one.

    Parameters
    ----------
    name : object
        What an estimator has for its parameter ``device``. PyTorch is asked only about what is neither ``"auto"`` nor
        ``"cpu"``.

    Examples
    --------
    >>> is_device("auto"), is_device("cuda:99"), is_device("left detector"), is_device(None)
    (True, True, False, False)
    """
    if not isinstance(name, str):
        return False
    if name in ("auto", "cpu"):
        return True
    # Here, as a harmonizer without a network is loaded and applied without PyTorch.
    import torch

    try:
        torch.device(name)
    except RuntimeError:
        return False
    return True


def is_absent(name: Any) -> bool:
    """Tell whether this is a name for a device that this machine does not have.

    Parameters
    ----------
    name : object
        As for :func:`is_device`. What is no name of a device is not absent but wrong, and the estimator itself says so.

    Examples
    --------
    >>> is_absent("auto"), is_absent("cpu"), is_absent("cuda:99"), is_absent("left detector")
    (False, False, True, False)
    """
    if name in ("auto", "cpu") or not is_device(name):
        return False
    from xray_harmonize.training import resolve_device

    try:
        resolve_device(name)
    except InvalidParameterError:
        return True
    return False
