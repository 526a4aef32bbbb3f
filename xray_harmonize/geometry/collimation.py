"""Where a collimator, a shutter or a border of paper ends: along straight, sharp lines.

That is what tells them from anatomy: a saturated abdomen ends in two domes, skin in a soft curve.
The lines are found on a small copy of the image with levels in [0, 1], air being dark; their slope
is the tilt of the collimation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

SIDES = ("top", "bottom", "left", "right")
# Technicians tilt a collimator by a few degrees; steeper lines belong to arms, tables, prostheses.
STEEPEST = 12.0
# A collimator leaves no band that reaches the middle.
DEEPEST = 0.45

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StraightEdge:
    """A line along one side of an image: ``depth = offset + slope * position``.

    Attributes
    ----------
    offset : float
        Pixels from the side to the line at position 0.
    slope : float
        Change of that depth per pixel along the side (downwards for left and right).
    share : float
        Share of the side's lines that end on it, in [0, 1].
    """

    offset: float
    slope: float
    share: float

    def depth(self, position: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Pixels from the side to the line, at positions along the side."""
        return self.offset + self.slope * np.asarray(position, dtype=np.float64)


def facing(image: np.ndarray, side: str) -> np.ndarray:
    """View of an image whose row 0 is the outermost line of `side`."""
    return {"top": image, "bottom": image[::-1], "left": image.T, "right": image.T[::-1]}[side]


def band_depths(outside: np.ndarray) -> npt.NDArray[np.intp]:
    """How many pixels are `outside` before the first that is not, from row 0 down each column.

    Examples
    --------
    >>> band_depths(np.array([[True, True, False], [False, True, True]])).tolist()
    [1, 2, 0]
    """
    depths = np.argmin(outside, axis=0)
    depths[outside.all(axis=0)] = len(outside)
    return depths


def straight_edge(depths: npt.NDArray[np.intp], valid: BoolArray, tolerance: float = 1.0) -> StraightEdge | None:
    """Find the line that most of the valid depths lie on.

    Takes, of all slopes on a grid, the densest window of offsets, so that outliers (a head, an arm,
    a letter) do no harm even where they are the majority. Least squares over the inliers refine it.

    Parameters
    ----------
    depths : int ndarray of shape (n,)
        Depth at each position along a side.
    valid : bool ndarray of shape (n,)
        Positions that may lie on the line.
    tolerance : float, default=1.0
        Largest distance from the line, in pixels.

    Returns
    -------
    StraightEdge or None
        None where fewer than 8 positions agree. ``share`` counts them among all n.

    Examples
    --------
    >>> depths = np.array([9, 9, 9, 3, 9, 9, 9, 9, 9, 1])
    >>> straight_edge(depths, depths > 0).share
    0.8
    """
    position = np.flatnonzero(valid)
    if len(position) < 8:
        return None
    depth = depths[position].astype(np.float64)
    steepest = np.tan(np.radians(STEEPEST))
    # neighbouring slopes part by one tolerance over the length of the side
    n_slopes = 2 * int(np.ceil(steepest * len(depths) / tolerance)) + 1
    slopes = np.linspace(-steepest, steepest, n_slopes)
    offsets = depth - slopes[:, None] * position
    # count in bins of a quarter of the tolerance: 9 of them hold what lies 2 tolerances apart
    bins = ((offsets - offsets.min()) * (4 / tolerance)).astype(np.intp)
    n_bins = int(bins.max()) + 1 + 9
    flat = bins + np.arange(n_slopes)[:, None] * n_bins
    running = np.bincount(flat.ravel(), minlength=n_slopes * n_bins).reshape(n_slopes, n_bins)
    running = np.pad(running.cumsum(axis=1), ((0, 0), (1, 0)))
    in_window = running[:, 9:] - running[:, :-9]
    best, start = np.unravel_index(int(np.argmax(in_window)), in_window.shape)
    n_agreeing = int(in_window[best, start])
    if n_agreeing < 8:
        return None
    on_line = (bins[best] >= start) & (bins[best] < start + 9)
    center = position[on_line].mean()
    along = position[on_line] - center
    slope = float(along @ depth[on_line] / (along @ along))
    return StraightEdge(float(depth[on_line].mean() - slope * center), slope, n_agreeing / len(depths))


def bright_bands(thumb: FloatArray, inside: BoolArray) -> tuple[BoolArray, dict[str, StraightEdge]]:
    """Find white borders and unexposed bands behind a collimator.

    A side has one if its outermost line is bright (or flat and not dark) and enough of what is
    connected to that line ends at one straight line, where the image changes at once.

    Parameters
    ----------
    thumb : float32 ndarray of shape (height, width) in [0, 1]
    inside : bool ndarray of the same shape
        What may count at all.

    Returns
    -------
    field : bool ndarray of the same shape
        `inside` without the bands.
    edges : dict of StraightEdge
        By side ("top", "bottom", "left", "right"), those that have a band.
    """
    field = inside.copy()
    edges: dict[str, StraightEdge] = {}
    for side in ("left", "right", "top", "bottom"):
        image, seen = facing(thumb, side), facing(field, side)
        outermost = image[0][seen[0]]
        if min(image.shape) < 16 or len(outermost) < image.shape[1] / 2:
            continue
        edge = _band_edge(image, seen, outermost, DEEPEST * len(image))
        if edge is None:
            continue
        # Diaphragms and levels of fluid lie across a body: there, less than half a side is believed
        # only of a shallow band, which no lung can be lost with.
        far = float(edge.depth([0, image.shape[1] - 1]).max())
        across = side in ("top", "bottom") and far > 0.06 * len(image)
        if edge.share >= (0.55 if across else 0.35) * seen[0].mean():
            edges[side] = edge
            depths = edge.depth(np.arange(image.shape[1]))
            seen &= np.arange(len(image))[:, None] >= depths
    return field, edges


