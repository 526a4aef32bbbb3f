"""Labels, scanners and patients from a plain CSV, RSNA and EMBED, on images of a catalogue."""

from __future__ import annotations

import csv
import gzip
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import make_dicom

from xray_harmonize.catalog.database import create
from xray_harmonize.catalog.image_files import IndexedFiles, index_files
from xray_harmonize.catalog.index import build_index
from xray_harmonize.catalog.patients import patient_key
from xray_harmonize.catalog.store import Catalog
from xray_harmonize.catalog.table_import import import_embed, import_rsna, import_table
from xray_harmonize.exceptions import (
    CatalogError,
    InvalidParameterError,
    LabelTableError,
    XRayHarmonizeWarning,
)

SALT = b"a secret of many bytes"
STORED = np.zeros((3, 4), np.uint8)


def image(path, **attributes):
    path.parent.mkdir(parents=True, exist_ok=True)
    return make_dicom(path, STORED, **{"PatientID": "p", "Manufacturer": "Philips", **attributes})


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    for name in ("a", "b", "ward/c"):
        image(folder / f"{name}.dcm")
    build_index(folder, tmp_path / "a.sqlite", n_jobs=1)
    return folder


@pytest.fixture
def db(archive, tmp_path):
    return tmp_path / "a.sqlite"


def written(tmp_path, text, name="labels.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def asked(db, sql):
    with Catalog(db) as catalog:
        return list(map(tuple, catalog.rows(sql)[1]))


def labels_of(db, name="label"):
    sql = f"SELECT path, value, labeler FROM image_full JOIN label_full USING (image_id) WHERE name = '{name}'"
    return sorted((Path(path).stem, value, labeler) for path, value, labeler in asked(db, sql))


# A plain CSV


@pytest.mark.parametrize("paths", ["to the indexed folder", "to the table", "to the root", "absolute"])
def test_paths_may_be_relative_to_several_folders(tmp_path, archive, db, paths):
    place = {"to the table": "archive/", "absolute": f"{archive}/./"}.get(paths, "")
    root = archive if paths == "to the root" else None
    folder = tmp_path / "elsewhere" if paths in ("to the indexed folder", "to the root") else tmp_path
    folder.mkdir(exist_ok=True)
    table = written(folder, f"path,label\n{place}a.dcm,1\n{place}ward/../ward/c.dcm,0\n")
    imported = import_table(table, db, root=root)
    assert (imported.n_images, imported.n_unknown, imported.n_labels, imported.n_new) == (2, 0, {"label": 2}, 0)
    assert labels_of(db) == [("a", 1, "labels"), ("c", 0, "labels")]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "0"], [1, 0]),
        (["1.5", "2"], [1.5, 2.0]),
        (["well", "1"], ["well", "1"]),
        (["007", "8"], ["007", "8"]),
        (["nan", "1"], [1]),
        (["", " 1 "], [1]),
    ],
)
def test_labels_are_numbers_where_all_are(tmp_path, db, cells, values):
    import_table(written(tmp_path, f"path,label\na.dcm,{cells[0]}\nb.dcm,{cells[1]}\n"), db)
    assert [value for _, value, _ in labels_of(db)] == values


def test_labels_make_an_image_set(tmp_path, db):
    import_table(
        written(tmp_path, "file,Pneumonia,Edema\na.dcm,1,\nb.dcm,0,1\nward/c.dcm,,0\n", "read.csv.gz"),
        db,
        path="file",
        labels=["Pneumonia", "Edema"],
    )
    with Catalog(db) as catalog:
        chosen = catalog.images(label="Pneumonia", where="label = 1")
        assert [Path(path).name for path in chosen.meta["path"]] == ["a.dcm"]
    assert labels_of(db, "Edema") == [("b", 1, "read"), ("c", 0, "read")]


