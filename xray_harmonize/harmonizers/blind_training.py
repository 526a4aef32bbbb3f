"""The training of BlindHarmony's flow: images of the reference alone, steps counted, the likeliest state kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import torch
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torch.utils.data import TensorDataset

from xray_harmonize.callbacks import BestState, FiniteLoss, TellProgress
from xray_harmonize.classifiers.frames import to_square
from xray_harmonize.classifiers.recipe import Outcome
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.appearance import N_NUMBERS, appearance
from xray_harmonize.harmonizers.base import POOLED, UNLABELLED, naming
from xray_harmonize.harmonizers.blind_search import channel_statistics
from xray_harmonize.harmonizers.curve_batches import BalancedDraw
from xray_harmonize.harmonizers.foreground import foreground_counts
from xray_harmonize.harmonizers.masked import mean_inside
from xray_harmonize.harmonizers.reference_images import reference_images
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import PROBABILITIES, as_unit, quantiles
from xray_harmonize.networks.flow import SplineFlow, dequantize
from xray_harmonize.parameters import check_number, check_truth, check_whole_numbers
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.training import Net, TensorBatches, exactly

HISTORY: Final = ("epoch", "train_loss", "valid_loss", "dur")
SCHEDULES: Final = ("one_cycle", "cosine")

_N_CHECKS: Final = 20
_LARGEST_GRADIENT: Final = 1.0
_MANY: Final = 32


# -- images ------------------------------------------------------------------------------------


def frame_of(pixels: np.ndarray, mask: np.ndarray | None, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image as a flow sees it: square, and of the mean of what counts where nothing does.

    Parameters
    ----------
    pixels : ndarray of float32 of shape (height, width)
    mask : ndarray of bool of shape (height, width), optional
    size : int

    Returns
    -------
    frame : ndarray of float32 of shape (size, size)
    inside : ndarray of bool of shape (size, size)
        Where more than half of what was averaged counts.

    Raises
    ------
    InvalidImageError
        If the mask is empty.

    Examples
    --------
    >>> frame_of(np.array([[0.25, 1.0]], dtype="float32"), np.array([[True, False]]), 1)
    (array([[0.25]], dtype=float32), array([[False]]))
    """
    if mask is None:
        return to_square(pixels, size), np.ones((size, size), dtype=bool)
    filled = np.where(mask, pixels, np.float32(mean_inside(pixels, mask)))
    return to_square(filled, size), to_square(mask.astype(np.float32), size) > 0.5


def unit_pixels(radiograph: Radiograph) -> np.ndarray:
    """Pixels in [0, 1], in new memory."""
    return as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name or "The image")


def images_of_reference(images: ImageSet, reference: str | None) -> tuple[str, ImageSet]:
    """Images that a flow is to learn, and whose they are.

    Parameters
    ----------
    images : ImageSet
    reference : str or None
        Scanner; None for the one with most images, or all where there are no labels; "pooled" for all.

    Returns
    -------
    name : str
    images : ImageSet

    Raises
    ------
    MissingScannerError
        If ``reference`` names a scanner and there are no labels.
    UnknownScannerError
        If no image comes from ``reference``.

    Examples
    --------
    >>> X = ImageSet(np.zeros((3, 4, 4)), scanner=["A", "B", "B"])
    >>> name, images = images_of_reference(X, None)
    >>> name, len(images)
    ('B', 2)
    """
    if reference == POOLED:
        return POOLED, images
    name, positions = reference_images(images, reference, "BlindHarmony.fit")
    return (UNLABELLED, images) if name is None else (name, images[positions])


