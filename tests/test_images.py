"""ImageSet: one-dimensional to scikit-learn, its labels always along."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils.validation import _num_samples

from xray_harmonize import set_cache_size
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.images import ImageSet, in_container_of
from xray_harmonize.radiograph import Radiograph


def ragged(n: int = 5) -> list[np.ndarray]:
    """Images of n shapes, image i filled with i."""
    return [np.full((3 + i, 4 + 2 * i), i, dtype="uint16") for i in range(n)]


def labelled(n: int = 5) -> ImageSet:
    return ImageSet(
        ragged(n),
        scanner=[f"S{i % 2}" for i in range(n)],
        patient=range(n),
        bits_stored=[8 + i for i in range(n)],
        mask=[None if i % 2 else np.eye(3 + i, 4 + 2 * i, dtype=bool) for i in range(n)],
        meta=pd.DataFrame({"kvp": np.arange(n) + 60.0, "rows": range(n), "path": [f"{i}.png" for i in range(n)]}),
    )


def assert_is_selection(chosen: ImageSet, expected: list[int]) -> None:
    """Check that images, labels, bits, masks and meta of a selection are those of these images of ``labelled()``."""
    assert isinstance(chosen, ImageSet)
    assert chosen.shape == (len(chosen),) == (len(expected),)
    assert [int(image[0, 0]) for image in chosen] == expected
    assert chosen.scanner.tolist() == [f"S{i % 2}" for i in expected]
    assert chosen.patient.tolist() == [str(i) for i in expected]
    assert chosen.bits_stored.tolist() == [8 + i for i in expected]
    assert chosen.meta["kvp"].tolist() == [60 + i for i in expected]
    assert chosen.meta.index.tolist() == list(range(len(expected)))
    for place, i in enumerate(expected):
        mask = chosen.mask(place)
        assert mask is None if i % 2 else mask.shape == chosen[place].shape and mask.sum() == 3 + i


# -- indexing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (slice(1, None, 2), [1, 3]),
        (slice(None, None, -1), [4, 3, 2, 1, 0]),
        ([3, 0, 3], [3, 0, 3]),
        (np.array([-1, 1]), [4, 1]),
        (np.array([True, False, False, True, False]), [0, 3]),
        ([False] * 4 + [True], [4]),
        (pd.Series([2, 1]), [2, 1]),
        ((np.array([2]), Ellipsis), [2]),
        ([], []),
        (np.zeros(5, dtype=bool), []),
        (slice(0, 0), []),
    ],
)
def test_a_selection_takes_all_labels_along(key: object, expected: list[int]) -> None:
    assert_is_selection(labelled()[key], expected)


@given(st.lists(st.integers(-5, 4), max_size=6), st.lists(st.integers(0, 5), max_size=4))
def test_selecting_twice_is_selecting_once(first: list[int], second: list[int]) -> None:
    second = [i for i in second if i < len(first)]
    assert_is_selection(labelled()[first][second], [first[i] % 5 for i in second])


def test_an_integer_gives_one_image_and_no_copy() -> None:
    images = ragged()
    X = ImageSet(images)
    assert X[2] is images[2] or np.shares_memory(X[2], images[2])
    assert np.array_equal(X[np.int64(-1)], images[4])
    assert [image.shape for image in X] == [image.shape for image in images]


@pytest.mark.parametrize("i", [5, -6])
def test_there_is_no_image_beyond_the_ends(i: int) -> None:
    with pytest.raises(IndexError, match=f"There is no image {i} in a set of 5"):
        labelled()[i]


@pytest.mark.parametrize("key", [(0, 1), ([0], [1])])
def test_an_image_set_has_one_dimension(key: object) -> None:
    with pytest.raises(InvalidParameterError, match="An ImageSet has one dimension"):
        labelled()[key]


@pytest.mark.parametrize("key", [[0.5], "S0", [[0, 1]], ["a"]])
def test_only_positions_masks_and_slices_select(key: object) -> None:
    with pytest.raises(InvalidParameterError, match="indexed by integers, slices, positions or a boolean mask; got"):
        labelled()[key]


def test_scikit_learns_own_helpers_see_a_one_dimensional_set() -> None:
    X = labelled()
    assert _num_samples(X) == 5
    assert indexable(X, np.arange(5))[0] is X
    assert_is_selection(_safe_indexing(X, np.array([4, 0])), [4, 0])
    assert_is_selection(_safe_indexing(X, np.array([True, False, True, False, False])), [0, 2])
    train, test = train_test_split(X, test_size=2, random_state=0)
    assert sorted(np.concatenate([train.patient, test.patient])) == list("01234")


# -- making one -----------------------------------------------------------------------------------------------------


def test_bits_are_the_dtypes_where_unknown_and_none_for_floats() -> None:
    X = ImageSet([np.zeros((2, 2), "u1"), np.zeros((2, 2), "u2"), np.zeros((2, 2), "f4"), np.zeros((2, 2), "i2")])
    assert X.bits_stored.tolist() == [8, 16, 0, 15]
    assert X.bits_stored.dtype == np.int64
    assert ImageSet(np.zeros((2, 2, 2), "u2"), bits_stored=12).bits_stored.tolist() == [12, 12]


def test_signed_stored_values_are_taken_as_long_as_none_is_negative() -> None:
    X = ImageSet([np.array([[0, 2047]], "i2"), np.array([[7]])], bits_stored=[11, 3])
    assert (X.unit(0).max(), X.unit(1).max()) == (1, 1)
    with pytest.raises(InvalidImageError, match=r"Image 0 holds negative stored values \(lowest -1\)"):
        ImageSet([np.array([[-1]], "i2")])


def test_plain_integers_of_unknown_depth_are_refused_rather_than_read_as_black() -> None:
    with pytest.raises(InvalidImageError, match="Image 0 holds int64, which does not tell how many bits"):
        ImageSet([np.array([[0, 255]], dtype=np.int64)])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([np.zeros((2, 2)), np.zeros((2, 2, 3))], r"Image 1 has shape \(2, 2, 3\); expected a 2-D grey image"),
        ([np.zeros((2, 0))], r"Image 0 has shape \(2, 0\); expected a 2-D grey image with at least one pixel"),
        ([np.zeros((2, 2), bool)], "Image 0: Pixels must be unsigned integers"),
        ([np.zeros((2, 2), "c8")], "Image 0: Pixels must be unsigned integers"),
        ([np.zeros((2, 2)), "a.png"], "Image 1 is a path among arrays; give paths only, or arrays only"),
        ([np.array([["a"]])], "Image 0: Pixels must be unsigned integers"),
        (np.zeros(3), "Image 0 has shape"),
    ],
)
def test_what_is_no_set_of_images_is_refused_by_name(images: list, message: str) -> None:
    with pytest.raises(InvalidImageError, match=message):
        ImageSet(images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"scanner": ["A"]}, r"2 images but scanner has shape \(1,\); expected \(2,\)"),
        ({"patient": [["A"], ["B"]]}, "2 images but patient has shape"),
        ({"scanner": ["A", None]}, "The scanner of image 1 is missing; every image needs one"),
        ({"scanner": ["", "A"]}, "The scanner of image 0 is missing"),
        ({"scanner": [np.float32("nan"), "A"]}, "The scanner of image 0 is missing"),
        ({"scanner": pd.Series(["A", pd.NA])}, "The scanner of image 1 is missing"),
        ({"mask": [None]}, "2 images but 1 masks; expected one an image"),
        ({"meta": pd.DataFrame({"a": [1]})}, "2 images but meta has 1 rows; expected one an image"),
        ({"bits_stored": [8]}, r"bits_stored must be one integer or 2, one an image .* got \[8\]"),
        ({"bits_stored": [8, None]}, "bits_stored must be one integer or 2"),
        ({"bits_stored": 7.5}, "bits_stored must be one integer or 2.* got 7.5"),
    ],
)
def test_labels_must_cover_every_image(labels: dict, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        ImageSet(np.zeros((2, 3, 3), "u1"), **labels)


def test_bits_and_masks_must_fit_their_image() -> None:
    with pytest.raises(InvalidImageError, match="Image 1: bits_stored=9 does not fit pixels of type uint8"):
        ImageSet(np.zeros((2, 3, 3), "u1"), bits_stored=[8, 9])
    with pytest.raises(InvalidImageError, match=r"Image 0 has shape \(3, 3\) but its mask \(3, 2\); expected the same"):
        ImageSet(np.zeros((1, 3, 3), "u1"), mask=np.ones((1, 3, 2)))


def test_one_string_names_the_scanner_of_all_and_other_labels_become_strings() -> None:
    assert ImageSet(ragged(2), scanner="A").scanner.tolist() == ["A", "A"]
    assert ImageSet(ragged(2), scanner=[1, 2]).scanner.tolist() == ["1", "2"]
    assert ImageSet(ragged(2), scanner=pd.Categorical(["x", "y"])).scanner.tolist() == ["x", "y"]


def test_a_patient_whom_nobody_named_is_none() -> None:
    assert ImageSet(ragged(4), patient=["a", None, np.nan, ""]).patient.tolist() == ["a", None, None, None]


def test_of_makes_a_set_of_every_accepted_container(tmp_path: Path) -> None:
    stack = np.zeros((2, 3, 4), "u1")
    objects = np.empty(2, dtype=object)
    objects[:] = ragged(2)
    np.save(tmp_path / "a.npy", stack[0])
    paths = [tmp_path / "a.npy"] * 2
    for X in (stack, list(stack), tuple(stack), objects, paths, np.array([str(path) for path in paths])):
        made = ImageSet.of(X, scanner="A")
        assert made.shape == (2,)
        assert made.scanner.tolist() == ["A", "A"]
    assert ImageSet.of(made) is made


def test_a_folder_with_a_table_brings_all_its_columns(tmp_path: Path) -> None:
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.zeros((2, 3), "u1"))
    (tmp_path / "labels.csv").write_text("path,label,scanner,patient,view\nb.npy,1,S,p,PA\na.npy,0,T,,AP\n")
    X = ImageSet.from_folder(tmp_path, tmp_path / "labels.csv")
    assert X.is_lazy
    assert (X.label.tolist(), X.scanner.tolist(), X.patient.tolist()) == ([1, 0], ["S", "T"], ["p", None])
    assert X.meta["view"].tolist() == ["PA", "AP"]
    assert [Path(path).name for path in X.meta["path"]] == ["b.npy", "a.npy"]


def test_a_folder_without_a_table_names_scanners_by_its_folders(tmp_path: Path) -> None:
    for name in ("S/a", "T/b"):
        (tmp_path / name).parent.mkdir()
        np.save(tmp_path / f"{name}.npy", np.zeros((2, 3), "u1"))
    X = ImageSet.from_folder(tmp_path)
    assert X.scanner.tolist() == ["S", "T"]
    with pytest.raises(InvalidParameterError, match="has no labels"):
        _ = X.label


def test_dicom_files_bring_scanner_patient_and_window_of_their_headers(tmp_path: Path) -> None:
    from dicom_factory import make_dicom

    stored = np.arange(12, dtype="uint16").reshape(3, 4)
    made = {"Manufacturer": "ACME", "ManufacturerModelName": "One", "PatientID": "p"}
    window = {"WindowCenter": 6, "WindowWidth": 5}
    paths = [
        make_dicom(tmp_path / "a.dcm", stored, bits_stored=12, **made, **window),
        make_dicom(tmp_path / "b.dcm", stored, bits_stored=12),
    ]
    X = ImageSet.from_dicom(paths)
    assert X.is_lazy
    assert (X.scanner.tolist(), X.patient.tolist()) == (["ACME One", "unknown"], ["p", None])
    assert X.radiograph(0).meta["window_center"] == 6
    assert X.radiograph(1).meta.get("window_center") is None
    assert X.bits_stored.tolist() == [12, 12]
    np.testing.assert_array_equal(X[0], stored)
    assert len(ImageSet.from_dicom([])) == 0


def test_dicom_files_for_processing_and_for_presentation_mix_only_where_asked_for(tmp_path: Path) -> None:
    from dicom_factory import make_dicom

    stored = np.zeros((3, 4), dtype="uint16")
    paths = [
        make_dicom(tmp_path / f"{kind}.dcm", stored, PresentationIntentType=f"FOR {kind}")
        for kind in ("PROCESSING", "PRESENTATION")
    ]
    with pytest.raises(InvalidParameterError, match=r"PROCESSING\.dcm\) and .*PRESENTATION\.dcm\) .*mixed_intent=True"):
        ImageSet.from_dicom(paths)
    intents = ImageSet.from_dicom(paths, mixed_intent=True).meta["presentation_intent"]
    assert intents.tolist() == ["FOR PROCESSING", "FOR PRESENTATION"]
    assert len(ImageSet.from_dicom(paths[:1])) == 1


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 4)), r"Expected a set of images, got one array of shape \(3, 4\). For one image pass X\[None\]"),
        ("folder/a.png", "Expected an ImageSet, a stack .* got str"),
        (iter([]), "Expected an ImageSet, a stack .* got list_iterator"),
        (None, "Expected an ImageSet, a stack .* got NoneType"),
        ({"a": 1}, "Expected an ImageSet, a stack .* got dict"),
        (pd.DataFrame({"path": ["a.png"]}), "Expected an ImageSet, a stack .* got DataFrame"),
    ],
)
def test_of_refuses_what_holds_no_images(X: object, message: str) -> None:
    with pytest.raises(InvalidImageError, match=message):
        ImageSet.of(X)


def test_the_scanner_may_be_given_twice_only_if_both_agree() -> None:
    X = labelled(2)
    assert ImageSet.of(X, scanner=["S0", "S1"]).scanner.tolist() == ["S0", "S1"]
    with pytest.raises(InvalidParameterError, match=r"scanner= and X.scanner differ, .* image 1: 'S0' against 'S1'"):
        ImageSet.of(X, scanner="S0")
    with pytest.raises(InvalidParameterError, match="2 images but scanner has shape"):
        X.with_scanner(["S0"])


# -- one image ------------------------------------------------------------------------------------------------------


def test_a_radiograph_carries_all_that_is_known_about_it() -> None:
    r = labelled().radiograph(2)
    assert isinstance(r, Radiograph)
    assert (r.scanner, r.bits_stored, int(r.mask.sum())) == ("S0", 10, 5)
    assert r.meta == {"kvp": 62.0, "rows": 2, "path": "2.png"}
    assert isinstance(r.meta["rows"], int | np.integer)


def test_empty_cells_of_meta_say_nothing() -> None:
    meta = pd.DataFrame({"kvp": [np.nan, 70], "view": ["PA", None], "when": [pd.NaT, pd.NaT]})
    X = ImageSet(ragged(2), meta=meta)
    assert X.radiograph(0).meta == {"view": "PA"}
    assert X.radiograph(1).meta == {"kvp": 70}


def test_unit_gives_fractions_of_full_scale_in_new_memory() -> None:
    X = ImageSet([np.array([[0, 4095]], "u2"), np.array([[0.25]], "f8")], bits_stored=[12, 0])
    assert X.unit(0).tolist() == [[0, 1]]
    assert X.unit(1).dtype == np.float32
    with pytest.raises(InvalidImageError, match=r"Image 0 holds floats from 2 to 2; expected \[0, 1\]"):
        ImageSet([np.array([[2.0]])]).unit(0)


def test_meta_is_a_copy() -> None:
    given_meta = pd.DataFrame({"kvp": [60.0, 70.0]}, index=[7, 9])
    X = ImageSet(ragged(2), meta=given_meta)
    given_meta["kvp"] = 0.0
    table = X.meta
    table["kvp"] = 1.0
    assert X.meta["kvp"].tolist() == [60, 70]


def test_labels_come_from_the_table() -> None:
    assert ImageSet(ragged(2), meta=pd.DataFrame({"label": ["a", "b"]})).label.tolist() == ["a", "b"]
    with pytest.raises(InvalidParameterError, match="This ImageSet has no labels; read it with a label column"):
        _ = ImageSet(ragged(2)).label


def test_repr_tells_number_and_scanners() -> None:
    assert repr(labelled()) == "ImageSet(5 images, scanners S0, S1)"
    assert repr(ImageSet(["a.png"])) == "ImageSet(1 lazy images)"


def test_pickled_in_memory_sets_come_back_whole() -> None:
    assert_is_selection(pickle.loads(pickle.dumps(labelled())), [0, 1, 2, 3, 4])


# -- another set from this one --------------------------------------------------------------------------------------


def windowed() -> ImageSet:
    meta = pd.DataFrame({"window_center": [3.0], "window_width": [2.0], "voi_lut_function": ["SIGMOID"], "kvp": [70]})
    return ImageSet([np.array([[1, 5]], "u1")], scanner="A", patient=["p"], mask=[np.array([[True, False]])], meta=meta)


def test_map_to_pixels_keeps_labels_and_mask_but_no_window_in_other_units() -> None:
    X = windowed().map(lambda r: r.pixels.astype("f4") / 10)
    r = X.radiograph(0)
    assert (X.scanner.tolist(), X.patient.tolist(), r.mask.tolist()) == (["A"], ["p"], [[True, False]])
    assert (r.bits_stored, dict(r.meta), X.meta.columns.tolist()) == (0, {"kvp": 70}, ["kvp"])
    np.testing.assert_allclose(X[0], [[0.1, 0.5]])


def test_map_to_a_radiograph_keeps_what_that_says() -> None:
    X = windowed().map(lambda r: Radiograph(r.pixels[:, :1], 8, None, r.meta, r.name))
    r = X.radiograph(0)
    assert (X[0].shape, r.bits_stored, r.mask, r.meta["window_center"]) == ((1, 1), 8, None, 3)


def test_map_leaves_the_original_as_it_was() -> None:
    X = windowed()
    X.map(lambda r: r.pixels * np.float32(0))
    assert X[0].tolist() == [[1, 5]]
    assert X.radiograph(0).meta["window_width"] == 2


def test_results_come_in_the_kind_of_container_that_went_in(tmp_path: Path) -> None:
    def through(X: object) -> object:
        return in_container_of(X, ImageSet.of(X).map(lambda r: r.pixels.astype("f4")))

    stack = np.zeros((2, 3, 4), "u1")
    assert isinstance(through(stack), np.ndarray)
    assert through(stack).shape == (2, 3, 4)
    assert through(stack[:0]).shape == (0, 3, 4)
    assert [type(through(X)) for X in (list(stack), ragged(), [])] == [list, list, list]
    assert isinstance(through(labelled()), ImageSet)
    np.save(tmp_path / "a.npy", stack[0])
    of_paths = through([tmp_path / "a.npy"])
    assert isinstance(of_paths, ImageSet)
    assert of_paths.is_lazy


def test_a_stack_whose_images_come_to_differ_in_shape_becomes_a_list() -> None:
    X = np.arange(8, dtype="u1").reshape(2, 2, 2)
    result = in_container_of(X, ImageSet.of(X).map(lambda r: Radiograph(r.pixels[: 1 + r.pixels[0, 0] // 4])))
    assert [image.shape for image in result] == [(1, 2), (2, 2)]


def test_the_cache_cannot_have_a_negative_size() -> None:
    with pytest.raises(InvalidParameterError, match="The cache cannot have a size of -1 MiB; expected 0 or more"):
        set_cache_size(-1)
