"""A comparison as it runs: what is shared, what is kept, what is computed again, and how far it says it is."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_study import LOG, MeanClassifier, calls, images_of

from xray_harmonize import CDFMatching, CropForeground, ImageSet, MinMax, Nyul, ResNetClassifier, ZScore
from xray_harmonize.evaluation.candidates import UNLABELLED, Candidate
from xray_harmonize.evaluation.study import PartStore, Study
from xray_harmonize.exceptions import InvalidParameterError, NotEnoughImagesError, PersistenceError

X, Y = images_of()
CANDIDATES = [
    Candidate("none"),
    Candidate("CDF", (CDFMatching(),)),
    Candidate("CDF, scanner", (CDFMatching(scope="scanner"),), sees=UNLABELLED),
    Candidate("z", (ZScore(),), trains_on_harmonized=True),
]


@pytest.fixture(autouse=True)
def _empty_log():
    LOG.clear()


def study(folder=None, *, X=X, y=Y, candidates=CANDIDATES, classifier=None, **options):
    options = {"seeds": [0, 1], "n_folds": 4, **options}
    return Study(X, y, list(candidates), classifier or MeanClassifier(), "home", folder=folder, **options)


def n_fits():
    return len(calls("MeanClassifier", "fit"))


def text(predictions):
    return predictions.to_csv(index=False)


# -- what comes out -------------------------------------------------------------------------------------------------


def test_every_candidate_predicts_every_test_image_of_every_seed(tmp_path):
    predictions = study(tmp_path, protocols=["fixed", "loso"]).run()
    counts = predictions.groupby(["protocol", "harmonizer", "seed", "scanner"]).size().unstack().fillna(0).astype(int)
    assert counts.shape == (2 * 4 * 2, 3)
    fixed, loso = counts.loc["fixed classifier"], counts.loc["leave one scanner out"]
    assert (fixed[["far", "near"]] == [12, 10]).all(axis=None)
    assert fixed["home"].between(4, 6).all()
    assert (loso[["home", "far", "near"]] == [0, 12, 10]).all(axis=None)
    assert predictions.notna().all(axis=None)


def test_a_folder_changes_nothing_in_the_result(tmp_path):
    kept, in_memory = study(tmp_path).run(), study().run()
    assert kept.columns.tolist() == in_memory.columns.tolist()
    assert text(kept) == text(in_memory)


def test_harmonizing_undoes_the_gamma_of_the_scanners():
    predictions = study().run()
    right = (predictions.label == predictions.predicted).groupby([predictions.harmonizer, predictions.scanner]).mean()
    assert right["CDF, scanner", "far"] > right["none", "far"] + 0.2


# -- what is shared -------------------------------------------------------------------------------------------------


def test_candidates_that_are_trained_on_the_same_share_one_training(tmp_path):
    study(tmp_path).run()
    assert n_fits() == 2 * 2  # one for the first three candidates and one for z-score, by seed


def test_candidates_with_their_own_geometry_or_parameters_train_by_themselves():
    crop = (CropForeground(),)
    candidates = [
        *CANDIDATES[:2],
        Candidate("crop", geometry=crop),
        Candidate("crop + CDF", (CDFMatching(),), geometry=(CropForeground(),)),
        Candidate("augmented", classifier_parameters={"augment": "tone"}),
    ]
    study(candidates=candidates, seeds=[0]).run()
    assert [fit.facts["augment"] for fit in calls("MeanClassifier", "fit")] == [None, None, "tone"]


def test_when_a_scanner_is_left_out_every_harmonizer_has_its_own_training():
    candidates = [*CANDIDATES[:2], Candidate("CDF again, adapted", (CDFMatching(),), sees=UNLABELLED)]
    study(candidates=candidates, protocols=["loso"], seeds=[0]).run()
    assert n_fits() == 2 * 2  # two scanners left out, two harmonizers


# -- what is kept ---------------------------------------------------------------------------------------------------


class Stop:
    """A listener that presses Ctrl-C at its n-th call."""

    def __init__(self, n):
        self.left = n

    def __call__(self, progress):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_wherever_it_was_interrupted_it_goes_on_and_ends_with_the_same_predictions(tmp_path):
    few, y = images_of({"home": 8, "far": 4})
    options = {"X": few, "y": y, "n_folds": 2, "candidates": [CANDIDATES[0], *CANDIDATES[2:]]}
    whole = text(study(tmp_path / "whole", **options).run())
    n_whole = n_fits()
    interrupted = 0
    for n in itertools.count():
        folder = tmp_path / str(n)
        LOG.clear()
        try:
            study(folder, **options).run(Stop(n))
        except KeyboardInterrupt:
            interrupted += 1
        else:
            break
        assert text(study(folder, **options).run()) == whole
        assert n_fits() == n_whole  # none was done twice
    assert interrupted > 10


def test_parts_are_written_whole_and_nothing_is_left_beside_them(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run(Stop(5))
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".npz"}
    study(tmp_path).run()
    assert len(list(tmp_path.glob("predictions-*.csv"))) == 8
    assert len(list(tmp_path.glob("classifier-*.npz"))) == 4
    assert len(list(tmp_path.iterdir())) == 12


def test_a_finished_study_computes_nothing_again(tmp_path):
    first = study(tmp_path).run()
    LOG.clear()
    seen = []
    again = study(tmp_path).run(lambda progress: seen.append((progress.fraction, progress.remaining_seconds)))
    assert not LOG
    assert seen == [(1.0, 0.0)]
    assert text(again) == text(first)


def test_a_network_interrupted_within_a_training_is_not_kept(tmp_path):
    network = ResNetClassifier(depth=10, width=4, image_size=16, max_epochs=2)

    def stop(progress):
        if progress.epoch == 1:
            raise KeyboardInterrupt

    candidates = CANDIDATES[:2]
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path / "parts", classifier=network, candidates=candidates, seeds=[0]).run(stop)
    assert not list((tmp_path / "parts").iterdir())
    resumed = study(tmp_path / "parts", classifier=network, candidates=candidates, seeds=[0]).run()
    assert text(resumed) == text(study(tmp_path / "whole", classifier=network, candidates=candidates, seeds=[0]).run())


def test_a_damaged_part_is_named(tmp_path):
    study(tmp_path, seeds=[0]).run()
    for path in tmp_path.glob("predictions-*"):
        path.unlink()
    (broken, *_) = sorted(tmp_path.glob("classifier-*"))
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(PersistenceError, match=rf"{broken.name} is no saved model .* or is damaged"):
        study(tmp_path, seeds=[0]).run()


# -- what is computed again -----------------------------------------------------------------------------------------


def changed_pixels():
    images = [image.copy() for image in X]
    images[3][0, 0] = 0.123
    return ImageSet(images, scanner=X.scanner, patient=X.patient, meta=X.meta)


def changed_patient():
    patient = X.patient.copy()
    patient[-1] = patient[-2]
    return ImageSet(list(X), scanner=X.scanner, patient=patient, meta=X.meta)


def changed_label():
    y = Y.copy()
    y[-1] = y[-2]
    return y


@pytest.mark.parametrize(
    "change",
    [
        {"X": changed_pixels()},
        {"X": changed_patient()},
        {"X": ImageSet(list(X), scanner=X.scanner, patient=X.patient, meta=X.meta.assign(window_center=0.5))},
        {"y": changed_label()},
        {"classifier": MeanClassifier(sharpness=5)},
        {"classifier": MeanClassifier(class_weight={i: 1 + (i == 99) for i in range(100)})},
        {"seeds": [2, 3]},
        {"n_folds": 3},
        {"protocols": ["loso"]},
    ],
    ids=["pixels", "patients", "meta", "labels", "classifier", "long parameter", "seeds", "folds", "protocol"],
)
def test_whatever_everything_depends_on_everything_is_computed_again(tmp_path, change):
    options = {"candidates": CANDIDATES[:1], "classifier": MeanClassifier(class_weight=dict.fromkeys(range(100), 1))}
    study(tmp_path, **options).run()
    LOG.clear()
    study(tmp_path, **{**options, **change}).run()
    n_after = n_fits()
    LOG.clear()
    study(**{**options, **change}).run()
    assert n_after == n_fits() > 0
    LOG.clear()
    study(tmp_path, **options).run()
    assert not LOG  # the old parts are still there


def test_a_changed_harmonizer_predicts_again_and_trains_only_if_the_training_saw_it(tmp_path):
    study(tmp_path).run()
    LOG.clear()
    study(tmp_path, candidates=[Candidate("none"), Candidate("CDF", (CDFMatching(smoothness=0.1),))]).run()
    assert not n_fits()
    assert calls("MeanClassifier", "predict_proba")
    study(tmp_path, candidates=[Candidate("none"), Candidate("z", (MinMax(),), trains_on_harmonized=True)]).run()
    assert n_fits() == 2


def test_a_further_candidate_leaves_the_others_as_they_are(tmp_path):
    study(tmp_path).run()
    LOG.clear()
    study(tmp_path, candidates=[*CANDIDATES, Candidate("Nyul", (Nyul(),))]).run()
    assert not n_fits()
    assert len(calls("MeanClassifier", "predict_proba")) == 2 * 3


def test_another_reference_is_another_comparison(tmp_path):
    study(tmp_path).run()
    LOG.clear()
    Study(X, Y, CANDIDATES, MeanClassifier(), "far", seeds=[0, 1], n_folds=4, folder=tmp_path).run()
    assert n_fits() == 4


# -- parts on disk --------------------------------------------------------------------------------------------------


def table_of(**columns):
    text = {name: ["a", "b"] for name in ("image", "scanner", "patient", "label", "predicted", "harmonizer", "sees")}
    return pd.DataFrame({"protocol": "fixed classifier", **text, "seed": 3, "proba_a": [0.1, 1 / 3], **columns})


@pytest.mark.parametrize("name", ["image", "scanner", "patient", "label", "predicted", "harmonizer", "sees"])
def test_text_comes_back_as_it_was_however_much_it_looks_like_something_else(tmp_path, name):
    store = PartStore(tmp_path)
    for cells in (
        ["NA", "007"],
        ["nan", "1e3"],
        ["", "None"],
        ["True", " a "],
        ['"', "a,b"],
        ["a\nb", "ü#"],
        ["1", "2.0"],
    ):
        store.put_table("key", table_of(**{name: cells}))
        assert store.table("key")[name].tolist() == cells


@given(cells=st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")), min_size=1))
def test_any_text_comes_back(cells, tmp_path_factory):
    store = PartStore(tmp_path_factory.getbasetemp() / "parts")
    store.put_table("key", pd.DataFrame({"scanner": cells, "seed": 1}))
    assert store.table("key")["scanner"].tolist() == cells


@given(values=st.lists(st.floats(0, 1), min_size=1))
def test_probabilities_come_back_to_the_last_bit(values, tmp_path_factory):
    store = PartStore(tmp_path_factory.getbasetemp() / "parts")
    store.put_table("key", pd.DataFrame({"proba_a": values, "seed": 1}))
    assert store.table("key")["proba_a"].tolist() == values


def test_a_store_without_a_folder_keeps_things_in_memory():
    store, table = PartStore(None), table_of()
    store.put_table("a", table)
    store.put_classifier("b", "classifier")
    assert "a" in store
    assert "c" not in store
    assert store.table("a") is table
    assert store.classifier("b") == "classifier"


def test_a_store_makes_its_folder(tmp_path):
    assert "a" not in PartStore(tmp_path / "results" / "parts")
    assert (tmp_path / "results" / "parts").is_dir()


def test_half_a_file_is_no_part(tmp_path):
    (tmp_path / ".predictions-1.csv.part").write_text("half")
    assert "predictions-1" not in PartStore(tmp_path)


# -- how far it is --------------------------------------------------------------------------------------------------


def test_the_share_done_grows_from_0_to_1_and_the_time_left_is_told_once_something_was_measured(tmp_path):
    seen = []
    study(tmp_path).run(
        lambda progress: seen.append(
            (
                progress.fraction,
                progress.remaining_seconds,
                sum(progress.done.values()),
                progress.doing,
            )
        )
    )
    fractions, remaining, done, doing = zip(*seen, strict=True)
    assert fractions[0] == 0
    assert fractions[-1] == 1
    assert list(fractions) == sorted(fractions)
    for left, n_done in zip(remaining, done, strict=True):
        assert (left is None) == (n_done == 0)
        assert left is None or (np.isfinite(left) and left >= 0)
    assert remaining[-1] == 0
    assert "fixed classifier, fold 0, seed 0: training for none" in doing
    assert "fixed classifier, fold 1, seed 1: z" in doing


def test_nothing_is_promised_where_only_predictions_are_left_and_none_was_measured(tmp_path):
    study(tmp_path, candidates=CANDIDATES[:2]).run()
    seen = []
    study(tmp_path, candidates=CANDIDATES[:3]).run(lambda progress: seen.append(progress.remaining_seconds))
    assert n_fits() == 2  # of the first
    assert seen[0] is None
    assert seen[-1] == 0


def test_the_epochs_of_a_network_count():
    network = ResNetClassifier(depth=10, width=4, image_size=16, max_epochs=3)
    seen = []
    study(candidates=CANDIDATES[:1], classifier=network, seeds=[0]).run(
        lambda progress: seen.append((progress.epoch, progress.fraction, progress.remaining_seconds))
    )
    epochs = [epoch for epoch, _, _ in seen]
    assert [epoch for epoch in epochs if epoch] == [1, 2, 3]
    by_epoch = {epoch: (share, left) for epoch, share, left in seen if epoch}
    assert 0.25 < by_epoch[1][0] < by_epoch[2][0] < by_epoch[3][0] < 1
    assert by_epoch[1][1] > 0


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocols": ["fixed", "other"]}, "There is no protocol 'other'; known are 'fixed', 'loso'"),
        ({"protocols": []}, r"protocols must hold at least one, and each once; got \[\]"),
        ({"seeds": [0, 1, 0]}, r"seeds must hold at least one, and each once; got \[0, 1, 0\]"),
        ({"candidates": [Candidate("a"), Candidate("a")]}, r"candidates must hold .* each once; got \['a', 'a'\]"),
        ({"y": Y[:-1]}, r"X holds 42 images but y has shape \(41,\)"),
    ],
)
def test_what_makes_no_comparison_is_refused_at_once(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        study(**options)


def test_labels_may_be_a_list():
    assert text(study(y=Y.tolist(), candidates=CANDIDATES[:1]).run()) == text(study(candidates=CANDIDATES[:1]).run())


def test_too_few_patients_are_refused_before_anything_trains():
    few, y = images_of({"home": 20, "far": 8, "near": 1})
    with pytest.raises(NotEnoughImagesError, match=r"'CDF, scanner' learns .* 'near' has 1 test image"):
        study(X=few, y=y).run()
    assert not n_fits()
    assert set(study(X=few, y=y, candidates=CANDIDATES[:2]).run().scanner) == {"home", "far", "near"}
