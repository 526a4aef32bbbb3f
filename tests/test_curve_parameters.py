"""Which parameters GDCE refuses, and when."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression
from tiny_gdce import BRIGHT, DARK, REFERENCE, images, labels, quick, same_curves, taught

from xray_harmonize.exceptions import InvalidParameterError


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_layers": 0}, "n_layers must be a whole number from 1 to 9; got 0"),
        ({"n_layers": 10}, "n_layers must be a whole number from 1 to 9; got 10"),
        ({"n_layers": 2.5}, "n_layers must be a whole number from 1 to 9; got 2.5"),
        ({"n_iterations": 0}, "n_iterations must be a whole number from 1 to 32; got 0"),
        ({"n_iterations": 33}, "n_iterations must be a whole number from 1 to 32; got 33"),
        ({"view_size": 15, "n_layers": 5}, "view_size must be .* at least 16 for n_layers=5, which halves it 4 times"),
        ({"view_size": None}, "view_size must be a whole number of pixels, at least 2 for n_layers=2.*; got None"),
        ({"scope": "mixed"}, "scope must be 'image' or 'scanner'; got 'mixed'"),
        ({"supervision": "none"}, "supervision must be 'labels' or 'distribution'; got 'none'"),
        ({"start": "identity"}, "start must be 'matched' or 'random'; got 'identity'"),
        ({"unseen": "image"}, "unseen must be 'error' or 'identity'; got 'image'"),
        ({"perceptual": "maps"}, "perceptual must be 'pooled', 'map' or None; got 'maps'"),
        ({"weighting": "mean"}, "weighting must be one of smooth, sum, ratio; got 'mean'"),
        ({"perceptual_weight": 1.0}, r"perceptual_weight must lie in \[0, 1\); got 1.0"),
        ({"speed": "slow"}, "speed must be 'exact', 'fast' or 'faster'; got 'slow'"),
        ({"schedule": "cosine"}, "schedule must be one of one_cycle, constant; got 'cosine'"),
        ({"lr": 0}, "lr must be above 0; got 0"),
        ({"lr": "fast"}, "lr must be above 0; got 'fast'"),
        ({"patience": "long"}, "patience must be None or at least 1; got 'long'"),
        ({"validation_fraction": "some"}, r"validation_fraction must lie in \[0, 1\); got 'some'"),
        ({"perceptual_weight": "half"}, r"perceptual_weight must lie in \[0, 1\); got 'half'"),
        ({"flip": "no"}, "flip must be True or False; got 'no'"),
        ({"precision": ["float32"]}, "precision must be one of auto, float32, bfloat16, float16; got "),
        ({"reference": 1}, r"reference must be the name of a scanner as text, or None; got 1 \(int\)"),
        ({"patience": 0}, "patience must be None or at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1; got 0"),
        ({"batch_size": None}, "batch_size must be a whole number, at least 1; got None"),
        ({"max_steps": 0}, "max_steps must be a whole number, at least 1; got 0"),
        ({"max_steps": True}, "max_steps must be a whole number, at least 1; got True"),
        ({"max_epochs": 1.5}, "max_epochs must be a whole number, at least 1; got 1.5"),
        ({"image_size": 7}, "image_size must be a whole number, at least 8; got 7"),
        ({"validation_fraction": 1}, r"validation_fraction must lie in \[0, 1\); got 1"),
        ({"discriminator": LogisticRegression()}, "discriminator must be a ResNetClassifier.*; got a LogisticRegress"),
        ({"discriminator": "resnet.pt"}, "discriminator must be a ResNetClassifier.*; got a str"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16, float16; got 'half'"),
        ({"precision": "float16"}, "precision='float16' needs a GPU; on cpu use"),
        ({"device": "tpu"}, "device='tpu' is not there on this machine"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_parameters_out_of_range_are_refused_by_name(parameters: dict[str, Any], message: str) -> None:
    harmonizer = quick().set_params(**parameters)
    with pytest.raises(InvalidParameterError, match=message):
        harmonizer.fit(images(REFERENCE, DARK), labels(REFERENCE, DARK))


def test_applying_curves_needs_no_device_that_was_trained_on() -> None:
    X = images(REFERENCE, DARK)
    elsewhere = copy.deepcopy(taught("image", "labels")).set_params(device="cuda:99", precision="float16")
    assert same_curves(elsewhere, taught("image", "labels"), X)
    assert len(elsewhere.transform(X)) == len(X)
    with pytest.raises(InvalidParameterError, match="device='cuda:99' is not there on this machine"):
        elsewhere.adapt(images(BRIGHT))
