"""The tables of the interpretable mapping, and the network and loss behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.networks.mapping import (
    MappingNetwork,
    apply_maps,
    global_lut,
    inverse_global_lut,
    regional_lut,
)
from xray_harmonize.networks.rendering import RenderingLoss

X = torch.linspace(0, 1, 201, dtype=torch.float64)

slopes = st.floats(0.1, 10)
biases = st.floats(-1, 1)
centers = st.floats(0, 1)
widths = st.floats(0.001, 10)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_the_regional_table_has_three_pieces() -> None:
    y = regional_lut(X, number(2.0), number(-0.5))
    assert (y[X <= 0.25] == 0).all()
    assert (y[X >= 0.75] == 1).all()
    torch.testing.assert_close(y[100], number(0.5))


@given(slopes, biases, centers, widths, st.sampled_from(["endpoint", "dicom"]))
def test_every_table_rises_and_stays_in_range(a: float, b: float, wc: float, ww: float, rescale: str) -> None:
    y = global_lut(regional_lut(X, number(a), number(b)), number(wc), number(ww), rescale)
    assert (y.diff() >= -1e-12).all()
    assert y.isfinite().all()
    assert -1e-12 <= y.min() <= y.max() <= 1 + 1e-12


@given(centers, widths)
def test_the_rescaled_sigmoid_leaves_black_and_white(wc: float, ww: float) -> None:
    y = global_lut(X, number(wc), number(ww))
    assert (float(y[0]), float(y[-1])) == pytest.approx((0, 1), abs=1e-12)


def test_the_sigmoid_of_the_standard_never_reaches_its_ends() -> None:
    y = 65535 * global_lut(X, number(0.5), number(1.0), "dicom")
    assert (float(y[0]), float(y[-1])) == pytest.approx((7812, 57723), abs=1)


@pytest.mark.parametrize("ww", [0.2, 1.0, 3.0])
def test_the_sigmoids_slope_at_its_centre_is_that_of_a_linear_window(ww: float) -> None:
    step = 1e-6
    low, high = global_lut(
        number(0.4) + torch.tensor([-step, step], dtype=torch.float64), number(0.4), number(ww), "dicom"
    )
    assert float(high - low) / (2 * step) == pytest.approx(1 / ww, rel=1e-5)


def test_a_wide_window_is_the_identity_once_rescaled() -> None:
    torch.testing.assert_close(global_lut(X, number(0.5), number(1e3)), X, atol=1e-5, rtol=0)


def test_the_narrowest_windows_do_not_overflow() -> None:
    with np.errstate(all="raise"):
        y = global_lut(X.float(), torch.tensor(0.5), torch.tensor(1e-3))
    assert y.isfinite().all()
    assert set(y[[0, 60, 140, 200]].tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("rescale", ["endpoint", "dicom"])
def test_the_sigmoid_is_undone(rescale: str) -> None:
    wc, ww = number(0.4), number(0.6)
    y = global_lut(X, wc, ww, rescale)
    torch.testing.assert_close(inverse_global_lut(y, wc, ww, rescale)[5:-5], X[5:-5], atol=1e-6, rtol=0)


def test_every_pixel_goes_through_its_own_table() -> None:
    maps = torch.tensor([[1.0, 2.0], [0.0, -0.5], [0.5, 0.5], [1e3, 1e3]]).view(1, 4, 1, 2)
    mapped = apply_maps(torch.full((1, 1, 1, 2), 0.4), maps)
    assert mapped.flatten().tolist() == pytest.approx([0.4, 0.3], abs=1e-3)


@pytest.mark.parametrize("rescale", ["endpoint", "dicom"])
def test_maps_lie_where_they_mean_something_whatever_the_weights(rescale: str) -> None:
    network = MappingNetwork(features=4, rescale=rescale)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=2.0, generator=torch.Generator().manual_seed(0))
    images = torch.rand(2, 1, 33, 40)
    a, b, wc, ww = network(images, torch.ones_like(images)).unbind(1)
    assert 0.0999 <= a.min() <= a.max() <= 10.001
    assert b.abs().max() <= 1
    assert 0 <= wc.min() <= wc.max() <= 1
    assert 0 < ww.min() <= ww.max() <= 10


def parts(known: bool) -> dict[str, torch.Tensor]:
    images = torch.full((1, 1, 8, 8), 0.5)
    truth = torch.tensor([1.0, 0.0, 0.5, 2.0]).view(1, 4, 1, 1).expand(1, 4, 8, 8)
    weight = torch.ones(1, 1, 8, 8)
    return {"source": images, "target": images, "weight": weight, "maps": truth, "known": torch.tensor([known])}


def test_the_loss_has_a_term_for_the_image_and_one_for_each_known_map() -> None:
    batch = parts(known=True)
    for k in range(4):
        maps = batch["maps"].clone()
        maps[:, k] += 0.1
        loss = RenderingLoss(MappingNetwork(features=4))
        image_term = loss.distance(maps, batch)
        assert float(loss(maps, batch) - image_term) == pytest.approx(0.01, rel=1e-4)
        weighted = RenderingLoss(MappingNetwork(features=4, map_weight=0.5))
        assert float(weighted(maps, batch) - image_term) == pytest.approx(0.005, rel=1e-4)
    assert float(loss(batch["maps"], batch)) == pytest.approx(0, abs=1e-9)


def test_maps_whose_truth_is_unknown_are_held_smooth_instead() -> None:
    batch = parts(known=False)
    loss = RenderingLoss(MappingNetwork(features=4, smoothness=0.1))
    level = batch["maps"] + 0.3
    assert float(loss(level, batch) - loss.distance(level, batch)) == pytest.approx(0, abs=1e-7)
    rough = batch["maps"].clone()
    rough[:, 0, ::2] += 0.2
    assert float(loss(rough, batch) - loss.distance(rough, batch)) == pytest.approx(0.1 * 0.2, rel=1e-4)


def test_pixels_that_do_not_count_do_not_count_in_any_term() -> None:
    batch = parts(known=True)
    batch["weight"] = batch["weight"].clone()
    batch["weight"][..., :4] = 0
    maps = batch["maps"].clone()
    maps[..., :4] += 1
    assert float(RenderingLoss(MappingNetwork(features=4))(maps, batch)) == pytest.approx(0, abs=1e-9)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="rescale must be 'endpoint' or 'dicom'; got 'minmax'"):
        MappingNetwork(rescale="minmax")
    with pytest.raises(InvalidParameterError, match="smoothness must be 0 or more; got -1"):
        MappingNetwork(smoothness=-1)
