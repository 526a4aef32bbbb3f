"""One radiograph: pixels together with what is needed to read them rightly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Radiograph:
    """Pixels of one image with the facts that travel with them.

    Parameters
    ----------
    pixels : ndarray of shape (height, width)
        Unsigned integers are stored values; floats lie in [0, 1]. Air is dark (MONOCHROME2).
    bits_stored : int, default=0
        Full scale of integer pixels is ``2**bits_stored - 1``; 0 stands for the bits of the dtype, and for floats.
    mask : ndarray of bool of shape (height, width), optional
        True where a pixel counts; None where all of them do.
    meta : mapping, optional
        Facts about the acquisition. Windows (``window_center``, ``window_width``) are in units of ``pixels``.
    name : str, default=""
        What errors call this image: its path, or its place in the set.
    scanner : str, default=""
        Which scanner made it; empty where nobody said.
    """

    pixels: np.ndarray
    bits_stored: int = 0
    mask: np.ndarray | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    scanner: str = ""
