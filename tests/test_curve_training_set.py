"""Which images train curves, and what must be known about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError
from xray_harmonize.harmonizers.curve_training_set import TrainingSet, known_classes
from xray_harmonize.images import ImageSet

SCANNER = ["B", "A", "C", "A", "B", "A", "C", "A"]


def data(y: Any = None, patient: Any = None, scanner: Any = SCANNER, reference: str | None = None) -> TrainingSet:
    images = ImageSet(np.arange(len(scanner) * 4.0).reshape(-1, 2, 2) / 1e3, scanner=scanner, patient=patient)
    return TrainingSet.of(images, y, reference, needs_labels=False)


# -- scanners ---------------------------------------------------------------------------------------------------------


def test_the_reference_is_the_scanner_with_most_images_and_all_others_are_numbered() -> None:
    found = data()
    assert (found.reference, found.sources) == ("A", ["B", "C"])
    assert found.scanner_numbers().tolist() == [0, -1, 1, -1, 0, -1, 1, -1]
    assert found.positions_of("A").tolist() == [1, 3, 5, 7]
    assert found.positions_of("B", "C").tolist() == [0, 2, 4, 6]


def test_of_scanners_with_equally_many_images_the_first_by_name_is_the_reference() -> None:
    assert data(scanner=["D", "C", "C", "D"]).reference == "C"


def test_images_labels_and_scanners_are_brought_into_another_order_together() -> None:
    order = np.array([5, 0, 2, 1, 7, 6, 4, 3])
    found = data(y=np.arange(8))[order]
    assert found.labels.tolist() == order.tolist()
    assert found.scanner_numbers().tolist() == data().scanner_numbers()[order].tolist()
    assert [round(float(found.images[i][0, 0]) * 250) for i in range(8)] == order.tolist()


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        ["x", None, "y", float("nan"), "x", "y", "x", "y"],
        pd.Series(["x", None, "y", pd.NA, "x", "y", "x", "y"]),
        np.array(["x", None, "y", np.nan, "x", "y", "x", "y"], dtype=object),
    ],
)
def test_gaps_among_labels_are_none_of_the_classes(y: Any) -> None:
    assert data(y=y).class_numbers(np.array(["x", "y"])).tolist() == [0, -1, 1, -1, 0, 1, 0, 1]


def test_numbers_beside_gaps_are_the_same_classes_though_floats() -> None:
    y = [0, 1, np.nan, 2, 0, 1, 2, np.nan]
    assert data(y=y).class_numbers(np.array([0, 1, 2])).tolist() == [0, 1, -1, 2, 0, 1, 2, -1]


def test_labels_are_numbered_in_the_order_of_the_discriminators_classes() -> None:
    assert data(y=list("abbaabba")).class_numbers(np.array(["b", "a"])).tolist() == [1, 0, 0, 1, 1, 0, 0, 1]


def test_a_label_that_the_discriminator_does_not_know_is_refused() -> None:
    message = (
        r"The discriminator knows the classes 'a'; y holds 'b'\. Give a discriminator that was trained on the same"
    )
    with pytest.raises(InvalidParameterError, match=message):
        data(y=list("abbaabba")).class_numbers(np.array(["a"]))


def test_labels_of_more_than_one_column_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"X holds 8 images and y has shape \(8, 2\); give one label an im"):
        data(y=np.zeros((8, 2)))


def test_classes_are_those_of_the_reference_where_no_fitted_discriminator_names_them() -> None:
    y = ["z", "b", "z", "a", "z", "a", "z", "b"]
    assert known_classes(None, data(y=y)).tolist() == ["a", "b"]


# -- held out ---------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 2), st.integers(0, 9)), min_size=12, max_size=40),
    st.sampled_from([0.2, 0.4]),
    st.integers(0, 9),
)
def test_only_sources_are_held_out_and_no_patient_is_on_both_sides(
    rows: list[tuple[str, int, int]], fraction: float, seed: int
) -> None:
    scanner, label, patient = (list(column) for column in zip(*rows, strict=True))
    if len(set(scanner)) < 2:
        return
    found = data(y=label, patient=[str(one) for one in patient], scanner=scanner)
    try:
        held_out = found.held_out(found.class_numbers(np.arange(3)), fraction, np.random.RandomState(seed))
        may_train = found.without_patients_of(held_out)
    except NotEnoughImagesError:
        return
    of_sources = np.isin(scanner, found.sources)
    assert held_out.any()
    assert not held_out[~of_sources].any()
    assert not set(np.array(patient)[held_out]) & set(np.array(patient)[may_train])
    # No image is lost but those of patients that are held out.
    assert (may_train | np.isin(patient, np.array(patient)[held_out])).all()


def test_a_share_of_each_class_of_each_scanner_is_held_out() -> None:
    scanner, label = ["R"] * 30 + ["S"] * 20 + ["T"] * 10, [0, 1] * 30
    found = data(y=label, scanner=scanner)
    held_out = found.held_out(found.class_numbers(np.arange(2)), 0.2, np.random.RandomState(0))
    groups = list(zip(np.array(scanner)[held_out].tolist(), np.array(label)[held_out].tolist(), strict=True))
    assert {group: groups.count(group) for group in groups} == {("S", 0): 2, ("S", 1): 2, ("T", 0): 1, ("T", 1): 1}


def test_nothing_is_held_out_where_nothing_is_asked_for() -> None:
    found = data(y=[0, 1] * 4)
    held_out = found.held_out(found.class_numbers(np.arange(2)), 0, np.random.RandomState(0))
    assert not held_out.any()
    assert found.without_patients_of(held_out).all()


def test_images_of_unknown_patients_do_not_share_one() -> None:
    found = data(y=[0, 1] * 4, patient=[None] * 8, scanner=["A", "B"] * 4, reference="A")
    held_out = found.held_out(found.class_numbers(np.arange(2)), 0.25, np.random.RandomState(0))
    assert held_out.sum() == 1
    assert found.without_patients_of(held_out).sum() == 7


def test_sources_with_one_patient_a_class_cannot_be_held_out() -> None:
    found = data(y=list("ababcbda"), scanner=["A", "A", "A", "A", "B", "B", "C", "C"])
    message = (
        r"Cannot hold out 0\.2 of 4 source images: no class of a scanner has two patients\. Add images, or set val"
    )
    with pytest.raises(NotEnoughImagesError, match=message):
        found.held_out(found.class_numbers(np.array(list("abcd"))), 0.2, np.random.RandomState(0))


def test_a_scanner_that_has_no_image_left_to_train_on_is_named() -> None:
    patient = ["1", "2", "3", "4", "5", "7", "5", "6"]
    found = data(y=[0] * 8, patient=patient, scanner=["A", "A", "A", "A", "B", "B", "C", "C"])
    message = "Every image of scanner 'C' is of a patient that is held out, so none is left to train on"
    with pytest.raises(NotEnoughImagesError, match=message):
        found.without_patients_of(np.isin(patient, ["5", "6"]))
