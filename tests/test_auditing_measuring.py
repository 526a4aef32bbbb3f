"""What is kept of each harmonizer: tables, curves, pictures of what has no range, and images to show."""

from __future__ import annotations

import numpy as np
import pytest
from audit_images import cohort_of, made
from sklearn.pipeline import make_pipeline

from xray_harmonize import CDFMatching, CropForeground, FullRange, ImageSet, IntensityFeatures, MinMax, Resize, ZScore
from xray_harmonize.auditing.controls import Asking
from xray_harmonize.auditing.features import AuditFeatures
from xray_harmonize.auditing.measuring import Measuring, evenly_chosen
from xray_harmonize.auditing.task import default_classifier


def measuring_of(X, y=None, shown=()):
    asking = Asking(
        AuditFeatures(IntensityFeatures(8, 2, 16)),
        default_classifier(),
        n_permutations=20,
        n_refits=20,
        random_state=0,
    )
    cohort = cohort_of(X, y, image_size=16)
    return Measuring(cohort, asking, confidence=0.99, n_bootstrap=20, shown=list(shown))


@pytest.fixture(scope="module")
def measured():
    measuring = measuring_of(*made((("A", 12), ("B", 8)), side=16, gap=0.3), shown=[0, 15])
    for name, harmonizer in {
        "none": FullRange(),
        "CDF": CDFMatching(),
        "z-score": ZScore(),
        "small": make_pipeline(Resize(8)),
    }.items():
        measuring.add(name, harmonizer)
    return measuring


def test_every_harmonizer_has_its_rows(measured):
    for table in ("domain", "task", "embeddings"):
        assert list(dict.fromkeys(measured.table(table)["harmonizer"])) == ["none", "CDF", "z-score", "small"]
    assert len(measured.table("embeddings")) == 4 * 20
    assert set(measured.histograms) == {"none", "CDF", "z-score", "small"}


def test_a_table_that_has_no_rows_has_its_columns(measured):
    assert measured.table("nothing", ["a", "b"]).columns.tolist() == ["a", "b"]


def test_doing_nothing_differs_from_itself_in_nothing(measured):
    none = measured.table("task").query("harmonizer == 'none'")
    assert (none["difference"] == 0).all()
    assert measured.baseline is not None
    assert measured.untouched.shape == (20, 10)


def test_content_is_measured_where_pixels_stay_in_place_and_units_where_they_hold(measured):
    content = measured.table("content")
    assert set(content["harmonizer"]) == {"none", "CDF", "z-score"}
    without_units = {"edge agreement", "rank agreement", "structure agreement"}
    assert set(content.query("harmonizer == 'z-score'")["measure"]) == without_units
    assert "PSNR to the input" in set(content.query("harmonizer == 'CDF'")["measure"])


def test_grey_levels_are_compared_in_the_unit_range_alone(measured):
    compared = measured.table("domain").query("measure == 'wasserstein'")
    assert set(compared["harmonizer"]) == {"none", "CDF", "small"}


def test_curves_are_checked_of_methods_that_have_some(measured):
    assert set(measured.table("curves")["harmonizer"]) == {"CDF"}
    assert measured.tone_curves["none"] == measured.tone_curves["z-score"] == {}
    assert set(measured.tone_curves["CDF"]) == {"A", "B"}


def test_images_without_a_range_are_scaled_to_be_drawn(measured):
    black, white = measured.ranges["z-score"]
    assert black < 0 < white
    assert set(measured.ranges) == {"z-score"}
    for sample in measured.samples(made((("A", 12), ("B", 8)), side=16)[0]):
        shown = sample.images["z-score"]
        assert shown.min() >= 0
        assert shown.max() <= 1
        assert np.ptp(shown) > 0.5
    assert measured.histograms["z-score"]["A"][1:-1].sum() > 20


def test_histograms_are_densities(measured):
    for by_scanner in measured.histograms.values():
        for density in by_scanner.values():
            assert density.mean() == pytest.approx(1)


def test_images_shown_bear_the_last_part_of_their_name_alone(measured, tmp_path):
    X = made((("A", 12), ("B", 8)), side=16)[0]
    (tmp_path / "smith").mkdir()
    paths = []
    for i in range(20):
        np.save(tmp_path / "smith" / f"{i}.npy", X[i])
        paths.append(tmp_path / "smith" / f"{i}.npy")
    samples = measured.samples(ImageSet(paths, scanner=X.scanner))
    assert [(one.scanner, one.name) for one in samples] == [("A", "0.npy"), ("B", "15.npy")]
    assert set(samples[0].images) == {"none", "CDF", "z-score", "small"}
    assert samples[0].images["small"].shape == (8, 8)


def test_masks_count_where_they_fit_and_are_left_out_where_geometry_changed():
    X, y = made((("A", 8), ("B", 8)), side=16, gap=0.3)
    masks = [np.tri(16, dtype=bool)] * 16
    masked = ImageSet(list(X), scanner=X.scanner, bits_stored=12, mask=masks)
    measuring = measuring_of(masked, y)
    measuring.add("none", FullRange())
    measuring.add("crop", make_pipeline(CropForeground(), Resize(12), MinMax()))
    assert not np.allclose(measuring.histograms["none"]["A"], measuring_with(X, y).histograms["none"]["A"])
    assert "crop" not in set(measuring.table("content")["harmonizer"])


def measuring_with(X, y):
    measuring = measuring_of(X, y)
    measuring.add("none", FullRange())
    return measuring


def test_a_constant_image_of_any_value_is_drawn():
    class Far(FullRange):
        def _render(self, radiograph):
            return np.full(radiograph.pixels.shape, 7, np.float32)

    measuring = measuring_of(*made((("A", 8), ("B", 8)), side=16))
    measuring.add("none", Far())
    assert measuring.ranges["none"] == (6.5, 7.5)
    assert measuring.histograms["none"]["A"].argmax() == 32


def test_content_is_measured_on_so_many_images_of_each_scanner_spread_evenly():
    cohort = cohort_of(made((("A", 20), ("B", 4)), side=16)[0], image_size=16)
    chosen = evenly_chosen(cohort, 5)
    assert chosen.tolist() == [0, 5, 10, 14, 19, 20, 21, 22, 23]
    assert evenly_chosen(cohort, 100).tolist() == list(range(24))
