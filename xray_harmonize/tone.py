"""Tone curves, histograms and lookup: the one fast core under every global method.

A global method looks at an image through its histogram and answers with a monotone curve, so it costs one histogram
and one lookup an image, whatever the method. OpenCV does both: its 16-bit histogram and lookup are several times faster
than ``numpy.bincount`` and fancy indexing (``benchmarks/tone_speed.py``).

Integers are stored values, full scale is ``2**bits_stored - 1``. Floats lie in [0, 1]; float32 images are read at
16-bit resolution, the depth of the deepest detectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOAT_LEVELS = 65536
_BITS_OF_ONE = int(np.float32(1).view(np.int32))

# OpenCV gives counts as float32, which are exact up to here.
_PIXELS_A_PIECE = 2**24

# Probabilities at which quantile functions are kept: dense in the middle, geometric towards both tails, so that a
# collimator edge of a few pixels and a metal marker keep their own place on the curve.
_TAIL = np.geomspace(1e-6, 1 / 1024, 32, endpoint=False)
PROBABILITIES: np.ndarray = np.concatenate([[0.0], _TAIL, np.arange(1, 1024) / 1024, 1 - _TAIL[::-1], [1.0]])
PROBABILITIES.setflags(write=False)


def full_scale(dtype: Any, bits_stored: int | None = None) -> float:
    """Largest value a pixel can hold.

    Parameters
    ----------
    dtype : dtype-like
        Type of the pixels.
    bits_stored : int, optional
        Bits in use, for integers; None or 0 stands for all bits of ``dtype``.

    Returns
    -------
    float
        ``2**bits_stored - 1`` for unsigned integers, 1.0 for floats.

    Raises
    ------
    InvalidImageError
        If pixels are neither unsigned integers nor floats, or ``bits_stored`` does not fit the type.

    Examples
    --------
    >>> full_scale("uint16", 12)
    4095.0
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return 1.0
    if dtype.kind != "u":
        raise InvalidImageError(
            f"Pixels must be unsigned integers (stored values) or floats in [0, 1]; got {dtype}. "
            "Convert them first, for example with image.astype('uint16')."
        )
    bits = bits_stored or 8 * dtype.itemsize
    if not 1 <= bits <= 8 * dtype.itemsize:
        raise InvalidImageError(
            f"bits_stored={bits} does not fit pixels of type {dtype}; expected 1 to {8 * dtype.itemsize}."
        )
    return float(2**bits - 1)


def _check_float_range(image: np.ndarray, name: str) -> None:
    if image.dtype == np.float32 and image.flags.c_contiguous and image.ndim == 2:
        # As integers, the bits of floats in [0, 1] lie between those of 0 and 1; those of all others, NaN too, do not.
        lowest, highest, _, _ = cv2.minMaxLoc(image.view(np.int32))
        if lowest >= 0 and highest <= _BITS_OF_ONE:
            return
    low, high = float(np.min(image)), float(np.max(image))
    if np.isnan(low) or np.isnan(high):
        raise InvalidImageError(f"{name} holds NaN; expected numbers in [0, 1]. Mask or fill these pixels first.")
    if low < 0 or high > 1:
        raise InvalidImageError(
            f"{name} holds floats from {low:g} to {high:g}; expected [0, 1]. "
            "Divide by the full scale of the detector, or pass integers as stored values with bits_stored."
        )


