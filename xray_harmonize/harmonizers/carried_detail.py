"""What was found for a small copy of an image, brought to the image itself without loss of its detail."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from xray_harmonize.geometry.resampling import resampled

NO_CONTRAST: Final = 1 / 65535
"""Less contrast than a step of 16 bits is none."""

_LARGEST_GAIN: Final = 4.0
_RIDGE: Final = 0.01


def local_gain(source: np.ndarray, found: np.ndarray, radius: int = 2) -> np.ndarray:
    """Slope at which the grey values of one image follow those of another, in windows of them.

    Parameters
    ----------
    source, found : ndarray of float32 of shape (height, width)
    radius : int, default=2
        Windows have ``2 radius + 1`` pixels a side.

    Returns
    -------
    ndarray of float32 of shape (height, width)
        In [0, 4]. Where the source is flat and tells nothing, the slope over the whole image.

    Examples
    --------
    >>> source = np.random.default_rng(0).random((8, 8), dtype="float32")
    >>> np.unique(local_gain(source, 0.5 * source + 0.1).round(4))
    array([0.5], dtype=float32)
    """
    x, h = source.astype(np.float64), found.astype(np.float64)
    x -= x.mean()
    h -= h.mean()
    variance = float((x * x).mean())
    if variance <= NO_CONTRAST**2:
        return np.ones_like(source)
    overall = max(float((x * h).mean()) / variance, 0.0)

    def averaged(image: np.ndarray) -> np.ndarray:
        side = 2 * radius + 1
        return cv2.blur(image, (side, side), borderType=cv2.BORDER_REFLECT_101).reshape(image.shape)

    mean_x, mean_h = averaged(x), averaged(h)
    ridge = _RIDGE * variance
    covariance = averaged(x * h) - mean_x * mean_h
    own = np.maximum(averaged(x * x) - mean_x**2, 0)
    gain = np.clip(averaged((covariance + ridge * overall) / (own + ridge)), 0, _LARGEST_GAIN)
    return gain.astype(np.float32)


def carry_over(pixels: np.ndarray, frame: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Bring an image to what was found for a smaller copy of it: ``Y = h + g (X - x)``.

    x is the smaller copy and h what was found for it, g its :func:`local_gain`, all three brought to the size of X. So
    everything the copy shows is as found, and finer detail is the image's own, at the contrast that its surroundings
    have been given. Where X is no larger than its copy, Y is h; where h is a linear change of x, Y is that change of X.

    Parameters
    ----------
    pixels : ndarray of float32 of shape (height, width)
        X, in [0, 1].
    frame, found : ndarray of float32 of shape (size, size)
        x and h.

    Returns
    -------
    ndarray of float32 of shape (height, width)
        In [0, 1].

    Examples
    --------
    >>> image = np.random.default_rng(0).random((32, 48), dtype="float32")
    >>> frame = resampled(image, (8, 8))
    >>> bool(np.allclose(carry_over(image, frame, 0.5 * frame + 0.1), 0.5 * image + 0.1, atol=1e-5))
    True
    """
    if frame.shape == pixels.shape:
        return np.clip(found, 0, 1)
    shape = pixels.shape
    x, h, gain = (resampled(one, (shape[0], shape[1])) for one in (frame, found, local_gain(frame, found)))
    return np.clip(h + gain * (pixels - x), 0, 1)
