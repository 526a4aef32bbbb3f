"""One radiograph brought to its frame: pixels and mask together, so that they stay on each other."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from xray_harmonize.exceptions import InvalidImageError
from xray_harmonize.geometry.cropping import Crop, find_crop
from xray_harmonize.geometry.foreground import Box
from xray_harmonize.geometry.resampling import Shape, background_level, cut, padded, resampled
from xray_harmonize.radiograph import Radiograph

FILLS = ("aspect", "square", "stretch")
# Set in the meta of what was moved: positions that a header gives are then positions no more.
MOVED = "pixels_moved"


def crop_of(radiograph: Radiograph, use_collimator: bool, **how: Any) -> Crop:
    """Find what to keep of one image within its mask and the collimator of its header."""
    mask, note = radiograph.mask, ""
    if use_collimator:
        frame, note = _collimator(radiograph, how["min_fraction"])
        if frame is not None:
            framed = np.zeros(radiograph.pixels.shape, dtype=bool)
            opening = slice(frame[0], frame[1]), slice(frame[2], frame[3])
            framed[opening] = True if mask is None else mask[opening]
            mask = framed
    try:
        found = find_crop(radiograph.pixels, mask, **how)
    except InvalidImageError as error:
        raise InvalidImageError(f"{radiograph.name or 'The image'} {error}") from None
    if radiograph.mask is not None and not radiograph.mask.all():
        note = "; mask" + note
    return replace(found, reason=found.reason + note)


def _collimator(radiograph: Radiograph, min_fraction: float) -> tuple[Box | None, str]:
    """Collimated field as the header gives it, and what to say about it.

    Edges are rows and columns counted from 1 (DICOM PS3.3 C.8.7.3). Some devices write millimetres
    from the central ray instead: those mostly lie outside of the image, or enclose next to nothing.
    """
    meta, (height, width) = radiograph.meta, radiograph.pixels.shape
    edges: list[Any] = [meta.get(f"collimator_{side}") for side in ("upper", "lower", "left", "right")]
    if meta.get(MOVED) or any(edge is None or edge != edge for edge in edges):
        return None, ""
    unused = "; collimator edges in the header are no positions in the image, not used"
    if not all(isinstance(edge, Real) for edge in edges):
        return None, unused
    upper, lower, left, right = (round(float(edge)) for edge in edges)
    fits = 0 <= upper < lower <= height + 1 and 0 <= left < right <= width + 1
    large = (lower - upper) * (right - left) >= min_fraction * height * width
    if not (fits and large and meta.get("collimator_in_pixels", True)):
        return None, unused
    frame = max(upper - 1, 0), min(lower, height), max(left - 1, 0), min(right, width)
    whole = frame == (0, height, 0, width)
    return (None, "") if whole else (frame, "; collimator edges in the header")


def cropped(radiograph: Radiograph, fill: str, size: Shape | None, settings: dict[str, Any]) -> Radiograph:
    """Crop one image and bring it to its frame."""
    found = crop_of(radiograph, **settings)
    mask = radiograph.mask
    if mask is not None or found.angle:
        counts = np.ones(radiograph.pixels.shape, bool) if mask is None else mask
        mask = cut(counts.astype(np.float32), found.box, found.angle, outside=0.0) > 0.5
    pixels = cut(radiograph.pixels, found.box, found.angle)
    return resized(replace(radiograph, pixels=pixels, mask=mask), fill, size)


def resized(radiograph: Radiograph, fill: str, size: Shape | None) -> Radiograph:
    """Bring one image to its frame; without a size pixels keep theirs."""
    pixels, mask = radiograph.pixels, radiograph.mask
    height, width = pixels.shape
    target = size or ((max(height, width),) * 2 if fill == "square" else (height, width))
    inner = target
    if fill != "stretch":
        factor = min(target[0] / height, target[1] / width)
        inner = max(1, round(height * factor)), max(1, round(width * factor))
    pixels = resampled(pixels, inner)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InvalidImageError(
            f"{radiograph.name or 'The image'} holds NaN or infinite pixels, which would spread; "
            "replace them, or leave the image out."
        )
    if mask is not None:
        mask = resampled(mask.astype(np.float32), inner) > 0.5
    if fill == "square" and inner != target:
        mask = padded(np.ones(inner, dtype=bool) if mask is None else mask, target, False)
        pixels = padded(pixels, target, background_level(radiograph.pixels, radiograph.mask))
    return replace(radiograph, pixels=pixels, mask=mask, meta={**radiograph.meta, MOVED: True})
