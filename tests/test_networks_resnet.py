"""The network itself, and batch-norm statistics measured anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xray_harmonize.networks.batch_norm import reestimate_batch_norm
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
