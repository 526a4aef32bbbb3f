"""Pairs of images as a training takes them: each read once, small, of one shape, and in an order of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
import torch

from xray_harmonize.classifiers.augment import random_affine, random_flip
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.geometry.resampling import resampled
from xray_harmonize.harmonizers.base import naming
from xray_harmonize.harmonizers.curve_batches import Batch, DrawnImages, Inputs
from xray_harmonize.harmonizers.self_made_pairs import distort
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import as_unit
from xray_harmonize.networks.mapping import MAPS
from xray_harmonize.radiograph import Radiograph

Shape = tuple[int, int]
OfShape = Callable[[Shape], Shape]

# Between these the maps a, b, wc and ww are brought to [0, 1] while images are turned.
_LOWEST = torch.tensor([0.0, -1.0, -1.0, 0.0]).view(1, 4, 1, 1)
_HIGHEST = torch.tensor([10.0, 1.0, 2.0, 10.0]).view(1, 4, 1, 1)

# Beyond this no map is one for greys in [0, 1]; within it those that a network cannot give are brought to its ends.
_LARGEST_MAP = 100.0


def small_view(radiograph: Radiograph, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Give an image as a network sees it: averaged over areas, of the pixels that count.

    Parameters
    ----------
    radiograph : Radiograph
        Stored values, or floats in [0, 1].
    shape : tuple of int
        (height, width) of the view; where it is larger than the image, that is enlarged bilinearly.

    Returns
    -------
    view : ndarray of float32 of shape ``shape``
        Fractions of full scale; black where nothing counts.
    weight : ndarray of float32 of shape ``shape``
        What part of each pixel counts.

    Raises
    ------
    InvalidImageError
        If the mask leaves no pixel, or pixels are NaN or beyond full scale.

    Examples
    --------
    >>> small_view(Radiograph(np.array([[0.0, 1.0], [0.5, 1.0]]), mask=np.array([[1, 0], [1, 0]], bool)), (1, 1))
    (array([[0.25]], dtype=float32), array([[0.5]], dtype=float32))
    """
    pixels = as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name or "The image")
    if radiograph.mask is None:
        return resampled(pixels, shape), np.ones(shape, dtype=np.float32)
    if not radiograph.mask.any():
        raise InvalidImageError("There is no pixel to look at: the mask is empty. Check the mask.")
    counts = radiograph.mask.astype(np.float32)
    weight = resampled(counts, shape)
    view = resampled(pixels * counts, shape)
    return np.where(weight > 0, np.clip(view / np.maximum(weight, 1e-6), 0, 1), 0).astype(np.float32), weight


@dataclass(frozen=True)
class PairImages(DrawnImages):
    """Targets, and their sources where these are not made of the targets.

    Parameters
    ----------
    target, weight : tensor of shape (n, 1, height, width)
        Images in [0, 1], and what part of each pixel counts.
    source : tensor of shape (n, 1, height, width) or None
        None: sources are made of the targets, anew for every batch.
    maps : tensor of shape (n, 4, height, width) or None
        True maps from source to target, where somebody knows them.
    known : tensor of bool of shape (n,) or None
        Whether the maps of each pair are true; None: of all, where there are maps.
    distortion, rescale : str
        How sources are made, see :func:`~xray_harmonize.harmonizers.self_made_pairs.distort`.
    augment : bool
        Whether pairs are mirrored, turned and zoomed at random.
    """

    target: torch.Tensor
    weight: torch.Tensor
    source: torch.Tensor | None = None
    maps: torch.Tensor | None = None
    distortion: str = "mixed"
    rescale: str = "endpoint"
    augment: bool = True
    known: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.target)

    def take(self, chosen: np.ndarray) -> PairImages:
        """Give some of the pairs."""
        at = torch.as_tensor(chosen)
        source = None if self.source is None else self.source[at]
        maps = None if self.maps is None else self.maps[at]
        known = None if self.known is None else self.known[at]
        return replace(self, target=self.target[at], weight=self.weight[at], source=source, maps=maps, known=known)

    def canonical_order(self) -> np.ndarray:
        """Order by content, so that a training does not depend on the order in which images were given."""
        parts = [self.target] if self.source is None else [self.target, self.source]
        keys = []
        for i in range(len(self)):
            digest = blake2b(b"".join(part[i].numpy().tobytes() for part in parts), digest_size=16).digest()
            # Means first, so that it does not depend on the bits that grey values are stored in either.
            keys.append((*(float(part[i].double().mean()) for part in parts), digest))
        return np.array(sorted(range(len(self)), key=keys.__getitem__), dtype=np.intp)

    def draws(self, rng: np.random.RandomState) -> Callable[[int], tuple[Inputs, Batch]]:
        """Give a function that draws batches, every pair once before any comes again."""
        generator = torch.Generator().manual_seed(int(rng.randint(2**31 - 1)))
        left: list[int] = []

        def draw(batch_size: int) -> tuple[Inputs, Batch]:
            chosen = []
            for _ in range(batch_size):
                if not left:
                    left.extend(rng.permutation(len(self)).tolist())
                chosen.append(left.pop())
            return self.batch(np.array(chosen), generator, self.augment)

        return draw

    def batch(self, chosen: np.ndarray, generator: torch.Generator, augment: bool) -> tuple[Inputs, Batch]:
        """Give what the network gets of some pairs, and what its loss does.

        Parameters
        ----------
        chosen : ndarray of int of shape (n,)
        generator : torch.Generator
            Of distortions and augmentation.
        augment : bool
        """
        at = torch.as_tensor(chosen)
        known = torch.zeros(len(at), dtype=torch.bool)
        parts = [self.target[at], self.weight[at]]
        if self.source is not None:
            parts.append(self.source[at])
        if self.maps is not None:
            parts.append((self.maps[at] - _LOWEST) / (_HIGHEST - _LOWEST))
            known = ~known if self.known is None else self.known[at]
        together = torch.cat(parts, dim=1)
        if augment:
            together = random_affine(random_flip(together, generator), generator)
        target, weight = together[:, :1], together[:, 1:2]
        maps = target.new_zeros(len(at), 4, *target.shape[2:])
        if self.source is None:
            source, maps, known = distort(target, generator, self.distortion, self.rescale)
            # What does not count was black before, and is black in every view.
            source = source * (weight > 0)
        else:
            source = together[:, 2:3]
        if self.maps is not None:
            maps = together[:, 3:] * (_HIGHEST - _LOWEST) + _LOWEST
        batch = {"source": source, "target": target, "weight": weight, "maps": maps, "known": known}
        return {"images": source, "weight": weight}, batch


