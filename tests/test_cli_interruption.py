"""Ctrl-C in the middle of every command: status 130, and a word that is true of what is kept."""

from __future__ import annotations

import numpy as np
import pytest
from archive_factory import fitted, make_images
from archive_folder import put_image, table
from dicom_factory import make_dicom
from mimic_factory import write_images, write_metadata, write_patients

from xray_harmonize import CDFMatching, save
from xray_harmonize.catalog import index, mimic_cxr, mimic_iv, table_import
from xray_harmonize.catalog.index import build_index
from xray_harmonize.catalog.store import Catalog
from xray_harmonize.cli.interruption import GOES_ON, STARTS_OVER, goes_on, starts_over
from xray_harmonize.cli.main import app, run

LABELS = "path,label,scanner,patient\n" + "".join(
    f"{'far' if i % 2 == 0 else 'home'}/{i:04d}.npy,{i // 2 % 2},{'far' if i % 2 == 0 else 'home'},{i}\n"
    for i in range(8)
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Be in a folder with eight images of two scanners, their labels, a fitted model and a catalogue of three files."""
    paths = make_images(tmp_path / "scans", 8)
    (tmp_path / "labels.csv").write_text(LABELS)
    save(fitted(paths, reference="home", scope="scanner"), tmp_path / "model.npz")
    for name in "abc":
        put_image(tmp_path / "archive" / f"{name}.dcm")
    build_index(tmp_path / "archive", tmp_path / "a.sqlite", n_jobs=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def interrupted(*_, **__):
    raise KeyboardInterrupt


def told(capsys, command):
    """Give what an interrupted command said on stderr; nothing but that one word, with status 130."""
    with pytest.raises(SystemExit) as ending:
        run(command.split())
    assert ending.value.code == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.strip()


TABLED = "--images scans --labels labels.csv"


@pytest.mark.parametrize(
    ("command", "within"),
    [
        (f"audit {TABLED} --out new --image-size 16 --no-controls", "xray_harmonize.auditing.audit.audit"),
        ("adapt --model model.npz --images scans/far --scanner third --out new", "xray_harmonize.adaptation.adapt"),
        (f"fit --harmonizer cdf {TABLED} --out new", "xray_harmonize.CDFMatching.fit"),
        ("query SELECT(1) --db a.sqlite --csv new", "xray_harmonize.catalog.store.Catalog.rows"),
        (
            "download https://127.0.0.1:1/x/ --anonymous --dry-run --out new",
            "xray_harmonize.download.survey.survey",
        ),
    ],
    ids=lambda value: value.split()[0],
)
def test_a_command_that_keeps_nothing_says_so_and_leaves_nothing(monkeypatch, place, capsys, command, within):
    monkeypatch.setattr(within, interrupted)
    command = command.replace("--out new", "--out new.npz") if command.startswith(("adapt", "fit")) else command
    assert told(capsys, command) == STARTS_OVER
    assert not [path for path in place.glob("new*") if path.is_file() or any(path.iterdir())]


def test_an_interrupted_import_of_a_plain_table_leaves_the_catalogue_as_it_was(monkeypatch, place, capsys):
    stored = table_import.store_annotations

    def then_interrupted(*arguments):
        stored(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(table_import, "store_annotations", then_interrupted)
    (place / "table.csv").write_text("path,label\narchive/a.dcm,1\n")
    assert told(capsys, "import csv table.csv --db a.sqlite") == STARTS_OVER
    assert table(place / "a.sqlite", "SELECT count(*) FROM label") == [(0,)]


@pytest.mark.parametrize(
    ("command", "within"),
    [
        (f"compare {TABLED} --reference home --folds 2 --out new", "xray_harmonize.evaluation.study.Study.run"),
        ("apply --model model.npz --images scans --out new --format png", "xray_harmonize.archive.apply"),
        ("download https://127.0.0.1:1/x/ --anonymous --out new", "xray_harmonize.download.mirror.mirror"),
    ],
    ids=lambda value: value.split()[0],
)
def test_a_command_that_keeps_what_is_finished_says_so(monkeypatch, place, capsys, command, within):
    # That it does is tested with each of them, by real signals.
    monkeypatch.setattr(within, interrupted)
    assert told(capsys, command) == GOES_ON


def test_an_interrupted_index_keeps_its_batches_and_goes_on(monkeypatch, place, capsys):
    def impatient(*arguments, progress, **options):
        def then_interrupted(state):
            if state.n_read >= 2:
                raise KeyboardInterrupt

        return build_index(*arguments, **options, batch_size=1, progress=then_interrupted)

    with monkeypatch.context() as patched:
        patched.setattr(index, "build_index", impatient)
        assert told(capsys, "index archive --db new.sqlite --jobs 1") == GOES_ON
    ((n_kept,),) = table(place / "new.sqlite", "SELECT count(*) FROM image")
    assert n_kept >= 1
    run_to_the_end("index archive --db new.sqlite --jobs 1")
    assert f"{3 - n_kept} new, 0 changed, {n_kept} unchanged" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "module"), [("mimic-cxr", mimic_cxr), ("mimic-iv", mimic_iv)])
def test_an_interrupted_import_of_mimic_keeps_whole_tables_and_goes_on(monkeypatch, place, capsys, kind, module):
    write_images(place / "files")
    build_index(place / "files", place / "a.sqlite", n_jobs=1)
    write_metadata(place / "mimic")
    write_patients(place / "mimic")
    imported = module.import_csv

    def then_interrupted(*arguments, **options):
        imported(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "import_csv", then_interrupted)
        assert told(capsys, f"import {kind} mimic --db a.sqlite") == GOES_ON
    run_to_the_end(f"import {kind} mimic --db a.sqlite")
    assert "rows, unchanged" in capsys.readouterr().out


def test_an_interrupted_import_of_rsna_keeps_the_images_that_it_indexed(monkeypatch, place, capsys):
    make_dicom(place / "scans" / "one.dcm", np.zeros((2, 2), np.uint8), PatientID="one", PixelSpacing=[0.143, 0.143])
    (place / "rsna.csv").write_text("patientId,x,y,width,height,Target\none,1,2,3,4,1\n")
    (place / "mapping.json").write_text('[{"subset_img_id": "one", "img_id": "00000013_008.png"}]')
    command = "import rsna --images scans --labels rsna.csv --mapping mapping.json --db new.sqlite"
    with monkeypatch.context() as patched:
        patched.setattr(table_import, "store_annotations", interrupted)
        assert told(capsys, command) == GOES_ON
    with Catalog(place / "new.sqlite") as catalog:
        assert len(catalog.images(scanner=None)) == 1
    run_to_the_end(command)
    assert "new.sqlite: 1 images, 0 rows left out." in capsys.readouterr().out


def test_an_interrupted_import_of_embed_keeps_the_images_that_it_indexed(monkeypatch, place, capsys):
    folder = place / "images" / "cohort_1" / "7"
    folder.mkdir(parents=True)
    make_dicom(folder / "a.dcm", np.zeros((2, 2), np.uint16), bits_stored=12, PatientID="7")
    (place / "metadata.csv").write_text(
        "empi_anon,acc_anon,SeriesDescription,FinalImageType,ViewPosition,spot_mag,PatientSex,ManufacturerModelName,"
        "anon_dicom_path\n7,71,R CC,2D,CC,,F,Clearview CSm,/mnt/cohort_1/7/a.dcm\n"
    )
    (place / "clinical.csv").write_text("empi_anon,acc_anon,tissueden\n7,71,2.0\n")
    command = "import embed --metadata metadata.csv --clinical clinical.csv --images images --db new.sqlite"
    with monkeypatch.context() as patched:
        patched.setattr(table_import, "store_annotations", interrupted)
        assert told(capsys, command) == GOES_ON
    run_to_the_end(command)
    assert "new.sqlite: 1 images, 0 rows left out." in capsys.readouterr().out


def run_to_the_end(command):
    with pytest.raises(SystemExit) as ending:
        run(command.split())
    assert not ending.value.code


def test_every_command_has_its_word():
    from typer.main import get_command

    def commands(group):
        for one in group.commands.values():
            yield from commands(one) if hasattr(one, "commands") else [one]

    for command in commands(get_command(app)):
        # What Typer calls wraps what main registers, which wraps the command.
        assert hasattr(command.callback.__wrapped__, "__wrapped__"), command.name


def test_only_the_innermost_word_is_said(capsys):
    @goes_on
    @starts_over
    def command():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        command()
    assert capsys.readouterr().err.strip() == STARTS_OVER


def test_a_command_keeps_its_name_and_its_value():
    assert goes_on(CDFMatching.fit).__name__ == "fit"
    assert starts_over(max)(1, 2) == 2