def stored_levels(image: np.ndarray, bits_stored: int | None = None, name: str = "The image") -> tuple[np.ndarray, int]:
    """Bring an image to the equally spaced levels that histograms count and lookups read.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        Stored values, or floats in [0, 1].
    bits_stored : int, optional
        Bits in use, for integers.
    name : str
        What an error calls the image.

    Returns
    -------
    levels : ndarray of uint8 or uint16 of shape (height, width)
        Contiguous; the image itself where it can be.
    n_levels : int
        ``2**bits_stored`` up to 16 bits, 65,536 for deeper ones and floats.

    Raises
    ------
    InvalidImageError
        As :func:`as_unit`.

    Examples
    --------
    >>> stored_levels(np.array([[0.0, 0.5, 1.0]]))
    (array([[    0, 32768, 65535]], dtype=uint16), 65536)
    """
    if image.ndim != 2 or image.size == 0:
        raise InvalidImageError(f"{name} has shape {image.shape}; expected a 2-D image with at least one pixel.")
    n_levels = int(full_scale(image.dtype, bits_stored)) + 1
    if image.dtype.kind == "f":
        _check_float_range(image, name)
        # Scaling in float32 and rounding to the nearest level happen in one pass.
        levels = cv2.multiply(np.ascontiguousarray(image, dtype=np.float32), float(FLOAT_LEVELS - 1), dtype=cv2.CV_16U)
        return levels.reshape(image.shape), FLOAT_LEVELS
    _checked_maximum(image, n_levels, name)
    if image.dtype.itemsize > 2:
        if n_levels <= FLOAT_LEVELS:
            return image.astype(np.uint16), n_levels
        scaled = image / (n_levels - 1) * (FLOAT_LEVELS - 1)
        return np.rint(scaled).astype(np.uint16), FLOAT_LEVELS
    native = image.astype(image.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(native), n_levels


def _checked_maximum(image: np.ndarray, n_levels: int, name: str) -> None:
    if n_levels >= 2 ** (8 * image.dtype.itemsize):
        return
    largest = int(image.max())
    if largest >= n_levels:
        raise InvalidImageError(
            f"{name} holds the stored value {largest}, above the full scale {n_levels - 1} of its bits_stored. "
            "Give the right bits_stored."
        )


def _count(levels: np.ndarray, n_levels: int) -> np.ndarray:
    n_pieces = min(-(-levels.size // _PIXELS_A_PIECE), levels.shape[0])
    pieces = [levels] if n_pieces == 1 else np.array_split(levels, n_pieces)
    counts = np.zeros(n_levels, dtype=np.int64)
    for piece in pieces:
        counts += cv2.calcHist([piece], [0], None, [n_levels], [0.0, float(n_levels)]).ravel().astype(np.int64)
    return counts


def _count_inside(levels: np.ndarray, n_levels: int, mask: np.ndarray) -> np.ndarray:
    # OpenCV's own masked histogram is several times slower than blackening the outside and taking it off again.
    inside = np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    counts = _count(cv2.copyTo(levels, inside).reshape(levels.shape), n_levels)
    counts[0] -= mask.size - cv2.countNonZero(inside)
    return counts


def as_unit(image: ArrayLike, bits_stored: int | None = None, *, name: str = "The image") -> np.ndarray:
    """Pixels as floats in [0, 1] of full scale, never of the image's own range.

    Parameters
    ----------
    image : array-like of shape (height, width)
        Stored values (unsigned integers) or floats in [0, 1].
    bits_stored : int, optional
        Bits in use, for integers; the dtype's bits where unknown.
    name : str
        What an error calls the image.

    Returns
    -------
    ndarray of float32 of shape (height, width)
        New memory.

    Raises
    ------
    InvalidImageError
        If floats lie outside [0, 1] or are NaN, or integers exceed the full scale.

    Examples
    --------
    >>> import numpy as np
    >>> as_unit(np.array([[0, 4095]], dtype="uint16"), bits_stored=12)
    array([[0., 1.]], dtype=float32)
    """
    pixels = np.asarray(image)
    if pixels.ndim != 2 or pixels.size == 0:
        raise InvalidImageError(f"{name} has shape {pixels.shape}; expected a 2-D image with at least one pixel.")
    scale = full_scale(pixels.dtype, bits_stored)
    if pixels.dtype.kind == "f":
        _check_float_range(pixels, name)
        return pixels.astype(np.float32)
    _checked_maximum(pixels, int(scale) + 1, name)
    return np.divide(pixels, scale, dtype=np.float64 if pixels.dtype.itemsize > 2 else np.float32).astype(
        np.float32, copy=False
    )


def histogram(
    image: ArrayLike, bits_stored: int | None = None, mask: np.ndarray | None = None, *, name: str = "The image"
) -> np.ndarray:
    """Count the pixels of every level.

    Parameters
    ----------
    image : array-like of shape (height, width)
        Stored values, or floats in [0, 1], which are counted at 65,536 levels.
    bits_stored : int, optional
        Bits in use, for integers.
    mask : ndarray of bool of shape (height, width), optional
        Pixels to count; all where None.
    name : str
        What an error calls the image.

    Returns
    -------
    ndarray of int64 of shape (n_levels,)
        ``n_levels`` is ``2**bits_stored`` for integers, 65,536 for floats.

    Raises
    ------
    InvalidImageError
        As :func:`as_unit`, and if the mask has another shape than the image.

    Examples
    --------
    >>> import numpy as np
    >>> histogram(np.array([[0, 3, 3]], dtype="uint8"), bits_stored=2)
    array([1, 0, 0, 2])
    """
    pixels = np.asarray(image)
    levels, n_levels = stored_levels(pixels, bits_stored, name)
    if mask is not None and mask.shape != pixels.shape:
        raise InvalidImageError(f"{name} has shape {pixels.shape} but its mask {mask.shape}; expected the same.")
    return _count(levels, n_levels) if mask is None else _count_inside(levels, n_levels, mask)


def quantiles(counts: np.ndarray, probabilities: ArrayLike = PROBABILITIES) -> np.ndarray:
    """Quantile function of a histogram, by linear interpolation of the mid-distribution function.

    A level holding many pixels sits in the middle of its step of the distribution function, so that the quantile
    function of an image and that of the same image at another bit depth agree within a level.

    Parameters
    ----------
    counts : ndarray of shape (n_levels,)
        Pixels a level, at equally spaced levels from 0 to 1.
    probabilities : array-like of float
        Where to evaluate, in [0, 1]; 0 and 1 give the lowest and the highest level present.

    Returns
    -------
    ndarray of float64
        Levels in [0, 1], non-decreasing where ``probabilities`` are.

    Raises
    ------
    InvalidImageError
        If nothing was counted.

    Examples
    --------
    >>> import numpy as np
    >>> quantiles(np.array([1, 0, 2, 0, 1]), [0, 0.5, 1])
    array([0. , 0.5, 1. ])
    """
    present = np.flatnonzero(counts)
    if present.size == 0:
        raise InvalidImageError(
            "There is no pixel to take statistics of: the mask or the foreground is empty. "
            "Check the mask, or choose another foreground."
        )
    weight = counts[present].astype(np.float64)
    middle = (np.cumsum(weight) - 0.5 * weight) / weight.sum()
    values = np.interp(np.asarray(probabilities, dtype=np.float64), middle, present / (counts.size - 1))
    return np.asarray(values)


def look_up(levels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Put a value of a table in the place of every level.

    Parameters
    ----------
    levels : ndarray of uint8 or uint16 of shape (height, width)
        Contiguous, all below ``len(table)``.
    table : ndarray of float of shape (n_levels,)

    Returns
    -------
    ndarray of float32 of shape (height, width)
        New memory.

    Examples
    --------
    >>> look_up(np.array([[0, 1, 1]], dtype="uint8"), np.array([0.25, 0.75]))
    array([[0.25, 0.75, 0.75]], dtype=float32)
    """
    # OpenCV wants a table for all values of the type.
    whole = np.zeros(2 ** (8 * levels.dtype.itemsize), dtype=np.float32)
    whole[: len(table)] = table
    return cv2.LUT(levels, whole).reshape(levels.shape)


class ToneCurve:
    """Monotone map of [0, 1] to [0, 1], linear between its knots and constant beyond them.

    Parameters
    ----------
    x : array-like of float of shape (n_knots,)
        Where the knots stand, strictly increasing, in [0, 1].
    y : array-like of float of shape (n_knots,)
        Values there, non-decreasing, in [0, 1].

    Raises
    ------
    InvalidParameterError
        If the knots are no monotone map of [0, 1] to [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> brighten = ToneCurve([0, 0.5, 1], [0, 0.8, 1])
    >>> brighten(np.array([[0, 2048, 4095]], dtype="uint16"), bits_stored=12).round(2)
    array([[0. , 0.8, 1. ]], dtype=float32)
    >>> float(brighten.inverse()(0.8))
    0.5
    """

    __slots__ = ("x", "y")

    def __init__(self, x: ArrayLike, y: ArrayLike) -> None:
        self.x = np.array(x, dtype=np.float64)
        self.y = np.array(y, dtype=np.float64)
        if self.x.ndim != 1 or self.x.shape != self.y.shape or self.x.size == 0:
            raise InvalidParameterError(
                f"A tone curve needs as many x as y, in one dimension; got shapes {self.x.shape} and {self.y.shape}."
            )
        # The negated comparisons also refuse NaN.
        if not (self.x[0] >= 0 and self.x[-1] <= 1 and np.all(np.diff(self.x) > 0)):
            raise InvalidParameterError("The x of a tone curve must rise strictly within [0, 1].")
        if not (self.y[0] >= 0 and self.y[-1] <= 1 and np.all(np.diff(self.y) >= 0)):
            raise InvalidParameterError("The y of a tone curve must not fall and must stay within [0, 1].")
        self.x.setflags(write=False)
        self.y.setflags(write=False)

    @classmethod
    def identity(cls) -> ToneCurve:
        """Give the curve that changes nothing."""
        return cls([0.0, 1.0], [0.0, 1.0])

    @classmethod
    def through(cls, x: ArrayLike, y: ArrayLike) -> ToneCurve:
        """Make a curve through points that may share an x: these become one knot at their mean y.

        Parameters
        ----------
        x, y : array-like of float of shape (n_points,)
            In any order, ``y`` non-decreasing where ``x`` rises; clipped to [0, 1].

        Returns
        -------
        ToneCurve
        """
        x = np.clip(np.asarray(x, dtype=np.float64), 0.0, 1.0)
        y = np.clip(np.asarray(y, dtype=np.float64), 0.0, 1.0)
        knots, member = np.unique(x, return_inverse=True)
        mean = np.bincount(member, weights=y) / np.bincount(member)
        # Averaging rounds: a mean may fall below its predecessor by one unit in the last place.
        return cls(knots, np.minimum(np.maximum.accumulate(mean), 1.0))

    def __call__(self, image: ArrayLike, bits_stored: int | None = None) -> np.ndarray:
        """Apply the curve.

        Parameters
        ----------
        image : array-like
            Stored values (unsigned integers, 2-D), or floats in [0, 1]: 2-D float32 images go through a 16-bit lookup,
            everything else is interpolated exactly.
        bits_stored : int, optional
            Bits in use, for integers.

        Returns
        -------
        ndarray of float32
            New memory, values in [0, 1]; float64 where float64 came in.

        Raises
        ------
        InvalidImageError
            As :func:`as_unit`.
        """
        pixels = np.asarray(image)
        if pixels.dtype.kind == "f" and not (pixels.ndim == 2 and pixels.dtype.itemsize < 8):
            if pixels.size:
                _check_float_range(pixels, "The array")
            exact = np.interp(pixels.astype(np.float64, copy=False), self.x, self.y)
            return np.asarray(exact).astype(pixels.dtype, copy=False)
        levels, n_levels = stored_levels(pixels, bits_stored)
        return look_up(levels, self.table(n_levels))

    def table(self, n_levels: int) -> np.ndarray:
        """Values of the curve at ``n_levels`` equally spaced levels from 0 to 1, as float64 of shape (n_levels,)."""
        return np.asarray(np.interp(np.arange(n_levels) / (n_levels - 1), self.x, self.y))

    @property
    def max_slope(self) -> float:
        """Steepest slope: how much the curve amplifies contrast, and noise, at most."""
        if self.x.size == 1:
            return 0.0
        return float(np.max(np.diff(self.y) / np.diff(self.x)))

    def inverse(self) -> ToneCurve:
        """Give the curve that undoes this one; where this one is flat, it returns to the middle of the flat part."""
        values, start, count = np.unique(self.y, return_index=True, return_counts=True)
        first, last, flat = self.x[start], self.x[start + count - 1], count > 1
        # A flat part inverts to a jump: steep pieces just below and just above its value, so narrow that the curve
        # stays right between two flat parts.
        gap = np.diff(values, prepend=-1.0, append=2.0)
        room = np.minimum(1e-9, np.minimum(gap[:-1], gap[1:]) / 4)
        x = np.concatenate([(values - room)[flat], values, (values + room)[flat], [0.0, 1.0]])
        y = np.concatenate([first[flat], (first + last) / 2, last[flat], self.x[[0, -1]]])
        within = (x >= 0) & (x <= 1)
        # The ends of the range are knots of their own only where the curve does not reach them.
        within[-2:] = values[0] > 0, values[-1] < 1
        return ToneCurve.through(x[within], y[within])

    def compose(self, first: ToneCurve) -> ToneCurve:
        """Give the curve that applies ``first`` and then this one.

        Parameters
        ----------
        first : ToneCurve
            The inner curve.

        Returns
        -------
        ToneCurve
            ``x -> self(first(x))``, exact.
        """
        # The composition bends where the inner curve bends and where it crosses a knot of the outer one.
        crossings = []
        for x0, x1, y0, y1 in zip(first.x[:-1], first.x[1:], first.y[:-1], first.y[1:], strict=True):
            inside = self.x[(self.x > y0) & (self.x < y1)]
            crossings.append(x0 + (inside - y0) / (y1 - y0) * (x1 - x0) if inside.size else inside)
        knots = np.unique(np.concatenate([first.x, *crossings]))
        return ToneCurve.through(knots, np.interp(np.interp(knots, first.x, first.y), self.x, self.y))

    def to_voi_lut(self, bits_stored: int, bits_output: int = 16) -> tuple[tuple[int, int, int], np.ndarray]:
        """Express the curve as a DICOM VOI LUT (PS3.3 C.11.2.1.1).

        Parameters
        ----------
        bits_stored : int
            Bits of the stored values that the LUT takes, 1 to 16.
        bits_output : int, default=16
            Bits of an entry, 8 to 16.

        Returns
        -------
        descriptor : tuple of int
            Number of entries (0 stands for 65,536), first value mapped, bits of an entry.
        data : ndarray of uint16 of shape (2**bits_stored,)

        Raises
        ------
        InvalidParameterError
            If a number of bits is out of range.

        Examples
        --------
        >>> ToneCurve.identity().to_voi_lut(2, 8)
        ((4, 0, 8), array([  0,  85, 170, 255], dtype=uint16))
        """
        if not (1 <= bits_stored <= 16 and 8 <= bits_output <= 16):
            raise InvalidParameterError(
                f"A VOI LUT takes 1 to 16 bits and gives 8 to 16; got bits_stored={bits_stored}, "
                f"bits_output={bits_output}."
            )
        data = np.rint(self.table(2**bits_stored) * (2**bits_output - 1)).astype(np.uint16)
        return (2**bits_stored % 65536, 0, bits_output), data

    def plot(self, ax: Axes | None = None, **line: Any) -> Axes:
        """Draw the curve over the diagonal.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure otherwise.
        **line
            Passed on to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(4, 4), layout="constrained").subplots()
        ax.axline((0, 0), slope=1, color="0.8", linewidth=1, zorder=0)
        ax.plot(np.concatenate([[0.0], self.x, [1.0]]), np.concatenate([self.y[:1], self.y, self.y[-1:]]), **line)
        ax.set(xlabel="input, fraction of full scale", ylabel="output", xlim=(0, 1), ylim=(0, 1))
        return ax

    def __eq__(self, other: object) -> bool:
        """Tell whether two curves have the same knots."""
        if not isinstance(other, ToneCurve):
            return NotImplemented
        return np.array_equal(self.x, other.x) and np.array_equal(self.y, other.y)

    def __hash__(self) -> int:
        """Hash by value, as equality compares."""
        return hash((self.x.tobytes(), self.y.tobytes()))

    def __repr__(self) -> str:
        """Show the number of knots and the range."""
        return f"ToneCurve({self.x.size} knots, {self.y[0]:.3g} to {self.y[-1]:.3g}, max_slope={self.max_slope:.3g})"
