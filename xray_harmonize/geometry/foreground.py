"""Which pixels of a radiograph are body: those brighter than air, in thick and large parts.

Decided on a copy of at most 256 pixels, stretched to its own range, so that depth, units and size
of the image make no difference.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.geometry.collimation import BoolArray, FloatArray
from xray_harmonize.thresholding import otsu_levels

Box = tuple[int, int, int, int]
"""(top, bottom, left, right), ends exclusive."""

LONGEST = 256


def thumbnail(
    pixels: np.ndarray, mask: np.ndarray | None = None, longest: int = LONGEST
) -> tuple[FloatArray, BoolArray]:
    """Shrink an image by averaging, and stretch the lower 99 % of its range to [0, 1].

    Parameters
    ----------
    pixels : ndarray of shape (height, width)
        Any real dtype.
    mask : bool ndarray of the same shape, optional
        What counts.
    longest : int, default=256
        Longest side of the result; smaller images stay as they are.

    Returns
    -------
    thumb : float32 ndarray
        All zeros where the image is constant.
    inside : bool ndarray of the same shape
        Where more than half of what was averaged counts.

    Raises
    ------
    InvalidImageError
        If a pixel is NaN or infinite.

    Examples
    --------
    >>> thumb, inside = thumbnail(np.arange(512 * 768, dtype="uint32").reshape(512, 768))
    >>> thumb.shape, bool(inside.all())
    ((171, 256), True)
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InvalidImageError(
            "holds NaN or infinite pixels, and a body cannot be found among them; replace them, or leave the image out."
        )
    height, width = pixels.shape
    # of huge images every k-th pixel will do: four or more a side still make one of the result
    step = max(1, max(height, width) // (4 * longest))
    # float32 before averaging: 8 and 16 bits of one image must give one result
    thumb = pixels[::step, ::step].astype(np.float32)
    inside = np.ones(thumb.shape, dtype=bool) if mask is None else mask[::step, ::step].astype(bool)
    factor = min(1.0, longest / max(height, width))
    if factor < 1:
        shape = (max(1, round(height * factor)), max(1, round(width * factor)))
        thumb = _averaged(thumb, shape)
        inside = _averaged(inside.astype(np.float32), shape) > 0.5
    counted = thumb[inside] if inside.any() else thumb
    low, high = float(counted.min()), float(np.percentile(counted, 99))
    # a letter of lead on an otherwise empty image still is something
    high = high if high > low else float(counted.max())
    if high <= low:
        return np.zeros_like(thumb), inside
    return np.clip((thumb - np.float32(low)) / np.float32(high - low), 0, 1), inside


def _averaged(image: FloatArray, shape: tuple[int, int]) -> FloatArray:
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA).reshape(shape)


def otsu_split(values: FloatArray) -> float:
    """Find the level between the two classes of values that differ most: the middle of the gap between them.

    Parameters
    ----------
    values : float32 ndarray in [0, 1]

    Returns
    -------
    float

    Examples
    --------
    >>> round(otsu_split(np.array([0.1, 0.1, 0.7, 0.7], dtype="float32")), 2)
    0.4
    """
    counts, edges = np.histogram(values, bins=256, range=(0.0, 1.0))
    darker_end, brighter_start = otsu_levels(counts)
    return float((edges[darker_end + 1] + edges[brighter_start]) / 2)


def body_mask(thumb: FloatArray, field: BoolArray, threshold: float = 0.35) -> BoolArray:
    """Mark what is brighter than air, less the lines, letters and plates that lie apart from it.

    Parameters
    ----------
    thumb : float32 ndarray of shape (height, width) in [0, 1]
    field : bool ndarray of the same shape
        Where a body may be.
    threshold : float, default=0.35
        Where a body begins on the way from the level of air (0; the darkest 1 %) to Otsu's (1).

    Returns
    -------
    bool ndarray of the same shape
    """
    values = thumb[field]
    if not len(values) or values.max() <= values.min():
        return np.zeros_like(field)
    # Air may have been masked already, as padding: dark pixels tell its level inside or out.
    darkest = float(np.percentile(values, 1))
    values = thumb[field | (thumb <= darkest)]
    air = float(np.percentile(values, 1))
    found = field & (thumb > air + threshold * (otsu_split(values) - air))
    # lines along the edges of a field are one or two pixels thick at this size
    size = max(3, max(thumb.shape) // 32 | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    padded = np.pad(found.astype(np.uint8), size, mode="edge")
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, kernel)[size:-size, size:-size]
    n_parts, parts, statistics, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(opened & field), connectivity=4
    )
    if n_parts < 2:
        return np.zeros_like(field)
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    # two legs, two hands: parts of like size are all the patient's
    return np.asarray((areas >= 0.2 * areas.max())[parts])


def bounding_box(mask: BoolArray) -> Box:
    """Find the smallest box around the True pixels; all zeros where there are none.

    Examples
    --------
    >>> bounding_box(np.array([[False, False], [False, True]]))
    (1, 2, 1, 2)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def turned(image: FloatArray | BoolArray, angle: float) -> Any:
    """Turn an image or a mask about its center, by degrees counter-clockwise.

    A mask is False in what comes in from outside, an image repeats its border there.
    """
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    if image.dtype == bool:
        return cv2.warpAffine(image.astype(np.float32), matrix, (width, height)) > 0.5
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
