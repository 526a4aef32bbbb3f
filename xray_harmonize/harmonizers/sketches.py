"""Sketches of images: coarse quantile functions, of which those of all images of a scanner can be kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xray_harmonize.harmonizers.tone_flow import GRID, flow
from xray_harmonize.levels import PROBABILITIES

SKETCH_PROBABILITIES: np.ndarray = PROBABILITIES[::8]
SKETCH_PROBABILITIES.setflags(write=False)

N_PROFILE = 10
# Fraction of the reference's range below which there is air: its share of the image is the body's size, no exposure.
_FLOOR = 0.1
# Log-odds of the ends would be infinite.
_NEAREST_END = 1e-3
# Coefficient at which derivatives are taken as differences.
_STEP = 0.03


def sketch(counts: np.ndarray) -> np.ndarray:
    """Levels that hold the pixels of given ranks, and none between levels.

    Parameters
    ----------
    counts : ndarray of shape (n_levels,)
        Pixels a level, at equally spaced levels from 0 to 1; at least one.

    Returns
    -------
    ndarray of float of shape (n_probabilities,)

    Notes
    -----
    :func:`xray_harmonize.levels.quantiles` interpolates, and so climbs slowly from a level that half of all pixels
    share, such as air, to the next: the more air, the more grey values that no pixel has.

    Examples
    --------
    >>> np.unique(sketch(np.array([6, 0, 0, 2]))).tolist()
    [0.0, 1.0]
    """
    cumulative = np.cumsum(counts)
    # The darkest pixel has rank one.
    ranks = np.maximum(SKETCH_PROBABILITIES * cumulative[-1], 1)
    return np.searchsorted(cumulative, ranks) / (counts.size - 1)


def profile(sketches: np.ndarray) -> np.ndarray:
    """Log-odds of a few quantiles of what is brighter than air.

    Parameters
    ----------
    sketches : ndarray of float of shape (n_images, n_probabilities)
        In fractions of a range.

    Returns
    -------
    ndarray of float of shape (n_images, n_profile)
        Finite for every image, black and constant ones too.

    Examples
    --------
    >>> profile(np.full((1, SKETCH_PROBABILITIES.size), 0.5))[0, :3]
    array([0., 0., 0.])
    """
    p, rows = SKETCH_PROBABILITIES, np.arange(len(sketches))
    above = np.clip((sketches <= _FLOOR).sum(axis=1), 1, p.size - 1)
    low, high = sketches[rows, above - 1], sketches[rows, above]
    inside = (low <= _FLOOR) & (high > low)
    part = np.clip(np.where(inside, _FLOOR - low, 0) / np.where(inside, high - low, 1), 0, 1)
    air = p[above - 1] + part * (p[above] - p[above - 1])
    wanted = air[:, None] + (1 - air[:, None]) * (np.arange(N_PROFILE) + 0.5) / N_PROFILE
    left = np.clip(np.searchsorted(p, wanted, side="right") - 1, 0, p.size - 2)
    rest = (wanted - p[left]) / (p[left + 1] - p[left])
    values = (1 - rest) * np.take_along_axis(sketches, left, 1) + rest * np.take_along_axis(sketches, left + 1, 1)
    values = np.clip(values, _NEAREST_END, 1 - _NEAREST_END)
    return np.log(values / (1 - values))


def profile_slopes(sketches: np.ndarray, n_fields: int) -> np.ndarray:
    """Derive the profile of every image by the coefficients of a flow.

    Parameters
    ----------
    sketches : ndarray of float of shape (n_images, n_probabilities)
        In fractions of a range.
    n_fields : int

    Returns
    -------
    ndarray of float of shape (n_images, n_profile, n_fields)

    Examples
    --------
    >>> grey = np.full((1, SKETCH_PROBABILITIES.size), 0.5)
    >>> profile_slopes(grey, 2)[0, 0].round(1)  # 4 sin(pi / 2) and 4 sin(pi) / 2
    array([4., 0.])
    """
    there, back = (flow(sign * _STEP * np.eye(n_fields)) for sign in (1, -1))
    return np.stack(
        [
            (profile(np.interp(sketches, GRID, up)) - profile(np.interp(sketches, GRID, down))) / (2 * _STEP)
            for up, down in zip(there, back, strict=True)
        ],
        axis=2,
    )


def pooled(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Sketch of all images together.

    Parameters
    ----------
    groups : sequence of ndarray of float of shape (n_images, n_probabilities)
        Groups count alike, and images alike within a group.

    Returns
    -------
    ndarray of float of shape (n_probabilities,)

    Examples
    --------
    >>> n = SKETCH_PROBABILITIES.size
    >>> pooled([np.full((2, n), 0.2), np.full((1, n), 0.6)])[[0, n // 4, -n // 4, -1]]
    array([0.2, 0.2, 0.6, 0.6])
    """
    p = SKETCH_PROBABILITIES
    mass = np.diff(np.concatenate([[0.0], (p[1:] + p[:-1]) / 2, [1.0]]))
    shares = np.concatenate([np.tile(mass, len(group)) / (len(groups) * len(group)) for group in groups])
    values = np.concatenate([group.ravel() for group in groups])
    order = np.argsort(values, kind="stable")
    return np.interp(p, np.cumsum(shares[order]) - shares[order] / 2, values[order])
