"""What harmonizing does to the content of images: measures that a lower distance between scanners cannot buy.

:func:`psnr` and :func:`ssim` compare with the truth where there is one; without it they measure change, not quality.
:func:`edge_agreement` and :func:`rank_agreement` ask whether structure and order of grey values are those that came
in: a tone curve leaves both as they were, a method that invents structure does not;
:func:`~xray_harmonize.evaluation.structure.structure_agreement` tells the two apart exactly. :func:`curve_checks` looks
at the curves themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from xray_harmonize.evaluation.bootstrap import bootstrap_patients, interval
from xray_harmonize.evaluation.patients import patient_codes
from xray_harmonize.evaluation.structure import MEASURE, checked_pair, structure_agreement
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.images import ImageSet
from xray_harmonize.tone import ToneCurve

CONTENT_COLUMNS = ["measure", "scanner", "value", "low", "high", "n_images", "better"]
_SSIM_SIGMA = 1.5
_SSIM_SIDE = 11  # what scikit-image needs for a Gaussian of that width, truncated at 3.5 sigma
# Ranks of more pixels than this tell nothing more.
_MOST_RANKED = 20_000
_TABLE_LEVELS = 4096
_FLAT_SLOPE = 0.01


def psnr(image: ArrayLike, truth: ArrayLike, mask: ArrayLike | None = None, *, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio to the truth.

    Parameters
    ----------
    image, truth : array-like of float of shape (height, width)
        In units of which ``data_range`` spans the possible values, [0, 1] by default.
    mask : array-like of bool of shape (height, width), optional
        Pixels that count. Large dark borders raise the ratio, so give one where there are.
    data_range : float, default=1.0
        Fixed, never that of an image: it would differ between the two sides of a comparison.

    Returns
    -------
    float
        ``10 log10(data_range**2 / mean squared error)`` in decibel; infinite for equal images.

    Raises
    ------
    InvalidImageError
        If shapes differ, or no pixel counts.

    Examples
    --------
    >>> round(psnr(np.full((4, 4), 0.5), np.full((4, 4), 0.6)), 2)
    20.0
    """
    a, b, counted = checked_pair(image, truth, mask)
    error = float(np.mean(np.square(a - b)[counted]))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(image: ArrayLike, truth: ArrayLike, mask: ArrayLike | None = None, *, data_range: float = 1.0) -> float:
    """Structural similarity to the truth (Wang et al. 2004), with their Gaussian window of sigma 1.5.

    Parameters
    ----------
    image, truth : array-like of float of shape (height, width)
        At least 11 pixels a side.
    mask : array-like of bool of shape (height, width), optional
        Pixels over which the local index is averaged.
    data_range : float, default=1.0
        Fixed span of the possible values.

    Returns
    -------
    float
        1 for equal images; at most 1.

    Raises
    ------
    InvalidImageError
        If shapes differ, a side is too short for the window, or no pixel counts.

    Examples
    --------
    >>> round(ssim(np.eye(16), np.eye(16)), 3)
    1.0
    """
    from skimage.metrics import structural_similarity

    a, b, counted = checked_pair(image, truth, mask)
    if min(a.shape) < _SSIM_SIDE:
        raise InvalidImageError(f"SSIM needs at least {_SSIM_SIDE} pixels a side; got an image of shape {a.shape}.")
    _, local = structural_similarity(
        a, b, data_range=data_range, gaussian_weights=True, sigma=_SSIM_SIGMA, use_sample_covariance=False, full=True
    )
    return float(np.mean(local[counted]))


