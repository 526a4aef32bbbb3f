"""The first convolutions of VGG-16 and the files that fill them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_vgg import State, vgg_16, written_out

from xray_harmonize.exceptions import PersistenceError
from xray_harmonize.networks.vgg import VGGFeatures


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pt"
    torch.save(vgg_16(), path)
    return path


# -- what it computes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
def test_features_are_those_of_three_equal_channels_before_the_last_relu(file: Path, size: tuple[int, int]) -> None:
    images = torch.rand(2, 1, *size)
    features = VGGFeatures(file)(images)
    torch.testing.assert_close(features, written_out(vgg_16(), images), rtol=1e-4, atol=1e-5)
    assert bool((features < 0).any())


@pytest.fixture(scope="module")
def network(file: Path) -> VGGFeatures:
    return VGGFeatures(file)


@given(st.integers(2, 11), st.integers(2, 11), st.integers(0, 99))
def test_pooled_features_are_the_means_of_the_maps(height: int, width: int, seed: int) -> None:
    images = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(seed))
    network = VGGFeatures()
    torch.testing.assert_close(network.pooled(images), network(images).mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2), (2, 9), (8, 2), (4, 4), (7, 6)])
def test_pooling_holds_for_single_pixels_rows_and_columns_with_biases(
    network: VGGFeatures, size: tuple[int, int]
) -> None:
    images = torch.rand(3, 1, *size)
    torch.testing.assert_close(network.pooled(images), network(images).mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_pooled_features_have_the_gradients_of_the_means(network: VGGFeatures) -> None:
    images, direction = torch.rand(2, 1, 12, 10), torch.randn(2, 128)

    def gradient(features: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        leaf = images.clone().requires_grad_()
        (found,) = torch.autograd.grad((features(leaf) * direction).sum(), leaf)
        return found

    torch.testing.assert_close(
        gradient(network.pooled), gradient(lambda x: network(x).mean(dim=(2, 3))), rtol=1e-4, atol=1e-6
    )


def test_the_network_is_frozen_but_lets_gradients_through(network: VGGFeatures) -> None:
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in VGGFeatures().modules())
    images = torch.rand(1, 1, 8, 8, requires_grad=True)
    network(images).sum().backward()
    assert images.grad is not None
    assert bool(images.grad.any())


# -- random weights ---------------------------------------------------------------------------------------------------


def test_random_weights_are_always_the_same_and_leave_the_generator_alone() -> None:
    torch.manual_seed(1)
    first, state = VGGFeatures().state_dict(), torch.get_rng_state()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = VGGFeatures().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(before, state)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_random_weights_keep_the_size_of_what_passes() -> None:
    with torch.no_grad():
        features = VGGFeatures()(torch.rand(4, 1, 32, 32))
    assert 0.1 < float(features.std()) < 3
    assert float(features.mean(dim=(0, 2, 3)).std()) > 0.1


# -- weights from files -----------------------------------------------------------------------------------------------


def only_features(state: State) -> State:
    return {name: value for name, value in state.items() if name.startswith("features")}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "features alone": only_features,
    "with a classifier": lambda s: s,
    "classifier first": lambda s: dict(sorted(s.items())),
    "data-parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "inside a network": lambda s: {f"vgg.{k}": v for k, v in s.items()},
    "numbers alone": lambda s: {k.removeprefix("features."): v for k, v in only_features(s).items()},
    "numbers, data-parallel": lambda s: {k.replace("features", "module"): v for k, v in only_features(s).items()},
    "checkpoint": lambda s: {"epoch": 3, "state_dict": s},
    "without what comes after": lambda s: {k: v for k, v in s.items() if ".10." not in k},
    "double precision": lambda s: {k: v.double() for k, v in s.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_fills_the_four_convolutions(tmp_path: Path, network: VGGFeatures, layout: str) -> None:
    torch.save(LAYOUTS[layout](vgg_16()), tmp_path / "weights.pt")
    found, expected = VGGFeatures(tmp_path / "weights.pt").state_dict(), network.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert all(value.dtype == torch.float32 for value in found.values())


def test_safetensors_are_read(tmp_path: Path, network: VGGFeatures) -> None:
    save_file(vgg_16(), tmp_path / "weights.safetensors")
    found = VGGFeatures(str(tmp_path / "weights.safetensors"))
    assert torch.equal(found.conv2_2.weight, network.conv2_2.weight)


def test_a_first_convolution_for_grey_images_is_taken_as_it_is(tmp_path: Path) -> None:
    state = vgg_16()
    state["features.0.weight"] = state["features.0.weight"].sum(dim=1, keepdim=True)
    torch.save(state, tmp_path / "weights.pt")
    images = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(
        VGGFeatures(tmp_path / "weights.pt")(images), written_out(vgg_16(), images), rtol=1e-4, atol=1e-5
    )


# -- files that do not fit --------------------------------------------------------------------------------------------


def test_what_a_file_lacks_is_listed(tmp_path: Path) -> None:
    state = vgg_16()
    del state["features.2.weight"], state["features.7.bias"]
    torch.save(state, tmp_path / "weights.pt")
    message = (
        r"vgg_weights='.*weights.pt' holds no VGG-16: features.2.weight is missing; features.7.bias is missing. "
        r"Expected the tensors features.0, .2, .5 and .7 of a VGG-16 without batch normalization"
    )
    with pytest.raises(PersistenceError, match=message):
        VGGFeatures(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("features.0.weight", (64, 2, 3, 3), r"\(64, 3, 3, 3\)"),
        ("features.2.weight", (64, 1, 3, 3), r"\(64, 64, 3, 3\)"),
        ("features.5.weight", (128, 64, 5, 5), r"\(128, 64, 3, 3\)"),
        ("features.0.bias", (64, 1, 3, 3), r"\(64,\)"),
    ],
)
def test_other_shapes_are_refused_with_both(tmp_path: Path, name: str, shape: tuple[int, ...], expected: str) -> None:
    torch.save({**vgg_16(), name: torch.zeros(shape)}, tmp_path / "weights.pt")
    found = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(PersistenceError, match=f"{name} has shape {found} for {expected}"):
        VGGFeatures(tmp_path / "weights.pt")


def test_a_vgg_with_batch_normalization_is_refused(tmp_path: Path) -> None:
    # Its convolutions stand at 0, 3, 7 and 10.
    moved = {0: 0, 2: 3, 5: 7, 7: 10}
    state = {f"features.{moved[n]}.{k}": vgg_16()[f"features.{n}.{k}"] for n in moved for k in ("weight", "bias")}
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(PersistenceError, match=r"features.2.weight is missing.*without batch normalization"):
        VGGFeatures(tmp_path / "weights.pt")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PersistenceError, match="there is no such file"):
        VGGFeatures(tmp_path / "nothing.pt")
