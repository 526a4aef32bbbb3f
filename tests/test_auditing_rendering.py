"""Images as harmonizers render them that have not seen their patients; names, references and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from audit_images import cohort_of, made
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline

from xray_harmonize import DLBC, GDCE, CDFMatching, FullRange, ImageSet, IntensityFeatures, MinMax, MultiBand, ZScore
from xray_harmonize.auditing.rendering import (
    default_harmonizers,
    in_order,
    named_harmonizers,
    rendered,
    shown_curves,
    unreferenced,
)
from xray_harmonize.callbacks import report_progress
from xray_harmonize.evaluation.candidates import ON_REQUEST, default_candidates
from xray_harmonize.exceptions import InvalidParameterError, UnknownScannerError
from xray_harmonize.image_transformer import ImageTransformer


def test_by_default_five_closed_forms_are_audited_behind_doing_nothing():
    named = named_harmonizers(None, with_labels=False)
    assert list(named) == ["none", "min-max", "CDF, image", "CDF, scanner", "FDA", "bands, scanner"]


def test_default_harmonizers_are_those_that_compare_calls_so():
    compared = {one.name: one for one in default_candidates()}
    for name, harmonizer in default_harmonizers().items():
        (step,) = compared[name].steps
        assert repr(step) == repr(harmonizer)


def test_a_name_an_estimator_and_a_mapping_name_harmonizers():
    assert list(named_harmonizers("Nyul")) == ["none", "Nyul"]
    assert list(named_harmonizers(MinMax((1, 99)))) == ["none", "MinMax(percentiles=(1, 99))"]
    assert list(named_harmonizers({"mine": MinMax(), "theirs": "FDA"})) == ["none", "mine", "theirs"]
    assert list(named_harmonizers(["none", "min-max"])) == ["none", "min-max"]
    assert isinstance(named_harmonizers([])["none"], FullRange)


def test_a_harmonizer_of_compare_comes_as_its_steps():
    (name, pipeline) = list(named_harmonizers("percentiles").items())[1]
    assert name == "percentiles"
    assert isinstance(pipeline, Pipeline)


@pytest.mark.parametrize("name", ["magic", "crop", "fine-tuned", "batch-norm adaptation", "random tone curves"])
def test_a_name_that_is_no_harmonizer_is_refused(name):
    with pytest.raises(InvalidParameterError, match=f"There is no harmonizer '{name}' to audit; known are 'min-max'"):
        named_harmonizers([name])


@pytest.mark.parametrize("thing", [3, MinMax, object()])
def test_what_does_not_transform_is_refused(thing):
    with pytest.raises(InvalidParameterError, match="expected an unfitted harmonizer, a Pipeline of them, or a name"):
        named_harmonizers({"thing": thing})


def test_two_harmonizers_of_one_name_are_refused():
    with pytest.raises(InvalidParameterError, match=r"Two harmonizers are called 'MinMax\(\)'; give a mapping"):
        named_harmonizers([MinMax(), MinMax()])


@pytest.mark.parametrize("harmonizer", [GDCE(), make_pipeline(MinMax(), GDCE())])
def test_a_harmonizer_that_needs_labels_is_refused_without(harmonizer):
    with pytest.raises(InvalidParameterError, match="The harmonizer 'learned' learns from labels, and there are none"):
        named_harmonizers({"learned": harmonizer}, with_labels=False)
    assert "learned" in named_harmonizers({"learned": harmonizer})
    assert named_harmonizers({"learned": GDCE(supervision="distribution")}, with_labels=False)


class Recorder(TransformerMixin, BaseEstimator):
    """Remembers whose images it has seen, and leaves them as they are."""

    seen: list = []

    def fit(self, X, y=None):
        self.patients_ = set(X.patient)
        self.labels_ = None if y is None else list(y)
        return self

    def transform(self, X):
        Recorder.seen.append((self.patients_, set(X.patient), self.labels_))
        return X.map(lambda radiograph: radiograph)


def test_no_image_is_measured_behind_a_harmonizer_that_has_seen_its_patient():
    X, y = made(images_a_patient=2)
    cohort = cohort_of(X, y)
    Recorder.seen = []
    halves = rendered("recorder", Recorder(), cohort)
    tested = [calls for calls in Recorder.seen if not calls[0] & calls[1]]
    assert len(tested) == 2
    assert sorted(np.concatenate([half.positions for half in halves])) == list(range(len(X)))
    assert all(labels is not None for _, _, labels in Recorder.seen)


def test_a_harmonizer_fits_to_images_alone_where_there_are_no_labels():
    Recorder.seen = []
    rendered("recorder", Recorder(), cohort_of(made()[0]))
    assert all(labels is None for _, _, labels in Recorder.seen)


def test_images_at_home_are_the_references_of_the_half_learned_from():
    cohort = cohort_of(*made())
    for half in rendered("none", FullRange(), cohort):
        assert set(cohort.scanner[half.home]) == {"A"}
        assert not set(cohort.half[half.home]) & set(cohort.half[half.positions])
        assert len(half.home_images) == len(half.home)


def test_images_come_back_in_their_order():
    cohort = cohort_of(*made())
    images = in_order(rendered("none", FullRange(), cohort), len(cohort.X))
    assert all(np.allclose(image, cohort.X.unit(i)) for i, image in enumerate(images))


@pytest.mark.parametrize("harmonizer", [CDFMatching(), make_pipeline(MinMax(), MultiBand(scope="scanner"))])
def test_a_reference_left_open_is_the_audits(harmonizer):
    halves = rendered("open", harmonizer, cohort_of(*made(), reference="B"))
    steps = halves[0].fitted if isinstance(halves[0].fitted, Pipeline) else [halves[0].fitted]
    assert [step.reference_ for step in steps if hasattr(step, "reference_")] == ["B"] * len(
        [step for step in steps if "reference" in step.get_params()]
    )


def test_a_reference_that_the_user_named_stays():
    halves = rendered("named", CDFMatching(reference="A"), cohort_of(*made(), reference="B"))
    assert halves[0].fitted.reference_ == "A"


def test_a_seed_left_open_is_the_audits():
    class Seeded(Recorder):
        def __init__(self, random_state=None):
            self.random_state = random_state

    cohort = cohort_of(*made())
    assert rendered("open", Seeded(), cohort, 7)[0].fitted.random_state == 7
    assert rendered("named", Seeded(3), cohort, 7)[0].fitted.random_state == 3


def test_references_are_left_open_unless_they_are_the_mean_of_all():
    two = Pipeline([("a", CDFMatching(reference="A")), ("b", CDFMatching(reference="pooled", scope="scanner"))])
    opened = unreferenced(two)
    assert opened[0].reference is None
    assert opened[1].reference == "pooled"
    assert two[0].reference == "A"


def test_harmonizers_stay_unfitted():
    harmonizer = CDFMatching()
    rendered("CDF", harmonizer, cohort_of(*made()))
    assert not hasattr(harmonizer, "statistics_")
    assert repr(harmonizer) == repr(clone(harmonizer))


def test_lazy_images_are_computed_once():
    class Lazy(ImageTransformer):
        calls = 0

        def fit(self, X, y=None):
            return self

        def transform(self, X):
            Lazy.calls += len(X)
            paths = ImageSet.__new__(ImageSet)
            return paths._set(_Counted(X), X.scanner, X.patient, X.meta)

    class _Counted:
        is_lazy = True

        def __init__(self, X):
            self.X = X

        def __len__(self):
            return len(self.X)

        def radiograph(self, i):
            return self.X.radiograph(i)

    halves = rendered("lazy", Lazy(), cohort_of(*made()))
    assert not any(half.images.is_lazy or half.home_images.is_lazy for half in halves)


def test_what_makes_no_images_is_refused():
    with pytest.raises(InvalidParameterError, match="'rows' makes a ndarray of an ImageSet, expected an ImageSet"):
        rendered("rows", make_pipeline(IntensityFeatures(), PCA(2)), cohort_of(*made()))


def test_an_error_of_a_harmonizer_is_told_behind_its_name():
    with pytest.raises(UnknownScannerError, match="The harmonizer 'wrong' stopped the audit: reference='Z'"):
        rendered("wrong", CDFMatching(reference="Z"), cohort_of(*made()))


def test_curves_are_shown_of_a_few_images_of_each_scanner():
    cohort = cohort_of(*made())
    shown = shown_curves(rendered("CDF", make_pipeline(CDFMatching()), cohort), cohort, 3)
    assert {name: len(curves) for name, curves in shown.items()} == {"A": 3, "B": 3}


def test_methods_that_are_no_curve_show_none():
    cohort = cohort_of(*made())
    for harmonizer in (ZScore(), make_pipeline(MinMax(), CDFMatching())):
        assert shown_curves(rendered("none", harmonizer, cohort), cohort, 3) == {}


@pytest.mark.parametrize("name", ON_REQUEST)
def test_every_method_that_trains_a_network_of_its_own_is_audited_by_name_without_labels(name):
    named = named_harmonizers(name, with_labels=False)
    assert list(named) == ["none", name]
    assert named[name][0].reference is None


def test_an_interrupted_training_is_not_measured():
    def stop(progress):
        if progress.epoch > 1:
            raise KeyboardInterrupt

    cohort = cohort_of(made()[0])
    network = DLBC(max_steps=40, view_size=32, batch_size=2, device="cpu")
    with report_progress(stop), pytest.raises(KeyboardInterrupt):
        rendered("DLBC", network, cohort)