def edge_agreement(before: ArrayLike, after: ArrayLike, mask: ArrayLike | None = None) -> float:
    """How far edges stay where they were and point the way they did.

    The cosine of the angle between the gradients (Sobel) of both images, averaged over pixels. A pixel weighs as
    much as it has of the edges of both images on average, so that an edge which only one of them has counts against
    them.

    Parameters
    ----------
    before, after : array-like of float of shape (height, width)
    mask : array-like of bool of shape (height, width), optional

    Returns
    -------
    float
        Close to 1 behind any rising tone curve, about 0 for unrelated structure, -1 for an inverted image. 1 where
        neither image has an edge, 0 where only one of them has.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((32, 32))
    >>> bool(edge_agreement(image, image**2) > 0.95), round(edge_agreement(image, 1 - image), 6)
    (True, -1.0)
    """
    a, b, counted = checked_pair(before, after, mask)
    gradients = [np.stack([_sobel(one, 1, 0), _sobel(one, 0, 1)])[:, counted] for one in (a, b)]
    lengths = [np.hypot(*gradient) for gradient in gradients]
    sums = [float(length.sum()) for length in lengths]
    if not all(sums):
        return float(not any(sums))
    shares = [length / total for length, total in zip(lengths, sums, strict=True)]
    weights = (shares[0] + shares[1]) / 2
    product = lengths[0] * lengths[1]
    inner = (gradients[0] * gradients[1]).sum(axis=0)
    cosine = np.divide(inner, product, out=np.zeros_like(inner), where=product > 0)
    return float((weights * cosine).sum())


