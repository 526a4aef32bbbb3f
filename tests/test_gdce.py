"""GDCE: what it learns, leaves alone and adapts to. The contracts of all harmonizers: test_common.py."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from tiny_gdce import (
    BRIGHT,
    DARK,
    REFERENCE,
    cohort,
    every_scope,
    every_supervision,
    gdce,
    images,
    judge,
    labels,
    off_the_truth,
    quick,
    same_curves,
    small_classifier,
    state_of,
    taught,
)

import xray_harmonize
from xray_harmonize import (
    GDCE,
    CDFMatching,
    FourierSwap,
    ImageSet,
    LeaveOneScannerOut,
    MinMax,
    WindowClamp,
    ZScore,
)
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    UnknownScannerError,
)

# Most trainings here are too short to move a curve; that this is told has a test of its own.
pytestmark = pytest.mark.filterwarnings("ignore:GDCE's curves stayed at the identity")


# -- learning -------------------------------------------------------------------------------------------------------


@every_scope
@every_supervision
def test_a_known_curve_is_learned(scope: str, supervision: str) -> None:
    harmonizer = taught(scope, supervision)
    # Left as they are the dark images are off by 0.19, the bright by 0.09.
    for scanner in harmonizer.scanners_[1:]:
        assert off_the_truth(harmonizer, scanner) < 0.06
    assert off_the_truth(harmonizer, REFERENCE) < 0.04


@every_scope
@every_supervision
def test_the_classifier_does_better_behind_the_curves(scope: str, supervision: str) -> None:
    harmonizer = taught(scope, supervision)
    X, y = images(DARK), labels(DARK)
    assert judge().score(X, y) == 0.5
    assert judge().score(harmonizer.transform(X), y) > 0.75


@every_supervision
def test_with_one_curve_a_scanner_all_its_images_share_it_and_the_reference_stays(supervision: str) -> None:
    harmonizer = taught("scanner", supervision)
    assert harmonizer.scanners_ == [REFERENCE, BRIGHT, DARK]
    assert {alpha.shape for alpha in harmonizer.alpha_.values()} == {(8,)}
    x = np.linspace(0, 1, 101)
    for scanner in harmonizer.scanners_:
        first, *others = (curve(x) for curve in harmonizer.tone_curves(images(scanner)))
        assert all(np.array_equal(first, other) for other in others)
    for i, one in enumerate(harmonizer.transform(images(REFERENCE))):
        np.testing.assert_allclose(one, images(REFERENCE).unit(i), atol=1e-6)


@every_scope
def test_curves_are_monotone_keep_black_and_white_and_are_what_transform_applies(scope: str) -> None:
    harmonizer, X = taught(scope, "labels"), images(REFERENCE, DARK)[::5]
    for i, (curve, one) in enumerate(zip(harmonizer.tone_curves(X), harmonizer.transform(X), strict=True)):
        table = curve.table(65536)
        assert (np.diff(table) >= 0).all()
        assert (table[0], table[-1]) == (0, 1)
        np.testing.assert_array_equal(curve(X[i], int(X.bits_stored[i])), one)


def test_images_of_a_scanner_never_seen_get_curves_of_their_own() -> None:
    harmonizer = taught("image", "labels")
    known, strange = images(DARK), images(BRIGHT)
    alone = ImageSet(list(strange), bits_stored=strange.bits_stored)
    assert judge().score(harmonizer.transform(known), labels(DARK)) > 0.75
    for one, other in zip(harmonizer.transform(alone), harmonizer.transform(strange), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_what_is_sampled_of_an_image_decides_its_curve() -> None:
    def between(n: int) -> np.ndarray:
        """Pixels on both sides of the centres of as many equal parts as the network's view has pixels."""
        before = np.floor((np.arange(16) + 0.5) * n / 16 - 0.5).astype(int)
        return np.concatenate([before, before + 1])

    image = np.random.default_rng(0).integers(0, 4096, (500, 400), dtype=np.uint16)
    seen = np.zeros(image.shape, dtype=bool)
    seen[np.ix_(between(500), between(400))] = True
    assert seen.mean() < 0.01
    others = [np.where(seen, image, 4095 - image), np.where(seen, 4095 - image, image)]
    first, same, different = taught("image", "labels").tone_curves(ImageSet([image, *others], bits_stored=12))
    np.testing.assert_array_equal(first.table(256), same.table(256))
    assert not np.array_equal(first.table(256), different.table(256))