def read_targets(
    images: ImageSet, of_shape: OfShape, distortion: str = "mixed", rescale: str = "endpoint", augment: bool = True
) -> PairImages:
    """Read images of one rendering, of which sources are to be made.

    Parameters
    ----------
    images : ImageSet
    of_shape : callable
        Shape of the view of an image by its own shape.
    distortion, rescale, augment
        As :class:`PairImages`.

    Raises
    ------
    InvalidImageError
        If an image holds NaN or values beyond its full scale, or its mask leaves no pixel.
    """
    views = [_named_view(images.radiograph(i), of_shape) for i in range(len(images))]
    shape = _middle_shape([view.shape for view, _ in views])
    target, weight = (_stack([pair[k] for pair in views], shape) for k in range(2))
    return PairImages(target, weight, distortion=distortion, rescale=rescale, augment=augment)


def read_pairs(
    images: ImageSet, targets: ImageSet, maps: Sequence[np.ndarray | None] | None, of_shape: OfShape, augment: bool
) -> PairImages:
    """Read images and what they are to become.

    Parameters
    ----------
    images, targets : ImageSet
        The same bodies in the same order; pixels count where both masks say so.
    maps : sequence of (ndarray of shape (4, height, width) or None), or None
        True maps from one to the other, of any resolution; None where they are not known.
    of_shape, augment
        As :func:`read_targets`.

    Raises
    ------
    InvalidParameterError
        If numbers differ, or maps are no maps.
    InvalidImageError
        As :func:`read_targets`, and if the two images of a pair differ in shape, or no pixel counts in both.
    """
    n = len(images)
    if len(targets) != n:
        raise InvalidParameterError(
            f"There are {n} images but {len(targets)} targets; expected one an image, in the same order."
        )
    truths = [None] * n if maps is None else _checked_maps(maps, n)
    sources, wanted, weights = [], [], []
    for i in range(n):
        radiograph, target = images.radiograph(i), _target(targets, i)
        if radiograph.pixels.shape != target.pixels.shape:
            raise InvalidImageError(
                f"{radiograph.name} has shape {radiograph.pixels.shape} but its target {target.pixels.shape}; expected "
                "the same body, pixel by pixel. Resample one of them first."
            )
        view, weight = _named_view(radiograph, of_shape)
        other, of_target = _named_view(target, of_shape)
        _check_overlap(radiograph, target)
        sources.append(view)
        wanted.append(other)
        weights.append(np.minimum(weight, of_target))
    shape = _middle_shape([view.shape for view in sources])
    read = PairImages(_stack(wanted, shape), _stack(weights, shape), _stack(sources, shape), augment=augment)
    known = [four is not None for four in truths]
    if not any(known):
        return read
    unknown = np.zeros((4, *shape), dtype=np.float32)
    truth = np.stack([unknown if four is None else [resampled(one, shape) for one in four] for four in truths])
    return replace(read, maps=torch.from_numpy(truth).clamp(_LOWEST, _HIGHEST), known=torch.tensor(known))


