"""One call that tells whether harmonizing can be trusted on a data set."""

from __future__ import annotations

import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from xray_harmonize import __version__
from xray_harmonize.auditing.cohort import Cohort, make_cohort
from xray_harmonize.auditing.conclusions import LEVEL, conclusions
from xray_harmonize.auditing.controls import Asking, halves_control, permuted_control
from xray_harmonize.auditing.features import AuditFeatures
from xray_harmonize.auditing.leakage import pooled_control, scanner_alone_control
from xray_harmonize.auditing.measuring import Measuring
from xray_harmonize.auditing.rendering import named_harmonizers
from xray_harmonize.auditing.result import CONTROL_COLUMNS, AuditResult
from xray_harmonize.auditing.task import TASK_COLUMNS, default_classifier
from xray_harmonize.classifiers.intensity_features import IntensityFeatures
from xray_harmonize.evaluation.candidates import BASELINE
from xray_harmonize.evaluation.cautions import cautions
from xray_harmonize.evaluation.content import CONTENT_COLUMNS
from xray_harmonize.exceptions import InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.images import ImageSet

_PACKAGES = ("numpy", "scipy", "scikit-learn", "opencv-python-headless", "scikit-image")
CURVE_COLUMNS = ["harmonizer", "scanner", "monotone", "max_slope", "lost"]

Progress = Callable[[str, float], None]


