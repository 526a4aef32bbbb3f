"""Which images take part where scanners are compared, and who is compared with whom."""

from __future__ import annotations

import numpy as np
import pytest

from xray_harmonize.evaluation.compared import compared, label_groups
from xray_harmonize.exceptions import NotEnoughImagesError, UnknownScannerError, XRayHarmonizeWarning


def test_a_scanner_of_one_patient_is_left_out_with_a_warning():
    scanner = ["a", "z", "b", "z", "a", "b"]
    with pytest.warns(XRayHarmonizeWarning, match="Scanner 'z' has a single patient, too few to measure a gap"):
        cohort = compared(scanner, [0, 1, 2, 1, 4, 5], list("uvwxyz"), "b", 6)
    assert cohort.names == ["a", "b"]
    assert cohort.kept.tolist() == [0, 2, 4, 5]
    assert cohort.codes.tolist() == [0, 1, 0, 1]
    assert cohort.people.tolist() == [0, 1, 2, 3]
    assert cohort.label.tolist() == ["u", "w", "y", "z"]


@pytest.mark.parametrize(("scanner", "reference"), [("aab", None), ("aabbc", "c")])
def test_two_scanners_of_two_patients_are_needed_the_reference_among_them(scanner, reference):
    with pytest.raises(NotEnoughImagesError, match=r"patients a scanner are 'a': 2, 'b': . *.*Add patients"):
        compared(list(scanner), None, None, reference, len(scanner))


def test_a_reference_that_is_no_scanner_is_named():
    with pytest.raises(UnknownScannerError, match="reference='c' is none of the scanners; there are 'a', 'b'"):
        compared(list("aabb"), None, None, "c", 4)


def test_with_a_reference_every_other_scanner_is_compared_with_it():
    cohort = compared(list("aabbcc"), None, None, "b", 6)
    everything, first, second = cohort.comparisons()
    assert [everything[0], first[0], second[0]] == ["all", "a", "c"]
    assert first[1].tolist() == [0, 1, 2, 3]
    assert first[2].tolist() == [1, 1, 0, 0]
    assert second[1].tolist() == [2, 3, 4, 5]
    assert second[2].tolist() == [0, 0, 1, 1]


def test_without_a_reference_every_scanner_is_compared_with_the_rest():
    cohort = compared(list("aabbcc"), None, None, None, 6)
    names = [name for name, _, _ in cohort.comparisons()]
    assert names == ["all", "a", "b", "c"]
    assert list(cohort.comparisons())[2][2].tolist() == [0, 0, 1, 1, 0, 0]


def test_a_large_cohort_is_thinned_by_patient_and_evenly():
    scanner = np.repeat(["a", "b"], [60, 12])
    patient = np.r_[np.repeat(np.arange(20), 3), 20 + np.arange(12)]
    few = compared(scanner, patient, scanner, None, 72).thinned(24, seed=0)
    assert len(few.kept) <= 24
    assert len(set(few.people[few.codes == 0])) == len(set(few.people[few.codes == 1])) == 6
    assert all(np.sum(few.people == person) == 3 for person in set(few.people[few.codes == 0]))
    assert few.label.tolist() == scanner[few.kept].tolist()
    again = compared(scanner, patient, scanner, None, 72).thinned(24, seed=0)
    assert np.array_equal(few.kept, again.kept)


def test_two_patients_of_every_scanner_stay_however_few_images_are_wanted():
    few = compared(list("aaaabbbbcccc"), None, None, None, 12).thinned(4, seed=0)
    assert np.bincount(few.codes).tolist() == [2, 2, 2]


def test_a_small_cohort_stays_whole():
    cohort = compared(list("aabb"), None, None, None, 4)
    assert cohort.thinned(4, seed=0) is cohort


def test_labels_of_a_single_patient_or_none_are_left_out():
    label = np.array(["x", None, "x", "y", "y", "z", "z"], dtype=object)
    kept, codes = label_groups(label, np.array([0, 1, 2, 3, 4, 5, 5]))
    assert kept.tolist() == [0, 2, 3, 4]
    assert codes.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("label", [["x", "x", "x", "y"], [None, None, None, None]])
def test_fewer_than_two_classes_make_no_groups(label):
    kept, codes = label_groups(np.array(label, dtype=object), np.arange(4))
    assert len(kept) == len(codes) == 0
