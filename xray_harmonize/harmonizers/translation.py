"""CycleGAN: image to image without pairs, learned from images of the reference and of other scanners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from xray_harmonize.classifiers.recipe import tell_interruption
from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError, NotEnoughImagesError
from xray_harmonize.harmonizers.network_rendering import LocalRendering
from xray_harmonize.harmonizers.pair_images import read_targets
from xray_harmonize.harmonizers.pair_training import steps_of
from xray_harmonize.harmonizers.reference_images import reference_images
from xray_harmonize.harmonizers.translation_training import UnpairedImages, train_cycle
from xray_harmonize.images import ImageSet
from xray_harmonize.networks.arrays import arrays_of
from xray_harmonize.networks.resunet import SMALLEST_VIEW
from xray_harmonize.networks.translation import CycleNetworks, Generator
from xray_harmonize.parameters import check_number, check_whole_numbers
from xray_harmonize.training import resolve_device, resolve_precision, seeded

SCHEDULES: Final = ("linear", "constant")


class CycleGAN(LocalRendering):
    """Image to image without pairs: made to pass for the reference's images, and to find the way back.

    One network translates images of all other scanners to the reference's rendering, a second translates back, and two
    critics tell made images from taken ones. What the critics do not notice may be drawn, or painted over, anatomy and
    findings included; a network that hides what it needs for the way back is rewarded.

    Parameters
    ----------
    reference : str, optional
        Scanner whose images the others shall pass for; None for the one with most training images.
    downscale : int, default=1
        How much smaller the view is that is translated. The change is enlarged and added to the full image. A view has
        at least 32 pixels a side.
    n_features : int, default=16
        Channels of all four networks at full resolution; 64 as published.
    n_blocks : int, default=4
        Residual blocks of each generator; 9 as published.
    cycle_weight : float, default=10
        Weight of the difference between an image and what came back after both ways.
    identity_weight : float, default=0.5
        Times ``cycle_weight``: weight of what is changed in an image that is the reference's already.
    buffer_size : int, default=50
        Made images that critics are shown again.
    crop_size : int, default=256
        Larger views are cropped to this side in the training, a multiple of 4.
    batch_size : int, default=1
        Images of each set a step.
    max_steps : int, default=100
        Steps of training, rounded up to tens.
    max_epochs : int, optional
        Train by passes over the larger set instead; 200 as published.
    lr : float, default=2e-4
        Learning rate.
    schedule : {"linear", "constant"}, default="linear"
        Whether the rate falls to zero over the second half of the training.
    augment : bool, default=True
        Whether images are mirrored at random.
    device : str, default="auto"
        Where to train and to apply; "auto": a GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the training, see :func:`xray_harmonize.training.resolve_precision`.
    random_state : int, RandomState or None, default=None
        Of everything random.
    verbose : int, default=0
        1 prints a line a check.

    Attributes
    ----------
    reference_ : str
        Scanner whose images the others shall pass for.
    state_ : dict of str to ndarray
        Weights of the generator that leads to the reference.
    network_ : dict
        Parameters that the network was made with.
    history_ : list of dict
        ``epoch`` (a check), ``train_loss`` (of the generators), ``critic_loss``, ``dur`` in seconds.
    best_epoch_ : int
        Check whose state is kept, the last: losses of adversaries do not tell a better state.
    interrupted_ : bool
        Whether Ctrl-C cut the training short.

    See Also
    --------
    UNet, ResUNet : the same freedom, learned from pairs.

    Notes
    -----
    All images go through the generator, those of the reference too, for which it should be the identity. Its
    normalization makes it blind to brightness and contrast of the whole image: of two images that differ in these alone
    it makes one and the same. That sets them right, and takes from them what differed from body to body.

    The default is small enough for a processor and learns little in 100 steps; :meth:`as_published` is for a GPU.
    Pixels outside the mask stay as they came.

    References
    ----------
    Zhu, Park, Isola, Efros. Unpaired image-to-image translation using cycle-consistent adversarial networks. ICCV 2017.

    Examples
    --------
    >>> bodies = np.random.default_rng(0).random((4, 32, 32)) * np.linspace(0, 1, 32)
    >>> gan = CycleGAN(reference="A", n_features=2, n_blocks=1, max_steps=2, random_state=0)
    >>> gan.fit_transform(np.concatenate([bodies, bodies**2]), scanner=["A"] * 4 + ["B"] * 4).shape
    (8, 32, 32)
    """

    _network_parameters = ("n_features", "n_blocks")

    def __init__(
        self,
        reference: str | None = None,
        *,
        downscale: int = 1,
        n_features: int = 16,
        n_blocks: int = 4,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        buffer_size: int = 50,
        crop_size: int = 256,
        batch_size: int = 1,
        max_steps: int = 100,
        max_epochs: int | None = None,
        lr: float = 2e-4,
        schedule: str = "linear",
        augment: bool = True,
        device: str = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.reference = reference
        self.downscale = downscale
        self.n_features = n_features
        self.n_blocks = n_blocks
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.buffer_size = buffer_size
        self.crop_size = crop_size
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.max_epochs = max_epochs
        self.lr = lr
        self.schedule = schedule
        self.augment = augment
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def as_published(cls, **parameters: Any) -> Self:
        """Give the published sizes and length: 64 channels, 9 blocks, 200 passes.

        Parameters
        ----------
        **parameters
            Others, and those to change.

        Returns
        -------
        CycleGAN

        Examples
        --------
        >>> CycleGAN.as_published(reference="Selenia").n_blocks
        9
        """
        return cls(**{"n_features": 64, "n_blocks": 9, "max_epochs": 200, **parameters})

    def fit(self, X: Any, y: ArrayLike | None = None, *, scanner: ArrayLike | None = None) -> Self:
        """Learn from images of the reference and of other scanners, which need not show the same bodies.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Training images of two or more scanners.
        y : ignored
            There for scikit-learn's interface.
        scanner : array-like of str of shape (n,), or str, optional
            Which scanner made each image; ``X.scanner`` where absent.

        Returns
        -------
        self

        Raises
        ------
        MissingScannerError
            If nothing tells which scanner made an image.
        UnknownScannerError
            If no image comes from ``reference``.
        NotEnoughImagesError
            If all images come from one scanner, or there is none.
        InvalidParameterError
            If a parameter is out of range, or the loss diverges.
        InvalidImageError
            If an image holds NaN or values beyond its full scale, or its mask leaves no pixel.
        """
        self._check_parameters()
        device = resolve_device(self.device)
        resolve_precision(self.precision, device)
        images = self._images(X, scanner, at_least=1)
        if images.scanner is None:
            raise MissingScannerError(
                "CycleGAN.fit needs to know which scanner made each image. "
                "Give X as ImageSet(images, scanner=...), or call fit(X, scanner=...)."
            )
        reference, chosen = reference_images(images, self.reference, "CycleGAN.fit")
        others = np.setdiff1d(np.arange(len(images)), chosen)
        if not len(others):
            raise NotEnoughImagesError(
                f"CycleGAN needs images from at least two scanners; X.scanner holds only {reference!r}. Add images of "
                "another, or use a method that learns from the reference alone."
            )
        source, taken = (self._tensor(images[positions]) for positions in (others, chosen))
        unpaired = UnpairedImages(source, taken, int(self.crop_size), self.augment)
        rng = check_random_state(self.random_state)
        n_steps = self.max_steps
        if self.max_epochs is not None:
            n_steps = self.max_epochs * -(-len(unpaired) // self.batch_size)
        steps = steps_of(n_steps, self.batch_size, self.lr, "constant", None, self.verbose)
        with seeded(int(rng.randint(2**31 - 1)), device):
            networks = CycleNetworks(int(self.n_features), int(self.n_blocks), self.cycle_weight, self.identity_weight)
            outcome = train_cycle(
                networks,
                unpaired,
                steps,
                self.schedule,
                int(self.buffer_size),
                device,
                self.precision,
                type(self).__name__,
            )
        tell_interruption(outcome, f"training of {type(self).__name__}")
        self.reference_ = reference
        self.state_, self.network_ = arrays_of(networks.to_reference), self._to_be_made_with()
        self.history_, self.best_epoch_, self.interrupted_ = outcome.history, outcome.best_epoch, outcome.interrupted
        return self

    def _tensor(self, images: ImageSet) -> torch.Tensor:
        """Read images of one set, in an order of their own."""
        read = read_targets(images, self._view_shape)
        return read.target[torch.as_tensor(read.canonical_order())]

    def _new_network(self, made_with: Mapping[str, Any]) -> Generator:
        return Generator(int(made_with["n_features"]), int(made_with["n_blocks"]))

    def _check_parameters(self) -> None:
        least = {"n_features": 1, "n_blocks": 0, "batch_size": 1, "max_steps": 1, "buffer_size": 0}
        parameters = self.get_params(deep=False)
        if self.max_epochs is not None:
            least["max_epochs"] = 1
        check_whole_numbers(parameters, {**least, "crop_size": SMALLEST_VIEW})
        if self.crop_size % 4:
            raise InvalidParameterError(f"crop_size must be a multiple of 4; got {self.crop_size!r}.")
        for name in ("cycle_weight", "identity_weight"):
            check_number(name, parameters[name], "be 0 or more", lambda weight: 0 <= weight < np.inf)
        if self.schedule not in SCHEDULES:
            raise InvalidParameterError(f"schedule must be 'linear' or 'constant'; got {self.schedule!r}.")
        check_number("lr", self.lr, "be above 0", lambda lr: lr > 0)
        super()._check_parameters()
