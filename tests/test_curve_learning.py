"""How curves are learned from measured images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_curves import BrightIsOne, measured, textures

from xray_harmonize.classifiers import ResNetClassifier
from xray_harmonize.exceptions import NotEnoughImagesError
from xray_harmonize.harmonizers.curve_images import CurveImages
from xray_harmonize.harmonizers.curve_learning import N_CHECKS, CurveLearner, Length
from xray_harmonize.harmonizers.gdce import GDCE
from xray_harmonize.networks.curve import CurveEstimator, ScannerCurves, apply_curve, invert_curve

RIGHT = torch.tensor([[0.7, 0.6]])
GREY = torch.linspace(0, 1, 65)[None]


def rng(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


def learner(**parameters: Any) -> CurveLearner:
    settings = {
        "n_layers": 2,
        "n_iterations": 4,
        "view_size": 8,
        "image_size": 16,
        "perceptual": None,
        "batch_size": 4,
        "max_steps": 2,
        "device": "cpu",
    }
    made = CurveLearner.of(GDCE(**{**settings, **parameters}).get_params(deep=False), None)
    network: Any = BrightIsOne()
    return replace(made, objective=replace(made.objective, discriminator=network))


def site(n: int = 8, scanner: int = -1, seed: int = 0, darker: bool = False, views: bool = True) -> CurveImages:
    """Images, which a scanner may render so much darker that the curve of ``RIGHT`` is right for them."""
    frames = textures(n, 16, seed)
    if darker:
        frames = invert_curve(frames, RIGHT.expand(n, -1))
    label = (frames.mean(dim=(1, 2, 3)) > frames.mean()).long()
    return measured(frames, [scanner] * n, label.tolist(), view_size=8 if views else None)


def furthest(module: CurveEstimator, images: CurveImages) -> float:
    """Largest mean distance of an image's curve from the identity."""
    with torch.no_grad():
        curves = apply_curve(GREY.expand(len(images), -1), module(images.views))
    return float((curves - GREY).abs().mean(dim=1).max())


# -- how long ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000))
def test_steps_are_never_exceeded_and_all_but_used_in_at_most_twenty_checks(max_steps: int) -> None:
    n_epochs, n_batches = Length(max_steps).epochs(site(2), 4)
    assert n_epochs <= N_CHECKS
    assert max_steps - n_batches < n_epochs * n_batches <= max_steps


def test_the_number_of_steps_does_not_depend_on_the_number_of_images() -> None:
    assert Length(200).epochs(site(65), 12) == Length(200).epochs(site(2), 12) == (20, 10)


@pytest.mark.parametrize(
    ("counts", "batch_size", "n_batches"),
    [
        ({(0, 0): 320, (0, 1): 320}, 12, 53),
        ({(0, 0): 400, (0, 1): 90}, 12, 15),
        ({(0, 0): 50, (0, 1): 50, (1, 0): 20, (1, 1): 90}, 8, 10),
        ({(0, 0): 1, (0, 1): 1}, 12, 1),
    ],
)
def test_passes_are_as_long_as_the_rarest_class_lasts(
    counts: dict[tuple[int, int], int], batch_size: int, n_batches: int
) -> None:
    groups = [group for group, n in counts.items() for _ in range(n)]
    images = measured(torch.zeros(len(groups), 1, 2, 2), *map(list, zip(*groups, strict=True)), view_size=None)
    assert Length(200, max_epochs=25).epochs(images, batch_size) == (25, n_batches)


# -- what is left open ------------------------------------------------------------------------------------------------


def test_open_parameters_depend_on_the_scope() -> None:
    steps = {
        scope: CurveLearner.of(GDCE(scope=scope, device="cpu").get_params(deep=False), None)
        for scope in ("image", "scanner")
    }
    assert steps["image"].length.max_steps > steps["scanner"].length.max_steps
    assert steps["image"].lr < steps["scanner"].lr
    given = CurveLearner.of(GDCE(max_steps=7, lr=0.5, image_size=40, device="cpu").get_params(deep=False), None)
    assert (given.length.max_steps, given.lr, given.image_size) == (7, 0.5, 40)


def test_images_are_as_large_as_the_classifier_takes_them() -> None:
    classifier = ResNetClassifier(image_size=48)
    parameters = GDCE(discriminator=classifier, device="cpu").get_params(deep=False)
    assert CurveLearner.of(parameters, None).image_size == 48


# -- networks ---------------------------------------------------------------------------------------------------------


def test_the_identity_changes_nothing_and_is_always_the_same() -> None:
    torch.manual_seed(0)
    first = learner().identity()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    second = learner().identity()
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(first, CurveEstimator)
    assert not first(torch.rand(3, 1, 30, 20)).any()
    others = second.state_dict()
    assert all(torch.equal(value, others[name]) for name, value in first.state_dict().items())


def test_with_one_curve_a_scanner_the_identity_knows_no_scanner() -> None:
    curves = learner(scope="scanner").identity()
    assert isinstance(curves, ScannerCurves)
    assert curves.raw.shape == (0, 4)


