"""Tone curves: monotone maps of grey values that can be applied, inverted, bounded, drawn and exported."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.levels import check_unit_range, level_grid, look_up, stored_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_FEW_KNOTS = 16


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
            As :func:`xray_harmonize.levels.as_unit`.
        """
        pixels = np.asarray(image)
        if pixels.dtype.kind == "f" and not (pixels.ndim == 2 and pixels.dtype.itemsize < 8):
            if pixels.size:
                check_unit_range(pixels, "The array")
            exact = np.interp(pixels.astype(np.float64, copy=False), self.x, self.y)
            return np.asarray(exact).astype(pixels.dtype, copy=False)
        levels, n_levels = stored_levels(pixels, bits_stored)
        return look_up(levels, self.table(n_levels))

    def table(self, n_levels: int) -> np.ndarray:
        """Values of the curve at ``n_levels`` equally spaced levels from 0 to 1, as float64 of shape (n_levels,)."""
        grid = level_grid(n_levels)
        if self.x.size > _FEW_KNOTS:
            return np.asarray(np.interp(grid, self.x, self.y))
        # Windows and linear stretches have a handful of knots: their pieces are filled several times faster than every
        # level looks for its piece.
        values = np.empty(n_levels)
        ends = np.searchsorted(grid, self.x).tolist()
        values[: ends[0]], values[ends[-1] :] = self.y[0], self.y[-1]
        for piece, (start, end) in enumerate(pairwise(ends)):
            slope = (self.y[piece + 1] - self.y[piece]) / (self.x[piece + 1] - self.x[piece])
            values[start:end] = slope * (grid[start:end] - self.x[piece]) + self.y[piece]
        return values

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
