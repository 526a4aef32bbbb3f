"""An image as a sum of frequency bands: differences of Gaussians of doubling width, each on as coarse a grid as fits.

``I = B_1 + ... + B_N + L_N`` with ``B_i = L_{i-1} - L_i``, ``L_0 = I`` and ``L_i`` the image behind a Gaussian of width
``sigma_i``. A Gaussian wider than a few pixels leaves nothing that needs every pixel, so it is computed on a grid of
half, a quarter, ... of the pixels along each side. Averaging pixels on the way there and interpolating on the way back
each blur by a known variance; only the rest of ``sigma_i`` is left to be done.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from xray_harmonize.harmonizers.masked import deviation_inside

# A grid is halved as long as the Gaussian keeps this width in pixels of it: below, averaging and interpolating would
# decide its shape.
_NARROWEST = 2.0
# No grid has fewer pixels along its shorter side, because sides are filled up to whole pixels of the coarsest one.
_SMALLEST_SIDE = 64


@dataclass(frozen=True, slots=True)
class Bands:
    """Frequency bands of one image.

    Attributes
    ----------
    bands : list of ndarray of float32
        Finest first, on grids of the image's size divided by powers of two; the last is the residual ``L_N``.
    halvings : list of int
        For each band how often its grid was halved.
    shape : tuple of int
        Shape of the image; the finest grid may be a little larger, by mirrored pixels.
    """

    bands: list[np.ndarray]
    halvings: list[int]
    shape: tuple[int, int]


def split_bands(image: np.ndarray, sigmas: np.ndarray) -> Bands:
    """Split an image into frequency bands.

    Parameters
    ----------
    image : ndarray of float32 of shape (height, width)
    sigmas : ndarray of float of shape (n_bands,)
        Rising standard deviations of the Gaussians, in pixels.

    Returns
    -------
    Bands
        ``n_bands`` bands and the residual; :func:`join_bands` adds them up to the image.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((300, 200), dtype="float32")
    >>> bands = split_bands(image, np.array([1.0, 2.0, 4.0]))
    >>> [band.shape for band in bands.bands]
    [(300, 200), (300, 200), (300, 200), (150, 100)]
    >>> bool(np.allclose(join_bands(bands, np.ones(4)), image, atol=1e-6))
    True
    """
    height, width = image.shape
    most = max(0, int(np.log2(min(height, width) / _SMALLEST_SIDE)))
    halvings = [min(most, max(0, int(np.floor(np.log2(max(s, 1e-9) / _NARROWEST))))) for s in sigmas]
    whole = 2 ** max(halvings)
    below, right = -height % whole, -width % whole
    if below or right:
        image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT)
    pyramid = [image]
    for _ in range(max(halvings)):
        finer = pyramid[-1]
        pyramid.append(cv2.resize(finer, (finer.shape[1] // 2, finer.shape[0] // 2), interpolation=cv2.INTER_AREA))
    bands, grids, low = [], [0], image
    for sigma, n_halvings in zip(sigmas, halvings, strict=True):
        # Averaging blurs by 1/4, interpolating by 3/4 pixel squared of the finer grid.
        rest = (sigma**2 - (4**n_halvings - 1) / 3) / 4**n_halvings
        lower = gaussian_blur(pyramid[n_halvings], np.sqrt(rest))
        bands.append(cv2.subtract(low, _doubled(lower, n_halvings - grids[-1])).reshape(low.shape))
        grids.append(n_halvings)
        low = lower
    return Bands([*bands, low], grids, (height, width))


def join_bands(bands: Bands, gains: np.ndarray, level: float = 0.0) -> np.ndarray:
    """Add up bands, each multiplied by its gain; of the residual what deviates from ``level`` is multiplied.

    Parameters
    ----------
    bands : Bands
    gains : ndarray of float of shape (n_bands + 1,)
    level : float, default=0
        Grey value that stays.

    Returns
    -------
    ndarray of float32 of shape (height, width)
        New memory.
    """
    residual = bands.bands[-1]
    total = residual * np.float32(gains[-1]) + np.float32(level * (1 - gains[-1]))
    halvings = bands.halvings[-1]
    for band, n_halvings, gain in zip(bands.bands[-2::-1], bands.halvings[-2::-1], gains[-2::-1], strict=True):
        total = cv2.scaleAdd(band, float(gain), _doubled(total, halvings - n_halvings)).reshape(band.shape)
        halvings = n_halvings
    return total[: bands.shape[0], : bands.shape[1]]


def band_energies(bands: Bands, masks: list[np.ndarray] | None = None) -> np.ndarray:
    """Energy of every band: its standard deviation over the pixels that count.

    Parameters
    ----------
    bands : Bands
    masks : list of ndarray of bool, optional
        Pixels that count, on every grid: :func:`mask_pyramid`. All where None.

    Returns
    -------
    ndarray of float64 of shape (n_bands + 1,)
        That of the residual last.

    Raises
    ------
    InvalidImageError
        If the mask is empty.
    """
    energies = []
    for band, n_halvings in zip(bands.bands, bands.halvings, strict=True):
        height, width = (-(-n // 2**n_halvings) for n in bands.shape)
        if n_halvings:
            # What interpolation will take off counts as taken off, or the energy would depend on the grid.
            side = (1 - 0.25**n_halvings) / 8
            kernel = np.array([side, 1 - 2 * side, side])
            band = cv2.sepFilter2D(band, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT)
        energies.append(deviation_inside(band[:height, :width], None if masks is None else masks[n_halvings]))
    return np.array(energies)


def mask_pyramid(mask: np.ndarray, bands: Bands) -> list[np.ndarray]:
    """Bring a mask to the grids of some bands.

    Parameters
    ----------
    mask : ndarray of bool of shape (height, width)
    bands : Bands
        Of an image of that shape.

    Returns
    -------
    list of ndarray of bool
        For 0, 1, ... halvings: true where at least half of what a coarse pixel stands for counts, or, where no pixel
        would be left, any of it.
    """
    masks, share = [mask], mask.astype(np.float32)
    for _ in range(max(bands.halvings)):
        height, width = share.shape
        if height % 2 or width % 2:
            share = cv2.copyMakeBorder(share, 0, height % 2, 0, width % 2, cv2.BORDER_REFLECT)
        share = cv2.resize(share, (share.shape[1] // 2, share.shape[0] // 2), interpolation=cv2.INTER_AREA)
        half = share >= 0.5
        masks.append(half if half.any() else share > 0)
    return masks


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Convolve with a Gaussian of ``sigma`` pixels, cut at four of them; beyond its border the image is mirrored."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return image
    kernel = cv2.getGaussianKernel(2 * radius + 1, sigma, cv2.CV_32F)
    return cv2.sepFilter2D(image, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT).reshape(image.shape)


def _doubled(image: np.ndarray, times: int) -> np.ndarray:
    """Interpolate an image to a finer grid."""
    for _ in range(times):
        image = cv2.resize(image, (2 * image.shape[1], 2 * image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return image
