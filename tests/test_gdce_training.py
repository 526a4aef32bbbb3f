"""How GDCE is trained: on which images, by which labels and classifier, how far it tells, and what it refuses."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from tiny_gdce import (
    BRIGHT,
    DARK,
    REFERENCE,
    SIZE,
    cohort,
    every_scope,
    every_supervision,
    gdce,
    images,
    judge,
    labels,
    quick,
    same_curves,
    small_classifier,
    state_of,
    taught,
)
from tiny_vgg import vgg_16

import xray_harmonize
from xray_harmonize import (
    GDCE,
    ImageSet,
    ResNetClassifier,
)
from xray_harmonize.callbacks import Progress, report_progress
from xray_harmonize.classifiers.frames import frames
from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    PersistenceError,
    UnknownScannerError,
    XRayHarmonizeWarning,
)
from xray_harmonize.harmonizers.curve_learning import CurveLearner

# Most trainings here are too short to move a curve; that this is told has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:GDCE's curves stayed at the identity")


@pytest.fixture
def listened() -> list[Progress]:
    return []


# -- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        pytest.param(lambda y: y, id="all"),
        pytest.param(lambda y: np.where(np.arange(48) < 24, y, np.nan), id="NaN for the sources"),
        pytest.param(lambda y: pd.Series(y, dtype="Int64").where(np.arange(48) < 24), id="NA for the sources"),
        pytest.param(lambda y: [*y[:24], *[None] * 24], id="None for the sources"),
        pytest.param(lambda y: [*np.array(["thin", "dense"])[y[:24]], *[float("nan")] * 24], id="NaN among strings"),
        pytest.param(lambda y: None, id="none"),
    ],
)
def test_without_supervision_by_labels_those_of_the_sources_decide_nothing(y: Any) -> None:
    X, plain = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    harmonizer = quick(scope="scanner", supervision="distribution").fit(X, y(plain))
    assert harmonizer.discriminator_ is harmonizer.discriminator
    assert same_curves(harmonizer, _without_labels(), X)


@cache
def _without_labels() -> GDCE:
    return quick(scope="scanner", supervision="distribution").fit(images(REFERENCE, DARK))


@pytest.mark.parametrize("gap", [None, float("nan"), pd.NA])
def test_images_without_labels_are_refused_with_their_scanner(gap: Any) -> None:
    y = labels(REFERENCE, DARK).astype(object)
    y[30:33] = gap
    message = f"GDCE needs labels of all training images; 3 of 24 images of scanner '{DARK}' have none. Leave them out"
    with pytest.raises(InvalidParameterError, match=message):
        quick().fit(images(REFERENCE, DARK), y)


def test_nan_among_a_list_of_strings_is_no_label() -> None:
    y = [*np.array(["thin", "dense"])[labels(REFERENCE, DARK)][:-1].tolist(), float("nan")]
    with pytest.raises(InvalidParameterError, match=f"1 of 24 images of scanner '{DARK}' have none"):
        quick(small_classifier()).fit(images(REFERENCE, DARK), y)


def test_labels_may_be_strings_and_sources_may_lack_classes() -> None:
    X, y = images(REFERENCE, DARK), cohort().labels[np.isin(cohort().images.scanner, [REFERENCE, DARK])]
    kept = np.flatnonzero((X.scanner == REFERENCE) | np.isin(y, ["B", "C"]))
    harmonizer = quick(small_classifier(max_epochs=1)).fit(X[kept], y[kept].tolist())
    assert harmonizer.discriminator_.classes_.tolist() == ["A", "B", "C", "D"]


# -- the discriminator ----------------------------------------------------------------------------------------------


@every_scope
@every_supervision
def test_a_fitted_discriminator_is_taken_and_left_as_it_is(scope: str, supervision: str) -> None:
    given = copy.deepcopy(judge())
    before, seen = state_of(given), given.predict_proba(images(DARK))
    harmonizer = quick(given, scope=scope, supervision=supervision)
    harmonizer.fit(images(REFERENCE, DARK), labels(REFERENCE, DARK)).adapt(images(BRIGHT))
    assert harmonizer.discriminator is harmonizer.discriminator_ is given
    assert state_of(given) == before
    np.testing.assert_array_equal(given.predict_proba(images(DARK)), seen)


@dataclass
class Spied:
    """Images that classifiers and curves were trained on, and that chose the curves, as positions in X."""

    classifier: list[int]
    sources: list[int]
    reference: list[int]
    held_out: list[int]


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that fits a harmonizer and tells which images of X went where."""

    def fit(harmonizer: GDCE, X: ImageSet, y: Any) -> Spied:
        place = {frame.numpy().tobytes(): i for i, frame in enumerate(frames(X, SIZE))}
        found = Spied([], [], [], [])
        learn, train = CurveLearner.by_labels, ResNetClassifier.fit

        def places(squares: torch.Tensor) -> list[int]:
            return sorted(place[square.numpy().tobytes()] for square in squares)

        def learning(self: Any, sources: Any, reference: Any, held_out: Any, rng: Any) -> Any:
            found.sources, found.reference = places(sources.frames), places(reference.frames)
            found.held_out = [] if held_out is None else places(held_out.frames)
            return learn(self, sources, reference, held_out, rng)

        def training(self: ResNetClassifier, shown: ImageSet, targets: Any) -> ResNetClassifier:
            found.classifier = places(frames(shown, SIZE))
            assert np.array_equal(np.sort(targets), np.sort(np.asarray(y)[found.classifier]))
            return train(self, shown, targets)

        with monkeypatch.context() as patched:
            patched.setattr(CurveLearner, "by_labels", learning)
            patched.setattr(ResNetClassifier, "fit", training)
            harmonizer.fit(X, y)
        return found

    return fit


