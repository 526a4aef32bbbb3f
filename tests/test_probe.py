"""The probe: what it finds, what it must not find, and on whose images it is scored."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.covariance import ledoit_wolf_shrinkage as sklearn_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from xray_harmonize.evaluation.groups import membership
from xray_harmonize.evaluation.probe import (
    discriminate,
    held_out_predictions,
    ledoit_wolf_shrinkage,
    scanner_probe,
)
from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError, NotEnoughImagesError


def shifted(gap, n=40, d=6, seed=0, scanners="ab"):
    """Features of `n` images a scanner, each scanner `gap` further along the first feature."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(scanners)), n)
    features = rng.normal(size=(len(codes), d))
    features[:, 0] += gap * codes
    return features, np.array(list(scanners))[codes]


def test_scanners_that_differ_are_told_apart():
    result = scanner_probe(*shifted(6.0), n_permutations=99, random_state=0)
    assert result.balanced_accuracy > 0.98
    assert result.p_value == 0.01
    assert result.high <= 1
    assert result.low > result.null.max()


def test_a_larger_gap_is_seen_better():
    accuracies = [scanner_probe(*shifted(gap), random_state=0).balanced_accuracy for gap in (0.0, 1.5, 4.0)]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] < 0.65 < accuracies[1] < 0.9 < accuracies[2]


def false_alarms(features_of, n_seeds=40):
    alarms = 0
    for seed in range(n_seeds):
        features, scanner, patient = features_of(np.random.default_rng(seed))
        result = scanner_probe(features, scanner, patient, n_permutations=99, n_bootstrap=0, random_state=seed)
        alarms += result.p_value <= 0.05
    return alarms


MOST_ALARMS = binom.ppf(0.999, 40, 0.05)


def test_scanners_that_do_not_differ_raise_an_alarm_as_rarely_as_stated():
    assert false_alarms(lambda rng: (rng.normal(size=(60, 8)), np.repeat(["a", "b"], [20, 40]), None)) <= MOST_ALARMS


def alike_within_patients(rng):
    """Thirty patients, one to six images each that are nearly the same; one scanner a patient, at random."""
    patient = np.repeat(np.arange(30), rng.integers(1, 7, size=30))
    features = 3 * rng.normal(size=(30, 4))[patient] + rng.normal(size=(len(patient), 4)) / 2
    return features, np.array(["a", "b"])[rng.permutation(np.arange(30) % 2)][patient], patient


def test_images_of_a_patient_being_alike_raises_no_alarm():
    assert false_alarms(alike_within_patients) <= MOST_ALARMS


def test_taking_alike_images_for_different_patients_would_raise_alarms():
    def without_patients(rng):
        features, scanner, _ = alike_within_patients(rng)
        return features, scanner, None

    assert false_alarms(without_patients) > 20


def test_patients_seen_on_every_scanner_raise_no_alarm():
    def paired(rng):
        patient = np.repeat(np.arange(25), 2)
        features = 3 * rng.normal(size=(25, 4))[patient] + rng.normal(size=(50, 4))
        return features, np.tile(["a", "b"], 25), patient

    assert false_alarms(paired) <= MOST_ALARMS


def test_a_difference_within_patients_is_found():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(25), 2)
    scanner = np.tile(["a", "b"], 25)
    features = rng.normal(size=(25, 4))[patient] / 2 + rng.normal(size=(50, 4)) / 2
    features[:, 0] += 3.0 * (scanner == "b")
    assert scanner_probe(features, scanner, patient, n_permutations=99, random_state=0).p_value == 0.01


def test_the_probe_is_scored_on_patients_it_was_not_trained_on():
    # Patients are told apart without fail and scanners not at all: seeing a patient in training would give 1.
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 5)
    features = np.eye(40)[patient] + 0.01 * rng.normal(size=(200, 40))
    scanner = np.array(["a", "b"])[rng.permutation(np.arange(40) % 2)][patient]
    assert scanner_probe(features, scanner, patient, random_state=0).balanced_accuracy < 0.75
    assert scanner_probe(features, scanner, random_state=0).balanced_accuracy > 0.95


def test_the_null_lies_about_chance_for_uneven_scanners():
    features, scanner = shifted(3.0, n=40, scanners="abc")
    kept = np.r_[0:40, 40:60, 80:90]
    result = scanner_probe(features[kept], scanner[kept], n_permutations=200, random_state=0)
    assert result.chance == pytest.approx(1 / 3)
    assert result.null.mean() == pytest.approx(1 / 3, abs=0.03)


def test_more_features_than_images_are_no_obstacle():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 200))
    features[20:, :50] += 1
    assert scanner_probe(features, np.repeat(["a", "b"], 20), random_state=0).p_value < 0.01


@pytest.mark.parametrize("d", [5, 90])
def test_whitening_first_is_discriminating_with_the_shrunken_covariance_itself(d):
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=60)
    features = rng.normal(size=(60, d)) * np.linspace(1, 3, d)
    features[:, 0] += 2 * codes
    fold = rng.permutation(60) % 2
    predicted = held_out_predictions(features, codes[np.newaxis], fold, 3)[0]
    for number in (0, 1):
        train, test = features[fold != number], features[fold == number]
        test = (test - train.mean(axis=0)) / train.std(axis=0)
        train = (train - train.mean(axis=0)) / train.std(axis=0)
        of_train = codes[fold != number]
        means = np.array([train[of_train == k].mean(axis=0) for k in range(3)])
        a = sklearn_shrinkage(train, assume_centered=True)
        share = np.bincount(of_train) / len(train)
        within = (1 - a) * (np.cov(train, rowvar=False, bias=True) - (means.T * share) @ means) + a * np.eye(d)
        solved = np.linalg.solve(within, means.T)
        score = test @ solved - np.einsum("kd,dk->k", means, solved) / 2
        assert np.array_equal(predicted[fold == number], score.argmax(axis=1))


