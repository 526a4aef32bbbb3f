"""Images as a harmonizer renders them that has not seen their patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from xray_harmonize.auditing.cohort import Cohort, in_memory
from xray_harmonize.evaluation.candidates import BASELINE, Candidate, default_candidates
from xray_harmonize.evaluation.split_fits import whole
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeError
from xray_harmonize.harmonizers.bands import MultiBand
from xray_harmonize.harmonizers.base import POOLED
from xray_harmonize.harmonizers.cdf import CDFMatching
from xray_harmonize.harmonizers.fourier import FourierSwap
from xray_harmonize.harmonizers.linear import FullRange, MinMax
from xray_harmonize.images import ImageSet
from xray_harmonize.tone import ToneCurve


def default_harmonizers() -> dict[str, BaseEstimator]:
    """Give what is audited unless the user says otherwise: closed forms of each family, which need no labels."""
    return {
        "min-max": MinMax(),
        "CDF, image": CDFMatching(),
        "CDF, scanner": CDFMatching(scope="scanner"),
        "FDA": FourierSwap(),
        "bands, scanner": MultiBand(scope="scanner"),
    }


@dataclass(frozen=True)
class Half:
    """Images of one half of the patients, rendered by what was learned from the other.

    Parameters
    ----------
    positions : ndarray of int
        Which images of the cohort these are.
    images : ImageSet
        They, harmonized, in memory.
    home : ndarray of int
        The reference's images in the other half, which a classifier may learn from.
    home_images : ImageSet
        They, rendered by the same fit.
    fitted : estimator
    """

    positions: np.ndarray
    images: ImageSet
    home: np.ndarray
    home_images: ImageSet
    fitted: BaseEstimator


def named_harmonizers(harmonizers: Any, *, with_labels: bool = True) -> dict[str, BaseEstimator]:
    """Give harmonizers by name, doing nothing among them as the first.

    Parameters
    ----------
    harmonizers : None, str or estimator, sequence of these, or mapping of str to estimator
        Names are those of ``compare``; None stands for :func:`default_harmonizers`.
    with_labels : bool, default=True
        Whether there are labels to learn from.

    Returns
    -------
    dict of str to estimator
        Unfitted.

    Raises
    ------
    InvalidParameterError
        If a name is not known, two are the same, something is no transformer, or needs labels that there are not.
    """
    if harmonizers is None:
        harmonizers = default_harmonizers()
    if isinstance(harmonizers, str) or hasattr(harmonizers, "fit"):
        harmonizers = [harmonizers]
    named: dict[str, BaseEstimator] = {BASELINE: FullRange()}
    pairs = harmonizers.items() if isinstance(harmonizers, Mapping) else [(None, one) for one in harmonizers]
    for given, one in pairs:
        name, estimator = (str(given or one), _known(one)) if isinstance(one, str) else (given or _name_of(one), one)
        if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "transform")):
            raise InvalidParameterError(
                f"{name!r} is a {type(estimator).__name__}; expected an unfitted harmonizer, a Pipeline of them, or a "
                "name."
            )
        if one == BASELINE:
            continue
        if name in named:
            raise InvalidParameterError(f"Two harmonizers are called {name!r}; give a mapping with a name for each.")
        if not with_labels and _needs_labels(estimator):
            raise InvalidParameterError(
                f"The harmonizer {name!r} learns from labels, and there are none: pass y, or leave it out."
            )
        named[str(name)] = estimator
    return named


def _known(name: str) -> BaseEstimator:
    if name == BASELINE:
        return FullRange()
    by_default = default_harmonizers()
    if name in by_default:
        return by_default[name]
    candidates = {one.name: one for one in default_candidates() if _is_harmonizer_alone(one)}
    if name not in candidates:
        raise InvalidParameterError(
            f"There is no harmonizer {name!r} to audit; known are {', '.join(map(repr, candidates))}. Others are given "
            "as estimators."
        )
    return candidates[name].harmonizer(None)


def _is_harmonizer_alone(candidate: Candidate) -> bool:
    """Whether a candidate is its steps and nothing else; one that cuts images is told by its steps and geometry."""
    special = candidate.geometry or candidate.adapts_batch_norm or candidate.fine_tunes
    return bool(candidate.steps) and not special


def _name_of(estimator: Any) -> str:
    return " ".join(repr(estimator).split())


def _needs_labels(estimator: BaseEstimator) -> bool:
    steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    return any(isinstance(step, BaseEstimator) and get_tags(step).target_tags.required for step in steps)


def rendered(name: str, harmonizer: BaseEstimator, cohort: Cohort, random_state: int = 0) -> list[Half]:
    """Harmonize each half of the patients by what is learned from the other.

    Parameters
    ----------
    name : str
        What errors call the harmonizer.
    harmonizer : estimator
        Stays unfitted.
    cohort : Cohort
    random_state : int, default=0
        Of harmonizers that leave theirs open.

    Returns
    -------
    list of Half
        Two.

    Raises
    ------
    XRayHarmonizeError
        What the harmonizer says where it cannot be fitted or applied, behind its name.
    InvalidParameterError
        If something else than images comes out of it.
    KeyboardInterrupt
        Also where a step took it for a wish to stop early.
    """
    halves = []
    for learned, tested in cohort.halves():
        home = learned[cohort.scanner[learned] == cohort.reference]
        labels = cohort.labels_of(learned)
        try:
            fitted = _fitted(harmonizer, cohort, learned, labels, random_state)
            images, home_images = (_held(name, fitted.transform(cohort.X[some])) for some in (tested, home))
        except XRayHarmonizeError as error:
            raise type(error)(f"The harmonizer {name!r} stopped the audit: {error}") from error
        halves.append(Half(tested, images, home, home_images, fitted))
    return halves


def _fitted(
    harmonizer: BaseEstimator, cohort: Cohort, learned: np.ndarray, labels: np.ndarray | None, random_state: int
) -> BaseEstimator:
    settled = _settled(clone(harmonizer), cohort.reference, random_state)
    # Half a training, ended by Ctrl-C, would be measured as if it were the method.
    return whole(lambda: settled.fit(cohort.X[learned], *(() if labels is None else (labels,))))


def _settled(harmonizer: BaseEstimator, reference: str, random_state: int) -> BaseEstimator:
    """Bring images to the audit's reference, by its seed, wherever the user left that open."""
    given = {"reference": reference, "random_state": random_state}
    parameters = harmonizer.get_params(deep=True)
    still_open = {name: name.split("__")[-1] for name, value in parameters.items() if value is None}
    return harmonizer.set_params(**{name: given[last] for name, last in still_open.items() if last in given})


