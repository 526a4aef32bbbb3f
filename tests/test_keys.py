"""What images, estimators and candidates are told apart by."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from tiny_study import MeanClassifier, images_of

from xray_harmonize import CDFMatching, FullRange, ImageSet, MinMax, Nyul
from xray_harmonize.evaluation.candidates import Candidate
from xray_harmonize.evaluation.keys import described, digest, fingerprint

X, Y = images_of()


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((4, 5), 40 * i + 1, np.uint8))
    return paths


def lazy(paths, **options):
    return ImageSet(paths, scanner=list("aabb"), **options)


def test_the_same_files_have_the_same_fingerprint(files):
    assert fingerprint(lazy(files), np.arange(4)) == fingerprint(lazy(files), np.arange(4))


def test_files_are_told_by_path_size_and_time_without_being_read(files):
    before = fingerprint(lazy(files), np.arange(4))
    os.utime(files[2], ns=(1, 1))
    assert fingerprint(lazy(files), np.arange(4)) != before
    for path in files:
        path.write_bytes(b"no image")
    assert fingerprint(lazy(files), np.arange(4)) != before
    assert fingerprint(lazy(files), np.arange(4)) == fingerprint(lazy(files), np.arange(4))


def test_files_put_through_a_function_are_told_by_their_pixels(files):
    meta = pd.DataFrame({"path": [str(path) for path in files]})
    plain = lazy(files, meta=meta)
    full = FullRange().transform(plain)
    stretched = MinMax().fit(plain).transform(plain)
    prints = {fingerprint(images, np.arange(4)) for images in (plain, full, stretched)}
    assert len(prints) == 3
    assert fingerprint(FullRange().transform(lazy(files, meta=meta)), np.arange(4)) == fingerprint(full, np.arange(4))


@pytest.mark.parametrize(
    "other",
    [
        ImageSet([np.ones((2, 3), np.uint16)], bits_stored=10),
        ImageSet([np.ones((3, 2), np.uint16)], bits_stored=12),
        ImageSet([np.full((2, 3), 2, np.uint16)], bits_stored=12),
        ImageSet([np.array([[1, 0, 1, 0, 1, 0]] * 2, np.uint8)], bits_stored=8),
        ImageSet([np.ones((2, 3), np.uint16)], bits_stored=12, mask=[np.eye(2, 3, dtype=bool)]),
        ImageSet([np.ones((2, 3), np.uint16)], bits_stored=12, scanner="a"),
        ImageSet([np.ones((2, 3), np.uint16)], bits_stored=12, patient=["a"]),
        ImageSet([np.ones((2, 3), np.uint16)], bits_stored=12, meta=pd.DataFrame({"window_center": [3.0]})),
    ],
    ids=["bits", "shape", "pixels", "dtype", "mask", "scanner", "patient", "meta"],
)
def test_images_in_memory_are_told_by_all_that_is_known_of_them(other):
    X = ImageSet([np.ones((2, 3), np.uint16)], bits_stored=12)
    assert fingerprint(X, np.zeros(1)) == fingerprint(X, np.zeros(1)) != fingerprint(other, np.zeros(1))


def test_another_mask_is_another_image():
    def masked(mask):
        return ImageSet([np.ones((2, 2))], mask=[np.array(mask)])

    masks = [[[True, False], [False, True]], [[False, True], [True, False]]]
    assert fingerprint(masked(masks[0]), np.zeros(1)) != fingerprint(masked(masks[1]), np.zeros(1))


def test_weights_written_anew_are_other_weights(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"first")
    before = digest(MeanClassifier(weights=str(path)))
    assert before == digest(MeanClassifier(weights=str(path)))
    os.utime(path, ns=(1, 1))
    assert digest(MeanClassifier(weights=str(path))) != before


def test_other_vgg_weights_are_other_weights_too(tmp_path):
    path = tmp_path / "vgg.pt"
    path.write_bytes(b"first")
    before = digest({"vgg_weights": str(path)})
    os.utime(path, ns=(1, 1))
    assert digest({"vgg_weights": str(path)}) != before
    assert digest({"vgg_weights": "random"}) == digest({"vgg_weights": "random"})


def test_a_fitted_estimator_is_told_by_what_it_has_learned_but_not_by_how_long_that_took():
    plain = MeanClassifier(random_state=0)
    first, again, other = (clone(plain).fit(X, y) for y in (Y, Y, Y[::-1]))
    assert len({digest(one) for one in (plain, first, other)}) == 3
    assert digest(first) == digest(again)
    before = digest(first)
    first.history_ = [{"dur": 3.0}]
    assert digest(first) == before


def test_arrays_are_described_in_full():
    first, second = np.zeros(5000), np.zeros(5000)
    second[2500] = 1
    assert repr(first) == repr(second)
    assert digest({"a": first}) != digest({"a": second})
    assert digest(np.zeros(2, "f4")) != digest(np.zeros(2, "f8"))
    assert digest(np.zeros((2, 3))) != digest(np.zeros((3, 2)))
    assert digest(np.array(["a", "b"])) != digest(np.array(["a", "c"]))
    assert digest(np.array(["a", 1], dtype=object)) == digest(np.array(["a", 1], dtype=object))


def test_a_class_is_told_from_another_of_the_same_parameters():
    assert described(CDFMatching()) != described(Nyul())
    assert described(Candidate("a", (CDFMatching(),))) != described(Candidate("a", (CDFMatching(max_slope=3),)))
