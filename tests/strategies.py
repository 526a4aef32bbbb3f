"""Hypothesis strategies that several test modules draw from."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xray_harmonize.tone import ToneCurve

fractions = st.floats(0, 1, allow_subnormal=False, width=32)


@st.composite
def curves(draw: st.DrawFn, flat: bool = True) -> ToneCurve:
    """Monotone curves; with ``flat`` some of them have flat parts, without them all rise strictly."""
    n = draw(st.integers(1 if flat else 2, 8))
    levels = st.integers(0, 1000)
    x = draw(st.lists(levels, min_size=n, max_size=n, unique=True))
    y = draw(st.lists(levels, min_size=n, max_size=n, unique=not flat))
    return ToneCurve(np.sort(x) / 1000, np.sort(y) / 1000)


@st.composite
def integer_images(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Small stored-value images with their bits."""
    dtype = draw(st.sampled_from(["uint8", "uint16", "uint32"]))
    bits = draw(st.integers(1, 8 * np.dtype(dtype).itemsize))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))
    return draw(hnp.arrays(dtype, shape, elements=st.integers(0, 2**bits - 1))), bits


float_images = hnp.arrays("float32", hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=fractions)
