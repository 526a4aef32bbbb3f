"""The pipeline that a comparison leaves for use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from tiny_study import LOG, MeanClassifier, SpyCDF, SpyLearner, calls, images_of

from xray_harmonize import CDFMatching, CropForeground, FullRange, ImageSet, ResNetClassifier, ZScore, load, save
from xray_harmonize.adaptation import adapt
from xray_harmonize.cli import main
from xray_harmonize.evaluation.candidates import LABELLED, UNLABELLED, Candidate
from xray_harmonize.evaluation.deployment import Deployment, fit_pipeline
from xray_harmonize.evaluation.protocols import FIXED, LEAVE_ONE_OUT
from xray_harmonize.exceptions import InvalidParameterError, UnknownScannerError
from xray_harmonize.harmonizers.gdce import GDCE

X, Y = images_of({"home": 10, "far": 6, "near": 6}, side=16)
KNOWN = np.isin(X.scanner, ["home", "far"])
NEAR = X[X.scanner == "near"]
PER_SCANNER = Candidate("crop + CDF", (CDFMatching(scope="scanner"),), (CropForeground(),), sees=UNLABELLED)


@pytest.fixture(autouse=True)
def _empty_log():
    LOG.clear()


def fitted(candidate=PER_SCANNER, *, X=X, y=Y, protocol=FIXED, classifier=None, seed=0):
    classifier = classifier or MeanClassifier()
    return fit_pipeline(candidate, X, y, protocol=protocol, classifier=classifier, reference="home", seed=seed)


def test_its_steps_are_those_of_the_candidate_then_the_classifier():
    assert [type(step) for _, step in fitted().steps] == [CropForeground, CDFMatching, MeanClassifier]
    assert [type(step) for _, step in fitted(Candidate("none")).steps] == [FullRange, MeanClassifier]


def test_it_predicts_the_labels_as_they_were_for_every_scanner_of_the_comparison():
    predicted = fitted().predict(X)
    assert set(predicted) <= {"ill", "well"}
    assert predicted.shape == (len(X),)


def test_under_the_fixed_protocol_the_classifier_trains_on_the_reference_as_it_is():
    fitted(seed=7)
    (fit,) = calls("MeanClassifier", "fit")
    assert fit.ids == np.flatnonzero(X.scanner == "home").tolist()
    assert fit.facts["random_state"] == 7
    cropped = CropForeground().fit(X).transform(X[X.scanner == "home"])
    np.testing.assert_allclose(fit.means, [image.mean() for image in cropped])


def test_otherwise_it_trains_on_what_the_harmonizer_makes_of_all():
    pipeline = fitted(protocol=LEAVE_ONE_OUT)
    (fit,) = calls("MeanClassifier", "fit")
    assert fit.ids == list(range(len(X)))
    np.testing.assert_allclose(fit.means, [image.mean() for image in pipeline[:-1].transform(X)])


def test_another_range_is_what_the_classifier_trains_on():
    fitted(Candidate("z", (ZScore(),), trains_on_harmonized=True))
    np.testing.assert_allclose(calls("MeanClassifier", "fit")[0].means, 0, atol=1e-6)


def test_parameters_of_the_candidate_reach_the_classifier():
    pipeline = fitted(Candidate("augmented", classifier_parameters={"augment": "tone"}))
    assert pipeline["classifier"].augment == "tone"


@pytest.mark.parametrize("protocol", [FIXED, LEAVE_ONE_OUT])
def test_a_scanner_that_it_has_not_seen_is_an_error_that_says_adapt_and_then_works(protocol):
    pipeline = fitted(X=X[KNOWN], y=Y[KNOWN], protocol=protocol)
    with pytest.raises(UnknownScannerError, match=r"'near' was not seen in fit; known are far, home.*Call adapt with"):
        pipeline.predict(NEAR)
    adapted = adapt(pipeline, NEAR)
    assert set(adapted.predict(NEAR)) <= {"ill", "well"}
    np.testing.assert_array_equal(adapted.predict_proba(X[KNOWN]), pipeline.predict_proba(X[KNOWN]))


def test_a_method_that_takes_each_image_by_itself_serves_any_scanner():
    pipeline = fitted(Candidate("CDF", (CDFMatching(),)), X=X[KNOWN], y=Y[KNOWN])
    assert pipeline.predict(NEAR).shape == (len(NEAR),)
    assert pipeline.predict([X[0], X[1]]).shape == (2,)


def test_the_reference_alone_is_enough():
    home = X.scanner == "home"
    assert fitted(X=X[home], y=Y[home]).predict(X[home]).shape == (10,)


# -- methods that learn from labels -----------------------------------------------------------------------------------


LEARNER = Candidate("learner", (SpyLearner(scope="scanner"),), (CropForeground(),), sees=LABELLED)
BY_IMAGES = Candidate("x", (SpyLearner(scope="scanner", supervision="distribution"),), sees=UNLABELLED)


def test_a_method_that_sees_labels_learns_from_all_of_them_by_the_classifier_of_the_pipeline():
    pipeline = fitted(LEARNER, seed=7)
    (fit,) = calls("SpyLearner", "fit")
    assert sorted(fit.ids) == list(range(len(X)))
    assert fit.facts["labels"] == Y[fit.ids].tolist()
    assert fit.facts["random_state"] == 7
    assert fit.facts["discriminator"] is pipeline["classifier"]
    (training,) = calls("MeanClassifier", "fit")
    assert set(training.scanners) == {"home"}
    assert not calls("SpyLearner", "adapt")
    assert pipeline.predict(X).shape == (len(X),)


def test_a_method_that_sees_images_alone_is_adapted_to_them():
    fitted(BY_IMAGES)
    (fit,), (adaptation,) = calls("SpyLearner", "fit"), calls("SpyLearner", "adapt")
    assert set(fit.scanners) == {"home"}
    assert set(adaptation.scanners) == {"far", "near"}


def test_where_scanners_are_left_out_the_method_learns_by_a_classifier_of_the_reference():
    pipeline = fitted(LEARNER, protocol=LEAVE_ONE_OUT, seed=7)
    home, everything = calls("MeanClassifier", "fit")
    assert (set(home.scanners), len(everything.ids)) == ({"home"}, len(X))
    assert [call.facts["random_state"] for call in (home, everything)] == [7, 7]
    (fit,) = calls("SpyLearner", "fit")
    assert fit.facts["discriminator"] is not pipeline["classifier"]


@pytest.mark.parametrize("protocol", [FIXED, LEAVE_ONE_OUT])
def test_what_is_shown_and_what_is_deployed_are_one_fit(protocol):
    deployment = Deployment(X, Y, protocol=protocol, classifier=MeanClassifier(), reference="home")
    spy = Candidate("spy", (SpyCDF(scope="scanner"),), sees=UNLABELLED)
    for candidate in (LEARNER, spy):
        harmonizer = deployment.harmonizer(candidate)
        pipeline = deployment.pipeline(candidate)
        assert pipeline[-2] is harmonizer[-1]
        assert deployment.pipeline(candidate)["classifier"] is pipeline["classifier"]
    assert len(calls("SpyLearner", "fit")) == len(calls("SpyCDF", "fit")) == 1


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate("fine-tuned", sees=LABELLED, fine_tunes=True),
        Candidate("batch norm", sees=UNLABELLED, adapts_batch_norm=True),
    ],
)
def test_a_classifier_changed_for_one_scanner_is_not_deployed_for_all(candidate):
    with pytest.raises(InvalidParameterError, match=f"'{candidate.name}' changes the classifier for one scanner, and"):
        fitted(candidate)


@pytest.fixture(scope="module")
def learned():
    """A pipeline with GDCE, as it would be deployed."""
    gdce = GDCE(scope="scanner", perceptual=None, max_steps=4, lr=0.5, batch_size=2, validation_fraction=0)
    classifier = ResNetClassifier(depth=10, width=4, image_size=16, max_epochs=1, validation_fraction=0)
    candidate = Candidate("GDCE", (gdce,), sees=LABELLED)
    return fit_pipeline(candidate, X[KNOWN], Y[KNOWN], protocol=FIXED, classifier=classifier, reference="home")


@pytest.mark.parametrize("suffix", [".npz", ".joblib"])
def test_gdce_is_deployed_kept_and_adapted_by_the_command(learned, tmp_path, monkeypatch, suffix):
    assert [type(step) for _, step in learned.steps] == [GDCE, ResNetClassifier]
    path = tmp_path / f"model{suffix}"
    if suffix == ".npz":
        save(learned, path)
    else:
        joblib.dump(learned, path)
    (tmp_path / "new").mkdir()
    for i in range(4):
        np.save(tmp_path / "new" / f"{i}.npy", (X[i] ** 2).astype("f4"))
    out = tmp_path / f"adapted{suffix}"
    arguments = ["--model", path, "--images", tmp_path / "new", "--scanner", "new", "--out", out]
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", "adapt", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    assert not ending.value.code
    adapted = load(out) if suffix == ".npz" else joblib.load(out)
    known = X[KNOWN]
    np.testing.assert_allclose(adapted.predict_proba(known), learned.predict_proba(known), atol=1e-5)
    new = ImageSet(list(X[:4]), scanner="new")
    with pytest.raises(UnknownScannerError, match="new"):
        learned.predict(new)
    assert set(adapted.predict(new)) <= {"ill", "well"}


@pytest.fixture(scope="module")
def network():
    classifier = ResNetClassifier(depth=10, width=4, image_size=16, max_epochs=1)
    return fit_pipeline(PER_SCANNER, X[KNOWN], Y[KNOWN], protocol=FIXED, classifier=classifier, reference="home")


def test_it_works_after_joblib_and_after_the_safe_format_in_a_fresh_interpreter(network, tmp_path):
    save(network, tmp_path / "model.npz")
    joblib.dump(network, tmp_path / "model.joblib")
    np.save(tmp_path / "images.npy", np.stack(list(X[KNOWN])))
    np.save(tmp_path / "scanner.npy", X.scanner[KNOWN].astype(str))
    np.save(tmp_path / "expected.npy", network.predict_proba(X[KNOWN]))
    code = (
        "import joblib, numpy as np, xray_harmonize as xh\n"
        "from xray_harmonize.adaptation import adapt\n"
        "images, scanner = np.load('images.npy'), np.load('scanner.npy')\n"
        "X = xh.ImageSet(images, scanner=scanner)\n"
        "for model in (xh.load('model.npz'), joblib.load('model.joblib')):\n"
        "    np.testing.assert_allclose(model.predict_proba(X), np.load('expected.npy'), atol=1e-6)\n"
        "    assert set(model.predict(X)) <= {'ill', 'well'}\n"
        "    new = xh.ImageSet(images[:5] ** 2, scanner='new')\n"
        "    try:\n"
        "        model.predict(new)\n"
        "    except xh.XRayHarmonizeError as error:\n"
        "        assert 'Call adapt' in str(error)\n"
        "    else:\n"
        "        raise AssertionError('an unknown scanner was served')\n"
        "    assert set(adapt(model, new).predict(new)) <= {'ill', 'well'}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=300)


def test_images_may_come_as_a_lazy_set(network, tmp_path):
    paths = []
    for i in np.flatnonzero(KNOWN)[:4]:
        paths.append(tmp_path / f"{i}.npy")
        np.save(paths[-1], X[i])
    lazy = ImageSet(paths, scanner=X.scanner[KNOWN][:4])
    np.testing.assert_allclose(network.predict_proba(lazy), network.predict_proba(X[KNOWN][:4]), atol=1e-6)
