"""A fitted harmonizer over a whole archive: every file harmonized once, whatever happens on the way."""

from __future__ import annotations

from xray_harmonize.archive.apply import ArchiveProgress, ArchiveSummary, apply
from xray_harmonize.archive.outputs import FORMATS

__all__ = ["FORMATS", "ArchiveProgress", "ArchiveSummary", "apply"]
