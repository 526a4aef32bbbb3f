"""How networks are fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import TensorDataset

from xray_harmonize.callbacks import (
    BestState,
    FiniteLoss,
    TellProgress,
    ValidationScore,
    WarmBatchNorm,
    report_progress,
)
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.training import Net, TensorBatches, autocast, exactly, resolve_device, resolve_precision, seeded

CPU = torch.device("cpu")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def line(n: int = 32) -> TensorDataset:
    x = torch.linspace(-1, 1, n)[:, None]
    return TensorDataset(x, 2 * x + 1)


def net(callbacks: list[Any] | None = None, **options: Any) -> Net:
    with seeded(0, CPU):
        module = nn.Linear(1, 1)
    settings = {"criterion": nn.MSELoss, "lr": 0.1, "max_epochs": 4, "batch_size": 8, "verbose": 0}
    return Net(module, callbacks=callbacks or [], **{**settings, **options})


# -- device, precision, seed ------------------------------------------------------------------------------------------


def test_auto_is_the_gpu_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["abacus", "cuda:99", 3.5])
def test_a_device_that_is_not_there_is_refused(device: Any) -> None:
    with pytest.raises(InvalidParameterError, match="is not there on this machine; expected 'auto'"):
        resolve_device(device)


def test_precision_on_a_cpu_is_float32_unless_asked_for() -> None:
    assert resolve_precision("auto", CPU) is torch.float32
    assert resolve_precision("bfloat16", CPU) is torch.bfloat16


def test_float16_without_a_gpu_and_unknown_precisions_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="float16' needs a GPU; on cpu use"):
        resolve_precision("float16", CPU)
    with pytest.raises(InvalidParameterError, match="precision must be one of auto, float32"):
        resolve_precision("float64", CPU)


def test_autocast_computes_in_the_type_asked_for() -> None:
    layer, x = nn.Linear(2, 2), torch.zeros(1, 2)
    with autocast(CPU, torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with autocast(CPU, torch.float32):
        assert layer(x).dtype == torch.float32


def test_seeded_leaves_the_generator_as_it_was_even_after_an_error() -> None:
    def fail() -> None:
        with seeded(1, CPU):
            torch.rand(3)
            raise ZeroDivisionError

    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(torch.get_rng_state(), state)


def flags() -> tuple[object, ...]:
    cudnn: Any = torch.backends.cudnn
    return cudnn.benchmark, cudnn.deterministic, cudnn.conv.fp32_precision


@pytest.mark.parametrize("of_all", ["none", "ieee", "tf32"])
def test_a_gpus_convolutions_keep_all_bits_and_one_order_inside_and_what_was_set_afterwards(
    of_all: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The switches are there without a GPU too.
    monkeypatch.setattr(torch.backends, "fp32_precision", of_all)
    before = flags()

    def fail() -> None:
        with exactly(torch.device("cuda")):
            assert flags() == (False, True, "ieee")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert flags() == before
    with exactly(CPU):
        assert flags() == before


@GPU
def test_seeded_leaves_the_gpus_generator_as_it_was() -> None:
    state = torch.cuda.get_rng_state()
    with seeded(1, torch.device("cuda")):
        first = torch.rand(3, device="cuda")
    assert torch.equal(torch.cuda.get_rng_state(), state)
    with seeded(1, torch.device("cuda")):
        assert torch.equal(torch.rand(3, device="cuda"), first)


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 16, 17, 33])
def test_batches_hold_every_item_once_and_never_one_alone(n: int) -> None:
    batches = list(TensorBatches(TensorDataset(torch.arange(n), torch.arange(n)), batch_size=16, shuffle=True, seed=0))
    assert sorted(int(i) for images, _ in batches for i in images) == list(range(n))
    assert all(2 <= len(images) <= 16 for images, _ in batches)
    assert all(torch.equal(images, targets) for images, targets in batches)


def test_every_pass_has_an_order_of_its_own_and_a_seed_repeats_them() -> None:
    dataset = TensorDataset(torch.arange(20))

    def passes() -> list[list[int]]:
        batches = TensorBatches(dataset, batch_size=20, shuffle=True, seed=4)
        return [images.tolist() for _ in range(2) for (images,) in batches]

    first, second = passes()
    assert first != second
    assert passes() == [first, second]


def test_without_shuffling_the_order_is_kept() -> None:
    assert [i for (x,) in TensorBatches(TensorDataset(torch.arange(5)), 2) for i in x.tolist()] == list(range(5))


def test_only_the_images_of_a_batch_are_transformed() -> None:
    dataset = TensorDataset(torch.ones(4), torch.ones(4))
    batches = TensorBatches(dataset, 2, transform=lambda images, generator: images + 1)
    assert [(x.tolist(), y.tolist()) for x, y in batches] == [([2.0, 2.0], [1.0, 1.0])] * 2


# -- the loop ---------------------------------------------------------------------------------------------------------


def test_a_line_is_found() -> None:
    trained = net(max_epochs=60).fit(line())
    assert trained.module_.weight.item() == pytest.approx(2, abs=0.01)
    assert not trained.interrupted_


def test_low_precision_is_used_inside_and_outputs_are_float32() -> None:
    seen = []

    class Seeing(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(out := super().forward(x))
            return out

    trained = Net(Seeing(1, 1), criterion=nn.MSELoss, precision="bfloat16", max_epochs=1, batch_size=8, verbose=0)
    trained.fit(line())
    assert {out.dtype for out in seen} == {torch.bfloat16}
    assert trained.infer(torch.zeros(1, 1)).dtype == torch.float32
    assert trained.module_.weight.dtype == torch.float32


def record(name: str, values: list[float]) -> Callback:
    """Put these values into the history, one an epoch."""

    class Recorded(Callback):
        def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
            net.history.record(name, values[len(net.history) - 1])
            net.module_.weight.data.fill_(len(net.history))

    return Recorded()


def test_the_best_state_is_put_back_and_a_tie_goes_to_the_later_epoch() -> None:
    best = BestState(lambda row: row["score"])
    trained = net([record("score", [0.1, 0.9, 0.9, 0.2]), best]).fit(line())
    assert best.best_epoch_ == 3
    assert trained.module_.weight.item() == 3


def test_patience_counts_epochs_without_a_better_one() -> None:
    best = BestState(lambda row: row["score"], patience=2)
    trained = net([record("score", [0.5, 0.5, 0.5, 0.9]), best]).fit(line())
    assert len(trained.history) == 3
    assert best.best_epoch_ == 3
    assert not trained.interrupted_


class Interrupt(Callback):
    """Press Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_batch_begin(self, net: Net, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        if net.history[-1]["epoch"] == self.epoch:
            raise KeyboardInterrupt


def test_an_interrupted_training_keeps_the_best_finished_epoch() -> None:
    best = BestState(lambda row: row["score"])
    trained = net([record("score", [0.8, 0.3, 0.0, 0.0]), best, Interrupt(3)]).fit(line())
    assert trained.interrupted_
    assert best.best_epoch_ == 1
    assert trained.module_.weight.item() == 1


def test_a_training_interrupted_at_once_has_no_best_epoch() -> None:
    best = BestState(lambda row: 0.0)
    assert net([best, Interrupt(1)]).fit(line()).interrupted_
    assert best.best_epoch_ == 0


def test_a_validation_score_sees_targets_and_outputs_in_order() -> None:
    seen = []

    def score(targets: np.ndarray, outputs: np.ndarray) -> float:
        seen.append((targets, outputs))
        return 0.25

    def split(dataset: Any, y: Any = None) -> Any:
        return dataset, dataset

    trained = net([ValidationScore(score, "quarter")], max_epochs=2, train_split=split).fit(line())
    assert trained.history[:, "quarter"] == [0.25, 0.25]
    np.testing.assert_array_equal(seen[0][0], line().tensors[1].numpy())
    assert seen[1][1].shape == (32, 1)


def test_a_loss_that_is_no_number_ends_the_training_with_advice() -> None:
    with pytest.raises(
        InvalidParameterError, match=r"diverged: the loss of epoch \d+ is (nan|inf).*smaller lr than 1e"
    ):
        net([FiniteLoss()], lr=1e30).fit(line())


def test_batch_norm_statistics_of_a_short_training_are_averages_not_the_made_up_start() -> None:
    x = 5 + torch.randn(12, 1, generator=torch.Generator().manual_seed(0))
    module = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))
    Net(
        module,
        criterion=nn.MSELoss,
        callbacks=[WarmBatchNorm()],
        max_epochs=2,
        batch_size=4,
        iterator_train__shuffle=False,
        verbose=0,
    ).fit(TensorDataset(x, x))
    assert module[0].running_mean.item() == pytest.approx(x.mean().item(), abs=1e-4)
    assert module[0].momentum == 0.1


def test_progress_reaches_the_listener_of_the_context_alone() -> None:
    outer, inner = [], []
    with report_progress(outer.append):
        with report_progress(inner.append):
            net([TellProgress("line")], max_epochs=2).fit(line())
        net([TellProgress("line")], max_epochs=1).fit(line())
    net([TellProgress("line")], max_epochs=1).fit(line())
    assert [(p.task, p.epoch, p.max_epochs) for p in inner] == [("line", 1, 2), ("line", 2, 2)]
    assert len(outer) == 1
    assert "train_loss" in outer[0].row
    assert "batches" not in outer[0].row