def test_scanner_and_patient_take_the_place_of_the_headers_where_they_are_told(tmp_path, db):
    table = written(tmp_path, "path,device,person\na.dcm,GE,x\nb.dcm,,\n")
    imported = import_table(table, db, labels=[], scanner="device", patient="person")
    assert (imported.n_images, imported.n_labels) == (2, {})
    rows = asked(db, "SELECT scanner, patient_id FROM image_full ORDER BY path")
    assert rows[0] == ("GE", "x")
    assert rows[1] == rows[2]
    assert rows[1][1] == "p"


def test_importing_again_ends_with_what_the_table_says_now(tmp_path, db):
    import_table(written(tmp_path, "path,label\na.dcm,1\nb.dcm,1\n"), db)
    import_table(written(tmp_path, "path,label\na.dcm,0\nb.dcm,\n"), db)
    assert labels_of(db) == [("a", 0, "labels")]
    import_table(written(tmp_path, "path,label\nb.dcm,1\n", "later.csv"), db, labeler="labels")
    assert labels_of(db) == [("a", 0, "labels"), ("b", 1, "labels")]
    what = asked(db, "SELECT what, n_rows, length(sha256) FROM provenance WHERE what LIKE 'import%'")
    assert what == [("import csv", 2, 64), ("import csv", 2, 64), ("import csv", 1, 64)]


def test_rows_of_images_that_are_not_indexed_are_left_out_with_a_warning(tmp_path, db):
    table = written(tmp_path, "path,label\na.dcm,1\nx.dcm,1\n/y.dcm,1\n")
    with pytest.warns(
        XRayHarmonizeWarning, match=r"2 of 3 row\(s\) are of no indexed image and were left out; index the"
    ):
        imported = import_table(table, db)
    assert (imported.n_images, imported.n_unknown) == (1, 2)


def test_files_that_are_gone_are_not_indexed(tmp_path, archive, db):
    (archive / "a.dcm").unlink()
    build_index(archive, db, n_jobs=1)
    with pytest.raises(
        LabelTableError, match=r"none of 1 row\(s\) is of an indexed image, such as 'a\.dcm'; index the"
    ):
        import_table(written(tmp_path, "path,label\na.dcm,1\n"), db)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.dcm,1\n./a.dcm,0\n", r"row 3 is the same file as row 2, '\./a\.dcm'; expected each file once"),
        ("path,label\na.dcm,1\n ,0\n", "row 3, column 'path' is empty, expected the file of an image"),
        (f"path,label\na.dcm,{'x' * 65}\n", "row 2, column 'label' has 'x+', expected at most 64 printable characters"),
        ("path,label\na.dcm,x\x07\n", r"row 2, column 'label' has 'x\\x07', expected at most 64 printable characters"),
        ("path,value\na.dcm,1\n", "no column 'label', expected 'path', 'label'; .* Name the right columns"),
        ("path,label\n", r"none of 0 row\(s\) is of an indexed image"),
    ],
)
def test_tables_that_cannot_be_used_change_nothing(tmp_path, db, text, message):
    import_table(written(tmp_path, "path,label\nb.dcm,7\n"), db)
    with pytest.raises(LabelTableError, match=rf"labels\.csv: {message}"):
        import_table(written(tmp_path, text), db)
    assert labels_of(db) == [("b", 7, "labels")]


def test_a_table_that_is_missing_or_asked_for_nothing_is_named(tmp_path, db):
    with pytest.raises(LabelTableError, match=r"nowhere\.csv: cannot be read \(No such file"):
        import_table(tmp_path / "nowhere.csv", db)
    with pytest.raises(
        InvalidParameterError, match="Nothing to import: expected labels=, scanner= or patient=, a column"
    ):
        import_table(written(tmp_path, "path,label\na.dcm,1\n"), db, labels=[])


@pytest.mark.parametrize("later", ["path,label\na.dcm,0\n", "path,other\na.dcm,1\n"])
def test_a_table_that_changes_meanwhile_changes_nothing(tmp_path, db, later):
    table = written(tmp_path, "path,label\na.dcm,1\n")

    def progress(done, total):
        if done == total // 2:
            table.write_text(later)

    with pytest.raises(LabelTableError, match="the file changed while it was imported; import it when nothing writes"):
        import_table(table, db, progress=progress)
    assert labels_of(db) == []


