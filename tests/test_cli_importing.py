"""``xray-harmonize import``: every kind of table from the command line, in words and exit status."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from dicom_factory import make_dicom
from mimic_factory import IMAGES, write_images, write_labels, write_metadata, write_patients

from xray_harmonize.catalog.index import build_index
from xray_harmonize.catalog.store import Catalog
from xray_harmonize.cli import main


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", "import", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


@pytest.fixture
def db(tmp_path):
    write_images(tmp_path / "archive")
    build_index(tmp_path / "archive", tmp_path / "a.sqlite", n_jobs=1)
    return tmp_path / "a.sqlite"


def test_mimic_cxr_tells_tables_labels_and_images(monkeypatch, capsys, tmp_path, db):
    write_metadata(tmp_path / "cxr")
    write_labels(tmp_path / "labels", s50414267="1.0")
    assert run(monkeypatch, "mimic-cxr", tmp_path / "cxr", tmp_path / "labels", "--db", db) == 0
    assert capsys.readouterr().out.splitlines() == [
        "mimic_cxr_metadata: 4 rows",
        "mimic_cxr_chexpert: 3 rows",
        "labels by chexpert: 4",
        f"{db}: 4 images joined, 0 of other collections.",
    ]
    assert run(monkeypatch, "mimic-cxr", tmp_path / "cxr", "--db", db) == 0
    assert "mimic_cxr_metadata: 4 rows, unchanged" in capsys.readouterr().out


def test_mimic_iv_tells_tables_and_images(monkeypatch, capsys, tmp_path, db):
    write_patients(tmp_path / "iv", {"subject_id": 10000032, "gender": "F", "anchor_age": 52, "anchor_year": 2180})
    assert run(monkeypatch, "mimic-iv", tmp_path / "iv", "--db", db) == 0
    assert capsys.readouterr().out.splitlines() == [
        "hosp_patients: 1 rows",
        f"{db}: 3 images joined, 1 of other collections.",
    ]


def test_a_plain_table_gives_labels_scanners_and_patients(monkeypatch, capsys, tmp_path, db):
    first, second, *_ = IMAGES
    place = {name: f"files/p10/p{subject}/s{study}/{name}.dcm" for name, (subject, study) in IMAGES.items()}
    table = tmp_path / "read.csv"
    table.write_text(f"path,ill,device\n{place[first]},1,GE\n{place[second]},0,Fuji\n")
    options = ["--label", "ill", "--scanner", "device", "--labeler", "me", "--root", tmp_path / "archive"]
    assert run(monkeypatch, "csv", table, "--db", db, *options) == 0
    assert capsys.readouterr().out.splitlines() == ["label ill: 2 images", f"{db}: 2 images, 0 rows left out."]
    with Catalog(db) as catalog:
        chosen = catalog.images(label="ill", labeler="me")
        assert sorted(zip(chosen.scanner, chosen.meta["label"], strict=True)) == [("Fuji", 0), ("GE", 1)]
    table.write_text(f"path,device\n{place[first]},GE 2\n")
    assert run(monkeypatch, "csv", table, "--db", db, "--scanner", "device") == 0
    table.write_text(f"path,label\n{place[first]},3\n")
    assert run(monkeypatch, "csv", table, "--db", db) == 0
    assert "label label: 1 images" in capsys.readouterr().out


def test_rsna_indexes_its_images(monkeypatch, capsys, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    make_dicom(images / "one.dcm", np.zeros((2, 2), np.uint8), PatientID="one", PixelSpacing=[0.143, 0.143])
    (tmp_path / "labels.csv").write_text("patientId,x,y,width,height,Target\none,1,2,3,4,1\n")
    (tmp_path / "mapping.json").write_text('[{"subset_img_id": "one", "img_id": "00000013_008.png"}]')
    tables = ["--images", images, "--labels", tmp_path / "labels.csv", "--mapping", tmp_path / "mapping.json"]
    assert run(monkeypatch, "rsna", *tables, "--db", tmp_path / "a.sqlite") == 0
    assert capsys.readouterr().out.splitlines() == [
        "label Pneumonia: 1 images",
        f"{tmp_path / 'a.sqlite'}: 1 images, 1 of them indexed now, 0 rows left out.",
    ]


def test_embed_indexes_its_images_and_hashes_patients(monkeypatch, capsys, tmp_path):
    place = tmp_path / "images" / "cohort_1" / "7"
    place.mkdir(parents=True)
    make_dicom(place / "a.dcm", np.zeros((2, 2), np.uint16), bits_stored=12, PatientID="7")
    (tmp_path / "metadata.csv").write_text(
        "empi_anon,acc_anon,SeriesDescription,FinalImageType,ViewPosition,spot_mag,PatientSex,ManufacturerModelName,"
        "anon_dicom_path\n7,71,R CC,2D,CC,,F,Clearview CSm,/mnt/cohort_1/7/a.dcm\n"
    )
    (tmp_path / "clinical.csv").write_text("empi_anon,acc_anon,tissueden\n7,71,2.0\n")
    (tmp_path / "salt").write_bytes(b"a secret of many bytes")
    tables = ["--metadata", tmp_path / "metadata.csv", "--clinical", tmp_path / "clinical.csv"]
    options = ["--images", tmp_path / "images", "--hash-patients-with", tmp_path / "salt"]
    assert run(monkeypatch, "embed", *tables, *options, "--db", tmp_path / "a.sqlite") == 0
    assert "label density: 1 images" in capsys.readouterr().out
    with Catalog(tmp_path / "a.sqlite") as catalog:
        assert len(catalog.images().patient[0]) == 32


def test_what_goes_wrong_is_one_message_and_status_2(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "mimic-iv", tmp_path / "nowhere", "--db", tmp_path / "a.sqlite") == 2
    assert "nowhere: no such folder, expected the one that holds hosp and icu" in capsys.readouterr().err


@pytest.mark.filterwarnings("default::xray_harmonize.exceptions.XRayHarmonizeWarning")
def test_warnings_are_told(monkeypatch, capsys, tmp_path):
    write_metadata(tmp_path / "cxr")
    assert run(monkeypatch, "mimic-cxr", tmp_path / "cxr", "--db", tmp_path / "a.sqlite") == 0
    assert "warning: " in capsys.readouterr().err


def test_ctrl_c_is_status_130_and_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    from xray_harmonize.catalog import mimic_iv

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    write_patients(tmp_path)
    monkeypatch.setattr(mimic_iv, "import_csv", interrupted)
    assert run(monkeypatch, "mimic-iv", tmp_path, "--db", tmp_path / "a.sqlite") == 130
    assert "run the same command again to go on" in capsys.readouterr().err