def _band_edge(image: FloatArray, seen: BoolArray, outermost: FloatArray, deepest: float) -> StraightEdge | None:
    """Inner edge of the bright band along row 0, None where there is none."""
    n_rows, n_columns = image.shape
    level = float(np.median(outermost))
    low, high = np.percentile(outermost, [10, 90])
    bright = level >= 0.7
    if not bright and (level < 0.3 or high - low > 0.02):
        return None
    in_band = image > level - 0.15 if bright else np.abs(image - level) < 0.05
    depths = band_depths(in_band | ~seen)
    edge = straight_edge(depths, (depths > 0) & (depths < deepest) & seen[0])
    if edge is None or edge.depth([0, n_columns - 1]).max() > deepest:
        return None
    # the focal spot and scatter blur the edge over a few per cent of the image
    profile = _level_behind(image, edge, reach=max(3, n_rows // 25))
    change = np.maximum(level - profile, 0) if bright else np.abs(level - profile)
    if change.max() < 0.15:
        return None
    return replace(edge, offset=edge.offset + int(np.argmax(change >= 0.75 * change.max())))


def _level_behind(image: FloatArray, edge: StraightEdge, reach: int) -> npt.NDArray[np.float64]:
    """Median level 0, 1, ... `reach` pixels behind an edge."""
    rows = np.rint(edge.depth(np.arange(image.shape[1]))).astype(int)
    crossed = np.flatnonzero((rows >= 0) & (rows < len(image) - reach))
    behind = rows[crossed] + np.arange(reach + 1)[:, None]
    return np.asarray(np.median(image[behind, crossed], axis=1))


def straight_sides(thumb: FloatArray, body: BoolArray, box: tuple[int, int, int, int]) -> dict[str, StraightEdge]:
    """Find the sides of a body that a collimator may have cut.

    They are straight over 45 % of the body's extent or more, and dark from one pixel to the next:
    skin has a soft edge, as rays pass ever less of it.

    Parameters
    ----------
    thumb : float32 ndarray of shape (height, width) in [0, 1]
    body : bool ndarray of the same shape
    box : tuple of int
        (top, bottom, left, right) of the body, ends exclusive.

    Returns
    -------
    dict of StraightEdge
        By side; ``share`` is relative to the body's extent along it.
    """
    edges: dict[str, StraightEdge] = {}
    top, bottom, left, right = box
    for side in SIDES:
        image, depths = facing(thumb, side), band_depths(~facing(body, side))
        extent = slice(left, right) if side in ("top", "bottom") else slice(top, bottom)
        along = np.zeros(len(depths), dtype=bool)
        along[extent] = True
        edge = straight_edge(depths, along & (depths > 0) & (depths < 0.6 * len(image)))
        if edge is None:
            continue
        edge = replace(edge, share=edge.share * len(depths) / (extent.stop - extent.start))
        if edge.share < 0.45:
            continue
        position = np.arange(len(depths))
        column = np.flatnonzero(along & (np.abs(edge.depth(position) - depths) <= 1.5))
        row = depths[column]
        before = image[np.maximum(row - 2, 0), column]
        behind = image[np.minimum(row + 2, len(image) - 1), column]
        if np.median(behind - before) >= 0.3:
            edges[side] = edge
    return edges


def tilt(edges: Mapping[str, StraightEdge]) -> float:
    """How far edges lean, in degrees, counter-clockwise as seen on a screen.

    Edges that agree within 1.5 degrees vote together, each with its share, and are believed where the
    shares add up to 0.7. A collimator's opposite blades are parallel: where opposite edges disagree,
    at least one is anatomy (flanks lean against each other) and neither votes.

    Examples
    --------
    >>> round(tilt({"bottom": StraightEdge(20.0, 0.0349, 0.9)}), 2)
    2.0
    >>> tilt({"left": StraightEdge(5.0, 0.1, 0.9), "right": StraightEdge(5.0, 0.1, 0.9)})
    0.0
    """
    # depth grows downwards from the top and rightwards from the left, the other way opposite
    votes = {
        side: float(np.degrees(np.arctan(edge.slope))) * (-1 if side in ("top", "right") else 1)
        for side, edge in edges.items()
    }
    for one, opposite in (SIDES[:2], SIDES[2:]):
        if one in votes and opposite in votes and abs(votes[one] - votes[opposite]) > 1.5:
            del votes[one], votes[opposite]
    best, believed = 0.0, 0.7
    for center in votes.values():
        agreeing = [side for side, angle in votes.items() if abs(angle - center) <= 1.5]
        total = sum(edges[side].share for side in agreeing)
        if total >= believed:
            best = sum(edges[side].share * votes[side] for side in agreeing) / total
            believed = total
    return best