def measured(images: ImageSet, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read every image once.

    Returns
    -------
    frames : ndarray of float32 of shape (n, 1, size, size)
        See :func:`frame_of`.
    functions : ndarray of float64 of shape (n, n_probabilities)
        Quantile functions, inside the mask.
    numbers : ndarray of float64 of shape (n, 21)
        See :func:`~xray_harmonize.harmonizers.appearance.appearance`.

    Raises
    ------
    InvalidImageError
        If an image holds NaN or values beyond its full scale, or its mask is empty.
    """
    frames = np.empty((len(images), 1, size, size), dtype=np.float32)
    functions = np.empty((len(images), len(PROBABILITIES)))
    numbers = np.empty((len(images), N_NUMBERS))
    for i in range(len(images)):
        radiograph = images.radiograph(i)
        with naming(radiograph):
            functions[i] = quantiles(foreground_counts(radiograph, "all"), PROBABILITIES)
            frames[i, 0] = frame_of(unit_pixels(radiograph), radiograph.mask, size)[0]
            numbers[i] = appearance(radiograph)
    return frames, functions, numbers


def by_content(frames: np.ndarray) -> np.ndarray:
    """Order by mean and content, so that a training does not depend on the order in which images were given."""
    keys = [(float(one.mean(dtype=np.float64)), blake2b(one.tobytes(), digest_size=16).digest()) for one in frames]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)


# -- training ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FlowTraining:
    """How long and how fast a flow is trained.

    Parameters
    ----------
    max_steps : int
    batch_size : int
    lr : float
    schedule : {"one_cycle", "cosine"}
        "one_cycle" rises to ``lr`` and falls; "cosine" falls from it to zero, as published.
    flip : bool
        Whether images are mirrored at random.
    patience : int or None
        Stop after so many of the 20 checks without a better state.
    verbose : int

    Raises
    ------
    InvalidParameterError
        If one of them is out of range.

    Examples
    --------
    >>> FlowTraining(max_steps=0)
    Traceback (most recent call last):
    xray_harmonize.exceptions.InvalidParameterError: max_steps must be a whole number, at least 1; got 0.
    """

    max_steps: int = 1
    batch_size: int = 8
    lr: float = 1e-3
    schedule: str = "one_cycle"
    flip: bool = True
    patience: int | None = None
    verbose: int = 0

    def __post_init__(self) -> None:
        given = {"max_steps": self.max_steps, "batch_size": self.batch_size}
        check_whole_numbers(given, dict.fromkeys(given, 1))
        check_number("lr", self.lr, "be above 0", lambda lr: lr > 0)
        check_truth("flip", self.flip)
        if self.schedule not in SCHEDULES:
            raise InvalidParameterError(f"schedule must be 'one_cycle' or 'cosine'; got {self.schedule!r}.")
        if self.patience is not None and (not isinstance(self.patience, int | np.integer) or self.patience < 1):
            raise InvalidParameterError(f"patience must be None or at least 1; got {self.patience!r}.")

    def train(
        self, flow: SplineFlow, frames: torch.Tensor, held_out: torch.Tensor, device: torch.device, task: str
    ) -> Outcome:
        """Train a flow in place; call it inside :func:`~xray_harmonize.training.seeded`.

        Parameters
        ----------
        flow : SplineFlow
            Left in evaluation mode.
        frames : tensor of shape (n, 1, image_size, image_size)
            Images of the reference, in [0, 1].
        held_out : tensor of shape (n_held_out, 1, image_size, image_size)
            Others that choose the state to keep; where there are none, the last is kept.
        device : torch.device
        task : str
            What listeners of the progress are told.

        Returns
        -------
        Outcome
            Losses of its history are bits per dimension.
        """
        n_batches = -(-self.max_steps // _N_CHECKS)
        n_checks = self.max_steps // n_batches
        best = BestState(lambda row: -row["valid_loss"] if len(held_out) else 0.0, self._patience(held_out))
        rate, options = _rate(self.schedule, float(self.lr), n_checks * n_batches)
        callbacks: list[Callback] = [FiniteLoss(), TellProgress(task), best]
        callbacks.append(LRScheduler(rate, step_every="batch", **options))
        if len(held_out):
            callbacks.insert(0, HeldOutBits(held_out, self.batch_size))
        self._initialize(flow.to(device), frames)
        net = Net(
            flow,
            criterion=MeanBits,
            optimizer=ClippedAdam,
            lr=float(self.lr),
            max_epochs=n_checks,
            batch_size=self.batch_size,
            iterator_train=CountedBatches,
            iterator_train__n_batches=n_batches,
            iterator_train__transform=noisy(flow.n_bits, self.flip),
            iterator_train__device=device,
            callbacks=callbacks,
            device=device,
            # A likelihood is a sum over every pixel of the image, and half precision would round it away.
            precision="float32",
            verbose=self.verbose,
        )
        net.fit(TensorDataset(frames, torch.zeros(len(frames))))
        flow.eval()
        finished = [row for row in net.history if "train_loss" in row]
        history = [{name: float(row[name]) for name in HISTORY if name in row} for row in finished]
        return Outcome(history, best.best_epoch_, net.interrupted_)

    def _patience(self, held_out: torch.Tensor) -> int | None:
        return self.patience if len(held_out) else None

    def _initialize(self, flow: SplineFlow, frames: torch.Tensor) -> None:
        """Let the first layers see more than a batch when they set their scales."""
        device = next(flow.parameters()).device
        flow.train()
        with torch.no_grad():
            flow(dequantize(frames[:_MANY], torch.rand(frames[:_MANY].shape), flow.n_bits).to(device))


def _rate(schedule: str, lr: float, n_steps: int) -> tuple[type, dict[str, Any]]:
    if schedule == "one_cycle":
        return OneCycleLR, {"max_lr": lr, "total_steps": int(n_steps)}
    return CosineAnnealingLR, {"T_max": int(n_steps)}


def noisy(n_bits: int, flip: bool) -> Any:
    """Transform of batches: mirror half of the images, and dequantize with fresh noise."""

    def transform(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        drawn = torch.rand(len(images), generator=generator) < 0.5
        mirrored = (drawn & bool(flip)).view(-1, 1, 1, 1).to(images.device)
        noise = torch.rand(images.shape, generator=generator).to(images.device)
        return dequantize(torch.where(mirrored, images.flip(-1), images), noise, n_bits)

    return transform


def fixed_noise(seed: int, size: int) -> torch.Tensor:
    """Noise that dequantizes every image alike, of shape (1, 1, size, size) in [0, 1)."""
    return torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed))


def typical_latents(flow: SplineFlow, frames: torch.Tensor, noise: torch.Tensor, batch_size: int) -> list[np.ndarray]:
    """Tell what is typical of the latents of images, for :func:`~xray_harmonize.harmonizers.blind_search.search`.

    Parameters
    ----------
    flow : SplineFlow
        In evaluation mode.
    frames : tensor of shape (n, 1, image_size, image_size)
    noise : tensor of shape (1, 1, image_size, image_size)
    batch_size : int

    Returns
    -------
    list of ndarray of float32 of shape (2, 2, n_channels)
        Of each level: mean, then spread over the images, of the channels' means and deviations.
    """
    device = next(flow.parameters()).device
    found = []
    with exactly(device), torch.inference_mode():
        for some in frames.split(int(batch_size)):
            y = dequantize(some.to(device), noise.to(device), flow.n_bits, rounded=False)
            found.append([channel_statistics(z).double().cpu() for z in flow.encode(y)[0]])
    levels = [torch.cat(level) for level in zip(*found, strict=True)]
    return [torch.stack([level.mean(dim=0), level.std(dim=0, correction=0)]).float().numpy() for level in levels]


class MeanBits(nn.Module):
    """Loss of a module that gives its loss itself: the mean over a batch."""

    def forward(self, bits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean of ``bits``; there are no targets."""
        return bits.mean()


class ClippedAdam(torch.optim.Adam):
    """Adam whose gradients are cut to a length, as one odd batch can throw a flow off for good."""

    def step(self, closure: Any = None) -> Any:
        """One step."""
        for group in self.param_groups:
            nn.utils.clip_grad_norm_(group["params"], _LARGEST_GRADIENT)
        return super().step(closure)


class CountedBatches(TensorBatches):
    """So many full batches a pass, however few images there are; every image comes before any comes again.

    Parameters
    ----------
    *args, **kwargs
        As :class:`~xray_harmonize.training.TensorBatches`.
    n_batches : int
    """

    def __init__(self, *args: Any, n_batches: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.n_batches = n_batches
        rng = np.random.RandomState(int(torch.randint(2**31 - 1, (), generator=self.generator)))
        self.draw = BalancedDraw(np.zeros(len(self.dataset), dtype=np.int64), rng)

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        for _ in range(self.n_batches):
            positions = torch.from_numpy(self.draw(self.batch_size))
            images, *targets = (t[positions].to(self.device) for t in self.dataset.tensors)
            if self.transform is not None:
                images = self.transform(images, self.generator)
            yield images, *targets


class HeldOutBits(Callback):
    """Bits per dimension of held-out images after every epoch, always with the same noise.

    Parameters
    ----------
    frames : tensor of shape (n, 1, image_size, image_size)
        In [0, 1].
    batch_size : int
    """

    def __init__(self, frames: torch.Tensor, batch_size: int) -> None:
        self.frames = frames
        self.batch_size = int(batch_size)

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        """Draw the noise."""
        self.noisy_ = dequantize(self.frames, torch.rand(self.frames.shape), net.module_.n_bits)

    def on_epoch_end(self, net: Net, **kwargs: Any) -> None:
        """Measure the state of now."""
        net.module_.eval()
        with torch.no_grad():
            bits = [net.module_(some.to(net.device_)).cpu() for some in self.noisy_.split(self.batch_size)]
        net.history.record("valid_loss", float(torch.cat(bits).mean()))
