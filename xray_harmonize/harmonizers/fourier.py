"""Methods on the lowest spatial frequencies: amplitude swap (FDA) and cosine block swap (SSIMH)."""

from __future__ import annotations

import numpy as np

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.base import ReferenceHarmonizer, Statistics
from xray_harmonize.harmonizers.clipping import ClippedMixin
from xray_harmonize.harmonizers.partial_transform import (
    add_low_cosines,
    add_low_frequencies,
    low_cosines,
    low_frequencies,
    padded_length,
)
from xray_harmonize.levels import as_unit
from xray_harmonize.radiograph import Radiograph

MODES = ("amplitude", "dct")
WINDOWS = ("square", "gaussian", "cosine")

# Amplitude, as a fraction of full scale, below which a coefficient is rounding noise: its phase says nothing.
_FLOOR = 1e-8


def bandwidth(shape: tuple[int, ...], beta: float, padding: str | None = None) -> int:
    """Highest frequency that is swapped, ``b = floor(beta min(h, w))`` cycles a (padded) field.

    Examples
    --------
    >>> bandwidth((512, 640), 0.01)
    5
    """
    return int(np.floor(min(padded_length(n, padding) for n in shape) * beta))


def taper(window: str, b: int) -> np.ndarray:
    """Weights of the frequencies up to ``b``: how much of the reference's amplitude each takes over.

    Parameters
    ----------
    window : {"square", "gaussian", "cosine"}
        One everywhere, as published; ``exp(-(3 q)^2 / 2)``; or ``cos^2(pi q / 2)`` for q < 1 and zero beyond, where
        ``q = sqrt(k^2 + l^2) / (b + 1)``.
    b : int

    Returns
    -------
    ndarray of float64 of shape (b + 1, 2 b + 1)
        In [0, 1]; one at zero frequency.

    Examples
    --------
    >>> taper("cosine", 1).round(3)
    array([[0.5  , 1.   , 0.5  ],
           [0.197, 0.5  , 0.197]])
    """
    radius = np.hypot(np.arange(b + 1)[:, None], np.arange(-b, b + 1)) / (b + 1)
    if window == "square":
        return np.ones_like(radius)
    if window == "gaussian":
        return np.exp(-((3 * radius) ** 2) / 2)
    return np.where(radius < 1, np.cos(np.pi * radius / 2) ** 2, 0.0)


def swap_amplitude(
    spectrum: np.ndarray, reference: np.ndarray, source: np.ndarray | None = None, window: str = "square"
) -> np.ndarray:
    """Give coefficients the amplitudes of the reference and leave them their phases.

    ``F' = F (A_ref / A_src)^w``, which for the square window (w = 1) and the image's own amplitude A_src = |F| is
    ``A_ref exp(i arg F)``.

    Parameters
    ----------
    spectrum : ndarray of complex of shape (b + 1, 2 b + 1)
        Coefficients of one image, as :func:`low_frequencies` gives them.
    reference, source : ndarray of float of shape (b + 1, 2 b + 1)
        Amplitudes; the zeroth is a mean grey value and carries its sign, so that an image of negative mean comes to the
        mean of the reference and not to its opposite. NaN where unknown: such a coefficient stays as it is. Without
        ``source`` it is the image's own.
    window : {"square", "gaussian", "cosine"}
        See :func:`taper`.

    Returns
    -------
    ndarray of complex128 of shape (b + 1, 2 b + 1)

    Notes
    -----
    Yang, Soatto: FDA: Fourier domain adaptation for semantic segmentation, CVPR 2020. Half of the plane stands for the
    other half by conjugation, so the result is a real image.

    Examples
    --------
    >>> F = np.array([[3 - 4j, -1, 3 + 4j], [0, 0, 2j]])
    >>> np.abs(swap_amplitude(F, np.full((2, 3), 10.0)))
    array([[10., 10., 10.],
           [ 0.,  0., 10.]])
    """
    b = len(spectrum) - 1
    source = amplitude(spectrum) if source is None else source
    # What has no amplitude has no phase to go with the reference's amplitude: it stays zero.
    gain = np.maximum(reference, _FLOOR) / np.maximum(source, _FLOOR)
    swapped = spectrum * np.where(np.isnan(gain), 1.0, gain) ** taper(window, b)
    mean = spectrum[0, b].real
    if abs(source[0, b]) > _FLOOR:
        swapped[0, b] = mean * reference[0, b] / source[0, b]
    else:
        swapped[0, b] = mean + reference[0, b] - source[0, b]
    return swapped


