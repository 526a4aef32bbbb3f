"""Which pixels count: padding and shutter become a mask, the collimator is told as it is written.

A collimator is a shadow in the image, a shutter a decision of the writer that nothing beyond it is to be seen, padding
a value that never was a measurement. Only the latter two are certain, so only they are masked here.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from xray_harmonize.dicom.header import PixelHeader
from xray_harmonize.exceptions import XRayHarmonizeWarning

Shutters = dict[str, np.ndarray]

_EDGES = ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")


def counted_pixels(dataset: Dataset, stored: np.ndarray, header: PixelHeader, shutters: Shutters) -> np.ndarray | None:
    """Mark the pixels that are neither padding nor behind the display shutter.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The file.
    stored : ndarray of shape (rows, columns)
        Stored values, before rescale and polarity: padding is a stored value (PS3.3 C.7.5.1.1.2).
    header : PixelHeader
        Checked attributes of the pixels.
    shutters : dict
        As :func:`shutter_openings` gives them.

    Returns
    -------
    ndarray of bool of shape (rows, columns) or None
        None where every pixel counts.
    """
    mask = np.ones(stored.shape, dtype=bool)
    padding = padding_range(dataset, header)
    if padding is not None:
        mask &= (stored < padding[0]) | (stored > padding[1])
    for opening in shutters.values():
        mask &= opening
    return None if mask.all() else mask


def shutter_openings(dataset: Dataset, header: PixelHeader, name: str) -> Shutters:
    """Open the display shutters (PS3.3 C.7.6.11): what is seen lies within all of them.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The file.
    header : PixelHeader
        Checked attributes of the pixels.
    name : str
        What warnings call the file.

    Returns
    -------
    dict of str to ndarray of bool of shape (rows, columns)
        True where a shutter of this shape leaves the image to be seen. One that leaves nothing, or whose position
        cannot be read, is left out with a warning.
    """
    shape = (header.rows, header.columns)
    openings: Shutters = {}
    for kind in _shutter_shapes(dataset):
        opening = _OPENINGS[kind](dataset, shape)
        if opening is None or not opening.any():
            warnings.warn(
                f"{name}: the {kind} display shutter (0018,1600) leaves nothing of the {shape[0]} x "
                f"{shape[1]} image, or its position cannot be read; expected an opening inside the image. "
                "It is left out.",
                XRayHarmonizeWarning,
                stacklevel=2,
            )
            continue
        openings[kind] = opening
    return openings


def padding_range(dataset: Dataset, header: PixelHeader) -> tuple[int, int] | None:
    """Smallest and largest stored value that stand for "no pixel", both included (PS3.3 C.7.5.1.1.2).

    Pixel Padding Range Limit may lie on either side of Pixel Padding Value.
    """
    value = numbers(dataset, "PixelPaddingValue")
    if not value:
        return None
    first = header.in_pixel_representation(int(value[0]))
    limit = numbers(dataset, "PixelPaddingRangeLimit")
    last = header.in_pixel_representation(int(limit[0])) if limit else first
    return min(first, last), max(first, last)


def collimator(dataset: Dataset, header: PixelHeader) -> dict[str, Any]:
    """Rectangular collimator edges as the file has them (PS3.3 C.8.7.3).

    Returns
    -------
    dict
        ``collimator_left``, ``_right``, ``_upper``, ``_lower``: columns and rows counted from 1, None where absent.
        ``collimator_in_pixels``: False where they cannot be positions in this image, since some devices write
        millimetres from the central ray; None where there are none.
    """
    edges = [numbers(dataset, f"Collimator{edge}") for edge in _EDGES]
    values = [int(edge[0]) if edge else None for edge in edges]
    plausible: bool | None = None
    if None not in values:
        left, right, upper, lower = (int(value) for value in values if value is not None)
        plausible = 0 <= left < right <= header.columns + 1 and 0 <= upper < lower <= header.rows + 1
    names = ("left", "right", "upper", "lower")
    return {
        **{f"collimator_{side}": value for side, value in zip(names, values, strict=True)},
        "collimator_in_pixels": plausible,
    }


def _shutter_shapes(dataset: Dataset) -> list[str]:
    """Shapes of the display shutter (PS3.3 C.7.6.11): what is seen lies within all of them."""
    value = dataset.get("ShutterShape") or []
    shapes = [value] if isinstance(value, str) else list(value)
    return [shape for shape in (str(shape).strip().upper() for shape in shapes) if shape in _OPENINGS]


def _rectangle(dataset: Dataset, shape: tuple[int, ...]) -> np.ndarray | None:
    """Open a rectangular shutter; rows and columns on its edges, counted from 1, are seen."""
    edges = [numbers(dataset, f"Shutter{edge}") for edge in _EDGES]
    if not all(edges):
        return None
    left, right, upper, lower = (int(edge[0]) for edge in edges)
    opening = np.zeros(shape, dtype=bool)
    opening[max(upper - 1, 0) : max(lower, 0), max(left - 1, 0) : max(right, 0)] = True
    return opening


def _circle(dataset: Dataset, shape: tuple[int, ...]) -> np.ndarray | None:
    """Open a circular shutter, its centre as row and column counted from 1."""
    center = numbers(dataset, "CenterOfCircularShutter")
    radius = numbers(dataset, "RadiusOfCircularShutter")
    if len(center) != 2 or not radius:
        return None
    rows = (np.arange(1, shape[0] + 1)[:, None] - center[0]) ** 2
    columns = (np.arange(1, shape[1] + 1)[None, :] - center[1]) ** 2
    # Compared without the sum of the two, which would be eight bytes a pixel
    return columns <= radius[0] ** 2 - rows


def _polygon(dataset: Dataset, shape: tuple[int, ...]) -> np.ndarray | None:
    """Open a polygonal shutter, its vertices as row and column in turn, counted from 1."""
    vertices = numbers(dataset, "VerticesOfThePolygonalShutter")
    if len(vertices) < 6 or len(vertices) % 2:
        return None
    # Vertices may lie beyond the image, but not so far that the rasterizer's integers overflow
    reach = 4 * max(shape)
    bounded = [min(max(vertex, -reach), reach) for vertex in vertices]
    canvas = Image.new("1", (shape[1], shape[0]))
    corners = [(column - 1, row - 1) for row, column in zip(bounded[::2], bounded[1::2], strict=True)]
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    return np.array(canvas, dtype=bool)


_OPENINGS = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """Read all values of a numeric attribute, none where it is absent or holds anything but finite numbers."""
    try:
        value = dataset.get(keyword)
        if value is None or isinstance(value, str):
            values = []
        elif isinstance(value, (int, float)):
            values = [float(value)]
        else:
            values = [float(item) for item in value]
    except Exception:  # a damaged element raises whatever its parser does
        return []
    return values if all(np.isfinite(values)) else []
