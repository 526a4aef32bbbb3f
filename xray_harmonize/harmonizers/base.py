"""What all harmonizers share: how they are fitted, applied, adapted and saved.

The public methods here validate and dispatch; a method's own file fills the hooks. Think twice before adding anything:
a new harmonizer should need its equation, ``_measure``, ``_learn`` and ``_tone_curve`` (or ``_render``), and no more.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
)
from xray_harmonize.harmonizers.notebook import ShownInNotebook
from xray_harmonize.harmonizers.reference_images import check_reference
from xray_harmonize.image_transformer import ImageTransformer
from xray_harmonize.images import ImageSet, in_container_of
from xray_harmonize.levels import stored_levels
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.tone import ToneCurve

# Key of the statistics of images that carry no scanner label.
UNLABELLED = "all images"
POOLED = "pooled"

Statistics = dict[str, np.ndarray]


class Harmonizer(ShownInNotebook, ImageTransformer):
    """Brings images of several scanners to one rendering. This base is for methods that learn nothing.

    Hooks of a subclass: ``_check_parameters()`` and ``_render(radiograph) -> float32 image``.
    """

    __metadata_request__fit = {"scanner": True}
    __metadata_request__partial_fit = {"scanner": True}
    __metadata_request__transform = {"scanner": True}

    def fit(self, X: Any, y: ArrayLike | None = None, *, scanner: ArrayLike | None = None) -> Self:
        """Learn from training images.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Training images.
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
        InvalidParameterError
            If a parameter is out of range, or ``scanner`` contradicts ``X.scanner``.
        """
        self._check_parameters()
        self._images(X, scanner, at_least=1)
        return self

    def transform(self, X: Any, *, scanner: ArrayLike | None = None) -> Any:
        """Harmonize images, each on its own.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Images to harmonize.
        scanner : array-like of str of shape (n,), or str, optional
            Which scanner made each image; needed only by methods that treat scanners differently.

        Returns
        -------
        same container as X
            float32 images in [0, 1] (ZScore excepted), in new memory. Of a lazy ImageSet comes a lazy one.

        Raises
        ------
        InvalidImageError
            If an image is not 2-D, or holds NaN or values beyond its full scale.
        """
        check_is_fitted(self)
        self._check_parameters()
        images = self._images(X, scanner)
        self._check_scanners([""] if images.scanner is None else images.scanner)
        # A lazy set computes later; what it computes with must be the state of now, whatever happens to self.
        return in_container_of(X, images.map(copy.copy(self)._render_named))

    def fit_transform(
        self, X: Any, y: ArrayLike | None = None, *, scanner: ArrayLike | None = None, **fit_params: Any
    ) -> Any:
        """Fit to X, then harmonize X; see ``fit`` and ``transform``."""
        return self.fit(X, y, scanner=scanner, **fit_params).transform(X, scanner=scanner)

    def adapt(self, X: Any, *, scanner: ArrayLike | None = None) -> Self:
        """Return a harmonizer that also knows the scanners of X; a method that learns nothing returns itself."""
        self._images(X, scanner)
        return self

    def save(self, path: str | Path) -> None:
        """Write the fitted harmonizer to one file without pickle; ``xray_harmonize.load`` reads it back."""
        from xray_harmonize.persistence import save

        save(self, path)

    def _check_parameters(self) -> None:
        """Refuse parameters out of range (hook)."""

    def _check_scanners(self, scanners: Iterable[str]) -> None:
        """Refuse scanners that the method cannot serve, "" for none given, before an image is read (hook)."""

    def _render_named(self, radiograph: Radiograph) -> np.ndarray:
        with naming(radiograph):
            return self._render(radiograph)

    def _render(self, radiograph: Radiograph) -> np.ndarray:
        """Give the harmonized pixels of one image (hook)."""
        raise TypeError(f"{type(self).__name__} must define _render(radiograph)")  # pragma: no cover

    @staticmethod
    def _images(X: Any, scanner: ArrayLike | None, at_least: int = 0) -> ImageSet:
        images = ImageSet.of(X, scanner)
        if len(images) < at_least:
            raise NotEnoughImagesError(f"Expected at least {at_least} image to learn from, got {len(images)}.")
        return images


class ToneCurveMixin:
    """For global methods, whose result is one monotone tone curve an image.

    Hook of a subclass: ``_tone_curve(radiograph) -> ToneCurve``; its radiographs hold stored values, never floats.
    """

    def tone_curves(self: Any, X: Any, *, scanner: ArrayLike | None = None) -> list[ToneCurve]:
        """Give the curve of every image; ``transform`` is these curves applied.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
        scanner : array-like of str of shape (n,), or str, optional

        Returns
        -------
        list of ToneCurve
            From the fraction of full scale that came in to the fraction that goes out.
        """
        check_is_fitted(self)
        self._check_parameters()
        images = self._images(X, scanner)
        return [self._tone_curve_named(images.radiograph(i)) for i in range(len(images))]

    def _tone_curve_named(self: Any, radiograph: Radiograph) -> ToneCurve:
        with naming(radiograph):
            return self._tone_curve(_as_stored(radiograph))

    def _render(self: Any, radiograph: Radiograph) -> np.ndarray:
        radiograph = _as_stored(radiograph)
        return self._tone_curve(radiograph)(radiograph.pixels, radiograph.bits_stored)


def _as_stored(radiograph: Radiograph) -> Radiograph:
    """Bring floats to stored values of 16 bits, once for histogram and lookup; a display window comes along."""
    if radiograph.pixels.dtype.kind != "f":
        return radiograph
    levels, n_levels = stored_levels(radiograph.pixels)
    window = {key: radiograph.meta.get(key) for key in ("window_center", "window_width")}
    scaled = {key: value * (n_levels - 1) for key, value in window.items() if isinstance(value, Real)}
    return replace(radiograph, pixels=levels, bits_stored=16, meta={**radiograph.meta, **scaled})


class ReferenceHarmonizer(Harmonizer):
    """Base of methods that learn additive statistics a scanner and bring images to those of the reference.

    Hooks of a subclass, beside ``_render`` or ``_tone_curve``:

    - ``_measure(radiograph)``: statistics of one image, arrays that add up over images;
    - ``_learn(reference)``: keep, under names with a trailing underscore, what the reference's mean statistics say;
    - ``_learn_scanners(names)``: keep what the statistics of these scanners say, where that takes more than a mean;
    - ``_add(name, total, more)``: how two statistics add, where that is not ``+``;
    - ``_summarize(total)``: mean statistics from added ones, where that is not division by ``n_images``.

    Attributes
    ----------
    reference_ : str
        Scanner that all images are brought to.
    statistics_ : dict
        For each scanner its added statistics and ``n_images``.
    """

    _scopes: tuple[str, ...] = ("image", "scanner", "mixed")

    reference: str | None
    scope: str
    unseen: str
    image_weight: float

    def fit(self, X: Any, y: ArrayLike | None = None, *, scanner: ArrayLike | None = None) -> Self:
        """Learn the reference's rendering, and with ``scope="scanner"`` that of every scanner, from training images.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Training images.
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
            If the method needs scanner labels and there are none.
        UnknownScannerError
            If no training image comes from ``reference``.
        InvalidParameterError
            If a parameter is out of range, or ``scanner`` contradicts ``X.scanner``.
        InvalidImageError
            If an image holds NaN or values beyond its full scale.
        """
        self._check_parameters()
        check_reference(self.reference)
        images = self._images(X, scanner, at_least=1)
        if images.scanner is not None and self.reference not in (None, POOLED, *images.scanner):
            raise UnknownScannerError(
                f"reference={self.reference!r} has no training image; the scanners are "
                f"{', '.join(sorted(set(images.scanner)))}. Choose one of them, or None for the largest."
            )
        return self._fit_statistics(self._collect(images))

    def partial_fit(self, X: Any, y: ArrayLike | None = None, *, scanner: ArrayLike | None = None) -> Self:
        """Learn from more training images; chunks one after the other give what ``fit`` gives on all at once.

        The first chunks may lack the reference: it is settled when ``transform`` is called.
        """
        self._check_parameters()
        images = self._images(X, scanner, at_least=1)
        return self._fit_statistics(self._collect(images, getattr(self, "statistics_", {})))

    def adapt(self, X: Any, *, scanner: ArrayLike | None = None) -> Self:
        """Return a harmonizer that also knows the scanners of X, learned from their unlabelled images alone.

        Parameters
        ----------
        X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays or paths
            Images of one or several new scanners. Images of scanners already known are left aside.
        scanner : array-like of str of shape (n,), or str, optional
            Which scanner made each image; ``X.scanner`` where absent.

        Returns
        -------
        Harmonizer
            A new object; reference and known scanners are as before, and so is this object. With ``scope="image"``
            this object itself, as it has nothing to learn of a scanner.

        Raises
        ------
        MissingScannerError
            If nothing names the scanner.
        InvalidParameterError
            If every scanner of X is known already.
        """
        check_is_fitted(self)
        images = self._images(X, scanner, at_least=1)
        if self.scope == "image":
            # Nothing would ever ask for the scanner's statistics; a new object would look as if it had learned them.
            return self
        if images.scanner is None:
            raise self._scanner_missing("adapt")
        known = set(self.statistics_)
        new = np.array([label not in known for label in images.scanner])
        if not new.any():
            raise InvalidParameterError(
                f"adapt found no new scanner: {', '.join(sorted(set(images.scanner)))} known already. "
                "Name the new scanner with scanner=, or fit again to learn a known one anew."
            )
        adapted = copy.copy(self)
        collected = self._collect(images[new], every_scanner=True)
        adapted.statistics_ = {**self.statistics_, **collected}
        adapted._learn_scanners(collected)
        return adapted

    def _fit_statistics(self, statistics: dict[str, Statistics]) -> Self:
        self.statistics_ = statistics
        if self.reference is None:
            # Ties go to the first by name, so that the order of the images decides nothing.
            self.reference_ = min(statistics, key=lambda name: (-int(statistics[name]["n_images"]), name))
        else:
            self.reference_ = self.reference
        if self.reference_ in statistics or self.reference_ == POOLED:
            self._learn(self._reference_statistics())
            self._learn_scanners(statistics)
        return self

    def _collect(
        self, images: ImageSet, before: dict[str, Statistics] | None = None, every_scanner: bool = False
    ) -> dict[str, Statistics]:
        """Add the statistics of images, scanner by scanner, to those from before."""
        per_scanner = self.scope != "image" or self.reference == POOLED
        if images.scanner is None and (per_scanner or self.reference is not None):
            raise self._scanner_missing("fit")
        statistics = dict(before or {})
        if statistics and (images.scanner is None) != (UNLABELLED in statistics):
            raise MissingScannerError(
                "Some chunks carry scanner labels and some do not; give labels with every chunk or with none."
            )
        for i in range(len(images)):
            label = UNLABELLED if images.scanner is None else images.scanner[i]
            if not (every_scanner or per_scanner) and self.reference not in (None, label):
                # Nothing will ever ask for this scanner's statistics, so its images need not be read.
                continue
            radiograph = images.radiograph(i)
            with naming(radiograph):
                measured = {"n_images": np.array(1), **self._measure(radiograph)}
            total = statistics.get(label)
            statistics[label] = (
                measured
                if total is None
                # What was loaded from a file comes with Python's numbers where there were NumPy's.
                else {name: self._add(name, np.asarray(total[name]), more) for name, more in measured.items()}
            )
        return statistics

    def _reference_statistics(self) -> Statistics:
        if self.reference_ != POOLED:
            return self._summarize(self.statistics_[self.reference_])
        means = [self._summarize(total) for total in self.statistics_.values()]
        return {name: np.mean([mean[name] for mean in means], axis=0) for name in means[0]}

    def _source_statistics(self, radiograph: Radiograph) -> Statistics:
        """Give the mean statistics that the image is taken to come from: its own, its scanner's, or between."""
        source = self._scanner_statistics(radiograph)
        if source is None:
            return self._own_statistics(radiograph)
        if self.scope == "scanner":
            return source
        own = self._own_statistics(radiograph)
        return {name: self.image_weight * own[name] + (1 - self.image_weight) * source[name] for name in source}

    def _scanner_statistics(self, radiograph: Radiograph) -> Statistics | None:
        """Give the mean statistics of the image's scanner; None where the image stands for itself."""
        self._check_scanners([radiograph.scanner])
        if self.scope == "image" or radiograph.scanner not in self.statistics_:
            return None
        return self._summarize(self.statistics_[radiograph.scanner])

    def _check_scanners(self, scanners: Iterable[str]) -> None:
        if self.scope == "image":
            return
        unseen = sorted(set(scanners) - set(self.statistics_))
        if "" in unseen:
            raise self._scanner_missing("transform")
        if unseen and self.unseen == "error":
            raise UnknownScannerError(
                f"Scanner {unseen[0]!r} was not seen in fit; known are {', '.join(sorted(self.statistics_))}. "
                "Call adapt with some of its images, or set unseen='image'."
            )

    def _own_statistics(self, radiograph: Radiograph) -> Statistics:
        return self._summarize({"n_images": np.array(1), **self._measure(radiograph)})

    def _check_parameters(self) -> None:
        if self.scope not in self._scopes:
            *others, last = map(repr, self._scopes)
            raise InvalidParameterError(f"scope must be {', '.join(others)} or {last}; got {self.scope!r}.")
        if self.unseen not in ("error", "image"):
            raise InvalidParameterError(f"unseen must be 'error' or 'image'; got {self.unseen!r}.")
        if not 0 <= self.image_weight <= 1:
            raise InvalidParameterError(f"image_weight must lie in [0, 1]; got {self.image_weight!r}.")

    def _scanner_missing(self, method: str) -> MissingScannerError:
        return MissingScannerError(
            f"{type(self).__name__}.{method} needs to know which scanner made each image. "
            f"Give X as ImageSet(images, scanner=...), or call {method}(X, scanner=...)."
        )

    def _measure(self, radiograph: Radiograph) -> Statistics:
        """Measure one image (hook)."""
        raise TypeError(f"{type(self).__name__} must define _measure(radiograph)")  # pragma: no cover

    def _learn(self, reference: Statistics) -> None:
        """Keep what the reference's mean statistics say (hook)."""

    def _learn_scanners(self, names: Iterable[str]) -> None:
        """Keep what the statistics of these scanners say (hook)."""

    def _add(self, name: str, total: np.ndarray, more: np.ndarray) -> np.ndarray:
        return total + more

    def _summarize(self, total: Statistics) -> Statistics:
        return {name: value / total["n_images"] for name, value in total.items() if name != "n_images"}

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether the reference is known."""
        reference = getattr(self, "reference_", None)
        return reference is not None and (reference == POOLED or reference in self.statistics_)

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that fit is needed."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        return tags


class naming:  # noqa: N801 - reads as a word at the place of use
    """Context in which an error about an image is told with the name of the image."""

    def __init__(self, radiograph: Radiograph) -> None:
        self.name = radiograph.name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the error anew under the image's name, unless it is there already."""
        if isinstance(error, InvalidImageError) and self.name not in str(error):
            raise InvalidImageError(f"{self.name}: {error}") from error
