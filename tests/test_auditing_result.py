"""The result of an audit as tables, files, a page and what a notebook shows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from audit_images import made

from xray_harmonize import audit
from xray_harmonize.auditing.result import AuditResult


@pytest.fixture(scope="module")
def result() -> AuditResult:
    X, y = made((("A", 12), ("<b>B</b>", 8)), side=16, gap=0.3)
    return audit(
        X, y, harmonizers=["min-max"], image_size=16, controls=False, n_permutations=20, n_bootstrap=20, n_refits=20
    )


def test_the_reference_comes_first(result):
    assert result.scanners == ["A", "<b>B</b>"]
    assert result.overview["scanner"].tolist() == result.scanners


def test_the_verdict_is_a_sentence_a_line(result):
    assert result.verdict().splitlines() == result.conclusions


def test_a_notebook_shows_the_verdict_and_the_table_and_escapes_names(result):
    shown = result._repr_html_()
    assert shown.count("<li>") == len(result.conclusions)
    assert "&lt;b&gt;B&lt;/b&gt;" in shown
    assert "<b>B</b>" not in shown
    assert "<th>difference_low</th>" in shown


def test_without_a_task_a_notebook_shows_the_gap(result):
    from dataclasses import replace

    assert "<th>p_value</th>" in replace(result, task=None)._repr_html_()


def test_tables_are_written_whole_and_read_back(result, tmp_path):
    written = result.save_tables(tmp_path / "new" / "folder")
    assert [path.name for path in written] == [
        "overview.csv",
        "domain.csv",
        "content.csv",
        "curves.csv",
        "task.csv",
        "cautions.csv",
        "embeddings.csv",
    ]
    task = pd.read_csv(written[4])
    assert task.columns.tolist() == result.task.columns.tolist()
    assert np.allclose(task["auc"], result.task["auc"])
    cautions = pd.read_csv(tmp_path / "new" / "folder" / "cautions.csv")
    assert cautions.columns.tolist() == ["severity", "name", "what", "means", "do"]
    assert len(cautions) == len(result.cautions)


def test_a_page_is_written(result, tmp_path):
    path = result.to_html(tmp_path / "audit.html")
    assert path == tmp_path / "audit.html"
    assert "<b>B</b>" not in path.read_text(encoding="utf-8")


def test_a_repr_holds_no_pixels(result):
    for name in ("samples=", "histograms=", "tone_curves="):
        assert name not in repr(result)
