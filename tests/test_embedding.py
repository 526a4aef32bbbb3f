"""Features on a plane."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from xray_harmonize.evaluation.domain import embed
from xray_harmonize.exceptions import InvalidParameterError, MissingDependencyError, NotEnoughImagesError


def two_clouds(n=40, d=10):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, d))
    features[n // 2 :] += 5
    return features


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_two_clouds_lie_apart(method):
    points = embed(two_clouds(), method, random_state=0)
    first, second = points[:20].mean(axis=0), points[20:].mean(axis=0)
    spread = max(points[:20].std(axis=0).max(), points[20:].std(axis=0).max())
    assert points.shape == (40, 2)
    assert points.dtype == np.float64
    assert np.linalg.norm(first - second) > 3 * spread


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_the_same_random_state_gives_the_same_picture(method):
    assert np.array_equal(embed(two_clouds(), method, 3), embed(two_clouds(), method, 3))


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("features", [np.ones((5, 3)), np.arange(6.0)[:, np.newaxis]])
def test_constant_and_single_features_have_a_picture(method, features):
    points = embed(features, method, random_state=0)
    assert points.shape == (len(features), 2)
    assert np.isfinite(points).all()


def test_the_unit_of_a_feature_does_not_matter():
    features = two_clouds()
    assert np.allclose(embed(features), embed(features * np.linspace(1, 1000, 10)))


def test_a_method_that_is_not_known_is_refused():
    with pytest.raises(InvalidParameterError, match="method must be one of 'pca', 'tsne', 'umap'; got 'mds'"):
        embed(two_clouds(), "mds")


def test_three_images_make_no_picture():
    with pytest.raises(NotEnoughImagesError, match="needs at least four images; got 3"):
        embed(np.zeros((3, 2)))


def test_umap_asks_for_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingDependencyError, match="needs the package umap-learn, which is not installed"):
        embed(two_clouds(), "umap")


def test_umap_is_used_where_it_is_installed(monkeypatch):
    asked = {}

    class FakeUMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, points):
            return points[:, :2].astype(np.float32)

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=FakeUMAP))
    points = embed(two_clouds(), "umap", random_state=0)
    assert points.dtype == np.float64
    assert asked["n_components"] == 2
    assert isinstance(asked["random_state"], int)
