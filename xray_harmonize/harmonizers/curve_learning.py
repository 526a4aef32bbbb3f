"""How curves are learned from measured images: network, start, loss and training put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from xray_harmonize.classifiers.recipe import Outcome
from xray_harmonize.classifiers.resnet import ResNetClassifier
from xray_harmonize.exceptions import NotEnoughImagesError
from xray_harmonize.harmonizers.curve_batches import DrawnImages
from xray_harmonize.harmonizers.curve_images import CurveImages, measure, pooled_quantiles
from xray_harmonize.harmonizers.curve_objectives import Objective
from xray_harmonize.harmonizers.curve_start import matched_coefficients, start_network
from xray_harmonize.harmonizers.curve_training import Steps, train_curves
from xray_harmonize.images import ImageSet
from xray_harmonize.networks.curve import CurveEstimator, ScannerCurves
from xray_harmonize.networks.losses import FrozenNetworks
from xray_harmonize.training import resolve_device, seeded

CurveModule = CurveEstimator | ScannerCurves

# Times that held-out images are looked at in a training that counts steps.
N_CHECKS = 20


@dataclass(frozen=True)
class Length:
    """How long to train, before the number of images is known.

    Parameters
    ----------
    max_steps : int
        At most so many steps, in at most 20 checks.
    max_epochs : int or None
        Passes over the rarest class of a scanner instead.
    """

    max_steps: int
    max_epochs: int | None = None

    def epochs(self, training: CurveImages, batch_size: int) -> tuple[int, int]:
        """Give the number of checks and of steps between two of them."""
        if self.max_epochs is None:
            n_batches = -(-self.max_steps // N_CHECKS)
            return self.max_steps // n_batches, n_batches
        groups = torch.stack([training.scanner, training.label]).unique(dim=1, return_counts=True)[1]
        return self.max_epochs, max(int(groups.min()) * len(groups) // batch_size, 1)


@dataclass(frozen=True)
class CurveLearner:
    """Learns curves, by labels or without.

    Parameters
    ----------
    objective : Objective
    image_size : int
        Side of the frames that the frozen networks see.
    scope, n_layers, n_iterations, view_size, start, flip, batch_size, lr, schedule, patience, verbose
        As :class:`~xray_harmonize.harmonizers.gdce.GDCE`, nothing left open.
    length : Length
    """

    objective: Objective
    image_size: int
    scope: str
    n_layers: int
    n_iterations: int
    view_size: int
    start: str
    flip: bool
    batch_size: int
    lr: float
    schedule: str
    patience: int | None
    verbose: int
    length: Length

    @classmethod
    def of(cls, parameters: Mapping[str, Any], discriminator: ResNetClassifier | None) -> CurveLearner:
        """Make one from the parameters of GDCE, with its defaults where they are open."""
        of_images = parameters["scope"] == "image"
        open_ones = {
            "image_size": (discriminator or parameters["discriminator"] or ResNetClassifier()).image_size,
            "max_steps": 200 if of_images else 60,
            "lr": 2e-3 if of_images else 0.05,
        }
        given = {**parameters, **{name: value for name, value in open_ones.items() if parameters[name] is None}}
        # NumPy's whole numbers, as searches give them, are none to PyTorch.
        given = {name: int(value) if isinstance(value, np.integer) else value for name, value in given.items()}
        options = {f.name: given[f.name] for f in fields(Objective) if f.name in given and f.name != "device"}
        network = None if discriminator is None else discriminator.network()
        objective = Objective(**{**options, "discriminator": network}, device=resolve_device(given["device"]))
        length = Length(given["max_steps"], given["max_epochs"])
        return cls(objective, length=length, **{f.name: given[f.name] for f in fields(cls) if f.name in given})

    def measure(self, images: ImageSet, scanner: np.ndarray, label: np.ndarray | None) -> CurveImages:
        """Read every image once, see :func:`~xray_harmonize.harmonizers.curve_images.measure`."""
        return measure(images, scanner, label, self.image_size, self.view_size if self.scope == "image" else None)

    def network(self, state: Mapping[str, np.ndarray] | None = None) -> CurveEstimator:
        """Give a network for images, with the weights of ``state`` where there is one."""
        if state is None:
            return CurveEstimator(self.n_layers, self.n_iterations, self.view_size)
        # Weights that are overwritten at once take no random numbers from anybody.
        with seeded(0, torch.device("cpu")):
            network = CurveEstimator(self.n_layers, self.n_iterations, self.view_size)
        network.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
        return network

    def identity(self) -> CurveModule:
        """Give curves that change nothing, for who has seen the reference alone."""
        if self.scope == "scanner":
            return ScannerCurves(0, self.n_iterations)
        with seeded(0, torch.device("cpu")):
            network = self.network()
        last = _last_layer(network)
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
        return network

    def by_labels(
        self, sources: CurveImages, reference: CurveImages, held_out: CurveImages | None, rng: np.random.RandomState
    ) -> tuple[CurveModule, Outcome]:
        """Learn curves that let the discriminator find the right classes.

        Parameters
        ----------
        sources : CurveImages
            Their scanners are numbered from 0.
        reference : CurveImages
        held_out : CurveImages or None
            Sources that choose the state to keep.
        rng : numpy.random.RandomState

        Raises
        ------
        NotEnoughImagesError
            If the sources do not fill a batch.
        """
        if len(sources) < self.batch_size:
            raise NotEnoughImagesError(
                f"GDCE has {len(sources)} images of other scanners than the reference to train on, fewer than a batch "
                f"of {self.batch_size}. Add images, or lower batch_size or validation_fraction."
            )
        with seeded(int(rng.randint(2**31 - 1)), self.objective.device):
            module = self._started(self._new(sources), sources, reference.quantiles, rng, reference)
            images, loss = self.objective.labelled(sources, reference, self.scope == "image", self.flip)
            return module, self._train(module, loss, images, sources, held_out)

    def by_distribution(
        self,
        sources: CurveImages,
        statistics: Mapping[str, np.ndarray],
        reference: CurveImages | None,
        rng: np.random.RandomState,
        module: CurveModule | None = None,
    ) -> tuple[CurveModule, Outcome]:
        """Learn curves that give the sources the grey values and features of the reference.

        Parameters
        ----------
        sources : CurveImages
            Their scanners are numbered from 0.
        statistics : mapping of str to ndarray
            As :meth:`Objective.statistics` gives them for the reference.
        reference : CurveImages or None
            Its images, where a network shall leave them as they are.
        rng : numpy.random.RandomState
        module : CurveEstimator, optional
            Network to go on from. One that gives the identity has learned nothing and is replaced by a random one.
        """
        pooled = self.scope == "scanner"
        wanted = torch.as_tensor(statistics["pooled_quantiles"])
        with seeded(int(rng.randint(2**31 - 1)), self.objective.device):
            # All coefficients of an exact identity have the same gradient; they would never part.
            if module is None or not _last_layer(module).weight.any():
                module = self._new(sources)
            module = self._started(module, sources, wanted, rng, None if pooled else reference)
            shown = sources if pooled or reference is None else sources.joined(reference)
            images, loss = self.objective.unlabelled(shown, statistics, pooled, self.flip)
            return module, self._train(module, loss, images, sources, None)

    def _new(self, sources: CurveImages) -> CurveModule:
        if self.scope == "scanner":
            return ScannerCurves(1 + int(sources.scanner.max()), self.n_iterations)
        return self.network()

    def _started(
        self,
        module: CurveModule,
        sources: CurveImages,
        wanted: torch.Tensor,
        rng: np.random.RandomState,
        reference: CurveImages | None,
    ) -> CurveModule:
        """Bring a module to the curves that match grey values, and to the identity on the reference."""
        if self.start == "random":
            return module
        wanted = pooled_quantiles(wanted) if wanted.ndim == 2 else wanted
        of_scanners = [sources.quantiles[sources.scanner == number] for number in range(1 + int(sources.scanner.max()))]
        matched = [matched_coefficients(pooled_quantiles(own), wanted, self.n_iterations) for own in of_scanners]
        alphas = torch.stack(matched)
        if isinstance(module, ScannerCurves):
            with torch.no_grad():
                # Short of the ends of the hyperbolic tangent, where gradients vanish.
                module.raw.copy_(torch.atanh(alphas.clamp(-0.98, 0.98)))
            return module
        views, wanted_alphas = sources.views, alphas[sources.scanner]
        if reference is not None:
            views = torch.cat([views, reference.views])
            wanted_alphas = torch.cat([wanted_alphas, torch.zeros(len(reference), self.n_iterations)])
        start_network(module, views, wanted_alphas, rng)
        return module

    def _train(
        self,
        module: CurveModule,
        loss: FrozenNetworks,
        images: DrawnImages,
        training: CurveImages,
        held_out: CurveImages | None,
    ) -> Outcome:
        n_epochs, n_batches = self.length.epochs(training, self.batch_size)
        steps = Steps(n_epochs, n_batches, self.batch_size, self.lr, self.schedule, self.patience, self.verbose)
        return train_curves(module, loss, images, held_out, steps, self.objective.device, "GDCE")


def _last_layer(module: torch.nn.Module) -> torch.nn.Linear:
    assert isinstance(module, CurveEstimator)
    last = module.head[-2]
    assert isinstance(last, torch.nn.Linear)
    return last
