"""Figures of every scanner with intervals, and paired comparisons."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from xray_harmonize.evaluation.metrics import (
    METRICS,
    auc,
    paired_difference,
    prediction_table,
    scanner_scores,
    worst_group_accuracy,
)
from xray_harmonize.exceptions import InvalidParameterError, LabelTableError


def binormal(rng, n, separation, **columns):
    """Predictions of n negatives and n positives whose scores are `separation` sigmas apart."""
    truth = np.repeat([0, 1], n)
    proba = norm.cdf(rng.normal(size=2 * n) + separation * truth)
    return prediction_table(truth, proba, [0, 1], **({"scanner": "a"} | columns))


def two_scanners(random_state=0, seed=0):
    rng = np.random.default_rng(random_state)
    tables = [
        binormal(rng, 40, separation, scanner=name, patient=[f"{name}{i}" for i in range(80)], seed=seed)
        for name, separation in (("good", 2.0), ("poor", 0.5))
    ]
    return pd.concat(tables)


def of(scores, scanner, metric="auc"):
    return scores[(scores.scanner == scanner) & (scores.metric == metric)].iloc[0]


def test_there_is_a_row_for_each_scanner_and_metric_and_for_the_worst():
    scores = scanner_scores(two_scanners(), n_bootstrap=20, random_state=0)
    assert scores.columns.tolist() == [
        "scanner",
        "metric",
        "estimate",
        "low",
        "high",
        "n_images",
        "n_patients",
        "n_seeds",
        "n_undefined",
    ]
    expected = [(scanner, metric) for scanner in ("good", "poor", "worst") for metric in METRICS]
    assert list(zip(scores.scanner, scores.metric, strict=True)) == expected


def test_estimates_equal_those_of_scikit_learn():
    table = two_scanners()
    scores = scanner_scores(table, n_bootstrap=0)
    for name, own in table.groupby("scanner"):
        truth, predicted, proba = own.label, own.predicted, own.proba_1
        expected = {
            "auc": roc_auc_score(truth, proba),
            "balanced_accuracy": balanced_accuracy_score(truth, predicted),
            "worst_group_accuracy": worst_group_accuracy(truth, predicted),
            "precision": precision_score(truth, predicted),
            "recall": recall_score(truth, predicted),
            "f1": f1_score(truth, predicted),
            "brier": brier_score_loss(truth, proba),
        }
        for metric, value in expected.items():
            assert of(scores, name, metric).estimate == pytest.approx(value)


def test_estimates_lie_inside_their_intervals():
    scores = scanner_scores(two_scanners(), n_bootstrap=300, random_state=0)
    assert (scores.low <= scores.estimate).all()
    assert (scores.estimate <= scores.high).all()
    assert (scores.low < scores.high).all()


def test_worst_is_the_lowest_of_the_scanners_and_of_brier_the_highest():
    scores = scanner_scores(two_scanners(), n_bootstrap=0)
    for metric in METRICS:
        own = scores[(scores.metric == metric) & (scores.scanner != "worst")].estimate
        expected = own.max() if metric == "brier" else own.min()
        assert of(scores, "worst", metric).estimate == expected


def test_worst_group_accuracy_of_the_worst_is_that_of_all_groups():
    table = two_scanners()
    scores = scanner_scores(table, metrics=["worst_group_accuracy"], n_bootstrap=0)
    expected = worst_group_accuracy(table.label, table.predicted, table.scanner)
    assert of(scores, "worst", "worst_group_accuracy").estimate == pytest.approx(expected)


def test_the_order_of_rows_does_not_matter():
    table = two_scanners().assign(image=lambda t: t.patient)
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(
        scanner_scores(table, n_bootstrap=50, random_state=0),
        scanner_scores(shuffled, n_bootstrap=50, random_state=0),
    )


def test_the_same_random_state_gives_the_same_intervals():
    def scores(random_state):
        return scanner_scores(two_scanners(), n_bootstrap=50, random_state=random_state)

    pd.testing.assert_frame_equal(scores(0), scores(0))
    assert not scores(0).low.equals(scores(1).low)


def test_no_resamples_give_estimates_without_intervals():
    scores = scanner_scores(two_scanners(), n_bootstrap=0)
    assert scores.estimate.notna().all()
    assert scores[["low", "high"]].isna().all(axis=None)


def test_a_higher_confidence_gives_a_wider_interval():
    table = two_scanners()
    narrow = of(scanner_scores(table, confidence=0.5, random_state=0), "poor")
    wide = of(scanner_scores(table, confidence=0.99, random_state=0), "poor")
    assert wide.low < narrow.low < narrow.high < wide.high


def test_seeds_are_averaged():
    seeds = [binormal(np.random.default_rng(seed), 40, 1.0, seed=seed) for seed in range(3)]
    scores = scanner_scores(pd.concat(seeds), metrics=["auc"], n_bootstrap=0)
    expected = np.mean([roc_auc_score(table.label, table.proba_1) for table in seeds])
    assert of(scores, "a").estimate == pytest.approx(expected)
    assert of(scores, "a").n_seeds == 3
    assert of(scores, "a").n_images == 80


def test_repeating_a_seed_changes_nothing():
    table = two_scanners()
    thrice = pd.concat([table.assign(seed=seed) for seed in range(3)])
    once = scanner_scores(table, n_bootstrap=50, random_state=0)
    pd.testing.assert_frame_equal(
        once.drop(columns="n_seeds"),
        scanner_scores(thrice, n_bootstrap=50, random_state=0).drop(columns="n_seeds"),
    )


def test_seeds_are_averaged_inside_a_resample():
    """The mean of independent fits varies less over patients than each fit does."""
    seeds = [binormal(np.random.default_rng(seed), 60, 1.0, seed=seed) for seed in range(5)]
    one = of(scanner_scores(seeds[0], metrics=["auc"], random_state=0), "a")
    five = of(scanner_scores(pd.concat(seeds), metrics=["auc"], random_state=0), "a")
    assert five.high - five.low < 0.7 * (one.high - one.low)


def test_folds_are_scored_each_by_itself_and_averaged():
    rng = np.random.default_rng(0)
    folds = [
        binormal(rng, 20, 1.0, image=np.arange(40) + 40 * seed, patient=np.arange(40) + 40 * seed).assign(seed=seed)
        for seed in range(3)
    ]
    # Fold 1 is scored by a fit that is surer of everything: pooling would rank fits, not images.
    raised = 0.5 + folds[1].proba_1 / 2
    folds[1] = folds[1].assign(proba_1=raised, proba_0=1 - raised)
    scores = scanner_scores(pd.concat(folds), n_bootstrap=200, random_state=0)
    one = of(scores, "a")
    expected = np.mean([roc_auc_score(fold.label, fold.proba_1) for fold in folds])
    assert one.estimate == pytest.approx(expected)
    assert (one.n_images, one.n_patients, one.n_seeds, one.n_undefined) == (120, 120, 3, 0)
    assert 0 < one.low < one.estimate < one.high < 1


def test_a_fold_without_one_of_the_classes_has_no_part_in_the_area():
    rng = np.random.default_rng(0)
    whole = binormal(rng, 20, 1.0, image=np.arange(40))
    negatives = prediction_table(np.zeros(5, int), rng.random(5), [0, 1], scanner="a", image=np.arange(50, 55), seed=1)
    scores = scanner_scores(pd.concat([whole, negatives]), n_bootstrap=0)
    assert of(scores, "a").estimate == pytest.approx(roc_auc_score(whole.label, whole.proba_1))


def test_copies_of_an_image_of_the_same_patient_change_nothing():
    table = binormal(np.random.default_rng(0), 30, 1.0, patient=np.arange(60))
    copies = pd.concat([table.assign(image=table.image + 100 * copy) for copy in range(4)])
    once = scanner_scores(table, random_state=0).drop(columns="n_images")
    pd.testing.assert_frame_equal(once, scanner_scores(copies, random_state=0).drop(columns="n_images"))


def test_ignoring_that_images_share_a_patient_gives_too_narrow_an_interval():
    table = binormal(np.random.default_rng(0), 30, 1.0, patient=np.arange(60))
    copies = pd.concat([table.assign(image=table.image + 100 * copy) for copy in range(4)])
    right = of(scanner_scores(copies, random_state=0), "a")
    wrong = of(scanner_scores(copies.drop(columns="patient"), random_state=0), "a")
    assert right.n_patients == 60
    assert wrong.n_patients == 240
    assert wrong.high - wrong.low < 0.6 * (right.high - right.low)


def test_a_patient_seen_on_two_scanners_is_drawn_on_both():
    """Of the same patients, two equal scanners differ in no resample."""
    table = binormal(np.random.default_rng(0), 30, 1.0, patient=np.arange(60))
    twice = pd.concat([table, table.assign(scanner="b")])
    scores = scanner_scores(twice, metrics=["auc"], n_bootstrap=200, random_state=0)
    assert of(scores, "worst").n_patients == 60
    figures = scores[["estimate", "low", "high"]]
    assert figures.nunique().tolist() == [1, 1, 1]


def test_intervals_cover_the_true_area_about_as_often_as_they_say():
    true_area = norm.cdf(1 / np.sqrt(2))
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        scores = scanner_scores(
            binormal(rng, 40, 1.0),
            metrics=["auc"],
            n_bootstrap=300,
            random_state=rng.integers(2**31),
        )
        one = of(scores, "a")
        covered.append(one.low <= true_area <= one.high)
    assert 0.90 <= np.mean(covered) <= 0.99


def test_resamples_that_lack_a_class_are_counted_and_left_out():
    truth = np.repeat([0, 1], [20, 2])
    rng = np.random.default_rng(0)
    table = prediction_table(truth, rng.random(22), [0, 1], scanner="a")
    one = of(scanner_scores(table, n_bootstrap=1000, random_state=0), "a")
    # Neither of two patients among 22 draws: (20 / 22)^22 = 0.123.
    assert 90 <= one.n_undefined <= 160
    assert 0 <= one.low < one.high <= 1


def test_a_class_of_one_patient_gives_no_interval():
    table = prediction_table([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9], [0, 1], scanner="a")
    scores = scanner_scores(table, n_bootstrap=100, random_state=0)
    assert of(scores, "a").estimate == 1.0
    assert scores[["low", "high"]].isna().all(axis=None)


def test_a_scanner_of_one_class_has_no_area_and_is_not_the_worst():
    only_positives = prediction_table([1] * 9, np.linspace(0.2, 0.9, 9), [0, 1], scanner="b")
    scores = scanner_scores(
        pd.concat([binormal(np.random.default_rng(0), 30, 1.0), only_positives]),
        n_bootstrap=100,
        random_state=0,
    )
    assert np.isnan(of(scores, "b").estimate)
    assert of(scores, "b").n_undefined == 100
    assert of(scores, "worst").estimate == of(scores, "a").estimate
    assert of(scores, "b", "recall").estimate == pytest.approx(5 / 9)
    assert of(scores, "worst").high == pytest.approx(of(scores, "a").high)


def test_scanners_of_one_class_alone_have_no_worst_area():
    table = prediction_table([1, 1, 1], [0.2, 0.4, 0.6], [0, 1], scanner="b")
    assert np.isnan(of(scanner_scores(table, n_bootstrap=5), "worst").estimate)


def test_a_scanner_with_two_of_four_classes_is_scored_rightly():
    rng = np.random.default_rng(0)
    truth = np.concatenate([np.tile(np.arange(4), 20), np.tile([1, 2], 20)])
    proba = rng.dirichlet(np.ones(4), size=120) + 2 * np.eye(4)[truth]
    proba /= proba.sum(axis=1, keepdims=True)
    scanner = np.repeat(["Selenia", "Senograph"], [80, 40])
    names = np.array(["A", "B", "C", "D"])
    table = prediction_table(names[truth], proba, names, scanner=scanner)
    scores = scanner_scores(table, random_state=0)
    partial = of(scores, "Senograph")
    assert partial.estimate == auc(names[truth[80:]], proba[80:], names)
    assert partial.low > 0.9
    assert of(scores, "Senograph", "worst_group_accuracy").estimate > 0.8


def test_an_unknown_metric_is_refused_with_those_known():
    with pytest.raises(InvalidParameterError, match=r"Unknown metric 'accuracy'. Known are auc,"):
        scanner_scores(two_scanners(), metrics=["accuracy"])


def test_a_scanner_called_as_the_row_over_all_is_refused():
    table = binormal(np.random.default_rng(0), 5, 1.0, scanner="worst")
    with pytest.raises(LabelTableError, match=r"called 'worst'.*Rename the scanner"):
        scanner_scores(table)


def test_a_confidence_in_percent_is_refused():
    with pytest.raises(InvalidParameterError, match="between 0 and 1; got 95"):
        scanner_scores(two_scanners(), n_bootstrap=5, confidence=95)


def test_a_table_that_cannot_be_scored_is_refused():
    with pytest.raises(LabelTableError, match="Predictions lack scanner"):
        scanner_scores(two_scanners().drop(columns="scanner"))


def test_paired_difference_has_a_row_for_each_scanner_and_the_worst():
    differences = paired_difference(two_scanners(0), two_scanners(1), n_bootstrap=20, random_state=0)
    assert differences.columns.tolist() == [
        "scanner",
        "metric",
        "estimate",
        "baseline",
        "difference",
        "low",
        "high",
        "p",
        "n_images",
        "n_patients",
        "n_undefined",
    ]
    assert differences.scanner.tolist() == ["good", "poor", "worst"]
    assert np.allclose(differences.difference, differences.estimate - differences.baseline)


def test_a_method_does_not_differ_from_itself():
    row = paired_difference(two_scanners(), two_scanners(), random_state=0).iloc[0]
    assert (row.difference, row.low, row.high, row.p) == (0.0, 0.0, 0.0, 1.0)


def test_turning_the_comparison_round_turns_the_sign():
    rng = np.random.default_rng(0)
    a, b = binormal(rng, 40, 1.5), binormal(rng, 40, 1.0)
    there = paired_difference(a, b, metric="f1", random_state=0).iloc[0]
    back = paired_difference(b, a, metric="f1", random_state=0).iloc[0]
    assert there.difference == -back.difference
    assert there.low == pytest.approx(-back.high)
    assert there.p == back.p


def test_pairing_sees_a_small_difference_that_separate_intervals_hide():
    rng = np.random.default_rng(0)
    poor = binormal(rng, 60, 1.0)
    shift = np.where(poor.label == 1, 0.25, -0.25)
    latent = norm.ppf(poor.proba_1) + shift
    good = prediction_table(poor.label, norm.cdf(latent), [0, 1], scanner="a")
    separate = [of(scanner_scores(table, random_state=0), "a") for table in (good, poor)]
    assert separate[0].low < separate[1].high
    paired = paired_difference(good, poor, random_state=0).iloc[0]
    assert paired.low > 0
    assert paired.p < 0.01


def test_methods_may_have_different_numbers_of_seeds():
    seeds = [binormal(np.random.default_rng(seed), 40, 1.0, seed=seed) for seed in range(3)]
    row = paired_difference(pd.concat(seeds), seeds[0], n_bootstrap=20, random_state=0).iloc[0]
    areas = [roc_auc_score(table.label, table.proba_1) for table in seeds]
    assert row.difference == pytest.approx(np.mean(areas) - areas[0])


def test_p_of_equal_methods_is_rarely_small():
    rng = np.random.default_rng(0)
    p = [
        paired_difference(
            binormal(rng, 40, 1.0),
            binormal(rng, 40, 1.0),
            n_bootstrap=200,
            random_state=rng.integers(2**31),
        ).p[0]
        for _ in range(200)
    ]
    assert 0.005 <= np.mean(np.array(p) < 0.05) <= 0.10


def test_a_class_of_one_patient_gives_no_p():
    table = prediction_table([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.9], [0, 1], scanner="a")
    row = paired_difference(table, table, n_bootstrap=20, random_state=0).iloc[0]
    assert np.isnan([row.low, row.high, row.p]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[t.scanner == "good"], "same scanners on both sides; got good, poor and good"),
        (lambda t: t[1:], r"image differs on scanner 'good' \(80 and 79 images\)"),
        (lambda t: t.assign(patient="x"), "patient differs on scanner 'good'"),
        (lambda t: t.assign(label=1 - t.label), "truth differs on scanner 'good'"),
    ],
)
def test_methods_scored_on_different_images_are_not_compared(change, message):
    with pytest.raises(LabelTableError, match=message):
        paired_difference(two_scanners(), change(two_scanners()))


def test_a_paired_difference_of_an_unknown_metric_is_refused():
    with pytest.raises(InvalidParameterError, match="Unknown metric 'accuracy'"):
        paired_difference(two_scanners(), two_scanners(), metric="accuracy")
