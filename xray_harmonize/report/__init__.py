"""The report of a comparison: one HTML file that needs nothing else.

``html.py`` takes the results (:class:`ReportData`) and writes the file, ``tables.py`` turns the summary into the table,
``plots.py`` draws.
"""

from __future__ import annotations

from xray_harmonize.report.html import ReportData, Sample, render_report, write_report

__all__ = ["ReportData", "Sample", "render_report", "write_report"]
