"""Training and test part of a study: sizes, and patients that stay whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.catalog.partition import partition, partition_sizes
from xray_harmonize.exceptions import InvalidParameterError


def table(rows: list[tuple[str, int, str | None]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["scanner", "label", "patient"])


def sizes(images: pd.DataFrame, **options: Any) -> dict[tuple[str, int], tuple[int, int]]:
    counts = partition_sizes(partition(images, **options))
    return {(row.scanner, row.label): (row.train, row.test) for row in counts.itertuples()}


ROWS = st.lists(
    st.tuples(st.sampled_from(["GE", "Fuji"]), st.integers(0, 2), st.sampled_from([*"abcdefghij", None])), min_size=1
)


@given(rows=ROWS, n_train=st.integers(1, 6), n_test=st.integers(1, 6), seed=st.integers(0, 99))
def test_no_patient_is_in_both_parts(
    rows: list[tuple[str, int, str | None]], n_train: int, n_test: int, seed: int
) -> None:
    images = table(rows)
    parts = partition(images, n_train=n_train, n_test=n_test, random_state=seed)
    assert set(parts["partition"]) <= {"train", "test"}
    assert not set(parts.query("partition == 'train'")["patient"].dropna()) & set(
        parts.query("partition == 'test'")["patient"]
    )
    pd.testing.assert_frame_equal(parts[["scanner", "label", "patient"]], images)


@given(rows=ROWS, seed=st.integers(0, 99))
def test_patients_of_cells_that_are_only_tested_are_only_tested(
    rows: list[tuple[str, int, str | None]], seed: int
) -> None:
    images = table([*rows, ("GE", 0, "a")])
    parts = partition(images, n_train=2, n_test=1, test_only=[("GE", 0)], random_state=seed)
    tested = parts[(parts["scanner"] == "GE") & (parts["label"] == 0)]
    assert set(tested["partition"]) == {"test"}
    assert set(parts.loc[parts["patient"].isin(tested["patient"].dropna()), "partition"]) == {"test"}


@given(n=st.integers(1, 60), n_train=st.integers(1, 20), n_test=st.integers(1, 20), seed=st.integers(0, 99))
def test_sizes_are_exact_where_every_patient_has_one_image(n: int, n_train: int, n_test: int, seed: int) -> None:
    images = table([("GE", 0, str(patient)) for patient in range(n)])
    train, test = sizes(images, n_train=n_train, n_test=n_test, random_state=seed)["GE", 0]
    assert train == min(n_train, round(n * n_train / (n_train + n_test)))
    assert test == n - train


def test_sizes_are_exact_with_some_patients_in_several_cells() -> None:
    rows = [
        (scanner, label, f"{scanner}{label}{i}") for scanner in ("GE", "Fuji") for label in (0, 1) for i in range(80)
    ]
    shared = [(scanner, label, f"shared{i}") for scanner in ("GE", "Fuji") for label in (0, 1) for i in range(20)]
    for seed in range(5):
        found = sizes(table(rows + shared), n_train=80, n_test=20, random_state=seed)
        assert set(found.values()) == {(80, 20)}


def test_patients_in_several_cells_are_tested_as_often_as_others() -> None:
    rows = [("GE", label, f"{label}-{i}") for label in (0, 1) for i in range(60)]
    shared = [("GE", label, f"shared{i}") for label in (0, 1) for i in range(40)]
    share = []
    for seed in range(20):
        parts = partition(table(rows + shared), n_train=80, n_test=20, random_state=seed)
        share.append((parts.loc[parts["patient"].str.startswith("shared"), "partition"] == "test").mean())
    assert 0.15 < np.mean(share) < 0.25


def test_patient_of_a_rare_cell_takes_the_other_images_along_to_the_test() -> None:
    images = table([("GE", 0, "a"), *(("GE", 1, patient) for patient in "abcde")])
    for seed in range(5):
        parts = partition(images, n_train=4, n_test=1, test_only=[("GE", 0)], random_state=seed)
        assert parts["partition"].tolist() == ["test", "test", *["train"] * 4]


def test_rest_of_a_large_cell_is_tested_and_a_small_one_dealt_in_the_ratio() -> None:
    images = table([("GE", 0, str(i)) for i in range(20)] + [("GE", 1, f"b{i}") for i in range(5)])
    assert sizes(images, n_train=8, n_test=2) == {("GE", 0): (8, 12), ("GE", 1): (4, 1)}


@pytest.mark.parametrize("unknown", [None, "", np.nan])
def test_images_without_a_patient_are_patients_of_their_own(unknown: Any) -> None:
    images = table([("GE", 0, unknown)] * 10)
    assert sizes(images, n_train=8, n_test=2) == {("GE", 0): (8, 2)}


def test_seed_tells_who_goes_where() -> None:
    images = table([("GE", 0, str(i)) for i in range(50)])
    first = partition(images, n_train=8, n_test=2)["partition"].tolist()
    assert first == partition(images, n_train=8, n_test=2, random_state=42)["partition"].tolist()
    assert first != partition(images, n_train=8, n_test=2, random_state=1)["partition"].tolist()


def test_sizes_have_both_parts_even_where_one_is_empty() -> None:
    images = table([("GE", 0, "a")]).assign(partition="train")
    assert partition_sizes(images).to_dict("records") == [{"scanner": "GE", "label": 0, "train": 1, "test": 0}]


@pytest.mark.parametrize("name", ["n_train", "n_test"])
@pytest.mark.parametrize("value", [0, None, 1.5])
def test_sizes_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidParameterError, match=rf"{name} must be an integer of at least 1; got {value}"):
        partition(table([("GE", 0, "a")]), **{name: value})


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (("Senograph", 0), r"test_only names the scanner 'Senograph'; expected one of 'Fuji', 'GE'\."),
        (("GE", "A"), r"test_only names the label 'A'; expected one of 0, 1\."),
    ],
)
def test_cells_that_are_not_there_are_refused(cell: tuple[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        partition(table([("GE", 0, "a"), ("Fuji", 1, "b")]), test_only=[cell])


def test_rare_cell_may_be_empty() -> None:
    images = table([("GE", 0, "a"), ("Fuji", 1, "b")])
    assert sizes(images, n_train=1, n_test=1, test_only=[("GE", 1)]).keys() == {("GE", 0), ("Fuji", 1)}


def test_missing_columns_are_named() -> None:
    images = table([("GE", 0, "a")])
    with pytest.raises(InvalidParameterError, match="lacks the column 'patient'; it has 'scanner', 'label'"):
        partition(images.drop(columns="patient"))
    with pytest.raises(InvalidParameterError, match="lacks the column 'partition'; it has 'scanner'"):
        partition_sizes(images)