def test_an_unfitted_discriminator_is_trained_on_the_reference_alone(spied: Any) -> None:
    given = small_classifier(max_epochs=1)
    harmonizer = quick(given, scope="scanner", validation_fraction=0)
    found = spied(harmonizer, images(DARK, REFERENCE), labels(DARK, REFERENCE))
    on_reference = np.flatnonzero(images(DARK, REFERENCE).scanner == REFERENCE).tolist()
    assert found.classifier == found.reference == on_reference
    assert harmonizer.discriminator is given
    assert not hasattr(given, "state_")
    assert harmonizer.discriminator_.max_epochs == 1
    by_hand = clone(given).fit(images(REFERENCE), labels(REFERENCE))
    X = images(DARK)
    assert harmonizer.discriminator_.predict_proba(X).shape == by_hand.predict_proba(X).shape


def test_without_supervision_by_labels_it_is_trained_on_the_references_labelled_images(spied: Any) -> None:
    y = np.where(np.arange(48) % 3 == 0, np.nan, labels(REFERENCE, DARK))
    harmonizer = quick(small_classifier(max_epochs=1), supervision="distribution", scope="scanner")
    found = spied(harmonizer, images(REFERENCE, DARK), y)
    assert found.classifier == [i for i in range(24) if i % 3]


def test_where_nothing_is_labelled_there_is_no_discriminator() -> None:
    harmonizer = quick(small_classifier(), supervision="distribution", scope="scanner").fit(images(REFERENCE, DARK))
    assert harmonizer.discriminator_ is None
    assert set(harmonizer.reference_statistics_) == {"mean_quantiles", "pooled_quantiles"}
    assert harmonizer.adapt(images(BRIGHT)).scanners_ == [REFERENCE, DARK, BRIGHT]


@every_scope
@pytest.mark.parametrize("fitted", [True, False], ids=["fitted", "unfitted"])
def test_no_patient_is_both_trained_on_and_held_out(scope: str, fitted: bool, spied: Any) -> None:
    X, y = images(REFERENCE, BRIGHT, DARK), labels(REFERENCE, BRIGHT, DARK)
    harmonizer = quick(judge() if fitted else small_classifier(max_epochs=1), scope=scope)
    found = spied(harmonizer, X, y)
    held_out = set(X.patient[found.held_out])
    assert len(held_out) >= 4
    assert not held_out & set(X.patient[[*found.sources, *found.reference, *found.classifier]])
    # Everybody else is trained on, and every class of every scanner chooses.
    assert len(found.sources) == len(found.reference) * 2 == 2 * (24 - len(held_out))
    assert set(zip(X.scanner[found.held_out], y[found.held_out], strict=True)) == {
        (scanner, label) for scanner in (BRIGHT, DARK) for label in (0, 1)
    }


def test_images_of_unknown_patients_are_of_patients_of_their_own(spied: Any) -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    patient = [name if i % 2 else None for i, name in enumerate(X.patient)]
    unknown = ImageSet(list(X), X.scanner, patient, X.bits_stored)
    found = spied(quick(small_classifier(max_epochs=1), scope="scanner"), unknown, y)
    assert len(found.held_out) == 4
    assert set(found.sources).isdisjoint(found.held_out)
    assert len(found.sources) == 20
    known = {patient[i] for i in found.held_out} - {None}
    assert found.reference == found.classifier == [i for i in range(24) if patient[i] not in known]