@every_scope
def test_the_best_check_is_kept(scope: str) -> None:
    harmonizer = taught(scope, "labels")
    assert [row["epoch"] for row in harmonizer.history_] == list(range(1, 21))
    # Whatever margin of the worst group counts as none, what has a smaller loss must fare worse in it.
    best = harmonizer.history_[harmonizer.best_epoch_ - 1]
    smaller = [row for row in harmonizer.history_ if row["valid_loss"] < best["valid_loss"]]
    assert all(row["worst_group_accuracy"] < best["worst_group_accuracy"] for row in smaller)
    assert not harmonizer.interrupted_


def test_without_labels_the_last_check_is_kept() -> None:
    harmonizer = taught("scanner", "distribution")
    assert harmonizer.best_epoch_ == len(harmonizer.history_) == 20
    assert harmonizer.history_[0].keys() == {"epoch", "train_loss", "dur"}


def test_the_largest_scanner_is_the_reference_by_default() -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    fewer = np.r_[np.arange(10), np.arange(24, 48)]
    assert quick(reference=None, scope="scanner").fit(X[fewer], y[fewer]).reference_ == DARK
    # Of equals the first by name.
    assert quick(reference=None, scope="scanner").fit(X, y).reference_ == REFERENCE


# -- a new scanner, from unlabelled images --------------------------------------------------------------------------


@every_scope
def test_adapt_learns_a_new_scanner_and_leaves_the_known_as_they_were(scope: str) -> None:
    known = images(REFERENCE, DARK)
    before = taught("image", "labels")
    if scope == "scanner":
        before = quick(scope=scope).fit(known, labels(REFERENCE, DARK)).set_params(start="matched", max_steps=20)
    state = state_of(before)
    adapted = before.adapt(images(BRIGHT))
    assert state_of(before) == state
    assert adapted.scanners_ == [REFERENCE, DARK, BRIGHT]
    assert off_the_truth(adapted, BRIGHT) < 0.04
    assert same_curves(adapted, before, known)
    for one, other in zip(adapted.transform(known), before.transform(known), strict=True):
        np.testing.assert_array_equal(one, other)


@every_scope
def test_adapt_takes_several_scanners_and_leaves_known_ones_aside(scope: str) -> None:
    first = quick(scope=scope, supervision="distribution").fit(images(REFERENCE))
    both = first.adapt(images(REFERENCE, BRIGHT, DARK))
    assert both.scanners_ == [REFERENCE, BRIGHT, DARK]
    again = first.adapt(images(REFERENCE, BRIGHT, DARK)[::-1])
    assert same_curves(both, again, images(BRIGHT, DARK))
    one_by_one = first.adapt(list(images(BRIGHT)), scanner=BRIGHT).adapt(list(images(DARK)), scanner=DARK)
    assert one_by_one.scanners_ == both.scanners_


@every_scope
def test_what_was_fitted_to_the_reference_alone_leaves_it_and_can_adapt(scope: str) -> None:
    harmonizer = quick(scope=scope, supervision="distribution").fit(images(REFERENCE))
    assert (harmonizer.scanners_, harmonizer.history_, harmonizer.best_epoch_) == ([REFERENCE], [], 0)
    for i, one in enumerate(harmonizer.transform(images(REFERENCE))):
        np.testing.assert_allclose(one, images(REFERENCE).unit(i), atol=1e-6)
    assert harmonizer.adapt(images(DARK)).scanners_ == [REFERENCE, DARK]


def test_adapt_says_what_it_lacks() -> None:
    harmonizer = taught("scanner", "labels")
    with pytest.raises(MissingScannerError, match=r"GDCE\.adapt needs .* call adapt\(X, scanner=\.\.\.\)"):
        harmonizer.adapt(list(images(DARK)))
    known = f"adapt found no new scanner: {BRIGHT}, {DARK} known already. Name the new scanner with scanner=, or fit"
    with pytest.raises(InvalidParameterError, match=known):
        harmonizer.adapt(images(BRIGHT, DARK))


