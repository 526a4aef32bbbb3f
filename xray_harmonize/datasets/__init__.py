"""Simulated radiographs of known patients on known scanners.

:func:`make_cohort` draws bodies (:mod:`.breast`, :mod:`.chest`), exposes them (:mod:`.physics`) and stores them as a
vendor would (:mod:`.responses`, :mod:`.vendors`).
"""

from __future__ import annotations

from xray_harmonize.datasets.classes import CLASSES
from xray_harmonize.datasets.cohort import Cohort, make_cohort
from xray_harmonize.datasets.physics import Acquisition
from xray_harmonize.datasets.responses import ToneResponse
from xray_harmonize.datasets.vendors import PRESETS, VendorPreset

__all__ = ["CLASSES", "PRESETS", "Acquisition", "Cohort", "ToneResponse", "VendorPreset", "make_cohort"]