def test_clones_keep_a_fitted_discriminator_and_nothing_learned() -> None:
    original = taught("scanner", "labels")
    copied = clone(original)
    assert copied.discriminator is original.discriminator
    assert not hasattr(copied, "alpha_")
    unfitted = small_classifier()
    assert clone(GDCE(discriminator=unfitted)).discriminator is not unfitted
    assert clone(GDCE(discriminator=unfitted)).discriminator.get_params() == unfitted.get_params()
    assert clone(GDCE()).discriminator is None
    with config_context(enable_metadata_routing=True):
        asking = GDCE().set_fit_request(scanner=False)
        assert clone(asking).get_metadata_routing().fit.requests == {"scanner": False}


def test_searches_keep_a_fitted_discriminator() -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    classifier = small_classifier(max_epochs=1, width=2, image_size=16)
    pipeline = Pipeline([("harm", quick(scope="scanner")), ("clf", classifier)])
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(pipeline, {"harm__max_steps": [1]}, cv=folds, error_score="raise").fit(X, y)
    assert search.best_estimator_["harm"].discriminator_ is judge()


# -- chance ---------------------------------------------------------------------------------------------------------


@every_scope
@pytest.mark.parametrize("fitted", [True, False], ids=["fitted", "unfitted"])
def test_a_seed_repeats_the_curves_whatever_the_order_of_the_images(scope: str, fitted: bool) -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    given = judge() if fitted else small_classifier(max_epochs=1, random_state=None)
    first = quick(given, scope=scope).fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = quick(given, scope=scope).fit(X[order], y[order])
    other = quick(given, scope=scope, random_state=1).fit(X, y)
    assert same_curves(first, shuffled, X)
    assert not same_curves(first, other, X, atol=1e-4)


def test_other_peoples_random_numbers_are_left_alone() -> None:
    np.random.seed(0)  # noqa: NPY002 - the global generator is what is looked at
    torch.manual_seed(0)
    expected = np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()  # noqa: NPY002
    for harmonizer in (quick(), gdce(scope="scanner", max_steps=1)):
        harmonizer.fit(images(REFERENCE, DARK), labels(REFERENCE, DARK)).transform(images(DARK))
        harmonizer.adapt(images(BRIGHT))
    assert (np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()) == expected  # noqa: NPY002


def test_a_generator_of_random_numbers_is_used_up() -> None:
    rng, X, y = np.random.RandomState(3), images(REFERENCE, DARK), labels(REFERENCE, DARK)
    first, second = (quick(scope="scanner", random_state=rng).fit(X, y) for _ in range(2))
    assert not same_curves(first, second, X, atol=1e-6)


# -- progress and interruption --------------------------------------------------------------------------------------


def interrupt_at(epoch: int, task: str) -> Any:
    def listener(progress: Progress) -> None:
        if (progress.task, progress.epoch) == (task, epoch):
            raise KeyboardInterrupt

    return listener


def test_progress_is_told_after_every_check(listened: list[Progress]) -> None:
    with report_progress(listened.append):
        harmonizer = quick(small_classifier(max_epochs=2), max_steps=40, scope="scanner")
        harmonizer.fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))
    told = [(one.task, one.epoch, one.max_epochs) for one in listened]
    assert told[:2] == [("ResNetClassifier", 1, 2), ("ResNetClassifier", 2, 2)]
    assert told[2:] == [("GDCE", epoch, 20) for epoch in range(1, 21)]
    assert listened[-1].row["worst_group_accuracy"] == harmonizer.history_[-1]["worst_group_accuracy"]


@every_supervision
def test_an_interruption_keeps_the_best_state_with_a_warning(supervision: str) -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    harmonizer = quick(scope="scanner", supervision=supervision, max_steps=9, start="matched")
    message = r"The training of GDCE was interrupted after 3 checks; the state of check [12] is kept\."
    with report_progress(interrupt_at(3, "GDCE")), pytest.warns(XRayHarmonizeWarning, match=message) as caught:
        harmonizer.fit(X, y)
    assert caught[0].filename == __file__
    assert harmonizer.interrupted_
    assert len(harmonizer.history_) == 3
    assert harmonizer.transform(X)[0].shape == X[0].shape


def test_an_interruption_before_anything_is_finished_is_one() -> None:
    harmonizer = quick(scope="scanner")
    with report_progress(interrupt_at(1, "GDCE")), pytest.raises(KeyboardInterrupt):
        harmonizer.fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))
    assert not hasattr(harmonizer, "scanners_")


