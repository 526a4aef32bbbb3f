"""What all methods learned from pairs share: training, state, refusals. The contracts of all: test_common.py."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from tiny_pairs import MOMENT, bodies, darker

import xray_harmonize
from xray_harmonize import DLBC, LUT3D, ImageSet, InterpretableMapping, ResUNet, SupDCE, UNet
from xray_harmonize.callbacks import report_progress
from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    MissingScannerError,
    UnknownScannerError,
    XRayHarmonizeWarning,
)
from xray_harmonize.harmonizers.paired import PairedHarmonizer
from xray_harmonize.harmonizers.reference_images import reference_images

SMALL: dict[type[PairedHarmonizer], dict[str, Any]] = {
    DLBC: {"view_size": 32, "n_features": 2},
    InterpretableMapping: {"n_features": 2},
    LUT3D: {"view_size": 32, "n_features": 2},
    ResUNet: {"n_features": 2},
    SupDCE: {"n_features": 2},
    UNet: {"n_features": 2},
}
every_method = pytest.mark.parametrize("cls", SMALL, ids=lambda cls: cls.__name__)


def small(cls: type[PairedHarmonizer], **parameters: Any) -> Any:
    return cls(**{**MOMENT, **SMALL[cls], **parameters})


SHARED = (
    "reference",
    "distortion",
    "batch_size",
    "schedule",
    "augment",
    "validation_fraction",
    "patience",
    "device",
    "precision",
    "random_state",
    "verbose",
)


def told(cls: type[PairedHarmonizer], parameter: str) -> str:
    """Give what the documentation says of a parameter, its name and all indented lines below."""
    found = re.search(rf"^{parameter} : .*\n(?:    .*\n)+", inspect.getdoc(cls) or "", re.MULTILINE)
    assert found is not None, f"{cls.__name__}: {parameter}"
    return found.group()


@pytest.mark.parametrize("parameter", SHARED)
def test_a_parameter_that_all_share_is_told_alike_of_all(parameter: str) -> None:
    assert len({told(cls, parameter) for cls in SMALL}) == 1


# -- pairs ----------------------------------------------------------------------------------------------------------


@every_method
def test_pairs_are_given_or_made(cls: type[PairedHarmonizer]) -> None:
    X = ImageSet([*bodies()[:2], *darker()[:2]], ["A", "A", "B", "B"])
    made = small(cls).fit(X)
    given = small(cls).fit(darker()[:4], target=bodies()[:4])
    assert (made.reference_, given.reference_) == ("A", "reference")
    assert small(cls).fit(darker()[:4], target=list(bodies()[:4])).reference_ is None
    for learned in (made, given):
        assert learned.transform(X)[3].shape == (32, 32)


@every_method
def test_it_stands_in_a_pipeline_with_and_without_a_target(cls: type[PairedHarmonizer]) -> None:
    stack, target = np.stack(list(darker()[:4])), np.stack(list(bodies()[:4]))
    name = cls.__name__.lower()
    plain = make_pipeline(small(cls)).fit(stack, **{f"{name}__target": target})
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline(small(cls)).fit(stack, target=target)
    np.testing.assert_array_equal(plain.transform(stack), routed.transform(stack))


def test_the_reference_is_the_scanner_with_most_images_unless_named() -> None:
    X = ImageSet(np.zeros((5, 8, 8)), ["B", "A", "B", "A", "C"])
    assert reference_images(X, None, "ResUNet.fit")[0] == "A"
    reference, positions = reference_images(X, "B", "ResUNet.fit")
    assert (reference, positions.tolist()) == ("B", [0, 2])
    reference, positions = reference_images(ImageSet(np.zeros((2, 8, 8))), None, "ResUNet.fit")
    assert (reference, positions.tolist()) == (None, [0, 1])


def test_a_reference_that_is_not_there_is_refused() -> None:
    message = r"reference='Z' has no training image; the scanners are A, B\. Choose one of them"
    with pytest.raises(UnknownScannerError, match=message):
        small(UNet, reference="Z").fit(ImageSet(np.zeros((2, 8, 8)), ["B", "A"]))
    with pytest.raises(MissingScannerError, match=r"UNet\.fit needs to know which scanner .* call fit\(X, scanner="):
        small(UNet, reference="Z").fit(np.zeros((2, 8, 8)))


# -- training -------------------------------------------------------------------------------------------------------


def test_steps_are_counted_in_checks() -> None:
    learned = small(UNet, max_steps=25).fit(bodies()[:4])
    assert [row["epoch"] for row in learned.history_] == list(range(1, 11))
    assert set(learned.history_[0]) == {"epoch", "train_loss", "dur"}
    assert learned.best_epoch_ == 10


def test_held_out_pairs_choose_the_state() -> None:
    learned = small(UNet, max_steps=10, validation_fraction=0.3, lr=0.1).fit(bodies())
    losses = [row["valid_loss"] for row in learned.history_]
    assert learned.best_epoch_ == 10 - int(np.argmin(losses[::-1]))


def test_patience_ends_the_training_early() -> None:
    learned = small(UNet, max_steps=10, validation_fraction=0.3, lr=1.0, schedule="constant", patience=1).fit(bodies())
    assert len(learned.history_) < 10


def test_no_patient_is_both_trained_on_and_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    X = ImageSet([*bodies(), *bodies()], patient=[*bodies().patient, *bodies().patient])
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def watched(self: Any, network: Any, pairs: Any, held_out: np.ndarray, device: Any) -> Any:
        seen.append((pairs.target[held_out].numpy(), pairs.target[~held_out].numpy()))
        return original(self, network, pairs, held_out, device)

    original = PairedHarmonizer._train
    monkeypatch.setattr(PairedHarmonizer, "_train", watched)
    small(UNet, validation_fraction=0.25).fit(X)
    ((held_out, trained),) = seen
    assert len(held_out) == 6
    assert not {one.tobytes() for one in held_out} & {one.tobytes() for one in trained}


def test_who_listens_is_told_of_every_check() -> None:
    told = []
    with report_progress(told.append):
        small(UNet, max_steps=3).fit(bodies()[:2])
    assert [(one.task, one.epoch, one.max_epochs) for one in told] == [("UNet", 1, 3), ("UNet", 2, 3), ("UNet", 3, 3)]


def test_an_interrupted_training_keeps_the_best_state_and_says_so() -> None:
    def stop(progress: Any) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    message = "The training of UNet was interrupted after 2 checks; the state of check . is kept"
    with report_progress(stop), pytest.warns(XRayHarmonizeWarning, match=message):
        learned = small(UNet, max_steps=5).fit(bodies()[:2])
    assert learned.interrupted_
    assert learned.transform(bodies()[:1])[0].shape == (32, 32)


def test_an_interruption_before_anything_was_learned_is_one() -> None:
    def stop(progress: Any) -> None:
        raise KeyboardInterrupt

    with report_progress(stop), pytest.raises(KeyboardInterrupt):
        small(UNet, max_steps=5).fit(bodies()[:2])


# -- applying -------------------------------------------------------------------------------------------------------


@every_method
def test_weights_are_arrays_and_the_network_is_made_of_them_alone(cls: type[PairedHarmonizer]) -> None:
    learned = small(cls).fit(bodies()[:4])
    assert all(isinstance(value, np.ndarray) for value in learned.state_.values())
    before = learned.transform(darker()[:1])[0]
    learned.state_ = {name: value.copy() for name, value in learned.state_.items()}
    np.testing.assert_array_equal(learned.transform(darker()[:1])[0], before)
    learned.state_ = {name: value + 0.1 for name, value in learned.state_.items()}
    assert not np.array_equal(learned.transform(darker()[:1])[0], before)


@pytest.mark.parametrize("cls", [ResUNet, UNet], ids=lambda cls: cls.__name__)
def test_an_image_made_anew_stays_as_it_came_outside_the_mask(cls: type[PairedHarmonizer]) -> None:
    mask = np.ones((32, 32), dtype=bool)
    mask[:8] = False
    X = ImageSet([darker()[0]], mask=[mask])
    made = small(cls, lr=0.1).fit(bodies()[:4]).transform(X)[0]
    np.testing.assert_array_equal(made[:8], X[0][:8])
    assert not np.array_equal(made[8:], X[0][8:])


@pytest.mark.parametrize("cls", [DLBC, LUT3D], ids=lambda cls: cls.__name__)
def test_methods_of_one_curve_an_image_give_curves(cls: type[PairedHarmonizer]) -> None:
    learned = small(cls).fit(bodies()[:4])
    (curve,) = learned.tone_curves(darker()[:1])
    np.testing.assert_array_equal(curve(darker()[0]), learned.transform(darker()[:1])[0])


@every_method
def test_it_is_saved_and_loaded(cls: type[PairedHarmonizer], tmp_path: Any) -> None:
    learned = small(cls).fit(bodies()[:4])
    learned.save(tmp_path / "model.npz")
    again = xray_harmonize.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.transform(darker()[:1])[0], learned.transform(darker()[:1])[0])


@every_method
def test_lower_precision_is_for_the_training_alone(cls: type[PairedHarmonizer]) -> None:
    exact, rough = (small(cls, precision=precision).fit(bodies()[:4]) for precision in ("float32", "bfloat16"))
    for one, other in zip(exact.transform(darker()[:2]), rough.transform(darker()[:2]), strict=True):
        assert other.dtype == np.float32
        assert np.abs(one - other).max() < 0.1


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "parameters", "message"),
    [
        (UNet, {"distortion": "blur"}, "distortion must be 'mixed', 'global' or 'mapping'; got 'blur'"),
        (UNet, {"batch_size": 0}, "batch_size must be a whole number, at least 1; got 0"),
        (UNet, {"max_steps": 1.5}, "max_steps must be a whole number, at least 1; got 1.5"),
        (UNet, {"validation_fraction": 1}, "validation_fraction must lie in [0, 1); got 1"),
        (UNet, {"validation_fraction": "some"}, "validation_fraction must lie in [0, 1); got 'some'"),
        (UNet, {"validation_fraction": False}, "validation_fraction must lie in [0, 1); got False"),
        (UNet, {"lr": 0}, "lr must be above 0; got 0"),
        (UNet, {"lr": "x"}, "lr must be above 0; got 'x'"),
        (UNet, {"patience": "x"}, "patience must be None or at least 1; got 'x'"),
        (UNet, {"precision": [1]}, "precision must be one of auto, float32, bfloat16, float16; got [1]"),
        (UNet, {"augment": "no"}, "augment must be True or False; got 'no'"),
        (LUT3D, {"global_statistics": 1}, "global_statistics must be True or False; got 1"),
        (UNet, {"schedule": "cosine"}, "schedule must be one of one_cycle, constant; got 'cosine'"),
        (UNet, {"patience": 0}, "patience must be None or at least 1; got 0"),
        (UNet, {"device": "nowhere"}, "device='nowhere' is not there on this machine"),
        (UNet, {"precision": "float8"}, "precision must be one of auto, float32, bfloat16, float16; got 'float8'"),
        (UNet, {"n_features": 0}, "n_features must be a whole number, at least 1; got 0"),
        (UNet, {"downscale": 0.5}, "downscale must be a whole number, at least 1; got 0.5"),
        (ResUNet, {"n_features": 0}, "n_features must be a whole number, at least 1; got 0"),
        (DLBC, {"n_features": 0}, "n_features must be a whole number, at least 1; got 0"),
        (DLBC, {"view_size": 16}, "view_size must be a whole number, at least 32; got 16"),
        (LUT3D, {"view_size": 100}, "view_size must be a multiple of 32, which the network halves five times; got 100"),
        (LUT3D, {"n_points": 1}, "n_points must be a whole number, at least 2; got 1"),
        (LUT3D, {"n_tables": 0}, "n_tables must be a whole number, at least 1; got 0"),
        (SupDCE, {"n_iterations": 0}, "n_iterations must be a whole number, at least 1; got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(
    cls: type[PairedHarmonizer], parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        small(cls, **parameters).fit(bodies()[:2])


@every_method
def test_targets_by_position_are_refused(cls: type[PairedHarmonizer]) -> None:
    message = r"y holds images; give targets as fit\(X, target=\.\.\.\)"
    with pytest.raises(InvalidParameterError, match=message):
        small(cls).fit(darker()[:2], bodies()[:2])


@pytest.mark.parametrize(
    "y", [np.zeros((2, 8, 8)), [np.zeros((8, 8))] * 2, (Path("a.png"), Path("b.png")), np.array([Path("a"), Path("b")])]
)
def test_images_in_any_container_are_no_labels(y: Any) -> None:
    with pytest.raises(InvalidParameterError, match="y holds images; give targets as fit"):
        small(UNet).fit_transform(bodies()[:2], y)


@pytest.mark.parametrize("y", [np.array([0, 1]), ["a", "b"], [], np.array(1), np.zeros((2, 3)), np.array(["a", None])])
def test_labels_are_ignored(y: Any) -> None:
    with_labels, without = (small(UNet).fit(bodies()[:2], labels).transform(darker()[:1])[0] for labels in (y, None))
    np.testing.assert_array_equal(with_labels, without)


def test_numbers_and_truths_of_numpy_are_taken() -> None:
    taken = {"validation_fraction": np.float32(0.25), "augment": np.bool_(False), "lr": np.float64(1e-3)}
    plain = {"validation_fraction": 0.25, "augment": False, "lr": 1e-3}
    first, second = (small(UNet, **one).fit(bodies()[:4]).transform(darker()[:1])[0] for one in (taken, plain))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("cls", [DLBC, LUT3D], ids=lambda cls: cls.__name__)
def test_a_view_size_that_is_set_after_fit_is_for_the_next_fit(cls: type[PairedHarmonizer]) -> None:
    learned = small(cls).fit(bodies()[:2])
    before = learned.transform(darker()[:1])[0]
    learned.set_params(view_size=64)
    np.testing.assert_array_equal(learned.transform(darker()[:1])[0], before)
    again = learned.fit(bodies()[:2])
    fresh = small(cls, view_size=64).fit(bodies()[:2])
    np.testing.assert_array_equal(again.transform(darker()[:1])[0], fresh.transform(darker()[:1])[0])


def test_a_target_that_is_no_set_of_images_is_told_of_the_target() -> None:
    with pytest.raises(InvalidImageError, match=r"target: Expected a set of images, .* pass target\[None\]"):
        small(UNet).fit(darker()[:1], target=bodies()[0])
