"""Features of an audit: right rows for right images, computed once."""

from __future__ import annotations

import numpy as np
import pytest
from audit_images import cohort_of, made
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from xray_harmonize import CDFMatching, FullRange, ImageSet, IntensityFeatures
from xray_harmonize.auditing.features import AuditFeatures, in_order_of_images
from xray_harmonize.auditing.rendering import rendered
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.image_transformer import ImageTransformer


class Means(ImageTransformer):
    """Mean grey value of each image; counts how many it was shown."""

    shown = 0

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        Means.shown += len(X)
        return [[X.unit(i).mean() + (0 if X.mask(i) is None else 10)] for i in range(len(X))]


@pytest.fixture(scope="module")
def cohort():
    return cohort_of(*made())


def test_rows_are_those_of_the_transformer(cohort):
    halves = rendered("CDF", CDFMatching(scope="scanner"), cohort)
    found = AuditFeatures(IntensityFeatures()).of(halves)
    for half, (tested, home) in zip(halves, found, strict=True):
        assert np.array_equal(tested, IntensityFeatures().fit_transform(half.images))
        assert np.array_equal(home, IntensityFeatures().fit_transform(half.home_images))


def test_rows_of_all_images_come_in_their_order(cohort):
    halves = rendered("none", FullRange(), cohort)
    rows = in_order_of_images(halves, AuditFeatures(Means()).of(halves))
    assert np.allclose(rows[:, 0], [cohort.X.unit(i).mean() for i in range(len(cohort.X))])


def test_an_image_is_looked_at_once_however_often_it_comes(cohort):
    features = AuditFeatures(Means())
    Means.shown = 0
    for _ in range(2):
        features.of(rendered("none", FullRange(), cohort))
    assert Means.shown == len(cohort.X)


def test_images_that_differ_in_mask_or_bits_alone_are_not_mixed_up(cohort):
    pixels = np.full((2, 16, 16), 7, np.uint16)
    X = ImageSet(pixels, scanner="A", bits_stored=[8, 12], mask=[None, None])
    masked = ImageSet(pixels[:1], scanner="A", bits_stored=8, mask=[np.eye(16, dtype=bool)])
    features = AuditFeatures(Means())
    rows = [features._of_images(one)[:, 0] for one in (X, masked)]
    assert np.unique(np.concatenate(rows)).size == 3


class Learner(TransformerMixin, BaseEstimator):
    """Mean less the mean of what it was fitted to."""

    fits = 0

    def fit(self, X, y=None):
        Learner.fits += 1
        self.mean_ = np.mean([X.unit(i).mean() for i in range(len(X))])
        return self

    def transform(self, X):
        return np.array([[X.unit(i).mean() - self.mean_] for i in range(len(X))])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        return tags


def test_a_transformer_that_learns_is_fitted_at_home_once_a_rendering(cohort):
    features = AuditFeatures(Learner())
    Learner.fits = 0
    halves = rendered("none", FullRange(), cohort)
    found = [features.of(halves), features.of(rendered("none", FullRange(), cohort))]
    assert Learner.fits == 2
    assert np.array_equal(found[0][0][0], found[1][0][0])
    assert abs(found[0][0][1].mean()) < 1e-6


def test_pipelines_are_transformers_too(cohort):
    found = AuditFeatures(make_pipeline(IntensityFeatures(), PCA(3))).of(rendered("none", FullRange(), cohort))
    assert found[0][0].shape[1] == 3


class Wrong(Means):
    def __init__(self, rows):
        self.rows = rows

    def transform(self, X):
        return self.rows


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.ones((3, 2)), "features must give one row of numbers an image, .* here; got 3"),
        (np.full((44, 2), np.nan), "features must be finite; row 0 holds nan"),
        (np.ones(44), "features must have the shape"),
        ([["a"]] * 44, "features must be a table of numbers"),
    ],
)
def test_what_gives_no_rows_of_numbers_is_refused(cohort, rows, said):
    with pytest.raises(InvalidParameterError, match=said):
        AuditFeatures(Wrong(rows)).of(rendered("none", FullRange(), cohort))