def test_an_interrupted_adapt_keeps_the_best_state_or_is_one() -> None:
    harmonizer = quick(scope="scanner", supervision="distribution").fit(images(REFERENCE))
    strange = ImageSet(list(images(BRIGHT)), "new", bits_stored=images(BRIGHT).bits_stored)
    with report_progress(interrupt_at(2, "GDCE")), pytest.warns(XRayHarmonizeWarning, match="interrupted after 2"):
        assert harmonizer.adapt(strange).scanners_[-1] == "new"
    with report_progress(interrupt_at(1, "GDCE")), pytest.raises(KeyboardInterrupt):
        harmonizer.adapt(strange)


@pytest.mark.filterwarnings("ignore:The training of ResNetClassifier was interrupted")
@pytest.mark.parametrize("epoch", [1, 2])
def test_curves_are_not_trained_to_please_half_a_discriminator(epoch: int) -> None:
    harmonizer = quick(small_classifier(max_epochs=3))
    with report_progress(interrupt_at(epoch, "ResNetClassifier")), pytest.raises(KeyboardInterrupt):
        harmonizer.fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))


def test_by_default_the_discriminator_is_a_classifier_with_its_defaults(listened: list[Progress]) -> None:
    def listener(progress: Progress) -> None:
        listened.append(progress)
        raise KeyboardInterrupt

    harmonizer = GDCE(perceptual=None, random_state=0, device="cpu")
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    few = np.r_[0:8, 24:48]
    with report_progress(listener), pytest.raises(KeyboardInterrupt):
        harmonizer.set_params(reference=REFERENCE).fit(X[few], y[few])
    assert [(one.task, one.max_epochs) for one in listened] == [("ResNetClassifier", ResNetClassifier().max_epochs)]


def test_patience_ends_a_training_that_gets_no_better() -> None:
    # So small a rate changes no weight, and a tie is no improvement.
    harmonizer = quick(scope="scanner", max_steps=20, lr=1e-20, patience=3)
    harmonizer.fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))
    assert len(harmonizer.history_) == 4


# -- warnings -------------------------------------------------------------------------------------------------------


def test_curves_that_stayed_at_the_identity_are_told() -> None:
    message = (
        rf"GDCE's curves stayed at the identity for {DARK} \(mean distance 0\.00\d\)\. Either the scanner renders as "
        "the reference does, or the training was too short: raise max_steps or lr"
    )
    harmonizer = quick(scope="scanner", n_iterations=1, lr=1e-9)
    with pytest.warns(XRayHarmonizeWarning, match=message) as caught:
        harmonizer.fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))
    assert caught[0].filename == __file__


def test_random_perceptual_features_are_told_unless_they_are_asked_for() -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    message = r"GDCE's perceptual loss has no VGG-16 weights \(vgg_weights=None\), so its features are random"
    with pytest.warns(XRayHarmonizeWarning, match=message) as caught:
        by_default = quick(perceptual="pooled", scope="scanner").fit(X, y)
    assert caught[0].filename == __file__
    on_purpose = quick(perceptual="pooled", vgg_weights="random", scope="scanner").fit(X, y)
    assert same_curves(by_default, on_purpose, X)


def test_vgg_weights_are_read_from_a_file(tmp_path: Path) -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    torch.save(vgg_16(), tmp_path / "vgg.pt")
    settings = {"perceptual": "pooled", "scope": "scanner", "supervision": "distribution"}
    of_file = quick(vgg_weights=tmp_path / "vgg.pt", **settings).fit(X, y)
    at_random = quick(vgg_weights="random", **settings).fit(X, y)
    found, others = (one.reference_statistics_["perceptual_features"] for one in (of_file, at_random))
    assert np.abs(found - others).max() > 1e-3
    of_file.save(tmp_path / "model.npz")
    (tmp_path / "vgg.pt").unlink()
    # Curves are applied without the file; only learning needs it.
    assert len(xray_harmonize.load(tmp_path / "model.npz").transform(X)) == len(X)
    for learning in (lambda: of_file.adapt(images(BRIGHT)), lambda: clone(of_file).fit(X, y)):
        with pytest.raises(PersistenceError, match=r"vgg\.pt.*: there is no such file"):
            learning()
    assert quick(vgg_weights=tmp_path / "vgg.pt", scope="scanner").fit(X, y).alpha_


