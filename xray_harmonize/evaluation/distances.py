r"""How far apart scanners are: kernel and Fréchet distances of features, Wasserstein distance of grey levels.

References
----------
.. [1] A. Gretton et al., "A kernel two-sample test", Journal of Machine Learning Research 13, 2012.
.. [2] M. Bińkowski et al., "Demystifying MMD GANs", ICLR 2018 (the kernel inception distance).
.. [3] M. Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", NeurIPS
   2017 (the Fréchet inception distance, and that it needs thousands of images).
.. [4] C. Villani, "Optimal Transport: Old and New", Springer, 2009 (on the line, the distance is the area between the
   distribution functions).
"""

from __future__ import annotations

import warnings
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from xray_harmonize.evaluation.bootstrap import interval
from xray_harmonize.evaluation.groups import (
    feature_matrix,
    measure_groups,
    membership,
    permutation_p,
    scanner_codes,
)
from xray_harmonize.evaluation.pairs import gaussian_kernel, group_gaps, polynomial_kernel, squared_distances
from xray_harmonize.evaluation.patients import patient_codes
from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    NotEnoughImagesError,
    XRayHarmonizeWarning,
)
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import histogram

__all__ = ["KID", "MMD", "cumulative_histograms", "fid", "group_wasserstein", "histogram_wasserstein", "kid", "mmd"]

# What a Fréchet distance of 2,048 inception features is usually asked to have.
ENOUGH_FOR_FID = 2048

# Cells of the grey scale over which distribution functions are averaged.
N_CELLS = 1024


class MMD(NamedTuple):
    """Squared maximum mean discrepancy, unbiased (so it may be negative), and its permutation p."""

    mmd2: float
    p_value: float


class KID(NamedTuple):
    """Mean and standard deviation of the kernel inception distance over random subsets."""

    mean: float
    std: float


def mmd(
    a: Any,
    b: Any,
    *,
    patient: ArrayLike | None = None,
    n_permutations: int = 200,
    random_state: int | np.random.RandomState | None = None,
) -> MMD:
    """Squared maximum mean discrepancy of two sets of features, with a permutation p.

    Gaussian kernel whose width is the median distance between images of different patients, both sets together.

    Parameters
    ----------
    a, b : array-like of shape (n_a, n_features), (n_b, n_features)
        Features as they are; standardize those of different units first.
    patient : array-like of shape (n_a + n_b,), optional
        Whose images these are, those of `a` first. Pairs of one patient's images are left out, and sets are permuted by
        patient (see :func:`~xray_harmonize.evaluation.groups.permuted_groups`).
    n_permutations : int, default=200
        0 for none.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    MMD
        ``mmd2``, unbiased: about 0, and below it as often, where the sets do not differ; ``p_value``, the share of
        permutations at least as high, the observed sets counted.

    Raises
    ------
    InvalidParameterError
        If features are no finite tables with the same columns, or `n_permutations` is negative.
    NotEnoughImagesError
        If a set holds fewer than two patients.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.distances import mmd
    >>> rng = np.random.default_rng(0)
    >>> result = mmd(rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 2, n_permutations=99, random_state=0)
    >>> result.p_value, result.mmd2 > 0.3
    (0.01, True)
    """
    both, codes, people = _two_sets(a, b, patient)
    kernel = gaussian_kernel(squared_distances(both), people)
    figures = measure_groups(
        lambda member: group_gaps(kernel, member, people)[:, 0, 1:],
        codes,
        people,
        n_permutations=n_permutations,
        n_bootstrap=0,
        random_state=random_state,
    )
    value = float(figures.value[0])
    return MMD(value, permutation_p(value, figures.null[:, 0]))


