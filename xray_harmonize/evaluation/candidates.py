"""What a comparison compares: named ways of bringing images to a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from xray_harmonize.evaluation.keys import digest
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.geometry import CropForeground
from xray_harmonize.harmonizers.bands import MultiBand
from xray_harmonize.harmonizers.cdf import CDFMatching, Nyul
from xray_harmonize.harmonizers.fourier import FourierSwap
from xray_harmonize.harmonizers.linear import FullRange, MinMax, WindowClamp, ZScore
from xray_harmonize.images import ImageSet

NOTHING = "nothing"
UNLABELLED = "unlabelled images"

# The control that everything is measured against.
BASELINE = "none"


@dataclass(frozen=True)
class Candidate:
    """One way of bringing images to a classifier.

    Parameters
    ----------
    name : str
        What tables call it.
    steps : tuple of harmonizer
        Unfitted; the classifier under the fixed protocol has not seen what they make.
    geometry : tuple of transformer
        Stateless steps before everything else; the classifier is always trained on what they make.
    classifier_parameters : mapping
        Parameters of the classifier that differ from the common ones, for controls.
    sees : {"nothing", "unlabelled images"}
        What the method may see of the test scanner, always of other patients than it is tested on.
    adapts_batch_norm : bool
        Whether the classifier re-estimates its batch-norm statistics on the test scanner's unlabelled images.
    trains_on_harmonized : bool
        Whether the classifier is trained on harmonized images of the reference under the fixed protocol too: for
        methods whose result has another range than [0, 1].
    """

    name: str
    steps: tuple[BaseEstimator, ...] = ()
    geometry: tuple[BaseEstimator, ...] = ()
    classifier_parameters: Mapping[str, Any] = field(default_factory=dict)
    sees: str = NOTHING
    adapts_batch_norm: bool = False
    trains_on_harmonized: bool = False

    def harmonizer(self, reference: str | None) -> Pipeline:
        """Give the steps, unfitted, as one Pipeline; steps that leave their reference open take this one."""
        steps = [clone(step) for step in self.steps] or [FullRange()]
        for step in steps:
            if reference is not None and step.get_params().get("reference", "") is None:
                step.set_params(reference=reference)
        return _pipeline(steps)

    def geometry_pipeline(self) -> Pipeline | None:
        """Give the geometry as one Pipeline, None where there is none."""
        return _pipeline([clone(step) for step in self.geometry]) if self.geometry else None

    def shaped(self, X: ImageSet) -> ImageSet:
        """Give images as the candidate's geometry shows them; the same set where it has none."""
        geometry = self.geometry_pipeline()
        return X if geometry is None else geometry.fit(X).transform(X)

    @property
    def learns_scanners(self) -> bool:
        """Whether a step treats scanners differently and so must learn them."""
        return any(step.get_params().get("scope", "image") != "image" for step in self.steps)

    def training_key(self) -> str:
        """Tell what the fixed classifier is trained on; candidates with one key share one training."""
        return digest(self.geometry, self.classifier_parameters, self.steps if self.trains_on_harmonized else ())


def _pipeline(steps: list[BaseEstimator]) -> Pipeline:
    return Pipeline([(f"{type(step).__name__.lower()}_{place}", step) for place, step in enumerate(steps)])


def default_candidates() -> list[Candidate]:
    """Give every harmonizer of the package and the controls, in the order of the tables.

    Parameters are each method's published or usual ones; none was tuned on a data set.

    Returns
    -------
    list of Candidate

    Examples
    --------
    >>> [candidate.name for candidate in default_candidates()][:3]
    ['none', 'min-max', 'percentiles']
    """
    crop = (CropForeground(),)
    per_scanner = CDFMatching(scope="scanner")
    bands = MultiBand()
    return [
        Candidate(BASELINE),
        Candidate("min-max", (MinMax(),)),
        Candidate("percentiles", (MinMax((1, 99), output_range="reference"),)),
        Candidate("display window", (WindowClamp(),)),
        Candidate("z-score", (ZScore(),), classifier_parameters={"input_range": "any"}, trains_on_harmonized=True),
        Candidate("CDF, image", (CDFMatching(),)),
        Candidate("Nyul", (Nyul(),)),
        Candidate("FDA", (FourierSwap(),)),
        Candidate("SSIMH", (FourierSwap(mode="dct"),)),
        Candidate("bands, image", (bands,)),
        Candidate("random tone curves", classifier_parameters={"augment": "tone"}),
        Candidate("crop", geometry=crop),
        Candidate("crop + CDF, image", (CDFMatching(),), geometry=crop),
        Candidate("CDF, scanner", (per_scanner,), sees=UNLABELLED),
        Candidate("CDF, mixed", (CDFMatching(scope="mixed"),), sees=UNLABELLED),
        Candidate("bands, scanner", (MultiBand(scope="scanner"),), sees=UNLABELLED),
        Candidate("batch-norm adaptation", sees=UNLABELLED, adapts_batch_norm=True),
        Candidate("crop + CDF, scanner", (per_scanner,), geometry=crop, sees=UNLABELLED),
        Candidate(
            "crop + bands + CDF, scanner",
            (MultiBand(scope="scanner"), per_scanner),
            geometry=crop,
            sees=UNLABELLED,
        ),
    ]


def select_candidates(candidates: list[Candidate], names: list[str]) -> list[Candidate]:
    """Give the candidates of these names, the baseline always among them.

    Raises
    ------
    InvalidParameterError
        If a name is not known; the message lists those that are.
    """
    known = {candidate.name: candidate for candidate in candidates}
    for name in names:
        if name not in known:
            raise InvalidParameterError(
                f"There is no harmonizer {name!r} to compare; known are {', '.join(map(repr, known))}."
            )
    return [candidate for candidate in candidates if candidate.name in {BASELINE, *names}]
