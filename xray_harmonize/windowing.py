"""The formulas of DICOM's display windows, for whoever applies one."""

from __future__ import annotations

import numpy as np


def window_values(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Apply a window (PS3.3 C.11.2.1.2 and C.11.2.1.3) to modality values.

    Parameters
    ----------
    values : ndarray
        Finite modality values.
    center, width : float
        Window in modality values; the width at least 1 for LINEAR, above 0 for the others.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
        VOI LUT Function.

    Returns
    -------
    ndarray of float64
        In [0, 1], of the shape of ``values``.

    Examples
    --------
    >>> window_values(np.array([0.0, 2047.5, 4095.0]), 2048, 4096, "LINEAR").tolist()
    [0.0, 0.5, 1.0]
    >>> window_values(np.array([-1e9, 10.0, 1e9]), 10, 0.001, "SIGMOID").tolist()
    [0.0, 0.5, 1.0]
    """
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    with np.errstate(over="ignore"):  # an infinite quotient is white or black, as it should be
        if function == "SIGMOID":
            # The hyperbolic tangent is the same curve, and never overflows as the exponential does
            return 0.5 + 0.5 * np.tanh(2 * ((values - center) / width))
        if width == 0:
            return (values > center).astype(np.float64)
        return np.clip((values - center) / width + 0.5, 0.0, 1.0)
