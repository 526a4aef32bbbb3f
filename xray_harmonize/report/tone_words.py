"""Tone curves in words, for readers who do not see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xray_harmonize.tone import ToneCurve


def curves_in_words(curves: Sequence[ToneCurve]) -> str:
    """Tell what becomes of dark, middle and bright grey values.

    Examples
    --------
    >>> curves_in_words([ToneCurve([0, 0.5, 1], [0, 1, 1])])
    'one image, 0.25, 0.5 and 0.75 become 0.50, 1.00 and 1.00'
    """
    middle = np.median([np.interp([0.25, 0.5, 0.75], curve.x, curve.y) for curve in curves], axis=0)
    images = "one image" if len(curves) == 1 else f"median of {len(curves)} images"
    return f"{images}, 0.25, 0.5 and 0.75 become {middle[0]:.2f}, {middle[1]:.2f} and {middle[2]:.2f}"
