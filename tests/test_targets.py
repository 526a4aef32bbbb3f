"""Labels as a network takes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from xray_harmonize.classifiers.targets import class_weights, encode, encode_as, listed
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError

labels = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1)


@given(y=labels)
def test_targets_are_the_places_of_the_labels(y):
    if len(set(y)) < 2:
        with pytest.raises(NotEnoughImagesError, match=f"at least two classes; y holds '{y[0]}'"):
            encode(y, len(y))
        return
    classes, targets = encode(y, len(y))
    assert classes.tolist() == sorted(set(y))
    assert classes[targets].tolist() == y
    assert targets.dtype == np.int64


@given(y=labels)
def test_labels_find_their_places_among_classes_that_are_there(y):
    classes = np.array(["a", "b", "c", "d", "e"])
    assert classes[encode_as(y, len(y), classes)].tolist() == y


def test_no_labels_have_no_places():
    assert encode_as(np.array([], dtype=str), 0, np.array(["a", "b"])).shape == (0,)


def test_classes_may_have_come_from_a_file_as_objects():
    classes = np.array(["ill", "well"], dtype=object)
    assert encode_as(["well", "ill"], 2, classes).tolist() == [1, 0]


def test_labels_of_no_class_are_named():
    with pytest.raises(
        InvalidParameterError,
        match=r"y holds 'x', 'y', but the classifier was fitted to the classes 'a', 'b'\. Leave images",
    ):
        encode_as(["a", "y", "x"], 3, np.array(["a", "b"]))


@given(y=labels)
def test_balanced_weights_are_those_of_scikit_learn_where_every_class_is_there(y):
    classes, targets = np.unique(y, return_inverse=True)
    expected = compute_class_weight("balanced", classes=classes, y=np.array(y))
    np.testing.assert_allclose(class_weights("balanced", classes, targets), expected, rtol=1e-6)


def test_a_class_without_images_weighs_nothing_when_balanced():
    weights = class_weights("balanced", np.array(["a", "b", "c"]), np.array([0, 0, 2]))
    np.testing.assert_allclose(weights, [0.75, 0, 1.5])


def test_weights_by_label_are_one_where_none_is_named():
    np.testing.assert_array_equal(class_weights({"b": 3.0}, np.array(["a", "b"]), np.array([0, 1])), [1, 3])
    assert class_weights(None, np.array(["a", "b"]), np.array([0, 1])) is None


def test_labels_are_listed_for_a_sentence():
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed([]) == "no labels"
