"""What is compared: the list of candidates, and what each declares."""

from __future__ import annotations

from typing import get_type_hints

import numpy as np
import pytest
from tiny_study import SpyLearner, images_of

import xray_harmonize
from xray_harmonize import CDFMatching, CropForeground, FullRange, MinMax, MultiBand, Nyul, ResNetClassifier, ZScore
from xray_harmonize.cli.compare import compare
from xray_harmonize.evaluation.candidates import (
    BASELINE,
    LABELLED,
    NOTHING,
    ON_REQUEST,
    SEES,
    UNLABELLED,
    Candidate,
    default_candidates,
    select_candidates,
)
from xray_harmonize.evaluation.splits import FIXED, LEAVE_ONE_OUT
from xray_harmonize.evaluation.study import Study
from xray_harmonize.exceptions import InvalidParameterError
from xray_harmonize.harmonizers.base import Harmonizer

DEFAULT = default_candidates()


def harmonizer_names():
    """Public classes of the package that are harmonizers."""
    public = {name: getattr(xray_harmonize, name) for name in xray_harmonize.__all__}
    return [name for name, one in public.items() if isinstance(one, type) and issubclass(one, Harmonizer)]


def test_names_differ_and_doing_nothing_comes_first():
    names = [candidate.name for candidate in DEFAULT]
    assert len(set(names)) == len(names)
    assert names[0] == BASELINE == "none"


def test_the_controls_are_among_them():
    controls = {candidate.name: candidate for candidate in DEFAULT}
    assert controls["fine-tuned"].fine_tunes
    assert not controls["fine-tuned"].steps
    assert not controls["none"].steps
    assert controls["batch-norm adaptation"].adapts_batch_norm
    assert controls["random tone curves"].classifier_parameters == {"augment": "tone"}


def test_those_that_see_more_come_later():
    places = [SEES.index(candidate.sees) for candidate in DEFAULT]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2}


@pytest.mark.parametrize("candidate", DEFAULT, ids=lambda candidate: candidate.name)
def test_every_candidate_declares_what_it_sees_as_its_steps_need(candidate):
    by_labels = [step for step in candidate.steps if getattr(step, "supervision", None) == "labels"]
    needs_images = candidate.learns_scanners or candidate.adapts_batch_norm or candidate.fits_to_all
    assert (candidate.sees == LABELLED) == bool(by_labels or candidate.fine_tunes)
    if candidate.sees != LABELLED:
        assert candidate.sees == (UNLABELLED if needs_images else NOTHING)


def test_every_gdce_takes_the_parameters_that_are_named_once(tmp_path):
    made = [
        step
        for candidate in default_candidates(tmp_path / "vgg.pt", {"max_steps": 7, "device": "cpu"})
        for step in candidate.steps
        if type(step).__name__ == "GDCE"
    ]
    assert {(step.scope, step.supervision) for step in made} == {
        ("image", "labels"),
        ("scanner", "labels"),
        ("scanner", "distribution"),
    }
    for step in made:
        assert step.vgg_weights == str(tmp_path / "vgg.pt")
        assert (step.max_steps, step.device) == (7, "cpu")
        assert (step.discriminator, step.image_size, step.random_state) == (None, None, None)
    plain = [step for candidate in DEFAULT for step in candidate.steps if type(step).__name__ == "GDCE"]
    assert {step.vgg_weights for step in plain} == {"random"}


@pytest.mark.parametrize("candidate", DEFAULT, ids=lambda candidate: candidate.name)
def test_only_methods_that_leave_zero_to_one_train_on_what_they_make(candidate):
    assert candidate.trains_on_harmonized == any(isinstance(step, ZScore) for step in candidate.steps)


def test_steps_that_leave_the_reference_open_take_the_one_of_the_comparison():
    candidate = Candidate("x", (FullRange(), MultiBand(), CDFMatching(reference="other")))
    fitted = candidate.harmonizer("home")
    assert fitted[1].reference == "home"
    assert fitted[2].reference == "other"
    assert candidate.harmonizer(None)[1].reference is None


def test_steps_take_the_classifier_and_the_seed_that_they_leave_open():
    own = object()
    candidate = Candidate("x", (SpyLearner(), SpyLearner(random_state=3), CDFMatching()), sees=LABELLED)
    first, second, third = (step for _, step in candidate.harmonizer("home", own, 5).steps)
    assert (first.reference, first.discriminator, first.random_state) == ("home", own, 5)
    assert (second.discriminator, second.random_state) == (own, 3)
    assert third.reference == "home"
    assert candidate.harmonizer("home")[0].discriminator is None
    assert candidate.needs_discriminator
    assert not Candidate("x", (SpyLearner(discriminator=MinMax()),), sees=LABELLED).needs_discriminator


