r"""How much of an image's own tone is exposure: empirical Bayes between one curve a scanner and one an image.

What one image's grey values say beyond its scanner's curve is honest content (bodies differ) or exposure (the scanner
renders one image unlike the next). The first varies on the reference as well; what varies *more* on another scanner is
exposure, and the best linear guess of it is the image's own part times the share that is in excess. In symbols, in the
grey values of the reference, as fractions of its range:

- an exposure is a smooth change of tone, :func:`~xray_harmonize.harmonizers.tone_flow.flow` of three coefficients b;
- an image is seen through its :func:`~xray_harmonize.harmonizers.sketches.profile` f, the log-odds of quantiles above
  air. An exposure moves it by about ``J b``, content by something of covariance S, which the reference tells;
- ``G = (J' S^-1 J)^-1 J' S^-1`` weighs the profile so that content counts least, and ``t = G (f - centre)`` is b and
  what is left of content. In some directions bodies hardly differ, so that few images say a lot;
- with R the covariance of t on the reference and T that on the scanner, ``T v = l R v`` gives directions v and how many
  times as much the scanner varies, l. Of what is seen along v, a share of up to ``1 - 1/l`` is exposure, and none where
  chance could have made l (:func:`exposure_share`). Taken off is ``b = R V diag(share) V' t``.

R and S hold, beside content, what the error of a scanner's curve adds (:func:`misfit_variance`): a wrong curve moves
the profiles of different bodies differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter1d
from scipy.stats import chi2

from xray_harmonize.harmonizers.sketches import N_PROFILE, pooled, profile, profile_slopes
from xray_harmonize.harmonizers.tone_flow import GRID, N_GRID, carry, flow, fraction, row_by_row
from xray_harmonize.levels import PROBABILITIES
from xray_harmonize.tone import ToneCurve

N_FIELDS = 3
# How far off scanners' curves are, as standard deviations of the coefficients of a flow: those learned from one image
# of each scanner (from n images, by a root of n less), and, however many there are, since other bodies go to other
# scanners. Half as much, and errors of curves pass for exposure; twice as much, and weak exposure goes unseen.
_MISFIT_OF_ONE_IMAGE = 0.4
_MISFIT_OF_POPULATIONS = 0.1
_N_MISFIT_FIELDS = 6
# Fewer images than this, on either side, say nothing about covariances of three coefficients.
MIN_IMAGES = 8

# Ridge on the covariance of profiles, relative to their variances.
_RIDGE = 0.03
# No image is corrected by more than this many standard deviations of its scanner's images, nor by a curve whose slope
# leaves exp(-2.5) to exp(2.5).
_LIMIT = 3.0
_STEEPEST = 2.5
# Share of pixels at either end of the reference's range that may be dead pixels, plates and markers.
_ODD_PIXELS = 1e-4

_N_ROUNDS = 4
# Width of the Gaussian that smooths what is left to be corrected in a scanner's curve.
_SMOOTHNESS = 0.1


class Content(NamedTuple):
    """What the reference tells of how bodies differ.

    Attributes
    ----------
    estimator : ndarray of shape (n_fields, n_profile)
        G above.
    covariance : ndarray of shape (n_fields, n_fields)
        Of t above over the reference's images.
    misfit : ndarray of shape (n_fields, n_fields)
        What that gains for every unit of :func:`misfit_variance`.
    quantiles : ndarray of shape (n_probabilities,)
        Sketch of all images together.
    n_images : int
        Images that the covariance comes from.
    limits : ndarray of shape (2,)
        Range of the reference's grey values.
    """

    estimator: np.ndarray
    covariance: np.ndarray
    misfit: np.ndarray
    quantiles: np.ndarray
    n_images: int
    limits: np.ndarray


class Exposure(NamedTuple):
    """What a scanner's images tell of how its exposure varies.

    Attributes
    ----------
    centre : ndarray of shape (n_profile,)
        Median profile of the scanner's images.
    directions : ndarray of shape (n_fields, n_profile)
        A row times what a profile differs from the centre by is v' t above, of variance 1 on the reference.
    largest : ndarray of shape (n_fields,)
        What v' t is cut off at.
    share : ndarray of shape (n_fields,)
        Share of v' t that is exposure, in [0, 1).
    fields : ndarray of shape (n_fields, n_fields)
        Takes v' t back to coefficients b.
    """

    centre: np.ndarray
    directions: np.ndarray
    largest: np.ndarray
    share: np.ndarray
    fields: np.ndarray


def reference_limits(pooled_quantiles: np.ndarray) -> np.ndarray:
    """Range of grey values in which exposure is looked for.

    Parameters
    ----------
    pooled_quantiles : ndarray of float
        Of the reference, at :data:`xray_harmonize.levels.PROBABILITIES`.

    Returns
    -------
    ndarray of float of shape (2,)

    Examples
    --------
    >>> reference_limits(0.1 + 0.5 * PROBABILITIES).round(2)
    array([0.1 , 0.65])
    """
    low, high = np.interp([_ODD_PIXELS, 1 - _ODD_PIXELS], PROBABILITIES, pooled_quantiles)
    # Some room above: the brightest body of the reference need not be the brightest there is.
    return np.array([low, min(high + 0.1 * (high - low), 1.0)])


def learn_content(groups: Sequence[np.ndarray], limits: np.ndarray) -> Content:
    """Learn how bodies differ, and how to look at a profile so that it matters least.

    Parameters
    ----------
    groups : sequence of ndarray of float of shape (n_images, n_probabilities)
        Sketches of the reference's images. Of several scanners, each group counts alike and around its own mean.
    limits : ndarray of shape (2,)
        Range of the reference's grey values.

    Returns
    -------
    Content

    Notes
    -----
    Weights that an image took part in finding make it look closer to the mean than it is, and the scanners' images,
    which took no part, look as if they varied more. The covariance is therefore that of images each left out in turn.
    """
    groups = [fraction(group, limits) for group in groups]
    sketches, quantiles = np.concatenate(groups), pooled(groups)
    n = len(sketches) - len(groups) + 1
    if n < MIN_IMAGES:
        unknown = np.eye(N_FIELDS)
        return Content(np.zeros((N_FIELDS, N_PROFILE)), unknown, unknown, quantiles, n, limits)
    profiles = [profile(group) for group in groups]
    # Weighed so that groups count alike.
    away = np.concatenate([(f - f.mean(axis=0)) * np.sqrt(len(sketches) / (len(groups) * len(f))) for f in profiles])
    slopes = profile_slopes(sketches, _N_MISFIT_FIELDS)
    per_image = slopes - slopes.mean(axis=0)
    misfit = np.einsum("nik,njk->ij", per_image, per_image) / (n - 1)
    expected = misfit_variance(n, n) * misfit
    slope = slopes[:, :, :N_FIELDS].mean(axis=0)
    covariance = away.T @ away / (n - 1)
    estimator = _estimator(covariance + expected, slope)
    # Without an image the mean moves away from it, and the sum of squares loses what it gave.
    others = ((n - 1) * covariance - n / (n - 1) * away[:, :, None] * away[:, None, :]) / (n - 2)
    left_out = np.einsum("nki,ni->nk", _estimator(others + expected, slope), away)
    # The small constant is for references whose images are all alike.
    spread = scatter(left_out)[1] + 1e-6 * np.eye(N_FIELDS)
    return Content(estimator, spread, estimator @ misfit @ estimator.T, quantiles, n, limits)


def learn_exposure(sketches: np.ndarray, content: Content) -> tuple[Exposure, np.ndarray]:
    """Learn how much a scanner's exposure varies from image to image.

    Parameters
    ----------
    sketches : ndarray of float of shape (n_images, n_probabilities)
        Of the scanner's images, seen through its curve, as fractions of the reference's range.
    content : Content

    Returns
    -------
    exposure : Exposure
    curve : ndarray of float of shape (n_grid,)
        What the scanner's curve is to be followed by: images that vary in exposure pool to a wider distribution than
        the same images all exposed alike, and a curve that matches pools is bent by that. Equally spaced from 0 to 1.
    """
    curve, exposure = GRID, _exposure(sketches, content)
    for _ in range(_N_ROUNDS if exposure.share.any() else 0):
        corrected = row_by_row(flow(-estimate_exposures(sketches, exposure)), sketches)
        bend = _smooth_bend(pooled([corrected]), content.quantiles)
        # The less is exposure, the less it bent the curve; a scanner on the verge of none keeps its own.
        bend = GRID + exposure.share.max() * (bend - GRID)
        curve, sketches = np.interp(curve, GRID, bend), np.interp(sketches, GRID, bend)
        exposure = _exposure(sketches, content)
    return exposure, curve


def learn_tone(curve: ToneCurve, sketches: np.ndarray, content: Content) -> dict[str, np.ndarray]:
    """Learn all that makes the curves of a scanner's images.

    Parameters
    ----------
    curve : ToneCurve
        From the scanner's pooled distribution to the reference's.
    sketches : ndarray of float of shape (n_images, n_probabilities)
        Of the scanner's images, as they are.
    content : Content

    Returns
    -------
    dict of ndarray
        The scanner's curve as "x" and "y", and the fields of :class:`Exposure`.
    """
    exposure, bend = learn_exposure(fraction(curve(sketches), content.limits), content)
    # Between its own knots, the curve bends where exposure is taken off.
    x = np.union1d(curve.x, GRID)
    return {"x": x, "y": carry(np.interp(x, curve.x, curve.y), bend, content.limits), **exposure._asdict()}


def shrunk_curve(tone: Mapping[str, np.ndarray], sketch: np.ndarray, limits: np.ndarray) -> ToneCurve:
    """Curve of one image: its scanner's, then what takes off the image's exposure.

    Parameters
    ----------
    tone : mapping
        As :func:`learn_tone` gives it.
    sketch : ndarray of float of shape (n_probabilities,)
        Of the image as it is.
    limits : ndarray of shape (2,)
        Range of the reference's grey values.

    Returns
    -------
    ToneCurve
    """
    exposure = Exposure(**{field: tone[field] for field in Exposure._fields})
    seen = fraction(np.interp(sketch, tone["x"], tone["y"]), limits)
    correction = flow(-estimate_exposures(seen[None], exposure))[0]
    return ToneCurve.through(tone["x"], carry(tone["y"], correction, limits))


def estimate_exposures(sketches: np.ndarray, exposure: Exposure) -> np.ndarray:
    """Guess what part of each image's tone is exposure.

    Parameters
    ----------
    sketches : ndarray of float of shape (n_images, n_probabilities)
        Seen through the scanner's curve, as fractions of the reference's range.
    exposure : Exposure

    Returns
    -------
    ndarray of float of shape (n_images, n_fields)
        Coefficients b of the exposure; :func:`flow` of -b takes it off.
    """
    seen = (profile(sketches) - exposure.centre) @ exposure.directions.T
    kept = exposure.share * np.clip(seen, -exposure.largest, exposure.largest)
    # A second look, at what is left, makes up for profiles not being linear in b.
    left = row_by_row(flow(-_bounded(kept @ exposure.fields.T)), sketches)
    seen = kept + (profile(left) - exposure.centre) @ exposure.directions.T
    return _bounded(exposure.share * np.clip(seen, -exposure.largest, exposure.largest) @ exposure.fields.T)


def misfit_variance(n_images: int, n_reference: int) -> float:
    """Variance of the coefficients of a flow that a scanner's curve is off by.

    Parameters
    ----------
    n_images, n_reference : int
        Images of the scanner and of the reference that its curve is learned from.

    Returns
    -------
    float

    Examples
    --------
    >>> round(misfit_variance(60, 60), 3), round(misfit_variance(10, 60), 3)
    (0.015, 0.029)
    """
    return _MISFIT_OF_POPULATIONS**2 + _MISFIT_OF_ONE_IMAGE**2 * (1 / n_images + 1 / n_reference)


def exposure_share(excess: np.ndarray, n_images: int, n_reference: int) -> np.ndarray:
    """Share of an image's own part that is exposure.

    Parameters
    ----------
    excess : ndarray of float of shape (n_fields,)
        How many times more the scanner's images vary than the reference's, by direction.
    n_images, n_reference : int
        Images that each of both variances is taken from.

    Returns
    -------
    ndarray of float of shape (n_fields,)
        In [0, 1): zero up to the largest excess that chance makes of two samples of one population, and soon above it
        the best linear estimate, ``1 - 1 / excess``.

    Notes
    -----
    The largest root of two sample covariances of k variables, ``y1 = k / (n1 - 1)``, ``y2 = k / (n2 - 1)``, comes to
    lie at ``((1 + sqrt(y1 + y2 - y1 y2)) / (1 - y2))**2`` (Wachter, Annals of Statistics 8(5), 1980).

    Examples
    --------
    >>> exposure_share(np.array([0.8, 1.5, 20.0]), 60, 60).round(2)
    array([0.  , 0.  , 0.95])
    >>> exposure_share(np.array([0.8, 1.5, 20.0]), 5, 60)
    array([0., 0., 0.])
    """
    if min(n_images, n_reference) < MIN_IMAGES:
        return np.zeros(excess.shape)
    first, second = excess.size / (n_images - 1), excess.size / (n_reference - 1)
    by_chance = ((1 + np.sqrt(first + second - first * second)) / (1 - second)) ** 2
    positive = np.maximum(excess, 1.0)
    return np.clip(np.minimum(1 - 1 / positive, 1 - (by_chance / positive) ** 2), 0, None)


def scatter(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance that a few odd points hardly move: Huber's M-estimate.

    Parameters
    ----------
    points : ndarray of float of shape (n_points, n_variables)

    Returns
    -------
    mean : ndarray of shape (n_variables,)
    covariance : ndarray of shape (n_variables, n_variables)

    Examples
    --------
    >>> points = np.random.default_rng(0).standard_normal((100, 2))
    >>> points[0] = 1000
    >>> bool(np.cov(points.T)[0, 0] > 9000), bool(scatter(points)[1][0, 0] < 1.5)
    (True, True)
    """
    n, n_variables = points.shape
    usual = chi2.ppf(0.975, n_variables)
    weight = np.ones(n)
    for _ in range(30):
        mean = np.sqrt(weight) @ points / np.sqrt(weight).sum()
        away = points - mean
        covariance = (away * weight[:, None]).T @ away / max(n - 1, 1)
        distance = np.einsum("ni,ij,nj->n", away, np.linalg.pinv(covariance, hermitian=True), away)
        weight = np.minimum(1, usual / np.maximum(distance, usual))
    return mean, covariance


