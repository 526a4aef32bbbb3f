"""What a vendor's processing makes of the detector's signal.

All of a vendor's global processing is one rising curve from attenuation to the fraction of full scale that is stored:
a range of attenuations is picked out, put through a response, and spread over a part of the stored range. Two scanners
that expose alike therefore differ by a known tone curve (:func:`curve_between`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.tone import ToneCurve

__all__ = ["ToneResponse", "curve_between", "expect_one_of"]

RESPONSES = ("log", "power", "sigmoid")


@dataclass(frozen=True)
class ToneResponse:
    r"""From attenuation to stored values.

    With v = (p - low) / (high - low), clipped to [0, 1], for attenuation p:

    - ``"log"``: u = v, stored values follow the logarithm of the signal;
    - ``"power"``: u = (1 - exp(-s v)) / (1 - exp(-s)), they follow a power of the signal itself, which brightens thin
      parts and flattens dense ones;
    - ``"sigmoid"``: u = logistic(s (v - 1/2)), shifted and scaled to run from 0 to 1, the film-like response.

    The stored fraction is ``output_range[0] + (output_range[1] - output_range[0]) * u**gamma``.

    Parameters
    ----------
    response : {"log", "power", "sigmoid"}
    attenuation_range : tuple of float
        Attenuations ``(low, high)`` that the response spans.
    strength : float, default=4.0
        s above; without effect on "log".
    gamma : float, default=1.0
        Exponent after the response.
    output_range : tuple of float, default=(0.0, 1.0)
        Part of full scale that is used.
    bits_stored : int, default=12
        1 to 16.
    window : {"full", "body"} or None, default="full"
        Display window in the metadata: all stored values, those of this body, or none.
    polarity : {"MONOCHROME2", "MONOCHROME1"}, default="MONOCHROME2"
        How the vendor's files are coded. It is recorded only: images are always delivered with dark air.
    jitter : float, default=0.0
        Standard deviation of log(gamma) from image to image.

    Raises
    ------
    InvalidParameterError
        If a value is outside of these ranges.
    """

    response: Literal["log", "power", "sigmoid"]
    attenuation_range: tuple[float, float]
    strength: float = 4.0
    gamma: float = 1.0
    output_range: tuple[float, float] = (0.0, 1.0)
    bits_stored: int = 12
    window: Literal["full", "body"] | None = "full"
    polarity: Literal["MONOCHROME2", "MONOCHROME1"] = "MONOCHROME2"
    jitter: float = 0.0

    def __post_init__(self) -> None:
        expect_one_of("response", self.response, RESPONSES)
        expect_one_of("window", self.window, ("full", "body", None))
        expect_one_of("polarity", self.polarity, ("MONOCHROME2", "MONOCHROME1"))
        if not self.attenuation_range[0] < self.attenuation_range[1]:
            raise InvalidParameterError(
                f"attenuation_range must be (low, high) with low < high; got {self.attenuation_range}."
            )
        if not 0.0 <= self.output_range[0] < self.output_range[1] <= 1.0:
            raise InvalidParameterError(
                f"output_range must be (low, high) with 0 <= low < high <= 1; got {self.output_range}."
            )
        if not 1 <= self.bits_stored <= 16:
            raise InvalidParameterError(f"bits_stored must be 1 to 16; got {self.bits_stored}.")
        if not (self.strength > 0 and self.gamma > 0 and self.jitter >= 0):
            raise InvalidParameterError(
                "strength and gamma must be positive and jitter not negative; "
                f"got {self.strength}, {self.gamma}, {self.jitter}."
            )

    @property
    def full_scale(self) -> int:
        """Largest stored value."""
        return int(2**self.bits_stored - 1)

    def fraction(self, attenuation: np.ndarray, gamma: float | None = None) -> np.ndarray:
        """Fraction of full scale for attenuations, as floats in [0, 1].

        Parameters
        ----------
        attenuation : ndarray of float
        gamma : float, optional
            Used in place of the response's own.

        Returns
        -------
        ndarray of float
            Same shape, non-decreasing in attenuation.

        Examples
        --------
        >>> import numpy as np
        >>> ToneResponse("log", (0.0, 4.0)).fraction(np.array([-1.0, 1.0, 5.0]))
        array([0.  , 0.25, 1.  ])
        """
        low, high = self.attenuation_range
        v = np.clip((attenuation - low) / (high - low), 0.0, 1.0)
        s = self.strength
        if self.response == "power":
            u = -np.expm1(-s * v) / -np.expm1(-s)
        elif self.response == "sigmoid":
            # The logistic function is (1 + tanh(z / 2)) / 2: centred and scaled, the tanh alone is left.
            u = 0.5 * (1.0 + np.tanh(0.5 * s * (v - 0.5)) / np.tanh(0.25 * s))
        else:
            u = v
        u = np.clip(u, 0.0, 1.0) ** (self.gamma if gamma is None else gamma)
        return self.output_range[0] + (self.output_range[1] - self.output_range[0]) * u

    def store(self, attenuation: np.ndarray, gamma: float | None = None) -> np.ndarray:
        """Store attenuations: :meth:`fraction` on ``bits_stored`` bits, as uint16."""
        return np.rint(self.fraction(attenuation, gamma) * self.full_scale).astype(np.uint16)

    def display_window(self, stored: np.ndarray, body: np.ndarray) -> tuple[float, float]:
        """Window centre and width for one image, in stored values (DICOM PS3.3 C.11.2.1.2, function LINEAR).

        Parameters
        ----------
        stored : ndarray of uint16 of shape (height, width)
        body : ndarray of bool of shape (height, width)
            True where the body is.

        Returns
        -------
        center, width : float
            NaN where the vendor gives no window.
        """
        if self.window is None:
            return float("nan"), float("nan")
        if self.window == "full":
            lowest, highest = 0.0, float(self.full_scale)
        else:
            lowest, highest = np.percentile(stored[body], (1.0, 99.8))
            margin = 0.03 * (highest - lowest)
            lowest, highest = np.floor(lowest - margin), np.ceil(highest + margin)
        # LINEAR maps center - 0.5 -/+ (width - 1) / 2 to black and white.
        return float((lowest + highest) / 2.0 + 0.5), float(highest - lowest + 1.0)


def curve_between(source: ToneResponse, target: ToneResponse, source_gamma: float | None = None) -> ToneCurve:
    """Give the curve that turns what `source` stores of an attenuation into what `target` stores of it.

    Parameters
    ----------
    source, target : ToneResponse
    source_gamma : float, optional
        Exponent that one image was stored with, where the source's varies.

    Returns
    -------
    ToneCurve
        Exact where `source` does not saturate; constant outside of the values it can store.
    """
    lows, highs = zip(source.attenuation_range, target.attenuation_range, strict=True)
    attenuation = np.linspace(min(lows), max(highs), 4097)
    return ToneCurve.through(source.fraction(attenuation, source_gamma), target.fraction(attenuation))


def expect_one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value that is none of those allowed, by the name of the parameter."""
    if value not in allowed:
        raise InvalidParameterError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
