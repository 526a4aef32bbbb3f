"""From predictions to the tables that people read."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tiny_study import MeanClassifier, images_of, predictions_of

from xray_harmonize import CDFMatching
from xray_harmonize.evaluation.candidates import LABELLED, NOTHING, UNLABELLED, Candidate
from xray_harmonize.evaluation.scores import scanner_scores
from xray_harmonize.evaluation.study import Study
from xray_harmonize.evaluation.summary import CHOSEN, METRICS, choose, chosen_elsewhere, seed_results, summarize
from xray_harmonize.exceptions import InvalidParameterError

SUMMARY_COLUMNS = [
    "protocol",
    "harmonizer",
    "sees",
    "scanner",
    "n_images",
    "n_patients",
    "n_seeds",
    *[f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")],
    "difference",
    "difference_low",
    "difference_high",
]


SKILL = {
    "none": {"home": 3.0, "far": 0.5, "near": 1.5},
    "good": {"home": 3.0, "far": 2.5, "near": 1.4},
    "odd": {"home": 2.0, "far": 0.2, "near": 2.5},
}
PREDICTIONS = predictions_of(SKILL, sees={"good": UNLABELLED})


def row(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    (found,) = (row for _, row in table.iterrows())
    return found


# -- one row a seed -------------------------------------------------------------------------------------------------


def test_results_hold_one_row_a_harmonizer_scanner_and_seed():
    results = seed_results(PREDICTIONS)
    columns = ["protocol", "harmonizer", "sees", "seed", "scanner", "n_images", "n_patients", *METRICS]
    assert results.columns.tolist() == columns
    assert len(results) == 3 * 3 * 2
    assert not results.duplicated(["harmonizer", "scanner", "seed"]).any()
    assert (results[["n_images", "n_patients"]] == [40, 20]).all(axis=None)
    assert set(results.sees[results.harmonizer == "good"]) == {UNLABELLED}


def test_the_auc_of_a_seed_is_that_of_its_predictions():
    results = seed_results(PREDICTIONS)
    for (harmonizer, scanner, seed), part in PREDICTIONS.groupby(["harmonizer", "scanner", "seed"]):
        expected = roc_auc_score(part.label == "well", part.proba_well)
        assert row(results, harmonizer=harmonizer, scanner=scanner, seed=seed).auc == pytest.approx(expected)


# -- over all seeds -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def summary():
    return summarize(PREDICTIONS, "home", n_bootstrap=100)


def test_the_columns_are_those_that_the_report_reads(summary):
    assert summary.columns.tolist() == SUMMARY_COLUMNS


def test_every_harmonizer_has_a_row_for_each_scanner_and_one_for_the_worst(summary):
    for harmonizer in SKILL:
        own = summary[summary.harmonizer == harmonizer]
        assert sorted(own.scanner) == ["far", "home", "near", "worst"]
        assert set(own.n_seeds) == {2}


def test_the_worst_is_the_worst_of_the_scanners_other_than_the_reference():
    skill = {"none": {"home": 0.0, "far": 2.0, "near": 3.0}}
    table = summarize(predictions_of(skill), "home", n_bootstrap=0).set_index("scanner")
    assert table.loc["worst", "auc"] == table.loc["far", "auc"] > table.loc["home", "auc"]
    assert table.loc["worst", "n_images"] == 80


def test_figures_are_those_of_scanner_scores_and_lie_in_their_intervals(summary):
    part = PREDICTIONS[PREDICTIONS.harmonizer == "good"]
    scores = scanner_scores(part, n_bootstrap=0)
    for scanner in ("home", "far", "near"):
        own = row(summary, harmonizer="good", scanner=scanner)
        for metric in METRICS:
            assert own[metric] == pytest.approx(row(scores, scanner=scanner, metric=metric).estimate)
            assert own[f"{metric}_low"] <= own[metric] <= own[f"{metric}_high"]


def test_the_difference_of_doing_nothing_to_itself_is_exactly_zero(summary):
    none = summary[summary.harmonizer == "none"]
    assert (none[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)


def test_the_difference_is_that_of_the_figures_scanner_by_scanner(summary):
    table = summary.pivot(index="scanner", columns="harmonizer", values="auc")
    differences = summary.pivot(index="scanner", columns="harmonizer", values="difference")
    for harmonizer in ("good", "odd"):
        expected = table[harmonizer] - table["none"]
        pd.testing.assert_series_equal(differences[harmonizer], expected, check_names=False)
    assert row(summary, harmonizer="good", scanner="far").difference_low > 0


def test_protocols_are_summarized_each_against_its_own_baseline():
    other = predictions_of({"none": {"far": 2.5}, "good": {"far": 2.5}}, protocol="leave one scanner out")
    summary = summarize(pd.concat([PREDICTIONS, other]), "home", n_bootstrap=0)
    assert row(summary, protocol="leave one scanner out", harmonizer="good", scanner="far").difference == 0
    assert row(summary, protocol="fixed classifier", harmonizer="good", scanner="far").difference > 0.2
    assert set(summary.scanner[summary.protocol == "leave one scanner out"]) == {"far", "worst"}


def test_the_same_predictions_give_the_same_intervals():
    pd.testing.assert_frame_equal(
        summarize(PREDICTIONS, "home", n_bootstrap=20), summarize(PREDICTIONS, "home", n_bootstrap=20)
    )


def test_a_single_patient_a_class_has_figures_without_intervals():
    few = PREDICTIONS[~((PREDICTIONS.scanner == "far") & (PREDICTIONS.patient > "far-0"))]
    summary = summarize(few, "home", n_bootstrap=20)
    far = row(summary, harmonizer="good", scanner="far")
    assert far.n_patients == 1
    assert np.isfinite(far.auc)
    assert np.isnan([far.auc_low, far.auc_high, far.difference_low, far.difference_high]).all()


def test_without_a_baseline_there_is_nothing_to_compare_with():
    with pytest.raises(InvalidParameterError, match=r"'fixed classifier' has no predictions of 'none'.*Candidate"):
        summarize(PREDICTIONS[PREDICTIONS.harmonizer != "none"], "home")


# -- choosing -------------------------------------------------------------------------------------------------------


def test_the_highest_mean_over_the_scanners_is_chosen_and_the_earlier_of_equals():
    assert choose(PREDICTIONS, ["far"]) == "good"
    assert choose(PREDICTIONS, ["near"]) == "odd"
    equal = pd.concat([PREDICTIONS, PREDICTIONS[PREDICTIONS.harmonizer == "good"].assign(harmonizer="same")])
    assert choose(equal, ["far"]) == "good"


def test_a_scanner_of_a_single_class_decides_nothing():
    single = PREDICTIONS[~((PREDICTIONS.scanner == "near") & (PREDICTIONS.label == "ill"))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose(single, ["far", "near"]) == "good"
        assert choose(single, ["near"]) == "none"


def test_for_each_scanner_the_method_is_chosen_on_the_others():
    table, chosen = chosen_elsewhere(PREDICTIONS, "home")
    assert chosen[UNLABELLED] == {"far": "odd", "near": "good"}
    table = table[table.sees == UNLABELLED]
    assert set(table.harmonizer) == {CHOSEN}
    assert set(table.scanner) == {"far", "near"}
    far = PREDICTIONS[(PREDICTIONS.harmonizer == "odd") & (PREDICTIONS.scanner == "far")]
    np.testing.assert_array_equal(table[table.scanner == "far"].proba_ill, far.proba_ill)


def test_who_may_show_less_chooses_from_less():
    table, chosen = chosen_elsewhere(PREDICTIONS, "home")
    assert list(chosen) == [NOTHING, UNLABELLED]
    assert chosen[NOTHING] == {"far": "odd", "near": "none"}
    assert set(table.sees) == {NOTHING, UNLABELLED}
    summary = summarize(pd.concat([PREDICTIONS, table]), "home", n_bootstrap=0)
    assert not summary.duplicated(["harmonizer", "sees", "scanner"]).any()


def test_a_class_that_adds_no_method_has_no_choice_of_its_own():
    skill = {"none": SKILL["none"], "good": SKILL["good"]}
    _, chosen = chosen_elsewhere(predictions_of(skill, sees={"good": LABELLED}), "home")
    assert list(chosen) == [LABELLED]  # of doing nothing alone nothing can be chosen


@pytest.mark.parametrize("scanner", ["far", "near"])
def test_the_labels_of_a_scanner_have_no_part_in_choosing_for_it(scanner):
    _, chosen = chosen_elsewhere(PREDICTIONS, "home")
    rng = np.random.default_rng(0)
    own = PREDICTIONS.scanner == scanner
    for _ in range(5):
        labels = PREDICTIONS[own].image.map(
            dict(zip(sorted(set(PREDICTIONS[own].image)), rng.permutation(["ill", "well"] * 20), strict=True))
        )
        permuted = PREDICTIONS.assign(label=PREDICTIONS.label.where(~own, labels))
        for sees, names in chosen_elsewhere(permuted, "home")[1].items():
            assert names[scanner] == chosen[sees][scanner]


def test_the_labels_of_the_reference_have_no_part_either():
    flipped = {"ill": "well", "well": "ill"}
    own = PREDICTIONS.scanner == "home"
    changed = PREDICTIONS.assign(label=PREDICTIONS.label.where(~own, PREDICTIONS.label.map(flipped)))
    assert chosen_elsewhere(changed, "home")[1] == chosen_elsewhere(PREDICTIONS, "home")[1]


def test_with_one_test_scanner_there_is_no_other_to_choose_on():
    table, chosen = chosen_elsewhere(PREDICTIONS[PREDICTIONS.scanner != "near"], "home")
    assert table.empty
    assert chosen == {}


def test_a_study_goes_through_all_of_it():
    X, y = images_of()
    candidates = [Candidate("none"), Candidate("CDF", (CDFMatching(scope="scanner"),), sees=UNLABELLED)]
    predictions = Study(X, y, candidates, MeanClassifier(), "home", protocols=["fixed", "loso"], seeds=[0, 1]).run()
    honest, _ = chosen_elsewhere(predictions[predictions.protocol == "fixed classifier"], "home")
    summary = summarize(pd.concat([predictions, honest]), "home", n_bootstrap=20)
    assert summary.columns.tolist() == SUMMARY_COLUMNS
    assert set(summary.harmonizer) == {"none", "CDF", CHOSEN}
    assert summary.auc.between(0, 1).all()
    assert len(seed_results(predictions)) == 2 * 2 * (3 + 2)