def test_a_pipeline_adapts() -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    pipeline = Pipeline([("harm", quick(scope="scanner")), ("clf", small_classifier(max_epochs=1))]).fit(X, y)
    with pytest.raises(UnknownScannerError, match=f"Scanner '{BRIGHT}' was not seen in fit; known are .* Call adapt"):
        pipeline.predict(images(BRIGHT))
    adapted = xray_harmonize.adapt(pipeline, images(BRIGHT))
    assert adapted.predict_proba(images(BRIGHT)).shape == (24, 2)
    np.testing.assert_array_equal(adapted.predict_proba(X), pipeline.predict_proba(X))


# -- options --------------------------------------------------------------------------------------------------------


def test_the_released_training_is_a_preset() -> None:
    released = GDCE.as_released(reference="Selenia", perceptual_weight=0.5)
    changed = {k: v for k, v in released.get_params().items() if v != GDCE().get_params()[k]}
    assert changed == {
        **{"reference": "Selenia", "max_epochs": 25, "lr": 1e-4, "schedule": "constant", "weighting": "ratio"},
        **{"start": "random"},
    }
    assert GDCE.as_released().perceptual_weight == 0.95


@pytest.mark.parametrize("max_steps", [1, 21, 30, 48])
def test_trainings_count_steps_whatever_the_number_of_images(max_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, step = [], torch.optim.Adam.step

    def counting(self: torch.optim.Adam, *args: Any) -> Any:
        counted.append(self)
        return step(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", counting)
    few = np.r_[0:4, 24:28]
    harmonizer = quick(scope="scanner", supervision="distribution", max_steps=max_steps)
    harmonizer.fit(images(REFERENCE, DARK)[few])
    n_checks = len(harmonizer.history_)
    assert n_checks <= 20
    assert max_steps - len(counted) / n_checks < len(counted) <= max_steps


def test_trainings_may_count_passes_instead_of_steps() -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    assert len(quick(scope="scanner", max_epochs=3, max_steps=None).fit(X, y).history_) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"perceptual": "map", "vgg_weights": "random", "weighting": "sum"},
        {"perceptual": "pooled", "vgg_weights": "random", "weighting": "ratio", "perceptual_weight": 0.9},
        {"flip": False, "schedule": "constant", "validation_fraction": 0},
        {"image_size": 24, "n_layers": np.int64(1), "n_iterations": np.int64(3), "max_steps": np.int64(1)},
        {"batch_size": 1, "validation_fraction": 0.5},
    ],
    ids=lambda options: ", ".join(f"{k}={v}" for k, v in options.items()),
)
@pytest.mark.parametrize(("scope", "supervision"), [("image", "labels"), ("scanner", "distribution")])
def test_every_option_trains(options: dict[str, Any], scope: str, supervision: str) -> None:
    harmonizer = quick(scope=scope, supervision=supervision, **options)
    X = images(REFERENCE, DARK)
    result = harmonizer.fit(X, labels(REFERENCE, DARK)).transform(X[[0, 30]])
    assert all(np.isfinite(one).all() for one in result)


def test_the_fast_training_gives_about_the_same_curves() -> None:
    X, y, vgg = images(REFERENCE, DARK), labels(REFERENCE, DARK), {"perceptual": "pooled", "vgg_weights": "random"}
    exact, fast = (
        quick(scope="scanner", supervision="distribution", speed=speed, **vgg).fit(X, y) for speed in ("exact", "fast")
    )
    assert same_curves(exact, fast, X[[0, 30]], atol=0.02)
    assert not same_curves(exact, fast, X[[0, 30]])


def test_a_scanner_not_seen_may_be_left_as_it_is() -> None:
    X = images(BRIGHT)
    harmonizer = quick(scope="scanner", unseen="identity").fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))
    for i, one in enumerate(harmonizer.transform(X)):
        np.testing.assert_allclose(one, X.unit(i), atol=1e-6)
    with pytest.raises(MissingScannerError, match=r"GDCE\.transform needs to know which scanner"):
        harmonizer.transform(list(X))


# -- saved and loaded -----------------------------------------------------------------------------------------------


@every_scope
def test_what_was_adapted_is_saved_loaded_and_adapted_further(scope: str, tmp_path: Path) -> None:
    X, strange = images(REFERENCE, DARK, BRIGHT), ImageSet(list(images(BRIGHT)), "new", bits_stored=12)
    adapted = quick(small_classifier(max_epochs=1), scope=scope).fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))
    adapted = adapted.adapt(images(BRIGHT))
    further = adapted.adapt(strange)
    adapted.save(tmp_path / "model.npz")
    joblib.dump(adapted, tmp_path / "model.joblib")
    for loaded in (xray_harmonize.load(tmp_path / "model.npz"), joblib.load(tmp_path / "model.joblib")):
        for one, other in zip(loaded.transform(X), adapted.transform(X), strict=True):
            np.testing.assert_array_equal(one, other)
        assert same_curves(loaded.adapt(strange), further, strange)
        np.testing.assert_array_equal(loaded.discriminator_.predict_proba(X), adapted.discriminator_.predict_proba(X))


