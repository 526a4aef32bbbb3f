"""Images of any size and type as equal squares, the form in which a network takes them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.images import ImageSet


def to_square(image: np.ndarray, size: int) -> np.ndarray:
    """Resize to a square; the aspect is not kept.

    Sides that shrink are averaged over areas, so that fine structure cannot alias; sides that
    grow are interpolated linearly.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        float32.
    size : int
        Pixels a side.

    Returns
    -------
    ndarray of shape (size, size)
        float32, within the range of the image.

    Examples
    --------
    >>> checkerboard = np.indices((64, 64)).sum(axis=0).astype("float32") % 2
    >>> np.unique(to_square(checkerboard, 16))
    array([0.5], dtype=float32)
    """
    height, width = image.shape
    low, high = image.min(), image.max()
    if height > size or width > size:
        shrunk = (min(width, size), min(height, size))
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    if image.shape != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    # Averages of many ones can come out at 1 + 1e-7.
    return np.clip(image, low, high)


def frames(X: ImageSet, size: int, input_range: str = "unit") -> torch.Tensor:
    """All images of a set as one tensor.

    Parameters
    ----------
    X : ImageSet
    size : int
        Pixels a side.
    input_range : {"unit", "any"}
        Whether floats must lie in [0, 1], or are taken as they are.

    Returns
    -------
    tensor of shape (n, 1, size, size)
        float32, in [0, 1] but for floats taken as they are.

    Raises
    ------
    InvalidImageError
        If an image holds NaN or, being of floats that must be, is not in [0, 1].
    InvalidParameterError
        If `input_range` is neither.

    Examples
    --------
    >>> frames(ImageSet([np.zeros((9, 7)), np.ones((20, 30))]), 8).shape
    torch.Size([2, 1, 8, 8])
    """
    if input_range not in ("unit", "any"):
        raise InvalidParameterError(f"input_range must be 'unit' or 'any'; got {input_range!r}.")
    squares = np.empty((len(X), 1, size, size), dtype=np.float32)
    for i in range(len(X)):
        pixels = X[i]
        if input_range == "any" and pixels.dtype.kind == "f":
            if not np.isfinite(pixels).all():
                raise InvalidImageError(f"Image {i} holds NaN or infinite pixels; replace them, or leave it out.")
            squares[i, 0] = to_square(pixels.astype(np.float32), size)
        else:
            squares[i, 0] = to_square(X.unit(i), size)
    return torch.from_numpy(squares)


def frame_batches(X: ImageSet, size: int, batch_size: int, input_range: str = "unit") -> Iterator[torch.Tensor]:
    """Make the frames of a set, ``batch_size`` at a time, so that a lazy set is never held whole."""
    for start in range(0, len(X), batch_size):
        yield frames(X[start : start + batch_size], size, input_range)
