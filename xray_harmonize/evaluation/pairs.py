r"""Figures of groups from pairs of images, with no pair of images of one patient among them.

Kernel distances, silhouettes and explained variance are all means over pairs of images: within a group, or between
two. Two images of one patient are alike whatever the scanner, and a patient drawn twice is drawn with himself. Means
over pairs of *different* patients know neither: they are unbiased where patients are independent, and a bootstrap of
patients is not inflated by copies.

Membership says how much every image weighs in every group, for many permutations or resamples at once, so that all of
them cost one product of matrices.

References
----------
.. [1] A. Gretton et al., "A kernel two-sample test", Journal of Machine Learning Research 13, 2012, lemma 6 (the
   unbiased estimate of MMD²) and section 8 (the median heuristic).
.. [2] P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
   Journal of Computational and Applied Mathematics 20, 1987.
.. [3] S. Olejnik, J. Algina, "Generalized eta and omega squared statistics", Psychological Methods 8(4), 2003.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist, squareform
from sklearn.preprocessing import StandardScaler

__all__ = [
    "explained_share",
    "gaussian_kernel",
    "group_gaps",
    "group_silhouettes",
    "mean_gap",
    "polynomial_kernel",
    "squared_distances",
    "standardized",
]


def standardized(features: np.ndarray) -> np.ndarray:
    """Features less their mean, over their standard deviation; a constant one becomes 0.

    Examples
    --------
    >>> standardized(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    return np.asarray(StandardScaler().fit_transform(features))


def squared_distances(features: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances between images; float64 of shape (n_images, n_images).

    Examples
    --------
    >>> squared_distances(np.array([[0.0], [3.0]])).tolist()
    [[0.0, 9.0], [9.0, 0.0]]
    """
    return np.asarray(squareform(pdist(features, "sqeuclidean")))


def gaussian_kernel(squared: np.ndarray, patient: np.ndarray) -> np.ndarray:
    r"""Gaussian kernel whose width is the median distance between images of different patients.

    .. math:: k(x, y) = \exp\left(-\lVert x - y \rVert^2 / (2 \sigma^2)\right)

    Parameters
    ----------
    squared : ndarray of float of shape (n_images, n_images)
        As :func:`squared_distances` gives.
    patient : ndarray of int of shape (n_images,)

    Returns
    -------
    ndarray of float64 of shape (n_images, n_images)
        All ones where the median distance is 0.

    Examples
    --------
    >>> kernel = gaussian_kernel(squared_distances(np.array([[0.0], [3.0]])), np.arange(2))
    >>> kernel.round(4).tolist()
    [[1.0, 0.6065], [0.6065, 1.0]]
    """
    upper = np.triu(patient[:, np.newaxis] != patient, 1)
    median = float(np.median(squared[upper])) if upper.any() else 0.0
    return np.exp(-squared / (2 * median)) if median > 0 else np.ones_like(squared)


def polynomial_kernel(features: np.ndarray) -> np.ndarray:
    r"""Kernel of the kernel inception distance.

    .. math:: k(x, y) = \left(x^\top y / d + 1\right)^3

    Examples
    --------
    >>> polynomial_kernel(np.array([[1.0], [0.0]])).tolist()
    [[8.0, 1.0], [1.0, 1.0]]
    """
    return np.asarray((features @ features.T / features.shape[1] + 1) ** 3)


class _Sums:
    """Sums of a matrix from every image to the groups, own patient left out, and over how much weight they go."""

    def __init__(self, matrix: np.ndarray, member: np.ndarray, patient: np.ndarray) -> None:
        n_cases, n_images, n_groups = member.shape
        apart = np.where(patient[:, np.newaxis] == patient, 0.0, matrix)
        columns = np.ascontiguousarray(member.transpose(1, 0, 2)).reshape(n_images, n_cases * n_groups)
        self.to_groups = (apart @ columns).reshape(n_images, n_cases, n_groups).transpose(1, 0, 2)
        self.member = member
        self.patient = patient
        order = np.argsort(patient, kind="stable")
        starts = np.searchsorted(patient[order], np.arange(patient.max() + 1))
        self.of_patient = np.add.reduceat(member[:, order], starts, axis=1)
        self.of_group = member.sum(axis=1)

    def between_groups(self) -> np.ndarray:
        """Mean over pairs of images of different patients; (n_cases, n_groups, n_groups), NaN where there are none."""
        sums = self.member.transpose(0, 2, 1) @ self.to_groups
        own = self.of_patient.transpose(0, 2, 1) @ self.of_patient
        return _mean(sums, self.of_group[:, :, np.newaxis] * self.of_group[:, np.newaxis] - own)

    def from_images(self) -> np.ndarray:
        """Mean from every image to the images of each group, own patient left out; (n_cases, n_images, n_groups)."""
        return _mean(self.to_groups, self.of_group[:, np.newaxis] - self.of_patient[:, self.patient])


def _mean(sums: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.divide(sums, weight, out=np.full_like(sums, np.nan), where=weight > 0)


def group_gaps(kernel: np.ndarray, member: np.ndarray, patient: np.ndarray) -> np.ndarray:
    r"""Unbiased squared distance between the kernel means of every two groups.

    .. math:: \mathrm{MMD}^2 = \overline{k(x, x')} + \overline{k(y, y')} - 2\,\overline{k(x, y)}

    Parameters
    ----------
    kernel : ndarray of float of shape (n_images, n_images)
        Symmetric.
    member : ndarray of float of shape (n_cases, n_images, n_groups)
        As :func:`~xray_harmonize.evaluation.groups.membership` gives.
    patient : ndarray of int of shape (n_images,)
        Patient numbers from 0 on.

    Returns
    -------
    ndarray of float64 of shape (n_cases, n_groups, n_groups)
        0 on the diagonal; about 0, and below it as often, where groups do not differ; NaN where a group has fewer than
        two patients.

    Examples
    --------
    >>> from xray_harmonize.evaluation.groups import membership
    >>> x = np.array([[0.0], [1.0], [5.0], [6.0]])
    >>> group_gaps(x @ x.T, membership(np.array([0, 0, 1, 1]), 2), np.arange(4))[0, 0, 1]
    np.float64(24.5)
    """
    means = _Sums(kernel, member, patient).between_groups()
    within = np.diagonal(means, axis1=1, axis2=2)
    return np.asarray(within[:, :, np.newaxis] + within[:, np.newaxis] - 2 * means)


def mean_gap(gaps: np.ndarray) -> np.ndarray:
    """Mean over pairs of groups, each pair the same weight; shape (n_cases, 1).

    Examples
    --------
    >>> mean_gap(np.array([[[0.0, 2.0], [2.0, 0.0]]]))
    array([[2.]])
    """
    first, second = np.triu_indices(gaps.shape[1], 1)
    return np.asarray(gaps[:, first, second].mean(axis=1, keepdims=True))


def explained_share(squared: np.ndarray, member: np.ndarray, patient: np.ndarray) -> np.ndarray:
    r"""Share of the total variance that lies between groups, free of what chance puts there.

    With :math:`p_k` the share of group k, :math:`V_k` its unbiased variance (trace of the covariance) and
    :math:`G_{kl}` the unbiased squared distance of two group means,

    .. math:: \frac{B}{B + W}, \quad B = \sum_{k < l} p_k p_l G_{kl}, \quad W = \sum_k p_k V_k.

    Parameters
    ----------
    squared : ndarray of float of shape (n_images, n_images)
        Squared distances.
    member, patient
        As for :func:`group_gaps`.

    Returns
    -------
    ndarray of float64 of shape (n_cases, 1)
        At most 1; about 0, and below it as often, where groups do not differ; 0 where nothing varies.

    Notes
    -----
    Groups of equal variance with one image a patient give omega squared but for terms of order 1/n²: eta squared
    corrected for the number of groups. With several images of a patient, eta and omega squared count their likeness as
    the group's merit; this does not.

    Examples
    --------
    >>> from xray_harmonize.evaluation.groups import membership
    >>> x = np.array([[0.0], [1.0], [5.0], [6.0]])
    >>> share = explained_share(squared_distances(x), membership(np.array([0, 0, 1, 1]), 2), np.arange(4))
    >>> share.round(3).tolist()
    [[0.925]]
    """
    means = _Sums(squared, member, patient).between_groups() / 2
    variance = np.diagonal(means, axis1=1, axis2=2)
    gaps = 2 * means - variance[:, :, np.newaxis] - variance[:, np.newaxis]
    weight = member.sum(axis=1)
    share = weight / weight.sum(axis=1, keepdims=True)
    # Every pair of groups stands in the matrix twice, a group with itself adds nothing.
    between = np.einsum("ck,cl,ckl->c", share, share, gaps) / 2
    within = np.einsum("ck,ck->c", share, variance)
    # Where images hardly vary, rounding must not be explained.
    total = between + within
    varies = ~(total <= 1e-12 * max(float(squared.max()), 1e-300))
    return np.divide(between, total, out=np.zeros_like(total), where=varies)[:, np.newaxis]


def group_silhouettes(distance: np.ndarray, member: np.ndarray, patient: np.ndarray) -> np.ndarray:
    r"""Mean silhouette, each group the same weight.

    .. math:: s_i = \frac{b_i - a_i}{\max(a_i, b_i)}

    with :math:`a_i` the mean distance to images of other patients in the own group, :math:`b_i` the lowest such mean of
    any other group.

    Parameters
    ----------
    distance : ndarray of float of shape (n_images, n_images)
    member, patient
        As for :func:`group_gaps`.

    Returns
    -------
    ndarray of float64 of shape (n_cases, 1)
        In [-1, 1]; 0 where all images are the same; NaN where no image has both means.

    Examples
    --------
    >>> from xray_harmonize.evaluation.groups import membership
    >>> x = np.array([[0.0], [0.0], [5.0], [5.0]])
    >>> group_silhouettes(np.abs(x - x.T), membership(np.array([0, 0, 1, 1]), 2), np.arange(4)).tolist()
    [[1.0]]
    """
    means = _Sums(distance, member, patient).from_images()
    in_group = member > 0
    own = np.where(in_group, np.nan_to_num(means), 0.0).sum(axis=2)
    nearest = np.where(in_group | np.isnan(means), np.inf, means).min(axis=2)
    defined = in_group.any(axis=2) & ~(in_group & np.isnan(means)).any(axis=2) & np.isfinite(nearest)
    larger = np.maximum(own, nearest)
    silhouette = np.divide(nearest - own, larger, out=np.zeros_like(own), where=defined & (larger > 0))
    weight = member * defined[:, :, np.newaxis]
    of_group = _mean(np.einsum("cik,ci->ck", weight, silhouette), weight.sum(axis=1))
    known = ~np.isnan(of_group)
    return _mean(np.where(known, of_group, 0.0).sum(axis=1), known.sum(axis=1))[:, np.newaxis]
