"""Geometry: transformers that bring bodies to one frame, and how the frame is found."""

from __future__ import annotations

from xray_harmonize.geometry.transformers import CropForeground, Resize

__all__ = ["CropForeground", "Resize"]