@pytest.mark.parametrize(
    ("candidate", "fixed", "left_out"),
    [
        (Candidate("x"), NOTHING, NOTHING),
        (Candidate("x", (CDFMatching(scope="scanner"),), sees=UNLABELLED), UNLABELLED, UNLABELLED),
        (Candidate("x", (SpyLearner(),), sees=LABELLED), LABELLED, NOTHING),
        (Candidate("x", (SpyLearner(scope="scanner"),), sees=LABELLED), LABELLED, UNLABELLED),
        (Candidate("x", (SpyLearner(),), sees=LABELLED, adapts_batch_norm=True), LABELLED, UNLABELLED),
        (Candidate("x", (CDFMatching(scope="scanner"), SpyLearner()), sees=LABELLED), LABELLED, UNLABELLED),
    ],
)
def test_nobody_sees_labels_of_a_scanner_that_is_left_out(candidate, fixed, left_out):
    assert candidate.sees_under(FIXED) == fixed
    assert candidate.sees_under(LEAVE_ONE_OUT) == left_out


@pytest.mark.parametrize("candidate", DEFAULT, ids=lambda candidate: candidate.name)
def test_fine_tuning_alone_is_not_defined_without_labels_of_the_test_scanner(candidate):
    assert candidate.runs_under(FIXED)
    assert candidate.runs_under(LEAVE_ONE_OUT) == (candidate.name != "fine-tuned")


def test_a_classifier_changed_for_one_scanner_serves_no_other():
    serving = {candidate.name for candidate in DEFAULT if not candidate.serves_every_scanner}
    assert serving == {"batch-norm adaptation", "fine-tuned"}


def test_who_holds_images_out_needs_a_batch_of_the_others():
    def fewest(*steps, **options):
        return Candidate("x", steps, sees=LABELLED, **options).fewest_images(4)

    assert fewest() == 1
    assert fewest(fine_tunes=True) == 2
    assert fewest(SpyLearner(batch_size=12)) == 12
    assert fewest(CDFMatching(), SpyLearner(batch_size=12, validation_fraction=0.2)) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sees": "everything"},
            r"'x': sees must be one of 'nothing', 'unlabelled images', 'labelled images'; got",
        ),
        ({"fine_tunes": True}, "Candidate 'x' fine-tunes, which needs sees='labelled images'; got 'nothing'"),
        (
            {"fits_to_all": True, "sees": LABELLED},
            "Candidate 'x' fits to all scanners, which needs sees='unlabelled images'; got 'labelled images'",
        ),
    ],
)
def test_a_candidate_that_contradicts_itself_is_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        Candidate("x", **options)


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


def test_every_harmonizer_of_the_package_is_compared_by_some_candidate():
    compared = {type(step).__name__ for candidate in DEFAULT for step in candidate.steps}
    assert compared == set(harmonizer_names()) - {"FullRange"}


def test_what_trains_a_network_of_its_own_runs_on_request_and_leaves_reference_and_seed_open():
    known = {candidate.name: candidate for candidate in default_candidates(networks={"device": "cuda", "max_steps": 3})}
    for name in ON_REQUEST:
        (step,) = known[name].steps
        assert (step.reference, step.random_state, step.device, step.max_steps) == (None, None, "cuda", 3)
    assert {one.name for one in DEFAULT if one.trains_networks and "GDCE" not in one.name} == set(ON_REQUEST)


def test_selecting_keeps_the_order_of_the_table_and_the_baseline():
    chosen = select_candidates(DEFAULT, ["Nyul", "min-max", "Nyul"])
    assert [candidate.name for candidate in chosen] == ["none", "min-max", "Nyul"]


def test_an_unknown_name_lists_those_that_are_known():
    with pytest.raises(InvalidParameterError, match=r"no harmonizer 'CDF' to compare; known are 'none', 'min-max'"):
        select_candidates(DEFAULT, ["none", "CDF"])


@pytest.mark.filterwarnings("ignore:GDCE")
def test_every_default_candidate_goes_through_a_study():
    X, y = images_of({"home": 12, "far": 10}, side=16)
    quick = {"perceptual": None, "max_steps": 2, "batch_size": 2, "validation_fraction": 0, "view_size": 16}
    own = {"max_steps": 1, "device": "cpu"}
    candidates = default_candidates(gdce={**quick, "n_layers": 1, "device": "cpu"}, networks=own)
    network = ResNetClassifier(depth=10, width=2, image_size=16, max_epochs=1, validation_fraction=0, device="cpu")
    predictions = Study(X, y, candidates, network, "home", n_folds=3).run()
    assert list(dict.fromkeys(predictions.harmonizer)) == [candidate.name for candidate in candidates]
    assert set(predictions.groupby("harmonizer").size()) == {4 + 10}
    assert predictions.filter(like="proba_").notna().all(axis=None)


def test_the_help_of_compare_names_what_runs_on_request_alone():
    # Written out there, since help is to come up without loading what it speaks of.
    option = get_type_hints(compare, include_extras=True)["harmonizer"].__metadata__[0]
    assert all(name in option.help for name in ON_REQUEST)
