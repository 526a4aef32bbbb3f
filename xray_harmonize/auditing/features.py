"""Features of harmonized images, each computed once however often the audit asks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags

from xray_harmonize.auditing.rendering import Half
from xray_harmonize.evaluation.groups import feature_matrix
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.images import ImageSet

HalfFeatures = tuple[np.ndarray, np.ndarray]
"""Rows of the images tested, and of the reference's images that a classifier learns from."""


class AuditFeatures:
    """Makes features of halves and remembers them by the pixels they are of.

    Most images come several times: the reference's pass through many harmonizers unchanged, and permuted labels change
    nothing for a harmonizer that learns from none.

    Parameters
    ----------
    transformer : transformer
        Images to rows of numbers. One that learns is fitted to the reference's images of each half; one that does not
        gives an image's row by that image alone.
    """

    def __init__(self, transformer: BaseEstimator) -> None:
        self.transformer = transformer
        self._learns = bool(get_tags(transformer).requires_fit)
        self._rows: dict[bytes, np.ndarray] = {}
        self._halves: dict[bytes, HalfFeatures] = {}

    def of(self, halves: Sequence[Half]) -> list[HalfFeatures]:
        """Features of the tested images of each half, and of the reference's that a classifier learns from.

        Parameters
        ----------
        halves : sequence of Half

        Returns
        -------
        list of (ndarray of shape (n_tested, d), ndarray of shape (n_home, d))

        Raises
        ------
        InvalidParameterError
            If the transformer does not give one row of finite numbers an image.
        """
        return [self._of_half(half) for half in halves]

    def _of_half(self, half: Half) -> HalfFeatures:
        if not self._learns:
            return self._of_images(half.images), self._of_images(half.home_images)
        key = b"".join([*_keys(half.images), b"|", *_keys(half.home_images)])
        key = hashlib.blake2b(key).digest()
        if key not in self._halves:
            fitted = clone(self.transformer).fit(half.home_images)
            self._halves[key] = (
                _checked(fitted.transform(half.images), half.images),
                _checked(fitted.transform(half.home_images), half.home_images),
            )
        return self._halves[key]

    def _of_images(self, images: ImageSet) -> np.ndarray:
        keys = _keys(images)
        new = {key: i for i, key in enumerate(keys) if key not in self._rows}
        if new:
            asked = images[list(new.values())]
            rows = _checked(clone(self.transformer).fit(asked).transform(asked), asked)
            self._rows |= dict(zip(new, rows, strict=True))
        return np.stack([self._rows[key] for key in keys])


def in_order_of_images(halves: Sequence[Half], features: Sequence[HalfFeatures]) -> np.ndarray:
    """Features of all tested images, one row an image of the cohort."""
    order = np.argsort(np.concatenate([half.positions for half in halves]))
    return np.concatenate([tested for tested, _ in features])[order]


def _keys(images: ImageSet) -> list[bytes]:
    """Name every image by its pixels and what says how to read them."""
    keys = []
    for i in range(len(images)):
        pixels, mask = images[i], images.mask(i)
        bits = 0 if pixels.dtype.kind == "f" else images.radiograph(i).bits_stored
        name = hashlib.blake2b(f"{pixels.dtype.str} {pixels.shape} {bits} {mask is None}".encode(), digest_size=20)
        name.update(np.ascontiguousarray(pixels).data)
        if mask is not None:
            name.update(np.ascontiguousarray(mask).data)
        keys.append(name.digest())
    return keys


def _checked(rows: Any, images: ImageSet) -> np.ndarray:
    table = feature_matrix(rows)
    if len(table) != len(images):
        raise InvalidParameterError(
            f"features must give one row of numbers an image, {len(images)} here; got {len(table)}."
        )
    return table
