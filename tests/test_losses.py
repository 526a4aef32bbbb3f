"""What GDCE minimizes, against the loop that it was released with, written out."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from tiny_curves import textures, used_network
from tiny_vgg import vgg_16, written_out
from torch.nn import functional

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.networks.curve import CurveEstimator, apply_curve
from xray_harmonize.networks.losses import (
    PIXELS_AT_ONCE,
    DistributionLoss,
    FrozenNetworks,
    LabelLoss,
    LossWeighting,
    frozen,
)
from xray_harmonize.networks.resnet import RadiographResNet
from xray_harmonize.networks.vgg import VGGFeatures

Batch = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> VGGFeatures:
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pt"
    torch.save(vgg_16(), path)
    return VGGFeatures(path)


def coefficients(n: int, size: float = 0.4, seed: int = 0) -> torch.Tensor:
    alpha = size * torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return torch.tanh(alpha).requires_grad_()


# -- the released loop ------------------------------------------------------------------------------------------------


def released_loss(
    network: RadiographResNet, enhancer: CurveEstimator, batch: Batch, weight: float, pooled: bool
) -> torch.Tensor:
    """Loss of a step with everything computed anew: both parts by themselves, colours repeated, nothing folded."""

    def enhance(images: torch.Tensor) -> torch.Tensor:
        alpha = enhancer(images)
        for n in range(alpha.shape[1]):
            images = images + alpha[:, n].view(-1, 1, 1, 1) * images * (1 - images)
        return images

    def perceptual(images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        found, wanted = written_out(vgg_16(), images), written_out(vgg_16(), target)
        if pooled:
            found, wanted = functional.adaptive_avg_pool2d(found, 1), functional.adaptive_avg_pool2d(wanted, 1)
        return functional.l1_loss(found, wanted)

    def classified(images: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(network.head(network.backbone(images.repeat(1, 3, 1, 1))), label)

    source, reference = enhance(batch["source"]), enhance(batch["reference"])
    task = classified(source, batch["source_label"]) + classified(reference, batch["reference_label"])
    distance = perceptual(source, batch["reference"]) + perceptual(reference, batch["reference"])
    ratio = (task.item() * 1000) // (distance.item() * 1000)
    assert ratio > 0
    return weight * ratio * distance + (1 - weight) * task


@pytest.mark.parametrize("perceptual", ["pooled", "map"])
@pytest.mark.parametrize("weight", [0.5, 0.95])
def test_loss_and_gradients_are_those_of_the_released_loop(vgg: VGGFeatures, perceptual: str, weight: float) -> None:
    torch.manual_seed(0)
    network, enhancer = used_network(3, in_channels=3), CurveEstimator(3, 4, view_size=16)
    parts = {
        "source": textures(4, 24, seed=1) ** 2,
        "reference": textures(4, 24, seed=2),
        "source_label": torch.tensor([0, 1, 1, 2]),
        "reference_label": torch.tensor([2, 0, 1, 0]),
    }
    expected = released_loss(network, enhancer, parts, weight, perceptual == "pooled")
    wanted = torch.autograd.grad(expected, list(enhancer.parameters()))

    images = torch.cat([parts["source"], parts["reference"]])
    loss = LabelLoss(frozen(network), vgg, LossWeighting("ratio", weight), perceptual)
    like = vgg.pooled(parts["reference"]) if perceptual == "pooled" else parts["reference"]
    batch = {
        "image": images,
        "label": torch.cat([parts["source_label"], parts["reference_label"]]),
        "part": torch.arange(8) // 4,
        "like": torch.cat([like, like]),
    }
    found = loss(enhancer(images), batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    for now, then in zip(torch.autograd.grad(found, list(enhancer.parameters())), wanted, strict=True):
        assert float((now - then).norm()) <= 1e-3 * float(then.norm()) + 1e-7


def test_images_that_pass_one_by_one_give_what_they_give_together(
    vgg: VGGFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, found = LabelLoss(frozen(used_network()), vgg, LossWeighting("sum", 0.5)), []
    batch = {"image": textures(5), "label": torch.tensor([0, 1, 1, 0, 1]), "part": torch.tensor([0, 0, 0, 1, 1])}
    batch["like"] = vgg.pooled(textures(5, seed=3))
    for at_once in (2**17, 2 * 16**2, 1):
        monkeypatch.setitem(PIXELS_AT_ONCE, False, at_once)
        alpha = coefficients(5)
        value = loss(alpha, batch)
        value.backward()
        with torch.no_grad():
            torch.testing.assert_close(loss(alpha, batch), value.detach())
        assert alpha.grad is not None
        found.append((value.detach(), alpha.grad))
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0])
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-3, atol=1e-6)


def test_the_printed_loss_is_the_sum_of_both(vgg: VGGFeatures) -> None:
    network, images, alpha = used_network(), textures(4), coefficients(4)
    batch = {"image": images, "label": torch.tensor([0, 1, 1, 0]), "part": torch.zeros(4), "like": textures(4, seed=5)}
    enhanced = apply_curve(images, alpha)
    task = functional.cross_entropy(network(enhanced), batch["label"])
    distance = functional.l1_loss(written_out(vgg_16(), enhanced), written_out(vgg_16(), batch["like"]))
    found = LabelLoss(frozen(network), vgg, LossWeighting("sum", 0.5), "map")(alpha, batch)
    torch.testing.assert_close(found, task + distance, rtol=1e-4, atol=1e-5)


def test_without_perceptual_features_the_loss_is_the_classifications(vgg: VGGFeatures) -> None:
    network, images, alpha = used_network(), textures(4), coefficients(4)
    batch = {"image": images, "label": torch.tensor([0, 1, 1, 0]), "part": torch.zeros(4)}
    found = LabelLoss(frozen(network), vgg, LossWeighting("ratio", 0.95), None)(alpha, batch)
    torch.testing.assert_close(found, functional.cross_entropy(network(apply_curve(images, alpha)), batch["label"]))


def test_each_part_of_a_batch_counts_the_same_whatever_its_size() -> None:
    network, images, label = used_network(), textures(5), torch.tensor([0, 1, 1, 0, 1])
    loss = LabelLoss(frozen(network), None, LossWeighting("sum", 0.5), None)
    none = torch.zeros(5, 4)
    part = torch.tensor([0, 0, 0, 0, 1])
    found = loss(none, {"image": images, "label": label, "part": part})
    ones = functional.cross_entropy(network(images), label, reduction="none")
    torch.testing.assert_close(found, ones[:4].mean() + ones[4])


# -- how both are weighed ---------------------------------------------------------------------------------------------


def weigh(weighting: LossWeighting, task: float, perceptual: float) -> float:
    return float(weighting(torch.tensor(task), torch.tensor(perceptual)))


def test_the_sum_has_no_weights() -> None:
    assert weigh(LossWeighting("sum", 0.9), 1.5, 0.25) == pytest.approx(1.75)


@pytest.mark.parametrize(
    ("task", "perceptual", "ratio"), [(1.2, 0.5, 2), (1.2, 0.4, 3), (0.49, 0.5, 0), (0.5, 0.5, 1), (0.0, 0.5, 0)]
)
def test_the_released_ratio_is_rounded_down(task: float, perceptual: float, ratio: int) -> None:
    expected = 0.95 * ratio * perceptual + 0.05 * task
    assert weigh(LossWeighting("ratio", 0.95), task, perceptual) == pytest.approx(expected, rel=1e-5)


def test_the_ratio_takes_no_gradients() -> None:
    task, perceptual = torch.tensor(1.2, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    for kind, ratio in (("ratio", 2.0), ("smooth", 2.4)):
        found = torch.autograd.grad(LossWeighting(kind, 0.25)(task, perceptual), (task, perceptual))
        assert [float(one) for one in found] == pytest.approx([0.75, 0.25 * ratio])


@pytest.mark.parametrize("kind", ["ratio", "smooth", "sum"])
def test_a_perceptual_loss_of_zero_leaves_the_task(kind: str) -> None:
    feature = torch.tensor(0.0, requires_grad=True)
    loss = LossWeighting(kind, 0.5)(torch.tensor(0.8), feature.abs())
    loss.backward()
    assert loss.item() == pytest.approx(0.8 if kind == "sum" else 0.4)
    assert feature.grad is not None
    assert feature.grad.item() == 0


def test_the_smooth_ratio_is_that_of_running_means() -> None:
    weighting = LossWeighting("smooth", 0.5, memory=0.75)
    assert weigh(weighting, 1.0, 0.5) == pytest.approx(0.5 * 2 * 0.5 + 0.5 * 1)
    # Means 0.75 * 1 + 0.25 * 3 = 1.5 and 0.75 * 0.5 + 0.25 * 0.1 = 0.4.
    assert weigh(weighting, 3.0, 0.1) == pytest.approx(0.5 * (1.5 / 0.4) * 0.1 + 0.5 * 3)
    weighting.eval()
    assert weigh(weighting, 8.0, 0.1) == pytest.approx(0.5 * (1.5 / 0.4) * 0.1 + 0.5 * 8)
    assert weighting.means.tolist() == pytest.approx([1.5, 0.4])


def test_the_smooth_ratio_does_not_jump() -> None:
    smooth, ratio = LossWeighting("smooth", 0.95), LossWeighting("ratio", 0.95)
    losses = [(0.5 + 0.02 * n, 0.51) for n in range(20)]
    steps = [
        [abs(b - a) for a, b in pairwise(values)]
        for values in ([weigh(weighting, *pair) for pair in losses] for weighting in (smooth, ratio))
    ]
    assert max(steps[0]) < 0.05 < max(steps[1])


def test_an_unknown_weighting_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="weighting must be one of smooth, sum, ratio; got 'mean'"):
        LossWeighting("mean", 0.5)


@pytest.mark.parametrize("weight", [-0.1, 1.0, float("nan")])
def test_a_weight_that_leaves_the_task_nothing_is_refused(weight: float) -> None:
    with pytest.raises(InvalidParameterError, match=rf"perceptual_weight must lie in \[0, 1\); got {weight!r}"):
        LossWeighting("smooth", weight)


# -- frozen networks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_channels", [1, 3])
def test_a_frozen_copy_answers_the_same_and_leaves_the_original_alone(in_channels: int) -> None:
    network, images = used_network(in_channels=in_channels), textures(3)
    before = copy.deepcopy(network.state_dict())
    copied = frozen(network)
    torch.testing.assert_close(copied(images), network(images).detach(), rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_training_never_reaches_frozen_networks() -> None:
    loss = LabelLoss(frozen(used_network()), VGGFeatures(), LossWeighting("smooth", 0.5))
    for mode in (True, False, True):
        loss.train(mode)
        assert loss.training is mode
        assert loss.weighting.training is mode
        assert not any(module.training for module in loss.discriminator.modules())
        assert not any(module.training for module in loss.vgg.modules())


def test_frozen_networks_take_no_gradients_though_coefficients_do(vgg: VGGFeatures) -> None:
    loss, alpha = LabelLoss(frozen(used_network()), vgg, LossWeighting("sum", 0.5)), coefficients(2)
    batch = {"image": textures(2), "label": torch.tensor([0, 1]), "part": torch.zeros(2), "like": torch.zeros(2, 128)}
    loss(alpha, batch).backward()
    assert alpha.grad is not None
    assert bool(alpha.grad.all())
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_perceptual_features_are_maps_channel_means_or_nothing(vgg: VGGFeatures) -> None:
    images = textures(2, 12)
    assert FrozenNetworks(None, vgg, "map").perceptual_features(images).shape == (2, 128, 6, 6)
    assert FrozenNetworks(None, vgg, "pooled").perceptual_features(images).shape == (2, 128)
    assert FrozenNetworks(None, vgg, None).vgg is None


def test_an_unknown_kind_of_perceptual_features_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="perceptual must be 'pooled', 'map' or None; got 'gram'"):
        FrozenNetworks(None, None, "gram")


# -- fast -------------------------------------------------------------------------------------------------------------


def test_vgg_can_be_shown_half_the_side_where_enough_is_left(vgg: VGGFeatures) -> None:
    halved = FrozenNetworks(None, vgg, "map", halve=True)
    assert halved.perceptual_features(textures(1, 128)).shape[-1] == 32
    assert halved.perceptual_features(textures(1, 96)).shape[-1] == 48


@pytest.mark.parametrize("perceptual", ["pooled", "map"])
def test_fast_gradients_are_close_to_exact_ones(perceptual: str) -> None:
    network, vgg, images = used_network(), VGGFeatures(), textures(3, 128)
    other = textures(3, 128, seed=7) ** 2
    gradients = []
    for halve, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        loss = LabelLoss(frozen(network), vgg, LossWeighting("sum", 0.5), perceptual, halve, dtype)
        like = loss.perceptual_features(other) if perceptual == "pooled" else other
        alpha = coefficients(3)
        value = loss(alpha, {"image": images, "label": torch.tensor([0, 1, 1]), "part": torch.zeros(3), "like": like})
        assert value.dtype == torch.float32
        value.backward()
        assert alpha.grad is not None
        gradients.append(alpha.grad.flatten())
    assert float(torch.cosine_similarity(*gradients, dim=0)) > 0.95


@pytest.mark.parametrize("method", ["logits", "class_features", "perceptual_features"])
def test_low_precision_is_inside_alone(vgg: VGGFeatures, method: str) -> None:
    networks, images = (
        [FrozenNetworks(frozen(used_network()), vgg, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)],
        textures(2),
    )
    exact, low = (getattr(one, method)(images) for one in networks)
    assert low.dtype == torch.float32
    assert not torch.equal(exact, low)
    assert float((low - exact).norm() / exact.norm()) < 0.05


# -- without labels ---------------------------------------------------------------------------------------------------


def reference_of(networks: FrozenNetworks, images: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {"quantiles": images.flatten(1).sort(dim=1).values.mean(dim=0)}
    for name in ("class_features", "perceptual_features"):
        features = getattr(networks, name)(images).detach()
        features = features.flatten(2).mean(dim=2) if features.ndim > 2 else features
        found[name], found[f"{name}_scale"] = features.mean(dim=0), features.std(dim=0) + 0.1
    return found


def unlabelled(images: torch.Tensor) -> Batch:
    return {"image": images, "quantiles": images.flatten(1).sort(dim=1).values}


@pytest.mark.parametrize("perceptual", ["pooled", "map", None])
@pytest.mark.parametrize("kind", ["sum", "ratio", "smooth"])
def test_the_reference_itself_is_where_it_should_be(vgg: VGGFeatures, perceptual: Any, kind: str) -> None:
    images = textures(4)
    reference = reference_of(FrozenNetworks(frozen(used_network()), vgg), images)
    loss = DistributionLoss(frozen(used_network()), vgg, LossWeighting(kind, 0.5), reference, perceptual)
    assert float(loss(torch.zeros(4, 3), unlabelled(images))) < 1e-4
    assert float(loss(torch.full((4, 3), 0.5), unlabelled(images))) > 0.05


def test_the_right_curve_brings_a_scanner_to_the_reference(vgg: VGGFeatures) -> None:
    images = textures(4)
    alpha = torch.tensor([[0.5, -0.2]]).expand(4, -1)
    reference = reference_of(FrozenNetworks(frozen(used_network()), vgg), apply_curve(images, alpha))
    loss = DistributionLoss(frozen(used_network()), vgg, LossWeighting("sum", 0.5), reference)
    assert float(loss(alpha, unlabelled(images))) < 1e-4


def test_grey_values_alone_are_compared_as_the_distance_of_distributions() -> None:
    images, target = textures(3), textures(5, seed=9)
    wanted = target.flatten(1).sort(dim=1).values.mean(dim=0)
    alpha = coefficients(3)
    loss = DistributionLoss(None, None, LossWeighting("ratio", 0.9), {"quantiles": wanted}, None)
    # A rising curve maps quantiles to quantiles: enhancing pixels first comes to the same.
    enhanced = apply_curve(images, alpha).flatten(1).sort(dim=1).values.mean(dim=0)
    torch.testing.assert_close(loss(alpha, unlabelled(images)), (enhanced - wanted).abs().mean())


def test_features_count_in_units_of_the_references_spread(vgg: VGGFeatures) -> None:
    images, found = textures(4), []
    network = frozen(used_network())
    reference = reference_of(FrozenNetworks(network, vgg), textures(4, seed=4))
    for factor in (1.0, 10.0):
        scaled = {name: value * factor if name.endswith("_scale") else value for name, value in reference.items()}
        scaled["quantiles"] = unlabelled(images)["quantiles"].mean(dim=0)
        loss = DistributionLoss(network, vgg, LossWeighting("sum", 0.5), scaled)
        found.append(float(loss(torch.zeros(4, 2), unlabelled(images))))
    assert found[0] == pytest.approx(10 * found[1], rel=1e-4)
