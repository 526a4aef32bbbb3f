"""Simulated cohorts and their truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xray_harmonize.datasets import CLASSES, PRESETS, Cohort, make_cohort
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError, UnknownScannerError
from xray_harmonize.images import ImageSet

SMALL = {"n_patients": 4, "size": 32, "random_state": 0}


def stack(images: ImageSet) -> np.ndarray:
    return np.stack(list(images))


def units(images: ImageSet) -> np.ndarray:
    return np.stack([images.unit(i) for i in range(len(images))])


def of(cohort: Cohort, scanner: str) -> np.ndarray:
    return np.flatnonzero(cohort.images.scanner == scanner)


@pytest.mark.parametrize("task", ["density", "pneumonia"])
def test_cohort_holds_stored_values_with_all_that_travels_with_them(task: str) -> None:
    cohort = make_cohort(task, **SMALL)
    X = cohort.images
    assert isinstance(X, ImageSet)
    assert len(X) == len(cohort.labels) == len(cohort.truth) == len(cohort.facts) == 4 * len(cohort.presets)
    assert {image.dtype for image in X} == {np.dtype(np.uint16)}
    assert all(image.max() < 2**bits for image, bits in zip(X, X.bits_stored, strict=True))
    for column in ("window_center", "window_width", "kvp", "mas", "anode", "filtration"):
        assert X.meta[column].notna().all(), column
    assert len(set(X.patient)) == len(X)
    assert set(cohort.labels.tolist()) == set(CLASSES[task])
    assert cohort.body.shape == (len(X), 32, 32)
    assert cohort.body.dtype == bool


def test_air_is_dark_on_every_scanner() -> None:
    cohort = make_cohort("density", **SMALL)
    for i in range(len(cohort.images)):
        unit = cohort.images.unit(i)
        assert unit[~cohort.body[i]].mean() < 0.5 * unit[cohort.body[i]].mean()


@pytest.mark.parametrize("task", ["density", "pneumonia"])
def test_classes_are_balanced_on_every_scanner(task: str) -> None:
    cohort = make_cohort(task, n_patients=8, size=32, random_state=0)
    for scanner in cohort.presets:
        _, counts = np.unique(cohort.labels[of(cohort, scanner)], return_counts=True)
        assert counts.tolist() == [8 // len(CLASSES[task])] * len(CLASSES[task])


def test_prevalence_sets_the_classes_of_one_scanner() -> None:
    cohort = make_cohort(
        "density", ["reference", "clearview-like"], 8, 32, 0, prevalence={"clearview-like": {"B": 3, "C": 1}}
    )
    labels = cohort.labels[of(cohort, "clearview-like")].tolist()
    assert (labels.count("B"), labels.count("C")) == (6, 2)
    assert sorted(set(cohort.labels[of(cohort, "reference")])) == ["A", "B", "C", "D"]


def test_same_random_state_same_cohort_other_random_state_another() -> None:
    first, again = make_cohort(**SMALL), make_cohort(**SMALL)
    np.testing.assert_array_equal(stack(first.images), stack(again.images))
    np.testing.assert_array_equal(stack(first.truth), stack(again.truth))
    other = make_cohort(**{**SMALL, "random_state": 1})
    assert (stack(first.images) != stack(other.images)).any()


def test_random_state_object_is_taken_and_none_differs_every_time() -> None:
    a = make_cohort(**{**SMALL, "random_state": np.random.RandomState(5)})
    b = make_cohort(**{**SMALL, "random_state": np.random.RandomState(5)})
    np.testing.assert_array_equal(stack(a.images), stack(b.images))
    c, d = (make_cohort(**{**SMALL, "random_state": None}) for _ in range(2))
    assert (stack(c.images) != stack(d.images)).any()


@pytest.mark.parametrize("paired", [False, True])
def test_adding_a_scanner_or_patients_leaves_the_other_images_as_they_were(paired: bool) -> None:
    few = make_cohort("density", ["reference"], **SMALL, paired=paired)
    more = make_cohort("density", ["clearview-like", "reference"], 6, 32, 0, paired=paired)
    kept = of(more, "reference")[:4]
    np.testing.assert_array_equal(stack(few.images), stack(more.images[kept]))
    assert few.images.patient.tolist() == more.images[kept].patient.tolist()
    assert few.labels.tolist() == more.labels[kept].tolist()


def test_every_scanner_has_its_own_patients_unless_paired() -> None:
    own = make_cohort("density", **SMALL)
    first, second = (set(own.images.patient[of(own, s)]) for s in ("reference", "clearview-like"))
    assert not first & second
    paired = make_cohort("density", **SMALL, paired=True)
    for scanner in paired.presets:
        rows = of(paired, scanner)
        assert paired.images.patient[rows].tolist() == paired.images.patient[of(paired, "reference")].tolist()
        np.testing.assert_array_equal(paired.body[rows], paired.body[of(paired, "reference")])


def test_truth_of_paired_scanners_is_their_image_on_the_reference() -> None:
    cohort = make_cohort("density", **SMALL, paired=True)
    reference = stack(cohort.images[of(cohort, "reference")])
    for scanner in cohort.presets:
        np.testing.assert_array_equal(stack(cohort.truth[of(cohort, scanner)]), reference)


@pytest.mark.parametrize("task", ["density", "pneumonia"])
def test_truth_is_aligned_with_the_images(task: str) -> None:
    cohort = make_cohort(task, n_patients=4, size=64, random_state=0)
    assert cohort.truth.scanner.tolist() == cohort.images.scanner.tolist()
    assert cohort.truth.patient.tolist() == cohort.images.patient.tolist()
    for i in range(len(cohort.images)):
        inside = cohort.body[i]
        image, truth = cohort.images.unit(i)[inside], cohort.truth.unit(i)[inside]
        ranks = [values.argsort().argsort() for values in (image, truth)]
        assert np.corrcoef(*ranks)[0, 1] > 0.97, cohort.images.scanner[i]
        wrong = cohort.truth.unit((i + 1) % len(cohort.images))[inside]
        assert np.corrcoef(image, wrong)[0, 1] < np.corrcoef(image, truth)[0, 1]


@pytest.mark.parametrize(("task", "name"), [("density", "glandular"), ("pneumonia", "lung")])
def test_tissue_lies_in_the_body_and_is_the_same_on_all_scanners_of_a_patient(task: str, name: str) -> None:
    cohort = make_cohort(task, **SMALL, paired=True)
    assert list(cohort.tissue) == [name]
    tissue = cohort.tissue[name]
    assert tissue.shape == cohort.body.shape
    assert tissue.dtype == bool
    assert not (tissue & ~cohort.body).any()
    for scanner in cohort.presets:
        np.testing.assert_array_equal(tissue[of(cohort, scanner)], tissue[of(cohort, cohort.reference)])


def test_denser_breasts_show_more_glandular_tissue() -> None:
    cohort = make_cohort("density", ["reference"], 16, 48, 0)
    share = cohort.tissue["glandular"].sum(axis=(1, 2)) / cohort.body.sum(axis=(1, 2))
    means = [share[cohort.labels == label].mean() for label in "ABCD"]
    assert means == sorted(means)
    assert means[0] < 0.1 < 0.5 < means[3]


def test_lungs_are_the_dark_fields_and_filled_parts_belong_to_them() -> None:
    cohort = make_cohort("pneumonia", ["chest-reference"], 8, 48, 0)
    for i, lung in enumerate(cohort.tissue["lung"]):
        image, around = cohort.images.unit(i), cohort.body[i] & ~cohort.tissue["lung"][i]
        assert 0.15 < lung.mean() < 0.45
        assert np.median(image[lung]) < np.median(image[around])
    ill = cohort.labels == 1
    assert abs(cohort.tissue["lung"][ill].mean() - cohort.tissue["lung"][~ill].mean()) < 0.1


def test_images_of_the_reference_are_their_own_truth() -> None:
    cohort = make_cohort("pneumonia", **SMALL)
    rows = of(cohort, cohort.reference)
    np.testing.assert_array_equal(stack(cohort.images[rows]), stack(cohort.truth[rows]))


@pytest.mark.parametrize("task", ["density", "pneumonia"])
def test_with_the_same_physics_the_true_curve_gives_the_truth(task: str) -> None:
    cohort = make_cohort(task, **SMALL, physics="same")
    truth = units(cohort.truth)
    for i, scanner in enumerate(cohort.images.scanner):
        mapped = cohort.true_curve(scanner)(cohort.images[i], int(cohort.images.bits_stored[i]))
        np.testing.assert_allclose(mapped, truth[i], atol=4e-3)
    naive = np.abs(units(cohort.images) - truth)[cohort.images.scanner != cohort.reference]
    assert naive.mean() > 0.03


def test_jitter_gives_every_image_its_own_curve() -> None:
    nervous = replace(
        PRESETS["clearview-like"], tone=replace(PRESETS["clearview-like"].tone, jitter=0.3, gamma=1.2, window=None)
    )
    cohort = make_cohort("density", ["reference", nervous], **SMALL, physics="same")
    rows = of(cohort, "clearview-like")
    assert cohort.facts["gamma"][rows].nunique() == 4
    assert cohort.images.meta["window_center"][rows].isna().all()
    curves, truth = cohort.true_curves(), units(cohort.truth)
    own, nominal = [], []
    for i in rows:
        bits = int(cohort.images.bits_stored[i])
        own.append(np.abs(curves[i](cohort.images[i], bits) - truth[i]).max())
        nominal.append(np.abs(cohort.true_curve("clearview-like")(cohort.images[i], bits) - truth[i]).max())
    assert max(own) < 6e-3
    assert min(nominal) > 2 * max(own)


def test_senograph_like_uses_a_small_part_of_its_range_and_its_window_covers_the_anatomy() -> None:
    cohort = make_cohort("density", ["reference", "senograph-like"], n_patients=4, size=64, random_state=0)
    for i in of(cohort, "senograph-like"):
        stored, row = cohort.images[i].astype(float), cohort.images.meta.iloc[i]
        full_scale = 2 ** int(cohort.images.bits_stored[i]) - 1
        assert stored.max() < 0.35 * full_scale
        low = row.window_center - 0.5 - (row.window_width - 1) / 2
        high = row.window_center - 0.5 + (row.window_width - 1) / 2
        assert high - low < 0.35 * full_scale
        inside = stored[cohort.body[i]]
        assert ((inside >= low) & (inside <= high)).mean() > 0.97
    assert units(cohort.images[of(cohort, "reference")]).max() > 0.6


def test_higher_kvp_lowers_contrast_and_lower_mas_raises_noise_of_stored_images() -> None:
    usual = PRESETS["reference"]
    hard = replace(usual, name="hard", acquisition=replace(usual.acquisition, kvp=38.0))
    weak = replace(usual, name="weak", acquisition=replace(usual.acquisition, mas=usual.acquisition.mas / 50))
    cohort = make_cohort("density", [usual, hard, weak], n_patients=4, size=64, random_state=0, paired=True)

    def gland_over_fat(scanner: str) -> float:
        images = units(cohort.images[of(cohort, scanner)])
        return float(np.mean([np.ptp(np.percentile(im[im > 0.3], (20, 95))) for im in images]))

    def roughness(scanner: str) -> float:
        return float(np.abs(np.diff(units(cohort.images[of(cohort, scanner)]), axis=2)).mean())

    assert gland_over_fat("hard") < gland_over_fat("reference")
    assert roughness("weak") > 1.03 * roughness("reference")


def test_reference_is_the_tasks_own_where_listed_else_the_first_or_the_one_named() -> None:
    assert make_cohort("density", ["clearview-like", "reference"], **SMALL).reference == "reference"
    assert make_cohort("density", ["clearview-like", "senograph-like"], **SMALL).reference == "clearview-like"
    cohort = make_cohort("density", ["clearview-like"], **SMALL, reference="reference")
    assert cohort.reference == "reference"
    assert set(cohort.images.scanner) == {"clearview-like"}
    own = replace(PRESETS["reference"], name="own")
    assert make_cohort("density", ["clearview-like"], **SMALL, reference=own).reference == "own"


def test_true_curve_is_refused_where_physics_differs_or_the_scanner_is_unknown() -> None:
    cohort = make_cohort("density", **SMALL)
    with pytest.raises(InvalidParameterError, match="Make the cohort with physics='same'"):
        cohort.true_curve("clearview-like")
    with pytest.raises(InvalidParameterError, match="no tone curve relates them"):
        cohort.true_curves()
    with pytest.raises(UnknownScannerError, match="no scanner 'acme'; it has reference, "):
        make_cohort("density", **SMALL, physics="same").true_curve("acme")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "knee"}, InvalidParameterError, "task must be one of 'density', 'pneumonia'; got 'knee'"),
        ({"scanners": ["acme"]}, UnknownScannerError, "'acme'.*reference, senograph-like, clearview-like"),
        ({"n_patients": 3}, NotEnoughImagesError, "'density' has 4 classes .* got n_patients=3"),
        ({"size": 31}, InvalidParameterError, "size must be at least 32 pixels; got 31"),
        ({"physics": "none"}, InvalidParameterError, "physics must be 'own' or 'same'; got 'none'"),
        ({"reference": "acme"}, UnknownScannerError, "no simulated scanner 'acme'"),
        ({"prevalence": {"acme": {"A": 1}}}, InvalidParameterError, r"prevalence names \['acme'\]"),
        ({"prevalence": {"reference": {"E": 1}}}, InvalidParameterError, "prevalence of 'reference' must give"),
        ({"prevalence": {"reference": {"A": 0}}}, InvalidParameterError, "prevalence of 'reference' must give"),
        (
            {"prevalence": {"reference": {"A": 1}}, "paired": True},
            InvalidParameterError,
            "prevalence needs paired=False",
        ),
    ],
)
def test_impossible_cohorts_are_refused_by_name(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_cohort(**{**SMALL, **options})


def test_two_scanners_of_one_name_are_refused_as_reference() -> None:
    other = replace(PRESETS["reference"], tone=replace(PRESETS["reference"].tone, gamma=2.0))
    with pytest.raises(InvalidParameterError, match="two different scanners named 'reference'; rename one"):
        make_cohort("density", ["reference"], **SMALL, reference=other)
