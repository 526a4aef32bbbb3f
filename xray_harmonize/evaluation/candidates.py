"""What a comparison compares: named ways of bringing images to a classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from xray_harmonize.evaluation.keys import digest
from xray_harmonize.evaluation.splits import FIXED
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.geometry import CropForeground
from xray_harmonize.harmonizers.bands import MultiBand
from xray_harmonize.harmonizers.cdf import CDFMatching, Nyul
from xray_harmonize.harmonizers.fourier import FourierSwap
from xray_harmonize.harmonizers.linear import FullRange, MinMax, WindowClamp, ZScore
from xray_harmonize.images import ImageSet

NOTHING = "nothing"
UNLABELLED = "unlabelled images"
LABELLED = "labelled images"

# What a method may see of the test scanner, from least to most: methods are compared within a class first.
SEES = (NOTHING, UNLABELLED, LABELLED)

# The control that everything is measured against.
BASELINE = "none"

# Each trains networks of its own in every split, for seconds to minutes, and is compared where it is asked for.
ON_REQUEST = ("BlindHarmony", "mapping", "LUT3D", "DLBC", "Sup-DCE", "ResUNet", "U-Net", "CycleGAN")


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
    sees : {"nothing", "unlabelled images", "labelled images"}
        What the method may see of the test scanner under the fixed protocol, always of other patients than it is
        tested on; see :meth:`sees_under`.
    adapts_batch_norm : bool
        Whether the classifier re-estimates its batch-norm statistics on the test scanner's unlabelled images.
    trains_on_harmonized : bool
        Whether the classifier is trained on harmonized images of the reference under the fixed protocol too: for
        methods whose result has another range than [0, 1].
    fine_tunes : bool
        Whether the classifier is trained on with the test scanner's labelled images.
    fits_to_all : bool
        Whether the steps are fitted to unlabelled images of the reference and of other scanners at once: for methods
        that neither learn the reference alone nor get to know a scanner afterwards.

    Raises
    ------
    InvalidParameterError
        If `sees` is none of the three, or is not what the other options need.
    """

    name: str
    steps: tuple[BaseEstimator, ...] = ()
    geometry: tuple[BaseEstimator, ...] = ()
    classifier_parameters: Mapping[str, Any] = field(default_factory=dict)
    sees: str = NOTHING
    adapts_batch_norm: bool = False
    trains_on_harmonized: bool = False
    fine_tunes: bool = False
    fits_to_all: bool = False

    def __post_init__(self) -> None:
        if self.sees not in SEES:
            raise InvalidParameterError(
                f"Candidate {self.name!r}: sees must be one of {', '.join(map(repr, SEES))}; got {self.sees!r}."
            )
        if self.fine_tunes and self.sees != LABELLED:
            raise InvalidParameterError(
                f"Candidate {self.name!r} fine-tunes, which needs sees={LABELLED!r}; got {self.sees!r}."
            )
        if self.fits_to_all and self.sees != UNLABELLED:
            raise InvalidParameterError(
                f"Candidate {self.name!r} fits to all scanners, which needs sees={UNLABELLED!r}; got {self.sees!r}."
            )

    def sees_under(self, protocol: str) -> str:
        """Tell what the method sees of the test scanner under a protocol; tables and summaries say this.

        Nobody sees labels of a scanner that is left out: there a method that learns from labels learns from those of
        the training scanners, and sees nothing of the test scanner, or unlabelled images if it must get to know it.
        """
        if protocol == FIXED or self.sees != LABELLED:
            return self.sees
        return UNLABELLED if self.learns_scanners or self.adapts_batch_norm else NOTHING

    def runs_under(self, protocol: str) -> bool:
        """Tell whether the method is defined under a protocol: without the test scanner's labels no fine-tuning is."""
        return protocol == FIXED or not self.fine_tunes

    def harmonizer(
        self, reference: str | None, discriminator: BaseEstimator | None = None, random_state: int | None = None
    ) -> Pipeline:
        """Give the steps, unfitted, as one Pipeline.

        Parameters
        ----------
        reference : str or None
            Scanner to bring images to.
        discriminator : classifier or None
            What a step that learns by the answers of a classifier is to learn by.
        random_state : int or None

        Returns
        -------
        Pipeline
            Steps that leave one of these open (None) take it from here.
        """
        steps = [clone(step) for step in self.steps] or [FullRange()]
        given = {"reference": reference, "discriminator": discriminator, "random_state": random_state}
        for step in steps:
            parameters = step.get_params(deep=False)
            open_ones = [name for name in given if name in parameters and parameters[name] is None]
            step.set_params(**{name: given[name] for name in open_ones if given[name] is not None})
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
        return any(step.get_params(deep=False).get("scope", "image") != "image" for step in self.steps)

    @property
    def needs_discriminator(self) -> bool:
        """Whether a step learns by the answers of a classifier and leaves open which."""
        return any(step.get_params(deep=False).get("discriminator", "") is None for step in self.steps)

    @property
    def trains_networks(self) -> bool:
        """Whether a step trains a network, which is told the device to train it on."""
        return any("device" in step.get_params(deep=False) for step in self.steps)

    @property
    def needs_labels(self) -> bool:
        """Whether the steps cannot be fitted to images alone."""
        return self.sees == LABELLED or self.needs_discriminator

    @property
    def serves_every_scanner(self) -> bool:
        """Whether one fitted pipeline is for all scanners: a classifier changed for one of them is not."""
        return not (self.adapts_batch_norm or self.fine_tunes)

    def fewest_images(self, n_groups: int) -> int:
        """How many labelled images the method needs at least.

        Parameters
        ----------
        n_groups : int
            Classes of scanners, of each of which a step may hold out one image more than its share.

        Returns
        -------
        int
        """
        fewest = 1 if self.serves_every_scanner else 2
        for step in self.steps:
            parameters = step.get_params(deep=False)
            if "discriminator" in parameters and "batch_size" in parameters:
                # A batch must be left of what is not held out to choose the state by.
                share = parameters.get("validation_fraction", 0.0)
                fewest = max(fewest, math.ceil((parameters["batch_size"] + (n_groups if share else 0)) / (1 - share)))
        return fewest

    def training_key(self) -> str:
        """Tell what the fixed classifier is trained on; candidates with one key share one training."""
        return digest(self.geometry, self.classifier_parameters, self.steps if self.trains_on_harmonized else ())