def _exposure(sketches: np.ndarray, content: Content) -> Exposure:
    profiles = profile(sketches)
    expected = content.covariance + misfit_variance(len(sketches), content.n_images) * content.misfit
    excess, directions = eigh(scatter(profiles @ content.estimator.T)[1], expected)
    return Exposure(
        # The median, since an odd image must not shift what all others are corrected to.
        centre=np.median(profiles, axis=0),
        directions=directions.T @ content.estimator,
        largest=_LIMIT * np.sqrt(np.maximum(excess, 0)),
        share=exposure_share(excess, len(sketches), content.n_images),
        fields=expected @ directions,
    )


def _bounded(coefficients: np.ndarray) -> np.ndarray:
    # The logarithm of the slope is at most the steepest slope of the field.
    steepest = np.pi * np.abs(coefficients).sum(axis=1, keepdims=True)
    return coefficients * np.minimum(1, _STEEPEST / np.maximum(steepest, _STEEPEST))


def _estimator(covariance: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Generalized least squares, G above; covariances may be stacked."""
    variances = np.einsum("...ii->...i", covariance)
    ridge = (_RIDGE * variances + 1e-8)[..., None] * np.eye(covariance.shape[-1])
    weighed = np.linalg.solve(covariance + ridge, np.broadcast_to(slope, (*covariance.shape[:-1], slope.shape[1])))
    transposed = np.swapaxes(weighed, -1, -2)
    # No exposure shows on images that are black throughout.
    return np.linalg.solve(transposed @ slope + 1e-6 * np.eye(slope.shape[1]), transposed)


def _smooth_bend(source_quantiles: np.ndarray, target_quantiles: np.ndarray) -> np.ndarray:
    """Smooth curve on the grid that takes one distribution about to another, ends fixed."""
    bend = ToneCurve.through([0, *source_quantiles, 1], [0, *target_quantiles, 1]).table(N_GRID) - GRID
    bend[[0, -1]] = 0
    # Extended as an odd function the bend stays zero at both ends.
    period = np.concatenate([bend, -bend[-2:0:-1]])
    smooth = gaussian_filter1d(period, _SMOOTHNESS * (N_GRID - 1), mode="wrap")[:N_GRID]
    return np.maximum.accumulate(np.clip(GRID + smooth, 0, 1))