def unreferenced(harmonizer: BaseEstimator) -> BaseEstimator:
    """Give a copy that leaves open which scanner all images are brought to, unless to the mean of all."""
    copied = clone(harmonizer)
    parameters = copied.get_params(deep=True)
    named = [name for name, value in parameters.items() if name.split("__")[-1] == "reference"]
    return copied.set_params(**{name: None for name in named if parameters[name] != POOLED})


def _held(name: str, images: Any) -> ImageSet:
    """Images in memory: they are asked for several times."""
    if not isinstance(images, ImageSet):
        raise InvalidParameterError(
            f"The harmonizer {name!r} makes a {type(images).__name__} of an ImageSet, expected an ImageSet. Features "
            "are made behind harmonizers: pass their transformer as features=."
        )
    return in_memory(images, images.scanner) if images.is_lazy else images


def in_order(halves: Sequence[Half], n_images: int) -> list[np.ndarray]:
    """Harmonized images in the order of the cohort, stored values (what crops and resizes alone) as fractions."""
    images: list[np.ndarray] = [np.empty((0, 0))] * n_images
    for half in halves:
        for place, position in enumerate(half.positions):
            pixels = half.images[place]
            images[int(position)] = pixels if pixels.dtype.kind == "f" else half.images.unit(place)
    return images


def shown_curves(halves: Sequence[Half], cohort: Cohort, at_most: int) -> dict[str, list[ToneCurve]]:
    """Tone curves of a few images of each scanner, empty for methods that are none.

    Parameters
    ----------
    halves : sequence of Half
    cohort : Cohort
    at_most : int
        Curves a scanner.

    Returns
    -------
    dict of str to list of ToneCurve
    """
    half = halves[0]
    curve_maker = half.fitted[-1] if isinstance(half.fitted, Pipeline) and len(half.fitted) == 1 else half.fitted
    if not hasattr(curve_maker, "tone_curves"):
        return {}
    shown = {}
    for name in cohort.scanners:
        own = half.positions[cohort.scanner[half.positions] == name][:at_most]
        shown[name] = list(curve_maker.tone_curves(cohort.X[own]))
    return shown
