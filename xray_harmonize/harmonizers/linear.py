"""Linear methods: full range, min-max, z-score and the display window (DICOM VOI functions)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.harmonizers.base import Harmonizer, ReferenceHarmonizer, Statistics, ToneCurveMixin
from xray_harmonize.harmonizers.foreground import check_foreground, foreground_counts
from xray_harmonize.levels import as_unit, full_scale, histogram, look_up, quantiles, stored_levels
from xray_harmonize.radiograph import Radiograph
from xray_harmonize.tone import ToneCurve
from xray_harmonize.windowing import window_values

VOI_LUT_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")

# Keeps the z-score of a constant image finite, as in the published code.
_SMALL = 1e-8
_NOTHING_COUNTS = "There is no pixel to take statistics of: the mask is empty. Check the mask."


def min_max_curve(low: float, high: float, range_low: float = 0.0, range_high: float = 1.0) -> ToneCurve:
    """Linear stretch that brings ``low`` to ``range_low`` and ``high`` to ``range_high``, clipped outside.

    ``y = (x - low) / (high - low) * (range_high - range_low) + range_low``

    Parameters
    ----------
    low, high : float
        Range of the image, in [0, 1], ``low <= high``; where they are equal, everything goes to ``range_low``.
    range_low, range_high : float
        Range to bring it to.

    Returns
    -------
    ToneCurve

    Examples
    --------
    >>> import numpy as np
    >>> min_max_curve(0.25, 0.75)(np.array([0.25, 0.5, 0.9]))
    array([0. , 0.5, 1. ])
    """
    if high <= low:
        return ToneCurve([0.0], [range_low])
    return ToneCurve([low, high], [range_low, range_high])


def z_score(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Subtract the mean and divide by the unbiased standard deviation (``ddof=1``) of the pixels that count.

    Parameters
    ----------
    image : ndarray of float32 of shape (height, width)
    mask : ndarray of bool of shape (height, width), optional
        Pixels that mean and deviation are taken of.

    Returns
    -------
    ndarray of float32 of shape (height, width)
        Unbounded; zero everywhere for a constant image.

    Examples
    --------
    >>> import numpy as np
    >>> z_score(np.array([[0.0, 1.0, 2.0]], dtype="float32"))
    array([[-1.,  0.,  1.]], dtype=float32)
    """
    inside = None if mask is None else np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    n_counted = image.size if inside is None else cv2.countNonZero(inside)
    if n_counted == 0:
        raise InvalidImageError(_NOTHING_COUNTS)
    image = np.ascontiguousarray(image, dtype=np.float32)
    # OpenCV sums in double precision without making a copy; the deviation is taken of differences, so that it is exact
    # for images of little contrast too.
    centered = image - np.float32(cv2.mean(image, mask=inside)[0])
    deviation = cv2.norm(centered, cv2.NORM_L2, mask=inside) / max(n_counted - 1, 1) ** 0.5
    centered /= np.float32(deviation + _SMALL)
    return centered


def z_scores(counts: np.ndarray) -> np.ndarray:
    """Z-score of every level of a histogram, as :func:`z_score` gives it for an image.

    Parameters
    ----------
    counts : ndarray of int of shape (n_levels,)
        Pixels that count, at equally spaced levels from 0 to 1.

    Returns
    -------
    ndarray of float64 of shape (n_levels,)

    Raises
    ------
    InvalidImageError
        If nothing was counted.

    Examples
    --------
    >>> z_scores(np.array([1, 1, 1])).round(3)
    array([-1.,  0.,  1.])
    """
    n_counted = int(counts.sum())
    if n_counted == 0:
        raise InvalidImageError(_NOTHING_COUNTS)
    stored = np.arange(counts.size)
    # The sum is one of integers, so that the one level of a constant image lies exactly at the mean.
    centered = (stored - counts @ stored / n_counted) / (counts.size - 1)
    deviation = (counts @ centered**2 / max(n_counted - 1, 1)) ** 0.5
    return centered / (deviation + _SMALL)


