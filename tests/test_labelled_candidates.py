"""Methods that learn from labels of the test scanner: from whom, by which classifier, never from whom they score."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from tiny_study import LOG, MeanClassifier, SpyCDF, SpyLearner, calls, images_of

from xray_harmonize import CDFMatching, CropForeground, ImageSet
from xray_harmonize.evaluation.candidates import LABELLED, NOTHING, UNLABELLED, Candidate
from xray_harmonize.evaluation.protocols import (
    SplitFits,
    check_feasible,
    fixed_classifier_splits,
    leave_one_scanner_out_splits,
    predict,
    train_classifier,
)
from xray_harmonize.evaluation.study import Study
from xray_harmonize.evaluation.summary import chosen_elsewhere, summarize
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError, XRayHarmonizeWarning

X, Y = images_of()
PAIRED, PAIRED_Y = images_of({"home": 20, "far": 20, "near": 20}, paired=True, per_patient=2)
SEVERAL = images_of({"home": 20, "far": 24, "near": 20}, per_patient=4)
CLASSIFIER = MeanClassifier()
LEARNER = Candidate("learner", (SpyLearner(),), sees=LABELLED)
PER_SCANNER = Candidate("learner, scanner", (SpyLearner(scope="scanner"),), sees=LABELLED)
BY_IMAGES = Candidate(
    "learner, unlabelled", (SpyLearner(scope="scanner", supervision="distribution"),), sees=UNLABELLED
)
TUNED = Candidate("fine-tuned", sees=LABELLED, fine_tunes=True)


@pytest.fixture(autouse=True)
def _empty_log():
    LOG.clear()


def fixed(X=X, y=Y, seeds=(0,), n_folds=5):
    return list(fixed_classifier_splits(X, y, "home", list(seeds), n_folds))


def loso(X=X, y=Y, seeds=(0,)):
    return list(leave_one_scanner_out_splits(X, y, "home", list(seeds)))


def outcome(candidate, split, X=X, y=Y, classifier=CLASSIFIER):
    fits = SplitFits(y, split, "home")
    trained = train_classifier(candidate, X, y, split, classifier, "home", fits)
    return predict(candidate, X, y, split, trained, "home", fits)


# -- who is learned from, and who is scored -------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", [LEARNER, PER_SCANNER, TUNED], ids=lambda candidate: candidate.name)
@pytest.mark.parametrize("data", [(X, Y), SEVERAL, (PAIRED, PAIRED_Y)], ids=["one image", "several", "paired"])
@pytest.mark.filterwarnings("ignore:Class .* patients for 5 folds")
def test_no_patient_is_learned_from_and_tested_on(candidate, data):
    images, y = data
    for split in fixed(images, y, seeds=(0, 3)):
        LOG.clear()
        table = outcome(candidate, split, images, y)
        assert sorted(table.image) == sorted(split.test)
        learned = []
        for call in LOG:
            if call.method in ("fit", "fine_tune"):
                learned.append(call)
            if call.method == "predict_proba":
                (before,) = learned[-1:]
                assert not set(before.patients) & set(call.patients)
                assert not set(images.patient[split.train]) & set(call.patients)


@pytest.mark.parametrize("candidate", [LEARNER, PER_SCANNER, TUNED], ids=lambda candidate: candidate.name)
def test_each_half_of_a_scanner_is_learned_from_once_and_scored_once(candidate):
    (split,) = fixed()
    outcome(candidate, split)
    learned = calls("MeanClassifier", "fine_tune") if candidate.fine_tunes else calls("SpyLearner", "fit")
    scored = calls("MeanClassifier", "predict_proba")
    for name in ("far", "near"):
        own = split.test[X.scanner[split.test] == name]
        halves = [
            [i for i in call.ids if i in own] for call in learned if set(call.scanners) in ({name}, {name, "home"})
        ]
        tests = [call.ids for call in scored if set(call.scanners) == {name}]
        assert len(halves) == len(tests) == 2
        assert halves == tests[::-1]
        assert sorted(halves[0] + halves[1]) == own.tolist()


def test_harmonizers_learn_beside_the_half_from_the_training_images_of_the_reference_with_their_labels():
    (split,) = fixed()
    outcome(LEARNER, split)
    for fit in calls("SpyLearner", "fit"):
        assert [i for i in fit.ids if X.scanner[i] == "home"] == split.train.tolist()
        assert fit.facts["labels"] == Y[fit.ids].tolist()


def test_fine_tuning_learns_from_the_half_alone_with_its_labels():
    (split,) = fixed()
    outcome(TUNED, split)
    tunings = calls("MeanClassifier", "fine_tune")
    assert [set(call.scanners) for call in tunings] == [{"far"}, {"far"}, {"far", "near"}, {"near"}, {"near"}]
    for call in tunings:
        assert call.facts["labels"] == Y[call.ids].tolist()


def test_at_home_a_method_is_tested_after_learning_from_all_other_scanners_at_once():
    (split,) = fixed()
    outcome(LEARNER, split)
    at_home = [fit for fit in calls("SpyLearner", "fit") if {"far", "near"} <= set(fit.scanners)]
    (fit,) = at_home
    assert [i for i in fit.ids if i in split.test] == [i for i in split.test if X.scanner[i] != "home"]
    home = [call for call in calls("MeanClassifier", "predict_proba") if set(call.scanners) == {"home"}]
    assert [call.ids for call in home] == [[i for i in split.test if X.scanner[i] == "home"]]


def test_patients_imaged_at_home_and_elsewhere_are_divided():
    (split,) = fixed(PAIRED, PAIRED_Y)
    outcome(LEARNER, split, PAIRED, PAIRED_Y)
    home = [call for call in calls("MeanClassifier", "predict_proba") if set(call.scanners) == {"home"}]
    assert len(home) == 2
    both = [fit for fit in calls("SpyLearner", "fit") if {"far", "near"} <= set(fit.scanners)]
    for fit, scored in zip(both, home, strict=True):
        assert not set(fit.patients) & set(scored.patients)


def test_one_patient_at_home_who_was_imaged_elsewhere_is_not_learned_from():
    patient = X.patient.copy()
    patient[X.scanner == "far"] = np.where(np.arange(12) < 2, "home-3", patient[X.scanner == "far"])
    shared = ImageSet(list(X), scanner=X.scanner, patient=patient, meta=X.meta)
    (split,) = (one for one in fixed(shared, seeds=range(5)) if "home-3" in set(patient[one.test]))
    outcome(LEARNER, split, shared)
    (fit,) = (fit for fit in calls("SpyLearner", "fit") if {"far", "near"} <= set(fit.scanners))
    assert "home-3" not in fit.patients
    assert len(fit.ids) == len(split.train) + 10 + 10


def test_labels_of_whom_is_scored_have_no_part_in_the_prediction():
    (split,) = fixed()
    first, _ = (call.ids for call in _scored(split, "far"))
    flipped = Y.copy()
    flipped[first] = np.where(Y[first] == "ill", "well", "ill")
    for candidate in (LEARNER, PER_SCANNER, TUNED):
        before = outcome(candidate, split).set_index("image").loc[first, "proba_ill"]
        after = outcome(candidate, split, y=flipped).set_index("image").loc[first, "proba_ill"]
        np.testing.assert_array_equal(before, after)


def _scored(split, name):
    LOG.clear()
    outcome(LEARNER, split)
    return [call for call in calls("MeanClassifier", "predict_proba") if set(call.scanners) == {name}]


# -- by which classifier ----------------------------------------------------------------------------------------------


def test_the_fixed_classifier_is_what_steps_learn_by_and_stays_frozen():
    (split,) = fixed()
    fits = SplitFits(Y, split, "home")
    trained = train_classifier(LEARNER, X, Y, split, CLASSIFIER, "home", fits)
    predict(LEARNER, X, Y, split, trained, "home", fits)
    assert len(calls("MeanClassifier", "fit")) == 1
    for fit in calls("SpyLearner", "fit"):
        assert fit.facts["discriminator"] is trained
        assert fit.facts["random_state"] == split.seed


def test_a_class_that_the_classifier_has_not_seen_is_not_learned_from():
    y = Y.copy()
    y[[0, 21, 22, 33]] = "rare"
    with pytest.warns(XRayHarmonizeWarning, match="Class rare has 1 patients for 5 folds"):
        splits = fixed(y=y, seeds=range(5))
    (split,) = (one for one in splits if "rare" not in y[one.train])
    for candidate in (LEARNER, TUNED):
        LOG.clear()
        table = outcome(candidate, split, y=y)
        for call in calls("SpyLearner", "fit") + calls("MeanClassifier", "fine_tune"):
            assert "rare" not in call.facts["labels"]
        assert (table.proba_rare == 0).all()


def test_when_a_scanner_is_left_out_steps_learn_by_a_classifier_of_the_reference_alone():
    for split in loso(seeds=(4,)):
        LOG.clear()
        outcome(LEARNER, split)
        (first, second) = calls("MeanClassifier", "fit")
        assert set(first.scanners) == {"home"}
        assert first.ids == [i for i in split.train if X.scanner[i] == "home"]
        assert second.ids == split.train.tolist()
        (fit,) = calls("SpyLearner", "fit")
        np.testing.assert_array_equal(fit.facts["discriminator"].classes_, ["ill", "well"])
        assert fit.facts["discriminator"].random_state == 4


# -- a scanner that is left out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", [LEARNER, PER_SCANNER], ids=lambda candidate: candidate.name)
def test_nobody_sees_labels_of_a_scanner_that_is_left_out(candidate):
    for split in loso():
        LOG.clear()
        table = outcome(candidate, split)
        (fit,) = calls("SpyLearner", "fit")
        assert fit.ids == split.train.tolist()
        assert fit.facts["labels"] == Y[split.train].tolist()
        assert set(table.sees) == {UNLABELLED if candidate is PER_SCANNER else NOTHING}
        adaptations = calls("SpyLearner", "adapt")
        assert len(adaptations) == (2 if candidate is PER_SCANNER else 0)
        tests = calls("MeanClassifier", "predict_proba")
        for adapted, tested in zip(adaptations, tests if adaptations else [], strict=True):
            assert not set(adapted.patients) & set(tested.patients)


def test_labels_of_the_left_out_scanner_change_nothing():
    for split in loso():
        flipped = Y.copy()
        flipped[split.test] = np.where(Y[split.test] == "ill", "well", "ill")
        for candidate in (LEARNER, PER_SCANNER, BY_IMAGES):
            before, after = outcome(candidate, split), outcome(candidate, split, y=flipped)
            np.testing.assert_array_equal(before.proba_ill, after.proba_ill)


@pytest.mark.parametrize("splits", [fixed, loso])
def test_a_method_that_learns_without_labels_is_fitted_to_the_training_images_and_adapted(splits):
    for split in splits():
        LOG.clear()
        table = outcome(BY_IMAGES, split)
        (fit,) = calls("SpyLearner", "fit")
        assert fit.ids == split.train.tolist()
        new = set(X.scanner[split.test]) - set(X.scanner[split.train])
        assert len(calls("SpyLearner", "adapt")) == 2 * len(new)
        assert set(table.sees) == {UNLABELLED}


# -- nothing twice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [fixed, loso])
def test_nothing_is_fitted_twice_in_a_split(splits):
    candidates = [
        LEARNER,
        Candidate("the same by another name", (SpyLearner(),), sees=LABELLED),
        PER_SCANNER,
        Candidate("CDF", (SpyCDF(),)),
        Candidate("CDF again", (SpyCDF(),), sees=UNLABELLED),
    ]
    for split in splits():
        LOG.clear()
        fits = SplitFits(Y, split, "home")
        for candidate in candidates:
            trained = train_classifier(candidate, X, Y, split, CLASSIFIER, "home", fits)
            predict(candidate, X, Y, split, trained, "home", fits)
        done = [(call.who, tuple(call.ids), call.facts.get("random_state")) for call in LOG if call.method == "fit"]
        learners = [one for one in done if one[0] == "SpyLearner"]
        n_parts = 5 if splits is fixed else 1
        assert len(learners) == 2 * n_parts  # per image and per scanner
        assert [one[0] for one in done].count("SpyCDF") == 1
        if splits is loso:
            # One for the learners to learn by, and one of each candidate's own.
            assert [one[0] for one in done].count("MeanClassifier") == 1 + len(candidates)


def test_other_images_or_another_geometry_is_another_fit():
    (split,) = fixed()
    fits = SplitFits(Y, split, "home")
    candidate = Candidate("x", (SpyCDF(),))
    cropped = Candidate("x", (SpyCDF(),), geometry=(CropForeground(),))
    first = fits.harmonizer(candidate, X, split.train, CLASSIFIER)
    assert fits.harmonizer(candidate, X, split.train, CLASSIFIER) is first
    assert fits.harmonizer(candidate, X, split.train[1:], CLASSIFIER) is not first
    assert fits.harmonizer(cropped, X, split.train, CLASSIFIER) is not first


def test_a_study_fits_each_harmonizer_once_a_split():
    candidates = [Candidate("none"), LEARNER, Candidate("CDF", (SpyCDF(),))]
    Study(X, Y, candidates, MeanClassifier(), "home", protocols=["fixed", "loso"], seeds=[0, 1]).run()
    fixed_fits = [fit for fit in calls("SpyLearner", "fit") if fit.facts["random_state"] == 0]
    assert len(fixed_fits) == 5 + 2  # two halves of two scanners and home; two scanners left out
    assert len(calls("SpyCDF", "fit")) == 2 * (1 + 2)


# -- interruptions --------------------------------------------------------------------------------------------------


class Interrupted(SpyLearner):
    """Takes Ctrl-C for a wish to stop early."""

    def fit(self, X, y=None, *, scanner=None):
        super().fit(X, y)
        if self.supervision == "labels":
            warnings.warn("The training of Interrupted was interrupted after 3 steps.", XRayHarmonizeWarning, 2)
        return self

    def adapt(self, X, *, scanner=None):
        adapted = super().adapt(X)
        warnings.warn("The training of Interrupted was interrupted after 3 steps.", XRayHarmonizeWarning, 2)
        return adapted


class InterruptedTuning(MeanClassifier):
    """The same for a classifier."""

    def fine_tune(self, X, y):
        tuned = super().fine_tune(X, y)
        tuned.interrupted_ = True
        return tuned


@pytest.mark.parametrize(
    ("candidate", "classifier"),
    [
        (Candidate("x", (Interrupted(),), sees=LABELLED), CLASSIFIER),
        (Candidate("x", (Interrupted(scope="scanner", supervision="distribution"),), sees=UNLABELLED), CLASSIFIER),
        (TUNED, InterruptedTuning()),
    ],
    ids=["fit", "adapt", "fine-tune"],
)
def test_half_a_learning_is_an_interruption(candidate, classifier):
    with pytest.raises(KeyboardInterrupt):
        outcome(candidate, fixed()[0], classifier=classifier)


class Talkative(SpyLearner):
    """Has something else to say."""

    def fit(self, X, y=None, *, scanner=None):
        warnings.warn("Curves stayed at the identity.", XRayHarmonizeWarning, stacklevel=2)
        return super().fit(X, y)


def test_other_warnings_pass():
    with pytest.warns(XRayHarmonizeWarning, match="stayed at the identity"):
        outcome(Candidate("x", (Talkative(),), sees=LABELLED), fixed()[0])
    with pytest.raises(XRayHarmonizeWarning, match="stayed at the identity"):
        outcome(Candidate("x", (Talkative(),), sees=LABELLED), fixed()[0])


# -- too few ----------------------------------------------------------------------------------------------------------


def test_halves_too_small_for_a_batch_are_refused_before_anything_trains():
    candidate = Candidate("greedy", (SpyLearner(batch_size=4, validation_fraction=0.2),), sees=LABELLED)
    (split,) = fixed()
    expected = r"'greedy' learns from labelled images of other.*'far' has 12 test image.*halves of at least 8\."
    with pytest.raises(NotEnoughImagesError, match=expected):
        check_feasible(candidate, X, Y, split, "home")
    check_feasible(LEARNER, X, Y, split, "home")
    check_feasible(TUNED, X, Y, split, "home")


def test_one_image_is_too_few_to_fine_tune_on():
    few, y = images_of({"home": 20, "far": 3})
    (split,) = fixed(few, y)
    with pytest.raises(NotEnoughImagesError, match=r"'fine-tuned' learns from labelled.*halves of at least 2\."):
        check_feasible(TUNED, few, y, split, "home")


def test_without_further_scanners_to_train_on_nothing_is_learned_from_labels():
    two, y = images_of({"home": 20, "far": 12})
    (split,) = loso(two, y)
    expected = r"'learner' learns from labelled images of scanners beside 'home'; without far there are 0 to train on"
    with pytest.raises(NotEnoughImagesError, match=expected):
        check_feasible(LEARNER, two, y, split, "home")
    check_feasible(BY_IMAGES, two, y, split, "home")
    greedy = Candidate("greedy", (SpyLearner(batch_size=12),), sees=LABELLED)
    with pytest.raises(NotEnoughImagesError, match=r"without far there are 10 to train on, and it needs at least 12\."):
        check_feasible(greedy, X, Y, loso()[0], "home")


def test_a_study_tells_which_candidates_the_images_are_too_few_for():
    few, y = images_of({"home": 20, "far": 6})
    candidates = [
        Candidate("none"),
        Candidate("greedy", (SpyLearner(batch_size=12),), sees=LABELLED),
        LEARNER,
        TUNED,
    ]
    study = Study(few, y, candidates, MeanClassifier(), "home", protocols=["fixed", "loso"])
    reasons = study.infeasible()
    assert list(reasons) == ["greedy", "learner"]
    assert reasons["greedy"].startswith("'greedy' learns from labelled images of other patients")
    assert "without far there are 0 to train on" in reasons["learner"]


# -- in a study -----------------------------------------------------------------------------------------------------


def test_a_study_compares_all_three_classes_under_both_protocols(tmp_path):
    candidates = [
        Candidate("none"),
        Candidate("CDF, scanner", (CDFMatching(scope="scanner"),), sees=UNLABELLED),
        BY_IMAGES,
        LEARNER,
        PER_SCANNER,
        TUNED,
    ]
    study = Study(X, Y, candidates, MeanClassifier(), "home", ["fixed", "loso"], [0, 1], folder=tmp_path)
    predictions = study.run()
    fixed_part = predictions[predictions.protocol == "fixed classifier"]
    left_out = predictions[predictions.protocol != "fixed classifier"]
    assert set(fixed_part.sees) == {NOTHING, UNLABELLED, LABELLED}
    assert set(left_out.sees) == {NOTHING, UNLABELLED}
    assert "fine-tuned" not in set(left_out.harmonizer)
    counts = fixed_part.groupby(["harmonizer", "scanner"]).size().unstack()
    assert (counts[["far", "near"]] == [24, 20]).all(axis=None)
    assert (counts["home"] == counts["home"].iloc[0]).all()
    honest, chosen = chosen_elsewhere(fixed_part, "home")
    assert list(chosen) == [UNLABELLED, LABELLED]
    summary = summarize(pd.concat([fixed_part, honest]), "home", n_bootstrap=20)
    assert not summary.duplicated(["harmonizer", "sees", "scanner"]).any()
    LOG.clear()
    pd.testing.assert_frame_equal(study.run(), predictions)
    assert not LOG


def test_a_study_of_methods_that_are_not_defined_under_a_protocol_is_refused():
    with pytest.raises(InvalidParameterError, match=r"No candidate of 'fine-tuned' is defined under protocol 'loso'"):
        Study(X, Y, [TUNED], MeanClassifier(), "home", protocols=["loso"])
