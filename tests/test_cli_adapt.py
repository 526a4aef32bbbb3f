"""``xray-harmonize adapt``: a new scanner for a deployed model, from a folder of images alone."""

from __future__ import annotations

import sys

import cv2
import joblib
import numpy as np
import pytest
from sklearn.pipeline import Pipeline
from tiny_pairs import MOMENT, bodies, darker

from xray_harmonize import DLBC, CDFMatching, FullRange, ImageSet, ResNetClassifier, load, save
from xray_harmonize.cli import main
from xray_harmonize.exceptions import UnknownScannerError


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    X, y = ImageSet(rng.random((8, 24, 20)), scanner=["home"] * 5 + ["far"] * 3), ["well", "ill"] * 4
    classifier = ResNetClassifier(depth=10, width=4, image_size=16, max_epochs=1, random_state=0)
    return Pipeline([("tone", CDFMatching(reference="home", scope="scanner")), ("classifier", classifier)]).fit(X, y)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folder of unlabelled images of the new scanner, some of them in a folder below."""
    root = tmp_path_factory.mktemp("new scanner")
    (root / "later").mkdir()
    rng = np.random.default_rng(1)
    for i in range(6):
        image = (rng.random((20, 24)) ** 2 * 65535).astype(np.uint16)
        cv2.imwrite(str(root / ("later" if i > 3 else ".") / f"{i}.png"), image)
    return root


@pytest.fixture
def saved(model, tmp_path):
    save(model, tmp_path / "model.npz")
    joblib.dump(model, tmp_path / "model.joblib")
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", "adapt", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


def adapt(monkeypatch, model, images, out, *further, scanner="new"):
    return run(monkeypatch, "--model", model, "--images", images, "--scanner", scanner, "--out", out, *further)


def read(path):
    return joblib.load(path) if path.suffix == ".joblib" else load(path)


def refused(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("suffix", [".npz", ".joblib"])
def test_the_adapted_model_predicts_on_the_new_scanner_and_the_old_file_stays(
    monkeypatch, saved, images, suffix, capsys
):
    before = (saved / f"model{suffix}").read_bytes()
    out = saved / "made" / f"adapted{suffix}"
    assert adapt(monkeypatch, saved / f"model{suffix}", images, out) == 0
    assert capsys.readouterr().out.strip() == f"{out}: knows new, learned from 6 unlabelled images."
    new = ImageSet(sorted(images.rglob("*.png")), scanner="new")
    with pytest.raises(UnknownScannerError, match="Call adapt"):
        read(saved / f"model{suffix}").predict(new)
    assert set(read(out).predict(new)) <= {"ill", "well"}
    assert (saved / f"model{suffix}").read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_known_scanners_are_served_as_before(monkeypatch, saved, images, model):
    assert adapt(monkeypatch, saved / "model.npz", images, saved / "adapted.npz") == 0
    far = ImageSet(np.random.default_rng(2).random((3, 20, 20)), scanner="far")
    np.testing.assert_array_equal(load(saved / "adapted.npz").predict_proba(far), model.predict_proba(far))


def test_the_classifier_re_estimates_its_statistics_if_asked(monkeypatch, saved, images, model):
    assert adapt(monkeypatch, saved / "model.npz", images, saved / "adapted.npz", "--batch-norm") == 0
    state, before = load(saved / "adapted.npz")["classifier"].state_, model["classifier"].state_
    name = next(name for name in before if name.endswith("running_var"))
    assert not np.array_equal(state[name], before[name])


def test_a_model_may_be_adapted_in_place(monkeypatch, saved, images):
    assert adapt(monkeypatch, saved / "model.npz", images, saved / "model.npz") == 0
    assert sorted(load(saved / "model.npz")["tone"].statistics_) == ["far", "home", "new"]


@pytest.fixture
def some_bad(images, tmp_path):
    """Images of the new scanner, beside them one that breaks off and one that is none."""
    folder = tmp_path / "some bad"
    folder.mkdir()
    good = [path.read_bytes() for path in sorted(images.glob("*.png"))]
    for i, data in enumerate(good):
        (folder / f"{i}.png").write_bytes(data)
    (folder / "cut.png").write_bytes(good[0][:200])
    return folder


def test_an_unreadable_image_is_an_error_that_names_it(monkeypatch, saved, some_bad, capsys):
    assert adapt(monkeypatch, saved / "model.npz", some_bad, saved / "adapted.npz") == 2
    assert "cut.png" in refused(capsys)
    (some_bad / "cut.png").unlink()
    (some_bad / "none.png").write_text("no image")
    assert adapt(monkeypatch, saved / "model.npz", some_bad, saved / "adapted.npz") == 2
    line = refused(capsys)
    assert "none.png" in line
    assert "--skip-bad" in line
    assert not (saved / "adapted.npz").exists()


def test_unreadable_images_are_listed_and_left_out_if_asked(monkeypatch, saved, some_bad, capsys):
    (some_bad / "none.png").write_text("no image")
    assert adapt(monkeypatch, saved / "model.npz", some_bad, saved / "adapted.npz", "--skip-bad") == 0
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("skipped none.png: ")
    assert lines[1].startswith(f"skipped {some_bad / 'cut.png'}: ")
    assert "learned from 4 unlabelled images" in printed.out


def test_if_none_is_left_there_is_nothing_to_adapt_to(monkeypatch, saved, some_bad, capsys):
    for i in range(4):
        (some_bad / f"{i}.png").unlink()
    assert adapt(monkeypatch, saved / "model.npz", some_bad, saved / "adapted.npz", "--skip-bad") == 2
    assert "holds no image to adapt to" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["adapted.joblib", "adapted", "adapted.npz.gz"])
def test_the_format_stays_the_same(monkeypatch, saved, images, out, capsys):
    assert adapt(monkeypatch, saved / "model.npz", images, saved / out) == 2
    assert refused(capsys).endswith("model.npz does: the format stays the same.")


def test_a_missing_model_is_named(monkeypatch, saved, images, capsys):
    assert adapt(monkeypatch, saved / "missing.npz", images, saved / "adapted.npz") == 2
    assert "missing.npz. Give the file that compare or save wrote." in refused(capsys)


@pytest.mark.parametrize("suffix", [".npz", ".joblib", ".pt"])
def test_a_file_that_is_no_model_is_named(monkeypatch, saved, images, suffix, capsys):
    (saved / f"other{suffix}").write_bytes(b"something else")
    assert adapt(monkeypatch, saved / f"other{suffix}", images, saved / f"adapted{suffix}") == 2
    line = refused(capsys)
    assert f"other{suffix} is no" in line
    assert "or is damaged" in line


def test_an_empty_or_missing_folder_is_named(monkeypatch, saved, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert adapt(monkeypatch, saved / "model.npz", tmp_path / "empty", saved / "adapted.npz") == 2
    assert "empty: no image, expected PNG" in refused(capsys)
    assert adapt(monkeypatch, saved / "model.npz", tmp_path / "missing", saved / "adapted.npz") == 2
    assert "missing: no such folder" in refused(capsys)


def test_a_scanner_that_is_known_or_has_no_name_is_refused(monkeypatch, saved, images, capsys):
    assert adapt(monkeypatch, saved / "model.npz", images, saved / "adapted.npz", scanner="far") == 2
    assert "adapt found no new scanner: far known already" in refused(capsys)
    assert adapt(monkeypatch, saved / "model.npz", images, saved / "adapted.npz", scanner="") == 2
    assert "The scanner of image 0 is missing" in refused(capsys)


def test_a_model_that_learns_nothing_of_scanners_says_so(monkeypatch, saved, images, model, capsys):
    save(Pipeline([("range", FullRange()), ("classifier", model["classifier"])]), saved / "plain.npz")
    assert adapt(monkeypatch, saved / "plain.npz", images, saved / "adapted.npz") == 2
    assert "No step of the pipeline (range, classifier) learns anything about a scanner" in refused(capsys)


@pytest.mark.parametrize("suffix", [".npz", ".joblib"])
def test_a_single_model_that_learns_nothing_of_scanners_is_named_and_not_written(
    monkeypatch, saved, images, suffix, capsys
):
    window = DLBC(**MOMENT).fit(darker(), target=bodies())
    save(window, saved / "window.npz")
    joblib.dump(window, saved / "window.joblib")
    assert adapt(monkeypatch, saved / f"window{suffix}", images, saved / f"adapted{suffix}") == 2
    assert "error: DLBC as it was fitted learns nothing of a new scanner" in refused(capsys)
    assert not (saved / f"adapted{suffix}").exists()


def test_all_options_are_needed(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    assert "--model" in capsys.readouterr().err
