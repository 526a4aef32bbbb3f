"""Where the training of curves starts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tiny_curves import textures

from xray_harmonize.harmonizers import curve_start
from xray_harmonize.harmonizers.curve_start import matched_coefficients, start_network
from xray_harmonize.networks.curve import CurveEstimator, apply_curve

X = torch.linspace(0, 1, 65)


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def curve(alpha: torch.Tensor, x: torch.Tensor = X) -> torch.Tensor:
    return apply_curve(x[None], alpha[None])[0]


KNOWN = {
    "identity": [0.0, 0.0],
    "brighter": [0.6, 0.6],
    "darker": [-0.7, -0.7, -0.3],
    "s": [0.8, 0.8, -0.8, -0.8, -0.7],
    "inverse s": [-0.8, -0.8, 0.8, 0.8, 0.7],
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_curve_is_found(name: str) -> None:
    wanted = torch.tensor(KNOWN[name])
    alpha = matched_coefficients(X, curve(wanted), n_iterations=8)
    assert alpha.shape == (8,)
    assert alpha.dtype == torch.float32
    assert float(alpha.abs().max()) < 1
    assert float((curve(alpha) - curve(wanted)).abs().max()) < 0.02


def test_a_low_range_is_stretched_as_far_as_black_and_white_allow() -> None:
    source, reference = 0.6 * X**1.8, X
    alpha = matched_coefficients(source, reference, n_iterations=8)
    before, after = (source - reference).abs().mean(), (curve(alpha, source) - reference).abs().mean()
    assert float(after) < 0.15 * float(before)


def test_nothing_of_the_search_is_left_behind() -> None:
    with torch.no_grad():
        alpha = matched_coefficients(X.double(), X.double() ** 2, n_iterations=2, n_starts=4, n_steps=10)
    assert not alpha.requires_grad


def test_many_starts_come_closer_than_one() -> None:
    wanted = curve(torch.tensor(KNOWN["s"]))

    def distance(n_starts: int, seed: int) -> float:
        torch.manual_seed(seed)
        alpha = matched_coefficients(X, wanted, n_iterations=3, n_starts=n_starts, n_steps=30)
        return float((curve(alpha) - wanted).abs().mean())

    assert sum(distance(32, seed) for seed in range(5)) < 0.8 * sum(distance(1, seed) for seed in range(5))


def distance_of_curves(network: CurveEstimator, views: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = apply_curve(X.expand(len(views), -1), network(views))
    return (found - apply_curve(X.expand(len(views), -1), alpha)).abs().mean(dim=1)


def test_a_network_learns_the_curves_of_images_it_can_tell_apart() -> None:
    dark, bright = 0.3 * textures(8), 1 - 0.3 * textures(8)
    views = torch.cat([dark, bright])
    alpha = torch.tensor([[0.7] * 4, [0.0] * 4]).repeat_interleave(8, dim=0)
    network = CurveEstimator(3, 4, view_size=16)
    before = distance_of_curves(network, views, alpha)
    start_network(network, views, alpha, np.random.RandomState(0))
    assert float(before[:8].mean()) > 0.1
    assert float(distance_of_curves(network, views, alpha).max()) < 0.03


def test_a_scanner_with_few_images_counts_as_much_as_one_with_many() -> None:
    views = textures(1).expand(12, -1, -1, -1)
    alpha = torch.tensor([[0.6] * 4] * 11 + [[-0.6] * 4])
    network = CurveEstimator(2, 4, view_size=16)
    start_network(network, views, alpha, np.random.RandomState(0), n_steps=100)
    # One and the same image cannot be told apart; between two curves that weigh the same, neither may win.
    with torch.no_grad():
        found = curve(network(views[:1])[0])
    low, high = curve(alpha[-1]), curve(alpha[0])
    share = float((found - low).sum() / (high - low).sum())
    assert 0.05 < share < 0.95


def test_a_start_depends_on_its_seeds_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        network = CurveEstimator(1, 2, view_size=8)
        start_network(network, textures(4, 8), torch.full((4, 2), 0.5), np.random.RandomState(seed), n_steps=3)
        return network.head[0].weight.detach()

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_curves_are_right_on_full_views_though_most_is_learned_on_small_ones() -> None:
    images = textures(6, 128)
    views = torch.cat([0.5 * images, 0.4 + 0.6 * images])
    alpha = torch.tensor([[0.7] * 4, [0.0] * 4]).repeat_interleave(6, dim=0)
    torch.manual_seed(1)
    network = CurveEstimator(3, 4, view_size=128)
    start_network(network, views, alpha, np.random.RandomState(0), n_steps=60, batch_size=12)
    # From small views alone they would be off by more than .05.
    assert float(distance_of_curves(network, views, alpha).max()) < 0.035


def test_of_many_images_some_are_enough_for_full_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve_start, "_MOST_FULL_VIEWS", 3)
    network, seen = CurveEstimator(1, 2, view_size=80), []
    network.convolutions[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    start_network(network, textures(5, 80), torch.zeros(5, 2), np.random.RandomState(0), n_steps=2, batch_size=4)
    assert [(shape[0], shape[-1]) for shape in seen] == [(4, 64), (4, 64), (3, 80)]


@pytest.mark.parametrize(("view_size", "n_layers", "shown"), [(80, 2, 64), (24, 2, 24), (64, 3, 64), (160, 8, 128)])
def test_a_network_starts_on_small_views_that_its_layers_can_halve(view_size: int, n_layers: int, shown: int) -> None:
    network, seen = CurveEstimator(2, 2, view_size=view_size), []
    # Eight layers would have 2048 channels; how many it says it has is all that counts here.
    network.n_layers = n_layers
    network.convolutions[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[-1]))
    start_network(network, textures(2, view_size), torch.zeros(2, 2), np.random.RandomState(0), n_steps=1, batch_size=2)
    assert seen == ([shown] if shown == view_size else [shown, view_size])
