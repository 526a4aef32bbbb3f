"""Pairs without a second examination: reference images, and what known distortions of their tone make of them.

A paired method needs the same body in two renderings. Where none was ever taken, images of the reference are distorted
at random, and the method learns the way back. What it cannot learn so is what no tone curve does to an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch.nn import functional

from xray_harmonize.classifiers.augment import apply_tone_curves, random_tone_curves
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.images import ImageSet
from xray_harmonize.networks.mapping import RESCALES, inverse_global_lut

DISTORTIONS: Final = ("mixed", "global", "mapping")

# One of so many images is left as it is: the reference's own images shall stay.
_ONE_UNCHANGED_IN = 8
# Points a side between which the regional maps are smooth.
_GRID = 4


@dataclass(frozen=True)
class SelfMadePairs:
    """Distorted images, and what they are to become again.

    Parameters
    ----------
    source : ImageSet
        Distorted images, float32.
    target : ImageSet
        The images as they were, with the same scanners, patients and masks.
    maps : list of (ndarray of float32 of shape (4, height, width) or None)
        a, b, wc and ww of the interpretable mapping that leads from source to target; None where it was another curve.
    """

    source: ImageSet
    target: ImageSet
    maps: list[np.ndarray | None]


def self_made_pairs(
    X: Any,
    distortion: str = "mixed",
    *,
    rescale: str = "endpoint",
    random_state: int | np.random.RandomState | None = None,
) -> SelfMadePairs:
    """Distort images at random, each in its own way.

    Parameters
    ----------
    X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        Images of the reference; all are read.
    distortion : {"mixed", "global", "mapping"}, default="mixed"
        See :func:`distort`.
    rescale : {"endpoint", "dicom"}, default="endpoint"
        Of the mappings' sigmoid.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    SelfMadePairs

    Raises
    ------
    InvalidParameterError
        If ``distortion`` or ``rescale`` is none of these.

    Examples
    --------
    >>> pairs = self_made_pairs(np.random.default_rng(0).random((3, 16, 16)), "mapping", random_state=0)
    >>> len(pairs.source), pairs.maps[0].shape
    (3, (4, 16, 16))
    """
    check_distortion(distortion)
    check_rescale(rescale)
    images = ImageSet.of(X)
    generator = torch.Generator().manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))
    sources, maps = [], []
    for i in range(len(images)):
        source, truth, known = distort(torch.from_numpy(images.unit(i))[None, None], generator, distortion, rescale)
        sources.append(source[0, 0].numpy())
        maps.append(truth[0].numpy() if known[0] else None)
    masks = [images.mask(i) for i in range(len(images))]
    source_set = ImageSet(sources, images.scanner, images.patient, mask=masks)
    target = ImageSet([images.unit(i) for i in range(len(images))], images.scanner, images.patient, mask=masks)
    return SelfMadePairs(source_set, target, maps)


def distort(
    targets: torch.Tensor, generator: torch.Generator, distortion: str = "mixed", rescale: str = "endpoint"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Make sources of targets, by tone alone.

    Parameters
    ----------
    targets : tensor of shape (n, 1, height, width)
        In [0, 1], on the CPU.
    generator : torch.Generator
    distortion : {"mixed", "global", "mapping"}, default="mixed"
        "global": one smooth rising curve an image, which may also lose range at either end, as scanners differ
        (:func:`~xray_harmonize.classifiers.augment.random_tone_curves`). "mapping": the way back through a random
        interpretable mapping, whose regional part differs from place to place. "mixed": either, by turns. One image in
        eight stays as it is, but for "mapping".
    rescale : {"endpoint", "dicom"}, default="endpoint"
        Of the mappings' sigmoid.

    Returns
    -------
    sources : tensor of shape (n, 1, height, width)
        In [0, 1].
    maps : tensor of shape (n, 4, height, width)
        True maps from source to target; zero where unknown.
    known : tensor of bool of shape (n,)
        Whether they are known.

    Examples
    --------
    >>> targets = torch.rand(2, 1, 8, 8)
    >>> sources, maps, known = distort(targets, torch.Generator().manual_seed(0), "global")
    >>> sources.shape, bool(known.any())
    (torch.Size([2, 1, 8, 8]), False)
    """
    n = len(targets)
    maps = random_maps(n, targets.shape[-2:], generator)
    curves = random_tone_curves(n, generator)
    unchanged = torch.randint(_ONE_UNCHANGED_IN, (n, 1), generator=generator) == 0
    curves = torch.where(unchanged, torch.linspace(0, 1, curves.shape[1]), curves)
    known = torch.rand(n, generator=generator) < {"mixed": 0.5, "global": 0.0, "mapping": 1.0}[distortion]
    by_curve = apply_tone_curves(targets, curves)
    a, b, wc, ww = maps.split(1, dim=1)
    by_maps = (inverse_global_lut(targets, wc, ww, rescale) - b) / a
    chosen = known.view(-1, 1, 1, 1)
    return torch.where(chosen, by_maps, by_curve).clamp(0, 1), torch.where(chosen, maps, 0.0), known


def random_maps(n: int, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draw maps of interpretable mappings: smooth a and b, and one wc and ww an image.

    Parameters
    ----------
    n : int
    shape : tuple of int
        (height, width).
    generator : torch.Generator

    Returns
    -------
    tensor of shape (n, 4, height, width)
        a about 1 (a tenth of them beyond 0.6 to 1.7), b about 0 (beyond +-0.16), wc in [0.35, 0.65], ww in [0.5, 2].

    Examples
    --------
    >>> random_maps(2, (8, 9), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 4, 8, 9])
    """
    height, width = shape
    # As much of the deviation is the whole image's as is the regions'.
    coarse = torch.randn(n, 2, _GRID, _GRID, generator=generator) + torch.randn(n, 2, 1, 1, generator=generator)
    smooth = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    a = torch.exp(0.22 * smooth[:, :1])
    b = (0.07 * smooth[:, 1:]).clamp(-0.4, 0.4)
    uniform = torch.rand(n, 2, 1, 1, generator=generator)
    wc = 0.35 + 0.3 * uniform[:, :1]
    ww = 0.5 * 4 ** uniform[:, 1:]
    return torch.cat([a, b, wc.expand_as(a), ww.expand_as(a)], dim=1)


def check_distortion(distortion: object) -> None:
    """Refuse a distortion that is none.

    Raises
    ------
    InvalidParameterError
    """
    if not isinstance(distortion, str) or distortion not in DISTORTIONS:
        raise InvalidParameterError(f"distortion must be 'mixed', 'global' or 'mapping'; got {distortion!r}.")


def check_rescale(rescale: object) -> None:
    """Refuse a way of stretching the sigmoid that is none; the equations would take it for "dicom" or "endpoint".

    Raises
    ------
    InvalidParameterError
    """
    if not isinstance(rescale, str) or rescale not in RESCALES:
        raise InvalidParameterError(f"rescale must be 'endpoint' or 'dicom'; got {rescale!r}.")
