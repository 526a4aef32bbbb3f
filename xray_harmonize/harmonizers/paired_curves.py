"""Curves that were taught by pairs: a window or a table for an image (DLBC, LUT3D), or a curve for a pixel (SupDCE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from xray_harmonize.harmonizers.network_rendering import GlobalRendering, LocalRendering
from xray_harmonize.harmonizers.paired import PairedHarmonizer
from xray_harmonize.networks.dce import CurveMaps
from xray_harmonize.networks.dlbc import WindowNetwork
from xray_harmonize.networks.lut3d import TableNetwork
from xray_harmonize.parameters import check_whole_numbers
from xray_harmonize.tone import ToneCurve


class DLBC(GlobalRendering, PairedHarmonizer):
    """Brightness and contrast by one window an image, its centre and width read off by a network.

    The simplest answer that a network can give: a straight line, black below and white above.

    Parameters
    ----------
    reference : str, optional
        Scanner whose images self-made pairs are made of; None for the one with most training images. Not looked at
        where targets are given.
    view_size : int, default=256
        Side in pixels of what the network sees of an image, a multiple of 32.
    n_features : int, default=16
        Channels of the first of five convolutions, doubled on each of the next three.
    distortion : {"mixed", "global", "mapping"}, default="mixed"
        What self-made pairs are made by, see :func:`~xray_harmonize.harmonizers.self_made_pairs.distort`.
    batch_size : int, default=4
        Pairs a step.
    max_steps : int, default=200
        Steps of training, rounded up to tens.
    lr : float, default=1e-3
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
    WindowClamp : windows from headers or percentiles, without learning.
    LUT3D : a table instead of a line.

    Notes
    -----
    "Deep-learning-based brightness and contrast" of the interpretable mapping's paper. The window is DICOM's
    LINEAR_EXACT. The network of the original is not told there; this one is as deep as that of :class:`LUT3D`.

    References
    ----------
    Aboobacker et al. Improving presentation consistency of radiographic images using deep learning. SPIE 2021.

    Examples
    --------
    >>> bodies = np.random.default_rng(0).random((4, 40, 40)) * np.linspace(0, 1, 40)
    >>> network = DLBC(view_size=32, max_steps=2, validation_fraction=0, random_state=0)
    >>> network.fit(bodies / 2, target=bodies).tone_curves(bodies[:1])[0].max_slope > 0.9
    True
    """

    _network_parameters = ("view_size", "n_features")

    def __init__(
        self,
        reference: str | None = None,
        *,
        view_size: int = 256,
        n_features: int = 16,
        distortion: str = "mixed",
        batch_size: int = 4,
        max_steps: int = 200,
        lr: float = 1e-3,
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
        self.view_size = view_size
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

    def _curve(self, parameters: torch.Tensor) -> ToneCurve:
        center, width = parameters.double().numpy()
        black, white = center - width / 2, center + width / 2
        x = np.unique(np.clip([0.0, black, white, 1.0], 0, 1))
        return ToneCurve(x, np.clip((x - black) / width, 0, 1))

    def _new_network(self, made_with: Mapping[str, Any]) -> WindowNetwork:
        return WindowNetwork(int(made_with["n_features"]))

    def _check_parameters(self) -> None:
        check_whole_numbers(self.get_params(deep=False), {"n_features": 1})
        super()._check_parameters()


class LUT3D(GlobalRendering, PairedHarmonizer):
    """Image-adaptive look-up tables: eight learned tables, mixed for every image by a network.

    For grey images the three-dimensional tables of the original are read along their diagonal alone; here they are
    tables on a line, which give the same where channels do not mix.

    Parameters
    ----------
    reference : str, optional
        Scanner whose images self-made pairs are made of; None for the one with most training images. Not looked at
        where targets are given.
    n_tables : int, default=8
        Learned tables.
    n_points : int, default=33
        Points of a table.
    view_size : int, default=256
        Side in pixels of what the network sees of an image, a multiple of 32.
    n_features : int, default=16
        Channels of the first of five convolutions, doubled on each of the next three.
    global_statistics : bool, default=True
        Whether quantiles of the image join behind the normalization, which takes brightness and contrast out of
        everything before. False as published.
    distortion : {"mixed", "global", "mapping"}, default="mixed"
        What self-made pairs are made by, see :func:`~xray_harmonize.harmonizers.self_made_pairs.distort`.
    batch_size : int, default=4
        Pairs a step.
    max_steps : int, default=300
        Steps of training, rounded up to tens.
    lr : float, default=2e-4
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
    DLBC : a line instead of a table.
    InterpretableMapping : a table for every pixel.

    Notes
    -----
    Tables are held smooth and rising by the loss, as published. A mixed table may still fall a little: what falls is
    levelled, so that every image has a curve.

    Published: one image a step, a rate of 1e-4, 400 passes. The released lookup is off by a cell at some grey values,
    and on a CPU writes the first image of a batch alone; this one is continuous and knows no batch.

    References
    ----------
    Zeng, Cai, Li, Cao, Zhang. Learning image-adaptive 3D lookup tables for high performance photo enhancement in
    real-time. TPAMI 2020.

    Examples
    --------
    >>> bodies = np.random.default_rng(0).random((4, 40, 40)) * np.linspace(0, 1, 40)
    >>> network = LUT3D(view_size=32, max_steps=2, validation_fraction=0, random_state=0)
    >>> len(network.fit(bodies**2, target=bodies).tone_curves(bodies[:1])[0].x)
    33
    """

    _network_parameters = ("view_size", "n_tables", "n_points", "n_features", "global_statistics")

    def __init__(
        self,
        reference: str | None = None,
        *,
        n_tables: int = 8,
        n_points: int = 33,
        view_size: int = 256,
        n_features: int = 16,
        global_statistics: bool = True,
        distortion: str = "mixed",
        batch_size: int = 4,
        max_steps: int = 300,
        lr: float = 2e-4,
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
        self.n_tables = n_tables
        self.n_points = n_points
        self.view_size = view_size
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

    def _curve(self, parameters: torch.Tensor) -> ToneCurve:
        network, _ = self._fitted_network()
        assert isinstance(network, TableNetwork)
        table = network.mixed(parameters.to(network.tables.device)).double().cpu().numpy()
        x = np.linspace(0, 1, len(table))
        return ToneCurve(x, np.clip(np.maximum.accumulate(table), 0, 1))

    def _new_network(self, made_with: Mapping[str, Any]) -> TableNetwork:
        return TableNetwork(
            int(made_with["view_size"]),
            int(made_with["n_tables"]),
            int(made_with["n_points"]),
            int(made_with["n_features"]),
            bool(made_with["global_statistics"]),
        )

    def _check_parameters(self) -> None:
        check_whole_numbers(self.get_params(deep=False), {"n_features": 1, "n_tables": 1, "n_points": 2})
        super()._check_parameters()


class SupDCE(LocalRendering, PairedHarmonizer):
    """Supervised Zero-DCE: the curve of GDCE, but one for every pixel.

    The network of Zero-DCE looks at the image ``downscale`` times smaller and gives a map of coefficients for each of
    eight steps of the curve; the maps are enlarged and the full image goes through them.

    Parameters
    ----------
    reference : str, optional
        Scanner whose images self-made pairs are made of; None for the one with most training images. Not looked at
        where targets are given.
    downscale : int, default=8
        How much smaller the view is that maps are predicted of. A view has at least 32 pixels a side.
    n_features : int, default=32
        Channels of the network.
    n_iterations : int, default=8
        Steps of the curve.
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
    GDCE : one such curve for the whole image, learned by what a classifier says.

    Notes
    -----
    Every pixel's curve rises and keeps black black and white white, so a shifted range cannot be undone. Coefficients
    have the sign of the curve's equation, above 0 for brighter; the released Zero-DCE writes the opposite.
    ``downscale=1`` as Zero-DCE, which looks at the full image.

    References
    ----------
    Li, Guo, Loy. Learning to enhance low-light image via zero-reference deep curve estimation. TPAMI 2021; taught by
    pairs in Yang et al. 2023.

    Examples
    --------
    >>> bodies = np.random.default_rng(0).random((4, 40, 40)) * np.linspace(0, 1, 40)
    >>> network = SupDCE(n_features=4, max_steps=2, validation_fraction=0, random_state=0)
    >>> network.fit(bodies**2, target=bodies).transform(bodies).shape
    (4, 40, 40)
    """

    _network_parameters = ("n_features", "n_iterations")

    def __init__(
        self,
        reference: str | None = None,
        *,
        downscale: int = 8,
        n_features: int = 32,
        n_iterations: int = 8,
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
        self.n_iterations = n_iterations
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

    def _new_network(self, made_with: Mapping[str, Any]) -> CurveMaps:
        return CurveMaps(int(made_with["n_features"]), int(made_with["n_iterations"]))

    def _check_parameters(self) -> None:
        check_whole_numbers(self.get_params(deep=False), {"n_features": 1, "n_iterations": 1})
        super()._check_parameters()