def audit(
    X: Any,
    y: ArrayLike | None = None,
    *,
    harmonizers: Any = None,
    reference: str | None = None,
    scanner: ArrayLike | None = None,
    patient: ArrayLike | None = None,
    features: BaseEstimator | None = None,
    classifier: Any = None,
    controls: bool = True,
    show: Sequence[int] = (),
    image_size: int = 256,
    n_permutations: int = 200,
    n_bootstrap: int = 1000,
    n_refits: int = 100,
    random_state: int | np.random.RandomState | None = 0,
    progress: Progress | None = None,
) -> AuditResult:
    """Measure what harmonizers do to a data set: to scanners, to content, to a task, and where nothing should come out.

    Every harmonizer is fitted to one half of the patients and measured on the other, both ways round, so that no image
    is measured behind a harmonizer that has seen its patient.

    Parameters
    ----------
    X : ImageSet, ndarray of shape (n, height, width), or list of 2-D arrays
        Images of two scanners or more, of at least four patients each.
    y : array-like of shape (n,), optional
        Labels. Without them there is no task and no control of labels; harmonizers that need labels cannot be asked.
    harmonizers : sequence of str or estimator, or mapping of str to estimator, optional
        Names as in ``xray-harmonize compare``, or unfitted harmonizers and Pipelines of them. By default min-max, one
        CDF curve an image, one a scanner, FDA, and bands by scanner.
    reference : str, optional
        Scanner to bring all others to; by default the one with most images.
    scanner, patient : array-like of shape (n,), optional
        ``X.scanner`` and ``X.patient`` by default.
    features : transformer, optional
        What distances, probe and classifier look at: images to rows of numbers, such as
        :class:`~xray_harmonize.classifiers.deep_features.DeepFeatures`. By default
        :class:`~xray_harmonize.classifiers.intensity_features.IntensityFeatures`.
    classifier : classifier, optional
        Of features, for the task; by default regularized logistic regression. It is trained on the reference's images
        of one half and tested on all images of the other.
    controls : bool, default=True
        Whether to repeat the audit on halves of one scanner and with permuted labels, which takes as long again.
    show : sequence of int, default=()
        Positions of images that the report may show; none by default.
    image_size : int, default=256
        Longest side in pixels at which images are harmonized and measured; larger ones are averaged down first.
    n_permutations : int, default=200
        Permutations of the probe and the distances.
    n_bootstrap : int, default=1000
        Resamples of the patients for figures that need no classifier.
    n_refits : int, default=100
        Resamples of the patients that classifiers are trained on and tested with, for intervals of the AUC.
    random_state : int, default=0
        Halves, folds, permutations and resamples.
    progress : callable, optional
        Called with what is being done and the share that is done, from 0 to 1.

    Returns
    -------
    AuditResult

    Raises
    ------
    MissingScannerError, UnknownScannerError, NotEnoughImagesError, InvalidParameterError
        Where scanners, patients, labels, harmonizers or numbers cannot be meant; the message names them.

    Notes
    -----
    A gap is claimed where the probe's permutation p is below .05: one question, one test. With labels, scanners are
    permuted among patients of the same class, so that an uneven mix of classes is no gap. A harmonizer is said to help
    on a scanner where a gap was found and the interval of its difference to doing nothing, corrected by Bonferroni for
    all harmonizers and scanners looked at, lies above zero. So where no scanner differs, no more than one audit in
    twenty claims that one does or that anything helps.

    Intervals of the AUC count both whose images were tested and whose the classifier was trained on: every resample
    trains it anew.

    Images are held in memory, those of one harmonizer at a time: some 0.6 MB each at 256 pixels. Of a large archive,
    draw a sample; a few hundred images of a scanner tell nearly as much.

    The classifier of features is a quick stand-in for the network that harmonizing is for; ``xray-harmonize compare``
    trains that.

    Examples
    --------
    >>> from xray_harmonize import ImageSet, make_cohort
    >>> cohort = make_cohort("density", ["reference", "senograph-like"], n_patients=24, size=32, random_state=0)
    >>> found = audit(
    ...     cohort.images, cohort.labels, harmonizers=["CDF, scanner"], reference="reference",
    ...     controls=False, n_permutations=50, n_bootstrap=50,
    ...     n_refits=20)
    >>> list(found.harmonizers), sorted(set(found.domain["harmonizer"]))
    (['none', 'CDF, scanner'], ['CDF, scanner', 'none'])
    """
    _check_counts(n_permutations=n_permutations, n_bootstrap=n_bootstrap, n_refits=n_refits)
    images = ImageSet.of(X, scanner=scanner)
    shown = _checked_positions(show, len(images))
    named = named_harmonizers(harmonizers, with_labels=y is not None)
    seed = _seed(random_state)
    cohort = make_cohort(images, y, patient=patient, reference=reference, image_size=image_size, random_state=seed)
    asking = Asking(
        AuditFeatures(IntensityFeatures() if features is None else features),
        default_classifier() if classifier is None else classifier,
        n_permutations=n_permutations,
        n_refits=n_refits,
        random_state=seed,
    )
    n_comparisons = max((len(named) - 1) * len(cohort.scanners), 1)
    measuring = Measuring(cohort, asking, confidence=1 - LEVEL / n_comparisons, n_bootstrap=n_bootstrap, shown=shown)
    steps = _Steps(progress, len(named) * (1 + controls * (1 if y is None else 2)))
    for name, harmonizer in named.items():
        steps.begin(name)
        measuring.add(name, harmonizer)
    checked = pd.DataFrame(columns=CONTROL_COLUMNS)
    if controls:
        with warnings.catch_warnings():
            # What harmonizers say of halves of a scanner, or of shuffled labels, would be taken for the user's own.
            warnings.simplefilter("ignore", XRayHarmonizeWarning)
            checked = _controls(measuring, named, steps, n_bootstrap)
    steps.begin("writing it up")
    # Of the images as they came: averaging them down would hide what somebody did to their grey values.
    known = cautions(images, cohort.y, patient=patient)
    domain, content = measuring.table("domain"), measuring.table("content", ["harmonizer", *CONTENT_COLUMNS])
    task = None if measuring.baseline is None else measuring.table("task", TASK_COLUMNS)
    steps.end()
    return AuditResult(
        reference=cohort.reference,
        overview=_overview(cohort),
        harmonizers={name: _described(name, one, measuring) for name, one in named.items()},
        domain=domain,
        content=content,
        curves=measuring.table("curves", CURVE_COLUMNS),
        task=task,
        controls=checked,
        cautions=known,
        conclusions=conclusions(
            domain, content, task, checked, known, cohort.reference, has_labels=y is not None, asked_controls=controls
        ),
        embeddings=measuring.table("embeddings"),
        histograms=measuring.histograms,
        tone_curves=measuring.tone_curves,
        samples=measuring.samples(images),
        settings={
            "features": _said(asking.features.transformer),
            "classifier": _said(asking.classifier),
            "longest side of an image": image_size,
            "permutations": n_permutations,
            "resamples of patients": n_bootstrap,
            "resamples that train the classifier anew": n_refits,
            "coverage of intervals of differences": round(measuring.confidence, 5),
            "random_state": seed,
        },
        versions=_versions(),
    )


