"""``xray-harmonize fit``: one harmonizer from a folder or a catalogue, into a file."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from archive_factory import fitted, make_dicom_images, make_images

from xray_harmonize import CDFMatching, FourierSwap, MinMax, MultiBand, Nyul, ZScore, load
from xray_harmonize.callbacks import report_progress
from xray_harmonize.catalog.index import build_index
from xray_harmonize.cli import main
from xray_harmonize.persistence import fingerprint


@pytest.fixture
def scans(tmp_path):
    make_images(tmp_path / "scans", 7)
    return tmp_path / "scans"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "made" / "model.npz"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", "fit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


def refused(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_folders_name_the_scanners(monkeypatch, scans, out, capsys):
    arguments = ("--harmonizer", "cdf", "--images", scans, "--reference", "home", "--scope", "scanner", "--out", out)
    assert run(monkeypatch, *arguments) == 0
    expected = fitted(sorted(scans.rglob("*.npy")), reference="home", scope="scanner")
    assert fingerprint(load(out)) == fingerprint(expected)
    assert capsys.readouterr().out.splitlines() == [
        "CDFMatching(reference='home', scope='scanner')",
        "reference: home",
        "learned from 7 image(s): far 4, home 3",
        f"{out}: fingerprint {fingerprint(expected)}",
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cdf", CDFMatching),
        ("minmax", MinMax),
        ("nyul", Nyul),
        ("zscore", ZScore),
        ("fourier", FourierSwap),
        ("bands", MultiBand),
    ],
)
def test_every_method_goes_by_its_short_name(monkeypatch, scans, out, name, kind):
    assert run(monkeypatch, "--harmonizer", name, "--images", scans, "--out", out) == 0
    assert type(load(out)) is kind


SMALL = {"max_steps": 1, "random_state": 0, "device": "cpu"}
FEATURES = {**SMALL, "n_features": 2}


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("blind", "BlindHarmony", {**SMALL, "image_size": 8, "n_levels": 1, "n_steps": 1, "channels": 4, "n_bins": 4}),
        ("mapping", "InterpretableMapping", FEATURES),
        ("lut3d", "LUT3D", {**FEATURES, "view_size": 32}),
        ("dlbc", "DLBC", {**FEATURES, "view_size": 32}),
        ("supdce", "SupDCE", FEATURES),
        ("resunet", "ResUNet", FEATURES),
        ("unet", "UNet", FEATURES),
        ("cyclegan", "CycleGAN", {**FEATURES, "n_blocks": 0}),
    ],
)
def test_methods_that_train_networks_go_by_short_names_too(monkeypatch, scans, out, name, kind, settings):
    options = [part for setting in settings.items() for part in ("--set", "{}={}".format(*setting))]
    common = ("--harmonizer", name, "--images", scans, "--reference", "home", "--out", out)
    assert run(monkeypatch, *common, *options) == 0
    model = load(out)
    assert (type(model).__name__, model.reference_) == (kind, "home")
    assert np.isfinite(model.transform([np.load(path) for path in sorted(scans.rglob("*.npy"))])[0]).all()


@pytest.mark.parametrize(
    ("name", "more", "said"), [("unet", {}, "home 3"), ("cyclegan", {"n_blocks": 0}, "far 4, home 3")]
)
def test_the_images_that_taught_are_told(monkeypatch, scans, out, name, more, said, capsys):
    options = [part for setting in {**FEATURES, **more}.items() for part in ("--set", "{}={}".format(*setting))]
    assert run(monkeypatch, "--harmonizer", name, "--images", scans, "--reference", "home", "--out", out, *options) == 0
    assert f"image(s): {said}\n" in capsys.readouterr().out


@pytest.mark.filterwarnings("default::xray_harmonize.exceptions.XRayHarmonizeWarning")
def test_an_interrupted_training_is_kept_and_ends_with_status_130(monkeypatch, scans, out, capsys):
    def stop(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    options = ("--set", "n_features=2", "--set", "max_steps=200", "--set", "device=cpu")
    with report_progress(stop):
        assert run(monkeypatch, "--harmonizer", "unet", "--images", scans, "--out", out, *options) == 130
    assert load(out).interrupted_
    printed = capsys.readouterr()
    assert "warning: The training of UNet was interrupted" in printed.err
    assert "fingerprint" in printed.out


def test_parameters_are_set_by_name(monkeypatch, scans, out):
    settings = (
        "--set",
        "smoothness=0.02",
        "--set",
        "max_slope=4",
        "--set",
        "foreground=otsu",
        "--set",
        "unseen='image'",
    )
    assert run(monkeypatch, "--harmonizer", "cdf", "--images", scans, "--out", out, *settings) == 0
    model = load(out)
    assert (model.smoothness, model.max_slope, model.foreground, model.unseen) == (0.02, 4, "otsu", "image")


def test_a_table_names_the_scanners(monkeypatch, scans, out, capsys):
    table = scans.parent / "labels.csv"
    lines = [f"{path.relative_to(scans)},{'AB'[i % 2]},x" for i, path in enumerate(sorted(scans.rglob("*.npy")))]
    table.write_text("\n".join(["path,vendor,label", *lines, "gone.npy,A,x"]))
    common = ("--harmonizer", "cdf", "--images", scans, "--labels", table, "--out", out, "--scanner-column", "vendor")
    assert run(monkeypatch, *common, "--reference", "B") == 2
    assert "row 9 ('gone.npy'): no file" in refused(capsys)
    assert run(monkeypatch, *common, "--reference", "B", "--skip-bad") == 0
    printed = capsys.readouterr()
    assert "learned from 7 image(s): A 4, B 3" in printed.out
    assert "skipped gone.npy: no file" in printed.err
    assert load(out).reference_ == "B"
    nameless = ("--harmonizer", "cdf", "--images", scans, "--labels", table, "--out", out, "--skip-bad")
    assert run(monkeypatch, *nameless, "--scanner-column", "") == 0
    assert "learned from 7 image(s) without names of scanners" in capsys.readouterr().out


def test_labels_come_from_a_column_of_the_table(monkeypatch, scans, out, capsys):
    table = scans.parent / "labels.csv"
    paths = sorted(scans.rglob("*.npy"))
    table.write_text(
        "\n".join(["path,scanner,sick", *(f"{path.relative_to(scans)},A,{i % 2}" for i, path in enumerate(paths))])
    )
    common = ("--harmonizer", "cdf", "--images", scans, "--labels", table, "--out", out)
    assert run(monkeypatch, *common, "--label", "sick") == 0
    capsys.readouterr()
    assert run(monkeypatch, *common, "--label", "ill") == 2
    assert "no column 'ill', the columns are 'path', 'scanner', 'sick'" in refused(capsys)


def test_a_catalogue_gives_images_and_scanners(monkeypatch, tmp_path, out, capsys):
    for vendor, kvp in (("FUJIFILM", "70"), ("GE MEDICAL SYSTEMS", "120")):
        make_dicom_images(tmp_path / "archive" / kvp, Manufacturer=vendor, ManufacturerModelName="X", KVP=kvp)
    build_index(tmp_path / "archive", tmp_path / "a.sqlite")
    common = ("--harmonizer", "nyul", "--db", tmp_path / "a.sqlite", "--out", out)
    assert run(monkeypatch, *common, "--where", "kvp > 100") == 0
    assert "learned from 3 image(s): GE" in capsys.readouterr().out
    (tmp_path / "archive" / "70" / "1.2.840.1").write_bytes(b"gone bad")
    assert run(monkeypatch, *common, "--skip-bad") == 0
    printed = capsys.readouterr()
    assert "learned from 5 image(s)" in printed.out
    assert f"skipped {tmp_path / 'archive' / '70' / '1.2.840.1'}: " in printed.err


def test_an_unreadable_image_is_an_error_unless_it_may_be_skipped(monkeypatch, scans, out, capsys):
    (scans / "home" / "bad.npy").write_bytes(b"\x93NUMPY and no more")
    (scans / "home" / "none.png").write_bytes(b"no image")
    arguments = ("--harmonizer", "minmax", "--images", scans, "--set", "output_range=reference", "--out", out)
    assert run(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert "none.png" in printed.err
    assert not out.exists()
    assert run(monkeypatch, *arguments, "--skip-bad") == 0
    printed = capsys.readouterr()
    assert printed.err.count("skipped ") == 2
    assert "learned from 7 image(s)" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give --images DIR, with --labels CSV if there is one, or --db FILE, one of them."),
        (("--images", ".", "--db", "a"), "Give --images DIR, with --labels CSV if there is one, or --db FILE, one of"),
        (("--images", ".", "--where", "1"), "--where goes with --db FILE; leave it out with --images."),
        (("--db", "a", "--labels", "b"), "--labels goes with --images DIR; leave it out with --db."),
        (("--images", ".", "--label", "sick"), "--label sick names a column of --labels CSV; give the table."),
        (
            ("--images", ".", "--set", "smoothness"),
            "--set smoothness: expected a name and a value, as in smoothness=0.02.",
        ),
        (
            ("--images", ".", "--set", "bins=3"),
            "CDFMatching has no parameter 'bins'; it has foreground, image_weight, ",
        ),
        (
            ("--images", ".", "--harmonizer", "dlbc", "--set", "random_state=abc"),
            "random_state must be a whole number from 0 to 2**32 - 1; got 'abc'.",
        ),
        (("--images", ".", "--scope", "body"), "scope must be 'image', 'scanner'"),
        (
            ("--images", ".", "--reference", "nobody"),
            "reference='nobody' has no training image; the scanners are far, home",
        ),
        (("--images", "missing"), "missing: no such folder"),
    ],
)
def test_what_cannot_be_done_is_one_line(monkeypatch, scans, out, capsys, arguments, message):
    monkeypatch.chdir(scans)
    assert run(monkeypatch, "--harmonizer", "cdf", "--out", out, *arguments) == 2
    assert message in refused(capsys)
    assert not out.exists()


def test_a_method_without_parameters_says_so(monkeypatch, scans, out, capsys):
    assert run(monkeypatch, "--harmonizer", "fullrange", "--images", scans, "--out", out, "--reference", "home") == 2
    assert "FullRange has no parameter 'reference'; it has none." in refused(capsys)


def test_the_model_is_a_file_that_apply_reads(monkeypatch, scans, tmp_path, capsys):
    assert run(monkeypatch, "--harmonizer", "cdf", "--images", scans, "--out", tmp_path / "model.joblib") == 2
    assert "model.joblib must end in .npz, the format that apply reads." in refused(capsys)
