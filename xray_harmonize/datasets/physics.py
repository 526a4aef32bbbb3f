"""From material thickness to detector signal: tube, beam, scatter, detector, quanta.

The beam is polychromatic: the tube's spectrum (spekpy) is gathered in a few energy bins, every bin is attenuated by
Beer and Lambert's law with tabulated coefficients (xraydb), and the detector adds up the energy that it absorbs. What
comes out is the attenuation image, minus the logarithm of the signal relative to air, which is what every vendor's
processing starts from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import spekpy
import xraydb
from scipy.ndimage import gaussian_filter

from xray_harmonize.datasets.anatomy import Body
from xray_harmonize.exceptions import InvalidParameterError

__all__ = ["ANODES", "DETECTORS", "TISSUES", "Acquisition", "Beam", "attenuation_image", "tube_beam"]

TISSUES: dict[str, tuple[float, dict[str, float]]] = {
    # Density in g/cm3, mass fractions. Breast tissues after Hammerstein et al. (1979), whose ash is taken as
    # phosphorus; the others after ICRU report 44.
    "adipose": (0.93, {"H": 0.112, "C": 0.619, "N": 0.017, "O": 0.251, "P": 0.001}),
    "glandular": (1.04, {"H": 0.102, "C": 0.184, "N": 0.032, "O": 0.677, "P": 0.005}),
    "skin": (1.09, {"H": 0.098, "C": 0.178, "N": 0.050, "O": 0.667, "P": 0.007}),
    "soft_tissue": (1.06, {"H": 0.102, "C": 0.143, "N": 0.034, "O": 0.708, "Na": 0.002, "P": 0.003, "S": 0.003,
                           "Cl": 0.002, "K": 0.003}),
    "lung": (0.26, {"H": 0.103, "C": 0.105, "N": 0.031, "O": 0.749, "Na": 0.002, "P": 0.002, "S": 0.003,
                    "Cl": 0.003, "K": 0.002}),
    "bone": (1.92, {"H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003,
                    "Ca": 0.225}),
    "fluid": (1.00, {"H": 0.112, "O": 0.888}),
}  # fmt: skip
"""Materials a body is made of: density in g/cm3 and mass fractions of the elements."""

DETECTORS = {"a-Se": ("Se", 4.3, 0.020), "CsI": ("CsI", 4.51, 0.015), "CsI-thick": ("CsI", 4.51, 0.055),
             "BaFBr": ("BaFBr", 3.3, 0.020)}  # fmt: skip
"""Detector layers: formula, density in g/cm3, thickness in cm."""

ANODES = ("Mo", "Rh", "W")
_ENERGY_STEP_KEV = 0.5


@dataclass(frozen=True)
class Acquisition:
    """How a scanner exposes: tube, geometry, detector.

    Parameters
    ----------
    kvp : float
        Tube voltage in kV.
    mas : float
        Tube current-time product in mAs; sets the number of quanta and so the noise.
    anode : {"W", "Mo", "Rh"}
    filtration : tuple of (str, float)
        Filters the beam passes: chemical symbol and thickness in mm.
    detector : {"a-Se", "CsI", "CsI-thick", "BaFBr"}
    distance_cm : float
        From focal spot to detector.
    scatter : float
        Scatter-to-primary ratio for each mean free path of tissue, behind the grid where there is one.
    scatter_cm : float
        Standard deviation of the scatter's spread.
    blur_mm : float
        Standard deviation of the detector's (and focal spot's) blur.
    element_mm : float
        Side of a detector element; a pixel holds the noise of one element.

    Raises
    ------
    InvalidParameterError
        An unknown anode or detector, or a quantity that is not positive.
    """

    kvp: float
    mas: float
    anode: str = "W"
    filtration: tuple[tuple[str, float], ...] = (("Al", 2.5),)
    detector: str = "CsI"
    distance_cm: float = 65.0
    scatter: float = 0.05
    scatter_cm: float = 3.0
    blur_mm: float = 0.5
    element_mm: float = 0.1

    def __post_init__(self) -> None:
        if self.anode not in ANODES:
            raise InvalidParameterError(f"anode must be one of {', '.join(ANODES)}; got {self.anode!r}.")
        if self.detector not in DETECTORS:
            raise InvalidParameterError(f"detector must be one of {', '.join(DETECTORS)}; got {self.detector!r}.")
        for name in ("kvp", "mas", "distance_cm", "scatter_cm", "element_mm"):
            if not getattr(self, name) > 0:
                raise InvalidParameterError(f"{name} must be positive; got {getattr(self, name)!r}.")
        for name in ("scatter", "blur_mm"):
            if not getattr(self, name) >= 0:
                raise InvalidParameterError(f"{name} must not be negative; got {getattr(self, name)!r}.")


@dataclass(frozen=True)
class Beam:
    """A spectrum in a few energy bins, with the attenuation of every tissue in each.

    Parameters
    ----------
    energy_kev : ndarray of shape (n_bins,)
        Mean energy of each bin.
    quanta : ndarray of shape (n_bins,)
        Quanta the detector absorbs for each mm2 and mAs with nothing in the beam.
    attenuation : dict of {str: ndarray of shape (n_bins,)}
        Linear attenuation coefficient of each tissue in 1/cm.
    """

    energy_kev: np.ndarray
    quanta: np.ndarray
    attenuation: Mapping[str, np.ndarray]

    @property
    def mean_energy_kev(self) -> float:
        """Mean energy of the absorbed quanta."""
        return float(np.average(self.energy_kev, weights=self.quanta))


@lru_cache(maxsize=64)
def _mass_attenuation(tissue: str, kvp: float) -> np.ndarray:
    energies = _fine_energies(kvp) * 1e3
    _, composition = TISSUES[tissue]
    return np.sum([w * xraydb.mu_elam(element, energies) for element, w in composition.items()], axis=0)


def _fine_energies(kvp: float) -> np.ndarray:
    return np.arange(1.0, kvp, _ENERGY_STEP_KEV) + _ENERGY_STEP_KEV / 2.0


@lru_cache(maxsize=64)
def tube_beam(
    kvp: float,
    anode: str,
    filtration: tuple[tuple[str, float], ...],
    detector: str = "CsI",
    distance_cm: float = 65.0,
    n_bins: int = 16,
) -> Beam:
    """Compute what a tube sends and a detector absorbs (kept for the next call with the same settings).

    Within a bin the coefficients are averaged with the absorbed quanta as weights, so that the bins keep the mean
    attenuation of the full spectrum.

    Parameters
    ----------
    kvp, anode, filtration, detector, distance_cm
        As in :class:`Acquisition`.
    n_bins : int, default=16
        Number of energy bins of equal width.

    Returns
    -------
    Beam

    Raises
    ------
    InvalidParameterError
        The tube model knows no such spectrum.

    Examples
    --------
    >>> soft = tube_beam(28.0, "Mo", (("Mo", 0.03),))
    >>> hard = tube_beam(34.0, "W", (("Rh", 0.05),))
    >>> soft.mean_energy_kev < hard.mean_energy_kev
    True
    """
    energies = _fine_energies(kvp)
    try:
        tube = spekpy.Spek(kvp=kvp, th=12.0, targ=anode, dk=_ENERGY_STEP_KEV, z=distance_cm)
        tube.multi_filter([("Be", 0.8), *filtration])
        grid, fluence = tube.get_spectrum()
    except Exception as error:  # spekpy raises bare Exception for all it refuses
        raise InvalidParameterError(
            f"No tube spectrum for kvp={kvp}, anode={anode!r}, filtration={filtration}: {error}"
        ) from error
    formula, density, layer_cm = DETECTORS[detector]
    absorbed = 1.0 - np.exp(-xraydb.material_mu(formula, energies * 1e3, density=density) * layer_cm)
    # spekpy counts quanta for each cm2, keV and mAs
    quanta = np.interp(energies, grid, fluence, left=0.0) * absorbed * _ENERGY_STEP_KEV / 100.0
    # Quanta below the first thousandth are stopped by the first millimetres of tissue; bins there would be wasted.
    lowest = energies[np.searchsorted(np.cumsum(quanta), 1e-3 * quanta.sum())]
    bin_of = np.clip((n_bins * (energies - lowest) / (kvp - lowest)).astype(int), 0, n_bins - 1)
    weight = np.bincount(bin_of, quanta)
    kept = weight > 0

    def binned(values: np.ndarray) -> np.ndarray:
        return (np.bincount(bin_of, quanta * values)[kept] / weight[kept]).astype(np.float32)

    attenuation = {name: binned(density * _mass_attenuation(name, kvp)) for name, (density, _) in TISSUES.items()}
    return Beam(binned(energies), weight[kept].astype(np.float32), attenuation)


def attenuation_image(body: Body, acquisition: Acquisition, rng: np.random.Generator | None = None) -> np.ndarray:
    """Expose a body and return the attenuation that the detector sees, ``-ln(signal / signal in air)``.

    For every bin k with energy E_k and coefficients mu_mk, a pixel absorbs N_k = N0_k exp(-sum_m mu_mk t_m) primary
    quanta, and the signal is sum_k E_k N_k. Quanta scattered once leave the body in proportion to what is removed from
    the beam on the way, so their source is primary times attenuation, spread by a Gaussian. The quantum noise is that
    of a Poisson count with the mean and the variance of the energy-weighted sum.

    Parameters
    ----------
    body : Body
    acquisition : Acquisition
    rng : numpy.random.Generator, optional
        Source of the quantum noise; None for the expected image.

    Returns
    -------
    ndarray of float32 of shape (size, size)
        0 in air (noise takes it a little below), larger behind more tissue.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.datasets.breast import breast
    >>> body = breast("B", 64, np.random.default_rng(0))
    >>> image = attenuation_image(body, Acquisition(kvp=28, mas=80, filtration=(("Rh", 0.05),)))
    >>> float(image[body.mask].mean()) > 1.0
    True
    """
    a = acquisition
    beam = tube_beam(a.kvp, a.anode, a.filtration, a.detector, a.distance_cm)
    names = list(body.thickness)
    shape = body.thickness[names[0]].shape
    paths = np.stack([body.thickness[name].ravel() for name in names])
    coefficients = np.stack([beam.attenuation[name] for name in names])
    transmitted = np.exp(-(coefficients.T @ paths))

    quanta = beam.quanta * (a.mas * a.element_mm**2)
    moments = np.stack([quanta * beam.energy_kev, quanta * beam.energy_kev**2])
    primary, variance = ((moments @ transmitted).astype(np.float64)).reshape(2, *shape)
    in_air = float(moments[0].sum(dtype=np.float64))
    gain = variance / primary

    pixel_cm = body.pixel_cm
    removed = primary * -np.log(primary / in_air)
    signal = primary + a.scatter * gaussian_filter(removed, a.scatter_cm / pixel_cm, mode="nearest", truncate=3.0)
    if a.blur_mm > 0:
        signal = gaussian_filter(signal, a.blur_mm / 10.0 / pixel_cm, mode="nearest")
    if rng is not None:
        # A pixel that caught nothing is given half a quantum: the logarithm needs one.
        signal = gain * np.maximum(rng.poisson(signal / gain), 0.5)
    return -np.log(signal / in_air).astype(np.float32)
