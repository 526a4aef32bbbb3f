"""IntensityFeatures: quantiles and band energies of images."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from xray_harmonize import ImageSet, IntensityFeatures, load, save
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError


@pytest.fixture
def images(rng):
    return rng.random((4, 30, 20)).astype("float32")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_quantiles_are_those_of_the_grey_values(images):
    rows = IntensityFeatures(n_quantiles=3, n_bands=0).fit_transform(images)
    np.testing.assert_allclose(rows[1], np.quantile(images[1], [1 / 6, 0.5, 5 / 6]), rtol=1e-6)


def test_pixels_outside_the_mask_do_not_count(images):
    mask = np.zeros((30, 20), dtype=bool)
    mask[:5] = True
    masked = ImageSet(images, mask=[mask] * 4)
    rows = IntensityFeatures(n_quantiles=1, n_bands=0).transform(masked)
    np.testing.assert_allclose(rows[:, 0], np.median(images[:, :5].reshape(4, -1), axis=1), rtol=1e-6)


def test_stored_values_and_their_fractions_have_the_same_features(rng):
    stored = rng.integers(0, 4096, (2, 16, 16)).astype("uint16")
    features = IntensityFeatures()
    rows = features.transform(ImageSet(stored, bits_stored=12))
    np.testing.assert_allclose(rows, features.transform((stored / 4095).astype("float32")), atol=1e-5)


def test_blurring_takes_energy_from_the_finest_band(images):
    import cv2

    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 2.0) for image in images])
    features = IntensityFeatures(n_quantiles=1, n_bands=3, image_size=16)
    assert (features.transform(smooth)[:, 1] < features.transform(images)[:, 1]).all()


def test_rows_do_not_depend_on_the_other_images(images):
    features = IntensityFeatures()
    np.testing.assert_array_equal(features.transform(images)[2], features.transform(images[[2]])[0])


def test_constant_image_has_finite_features():
    assert np.isfinite(IntensityFeatures().transform(np.full((1, 20, 20), 0.5, dtype="float32"))).all()


def test_no_image_gives_no_row():
    assert IntensityFeatures().transform(ImageSet([])).shape == (0, 37)


def test_columns_have_names():
    names = IntensityFeatures(n_quantiles=2, n_bands=1).get_feature_names_out()
    assert names.tolist() == ["quantile_0.25", "quantile_0.75", "band_1"]


def test_is_cloned_and_saved(images, tmp_path):
    features = clone(IntensityFeatures(n_bands=2)).fit(images)
    save(features, tmp_path / "features.npz")
    np.testing.assert_array_equal(load(tmp_path / "features.npz").transform(images), features.transform(images))


def test_scores_beyond_one_are_taken_unless_told_otherwise(images):
    assert IntensityFeatures().transform(images * 5 - 2).shape == (4, 37)
    with pytest.raises(InvalidImageError, match=r"\[0, 1\]"):
        IntensityFeatures(input_range="unit").transform(images * 5)


def test_nan_is_refused(images):
    images[2, 0, 0] = np.nan
    with pytest.raises(InvalidImageError, match="Image 2 holds NaN or infinite pixels; replace them"):
        IntensityFeatures().transform(images)


def test_image_whose_mask_is_empty_is_refused(images):
    empty = ImageSet(images, mask=[np.zeros((30, 20), dtype=bool)] * 4)
    with pytest.raises(InvalidImageError, match="Image 0: its mask leaves no pixel, expected at least one"):
        IntensityFeatures().transform(empty)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_quantiles": 0}, "n_quantiles must be a whole number, at least 1; got 0"),
        ({"n_bands": -1}, "n_bands must be a whole number, at least 0; got -1"),
        ({"image_size": 2.5}, "image_size must be a whole number, at least 8; got 2.5"),
        ({"input_range": "all"}, "input_range must be 'unit' or 'any'; got 'all'"),
    ],
)
def test_parameters_out_of_range_are_named(images, parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        IntensityFeatures(**parameters).fit(images)
