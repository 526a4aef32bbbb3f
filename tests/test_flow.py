"""The flow: what it must undo, count and keep."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.networks.flow import (
    ActNorm,
    InvertibleConvolution,
    SplineCoupling,
    SplineFlow,
    dequantize,
    quantize,
    squeeze,
    unsqueeze,
)
from xray_harmonize.training import seeded

CPU = torch.device("cpu")


def disturbed(module: nn.Module, by: float = 0.3) -> nn.Module:
    """Move every parameter away from its start, where couplings are the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return module.eval()


def tiny(seed: int = 0, size: int = 4, by: float = 0.3, **sizes: Any) -> SplineFlow:
    with seeded(seed, CPU):
        flow = SplineFlow(size, **{"n_levels": 2, "n_steps": 2, "channels": 4, "n_bins": 4, **sizes})
        disturbed(flow, by)
    return flow.double()


def layers() -> dict[str, nn.Module]:
    with seeded(1, CPU):
        made = {
            "scale and shift": ActNorm(4),
            "convolution": InvertibleConvolution(4),
            "coupling": SplineCoupling(4, channels=4, n_blocks=1, n_bins=5, tail_bound=3.0),
        }
        return {name: disturbed(layer).double() for name, layer in made.items()}


def volume(function: Any, x: torch.Tensor) -> float:
    jacobian = torch.autograd.functional.jacobian(lambda flat: function(flat.view(x.shape)).flatten(), x.flatten())
    return float(torch.linalg.slogdet(jacobian).logabsdet)


# -- levels and noise -------------------------------------------------------------------------------------------------


def test_folding_keeps_two_by_two_neighbours_together_and_can_be_undone() -> None:
    x = torch.rand(2, 3, 4, 6)
    assert squeeze(x).shape == (2, 12, 2, 3)
    assert torch.equal(squeeze(x)[0, :4, 0, 0], x[0, 0, :2, :2].flatten())
    assert torch.equal(unsqueeze(squeeze(x)), x)


def test_every_level_has_a_cell_of_its_own_in_which_the_noise_lies() -> None:
    levels = torch.arange(4) / 3
    low, high = dequantize(levels, torch.tensor(0.0), 2), dequantize(levels, torch.tensor(1.0), 2)
    assert torch.allclose(low, torch.tensor([-0.5, -0.25, 0.0, 0.25]))
    assert torch.allclose(high[:-1], low[1:])


@given(st.floats(0, 1), st.floats(0, 0.999), st.integers(1, 16))
def test_noise_is_taken_out_as_it_was_put_in(value: float, noise: float, n_bits: int) -> None:
    x, u = torch.tensor(value, dtype=torch.float64), torch.tensor(noise, dtype=torch.float64)
    assert float(quantize(dequantize(x, u, n_bits, rounded=False), u, n_bits)) == pytest.approx(value, abs=1e-9)


# -- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", layers())
def test_a_layer_can_be_undone(name: str) -> None:
    layer, x = layers()[name], 2 * torch.randn(3, 4, 4, 6, dtype=torch.float64)
    assert torch.allclose(layer.inverse(layer(x)[0]), x, atol=1e-9)


@pytest.mark.parametrize("name", layers())
def test_the_log_determinant_of_a_layer_is_that_of_its_jacobian(name: str) -> None:
    layer, x = layers()[name], torch.randn(1, 4, 2, 2, dtype=torch.float64)
    assert float(layer(x)[1].detach()) == pytest.approx(volume(lambda one: layer(one)[0], x), abs=1e-9)


def test_the_first_batch_in_training_comes_out_normalized_and_a_second_does_not_change_that() -> None:
    layer, x = ActNorm(2).train(), 3 + 5 * torch.randn(8, 2, 4, 4)
    y, _ = layer(x)
    assert torch.allclose(y.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-4)
    assert torch.allclose(y.std(dim=(0, 2, 3), correction=0), torch.ones(2), atol=1e-3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer(10 * x)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_what_is_loaded_never_starts_anew() -> None:
    first = ActNorm(2).train()
    first(torch.randn(8, 2, 4, 4))
    loaded = ActNorm(2).train()
    loaded.load_state_dict(first.state_dict())
    loaded(100 * torch.randn(8, 2, 4, 4))
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_a_new_convolution_is_a_rotation() -> None:
    layer = InvertibleConvolution(6)
    product = layer.weight() @ layer.weight().T
    assert torch.allclose(product, torch.eye(6), atol=1e-5)


def test_a_new_coupling_is_the_identity_and_a_trained_one_leaves_what_lies_beyond_its_bound() -> None:
    new = SplineCoupling(4, channels=4, n_blocks=1, n_bins=5, tail_bound=3.0)
    x = torch.randn(2, 4, 4, 4)
    assert torch.allclose(new(x)[0], x, atol=1e-6)
    far = torch.full((1, 4, 2, 2), 7.0, dtype=torch.float64)
    assert torch.equal(layers()["coupling"](far)[0], far)


def test_half_of_a_coupling_stays_and_decides_what_the_other_half_becomes() -> None:
    layer, x = layers()["coupling"], torch.randn(1, 4, 4, 4, dtype=torch.float64)
    other = x.clone()
    other[:, 0] += 1
    assert torch.equal(layer(x)[0][:, :2], x[:, :2])
    assert not torch.allclose(layer(x)[0][:, 2:], layer(other)[0][:, 2:])


# -- the whole --------------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_flow_can_be_undone(seed: int) -> None:
    flow = tiny(seed, size=8)
    y = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 0.5
    latents, _ = flow.encode(y)
    assert torch.allclose(flow.decode(latents), y, atol=1e-7)


def test_latents_can_be_made_images_and_found_again() -> None:
    flow = tiny(size=8)
    latents = [torch.randn(1, 2, 4, 4, dtype=torch.float64), torch.randn(1, 8, 2, 2, dtype=torch.float64)]
    found, _ = flow.encode(flow.decode(latents))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, latents, strict=True))


