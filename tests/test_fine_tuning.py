"""ResNetClassifier.fine_tune: training on with labelled images of another scanner."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from tiny_network import bars, small

from xray_harmonize.callbacks import report_progress
from xray_harmonize.classifiers import ResNetClassifier
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError, XRayHarmonizeWarning


@pytest.fixture(scope="module")
def fitted() -> ResNetClassifier:
    return small(max_epochs=10, validation_fraction=0).fit(*bars(60))


def test_fine_tuning_recovers_from_a_scanner_of_low_range(fitted: ResNetClassifier) -> None:
    X, y = bars(60, seed=2)
    few, labels = bars(12, seed=3)
    tuned = fitted.fine_tune(0.1 + 0.15 * few, labels, max_epochs=20)
    assert fitted.score(0.1 + 0.15 * X, y) < tuned.score(0.1 + 0.15 * X, y) >= 0.85


def test_fine_tuning_leaves_the_classifier_as_it_is_and_trains_every_layer(fitted: ResNetClassifier) -> None:
    before, history = copy.deepcopy(fitted.state_), copy.deepcopy(fitted.history_)
    tuned = fitted.fine_tune(*bars(12, seed=3), max_epochs=2)
    for name, value in fitted.state_.items():
        np.testing.assert_array_equal(value, before[name])
        assert not np.array_equal(tuned.state_[name], value), name
    assert (fitted.history_, fitted.best_epoch_) == (history, 10)
    assert tuned.get_params() == fitted.get_params()


def test_the_history_goes_on_where_the_training_ended(fitted: ResNetClassifier) -> None:
    tuned = fitted.fine_tune(*bars(12, seed=3), max_epochs=3)
    assert tuned.history_[:10] == fitted.history_
    assert [row["epoch"] for row in tuned.history_] == list(range(1, 14))
    assert tuned.best_epoch_ == 13
    again = tuned.fine_tune(*bars(12, seed=3), max_epochs=1)
    assert [row["epoch"] for row in again.history_] == list(range(1, 15))


def test_fine_tuning_is_told_and_repeats_with_its_seed(fitted: ResNetClassifier) -> None:
    X, y = bars(12, seed=3)
    told = []
    with report_progress(told.append):
        first = fitted.fine_tune(X, y, max_epochs=2)
    again = fitted.fine_tune(X, y, max_epochs=2)
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    assert [(p.task, p.epoch, p.max_epochs) for p in told] == [
        ("fine-tuning of ResNetClassifier", i, 2) for i in (1, 2)
    ]


def test_a_smaller_rate_moves_the_weights_less(fitted: ResNetClassifier) -> None:
    X, y = bars(12, seed=3)

    def moved(lr: float | None) -> float:
        name = "backbone.conv1.weight"
        return float(np.abs(fitted.fine_tune(X, y, max_epochs=2, lr=lr).state_[name] - fitted.state_[name]).mean())

    assert moved(1e-6) < moved(None) < moved(1e-2)


@pytest.mark.parametrize("class_weight", [None, "balanced", {1: 2.0}])
def test_a_scanner_may_lack_a_class_and_have_very_few_images(class_weight: Any) -> None:
    X, y = bars(12, labels=("lying", "standing", "none"))
    named = {"standing": 2.0} if isinstance(class_weight, dict) else class_weight
    classifier = small(max_epochs=1, validation_fraction=0, class_weight=named).fit(X, y)
    tuned = classifier.fine_tune(X[:2], y[:2], max_epochs=2)
    assert tuned.classes_.tolist() == ["lying", "none", "standing"]
    assert np.isfinite(tuned.predict_proba(X)).all()


def test_a_fine_tuned_classifier_can_be_kept(fitted: ResNetClassifier) -> None:
    X, _ = bars(6)
    tuned = fitted.fine_tune(*bars(12, seed=3), max_epochs=1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tuned)).predict_proba(X), tuned.predict_proba(X))


def test_interrupting_a_fine_tuning_keeps_the_state_so_far_or_interrupts(fitted: ResNetClassifier) -> None:
    X, y = bars(12, seed=3)

    def interrupt_at(epoch: int) -> Any:
        def interrupt(progress: Any) -> None:
            if progress.epoch == epoch:
                raise KeyboardInterrupt

        return interrupt

    expected = r"fine-tuning of ResNetClassifier was interrupted after 3 of 5 epochs; the state of epoch \d is kept"
    with report_progress(interrupt_at(3)), pytest.warns(XRayHarmonizeWarning, match=expected):
        tuned = fitted.fine_tune(X, y, max_epochs=5)
    assert tuned.interrupted_
    assert not fitted.interrupted_
    assert tuned.best_epoch_ in (12, 13)
    with report_progress(interrupt_at(1)), pytest.raises(KeyboardInterrupt):
        fitted.fine_tune(X, y, max_epochs=5)


@pytest.mark.parametrize(
    ("y", "options", "error", "message"),
    [
        (
            [0, 1, 7, 8],
            {},
            InvalidParameterError,
            r"y holds 7, 8, but the classifier was fitted to the classes 0, 1\. L",
        ),
        (["0", "1", "0", "1"], {}, InvalidParameterError, "y holds '0', '1', but the classifier was fitted to"),
        ([0, 1], {}, InvalidParameterError, "X holds 4 images and y 2 labels"),
        (None, {}, InvalidParameterError, "needs labels; y is None"),
        ([0, 1, None, 1], {}, InvalidParameterError, "y holds missing labels"),
        (
            [0, 1, 0, 1],
            {"max_epochs": 0},
            InvalidParameterError,
            "max_epochs must be a whole number, at least 1; got 0",
        ),
        ([0, 1, 0, 1], {"lr": -1.0}, InvalidParameterError, r"lr must be above 0; got -1\.0"),
    ],
)
def test_what_cannot_be_fine_tuned_on_is_refused(
    fitted: ResNetClassifier, y: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fitted.fine_tune(bars(4)[0], y, **options)


def test_one_image_is_no_batch(fitted: ResNetClassifier) -> None:
    with pytest.raises(NotEnoughImagesError, match=r"fine_tune needs at least two images for a batch; got 1\."):
        fitted.fine_tune(bars(4)[0][:1], [0])


def test_fine_tuning_before_fitting_is_refused() -> None:
    with pytest.raises(ValueError, match="not fitted yet"):
        small().fine_tune(*bars(4))
