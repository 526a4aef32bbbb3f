"""Images of any size as equal squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.classifiers.frames import frame_batches, frames, to_square
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.images import ImageSet


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), size=st.integers(8, 40))
def test_a_flat_image_stays_flat_whatever_its_shape(height: int, width: int, size: int) -> None:
    square = to_square(np.full((height, width), 0.3, dtype=np.float32), size)
    assert square.shape == (size, size)
    np.testing.assert_allclose(square, 0.3, atol=1e-6)


def test_shrinking_averages_areas() -> None:
    image = np.random.default_rng(0).random((48, 32)).astype(np.float32)
    expected = image.reshape(16, 3, 16, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(to_square(image, 16), expected, atol=1e-6)


def test_an_image_that_fits_is_kept_to_the_bit() -> None:
    image = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    np.testing.assert_array_equal(to_square(image, 16), image)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (5, 7)])
def test_thin_and_small_images_are_filled_up(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    square = to_square(image, 16)
    assert square.shape == (16, 16)
    assert image.min() <= square.min() <= square.max() <= image.max()


def test_integers_are_scaled_by_their_bits() -> None:
    tensor = frames(ImageSet(np.full((2, 9, 9), 4095, dtype=np.uint16), bits_stored=12), 8)
    assert tensor.unique().tolist() == [1.0]


def test_batches_together_are_all_frames() -> None:
    X = ImageSet(np.random.default_rng(0).random((5, 9, 9)))
    together = np.concatenate([batch.numpy() for batch in frame_batches(X, 8, 2)])
    np.testing.assert_array_equal(together, frames(X, 8).numpy())


def test_z_scores_pass_where_any_range_is_taken() -> None:
    X = ImageSet([np.array([[-2.0, 0.0], [1.0, 3.0]], dtype=np.float32)])
    assert frames(X, 2, "any")[0, 0].tolist() == [[-2.0, 0.0], [1.0, 3.0]]


def test_any_range_does_not_take_nan() -> None:
    with pytest.raises(InvalidImageError, match=r"Image 0 holds NaN or infinite pixels"):
        frames(ImageSet([np.array([[np.nan, 0.0]])]), 2, "any")


def test_an_unknown_range_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"input_range must be 'unit' or 'any'; got 'full'"):
        frames(ImageSet([np.zeros((2, 2))]), 2, "full")