def test_undoing_in_single_precision_is_exact_to_a_fraction_of_a_level() -> None:
    flow = tiny(size=16, n_levels=3, by=0.05).float()
    y = torch.rand(2, 1, 16, 16) - 0.5
    assert float((flow.decode(flow.encode(y)[0]) - y).abs().max().detach()) < 0.1 / 255


def test_the_log_determinant_is_that_of_the_jacobian() -> None:
    flow = tiny()
    y = torch.rand(1, 1, 4, 4, dtype=torch.float64) - 0.5

    def flat(one: torch.Tensor) -> torch.Tensor:
        return torch.cat([z.flatten() for z in flow.encode(one)[0]])

    assert float(flow.encode(y)[1].detach()) == pytest.approx(volume(flat, y), abs=1e-8)


def test_the_density_is_that_of_the_latents_times_the_change_of_volume() -> None:
    flow, y = tiny(), torch.rand(3, 1, 4, 4, dtype=torch.float64) - 0.5
    latents, log_det = flow.encode(y)
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = torch.stack([normal.log_prob(z).flatten(1).sum(dim=1) for z in latents]).sum(dim=0) + log_det
    assert torch.allclose(flow.log_prob(y), expected)
    assert torch.allclose(flow(y), 8 - expected / (16 * math.log(2)))


def test_a_density_of_few_pixels_sums_to_one() -> None:
    flow = tiny(size=2, n_levels=1, n_steps=1).float()
    # Importance sampling with a wide normal distribution.
    wide = torch.distributions.Normal(0.0, 3.0)
    with seeded(0, CPU):
        y = wide.sample((40_000, 1, 2, 2))
    weight = (flow.log_prob(y) - wide.log_prob(y).flatten(1).sum(dim=1)).exp()
    assert float(weight.mean().detach()) == pytest.approx(1, abs=0.1)


def test_a_flow_that_does_nothing_gives_the_bits_of_the_normal_distribution() -> None:
    flow = SplineFlow(4, n_levels=1, n_steps=1, channels=2, n_bits=5).eval()
    bits = flow(torch.zeros(1, 1, 4, 4))
    assert float(bits.detach()) == pytest.approx(5 + 0.5 * math.log2(2 * math.pi), abs=1e-5)


def test_one_image_knows_nothing_of_the_others_in_its_batch() -> None:
    flow, y = tiny(), torch.rand(4, 1, 4, 4, dtype=torch.float64) - 0.5
    assert torch.allclose(flow(y)[2:3], flow(y[2:3]), atol=1e-12)
    flow.train()(y)  # scales are set
    assert torch.allclose(flow(y)[2:3], flow.eval()(y[2:3]), atol=1e-12)


def test_half_of_the_channels_leave_at_each_level_and_all_at_the_last() -> None:
    latents, _ = tiny(size=8, n_levels=3).encode(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    assert [tuple(z.shape[1:]) for z in latents] == [(2, 4, 4), (4, 2, 2), (16, 1, 1)]
    assert sum(z.numel() for z in latents) == 64


def test_the_same_seed_gives_the_same_flow() -> None:
    first, second = tiny(3).state_dict(), tiny(3).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_levels": 0}, r"n_levels must be a whole number from 1 to 8; got 0\."),
        ({"n_steps": 2.0}, r"n_steps must be a whole number from 1 to 32; got 2\.0\."),
        ({"channels": True}, r"channels must be a whole number from 1 to 1024; got True\."),
        ({"n_blocks": -1}, r"n_blocks must be a whole number from 0 to 16; got -1\."),
        ({"n_bins": 1}, r"n_bins must be a whole number from 2 to 64; got 1\."),
        ({"n_bits": 17}, r"n_bits must be a whole number from 1 to 16; got 17\."),
        ({"size": 6}, r"image_size must be a whole number of pixels divisible by 4 for n_levels=2, .* got 6\."),
        ({"tail_bound": 0}, r"tail_bound must be a number above 0; got 0\."),
    ],
)
def test_sizes_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        tiny(**wrong)
