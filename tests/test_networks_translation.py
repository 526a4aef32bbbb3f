"""Generators, critics, buffers and losses of CycleGAN."""

from __future__ import annotations

import pytest
import torch

from xray_harmonize.networks.translation import CycleNetworks, Generator, ImageBuffer, PatchCritic


def images(n: int = 2, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    return 0.2 + 0.4 * torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(seed))


def n_weights(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_published_sizes_have_the_published_number_of_weights() -> None:
    """11.378 and 2.765 million for three channels, of which grey images lack two in the first and last layer."""
    assert n_weights(Generator()) == 11_378_179 - 2 * 64 * 49 - 2 * (64 * 49 + 1)
    assert n_weights(PatchCritic()) == 2_764_737 - 2 * 64 * 16


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 46)])
def test_any_size_is_translated_within_range(height: int, width: int) -> None:
    made = Generator(4, 1).translated(images(1, height, width))
    assert made.shape == (1, 1, height, width)
    assert 0 <= made.min() <= made.max() <= 1


def test_what_is_added_leads_to_the_translation() -> None:
    network, view = Generator(4, 1), images()
    added = network(view, torch.ones_like(view))
    torch.testing.assert_close(network.render(view, added), network.translated(view))


def test_generators_are_blind_to_brightness_and_contrast_of_the_whole_image() -> None:
    torch.manual_seed(0)
    network, view = Generator(8, 2), images()
    first, second = network.translated(view), network.translated(0.5 * view + 0.3)
    # The normalization's epsilon is all that tells them apart.
    assert (first - second).abs().max() < 0.05 * (view - (0.5 * view + 0.3)).abs().max()


def test_a_critic_looks_at_patches_of_70_pixels() -> None:
    critic = PatchCritic(2).eval()
    for layer in critic.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.constant_(layer.weight, 0.01)
    # Without normalization, which looks at the whole image.
    plain = torch.nn.Sequential(*(m for m in critic.layers if not isinstance(m, torch.nn.InstanceNorm2d)))
    view = torch.zeros(1, 1, 256, 256, requires_grad=True)
    judged = plain(view)
    judged[0, 0, judged.shape[2] // 2, judged.shape[3] // 2].backward()
    seen = view.grad[0, 0].nonzero()
    assert (seen.max(dim=0).values - seen.min(dim=0).values + 1).tolist() == [70, 70]


def test_a_buffer_shows_new_images_until_it_is_full_and_then_half_of_the_time() -> None:
    buffer = ImageBuffer(50, torch.Generator().manual_seed(0))
    numbers = torch.arange(1000.0).view(-1, 1, 1, 1)
    shown = torch.cat([buffer.exchange(one) for one in numbers.split(1)]).flatten()
    assert torch.equal(shown[:50], numbers[:50].flatten())
    new = (shown == numbers.flatten())[50:]
    assert 0.4 < new.double().mean() < 0.6
    assert len(buffer.kept) == 50
    assert torch.equal(ImageBuffer(0, torch.Generator()).exchange(numbers), numbers)


def parts() -> tuple[CycleNetworks, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    networks = CycleNetworks(2, 1, cycle_weight=0.0)
    source, reference = images(seed=1), images(seed=2)
    return networks, (source, reference, *networks(source, reference))


def test_generators_want_made_images_to_pass_and_critics_to_tell_them() -> None:
    networks, four = parts()
    source, reference, made_reference, made_source = four
    judged = networks.of_reference(made_reference), networks.of_source(made_source)
    expected = sum((one - 1).square().mean() for one in judged)
    torch.testing.assert_close(networks.generator_loss(*four), expected)
    taken = networks.of_reference(reference), networks.of_source(source)
    expected = 0.5 * sum((one - 1).square().mean() for one in taken) + 0.5 * sum(one.square().mean() for one in judged)
    torch.testing.assert_close(networks.critic_loss(*four), expected)


def test_the_way_back_and_staying_are_weighed_in_units_of_the_published_range() -> None:
    networks, four = parts()
    source, reference, made_reference, made_source = four
    passing = networks.generator_loss(*four)
    networks.cycle_weight, networks.identity_weight = 10.0, 0.0
    back = (networks.to_source.translated(made_reference) - source).abs().mean()
    back = back + (networks.to_reference.translated(made_source) - reference).abs().mean()
    torch.testing.assert_close(networks.generator_loss(*four) - passing, 20 * back)
    networks.identity_weight = 0.5
    with_staying = networks.generator_loss(*four)
    stay = (networks.to_reference.translated(reference) - reference).abs().mean()
    stay = stay + (networks.to_source.translated(source) - source).abs().mean()
    torch.testing.assert_close(with_staying - passing - 20 * back, 10 * stay)
