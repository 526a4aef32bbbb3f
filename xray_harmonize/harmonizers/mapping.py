"""Interpretable mapping: a look-up table for every pixel, its four numbers read off the image by a network."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.base import naming
from xray_harmonize.harmonizers.network_rendering import LocalRendering, one_radiograph
from xray_harmonize.harmonizers.paired import PairedHarmonizer
from xray_harmonize.harmonizers.self_made_pairs import check_rescale
from xray_harmonize.levels import as_unit
from xray_harmonize.networks.mapping import MappingNetwork, global_lut, regional_lut
from xray_harmonize.parameters import check_number, check_whole_numbers
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.tone import ToneCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_N_KNOTS = 1025


class InterpretableMapping(LocalRendering, PairedHarmonizer):
    """Brightness and contrast set for every pixel as an expert would: by regions, then for the whole image.

    A five-level residual U-Net looks at the image ``downscale`` times smaller and gives four maps: slope a and bias b
    of a regional table, centre wc and width ww of a window. The maps are enlarged, and every pixel of the full image
    goes through its own table, which rises. So whatever is done to a grey value can be read off, pixel by pixel.

    Parameters
    ----------
    reference : str, optional
        Scanner whose images self-made pairs are made of; None for the one with most training images. Not looked at
        where targets are given.
    downscale : int, default=8
        How much smaller the view is that maps are predicted of; published with 4, 8 and 16. A view has at least 32
        pixels a side.
    rescale : {"endpoint", "dicom"}, default="endpoint"
        Whether the sigmoid window is stretched so that black stays black and white white, or taken as DICOM has it.
    n_features : int, default=32
        Channels of the network on all its levels.
    global_statistics : bool, default=True
        Whether quantiles of the image, and the image itself, join behind the normalization, which takes brightness and
        contrast out of everything before. False as printed.
    map_weight : float, default=0.1
        Weight of the maps' terms in the loss, where their truth is known. 1 as printed, which makes the images' own
        term the smallest of the five.
    smoothness : float, default=0.01
        Weight of the maps' total variation where their truth is unknown.
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
    reference_ : str or None
        Scanner whose rendering was learned; None where nothing names it.
    state_ : dict of str to ndarray
        Weights of the network.
    network_ : dict
        Parameters that the network was made with.
    history_ : list of dict
        ``epoch`` (a check), ``train_loss``, ``valid_loss``, ``dur`` in seconds.
    best_epoch_ : int
        Check whose state is kept.
    interrupted_ : bool
        Whether Ctrl-C cut the training short; the best state up to then was kept.

    See Also
    --------
    LUT3D, DLBC : one table, one window for the whole image.

    Notes
    -----
    The loss is the squared difference of images, and that of each map where its truth is known: for self-made pairs of
    the kind "mapping", and where ``fit`` is given ``maps``. All are in fractions of full scale; in stored values the
    slope would not count beside the others. Where the truth is unknown the maps are held smooth instead. Training and
    loss work on the small views; only in ``transform`` is the full image touched. The maps themselves are enlarged, and
    not what the network gives before they are brought to their ranges: each lies between its neighbours then.

    The defaults suit a processor and a few dozen small images. On a GPU with hundreds of images of full size, raise
    ``max_steps`` to tens of thousands and ``batch_size`` to 8; the same holds for the other methods that learn from
    pairs.

    Neighbouring pixels may get different tables, so two places of one grey value need not stay equal, and edges of a
    region can be strengthened or drawn where there is none: look at :meth:`plot_maps`. a and ww are not told apart by
    the image alone, nor are b and wc; compare :meth:`pixel_lut` rather than single maps.

    References
    ----------
    Yang et al. Quality enhancement of radiographic X-ray images by interpretable mapping. 2023.

    Examples
    --------
    >>> bodies = np.random.default_rng(0).random((4, 40, 40)) * np.linspace(0, 1, 40)
    >>> mapping = InterpretableMapping(n_features=4, max_steps=2, validation_fraction=0, random_state=0)
    >>> mapping = mapping.fit(bodies**2, target=bodies)
    >>> table = mapping.pixel_lut(bodies[0], row=5, column=7)
    >>> mapping.maps(bodies)[0].shape, bool((np.diff(table.y) >= 0).all())
    ((4, 40, 40), True)
    """

    _network_parameters = ("n_features", "global_statistics", "rescale", "smoothness", "map_weight")
    __metadata_request__fit = {"scanner": True, "target": True, "maps": True}

    def __init__(
        self,
        reference: str | None = None,
        *,
        downscale: int = 8,
        rescale: str = "endpoint",
        n_features: int = 32,
        global_statistics: bool = True,
        map_weight: float = 0.1,
        smoothness: float = 0.01,
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
        self.rescale = rescale
        self.n_features = n_features
        self.global_statistics = global_statistics
        self.map_weight = map_weight
        self.smoothness = smoothness
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

    @classmethod
    def as_published(cls, **parameters: Any) -> Self:
        """Give the printed training: one pair a step, a rate of 1e-5, until held-out pairs get no better.

        Parameters
        ----------
        **parameters
            Others, and those to change. How many steps the authors took is not told; here it is 100,000 at most.

        Returns
        -------
        InterpretableMapping

        Examples
        --------
        >>> InterpretableMapping.as_published(downscale=4).lr
        1e-05
        """
        published = {
            "map_weight": 1.0,
            "batch_size": 1,
            "lr": 1e-5,
            "schedule": "constant",
            "max_steps": 100_000,
            "patience": 2,
        }
        return cls(**{**published, "global_statistics": False, **parameters})

    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        *,
        scanner: ArrayLike | None = None,
        target: Any = None,
        maps: Sequence[np.ndarray | None] | None = None,
    ) -> Self:
        """Learn from pairs of images, and where they are known from the maps between them.

        Parameters
        ----------
        X, y, scanner, target
            As :meth:`PairedHarmonizer.fit <xray_harmonize.harmonizers.paired.PairedHarmonizer.fit>`.
        maps : sequence of (ndarray of shape (4, height, width) or None), optional
            True a, b, wc and ww that lead from each image to its target, for images in [0, 1]; of any resolution. None
            for an image whose maps are not known, as in
            :attr:`SelfMadePairs.maps <xray_harmonize.harmonizers.self_made_pairs.SelfMadePairs>`; they are held smooth
            then. a and ww are above 0.

        Returns
        -------
        self

        Raises
        ------
        NotEnoughImagesError, MissingScannerError, UnknownScannerError, InvalidImageError
            As there.
        InvalidParameterError
            As there, and if ``maps`` come without ``target``, in another number, in another shape, or are none for
            images in [0, 1].
        """
        return self._fit(X, y, scanner, target, maps)

    def maps(self, X: Any, *, scanner: ArrayLike | None = None) -> list[np.ndarray]:
        """Give the maps of every image in its full resolution; ``transform`` is these maps applied.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        scanner : array-like of str of shape (n,), or str, optional
            Not needed.

        Returns
        -------
        list of ndarray of float32 of shape (4, height, width)
            Slope a, bias b, window centre wc, window width ww, for greys in [0, 1].
        """
        check_is_fitted(self)
        self._check_parameters()
        images = self._images(X, scanner)
        return [self._maps_array(images.radiograph(i)) for i in range(len(images))]

    def pixel_lut(self, image: Any, row: int, column: int) -> ToneCurve:
        """Give the table of one pixel: what would become of every grey value there.

        Parameters
        ----------
        image : Radiograph, ImageSet of one image, ndarray of shape (height, width), or path
        row, column : int
            The pixel.

        Returns
        -------
        ToneCurve

        Raises
        ------
        InvalidParameterError
            If ``row`` or ``column`` is no whole number, or the image has no such pixel.
        """
        check_is_fitted(self)
        self._check_parameters()
        row, column = _whole("row", row), _whole("column", column)
        radiograph = one_radiograph(image)
        height, width = radiograph.pixels.shape
        if not (0 <= row < height and 0 <= column < width):
            raise InvalidParameterError(
                f"There is no pixel at row {row}, column {column} of an image of {height} x {width}."
            )
        a, b, wc, ww = (torch.tensor(float(one)) for one in self._maps_array(radiograph)[:, row, column])
        # The regional table bends where it reaches black and white.
        bends = torch.stack([-b / a, (1 - b) / a])
        x = torch.cat([torch.linspace(0, 1, _N_KNOTS), bends[(bends > 0) & (bends < 1)]]).double().unique()
        y = global_lut(regional_lut(x, a.double(), b.double()), wc.double(), ww.double(), self.network_["rescale"])
        return ToneCurve(x.numpy(), np.clip(np.maximum.accumulate(y.numpy()), 0, 1))

    def plot_maps(self, image: Any) -> Figure:
        """Draw an image, its four maps, and what they make of it.

        Parameters
        ----------
        image : Radiograph, ImageSet of one image, ndarray of shape (height, width), or path

        Returns
        -------
        matplotlib Figure
        """
        from matplotlib.figure import Figure

        check_is_fitted(self)
        self._check_parameters()
        radiograph = one_radiograph(image)
        maps = self._maps_array(radiograph)
        figure = Figure(figsize=(9, 6), layout="constrained")
        before, *of_maps, after = figure.subplots(2, 3).ravel()
        pixels = as_unit(radiograph.pixels, radiograph.bits_stored, name=radiograph.name)
        for ax, shown, title in ((before, pixels, "as it came"), (after, self._render(radiograph), "mapped")):
            ax.imshow(shown, cmap="gray", vmin=0, vmax=1)
            ax.set(title=title)
        names = ("a, slope", "b, bias", "wc, window centre", "ww, window width")
        for ax, shown, name in zip(of_maps, maps, names, strict=True):
            drawn = ax.imshow(shown, cmap="viridis")
            ax.set(title=name)
            figure.colorbar(drawn, ax=ax, shrink=0.7)
        for ax in figure.axes[:6]:
            ax.set(xticks=[], yticks=[])
        return figure

    def _maps_array(self, radiograph: Radiograph) -> np.ndarray:
        with naming(radiograph):
            maps: np.ndarray = self._maps_of(radiograph)[0].cpu().numpy()
        return maps

    def _new_network(self, made_with: Mapping[str, Any]) -> MappingNetwork:
        return MappingNetwork(
            int(made_with["n_features"]),
            bool(made_with["global_statistics"]),
            made_with["rescale"],
            made_with["smoothness"],
            made_with["map_weight"],
        )

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole_numbers(self.get_params(deep=False), {"n_features": 1})
        check_rescale(self.rescale)
        for name, value in (("smoothness", self.smoothness), ("map_weight", self.map_weight)):
            check_number(name, value, "be finite, 0 or more", lambda weight: 0 <= weight < np.inf)


def _whole(name: str, number: Any) -> int:
    try:
        # True is a position for Python, and a mask for NumPy.
        if not isinstance(number, bool):
            return operator.index(number)
    except TypeError:
        pass
    raise InvalidParameterError(f"{name} must be a whole number; got {number!r}.")
