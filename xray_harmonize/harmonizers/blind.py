"""BlindHarmony: images of any scanner brought to what a flow of the reference's images alone finds likely."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.classifiers.holdout import hold_out
from xray_harmonize.classifiers.recipe import tell_interruption
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.appearance import appearance
from xray_harmonize.harmonizers.base import naming
from xray_harmonize.harmonizers.blind_distances import DISTANCES, distances_between
from xray_harmonize.harmonizers.blind_search import Search, search
from xray_harmonize.harmonizers.blind_training import (
    FlowTraining,
    by_content,
    fixed_noise,
    frame_of,
    images_of_reference,
    measured,
    typical_latents,
    unit_pixels,
)
from xray_harmonize.harmonizers.built_network import BuiltNetwork
from xray_harmonize.harmonizers.carried_detail import NO_CONTRAST, carry_over
from xray_harmonize.harmonizers.cdf import matching_curve
from xray_harmonize.harmonizers.foreground import foreground_counts
from xray_harmonize.harmonizers.typicality import Typicality
from xray_harmonize.levels import PROBABILITIES, quantiles
from xray_harmonize.networks.arrays import arrays_of
from xray_harmonize.networks.flow import SplineFlow, check_flow, dequantize
from xray_harmonize.parameters import check_number
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.training import exactly, resolve_device, seeded

STARTS = ("source", "matched")
# How atypical an image is, from which on the whole of what was found for it is taken, and up to which a part.
_WHOLLY = 1.5
# The search looks at the neighbours of every pixel.
_SMALLEST = 4

_SIZES = ("image_size", "n_levels", "n_steps", "channels", "n_blocks", "n_bins", "tail_bound", "n_bits")


class _FoundForOne(NamedTuple):
    """What was found for the frame of one image, None where it stays as it is; which pixels of it count."""

    frame: np.ndarray
    found: np.ndarray | None
    inside: np.ndarray
    atypicality: float
    fallbacks: int


class BlindHarmony(BuiltNetwork):
    """Blind harmonization: learns the reference's images alone, and serves scanners that it has never seen.

    An invertible network (a flow) is trained to tell how likely an image is on the reference scanner. An image of any
    scanner is then changed, a little a turn, towards one that is likely there and still correlates with the image that
    it was, without edges that were not there; what already looks as the reference's images do stays as it is. Not a
    tone curve: each pixel has a change of its own, and so structure can be lost or invented. :meth:`distances` tells
    both distances for every image; look at both, as doing nothing keeps the correlation perfect.

    Parameters
    ----------
    reference : str, optional
        Scanner whose images are learned; None for the one with most training images, "pooled" for all. Without scanner
        labels all images are the reference's.
    start : {"source", "matched"}, default="source"
        What the search starts from and stays close to: the image, or the image with its grey values matched to the
        reference's, as :class:`CDFMatching` does with one curve an image.
    n_iterations : int, default=10
        Turns of the search.
    similarity : {"ncc", "cosine"}, default="ncc"
        What closeness to the image means: normalized cross-correlation, as printed, which leaves brightness and
        contrast free; or the same without removing means, as released, which leaves only the scale free.
    similarity_step : float, default=0.3
        Share of the way back to the image each turn, in [0, 1].
    edge_step : float, default=0.01
        Step against edges that the image lacks, in units of the image's standard deviation.
    edge_percentile : float, default=30.0
        Share in percent of the foreground's derivatives that counts as no edge.
    foreground : float, default=0.05
        Where the foreground begins, as a fraction of the image's own range.
    latent_step : float, default=0.5
        Share of the way in latent space each turn, in [0, 1].
    latent : {"typical", "origin"}, default="typical"
        Where that way leads: to latents whose channels have means and deviations as images of the reference have them,
        which leaves those images alone; or to zero, as published.
    tolerance : float, default=0.5
        Up to how many standard deviations over the reference's images a mean or deviation is typical.
    typical_share : float, default=1.0
        Share of the reference's own images that count as typical, by grey values and contrasts at several scales and
        levels (:func:`~xray_harmonize.harmonizers.appearance.appearance`), held out from what they are held against. An
        image as typical stays as it is, whatever its scanner; somewhat farther out it is changed in part. 0: all are
        changed, as published; so it is with fewer than ten patients of the reference.
    image_size : int, default=64
        Side in pixels at which the flow sees images, divisible by ``2 ** n_levels``; the aspect is not kept.
    n_levels : int, default=4
        Levels of the flow; this and the next six are those of :class:`~xray_harmonize.networks.flow.SplineFlow`.
    n_steps : int, default=4
        Steps a level.
    channels : int, default=32
        Width of the networks that choose splines.
    n_blocks : int, default=1
        Residual blocks in each of them.
    n_bins : int, default=8
        Pieces of a spline.
    tail_bound : float, default=3.0
        Beyond it splines leave values as they are.
    n_bits : int, default=8
        Likelihoods count ``2 ** n_bits`` grey levels.
    batch_size : int, default=8
        Images a step.
    max_steps : int, default=100
        Steps of training at most, in up to 20 checks, whatever the number of images.
    lr : float, default=2e-3
        Learning rate at its highest.
    schedule : {"one_cycle", "cosine"}, default="one_cycle"
        How the rate runs: up and down, or from its highest down to zero.
    flip : bool, default=True
        Whether training images are mirrored at random.
    validation_fraction : float, default=0.1
        Share of the reference's patients kept to choose the state by; 0 keeps the last.
    patience : int, optional
        Stop after so many of the 20 checks without a better state.
    device : str, default="auto"
        Where to train and to search; "auto": a GPU where there is one.
    random_state : int, RandomState or None, default=None
        Of everything random. The search itself draws nothing: its noise is part of what is learned.
    verbose : int, default=0
        1 prints a line a check.

    Attributes
    ----------
    reference_ : str
        Scanner that images are brought to.
    state_ : dict of str to ndarray
        Weights of the flow.
    network_ : dict of str to number
        Sizes it was built with.
    typical_ : list of ndarray of shape (2, 2, n_channels)
        Of the flow's levels: mean and spread, over the reference's training images, of the means and deviations of the
        latents' channels.
    typicality_ : dict of str to ndarray
        What the reference's images look like: ``center``, ``spread`` and ``precision`` of the numbers that
        ``typical_share`` speaks of, and distances of ``held_out`` images.
    reference_quantiles_ : ndarray of float
        Mean quantile function of the reference's training images, for ``start="matched"``.
    noise_seed_ : int
        Of the noise that every search uses.
    history_ : list of dict
        ``epoch`` (a check), ``train_loss`` and ``valid_loss`` in bits per dimension, ``dur`` in seconds.
    best_epoch_ : int
        Check whose state is kept.
    interrupted_ : bool
        Whether Ctrl-C cut the training short; the best state up to then was kept.

    See Also
    --------
    CDFMatching : learns from the reference alone too, and keeps every structure.
    FourierSwap : no tone curve either, and needs no network.

    Notes
    -----
    The default sizes are for a CPU: half a minute of one core. For a GPU: ``image_size=256, n_levels=5, n_steps=7,
    channels=96, n_blocks=3, batch_size=32, max_steps=10_000, lr=5e-4``.

    The flow sees images of ``image_size`` pixels. Larger ones get what was found for their copy, and keep what is finer
    than it at the local contrast of the result, see :func:`carry_over`. Images without contrast stay as they are, and
    so does an image in a turn whose step in latent space leads to no image. Pixels outside the mask
    stay as they came.

    Steps are fractions of the image's own contrast. Published were 1000 times the gradient of the cosine similarity at
    25,344 pixels, which at usual contrast goes all the way back to the source (1.0 here), and a latent step of 0.001 to
    the origin: the image that comes out is hardly more than the source at another scale.

    References
    ----------
    Jeong, Byun, Kang, Lee. BlindHarmony: "blind" harmonization for MR images via flow model. ICCV 2023. Where text and
    released code differ, parameters name both.

    Examples
    --------
    >>> from xray_harmonize.datasets import make_cohort
    >>> cohort = make_cohort(scanners=["reference", "clearview-like"], n_patients=8, size=32, random_state=0)
    >>> harmonizer = BlindHarmony("reference", image_size=16, n_levels=2, n_steps=1, max_steps=2, random_state=0)
    >>> harmonized = harmonizer.fit(cohort.images).transform(cohort.images)
    >>> len(harmonized), harmonized[0].shape, harmonizer.distances(cohort.images[:1]).shape
    (16, (32, 32), (1, 8))
    """

    _network_parameters = _SIZES

    def __init__(
        self,
        reference: str | None = None,
        *,
        start: str = "source",
        n_iterations: int = 10,
        similarity: str = "ncc",
        similarity_step: float = 0.3,
        edge_step: float = 0.01,
        edge_percentile: float = 30.0,
        foreground: float = 0.05,
        latent_step: float = 0.5,
        latent: str = "typical",
        tolerance: float = 0.5,
        typical_share: float = 1.0,
        image_size: int = 64,
        n_levels: int = 4,
        n_steps: int = 4,
        channels: int = 32,
        n_blocks: int = 1,
        n_bins: int = 8,
        tail_bound: float = 3.0,
        n_bits: int = 8,
        batch_size: int = 8,
        max_steps: int = 100,
        lr: float = 2e-3,
        schedule: str = "one_cycle",
        flip: bool = True,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.reference = reference
        self.start = start
        self.n_iterations = n_iterations
        self.similarity = similarity
        self.similarity_step = similarity_step
        self.edge_step = edge_step
        self.edge_percentile = edge_percentile
        self.foreground = foreground
        self.latent_step = latent_step
        self.latent = latent
        self.tolerance = tolerance
        self.typical_share = typical_share
        self.image_size = image_size
        self.n_levels = n_levels
        self.n_steps = n_steps
        self.channels = channels
        self.n_blocks = n_blocks
        self.n_bins = n_bins
        self.tail_bound = tail_bound
        self.n_bits = n_bits
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.lr = lr
        self.schedule = schedule
        self.flip = flip
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def as_published(cls, **parameters: Any) -> Self:
        """Give the published search, flow and training; a GPU is needed.

        The search starts from the source instead of the mean image, which would take registered anatomy; noise is the
        same in every turn; and the networks inside the flow have no batch normalization.

        Parameters
        ----------
        **parameters
            Others, and those to change.

        Returns
        -------
        BlindHarmony

        Examples
        --------
        >>> published = BlindHarmony.as_published(reference="Selenia")
        >>> published.similarity, published.latent_step, published.max_steps
        ('cosine', 0.001, 10000)
        """
        search = {"similarity": "cosine", "similarity_step": 1.0, "edge_step": 0.04}
        search |= {"latent": "origin", "latent_step": 1e-3, "typical_share": 0.0, "schedule": "cosine", "flip": False}
        # 160 x 160 pixels stand for the 144 x 176 of the slices.
        sizes = {"image_size": 160, "n_levels": 4, "n_steps": 7, "channels": 96, "n_blocks": 3, "n_bits": 12}
        return cls(**{**search, **sizes, "batch_size": 256, "max_steps": 10_000, "lr": 5e-4, **parameters})

    # -- learning ------------------------------------------------------------------------------

    def fit(self, X: Any, y: ArrayLike | None = None, *, scanner: ArrayLike | None = None) -> Self:
        """Learn the reference's images; those of other scanners are not looked at.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Training images. With ``X.patient``, no patient is both trained on and held out.
        y : ignored
            There for scikit-learn's interface.
        scanner : array-like of str of shape (n,), or str, optional
            Which scanner made each image; ``X.scanner`` where absent.

        Returns
        -------
        self

        Raises
        ------
        NotEnoughImagesError
            If there is no image.
        MissingScannerError
            If ``reference`` names a scanner and nothing tells which made an image.
        UnknownScannerError
            If no image comes from ``reference``.
        InvalidParameterError
            If a parameter is out of range, the device is not there, or the training diverged.
        InvalidImageError
            If an image of the reference holds NaN or values beyond its full scale, or its mask is empty.
        """
        self._check_parameters()
        device = resolve_device(self.device)
        images = self._images(X, scanner, at_least=1)
        reference, images = images_of_reference(images, self.reference)
        frames, functions, numbers = measured(images, self.image_size)
        order = by_content(frames)
        rng = check_random_state(self.random_state)
        held_out = np.zeros(len(images), dtype=bool)
        patients = None if images.patient is None else images.patient[order]
        if self.validation_fraction > 0:
            held_out = hold_out(np.zeros(len(images)), patients, self.validation_fraction, rng)
        ordered = torch.from_numpy(frames[order])
        seed, noise_seed = (int(number) for number in rng.randint(2**31 - 1, size=2))
        made_with = self._to_be_made_with()
        with seeded(seed, device):
            flow = self._new_network(made_with)
            outcome = self._training().train(flow, ordered[~held_out], ordered[held_out], device, type(self).__name__)
        tell_interruption(outcome, f"training of {type(self).__name__}")
        noise = fixed_noise(noise_seed, self.image_size)
        typical = typical_latents(flow, ordered, noise, self.batch_size)
        typicality = asdict(Typicality.of(numbers[order], patients))
        # All at once and last, so that a fit that fails leaves what an earlier one learned whole.
        self.reference_, self.noise_seed_ = reference, noise_seed
        self.state_, self.network_ = arrays_of(flow), made_with
        self.reference_quantiles_ = functions[order].mean(axis=0)
        self.typical_, self.typicality_ = typical, typicality
        self.history_, self.best_epoch_, self.interrupted_ = outcome.history, outcome.best_epoch, outcome.interrupted
        return self

    def _training(self) -> FlowTraining:
        return FlowTraining(
            self.max_steps, self.batch_size, self.lr, self.schedule, self.flip, self.patience, self.verbose
        )

    # -- searching -----------------------------------------------------------------------------

    def distances(self, X: Any, *, scanner: ArrayLike | None = None) -> pd.DataFrame:
        """How far every result is from its image, and how far both are from the reference.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        scanner : array-like of str of shape (n,), or str, optional

        Returns
        -------
        DataFrame of n rows
            ``atypicality``, the image's distance from the reference's images, in units of what is typical there: up to
            1 it stays as it is (infinite where nothing tells what is typical); ``similarity`` of the result to the
            image (1: as good as nothing done); ``change``, the root mean square difference of grey values;
            ``bits_before`` and ``bits_after`` per dimension, the fewer the more like the reference; ``edges_before``
            and ``edges_after``, mean derivatives where the image has no edge; ``fallbacks``, turns without a step in
            latent space. All at the size that the flow sees.
        """
        check_is_fitted(self)
        self._check_parameters()
        images = self._images(X, scanner)
        rows = []
        for i in range(len(images)):
            radiograph = images.radiograph(i)
            with naming(radiograph):
                rows.append(self._distances(radiograph))
        return pd.DataFrame(rows, columns=list(DISTANCES))

    def bits_per_dimension(self, X: Any, *, scanner: ArrayLike | None = None) -> np.ndarray:
        """How likely images are on the reference scanner, each on its own.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        scanner : array-like of str of shape (n,), or str, optional

        Returns
        -------
        ndarray of float64 of shape (n,)
            Bits a pixel at the size that the flow sees; the fewer the likelier.
        """
        check_is_fitted(self)
        images = self._images(X, scanner)
        found = np.empty(len(images))
        for i in range(len(images)):
            radiograph = images.radiograph(i)
            with naming(radiograph):
                frame, _ = frame_of(unit_pixels(radiograph), radiograph.mask, self.network_["image_size"])
            found[i] = self._bits(self._tensor(frame))
        return found

    def _render(self, radiograph: Radiograph) -> np.ndarray:
        pixels = unit_pixels(radiograph)
        one = self._found(radiograph, pixels)
        if one.found is None:
            return pixels
        rendered = carry_over(pixels, one.frame, one.found)
        if radiograph.mask is not None:
            # The flow has seen the mean of the others there, and what it made of that means nothing.
            np.copyto(rendered, pixels, where=~radiograph.mask)
        return rendered

    def _found(self, radiograph: Radiograph, pixels: np.ndarray) -> _FoundForOne:
        frame, inside = frame_of(pixels, radiograph.mask, self.network_["image_size"])
        atypicality = self._atypicality(radiograph)
        counted = frame[inside]
        if not counted.size or counted.max() - counted.min() < NO_CONTRAST or atypicality <= 1:
            return _FoundForOne(frame, None, inside, atypicality, 0)
        start = frame
        if self.start == "matched":
            own = quantiles(foreground_counts(radiograph, "all"), PROBABILITIES)
            start = matching_curve(own, self.reference_quantiles_)(frame.astype(np.float64)).astype(np.float32)
        source = self._tensor(start)
        with seeded(0, source.device), torch.inference_mode():
            result = search(
                self._flow(),
                source,
                self._tensor(inside),
                self._noise().to(source.device),
                [torch.from_numpy(np.asarray(level)).to(source.device) for level in self.typical_],
                Search.of(self.get_params(deep=False)),
            )
        share = np.float32(min((atypicality - 1) / (_WHOLLY - 1), 1.0))
        found = frame + share * (result.images[0, 0].cpu().numpy() - frame)
        return _FoundForOne(frame, found, inside, atypicality, int(result.fallbacks[0]))

    def _distances(self, radiograph: Radiograph) -> dict[str, float]:
        one = self._found(radiograph, unit_pixels(radiograph))
        source, result = self._tensor(one.frame), self._tensor(one.frame if one.found is None else one.found)
        measured_here = {"atypicality": one.atypicality, "fallbacks": one.fallbacks}
        measured_here |= {"bits_before": self._bits(source), "bits_after": self._bits(result)}
        settings = Search.of(self.get_params(deep=False))
        return {**measured_here, **distances_between(source, result, self._tensor(one.inside), settings)}

    def _atypicality(self, radiograph: Radiograph) -> float:
        usual = Typicality(**self.typicality_)
        limit = usual.limit(self.typical_share)
        return float(usual.distance(appearance(radiograph)[None])[0]) / limit if limit > 0 else np.inf

    def _bits(self, frame: torch.Tensor) -> float:
        with exactly(frame.device), torch.inference_mode():
            return float(self._flow()(dequantize(frame, self._noise().to(frame.device), self.network_["n_bits"])))

    def _noise(self) -> torch.Tensor:
        return fixed_noise(self.noise_seed_, self.network_["image_size"])

    def _tensor(self, frame: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(frame))[None, None].to(resolve_device(self.device))

    def _flow(self) -> SplineFlow:
        flow: SplineFlow = self._built_network(self.state_, resolve_device(self.device))
        return flow

    def _new_network(self, made_with: Mapping[str, Any]) -> SplineFlow:
        return SplineFlow(**made_with)

    # -- checks --------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        if self.start not in STARTS:
            raise InvalidParameterError(f"start must be 'source' or 'matched'; got {self.start!r}.")
        check_number("validation_fraction", self.validation_fraction, "lie in [0, 1)", lambda share: 0 <= share < 1)
        check_number("typical_share", self.typical_share, "lie in [0, 1]", lambda share: 0 <= share <= 1)
        Search.of(self.get_params(deep=False))
        check_flow(**self._to_be_made_with())
        if self.image_size < _SMALLEST:
            raise InvalidParameterError(f"image_size must be at least {_SMALLEST} pixels; got {self.image_size!r}.")
        self._training()
