"""ResNetClassifier: a residual network as a scikit-learn classifier of radiographs."""

from __future__ import annotations

import copy
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from torch.utils.data import TensorDataset

from xray_harmonize.classifiers.fitted_network import FittedNetwork
from xray_harmonize.classifiers.frames import frames
from xray_harmonize.classifiers.holdout import hold_out
from xray_harmonize.classifiers.recipe import Recipe, tell_interruption
from xray_harmonize.classifiers.targets import class_weights, encode, encode_as
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError
from xray_harmonize.images import ImageSet
from xray_harmonize.networks.arrays import arrays_of
from xray_harmonize.networks.batch_norm import reestimate_batch_norm
from xray_harmonize.networks.resnet import RadiographResNet
from xray_harmonize.networks.weights import load_backbone
from xray_harmonize.training import resolve_device, seeded


class ResNetClassifier(FittedNetwork, ClassifierMixin, BaseEstimator):
    """Residual network that classifies radiographs.

    Images of any sizes are brought to ``image_size`` squares once, and stay in memory while the
    network trains. Part of the training images chooses the epoch whose weights are kept.

    Parameters
    ----------
    depth : {10, 18, 34, 50}, default=10
        Layers of the network.
    width : int, default=32
        Channels of its first stage. 64 is the published ResNet, and what pre-trained ``weights`` need; it takes more
        than three times as long.
    image_size : int, default=128
        Side in pixels to which images are resized.
    input_range : {"unit", "any"}, default="unit"
        "unit": floats must lie in [0, 1], so that a forgotten division shows at once. "any": floats
        are taken as they are, for what is not bounded, such as z-scores.
    in_channels : {1, 3}, default=1
        1: the network takes grey images. 3: the grey image is repeated.
    head : {"linear", "mlp"}, default="linear"
        Last layers, see :class:`~xray_harmonize.networks.resnet.RadiographResNet`.
    dropout : float, default=0.0
        Dropout in the head; the released GDCE classifier has 0.5 in an MLP head.
    weights : path, optional
        File of backbone weights to start from (ImageNet or RadImageNet layout, ``.pt`` or
        ``.safetensors``), see :mod:`xray_harmonize.networks.weights`. None: random ones.
    max_epochs : int, default=12
        Passes over the training images; what counts is the number of steps, so give small sets (below 200 images) more.
    batch_size : int, default=16
        Images a step, at most.
    lr : float, default=1e-3
        Learning rate; with ``schedule="one_cycle"`` the highest.
    schedule : {"one_cycle", "constant"}, default="one_cycle"
        ``"one_cycle"``: the rate rises over the first 30 % of the steps and falls to nothing until
        the last, which trains few images from scratch in the fewest epochs.
    optimizer : {"adamw", "adam", "sgd"}, default="adamw"
        ``"sgd"`` has momentum 0.9.
    weight_decay : float, default=1e-4
        Of the optimizer.
    class_weight : {None, "balanced"} or dict, default=None
        Weight of each class in the loss, by label; "balanced": inversely to its frequency.
    flip : bool, default=True
        Whether training images are mirrored at random.
    augment : {None, "tone", "strong"}, default=None
        Random changes of training images, see :mod:`xray_harmonize.classifiers.augment`.
    validation_fraction : float, default=0.2
        Share of the patients of each class (and scanner, where there are several) that is kept
        for choosing the epoch. 0: train on all images, for all epochs.
    patience : int, optional
        Stop after so many epochs that brought no better one. None: train all epochs.
    device : str, default="auto"
        ``"auto"``: a GPU where there is one. Where a model was fitted does not matter later.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        See :func:`xray_harmonize.training.resolve_precision`. Predictions are made in float32.
    random_state : int, RandomState or None, default=None
        Of initial weights, held-out patients, order, augmentation and dropout. An integer gives
        the same classifier again on the same kind of machine and number of threads.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    state_ : dict of str to ndarray
        The network's weights and batch-norm statistics.
    history_ : list of dict
        ``epoch``, ``train_loss``, ``valid_loss``, ``worst_group_accuracy`` (both where images were
        held out) and ``dur`` in seconds, of each epoch.
    best_epoch_ : int
        Epoch whose weights are kept, counted from 1.
    interrupted_ : bool
        Whether the training was cut short by Ctrl-C; the best state up to then was kept.

    See Also
    --------
    xray_harmonize.training.report_progress : Follow the epochs of a training.

    Notes
    -----
    The best epoch has the highest accuracy in the worst class; where training images come from several scanners, in the
    worst class of a scanner. Of equal epochs the later is kept.

    The defaults train a few hundred radiographs from scratch in well under a minute on two cores. A few hundred images
    are better spent on training than held out: with ``validation_fraction=0`` the falling learning rate alone makes the
    last epoch a good one. The classifier of the GDCE authors comes to ``depth=50, width=64, image_size=512,
    in_channels=3, head="mlp", dropout=0.5, optimizer="adam", lr=1e-4, schedule="constant", batch_size=12,
    max_epochs=1000, patience=25, weight_decay=0`` with RadImageNet ``weights``.

    Where other programs keep the cores busy, one thread (``OMP_NUM_THREADS=1``) is many times faster than two that
    wait for each other.

    References
    ----------
    He, Zhang, Ren, Sun. Deep residual learning for image recognition. CVPR 2016.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((40, 32, 32)) * 0.5
    >>> y = np.repeat(["bright", "dark"], 20)
    >>> X[:20] += 0.4
    >>> classifier = ResNetClassifier(
    ...     depth=10, width=8, image_size=32, max_epochs=5, random_state=0)
    >>> classifier.fit(X, y).score(X, y)
    1.0
    >>> classifier.predict_proba(X[:3]).shape, classifier.embed(X[:3]).shape
    ((3, 2), (3, 64))
    """

    def __init__(
        self,
        depth: int = 10,
        width: int = 32,
        image_size: int = 128,
        input_range: str = "unit",
        in_channels: int = 1,
        head: str = "linear",
        dropout: float = 0.0,
        weights: str | None = None,
        max_epochs: int = 12,
        batch_size: int = 16,
        lr: float = 1e-3,
        schedule: str = "one_cycle",
        optimizer: str = "adamw",
        weight_decay: float = 1e-4,
        class_weight: str | dict[Any, float] | None = None,
        flip: bool = True,
        augment: str | None = None,
        validation_fraction: float = 0.2,
        patience: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.depth = depth
        self.width = width
        self.image_size = image_size
        self.input_range = input_range
        self.in_channels = in_channels
        self.head = head
        self.dropout = dropout
        self.weights = weights
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.schedule = schedule
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.flip = flip
        self.augment = augment
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    # -- learning ------------------------------------------------------------------------------

    def fit(self, X: Any, y: ArrayLike) -> ResNetClassifier:
        """Train the network.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays
            Unsigned integers, or floats in [0, 1]. With ``X.patient``, no patient is divided
            between training and validation.
        y : array-like of shape (n,)
            Classes, as numbers or strings.

        Returns
        -------
        ResNetClassifier
            Itself.

        Raises
        ------
        InvalidParameterError
            If a parameter is out of range, X and y differ in length, or the loss diverges.
        NotEnoughImagesError
            If there are fewer than two classes, or too few images to hold some out.
        InvalidImageError
            If an image holds NaN, or lies outside of [0, 1] with ``input_range="unit"``.
        PersistenceError
            If ``weights`` cannot be read or do not fit.
        """
        images = ImageSet.of(X)
        recipe = self._recipe()
        classes, targets = encode(y, len(images))
        rng = check_random_state(self.random_state)
        device = resolve_device(self.device)
        held_out, groups = self._hold_out(images, classes, targets, rng)
        weights = class_weights(self.class_weight, classes, targets[~held_out.numpy()])
        with seeded(int(rng.randint(2**31 - 1)), device):
            network = self._new_network(len(classes))
            if self.weights is not None:
                load_backbone(network.backbone, self.weights)
            pixels, labels = frames(images, self.image_size, self.input_range), torch.from_numpy(targets)
            outcome = recipe.train(
                network,
                TensorDataset(pixels[~held_out], labels[~held_out]),
                TensorDataset(pixels[held_out], labels[held_out]),
                groups,
                None if weights is None else torch.from_numpy(weights),
                device,
                task=type(self).__name__,
            )
        tell_interruption(outcome, f"training of {type(self).__name__}", "epoch", self.max_epochs)
        self.classes_ = classes
        self.state_ = arrays_of(network)
        self.history_ = outcome.history
        self.best_epoch_ = outcome.best_epoch
        self.interrupted_ = outcome.interrupted
        return self

    def fine_tune(self, X: Any, y: ArrayLike, *, max_epochs: int = 20, lr: float | None = None) -> ResNetClassifier:
        """Copy whose network was trained on, with labelled images of another scanner.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays
            Labelled images of the scanner that the copy is for; two are enough to run, a few dozen to be of use.
        y : array-like of shape (n,)
            Their classes, all among ``classes_``; some may be missing.
        max_epochs : int, default=20
            Passes over the images; all are made and the last counts, since few images are better trained on than held
            out.
        lr : float, optional
            Learning rate, by default a third of the classifier's. All other parameters are the classifier's.

        Returns
        -------
        ResNetClassifier
            A fitted copy; ``history_`` and ``best_epoch_`` count on from the training. This classifier stays as it is.

        Raises
        ------
        InvalidParameterError
            If a label is none of ``classes_``, a parameter is out of range, X and y differ in length, or the loss
            diverges.
        NotEnoughImagesError
            For fewer than two images.
        InvalidImageError
            If an image holds NaN, or lies outside of [0, 1] with ``input_range="unit"``.

        Notes
        -----
        Every layer is trained, and batch normalization takes its statistics from the new images. What the classifier
        knew of its own scanner is not rehearsed, so it loses there; how much should be measured.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> X, y = rng.random((16, 16, 16)), np.arange(16) % 2
        >>> trained = ResNetClassifier(width=4, image_size=16, max_epochs=2, validation_fraction=0).fit(X, y)
        >>> tuned = trained.fine_tune(X[:6] ** 2, y[:6], max_epochs=3)
        >>> len(trained.history_), len(tuned.history_)
        (2, 5)
        """
        images = ImageSet.of(X)
        network = self.network().requires_grad_(True)
        targets = encode_as(y, len(images), self.classes_)
        if len(images) < 2:
            raise NotEnoughImagesError(f"fine_tune needs at least two images for a batch; got {len(images)}.")
        recipe = replace(self._recipe(), max_epochs=max_epochs, lr=self.lr / 3 if lr is None else lr)
        weights = class_weights(self.class_weight, self.classes_, targets)
        device = resolve_device(self.device)
        pixels, labels = frames(images, self.image_size, self.input_range), torch.from_numpy(targets)
        with seeded(int(check_random_state(self.random_state).randint(2**31 - 1)), device):
            outcome = recipe.train(
                network,
                TensorDataset(pixels, labels),
                TensorDataset(pixels[:0], labels[:0]),
                targets[:0],
                None if weights is None else torch.from_numpy(weights),
                device,
                task=f"fine-tuning of {type(self).__name__}",
            )
        tell_interruption(outcome, f"fine-tuning of {type(self).__name__}", "epoch", max_epochs)
        tuned = copy.copy(self)
        n_before = len(self.history_)
        tuned.state_ = arrays_of(network)
        tuned.history_ = [*self.history_, *({**row, "epoch": row["epoch"] + n_before} for row in outcome.history)]
        tuned.best_epoch_ = n_before + outcome.best_epoch
        tuned.interrupted_ = outcome.interrupted
        return tuned

    def _recipe(self) -> Recipe:
        if not 0 <= self.validation_fraction < 1:
            raise InvalidParameterError(f"validation_fraction must lie in [0, 1); got {self.validation_fraction!r}.")
        if not isinstance(self.image_size, int | np.integer) or self.image_size < 8:
            raise InvalidParameterError(f"image_size must be a whole number, at least 8; got {self.image_size!r}.")
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})

    def _hold_out(
        self, X: ImageSet, classes: np.ndarray, targets: np.ndarray, rng: np.random.RandomState
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Choose the images for validation; with them their groups, the classes of each scanner."""
        groups = targets
        if X.scanner is not None:
            groups = np.unique(X.scanner, return_inverse=True)[1] * len(classes) + targets
        if self.validation_fraction == 0:
            return torch.zeros(len(X), dtype=torch.bool), groups[:0]
        held_out = hold_out(groups, X.patient, self.validation_fraction, rng)
        lacking = np.setdiff1d(np.arange(len(classes)), targets[~held_out])
        if not held_out.any() or lacking.size:
            raise NotEnoughImagesError(
                f"Cannot hold out {self.validation_fraction:g} of {len(X)} images of {len(classes)} classes and still "
                "train on every class. Add images or patients, or set validation_fraction=0."
            )
        return torch.from_numpy(held_out), groups[held_out]

    def _new_network(self, n_classes: int) -> RadiographResNet:
        return RadiographResNet(n_classes, self.depth, self.width, self.in_channels, self.head, self.dropout)

    # -- answering -----------------------------------------------------------------------------

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        An image's result does not depend on the others in the call but by rounding (1e-6).

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays

        Returns
        -------
        ndarray of float64 of shape (n, n_classes)
            In the order of ``classes_``; rows add up to 1.
        """
        logits = self._through(X, features=False).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class of each image.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays

        Returns
        -------
        ndarray of shape (n,)
            Labels as they were in ``y``.
        """
        best = self._through(X, features=False).argmax(axis=1)
        labels: np.ndarray = self.classes_[best]
        return labels

    def adapt(self, X: Any) -> ResNetClassifier:
        """Copy with batch-norm statistics re-estimated on images without labels.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays
            Images of the scanner that the copy is for, ten or more; what their classes are does
            not matter, but their mix does.

        Returns
        -------
        ResNetClassifier
            A fitted copy. This classifier stays as it is.

        Raises
        ------
        NotEnoughImagesError
            For fewer than two images.

        Notes
        -----
        Up to about 256 images (at the default width and size) are measured as one batch, so that
        neither order nor grouping matters; more are measured batch by batch and refined until the
        statistics stand, see :func:`~xray_harmonize.networks.batch_norm.reestimate_batch_norm`.
        """
        images = ImageSet.of(X)
        network = copy.deepcopy(self._network())
        if len(images) < 2:
            raise NotEnoughImagesError(f"adapt needs at least two images to estimate a variance; got {len(images)}.")
        pixels = frames(images, self.image_size, self.input_range)
        # A batch whose activations take about a gibibyte.
        at_once = max(2**28 // (self.width * self.image_size**2), 8)
        batches = torch.tensor_split(pixels, -(-len(images) // at_once))
        device = resolve_device(self.device)
        reestimate_batch_norm(network, lambda: (batch.to(device) for batch in batches))
        adapted = copy.copy(self)
        measured = {name: array for name, array in arrays_of(network).items() if "running_" in name}
        adapted.state_ = {**self.state_, **measured}
        return adapted

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.non_deterministic = self.random_state is None
        tags.no_validation = True
        return tags
