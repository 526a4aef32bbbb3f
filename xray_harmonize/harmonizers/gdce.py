"""GDCE: tone curves learned by what they do for a classifier of the reference's images."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.classifiers.recipe import Outcome, tell_interruption
from xray_harmonize.classifiers.resnet import ResNetClassifier
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    UnknownScannerError,
    XRayHarmonizeWarning,
)
from xray_harmonize.harmonizers.base import ToneCurveMixin
from xray_harmonize.harmonizers.built_network import BuiltNetwork
from xray_harmonize.harmonizers.curve_images import CurveImages, canonical_order
from xray_harmonize.harmonizers.curve_learning import CurveLearner, CurveModule
from xray_harmonize.harmonizers.curve_parameters import check_parameters, check_training
from xray_harmonize.harmonizers.curve_training import curve_values, stayed_at_identity
from xray_harmonize.harmonizers.curve_training_set import TrainingSet, fitted_discriminator, known_classes
from xray_harmonize.harmonizers.curve_views import bilinear_view
from xray_harmonize.networks.arrays import arrays_of
from xray_harmonize.networks.curve import CurveEstimator, ScannerCurves
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.tone import ToneCurve

# Denser towards black and white, where steep curves bend.
_KNOTS = (1 - np.cos(np.pi * np.linspace(0, 1, 2049))) / 2


class GDCE(ToneCurveMixin, BuiltNetwork):
    """Global Deep Curve Estimation: tone curves learned by what they do for a classifier.

    A classifier of the reference's images is frozen. A small network looks at an image of any scanner and gives the
    coefficients of one global tone curve; it is trained so that the classifier finds the right class behind the curve
    and that features look like the reference's. No pixel is treated differently from another of the same grey value.

    Parameters
    ----------
    reference : str, optional
        Scanner that all others are brought to; None for the one with most training images.
    discriminator : ResNetClassifier, optional
        The frozen classifier. A fitted one is taken as it is, also through ``clone``; an unfitted one is trained on the
        reference's training images; None stands for ``ResNetClassifier()``.
    n_layers : int, default=5
        Convolutions of the network, 1 to 9.
    n_iterations : int, default=8
        Steps of the curve, 1 to 32.
    scope : {"image", "scanner"}, default="image"
        "image": the network gives every image a curve of its own, also those of scanners never seen. "scanner": one
        curve a scanner, learned directly; it cannot encode what an image shows, and the reference's is the identity.
    supervision : {"labels", "distribution"}, default="labels"
        "labels": as published; the *sources'* labels are needed too. "distribution": grey values and features of the
        sources are brought to the reference's, without any label of theirs.
    perceptual : {"pooled", "map", None}, default="pooled"
        What of VGG-16 the perceptual loss compares: channel means (as released), whole maps (as printed), nothing.
    vgg_weights : path, optional
        File of VGG-16 weights. None: random ones, with a warning; "random": the same on purpose, without.
    weighting : {"smooth", "sum", "ratio"}, default="smooth"
        How both losses are added, see :class:`~xray_harmonize.networks.losses.LossWeighting`; "sum" is printed, "ratio"
        released. Without labels it is always "smooth".
    perceptual_weight : float, default=0.5
        Share of the perceptual loss, in [0, 1), for "smooth" and "ratio".
    image_size : int, optional
        Side in pixels at which images pass the frozen networks; None for the discriminator's.
    view_size : int, default=256
        Side in pixels of what the curve's network sees of an image.
    batch_size : int, default=12
        Images of the sources a step, and as many of the reference.
    max_steps : int, optional
        Steps of training; None: 200 for ``scope="image"``, 60 for "scanner". It does not depend on the number of
        images: few are seen more often.
    max_epochs : int, optional
        Train by passes over the rarest class instead, as released.
    start : {"matched", "random"}, default="matched"
        Where training starts: at the curves that match each scanner's grey values to the reference's, which takes a
        moment and no label, or at a random network near the identity, as released.
    lr : float, optional
        Learning rate, at its highest with ``schedule="one_cycle"``; None: 2e-3 for ``scope="image"``, 0.05 for
        "scanner".
    schedule : {"one_cycle", "constant"}, default="one_cycle"
        How the rate runs.
    flip : bool, default=True
        Whether training images are mirrored at random.
    validation_fraction : float, default=0.2
        Share of the sources' patients kept to choose the state by; 0 keeps the last. Only with labels.
    patience : int, optional
        Stop after so many of the 20 checks without a better state.
    speed : {"exact", "fast", "faster"}, default="exact"
        "fast" computes the frozen networks in bfloat16 (on a GPU without it in float16), "faster" also shows VGG images
        of half the side (from 128 pixels on); curves of ``scope="scanner"`` hardly notice, those of "image" do.
    unseen : {"error", "identity"}, default="error"
        With ``scope="scanner"``: what to do with a scanner not seen: refuse, or leave its images as they are.
    device : str, default="auto"
        Where to train; "auto": a GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the frozen networks; "auto" leaves it to ``speed``. See
        :func:`xray_harmonize.training.resolve_precision`.
    random_state : int, RandomState or None, default=None
        Of everything random.
    verbose : int, default=0
        1 prints a line a check.

    Attributes
    ----------
    reference_ : str
        Scanner that images are brought to.
    scanners_ : list of str
        Scanners known, those that ``adapt`` added included.
    state_ : dict of str to ndarray
        Weights of the network (``scope="image"``).
    network_ : dict
        Parameters that the network, or the curves, were made with.
    adapted_states_ : dict of str to dict
        Weights for scanners that ``adapt`` added (``scope="image"``).
    alpha_ : dict of str to ndarray of shape (n_iterations,)
        Coefficients of each scanner's curve (``scope="scanner"``). Many sequences give nearly one curve: compare
        curves, never these.
    discriminator_ : ResNetClassifier or None
        The frozen classifier; None where there was none.
    reference_statistics_ : dict of str to ndarray
        What ``adapt`` brings new scanners to.
    history_ : list of dict
        ``epoch`` (a check), ``train_loss``, ``valid_loss``, ``worst_group_accuracy``, ``dur`` in seconds.
    best_epoch_ : int
        Check whose state is kept; 0 where nothing was trained.
    interrupted_ : bool
        Whether Ctrl-C cut the training short; the best state up to then was kept.

    See Also
    --------
    CDFMatching : curves without a classifier, labels or training.

    Notes
    -----
    The curve keeps black black and white white, so a shifted or clipped range cannot be undone exactly. With labels the
    sources' images take part in choosing the curve, so compare it with what else can be done with such labels, like
    fine-tuning the classifier. A curve an image can shift predictions towards the classes of the training sources;
    ``scope="scanner"`` cannot.

    The training counts steps. As released (:meth:`as_released`) it counts passes, and a scanner with 65 images never
    leaves the identity; where curves stay there, a warning tells.

    References
    ----------
    Lu, Wang, Juodelyte, Cheplygina. Learning to harmonize cross-vendor X-ray images by non-linear image dynamics
    correction. 2025. Where text and released code differ, parameters name both.

    Examples
    --------
    >>> from xray_harmonize.datasets import make_cohort
    >>> cohort = make_cohort(scanners=["reference", "clearview-like"], n_patients=16, size=32, random_state=0)
    >>> harmonizer = GDCE(
    ...     discriminator=ResNetClassifier(width=4, image_size=32, max_epochs=1, validation_fraction=0),
    ...     scope="scanner", perceptual=None, max_steps=2, validation_fraction=0, random_state=0)
    >>> _ = harmonizer.fit(cohort.images, cohort.labels)
    >>> sorted(harmonizer.alpha_), len(harmonizer.tone_curves(cohort.images))
    (['clearview-like', 'reference'], 32)
    """

    _network_parameters = ("n_layers", "n_iterations", "view_size")

    def __init__(
        self,
        reference: str | None = None,
        discriminator: ResNetClassifier | None = None,
        *,
        n_layers: int = 5,
        n_iterations: int = 8,
        scope: str = "image",
        supervision: str = "labels",
        perceptual: str | None = "pooled",
        vgg_weights: str | None = None,
        weighting: str = "smooth",
        perceptual_weight: float = 0.5,
        image_size: int | None = None,
        view_size: int = 256,
        batch_size: int = 12,
        max_steps: int | None = None,
        max_epochs: int | None = None,
        start: str = "matched",
        lr: float | None = None,
        schedule: str = "one_cycle",
        flip: bool = True,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        speed: str = "exact",
        unseen: str = "error",
        device: str = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.reference = reference
        self.discriminator = discriminator
        self.n_layers = n_layers
        self.n_iterations = n_iterations
        self.scope = scope
        self.supervision = supervision
        self.perceptual = perceptual
        self.vgg_weights = vgg_weights
        self.weighting = weighting
        self.perceptual_weight = perceptual_weight
        self.image_size = image_size
        self.view_size = view_size
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.max_epochs = max_epochs
        self.start = start
        self.lr = lr
        self.schedule = schedule
        self.flip = flip
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.speed = speed
        self.unseen = unseen
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def as_released(cls, **parameters: Any) -> Self:
        """Give the published training: 25 passes at a rate of 1e-4, and a jumping weight of the perceptual loss.

        Parameters
        ----------
        **parameters
            Others, and those to change; the authors had ``perceptual_weight=0.95`` for breast density, 0.5 for
            pneumonia.

        Returns
        -------
        GDCE

        Examples
        --------
        >>> GDCE.as_released(reference="Selenia").max_epochs
        25
        """
        released = {"max_epochs": 25, "lr": 1e-4, "schedule": "constant", "weighting": "ratio", "start": "random"}
        return cls(**{**released, "perceptual_weight": 0.95, **parameters})

    # -- learning ------------------------------------------------------------------------------

    def fit(self, X: Any, y: ArrayLike | None = None, *, scanner: ArrayLike | None = None) -> Self:
        """Learn curves from images of several scanners.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Training images of the reference and of other scanners. With ``X.patient``, no patient is both trained on
            and held out.
        y : array-like of shape (n,)
            Labels. With ``supervision="distribution"`` only those of the reference are used, to train a discriminator
            that is not there yet, and may be missing.
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
            If all images come from one scanner, are fewer than a batch, or too few to hold some out.
        InvalidParameterError
            If a parameter is out of range, a label is missing, or one is no class of the discriminator.
        InvalidImageError
            If an image holds NaN or values beyond its full scale.
        PersistenceError
            If ``vgg_weights`` cannot be read or are no VGG-16's.
        """
        parameters = self.get_params(deep=False)
        check_training(parameters)
        by_labels = self.supervision == "labels"
        data = TrainingSet.of(self._images(X, scanner, at_least=1), y, self.reference, needs_labels=by_labels)
        labels = data.class_numbers(known_classes(self.discriminator, data)) if by_labels else None
        rng = check_random_state(self.random_state)
        learner = CurveLearner.of(parameters, None)
        learner.objective.warn_of_random_features()
        measured = learner.measure(data.images, data.scanner_numbers(), labels)
        order = canonical_order(measured)
        data, measured = data[order], measured[order]
        held_out = data.held_out(measured.label.numpy(), self.validation_fraction if by_labels else 0, rng)
        may_train = data.without_patients_of(held_out)
        discriminator = fitted_discriminator(self.discriminator, data, may_train, by_labels, self.device, rng)
        learner = CurveLearner.of(parameters, discriminator)
        of_reference, of_sources = data.positions_of(data.reference), data.positions_of(*data.sources)
        statistics = learner.objective.statistics(measured[of_reference])
        module, outcome = learner.identity(), Outcome([], 0, interrupted=False)
        if by_labels:
            module, outcome = learner.by_labels(
                measured[of_sources[may_train[of_sources]]],
                measured[of_reference[may_train[of_reference]]],
                measured[np.flatnonzero(held_out)] if held_out.any() else None,
                rng,
            )
        elif data.sources:
            module, outcome = learner.by_distribution(measured[of_sources], statistics, measured[of_reference], rng)
        tell_interruption(outcome, "training of GDCE")
        self.reference_ = data.reference
        self.scanners_ = [data.reference, *data.sources]
        self.discriminator_ = discriminator
        self.reference_statistics_ = statistics
        self.history_, self.best_epoch_, self.interrupted_ = outcome.history, outcome.best_epoch, outcome.interrupted
        self._keep(module, data.sources)
        self._warn_of_identity(data.sources, measured)
        return self

    def adapt(self, X: Any, *, scanner: ArrayLike | None = None) -> Self:
        """Return a harmonizer that also knows the scanners of X, learned from their unlabelled images alone.

        Grey values and features of the new scanners are brought to the reference's (``supervision="distribution"``).

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Images of one or several new scanners. Images of scanners already known are left aside.
        scanner : array-like of str of shape (n,), or str, optional
            Which scanner made each image; ``X.scanner`` where absent.

        Returns
        -------
        GDCE
            A new object; reference and known scanners are as before, and so is this object.

        Raises
        ------
        MissingScannerError
            If nothing names the scanner.
        InvalidParameterError
            If every scanner of X is known already.
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        check_training(parameters)
        images = self._images(X, scanner, at_least=1)
        if images.scanner is None:
            raise self._scanner_missing("adapt")
        names = images.scanner.astype(str)
        new = sorted(set(names) - set(self.scanners_))
        if not new:
            raise InvalidParameterError(
                f"adapt found no new scanner: {', '.join(sorted(set(names)))} known already. "
                "Name the new scanner with scanner=, or fit again to learn a known one anew."
            )
        rng = check_random_state(self.random_state)
        # What was learned goes on as it was learned, whatever has been set since.
        parameters |= {**self.network_, "scope": "scanner" if self._by_scanner() else "image"}
        learner = CurveLearner.of(parameters, self.discriminator_)
        adapted = copy.copy(self)
        adapted.scanners_ = [*self.scanners_, *new]
        for name in new:
            own = np.flatnonzero(names == name)
            measured = learner.measure(images[own], np.zeros(len(own), dtype=np.int64), None)
            measured = measured[canonical_order(measured)]
            known = None if self._by_scanner() else learner.network(self.state_)
            module, outcome = learner.by_distribution(measured, self.reference_statistics_, None, rng, known)
            tell_interruption(outcome, "training of GDCE")
            if isinstance(module, ScannerCurves):
                adapted.alpha_ = {**adapted.alpha_, name: _coefficients(module)[0]}
            else:
                adapted.adapted_states_ = {**adapted.adapted_states_, name: arrays_of(module)}
        return adapted

    def _keep(self, module: CurveModule, sources: list[str]) -> None:
        for name in ("state_", "alpha_", "adapted_states_"):
            self.__dict__.pop(name, None)
        self.network_ = self._to_be_made_with()
        if isinstance(module, ScannerCurves):
            curves = dict(zip(sources, _coefficients(module), strict=True))
            self.alpha_ = {self.reference_: np.zeros(self.n_iterations), **curves}
        else:
            self.state_ = arrays_of(module)
            self.adapted_states_: dict[str, dict[str, np.ndarray]] = {}

    def _warn_of_identity(self, sources: list[str], measured: CurveImages) -> None:
        curves = {}
        for number, name in enumerate(sources):
            first = torch.nonzero(measured.scanner == number)[:16, 0]
            curves[name] = self.alpha_[name][None] if self._by_scanner() else self._predicted(measured.views[first])
        stayed = ", ".join(stayed_at_identity(curves))
        if stayed:
            warnings.warn(
                f"GDCE's curves stayed at the identity for {stayed}. Either the scanner renders as the reference does, "
                "or the training was too short: raise max_steps or lr.",
                XRayHarmonizeWarning,
                stacklevel=3,
            )

    # -- curves --------------------------------------------------------------------------------

    def _tone_curve(self, radiograph: Radiograph) -> ToneCurve:
        if self._by_scanner():
            self._check_scanners([radiograph.scanner])
            alpha = self.alpha_.get(radiograph.scanner)
            if alpha is None:
                return ToneCurve.identity()
        else:
            view = torch.from_numpy(bilinear_view(radiograph, self.network_["view_size"]))[None, None]
            alpha = self._predicted(view, radiograph.scanner)[0]
        # Steps of rounding may leave the last values a hair out of order.
        return ToneCurve(_KNOTS, np.clip(np.maximum.accumulate(curve_values(alpha, _KNOTS)), 0, 1))

    def _by_scanner(self) -> bool:
        """Whether a curve was learned for every scanner, and no network for images."""
        return hasattr(self, "alpha_")

    def _new_network(self, made_with: Mapping[str, Any]) -> CurveEstimator:
        return CurveEstimator(made_with["n_layers"], made_with["n_iterations"], made_with["view_size"])

    def _predicted(self, views: torch.Tensor, scanner: str = "") -> np.ndarray:
        """Coefficients for views of shape (n, 1, view_size, view_size)."""
        state = self.adapted_states_.get(scanner, self.state_)
        network = self._built_network(state, torch.device("cpu"))
        with torch.inference_mode():
            alpha: np.ndarray = network(views).double().numpy()
        return alpha

    # -- checks --------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        check_parameters(self.get_params(deep=False))

    def _check_scanners(self, scanners: Iterable[str]) -> None:
        if not self._by_scanner():
            return
        unseen = sorted(set(map(str, scanners)) - set(self.alpha_))
        if "" in unseen:
            raise self._scanner_missing("transform")
        if unseen and self.unseen == "error":
            raise UnknownScannerError(
                f"Scanner {unseen[0]!r} was not seen in fit; known are {', '.join(sorted(self.alpha_))}. "
                "Call adapt with some of its images, or set unseen='identity'."
            )

    @staticmethod
    def _scanner_missing(method: str) -> MissingScannerError:
        return MissingScannerError(
            f"GDCE.{method} needs to know which scanner made each image. "
            f"Give X as ImageSet(images, scanner=...), or call {method}(X, scanner=...)."
        )

    def __sklearn_clone__(self) -> Self:
        """Clone with a fitted discriminator kept as it is: it is data, like a weight file, not something to refit."""
        parameters = self.get_params(deep=False)
        kept = self.discriminator if hasattr(self.discriminator, "state_") else clone(self.discriminator, safe=False)
        others = {name: clone(value, safe=False) for name, value in parameters.items() if name != "discriminator"}
        copied = type(self)(**others, discriminator=kept)
        if hasattr(self, "_metadata_request"):
            copied._metadata_request = copy.deepcopy(self._metadata_request)
        return copied

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether curves are known."""
        return hasattr(self, "scanners_")

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that labels are needed where it learns by them."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.supervision == "labels"
        return tags


def _coefficients(module: torch.nn.Module) -> np.ndarray:
    """Coefficients of all scanners, of shape (n_scanners, n_iterations)."""
    assert isinstance(module, ScannerCurves)
    alpha: np.ndarray = torch.tanh(module.raw).detach().cpu().double().numpy()
    return alpha
