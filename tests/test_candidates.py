"""What is compared: the list of candidates, and what each declares."""

from __future__ import annotations

import numpy as np
import pytest

from xray_harmonize import CDFMatching, CropForeground, FullRange, MinMax, MultiBand, Nyul, ZScore
from xray_harmonize.evaluation.candidates import (
    BASELINE,
    NOTHING,
    UNLABELLED,
    Candidate,
    default_candidates,
    select_candidates,
)
from xray_harmonize.exceptions import InvalidParameterError

DEFAULT = default_candidates()


def test_names_differ_and_doing_nothing_comes_first():
    names = [candidate.name for candidate in DEFAULT]
    assert len(set(names)) == len(names)
    assert names[0] == BASELINE == "none"


def test_the_three_controls_are_among_them():
    controls = {candidate.name: candidate for candidate in DEFAULT}
    assert not controls["none"].steps
    assert controls["batch-norm adaptation"].adapts_batch_norm
    assert controls["random tone curves"].classifier_parameters == {"augment": "tone"}


@pytest.mark.parametrize("candidate", DEFAULT, ids=lambda candidate: candidate.name)
def test_every_candidate_declares_what_it_sees_as_its_steps_need(candidate):
    needs_images = candidate.learns_scanners or candidate.adapts_batch_norm
    assert candidate.sees == (UNLABELLED if needs_images else NOTHING)


@pytest.mark.parametrize("candidate", DEFAULT, ids=lambda candidate: candidate.name)
def test_only_methods_that_leave_zero_to_one_train_on_what_they_make(candidate):
    assert candidate.trains_on_harmonized == any(isinstance(step, ZScore) for step in candidate.steps)


def test_steps_that_leave_the_reference_open_take_the_one_of_the_comparison():
    candidate = Candidate("x", (FullRange(), MultiBand(), CDFMatching(reference="other")))
    fitted = candidate.harmonizer("home")
    assert fitted[1].reference == "home"
    assert fitted[2].reference == "other"
    assert candidate.harmonizer(None)[1].reference is None


def test_every_harmonizer_is_a_new_unfitted_one():
    step = CDFMatching()
    candidate = Candidate("x", (step,))
    first, second = candidate.harmonizer("home"), candidate.harmonizer("home")
    assert first[0] is not second[0]
    assert first[0] is not step
    assert step.reference is None


def test_without_steps_images_come_as_their_full_range():
    image = np.array([[0, 255]], dtype=np.uint8)
    assert Candidate(BASELINE).harmonizer("home").fit_transform([image])[0].tolist() == [[0, 1]]


def test_geometry_is_a_pipeline_of_its_own_or_none():
    assert Candidate("x").geometry_pipeline() is None
    (step,) = (step for _, step in Candidate("x", geometry=(CropForeground(),)).geometry_pipeline().steps)
    assert isinstance(step, CropForeground)


def test_candidates_that_are_trained_on_the_same_share_a_key():
    crop = (CropForeground(),)
    assert Candidate("a").training_key() == Candidate("b", (Nyul(),), sees=UNLABELLED).training_key()
    assert Candidate("a", geometry=crop).training_key() == Candidate("b", (Nyul(),), crop).training_key()


@pytest.mark.parametrize(
    "other",
    [
        Candidate("a", geometry=(CropForeground(),)),
        Candidate("a", geometry=(CropForeground(margin=0.5),)),
        Candidate("a", classifier_parameters={"augment": "tone"}),
        Candidate("a", classifier_parameters={"augment": "strong"}),
        Candidate("a", (ZScore(),), trains_on_harmonized=True),
        Candidate("a", (MinMax(),), trains_on_harmonized=True),
    ],
    ids=repr,
)
def test_candidates_that_are_trained_on_different_things_do_not(other):
    keys = [
        Candidate("a").training_key(),
        Candidate("a", geometry=(CropForeground(margin=0.4),)).training_key(),
        Candidate("a", classifier_parameters={"augment": None}).training_key(),
        Candidate("a", (FullRange(),), trains_on_harmonized=True).training_key(),
    ]
    assert other.training_key() not in keys


def test_a_key_tells_parameters_that_a_repr_would_shorten():
    def candidate(last):
        return Candidate("a", (Nyul((*range(1, 60), last)),), trains_on_harmonized=True)

    assert repr(candidate(98).steps) == repr(candidate(99).steps)
    assert candidate(98).training_key() != candidate(99).training_key()


def test_selecting_keeps_the_order_of_the_table_and_the_baseline():
    chosen = select_candidates(DEFAULT, ["Nyul", "min-max", "Nyul"])
    assert [candidate.name for candidate in chosen] == ["none", "min-max", "Nyul"]


def test_an_unknown_name_lists_those_that_are_known():
    with pytest.raises(InvalidParameterError, match=r"no harmonizer 'CDF' to compare; known are 'none', 'min-max'"):
        select_candidates(DEFAULT, ["none", "CDF"])
