"""What a report shows beside figures."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_study import LOG, SpyCDF, SpyLearner, calls, images_of

from xray_harmonize import CDFMatching, CropForeground, FourierSwap, ImageSet, MinMax, ZScore
from xray_harmonize.evaluation.candidates import LABELLED, UNLABELLED, Candidate
from xray_harmonize.report.illustrations import MAX_CURVES, MAX_HISTOGRAM_IMAGES, N_BINS, Illustrator

X, Y = images_of({"home": 30, "far": 8, "near": 6}, side=16)
NONE = Candidate("none")
SCANNER = Candidate("CDF, scanner", (CDFMatching(scope="scanner"),), sees=UNLABELLED)
Z = Candidate("z", (ZScore(),), trains_on_harmonized=True)
CANDIDATES = [NONE, SCANNER, Z, Candidate("crop", geometry=(CropForeground(),)), Candidate("FDA", (FourierSwap(),))]


@pytest.fixture(scope="module")
def illustrator():
    return Illustrator(X, "home")


def test_a_sample_shows_one_image_under_every_candidate_in_their_order(illustrator):
    (first, second) = illustrator.samples(CANDIDATES, [2, 33])
    assert (first.scanner, second.scanner) == ("home", "far")
    assert list(first.images) == [candidate.name for candidate in CANDIDATES]
    np.testing.assert_allclose(second.images["none"], X[33], atol=2e-5)
    for image in [*first.images.values(), *second.images.values()]:
        assert image.ndim == 2
        assert 0 <= image.min() <= image.max() <= 1


def test_an_image_is_shown_only_where_its_position_is_given(illustrator):
    assert illustrator.samples(CANDIDATES, []) == []


def test_a_sample_is_called_by_its_file_and_not_by_its_folder():
    meta = X.meta.assign(path=[f"/home/Jane Doe/{i}.png" for i in range(len(X))])
    named = ImageSet(list(X), scanner=X.scanner, meta=meta)
    assert Illustrator(named, "home").samples([NONE], [3])[0].name == "3.png"
    assert Illustrator(X, "home").samples([NONE], [3])[0].name == "image 3"


def test_an_image_of_one_value_outside_the_range_is_shown_without_a_division_by_zero():
    class Shift(MinMax):
        def _render(self, radiograph):
            return np.full(radiograph.pixels.shape, -3, np.float32)

    candidate = Candidate("shift", (Shift(),))
    (sample,) = Illustrator(X, "home").samples([candidate], [0])
    assert (sample.images["shift"] == 0).all()


def test_curves_are_given_for_candidates_that_are_one_global_method(illustrator):
    two = Candidate("two", (MinMax(), CDFMatching()))
    curves = illustrator.tone_curves([*CANDIDATES, two])
    assert set(curves) == {"CDF, scanner", "z"} - (set() if hasattr(ZScore, "tone_curves") else {"z"})
    by_scanner = curves["CDF, scanner"]
    assert list(by_scanner) == ["home", "far", "near"]  # the reference first
    assert {name: len(some) for name, some in by_scanner.items()} == {"home": MAX_CURVES, "far": 8, "near": 6}


def test_the_curves_of_a_scanner_make_its_gamma_good(illustrator):
    curves = illustrator.tone_curves([SCANNER])["CDF, scanner"]
    assert curves["far"][0](0.3) > 0.4  # gamma 2.2 had darkened it
    assert curves["near"][0](0.7) < 0.6
    assert curves["home"][0](0.5) == pytest.approx(0.5, abs=0.05)


def test_histograms_are_densities_for_candidates_whose_images_lie_in_0_to_1(illustrator):
    histograms = illustrator.histograms(CANDIDATES)
    assert set(histograms) == {"none", "CDF, scanner", "crop", "FDA"}
    for by_scanner in histograms.values():
        assert list(by_scanner) == ["home", "far", "near"]
        for density in by_scanner.values():
            assert density.shape == (N_BINS,)
            assert density.mean() == pytest.approx(1)
            assert (density >= 0).all()


def test_harmonized_histograms_are_more_alike(illustrator):
    histograms = illustrator.histograms([NONE, SCANNER])

    def distance(name):
        return np.abs(np.cumsum(histograms[name]["far"] - histograms[name]["home"])).sum()

    assert distance("CDF, scanner") < distance("none") / 3


def test_candidates_are_fitted_to_some_images_of_the_reference_and_learn_the_others():
    LOG.clear()
    candidate = Candidate("spy", (SpyCDF(scope="scanner"),), sees=UNLABELLED)
    illustrator = Illustrator(X, "home")
    illustrator.histograms([candidate])
    illustrator.samples([candidate], [0])
    (fit,), (adaptation,) = calls("SpyCDF", "fit"), calls("SpyCDF", "adapt")
    assert fit.scanners == ["home"] * MAX_HISTOGRAM_IMAGES
    assert set(adaptation.scanners) == {"far", "near"}


def test_the_same_images_are_looked_at_again():
    first, second = Illustrator(X, "home"), Illustrator(X, "home")
    for name in first.positions:
        np.testing.assert_array_equal(first.positions[name], second.positions[name])


def test_what_needs_labels_is_shown_as_it_was_learned_elsewhere():
    asked = []

    def learned(candidate):
        asked.append(candidate.name)
        return Candidate("stand-in", (MinMax(),)).harmonizer("home").fit(X)

    LOG.clear()
    needing = [
        Candidate("labels", (SpyLearner(),), sees=LABELLED),
        Candidate("classifier", (SpyLearner(supervision="distribution"),), sees=UNLABELLED),
    ]
    illustrator = Illustrator(X, "home", learned=learned)
    (sample,) = illustrator.samples([NONE, *needing], [0])
    illustrator.histograms([NONE, *needing])
    assert asked == ["labels", "classifier"]
    assert not calls("SpyLearner", "fit")
    np.testing.assert_allclose(sample.images["labels"], MinMax().fit_transform([X[0]])[0], atol=1e-6)