def test_a_network_is_rebuilt_from_its_weights_without_random_numbers() -> None:
    one, views = learner(), torch.rand(2, 1, 8, 8)
    network = one.network()
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert torch.equal(one.network(weights)(views), network(views))
    assert torch.equal(torch.get_rng_state(), state)


# -- by labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["image", "scanner"])
def test_learning_by_labels_gives_curves_and_a_history(scope: str) -> None:
    images = scope == "image"
    module, outcome = learner(scope=scope, max_steps=6, start="random").by_labels(
        site(scanner=0, darker=True, views=images), site(views=images), site(4, 0, 5, True, images), rng()
    )
    assert isinstance(module, CurveEstimator if images else ScannerCurves)
    assert len(outcome.history) == 6
    assert {"train_loss", "valid_loss", "worst_group_accuracy"} <= set(outcome.history[0])


def test_fewer_sources_than_a_batch_are_refused() -> None:
    message = "GDCE has 3 images of other scanners than the reference to train on, fewer than a batch of 4"
    with pytest.raises(NotEnoughImagesError, match=message):
        learner().by_labels(site(3, scanner=0), site(), None, rng())


@pytest.mark.parametrize("scope", ["image", "scanner"])
def test_a_seed_repeats_what_is_learned_whatever_others_draw(scope: str) -> None:
    def learned(global_seed: int, seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        sources, reference = site(scanner=0, darker=True, views=scope == "image"), site(views=scope == "image")
        module, _ = learner(scope=scope, start="random").by_labels(sources, reference, None, rng(seed))
        assert torch.equal(torch.get_rng_state(), before)
        return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])

    assert torch.equal(learned(0, 0), learned(1, 0))
    assert not torch.equal(learned(0, 0), learned(0, 1))


# -- where it starts --------------------------------------------------------------------------------------------------


def test_a_scanners_curve_starts_where_grey_values_match() -> None:
    sources = site(scanner=0, darker=True, views=False).joined(site(scanner=1, seed=0, views=False))
    module, _ = learner(scope="scanner", lr=1e-9).by_labels(sources, site(views=False), None, rng())
    with torch.no_grad():
        curves = apply_curve(GREY.expand(2, -1), module(torch.arange(2)))
    inside = GREY[0] < 0.9 * sources.quantiles[:8].max()
    assert float((curves[0] - apply_curve(GREY, RIGHT)[0])[inside].abs().max()) < 0.02
    assert float((curves[1] - GREY[0]).abs().max()) < 0.02


def test_a_network_starts_at_the_matching_curve_for_sources_and_the_identity_for_the_reference() -> None:
    # Grey values far enough apart for a network of two layers to tell.
    sources, reference = site(scanner=0, darker=True), site()
    module, _ = learner(lr=1e-9).by_labels(sources, reference, None, rng())
    assert isinstance(module, CurveEstimator)
    assert furthest(module, sources) > 0.08
    with torch.no_grad():
        mean = apply_curve(sources.quantiles, module(sources.views)).mean()
        kept = apply_curve(reference.quantiles, module(reference.views)).mean()
    before = float((sources.quantiles.mean() - reference.quantiles.mean()).abs())
    assert abs(float(mean - reference.quantiles.mean())) < 0.5 * before
    assert abs(float(kept - reference.quantiles.mean())) < 0.5 * before


def test_a_random_start_is_taken_as_it_is() -> None:
    module, _ = learner(start="random", lr=1e-9).by_labels(site(scanner=0, darker=True), site(), None, rng())
    assert isinstance(module, CurveEstimator)
    assert furthest(module, site()) < 0.1


# -- without labels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["image", "scanner"])
@pytest.mark.parametrize("perceptual", ["pooled", None])
def test_learning_by_distribution_brings_grey_values_closer(scope: str, perceptual: str | None) -> None:
    one = learner(scope=scope, perceptual=perceptual, vgg_weights="random", max_steps=6)
    sources, reference = (site(scanner=n, darker=n == 0, views=scope == "image") for n in (0, -1))
    module, outcome = one.by_distribution(sources, one.objective.statistics(reference), reference, rng())
    with torch.no_grad():
        alpha = module(sources.views if scope == "image" else sources.scanner)
        found = apply_curve(sources.quantiles, alpha).mean(dim=0)
    wanted = reference.quantiles.mean(dim=0)
    assert float((found - wanted).abs().mean()) < 0.5 * float((sources.quantiles.mean(dim=0) - wanted).abs().mean())
    assert outcome.best_epoch == len(outcome.history) == 6


def test_a_known_network_is_gone_on_from() -> None:
    one = learner(start="random", lr=1e-9)
    known, sources = one.network(), site(scanner=0, darker=True)
    before = known(sources.views).detach()
    module, _ = one.by_distribution(sources, one.objective.statistics(site()), None, rng(), known)
    torch.testing.assert_close(module(sources.views).detach(), before, rtol=0, atol=1e-5)


def test_coefficients_part_even_where_a_network_starts_from_the_identity() -> None:
    one = learner(start="random")
    sources = site(scanner=0, darker=True)
    module, _ = one.by_distribution(sources, one.objective.statistics(site()), None, rng(), one.identity())
    spread = module(sources.views).detach().std(dim=1)
    assert float(spread.min()) > 0.01
