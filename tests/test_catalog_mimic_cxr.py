"""The tables of MIMIC-CXR beside indexed images: joins, labels of studies, and what goes wrong by name."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mimic_factory import (
    FINDINGS,
    IMAGES,
    METADATA,
    metadata_row,
    write_images,
    write_labels,
    write_metadata,
    write_split,
    write_table,
)

import xray_harmonize
from xray_harmonize.catalog.database import create
from xray_harmonize.catalog.index import build_index
from xray_harmonize.catalog.mimic_cxr import import_mimic_cxr
from xray_harmonize.catalog.store import Catalog
from xray_harmonize.exceptions import CatalogError, LabelTableError, XRayHarmonizeWarning

FIRST, SECOND, THIRD, FOURTH = IMAGES


@pytest.fixture
def collection(tmp_path):
    folder = tmp_path / "mimic-cxr"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """Folder of a catalogue and the images it knows."""
    folder = tmp_path_factory.mktemp("indexed")
    write_images(folder / "archive")
    build_index(folder / "archive", folder / "archive.sqlite", n_jobs=1)
    return folder


@pytest.fixture
def db(indexed, tmp_path):
    copy = tmp_path / "archive.sqlite"
    copy.write_bytes((indexed / "archive.sqlite").read_bytes())
    return copy


def asked(db, sql):
    with Catalog(db) as catalog:
        return list(map(tuple, catalog.rows(sql)[1]))


def test_images_are_joined_with_metadata_and_split(collection, db):
    write_metadata(collection, i1={"ViewPosition": "LATERAL"})
    write_split(collection, split="validate")
    imported = import_mimic_cxr(collection, db)
    assert [(table.name, table.rows) for table in imported.tables] == [
        ("mimic_cxr_metadata", 4),
        ("mimic_cxr_split", 4),
    ]
    assert (imported.images.n_linked, imported.images.n_conflicts, imported.images.n_others) == (4, 0, 0)
    rows = asked(db, "SELECT dicom_id, subject_id, study_id, view_position, split, bits_stored FROM mimic_image")
    assert sorted(rows) == [
        (FIRST, 10000032, 50414267, "PA", "validate", 12),
        (SECOND, 10000032, 50414267, "LATERAL", "validate", 12),
        (THIRD, 10000032, 53189527, "PA", "validate", 12),
        (FOURTH, 10000764, 57375967, "PA", "validate", 12),
    ]
    assert asked(db, "SELECT DISTINCT typeof(Rows), typeof(StudyTime) FROM mimic_cxr_metadata") == [("integer", "real")]


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("mimic-cxr-2.0.0-split.csv.gz", "mimic_cxr_split"),
        ("mimic-cxr-2.1.0-split.csv", "mimic_cxr_split"),
        ("mimic-cxr-split.csv.gz", "mimic_cxr_split"),
        ("cxr-record-list.csv.gz", "mimic_cxr_record_list"),
        ("mimic-cxr-2.0.0-negbio.csv", "mimic_cxr_negbio"),
        ("mimic-cxr-2.1.0-test-set-labeled.csv", "mimic_cxr_test_set_labeled"),
    ],
)
def test_every_table_is_known_by_its_name_and_enough_alone(collection, db, name, table):
    if "split" in name:
        write_split(collection, name)
    elif "record" in name:
        rows = [
            {"subject_id": subject, "study_id": study, "dicom_id": image, "path": f"files/{image}.dcm"}
            for image, (subject, study) in IMAGES.items()
        ]
        write_table(collection / name, ["subject_id", "study_id", "dicom_id", "path"], rows)
    elif "negbio" in name:
        write_labels(collection, name)
    else:
        write_table(collection / name, ["study_id", "Pneumonia"], [{"study_id": 50414267, "Pneumonia": "1.0"}])
    imported = import_mimic_cxr(collection, db)
    assert [one.name for one in imported.tables] == [table]
    assert imported.images.n_linked == (2 if "test-set" in name else 4)


def test_tables_may_lie_in_several_folders(collection, db, tmp_path):
    write_metadata(collection)
    write_labels(tmp_path / "jpg")
    assert len(import_mimic_cxr([collection, tmp_path / "jpg"], db).tables) == 2


@pytest.mark.parametrize(
    ("view", "expected"),
    [("AP", "frontal"), ("PA", "frontal"), ("LATERAL", "lateral"), ("LL", "lateral"), ("LAO", "other")],
)
def test_views_fall_into_three_classes(collection, db, view, expected):
    write_metadata(collection, i0={"ViewPosition": view})
    import_mimic_cxr(collection, db)
    assert asked(db, f"SELECT view_class FROM mimic_image WHERE dicom_id = '{FIRST}'") == [(expected,)]


def test_a_missing_view_is_that_of_the_header_and_without_one_other(collection, tmp_path):
    write_metadata(collection, i0={"ViewPosition": ""}, i1={"ViewPosition": ""})
    write_images(collection, {FIRST: IMAGES[FIRST]}, ViewPosition="LL")
    write_images(collection, {SECOND: IMAGES[SECOND]}, ViewPosition="")
    build_index(collection, tmp_path / "a.sqlite", n_jobs=1)
    import_mimic_cxr(collection, tmp_path / "a.sqlite")
    assert asked(tmp_path / "a.sqlite", "SELECT dicom_id, view_position, view_class FROM mimic_image ORDER BY 1") == [
        (FIRST, "LL", "lateral"),
        (SECOND, None, "other"),
    ]


def test_procedure_tells_portable_units_from_fixed_ones(collection, db):
    write_metadata(
        collection,
        i0={"ViewPosition": "AP", "PerformedProcedureStepDescription": "CHEST (PORTABLE AP)"},
        i1={"ViewPosition": "AP", "PerformedProcedureStepDescription": "CHEST (PA AND LAT)"},
        i2={"ViewPosition": "AP", "PerformedProcedureStepDescription": ""},
        i3={"ViewPosition": "PA", "PerformedProcedureStepDescription": "CHEST (PA AND LAT)"},
    )
    import_mimic_cxr(collection, db)
    assert dict(asked(db, "SELECT dicom_id, unit FROM mimic_image")) == {
        FIRST: "portable",
        SECOND: "fixed",
        THIRD: None,
        FOURTH: None,
    }


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("21800506", "213014.531", ("2180-05-06", "21:30:14")),
        ("21800506", "5910.25", ("2180-05-06", "00:59:10")),
        ("21800506", "7.0", ("2180-05-06", "00:00:07")),
        ("21800506", "0.0", ("2180-05-06", "00:00:00")),
        ("21800506", "235959.999", ("2180-05-06", "23:59:59")),
        ("", "", (None, None)),
    ],
)
def test_dates_and_times_are_written_out_with_their_zeros(collection, db, date, time, expected):
    write_metadata(collection, i0={"StudyDate": date, "StudyTime": time})
    import_mimic_cxr(collection, db)
    assert asked(db, f"SELECT study_date, study_time FROM mimic_image WHERE dicom_id = '{FIRST}'") == [expected]


def test_labels_of_a_study_are_those_of_all_its_images(collection, db):
    write_labels(collection, s50414267="1.0", s53189527="-1.0")
    write_labels(collection, "mimic-cxr-2.0.0-negbio.csv.gz", s57375967="0.0")
    imported = import_mimic_cxr(collection, db)
    assert imported.n_labels == {"chexpert": 5, "negbio": 4}
    with Catalog(db) as catalog:
        pneumonia = catalog.images(label="Pneumonia", labeler="chexpert")
        labels = {
            Path(path).stem: label for path, label in zip(pneumonia.meta["path"], pneumonia.meta["label"], strict=True)
        }
        assert labels == {FIRST: 1, SECOND: 1, THIRD: -1}
        assert len(catalog.images(where="label = 1", label="Pneumonia", labeler="chexpert")) == 2
        assert len(catalog.images(label="Pneumonia", labeler="negbio")) == 1
    assert asked(db, "SELECT count(*) FROM label WHERE value IS NULL OR typeof(value) <> 'integer'") == [(0,)]


def test_manual_labels_may_have_other_findings_and_no_subject(collection, db):
    write_table(
        collection / "mimic-cxr-2.1.0-test-set-labeled.csv",
        ["study_id", "Pneumonia", "Airspace Opacity"],
        [{"study_id": 50414267, "Pneumonia": "0.0", "Airspace Opacity": "1.0"}],
    )
    import_mimic_cxr(collection, db)
    with Catalog(db) as catalog:
        assert len(catalog.images(label="Airspace Opacity", labeler="manual")) == 2


def test_importing_again_changes_nothing_and_finds_what_was_indexed_since(collection, tmp_path):
    db = tmp_path / "a.sqlite"
    write_metadata(collection)
    write_labels(collection, s50414267="1.0")
    write_images(tmp_path / "archive", {FIRST: IMAGES[FIRST]})
    build_index(tmp_path / "archive", db, n_jobs=1)
    assert import_mimic_cxr(collection, db).images.n_linked == 1
    before = asked(db, "SELECT count(*), max(label_id) FROM label"), asked(db, "SELECT count(*) FROM provenance")
    write_images(tmp_path / "archive")
    build_index(tmp_path / "archive", db, n_jobs=1)
    again = import_mimic_cxr(collection, db)
    assert all(table.unchanged for table in again.tables)
    assert again.images.n_linked == 4
    assert before[0] == asked(db, "SELECT count(*), max(label_id) FROM label")
    with Catalog(db) as catalog:
        assert len(catalog.images(label="Pneumonia")) == 2


def test_a_changed_table_of_labels_replaces_the_labels(collection, db):
    write_labels(collection, s50414267="1.0")
    import_mimic_cxr(collection, db)
    write_labels(collection, s53189527="0.0")
    import_mimic_cxr(collection, db)
    assert asked(db, "SELECT study_key, value FROM label WHERE name = 'Pneumonia'") == [("53189527", 0)]


def test_labels_by_others_stay(collection, db):
    with closing(create(db)) as connection:
        connection.execute("INSERT INTO label (study_key, labeler, name, value) VALUES ('1', 'me', 'Pneumonia', 1)")
    write_labels(collection, s50414267="1.0")
    import_mimic_cxr(collection, db)
    assert ("me",) in asked(db, "SELECT DISTINCT labeler FROM label")


def test_images_of_other_collections_are_left_alone(collection, tmp_path):
    write_images(tmp_path / "archive", {FIRST: IMAGES[FIRST], "another": (99999999, 99999999)})
    build_index(tmp_path / "archive", tmp_path / "a.sqlite", n_jobs=1)
    write_metadata(collection)
    images = import_mimic_cxr(collection, tmp_path / "a.sqlite").images
    assert (images.n_linked, images.n_others) == (1, 1)
    assert asked(tmp_path / "a.sqlite", "SELECT count(*) FROM image WHERE study_key IS NULL") == [(1,)]


# What does not fit


@pytest.mark.parametrize("where", ["study of the folder", "subject of the folder", "header"])
def test_images_whose_study_or_patient_differs_are_left_out_with_a_warning(collection, tmp_path, where):
    subject, study = IMAGES[FIRST]
    images = {**IMAGES, FIRST: (subject, 1 + study) if "study" in where else (1 + subject, study)}
    if where == "header":
        write_images(tmp_path / "archive")
        write_images(tmp_path / "archive", {FIRST: IMAGES[FIRST]}, PatientID="10000048")
    else:
        write_images(tmp_path / "archive", images, **({} if "study" in where else {"PatientID": ""}))
    build_index(tmp_path / "archive", tmp_path / "a.sqlite", n_jobs=1)
    write_metadata(collection)
    with pytest.warns(
        XRayHarmonizeWarning, match=rf"1 of 4 indexed image\(s\) belong to another .* '{FIRST}', and were"
    ):
        imported = import_mimic_cxr(collection, tmp_path / "a.sqlite")
    assert (imported.images.n_linked, imported.images.n_conflicts) == (3, 1)
    assert FIRST not in str(asked(tmp_path / "a.sqlite", "SELECT dicom_id FROM mimic_image"))


def test_a_split_of_another_study_is_not_joined(collection, db):
    write_metadata(collection)
    rows = [{"dicom_id": FIRST, "study_id": 1, "subject_id": 10000032, "split": "test"}]
    write_table(collection / "mimic-cxr-2.0.0-split.csv", ["dicom_id", "study_id", "subject_id", "split"], rows)
    import_mimic_cxr(collection, db)
    assert asked(db, f"SELECT study_id, split FROM mimic_image WHERE dicom_id = '{FIRST}'") == [(50414267, None)]


def test_hashed_patients_are_not_compared(collection, tmp_path):
    write_images(tmp_path / "archive")
    build_index(tmp_path / "archive", tmp_path / "a.sqlite", n_jobs=1, patient_salt=b"a secret of many bytes")
    write_metadata(collection)
    assert import_mimic_cxr(collection, tmp_path / "a.sqlite").images.n_linked == 4


def test_tables_without_a_single_indexed_image_are_imported_with_a_warning(collection, tmp_path):
    write_metadata(collection)
    with pytest.warns(XRayHarmonizeWarning, match=r"a\.sqlite: no indexed image is of these tables; index the DICOM"):
        imported = import_mimic_cxr(collection, tmp_path / "a.sqlite")
    assert imported.tables[0].rows == 4


@pytest.mark.parametrize("ending", [".jpg", ".JPEG"])
def test_histogram_equalized_images_are_warned_of(collection, db, ending):
    write_metadata(collection)
    image = collection / "files" / "p10" / "p10000032" / "s50414267" / f"{FIRST}{ending}"
    image.parent.mkdir(parents=True)
    image.touch()
    with pytest.warns(XRayHarmonizeWarning, match="holds the images of MIMIC-CXR-JPG, which are histogram-equalized"):
        import_mimic_cxr(collection, db)


@pytest.mark.parametrize("tree", ["none", "empty", "DICOM", "file"])
def test_other_images_are_not_warned_of(collection, db, tree):
    write_metadata(collection)
    if tree == "empty":
        (collection / "files" / "p10").mkdir(parents=True)
    elif tree == "DICOM":
        write_images(collection)
    elif tree == "file":
        (collection / "files").touch()
    import_mimic_cxr(collection, db)


def test_missing_folders_and_folders_without_tables_are_named(collection, db, tmp_path):
    with pytest.raises(
        LabelTableError, match=r"nowhere: no such folder, expected the one with the tables of MIMIC-CXR"
    ):
        import_mimic_cxr(tmp_path / "nowhere", db)
    (collection / "mimic-cxr-2.0.0-metadata.csv.gz.part").touch()
    with pytest.raises(
        LabelTableError, match=r"mimic-cxr: none of the tables of MIMIC-CXR, expected mimic-cxr-2\.0\.0"
    ):
        import_mimic_cxr(collection, db)


def test_of_two_versions_of_a_table_one_must_go(collection, db):
    write_metadata(collection)
    write_metadata(collection, "mimic-cxr-2.1.0-metadata.csv")
    with pytest.raises(
        LabelTableError, match=r"2\.0\.0-metadata.* and .*2\.1\.0-metadata.* are the same table, expected"
    ):
        import_mimic_cxr(collection, db)


@pytest.mark.parametrize("column", ["dicom_id", "study_id", "ViewPosition", "StudyTime"])
def test_missing_columns_are_named(collection, db, column):
    header = [name for name in METADATA if name != column]
    rows = [{name: cell for name, cell in metadata_row(FIRST).items() if name != column}]
    write_table(collection / "mimic-cxr-2.0.0-metadata.csv", header, rows)
    with pytest.raises(LabelTableError, match=rf"metadata\.csv: no column '{column}', expected .*\. Give the table as"):
        import_mimic_cxr(collection, db)


def test_labels_need_findings(collection, db):
    write_table(collection / "mimic-cxr-2.1.0-test-set-labeled.csv", ["study_id", "subject_id"], [])
    with pytest.raises(LabelTableError, match=r"no column with a finding, expected some such as 'Pneumonia'\. Give"):
        import_mimic_cxr(collection, db)
    header = ["subject_id", "study_id", *FINDINGS[:-1]]
    write_table(collection / "mimic-cxr-2.1.0-test-set-labeled.csv", ["study_id", "Edema"], [])
    write_table(collection / "mimic-cxr-2.0.0-chexpert.csv", header, [])
    with pytest.raises(LabelTableError, match="no column 'Support Devices'"):
        import_mimic_cxr(collection, db)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("2.0", "column 'Pneumonia' has '2', expected -1, 0, 1 or nothing"),
        ("yes", "row 2, column 'Pneumonia' has 'yes', expected an integer or nothing"),
        ("0.5", "row 2, column 'Pneumonia' has '0.5', expected an integer or nothing"),
    ],
)
def test_labels_that_are_none_are_named_and_the_old_ones_stay(collection, db, cell, message):
    write_labels(collection, s50414267="1.0")
    import_mimic_cxr(collection, db)
    write_labels(collection, s50414267=cell)
    with pytest.raises(LabelTableError, match=rf"chexpert\.csv\.gz: {message}"):
        import_mimic_cxr(collection, db)
    assert asked(db, "SELECT value FROM label WHERE name = 'Pneumonia'") == [(1,)]


def test_a_split_that_is_none_is_named(collection, db):
    write_split(collection, split="valid")
    with pytest.raises(LabelTableError, match="column 'split' has 'valid', expected train, validate, test or nothing"):
        import_mimic_cxr(collection, db)


def test_images_that_are_twice_in_a_table_are_named(collection, db):
    rows = [metadata_row(FIRST), metadata_row(SECOND), metadata_row(FIRST)]
    write_table(collection / "mimic-cxr-2.0.0-metadata.csv", METADATA, rows)
    with pytest.raises(LabelTableError, match=rf"dicom_id '{FIRST}' is in 2 rows, expected each once"):
        import_mimic_cxr(collection, db)


def test_a_truncated_file_is_named_and_those_before_it_are_kept(collection, db):
    write_metadata(collection)
    split = write_split(collection)
    content = gzip.compress(os.urandom(999).hex().encode())
    split.write_bytes(gzip.compress(b"dicom_id,study_id,subject_id,split\n", mtime=0)[:-8] + content[:-20])
    split.write_bytes(split.read_bytes()[:40])
    with pytest.raises(LabelTableError, match=r"split\.csv\.gz: the (file is truncated|compressed data are damaged)"):
        import_mimic_cxr(collection, db)
    assert asked(db, "SELECT count(*) FROM mimic_cxr_metadata") == [(4,)]


def test_progress_tells_files_and_bytes(collection, db):
    size, seen = write_metadata(collection).stat().st_size, []
    import_mimic_cxr(collection, db, progress=lambda *told: seen.append(told))
    assert seen[-1] == ("mimic-cxr-2.0.0-metadata.csv.gz", 2 * size, 2 * size)


@pytest.mark.parametrize(
    "stop", ["INSERT INTO label", "INSERT INTO mimic_cxr_image", "UPDATE image SET study_key = CAST"]
)
def test_a_kill_in_the_middle_leaves_a_sound_catalogue(collection, db, stop):
    write_metadata(collection)
    write_labels(collection, s50414267="1.0")
    import_mimic_cxr(collection, db)
    write_labels(collection, s53189527="0.0")
    code = (
        "import os, signal, sys\n"
        "from xray_harmonize.catalog import mimic_cxr\n"
        "made = mimic_cxr.create\n"
        "def traced(db):\n"
        "    connection = made(db)\n"
        "    connection.set_trace_callback(\n"
        "        lambda sql: os.kill(os.getpid(), signal.SIGKILL) if sql.startswith(sys.argv[3]) else None)\n"
        "    return connection\n"
        "mimic_cxr.create = traced\n"
        "mimic_cxr.import_mimic_cxr(sys.argv[1], sys.argv[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, collection, db, stop], cwd=Path(xray_harmonize.__file__).parents[1]
    )
    assert done.returncode == -signal.SIGKILL
    assert asked(db, "PRAGMA integrity_check") == [("ok",)]
    assert asked(db, "SELECT count(*) FROM mimic_image") == [(4,)]
    assert asked(db, "SELECT count(*) FROM label WHERE name = 'Pneumonia'") == [(1,)]
    import_mimic_cxr(collection, db)
    assert asked(db, "SELECT study_key, value FROM label WHERE name = 'Pneumonia'") == [("53189527", 0)]


def test_a_database_of_something_else_is_refused(collection, tmp_path):
    write_metadata(collection)
    (tmp_path / "else.sqlite").write_bytes(b"something else" * 99)
    with pytest.raises(CatalogError, match="cannot be used as a catalogue"):
        import_mimic_cxr(collection, tmp_path / "else.sqlite")


def test_a_catalogue_that_another_writes_for_long_is_named(collection, db, monkeypatch):
    from xray_harmonize.catalog import database

    write_metadata(collection)
    make = create(db)  # the tables are there; then somebody writes
    make.close()
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    with closing(create(db)) as other:
        from xray_harmonize.catalog import mimic_cxr

        opened = create(db)
        monkeypatch.setattr(mimic_cxr, "create", lambda _: opened)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogError, match=r"MIMIC-CXR: cannot be imported into .* \(database is locked\); check"):
            import_mimic_cxr(collection, db)
        other.execute("ROLLBACK")
