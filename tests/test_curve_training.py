"""The training of curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_curves import BrightIsOne, measured
from torch import nn

from xray_harmonize.callbacks import Progress, report_progress
from xray_harmonize.classifiers.recipe import Outcome
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.curve_batches import LabelledImages, UnlabelledImages
from xray_harmonize.harmonizers.curve_images import CurveImages, pooled_quantiles
from xray_harmonize.harmonizers.curve_training import (
    BestWorstGroup,
    Steps,
    curve_values,
    stayed_at_identity,
    train_curves,
)
from xray_harmonize.networks.curve import CurveEstimator, ScannerCurves, apply_curve
from xray_harmonize.networks.losses import DistributionLoss, LabelLoss, LossWeighting, frozen
from xray_harmonize.networks.vgg import VGGFeatures
from xray_harmonize.training import StopTraining, seeded

CPU = torch.device("cpu")
DARKER = [-0.8, -0.7]


def site(n: int = 8, darker: bool = False, scanner: int = 0, seed: int = 0) -> CurveImages:
    """Images of mean .35 (class 0) and .65 (class 1), which a scanner may render darker."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    pixels = 0.35 + 0.3 * label[:, None, None, None] + rng.uniform(-0.2, 0.2, (n, 1, 8, 8))
    frames = torch.tensor(pixels, dtype=torch.float32)
    if darker:
        frames = apply_curve(frames, torch.tensor([DARKER]).expand(n, -1))
    return measured(frames, [scanner] * n, label.tolist(), view_size=8)


def without_views(images: CurveImages) -> CurveImages:
    return replace(images, views=torch.empty(len(images), 0))


def judge(weighting: str = "sum", perceptual: str | None = None) -> LabelLoss:
    vgg = None if perceptual is None else VGGFeatures()
    network: Any = frozen(BrightIsOne())  # type: ignore[arg-type]
    return LabelLoss(network, vgg, LossWeighting(weighting, 0.5), perceptual)


def trained(
    module: nn.Module,
    sources: CurveImages | None = None,
    held_out: CurveImages | None = None,
    loss: LabelLoss | None = None,
    **steps: Any,
) -> Outcome:
    of_images = isinstance(module, CurveEstimator)
    sources, reference = site(darker=True) if sources is None else sources, site(scanner=-1, seed=5)
    if not of_images:
        sources, reference = without_views(sources), without_views(reference)
    loss = judge() if loss is None else loss
    images = LabelledImages(sources, reference, None, loss.perceptual == "map", of_images, flip=True)
    settings = {"n_epochs": 3, "n_batches": 4, "batch_size": 4, "lr": 0.1}
    with seeded(0, CPU):
        return train_curves(module, loss, images, held_out, Steps(**{**settings, **steps}), CPU, "curves")


# -- what is learned --------------------------------------------------------------------------------------------------


def test_a_scanners_curve_is_trained_until_the_classifier_is_right() -> None:
    curves, held_out = ScannerCurves(1, 4), site(darker=True, seed=1)
    outcome = trained(curves, held_out=held_out, n_epochs=4, n_batches=5)
    accuracy = [row["worst_group_accuracy"] for row in outcome.history]
    assert min(accuracy[0], 0.75) < accuracy[-1] == 1
    brighter = apply_curve(held_out.frames, curves(held_out.scanner)).mean(dim=(1, 2, 3)) > 0.5
    assert torch.equal(brighter, held_out.label.bool())


def test_a_network_for_images_is_trained_too() -> None:
    def loss_after(n_epochs: int, lr: float) -> float:
        with seeded(0, CPU):
            network = CurveEstimator(2, 4, view_size=8)
        held_out = site(darker=True, seed=1)
        outcome = trained(network, held_out=held_out, n_epochs=n_epochs, n_batches=10, lr=lr)
        return outcome.history[outcome.best_epoch - 1]["valid_loss"]

    assert loss_after(4, 3e-3) < 0.3 * loss_after(1, 1e-9)


def test_without_labels_grey_values_are_brought_to_the_reference() -> None:
    sources, reference = without_views(site(darker=True)), site(seed=3)
    statistics = {"quantiles": pooled_quantiles(reference.quantiles)}
    loss = DistributionLoss(None, None, LossWeighting("sum", 0.5), statistics, None)
    curves = ScannerCurves(1, 4)
    with seeded(0, CPU):
        train_curves(curves, loss, UnlabelledImages(sources, True, True), None, Steps(4, 25, 4, 0.1), CPU, "curves")
    own = pooled_quantiles(sources.quantiles)[None]
    with torch.no_grad():
        after = apply_curve(own, curves(torch.tensor([0])))
    wanted = statistics["quantiles"]
    assert float((after - wanted).abs().mean()) < 0.2 * float((own - wanted).abs().mean())


