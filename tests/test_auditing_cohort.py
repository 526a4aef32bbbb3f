"""The images of an audit: what is refused, how patients are dealt, and what becomes of large images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from audit_images import cohort_of, made
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize import ImageSet, Radiograph
from xray_harmonize.auditing.cohort import halves_of_patients, in_memory, make_cohort, shrink
from xray_harmonize.exceptions import (
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
)


def test_the_scanner_with_most_images_is_the_reference_and_comes_first():
    cohort = cohort_of(made((("B", 8), ("C", 12), ("A", 8)))[0], reference=None)
    assert cohort.reference == "C"
    assert cohort.scanners == ["C", "A", "B"]


def test_halves_share_no_patient_and_are_alike_in_scanners_and_classes():
    X, y = made(images_a_patient=2)
    cohort = cohort_of(X, y)
    first, second = (cohort.half == side for side in (0, 1))
    assert not set(cohort.patient[first]) & set(cohort.patient[second])
    for name in ("A", "B"):
        for label in (0, 1):
            own = (cohort.scanner == name) & (y == label)
            assert np.sum(own & first) == np.sum(own & second)


def test_each_half_is_learned_from_and_measured_on_once():
    cohort = cohort_of(*made())
    (learned, tested), (learned_next, tested_next) = cohort.halves()
    assert np.array_equal(learned, tested_next)
    assert np.array_equal(tested, learned_next)
    assert sorted([*learned, *tested]) == list(range(44))


def test_the_same_seed_deals_alike_and_another_does_not():
    X, y = made()
    assert np.array_equal(cohort_of(X, y).half, cohort_of(X, y).half)
    assert not np.array_equal(cohort_of(X, y).half, cohort_of(X, y, seed=1).half)


@given(st.integers(0, 10**6), st.integers(4, 12), st.integers(4, 12), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_every_scanner_is_in_both_halves_however_rare_its_classes(seed, n_a, n_b, n_classes):
    rng = np.random.default_rng(seed)
    names = np.repeat(["a", "b"], [n_a, n_b])
    half = halves_of_patients(names, rng.integers(0, n_classes, n_a + n_b), np.arange(n_a + n_b), seed)
    counts = [np.sum((names == name) & (half == side)) for name in "ab" for side in (0, 1)]
    assert min(counts) >= 2


def test_classes_that_are_rare_do_not_keep_a_scanner_on_one_side():
    names = np.repeat(["a", "b"], [20, 4])
    labels = np.array([0] * 20 + [1, 2, 3, 4])
    half = halves_of_patients(names, labels, np.arange(24), 0)
    assert sorted(np.bincount(half[20:], minlength=2)) == [2, 2]


def test_halves_that_cannot_hold_every_scanner_are_refused():
    # One patient with all of scanner b.
    names, people = np.repeat(["a", "b"], [6, 4]), np.array([0, 1, 2, 3, 4, 5, 6, 6, 6, 6])
    with pytest.raises(NotEnoughImagesError, match="cannot be dealt into two halves that both hold every scanner"):
        halves_of_patients(names, None, people, 0)


@pytest.mark.parametrize("y", [pd.Series(list("xy") * 22, index=range(100, 144)), pd.Categorical(list("xy") * 22)])
def test_labels_of_pandas_are_taken_by_place(y):
    cohort = cohort_of(made()[0], y)
    assert cohort.y.dtype.kind == "U"
    assert cohort.y.tolist() == list("xy") * 22


def test_labels_become_plain_numbers_or_strings():
    X, y = made()
    assert cohort_of(X, y.astype(object)).y.dtype.kind == "i"
    assert cohort_of(X, [bool(label) for label in y]).y.dtype.kind == "b"


def test_patients_given_beside_the_images_stand_in_for_theirs():
    X, y = made()
    people = np.repeat(np.arange(22), 2)
    cohort = make_cohort(X, y, patient=people, reference=None, image_size=24, random_state=0)
    assert cohort.patient.tolist() == pd.Series(people.astype(str)).rank(method="dense").sub(1).astype(int).tolist()
    assert cohort.X.patient.tolist() == cohort.patient.astype(str).tolist()


def test_images_are_read_once_and_kept(tmp_path):
    X = made((("A", 4), ("B", 4)))[0]
    for i in range(8):
        np.save(tmp_path / f"{i}.npy", X[i])
    lazy = ImageSet([tmp_path / f"{i}.npy" for i in range(8)], scanner=X.scanner, bits_stored=12)
    cohort = cohort_of(lazy)
    for i in range(8):
        (tmp_path / f"{i}.npy").unlink()
    assert not cohort.X.is_lazy
    assert np.array_equal(cohort.X[3], X[3])
    assert cohort.X.bits_stored.tolist() == [12] * 8


def test_display_windows_that_files_tell_are_kept(tmp_path):
    from dicom_factory import make_dicom

    paths = [
        make_dicom(tmp_path / f"{i}.dcm", np.full((16, 16), i, np.uint16), WindowCenter="100", WindowWidth="50")
        for i in range(8)
    ]
    cohort = cohort_of(ImageSet(paths, scanner=["A"] * 4 + ["B"] * 4))
    assert cohort.X.radiograph(0).meta["window_width"] == 50


# -- large images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float16", "float32", "float64"])
def test_images_of_every_type_are_averaged_down_in_their_own_units(dtype):
    high = 1 if dtype.startswith("f") else 200
    pixels = (np.arange(40 * 20).reshape(40, 20) % 4 * high / 3).astype(dtype)
    small = shrink(Radiograph(pixels), 10)
    assert small.pixels.shape == (10, 5)
    assert small.pixels.dtype == dtype
    assert np.abs(small.pixels.astype(float) - pixels.astype(float).mean()).max() <= 0.5 * high / 100 + 0.5 * (high > 1)


def test_small_images_stay_as_they_are():
    radiograph = Radiograph(np.ones((8, 16), np.uint16))
    assert shrink(radiograph, 16) is radiograph


def test_a_line_of_pixels_does_not_vanish():
    assert shrink(Radiograph(np.ones((1, 100), np.uint16)), 16).pixels.shape == (1, 16)


def test_pixels_that_are_padding_in_part_are_left_out():
    mask = np.zeros((40, 40), bool)
    mask[:, 6:] = True
    small = shrink(Radiograph(np.ones((40, 40), np.uint16), mask=mask), 10)
    assert not small.mask[:, 1].any()
    assert small.mask[:, 2:].all()


def test_a_mask_of_thin_lines_keeps_what_is_padding_least_and_an_empty_one_stays_empty():
    mask = np.zeros((40, 40), bool)
    mask[::4, :20] = True
    small = shrink(Radiograph(np.ones((40, 40), np.uint16), mask=mask), 10)
    assert small.mask[:, :5].all()
    assert not small.mask[:, 5:].any()
    empty = shrink(Radiograph(np.ones((40, 40), np.uint16), mask=np.zeros((40, 40), bool)), 10)
    assert not empty.mask.any()


def test_other_names_of_scanners_change_nothing_else():
    X = made((("A", 4), ("B", 4)))[0]
    renamed = in_memory(X, np.array(["x", "y"] * 4))
    assert renamed.scanner.tolist() == ["x", "y"] * 4
    assert np.array_equal(renamed[5], X[5])
    assert renamed.bits_stored.tolist() == X.bits_stored.tolist()
    assert renamed.meta.equals(X.meta)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_images_without_scanners_are_refused():
    with pytest.raises(MissingScannerError, match="Nothing tells the scanners: pass scanner="):
        cohort_of(ImageSet(np.zeros((8, 16, 16), "uint8")), reference=None)


@pytest.mark.parametrize(("names", "said"), [(["A"] * 8, "got those of 'A'"), ([], "got those of none")])
def test_fewer_than_two_scanners_are_refused(names, said):
    X = ImageSet(np.zeros((len(names), 16, 16), "uint8"), scanner=names)
    with pytest.raises(NotEnoughImagesError, match=f"at least two scanners; {said}"):
        cohort_of(X, reference=None)


def test_a_scanner_of_three_patients_is_refused():
    with pytest.raises(NotEnoughImagesError, match=r"Scanner 'B' has 3 patient\(s\), expected at least 4"):
        cohort_of(made((("A", 8), ("B", 3)))[0])


def test_a_scanner_may_not_be_called_what_all_are_called():
    with pytest.raises(InvalidParameterError, match="A scanner is called 'all', as tables call all"):
        cohort_of(made((("A", 8), ("all", 8)))[0])


def test_a_reference_that_is_no_scanner_is_refused():
    with pytest.raises(UnknownScannerError, match="The reference 'C' is none of the scanners A, B"):
        cohort_of(made()[0], reference="C")


@pytest.mark.parametrize("gap", [None, float("nan"), ""])
def test_a_missing_label_is_refused(gap):
    X, y = made()
    labels = y.astype(object)
    labels[7] = gap
    with pytest.raises(InvalidParameterError, match="The label of image 7 is missing"):
        cohort_of(X, labels)


def test_numbers_that_are_no_classes_are_refused():
    X, _ = made()
    with pytest.raises(
        InvalidParameterError, match=r"y holds 44 different values for 44 images.*Put numbers into classes"
    ):
        cohort_of(X, np.linspace(0, 1, 44))


def test_labels_of_another_length_are_refused():
    with pytest.raises(InvalidParameterError, match="y must hold one label an image"):
        cohort_of(made()[0], [0, 1])


@pytest.mark.parametrize("size", [15, 64.0, True, "64"])
def test_a_size_that_shows_nothing_is_refused(size):
    with pytest.raises(InvalidParameterError, match="image_size must be a whole number, at least 16"):
        cohort_of(made()[0], image_size=size)