def test_constant_features_tell_nothing():
    result = scanner_probe(np.ones((20, 3)), np.repeat(["a", "b"], 10), n_permutations=20, random_state=0)
    assert result.balanced_accuracy == 0.5
    assert result.p_value == 1.0


def test_the_unit_of_a_feature_does_not_matter():
    features, scanner = shifted(1.5)
    first = scanner_probe(features, scanner, random_state=0)
    second = scanner_probe(features * [1, 1e-3, 1e4, 1, 7, 1] + 5, scanner, random_state=0)
    assert np.array_equal(first.confusion, second.confusion)


def test_the_same_random_state_gives_the_same_result():
    one, other = (scanner_probe(*shifted(1.0), random_state=3) for _ in range(2))
    assert (one.balanced_accuracy, one.low, one.high) == (other.balanced_accuracy, other.low, other.high)
    assert np.array_equal(one.null, other.null)


def test_recall_and_confusion_tell_of_every_scanner():
    result = scanner_probe(*shifted(2.0, scanners="abc"), n_permutations=19, random_state=0)
    assert result.confusion.to_numpy().sum(axis=1).tolist() == [40, 40, 40]
    assert result.recall["scanner"].tolist() == ["a", "b", "c"]
    recall = np.diag(result.confusion) / 40
    assert result.recall["recall"].tolist() == pytest.approx(recall.tolist())
    assert result.balanced_accuracy == pytest.approx(recall.mean())
    assert (result.recall["low"] <= result.recall["recall"]).all()
    assert result.recall["n_patients"].tolist() == [40, 40, 40]


def test_without_permutations_and_resamples_there_is_neither_p_nor_interval():
    result = scanner_probe(*shifted(1.0), n_permutations=0, n_bootstrap=0, random_state=0)
    assert np.isnan([result.p_value, result.low, result.high]).all()
    assert result.recall["null"].isna().all()


def test_few_patients_make_fewer_folds():
    features, scanner = shifted(1.0, n=7)
    assert scanner_probe(features, scanner, random_state=0).n_folds == 3


def test_a_scanner_of_one_patient_cannot_be_probed():
    with pytest.raises(NotEnoughImagesError, match="Scanner 'b' has images of one patient alone"):
        scanner_probe(np.zeros((4, 1)), ["a", "a", "b", "b"], [0, 1, 2, 2])


def test_what_cannot_be_probed_is_named():
    with pytest.raises(MissingScannerError, match="have none"):
        scanner_probe(np.zeros((4, 1)), ["a", "a", "b", None])
    with pytest.raises(InvalidParameterError, match="n_folds must be at least 2; got 1"):
        scanner_probe(np.zeros((4, 1)), ["a", "a", "b", "b"], n_folds=1)


def test_discriminants_are_those_of_linear_discriminant_analysis():
    features = shifted(1.5, n=60, scanners="abc")[0]
    features -= features.mean(axis=0)
    codes = np.repeat([0, 1, 2], 60)
    # Whitened without shrinking; scikit-learn's classes weigh the same, as here.
    variance, axes = np.linalg.eigh(np.cov(features, rowvar=False, bias=True))
    points = features @ axes / np.sqrt(variance)
    expected = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(features, codes).predict(features)
    assert np.array_equal(discriminate(points, membership(codes, 3), points, 0.0)[0], expected)


def test_a_class_without_training_images_is_never_named():
    train = np.array([[-1.0], [-1.0], [1.0], [1.0]])
    member = np.zeros((1, 4, 3))
    member[0, :2, 0] = member[0, 2:, 2] = 1
    assert set(discriminate(train, member, np.linspace(-2, 2, 9)[:, np.newaxis], 0.1)[0]) == {0, 2}


@pytest.mark.parametrize(("n", "d"), [(50, 5), (20, 60)])
def test_the_shrinkage_is_that_of_ledoit_and_wolf(n, d):
    x = np.random.default_rng(0).normal(size=(n, d)) * np.linspace(0.2, 2, d)
    x -= x.mean(axis=0)
    variance = np.linalg.eigvalsh(x.T @ x) / n
    ours = ledoit_wolf_shrinkage(variance, (x**2).sum(axis=1), d)
    assert ours == pytest.approx(sklearn_shrinkage(x, assume_centered=True))


def test_scanners_that_differ_in_nothing_but_their_shares_of_the_classes_raise_no_alarm_within_classes():
    rng = np.random.default_rng(0)
    scanner = np.repeat(["a", "b"], 60)
    label = np.where(rng.random(120) < np.where(scanner == "a", 0.15, 0.85), "ill", "well")
    features = rng.normal(size=(120, 4)) + 3 * (label == "ill")[:, np.newaxis]
    blind = scanner_probe(features, scanner, random_state=0, n_bootstrap=0)
    within = scanner_probe(features, scanner, label=label, random_state=0, n_bootstrap=0)
    assert blind.p_value < 0.01 < 0.1 < within.p_value
    assert within.null.mean() > 0.7 > blind.null.mean()


def test_a_gap_beside_the_classes_is_seen_within_classes_too():
    features, scanner = shifted(3.0)
    label = np.tile([0, 1], 40)
    assert scanner_probe(features, scanner, label=label, random_state=0).p_value < 0.01


def test_patients_with_images_of_several_classes_trade_with_their_like():
    features, scanner = shifted(3.0)
    patient = np.repeat(np.arange(40), 2)
    label = np.tile([0, 1, None, 1], 20)
    assert scanner_probe(features, scanner, patient, label=label, random_state=0).p_value < 0.01