def window_function(x: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """DICOM VOI window (PS3.3 C.11.2.1.2 and C.11.2.1.3), to [0, 1].

    Parameters
    ----------
    x : ndarray of float
        Values in the window's units (stored values for a window from a header).
    center, width : float
        Window; ``width`` at least 1 for LINEAR and above 0 otherwise.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
        VOI LUT function. LINEAR carries the standard's half and one: the last value of the window is white, not the
        first beyond it.

    Returns
    -------
    ndarray of float64
        In [0, 1], non-decreasing in ``x``.

    Raises
    ------
    InvalidParameterError
        If the function is unknown or the width out of range.

    Examples
    --------
    >>> import numpy as np
    >>> window_function(np.array([0.0, 2047.5, 4095.0]), 2048, 4096)
    array([0. , 0.5, 1. ])
    """
    x = np.asarray(x, dtype=np.float64)
    if function == "LINEAR" and width < 1:
        raise InvalidParameterError(f"A LINEAR window needs a width of at least 1; got {width:g}.")
    if width <= 0:
        raise InvalidParameterError(f"A {function} window needs a width above 0; got {width:g}.")
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise InvalidParameterError(
            f"voi_lut_function must be 'LINEAR', 'LINEAR_EXACT' or 'SIGMOID'; got {function!r}."
        )
    return window_values(x, center, width, function)


def window_curve(center: float, width: float, function: str, scale: float) -> ToneCurve:
    """DICOM VOI window as a tone curve, see :func:`window_function`.

    Parameters
    ----------
    center, width : float
        Window, in the units of ``scale``; a LINEAR window narrower than 1 is a step, as one of width 1 is.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
        VOI LUT function.
    scale : float
        Full scale of the pixels.

    Returns
    -------
    ToneCurve
        SIGMOID is exact within 1e-5, the linear ones wholly.

    Examples
    --------
    >>> window_curve(2048, 1024, "LINEAR_EXACT", 4096)(0.5)
    array(0.5)
    """
    if function == "SIGMOID":
        # 12 window widths hold the whole of the logistic at 16 bits.
        near = (center + width * np.linspace(-6, 6, 2049)) / scale
        x = np.unique(np.concatenate([[0.0, 1.0], near[(near > 0) & (near < 1)]]))
        return ToneCurve(x, window_function(x * scale, center, width, function))
    shift, span = (0.5, max(width - 1, 0.0)) if function == "LINEAR" else (0.0, width)
    black = (center - shift - span / 2) / scale
    # A step between two stored values is a steep piece that starts at the last black one.
    white = max((center - shift + span / 2) / scale, black + 1e-9)
    x = np.unique(np.clip([0.0, black, white, 1.0], 0.0, 1.0))
    return ToneCurve(x, np.interp(x, [black, white], [0.0, 1.0]))


class FullRange(ToneCurveMixin, Harmonizer):
    """Full scale of the detector to [0, 1]: what everybody does who does nothing.

    See Also
    --------
    MinMax : stretches the range that an image uses.
    WindowClamp : stretches the range that it is displayed in.

    Examples
    --------
    >>> import numpy as np
    >>> FullRange().fit_transform(np.array([[[0, 51, 255]]], dtype="uint8"))
    array([[[0. , 0.2, 1. ]]], dtype=float32)
    """

    def _tone_curve(self, radiograph: Radiograph) -> ToneCurve:
        return ToneCurve.identity()


class MinMax(ToneCurveMixin, ReferenceHarmonizer):
    """Stretch the range that an image uses to a fixed range, or to the one the reference scanner uses.

    Parameters
    ----------
    percentiles : tuple of float, default=(0, 100)
        What counts as the lowest and the highest value; (1, 99) forgives markers and dead pixels.
    output_range : tuple of float or "reference", default=(0, 1)
        Range to bring images to; "reference" learns it, as the median over the reference's training images.
    foreground : {"all", "nonzero", "otsu"} or float, default="all"
        Pixels that percentiles are taken of, see :class:`CDFMatching`.
    reference : str, optional
        Scanner that the range is learned from; None for the one with most training images, "pooled" for all alike.
    scope : {"image", "scanner", "mixed"}, default="image"
        Whose range is stretched: each image's, its scanner's (the median over training images), or a mean of both.
    image_weight : float, default=0.5
        Weight of the image's own range with ``scope="mixed"``.
    unseen : {"error", "image"}, default="error"
        What to do with a scanner not seen in fit: refuse, or take the image's own range.

    Attributes
    ----------
    output_range_ : ndarray of shape (2,)
        Range that images are brought to.
    reference_, statistics_
        See :class:`~xray_harmonize.harmonizers.base.ReferenceHarmonizer`.

    Examples
    --------
    >>> import numpy as np
    >>> MinMax().fit_transform(np.array([[[50, 100, 150]]], dtype="uint8"))
    array([[[0. , 0.5, 1. ]]], dtype=float32)
    """

    def __init__(
        self,
        percentiles: tuple[float, float] = (0, 100),
        output_range: tuple[float, float] | str = (0.0, 1.0),
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
        _check_percentiles(self.percentiles)
        if self.output_range != "reference":
            check_pair("output_range", self.output_range, 0, 1)

    def _measure(self, radiograph: Radiograph) -> Statistics:
        counts = foreground_counts(radiograph, self.foreground)
        return {"range": quantiles(counts, np.asarray(self.percentiles) / 100)[None]}

    def _add(self, name: str, total: np.ndarray, more: np.ndarray) -> np.ndarray:
        # A median needs all values; they are two numbers an image.
        return np.concatenate([total, more]) if name == "range" else total + more

    def _summarize(self, total: Statistics) -> Statistics:
        return {"range": np.median(total["range"], axis=0)}

    def _learn(self, reference: Statistics) -> None:
        learned = reference["range"] if self.output_range == "reference" else self.output_range
        self.output_range_ = np.asarray(learned, dtype=np.float64)

    def _tone_curve(self, radiograph: Radiograph) -> ToneCurve:
        low, high = self._source_statistics(radiograph)["range"]
        return min_max_curve(float(low), float(high), *self.output_range_.tolist())


class ZScore(Harmonizer):
    """Zero mean and unit deviation of every image, inside its mask.

    The result is not bounded to [0, 1], so it cannot feed methods that need that range; it has no tone curve either.

    Examples
    --------
    >>> import numpy as np
    >>> ZScore().fit_transform(np.array([[[0, 1, 2]]], dtype="uint8")).round(3)
    array([[[-1.,  0.,  1.]]], dtype=float32)
    """

    def _render(self, radiograph: Radiograph) -> np.ndarray:
        if radiograph.pixels.dtype.kind == "f":
            return z_score(as_unit(radiograph.pixels), radiograph.mask)
        levels, n_levels = stored_levels(radiograph.pixels, radiograph.bits_stored)
        counts = histogram(levels, n_levels.bit_length() - 1, radiograph.mask)
        return look_up(levels, z_scores(counts))


class WindowClamp(ToneCurveMixin, Harmonizer):
    """Apply a display window: what a radiologist saw, or a robust range.

    Parameters
    ----------
    window : {"meta", "percentiles"} or tuple of float, default="meta"
        "meta" takes ``window_center`` and ``window_width`` of the image's metadata, in units of its pixels, and
        percentiles where it has none; a tuple is (center, width) in fractions of full scale, for all images.
    percentiles : tuple of float, default=(1, 99)
        Range where no window is known.
    voi_lut_function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}, optional
        None takes what the metadata says, and LINEAR where they say nothing. Windows in fractions of full scale and
        from percentiles are LINEAR_EXACT then: the standard's half and one belong to integers.

    Notes
    -----
    PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Examples
    --------
    >>> import numpy as np
    >>> WindowClamp(window=(0.5, 0.5)).fit_transform(np.array([[[0.25, 0.5, 0.75]]])).round(3)
    array([[[0. , 0.5, 1. ]]], dtype=float32)
    """

    def __init__(
        self,
        window: str | tuple[float, float] = "meta",
        percentiles: tuple[float, float] = (1, 99),
        *,
        voi_lut_function: str | None = None,
    ) -> None:
        self.window = window
        self.percentiles = percentiles
        self.voi_lut_function = voi_lut_function

    def _check_parameters(self) -> None:
        _check_percentiles(self.percentiles)
        if self.voi_lut_function is not None:
            window_function(np.zeros(1), 0.5, 1.0, self.voi_lut_function)
        if isinstance(self.window, str):
            if self.window not in ("meta", "percentiles"):
                raise InvalidParameterError(
                    f"window must be 'meta', 'percentiles' or (center, width); got {self.window!r}."
                )
        elif np.shape(self.window) != (2,) or not self.window[1] > 0:
            raise InvalidParameterError(
                f"window must be (center, width) in fractions of full scale, width above 0; got {self.window!r}."
            )

    def _tone_curve(self, radiograph: Radiograph) -> ToneCurve:
        scale = full_scale(radiograph.pixels.dtype, radiograph.bits_stored)
        center, width, function = self._find_window(radiograph, scale)
        return window_curve(center, width, function, scale)

    def _find_window(self, radiograph: Radiograph, scale: float) -> tuple[float, float, str]:
        """Give center, width in units of the pixels, and function."""
        if not isinstance(self.window, str):
            return self.window[0] * scale, self.window[1] * scale, self.voi_lut_function or "LINEAR_EXACT"
        if self.window == "meta":
            center, width = (radiograph.meta.get(f"window_{part}") for part in ("center", "width"))
            if center is not None and width is not None:
                function = self.voi_lut_function or str(radiograph.meta.get("voi_lut_function") or "LINEAR")
                return _window_from_header(center, width, function)
        counts = histogram(radiograph.pixels, radiograph.bits_stored, radiograph.mask)
        low, high = quantiles(counts, np.asarray(self.percentiles) / 100) * scale
        return (low + high) / 2, max(high - low, 1e-6 * scale), self.voi_lut_function or "LINEAR_EXACT"


def _window_from_header(center: Any, width: Any, function: str) -> tuple[float, float, str]:
    """Check a window that a file told: nothing read from a file is trusted."""
    smallest = 1.0 if function == "LINEAR" else 0.0
    try:
        center, width = float(center), float(width)
    except (TypeError, ValueError):
        center = width = np.nan
    if not (np.isfinite(center) and np.isfinite(width) and width > 0 and width >= smallest):
        raise InvalidImageError(
            f"the metadata's display window is unusable: window_center={center}, window_width={width}, "
            f"voi_lut_function={function}; expected numbers, and a width {'of at least 1' if smallest else 'above 0'}. "
            "Correct or drop it, or set window='percentiles'."
        )
    if function not in VOI_LUT_FUNCTIONS:
        raise InvalidImageError(
            f"the metadata's voi_lut_function is {function!r}; expected one of {', '.join(VOI_LUT_FUNCTIONS)}. "
            "Correct it, or set voi_lut_function."
        )
    return center, width, function


def _check_percentiles(percentiles: tuple[float, float]) -> None:
    check_pair("percentiles", percentiles, 0, 100)


def check_pair(name: str, pair: object, low: float, high: float) -> None:
    """Refuse what is not two rising numbers from ``low`` to ``high``.

    Raises
    ------
    InvalidParameterError
    """
    values = np.asarray(pair, dtype=object)
    if values.shape != (2,) or not low <= values[0] < values[1] <= high:
        raise InvalidParameterError(f"{name} must be two rising numbers from {low} to {high}; got {pair!r}.")