def test_a_training_depends_on_its_seed_alone() -> None:
    def learned(global_seed: int) -> torch.Tensor:
        torch.manual_seed(global_seed)
        curves = ScannerCurves(1, 3)
        nn.init.constant_(curves.raw, 0.1)
        trained(curves)
        return curves.raw.detach()

    assert torch.equal(learned(1), learned(2))


# -- frozen networks --------------------------------------------------------------------------------------------------


def test_frozen_networks_stay_in_evaluation_mode_and_take_no_gradients_throughout() -> None:
    loss = judge("smooth", "map")
    assert loss.vgg is not None
    modes: list[bool] = []
    loss.vgg.conv1_1.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    before = {name: value.clone() for name, value in loss.state_dict().items() if name != "weighting.means"}
    trained(ScannerCurves(1, 3), held_out=site(darker=True, seed=1), loss=loss)
    discriminator: Any = loss.discriminator
    assert len(discriminator.modes) > 12
    assert not any(discriminator.modes)
    assert len(modes) >= 12
    assert not any(modes)
    assert all(parameter.grad is None for parameter in loss.parameters())
    assert all(torch.equal(value, loss.state_dict()[name]) for name, value in before.items())
    # What of the loss does learn, the running means, is in training.
    assert bool(loss.weighting.means.all())


# -- which state is kept ----------------------------------------------------------------------------------------------


def states_of(curves: ScannerCurves) -> tuple[list[torch.Tensor], Callable[[Progress], None]]:
    states: list[torch.Tensor] = []
    return states, lambda progress: states.append(curves.raw.detach().clone())


def followed(rows: list[tuple[float, float]], margin: float, patience: int | None = None) -> tuple[int, int, int]:
    """Epochs looked at, the best of them, and the one whose state is put back; rows are accuracies and losses."""
    best, module, history = BestWorstGroup(margin, patience), nn.Linear(1, 1), []
    net: Any = SimpleNamespace(history=history, module_=module)
    best.on_train_begin(net)
    for epoch, (accuracy, loss) in enumerate(rows, start=1):
        history.append({"epoch": epoch, "worst_group_accuracy": accuracy, "valid_loss": loss})
        nn.init.constant_(module.weight, epoch)
        try:
            best.on_epoch_end(net)
        except StopTraining:
            break
    best.on_train_end(net)
    return len(history), best.best_epoch_, int(module.weight.item())


fifths = st.integers(0, 5).map(lambda n: n / 5)


@given(st.lists(st.tuples(fifths, fifths), min_size=1, max_size=12), st.sampled_from([0.0, 0.1, 0.3]))
def test_of_states_as_good_as_the_best_worst_group_the_one_with_the_smallest_loss_is_kept(
    rows: list[tuple[float, float]], margin: float
) -> None:
    _, best, state = followed(rows, margin)
    least = max(accuracy for accuracy, _ in rows) - margin
    good = [(loss, epoch) for epoch, (accuracy, loss) in enumerate(rows, start=1) if accuracy >= least]
    assert state == best
    assert rows[best - 1][0] >= least
    assert rows[best - 1][1] == min(good)[0]


def test_a_worse_group_is_never_made_up_for_by_a_smaller_loss() -> None:
    assert followed([(0.9, 0.5), (0.4, 0.1), (0.9, 0.6)], margin=0.1)[1] == 1
    assert followed([(0.9, 0.5), (0.85, 0.1), (0.9, 0.6)], margin=0.1)[1] == 2


def test_patience_counts_checks_after_which_another_state_would_not_be_kept() -> None:
    rows = [(0.5, 0.9), (0.6, 0.8), (0.6, 0.8), (0.6, 0.9), (0.9, 0.1)]
    assert followed(rows, margin=0, patience=2)[:2] == (4, 2)
    assert followed(rows, margin=0, patience=3)[:2] == (5, 5)


def test_a_training_that_leads_away_is_undone() -> None:
    # What is trained on needs another curve than what is held out, which is right at the start.
    curves = ScannerCurves(1, 4)
    nn.init.constant_(curves.raw, 0.6)
    states, listen = states_of(curves)
    with report_progress(listen):
        outcome = trained(curves, site(), site(darker=True, seed=1), n_epochs=5, lr=0.2)
    rows = [(row["worst_group_accuracy"], row["valid_loss"]) for row in outcome.history]
    assert rows[-1][0] < rows[0][0]
    # Four images a group: an accuracy is known to .25.
    assert outcome.best_epoch == followed(rows, margin=0.25)[1] < 5
    assert torch.equal(curves.raw.detach(), states[outcome.best_epoch - 1])


def test_without_held_out_images_the_last_state_is_kept() -> None:
    curves = ScannerCurves(1, 3)
    states, listen = states_of(curves)
    with report_progress(listen):
        outcome = trained(curves, patience=1)
    assert outcome.best_epoch == len(outcome.history) == 3
    assert set(outcome.history[0]) == {"epoch", "train_loss", "dur"}
    assert torch.equal(curves.raw.detach(), states[-1])


