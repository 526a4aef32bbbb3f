"""Tube, beam, scatter, detector, quanta."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xray_harmonize.datasets.anatomy import Body
from xray_harmonize.datasets.physics import TISSUES, Acquisition, attenuation_image, tube_beam
from xray_harmonize.exceptions import InvalidParameterError

MAMMOGRAPHY = Acquisition(28.0, 80.0, "W", (("Rh", 0.05),), "a-Se", scatter=0.0, blur_mm=0.0)
CHEST = Acquisition(110.0, 2.0, "W", (("Al", 2.5),), "CsI-thick", 180.0, scatter=0.0, blur_mm=0.0)


def slab(size: int = 64, **left_and_right: tuple[float, float]) -> Body:
    """A body of two halves, each so many cm of each material."""
    thickness = {}
    for name, (left, right) in left_and_right.items():
        path = np.full((size, size), left, dtype=np.float32)
        path[:, size // 2 :] = right
        thickness[name] = path
    return Body(thickness, pixel_cm=0.1)


def contrast(body: Body, acquisition: Acquisition) -> float:
    image = attenuation_image(body, acquisition)
    return float(image[:, -8:].mean() - image[:, :8].mean())


@pytest.mark.parametrize(
    ("acquisition", "voltages", "body"),
    [
        (MAMMOGRAPHY, (24.0, 28.0, 34.0), slab(adipose=(4.0, 2.0), glandular=(0.0, 2.0))),
        (CHEST, (70.0, 100.0, 130.0), slab(soft_tissue=(15.0, 15.0), bone=(0.0, 1.0))),
    ],
)
def test_higher_kvp_lowers_contrast(acquisition: Acquisition, voltages: tuple[float, ...], body: Body) -> None:
    contrasts = [contrast(body, replace(acquisition, kvp=kvp)) for kvp in voltages]
    assert contrasts[0] > contrasts[1] > contrasts[2] > 0


def test_higher_kvp_and_thicker_filter_harden_the_beam() -> None:
    soft = tube_beam(60.0, "W", (("Al", 2.5),))
    assert tube_beam(100.0, "W", (("Al", 2.5),)).mean_energy_kev > soft.mean_energy_kev
    assert tube_beam(60.0, "W", (("Al", 6.0),)).mean_energy_kev > soft.mean_energy_kev


def test_lower_mas_raises_noise_by_the_square_root() -> None:
    body = slab(128, adipose=(4.0, 4.0))
    noise = [attenuation_image(body, replace(MAMMOGRAPHY, mas=mas), np.random.default_rng(0)).std() for mas in (80, 20)]
    assert noise[1] / noise[0] == pytest.approx(2.0, rel=0.05)


def test_noise_leaves_the_mean_signal_where_it_is() -> None:
    body = slab(128, adipose=(4.0, 4.0))
    clean = attenuation_image(body, MAMMOGRAPHY)
    noisy = attenuation_image(body, MAMMOGRAPHY, np.random.default_rng(0))
    assert np.exp(-noisy).mean() == pytest.approx(np.exp(-clean).mean(), rel=2e-3)


def test_a_starved_detector_stays_finite() -> None:
    image = attenuation_image(
        slab(soft_tissue=(40.0, 40.0), bone=(10.0, 10.0)), replace(CHEST, mas=0.01), np.random.default_rng(0)
    )
    assert np.isfinite(image).all()


def test_air_has_no_attenuation() -> None:
    image = attenuation_image(slab(adipose=(0.0, 5.0)), MAMMOGRAPHY)
    np.testing.assert_allclose(image[:, 0], 0.0, atol=1e-5)


def test_the_beam_hardens_on_its_way() -> None:
    thin, thick = (attenuation_image(slab(adipose=(t, t)), MAMMOGRAPHY).mean() for t in (1.0, 6.0))
    assert thick < 6.0 * thin


def test_few_bins_give_the_attenuation_of_the_full_spectrum() -> None:
    def attenuation(n_bins: int) -> float:
        beam = tube_beam(29.0, "W", (("Rh", 0.05),), n_bins=n_bins)
        energy = beam.quanta * beam.energy_kev
        left = np.exp(-4.0 * beam.attenuation["adipose"] - 2.0 * beam.attenuation["glandular"])
        return float(-np.log((energy * left).sum() / energy.sum()))

    assert attenuation(16) == pytest.approx(attenuation(1000), rel=0.005)


def test_tissues_attenuate_as_tabulated() -> None:
    # NIST (Hubbell and Seltzer), cm2/g: water 0.810 at 20 keV and 0.2059 at 60 keV, cortical bone 0.3148 at 60 keV.
    beam = tube_beam(120.0, "W", (("Al", 2.5),), n_bins=400)

    def at(tissue: str, kev: float) -> float:
        return float(np.interp(kev, beam.energy_kev, beam.attenuation[tissue]))

    assert at("fluid", 60.0) == pytest.approx(0.2059, rel=0.02)
    assert at("fluid", 20.0) == pytest.approx(0.810, rel=0.05)
    assert at("bone", 60.0) == pytest.approx(0.3148 * 1.92, rel=0.03)
    assert at("adipose", 20.0) < at("glandular", 20.0) < at("bone", 20.0)


def test_mass_fractions_of_each_tissue_sum_to_one() -> None:
    for name, (_, composition) in TISSUES.items():
        assert sum(composition.values()) == pytest.approx(1.0, abs=1e-6), name


def test_scatter_lowers_contrast_and_blur_lowers_sharpness() -> None:
    body = slab(adipose=(4.0, 2.0), glandular=(0.0, 2.0))
    assert contrast(body, replace(MAMMOGRAPHY, scatter=0.1)) < contrast(body, MAMMOGRAPHY)
    sharp, blurred = (attenuation_image(body, replace(MAMMOGRAPHY, blur_mm=b)) for b in (0.0, 2.0))
    assert np.abs(np.diff(blurred, axis=1)).max() < np.abs(np.diff(sharp, axis=1)).max()


def test_the_same_settings_give_the_same_beam_object() -> None:
    assert tube_beam(28.0, "Mo", (("Mo", 0.03),)) is tube_beam(28.0, "Mo", (("Mo", 0.03),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anode": "Cu"}, "anode must be one of Mo, Rh, W; got 'Cu'"),
        ({"detector": "film"}, "detector must be one of a-Se, .*; got 'film'"),
        ({"mas": 0}, "mas must be positive; got 0"),
        ({"kvp": float("nan")}, "kvp must be positive; got nan"),
        ({"scatter": -0.1}, "scatter must not be negative; got -0.1"),
    ],
)
def test_impossible_acquisitions_are_refused_by_name(change: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        replace(MAMMOGRAPHY, **change)


@pytest.mark.parametrize(
    "change", [{"kvp": 5.0}, {"kvp": 120.0, "anode": "Mo"}, {"filtration": (("Unobtainium", 1.0),)}]
)
def test_a_spectrum_that_the_tube_model_lacks_is_refused(change: dict) -> None:
    with pytest.raises(InvalidParameterError, match="No tube spectrum for kvp="):
        attenuation_image(slab(adipose=(1.0, 1.0)), replace(MAMMOGRAPHY, **change))
