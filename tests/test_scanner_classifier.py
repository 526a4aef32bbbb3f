"""ScannerClassifier: which scanner made an image."""

from __future__ import annotations

import numpy as np
import pytest

from xray_harmonize import DeepFeatures, ImageSet, IntensityFeatures, ResNetClassifier, ScannerClassifier, load, save
from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError, NotEnoughImagesError


@pytest.fixture(scope="module")
def X():
    images = np.random.default_rng(8).random((30, 16, 18)).astype("float32")
    images[10:20] **= 3
    images[20:] = images[20:] * 0.4 + 0.3
    return ImageSet(images, scanner=np.repeat(["A", "B", "C"], 10))


def test_tells_scanners_of_other_images_apart(X):
    fitted = ScannerClassifier().fit(X[::2])
    assert fitted.predict(X[1::2]).tolist() == X.scanner[1::2].tolist()
    assert fitted.predict_proba(X[:4]).sum(axis=1) == pytest.approx(np.ones(4))


def test_two_scanners_have_two_probabilities(X):
    fitted = ScannerClassifier().fit(X[:20])
    assert fitted.predict_proba(X[:3]).shape == (3, 2)
    assert fitted.score(X[:20], X.scanner[:20]) == 1


def test_labels_given_count_and_may_be_groups_of_acquisitions(X):
    groups = np.where(X.scanner == "A", "fixed", "portable")
    assert set(ScannerClassifier().fit(X, groups).predict(X)) == {"fixed", "portable"}


def test_features_may_come_ready_made(X):
    rows = IntensityFeatures().transform(X)
    fitted = ScannerClassifier().fit(rows, X.scanner)
    assert (fitted.predict(rows) == X.scanner).all()
    with pytest.raises(InvalidParameterError, match="was fitted to features; give features of the same kind"):
        fitted.predict(X)


def test_deep_features_may_be_what_it_looks_at(X):
    deep = DeepFeatures(depth=10, width=4, weights="random", image_size=16)
    assert ScannerClassifier(features=deep).fit(X).score(X, X.scanner) > 0.8


def test_network_may_look_at_the_images_themselves(X):
    network = ResNetClassifier(width=4, image_size=16, max_epochs=2, validation_fraction=0, random_state=0)
    fitted = ScannerClassifier("resnet", network=network).fit(X)
    assert fitted.predict_proba(X).shape == (30, 3)
    with pytest.raises(InvalidParameterError, match=r"looks at images; got features of shape \(3, 5\)"):
        fitted.predict(np.zeros((3, 5)))


def test_default_network_balances_scanners(X):
    assert ScannerClassifier("resnet", random_state=3)._network().class_weight == "balanced"


def test_survives_a_file(X, tmp_path):
    fitted = ScannerClassifier().fit(X)
    save(fitted, tmp_path / "probe.npz")
    np.testing.assert_array_equal(load(tmp_path / "probe.npz").predict_proba(X), fitted.predict_proba(X))


def test_fitting_again_forgets_what_was_fitted(X):
    fitted = ScannerClassifier().fit(X)
    fitted.fit(IntensityFeatures().transform(X), X.scanner)
    assert not hasattr(fitted, "features_")


def test_scanners_must_be_told(X):
    with pytest.raises(MissingScannerError, match="Nothing tells the scanners: pass y, or an ImageSet with scanner"):
        ScannerClassifier().fit(np.zeros((4, 8, 8)))
    with pytest.raises(InvalidParameterError, match=r"30 images but the scanners have shape \(3,\); expected \(30,\)"):
        ScannerClassifier().fit(X, ["A", "B", "C"])


def test_one_scanner_is_not_enough(X):
    with pytest.raises(NotEnoughImagesError, match=r"at least two scanners; got those of \['A'\]"):
        ScannerClassifier().fit(X[:10])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"probe": "forest"}, "probe must be 'linear' or 'resnet'; got 'forest'"),
        ({"C": 0}, "C must be greater than 0; got 0"),
    ],
)
def test_parameters_out_of_range_are_named(X, parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        ScannerClassifier(**parameters).fit(X)