def test_the_worst_group_is_a_class_of_a_scanner() -> None:
    # The first scanner needs no curve, the second one does.
    held_out = site(seed=1).joined(site(darker=True, scanner=1, seed=2))
    sources = site(seed=3).joined(site(darker=True, scanner=1, seed=4))
    curves = ScannerCurves(2, 3)
    nn.init.zeros_(curves.raw)
    outcome = trained(curves, sources, held_out, n_epochs=1, n_batches=1, lr=1e-6)
    assert outcome.history[0]["worst_group_accuracy"] == 0
    right = (apply_curve(held_out.frames, curves(held_out.scanner)).mean(dim=(1, 2, 3)) > 0.5) == held_out.label.bool()
    assert right.float().mean().item() == 0.75


def test_patience_ends_a_training_that_does_not_improve() -> None:
    curves = ScannerCurves(1, 4)
    nn.init.constant_(curves.raw, 0.6)
    outcome = trained(curves, site(), site(darker=True, seed=1), n_epochs=12, patience=2, lr=0.2)
    assert (len(outcome.history), outcome.best_epoch) == (3, 1)
    assert not outcome.interrupted


def test_an_interrupted_training_keeps_the_best_state_so_far() -> None:
    curves = ScannerCurves(1, 3)
    states, listen = states_of(curves)

    def interrupt(progress: Progress) -> None:
        listen(progress)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with report_progress(interrupt):
        outcome = trained(curves, held_out=site(darker=True, seed=1))
    assert outcome.interrupted
    assert outcome.best_epoch == 1
    assert torch.equal(curves.raw.detach(), states[0])


def test_listeners_are_told_what_is_trained_and_how_well() -> None:
    told: list[Progress] = []
    with report_progress(told.append):
        trained(ScannerCurves(1, 3), held_out=site(darker=True, seed=1), n_epochs=2)
    assert [(one.task, one.epoch, one.max_epochs) for one in told] == [("curves", 1, 2), ("curves", 2, 2)]
    assert {"train_loss", "valid_loss", "worst_group_accuracy"} <= set(told[0].row)


# -- how the rate runs ------------------------------------------------------------------------------------------------


def rates(monkeypatch: pytest.MonkeyPatch, **steps: Any) -> list[float]:
    found, step = [], torch.optim.Adam.step

    def noted(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        found.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    trained(ScannerCurves(1, 2), **steps)
    return found


def test_a_constant_rate_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rates(monkeypatch, schedule="constant", n_epochs=2, n_batches=3) == [0.1] * 6


def test_one_cycle_rises_once_and_falls_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = rates(monkeypatch, n_epochs=5, n_batches=4)
    top = int(np.argmax(found))
    assert len(found) == 20
    assert found[top] == pytest.approx(0.1, rel=0.05)
    assert 0 < top < 10
    assert (np.diff(found[: top + 1]) > 0).all()
    assert (np.diff(found[top:]) < 0).all()
    assert found[-1] < 1e-4


# -- parameters -------------------------------------------------------------------------------------------------------


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="schedule must be one of one_cycle, constant; got 'cosine'"):
        Steps(1, 1, 1, 0.1, schedule="cosine")


@pytest.mark.parametrize("lr", [0, -1e-3, float("nan")])
def test_a_rate_that_leads_nowhere_is_refused(lr: float) -> None:
    with pytest.raises(InvalidParameterError, match=f"lr must be above 0; got {lr!r}"):
        Steps(1, 1, 1, lr)


@pytest.mark.parametrize("patience", [0, -3])
def test_no_patience_at_all_is_refused(patience: int) -> None:
    with pytest.raises(InvalidParameterError, match=f"patience must be None or at least 1; got {patience}"):
        Steps(1, 1, 1, 0.1, patience=patience)


# -- curves that were learned -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_of_curves_are_computed_in_double_precision(dtype: str) -> None:
    x = np.linspace(0, 1, 33).astype(dtype)
    y = curve_values(np.ones(8, dtype=dtype), x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, 1 - (1 - x.astype(float)) ** 256, atol=1e-13)


def test_curves_at_the_identity_are_told_by_name_and_distance() -> None:
    still, moved = np.zeros((3, 4)), np.full((3, 4), -0.5)
    found = stayed_at_identity({"B": still, "A": moved, "C": still + 0.01})
    assert found == ["B (mean distance 0.000)", "C (mean distance 0.007)"]
    assert stayed_at_identity({"C": still + 0.01}, within=0.001) == []


def test_a_curve_that_ends_where_it_began_stayed_at_the_identity_whatever_its_coefficients() -> None:
    # One step and what all but undoes it.
    assert len(stayed_at_identity({"A": np.array([[0.1, -0.1]])})) == 1
    assert stayed_at_identity({"A": np.array([[0.9, -0.9]])}) == []


def test_a_scanner_counts_as_moved_if_its_images_have_moved_on_average() -> None:
    mixed = np.vstack([np.zeros((3, 4)), np.full((1, 4), 0.6)])
    assert stayed_at_identity({"A": mixed}) == []
