"""Image to image by U-Nets that were taught by pairs: the methods that may change anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xray_harmonize.harmonizers.network_rendering import LocalRendering
from xray_harmonize.harmonizers.paired import PairedHarmonizer
from xray_harmonize.networks.resunet import ImageToImage, ResidualImage
from xray_harmonize.parameters import check_whole_numbers


class ResUNet(LocalRendering, PairedHarmonizer):
    """Image to image by a residual U-Net, the network of the interpretable mapping with the image for its only map.

    The image is made anew, ``downscale`` times smaller, and enlarged: fine detail is lost, and nothing keeps the
    network from drawing what was not there.

    Parameters
    ----------
    reference : str, optional
        Scanner whose images self-made pairs are made of; None for the one with most training images. Not looked at
        where targets are given.
    downscale : int, default=8
        How much smaller the image is made. A view has at least 32 pixels a side.
    n_features : int, default=32
        Channels of the network on all its levels.
    global_statistics : bool, default=True
        Whether quantiles of the image, and the image itself, join behind the normalization, which takes brightness and
        contrast out of everything before. False as published.
    distortion : {"mixed", "global", "mapping"}, default="mixed"
        What self-made pairs are made by, see :func:`~xray_harmonize.harmonizers.self_made_pairs.distort`.
    batch_size : int, default=4
        Pairs a step.
    max_steps : int, default=200
        Steps of training, rounded up to tens.
    lr : float, default=2e-3
        Learning rate, at its highest with ``schedule="one_cycle"``.
    schedule : {"one_cycle", "constant"}, default="one_cycle"
        How the rate runs.
    augment : bool, default=True
        Whether pairs are mirrored, turned and zoomed at random.
    validation_fraction : float, default=0.1
        Share of the patients whose pairs choose the state to keep; 0 keeps the last.
    patience : int, optional
        Stop after so many of the 10 checks without a better state.
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
    reference_, state_, network_, history_, best_epoch_, interrupted_
        As :class:`~xray_harmonize.harmonizers.mapping.InterpretableMapping`.

    See Also
    --------
    InterpretableMapping : the same network, but every pixel keeps its grey value's order.
    UNet : adds to the image instead of making it anew.

    Notes
    -----
    A baseline of the interpretable mapping's paper, which gives it the highest PSNR and a low SSIM for its blur. With
    ``downscale=1`` nothing is enlarged. Pixels outside the mask stay as they came.

    References
    ----------
    Yang et al. Quality enhancement of radiographic X-ray images by interpretable mapping. 2023.

    Examples
    --------
    >>> bodies = np.random.default_rng(0).random((4, 40, 40)) * np.linspace(0, 1, 40)
    >>> network = ResUNet(n_features=4, max_steps=2, validation_fraction=0, random_state=0)
    >>> network.fit(bodies**2, target=bodies).transform(bodies).shape
    (4, 40, 40)
    """

    _network_parameters = ("n_features", "global_statistics")

    def __init__(
        self,
        reference: str | None = None,
        *,
        downscale: int = 8,
        n_features: int = 32,
        global_statistics: bool = True,
        distortion: str = "mixed",
        batch_size: int = 4,
        max_steps: int = 200,
        lr: float = 2e-3,
        schedule: str = "one_cycle",
        augment: bool = True,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.reference = reference
        self.downscale = downscale
        self.n_features = n_features
        self.global_statistics = global_statistics
        self.distortion = distortion
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.lr = lr
        self.schedule = schedule
        self.augment = augment
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def _new_network(self, made_with: Mapping[str, Any]) -> ImageToImage:
        return ImageToImage(int(made_with["n_features"]), bool(made_with["global_statistics"]))

    def _check_parameters(self) -> None:
        check_whole_numbers(self.get_params(deep=False), {"n_features": 1})
        super()._check_parameters()


class UNet(LocalRendering, PairedHarmonizer):
    """A U-Net of four levels whose answer is added to the image.

    What is added is found ``downscale`` times smaller and enlarged, so that fine detail stays the image's own;
    structure larger than that can be drawn, or painted over.

    Parameters
    ----------
    reference : str, optional
        Scanner whose images self-made pairs are made of; None for the one with most training images. Not looked at
        where targets are given.
    downscale : int, default=1
        How much smaller the view is that the network sees. A view has at least 32 pixels a side.
    n_features : int, default=16
        Channels of the first level, doubled on each of the next three.
    distortion : {"mixed", "global", "mapping"}, default="mixed"
        What self-made pairs are made by, see :func:`~xray_harmonize.harmonizers.self_made_pairs.distort`.
    batch_size : int, default=4
        Pairs a step.
    max_steps : int, default=200
        Steps of training, rounded up to tens.
    lr : float, default=2e-3
        Learning rate, at its highest with ``schedule="one_cycle"``.
    schedule : {"one_cycle", "constant"}, default="one_cycle"
        How the rate runs.
    augment : bool, default=True
        Whether pairs are mirrored, turned and zoomed at random.
    validation_fraction : float, default=0.1
        Share of the patients whose pairs choose the state to keep; 0 keeps the last.
    patience : int, optional
        Stop after so many of the 10 checks without a better state.
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
    reference_, state_, network_, history_, best_epoch_, interrupted_
        As :class:`~xray_harmonize.harmonizers.mapping.InterpretableMapping`.

    See Also
    --------
    ResUNet : makes the image anew.

    Notes
    -----
    The supervised baseline of the BlindHarmony paper, which does not tell its network; this one is MONAI's, without
    normalization, learned by absolute differences. Pixels outside the mask stay as they came.

    References
    ----------
    Ronneberger, Fischer, Brox. U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015.

    Examples
    --------
    >>> bodies = np.random.default_rng(0).random((4, 40, 40)) * np.linspace(0, 1, 40)
    >>> network = UNet(n_features=4, max_steps=2, validation_fraction=0, random_state=0)
    >>> network.fit(bodies**2, target=bodies).transform(bodies).shape
    (4, 40, 40)
    """

    _network_parameters = ("n_features",)

    def __init__(
        self,
        reference: str | None = None,
        *,
        downscale: int = 1,
        n_features: int = 16,
        distortion: str = "mixed",
        batch_size: int = 4,
        max_steps: int = 200,
        lr: float = 2e-3,
        schedule: str = "one_cycle",
        augment: bool = True,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.reference = reference
        self.downscale = downscale
        self.n_features = n_features
        self.distortion = distortion
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.lr = lr
        self.schedule = schedule
        self.augment = augment
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def _new_network(self, made_with: Mapping[str, Any]) -> ResidualImage:
        return ResidualImage(int(made_with["n_features"]))

    def _check_parameters(self) -> None:
        check_whole_numbers(self.get_params(deep=False), {"n_features": 1})
        super()._check_parameters()
