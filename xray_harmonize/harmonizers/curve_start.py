"""Where the training of curves starts: at those that match grey values, found in a fraction of a second.

A composition of parabolas has many poor local minima, and all its coefficients look alike at the identity. Matching
quantile functions touches no pixel, so dozens of random starts can be followed at once and the best be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from xray_harmonize.networks.curve import CurveEstimator, apply_curve

STARTS: Final = ("matched", "random")

# Side of the views on which a network learns its start: brightness shows on small ones, at a sixteenth of the cost.
_SMALL_VIEW = 64
# Views of full size that are looked at, once each.
_MOST_FULL_VIEWS = 256

_GRID = torch.linspace(0, 1, 65)


def matched_coefficients(
    source: torch.Tensor, reference: torch.Tensor, n_iterations: int, n_starts: int = 64, n_steps: int = 300
) -> torch.Tensor:
    """Find the curve that brings one quantile function to another.

    Parameters
    ----------
    source, reference : tensor of shape (n_probabilities,)
        Quantile functions at the same probabilities, in [0, 1].
    n_iterations : int
    n_starts : int, default=64
        Random starts that are followed.
    n_steps : int, default=300
        Steps of Adam.

    Returns
    -------
    tensor of float32 of shape (n_iterations,)
        Coefficients in (-1, 1) with the smallest mean absolute difference (Wasserstein-1 distance).

    Examples
    --------
    >>> x = torch.linspace(0, 1, 65)
    >>> alpha = matched_coefficients(x, apply_curve(x[None], torch.tensor([[0.6, 0.6]]))[0], 4)
    >>> bool((apply_curve(x[None], alpha[None]) - apply_curve(x[None], torch.tensor([[0.6, 0.6]]))).abs().max() < 0.02)
    True
    """
    with torch.enable_grad():
        raw = (0.7 * torch.randn(n_starts, n_iterations)).requires_grad_()
        optimizer = torch.optim.Adam([raw])
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=n_steps)
        values = source.float().expand(n_starts, -1)
        for _ in range(n_steps):
            optimizer.zero_grad()
            distance = (apply_curve(values, torch.tanh(raw)) - reference.float()).abs().mean(dim=1)
            distance.sum().backward()
            optimizer.step()
            schedule.step()
    alpha = torch.tanh(raw).detach()
    best = (apply_curve(values, alpha) - reference.float()).abs().mean(dim=1).argmin()
    return alpha[best]


def start_network(
    network: CurveEstimator,
    views: torch.Tensor,
    alphas: torch.Tensor,
    rng: np.random.RandomState,
    n_steps: int = 200,
    batch_size: int = 24,
) -> None:
    """Teach a network to give each image a known curve; changes it in place.

    Parameters
    ----------
    network : CurveEstimator
    views : tensor of shape (n, 1, view_size, view_size)
    alphas : tensor of shape (n, n_iterations)
        Coefficients of the curve that each image shall get; curves are compared, not coefficients.
    rng : numpy.random.RandomState
    n_steps, batch_size : int

    Notes
    -----
    All layers learn on small views. The border, which zero padding makes differ, has a larger share of these than of
    full ones, and a network may go by it; so the layers behind the mean learn again, from full views that passed the
    convolutions once.
    """
    size = network.view_size
    small = max(min(_SMALL_VIEW, size), 2 ** (network.n_layers - 1))
    shown = functional.interpolate(views, (small, small), mode="area") if small < size else views
    wanted = apply_curve(_GRID.expand(len(alphas), -1), alphas)
    # Every scanner counts the same, however many images it has.
    of_curve = alphas.unique(dim=0, return_inverse=True)[1]
    share = (1 / of_curve.bincount()[of_curve]).double().numpy()
    network.train()
    _teach(network, network.coefficients, shown, wanted, share, rng, n_steps, batch_size)
    if small < size:
        rows = np.arange(len(views))
        if len(rows) > _MOST_FULL_VIEWS:
            rows = rng.choice(rows, _MOST_FULL_VIEWS, replace=False, p=share / share.sum())
        with torch.no_grad():
            features = torch.cat([network.features(some) for some in views[torch.from_numpy(rows)].split(16)])
        _teach(network.head, network.head, features, wanted[rows], share[rows], rng, n_steps, batch_size)


def _teach(
    module: nn.Module,
    coefficients: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    wanted: torch.Tensor,
    share: np.ndarray,
    rng: np.random.RandomState,
    n_steps: int,
    batch_size: int,
) -> None:
    """Train a module until what it gives of inputs are coefficients of the curves wanted."""
    optimizer = torch.optim.Adam(module.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=n_steps)
    for _ in range(n_steps):
        rows = torch.from_numpy(rng.choice(len(inputs), batch_size, p=share / share.sum()))
        optimizer.zero_grad()
        curves = apply_curve(_GRID.expand(batch_size, -1), coefficients(inputs[rows]))
        (curves - wanted[rows]).abs().mean().backward()
        optimizer.step()
        schedule.step()
