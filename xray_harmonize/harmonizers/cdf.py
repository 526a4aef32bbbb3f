"""Methods on the distribution of grey values: CDF matching and Nyúl's landmarks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter1d

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.base import POOLED, ReferenceHarmonizer, Statistics, ToneCurveMixin
from xray_harmonize.harmonizers.foreground import check_foreground, foreground_counts
from xray_harmonize.harmonizers.linear import check_pair
from xray_harmonize.harmonizers.shrinkage import Content, learn_content, learn_tone, reference_limits, shrunk_curve
from xray_harmonize.harmonizers.sketches import sketch
from xray_harmonize.levels import FLOAT_LEVELS, quantiles
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.tone import ToneCurve

# Grid on which a curve is smoothed and its slope bounded.
_N_GRID = 2049

NYUL_PERCENTILES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99)


def matching_curve(source_quantiles: np.ndarray, reference_quantiles: np.ndarray) -> ToneCurve:
    """Curve ``F_ref^-1(F_src(x))`` that gives a source the distribution of the reference.

    Parameters
    ----------
    source_quantiles, reference_quantiles : ndarray of float of shape (n_probabilities,)
        Quantile functions at the same probabilities, in [0, 1].

    Returns
    -------
    ToneCurve
        Below and above the source's own range the curve runs straight to black and to white.

    Examples
    --------
    >>> import numpy as np
    >>> q = np.linspace(0, 1, 11)
    >>> float(matching_curve(q**2, q)(0.25))
    0.5
    """
    # The ends are tied in so that what lies outside the foreground keeps its place below or above it.
    x = np.concatenate(
        [[0.0] if source_quantiles[0] > 0 else [], source_quantiles, [1.0] if source_quantiles[-1] < 1 else []]
    )
    y = np.concatenate(
        [[0.0] if source_quantiles[0] > 0 else [], reference_quantiles, [1.0] if source_quantiles[-1] < 1 else []]
    )
    return ToneCurve.through(x, y)


def smooth_curve(curve: ToneCurve, smoothness: float) -> ToneCurve:
    """Average a curve with a Gaussian along its input.

    A small mode of the histogram, often the pathology, bends the raw quantile map; a smooth one cannot follow it
    (restricted CDF matching, Stoklasa, arXiv 2411.15213).

    Parameters
    ----------
    curve : ToneCurve
    smoothness : float
        Standard deviation of the Gaussian as a fraction of full scale.

    Returns
    -------
    ToneCurve
        Monotone, since an average of monotone curves is; same ends.
    """
    grid = np.linspace(0, 1, _N_GRID)
    values = curve.table(_N_GRID)
    chord = values[0] + grid * (values[-1] - values[0])
    # The distance to the chord vanishes at both ends; extended as an odd function around each of them it stays zero
    # there under any average, and chord and distance together keep rising.
    bend = values - chord
    period = np.concatenate([bend, -bend[-2:0:-1]])
    smooth = gaussian_filter1d(period, smoothness * (_N_GRID - 1), mode="wrap", truncate=5)[:_N_GRID]
    return ToneCurve.through(grid, np.maximum.accumulate(smooth + chord))


def limit_slope(curve: ToneCurve, max_slope: float) -> ToneCurve:
    """Bound the slope of a curve, giving what is cut off to the other grey values alike.

    Parameters
    ----------
    curve : ToneCurve
    max_slope : float
        Bound, at least 1, so that the curve can still rise from black to white.

    Returns
    -------
    ToneCurve
        Same ends, no slope above ``max_slope``.

    Examples
    --------
    >>> steep = ToneCurve([0, 0.5, 0.6, 1], [0, 0.1, 0.9, 1])
    >>> round(limit_slope(steep, 3.0).max_slope, 6)
    3.0
    """
    if curve.max_slope <= max_slope:
        return curve
    values = curve.table(_N_GRID)
    steps = np.diff(values)
    bound = max_slope / (_N_GRID - 1)
    # Water-filling: raise all steps by one amount, cut at the bound, so that they sum to the same rise. The sum grows
    # with the amount, so bisection finds it.
    low, high = 0.0, bound
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(steps + middle, bound).sum() < steps.sum() else (low, middle)
    limited = values[0] + np.concatenate([[0.0], np.cumsum(np.minimum(steps + low, bound))])
    return ToneCurve.through(np.linspace(0, 1, _N_GRID), limited)


def landmark_curve(source_landmarks: np.ndarray, standard_landmarks: np.ndarray) -> ToneCurve:
    """Nyúl's curve: piecewise linear through landmarks, its outer pieces drawn on to the ends of the range.

    Parameters
    ----------
    source_landmarks, standard_landmarks : ndarray of float of shape (n_landmarks,)
        Non-decreasing, in [0, 1]. Equal source landmarks become one, at the mean of their standard values.

    Returns
    -------
    ToneCurve

    Notes
    -----
    Nyúl, Udupa, Zhang: New variants of a method of MRI scale standardization, IEEE TMI 19(2), 2000.
    """
    core = ToneCurve.through(source_landmarks, standard_landmarks)
    x, y = core.x, core.y
    if x.size == 1:
        return core
    first = (y[1] - y[0]) / (x[1] - x[0])
    last = (y[-1] - y[-2]) / (x[-1] - x[-2])
    # Where an outer piece meets black or white, or else the end of the range.
    before = x[0] - y[0] / first if first > 0 and x[0] - y[0] / first > 0 else 0.0
    after = x[-1] + (1 - y[-1]) / last if last > 0 and x[-1] + (1 - y[-1]) / last < 1 else 1.0
    return ToneCurve.through(
        np.concatenate([[before], x, [after]]),
        np.concatenate([[y[0] - first * (x[0] - before)], y, [y[-1] + last * (after - x[-1])]]),
    )


def at_all_levels(density: np.ndarray) -> np.ndarray:
    """Lay a distribution over few levels out over 65,536, so that images of different depths add up.

    Parameters
    ----------
    density : ndarray of float of shape (n_levels,)
        Shares of equally spaced levels from 0 to 1.

    Returns
    -------
    ndarray of float of shape (65536,)

    Examples
    --------
    >>> np.flatnonzero(at_all_levels(np.array([0.2, 0.5, 0.3])))
    array([    0, 32768, 65535])
    """
    laid_out = np.zeros(FLOAT_LEVELS)
    laid_out[np.rint(np.linspace(0, FLOAT_LEVELS - 1, density.size)).astype(np.intp)] = density
    return laid_out


def weighted_mean(first: ToneCurve, second: ToneCurve, weight: float) -> ToneCurve:
    """Curve ``weight * first + (1 - weight) * second``, exact.

    Parameters
    ----------
    first, second : ToneCurve
    weight : float
        In [0, 1].

    Returns
    -------
    ToneCurve

    Examples
    --------
    >>> weighted_mean(ToneCurve.identity(), ToneCurve([0.5], [0.5]), 0.5).y
    array([0.25, 0.5 , 0.75])
    """
    x = np.union1d(first.x, second.x)
    y = weight * np.interp(x, first.x, first.y) + (1 - weight) * np.interp(x, second.x, second.y)
    return ToneCurve.through(x, y)


class CDFMatching(ToneCurveMixin, ReferenceHarmonizer):
    """Give every image, or every scanner, the grey-value distribution of the reference.

    One curve a *scanner* undoes a fixed response without touching what differs between bodies; one an *image* also
    undoes exposure that varies from image to image, and most of what differs between bodies with it.
    ``scope="shrunk"`` takes one curve a scanner and corrects an image's own tone as far as that scanner's images vary
    more than the reference's do, which is not at all where the response is fixed; ``scope="mixed"`` is a plain mean.

    Parameters
    ----------
    reference : str, optional
        Scanner to match; None for the one with most training images, "pooled" for all scanners alike.
    scope : {"image", "scanner", "mixed", "shrunk"}, default="image"
        Whose distribution is matched: each image's, its scanner's, a mean of both curves, or the scanner's with what
        is likely to be the image's exposure taken off before.
    image_weight : float, default=0.5
        Weight of the image's own curve with ``scope="mixed"``; without effect on "shrunk", which learns its own.
    foreground : {"all", "nonzero", "otsu"} or float, default="all"
        Pixels whose distribution is matched, inside the mask: every one, those above zero, those above Otsu's level, or
        those above a fraction of full scale. Air below keeps its place below.
    smoothness : float, default=0
        Width of a Gaussian that smooths the curve, as a fraction of full scale; 0 for the raw quantile map.
    max_slope : float, optional
        Bound of the curve's slope, at least 1, so that noise is not amplified beyond it.
    unseen : {"error", "image"}, default="error"
        What to do with a scanner not seen in fit: refuse, or match the image's own distribution.

    Attributes
    ----------
    reference_quantiles_ : ndarray of shape (n_probabilities,)
        Mean quantile function of the reference at :data:`xray_harmonize.levels.PROBABILITIES`, which single images are
        matched to.
    pooled_quantiles_ : ndarray of shape (n_probabilities,)
        Quantile function of all its images together, which scanners are matched to; absent with ``scope="image"``.
    content_ : dict
        With ``scope="shrunk"``: how the reference's images vary, see
        :class:`~xray_harmonize.harmonizers.shrinkage.Content`.
    scanner_tones_ : dict
        With ``scope="shrunk"``: for each scanner its curve ("x", "y") and what is known of its exposure, see
        :class:`~xray_harmonize.harmonizers.shrinkage.Exposure`. Where "share" is zero throughout, images get their
        scanner's curve and nothing else.
    reference_, statistics_
        See :class:`~xray_harmonize.harmonizers.base.ReferenceHarmonizer`.

    See Also
    --------
    Nyul : the same through a dozen landmarks.

    Notes
    -----
    The mean quantile function is the Wasserstein barycentre of the reference's histograms: unlike a mean histogram it
    does not blur two exposures into one wide distribution, so it is what one image is matched to. One curve for a
    scanner is taken between pooled distributions instead: a fixed response maps quantiles of the pool exactly, while a
    mean of quantiles and a bent curve do not commute. Restricted matching: Stoklasa, arXiv 2411.15213.

    What ``scope="shrunk"`` rests on is told in :mod:`xray_harmonize.harmonizers.shrinkage`: empirical Bayes on a smooth
    low-order correction, as ComBat shrinks features (Johnson, Li, Rabinovic, Biostatistics 8(1), 2007). It needs eight
    images of the reference and of the scanner; with fewer, and where the scanner varies no more than the reference,
    the reference's own images included, it is ``scope="scanner"``; ten images show strong variation of exposure only,
    fifty most of it (``benchmarks/shrunk.py``). Hence what it cannot do: exposure that varies as
    much on the reference as elsewhere counts as content; a scanner whose patients differ more among themselves than
    the reference's looks as if its exposure varied. Each image is drawn towards the middle of its own scanner, so
    classes in other proportions than on the reference neither help nor hurt beyond what they do to the scanner's curve.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> bodies = rng.random((8, 32, 32))
    >>> X = np.concatenate([bodies[:4], bodies[4:] ** 2])
    >>> scanner = ["A"] * 4 + ["B"] * 4
    >>> matched = CDFMatching(reference="A").fit(X, scanner=scanner).transform(X)
    >>> bool(abs(matched[4:] - bodies[4:]).max() < 0.1)
    True
    """

    _scopes = ("image", "scanner", "mixed", "shrunk")

    def __init__(
        self,
        reference: str | None = None,
        scope: str = "image",
        *,
        image_weight: float = 0.5,
        foreground: str | float = "all",
        smoothness: float = 0.0,
        max_slope: float | None = None,
        unseen: str = "error",
    ) -> None:
        self.reference = reference
        self.scope = scope
        self.image_weight = image_weight
        self.foreground = foreground
        self.smoothness = smoothness
        self.max_slope = max_slope
        self.unseen = unseen

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_foreground(self.foreground)
        if not 0 <= self.smoothness < 1:
            raise InvalidParameterError(f"smoothness must lie in [0, 1); got {self.smoothness!r}.")
        if self.max_slope is not None and not self.max_slope >= 1:
            raise InvalidParameterError(
                f"max_slope must be at least 1, or the curve cannot reach white; got {self.max_slope!r}."
            )

    def _measure(self, radiograph: Radiograph) -> Statistics:
        counts = foreground_counts(radiograph, self.foreground)
        if self.scope == "image":
            return {"quantiles": quantiles(counts)}
        measured = {"quantiles": quantiles(counts), "distribution": at_all_levels(counts / counts.sum())}
        if self.scope == "shrunk":
            measured["sketches"] = sketch(counts)[None]
        return measured

    def _add(self, name: str, total: np.ndarray, more: np.ndarray) -> np.ndarray:
        # Nothing is made of the sketches that their order would change.
        return np.concatenate([total, more]) if name == "sketches" else super()._add(name, total, more)

    def _summarize(self, total: Statistics) -> Statistics:
        return super()._summarize({name: value for name, value in total.items() if name != "sketches"})

    def _learn(self, reference: Statistics) -> None:
        self.reference_quantiles_ = reference["quantiles"]
        if self.scope != "image":
            self.pooled_quantiles_ = quantiles(reference["distribution"])
        if self.scope == "shrunk":
            names = sorted(self.statistics_) if self.reference_ == POOLED else [self.reference_]
            seen = [self._scanner_curve(name)(self.statistics_[name]["sketches"]) for name in names]
            self.content_ = learn_content(seen, reference_limits(self.pooled_quantiles_))._asdict()
            self.scanner_tones_: dict[str, dict[str, np.ndarray]] = {}

    def _learn_scanners(self, names: Iterable[str]) -> None:
        if self.scope == "shrunk":
            content = Content(**self.content_)
            tones = dict(self.scanner_tones_)
            for name in names:
                tones[name] = learn_tone(self._scanner_curve(name), self.statistics_[name]["sketches"], content)
            self.scanner_tones_ = tones

    def _scanner_curve(self, name: str) -> ToneCurve:
        source = self._summarize(self.statistics_[name])
        return matching_curve(quantiles(source["distribution"]), self.pooled_quantiles_)

    def _tone_curve(self, radiograph: Radiograph) -> ToneCurve:
        self._check_scanners([radiograph.scanner])
        own_scope = self.scope == "image" or radiograph.scanner not in self.statistics_
        if self.scope == "shrunk" and not own_scope:
            curve = self._shrunk_curve(radiograph)
        elif not own_scope:
            curve = self._scanner_curve(radiograph.scanner)
        if own_scope or self.scope == "mixed":
            own = quantiles(foreground_counts(radiograph, self.foreground))
            own_curve = matching_curve(own, self.reference_quantiles_)
            curve = own_curve if own_scope else weighted_mean(own_curve, curve, self.image_weight)
        if self.smoothness > 0:
            curve = smooth_curve(curve, self.smoothness)
        if self.max_slope is not None:
            curve = limit_slope(curve, self.max_slope)
        return curve

    def _shrunk_curve(self, radiograph: Radiograph) -> ToneCurve:
        tone = self.scanner_tones_[radiograph.scanner]
        if not np.any(tone["share"]):  # the image itself need not be looked at
            return ToneCurve.through(tone["x"], tone["y"])
        own = sketch(foreground_counts(radiograph, self.foreground))
        return shrunk_curve(tone, own, self.content_["limits"])


class Nyul(ToneCurveMixin, ReferenceHarmonizer):
    """Bring a few percentiles of every image to their standard places, learned from the reference.

    Parameters
    ----------
    percentiles : sequence of float, default=(1, 10, 20, ..., 90, 99)
        Landmarks, rising, in [0, 100].
    output_range : tuple of float, optional
        Where the first and last landmark go; None for their mean place on the reference.
    foreground : {"all", "nonzero", "otsu"} or float, default="all"
        Pixels that percentiles are taken of, see :class:`CDFMatching`.
    reference : str, optional
        Scanner that the standard is learned from; None for the one with most training images, "pooled" for all alike.
    scope : {"image", "scanner", "mixed"}, default="image"
        Whose landmarks are moved: each image's, its scanner's mean ones, or a mean of both.
    image_weight : float, default=0.5
        Weight of the image's own landmarks with ``scope="mixed"``.
    unseen : {"error", "image"}, default="error"
        What to do with a scanner not seen in fit: refuse, or take the image's own landmarks.

    Attributes
    ----------
    standard_landmarks_ : ndarray of shape (n_landmarks,)
        Where the landmarks go.
    reference_, statistics_
        See :class:`~xray_harmonize.harmonizers.base.ReferenceHarmonizer`.

    Notes
    -----
    Nyúl, Udupa, Zhang: New variants of a method of MRI scale standardization, IEEE TMI 19(2), 2000.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((4, 16, 16))
    >>> Nyul().fit(X).transform(X).shape
    (4, 16, 16)
    """

    def __init__(
        self,
        percentiles: tuple[float, ...] = NYUL_PERCENTILES,
        output_range: tuple[float, float] | None = None,
        *,
        foreground: str | float = "all",
        reference: str | None = None,
        scope: str = "image",
        image_weight: float = 0.5,
        unseen: str = "error",
    ) -> None:
        self.percentiles = percentiles
        self.output_range = output_range
        self.foreground = foreground
        self.reference = reference
        self.scope = scope
        self.image_weight = image_weight
        self.unseen = unseen

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_foreground(self.foreground)
        landmarks = np.asarray(self.percentiles, dtype=np.float64)
        if landmarks.ndim != 1 or landmarks.size < 2 or np.any(np.diff(landmarks) <= 0):
            raise InvalidParameterError(f"percentiles must be at least two rising numbers; got {self.percentiles!r}.")
        if landmarks[0] < 0 or landmarks[-1] > 100:
            raise InvalidParameterError(f"percentiles must lie in [0, 100]; got {self.percentiles!r}.")
        if self.output_range is not None:
            check_pair("output_range", self.output_range, 0, 1)

    def _measure(self, radiograph: Radiograph) -> Statistics:
        counts = foreground_counts(radiograph, self.foreground)
        landmarks = quantiles(counts, np.asarray(self.percentiles) / 100)
        span = landmarks[-1] - landmarks[0]
        # Landmarks as fractions of the image's own range: the standard is their mean after that first linear step.
        relative = (landmarks - landmarks[0]) / span if span > 0 else np.linspace(0, 1, landmarks.size)
        return {"landmarks": landmarks, "relative": relative}

    def _learn(self, reference: Statistics) -> None:
        low, high = reference["landmarks"][[0, -1]] if self.output_range is None else self.output_range
        self.standard_landmarks_ = low + reference["relative"] * (high - low)

    def _tone_curve(self, radiograph: Radiograph) -> ToneCurve:
        return landmark_curve(self._source_statistics(radiograph)["landmarks"], self.standard_landmarks_)
