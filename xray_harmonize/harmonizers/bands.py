"""Localized energy normalization: every frequency band of an image gets the energy it has on the reference."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.harmonizers.base import ReferenceHarmonizer, Statistics, naming
from xray_harmonize.harmonizers.clipping import ClippedMixin
from xray_harmonize.harmonizers.foreground import check_foreground, foreground_counts
from xray_harmonize.harmonizers.gaussian_bands import Bands, band_energies, join_bands, mask_pyramid, split_bands
from xray_harmonize.harmonizers.masked import mean_inside
from xray_harmonize.levels import as_unit
from xray_harmonize.radiograph import Radiograph

# Energy, as a fraction of full scale, below which a band holds rounding noise and nothing to scale.
_FLOOR = 1e-5


def band_sigmas(shape: tuple[int, ...], n_bands: int, base_sigma: float) -> np.ndarray:
    """Widths of the Gaussians between bands, ``sigma_i = 2^(i-1) base_sigma min(h, w)`` pixels for i = 1..n_bands.

    Examples
    --------
    >>> band_sigmas((512, 600), 3, 1 / 128)
    array([ 4.,  8., 16.])
    """
    return base_sigma * min(shape) * 2.0 ** np.arange(n_bands)


def energy_gains(energies: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """``lambda_i = e_ref,i / e_i``; one where a band is empty, since nothing times a gain stays nothing.

    Examples
    --------
    >>> energy_gains(np.array([0.1, 0.0]), np.array([0.2, 0.2]))
    array([2., 1.])
    """
    return np.where(energies > _FLOOR, targets / np.maximum(energies, _FLOOR), 1.0)


def normalize_energies(
    image: np.ndarray,
    sigmas: np.ndarray,
    targets: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    bands: Bands | None = None,
    tolerance: float = 0.05,
    max_iter: int = 20,
    max_gain: float = 8.0,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Scale the bands of an image until their energies are the wanted ones.

    ``I' = sum_i g_i B_i`` with ``g_i <- g_i lambda_i``, ``lambda_i = e_ref,i / e_i(I')``, until every
    ``|lambda_i - 1| < tolerance``: bands overlap, so scaling one also changes its neighbours. It is the bands of the
    image itself that are scaled, whatever the number of rounds, so the result is one filter of the image with bounded
    gains. The mean of the image stays.

    Parameters
    ----------
    image : ndarray of float32 of shape (height, width)
    sigmas : ndarray of float of shape (n_bands,)
        Rising widths of the Gaussians between bands, in pixels.
    targets : ndarray of float of shape (n_bands + 1,)
        Wanted energies, that of the residual last.
    mask : ndarray of bool of shape (height, width), optional
        Pixels whose energy is meant.
    bands : Bands, optional
        ``split_bands(image, sigmas)``, where known already.
    tolerance, max_iter, max_gain
        See :class:`MultiBand`.

    Returns
    -------
    image : ndarray of float32 of shape (height, width)
        New memory; not clipped.
    gains : ndarray of float64 of shape (n_bands + 1,)
        What each band is multiplied by, within [1 / max_gain, max_gain].
    converged : bool
        Whether the energies are the wanted ones, as far as ``max_gain`` lets them.

    Notes
    -----
    Philipsen et al.: Localized energy-based normalization of medical images, IEEE TMI 34(9), 2015.
    """
    bands = split_bands(image, sigmas) if bands is None else bands
    gains = np.ones(len(targets))
    level = mean_inside(image, mask)
    masks = None if mask is None else mask_pyramid(mask, bands)
    result, now = image, bands
    for n_done in range(max_iter + 1):
        wanted = np.clip(gains * energy_gains(band_energies(now, masks), targets), 1 / max_gain, max_gain)
        converged = bool(np.abs(wanted / gains - 1).max() < tolerance)
        if converged or n_done == max_iter:
            break
        gains = wanted
        result = join_bands(bands, gains, level)
        now = split_bands(result, sigmas)
    # The bands' own means inside the mask are small, but not zero.
    return result + np.float32(level - mean_inside(result, mask)), gains, converged


