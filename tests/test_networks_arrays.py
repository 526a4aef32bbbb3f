"""Networks are built of arrays once, shared by copies, and neither saved nor pickled."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sklearn.base import clone
from tiny_network import bars
from tiny_network import small as small_classifier
from tiny_pairs import MOMENT, bodies, darker

from xray_harmonize import ImageSet, InterpretableMapping, UNet, load
from xray_harmonize.classifiers import DeepFeatures
from xray_harmonize.networks.arrays import BuildsNetworks, arrays_of


class Linear(BuildsNetworks):
    """The least that builds networks: one layer of a weight."""

    def __init__(self) -> None:
        self.made = 0

    def network(self, state: dict[str, np.ndarray]) -> torch.nn.Linear:
        def new() -> torch.nn.Linear:
            self.made += 1
            return torch.nn.Linear(1, 1)

        network: torch.nn.Linear = self._built(state, new, torch.device("cpu"))
        return network


def weights(of: float) -> dict[str, np.ndarray]:
    return {"weight": np.full((1, 1), of, dtype=np.float32), "bias": np.zeros(1, dtype=np.float32)}


def test_arrays_hold_a_network_whole_and_belong_to_whoever_asked() -> None:
    network = torch.nn.BatchNorm2d(3)
    arrays = arrays_of(network)
    assert set(arrays) == set(network.state_dict())
    arrays["weight"][:] = 7
    assert network.weight[0].item() == 1


def test_a_network_is_built_once_while_its_arrays_are_the_same() -> None:
    builder, state = Linear(), weights(2)
    network = builder.network(state)
    assert builder.network(state) is network
    assert float(network.weight) == 2
    assert builder.made == 1
    assert not network.training
    assert not network.weight.requires_grad
    assert float(builder.network(weights(3)).weight) == 3


def test_building_leaves_the_random_numbers_of_others_alone() -> None:
    before = torch.get_rng_state()
    Linear().network(weights(1))
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_last_few_networks_are_kept() -> None:
    builder = Linear()
    states = [weights(k) for k in range(9)]
    for state in states:
        builder.network(state)
    builder.network(states[-1])
    assert builder.made == 9
    builder.network(states[0])
    assert builder.made == 10


def test_copies_share_what_either_built() -> None:
    builder, state = Linear(), weights(2)
    copied = copy.copy(builder)
    assert copied.network(state) is builder.network(state)


@pytest.fixture(scope="module")
def learned() -> UNet:
    return UNet(**{**MOMENT, "n_features": 2}).fit(bodies()[:4])


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    new = UNet._new_network

    def counting(self: UNet, made_with: Any) -> Any:
        made.append(new(self, made_with))
        return made[-1]

    monkeypatch.setattr(UNet, "_new_network", counting)
    return made


def test_a_harmonizer_builds_its_network_once_however_often_it_transforms(
    learned: UNet, counted: list[Any], tmp_path: Path
) -> None:
    learned.save(tmp_path / "unet.zip")
    expected = learned.transform(darker()[:2])
    for harmonizer in (load(tmp_path / "unet.zip"), pickle.loads(pickle.dumps(learned))):
        counted.clear()
        for _ in range(3):
            np.testing.assert_array_equal(harmonizer.transform(darker()[:2]), expected)
        assert len(counted) == 1


def test_what_is_set_later_changes_no_network_that_was_learned() -> None:
    harmonizer = InterpretableMapping(**{**MOMENT, "n_features": 2}).fit(bodies()[:4])
    before, table = harmonizer.transform(darker()[:1])[0], harmonizer.pixel_lut(darker()[:1], 9, 9)
    harmonizer.set_params(n_features=3, rescale="dicom")
    for one in (harmonizer, pickle.loads(pickle.dumps(harmonizer))):
        np.testing.assert_array_equal(one.transform(darker()[:1])[0], before)
        np.testing.assert_array_equal(one.pixel_lut(darker()[:1], 9, 9).y, table.y)


def test_pickles_hold_no_network(learned: UNet) -> None:
    before = pickle.dumps(learned)
    learned.transform(darker()[:1])
    assert learned._networks
    assert pickle.dumps(learned) == before
    assert not hasattr(clone(learned), "_networks")


def test_a_lazy_set_keeps_the_network_of_its_time(learned: UNet, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.rint(darker()[0] * 255).astype(np.uint8))
    harmonizer = copy.deepcopy(learned)
    lazy = harmonizer.transform(ImageSet.from_folder(tmp_path))
    expected = learned.transform(ImageSet.from_folder(tmp_path))[0]
    harmonizer.set_params(random_state=5).fit(bodies()[:4])
    assert not np.array_equal(harmonizer.transform(ImageSet.from_folder(tmp_path))[0], expected)
    np.testing.assert_array_equal(lazy[0], expected)


def test_classifiers_and_features_leave_their_networks_behind_too() -> None:
    X, y = bars(8)
    classifier = small_classifier(max_epochs=1, validation_fraction=0).fit(X, y)
    features = DeepFeatures(classifier).fit(X)
    for model, ask in ((classifier, classifier.predict_proba), (features, features.transform)):
        before = pickle.dumps(model)
        ask(X)
        if model is classifier:
            assert pickle.dumps(model) == before
        assert "_networks" in vars(model)
        assert "_networks" not in vars(pickle.loads(pickle.dumps(model)))
