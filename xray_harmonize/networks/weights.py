"""Pre-trained weights from a file that the user names, brought to the names of :mod:`xray_harmonize.networks.resnet`.

Layouts that are understood:

=====================================  ===========================================================================
``conv1.weight``, ``layer1.0.…``       the common ImageNet ResNets, and MONAI's
``module.…``                           saved from a data-parallel network
``backbone.…``, ``encoder.…``, …       a backbone inside a larger network
``backbone.0.…``, ``backbone.4.0.…``   RadImageNet's: the children of a ResNet numbered in an ``nn.Sequential``
``{"state_dict": {…}, "epoch": …}``    a training checkpoint around one of these
=====================================  ===========================================================================

The classes of whoever trained the weights are not ours, so a last layer in the file (``fc``, ``head``,
``classifier``) is left out.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from xray_harmonize.exceptions import MissingDependencyError, PersistenceError

NUMBERED: Final = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}
"""Place among the children of a ResNet -> its name (2, 3 and 8 are ReLU and poolings, which hold no weights)."""

PREFIXES: Final = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")
NESTED: Final = ("state_dict", "model_state_dict", "model", "net", "weights")
LAST_LAYERS: Final = ("fc.", "head.", "classifier.")


def read_weights(path: str | PathLike[str]) -> dict[str, torch.Tensor]:
    """Tensors by name, read without running anything that the file holds.

    Parameters
    ----------
    path : path
        ``.safetensors``, or a file of ``torch.save`` (``.pt``, ``.pth``, ...), which is read with
        ``weights_only=True``. A checkpoint may hold its weights under ``"state_dict"`` or the like.

    Returns
    -------
    dict of str to tensor
        On the CPU, whatever they were saved from.

    Raises
    ------
    PersistenceError
        If the file is missing, holds anything else than tensors, or is no weight file.
    MissingDependencyError
        If it is a ``.safetensors`` file and safetensors is not installed.

    Examples
    --------
    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"state_dict": {"fc.bias": torch.zeros(2)}}, f"{folder}/checkpoint.pt")
    ...     read_weights(f"{folder}/checkpoint.pt")
    {'fc.bias': tensor([0., 0.])}
    """
    file = Path(path)
    if not file.is_file():
        raise PersistenceError(f"weights={str(file)!r}: there is no such file.")
    content = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise PersistenceError(
            f"weights={str(file)!r} holds a {type(content).__name__}, not tensors by name. Save network.state_dict()."
        )
    tensors = {str(name): value for name, value in content.items() if torch.is_tensor(value)}
    if not tensors:
        raise PersistenceError(f"weights={str(file)!r} holds no tensors.")
    return tensors


def _read_torch(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
    ) as error:
        raise PersistenceError(
            f"weights={str(file)!r} cannot be read as tensors alone (weights_only=True), so it was not opened further. "
            "Save network.state_dict() with torch.save, or as .safetensors."
        ) from error


def _read_safetensors(file: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError(
            f"Reading {file.name!r} needs safetensors; install it, or give a .pt file."
        ) from error
    try:
        return load_file(file, device="cpu")
    except (SafetensorError, ValueError, OSError) as error:
        raise PersistenceError(f"weights={str(file)!r} is no safetensors file: {error}.") from error


def backbone_names(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the same tensors under the names of a bare ResNet, without a last layer.

    Prefixes (``module.``, ``backbone.``, ...) are cut, also several in a row, and RadImageNet's numbers become names.

    Examples
    --------
    >>> import torch
    >>> one = torch.zeros(1)
    >>> list(backbone_names({"module.backbone.0.weight": one, "module.backbone.4.0.bn1.bias": one, "fc.bias": one}))
    ['conv1.weight', 'layer1.0.bn1.bias']
    """
    named: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        bare = _without_prefixes(name)
        number, _, rest = bare.partition(".")
        if number in NUMBERED:
            bare = f"{NUMBERED[number]}.{rest}"
        if not bare.startswith(LAST_LAYERS):
            named[bare] = tensor
    return named


def _without_prefixes(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name


def match_channels(kernel: torch.Tensor, in_channels: int) -> torch.Tensor:
    """First convolution for another number of input channels, with the same answer to a grey image.

    A grey image repeated three times and a kernel of three channels give what the grey image and the *sum* of the
    kernel over its channels give; the other way round each of three channels gets a third.

    Parameters
    ----------
    kernel : tensor of shape (out_channels, channels, height, width)
    in_channels : int
        1 or 3.

    Returns
    -------
    tensor of shape (out_channels, in_channels, height, width)
        The kernel itself where there is nothing to do, or nothing that could be done (for 2 or 4 channels).

    Examples
    --------
    >>> import torch
    >>> match_channels(torch.ones(4, 3, 7, 7), 1).unique()
    tensor([3.])
    """
    if kernel.ndim == 4 and kernel.shape[1] == 3 and in_channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    if kernel.ndim == 4 and kernel.shape[1] == 1 and in_channels == 3:
        return kernel.expand(-1, 3, -1, -1) / 3
    return kernel


def load_backbone(backbone: nn.Module, path: str | PathLike[str]) -> None:
    """Fill a bare ResNet with the weights of a file, all of them or none.

    Parameters
    ----------
    backbone : nn.Module
        As :func:`xray_harmonize.networks.resnet.resnet_backbone` makes it. Changed in place.
    path : path
        See :func:`read_weights`.

    Raises
    ------
    PersistenceError
        If the file cannot be read; or if it lacks tensors of the network, has others, or some of another shape, each
        named in the message. The network is as before.
    """
    own = backbone.state_dict()
    given = backbone_names(read_weights(path))
    if "conv1.weight" in given:
        given["conv1.weight"] = match_channels(given["conv1.weight"], own["conv1.weight"].shape[1])
    # Files of early PyTorch versions have no batch counters; batch normalization does not use them in evaluation.
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in given and name not in counters]
    unexpected = [name for name in given if name not in own and not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if missing or unexpected or shapes:
        raise PersistenceError(
            f"weights={str(path)!r} do not fit this ResNet (depth, width).\n"
            f"  missing: {_listed(missing)}\n"
            f"  unexpected: {_listed(unexpected)}\n"
            f"  other shape: {_listed(shapes)}\n"
            "Choose the depth and width that the file was trained with; the last layer is ours and is not looked for."
        )
    backbone.load_state_dict({**own, **{name: given[name] for name in own if name in given}})


def _listed(names: Iterable[str], at_most: int = 12) -> str:
    names = list(names)
    more = f", and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) + more) or "none"
