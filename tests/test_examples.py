"""The gallery runs, at a size that shows nothing."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("plot_*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, monkeypatch):
    monkeypatch.setenv("XRAY_HARMONIZE_EXAMPLE_PATIENTS", "32")
    with mpl.rc_context({"backend": "agg", "figure.max_open_warning": 0}):
        found = runpy.run_path(str(path))
    assert found["__doc__"].lstrip().splitlines()[1].startswith("===")
