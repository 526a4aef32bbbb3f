"""Bodies as material thickness maps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.datasets.anatomy import Body, power_law_texture, ramp
from xray_harmonize.datasets.breast import GLANDULAR_FRACTION, breast
from xray_harmonize.datasets.chest import chest


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def radial_power_exponent(texture: np.ndarray) -> float:
    size = texture.shape[0]
    power = np.abs(np.fft.fft2(texture)) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size, 1 / size), np.fft.fftfreq(size, 1 / size)))
    band = (frequency >= 4) & (frequency <= size / 3)
    return float(-np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0])


@pytest.mark.parametrize("beta", [2.0, 3.0, 4.0])
def test_texture_has_the_power_law_it_was_asked_for(beta: float) -> None:
    assert radial_power_exponent(power_law_texture(128, beta, rng())) == pytest.approx(beta, abs=0.1)


def test_texture_of_odd_size_has_zero_mean_and_unit_deviation() -> None:
    texture = power_law_texture(65, 3.0, rng())
    assert texture.shape == (65, 65)
    assert abs(texture.mean()) < 1e-5
    assert texture.std() == pytest.approx(1.0, rel=1e-5)


@given(low=st.floats(-5, 5), width=st.floats(0.1, 5))
def test_ramp_rises_from_zero_to_one_and_falls_when_turned_round(low: float, width: float) -> None:
    x = np.linspace(-12, 12, 101)
    rising, falling = ramp(x, low, low + width), ramp(x, low + width, low)
    assert np.all(np.diff(rising) >= 0)
    assert rising[0] == 0
    assert rising[-1] == 1
    np.testing.assert_allclose(rising + falling, 1.0, atol=1e-9)


def test_total_sums_all_materials_and_mask_is_where_there_are_any() -> None:
    a, b = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    a[0, 0], b[0, 0], b[1, 1] = 1.0, 2.0, 0.5
    body = Body({"a": a, "b": b}, 0.1)
    assert body.total[0, 0] == 3.0
    assert np.argwhere(body.mask).tolist() == [[0, 0], [1, 1]]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), density=st.sampled_from("ABCD"), size=st.sampled_from([32, 64, 97]))
def test_every_breast_is_physical(seed: int, density: str, size: int) -> None:
    body = breast(density, size, rng(seed))
    for name, path in body.thickness.items():
        assert path.shape == (size, size), name
        assert path.dtype == np.float32, name
        assert np.isfinite(path).all(), name
        assert path.min() >= -1e-5, name
    assert body.total.max() < 8.0
    assert 0.15 < body.mask.mean() < 0.95
    assert body.mask[:, 0].any(), "the breast reaches the chest wall at the left edge"
    assert not body.mask[0, -1], "the corner opposite is air"


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), opacity=st.booleans(), size=st.sampled_from([32, 64, 97]))
def test_every_chest_is_physical(seed: int, opacity: bool, size: int) -> None:
    body = chest(opacity, size, rng(seed))
    for name, path in body.thickness.items():
        assert path.shape == (size, size), name
        assert np.isfinite(path).all(), name
        assert path.min() >= 0, name
    assert 15.0 < body.total.max() < 33.0
    assert 0.1 < (body.thickness["lung"] > 1).mean() < 0.5
    assert (body.thickness["bone"] > 0.1).any()


@pytest.mark.parametrize("density", list("ABCD"))
def test_glandular_fraction_lies_in_the_range_of_its_class(density: str) -> None:
    low, high = GLANDULAR_FRACTION[density]
    for seed in range(5):
        body = breast(density, 64, rng(seed))
        gland, fat = body.thickness["glandular"].sum(), body.thickness["adipose"].sum()
        assert low - 0.01 < gland / (gland + fat) < high + 0.01
        assert body.facts["glandular_fraction"] == pytest.approx(gland / (gland + fat), abs=1e-3)


def test_glandular_fraction_orders_the_classes() -> None:
    fractions = [[breast(c, 48, rng(seed)).facts["glandular_fraction"] for seed in range(6)] for c in "ABCD"]
    for sparser, denser in pairwise(fractions):
        assert max(sparser) < min(denser)


def test_breast_is_skin_at_its_rim_and_thickest_inside() -> None:
    body = breast("B", 128, rng(3))
    total, skin = body.total, body.thickness["skin"]
    rim = (total > 0) & (total < 0.5)
    assert (skin[rim] / total[rim]).mean() > 0.6
    inside = total > 0.98 * body.facts["compressed_cm"]
    np.testing.assert_allclose(skin[inside], 0.3, atol=0.1)


def test_opacity_changes_the_lung_and_nothing_else() -> None:
    for seed in range(6):
        well, ill = chest(False, 64, rng(seed)), chest(True, 64, rng(seed))
        for name in ("soft_tissue", "bone"):
            np.testing.assert_array_equal(well.thickness[name], ill.thickness[name])
        assert well.thickness["fluid"].max() == 0
        np.testing.assert_allclose(ill.thickness["lung"] + ill.thickness["fluid"], well.thickness["lung"], atol=1e-5)
        changed = ill.thickness["fluid"] > 0
        assert (well.thickness["lung"][changed] > 0).all()
        assert 0.005 < ill.facts["fluid_fraction"] < 0.5


@pytest.mark.parametrize(("draw", "label"), [(breast, "C"), (chest, True)])
def test_a_body_repeats_with_its_seed_and_changes_without(draw, label) -> None:  # type: ignore[no-untyped-def]
    first, again, other = draw(label, 48, rng(1)), draw(label, 48, rng(1)), draw(label, 48, rng(2))
    for name in first.thickness:
        np.testing.assert_array_equal(first.thickness[name], again.thickness[name])
    assert np.abs(first.total - other.total).max() > 0.5
