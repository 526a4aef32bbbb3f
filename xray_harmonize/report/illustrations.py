"""What a report shows beside figures: images before and after, tone curves, histograms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from xray_harmonize.adaptation import adapt
from xray_harmonize.evaluation.candidates import Candidate
from xray_harmonize.images import ImageSet
from xray_harmonize.levels import histogram
from xray_harmonize.report.html import Sample
from xray_harmonize.tone import ToneCurve

N_BINS = 64
MAX_CURVES = 12
MAX_HISTOGRAM_IMAGES = 24


class Illustrator:
    """Fits each candidate to a few images of every scanner and shows what it does to them.

    Parameters
    ----------
    X : ImageSet
        With scanner labels.
    reference : str
    random_state : int, default=0
        Which images are looked at.
    learned : callable, optional
        Gives the fitted harmonizer, for images after geometry, of a candidate that cannot be fitted to a few images
        without labels, or trains networks: what two trainings do to an image differs.
    """

    def __init__(
        self,
        X: ImageSet,
        reference: str,
        random_state: int = 0,
        learned: Callable[[Candidate], Pipeline] | None = None,
    ) -> None:
        assert X.scanner is not None
        self.learned = learned
        self.X = X
        self.reference = reference
        rng = np.random.default_rng(random_state)
        self.positions = {
            name: np.sort(rng.permutation(np.flatnonzero(X.scanner == name))[:MAX_HISTOGRAM_IMAGES])
            for name in sorted(set(X.scanner), key=lambda name: (name != reference, name))
        }
        self._fitted: dict[str, tuple[ImageSet, Pipeline]] = {}

    def samples(self, candidates: Sequence[Candidate], positions: Sequence[int]) -> list[Sample]:
        """Show the images at these positions under every candidate."""
        assert self.X.scanner is not None
        made = []
        for i in positions:
            images = {}
            for candidate in candidates:
                shaped, harmonizer = self._fit(candidate)
                image = harmonizer.transform(shaped[[i]])[0]
                images[candidate.name] = _displayed(image)
            name = str(self.X.meta_value(i, "path") or f"image {i}")
            made.append(Sample(scanner=self.X.scanner[i], name=name.rsplit("/", 1)[-1], images=images))
        return made

    def tone_curves(self, candidates: Sequence[Candidate]) -> dict[str, dict[str, list[ToneCurve]]]:
        """Give some curves of every scanner for candidates that are one global method."""
        curves = {}
        for candidate in candidates:
            if len(candidate.steps) != 1 or not hasattr(candidate.steps[0], "tone_curves"):
                continue
            shaped, harmonizer = self._fit(candidate)
            curves[candidate.name] = {
                name: harmonizer[-1].tone_curves(shaped[positions[:MAX_CURVES]])
                for name, positions in self.positions.items()
            }
        return curves

    def histograms(self, candidates: Sequence[Candidate]) -> dict[str, dict[str, np.ndarray]]:
        """Give the mean histogram of every scanner under every candidate whose images lie in [0, 1]."""
        histograms = {}
        for candidate in candidates:
            if candidate.trains_on_harmonized:  # z-scores have no histogram over [0, 1]
                continue
            shaped, harmonizer = self._fit(candidate)
            histograms[candidate.name] = {
                name: np.mean([_density(image) for image in harmonizer.transform(shaped[positions])], axis=0)
                for name, positions in self.positions.items()
            }
        return histograms

    def _fit(self, candidate: Candidate) -> tuple[ImageSet, Pipeline]:
        """Fit a candidate to some images of the reference, and let it learn the other scanners where it can."""
        if candidate.name not in self._fitted:
            shaped = candidate.shaped(self.X)
            if (candidate.needs_labels or candidate.trains_networks) and self.learned is not None:
                self._fitted[candidate.name] = shaped, self.learned(candidate)
                return self._fitted[candidate.name]
            harmonizer: Any = candidate.harmonizer(self.reference).fit(shaped[self.positions[self.reference]])
            others = [positions for name, positions in self.positions.items() if name != self.reference]
            if candidate.learns_scanners and others:
                harmonizer = adapt(harmonizer, shaped[np.concatenate(others)])
            self._fitted[candidate.name] = shaped, harmonizer
        return self._fitted[candidate.name]


def _density(image: np.ndarray) -> np.ndarray:
    counts = histogram(image)
    grouped = counts.reshape(N_BINS, -1).sum(axis=1)
    return grouped / grouped.sum() * N_BINS


def _displayed(image: np.ndarray) -> np.ndarray:
    """Bring what has another range than [0, 1], such as a z-score, to it for showing."""
    low, high = float(image.min()), float(image.max())
    if low >= 0 and high <= 1:
        return image
    return (image - low) / ((high - low) or 1.0)
