"""What the network of GDCE sees of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from xray_harmonize.harmonizers.curve_views import bilinear_view
from xray_harmonize.radiograph import Radiograph


def interpolated(image: np.ndarray, size: int) -> np.ndarray:
    tensor = torch.tensor(np.asarray(image, dtype=np.float32))[None, None]
    view = functional.interpolate(tensor, (size, size), mode="bilinear", align_corners=False, antialias=False)
    return view[0, 0].numpy()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 24), st.integers(0, 99))
def test_a_view_is_torchs_bilinear_interpolation_without_antialiasing(
    height: int, width: int, size: int, seed: int
) -> None:
    image = np.random.default_rng(seed).random((height, width), dtype=np.float32)
    np.testing.assert_allclose(bilinear_view(Radiograph(image), size), interpolated(image, size), atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 999), (300, 7), (16, 16)])
def test_shapes_at_the_edge_are_interpolated_alike(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    np.testing.assert_allclose(bilinear_view(Radiograph(image), 16), interpolated(image, 16), atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "bits_stored", "full"),
    [("uint8", 0, 255), ("uint8", 8, 255), ("uint16", 0, 65535), ("uint16", 12, 4095), ("uint32", 20, 2**20 - 1)],
)
def test_stored_values_are_fractions_of_their_full_scale(dtype: str, bits_stored: int, full: int) -> None:
    image = np.random.default_rng(0).integers(0, full, (21, 33), endpoint=True).astype(dtype)
    image[0, 0] = full
    view = bilinear_view(Radiograph(image, bits_stored), 12)
    assert view.dtype == np.float32
    np.testing.assert_allclose(view, interpolated(image / full, 12), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_floats_are_taken_as_they_are(dtype: str) -> None:
    image = np.random.default_rng(0).random((10, 14)).astype(dtype)
    view = bilinear_view(Radiograph(image), 6)
    assert view.dtype == np.float32
    np.testing.assert_allclose(view, interpolated(image, 6), atol=1e-6)


def test_what_is_masked_out_is_black() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 4096, (20, 26)).astype("uint16"), rng.random((20, 26)) < 0.7
    view = bilinear_view(Radiograph(image, 12, mask=mask), 16)
    np.testing.assert_allclose(view, interpolated(np.where(mask, image / 4095, 0), 16), atol=1e-6)


def test_views_stay_in_the_unit_interval() -> None:
    white = bilinear_view(Radiograph(np.full((50, 70), 65535, dtype="uint16")), 33)
    assert white.max() <= 1
    np.testing.assert_allclose(white, 1, atol=1e-6)


def test_strided_images_and_windows_into_others_are_read_rightly() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60)).astype("uint8")
    for part in (image[::2, ::3], image[::-1], image.T, image[3:17, 5:9]):
        own: Any = np.ascontiguousarray(part)
        np.testing.assert_array_equal(bilinear_view(Radiograph(part), 11), bilinear_view(Radiograph(own), 11))
