"""The search for a harmonized image: its distance, its steps, and what it does when a step leads nowhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.blind_search import (
    Search,
    channel_statistics,
    edge_gradient,
    flat_mask,
    gradients,
    image_step,
    latent_step,
    search,
    similarity,
    similarity_gradient,
)
from xray_harmonize.networks.flow import SplineFlow
from xray_harmonize.training import seeded

CPU = torch.device("cpu")


def images(n: int = 2, size: int = 8, seed: int = 0) -> torch.Tensor:
    """Smooth images in [0.1, 0.9] of double precision."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 4, 4, generator=generator, dtype=torch.float64)
    return 0.1 + 0.8 * torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def everywhere(x: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(x, dtype=torch.bool)


def flow(size: int = 8) -> SplineFlow:
    with seeded(0, CPU):
        made = SplineFlow(size, n_levels=2, n_steps=1, channels=4, n_bins=4)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return made.double().eval()


def typical(made: SplineFlow, x: torch.Tensor, spread: float = 0.1) -> list[torch.Tensor]:
    found = [channel_statistics(z).mean(dim=0) for z in made.encode(x - 0.5)[0]]
    return [torch.stack([center, torch.full_like(center, spread)]).detach() for center in found]


# -- similarity -------------------------------------------------------------------------------------------------------


@given(st.floats(0.05, 5), st.floats(-1, 1))
def test_correlation_does_not_know_brightness_and_contrast(gain: float, offset: float) -> None:
    x = images()
    assert torch.allclose(similarity(gain * x + offset, x, everywhere(x)), torch.ones(2, dtype=torch.float64))


def test_the_cosine_does_not_know_the_scale_but_knows_brightness() -> None:
    x = images()
    inside = everywhere(x)
    assert torch.allclose(similarity(3 * x, x, inside, "cosine"), torch.ones(2, dtype=torch.float64))
    assert (similarity(x + 1, x, inside, "cosine") < 0.999).all()


def test_correlation_is_that_of_pearson_over_the_pixels_that_count() -> None:
    x, source = images(seed=1), images(seed=2)
    inside = torch.rand(x.shape) < 0.7
    for i in range(2):
        expected = torch.corrcoef(torch.stack([x[i][inside[i]], source[i][inside[i]]]))[0, 1]
        assert float(similarity(x, source, inside)[i]) == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", ["ncc", "cosine"])
def test_the_gradient_is_that_of_the_similarity_times_pixels_and_squared_contrast(kind: str) -> None:
    x, source = images(1, seed=1).requires_grad_(), images(1, seed=2)
    inside = torch.rand(x.shape) < 0.7
    (1 - similarity(x, source, inside, kind)).sum().backward()
    counted = x.detach()[inside]
    scale = counted.square().mean() if kind == "cosine" else counted.var(correction=0)
    expected = x.grad * inside.sum() * scale
    assert torch.allclose(similarity_gradient(x.detach(), source, inside, kind), expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["ncc", "cosine"])
@pytest.mark.parametrize("factor", [2, 5])
def test_the_gradient_depends_neither_on_the_number_of_pixels_nor_on_the_grey_scale(kind: str, factor: int) -> None:
    x, source = images(seed=1), images(seed=2)
    small = similarity_gradient(x, source, everywhere(x), kind)

    def larger(one: torch.Tensor) -> torch.Tensor:
        return one.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)

    large = similarity_gradient(larger(x), larger(source), everywhere(larger(x)), kind)
    assert torch.allclose(large, larger(small))
    assert torch.allclose(similarity_gradient(x / factor, source, everywhere(x), kind), small / factor)


@pytest.mark.parametrize("size", [8, 64])
def test_a_few_steps_come_close_to_the_source_at_any_size(size: int) -> None:
    x, source = images(size=size, seed=1), images(size=size, seed=2)
    settings = Search(similarity_step=0.5, edge_step=0)
    flat = flat_mask(source, everywhere(x), 0.05, 30)
    for _ in range(15):
        x = image_step(x, source, everywhere(x), flat, settings)
    assert (similarity(x, source, everywhere(x)) > 0.999).all()


def test_constant_images_and_images_without_a_pixel_that_counts_have_no_gradient() -> None:
    x, constant = images(), torch.full((2, 1, 8, 8), 0.4, dtype=torch.float64)
    nowhere = torch.zeros_like(x, dtype=torch.bool)
    for a, b, inside in ((x, constant, everywhere(x)), (constant, x, everywhere(x)), (x, x, nowhere)):
        assert torch.equal(similarity_gradient(a, b, inside), torch.zeros_like(x))
        assert similarity(a, b, inside).abs().max() < 1e-6


# -- edges ------------------------------------------------------------------------------------------------------------


def test_the_edge_gradient_is_the_exact_gradient_also_at_the_border() -> None:
    x = images(seed=3).requires_grad_()
    flat = torch.rand(2, 2, 6, 6) < 0.5
    (gradients(x) * flat).abs().sum().backward()
    found = edge_gradient(x.detach(), flat, torch.zeros(2, 1, 1, 1, dtype=torch.float64))
    assert torch.allclose(found, x.grad, atol=1e-9)


def test_steps_against_edges_smooth_where_the_source_is_flat_and_nowhere_else() -> None:
    source = torch.zeros(1, 1, 8, 12, dtype=torch.float64)
    source[..., 6:] = 0.8
    with seeded(0, CPU):
        x = source + 0.05 * torch.randn(source.shape)
    flat = flat_mask(source, everywhere(source), 0.0, 30)
    # Every pixel above the lowest counts: the brighter half.
    assert not flat[..., :4].any()
    settings = Search(similarity_step=0, edge_step=0.01)
    y = x
    for _ in range(40):
        y = image_step(y, source, everywhere(source), flat, settings)
    assert (gradients(y).abs() * flat).sum() < 0.5 * (gradients(x).abs() * flat).sum()
    assert torch.equal(y[..., :5], x[..., :5])


