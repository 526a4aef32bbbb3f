"""The two protocols: who trains, who adapts, who tests, and that nobody does two of these."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_study import LOG, MeanClassifier, SpyCDF, calls, images_of

from xray_harmonize import CDFMatching, ImageSet, ZScore
from xray_harmonize.evaluation.candidates import UNLABELLED, Candidate
from xray_harmonize.evaluation.protocols import (
    FIXED,
    LEAVE_ONE_OUT,
    Split,
    check_feasible,
    fixed_classifier_splits,
    leave_one_scanner_out_splits,
    predict,
    train_classifier,
)
from xray_harmonize.exceptions import (
    InvalidParameterError,
    LabelTableError,
    MissingScannerError,
    NotEnoughImagesError,
    XRayHarmonizeWarning,
)

X, Y = images_of()
PAIRED, PAIRED_Y = images_of({"home": 20, "far": 20, "near": 20}, paired=True, per_patient=2)
SEVERAL = images_of({"home": 20, "far": 24, "near": 20}, per_patient=4)
CLASSIFIER = MeanClassifier()


@pytest.fixture(autouse=True)
def _empty_log():
    LOG.clear()


def fixed(X=X, y=Y, seeds=(0,), n_folds=5, reference="home"):
    return list(fixed_classifier_splits(X, y, reference, list(seeds), n_folds))


def loso(X=X, y=Y, seeds=(0,), reference="home"):
    return list(leave_one_scanner_out_splits(X, y, reference, list(seeds)))


def outcome(candidate, split, X=X, y=Y, classifier=CLASSIFIER, reference="home"):
    trained = train_classifier(candidate, X, y, split, classifier, reference)
    return predict(candidate, X, y, split, trained, reference)


# -- splits ---------------------------------------------------------------------------------------------------------


def test_the_fixed_classifier_trains_on_the_reference_alone_and_tests_the_rest():
    for split in fixed(seeds=range(5)):
        assert set(X.scanner[split.train]) == {"home"}
        assert set(X.scanner[split.test]) == {"home", "far", "near"}
        assert sorted([*split.train, *split.test]) == list(range(len(X)))


@pytest.mark.filterwarnings("ignore::xray_harmonize.exceptions.XRayHarmonizeWarning")
@given(
    patients=st.lists(st.integers(0, 8), min_size=40, max_size=40),
    seed=st.integers(0, 20),
    reference=st.sampled_from(["home", "far"]),
)
def test_patients_who_train_never_test_whichever_scanner_imaged_them(patients, seed, reference):
    own = ImageSet(np.zeros((40, 1, 1)), scanner=["home", "far"] * 20, patient=[f"p{i}" for i in patients])
    y = np.arange(40) // 2 % 2
    try:
        splits = fixed(own, y, seeds=[seed], n_folds=2, reference=reference) + loso(own, y, reference=reference)
    except NotEnoughImagesError:
        return
    for split in splits:
        assert not set(own.patient[split.train]) & set(own.patient[split.test])


@pytest.mark.filterwarnings("ignore::xray_harmonize.exceptions.XRayHarmonizeWarning")
@given(n_folds=st.integers(2, 5), start=st.integers(0, 7))
@settings(max_examples=15)
def test_as_many_consecutive_seeds_as_folds_test_every_patient_of_the_reference_once(n_folds, start):
    seeds = range(start * n_folds, (start + 1) * n_folds)
    tested = [
        patient
        for split in fixed(PAIRED, PAIRED_Y, seeds, n_folds)
        for patient in set(PAIRED.patient[split.test[PAIRED.scanner[split.test] == "home"]])
    ]
    assert sorted(tested) == sorted(set(PAIRED.patient))


def test_further_seeds_deal_the_folds_anew():
    first, again, later = fixed(seeds=[0]), fixed(seeds=[0]), fixed(seeds=[5])
    np.testing.assert_array_equal(first[0].train, again[0].train)
    assert not np.array_equal(first[0].train, later[0].train)


def test_images_without_patient_are_each_a_patient_of_their_own():
    bare = ImageSet(list(X), scanner=X.scanner)
    (split,) = fixed(bare)
    assert len(split.train) == 16
    assert sorted([*split.train, *split.test]) == list(range(len(X)))


def test_the_reference_is_never_left_out():
    splits = loso(seeds=[0, 1])
    assert [(split.name, split.seed) for split in splits] == [
        ("without far", 0),
        ("without near", 0),
        ("without far", 1),
        ("without near", 1),
    ]
    for split in splits:
        assert "home" in set(X.scanner[split.train])
        assert not set(X.scanner[split.train]) & set(X.scanner[split.test])


def test_without_a_reference_every_scanner_is_left_out():
    assert [split.name for split in loso(reference=None)] == ["without far", "without home", "without near"]


# -- what cannot be compared ------------------------------------------------------------------------------------------


def test_an_unknown_reference_lists_the_scanners():
    with pytest.raises(InvalidParameterError, match="reference='hoem' is none of the scanners far, home, near"):
        fixed(reference="hoem")


def test_one_scanner_is_no_comparison():
    home = X.scanner == "home"
    with pytest.raises(NotEnoughImagesError, match=r"at least two scanners; X\.scanner holds only 'home'"):
        fixed(X[home], Y[home])


@pytest.mark.parametrize("splits", [fixed, loso])
def test_a_set_without_scanners_says_how_to_give_them(splits):
    with pytest.raises(MissingScannerError, match=r"which scanner made each image.*Add a scanner column"):
        splits(ImageSet(list(X)))


@pytest.mark.parametrize("splits", [fixed, loso])
def test_a_scanner_called_like_the_row_over_all_is_refused_before_anything_trains(splits):
    renamed = ImageSet(list(X), scanner=np.where(X.scanner == "far", "worst", X.scanner))
    with pytest.raises(LabelTableError, match=r"A scanner is called 'worst'.*Rename the scanner"):
        splits(renamed)


def test_a_class_that_the_reference_lacks_is_named():
    y = np.where((np.arange(len(X)) == len(X) - 1), "il", Y)
    with pytest.raises(
        NotEnoughImagesError, match=r"Class il has no image of the reference 'home'.*Correct the labels"
    ):
        fixed(y=y)
    with pytest.raises(NotEnoughImagesError, match="Class il has no image of all scanners but 'near'"):
        loso(y=y)


def test_a_comparison_in_which_all_patients_train_is_refused():
    patient = np.where(X.scanner == "home", X.patient, X.patient[0])
    shared = ImageSet(list(X), scanner=X.scanner, patient=patient)
    refused = 0
    for seed in range(5):
        try:
            fixed(shared, seeds=[seed])
        except NotEnoughImagesError as error:
            assert f"With seed {seed}, every patient of the other scanners" in str(error)  # noqa: PT017
            refused += 1
    assert refused == 4  # in the fifth, that patient is in the fold that tests


@pytest.mark.parametrize(("n", "batch_norm"), [(1, False), (1, True), (2, True), (3, True)])
def test_too_few_patients_to_adapt_on_half_are_refused_before_anything_trains(n, batch_norm):
    few, y = images_of({"home": 20, "far": n})
    candidate = Candidate("adapting", sees=UNLABELLED, adapts_batch_norm=batch_norm)
    (split,) = fixed(few, y)
    expected = rf"'adapting' learns from unlabelled images of.*scanner 'far' has {n} test image.*of {n} patient.*halves"
    with pytest.raises(NotEnoughImagesError, match=expected):
        check_feasible(candidate, few, y, split, "home")
    check_feasible(Candidate("not adapting"), few, y, split, "home")


def test_enough_patients_to_adapt_pass():
    few, y = images_of({"home": 20, "far": 4})
    (split,) = fixed(few, y)
    check_feasible(Candidate("x", sees=UNLABELLED, adapts_batch_norm=True), few, y, split, "home")


# -- what trains ----------------------------------------------------------------------------------------------------


def test_the_fixed_classifier_sees_the_reference_as_it_is():
    (split,) = fixed()
    train_classifier(Candidate("x", (SpyCDF(),)), X, Y, split, CLASSIFIER, "home")
    (fit,) = calls("MeanClassifier", "fit")
    assert fit.ids == split.train.tolist()
    np.testing.assert_allclose(fit.means, [X[i].mean() for i in split.train])
    assert not calls("SpyCDF", "fit")


def test_a_method_with_another_range_trains_on_what_it_makes():
    (split,) = fixed()
    train_classifier(Candidate("z", (ZScore(),), trains_on_harmonized=True), X, Y, split, CLASSIFIER, "home")
    (fit,) = calls("MeanClassifier", "fit")
    np.testing.assert_allclose(fit.means, 0, atol=1e-6)


def test_leaving_a_scanner_out_refits_harmonizer_and_classifier_without_it():
    for split in loso():
        LOG.clear()
        outcome(Candidate("x", (SpyCDF(),)), split)
        left_out = split.name.removeprefix("without ")
        fits = calls("SpyCDF", "fit") + calls("MeanClassifier", "fit")
        assert len(fits) >= 2
        for fit in fits:
            assert fit.ids == split.train.tolist()
            assert left_out not in fit.scanners
        harmonized = CDFMatching(reference="home").fit(X[split.train]).transform(X[split.train])
        np.testing.assert_allclose(calls("MeanClassifier", "fit")[0].means, [image.mean() for image in harmonized])


def test_seed_and_parameters_of_the_candidate_reach_the_classifier_and_the_original_stays():
    (split,) = fixed(seeds=[3])
    candidate = Candidate("x", classifier_parameters={"augment": "tone"})
    trained = train_classifier(candidate, X, Y, split, CLASSIFIER, "home")
    (fit,) = calls("MeanClassifier", "fit")
    assert fit.facts == {"random_state": 3, "augment": "tone"}
    assert trained is not CLASSIFIER
    assert (CLASSIFIER.augment, CLASSIFIER.random_state) == (None, None)


class Interrupted(MeanClassifier):
    """Takes Ctrl-C for a wish to stop early."""

    def fit(self, X, y):
        import warnings

        super().fit(X, y)
        self.interrupted_ = True
        warnings.warn("The training of Interrupted was interrupted after 1 epoch.", XRayHarmonizeWarning, stacklevel=2)
        return self


def test_half_a_training_is_an_interruption_without_a_word_about_kept_states():
    with pytest.raises(KeyboardInterrupt):
        train_classifier(Candidate("x"), X, Y, fixed()[0], Interrupted(), "home")


# -- what predicts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [fixed, loso])
def test_a_method_that_sees_nothing_is_fitted_on_training_images_alone(splits):
    for split in splits():
        LOG.clear()
        outcome(Candidate("x", (SpyCDF(), SpyCDF())), split)
        assert not calls("SpyCDF", "adapt")
        assert not calls("MeanClassifier", "adapt")
        fits = calls("SpyCDF", "fit")
        assert fits
        assert all(fit.ids == split.train.tolist() for fit in fits)


@pytest.mark.parametrize("splits", [fixed, loso])
@pytest.mark.parametrize("data", [(X, Y), SEVERAL, (PAIRED, PAIRED_Y)], ids=["one image", "several", "paired"])
@pytest.mark.filterwarnings("ignore::xray_harmonize.exceptions.XRayHarmonizeWarning")
def test_no_patient_is_adapted_on_and_tested_on(splits, data):
    images, y = data
    candidate = Candidate("x", (SpyCDF(scope="scanner"),), sees=UNLABELLED, adapts_batch_norm=True)
    if splits is loso and images is PAIRED:
        with pytest.raises(NotEnoughImagesError, match=r"Nothing is left to train on|No image of the kept scanner"):
            splits(images, y)
        return
    for split in splits(images, y):
        LOG.clear()
        outcome(candidate, split, images, y)
        adaptations = calls("SpyCDF", "adapt")
        new = sorted(set(images.scanner[split.test]) - set(images.scanner[split.train]))
        assert [sorted(set(call.scanners)) for call in adaptations] == [[name] for name in new for _ in range(2)]
        tests = [call for call in calls("MeanClassifier", "predict_proba") if set(call.scanners) <= set(new)]
        for adapted, tested in zip(adaptations, tests, strict=True):
            assert set(adapted.scanners) == set(tested.scanners)
            assert not set(adapted.patients) & set(tested.patients)
            assert not set(adapted.patients) & set(images.patient[split.train])
        for name in new:  # both ways: every image is adapted on once and tested once
            own = split.test[images.scanner[split.test] == name].tolist()
            for side in (adaptations, tests):
                assert sorted(i for call in side if set(call.scanners) == {name} for i in call.ids) == own


def test_batch_norm_is_re_estimated_on_the_unlabelled_half_alone_and_not_on_the_reference():
    (split,) = fixed()
    outcome(Candidate("bn", sees=UNLABELLED, adapts_batch_norm=True), split)
    adaptations = calls("MeanClassifier", "adapt")
    assert [set(call.scanners) for call in adaptations] == [{"far"}, {"far"}, {"near"}, {"near"}]
    offsets = {
        scanner: [call.facts["offset"] for call in calls("MeanClassifier", "predict_proba") if scanner in call.scanners]
        for scanner in ("home", "far")
    }
    assert offsets["home"] == [0]
    assert len(set(offsets["far"])) == 2
    assert 0 not in offsets["far"]


def test_the_table_says_protocol_method_and_what_it_sees_of_every_test_image():
    for split in [*fixed(), *loso()]:
        table = outcome(Candidate("x", (CDFMatching(scope="scanner"),), sees=UNLABELLED), split)
        assert table.columns[:3].tolist() == ["protocol", "harmonizer", "sees"]
        assert set(table.protocol) == {FIXED if split.name.startswith("fold") else LEAVE_ONE_OUT}
        assert set(table.harmonizer) == {"x"}
        assert set(table.sees) == {UNLABELLED}
        assert sorted(table.image) == sorted(split.test)
        by_image = table.set_index("image").loc[split.test]
        np.testing.assert_array_equal(by_image.label, Y[split.test])
        np.testing.assert_array_equal(by_image.scanner, X.scanner[split.test])
        np.testing.assert_array_equal(by_image.patient, X.patient[split.test])
        assert by_image[["proba_ill", "proba_well"]].sum(axis=1).to_numpy() == pytest.approx(1)


def test_predictions_stand_beside_the_images_that_they_are_of():
    (split,) = fixed()
    candidate = Candidate("x", (CDFMatching(scope="image"),))
    trained = train_classifier(candidate, X, Y, split, CLASSIFIER, "home")
    table = predict(candidate, X, Y, split, trained, "home").set_index("image")
    harmonizer = CDFMatching(reference="home").fit(X[split.train])
    for i in split.test[::5]:
        proba = trained.predict_proba(harmonizer.transform(X[[i]]))[0]
        assert table.loc[i, ["proba_ill", "proba_well"]].tolist() == pytest.approx(proba.tolist())


def test_files_are_called_by_their_path():
    meta = X.meta.assign(path=[f"/data/{i}.png" for i in range(len(X))])
    named = ImageSet(list(X), scanner=X.scanner, patient=X.patient, meta=meta)
    table = outcome(Candidate("x"), fixed(named)[0], named)
    assert set(table.image) <= set(meta["path"])


def test_a_class_that_a_fold_lacks_has_probability_zero_and_the_tables_fit_each_other():
    y = Y.copy()
    y[0] = "rare"
    with pytest.warns(XRayHarmonizeWarning, match="Class rare has 1 patients for 5 folds"):
        splits = fixed(y=y, seeds=range(5))
    tables = [outcome(Candidate("x"), split, y=y) for split in splits]
    lacking = ["rare" not in y[split.train] for split in splits]
    assert sum(lacking) == 1
    for table, without in zip(tables, lacking, strict=True):
        assert [name for name in table.columns if name.startswith("proba_")] == [
            "proba_ill",
            "proba_rare",
            "proba_well",
        ]
        assert (table.proba_rare == 0).all() == without


def test_a_split_tells_nothing_of_the_test_images_to_the_training():
    """Whatever stands in test images, the classifier and the harmonizer that sees nothing are the same."""
    (split,) = fixed()
    changed = [X[i] if i in set(split.train) else 1 - X[i] for i in range(len(X))]
    other = ImageSet(changed, scanner=X.scanner, patient=X.patient, meta=X.meta)
    first = train_classifier(Candidate("x"), X, Y, split, CLASSIFIER, "home")
    second = train_classifier(Candidate("x"), other, Y, split, CLASSIFIER, "home")
    np.testing.assert_array_equal(first.centers_, second.centers_)


def test_a_split_is_a_value():
    (split,) = fixed()
    assert isinstance(split, Split)
    with pytest.raises(AttributeError):
        split.seed = 3


# -- methods that are fitted to all scanners at once -----------------------------------------------------------------


class SpyTranslator(SpyCDF):
    """Fits only to images of two scanners or more, and logs which labels it was given."""

    def fit(self, X, y=None, *, scanner=None):
        if len(set(X.scanner)) < 2:
            raise NotEnoughImagesError("SpyTranslator needs images of two scanners.")
        super().fit(X, y, scanner=scanner)
        LOG[-1].facts["labels"] = y
        return self


TRANSLATOR = Candidate("translator", (SpyTranslator(),), sees=UNLABELLED, fits_to_all=True)


@pytest.mark.parametrize("splits", [fixed, loso])
def test_who_is_fitted_to_all_scanners_learns_from_other_patients_of_the_tested_one_and_from_no_label(splits):
    (split, *_) = splits()
    predictions = outcome(TRANSLATOR, split)
    assert not predictions.duplicated(["image"]).any()
    assert len(predictions) == len(split.test)
    assert set(predictions["sees"]) == {UNLABELLED}
    fits = calls("SpyTranslator", "fit")
    assert all("home" in call.scanners and call.facts["labels"] is None for call in fits)
    learned = [set(call.patients) for call in fits]
    for call in calls("SpyTranslator", "transform"):
        if set(call.ids) <= set(split.test):
            assert any(not seen & set(call.patients) for seen in learned)
    tested = {scanner: sum(scanner in call.scanners for call in fits) for scanner in set(X.scanner[split.test])}
    assert all(count >= 2 for name, count in tested.items() if name != "home")


def test_at_home_it_has_learned_from_all_other_scanners():
    (split,) = fixed()
    outcome(TRANSLATOR, split)
    assert any(set(call.scanners) == {"home", "far", "near"} for call in calls("SpyTranslator", "fit"))


def test_it_is_not_defined_where_no_other_scanner_is_left_to_train_on():
    two = np.isin(X.scanner, ["home", "far"])
    (split,) = loso(X[two], Y[two])
    message = "'translator' is fitted to images of 'home' and of other scanners; without far there is no other to train"
    with pytest.raises(NotEnoughImagesError, match=message):
        check_feasible(TRANSLATOR, X[two], Y[two], split, "home")
    (split,) = fixed(X[two], Y[two])
    check_feasible(TRANSLATOR, X[two], Y[two], split, "home")
