"""The controls: silent where nothing is wrong, and loud at harmonizers made to be caught."""

from __future__ import annotations

import numpy as np
import pytest
from audit_images import cohort_of, made
from sklearn.base import BaseEstimator, TransformerMixin

from xray_harmonize import CDFMatching, FullRange, IntensityFeatures
from xray_harmonize.auditing.controls import (
    AREA_CHANGES,
    HALVES,
    PERMUTED,
    TOLD_APART,
    Asking,
    halves_control,
    permuted_control,
)
from xray_harmonize.auditing.features import AuditFeatures
from xray_harmonize.auditing.result import CONTROL_COLUMNS
from xray_harmonize.auditing.task import default_classifier


def asking(n_permutations=40, n_refits=30):
    return Asking(
        AuditFeatures(IntensityFeatures(8, 2, 16)),
        default_classifier(),
        n_permutations=n_permutations,
        n_refits=n_refits,
        random_state=0,
    )


def silent(name):
    pass


class Marker(TransformerMixin, BaseEstimator):
    """Brightens one scanner's images: makes a difference where there is none."""

    def fit(self, X, y=None):
        self.brightened_ = sorted(set(X.scanner))[-1]
        return self

    def transform(self, X):
        return X.map(self._brighten)

    def _brighten(self, radiograph):
        pixels = radiograph.pixels.astype(np.float32) / 4095
        return np.clip(pixels * (1.3 if radiograph.scanner == self.brightened_ else 1), 0, 1).astype(np.float32)


class Oracle(TransformerMixin, BaseEstimator):
    """Writes labels into images, of those it was not fitted to as well: it knows them from outside."""

    answers: dict = {}

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X.map(self._mark)

    def _mark(self, radiograph):
        pixels = radiograph.pixels.astype(np.float32) / 4095
        return np.full_like(pixels, 0.2 + 0.6 * Oracle.answers[radiograph.pixels.tobytes()]) + 0.01 * pixels


@pytest.fixture(scope="module")
def cohort():
    return cohort_of(*made((("A", 40), ("B", 20)), side=16), image_size=16)


def test_halves_of_one_scanner_are_not_told_apart_and_what_tells_them_is_caught(cohort):
    told = []
    found = halves_control(cohort, {"none": FullRange(), "marker": Marker()}, asking(), told.append)
    assert told == ["none", "marker"]
    assert found.columns.tolist() == CONTROL_COLUMNS
    probes = found[found["measure"] == TOLD_APART].set_index("harmonizer")
    assert probes["passed"].to_dict() == {"none": True, "marker": False}
    assert probes.loc["marker", "value"] > 0.9
    assert "no better than permuted halves (p 0." in probes.loc["none", "expected"]
    assert probes.loc["none", "expected"].endswith("learned from 10 patients each")


def test_few_permutations_are_made_enough_for_the_level(cohort):
    found = halves_control(cohort, {"none": FullRange(), "marker": Marker()}, asking(n_permutations=20), silent)
    assert not found[found["measure"] == TOLD_APART]["passed"].all()


def test_a_change_of_the_area_is_asked_of_all_but_doing_nothing(cohort):
    found = halves_control(cohort, {"none": FullRange(), "CDF": CDFMatching(reference="A")}, asking(), silent)
    changes = found[found["measure"] == AREA_CHANGES]
    assert changes["harmonizer"].tolist() == ["CDF"]
    assert ((changes["low"] <= changes["value"]) & (changes["value"] <= changes["high"])).all()


def test_a_harmonizer_that_gains_where_no_scanner_differs_is_named(cohort):
    Oracle.answers = {cohort.X[i].tobytes(): int(cohort.y[i]) for i in range(len(cohort.X))}
    weak = cohort_of(*made((("A", 60), ("B", 8)), side=16, spot=0.02), image_size=16)
    Oracle.answers |= {weak.X[i].tobytes(): int(weak.y[i]) for i in range(len(weak.X))}
    found = halves_control(weak, {"none": FullRange(), "oracle": Oracle()}, asking(), silent)
    change = found[found["measure"] == AREA_CHANGES].iloc[0]
    assert change["value"] > 0.1
    assert not change["passed"]


def test_without_labels_halves_are_probed_alone():
    found = halves_control(
        cohort_of(made((("A", 16), ("B", 4)), side=16)[0], image_size=16), {"none": FullRange()}, asking(), silent
    )
    assert found["measure"].tolist() == [TOLD_APART]


def test_a_reference_of_few_patients_is_not_halved():
    small = cohort_of(*made((("A", 15), ("B", 20)), side=16), image_size=16)
    found = halves_control(small, {"none": FullRange()}, asking(), silent)
    assert found.empty
    assert found.columns.tolist() == CONTROL_COLUMNS


def test_shuffled_labels_are_not_predictable(cohort):
    told = []
    found = permuted_control(cohort, {"none": FullRange(), "CDF": CDFMatching()}, asking(), told.append)
    assert told == ["none", "CDF"]
    assert found["control"].tolist() == [PERMUTED, PERMUTED]
    assert found["passed"].all()
    assert found["measure"].str.match(r"highest AUC of a scanner \([AB]\)").all()


def test_a_harmonizer_that_writes_labels_into_images_is_caught(cohort, monkeypatch):
    from xray_harmonize.auditing import controls

    shuffled = controls._shuffled(cohort, 0)
    Oracle.answers = {cohort.X[i].tobytes(): int(shuffled[i]) for i in range(len(cohort.X))}
    found = permuted_control(cohort, {"none": FullRange(), "oracle": Oracle()}, asking(), silent)
    assert found.set_index("harmonizer")["passed"].to_dict() == {"none": True, "oracle": False}


def test_shuffling_keeps_patients_whole_and_shares_of_each_scanner():
    from xray_harmonize.auditing.controls import _shuffled

    cohort = cohort_of(*made(images_a_patient=2, shares={"A": 0.25, "B": 0.75}))
    labels = _shuffled(cohort, 0)
    assert not np.array_equal(labels, cohort.y)
    for name in ("A", "B"):
        own = cohort.scanner == name
        assert labels[own].mean() == cohort.y[own].mean()
    assert all(len(set(labels[cohort.patient == person])) == 1 for person in set(cohort.patient))


def test_labels_that_leave_one_class_at_home_are_not_shuffled():
    alone = cohort_of(*made((("A", 20), ("B", 20)), side=16, shares={"A": 0.05, "B": 0.5}), image_size=16)
    assert permuted_control(alone, {"none": FullRange()}, asking(), silent).empty


def test_halves_are_of_the_reference_alone_with_all_its_classes(cohort):
    from xray_harmonize.auditing.controls import _in_two

    split = _in_two(cohort, 0)
    assert split.scanners == ["half 1", "half 2"]
    assert len(split.X) == 40
    assert split.X.scanner.tolist() == split.scanner.tolist()
    assert not set(split.patient[split.scanner == "half 1"]) & set(split.patient[split.scanner == "half 2"])
    assert HALVES == "halves of one scanner"
