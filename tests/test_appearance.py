"""What an image looks like in a few numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.harmonizers.appearance import N_NUMBERS, appearance
from xray_harmonize.radiograph import Radiograph


def body(side: int = 128, noise: float = 0.01, seed: int = 0) -> np.ndarray:
    """A bright disc with texture in dark air."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    image = 0.1 + 0.6 * np.exp(-8 * (x**2 + y**2))
    return (image + noise * np.random.default_rng(seed).standard_normal(image.shape)).clip(0, 1).astype("float32")


def test_stored_values_and_fractions_of_full_scale_look_alike() -> None:
    stored = np.rint(body() * 4095).astype(np.uint16)
    as_stored = appearance(Radiograph(stored, bits_stored=12))
    np.testing.assert_allclose(as_stored, appearance(Radiograph(stored / np.float32(4095))), atol=1e-5)


def test_a_curve_changes_contrast_most_where_it_is_steepest() -> None:
    plain, bent = (appearance(Radiograph(image)) for image in (body(), body() ** 2))
    slopes = (bent - plain)[-4:]
    assert (np.diff(slopes) > 0).all()
    assert slopes[0] < 0 < slopes[-1]


def test_noise_shows_in_the_finest_band_first() -> None:
    quiet, loud = (appearance(Radiograph(body(noise=noise))) for noise in (0.01, 0.03))
    bands = (loud - quiet)[9:13]
    assert bands[0] > 0.9
    assert bands[0] > bands[-1]


def test_a_larger_matrix_of_the_same_scene_looks_much_alike() -> None:
    small = body(noise=0)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_allclose(appearance(Radiograph(large)), appearance(Radiograph(small)), atol=0.02)


def test_pixels_that_do_not_count_do_not_matter() -> None:
    mask = np.zeros((128, 128), dtype=bool)
    mask[20:100, 30:110] = True
    other = body()
    other[~mask] = 0.9
    one, two = (appearance(Radiograph(image, mask=mask)) for image in (body(), other))
    np.testing.assert_allclose(one[:9], two[:9])
    # Blurring reaches over the border, by less than the masks' margin but for the widest bands.
    np.testing.assert_allclose(one[[9, *range(13, 21)]], two[[9, *range(13, 21)]], atol=0.1)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_every_image_has_finite_numbers(height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(height * 100 + width)
    mask = rng.random((height, width)) < share
    mask.flat[0] = True
    numbers = appearance(Radiograph(rng.random((height, width), dtype="float32"), mask=mask))
    assert numbers.shape == (N_NUMBERS,)
    assert np.isfinite(numbers).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_image_without_contrast_has_numbers_too(value: float) -> None:
    assert np.isfinite(appearance(Radiograph(np.full((9, 7), value, dtype="float32")))).all()


def test_values_beyond_full_scale_are_refused_by_name() -> None:
    with pytest.raises(InvalidImageError, match=r"a\.png"):
        appearance(Radiograph(np.full((9, 7), 2.0, dtype="float32"), name="a.png"))
