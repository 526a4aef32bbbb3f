"""The losses of GDCE with everything in them that is computed once."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_curves import measured, textures, used_network
from tiny_vgg import vgg_16

from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.harmonizers.curve_images import CurveImages, pooled_quantiles
from xray_harmonize.harmonizers.curve_objectives import Objective
from xray_harmonize.networks.vgg import VGGFeatures


def objective(**options: Any) -> Objective:
    settings = {
        "discriminator": used_network(),
        "perceptual": "pooled",
        "weighting": "sum",
        "perceptual_weight": 0.5,
        "vgg_weights": "random",
        "speed": "exact",
        "precision": "auto",
        "device": torch.device("cpu"),
    }
    return Objective(**{**settings, **options})


def site(n: int = 5, scanner: int = -1, seed: int = 0) -> CurveImages:
    return measured(textures(n, 12, seed), [scanner] * n, (np.arange(n) % 2).tolist(), view_size=8)


# -- how exactly ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "precision", "speed", "expected"),
    [
        ("cpu", True, "auto", "exact", torch.float32),
        ("cpu", True, "auto", "fast", torch.bfloat16),
        ("cuda", True, "auto", "exact", torch.float32),
        ("cuda", True, "auto", "fast", torch.bfloat16),
        ("cuda", False, "auto", "faster", torch.float16),
        ("cuda", True, "bfloat16", "exact", torch.bfloat16),
        ("cuda", True, "float32", "fast", torch.float32),
    ],
)
def test_frozen_networks_are_rounded_where_speed_or_precision_ask_for_it_alone(
    device: str, has_bfloat16: bool, precision: str, speed: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    asked = objective(device=torch.device(device), precision=precision, speed=speed)
    assert asked._how() == ("pooled", speed == "faster", expected)


# -- with labels ------------------------------------------------------------------------------------------------------


def test_features_of_the_reference_and_of_its_mirror_images_are_computed_once() -> None:
    reference = site()
    images, _ = objective().labelled(site(scanner=0, seed=1), reference, enhance_reference=True, flip=True)
    assert images.like is not None
    assert images.like.shape == (2, 5, 128)
    assert not images.like.requires_grad
    for features, frames in zip(images.like, (reference.frames, reference.frames.flip(-1)), strict=True):
        torch.testing.assert_close(features, VGGFeatures().pooled(frames))


@pytest.mark.parametrize(("perceptual", "maps"), [("map", True), (None, False)])
def test_nothing_is_computed_ahead_where_maps_or_nothing_are_compared(perceptual: str | None, maps: bool) -> None:
    images, loss = objective(perceptual=perceptual).labelled(site(scanner=0), site(), True, True)
    assert images.like is None
    assert images.maps is maps
    assert (loss.vgg is None) is (perceptual is None)


def test_the_loss_of_a_drawn_batch_is_the_one_with_features_computed_on_the_spot() -> None:
    images, loss = objective().labelled(site(scanner=0, seed=1), site(), enhance_reference=True, flip=True)
    _, batch = images.draws(np.random.RandomState(0))(4)
    alpha = torch.linspace(-0.5, 0.5, 8 * 3).view(8, 3)
    spot = VGGFeatures().pooled(batch["image"][4:])
    expected = loss(alpha, {**batch, "like": torch.cat([spot, spot])})
    torch.testing.assert_close(loss(alpha, batch), expected)


def test_the_classifier_given_is_neither_changed_nor_trained() -> None:
    network = used_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    _, loss = objective(discriminator=network).labelled(site(scanner=0), site(), True, True)
    assert loss.discriminator is not network
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_vgg_weights_are_read_from_a_file(tmp_path: Path) -> None:
    torch.save(vgg_16(), tmp_path / "vgg16.pt")
    _, loss = objective(vgg_weights=tmp_path / "vgg16.pt").labelled(site(scanner=0), site(), True, True)
    assert loss.vgg is not None
    assert torch.equal(loss.vgg.conv2_2.weight, vgg_16()["features.7.weight"])


# -- without labels ---------------------------------------------------------------------------------------------------


def test_statistics_are_means_and_spreads_over_the_references_images() -> None:
    network, reference = used_network(), site()
    found = objective(discriminator=network).statistics(reference)
    with torch.no_grad():
        of_class, of_vgg = network.features(reference.frames), VGGFeatures().pooled(reference.frames)
    for name, features in (("class_features", of_class), ("perceptual_features", of_vgg)):
        np.testing.assert_allclose(found[name], features.mean(dim=0), rtol=1e-3, atol=1e-4)
        spread = features.std(dim=0, correction=0)
        large = (spread > 0.2 * spread.mean()).numpy()
        np.testing.assert_allclose(found[f"{name}_scale"][large], spread[large], rtol=1e-2)
    np.testing.assert_allclose(found["mean_quantiles"], reference.quantiles.mean(dim=0))
    np.testing.assert_array_equal(found["pooled_quantiles"], pooled_quantiles(reference.quantiles))
    assert all(value.dtype == np.float32 for value in found.values())


def test_features_that_never_vary_do_not_count_infinitely() -> None:
    found = objective().statistics(site(1))
    assert min(found["class_features_scale"].min(), found["perceptual_features_scale"].min()) > 0


def test_maps_have_the_statistics_of_their_means() -> None:
    maps, pooled = (objective(perceptual=kind).statistics(site()) for kind in ("map", "pooled"))
    assert maps.keys() == pooled.keys()
    np.testing.assert_allclose(maps["perceptual_features"], pooled["perceptual_features"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "lacking"),
    [({"discriminator": None}, "class_features"), ({"perceptual": None}, "perceptual_features")],
)
def test_networks_that_are_not_there_have_no_statistics(options: dict[str, Any], lacking: str) -> None:
    found = objective(**options).statistics(site())
    assert not any(name.startswith(lacking) for name in found)
    _, loss = objective(**options).unlabelled(site(scanner=0), found, pooled=False, flip=True)
    assert bool(torch.isfinite(loss(torch.zeros(5, 2), {"image": site().frames, "quantiles": site().quantiles})))


@pytest.mark.parametrize("speed", ["exact", "fast"])
@pytest.mark.parametrize("pooled", [False, True])
def test_the_reference_is_where_it_should_be(pooled: bool, speed: str) -> None:
    judge, reference = objective(speed=speed), site()
    images, loss = judge.unlabelled(reference, judge.statistics(reference), pooled, flip=False)
    _, batch = images.draws(np.random.RandomState(0))(5)
    assert float(loss(torch.zeros(5, 2), batch)) < (1e-4 if speed == "exact" else 0.02)


def test_statistics_leave_other_peoples_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    objective().statistics(site())
    assert torch.equal(torch.get_rng_state(), state)


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speed", "precision", "dtype"),
    [
        ("exact", "auto", torch.float32),
        ("fast", "auto", torch.bfloat16),
        ("faster", "auto", torch.bfloat16),
        ("fast", "float32", torch.float32),
        ("exact", "bfloat16", torch.bfloat16),
    ],
)
def test_fast_is_bfloat16_unless_a_precision_is_named(speed: str, precision: str, dtype: torch.dtype) -> None:
    _, loss = objective(speed=speed, precision=precision).labelled(site(scanner=0), site(), True, True)
    assert loss.dtype is dtype
    assert loss.halve is (speed == "faster")


def test_random_features_are_warned_of() -> None:
    with pytest.warns(XRayHarmonizeWarning, match=r"no VGG-16 weights \(vgg_weights=None\).*vgg_weights='random' or"):
        objective(vgg_weights=None).warn_of_random_features()


@pytest.mark.parametrize("options", [{"vgg_weights": "random"}, {"vgg_weights": None, "perceptual": None}])
def test_random_features_on_purpose_or_unused_are_not_warned_of(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective(**options).warn_of_random_features()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("gram", "sum", 0.5, "exact"), "perceptual must be 'pooled', 'map' or None; got 'gram'"),
        (("map", "mean", 0.5, "exact"), "weighting must be one of smooth, sum, ratio; got 'mean'"),
        (("map", "sum", 1.5, "exact"), r"perceptual_weight must lie in \[0, 1\); got 1.5"),
        (("map", "sum", 0.5, "quick"), "speed must be 'exact', 'fast' or 'faster'; got 'quick'"),
    ],
)
def test_options_out_of_range_are_refused(options: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        Objective.check(*options)