def _named_view(radiograph: Radiograph, of_shape: OfShape) -> tuple[np.ndarray, np.ndarray]:
    with naming(radiograph):
        height, width = radiograph.pixels.shape
        return small_view(radiograph, of_shape((height, width)))


def read_target_set(target: Any) -> ImageSet:
    """Make an ImageSet of what a ``fit`` was given as ``target``.

    Raises
    ------
    InvalidImageError
        As :meth:`ImageSet.of <xray_harmonize.ImageSet.of>`, told of the target.

    Examples
    --------
    >>> len(read_target_set(np.zeros((3, 4, 4))))
    3
    """
    with _told_of_target():
        return ImageSet.of(target)


def _target(targets: ImageSet, i: int) -> Radiograph:
    # Both sets may call an image "Image 2"; which of them an error means must be told.
    with _told_of_target():
        radiograph = targets.radiograph(i)
    return replace(radiograph, name=_target_name(radiograph.name))


@contextmanager
def _told_of_target() -> Iterator[None]:
    try:
        yield
    except InvalidImageError as error:
        told = str(error).replace("X[None]", "target[None]")
        told = _target_name(told) if told.startswith("Image ") else f"target: {told}"
        raise InvalidImageError(told) from error


def _target_name(name: str) -> str:
    return f"Target {name.removeprefix('Image ')}"


def _check_overlap(radiograph: Radiograph, target: Radiograph) -> None:
    """Refuse a pair of which no pixel counts: from it nothing is learned, and nothing would tell."""
    if radiograph.mask is not None and target.mask is not None and not (radiograph.mask & target.mask).any():
        raise InvalidImageError(
            f"{radiograph.name} and its target have no pixel in common: their masks hold {radiograph.mask.sum()} and "
            f"{target.mask.sum()} pixels, but none in both. Expected the same body; check the masks, or leave the pair "
            "out."
        )


def _checked_maps(maps: Any, n: int) -> list[np.ndarray | None]:
    listed = hasattr(maps, "__len__") and hasattr(maps, "__getitem__") and getattr(maps, "ndim", None) != 0
    if not listed or isinstance(maps, str | bytes | Mapping | pd.DataFrame):
        raise InvalidParameterError(
            "maps must be a list with an array of shape (4, height, width) for every image, or None where its maps are "
            f"not known; got {type(maps).__name__}. Give such a list, or leave maps out."
        )
    if len(maps) != n:
        raise InvalidParameterError(f"There are {n} images but maps of {len(maps)}; expected one array an image.")
    return [None if one is None else _four_maps(one, i) for i, one in enumerate(maps)]


def _four_maps(maps: Any, i: int) -> np.ndarray:
    expected = "expected finite numbers of shape (4, height, width): a, b, wc and ww; or None where they are not known."
    try:
        given = np.asarray(maps)
        if given.dtype.kind not in "biufO":
            raise TypeError(f"{given.dtype} is no type of real numbers")
        # What float32 cannot hold becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            four = given.astype(np.float32, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidParameterError(f"The maps of image {i} hold no real numbers ({error}); {expected}") from error
    if four.ndim != 3 or len(four) != 4 or not four.size:
        raise InvalidParameterError(f"The maps of image {i} have shape {four.shape}; {expected}")
    if not np.isfinite(four).all():
        raise InvalidParameterError(f"The maps of image {i} hold NaN or infinity; {expected}")
    for name, one in zip(MAPS, four, strict=True):
        rises = name in ("a", "ww")
        if np.abs(one).max() > _LARGEST_MAP or (rises and one.min() <= 0):
            within = f"above 0, up to {_LARGEST_MAP:g}" if rises else f"from -{_LARGEST_MAP:g} to {_LARGEST_MAP:g}"
            raise InvalidParameterError(
                f"The maps of image {i} have {name} from {one.min():g} to {one.max():g}; expected {within}, as maps "
                "are for greys in [0, 1]. Divide b, wc and ww of stored values by their full scale."
            )
    return four


def _middle_shape(shapes: list[tuple[int, ...]]) -> Shape:
    """Shape that the views of a training are brought to, so that they can be put together."""
    height, width = np.median(np.array(shapes), axis=0).astype(int)
    return int(height), int(width)


def _stack(views: list[np.ndarray], shape: Shape) -> torch.Tensor:
    return torch.from_numpy(np.stack([resampled(view, shape) for view in views]))[:, None]