def test_a_discriminator_that_is_a_parameter_too_is_stored_once(tmp_path: Path) -> None:
    taught("scanner", "labels").save(tmp_path / "model.npz")
    with zipfile.ZipFile(tmp_path / "model.npz") as archive:
        n_arrays = sum(name.endswith(".npy") for name in archive.namelist())
    assert n_arrays < len(judge().state_) + 12


def test_a_pipeline_with_a_classifier_fits_predicts_and_reloads(tmp_path: Path) -> None:
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    pipeline = Pipeline([("harm", quick(small_classifier(max_epochs=2))), ("clf", small_classifier(max_epochs=2))])
    expected = pipeline.fit(X, y).predict_proba(X)
    assert expected.shape == (48, 2)
    np.testing.assert_allclose(pipeline["clf"].predict_proba(pipeline["harm"].transform(X)), expected)
    assert len(pipeline.predict(images(BRIGHT))) == 24
    xray_harmonize.save(pipeline, tmp_path / "model.npz")
    np.testing.assert_array_equal(xray_harmonize.load(tmp_path / "model.npz").predict_proba(X), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every_scope
def test_fitted_on_a_gpu_it_gives_the_same_curves_without_one(scope: str, tmp_path: Path) -> None:  # pragma: no cover
    X, y = images(REFERENCE, DARK), labels(REFERENCE, DARK)
    fitted = gdce(scope=scope, device="cuda").fit(X, y)
    fitted.save(tmp_path / "model.npz")
    loaded = xray_harmonize.load(tmp_path / "model.npz").set_params(device="cpu")
    assert same_curves(fitted, loaded, X, atol=1e-4)
    assert off_the_truth(loaded, DARK) < 0.045


# -- inside scikit-learn --------------------------------------------------------------------------------------------


def test_a_grid_search_over_harmonizers_scores_each_on_the_scanner_left_out() -> None:
    some = np.flatnonzero(np.arange(72) % 24 < 8)
    X, y = cohort().images[some], labels(REFERENCE, BRIGHT, DARK)[some]
    # Patients of their own, or leaving a scanner out would leave nobody.
    X = ImageSet(list(X), X.scanner, bits_stored=X.bits_stored, meta=X.meta)
    tiny = small_classifier(max_epochs=1, width=2, image_size=16)
    learned = quick(clone(tiny), reference=None, batch_size=4)
    harmonizers = [MinMax(), ZScore(), WindowClamp(), CDFMatching(), FourierSwap(), learned]
    pipeline = Pipeline([("harm", None), ("clf", clone(tiny).set_params(input_range="any"))])
    search = GridSearchCV(
        pipeline, {"harm": harmonizers}, cv=LeaveOneScannerOut(), scoring="roc_auc", error_score="raise"
    )
    search.fit(X, y)
    found = [[search.cv_results_[f"split{k}_test_score"][i] for k in range(3)] for i in range(len(harmonizers))]
    assert np.isfinite(found).all()
    by_hand = []
    for train, test in LeaveOneScannerOut().split(X, y):
        harmonizer, classifier = clone(learned), clone(pipeline["clf"])
        classifier.fit(harmonizer.fit(X[train], y[train]).transform(X[train]), y[train])
        by_hand.append(roc_auc_score(y[test], classifier.predict_proba(harmonizer.transform(X[test]))[:, 1]))
    assert found[-1] == pytest.approx(by_hand)
    assert search.predict_proba(X[:3]).shape == (3, 2)


def test_scikit_learn_is_told_when_labels_are_needed() -> None:
    assert GDCE().__sklearn_tags__().target_tags.required
    assert not GDCE(supervision="distribution").__sklearn_tags__().target_tags.required


def test_its_representation_names_what_was_changed() -> None:
    assert re.sub(r"\s+", " ", repr(GDCE("A", scope="scanner"))) == "GDCE(reference='A', scope='scanner')"
