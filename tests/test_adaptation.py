"""Teaching a fitted model a new scanner from unlabelled images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.pipeline import Pipeline
from tiny_study import MeanClassifier, images_of

import xray_harmonize
from xray_harmonize import (
    CDFMatching,
    CropForeground,
    FourierSwap,
    FullRange,
    ImageSet,
    MinMax,
    Nyul,
    ResNetClassifier,
)
from xray_harmonize.adaptation import adapt
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
)

X, Y = images_of({"home": 8, "far": 6, "near": 6}, side=16)
HOME, FAR = X[X.scanner == "home"], X[X.scanner == "far"]
BARE = [X[i] for i in np.flatnonzero(X.scanner == "far")]


@pytest.fixture
def pipeline():
    steps = [("tone", CDFMatching(scope="scanner")), ("classifier", MeanClassifier(random_state=0))]
    return Pipeline(steps).fit(HOME, Y[X.scanner == "home"])


def test_a_harmonizer_learns_the_new_scanner_and_the_old_one_stays_as_it_is():
    harmonizer = CDFMatching(scope="scanner").fit(HOME)
    before = harmonizer.transform(HOME)[0]
    adapted = adapt(harmonizer, FAR)
    assert sorted(adapted.statistics_) == ["far", "home"]
    assert sorted(harmonizer.statistics_) == ["home"]
    np.testing.assert_array_equal(adapted.transform(HOME)[0], before)


def test_the_scanner_may_be_named_beside_the_images():
    harmonizer = CDFMatching(scope="scanner").fit(HOME)
    by_keyword = adapt(harmonizer, BARE, scanner="far").transform(FAR)
    np.testing.assert_array_equal(by_keyword[0], adapt(harmonizer, FAR).transform(FAR)[0])


def test_a_pipeline_serves_the_new_scanner_after_adapting_and_not_before(pipeline):
    with pytest.raises(UnknownScannerError, match=r"'far' was not seen in fit.*Call adapt"):
        pipeline.predict(FAR)
    adapted = adapt(pipeline, FAR)
    assert adapted.predict(FAR).shape == (len(FAR),)
    np.testing.assert_array_equal(adapted.predict_proba(HOME), pipeline.predict_proba(HOME))
    with pytest.raises(UnknownScannerError, match="'far' was not seen"):
        pipeline.predict(FAR)


def test_later_steps_learn_from_what_earlier_ones_make():
    steps = [
        ("crop", CropForeground()),
        ("skip", "passthrough"),
        ("landmarks", Nyul(scope="scanner")),
        ("tone", CDFMatching(scope="scanner")),
    ]
    fitted = Pipeline(steps).fit(HOME)
    adapted = adapt(fitted, FAR)
    harmonized = adapted[:3].transform(FAR)
    expected = CDFMatching(scope="scanner").fit(harmonized).statistics_["far"]["quantiles"]
    np.testing.assert_allclose(adapted["tone"].statistics_["far"]["quantiles"], expected)


def test_a_pipeline_within_a_pipeline_learns_too():
    inner = Pipeline([("range", FullRange()), ("tone", CDFMatching(scope="scanner"))])
    fitted = Pipeline([("harmonizer", inner), ("classifier", MeanClassifier())]).fit(HOME, Y[X.scanner == "home"])
    adapted = adapt(fitted, FAR)
    assert "far" in adapted["harmonizer"]["tone"].statistics_
    assert "far" not in fitted["harmonizer"]["tone"].statistics_
    assert adapted.predict(FAR).shape == (len(FAR),)


def test_the_classifier_of_a_pipeline_re_estimates_only_if_asked(pipeline):
    assert adapt(pipeline, FAR)["classifier"] is pipeline["classifier"]
    adapted = adapt(pipeline, FAR, batch_norm=True)["classifier"]
    harmonized = adapt(pipeline, FAR)["tone"].transform(FAR)
    assert adapted.offset_ == pytest.approx(pipeline["classifier"].adapt(harmonized).offset_)
    assert pipeline["classifier"].offset_ == 0


def test_a_classifier_by_itself_always_re_estimates():
    classifier = ResNetClassifier(depth=10, width=4, image_size=16, max_epochs=1, random_state=0)
    classifier.fit(HOME, Y[X.scanner == "home"])
    adapted = adapt(classifier, FAR)
    name = next(name for name in classifier.state_ if name.endswith("running_mean"))
    assert not np.array_equal(adapted.state_[name], classifier.state_[name])


def test_a_model_that_cannot_learn_is_named():
    with pytest.raises(
        InvalidParameterError, match=r"dict cannot learn a scanner from unlabelled images\. Give a fitted harm"
    ):
        adapt({}, FAR)


@pytest.mark.parametrize(
    "name", ["CycleGAN", "UNet", "ResUNet", "DLBC", "LUT3D", "SupDCE", "InterpretableMapping", "BlindHarmony", "ZScore"]
)
def test_a_method_that_knows_no_scanners_is_refused_by_name(name):
    message = (
        rf"^{name} as it was fitted learns nothing of a new scanner: it treats all.*CDFMatching\(scope='scanner'\)"
    )
    with pytest.raises(InvalidParameterError, match=message):
        adapt(getattr(xray_harmonize, name)(), FAR)


@pytest.mark.parametrize(
    "method", [CDFMatching(), MinMax(), Nyul(reference="home"), CDFMatching("pooled"), FourierSwap()]
)
def test_statistics_of_single_images_learn_nothing_of_a_scanner(method):
    fitted = method.fit(HOME)
    with pytest.raises(InvalidParameterError, match=rf"^{type(method).__name__} as it was fitted learns nothing"):
        adapt(fitted, FAR)
    assert fitted.adapt(FAR) is fitted
    assert "far" not in fitted.statistics_
    with pytest.raises(InvalidParameterError, match=r"No step of the pipeline \(tone\)"):
        adapt(Pipeline([("tone", fitted)]), FAR)


@pytest.mark.parametrize("scope", ["scanner", "mixed", "shrunk"])
def test_statistics_of_scanners_are_learned_whatever_they_are_used_for(scope):
    assert "far" in adapt(CDFMatching(scope=scope).fit(HOME), FAR).statistics_


def test_steps_that_learn_nothing_stay_as_they_are_beside_one_that_does():
    fitted = Pipeline([("range", MinMax()), ("tone", CDFMatching(scope="scanner"))]).fit(HOME)
    adapted = adapt(fitted, FAR)
    assert adapted["range"] is fitted["range"]
    assert "far" in adapted["tone"].statistics_


def test_a_pipeline_without_a_classifier_is_not_told_of_one():
    with pytest.raises(InvalidParameterError, match=r"\(range\) learns anything.*treats all") as refusal:
        adapt(Pipeline([("range", FullRange())]).fit(HOME), FAR)
    assert "batch_norm" not in str(refusal.value)


def test_a_pipeline_in_which_no_step_can_learn_says_what_to_use():
    fitted = Pipeline([("range", FullRange()), ("classifier", MeanClassifier())]).fit(X, Y)
    with pytest.raises(
        InvalidParameterError, match=r"No step of the pipeline \(range, classifier\) learns.*batch_norm"
    ):
        adapt(fitted, FAR)


def test_the_name_of_the_scanner_is_needed(pipeline):
    with pytest.raises(MissingScannerError, match="which scanner made each image"):
        adapt(pipeline, BARE)


def test_two_names_for_one_scanner_are_an_error(pipeline):
    with pytest.raises(InvalidParameterError, match=r"scanner= and X\.scanner differ"):
        adapt(pipeline, FAR, scanner="near")


def test_a_scanner_that_is_known_is_an_error(pipeline):
    with pytest.raises(InvalidParameterError, match="found no new scanner: home known already"):
        adapt(pipeline, HOME)


def test_no_image_is_an_error(pipeline):
    with pytest.raises(NotEnoughImagesError, match="at least 1 image"):
        adapt(pipeline, ImageSet([]), scanner="far")