def kid(
    a: Any,
    b: Any,
    *,
    patient: ArrayLike | None = None,
    n_subsets: int = 100,
    subset_size: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> KID:
    """Kernel inception distance: unbiased squared MMD with a polynomial kernel of degree 3, over random subsets.

    Parameters
    ----------
    a, b : array-like of shape (n_a, n_features), (n_b, n_features)
        Features of any network, or others of about unit size: the kernel is not free of scale.
    patient : array-like of shape (n_a + n_b,), optional
        Whose images these are, those of `a` first; pairs of one patient's images are left out.
    n_subsets : int, default=100
    subset_size : int, optional
        Images drawn of each set, without replacement. Default: half of the smaller set, at most 1,000.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    KID
        ``mean`` does not depend on how many images there are, unlike the Fréchet distance; ``std`` is the spread of
        subsets, which overlap, and no standard error of the mean.

    Raises
    ------
    InvalidParameterError
        If features are no finite tables with the same columns, or there are too few subsets or images in one.
    NotEnoughImagesError
        If a set holds fewer than two patients.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.distances import kid
    >>> rng = np.random.default_rng(0)
    >>> a, b, c = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 1
    >>> bool(abs(kid(a, b, random_state=0).mean) < 0.2 < kid(a, c, random_state=0).mean)
    True
    """
    both, codes, people = _two_sets(a, b, patient)
    if n_subsets < 1:
        raise InvalidParameterError(f"n_subsets must be at least 1; got {n_subsets}.")
    smaller = int(np.bincount(codes).min())
    size = max(2, min(1000, smaller // 2)) if subset_size is None else subset_size
    if not 2 <= size <= smaller:
        raise InvalidParameterError(
            f"subset_size must lie between 2 and {smaller}, the images of the smaller set; got {size}."
        )
    rng = check_random_state(random_state)
    positions = [np.flatnonzero(codes == number) for number in (0, 1)]
    kernel = polynomial_kernel(both)
    values = []
    for _ in range(n_subsets):
        drawn = np.concatenate([rng.choice(of_set, size, replace=False) for of_set in positions])
        _, own = np.unique(people[drawn], return_inverse=True)
        member = membership(codes[drawn], 2)
        values.append(group_gaps(kernel[np.ix_(drawn, drawn)], member, own)[0, 0, 1])
    # A subset of a single patient's images has no pair of patients, and says nothing.
    return KID(float(np.nanmean(values)), float(np.nanstd(values)))


def fid(a: Any, b: Any) -> float:
    r"""Fréchet distance of two sets of features, each taken for normal.

    .. math:: \lVert \mu_a - \mu_b \rVert^2 + \operatorname{tr}\left(\Sigma_a + \Sigma_b -
              2 (\Sigma_a \Sigma_b)^{1/2}\right)

    Parameters
    ----------
    a, b : array-like of shape (n_a, n_features), (n_b, n_features)

    Returns
    -------
    float
        0 or more.

    Raises
    ------
    InvalidParameterError
        If features are no finite tables with the same columns.
    NotEnoughImagesError
        If a set holds fewer than two images.

    Warns
    -----
    XRayHarmonizeWarning
        If a set holds fewer than 2,048 images or fewer than there are features: the distance is then too large by an
        amount that depends on the number of images, and can be compared at that number alone.

    See Also
    --------
    kid : the like without that bias.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.distances import fid
    >>> a = np.random.default_rng(0).normal(size=(2048, 2))
    >>> round(fid(a, a + [3, 4]), 6)
    25.0
    """
    both, codes, _ = _two_sets(a, b, None)
    n_features = both.shape[1]
    n_images = int(np.bincount(codes).min())
    if n_images < max(ENOUGH_FOR_FID, n_features):
        warnings.warn(
            f"A Fréchet distance of {n_features} features from {n_images} images is biased upwards; it wants at least "
            f"{max(ENOUGH_FOR_FID, n_features)} on each side. Compare it at equal numbers of images alone, or use kid.",
            XRayHarmonizeWarning,
            stacklevel=2,
        )
    first, second = both[codes == 0], both[codes == 1]
    of_first, of_second = (np.atleast_2d(np.cov(one, rowvar=False)) for one in (first, second))
    variance, axes = np.linalg.eigh(of_first)
    root = (axes * np.sqrt(np.maximum(variance, 0))) @ axes.T
    # The trace of the root of the product, by a symmetric matrix with the same eigenvalues.
    squares = np.linalg.eigvalsh(root @ of_second @ root)
    of_roots = np.sqrt(np.maximum(squares, 0)).sum()
    apart = first.mean(axis=0) - second.mean(axis=0)
    return float(max(0.0, apart @ apart + np.trace(of_first) + np.trace(of_second) - 2 * of_roots))


def _two_sets(a: Any, b: Any, patient: ArrayLike | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both sets one below the other, which of them a row is of, and patient numbers."""
    first, second = feature_matrix(a, "a"), feature_matrix(b, "b")
    if first.shape[1] != second.shape[1]:
        raise InvalidParameterError(
            f"a and b must have the same features; a has {first.shape[1]} columns and b {second.shape[1]}."
        )
    codes = np.repeat([0, 1], [len(first), len(second)])
    people = patient_codes(patient, len(codes))
    for number, name in enumerate("ab"):
        n_patients = len(np.unique(people[codes == number]))
        if n_patients < 2:
            raise NotEnoughImagesError(
                f"A distance needs at least two patients on each side; {name} holds {n_patients}. Add images."
            )
    return np.concatenate([first, second]), codes, people


def histogram_wasserstein(
    X: Any,
    scanner: ArrayLike | None = None,
    *,
    patient: ArrayLike | None = None,
    n_permutations: int = 200,
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Wasserstein distance between the grey levels of every two scanners, in fractions of full scale.

    Each image adds its histogram inside its mask, and each image of a scanner has the same weight, whatever its size.
    Images are read one after another.

    Parameters
    ----------
    X : ImageSet, or a container that makes one
    scanner : array-like of str of shape (n_images,), optional
        Where X does not carry it.
    patient : array-like of shape (n_images,), optional
        By default that of X.
    n_permutations, n_bootstrap : int, default=200
        Permutations of the scanners by patient, and resamples of patients; 0 for none.
    confidence : float, default=0.95
    random_state : int, RandomState or None, default=None

    Returns
    -------
    DataFrame
        One row a pair: ``scanner_a``, ``scanner_b``, ``wasserstein`` in [0, 1], ``low``, ``high``, ``p_value`` and
        ``null``, the mean over permutations.

    Raises
    ------
    InvalidImageError
        If an image cannot be read as one, or its mask is empty.
    MissingScannerError, NotEnoughImagesError, InvalidParameterError
        If scanners are not known, there are fewer than two, or a number is out of range.

    Notes
    -----
    It is the area between the distribution functions of two scanners, pooled over images, and averaged in 1,024 cells
    of the grey scale. A distance is never negative and so never 0 by chance: compare it with ``null``, which is what as
    many images of one scanner are apart. Resamples lie farther apart than the images themselves, so the interval is
    that of the resamples less their mean excess.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize import ImageSet
    >>> from xray_harmonize.evaluation.distances import histogram_wasserstein
    >>> images = np.full((4, 8, 8), 0.25)
    >>> images[2:] = 0.75
    >>> table = histogram_wasserstein(ImageSet(images, scanner=["a", "a", "b", "b"]), random_state=0)
    >>> table[["scanner_a", "scanner_b", "wasserstein"]].round(3).to_numpy().tolist()
    [['a', 'b', 0.5]]
    """
    images = ImageSet.of(X, scanner)
    names, codes = scanner_codes(images.scanner, len(images))
    people = patient_codes(images.patient if patient is None else patient, len(images))
    cumulative = cumulative_histograms(images)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    rows = []
    for first, second in combinations(range(len(names)), 2):
        chosen = (codes == first) | (codes == second)
        own = cumulative[chosen]
        _, of_pair = np.unique(people[chosen], return_inverse=True)
        figures = measure_groups(
            lambda member, own=own: group_wasserstein(own, member)[:, 0, 1:],  # type: ignore[misc]
            (codes[chosen] == second).astype(np.int64),
            of_pair,
            n_permutations=n_permutations,
            n_bootstrap=n_bootstrap,
            random_state=seed,
        )
        value = float(figures.value[0])
        low, high = shifted_interval(value, figures.resampled[:, 0], confidence)
        rows.append(
            {
                "scanner_a": names[first],
                "scanner_b": names[second],
                "wasserstein": value,
                "low": low,
                "high": high,
                "p_value": permutation_p(value, figures.null[:, 0]),
                "null": float(figures.null.mean()) if n_permutations else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def shifted_interval(value: float, resampled: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a distance that resampling makes larger: that of the resamples less their mean excess, 0 or more.

    Examples
    --------
    >>> import numpy as np
    >>> low, high = shifted_interval(1.0, np.array([1.5, 2.0, 2.5]), confidence=0.5)
    >>> low, high
    (0.75, 1.25)
    """
    low, high = interval(resampled, confidence)
    if np.isnan(low):
        return low, high
    excess = float(np.nanmean(resampled)) - value
    return max(0.0, low - excess), max(0.0, high - excess)


def cumulative_histograms(X: ImageSet, n_cells: int = N_CELLS) -> np.ndarray:
    """Distribution function of every image's grey levels, averaged over equal cells of the grey scale.

    Parameters
    ----------
    X : ImageSet
        Read image by image; masks are respected.
    n_cells : int, default=1024

    Returns
    -------
    ndarray of float32 of shape (n_images, n_cells)
        Non-decreasing along the cells, in [0, 1].

    Raises
    ------
    InvalidImageError
        If an image has no pixel inside its mask.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize import ImageSet
    >>> cumulative_histograms(ImageSet(np.full((1, 2, 2), 0.5)), n_cells=4).round(2).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    edges = np.linspace(0, 1, n_cells + 1)
    result = np.empty((len(X), n_cells), dtype=np.float32)
    for i in range(len(X)):
        radiograph = X.radiograph(i)
        counts = histogram(radiograph.pixels, radiograph.bits_stored, radiograph.mask, name=radiograph.name)
        total = counts.sum()
        if total == 0:
            raise InvalidImageError(
                f"{radiograph.name} has no pixel inside its mask, so it has no histogram. Mend the mask or leave the "
                "image out."
            )
        # The distribution function is a step at every level; its integral is piecewise linear between them.
        below = np.concatenate([[0.0], np.cumsum(counts[:-1]) / total / (counts.size - 1)])
        area = np.interp(edges, np.arange(counts.size) / (counts.size - 1), np.cumsum(below))
        result[i] = np.diff(area) * n_cells
    return result


def group_wasserstein(cumulative: np.ndarray, member: np.ndarray) -> np.ndarray:
    r"""Wasserstein distance between the pooled grey levels of every two groups.

    .. math:: W_1 = \int_0^1 \lvert F_a(x) - F_b(x) \rvert \, dx

    Parameters
    ----------
    cumulative : ndarray of float of shape (n_images, n_cells)
        As :func:`cumulative_histograms` gives.
    member : ndarray of float of shape (n_cases, n_images, n_groups)
        As :func:`~xray_harmonize.evaluation.groups.membership` gives.

    Returns
    -------
    ndarray of float64 of shape (n_cases, n_groups, n_groups)
        In fractions of full scale; NaN where a group is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from xray_harmonize.evaluation.groups import membership
    >>> cumulative = np.array([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    >>> group_wasserstein(cumulative, membership(np.array([0, 1]), 2))[0].tolist()
    [[0.0, 0.25], [0.25, 0.0]]
    """
    weight = member.sum(axis=1)[:, :, np.newaxis]
    sums = member.transpose(0, 2, 1) @ cumulative
    pooled = np.divide(sums, weight, out=np.full_like(sums, np.nan), where=weight > 0)
    n_cases, n_groups = pooled.shape[:2]
    result = np.zeros((n_cases, n_groups, n_groups))
    for first, second in combinations(range(n_groups), 2):
        apart = np.abs(pooled[:, first] - pooled[:, second]).mean(axis=1)
        result[:, first, second] = result[:, second, first] = apart
    return result
