"""What methods that are not pointwise share: their result may leave [0, 1], is cut once, at the end, and counted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.harmonizers.base import naming
from xray_harmonize.radiograph import Radiograph

# Half a level of 16 bits: a white pixel that rounding lifted above 1 was not clipped.
_TOLERANCE = 0.5 / 65535


class ClippedMixin:
    """For methods whose result is not a tone curve.

    Hook of a subclass: ``_unclipped(radiograph) -> float32 image`` in new memory.
    """

    def clipped_fraction(self: Any, X: Any, *, scanner: ArrayLike | None = None) -> np.ndarray:
        """Tell what part of every harmonized image had to be cut to [0, 1].

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        scanner : array-like of str of shape (n,), or str, optional

        Returns
        -------
        ndarray of float64 of shape (n,)
            Pixels beyond [0, 1] by more than half a level of 16 bits, as a fraction of the pixels inside the mask.
        """
        check_is_fitted(self)
        self._check_parameters()
        images = self._images(X, scanner)
        return np.array([self._clipped(images.radiograph(i)) for i in range(len(images))], dtype=np.float64)

    def _clipped(self: Any, radiograph: Radiograph) -> float:
        with naming(radiograph):
            image = self._unclipped(radiograph)
        beyond = (image < -_TOLERANCE) | (image > 1 + _TOLERANCE)
        return float(beyond.mean() if radiograph.mask is None else beyond[radiograph.mask].mean())

    def _render(self: Any, radiograph: Radiograph) -> np.ndarray:
        with naming(radiograph):
            image = self._unclipped(radiograph)
        return np.clip(image, 0.0, 1.0, out=image)
