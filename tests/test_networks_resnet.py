"""The network itself, and batch-norm statistics measured anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xray_harmonize.networks.batch_norm import fold_batch_norm, reestimate_batch_norm
from xray_harmonize.networks.resnet import RadiographResNet, n_features, resnet_backbone


def n_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("depth", "published"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_the_published_networks_have_their_published_number_of_weights(depth: int, published: int) -> None:
    last_layer = n_features(depth, 64) * 1000 + 1000
    assert n_weights(resnet_backbone(depth, 64, 3)) + last_layer == published


def test_names_are_those_of_the_common_weight_files() -> None:
    names = set(resnet_backbone(50, 4, 3).state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer4.2.conv3.weight"} <= names
    assert "layer1.0.downsample.0.bias" not in names


def test_the_mlp_head_of_a_resnet_50_is_the_released_classifiers() -> None:
    head = RadiographResNet(4, depth=50, head="mlp", dropout=0.5).head
    sizes = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
    assert sizes == [(2048, 1024), (1024, 512), (512, 4)]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize("size", [8, 33, 64])
def test_any_image_size_goes_through(size: int) -> None:
    network = RadiographResNet(3, depth=10, width=4).eval()
    assert network(torch.zeros(2, 1, size, size)).shape == (2, 3)
    assert network.features(torch.zeros(2, 1, size, size)).shape == (2, 32)


def test_gradients_reach_every_weight() -> None:
    network = RadiographResNet(2, depth=10, width=4)
    network(torch.rand(4, 1, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


# -- batch-norm statistics --------------------------------------------------------------------------------------------


def statistics(network: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in network.state_dict().items() if "running" in name}


def pair() -> tuple[RadiographResNet, torch.Tensor]:
    torch.manual_seed(0)
    return RadiographResNet(2, depth=10, width=4), torch.rand(24, 1, 32, 32)


def test_normalizing_by_the_new_statistics_centres_what_was_measured() -> None:
    network, images = pair()
    reestimate_batch_norm(network, lambda: [images])
    seen = {}
    # The ReLU that follows writes into the same memory, hence the clone.
    network.backbone.layer3[0].bn1.register_forward_hook(lambda module, inputs, out: seen.update(out=out.clone()))
    with torch.inference_mode():
        network(images)
    torch.testing.assert_close(seen["out"].mean((0, 2, 3)), torch.zeros(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(seen["out"].var((0, 2, 3), correction=0), torch.ones(16), rtol=0, atol=1e-2)


def test_batches_come_close_to_all_images_at_once_and_refinement_closer() -> None:
    network, images = pair()
    reestimate_batch_norm(network, lambda: [images])
    exact = statistics(network)
    errors = []
    for refinements in (0, 3, 12):
        reestimate_batch_norm(network, lambda: images.split(6), max_refinements=refinements, tolerance=0)
        errors.append(max(float(np.abs(value - exact[name]).max()) for name, value in statistics(network).items()))
    assert errors[0] > errors[1] > errors[2]
    # A network of depth 10 has 12 batch normalizations, each refinement makes one more exact.
    assert errors[2] < 1e-4


def test_only_statistics_change_and_the_network_stays_in_evaluation_mode() -> None:
    network, images = pair()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    reestimate_batch_norm(network, lambda: images.split(6))
    assert not any(module.training for module in network.modules())
    for name, value in network.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, before[name]), name


# -- batch norm folded into convolutions ------------------------------------------------------------------------------


def used(depth: int, in_channels: int = 1) -> RadiographResNet:
    """Network whose batch normalizations are not those of the start."""
    torch.manual_seed(0)
    network = RadiographResNet(3, depth=depth, width=4, in_channels=in_channels)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize(("depth", "in_channels"), [(10, 1), (18, 3), (50, 1)])
def test_folding_leaves_no_batch_norm_and_changes_answers_by_rounding_alone(depth: int, in_channels: int) -> None:
    network, images = used(depth, in_channels), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        logits, features = network(images), network.features(images)
        fold_batch_norm(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        torch.testing.assert_close(network(images), logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))
        torch.testing.assert_close(network.features(images), features, rtol=1e-3, atol=1e-4 * float(features.max()))


def test_folding_changes_gradients_of_images_by_rounding_alone() -> None:
    network, images = used(18), torch.rand(2, 1, 32, 32, requires_grad=True)
    (before,) = torch.autograd.grad(network(images)[:, 0].sum(), images)
    fold_batch_norm(network)
    (after,) = torch.autograd.grad(network(images)[:, 0].sum(), images)
    assert float((after - before).norm() / before.norm()) < 1e-4


def test_folded_convolutions_stay_frozen_and_in_channels_last_memory() -> None:
    network = used(10).requires_grad_(False)
    fold_batch_norm(network)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    kernel = network.backbone.layer1[0].conv1.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_only_a_batch_norm_right_after_a_convolution_is_folded() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    nn.init.uniform_(network[2].running_var, 0.5, 1.5)
    network, images = network.eval(), torch.rand(1, 1, 6, 6)
    before = network(images)
    fold_batch_norm(network)
    assert [type(module).__name__ for module in network] == ["Conv2d", "ReLU", "BatchNorm2d", "Conv2d", "Identity"]
    torch.testing.assert_close(network(images), before)