class _Steps:
    """Tell what is being done, and the share of all that is done."""

    def __init__(self, progress: Progress | None, n_steps: int) -> None:
        self.progress = progress
        self.n_steps = n_steps
        self.n_begun = 0

    def begin(self, doing: str) -> None:
        if self.progress is not None:
            self.progress(doing, min(self.n_begun / self.n_steps, 1.0))
        self.n_begun += 1

    def end(self) -> None:
        if self.progress is not None:
            self.progress("done", 1.0)


def _controls(measuring: Measuring, named: dict[str, BaseEstimator], steps: _Steps, n_bootstrap: int) -> pd.DataFrame:
    cohort, asking = measuring.cohort, measuring.asking
    tables = [halves_control(cohort, named, asking, lambda name: steps.begin(f"halves of one scanner: {name}"))]
    if cohort.y is not None:
        tables.append(permuted_control(cohort, named, asking, lambda name: steps.begin(f"permuted labels: {name}")))
        resampling = {"n_bootstrap": n_bootstrap, "random_state": asking.random_state}
        tables.append(scanner_alone_control(cohort, n_permutations=asking.n_permutations, **resampling))
        tables.append(pooled_control(measuring.untouched, cohort, asking.classifier, **resampling))
    filled = [table for table in tables if not table.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=CONTROL_COLUMNS)


def _described(name: str, harmonizer: BaseEstimator, measuring: Measuring) -> str:
    if name == BASELINE:
        return "images as they came"
    if name not in measuring.ranges:
        return _said(harmonizer)
    black, white = measuring.ranges[name]
    return f"{_said(harmonizer)}, drawn with {black:.2g} black and {white:.2g} white"


def _versions() -> dict[str, str]:
    # Only who used networks has torch loaded, and then its version matters.
    names = [*_PACKAGES, *(["torch"] if "torch" in sys.modules else [])]
    own = {"xray_harmonize": __version__, "Python": platform.python_version()}
    return own | {name: version(name) for name in names}


def _said(estimator: Any) -> str:
    return " ".join(repr(estimator).split())


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """One number for all that is random, so that harmonizers are compared on the same resamples."""
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _overview(cohort: Cohort) -> pd.DataFrame:
    rows = []
    for name in cohort.scanners:
        own = cohort.scanner == name
        row: dict[str, Any] = {"scanner": name, "n_images": int(own.sum())}
        row["n_patients"] = len(set(cohort.patient[own]))
        if cohort.y is not None:
            row |= {str(label): int(np.sum(cohort.y[own] == label)) for label in np.unique(cohort.y)}
        rows.append(row)
    return pd.DataFrame(rows)


def _check_counts(**counts: Any) -> None:
    # A p below .05 needs that many, and so does an interval.
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 20:
            raise InvalidParameterError(f"{name} must be a whole number, at least 20; got {value!r}.")


def _checked_positions(show: Sequence[int], n_images: int) -> list[int]:
    positions = [int(position) for position in show]
    for position in positions:
        if not 0 <= position < n_images:
            raise InvalidParameterError(
                f"show names image {position}, expected positions from 0 to {n_images - 1}; leave it out."
            )
    return positions
