"""Images as a training of curves needs them: every one read once, small, and in an order of its own."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
import torch

from xray_harmonize.classifiers.frames import to_square
from xray_harmonize.harmonizers.base import naming
from xray_harmonize.harmonizers.curve_views import bilinear_view
from xray_harmonize.harmonizers.foreground import foreground_counts
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import quantiles

PROBABILITIES: Final = (np.arange(128) + 0.5) / 128
"""Where quantile functions are compared: the middles of 128 equal shares of the pixels."""


@dataclass(frozen=True)
class CurveImages:
    """Images as a training of curves needs them, each measured once.

    Parameters
    ----------
    frames : tensor of shape (n, 1, image_size, image_size)
        What the frozen networks see before the curve.
    views : tensor of shape (n, 1, view_size, view_size) or (n, 0)
        What the curve's network sees; empty where there is none.
    quantiles : tensor of shape (n, 128)
        Quantile functions at ``PROBABILITIES``, inside the mask.
    scanner : tensor of int of shape (n,)
        Number of the scanner.
    label : tensor of int of shape (n,)
        Number of the class; -1 where it is not known.
    """

    frames: torch.Tensor
    views: torch.Tensor
    quantiles: torch.Tensor
    scanner: torch.Tensor
    label: torch.Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, chosen: np.ndarray) -> CurveImages:
        at = torch.as_tensor(chosen)
        return CurveImages(self.frames[at], self.views[at], self.quantiles[at], self.scanner[at], self.label[at])

    def joined(self, others: CurveImages) -> CurveImages:
        """Give these images and others together."""
        names = ("frames", "views", "quantiles", "scanner", "label")
        return CurveImages(*(torch.cat([getattr(self, name), getattr(others, name)]) for name in names))


def measure(
    images: ImageSet, scanner: np.ndarray, label: np.ndarray | None, image_size: int, view_size: int | None
) -> CurveImages:
    """Read every image once.

    Parameters
    ----------
    images : ImageSet
    scanner : ndarray of int of shape (n,)
    label : ndarray of int of shape (n,) or None
    image_size : int
    view_size : int or None
        None where no network looks at the images.

    Returns
    -------
    CurveImages

    Raises
    ------
    InvalidImageError
        If an image holds NaN or values beyond its full scale, or its mask leaves no pixel.
    """
    n = len(images)
    label = np.full(n, -1, dtype=np.int64) if label is None else label
    frames = np.empty((n, 1, image_size, image_size), dtype=np.float32)
    views = np.empty((n, 0) if view_size is None else (n, 1, view_size, view_size), dtype=np.float32)
    functions = np.empty((n, len(PROBABILITIES)), dtype=np.float32)
    for i in range(n):
        radiograph = images.radiograph(i)
        frames[i, 0] = to_square(images.unit(i), image_size)
        with naming(radiograph):
            functions[i] = quantiles(foreground_counts(radiograph, "all"), PROBABILITIES)
        if view_size is not None:
            views[i, 0] = bilinear_view(radiograph, view_size)
    return CurveImages(*map(torch.from_numpy, (frames, views, functions, scanner, label)))


def canonical_order(images: CurveImages) -> np.ndarray:
    """Order by scanner and content, so that a training does not depend on the order in which images were given.

    Means come first, so that neither does it depend on the bits that the same grey values are stored in.
    """
    frames = images.frames.numpy()
    keys = [
        (int(images.scanner[i]), float(one.mean(dtype=np.float64)), blake2b(one.tobytes(), digest_size=16).digest())
        for i, one in enumerate(frames)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)


def pooled_quantiles(functions: torch.Tensor) -> torch.Tensor:
    """Quantile function of several images taken together, of shape (128,), from theirs of shape (n, 128).

    Examples
    --------
    >>> two = torch.stack([torch.zeros(128), torch.ones(128)])
    >>> pooled_quantiles(two)[[0, 63, 64, 127]]
    tensor([0., 0., 1., 1.])
    """
    at = (PROBABILITIES * functions.numel()).astype(np.intp)
    return functions.flatten().sort().values[torch.as_tensor(at)]
