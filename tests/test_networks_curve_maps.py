"""Networks of DLBC and Sup-DCE: a window an image, a curve a pixel."""

from __future__ import annotations

import pytest
import torch

from xray_harmonize.networks.curve import apply_curve
from xray_harmonize.networks.dce import CurveMaps, apply_curve_maps
from xray_harmonize.networks.dlbc import WindowNetwork, linear_window


def test_one_curve_everywhere_is_the_curve_of_gdce() -> None:
    images = torch.rand(2, 1, 4, 5, dtype=torch.float64)
    alpha = torch.tensor([[0.3, -0.7, 0.9], [-0.2, 0.1, 0.5]], dtype=torch.float64)
    maps = alpha[:, :, None, None].expand(-1, -1, 4, 5)
    torch.testing.assert_close(apply_curve_maps(images, maps), apply_curve(images, alpha))


def test_coefficients_above_zero_brighten() -> None:
    grey = torch.full((1, 1, 1, 1), 0.5)
    assert (
        apply_curve_maps(grey, torch.full((1, 8, 1, 1), 0.1))
        > 0.5
        > apply_curve_maps(grey, torch.full((1, 8, 1, 1), -0.1))
    )


def test_the_network_is_zero_dces_with_a_map_an_iteration() -> None:
    network = CurveMaps()
    assert [layer.in_channels for layer in network.layers] == [1, 32, 32, 32, 64, 64]
    assert (network.last.in_channels, network.last.out_channels) == (64, 8)
    torch.nn.init.normal_(network.last.weight)
    images = torch.rand(1, 1, 9, 7)
    maps = network(images, torch.ones_like(images))
    assert maps.shape == (1, 8, 9, 7)
    assert maps.abs().max() <= 1


def test_a_window_is_linear_between_its_ends() -> None:
    y = linear_window(torch.tensor([0.1, 0.3, 0.4, 0.5, 0.9]), torch.tensor(0.4), torch.tensor(0.2))
    assert y.tolist() == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-6)


def test_windows_have_a_width_whatever_the_weights() -> None:
    network = WindowNetwork(2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=5.0, generator=torch.Generator().manual_seed(0))
    images = torch.rand(4, 1, 32, 32)
    center, width = network(images, torch.ones_like(images)).unbind(1)
    assert width.min() >= 0.01
    assert -0.5 <= center.min() <= center.max() <= 1.5
    rendered = network.render(images, torch.stack([center, width], dim=1))
    assert 0 <= rendered.min() <= rendered.max() <= 1


def test_a_network_of_windows_starts_at_the_identity() -> None:
    images = torch.rand(2, 1, 32, 32)
    network = WindowNetwork(2)
    torch.testing.assert_close(network.render(images, network(images, torch.ones_like(images))), images)
