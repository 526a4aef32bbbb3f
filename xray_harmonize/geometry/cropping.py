"""What to keep of a radiograph: the box around its exposed body, and the tilt of its collimation.

Bright bands are taken away first (`collimation`), what is brighter than air is body (`foreground`),
and the lines that a collimator left on its sides give the tilt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xray_harmonize.geometry.collimation import (
    SIDES,
    BoolArray,
    FloatArray,
    StraightEdge,
    bright_bands,
    facing,
    straight_sides,
    tilt,
)
from xray_harmonize.geometry.foreground import Box, body_mask, bounding_box, thumbnail, turned

# A smaller tilt moves nothing by more than a pixel or two, and resampling would cost sharpness.
LEAST_ANGLE = 0.5
# Of fewer pixels a side, lines and bodies cannot be told apart.
FEWEST = 16
NARROWEST = 0.05


@dataclass(frozen=True, slots=True)
class Crop:
    """What to keep of an image.

    Attributes
    ----------
    box : tuple of int
        (top, bottom, left, right), ends exclusive, in the image turned by ``-angle``.
    angle : float
        Tilt of the collimation in degrees, counter-clockwise as seen on a screen.
    reason : str
        What decided, or why the whole image is kept.
    """

    box: Box
    angle: float
    reason: str


def find_crop(
    pixels: np.ndarray,
    mask: BoolArray | None = None,
    *,
    threshold: float = 0.35,
    margin: float = 0.02,
    min_fraction: float = 0.1,
    deskew: bool = True,
) -> Crop:
    """Find the exposed body of one radiograph.

    Parameters
    ----------
    pixels : ndarray of shape (height, width)
        Air dark.
    mask : bool ndarray of the same shape, optional
        What counts (no padding, no shutter, no collimator).
    threshold : float, default=0.35
        As `body_mask` takes it.
    margin : float, default=0.02
        Kept around the body where nothing straight ends it, as a fraction of its longer side.
    min_fraction : float, default=0.1
        To find less than this share of the image is to find nothing.
    deskew : bool, default=True
        Turn a tilted field upright.

    Returns
    -------
    Crop
        Never beyond the image; the whole image, with the reason, where no body is found.

    Raises
    ------
    InvalidImageError
        If a pixel is NaN or infinite.
    """
    height, width = pixels.shape
    whole = (0, height, 0, width)
    thumb, inside = thumbnail(pixels, mask)
    if min(thumb.shape) < FEWEST:
        return Crop(whole, 0.0, f"whole image: {height} x {width} pixels are too few or too long")
    allowed = bounding_box(inside)
    if min(allowed[1] - allowed[0], allowed[3] - allowed[2]) < FEWEST:
        return Crop(whole, 0.0, "whole image: what counts is next to nothing")
    found = _find_body(thumb, inside, allowed, threshold)
    if not found.body.any():
        return Crop(whole, 0.0, "whole image: no body, all of it has one level")
    # OpenCV turns no image beyond this size
    angle = found.angle if deskew and max(height, width) < 32767 else 0.0
    body, field = found.body, found.field
    if abs(angle) < LEAST_ANGLE:
        angle = 0.0
    else:
        thumb = turned(thumb, -angle)
        body, field = turned(body, -angle), turned(field, -angle)
    box = _with_margin(bounding_box(body), found.sides, bounding_box(field), thumb, margin)
    top, bottom = (round(place * height / body.shape[0]) for place in box[:2])
    left, right = (round(place * width / body.shape[1]) for place in box[2:])
    if mask is not None and not angle:
        exact = bounding_box(mask)
        top, bottom = max(top, exact[0]), min(bottom, exact[1])
        left, right = max(left, exact[2]), min(right, exact[3])
    kept = (bottom - top) * (right - left) / (height * width)
    if kept < min_fraction:
        return Crop(whole, 0.0, f"whole image: a body of {kept:.3f} of it is below min_fraction")
    if bottom - top < NARROWEST * height or right - left < NARROWEST * width:
        return Crop(whole, 0.0, "whole image: the body would be a strip")
    reason = "body" if angle or (top, bottom, left, right) != whole else "body fills the image"
    if found.bands:
        reason += "; bright bands " + ", ".join(side for side in SIDES if side in found.bands)
    return Crop((top, bottom, left, right), angle, reason)


@dataclass(frozen=True, slots=True)
class _Found:
    """A body and the field it lies in, on the small image."""

    body: BoolArray
    field: BoolArray
    bands: dict[str, StraightEdge]
    sides: dict[str, StraightEdge]
    angle: float


def _find_body(thumb: FloatArray, inside: BoolArray, allowed: Box, threshold: float) -> _Found:
    """Find body and field within a box, as if nothing were around it."""
    within = slice(allowed[0], allowed[1]), slice(allowed[2], allowed[3])
    image = thumb[within]
    inner_field, bands = bright_bands(image, inside[within])
    inner_body = body_mask(image, inner_field, threshold)
    box = bounding_box(inner_body)
    sides = straight_sides(image, inner_body, box) if inner_body.any() else {}
    limits = (0, image.shape[0], 0, image.shape[1])
    votes = {
        # the image's own border ends a body that reaches it, and leaves at best a wedge
        side: replace(edge, share=edge.share / 2) if box[k] == limits[k] else edge
        for k, side in enumerate(SIDES)
        if (edge := sides.get(side)) is not None
    }
    ends = bounding_box(inner_field)
    reached = {side for k, side in enumerate(SIDES) if abs(box[k] - ends[k]) <= 2}
    sides |= {side: edge for side, edge in bands.items() if side in reached}
    body, field = np.zeros_like(inside), np.zeros_like(inside)
    body[within], field[within] = inner_body, inner_field
    return _Found(body, field, bands, sides, tilt({**votes, **bands}))


def _with_margin(box: Box, sides: dict[str, StraightEdge], field: Box, thumb: FloatArray, margin: float) -> Box:
    """Widen a box by the margin, but never past a straight edge that ends it.

    The outermost line along such an edge may average what lies on both of its sides: then it goes.
    """
    around = round(margin * max(box[1] - box[0], box[3] - box[2]))
    limits = (0, thumb.shape[0], 0, thumb.shape[1])
    image = thumb[box[0] : box[1], box[2] : box[3]]
    moved = list(box)
    for k, side in enumerate(SIDES):
        outwards = 1 if k % 2 else -1
        if side not in sides:
            # beyond the field lies what was taken away for a reason
            widened = box[k] + outwards * around
            moved[k] = min(widened, field[k]) if k % 2 else max(widened, field[k])
        elif box[k] != limits[k]:
            lines = facing(image, side)
            mixed = np.median(np.abs(lines[0] - lines[min(2, len(lines) - 1)])) > 0.1
            moved[k] = box[k] - outwards * int(mixed)
    return moved[0], moved[1], moved[2], moved[3]