@pytest.mark.parametrize("scope", ["image", "scanner"])
def test_what_is_set_after_fit_changes_no_curve_that_was_learned(scope: str) -> None:
    X = images(REFERENCE, DARK)
    other = {"image": "scanner", "scanner": "image"}[scope]
    learned = copy.deepcopy(taught(scope, "distribution"))
    before = learned.transform(X)
    learned.set_params(scope=other, n_iterations=3, n_layers=3, view_size=16)
    for i, image in enumerate(learned.transform(X)):
        np.testing.assert_array_equal(image, before[i])
    learned.set_params(max_steps=2)
    new = images(BRIGHT) if scope == "image" else ImageSet(list(images(DARK)), "fourth")
    for i, image in enumerate(learned.adapt(new).transform(X)):
        np.testing.assert_array_equal(image, before[i])


# -- bad input ------------------------------------------------------------------------------------------------------


def test_one_scanner_alone_is_refused_where_labels_teach() -> None:
    message = f"GDCE needs images from at least two scanners; X.scanner holds only '{DARK}'. Add labelled images of an"
    with pytest.raises(NotEnoughImagesError, match=message):
        quick(reference=None).fit(images(DARK), labels(DARK))


def test_a_reference_without_images_is_refused_with_those_there_are() -> None:
    message = f"reference='Selenia' has no training image; the scanners are {REFERENCE}, {DARK}. Choose one of them"
    with pytest.raises(UnknownScannerError, match=message):
        quick(reference="Selenia").fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))


def test_images_without_scanners_are_refused() -> None:
    both = r"GDCE\.fit needs .* Give X as ImageSet\(images, scanner=\.\.\.\), or call fit\(X, y, scanner=\.\.\.\)"
    with pytest.raises(MissingScannerError, match=both):
        quick().fit(list(images(REFERENCE, DARK)), labels(REFERENCE, DARK))


def test_labels_that_are_absent_or_too_few_are_refused() -> None:
    X = images(REFERENCE, DARK)
    with pytest.raises(InvalidParameterError, match=r"labels of the training images; y is None\. Call fit\(X, y\), or"):
        quick().fit(X)
    with pytest.raises(InvalidParameterError, match=r"X holds 48 images and y has shape \(24,\); give one label an im"):
        quick().fit(X, labels(REFERENCE))


def test_a_discriminator_of_other_classes_is_refused_before_anything_is_read() -> None:
    X = images(REFERENCE, DARK)
    unread = ImageSet([Path(f"{i}.npy") for i in range(len(X))], X.scanner)
    y = np.array([0, 1, 2] * 16)
    message = "The discriminator knows the classes 0, 1; y holds 2. Give a discriminator that was trained on the same"
    with pytest.raises(InvalidParameterError, match=message):
        quick().fit(unread, y)
    # One that is to be trained will know the reference's classes.
    with pytest.raises(InvalidParameterError, match=message):
        quick(small_classifier()).fit(unread, np.r_[y[:24] % 2, y[24:]])
    with pytest.raises(NotEnoughImagesError, match="needs images of at least two classes; y holds 1"):
        quick(small_classifier()).fit(unread, np.r_[np.ones(24), y[24:]])


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_images_outside_of_the_unit_range_are_refused_by_name(bad: float) -> None:
    X = images(REFERENCE, DARK)
    pixels = [X.unit(i) for i in range(len(X))]
    pixels[30][3, 3] = bad
    with pytest.raises(InvalidImageError, match=r"Image 30\b"):
        quick().fit(ImageSet(pixels, X.scanner), labels(REFERENCE, DARK))


def test_fewer_images_than_a_batch_are_refused() -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    message = "GDCE has 20 images of other scanners than the reference to train on, fewer than a batch of 24. Add imag"
    with pytest.raises(NotEnoughImagesError, match=message):
        quick(batch_size=24).fit(X, y)
    assert quick(batch_size=24, validation_fraction=0).fit(X, y).scanners_ == [REFERENCE, DARK]


def test_too_few_patients_to_hold_some_out_are_refused() -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    single = np.r_[0:24, 24 + np.flatnonzero(y[24:] == 0)[:1], 24 + np.flatnonzero(y[24:] == 1)[:1]]
    message = r"Cannot hold out 0\.2 of 2 source images: no class of a scanner has two patients\. Add images, or set va"
    with pytest.raises(NotEnoughImagesError, match=message):
        quick(batch_size=1).fit(X[single], y[single])


def test_a_reference_all_of_whose_patients_are_held_out_is_refused() -> None:
    y = labels(REFERENCE)
    few = np.r_[np.flatnonzero(y == 0)[:2], np.flatnonzero(y == 1)[:2]]
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    kept = np.r_[few, 24:48]
    message = f"Every image of scanner '{REFERENCE}' is of a patient that is held out, so none is left to train on"
    with pytest.raises(NotEnoughImagesError, match=message):
        quick(validation_fraction=0.9).fit(X[kept], y[kept])