def test_ctrl_c_changes_nothing(tmp_path, db):
    def progress(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_table(written(tmp_path, "path,label\na.dcm,1\n"), db, progress=progress)
    assert labels_of(db) == []


def test_progress_is_in_bytes(tmp_path, db):
    table, seen = written(tmp_path, "path,label\na.dcm,1\n"), []
    import_table(table, db, progress=lambda *told: seen.append(told))
    assert seen[-1] == (2 * table.stat().st_size,) * 2


def test_patients_are_hashed_where_the_catalogue_hashes_them(tmp_path):
    image(tmp_path / "archive" / "a.dcm")
    build_index(tmp_path / "archive", tmp_path / "h.sqlite", n_jobs=1, patient_salt=SALT)
    table = written(tmp_path, "path,patient\narchive/a.dcm,someone\n")
    with pytest.raises(CatalogError, match="its patient identifiers are hashed; give the salt"):
        import_table(table, tmp_path / "h.sqlite", labels=[], patient="patient")
    import_table(table, tmp_path / "h.sqlite", labels=[], patient="patient", patient_salt=SALT)
    assert asked(tmp_path / "h.sqlite", "SELECT patient_id FROM image_full") == [(patient_key("someone", SALT),)]


# Files that are not indexed yet


def test_single_files_are_indexed_once_and_belong_to_the_folder_above_them(tmp_path, archive, db):
    image(archive / "ward" / "new.dcm")
    with closing(create(db)) as connection:
        assert index_files(connection, archive / "ward", ["c.dcm", "new.dcm"]) == 1
        assert index_files(connection, archive / "ward", ["c.dcm", "new.dcm"]) == 0
        assert connection.execute("SELECT count(*) FROM source").fetchone() == (1,)
        assert IndexedFiles(connection, [archive / "ward"]).image_id("new.dcm") is not None
    summary = build_index(archive, db, n_jobs=1)
    assert (summary.n_new, summary.n_changed, summary.n_unchanged) == (0, 0, 4)


def test_files_without_an_image_become_errors(tmp_path, archive, db):
    (archive / "bad.dcm").write_bytes(b"no image")
    with closing(create(db)) as connection:
        assert index_files(connection, archive, ["bad.dcm", "gone.dcm"]) == 0
        errors = connection.execute("SELECT path, kind FROM error ORDER BY path").fetchall()
    assert errors == [("bad.dcm", "not DICOM"), ("gone.dcm", "unreadable")]


# RSNA and EMBED


@pytest.fixture
def rsna(tmp_path):
    """Folder, table and mapping of a tiny challenge: two scanners, one image of another."""
    images = tmp_path / "stage_2_train_images"
    entries = []
    for name, spacing in (("one", 0.143), ("two", 0.171), ("three", 0.9), ("four", 0.143)):
        image(images / f"{name}.dcm", PatientID=name, PixelSpacing=[spacing, spacing])
        entries.append({"subset_img_id": name, "img_id": f"0000001{len(entries)}_000.png"})
    rows = "one,1,2,3,4,1\none,5,6,7,8,1\ntwo,,,,,0\nthree,,,,,0\nfour,,,,,0\n"
    labels = written(tmp_path, f"patientId,x,y,width,height,Target\n{rows}", "stage_2_train_labels.csv")
    mapping = written(tmp_path, json.dumps(entries), "mapping.json")
    return images, labels, mapping


def test_rsna_images_are_indexed_with_label_scanner_and_person(tmp_path, rsna):
    images, labels, mapping = rsna
    imported = import_rsna(images, labels, tmp_path / "r.sqlite", mapping=mapping)
    assert (imported.n_images, imported.n_new, imported.n_labels) == (3, 3, {"Pneumonia": 3})
    with Catalog(tmp_path / "r.sqlite") as catalog:
        chosen = catalog.images(label="Pneumonia")
        told = zip(chosen.meta["path"], chosen.meta["label"], chosen.scanner, chosen.patient, strict=True)
        assert sorted((Path(path).stem, *rest) for path, *rest in told) == [
            ("four", 0, "Brand Y", "00000013"),
            ("one", 1, "Brand Y", "00000010"),
            ("two", 0, "Brand X", "00000011"),
        ]
    again = import_rsna(images, labels, tmp_path / "r.sqlite", mapping=mapping)
    assert (again.n_images, again.n_new) == (3, 0)


def test_rsna_images_that_are_indexed_are_not_indexed_again(tmp_path, rsna):
    images, labels, mapping = rsna
    build_index(tmp_path, tmp_path / "r.sqlite", n_jobs=1)
    assert import_rsna(images, labels, tmp_path / "r.sqlite", mapping=mapping, n=1).n_new == 0
    assert asked(tmp_path / "r.sqlite", "SELECT count(*) FROM image_full") == [(4,)]
    assert len(labels_of(tmp_path / "r.sqlite", "Pneumonia")) == 3


@pytest.fixture
def embed(tmp_path):
    """Tables and folder of a tiny EMBED."""
    header = (
        "empi_anon,acc_anon,SeriesDescription,FinalImageType,ViewPosition,spot_mag,PatientSex,ManufacturerModelName,"
        "anon_dicom_path"
    )
    lines = []
    for patient, model in (("7", "Selenia Dimensions"), ("8", "Clearview CSm")):
        image(tmp_path / "mammograms" / "cohort_1" / patient / "a.dcm", PatientID=patient)
        lines.append(f"{patient},{patient}1,R CC,2D,CC,,F,{model},/mnt/anon/cohort_1/{patient}/a.dcm")
    metadata = written(tmp_path, "\n".join([header, *lines, ""]), "EMBED_OpenData_metadata.csv")
    clinical = written(tmp_path, "empi_anon,acc_anon,tissueden\n7,71,2.0\n8,81,4.0\n", "EMBED_OpenData_clinical.csv")
    return metadata, clinical, tmp_path / "mammograms"


def test_embed_images_are_indexed_with_density_scanner_and_patient(tmp_path, embed):
    imported = import_embed(*embed, tmp_path / "e.sqlite")
    assert (imported.n_images, imported.n_new, imported.n_unknown) == (2, 2, 0)
    assert labels_of(tmp_path / "e.sqlite", "density") == [("a", 1, "embed"), ("a", 3, "embed")]
    with Catalog(tmp_path / "e.sqlite") as catalog:
        chosen = catalog.images(label="density")
        assert (list(chosen.scanner), list(chosen.patient)) == (["Selenia", "Clearview"], ["7", "8"])


def test_chosen_files_without_an_image_are_left_out_with_a_warning(tmp_path, embed):
    (embed[2] / "cohort_1" / "8" / "a.dcm").write_bytes(b"no image")
    with pytest.warns(
        XRayHarmonizeWarning, match=r"1 of 2 image\(s\) are left out, as their files hold no usable image"
    ):
        imported = import_embed(*embed, tmp_path / "e.sqlite")
    assert (imported.n_images, imported.n_unknown) == (1, 1)
    assert len(asked(tmp_path / "e.sqlite", "SELECT * FROM error")) == 1


def test_patients_of_collections_are_hashed_too(tmp_path, embed):
    import_embed(*embed, tmp_path / "e.sqlite", patient_salt=SALT)
    with Catalog(tmp_path / "e.sqlite") as catalog:
        assert set(catalog.images().patient) == {patient_key("7", SALT), patient_key("8", SALT)}
    with pytest.raises(CatalogError, match=r"e\.sqlite: its patient identifiers are hashed; give the salt"):
        import_embed(*embed, tmp_path / "e.sqlite")


def test_columns_that_nobody_asks_for_may_hold_anything(tmp_path, db):
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["", "path", "label", "notes"], ["0", "a.dcm", "1", "a, b\n" * 40]])
    assert import_table(path, db).n_images == 1
