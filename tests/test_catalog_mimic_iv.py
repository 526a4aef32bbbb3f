"""The tables of MIMIC-IV beside the images: patients, admissions and stays of every image in SQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from mimic_factory import (
    ADMISSIONS,
    ICUSTAYS,
    IMAGES,
    write_admissions,
    write_icustays,
    write_images,
    write_metadata,
    write_patients,
    write_table,
)

from xray_harmonize.catalog import csv_tables
from xray_harmonize.catalog.index import build_index
from xray_harmonize.catalog.mimic_cxr import import_mimic_cxr
from xray_harmonize.catalog.mimic_iv import import_mimic_iv
from xray_harmonize.catalog.store import Catalog
from xray_harmonize.exceptions import LabelTableError

FIRST = next(iter(IMAGES))
SUBJECT = 10000032
PATIENT = {
    "subject_id": SUBJECT,
    "gender": "F",
    "anchor_age": 52,
    "anchor_year": 2178,
    "anchor_year_group": "2014 - 2016",
}
ADMISSION = {
    "subject_id": SUBJECT,
    "hadm_id": 22595853,
    "admittime": "2180-05-06 22:23:00",
    "dischtime": "2180-05-07 17:15:00",
    "admission_type": "URGENT",
    "edregtime": "2180-05-06 19:17:00",
}


@pytest.fixture
def collection(tmp_path):
    return tmp_path / "mimic-iv"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """Catalogue of images with the metadata of MIMIC-CXR; the first study is of 2180-05-06 21:30:14."""
    folder = tmp_path_factory.mktemp("indexed")
    write_images(folder / "archive")
    build_index(folder / "archive", folder / "archive.sqlite", n_jobs=1)
    write_metadata(folder / "cxr")
    import_mimic_cxr(folder / "cxr", folder / "archive.sqlite")
    return folder / "archive.sqlite"


@pytest.fixture
def db(indexed, tmp_path):
    copy = tmp_path / "archive.sqlite"
    copy.write_bytes(indexed.read_bytes())
    return copy


def asked(db, sql):
    with Catalog(db) as catalog:
        return list(map(tuple, catalog.rows(sql)[1]))


def of_the_first(db, columns):
    ((*cells,),) = asked(db, f"SELECT {columns} FROM patient_image WHERE dicom_id = '{FIRST}'")
    return cells


def test_every_file_of_both_folders_is_a_typed_table_with_indices(collection, tmp_path):
    write_patients(collection, PATIENT)
    write_admissions(collection, ADMISSION)
    write_icustays(collection)
    chart = ["subject_id", "hadm_id", "stay_id", "caregiver_id", "charttime", "itemid", "value", "valuenum", "warning"]
    write_table(
        collection / "icu" / "chartevents.csv.gz",
        chart,
        [
            {"subject_id": SUBJECT, "hadm_id": 1, "stay_id": 2, "itemid": 220179, "value": "84", "valuenum": 84},
            {"subject_id": SUBJECT, "hadm_id": 1, "stay_id": 2, "itemid": 226253, "value": "Yes", "valuenum": 85.5},
        ],
    )
    write_table(collection / "hosp" / "d_icd_diagnoses.csv", ["icd_code", "icd_version"], [{"icd_code": "0010"}])
    (collection / "hosp" / "index.html").write_text("no table")
    imported = import_mimic_iv(collection, tmp_path / "a.sqlite")
    columns = {table.name: table.columns for table in imported.tables}
    assert set(columns) == {
        "hosp_patients",
        "hosp_admissions",
        "icu_icustays",
        "icu_chartevents",
        "hosp_d_icd_diagnoses",
    }
    assert columns["icu_chartevents"]["value"] == "TEXT"
    assert columns["icu_chartevents"]["valuenum"] == "REAL"
    assert columns["icu_chartevents"]["itemid"] == "INTEGER"
    assert columns["hosp_d_icd_diagnoses"]["icd_code"] == "TEXT"
    assert list(columns["hosp_admissions"]) == ADMISSIONS
    assert list(columns["icu_icustays"]) == ICUSTAYS
    indices = asked(
        tmp_path / "a.sqlite", "SELECT name FROM sqlite_schema WHERE tbl_name = 'icu_chartevents' AND type = 'index'"
    )
    assert {name for (name,) in indices} == {
        f"icu_chartevents_by_{key}" for key in ("subject_id", "hadm_id", "stay_id")
    }


def test_small_files_come_first_and_are_kept_when_a_large_one_fails(collection, tmp_path):
    write_patients(collection, PATIENT)
    write_table(collection / "icu" / "chartevents.csv", ["subject_id", "value"], [{"value": "x" * 500}])
    (collection / "icu" / "chartevents.csv").open("a").write("1,2,3\n")
    with pytest.raises(LabelTableError, match=r"chartevents\.csv: row 3 has 3 cell"):
        import_mimic_iv(collection, tmp_path / "a.sqlite")
    assert asked(tmp_path / "a.sqlite", "SELECT gender FROM hosp_patients") == [("F",)]


def test_importing_again_skips_what_has_not_changed(collection, tmp_path):
    write_patients(collection, PATIENT)
    write_icustays(collection)
    import_mimic_iv(collection, tmp_path / "a.sqlite")
    write_patients(collection, {**PATIENT, "gender": "M"})
    again = {table.name: table.unchanged for table in import_mimic_iv(collection, tmp_path / "a.sqlite").tables}
    assert again == {"hosp_patients": False, "icu_icustays": True}
    assert asked(tmp_path / "a.sqlite", "SELECT gender FROM hosp_patients") == [("M",)]


def test_sex_age_and_admission_join_to_images(collection, db):
    write_patients(collection, {**PATIENT, "dod": "2180-09-09"})
    write_admissions(collection, ADMISSION)
    write_icustays(
        collection,
        {
            "subject_id": SUBJECT,
            "hadm_id": ADMISSION["hadm_id"],
            "stay_id": 39553978,
            "intime": "2180-05-06 21:00:00",
            "outtime": "2180-05-07 23:50:47",
        },
    )
    imported = import_mimic_iv(collection, db)
    assert imported.images.n_linked == len(IMAGES)
    assert of_the_first(db, "gender, age, age_is_capped, hadm_id, admission_type, stay_id, dod, split") == [
        "F",
        54,
        0,
        ADMISSION["hadm_id"],
        "URGENT",
        39553978,
        "2180-09-09",
        None,
    ]
    assert asked(db, "SELECT count(*), count(gender), count(hadm_id) FROM patient_image") == [(4, 3, 3)]


@pytest.mark.parametrize(
    ("admission", "inside"),
    [
        ({}, True),
        ({"edregtime": ""}, False),
        ({"edregtime": "", "admittime": "2180-05-06 21:30:14"}, True),
        ({"dischtime": "2180-05-06 21:30:13"}, False),
        ({"dischtime": ""}, False),
        ({"subject_id": 10000764}, False),
    ],
)
def test_an_admission_begins_in_the_emergency_department_and_ends_with_the_discharge(collection, db, admission, inside):
    write_admissions(collection, ADMISSION | admission)
    import_mimic_iv(collection, db)
    assert of_the_first(db, "hadm_id, gender") == [ADMISSION["hadm_id"] if inside else None, None]


def test_of_two_admissions_the_later_counts_and_the_image_stays_one(collection, db):
    write_admissions(
        collection, ADMISSION, {**ADMISSION, "hadm_id": 5, "admittime": "2180-05-06 20:00:00", "edregtime": ""}
    )
    import_mimic_iv(collection, db)
    assert of_the_first(db, "hadm_id") == [ADMISSION["hadm_id"]]


@pytest.mark.parametrize(("anchor", "age", "capped"), [(52, 54, 0), (89, 91, 0), (91, 91, 1)])
def test_who_was_over_89_has_no_age_that_can_be_counted_on(collection, db, anchor, age, capped):
    write_patients(collection, {**PATIENT, "anchor_age": anchor})
    import_mimic_iv(collection, db)
    assert of_the_first(db, "age, age_is_capped") == [age, capped]


def test_without_the_date_of_the_study_there_is_sex_and_no_age(collection, tmp_path):
    write_images(tmp_path / "archive")
    build_index(tmp_path / "archive", tmp_path / "a.sqlite", n_jobs=1)
    write_patients(collection, PATIENT)
    imported = import_mimic_iv(collection, tmp_path / "a.sqlite")
    assert imported.images.n_linked == 3  # of the patient that the table has
    assert of_the_first(tmp_path / "a.sqlite", "gender, age, hadm_id") == ["F", None, None]


def test_the_other_order_of_imports_gives_the_same(collection, tmp_path, indexed):
    write_images(tmp_path / "archive")
    build_index(tmp_path / "archive", tmp_path / "a.sqlite", n_jobs=1)
    write_patients(collection, PATIENT)
    import_mimic_iv(collection, tmp_path / "a.sqlite")
    write_metadata(tmp_path / "cxr")
    import_mimic_cxr(tmp_path / "cxr", tmp_path / "a.sqlite")
    assert of_the_first(tmp_path / "a.sqlite", "gender, age") == ["F", 54]


def test_progress_tells_folder_file_and_bytes(collection, tmp_path):
    size, seen = write_patients(collection, PATIENT).stat().st_size, []
    import_mimic_iv(collection, tmp_path / "a.sqlite", progress=lambda *told: seen.append(told))
    assert seen[-1] == ("hosp/patients.csv.gz", 2 * size, 2 * size)


def test_an_interrupted_import_goes_on_where_it_was(collection, tmp_path, monkeypatch):
    write_patients(collection, PATIENT)
    write_table(collection / "icu" / "inputevents.csv", ["subject_id", "v"], [{"subject_id": 1, "v": "x" * 99}] * 50)
    monkeypatch.setattr(csv_tables, "_CHUNK_CELLS", 4)

    def progress(name, done, total):
        if "inputevents" in name and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_mimic_iv(collection, tmp_path / "a.sqlite", progress=progress)
    names = {name for (name,) in asked(tmp_path / "a.sqlite", "SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert "hosp_patients" in names
    assert not [name for name in names if "inputevents" in name]
    again = {table.name: table.unchanged for table in import_mimic_iv(collection, tmp_path / "a.sqlite").tables}
    assert again == {"hosp_patients": True, "icu_inputevents": False}


# What does not fit


def test_missing_folders_and_folders_without_tables_are_named(collection, tmp_path):
    with pytest.raises(LabelTableError, match=r"mimic-iv: no such folder, expected the one that holds hosp and icu of"):
        import_mimic_iv(collection, tmp_path / "a.sqlite")
    (collection / "hosp").mkdir(parents=True)
    with pytest.raises(
        LabelTableError, match=r"mimic-iv: no \.csv\.gz in hosp or icu, expected the tables of MIMIC-IV"
    ):
        import_mimic_iv(collection, tmp_path / "a.sqlite")
    assert not Path(tmp_path / "a.sqlite").exists()


def test_a_table_compressed_and_plain_is_one_too_many(collection, tmp_path):
    write_patients(collection, PATIENT)
    write_patients(collection, PATIENT, name="patients.csv")
    with pytest.raises(
        LabelTableError, match=r"patients\.csv.* and .*patients\.csv.* are the same table, expected one"
    ):
        import_mimic_iv(collection, tmp_path / "a.sqlite")


@pytest.mark.parametrize(
    ("write", "row", "message"),
    [
        (write_patients, {**PATIENT, "anchor_age": "old"}, "row 2, column 'anchor_age' has 'old', expected an integer"),
        (write_patients, {**PATIENT, "subject_id": ""}, r"1 row\(s\) have no 'subject_id', expected one in every row"),
        (write_admissions, {**ADMISSION, "hadm_id": "x"}, "row 2, column 'hadm_id' has 'x', expected an integer or"),
    ],
)
def test_cells_that_cannot_be_are_named(collection, tmp_path, write, row, message):
    write(collection, row)
    with pytest.raises(LabelTableError, match=message):
        import_mimic_iv(collection, tmp_path / "a.sqlite")


def test_patients_that_are_twice_there_or_lack_a_column_are_named(collection, tmp_path):
    write_patients(collection, PATIENT, PATIENT)
    with pytest.raises(LabelTableError, match="subject_id 10000032 is in 2 rows, expected each once"):
        import_mimic_iv(collection, tmp_path / "a.sqlite")
    write_table(collection / "hosp" / "patients.csv.gz", ["subject_id", "gender"], [])
    with pytest.raises(
        LabelTableError, match=r"no column 'anchor_age', 'anchor_year', .*Give the table as it is distributed"
    ):
        import_mimic_iv(collection, tmp_path / "a.sqlite")
