"""``xray-harmonize audit``: from a folder or a catalogue to words, tables and a page; and every way to err."""

from __future__ import annotations

import csv
import re
import sys

import numpy as np
import pandas as pd
import pytest
from archive_folder import put_image
from audit_images import made

from xray_harmonize.catalog.index import build_index
from xray_harmonize.cli import main
from xray_harmonize.cli.shown_images import positions_to_show

QUICK = ("--image-size", "16", "--harmonizer", "min-max", "--no-controls")
TABLES = {f"{name}.csv" for name in ("overview", "domain", "content", "curves", "task", "cautions", "embeddings")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of two scanners in folders of their names, with a table beside them."""
    root = tmp_path_factory.mktemp("radiographs")
    X, y = made((("far", 6), ("home", 8)), side=16, gap=0.3)
    rows = []
    for i in range(len(X)):
        (root / X.scanner[i]).mkdir(exist_ok=True)
        np.save(root / X.scanner[i] / f"{i}.npy", X[i] << 4)
        rows.append([f"{X.scanner[i]}/{i}.npy", int(y[i]), X.scanner[i], X.patient[i]])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "scanner", "patient"], *rows])
    return root


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", "audit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


def test_a_folder_with_a_table_gives_words_cautions_tables_and_a_page(monkeypatch, folder, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    given = ("--images", folder, "--labels", folder / "labels.csv", "--out", out)
    assert run(monkeypatch, *given, *QUICK, "--show", "home/9.npy", "--seed", "3") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^Untouched, a classifier of home has an AUC of", printed, re.MULTILINE)
    assert "\nlook: groups too small\nFewer than 20 patients in" in printed
    assert f"{out / 'audit.html'}\n{out / 'overview.csv'}\n" in printed
    assert {path.name for path in out.iterdir()} == {"audit.html", *TABLES}
    assert set(pd.read_csv(out / "task.csv")["harmonizer"]) == {"none", "min-max"}
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "9.npy" in page
    assert str(folder) not in page


def test_controls_are_asked_unless_left_out(monkeypatch, folder, tmp_path):
    given = ("--images", folder, "--labels", folder / "labels.csv", "--out", tmp_path)
    assert run(monkeypatch, *given, *QUICK[:-1]) == 0
    assert "permuted labels" in set(pd.read_csv(tmp_path / "controls.csv")["control"])


def test_a_folder_without_a_table_is_named_by_its_folders(monkeypatch, folder, tmp_path, capsys):
    assert run(monkeypatch, "--images", folder, "--out", tmp_path, *QUICK, "--reference", "far") == 0
    assert "classifier" not in capsys.readouterr().out
    assert not (tmp_path / "task.csv").exists()
    assert pd.read_csv(tmp_path / "overview.csv")["scanner"].tolist() == ["far", "home"]


def test_other_columns_and_no_labels(monkeypatch, folder, tmp_path):
    table = pd.read_csv(folder / "labels.csv")
    table.columns = ["path", "finding", "device", "person"]
    table.to_csv(tmp_path / "other.csv", index=False)
    given = ("--images", folder, "--labels", tmp_path / "other.csv", "--scanner-column", "device")
    both = (*given, "--patient-column", "person", "--label", "finding", "--out", tmp_path / "a")
    assert run(monkeypatch, *both, *QUICK) == 0
    assert (tmp_path / "a" / "task.csv").exists()
    assert run(monkeypatch, *given, "--patient-column", "", "--label", "", "--out", tmp_path / "b", *QUICK) == 0
    assert not (tmp_path / "b" / "task.csv").exists()
    assert "patients unknown" in set(pd.read_csv(tmp_path / "b" / "cautions.csv")["name"])


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    root = tmp_path_factory.mktemp("archive")
    for i in range(10):
        maker = "Philips" if i % 2 else "GE Healthcare"
        put_image(root / "files" / f"{i}.dcm", patient=f"p{i}", study=f"1.9.{i}", Manufacturer=maker)
    build_index(root / "files", root / "a.sqlite")
    return root / "a.sqlite"


def test_images_of_a_catalogue_are_chosen_in_sql(monkeypatch, db, tmp_path):
    where = "patient_id <> 'p0' AND view = 'PA'"
    assert run(monkeypatch, "--db", db, "--where", where, "--out", tmp_path, *QUICK, "--show-random", "1") == 0
    overview = pd.read_csv(tmp_path / "overview.csv")
    assert overview["n_images"].tolist() == [5, 4]
    assert overview["scanner"].tolist()[0].startswith("Philips")


def test_unusable_images_are_left_out_where_asked(monkeypatch, folder, tmp_path, capsys):
    import shutil

    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    (copied / "far" / "0.npy").write_bytes(b"\x93NUMPY broken")
    for given in ((), ("--labels", copied / "labels.csv")):
        capsys.readouterr()
        assert run(monkeypatch, "--images", copied, *given, "--out", tmp_path / "out", *QUICK) == 2
        assert "error: " in capsys.readouterr().err
        assert run(monkeypatch, "--images", copied, *given, "--out", tmp_path / "out", *QUICK, "--skip-bad") == 0
        assert "skipped" in capsys.readouterr().err
        assert pd.read_csv(tmp_path / "out" / "overview.csv")["n_images"].sum() == 13


def test_unusable_images_of_a_catalogue_are_left_out_where_asked(monkeypatch, tmp_path, capsys):
    for i in range(12):
        maker = "Philips" if i % 2 else "GE Healthcare"
        put_image(tmp_path / "files" / f"{i}.dcm", patient=f"p{i}", study=f"1.9.{i}", Manufacturer=maker)
    build_index(tmp_path / "files", tmp_path / "a.sqlite")
    broken = tmp_path / "files" / "3.dcm"
    broken.write_bytes(broken.read_bytes()[:-8])
    assert run(monkeypatch, "--db", tmp_path / "a.sqlite", "--out", tmp_path / "out", *QUICK, "--skip-bad") == 0
    assert "skipped" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "out" / "overview.csv")["n_images"].sum() == 11


def test_a_warning_is_printed_once_behind_the_bar(monkeypatch, folder, tmp_path, capsys):
    import warnings

    from xray_harmonize.auditing import audit as module
    from xray_harmonize.exceptions import XRayHarmonizeWarning

    whole = module.audit

    def warned(*arguments, **options):
        for _ in range(2):
            warnings.warn("Something is odd.", XRayHarmonizeWarning, stacklevel=2)
        return whole(*arguments, **options, n_permutations=20, n_bootstrap=20)

    monkeypatch.setattr(module, "audit", warned)
    assert run(monkeypatch, "--images", folder, "--out", tmp_path, *QUICK) == 0
    assert capsys.readouterr().err.count("warning: Something is odd.") == 1


def test_names_of_scanners_are_printed_as_they_are(monkeypatch, folder, tmp_path, capsys):
    table = pd.read_csv(folder / "labels.csv")
    table["scanner"] = table["scanner"].replace("far", "[red]far[/red]")
    table.to_csv(tmp_path / "odd.csv", index=False)
    given = ("--images", folder, "--labels", tmp_path / "odd.csv", "--out", tmp_path / "out")
    assert run(monkeypatch, *given, *QUICK) == 0
    assert "on [red]far[/red]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --images DIR, with --labels CSV if there is one, or --db FILE, one of them."),
        (["--images", "x", "--db", "y"], "Give --images DIR, with --labels CSV if there is one, or --db FILE"),
        (["--images", "x", "--where", "kvp > 1"], "--where goes with --db FILE; leave it out with --images."),
        (["--images", "x", "--labeler", "a"], "--labeler goes with --db FILE; leave it out with --images."),
        (["--images", "x", "--mixed-intent"], "--mixed-intent goes with --db FILE; leave it out with --images."),
        (["--images", "x", "--label", "a"], "--label a names a column of --labels CSV; give the table."),
        (["--db", "x", "--labels", "a.csv"], "--labels goes with --images DIR; leave it out with --db."),
        (["--images", "x", "--weights", "w.pt"], "--weights goes with --features deep; leave it out"),
        (["--images", "x", "--features", "deep"], "--features deep needs --weights FILE"),
        (["--images", "x", "--features", "deep", "--weights", "w.pt"], "--weights w.pt: there is no such file."),
    ],
)
def test_options_that_do_not_go_together_are_refused(monkeypatch, tmp_path, capsys, arguments, said):
    assert run(monkeypatch, *arguments, "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_table_without_the_column_names_the_options(monkeypatch, folder, tmp_path, capsys):
    given = ("--images", folder, "--labels", folder / "labels.csv", "--label", "finding", "--out", tmp_path)
    assert run(monkeypatch, *given, *QUICK) == 2
    told = capsys.readouterr().err
    assert "finding" in told
    assert "Here these are --label ('' for none), --scanner-column, --patient-column and --skip-bad." in told


def test_deep_features_take_a_file_of_weights(monkeypatch, folder, tmp_path):
    import torch

    from xray_harmonize.networks.resnet import RadiographResNet

    torch.save(RadiographResNet(2, depth=10, width=64).state_dict(), tmp_path / "w.pt")
    given = ("--images", folder, "--out", tmp_path / "out", *QUICK, "--features", "deep", "--depth", "10")
    assert run(monkeypatch, *given, "--weights", tmp_path / "w.pt") == 0
    assert (tmp_path / "out" / "audit.html").exists()


def test_random_images_are_of_every_scanner_and_none_comes_twice():
    X, _ = made((("A", 6), ("B", 8)), side=16)
    X = X[:]
    positions = positions_to_show(X, [], 2, seed=0)
    assert X.scanner[positions].tolist() == ["A", "A", "B", "B"]
    assert positions_to_show(X, [f"A/{positions[0]}.dcm"], 2, seed=0) == positions
    assert positions_to_show(X, [], 2, seed=1) != positions
