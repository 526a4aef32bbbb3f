"""Batches that curves are trained on: classes and scanners in equal parts, and never the same twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from xray_harmonize.harmonizers.curve_images import CurveImages, pooled_quantiles

Inputs = dict[str, torch.Tensor]
Batch = dict[str, torch.Tensor]


class BalancedDraw:
    """Draw positions from groups in turn, each group shuffled anew whenever it is used up.

    Parameters
    ----------
    groups : ndarray of shape (n,)
        Group of each position.
    rng : numpy.random.RandomState

    Examples
    --------
    >>> draw = BalancedDraw(np.array([0, 0, 0, 0, 1]), np.random.RandomState(0))
    >>> sorted(draw(4).tolist()).count(4)
    2
    """

    def __init__(self, groups: np.ndarray, rng: np.random.RandomState) -> None:
        self._members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        self._left: list[list[int]] = [[] for _ in self._members]
        self._rng = rng
        self._next = 0

    def __call__(self, n: int) -> np.ndarray:
        """Give n positions; groups differ in number by at most one, and take turns in having one more."""
        drawn = []
        for _ in range(n):
            group = self._next
            self._next = (self._next + 1) % len(self._members)
            if not self._left[group]:
                self._left[group] = self._rng.permutation(self._members[group]).tolist()
            drawn.append(self._left[group].pop())
        return np.array(drawn)


class DrawnImages(Dataset[Any]):
    """Images that :class:`CurveBatches` draws from. A torch data set in name alone: nothing is fetched one by one."""

    def draws(self, rng: np.random.RandomState) -> Callable[[int], tuple[Inputs, Batch]]:
        """Give a function of the batch size that draws (inputs of the network, what its loss needs)."""
        raise TypeError(f"{type(self).__name__} must define draws(rng)")  # pragma: no cover


class LabelledImages(DrawnImages):
    """Source and reference images with labels, for :class:`~xray_harmonize.networks.losses.LabelLoss`.

    Parameters
    ----------
    sources, reference : CurveImages
    like : tensor of shape (2, n_reference, 128) or None
        Perceptual features of the reference's images as they are and mirrored; None where whole maps are compared, or
        nothing.
    maps : bool
        Whether whole maps are compared, so that batches hold images of the reference to take them of.
    enhance_reference : bool
        Whether reference images pass through the network too.
    flip : bool
        Whether images are mirrored at random.
    """

    def __init__(
        self,
        sources: CurveImages,
        reference: CurveImages,
        like: torch.Tensor | None,
        maps: bool,
        enhance_reference: bool,
        flip: bool,
    ) -> None:
        self.sources, self.reference = sources, reference
        self.like, self.maps = like, maps
        self.enhance_reference, self.flip = enhance_reference, flip

    def __len__(self) -> int:
        return len(self.sources)

    def draws(self, rng: np.random.RandomState) -> Callable[[int], tuple[Inputs, Batch]]:
        """Give a function that draws balanced batches: classes in turn, of each scanner and of the reference."""
        n_classes = 1 + int(max(self.sources.label.max(), self.reference.label.max()))
        draw_source = BalancedDraw((self.sources.scanner * n_classes + self.sources.label).numpy(), rng)
        draw_reference = BalancedDraw(self.reference.label.numpy(), rng)

        def draw(batch_size: int) -> tuple[Inputs, Batch]:
            source, reference = torch.from_numpy(draw_source(batch_size)), torch.from_numpy(draw_reference(batch_size))
            mirrored, other = torch.from_numpy((rng.rand(2, batch_size) < 0.5) & self.flip)
            inputs, batch = _rows(self.sources, source, mirrored)
            part = torch.zeros(batch_size, dtype=torch.long)
            like = None
            if self.like is not None:
                like = self.like[other.long(), reference]
            elif self.maps:
                like = _mirrored(self.reference.frames[reference], other)
            if self.enhance_reference:
                more, rows = _rows(self.reference, reference, other)
                inputs = {name: torch.cat([inputs[name], more[name]]) for name in inputs}
                batch = {name: torch.cat([batch[name], rows[name]]) for name in batch}
                part = torch.cat([part, part + 1])
                like = None if like is None else torch.cat([like, like])
            batch["part"] = part
            return inputs, batch if like is None else {**batch, "like": like}

        return draw


class UnlabelledImages(DrawnImages):
    """Images of one or several scanners without labels, for :class:`~xray_harmonize.networks.losses.DistributionLoss`.

    A batch holds images of one scanner, the scanners taking turns.

    Parameters
    ----------
    images : CurveImages
    pooled : bool
        Whether grey values are compared as those of all a scanner's images together, or as the mean of a batch.
    flip : bool
        Whether images are mirrored at random.
    """

    def __init__(self, images: CurveImages, pooled: bool, flip: bool) -> None:
        self.images, self.pooled, self.flip = images, pooled, flip

    def __len__(self) -> int:
        return len(self.images)

    def draws(self, rng: np.random.RandomState) -> Callable[[int], tuple[Inputs, Batch]]:
        """Give a function that draws batches of a scanner at a time."""
        scanner = self.images.scanner.numpy()
        members = [np.flatnonzero(scanner == number) for number in np.unique(scanner)]
        of_scanner = [BalancedDraw(np.zeros(len(own)), rng) for own in members]
        functions = [pooled_quantiles(self.images.quantiles[torch.from_numpy(own)]) for own in members]
        turn = 0

        def draw(batch_size: int) -> tuple[Inputs, Batch]:
            nonlocal turn
            which, turn = turn, (turn + 1) % len(members)
            n = min(batch_size, len(members[which]))
            rows = torch.from_numpy(members[which][of_scanner[which](n)])
            inputs, batch = _rows(self.images, rows, torch.from_numpy((rng.rand(n) < 0.5) & self.flip))
            batch["quantiles"] = functions[which].expand(n, -1) if self.pooled else self.images.quantiles[rows]
            return inputs, batch

        return draw


class CurveBatches:
    """Batches of a data set as skorch takes them; an epoch is ``n_batches`` of them, each drawn anew.

    Parameters
    ----------
    dataset : LabelledImages or UnlabelledImages
    batch_size, n_batches : int
    seed : int
    device : torch.device
    """

    def __init__(self, dataset: DrawnImages, batch_size: int, n_batches: int, seed: int, device: torch.device) -> None:
        self.batch_size, self.n_batches, self.device = batch_size, n_batches, device
        self._draw = dataset.draws(np.random.RandomState(seed))

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[Inputs, Batch]]:
        for _ in range(self.n_batches):
            inputs, batch = self._draw(self.batch_size)
            yield (
                {name: value.to(self.device) for name, value in inputs.items()},
                {name: value.to(self.device) for name, value in batch.items()},
            )


def _rows(images: CurveImages, rows: torch.Tensor, mirrored: torch.Tensor) -> tuple[Inputs, Batch]:
    """Give what the curve's network gets of some images, and what its loss does."""
    inputs = {"scanner": images.scanner[rows]}
    if images.views.ndim == 4:
        inputs = {"images": _mirrored(images.views[rows], mirrored)}
    return inputs, {"image": _mirrored(images.frames[rows], mirrored), "label": images.label[rows]}


def _mirrored(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    return torch.where(which.view(-1, 1, 1, 1), images.flip(-1), images)
