"""The pipeline that a comparison leaves for use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from tiny_study import LOG, MeanClassifier, calls, images_of

from xray_harmonize import CDFMatching, CropForeground, FullRange, ImageSet, ResNetClassifier, ZScore, save
from xray_harmonize.adaptation import adapt
from xray_harmonize.evaluation.candidates import UNLABELLED, Candidate
from xray_harmonize.evaluation.deployment import fit_pipeline
from xray_harmonize.evaluation.protocols import FIXED, LEAVE_ONE_OUT
from xray_harmonize.exceptions import UnknownScannerError

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