class MultiBand(ClippedMixin, ReferenceHarmonizer):
    """Give every frequency band of an image the energy that it has on the reference scanner.

    Corrects contrast and sharpness scale by scale, which no tone curve can: what one vendor's processing has sharpened
    or flattened, it brings back. As it changes local contrast, look at what it does before trusting it.

    Parameters
    ----------
    reference : str, optional
        Scanner that energies are learned from; None for the one with most training images, "pooled" for all alike.
    scope : {"image", "scanner", "mixed"}, default="image"
        Whose energies are brought to the reference's: each image's, so that every image ends with the same ones; the
        mean ones of its scanner, so that an image keeps what distinguishes it from others of its scanner; or a mean
        of both.
    n_bands : int, default=5
        Frequency bands, besides the residual below them.
    base_sigma : float, default=1/128
        Width of the narrowest Gaussian as a fraction of the image's shorter side; each further one is twice as wide.
    foreground : {"all", "nonzero", "otsu"} or float, default="all"
        Pixels whose energy is meant, inside the mask: every one, those above zero, those above Otsu's level, or those
        above a fraction of full scale.
    tolerance : float, default=0.05
        Largest ``|lambda - 1|`` that is left. Bands overlap: reaching energies much closer than this takes gains that
        alternate from band to band and fit noise.
    max_iter : int, default=20
        Most rounds of scaling; a warning tells if they do not suffice.
    max_gain : float, default=8
        Bound of what a band may be multiplied or divided by in all.
    image_weight : float, default=0.5
        Weight of the image's own energies with ``scope="mixed"``.
    unseen : {"error", "image"}, default="error"
        What to do with a scanner not seen in fit: refuse, or take the image's own energies.

    Attributes
    ----------
    reference_energies_ : ndarray of shape (n_bands + 1,)
        Mean energies (standard deviations, as fractions of full scale) over the reference's training images; finest
        band first, residual last.
    reference_level_ : float
        Mean grey value of the reference's training images inside mask and foreground.
    reference_, statistics_
        See :class:`~xray_harmonize.harmonizers.base.ReferenceHarmonizer`.

    See Also
    --------
    FourierSwap : changes the lowest frequencies alone.

    Notes
    -----
    The mean grey value goes to ``level_ref + lambda (level - level_src)``, lambda being the ratio of the residuals'
    energies: an image under an affine tone curve comes back exactly, with every scope. Pixels outside the mask count as
    the mean of those inside, and change along. The result is clipped to [0, 1] once, at the end.

    Philipsen et al.: Localized energy-based normalization of medical images, IEEE TMI 34(9), 2015.

    Examples
    --------
    >>> import numpy as np
    >>> bodies = np.random.default_rng(0).random((6, 64, 64))
    >>> X = np.concatenate([bodies[:3], 0.1 + 0.4 * bodies[3:]])
    >>> harmonized = MultiBand(reference="A").fit_transform(X, scanner=["A"] * 3 + ["B"] * 3)
    >>> bool(abs(harmonized[3:] - bodies[3:]).mean() < 0.01)
    True
    """

    def __init__(
        self,
        reference: str | None = None,
        scope: str = "image",
        *,
        n_bands: int = 5,
        base_sigma: float = 1 / 128,
        foreground: str | float = "all",
        tolerance: float = 0.05,
        max_iter: int = 20,
        max_gain: float = 8.0,
        image_weight: float = 0.5,
        unseen: str = "error",
    ) -> None:
        self.reference = reference
        self.scope = scope
        self.n_bands = n_bands
        self.base_sigma = base_sigma
        self.foreground = foreground
        self.tolerance = tolerance
        self.max_iter = max_iter
        self.max_gain = max_gain
        self.image_weight = image_weight
        self.unseen = unseen

    def band_gains(self, X: Any, *, scanner: ArrayLike | None = None) -> np.ndarray:
        """Tell what the bands of every image are multiplied by.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        scanner : array-like of str of shape (n,), or str, optional

        Returns
        -------
        ndarray of float64 of shape (n, n_bands + 1)
            Finest band first, residual last.
        """
        check_is_fitted(self)
        self._check_parameters()
        images = self._images(X, scanner)
        gains = np.empty((len(images), self.n_bands + 1))
        for i in range(len(images)):
            radiograph = images.radiograph(i)
            with naming(radiograph):
                gains[i] = self._normalized(radiograph)[1]
        return gains

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_foreground(self.foreground)
        for name in ("n_bands", "max_iter"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise InvalidParameterError(f"{name} must be a whole number of at least 1; got {value!r}.")
        if not self.base_sigma > 0 or not self.base_sigma * 2 ** (self.n_bands - 1) <= 0.5:
            raise InvalidParameterError(
                "The widest Gaussian, base_sigma * 2**(n_bands - 1), must lie between 0 and half of the shorter side; "
                f"got base_sigma={self.base_sigma!r} and n_bands={self.n_bands!r}."
            )
        if not self.tolerance > 0:
            raise InvalidParameterError(f"tolerance must be above 0; got {self.tolerance!r}.")
        if not self.max_gain >= 1:
            raise InvalidParameterError(f"max_gain must be at least 1; got {self.max_gain!r}.")

    def _pixels(self, radiograph: Radiograph) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Pixels in [0, 1]; the same with what the mask leaves out filled by the mean; pixels whose energy counts."""
        pixels = as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name or "The image")
        inside = radiograph.mask
        filled = pixels
        if inside is not None:
            filled = np.where(inside, pixels, np.float32(mean_inside(pixels, inside)))
        if self.foreground != "all":
            counts = foreground_counts(radiograph, self.foreground)
            above = pixels * np.float32(counts.size - 1) > np.flatnonzero(counts)[0] - 0.5
            inside = above if inside is None else above & inside
        return pixels, filled, inside

    def _measure(self, radiograph: Radiograph) -> Statistics:
        _, filled, counted = self._pixels(radiograph)
        return self._statistics_of(filled, counted, self._split(filled))

    def _split(self, filled: np.ndarray) -> Bands:
        return split_bands(filled, band_sigmas(filled.shape, self.n_bands, self.base_sigma))

    @staticmethod
    def _statistics_of(filled: np.ndarray, counted: np.ndarray | None, bands: Bands) -> Statistics:
        masks = None if counted is None else mask_pyramid(counted, bands)
        return {"energies": band_energies(bands, masks), "level": np.array(mean_inside(filled, counted))}

    def _learn(self, reference: Statistics) -> None:
        self.reference_energies_ = reference["energies"]
        self.reference_level_ = float(reference["level"])

    def _normalized(self, radiograph: Radiograph) -> tuple[np.ndarray, np.ndarray]:
        pixels, filled, counted = self._pixels(radiograph)
        bands = self._split(filled)
        own = self._statistics_of(filled, counted, bands)
        # With scope="image" the source is the image itself, and its bands are known already.
        source = own if self.scope == "image" else self._source_statistics(radiograph)
        ratio = energy_gains(source["energies"], self.reference_energies_)
        result, gains, converged = normalize_energies(
            filled,
            band_sigmas(filled.shape, self.n_bands, self.base_sigma),
            ratio * own["energies"],
            mask=counted,
            bands=bands,
            tolerance=self.tolerance,
            max_iter=self.max_iter,
            max_gain=self.max_gain,
        )
        if not converged:
            # Without the image's name, so that a large set tells it once.
            warnings.warn(
                f"Some images did not reach the reference's band energies within {self.tolerance:g} in "
                f"{self.max_iter} rounds; band_gains shows what became of them. Raise base_sigma where images are "
                "small or unequally sharp, or raise max_iter or tolerance.",
                XRayHarmonizeWarning,
                stacklevel=2,
            )
        slope = np.clip(ratio[-1], 1 / self.max_gain, self.max_gain)
        level = self.reference_level_ + slope * (own["level"] - source["level"])
        result += np.float32(level - own["level"])
        if radiograph.mask is not None:
            result = np.where(radiograph.mask, result, pixels + (result - filled))
        return result, gains

    def _unclipped(self, radiograph: Radiograph) -> np.ndarray:
        return self._normalized(radiograph)[0]
