"""The network of a classifier by itself, as what learns by its answers is given it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_network import bars, small

from xray_harmonize.classifiers import ResNetClassifier


@pytest.fixture(scope="module")
def fitted() -> ResNetClassifier:
    return small(max_epochs=10, validation_fraction=0).fit(*bars(60))


def test_the_network_is_a_frozen_copy_that_answers_as_the_classifier_does(fitted: ResNetClassifier) -> None:
    X, _ = bars(6)
    network = fitted.network()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    odds = torch.softmax(network(torch.from_numpy(X[:, None]).float()), dim=1)
    np.testing.assert_allclose(odds.numpy(), fitted.predict_proba(X), atol=1e-5)


def test_gradients_flow_through_the_network_to_its_images(fitted: ResNetClassifier) -> None:
    images = torch.rand(2, 1, 24, 24, requires_grad=True)
    fitted.network()(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_what_happens_to_the_copy_does_not_happen_to_the_classifier(fitted: ResNetClassifier) -> None:
    X, _ = bars(6)
    before = fitted.predict_proba(X)
    network = fitted.network()
    for parameter in network.parameters():
        parameter.zero_()
    network.train()
    np.testing.assert_array_equal(fitted.predict_proba(X), before)
    assert fitted.network() is not network


def test_there_is_no_network_before_fitting() -> None:
    with pytest.raises(ValueError, match="not fitted yet"):
        small().network()
