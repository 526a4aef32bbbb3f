"""DeepFeatures: features of a frozen network in a Pipeline."""

from __future__ import annotations

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from xray_harmonize import CDFMatching, DeepFeatures, ImageSet, MinMax, ResNetClassifier, load, save
from xray_harmonize.classifiers import deep_features
from xray_harmonize.classifiers.deep_features import FeatureCache
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.networks.resnet import RadiographResNet

TINY = {"depth": 10, "width": 4, "weights": "random", "image_size": 16}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(4).random((9, 20, 24)).astype("float32")


@pytest.fixture(scope="module")
def classifier(images):
    fitted = ResNetClassifier(width=4, image_size=16, max_epochs=1, validation_fraction=0, random_state=0)
    return fitted.fit(images, np.arange(9) % 2)


def test_features_of_a_fitted_classifier_are_its_own(images, classifier):
    features = DeepFeatures(classifier).fit(images)
    np.testing.assert_allclose(features.transform(images), classifier.embed(images), atol=1e-6)


def test_rows_do_not_depend_on_the_batch(images):
    one = DeepFeatures(**TINY, cache=False, batch_size=1).fit_transform(images)
    np.testing.assert_allclose(DeepFeatures(**TINY, cache=False).fit_transform(images), one, atol=1e-5)


def test_random_weights_are_those_of_the_seed(images):
    same = DeepFeatures(**TINY, random_state=5).fit_transform(images)
    np.testing.assert_array_equal(DeepFeatures(**TINY, random_state=5).fit_transform(images), same)
    assert not np.allclose(DeepFeatures(**TINY, random_state=6).fit_transform(images), same)


def test_random_weights_nobody_asked_for_are_warned_of(images):
    with pytest.warns(XRayHarmonizeWarning, match="DeepFeatures has random weights: .* weights='random' if this is"):
        DeepFeatures(depth=10, width=4, image_size=16).fit(images)


def test_weights_come_from_a_file(images, tmp_path):
    network = RadiographResNet(3, 10, 4)
    torch.save(network.backbone.state_dict(), tmp_path / "weights.pt")
    features = DeepFeatures(**{**TINY, "weights": str(tmp_path / "weights.pt")}).fit(images)
    wanted = network.backbone.state_dict()["conv1.weight"].numpy()
    np.testing.assert_array_equal(features.state_["backbone.conv1.weight"], wanted)


def test_stands_in_a_pipeline_between_harmonizer_and_classifier(images):
    X = ImageSet(images, scanner=["A"] * 5 + ["B"] * 4)
    model = Pipeline([("harm", CDFMatching()), ("feat", DeepFeatures(**TINY)), ("clf", LogisticRegression())])
    y = np.arange(9) % 2
    assert model.fit(X, y).predict(X).shape == (9,)
    search = GridSearchCV(model, {"harm": [MinMax(), CDFMatching()]}, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 2


def test_cached_images_do_not_pass_the_network_again(images, monkeypatch):
    cache = FeatureCache(2**20)
    monkeypatch.setattr(deep_features, "feature_cache", lambda: cache)
    features = DeepFeatures(**TINY).fit(images)
    first = features.transform(images)
    passed = []
    real = RadiographResNet.features
    monkeypatch.setattr(RadiographResNet, "features", lambda self, x: passed.append(len(x)) or real(self, x))
    np.testing.assert_array_equal(features.transform(images), first)
    np.testing.assert_array_equal(clone(features).fit(images).transform(images[3:5]), first[3:5])
    assert passed == []
    features.transform(np.concatenate([images[:2], 1 - images[:1]]))
    assert passed == [1]


def test_cache_keeps_no_more_than_its_bound():
    cache = FeatureCache(2 * 4 * 8)
    for key in (b"a", b"b", b"c"):
        cache.put(key, np.zeros(8, dtype="float32"))
    assert cache.get(b"a") is None
    assert cache.get(b"c") is not None


def test_survives_joblib_and_the_package_file(images, classifier, tmp_path):
    features = DeepFeatures(classifier).fit(images)
    rows = features.transform(images)
    joblib.dump(features, tmp_path / "features.joblib")
    save(features, tmp_path / "features.npz")
    np.testing.assert_array_equal(joblib.load(tmp_path / "features.joblib").transform(images), rows)
    np.testing.assert_array_equal(load(tmp_path / "features.npz").transform(images), rows)


def test_clone_keeps_the_fitted_backbone_and_nothing_learned(images, classifier):
    copy = clone(DeepFeatures(classifier).fit(images))
    assert copy.backbone is classifier
    assert not hasattr(copy, "state_")


def test_columns_have_names(images):
    assert DeepFeatures(**TINY).fit(images).get_feature_names_out()[:2].tolist() == ["feature_0", "feature_1"]


def test_no_image_gives_no_row(images):
    assert DeepFeatures(**TINY).fit(images).transform(ImageSet([])).shape == (0, 32)


def test_must_be_fitted_first(images, classifier):
    with pytest.raises(NotFittedError):
        DeepFeatures(**TINY).transform(images)
    with pytest.raises(NotFittedError):
        DeepFeatures(ResNetClassifier()).fit(images)


def test_values_beyond_one_are_refused_unless_any(images):
    with pytest.raises(InvalidImageError, match=r"\[0, 1\]"):
        DeepFeatures(**TINY, cache=False).fit_transform(images * 3)
    assert DeepFeatures(**TINY, input_range="any").fit_transform(images * 3).shape == (9, 32)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "resnet18"}, "backbone must be a fitted ResNetClassifier or None; got str"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1; got 0"),
        ({"image_size": 4}, "image_size must be a whole number, at least 8; got 4"),
        ({"depth": 11}, "depth must be one of 10, 18, 34, 50; got 11"),
    ],
)
def test_parameters_out_of_range_are_named(images, parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        DeepFeatures(**{**TINY, **parameters}).fit(images)
