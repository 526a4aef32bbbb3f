"""Reports: the page of a comparison and that of an audit, each one HTML file that needs nothing else.

``html.py`` takes the results of a comparison (:class:`ReportData`) and writes the file, ``tables.py`` turns the summary
into the table, ``plots.py`` draws. ``audit_page.py``, ``audit_tables.py`` and ``audit_summary.py``, ``audit_plots.py``
do so for an audit. ``page.py``, ``pictures.py``, ``densities.py`` and ``tone_words.py`` serve both.
"""

from __future__ import annotations

from xray_harmonize.report.html import ReportData, Sample, render_report, write_report

__all__ = ["ReportData", "Sample", "render_report", "write_report"]
