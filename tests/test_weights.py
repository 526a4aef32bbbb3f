"""Pre-trained weights from files."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from xray_harmonize.exceptions import MissingDependencyError, PersistenceError
from xray_harmonize.networks.resnet import resnet_backbone
from xray_harmonize.networks.weights import NUMBERED, backbone_names, load_backbone, match_channels, read_weights

State = dict[str, torch.Tensor]


def state(depth: int = 10, width: int = 4, in_channels: int = 3) -> State:
    """Random weights under the common names, with a last layer as published files have it."""
    backbone = resnet_backbone(depth, width, in_channels)
    generator = torch.Generator().manual_seed(0)
    filled = {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in backbone.state_dict().items()
    }
    return {**filled, "fc.weight": torch.zeros(1000, 8 * width), "fc.bias": torch.zeros(1000)}


def numbered(common: State) -> State:
    names = {name: number for number, name in NUMBERED.items()}
    parts = {name: name.partition(".") for name in common if not name.startswith("fc.")}
    return {f"backbone.{names[first]}.{rest}": common[name] for name, (first, _, rest) in parts.items()}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "common": lambda s: s,
    "data-parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "inside a network": lambda s: {f"backbone.{k}": v for k, v in s.items()},
    "both": lambda s: {f"module.encoder.{k}": v for k, v in s.items()},
    "numbered": numbered,
    "numbered, data-parallel": lambda s: {f"module.{k}": v for k, v in numbered(s).items()},
    "checkpoint": lambda s: {"epoch": 3, "state_dict": s},
    "without batch counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_fills_the_whole_backbone(tmp_path: Path, layout: str) -> None:
    common = state()
    torch.save(LAYOUTS[layout](common), tmp_path / "weights.pt")
    backbone = resnet_backbone(10, 4, 3)
    load_backbone(backbone, tmp_path / "weights.pt")
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, common[name]), name


def test_safetensors_are_read(tmp_path: Path) -> None:
    common = state()
    save_file(common, tmp_path / "weights.safetensors")
    backbone = resnet_backbone(10, 4, 3)
    load_backbone(backbone, str(tmp_path / "weights.safetensors"))
    assert torch.equal(backbone.state_dict()["layer4.0.conv2.weight"], common["layer4.0.conv2.weight"])


def test_one_channel_answers_as_three_repeated_ones(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "weights.pt")
    grey, colour = resnet_backbone(10, 4, 1).eval(), resnet_backbone(10, 4, 3).eval()
    load_backbone(grey, tmp_path / "weights.pt")
    load_backbone(colour, tmp_path / "weights.pt")
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_three_channels_answer_as_one(tmp_path: Path) -> None:
    torch.save(state(in_channels=1), tmp_path / "weights.pt")
    grey, colour = resnet_backbone(10, 4, 1).eval(), resnet_backbone(10, 4, 3).eval()
    load_backbone(grey, tmp_path / "weights.pt")
    load_backbone(colour, tmp_path / "weights.pt")
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_a_kernel_of_other_channels_is_left_for_the_mismatch_to_name() -> None:
    kernel = torch.rand(4, 2, 7, 7)
    assert match_channels(kernel, 1) is kernel


def test_a_mismatch_lists_missing_unexpected_and_misshapen_keys_and_changes_nothing(tmp_path: Path) -> None:
    given = state()
    del given["layer3.0.bn1.weight"]
    given["extra.weight"] = torch.zeros(1)
    given["layer2.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    torch.save(given, tmp_path / "weights.pt")
    backbone = resnet_backbone(10, 4, 3)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(PersistenceError) as caught:
        load_backbone(backbone, tmp_path / "weights.pt")
    message = str(caught.value)
    assert "missing: layer3.0.bn1.weight\n" in message
    assert "unexpected: extra.weight\n" in message
    assert "other shape: layer2.0.conv1.weight (1, 2, 3, 3) for (8, 4, 3, 3)\n" in message
    assert "Choose the depth and width" in message
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_a_long_list_of_keys_is_cut(tmp_path: Path) -> None:
    torch.save(state(depth=50), tmp_path / "weights.pt")
    with pytest.raises(PersistenceError, match=r"unexpected: .*, and [0-9]+ more"):
        load_backbone(resnet_backbone(10, 4, 3), tmp_path / "weights.pt")


def test_a_last_layer_is_left_out() -> None:
    names = backbone_names({"head.0.weight": torch.zeros(1), "conv1.weight": torch.zeros(1)})
    assert list(names) == ["conv1.weight"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PersistenceError, match=r"nowhere\.pt.*there is no such file"):
        read_weights(tmp_path / "nowhere.pt")


class Trap:
    """Writes a file if it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "sprung")}, tmp_path / "weights.pt")
    with pytest.raises(PersistenceError, match="cannot be read as tensors alone"):
        read_weights(tmp_path / "weights.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
    with pytest.raises(PersistenceError, match="cannot be read as tensors alone"):
        read_weights(tmp_path / "plain.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 cut"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PersistenceError, match=r"cannot be read as tensors alone|is no safetensors file"):
        read_weights(tmp_path / name)


def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(PersistenceError, match="holds a list, not tensors by name"):
        read_weights(tmp_path / "list.pt")
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(PersistenceError, match="holds no tensors"):
        read_weights(tmp_path / "empty.pt")


def test_safetensors_without_its_library_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(state(), tmp_path / "weights.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(MissingDependencyError, match="needs safetensors"):
        read_weights(tmp_path / "weights.safetensors")
