"""Cautions: what in a data set makes figures say less than they seem to."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from xray_harmonize import ImageSet
from xray_harmonize.evaluation.cautions import SEVERITIES, burnt_in_markers, cautions, cramers_v, is_equalized
from xray_harmonize.exceptions import InvalidParameterError, MissingScannerError

N = 40


def noise(n, shape=(16, 16), seed=0):
    """Images with the humped histogram of no particular processing, in 12 bits."""
    values = np.random.default_rng(seed).normal(0.4, 0.12, (n, *shape))
    return (values.clip(0, 1) * 4095).astype("uint16")


def a_set(**options):
    n = 2 * N
    given = {"scanner": ["A"] * N + ["B"] * N, "patient": [f"p{i}" for i in range(n)], "bits_stored": 12}
    return ImageSet(noise(n), **{**given, **options})


def named(found, name):
    (one,) = [caution for caution in found if caution.name == name]
    return one


def test_sound_set_raises_no_caution():
    assert cautions(a_set(), [0, 1] * N) == []


def test_every_caution_says_what_it_is_what_it_means_and_what_to_do():
    X = a_set(
        patient=None, meta=pd.DataFrame({"presentation_intent": ["FOR PROCESSING"] * N + ["FOR PRESENTATION"] * N})
    )
    found = cautions(X, ["x"] * N + ["y"] * N, fitted_on=["p1"])
    assert len(found) >= 3
    assert all(one.what and one.means and one.do and one.severity in SEVERITIES for one in found)
    assert [SEVERITIES.index(one.severity) for one in found] == sorted(SEVERITIES.index(one.severity) for one in found)


def test_labels_that_follow_the_scanner_are_confounded():
    y = np.r_[np.zeros(33), np.ones(7), np.zeros(7), np.ones(33)].astype(int)
    caution = named(cautions(a_set(), y), "label and scanner confounded")
    assert caution.severity == "stop"
    assert "Cramer's V 0.6" in caution.what
    assert "A: 82% 0, 18% 1" in caution.what


def test_labels_that_lean_a_little_are_to_be_looked_at():
    n = 150
    X = ImageSet(noise(2 * n, (4, 4)), scanner=["A"] * n + ["B"] * n, patient=list(range(2 * n)), bits_stored=12)
    y = np.r_[np.arange(n) < 0.4 * n, np.arange(n) < 0.6 * n].astype(int)
    assert named(cautions(X, y), "label and scanner confounded").severity == "look"


def test_cramers_v_of_independent_labels_is_zero_on_average():
    rng = np.random.default_rng(0)
    values = [cramers_v(rng.integers(0, 2, 100), rng.integers(0, 3, 100)) for _ in range(50)]
    assert np.mean(values) < 0.06
    assert cramers_v([1, 1, 1], [0, 1, 0]) == 0


def test_class_that_a_scanner_lacks_is_named():
    caution = named(cautions(a_set(), ["x", "y"] * (N // 2) + ["x"] * N), "classes missing on a scanner")
    assert "B has no y" in caution.what


def test_group_of_few_patients_is_named():
    y = np.zeros(2 * N, dtype=int)
    y[:3] = 1
    y[N:] = [0, 1] * (N // 2)
    assert "A, 1: 3" in named(cautions(a_set(), y), "groups too small").what
    assert named(cautions(a_set(patient=["p", "q"] * N)), "groups too small").what.startswith("Fewer than 20 patients")


def test_patients_of_several_scanners_are_counted():
    patient = [f"p{i}" for i in range(N)] + [f"p{i}" for i in range(5)] + [f"q{i}" for i in range(N - 5)]
    assert "5 of 75 patients" in named(cautions(a_set(patient=patient)), "patients on several scanners").what


def test_unknown_patients_are_told():
    assert "No image tells its patient" in named(cautions(a_set(patient=None)), "patients unknown").what
    patient = [None] + [f"p{i}" for i in range(2 * N - 1)]
    assert "1 images do not" in named(cautions(a_set(patient=patient)), "patients unknown").what


def test_harmonizer_that_saw_its_test_patients_is_stopped():
    caution = named(cautions(a_set(), fitted_on=["p0", "p1", "x"]), "harmonizer fitted on test images")
    assert caution.severity == "stop"
    assert "2 of the 80 patients" in caution.what
    assert not cautions(a_set(), fitted_on=["x"])


def test_raw_and_processed_images_in_one_set_are_stopped():
    meta = pd.DataFrame({"presentation_intent": ["FOR PROCESSING"] * N + ["FOR PRESENTATION"] * N})
    caution = named(cautions(a_set(meta=meta)), "raw and processed images mixed")
    assert "A: 40 FOR PROCESSING; B: 40 FOR PRESENTATION" in caution.what


def test_one_intent_and_unknown_ones_are_no_mix():
    meta = pd.DataFrame({"presentation_intent": ["FOR PROCESSING", None] * N})
    assert cautions(a_set(meta=meta)) == []


@pytest.mark.parametrize("kind", ["normal", "two humps", "dark border"])
def test_equalized_images_are_found(kind):
    import cv2

    rng = np.random.default_rng(1)
    values = rng.normal(0.4, 0.1, (64, 64)) if kind != "two humps" else rng.normal(0.3, 0.05, (64, 64))
    if kind == "two humps":
        values[:30] += 0.4
    image = (values.clip(0, 1) * 255).astype("uint8")
    if kind == "dark border":
        image[:10] = 0
    assert not is_equalized(np.bincount(image.ravel(), minlength=256))
    assert is_equalized(np.bincount(cv2.equalizeHist(image).ravel(), minlength=256))


def test_set_of_equalized_images_is_stopped():
    import cv2

    equalized = np.stack([cv2.equalizeHist((image // 16).astype("uint8")) for image in noise(2 * N, (48, 48))])
    found = cautions(a_set().__class__(equalized, scanner=["A"] * N + ["B"] * N, patient=list(range(2 * N))))
    assert named(found, "already histogram-equalized").severity == "stop"
    assert "40 of 40 A" in named(found, "eight bits or fewer").what


def test_eight_bit_images_are_noted():
    X = ImageSet((noise(2 * N) // 16).astype("uint8"), scanner=["A"] * N + ["B"] * N, patient=list(range(2 * N)))
    assert named(cautions(X), "eight bits or fewer").severity == "note"


def test_marks_in_the_corner_of_one_scanner_are_found():
    images = noise(2 * N, (64, 64))
    images[:N, 2:7, 3:12] = 4095
    X = ImageSet(images, scanner=["A"] * N + ["B"] * N, bits_stored=12)
    assert "A (100% of images, top left)" in burnt_in_markers(X, X.scanner.astype(str)).what


def test_marks_that_all_scanners_have_tell_none_apart():
    images = noise(2 * N, (64, 64))
    images[:, 2:7, 3:12] = 4095
    X = ImageSet(images, scanner=["A"] * N + ["B"] * N, bits_stored=12)
    assert burnt_in_markers(X, X.scanner.astype(str)) is None


def test_bright_corners_of_a_body_are_no_marks():
    images = noise(2 * N, (64, 64))
    images[:N, :30, :30] = 4095
    X = ImageSet(images, scanner=["A"] * N + ["B"] * N, bits_stored=12)
    assert burnt_in_markers(X, X.scanner.astype(str)) is None


def test_one_scanner_has_no_marks_of_its_own():
    X = ImageSet(noise(4), scanner="A", bits_stored=12)
    assert burnt_in_markers(X, X.scanner.astype(str)) is None


def test_scanners_must_be_told():
    with pytest.raises(MissingScannerError, match="Nothing tells the scanners: pass scanner="):
        cautions(ImageSet(noise(2), bits_stored=12))
    with pytest.raises(InvalidParameterError, match=r"y must hold one label an image, shape \(80,\); got shape \(2,\)"):
        cautions(a_set(), [0, 1])
