"""Bodies as material thickness maps, and the two tools that every simulated anatomy is built with.

A radiograph sums what lies along each ray, so a body is described by how many centimetres of each material every ray
crosses. Geometry, tissue and disease live here; what a tube, a detector and a vendor make of them lives in
:mod:`~xray_harmonize.datasets.physics` and :mod:`~xray_harmonize.datasets.responses`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from scipy import fft

__all__ = ["Body", "power_law_texture", "ramp"]


@dataclass(frozen=True)
class Body:
    """What the rays of one radiograph cross.

    Parameters
    ----------
    thickness : dict of {str: ndarray of float32 of shape (size, size)}
        Path length in cm through each material; the names are those of :data:`.physics.TISSUES`.
    pixel_cm : float
        Distance between neighbouring pixels in cm.
    facts : dict of {str: float}
        What is true of this body and no image says: glandular fraction, compressed thickness, opacity.
    """

    thickness: Mapping[str, np.ndarray]
    pixel_cm: float
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> np.ndarray:
        """Path length in cm through all materials, float32 of shape (size, size)."""
        return np.asarray(np.sum(list(self.thickness.values()), axis=0, dtype=np.float32))

    @property
    def mask(self) -> np.ndarray:
        """True where a ray meets the body, bool of shape (size, size)."""
        return self.total > 0


@lru_cache(maxsize=32)
def _power_law_amplitude(size: int, beta: float) -> np.ndarray:
    fy = fft.fftfreq(size, 1.0 / size)[:, None]
    fx = fft.rfftfreq(size, 1.0 / size)[None, :]
    squared = fx**2 + fy**2
    squared[0, 0] = 1.0
    # The power falls as 1/f**beta, hence the amplitude as f**(-beta/2); f itself is squared**0.5.
    amplitude = squared ** (-beta / 4.0)
    amplitude[0, 0] = 0.0
    return amplitude.astype(np.float32)


def power_law_texture(size: int, beta: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a Gaussian random field whose power spectrum falls as ``1 / f**beta``.

    Breast tissue in mammograms follows such a law with ``beta`` near 3 (Burgess, Jacobson and Judy, Med. Phys. 28,
    2001); larger values give smoother clouds.

    Parameters
    ----------
    size : int
        Height and width in pixels.
    beta : float
        Exponent of the power spectrum.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32 of shape (size, size)
        Mean 0, standard deviation 1; opposite edges join.

    Examples
    --------
    >>> import numpy as np
    >>> texture = power_law_texture(64, 3.0, np.random.default_rng(0))
    >>> texture.shape, round(float(texture.std()), 3)
    ((64, 64), 1.0)
    """
    white = rng.standard_normal((size, size), dtype=np.float32)
    texture = fft.irfft2(fft.rfft2(white) * _power_law_amplitude(size, float(beta)), s=(size, size))
    return (texture / texture.std()).astype(np.float32)


def ramp(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Rise smoothly from 0 at `low` to 1 at `high` (cubic, flat at both ends); falls where ``high < low``.

    Examples
    --------
    >>> import numpy as np
    >>> ramp(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]), 0.0, 1.0)
    array([0. , 0. , 0.5, 1. , 1. ])
    """
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