def rank_agreement(before: ArrayLike, after: ArrayLike, mask: ArrayLike | None = None) -> float:
    """Spearman's rank correlation between the pixels before and after: whether what was brighter still is.

    Parameters
    ----------
    before, after : array-like of float of shape (height, width)
        At most 20,000 evenly spaced pixels are looked at.
    mask : array-like of bool of shape (height, width), optional

    Returns
    -------
    float
        1 behind a strictly rising curve; lower where a curve is flat or a method is local. NaN where an image is
        constant, which has no order.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((8, 8))
    >>> round(rank_agreement(image, image**3), 6)
    1.0
    """
    from scipy.stats import spearmanr

    a, b, counted = checked_pair(before, after, mask)
    values = a[counted], b[counted]
    step = max(values[0].size // _MOST_RANKED, 1)
    thinned = [one[::step] for one in values]
    if any(one.size < 2 or one.min() == one.max() for one in thinned):
        return float("nan")
    return float(spearmanr(*thinned).statistic)


def curve_checks(curves: Sequence[ToneCurve]) -> pd.DataFrame:
    """Look at tone curves for what they may do to content.

    Parameters
    ----------
    curves : sequence of ToneCurve

    Returns
    -------
    DataFrame
        One row a curve: ``monotone`` (whether it never falls), ``max_slope`` (how much contrast, and noise, are
        amplified at most), ``lost`` (share of the grey values at which the curve is as good as flat, its slope below
        .01: what differed there no longer does), ``lowest`` and ``highest`` output.

    Examples
    --------
    >>> curve_checks([ToneCurve([0, 0.5, 1], [0, 1, 1])]).round(2).to_dict("records")
    [{'monotone': True, 'max_slope': 2.0, 'lost': 0.5, 'lowest': 0.0, 'highest': 1.0}]
    """
    rows = []
    for curve in curves:
        table = curve.table(_TABLE_LEVELS)
        rises = np.diff(table)
        rows.append(
            {
                "monotone": bool((rises >= 0).all()),
                "max_slope": curve.max_slope,
                "lost": float(np.mean(rises < _FLAT_SLOPE / (_TABLE_LEVELS - 1))),
                "lowest": float(table[0]),
                "highest": float(table[-1]),
            }
        )
    return pd.DataFrame(rows, columns=["monotone", "max_slope", "lost", "lowest", "highest"])


def content_measures(
    before: ImageSet,
    after: ImageSet,
    truth: ImageSet | None = None,
    *,
    n_bootstrap: int = 500,
    random_state: int | np.random.RandomState | None = 0,
) -> pd.DataFrame:
    """Measure what harmonizing did to every image, and average by scanner.

    Parameters
    ----------
    before, after : ImageSet
        The same images in the same order and of the same shapes, as they came and as they were harmonized.
    truth : ImageSet, optional
        The same bodies as the reference scanner renders them.
    n_bootstrap : int, default=500
        Resamples of the patients for intervals.
    random_state : int, RandomState or None, default=0

    Returns
    -------
    DataFrame
        Columns ``measure``, ``scanner`` ("all" for all together), ``value``, ``low`` and ``high`` (95 % interval of
        the mean over resampled patients), ``n_images`` and ``better`` ("higher", or "" where it only measures change).
        Measures are "edge agreement", "rank agreement", "structure agreement", "PSNR to the input", "SSIM to the
        input", and with truth "PSNR" and "SSIM".

    Raises
    ------
    InvalidParameterError
        If the sets differ in length.
    InvalidImageError
        If two images of a pair differ in shape.
    """
    sets = [before, after] if truth is None else [before, after, truth]
    if len({len(one) for one in sets}) > 1:
        raise InvalidParameterError(
            f"Expected the same images before and after harmonizing (and as truth); got {[len(one) for one in sets]}."
        )
    values = pd.DataFrame([_of_one(before, after, truth, i) for i in range(len(before))])
    # Infinite for equal images, which would make every mean infinite: 100 dB is beyond what 16 bits can tell.
    values = values.clip(upper=100.0)
    patient = patient_codes(before.patient, len(before))
    scanner = np.full(len(before), "", object) if before.scanner is None else before.scanner
    rows = []
    for name in ["all", *sorted(set(scanner) - {""})]:
        own = np.ones(len(before), dtype=bool) if name == "all" else scanner == name
        for measure in values:
            column = values.loc[own, measure].to_numpy(dtype=float)
            value, low, high = _mean(column, patient[own], n_bootstrap, random_state)
            better = "" if measure.endswith("input") else "higher"
            rows.append(dict(zip(CONTENT_COLUMNS, [measure, name, value, low, high, len(column), better], strict=True)))
    return pd.DataFrame(rows, columns=CONTENT_COLUMNS)


def _of_one(before: ImageSet, after: ImageSet, truth: ImageSet | None, i: int) -> dict[str, float]:
    seen, mask = before.unit(i), before.mask(i)
    given = _values(after, i)
    if given.shape != seen.shape:
        raise InvalidImageError(
            f"Image {i} has shape {seen.shape} before and {given.shape} after harmonizing; expected the same. Content "
            "is measured behind methods that keep pixels in place: crop or resize before both."
        )
    measured = {
        "edge agreement": edge_agreement(seen, given, mask),
        "rank agreement": rank_agreement(seen, given, mask),
        MEASURE: structure_agreement(seen, given, mask),
        "PSNR to the input": psnr(given, seen, mask),
        "SSIM to the input": ssim(given, seen, mask) if min(seen.shape) >= _SSIM_SIDE else float("nan"),
    }
    if truth is not None:
        true = truth.unit(i)
        measured["PSNR"] = psnr(given, true, mask)
        measured["SSIM"] = ssim(given, true, mask) if min(seen.shape) >= _SSIM_SIDE else float("nan")
    return measured


def _values(images: ImageSet, i: int) -> np.ndarray:
    """Pixels as floats; z-scores, which have no range, as they are."""
    pixels = images[i]
    return pixels if pixels.dtype.kind == "f" else images.unit(i)


def _mean(
    values: np.ndarray, patient: np.ndarray, n_bootstrap: int, random_state: int | np.random.RandomState | None
) -> tuple[float, float, float]:
    known = np.isfinite(values)
    if not known.any():
        return float("nan"), float("nan"), float("nan")
    values, patient = values[known], np.unique(patient[known], return_inverse=True)[1]

    def mean(weights: np.ndarray) -> np.ndarray:
        return (weights @ values) / weights.sum(axis=1)

    value, resampled = bootstrap_patients(mean, patient, n_bootstrap, random_state)
    low, high = interval(resampled) if n_bootstrap else (float("nan"), float("nan"))
    return float(value), low, high


def _sobel(image: np.ndarray, dx: int, dy: int) -> np.ndarray:
    return cv2.Sobel(image, cv2.CV_64F, dx, dy, ksize=3, borderType=cv2.BORDER_REFLECT)