def _pipeline(steps: list[BaseEstimator]) -> Pipeline:
    return Pipeline([(f"{type(step).__name__.lower()}_{place}", step) for place, step in enumerate(steps)])


def default_candidates(
    vgg_weights: str | Path | None = None,
    gdce: Mapping[str, Any] | None = None,
    networks: Mapping[str, Any] | None = None,
) -> list[Candidate]:
    """Give every harmonizer of the package and the controls, in the order of the tables.

    Parameters are each method's published or usual ones; none was tuned on a data set.

    Parameters
    ----------
    vgg_weights : path, optional
        File with weights of the VGG-16 by whose features GDCE compares images; without one it has random weights.
    gdce : mapping, optional
        Parameters of every GDCE among the candidates that are to differ from the defaults.
    networks : mapping, optional
        Likewise of the methods of :data:`ON_REQUEST`, such as ``{"device": "cuda"}``.

    Returns
    -------
    list of Candidate
        Those of :data:`ON_REQUEST` included. The methods that learn from pairs make theirs of the reference's images.

    Examples
    --------
    >>> [candidate.name for candidate in default_candidates()][:3]
    ['none', 'min-max', 'percentiles']
    """
    # Here, as it draws in torch, which tables and reports need not.
    from xray_harmonize.harmonizers.blind import BlindHarmony
    from xray_harmonize.harmonizers.gdce import GDCE
    from xray_harmonize.harmonizers.mapping import InterpretableMapping
    from xray_harmonize.harmonizers.paired_curves import DLBC, LUT3D, SupDCE
    from xray_harmonize.harmonizers.paired_unets import ResUNet, UNet
    from xray_harmonize.harmonizers.translation import CycleGAN

    crop = (CropForeground(),)
    per_scanner = CDFMatching(scope="scanner")
    learned = {"vgg_weights": "random" if vgg_weights is None else str(vgg_weights), **(gdce or {})}
    own = dict(networks or {})
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
        Candidate("bands, image", (MultiBand(),)),
        Candidate("random tone curves", classifier_parameters={"augment": "tone"}),
        Candidate("crop", geometry=crop),
        Candidate("crop + CDF, image", (CDFMatching(),), geometry=crop),
        Candidate("BlindHarmony", (BlindHarmony(**own),)),
        Candidate("mapping", (InterpretableMapping(**own),)),
        Candidate("LUT3D", (LUT3D(**own),)),
        Candidate("DLBC", (DLBC(**own),)),
        Candidate("Sup-DCE", (SupDCE(**own),)),
        Candidate("ResUNet", (ResUNet(**own),)),
        Candidate("U-Net", (UNet(**own),)),
        Candidate("CDF, scanner", (per_scanner,), sees=UNLABELLED),
        Candidate("CDF, mixed", (CDFMatching(scope="mixed"),), sees=UNLABELLED),
        Candidate("CDF, shrunk", (CDFMatching(scope="shrunk"),), sees=UNLABELLED),
        Candidate("bands, scanner", (MultiBand(scope="scanner"),), sees=UNLABELLED),
        Candidate("batch-norm adaptation", sees=UNLABELLED, adapts_batch_norm=True),
        Candidate("GDCE, unlabelled", (GDCE(scope="scanner", supervision="distribution", **learned),), sees=UNLABELLED),
        Candidate("crop + CDF, scanner", (per_scanner,), geometry=crop, sees=UNLABELLED),
        Candidate(
            "crop + bands + CDF, scanner",
            (MultiBand(scope="scanner"), per_scanner),
            geometry=crop,
            sees=UNLABELLED,
        ),
        Candidate("CycleGAN", (CycleGAN(**own),), sees=UNLABELLED, fits_to_all=True),
        Candidate("GDCE, image", (GDCE(scope="image", **learned),), sees=LABELLED),
        Candidate("GDCE, scanner", (GDCE(scope="scanner", **learned),), sees=LABELLED),
        Candidate("crop + GDCE, scanner", (GDCE(scope="scanner", **learned),), geometry=crop, sees=LABELLED),
        Candidate("fine-tuned", sees=LABELLED, fine_tunes=True),
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
