"""Flow charts of a choice of images, the draw, and the table that is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.catalog.selection import Flow, draw, write_table
from xray_harmonize.dicom.age import age_in_years
from xray_harmonize.exceptions import NotEnoughImagesError


def images(n: int) -> pd.DataFrame:
    numbers = np.arange(n)
    return pd.DataFrame(
        {
            "path": [f"{number:03d}" for number in numbers],
            "label": numbers % 2,
            "scanner": np.where(numbers % 3, "GE", "Fuji"),
            "patient": [f"p{number // 5}" for number in numbers],
        }
    )


def test_flow_counts_images_and_patients() -> None:
    flow = Flow("Ward")
    rows = flow.start(images(10), "all")
    rows = flow.keep(rows, rows["label"] == 1, "ill", column="label", expected="1")
    assert rows["path"].tolist() == ["001", "003", "005", "007", "009"]
    assert flow.table().to_dict("list") == {"step": ["all", "ill"], "images": [10, 5], "patients": [2, 2]}


def test_step_that_leaves_none_tells_what_there_was() -> None:
    rows = images(10).assign(view=["AP", None, "PA", "PA", "PA", "LL", "1", "2", "3", "4"])
    with pytest.raises(
        NotEnoughImagesError,
        match=r"Ward: no image is left after the step 'oblique'; expected some with view 'LAO', the 10 image\(s\) "
        r"before it have 'PA' \(3\), .*nothing \(1\).*, and 3 more\. Look again\.",
    ):
        Flow("Ward").keep(rows, rows["view"] == "LAO", "oblique", column="view", expected="'LAO'", advice="Look again.")


@given(n=st.integers(1, 60), most=st.integers(1, 12), one_a_patient=st.booleans(), seed=st.integers(0, 99))
def test_draw_takes_as_many_as_asked_for_or_all(n: int, most: int, one_a_patient: bool, seed: int) -> None:
    rows = images(n)
    drawn = draw(rows, most, seed, one_a_patient=one_a_patient)
    cell = ["scanner", "label"]
    there = rows.groupby(cell)["patient"].nunique() if one_a_patient else rows.groupby(cell).size()
    assert drawn.groupby(cell).size().to_dict() == there.clip(upper=most).to_dict()
    assert not (one_a_patient and drawn.duplicated([*cell, "patient"]).any())
    assert drawn["path"].isin(rows["path"]).all()
    assert not drawn["path"].duplicated().any()


def test_draw_knows_no_order_of_rows() -> None:
    rows = images(40)
    shuffled = rows.iloc[np.random.default_rng(0).permutation(40)]
    first, second = (draw(one, 3, 7, one_a_patient=True) for one in (rows, shuffled))
    pd.testing.assert_frame_equal(first, second)


def test_table_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_table(images(1), tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_bytes() == b"path,label,scanner,patient\n000,0,Fuji,p0\n"
    with pytest.raises(OSError, match="No such file"):
        write_table(images(1), tmp_path / "nowhere" / "labels.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("051Y", 51),
        ("51", 51),
        (" 6m ", 0.5),
        ("007D", 7 / 365.25),
        ("052W", 52 * 7 / 365.25),
        ("", None),
        (None, None),
    ],
)
def test_ages_are_in_years(text: str | None, years: float | None) -> None:
    assert age_in_years(text) == pytest.approx(years)


@pytest.mark.parametrize("text", ["Y", "1234", "-3Y", "3.5", "51YY"])
def test_what_is_no_age_is_none(text: str) -> None:
    assert age_in_years(text) is None
