"""Measure one harmonizer after the other, and keep what a report needs of each."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from xray_harmonize.auditing.cohort import Cohort
from xray_harmonize.auditing.controls import Asking
from xray_harmonize.auditing.features import in_order_of_images
from xray_harmonize.auditing.rendering import Half, in_order, rendered, shown_curves
from xray_harmonize.auditing.result import Sample
from xray_harmonize.auditing.task import Areas, classes_at_home, task_rows
from xray_harmonize.evaluation.candidates import BASELINE
from xray_harmonize.evaluation.content import content_measures, curve_checks
from xray_harmonize.evaluation.domain import domain_measures, embed
from xray_harmonize.images import ImageSet

_CURVES_SHOWN = 12
_HISTOGRAM_BINS = 64
# Means of so many images of a scanner are known well enough, and measuring content takes as long as all else.
_CONTENT_OF = 100
_FEWEST_BOOTSTRAP = 200
# Of measures that know no scale, those that a change of units leaves as they are.
_WITHOUT_UNITS = ("edge agreement", "rank agreement", "structure agreement")


class Measuring:
    """Tables that grow by one harmonizer at a time.

    Parameters
    ----------
    cohort : Cohort
    asking : Asking
        Features and classifier, and how often to resample.
    confidence : float
        Coverage of the intervals of differences of the AUC, corrected for their number.
    n_bootstrap : int
        Resamples for what needs no classifier.
    shown : list of int
        Images to keep for the report.

    Attributes
    ----------
    baseline : Areas or None
        Of doing nothing; None where there is no task.
    untouched : ndarray of shape (n_images, n_features)
        Features of the images as they came.
    ranges : dict of str to (float, float)
        Of harmonizers whose images leave [0, 1]: what is drawn as black and as white.
    histograms, tone_curves : dict
        As in :class:`~xray_harmonize.auditing.result.AuditResult`.
    """

    def __init__(
        self, cohort: Cohort, asking: Asking, *, confidence: float, n_bootstrap: int, shown: list[int]
    ) -> None:
        self.cohort = cohort
        self.asking = asking
        self.confidence = confidence
        self.n_bootstrap = n_bootstrap
        self.baseline: Areas | None = None
        self.untouched = np.empty((0, 0))
        self.ranges: dict[str, tuple[float, float]] = {}
        self.histograms: dict[str, dict[str, np.ndarray]] = {}
        self.tone_curves: dict[str, dict[str, Any]] = {}
        self._tables: dict[str, list[pd.DataFrame]] = {}
        self._shown: dict[int, dict[str, np.ndarray]] = {position: {} for position in shown}
        self._has_task = classes_at_home(cohort) > 1

    def add(self, name: str, harmonizer: BaseEstimator) -> None:
        """Measure a harmonizer, doing nothing first."""
        cohort = self.cohort
        halves = rendered(name, harmonizer, cohort, self.asking.random_state)
        images = in_order(halves, len(cohort.X))
        rows = in_order_of_images(halves, self.asking.features.of(halves))
        if name == BASELINE:
            self.untouched = rows
        limits = _limits(images)
        after = ImageSet(images, scanner=cohort.scanner, patient=cohort.patient, mask=_masks(cohort.X, images))
        self._keep("domain", name, self._domain(rows, after if limits is None else None))
        if all(image.shape == cohort.X[i].shape for i, image in enumerate(images)):
            self._keep("content", name, self._content(after, has_units=limits is None))
        if self._has_task:
            found = self.asking.areas(halves, cohort)
            if self.baseline is None:
                self.baseline = found
            self._tables.setdefault("task", []).append(
                task_rows(name, found, self.baseline, cohort, confidence=self.confidence)
            )
        self._keep("embeddings", name, self._embedding(rows))
        self._curves(name, halves)
        if limits is not None:
            self.ranges[name] = limits
        seen = [to_range(image, limits) for image in images]
        self.histograms[name] = _histograms(seen, cohort)
        for position, kept in self._shown.items():
            kept[name] = seen[position]

    def table(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Rows of all harmonizers, one below the other."""
        parts = [part for part in self._tables.get(name, []) if not part.empty]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns or [])

    def samples(self, X: ImageSet) -> list[Sample]:
        """Images to show, before and after each harmonizer; of their names the last part, folders being nobody's."""
        return [
            Sample(
                str(self.cohort.scanner[position]),
                PurePath(X.radiograph(position).name).name or f"Image {position}",
                kept,
            )
            for position, kept in self._shown.items()
        ]

    def _domain(self, rows: np.ndarray, images: ImageSet | None) -> pd.DataFrame:
        cohort = self.cohort
        return domain_measures(
            rows,
            cohort.scanner,
            cohort.patient,
            cohort.y,
            cohort.reference,
            images=images,
            n_permutations=self.asking.n_permutations,
            n_bootstrap=min(self.n_bootstrap, _FEWEST_BOOTSTRAP),
            random_state=self.asking.random_state,
        )

    def _content(self, after: ImageSet, *, has_units: bool) -> pd.DataFrame:
        chosen = evenly_chosen(self.cohort, _CONTENT_OF)
        measures = content_measures(
            self.cohort.X[chosen],
            after[chosen],
            n_bootstrap=min(self.n_bootstrap, _FEWEST_BOOTSTRAP),
            random_state=self.asking.random_state,
        )
        return measures if has_units else measures[measures["measure"].isin(_WITHOUT_UNITS)]

    def _embedding(self, rows: np.ndarray) -> pd.DataFrame:
        places = embed(rows, random_state=self.asking.random_state)
        label = "" if self.cohort.y is None else self.cohort.y
        return pd.DataFrame({"x": places[:, 0], "y": places[:, 1], "scanner": self.cohort.scanner, "label": label})

    def _curves(self, name: str, halves: list[Half]) -> None:
        self.tone_curves[name] = shown_curves(halves, self.cohort, _CURVES_SHOWN) if name != BASELINE else {}
        for scanner, curves in self.tone_curves[name].items():
            self._keep("curves", name, curve_checks(curves).assign(scanner=scanner))

    def _keep(self, table: str, name: str, rows: pd.DataFrame) -> None:
        rows = rows.copy()
        rows.insert(0, "harmonizer", name)
        self._tables.setdefault(table, []).append(rows)


