"""What was found for a small copy, brought to the image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.geometry.resampling import resampled
from xray_harmonize.harmonizers.carried_detail import carry_over, local_gain

IMAGE = np.random.default_rng(0).random((40, 56), dtype="float32")
FRAME = resampled(IMAGE, (8, 8))


def test_what_is_as_large_as_its_copy_becomes_what_was_found() -> None:
    found = np.random.default_rng(1).random((8, 8), dtype="float32")
    np.testing.assert_array_equal(carry_over(FRAME, FRAME, found), found)


def test_nothing_found_is_nothing_changed() -> None:
    np.testing.assert_allclose(carry_over(IMAGE, FRAME, FRAME), IMAGE, atol=1e-6)


@given(st.floats(0.1, 0.9), st.floats(0, 0.1))
def test_a_linear_change_is_that_change_of_the_image(gain: float, offset: float) -> None:
    changed = carry_over(IMAGE, FRAME, np.float32(gain) * FRAME + np.float32(offset))
    np.testing.assert_allclose(changed, gain * IMAGE + offset, atol=1e-5)


def test_detail_gets_the_contrast_of_its_surroundings() -> None:
    ramp = np.linspace(0.2, 0.4, 64, dtype="float32")[None].repeat(64, axis=0)
    detail = 0.01 * (np.indices((64, 64)).sum(axis=0) % 2).astype("float32")
    image = ramp + detail
    frame = resampled(image, (16, 16))
    found = np.where(np.arange(16) < 8, frame, frame[:, 8:9] + 2 * (frame - frame[:, 8:9])).astype("float32")
    changed = carry_over(image, frame, found)
    left, right = (float(np.abs(np.diff(changed[:, part], axis=0)).mean()) for part in (slice(8, 16), slice(48, 56)))
    assert left == pytest.approx(0.01, rel=0.2)
    assert right == pytest.approx(0.02, rel=0.2)


def test_detail_is_never_turned_into_its_negative() -> None:
    assert local_gain(FRAME, 1 - FRAME).min() >= 0
    assert local_gain(FRAME, np.clip(20 * FRAME, 0, 1)).max() <= 4


def test_a_flat_copy_tells_nothing_and_detail_stays() -> None:
    flat = np.full((8, 8), 0.3, dtype="float32")
    np.testing.assert_array_equal(local_gain(flat, FRAME), np.ones((8, 8), dtype="float32"))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (8, 100), (100, 1)])
def test_images_of_any_shape_keep_it_and_the_range(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(2).random(shape, dtype="float32")
    changed = carry_over(image, resampled(image, (8, 8)), np.clip(1.5 * resampled(image, (8, 8)), 0, 1))
    assert changed.shape == shape
    assert 0 <= changed.min() <= changed.max() <= 1
