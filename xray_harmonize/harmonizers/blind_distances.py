"""How far BlindHarmony's result is from the image and from the reference: each alone says nothing."""

from __future__ import annotations

from typing import Final

import torch

from xray_harmonize.harmonizers.blind_search import Search, flat_mask, gradients, similarity

DISTANCES: Final = (
    "atypicality",
    "similarity",
    "change",
    "bits_before",
    "bits_after",
    "edges_before",
    "edges_after",
    "fallbacks",
)
"""Columns of :meth:`BlindHarmony.distances <xray_harmonize.BlindHarmony.distances>`."""


def distances_between(
    source: torch.Tensor, result: torch.Tensor, inside: torch.Tensor, settings: Search
) -> dict[str, float]:
    """Measure what became of one image.

    Parameters
    ----------
    source, result : tensor of shape (1, 1, height, width)
    inside : tensor of bool of the same shape
        Pixels that count.
    settings : Search
        Says which similarity, and what is no edge.

    Returns
    -------
    dict of str to float
        ``similarity``; ``change``, the root mean square difference; ``edges_before`` and ``edges_after``, mean
        derivatives where the source has no edge.

    Examples
    --------
    >>> source, inside = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    >>> round(distances_between(source, source / 2, inside, Search())["similarity"], 4)
    1.0
    """
    flat = flat_mask(source, inside, settings.foreground, settings.edge_percentile)
    number = max(int(flat.sum()), 1)
    change = (result - source)[inside].double()
    return {
        "similarity": float(similarity(result, source, inside, settings.similarity)),
        "change": float(change.square().mean().sqrt()) if len(change) else 0.0,
        "edges_before": float((gradients(source).abs() * flat).sum()) / number,
        "edges_after": float((gradients(result).abs() * flat).sum()) / number,
    }
