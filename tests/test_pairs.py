"""Means over pairs of images of different patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from xray_harmonize.evaluation.groups import membership
from xray_harmonize.evaluation.pairs import (
    explained_share,
    gaussian_kernel,
    group_gaps,
    group_silhouettes,
    mean_gap,
    polynomial_kernel,
    squared_distances,
    standardized,
)


def clustered(seed, n_patients=40, spread=3.0):
    """Patients with one to five images each that are much alike, dealt to two groups at random."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, size=n_patients)
    patient = np.repeat(np.arange(n_patients), sizes)
    features = (spread * rng.normal(size=(n_patients, 3)))[patient] + rng.normal(size=(len(patient), 3))
    return features, rng.permutation(np.arange(n_patients) % 2)[patient], patient


def naive_gap(kernel, codes, patient):
    first, second = codes == 0, codes == 1
    apart = patient[:, np.newaxis] != patient

    def mean(rows, columns):
        return kernel[np.ix_(rows, columns)][apart[np.ix_(rows, columns)]].mean()

    return mean(first, first) + mean(second, second) - 2 * mean(first, second)


def test_the_gap_is_the_mean_over_pairs_of_different_patients():
    features, codes, patient = clustered(0)
    kernel = gaussian_kernel(squared_distances(features), patient)
    gaps = group_gaps(kernel, membership(codes, 2), patient)[0]
    expected = naive_gap(kernel, codes, patient)
    assert gaps[[0, 1], [1, 0]] == pytest.approx([expected, expected])
    assert gaps[0, 0] == 0


def test_drawing_a_patient_twice_is_having_his_images_twice():
    features, codes, patient = clustered(1)
    weight = np.where(patient == 3, 2.0, 1.0)
    twice = np.concatenate([np.arange(len(codes)), np.flatnonzero(patient == 3)])
    kernel = polynomial_kernel(features)
    weighted = group_gaps(kernel, membership(codes, 2, weight[np.newaxis]), patient)
    copied = group_gaps(kernel[np.ix_(twice, twice)], membership(codes[twice], 2), patient[twice])
    assert np.allclose(weighted, copied)


@pytest.mark.parametrize("kernel_of", [lambda x, p: gaussian_kernel(squared_distances(x), p), lambda x, _: x @ x.T])
def test_gaps_are_unbiased_although_images_of_a_patient_are_alike(kernel_of):
    values = []
    for seed in range(200):
        features, codes, patient = clustered(seed)
        values.append(group_gaps(kernel_of(features, patient), membership(codes, 2), patient)[0, 0, 1])
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)


def test_a_group_of_one_patient_has_no_gap():
    patient = np.array([0, 0, 1, 2])
    gaps = group_gaps(np.eye(4), membership(np.array([0, 0, 1, 1]), 2), patient)
    assert np.isnan(gaps[0, 0, 1])


def test_the_width_of_the_kernel_is_the_median_distance():
    features = np.array([[0.0], [1.0], [3.0]])
    kernel = gaussian_kernel(squared_distances(features), np.arange(3))
    assert kernel[0, 1] == pytest.approx(np.exp(-1 / (2 * 4)))


def test_images_of_one_patient_have_no_part_in_the_width():
    features = np.array([[0.0], [0.0], [0.0], [2.0]])
    kernel = gaussian_kernel(squared_distances(features), np.array([0, 0, 0, 1]))
    assert kernel[0, 3] == pytest.approx(np.exp(-0.5))


def test_images_that_are_all_the_same_have_no_gap():
    features = np.ones((6, 2))
    codes, patient = np.repeat([0, 1], 3), np.arange(6)
    squared = squared_distances(standardized(features))
    member = membership(codes, 2)
    assert group_gaps(gaussian_kernel(squared, patient), member, patient)[0, 0, 1] == 0
    assert group_silhouettes(np.sqrt(squared), member, patient)[0, 0] == 0
    assert explained_share(squared, member, patient)[0, 0] == 0


def test_silhouettes_are_those_of_scikit_learn_where_every_image_has_its_own_patient():
    rng = np.random.default_rng(0)
    features, codes = rng.normal(size=(30, 4)), rng.integers(3, size=30)
    features += codes[:, np.newaxis]
    samples = silhouette_samples(features, codes)
    expected = np.mean([samples[codes == number].mean() for number in range(3)])
    distance = np.sqrt(squared_distances(features))
    assert group_silhouettes(distance, membership(codes, 3), np.arange(30))[0, 0] == pytest.approx(expected)


def test_a_silhouette_is_not_raised_by_copies_of_a_patient():
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(20, 3)), 4, axis=0)
    patient = np.repeat(np.arange(20), 4)
    distance = np.sqrt(squared_distances(features))
    member = membership(patient % 2, 2)
    with_copies = group_silhouettes(distance, member, patient)
    once = group_silhouettes(distance[::4, ::4], member[:, ::4], np.arange(20))
    assert with_copies == pytest.approx(once)
    assert group_silhouettes(distance, member, np.arange(80)) > once + 0.02


def test_an_image_whose_group_holds_nobody_else_has_no_silhouette():
    distance = np.sqrt(squared_distances(np.array([[0.0], [5.0], [6.0]])))
    member = membership(np.array([0, 1, 1]), 2)
    expected = np.mean([(5 - 1) / 5, (6 - 1) / 6])
    assert group_silhouettes(distance, member, np.arange(3))[0, 0] == pytest.approx(expected)
    assert np.isnan(group_silhouettes(distance[:2, :2], member[:, :2], np.arange(2))[0, 0])


def test_the_explained_share_is_omega_squared_but_for_small_terms():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 60)
    x = rng.normal(size=180) + 0.7 * codes
    means = np.array([x[codes == k].mean() for k in range(3)])
    between = 60 * np.sum((means - x.mean()) ** 2)
    total = np.sum((x - x.mean()) ** 2)
    within = (total - between) / (180 - 3)
    omega = (between - 2 * within) / (total + within)
    share = explained_share(squared_distances(x[:, np.newaxis]), membership(codes, 3), np.arange(180))[0, 0]
    assert share == pytest.approx(omega, abs=1e-3)


def test_the_explained_share_of_groups_that_do_not_differ_is_about_nothing_however_many_there_are():
    shares = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(60, 3))
        member = membership(rng.permutation(np.arange(60) % 10), 10)
        shares.append(explained_share(squared_distances(features), member, np.arange(60))[0, 0])
    assert abs(np.mean(shares)) < 3 * np.std(shares) / 10


def test_each_pair_of_groups_has_the_same_weight_in_the_mean():
    gaps = np.array([[[0.0, 1.0, 2.0], [1.0, 0.0, 6.0], [2.0, 6.0, 0.0]]])
    assert mean_gap(gaps).tolist() == [[3.0]]