def amplitude(spectrum: np.ndarray) -> np.ndarray:
    """Amplitudes of coefficients, the zeroth with its sign."""
    b = len(spectrum) - 1
    amplitudes = np.abs(spectrum)
    amplitudes[0, b] = spectrum[0, b].real
    return amplitudes


class FourierSwap(ClippedMixin, ReferenceHarmonizer):
    """Give the lowest spatial frequencies of an image the amplitudes that they have on the reference scanner.

    They carry brightness, large-scale contrast and shading; edges and texture stay the image's own. Not a tone curve:
    what is done to a grey value depends on where it is.

    Parameters
    ----------
    reference : str, optional
        Scanner that amplitudes are learned from; None for the one with most training images, "pooled" for all alike.
    scope : {"image", "scanner", "mixed"}, default="image"
        Whose amplitudes are replaced. "image" as published: every image ends with the amplitudes of the reference.
        "scanner" multiplies by the ratio of the reference's amplitudes to the scanner's ("dct": adds the difference of
        coefficients), so that what differs from body to body stays. "mixed" stands between.
    mode : {"amplitude", "dct"}, default="amplitude"
        "amplitude" swaps Fourier amplitudes (FDA); "dct" a block of signed cosine coefficients (SSIMH), and with them
        the reference's layout: its mean shading and gross anatomy.
    beta : float, default=0.01
        Highest frequency in cycles a pixel of the shorter side, up to 0.5; 0 swaps the mean alone. For "amplitude".
    window : {"square", "gaussian", "cosine"}, default="square"
        Whether the swap ends abruptly at that frequency, which rings beside edges, or fades out. For "amplitude".
    padding : {None, "reflect"}, default=None
        "reflect" mirrors a quarter of the field at each side before transforming, so that a bright border does not
        shine through at the opposite one; frequencies then count cycles of that larger field. For "amplitude".
    block : int, default=3
        Side of the block of coefficients. For "dct".
    image_weight : float, default=0.5
        Weight of the image's own amplitudes with ``scope="mixed"``.
    unseen : {"error", "image"}, default="error"
        What to do with a scanner not seen in fit: refuse, or replace the image's own amplitudes.

    Attributes
    ----------
    reference_amplitude_ : ndarray of shape (b + 1, 2 b + 1)
        "amplitude": the reference's amplitudes at 0..b by -b..b cycles a field, as fractions of full scale: exp of the
        mean log-amplitude over its training images, the zeroth its mean grey value. NaN where none was large enough to
        tell.
    reference_coefficients_ : ndarray of shape (block, block)
        "dct": mean coefficients of the reference, the zeroth its mean grey value.
    reference_, statistics_
        See :class:`~xray_harmonize.harmonizers.base.ReferenceHarmonizer`.

    See Also
    --------
    MultiBand : scales the energy of all spatial frequencies, band by band.

    Notes
    -----
    Amplitudes are kept as fractions of full scale by cycles a field, so images may differ in size. The result is
    clipped to [0, 1] once, at the end; :meth:`clipped_fraction` tells how much. Pixels outside the mask are taken for
    the mean of those inside, and change along.

    FDA: Yang, Soatto, CVPR 2020; the window is the centred one of (2 b + 1)^2 coefficients. SSIMH: Guan et al., 2022.

    Examples
    --------
    >>> import numpy as np
    >>> bodies = np.random.default_rng(0).random((6, 64, 64))
    >>> X = np.concatenate([bodies[:3], 0.5 * bodies[3:]])
    >>> swapped = FourierSwap(reference="A", beta=0.1).fit_transform(X, scanner=["A"] * 3 + ["B"] * 3)
    >>> bool(abs(swapped[3:].mean() - 0.5) < 0.01)
    True
    """

    def __init__(
        self,
        reference: str | None = None,
        scope: str = "image",
        *,
        mode: str = "amplitude",
        beta: float = 0.01,
        window: str = "square",
        padding: str | None = None,
        block: int = 3,
        image_weight: float = 0.5,
        unseen: str = "error",
    ) -> None:
        self.reference = reference
        self.scope = scope
        self.mode = mode
        self.beta = beta
        self.window = window
        self.padding = padding
        self.block = block
        self.image_weight = image_weight
        self.unseen = unseen

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.mode not in MODES:
            raise InvalidParameterError(f"mode must be 'amplitude' or 'dct'; got {self.mode!r}.")
        if not 0 <= self.beta <= 0.5:
            raise InvalidParameterError(f"beta must lie in [0, 0.5] cycles a pixel; got {self.beta!r}.")
        if self.window not in WINDOWS:
            raise InvalidParameterError(f"window must be 'square', 'gaussian' or 'cosine'; got {self.window!r}.")
        if self.padding not in (None, "reflect"):
            raise InvalidParameterError(f"padding must be None or 'reflect'; got {self.padding!r}.")
        if not isinstance(self.block, int | np.integer) or self.block < 1:
            raise InvalidParameterError(f"block must be a whole number of at least 1; got {self.block!r}.")

    def _spectrum(self, radiograph: Radiograph) -> tuple[np.ndarray, np.ndarray]:
        """Pixels in [0, 1], in new memory, and their coefficients."""
        pixels = as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name or "The image")
        if self.mode == "dct":
            return pixels, low_cosines(pixels, self.block, mask=radiograph.mask)
        b = bandwidth(pixels.shape, self.beta, self.padding)
        return pixels, low_frequencies(pixels, b, padding=self.padding, mask=radiograph.mask)

    def _measure(self, radiograph: Radiograph) -> Statistics:
        return self._statistics_of(self._spectrum(radiograph)[1])

    def _statistics_of(self, spectrum: np.ndarray) -> Statistics:
        if self.mode == "dct":
            values = spectrum
        else:
            values = np.log(np.maximum(np.abs(spectrum), _FLOOR))
            # The mean grey value may be zero, and is averaged as it is.
            values[0, len(spectrum) - 1] = spectrum[0, len(spectrum) - 1].real
        # Not every image has every coefficient; each is averaged over those that have it.
        known = ~np.isnan(values)
        return {"coefficients": np.where(known, values, 0.0), "n_coefficients": known.astype(np.int64)}

    def _add(self, name: str, total: np.ndarray, more: np.ndarray) -> np.ndarray:
        if total.shape == more.shape:
            return total + more
        side = max(len(total), len(more))
        return self._fitted_to(total, side, 0) + self._fitted_to(more, side, 0)

    def _summarize(self, total: Statistics) -> Statistics:
        with np.errstate(invalid="ignore"):
            mean = total["coefficients"] / total["n_coefficients"]
        # One shape for all, so that base classes can average images with scanners and scanners with each other.
        known = (len(one["coefficients"]) for one in self.statistics_.values() if one)
        return {"coefficients": self._fitted_to(mean, max(known), np.nan)}

    def _fitted_to(self, values: np.ndarray, side: int, fill: float) -> np.ndarray:
        """Crop or fill a block to another highest frequency."""
        if len(values) == side:
            return values
        kept = min(len(values), side)
        if self.mode == "dct":
            fitted = np.full((side, side), fill, dtype=values.dtype)
            fitted[:kept, :kept] = values[:kept, :kept]
            return fitted
        fitted = np.full((side, 2 * side - 1), fill, dtype=values.dtype)
        old, new = len(values) - 1, side - 1
        fitted[:kept, new - kept + 1 : new + kept] = values[:kept, old - kept + 1 : old + kept]
        return fitted

    def _learn(self, reference: Statistics) -> None:
        if self.mode == "dct":
            self.reference_coefficients_ = reference["coefficients"]
        else:
            self.reference_amplitude_ = self._amplitude(reference)

    @staticmethod
    def _amplitude(mean: Statistics) -> np.ndarray:
        values = mean["coefficients"]
        amplitudes = np.exp(values)
        amplitudes[0, len(values) - 1] = values[0, len(values) - 1]
        return amplitudes

    def _unclipped(self, radiograph: Radiograph) -> np.ndarray:
        pixels, spectrum = self._spectrum(radiograph)
        if self.scope == "image":
            # As _source_statistics, without transforming the image once more.
            source = self._summarize({"n_images": np.array(1), **self._statistics_of(spectrum)})
        else:
            source = self._source_statistics(radiograph)
        side = len(spectrum)
        if self.mode == "dct":
            change = self._fitted_to(self.reference_coefficients_, side, np.nan) - self._fitted_to(
                source["coefficients"], side, np.nan
            )
            return add_low_cosines(pixels, np.nan_to_num(change))
        reference = self._fitted_to(self.reference_amplitude_, side, np.nan)
        swapped = swap_amplitude(
            spectrum, reference, self._fitted_to(self._amplitude(source), side, np.nan), self.window
        )
        return add_low_frequencies(pixels, swapped - spectrum, padding=self.padding)
