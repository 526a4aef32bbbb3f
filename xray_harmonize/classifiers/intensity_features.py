"""Cheap features of an image's rendering: what its grey values are, and how much structure there is at which scale.

They need no network and no training, tell most scanners apart, and so are what an audit looks with first.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from xray_harmonize.classifiers.frames import to_square
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.image_transformer import ImageTransformer
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import as_unit
from xray_harmonize.parameters import check_whole_numbers
from xray_harmonize.radiograph import Radiograph

# Below this a band holds nothing but rounding, and its logarithm would be noise.
_LEAST_ENERGY = 1e-6


class IntensityFeatures(ImageTransformer):
    """Quantiles of grey values and energies of frequency bands, a row of numbers an image.

    Parameters
    ----------
    n_quantiles : int, default=32
        Quantiles of the grey values that count (inside the mask), at probabilities equally spaced from 0 to 1 with
        half a step left at either end.
    n_bands : int, default=5
        Bands between Gaussians of doubling width, the finest first; the energy of a band is the logarithm of its
        standard deviation. 0: quantiles alone.
    image_size : int, default=128
        Side in pixels of the square on which bands are measured. Quantiles are those of the image as it is.
    input_range : {"unit", "any"}, default="any"
        "unit": floats must lie in [0, 1]. "any": floats are taken as they are, such as z-scores.

    Raises
    ------
    InvalidParameterError
        From ``transform``, if a parameter is out of range.

    See Also
    --------
    DeepFeatures : Features of a network, which tell more of texture and of what is in the image.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.random.default_rng(0).random((3, 40, 30)).astype("float32")
    >>> features = IntensityFeatures(n_quantiles=4, n_bands=2).fit_transform(images)
    >>> features.shape, features.dtype
    ((3, 6), dtype('float32'))
    """

    def __init__(
        self, n_quantiles: int = 32, n_bands: int = 5, image_size: int = 128, input_range: str = "any"
    ) -> None:
        self.n_quantiles = n_quantiles
        self.n_bands = n_bands
        self.image_size = image_size
        self.input_range = input_range

    def fit(self, X: Any, y: Any = None) -> IntensityFeatures:
        """Learn nothing; parameters are checked.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays
        y : ignored

        Returns
        -------
        IntensityFeatures
            Itself.
        """
        self._check()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Measure images.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays

        Returns
        -------
        ndarray of float32 of shape (n, n_quantiles + n_bands)

        Raises
        ------
        InvalidImageError
            If an image holds NaN, lies outside of [0, 1] with ``input_range="unit"``, or has no pixel that counts.
        """
        self._check()
        images = ImageSet.of(X)
        rows = [self._row(images.radiograph(i), i) for i in range(len(images))]
        return np.array(rows, dtype=np.float32).reshape(len(images), self.n_quantiles + self.n_bands)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns, as objects: ``quantile_0.50``, ``band_1`` (the finest)."""
        quantiles = [f"quantile_{p:.2f}" for p in self._probabilities()]
        return np.array([*quantiles, *(f"band_{band + 1}" for band in range(self.n_bands))], dtype=object)

    def _row(self, radiograph: Radiograph, i: int) -> np.ndarray:
        name = radiograph.name or f"Image {i}"
        pixels = radiograph.pixels
        if self.input_range == "any" and pixels.dtype.kind == "f":
            if not np.isfinite(pixels).all():
                raise InvalidImageError(f"{name} holds NaN or infinite pixels; replace them, or leave it out.")
            image = pixels.astype(np.float32)
        else:
            image = as_unit(pixels, radiograph.bits_stored, name=name)
        counted = image if radiograph.mask is None else image[radiograph.mask]
        if not counted.size:
            raise InvalidImageError(f"{name}: its mask leaves no pixel, expected at least one; leave it out.")
        quantiles = np.quantile(counted, self._probabilities())
        return np.concatenate([quantiles, self._band_energies(to_square(image, self.image_size))])

    def _band_energies(self, image: np.ndarray) -> list[float]:
        energies = []
        for band in range(self.n_bands):
            smoother = cv2.GaussianBlur(image, (0, 0), float(2**band), borderType=cv2.BORDER_REFLECT)
            energies.append(float(np.log(max(float(np.std(image - smoother)), _LEAST_ENERGY))))
            image = smoother
        return energies

    def _probabilities(self) -> np.ndarray:
        return (np.arange(self.n_quantiles) + 0.5) / self.n_quantiles

    def _check(self) -> None:
        check_whole_numbers(self.get_params(deep=False), {"n_quantiles": 1, "n_bands": 0, "image_size": 8})
        if self.input_range not in ("unit", "any"):
            raise InvalidParameterError(f"input_range must be 'unit' or 'any'; got {self.input_range!r}.")
