"""The residual U-Net, and how global statistics pass its normalization."""

from __future__ import annotations

import pytest
import torch

from xray_harmonize.networks.rendering import N_STATISTICS, global_statistics
from xray_harmonize.networks.resunet import ImageToImage, ResidualImage, ResidualUNet


def randomized(network: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return network.eval()


def images(n: int = 2, height: int = 48, width: int = 64) -> torch.Tensor:
    return 0.2 + 0.4 * torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(1))


def test_the_backbone_has_five_levels_of_three_convolutions_with_32_features() -> None:
    network = ResidualUNet(4)
    assert (len(network.encoder), len(network.decoder)) == (5, 4)
    kernels = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(kernels) == 3 * (5 + 4)
    assert {kernel.out_channels for kernel in kernels} == {32}


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (100, 32)])
def test_any_size_from_32_pixels_on_goes_through(height: int, width: int) -> None:
    view = images(1, height, width)
    for network in (ImageToImage(4), ResidualImage(4)):
        assert network(view, torch.ones_like(view)).shape == view.shape


def test_untrained_networks_answer_with_nothing() -> None:
    view = images()
    assert ResidualUNet(3, features=4)(view, torch.ones_like(view)).abs().max() == 0
    network = ResidualImage(4)
    torch.testing.assert_close(network.render(view, network(view, torch.ones_like(view))), view)


def test_normalization_hides_brightness_and_contrast_from_the_published_network() -> None:
    """A constant channel beside the image could not help: what is constant is normalized away."""
    network = randomized(ResidualUNet(1, features=8, statistics=False))
    view = images()
    weight = torch.ones_like(view)
    inside = (..., slice(16, 32), slice(16, 48))
    first, second = network(view, weight)[inside], network(0.5 * view + 0.3, weight)[inside]
    spread = first.std()
    # What is left of the difference comes in over the border, where zeros stand beside the image.
    assert (first - second).abs().mean() < 0.5 * spread
    told = randomized(ResidualUNet(1, features=8))
    first, second = told(view, weight)[inside], told(0.5 * view + 0.3, weight)[inside]
    assert (first - second).abs().mean() > 0.5 * spread


def test_statistics_are_quantiles_mean_and_deviation_of_what_counts() -> None:
    view = torch.cat([torch.full((1, 1, 4, 4), 0.25), torch.full((1, 1, 4, 4), 0.75)], dim=3)
    everything = global_statistics(view, torch.ones_like(view))[0]
    assert everything.shape == (N_STATISTICS,)
    assert everything.tolist() == pytest.approx([-0.5] * 8 + [0.5] * 8 + [0.0, 0.5])
    half = torch.cat([torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)], dim=3)
    assert global_statistics(view, half)[0].tolist() == pytest.approx([-0.5] * 17 + [0.0])
    assert torch.isfinite(global_statistics(view, torch.zeros_like(view))).all()


def test_statistics_do_not_depend_on_where_greys_are() -> None:
    view = images(1)
    mirrored = view.flip(-1)
    weight = torch.ones_like(view)
    torch.testing.assert_close(global_statistics(view, weight), global_statistics(mirrored, weight))


def test_a_residual_is_added_and_stays_in_range() -> None:
    network = ResidualImage(4)
    assert network.render(torch.tensor([0.2, 0.9]), torch.tensor([0.1, 0.4])).tolist() == pytest.approx([0.3, 1.0])