def evenly_chosen(cohort: Cohort, at_most: int) -> np.ndarray:
    """Positions of so many images of each scanner at most, spread evenly over their order.

    Parameters
    ----------
    cohort : Cohort
    at_most : int
        Of a scanner.

    Returns
    -------
    ndarray of int
        Ascending.
    """
    chosen = []
    for name in cohort.scanners:
        own = np.flatnonzero(cohort.scanner == name)
        chosen.append(own[np.unique(np.linspace(0, len(own) - 1, min(at_most, len(own))).round().astype(int))])
    return np.sort(np.concatenate(chosen))


def _limits(images: list[np.ndarray]) -> tuple[float, float] | None:
    """Give what is black and white of images that leave [0, 1], such as z-scores; None where none does."""
    lowest, highest = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    if lowest >= 0 and highest <= 1:
        return None
    ends = np.array([np.quantile(image, [0.005, 0.995]) for image in images])
    black, white = float(np.median(ends[:, 0])), float(np.median(ends[:, 1]))
    # One value for all is drawn grey.
    return (black, white) if white > black else (black - 0.5, black + 0.5)


def to_range(image: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    """Scale an image so that it can be drawn, in [0, 1]; as it is without limits.

    Examples
    --------
    >>> to_range(np.array([-2.0, 0.0, 3.0]), (-2.0, 2.0)).tolist()
    [0.0, 0.5, 1.0]
    """
    if limits is None:
        return image
    black, white = limits
    return np.asarray(np.clip((image - black) / (white - black), 0, 1))


def _histograms(images: list[np.ndarray], cohort: Cohort) -> dict[str, np.ndarray]:
    """Density of grey values by scanner, every image weighing the same."""
    found = {}
    for name in cohort.scanners:
        own = np.flatnonzero(cohort.scanner == name)
        total = np.zeros(_HISTOGRAM_BINS)
        for i in own:
            mask = cohort.X.mask(int(i))
            image = images[i]
            values = image[mask] if mask is not None and mask.shape == image.shape else image.ravel()
            counts = np.histogram(values, bins=_HISTOGRAM_BINS, range=(0, 1))[0]
            total += counts / max(counts.sum(), 1)
        found[name] = total * _HISTOGRAM_BINS / len(own)
    return found


def _masks(X: ImageSet, images: list[np.ndarray]) -> list[np.ndarray | None]:
    masks = [X.mask(i) for i in range(len(X))]
    return [mask if mask is not None and mask.shape == images[i].shape else None for i, mask in enumerate(masks)]
