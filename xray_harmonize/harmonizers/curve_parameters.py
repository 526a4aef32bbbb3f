"""Which parameters GDCE can be fitted with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xray_harmonize.classifiers.resnet import ResNetClassifier
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.curve_objectives import RANDOM, Objective
from xray_harmonize.harmonizers.curve_start import STARTS
from xray_harmonize.harmonizers.curve_training import Steps
from xray_harmonize.networks.curve import check_curve
from xray_harmonize.networks.vgg import VGGFeatures
from xray_harmonize.parameters import check_number, check_truth, check_whole_numbers
from xray_harmonize.training import resolve_device, resolve_precision

_CHOICES = {
    "scope": ("image", "scanner"),
    "supervision": ("labels", "distribution"),
    "start": STARTS,
    "unseen": ("error", "identity"),
}
_NUMBERS = {"batch_size": 1, "max_steps": 1, "max_epochs": 1, "image_size": 8}
_MAY_BE_OPEN = {"max_steps", "max_epochs", "image_size"}


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters out of range, by name.

    Parameters
    ----------
    parameters : mapping of str to object
        Those of :class:`~xray_harmonize.harmonizers.gdce.GDCE`.

    Raises
    ------
    InvalidParameterError
    """
    check_curve(parameters["n_layers"], parameters["n_iterations"], parameters["view_size"])
    for name, known in _CHOICES.items():
        if parameters[name] not in known:
            raise InvalidParameterError(f"{name} must be {' or '.join(map(repr, known))}; got {parameters[name]!r}.")
    left_open = {name for name in _MAY_BE_OPEN if parameters[name] is None}
    check_whole_numbers(parameters, {name: least for name, least in _NUMBERS.items() if name not in left_open})
    fraction = parameters["validation_fraction"]
    check_number("validation_fraction", fraction, "lie in [0, 1)", lambda share: 0 <= share < 1)
    check_truth("flip", parameters["flip"])
    discriminator = parameters["discriminator"]
    if discriminator is not None and not isinstance(discriminator, ResNetClassifier):
        raise InvalidParameterError(
            "discriminator must be a ResNetClassifier, through which gradients can flow; got a "
            f"{type(discriminator).__name__}."
        )
    Objective.check(
        parameters["perceptual"], parameters["weighting"], parameters["perceptual_weight"], parameters["speed"]
    )
    lr = parameters["lr"]
    Steps(1, 1, 1, 1.0 if lr is None else lr, parameters["schedule"], parameters["patience"])


def check_training(parameters: Mapping[str, Any]) -> None:
    """Refuse the same, and a device, precision or weights that are not there: who only applies curves needs none.

    Parameters
    ----------
    parameters : mapping of str to object
        Those of :class:`~xray_harmonize.harmonizers.gdce.GDCE`.

    Raises
    ------
    InvalidParameterError
        Also if this machine has no such device, or cannot compute in the precision there.
    PersistenceError
        If the file of VGG-16 weights cannot be read, or holds others.
    """
    check_parameters(parameters)
    resolve_precision(parameters["precision"], resolve_device(parameters["device"]))
    if parameters["perceptual"] is not None and parameters["vgg_weights"] not in (None, RANDOM):
        VGGFeatures(parameters["vgg_weights"])
