"""What methods share that learn from pairs of images: the same body as it came, and as it shall be.

The public methods here validate and dispatch; a method's own file says which network it is and how it is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from xray_harmonize.classifiers.holdout import hold_out
from xray_harmonize.classifiers.recipe import Outcome, tell_interruption
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.network_rendering import NetworkRendering
from xray_harmonize.harmonizers.pair_images import PairImages, read_pairs, read_target_set, read_targets
from xray_harmonize.harmonizers.pair_training import steps_of, train_pairs
from xray_harmonize.harmonizers.reference_images import reference_images
from xray_harmonize.harmonizers.self_made_pairs import check_distortion
from xray_harmonize.images import ImageSet
from xray_harmonize.networks.arrays import arrays_of
from xray_harmonize.networks.rendering import RenderingNetwork
from xray_harmonize.parameters import check_number, check_truth, check_whole_numbers
from xray_harmonize.training import resolve_device, resolve_precision, seeded


class PairedHarmonizer(NetworkRendering):
    """Base of methods that learn from pairs, given or made.

    Hooks of a subclass: those of :class:`BuiltNetwork`, ``_view_shape(shape)``, and ``_render`` or ``_tone_curve``.
    """

    __metadata_request__fit = {"scanner": True, "target": True}

    reference: str | None
    distortion: str
    batch_size: int
    max_steps: int
    lr: float
    schedule: str
    augment: bool
    validation_fraction: float
    patience: int | None
    precision: str
    random_state: int | np.random.RandomState | None
    verbose: int

    # -- learning ------------------------------------------------------------------------------

    def fit(self, X: Any, y: ArrayLike | None = None, *, scanner: ArrayLike | None = None, target: Any = None) -> Self:
        """Learn from pairs of images.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Training images. With ``target``, the images to be changed, of any scanners; without, those of the
            reference are used alone: they are distorted at random, and the way back is learned. With ``X.patient``, no
            patient is both trained on and held out.
        y : ignored
            There for scikit-learn's interface: labels may stand here, but no images.
        scanner : array-like of str of shape (n,), or str, optional
            Which scanner made each image; ``X.scanner`` where absent.
        target : as X, optional
            What each image is to become: the same body in the wanted rendering, pixel by pixel.

        Returns
        -------
        self

        Raises
        ------
        NotEnoughImagesError
            If there is no image.
        MissingScannerError, UnknownScannerError
            If ``reference`` is named, but no image has a label, or none has this one.
        InvalidParameterError
            If a parameter is out of range, numbers of images and targets differ, ``y`` holds images, or the loss
            diverges.
        InvalidImageError
            If an image holds NaN or values beyond its full scale, its mask leaves no pixel, or the images of a pair
            differ in shape or have no pixel in common.
        """
        return self._fit(X, y, scanner, target, None)

    def _fit(
        self,
        X: Any,
        y: Any,
        scanner: ArrayLike | None,
        target: Any,
        maps: Sequence[np.ndarray | None] | None,
    ) -> Self:
        self._check_parameters()
        _check_no_images(y)
        device = resolve_device(self.device)
        resolve_precision(self.precision, device)
        images = self._images(X, scanner, at_least=1)
        rng = check_random_state(self.random_state)
        made_with = self._to_be_made_with()
        rescale = getattr(self, "rescale", "endpoint")
        if target is None:
            if maps is not None:
                raise InvalidParameterError("maps lead from X to target; give target too, or leave maps out.")
            reference, chosen = reference_images(images, self.reference, f"{type(self).__name__}.fit")
            images = images[chosen]
            pairs = read_targets(images, self._view_shape, self.distortion, rescale, self.augment)
        else:
            targets = read_target_set(target)
            reference = None if targets.scanner is None or len(set(targets.scanner)) > 1 else str(targets.scanner[0])
            pairs = read_pairs(images, targets, maps, self._view_shape, self.augment)
        order = pairs.canonical_order()
        pairs = pairs.take(order)
        held_out = np.zeros(len(pairs), dtype=bool)
        if self.validation_fraction:
            patient = None if images.patient is None else images.patient[order]
            held_out = hold_out(np.zeros(len(pairs)), patient, self.validation_fraction, rng)
        with seeded(int(rng.randint(2**31 - 1)), device):
            network = self._new_network(made_with)
            outcome = self._train(network, pairs, held_out, device)
        tell_interruption(outcome, f"training of {type(self).__name__}", stacklevel=4)
        self.reference_ = reference
        self.state_, self.network_ = arrays_of(network), made_with
        self.history_, self.best_epoch_, self.interrupted_ = outcome.history, outcome.best_epoch, outcome.interrupted
        return self

    def _train(
        self, network: RenderingNetwork, pairs: PairImages, held_out: np.ndarray, device: torch.device
    ) -> Outcome:
        steps = self._steps()
        training = pairs.take(np.flatnonzero(~held_out))
        chosen = pairs.take(np.flatnonzero(held_out)) if held_out.any() else None
        return train_pairs(network, training, chosen, steps, device, self.precision, type(self).__name__)

    def _steps(self) -> Any:
        return steps_of(self.max_steps, self.batch_size, self.lr, self.schedule, self.patience, self.verbose)

    # -- checks --------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        check_distortion(self.distortion)
        check_whole_numbers(self.get_params(deep=False), {"batch_size": 1, "max_steps": 1})
        check_number("validation_fraction", self.validation_fraction, "lie in [0, 1)", lambda share: 0 <= share < 1)
        for name in ("augment", "global_statistics"):
            if name in self.get_params(deep=False):
                check_truth(name, getattr(self, name))
        self._steps()


def _check_no_images(y: Any) -> None:
    """Refuse targets that were given by position: as ``y`` they would be ignored, and other pairs made."""
    # An array of one dimension may hold images as objects.
    listed = isinstance(y, list | tuple) or (isinstance(y, np.ndarray) and y.ndim == 1)
    first = y[0] if listed and len(y) else None
    of_images = isinstance(first, Path) or getattr(first, "ndim", 0) == 2
    if of_images or isinstance(y, ImageSet) or getattr(y, "ndim", 0) >= 3:
        raise InvalidParameterError(
            "y holds images; give targets as fit(X, target=...). y is ignored, and may hold labels alone."
        )
