"""ResNetClassifier as its users see it: a scikit-learn classifier of radiographs."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from tiny_network import bars, small

from xray_harmonize.callbacks import report_progress
from xray_harmonize.classifiers import ResNetClassifier
from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    NotEnoughImagesError,
    PersistenceError,
    XRayHarmonizeWarning,
)
from xray_harmonize.images import ImageSet


@pytest.fixture(scope="module")
def fitted() -> ResNetClassifier:
    return small(max_epochs=10, validation_fraction=0).fit(*bars(60))


def test_it_learns_what_can_be_learned(fitted: ResNetClassifier) -> None:
    assert fitted.score(*bars(40, seed=1)) >= 0.9


def test_probabilities_have_one_column_a_class_and_add_up_to_one(fitted: ResNetClassifier) -> None:
    probabilities = fitted.predict_proba(bars()[0])
    assert probabilities.shape == (40, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)


def test_predict_takes_the_most_probable_class(fitted: ResNetClassifier) -> None:
    X, _ = bars()
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[fitted.predict_proba(X).argmax(axis=1)])


def test_string_labels_come_back_as_they_were() -> None:
    X, y = bars(labels=("lying", "standing", "none"))
    classifier = small(max_epochs=1).fit(X, list(y))
    assert classifier.classes_.tolist() == ["lying", "none", "standing"]
    assert set(classifier.predict(X)) <= {"lying", "none", "standing"}
    assert classifier.predict_proba(X).shape == (40, 3)


def test_the_constructor_only_stores_and_clone_keeps_the_parameters() -> None:
    classifier = ResNetClassifier(depth=99, optimizer="none", class_weight={"a": 2.0})
    assert clone(classifier).get_params() == classifier.get_params()
    assert is_classifier(classifier)


def test_tags_say_that_images_are_no_table() -> None:
    tags = get_tags(small())
    assert not tags.input_tags.two_d_array
    assert tags.input_tags.three_d_array
    assert tags.target_tags.required
    assert get_tags(small(random_state=None)).non_deterministic


@pytest.mark.parametrize("integers", ["uint8", "uint16"])
def test_integers_and_floats_agree_within_a_level(fitted: ResNetClassifier, integers: str) -> None:
    X, _ = bars()
    full = np.iinfo(integers).max
    np.testing.assert_allclose(
        fitted.predict_proba(np.round(X * full).astype(integers)), fitted.predict_proba(X), atol=0.02
    )


def test_stack_list_and_image_set_are_the_same_images(fitted: ResNetClassifier) -> None:
    X, _ = bars(8)
    expected = fitted.predict_proba(X)
    np.testing.assert_array_equal(fitted.predict_proba(list(X)), expected)
    np.testing.assert_array_equal(fitted.predict_proba(ImageSet(X)), expected)


def test_images_of_different_shapes_go_together() -> None:
    X, y = bars()
    ragged = [image[: 20 + i % 4, i % 5 :] for i, image in enumerate(X)]
    assert small(max_epochs=1).fit(ragged, y).predict(ragged).shape == (40,)


def test_a_prediction_depends_neither_on_the_other_images_nor_on_their_order(fitted: ResNetClassifier) -> None:
    X, _ = bars(37)
    together = fitted.predict_proba(X)
    np.testing.assert_allclose(np.vstack([fitted.predict_proba(X[i : i + 1]) for i in range(37)]), together, atol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(X[::-1])[::-1], together, atol=1e-5)


def test_no_images_give_no_rows(fitted: ResNetClassifier) -> None:
    empty = np.empty((0, 24, 24), dtype=np.uint8)
    assert fitted.predict_proba(empty).shape == (0, 2)
    assert fitted.predict(empty).shape == (0,)
    assert fitted.embed(empty).shape == (0, 32)


def test_read_only_images_are_left_as_they_are(fitted: ResNetClassifier) -> None:
    X, _ = bars(6)
    before = X.copy()
    X.setflags(write=False)
    fitted.predict(X)
    np.testing.assert_array_equal(X, before)


def test_a_seed_gives_the_same_network_again() -> None:
    X, y = bars()
    first, again, other = (small(max_epochs=2, random_state=seed).fit(X, y).predict_proba(X) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_fitting_and_predicting_leave_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the generator that must not be touched
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    X, y = bars(16)
    small(max_epochs=1, augment="strong").fit(X, y).predict(X)
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])  # noqa: NPY002


def test_refitting_equals_fitting_afresh() -> None:
    X, y = bars()
    refitted = small(max_epochs=2).fit(X[:20], y[:20]).fit(X, y)
    np.testing.assert_array_equal(refitted.predict_proba(X), small(max_epochs=2).fit(X, y).predict_proba(X))


# -- scikit-learn around it -------------------------------------------------------------------------------------------


def test_grid_search_scores_by_area_under_the_curve() -> None:
    X, y = bars(24)
    patients = np.arange(24) // 2 * 2 + y
    search = GridSearchCV(small(max_epochs=2), {"lr": [1e-3, 3e-3]}, scoring="roc_auc", cv=2)
    search.fit(ImageSet(X, patient=patients), np.array(["no", "yes"])[y])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X[:3]).shape == (3,)


def test_cross_val_predict_gives_every_image_a_row() -> None:
    X, y = bars(24)
    ragged = ImageSet([image[: 20 + i % 4] for i, image in enumerate(X)])
    probabilities = cross_val_predict(small(max_epochs=1), ragged, y, cv=2, method="predict_proba")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_probabilities_can_be_calibrated() -> None:
    X, y = bars(24)
    calibrated = CalibratedClassifierCV(small(max_epochs=1), cv=2).fit(ImageSet(X), y)
    np.testing.assert_allclose(calibrated.predict_proba(ImageSet(X)).sum(axis=1), 1)


def test_it_ends_a_pipeline() -> None:
    X, y = bars(24)
    pipeline = make_pipeline(FunctionTransformer(), small(max_epochs=1)).fit(ImageSet(X), y)
    assert pipeline.predict(ImageSet(X)).shape == (24,)


# -- keeping and moving it --------------------------------------------------------------------------------------------


def test_pickles_hold_no_torch_object(fitted: ResNetClassifier) -> None:
    X, _ = bars(6)
    expected = fitted.predict_proba(X)
    pickled = pickle.dumps(fitted)
    assert b"torch" not in pickled
    np.testing.assert_array_equal(pickle.loads(pickled).predict_proba(X), expected)


def test_joblib_and_deepcopy_round_trips_predict_the_same(fitted: ResNetClassifier) -> None:
    X, _ = bars(6)
    stream = io.BytesIO()
    joblib.dump(fitted, stream)
    stream.seek(0)
    for other in (joblib.load(stream), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))


def test_learned_state_is_arrays_numbers_and_strings_alone(fitted: ResNetClassifier) -> None:
    learned = {name: value for name, value in vars(fitted).items() if name.endswith("_")}
    assert sorted(learned) == ["best_epoch_", "classes_", "history_", "interrupted_", "state_"]
    assert {type(value) for value in fitted.state_.values()} == {np.ndarray}
    assert {type(number) for row in fitted.history_ for number in row.values()} == {float}


def test_state_alone_makes_the_same_classifier(fitted: ResNetClassifier) -> None:
    X, _ = bars(6)
    other = clone(fitted)
    for name in ("classes_", "state_"):
        setattr(other, name, copy.deepcopy(getattr(fitted, name)))
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))


def test_a_model_fitted_on_another_device_predicts_here() -> None:
    X, y = bars(16)
    classifier = small(max_epochs=1, device="auto").fit(X, y)
    expected = classifier.predict_proba(X)
    moved = pickle.loads(pickle.dumps(classifier)).set_params(device="cpu")
    np.testing.assert_allclose(moved.predict_proba(X), expected, atol=1e-3)


# -- features and adaptation ------------------------------------------------------------------------------------------


def test_embeddings_are_what_the_head_sees(fitted: ResNetClassifier) -> None:
    X, _ = bars(6)
    features = fitted.embed(X)
    assert features.shape == (6, 32)
    assert features.dtype == np.float32
    logits = features @ fitted.state_["head.1.weight"].T + fitted.state_["head.1.bias"]
    odds = np.exp(logits)
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), fitted.predict_proba(X), atol=1e-5)


def test_adapting_recovers_from_a_scanner_of_low_range(fitted: ResNetClassifier) -> None:
    X, y = bars(60, seed=2)
    dim = 0.1 + 0.15 * X
    unlabelled = 0.1 + 0.15 * bars(30, seed=3)[0]
    assert fitted.score(dim, y) < fitted.adapt(unlabelled).score(dim, y) >= 0.85


def test_adapting_leaves_the_classifier_and_all_weights_alone(fitted: ResNetClassifier) -> None:
    X, _ = bars(12, seed=3)
    before = copy.deepcopy(fitted.state_)
    adapted = fitted.adapt(0.5 * X)
    for name, value in fitted.state_.items():
        np.testing.assert_array_equal(value, before[name])
        changed = not np.array_equal(adapted.state_[name], value)
        assert changed == ("running_" in name), name


def test_adapting_depends_neither_on_order_nor_on_calls_before(fitted: ResNetClassifier) -> None:
    X, _ = bars(20, seed=3)
    forward, backward = fitted.adapt(X).state_, fitted.adapt(np.zeros_like(X)).adapt(X[::-1]).state_
    for name, value in forward.items():
        np.testing.assert_allclose(backward[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_adapting_needs_two_images(fitted: ResNetClassifier) -> None:
    with pytest.raises(NotEnoughImagesError, match=r"adapt needs at least two images.*got 1"):
        fitted.adapt(bars(2)[0][:1])


# -- training options -------------------------------------------------------------------------------------------------


def test_the_history_has_a_row_an_epoch(fitted: ResNetClassifier) -> None:
    assert [row["epoch"] for row in fitted.history_] == list(range(1, 11))
    assert fitted.best_epoch_ == 10
    assert sorted(fitted.history_[0]) == ["dur", "epoch", "train_loss"]


def test_the_best_epoch_is_the_last_of_those_with_the_highest_worst_class_accuracy() -> None:
    X, y = bars()
    classifier = small(max_epochs=5).fit(X, y)
    scores = [row["worst_group_accuracy"] for row in classifier.history_]
    assert classifier.best_epoch_ == 5 - int(np.argmax(scores[::-1]))


def test_patience_ends_the_training_early() -> None:
    X, y = bars()
    classifier = small(max_epochs=30, patience=2, lr=1e-9).fit(X, y)
    assert len(classifier.history_) < 30


def test_images_of_one_patient_are_never_divided_over_training_and_validation() -> None:
    X, y = bars(40)
    # Each patient's images are one image repeated, so a divided patient would be seen again in validation.
    patients = np.array([f"{label}-{i // 20}" for i, label in enumerate(y)])
    classifier = small(max_epochs=1, validation_fraction=0.5)
    held_out, _ = classifier._hold_out(ImageSet(X, patient=patients), np.unique(y), y, np.random.RandomState(0))
    assert not set(patients[held_out.numpy()]) & set(patients[~held_out.numpy()])


def test_with_several_scanners_the_worst_class_of_a_scanner_counts() -> None:
    X, y = bars(40)
    scanners = np.repeat(["A", "B"], 20)
    _, groups = small()._hold_out(ImageSet(X, scanner=scanners), np.unique(y), y, np.random.RandomState(0))
    assert sorted(set(groups.tolist())) == [0, 1, 2, 3]


@pytest.mark.parametrize("class_weight", ["balanced", {"rare": 4.0}])
def test_class_weights_raise_the_probability_of_a_rare_class(class_weight: Any) -> None:
    X = np.random.default_rng(0).random((40, 24, 24))
    y = np.where(np.arange(40) % 5 == 0, "rare", "usual")
    plain = small(max_epochs=8, validation_fraction=0).fit(X, y)
    weighted = clone(plain).set_params(class_weight=class_weight).fit(X, y)
    assert weighted.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean() + 0.1


@pytest.mark.parametrize(
    "parameters",
    [
        {"head": "mlp"},
        {"in_channels": 3},
        {"depth": 50, "width": 2, "head": "mlp", "in_channels": 3},
        {"augment": "tone"},
        {"augment": "strong", "flip": False},
        {"schedule": "constant", "optimizer": "adam"},
        {"optimizer": "sgd"},
        {"precision": "bfloat16"},
        {"batch_size": 3, "validation_fraction": 0.3},
    ],
    ids=str,
)
def test_every_option_trains_and_predicts(parameters: dict[str, Any]) -> None:
    X, y = bars(16)
    assert np.isfinite(small(max_epochs=1, **parameters).fit(X, y).predict_proba(X)).all()


def test_repeated_grey_channels_and_one_channel_agree_through_summed_weights(tmp_path: Path) -> None:
    X, y = bars(8)
    colour = small(max_epochs=1, in_channels=3, validation_fraction=0).fit(X, y)
    state = {k.removeprefix("backbone."): torch.as_tensor(v) for k, v in colour.state_.items() if "backbone" in k}
    torch.save(state, tmp_path / "colour.pt")
    # At a vanishing rate the weights stay as they were read, and adapting gives both the same batch-norm statistics.
    grey, again = (
        small(max_epochs=1, lr=1e-12, in_channels=n, weights=tmp_path / "colour.pt", validation_fraction=0).fit(X, y)
        for n in (1, 3)
    )
    np.testing.assert_allclose(grey.adapt(X).embed(X), again.adapt(X).embed(X), atol=1e-3)


def test_weights_of_another_depth_are_refused_by_name(tmp_path: Path) -> None:
    X, y = bars(8)
    state = small(max_epochs=1, depth=18).fit(X, y).state_
    torch.save({name: torch.as_tensor(value) for name, value in state.items()}, tmp_path / "deep.pt")
    with pytest.raises(PersistenceError, match=r"unexpected: layer1\.1\.conv1\.weight"):
        small(weights=str(tmp_path / "deep.pt")).fit(X, y)


def test_progress_is_told_through_a_pipeline() -> None:
    X, y = bars(16)
    told = []
    with report_progress(told.append):
        make_pipeline(FunctionTransformer(), small(max_epochs=3)).fit(ImageSet(X), y)
    small(max_epochs=1).fit(X, y)
    assert [(p.task, p.epoch, p.max_epochs) for p in told] == [("ResNetClassifier", i, 3) for i in (1, 2, 3)]
    assert {"train_loss", "valid_loss", "worst_group_accuracy", "dur"} <= set(told[0].row)


def test_interrupting_keeps_the_best_state_so_far() -> None:
    X, y = bars(16)

    def interrupt(progress: Any) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    classifier = small(max_epochs=6, validation_fraction=0)
    with report_progress(interrupt), pytest.warns(XRayHarmonizeWarning, match="interrupted after 3 of 6 epochs"):
        classifier.fit(X, y)
    assert classifier.interrupted_
    assert classifier.best_epoch_ in (2, 3)
    assert classifier.predict(X).shape == (16,)


def test_interrupting_before_anything_was_learned_interrupts() -> None:
    X, y = bars(16)

    def interrupt(progress: Any) -> None:
        raise KeyboardInterrupt

    with report_progress(interrupt), pytest.raises(KeyboardInterrupt):
        small().fit(X, y)


def test_verbose_prints_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = bars(16)
    small(max_epochs=1).fit(X, y)
    assert capsys.readouterr().out == ""
    small(max_epochs=2, verbose=1).fit(X, y)
    assert "train_loss" in capsys.readouterr().out


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"depth": 20}, "depth must be one of 10, 18, 34, 50; got 20"),
        ({"width": 0}, "width must be a whole number of channels, at least 1; got 0"),
        ({"in_channels": 2}, "in_channels must be 1 .* or 3 .*; got 2"),
        ({"head": "cosine"}, "head must be 'linear' or 'mlp'; got 'cosine'"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\); got 1.0"),
        ({"image_size": 4}, "image_size must be a whole number, at least 8; got 4"),
        ({"max_epochs": 0}, "max_epochs must be a whole number, at least 1; got 0"),
        ({"batch_size": 1}, "batch_size must be a whole number, at least 2; got 1"),
        ({"lr": 0}, "lr must be above 0; got 0"),
        ({"weight_decay": -1}, "weight_decay must be 0 or more; got -1"),
        ({"patience": 0}, "patience must be None or at least 1 epoch; got 0"),
        ({"optimizer": "lbfgs"}, "optimizer must be one of adamw, adam, sgd; got 'lbfgs'"),
        ({"schedule": "cosine"}, "schedule must be one of one_cycle, constant; got 'cosine'"),
        ({"augment": "colour"}, "augment must be None, 'tone' or 'strong'; got 'colour'"),
        ({"validation_fraction": 1}, r"validation_fraction must lie in \[0, 1\); got 1"),
        ({"class_weight": "auto"}, "class_weight must be None, 'balanced' or a dict; got 'auto'"),
        ({"class_weight": {7: 1.0}}, "class_weight names 7; y holds 0, 1"),
        ({"device": "toaster"}, "device='toaster' is not there on this machine"),
        ({"precision": "int8"}, "precision must be one of auto, float32, bfloat16, float16; got 'int8'"),
        ({"precision": "float16"}, "precision='float16' needs a GPU; on cpu use"),
        ({"lr": 1e30, "optimizer": "sgd"}, "The training diverged: the loss of epoch .* Use a smaller lr"),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused_by_name(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        small(**parameters).fit(*bars(16))


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (None, InvalidParameterError, "needs labels; y is None"),
        ([0, 1], InvalidParameterError, "X holds 4 images and y 2 labels"),
        ([0, 1, None, 1], InvalidParameterError, "y holds missing labels"),
        ([0.0, 1.0, np.nan, 1.0], InvalidParameterError, "y holds missing labels"),
        (np.array([0, 1, "a", 1], dtype=object), InvalidParameterError, "y mixes numbers and strings"),
        (["A"] * 4, NotEnoughImagesError, "needs images of at least two classes; y holds 'A'"),
        (list("abcd"), NotEnoughImagesError, "Cannot hold out 0.2 of 4 images of 4 classes"),
        ([0.1, 0.2, 0.3, 0.4], ValueError, "Unknown label type"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        small().fit(np.zeros((4, 9, 9)), y)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN"), (1.5, "1.5"), (-0.5, "-0.5")])
def test_pixels_that_are_no_grey_values_are_refused(value: float, message: str) -> None:
    X, y = bars(16)
    X[3, 0, 0] = value
    with pytest.raises(InvalidImageError, match=f"Image 3.*{message}"):
        small().fit(X, y)


def test_predicting_before_fitting_is_refused() -> None:
    with pytest.raises(ValueError, match="not fitted yet"):
        small().predict(bars(4)[0])


@pytest.mark.realdata
def test_tuberculosis_is_told_on_real_radiographs(real_data: Path) -> None:
    X = ImageSet.from_folder(real_data / "tb", real_data / "tb" / "labels.csv")
    X = X[X.scanner == "shenzhen"]
    train = np.arange(len(X)) % 5 != 0
    classifier = ResNetClassifier(depth=10, width=16, image_size=64, max_epochs=6, random_state=0).fit(
        X[train], X.label[train]
    )
    assert classifier.score(X[~train], X.label[~train]) > 0.65
