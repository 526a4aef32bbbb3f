"""What harmonizers inherit: labels, statistics, references, adaptation, errors that name things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from xray_harmonize import CDFMatching, FullRange, ImageSet, MinMax, Nyul, ZScore
from xray_harmonize.exceptions import (
    InvalidImageError,
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
    UnknownScannerError,
)
from xray_harmonize.harmonizers.base import ReferenceHarmonizer, Statistics
from xray_harmonize.levels import as_unit
from xray_harmonize.radiograph import Radiograph


class MeanShift(ReferenceHarmonizer):
    """The smallest harmonizer with statistics: adds the difference of means."""

    def __init__(
        self,
        reference: str | None = None,
        scope: str = "image",
        image_weight: float = 0.5,
        unseen: str = "error",
    ) -> None:
        self.reference = reference
        self.scope = scope
        self.image_weight = image_weight
        self.unseen = unseen

    def _measure(self, radiograph: Radiograph) -> Statistics:
        return {"mean": np.mean(as_unit(radiograph.pixels, radiograph.bits_stored), dtype=np.float64)}

    def _learn(self, reference: Statistics) -> None:
        self.reference_mean_ = reference["mean"]

    def _render(self, radiograph: Radiograph) -> np.ndarray:
        shift = self.reference_mean_ - self._source_statistics(radiograph)["mean"]
        return np.clip(as_unit(radiograph.pixels, radiograph.bits_stored) + np.float32(shift), 0, 1)


def flat(*values: float) -> np.ndarray:
    """Give constant images of these grey values."""
    return np.array([np.full((2, 3), value, "f4") for value in values])


def means(images: object) -> list[float]:
    return [round(float(np.mean(image)), 4) for image in images]


# -- the reference --------------------------------------------------------------------------------------------------


def test_without_labels_all_images_are_the_reference() -> None:
    fitted = MeanShift().fit(flat(0.2, 0.4, 0.6))
    assert fitted.reference_ == "all images"
    assert means(fitted.transform(flat(0.1, 0.9))) == [0.4, 0.4]


def test_without_a_name_the_reference_is_the_scanner_with_most_images() -> None:
    fitted = MeanShift().fit(flat(0.2, 0.3, 0.4, 0.9), scanner=["B", "A", "A", "C"])
    assert fitted.reference_ == "A"
    assert means(fitted.transform(flat(0.5))) == [0.35]


@given(st.permutations([0, 1, 2, 3]))
def test_scanners_of_equal_numbers_settle_the_reference_by_name_and_not_by_order(order: list[int]) -> None:
    X = ImageSet(flat(0.2, 0.2, 0.8, 0.8), scanner=["B", "B", "A", "A"])[order]
    assert MeanShift().fit(X).reference_ == "A"


def test_a_named_reference_decides_alone() -> None:
    fitted = MeanShift(reference="C").fit(flat(0.2, 0.3, 0.4, 0.9), scanner=["B", "A", "A", "C"])
    assert (fitted.reference_, means(fitted.transform(flat(0.5)))) == ("C", [0.9])
    assert list(fitted.statistics_) == ["C"]


def test_pooled_gives_every_scanner_the_same_weight() -> None:
    fitted = MeanShift(reference="pooled").fit(flat(0.2, 0.2, 0.2, 0.8), scanner=["A", "A", "A", "B"])
    assert (fitted.reference_, means(fitted.transform(flat(0.1)))) == ("pooled", [0.5])


@pytest.mark.parametrize("scope", ["image", "scanner"])
def test_a_reference_without_training_images_is_an_error_naming_the_scanners(scope: str) -> None:
    with pytest.raises(UnknownScannerError, match=r"reference='Z' has no training image; the scanners are A, B. "):
        MeanShift(reference="Z", scope=scope).fit(flat(0.2, 0.4), scanner=["B", "A"])


@pytest.mark.parametrize("reference", [1, ["A"], ("A", "B")])
def test_a_reference_that_is_no_name_is_refused(reference: object) -> None:
    with pytest.raises(InvalidParameterError, match="reference must be the name of a scanner as text, or None; got "):
        MeanShift(reference=reference).fit(flat(0.2, 0.4), scanner=["B", "A"])


# -- scopes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "expected"), [("image", [0.3, 0.3]), ("scanner", [0.2, 0.4]), ("mixed", [0.25, 0.35])]
)
def test_scope_says_whose_statistics_are_brought_to_the_references(scope: str, expected: list[float]) -> None:
    X = ImageSet(flat(0.2, 0.4, 0.5, 0.7), scanner=["A", "A", "B", "B"])
    assert means(MeanShift("A", scope).fit(X).transform(X[2:])) == expected


def test_image_weight_says_where_mixed_stands() -> None:
    X = ImageSet(flat(0.2, 0.4, 0.5, 0.7), scanner=["A", "A", "B", "B"])
    assert means(MeanShift("A", "mixed", image_weight=0.9).fit(X).transform(X[2:])) == [0.29, 0.31]


@pytest.mark.parametrize("scope", ["scanner", "mixed"])
def test_a_scanner_not_seen_is_an_error_or_taken_image_by_image(scope: str) -> None:
    X = ImageSet(flat(0.2, 0.4), scanner="A")
    new = ImageSet(flat(0.9), scanner="N")
    with pytest.raises(UnknownScannerError, match=r"Scanner 'N' was not seen in fit; known are A. Call adapt .*"):
        MeanShift(scope=scope).fit(X).transform(new)
    assert means(MeanShift(scope=scope, unseen="image").fit(X).transform(new)) == [0.3]


def test_an_unseen_scanner_is_refused_before_a_lazy_image_is_read(tmp_path: Path) -> None:
    fitted = MeanShift(scope="scanner").fit(flat(0.2), scanner="A")
    with pytest.raises(UnknownScannerError, match="Scanner 'N' was not seen"):
        fitted.transform(ImageSet([tmp_path / "absent.png"], scanner="N"))
    with pytest.raises(MissingScannerError):
        fitted.transform(ImageSet([tmp_path / "absent.png"]))


# -- scanner labels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "transform", "adapt"])
def test_a_missing_scanner_is_an_error_that_names_both_ways_to_give_it(method: str) -> None:
    harmonizer = MeanShift(scope="scanner")
    if method != "fit":
        harmonizer.fit(flat(0.2), scanner="A")
    message = (
        rf"MeanShift.{method} needs to know which scanner made each image. "
        rf"Give X as ImageSet\(images, scanner=...\), or call {method}\(X, scanner=...\)"
    )
    with pytest.raises(MissingScannerError, match=message):
        getattr(harmonizer, method)(flat(0.2))


@pytest.mark.parametrize("reference", ["A", "pooled"])
def test_a_reference_needs_labels_to_be_found(reference: str) -> None:
    with pytest.raises(MissingScannerError, match=r"MeanShift.fit needs to know"):
        MeanShift(reference=reference).fit(flat(0.2))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "adapt", "fit_transform"])
def test_labels_given_both_ways_must_agree(method: str) -> None:
    X = ImageSet(flat(0.2, 0.4), scanner=["A", "B"])
    harmonizer = MeanShift(scope="scanner").fit(X)
    with pytest.raises(InvalidParameterError, match=r"scanner= and X.scanner differ, .* image 1: 'A' against 'B'"):
        getattr(harmonizer, method)(X, scanner=["A", "A"])


# -- partial_fit ----------------------------------------------------------------------------------------------------


def test_the_first_chunks_may_lack_the_reference() -> None:
    harmonizer = MeanShift(reference="A", scope="scanner").partial_fit(flat(0.8), scanner="B")
    with pytest.raises(NotFittedError):
        harmonizer.transform(flat(0.8), scanner="B")
    harmonizer.partial_fit(flat(0.2), scanner="A")
    assert means(harmonizer.transform(flat(0.9), scanner="B")) == [0.3]


def test_the_largest_scanner_is_settled_by_all_chunks() -> None:
    harmonizer = MeanShift().partial_fit(flat(0.1), scanner="A").partial_fit(flat(0.8, 0.6), scanner="B")
    assert harmonizer.reference_ == "B"


def test_chunks_with_and_without_labels_do_not_mix() -> None:
    with pytest.raises(MissingScannerError, match="Some chunks carry scanner labels and some do not; give labels with"):
        MeanShift().partial_fit(flat(0.1), scanner="A").partial_fit(flat(0.2))
    with pytest.raises(MissingScannerError, match="Some chunks carry scanner labels and some do not"):
        MeanShift().partial_fit(flat(0.1)).partial_fit(flat(0.2), scanner="A")


def test_a_chunk_that_fails_leaves_what_was_learned() -> None:
    harmonizer = MeanShift().partial_fit(flat(0.1, 0.3))
    with pytest.raises(InvalidImageError):
        harmonizer.partial_fit(flat(0.9, np.nan))
    assert harmonizer.statistics_["all images"]["n_images"] == 2
    assert means(harmonizer.transform(flat(0.9))) == [0.2]


def test_fit_forgets_and_partial_fit_does_not() -> None:
    harmonizer = MeanShift().fit(flat(0.1)).fit(flat(0.3)).partial_fit(flat(0.5))
    assert means(harmonizer.transform(flat(0.9))) == [0.4]


# -- adapt ----------------------------------------------------------------------------------------------------------


def test_adapt_learns_new_scanners_and_leaves_known_ones_aside() -> None:
    fitted = MeanShift("A", "scanner").fit(flat(0.2, 0.6), scanner=["A", "B"])
    adapted = fitted.adapt(flat(0.9, 0.7, 0.1, 0.4), scanner=["N", "N", "B", "M"])
    assert sorted(adapted.statistics_) == ["A", "B", "M", "N"]
    assert means(adapted.transform(flat(0.9, 0.7, 0.6, 0.4), scanner=["N", "N", "B", "M"])) == [0.3, 0.1, 0.2, 0.2]
    assert sorted(fitted.statistics_) == ["A", "B"]


def test_adapting_to_what_is_known_is_an_error() -> None:
    fitted = MeanShift("A", "scanner").fit(flat(0.2, 0.6), scanner=["A", "B"])
    with pytest.raises(InvalidParameterError, match=r"adapt found no new scanner: B known already. Name the new"):
        fitted.adapt(flat(0.9), scanner="B")


def test_adapting_before_fitting_is_an_error() -> None:
    with pytest.raises(NotFittedError):
        MeanShift().adapt(flat(0.9), scanner="N")


@pytest.mark.parametrize("stateless", [FullRange(), ZScore()])
def test_a_method_that_learns_nothing_adapts_to_anything_as_it_is(stateless: FullRange) -> None:
    assert stateless.adapt(flat(0.5), scanner="N") is stateless


def test_statistics_of_single_images_adapt_to_anything_as_they_are() -> None:
    fitted = MeanShift("A", "image").fit(flat(0.2, 0.6), scanner=["A", "B"])
    assert fitted.adapt(flat(0.9), scanner="N") is fitted
    assert "N" not in fitted.statistics_


# -- images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("harmonizer", [MeanShift(), FullRange(), MinMax(scope="scanner")])
@pytest.mark.parametrize("empty", [[], np.zeros((0, 2, 2)), ImageSet([])])
def test_nothing_can_be_learned_from_no_image(harmonizer: MeanShift, empty: object) -> None:
    with pytest.raises(NotEnoughImagesError, match="Expected at least 1 image to learn from, got 0"):
        harmonizer.fit(empty)


@pytest.mark.parametrize("harmonizer", [CDFMatching(), Nyul(), ZScore(), MeanShift()])
def test_an_error_about_an_image_names_it(harmonizer: MeanShift) -> None:
    harmonizer.fit(flat(0.3, 0.5))
    bad = [flat(0.5)[0], np.array([[0.5, np.nan]])]
    with pytest.raises(InvalidImageError, match=r"Image 1\b.* holds NaN"):
        harmonizer.transform(bad)
    masked = ImageSet(flat(0.1, 0.2), mask=[np.zeros((2, 3), bool)] * 2)
    if not isinstance(harmonizer, MeanShift):
        with pytest.raises(InvalidImageError, match="Image 0: There is no pixel to take statistics of"):
            harmonizer.transform(masked)


def test_an_error_about_a_file_names_its_path_even_if_it_comes_late(tmp_path: Path) -> None:
    path = tmp_path / "dark.npy"
    np.save(path, flat(0.5)[0])
    X = MinMax().fit(flat(0.5)).transform(ImageSet([path], mask=[np.zeros((2, 3), bool)]))
    with pytest.raises(InvalidImageError, match=r"dark\.npy: There is no pixel"):
        X[0]


def test_tone_curves_name_the_image_too() -> None:
    with pytest.raises(InvalidImageError, match=r"Image 0: .*holds NaN"):
        MinMax().fit(flat(0.5)).tone_curves([np.array([[np.nan]])])


def test_a_lazy_result_computes_with_the_state_of_the_call(tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, flat(0.5)[0])
    harmonizer = MeanShift().fit(flat(0.2))
    X = harmonizer.transform([path])
    harmonizer.fit(flat(0.9))
    assert means(X) == [0.2]