def test_a_flat_background_does_not_empty_the_mask() -> None:
    source = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    source[..., 4:12, 4:12] = 0.5 + 0.4 * images(1)[0, 0]
    flat = flat_mask(source, everywhere(source), 0.05, 30)
    body = source[0, 0, 1:-1, 1:-1] > 0.1
    assert flat.any(dim=(2, 3)).all()
    assert not flat[:, :, ~body].any()
    assert 0.25 < float(flat[0, 0][body].double().mean()) < 0.4


def test_a_foreground_that_is_mostly_constant_has_a_mask_too() -> None:
    source = torch.full((1, 1, 16, 16), 0.5, dtype=torch.float64)
    source[..., 0] = 0.0
    source[..., 12] = 0.9
    assert flat_mask(source, everywhere(source), 0.05, 30).double().mean() > 0.5


def test_edges_of_the_mask_are_no_edges_of_the_image() -> None:
    source, inside = images(1), everywhere(images(1))
    inside[..., :3] = False
    assert not flat_mask(source, inside, 0.05, 100)[..., :3].any()
    assert not flat_mask(source, torch.zeros_like(inside), 0.05, 100).any()


# -- latents ----------------------------------------------------------------------------------------------------------


def test_latents_that_are_typical_stay_where_they_are() -> None:
    made, y = flow(), images(1) - 0.5
    found = latent_step(made, y, typical(made, y + 0.5), Search(latent_step=1.0))
    assert torch.allclose(found, y, atol=1e-6)


def test_a_whole_step_brings_statistics_to_the_nearest_typical_ones() -> None:
    made, x = flow(), images(4)
    of_reference = typical(made, x)
    found = latent_step(made, 0.4 * images(1, seed=7) - 0.5, of_reference, Search(latent_step=1.0, tolerance=2.0))
    for z, (center, spread) in zip(made.encode(found)[0], of_reference, strict=True):
        assert ((channel_statistics(z)[0] - center).abs() <= 2 * spread + 1e-6).all()


def test_the_published_step_shortens_every_latent() -> None:
    made, y = flow(), images(1) - 0.5
    found = latent_step(made, y, typical(made, y + 0.5), Search(latent="origin", latent_step=0.25))
    for before, after in zip(made.encode(y)[0], made.encode(found)[0], strict=True):
        assert torch.allclose(after, 0.75 * before, atol=1e-6)


# -- the whole --------------------------------------------------------------------------------------------------------


def found(made: SplineFlow, source: torch.Tensor, **settings: Any) -> Any:
    noise = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        return search(
            made,
            source,
            everywhere(source),
            noise,
            typical(made, images(4)),
            Search(**settings),
        )


def test_one_image_knows_nothing_of_the_others() -> None:
    made, source = flow(), images(3, seed=5)
    together = found(made, source).images
    for i in range(3):
        assert torch.allclose(found(made, source[i : i + 1]).images[0], together[i], atol=1e-9)


def test_the_same_search_finds_the_same_in_the_range_of_images() -> None:
    made, source = flow(), images(2, seed=5)
    first, second = found(made, source), found(made, source)
    assert torch.equal(first.images, second.images)
    assert 0 <= first.images.min() <= first.images.max() <= 1
    assert first.fallbacks.tolist() == [0, 0]


def test_a_step_that_leads_nowhere_is_left_out_for_that_image_alone() -> None:
    class Broken(SplineFlow):
        def decode(self, latents: list[torch.Tensor]) -> torch.Tensor:
            decoded = super().decode(latents).clone()
            decoded[1, 0, 2, 2] = float("nan")
            decoded[2, 0, 2, 2] = 1e6
            return decoded

    whole = flow()
    broken = Broken(8, n_levels=2, n_steps=1, channels=4, n_bins=4).double().eval()
    broken.load_state_dict(whole.state_dict())
    source = images(3, seed=5)
    result = found(broken, source, n_iterations=4, edge_step=0)
    assert result.fallbacks.tolist() == [0, 4, 4]
    assert torch.allclose(result.images[0], found(whole, source, n_iterations=4, edge_step=0).images[0])
    assert torch.allclose(result.images[1:], source[1:], atol=1e-9)


def test_without_latent_steps_and_edges_the_source_is_found() -> None:
    made, source = flow(), images(1, seed=5)
    assert torch.allclose(found(made, source, latent_step=0.0, edge_step=0.0).images, source, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_iterations": 0}, r"n_iterations must be a whole number, at least 1; got 0\."),
        ({"n_iterations": 2.5}, r"n_iterations must be a whole number, at least 1; got 2\.5\."),
        ({"similarity": "ssim"}, r"similarity must be 'ncc' or 'cosine'; got 'ssim'\."),
        ({"latent": "zero"}, r"latent must be 'typical' or 'origin'; got 'zero'\."),
        ({"similarity_step": 1.5}, r"similarity_step must lie in \[0, 1\]; got 1\.5\."),
        ({"edge_step": -0.1}, r"edge_step must lie in \[0, 1\]; got -0\.1\."),
        ({"edge_percentile": 101}, r"edge_percentile must lie in \[0, 100\]; got 101\."),
        ({"foreground": "otsu"}, r"foreground must lie in \[0, 1\]; got 'otsu'\."),
        ({"latent_step": float("nan")}, r"latent_step must lie in \[0, 1\]; got nan\."),
        ({"tolerance": -1}, r"tolerance must lie in \[0, 100\]; got -1\."),
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        Search(**wrong)
