"""The catalogue as one asks it: SQL in, tables and ImageSets out."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from archive_folder import STORED, put_image, table

from xray_harmonize import Catalog
from xray_harmonize.catalog.index import build_index
from xray_harmonize.exceptions import (
    CatalogError,
    ImageReadError,
    InvalidParameterError,
    MissingScannerError,
    NotEnoughImagesError,
)


@pytest.fixture
def db(tmp_path):
    """Five images of three patients: two views, two vendors, one voltage unknown."""
    archive = tmp_path / "archive"
    put_image(archive / "a.dcm", patient="p1", study="1.1", KVP="125")
    put_image(archive / "b.dcm", patient="p1", study="1.1", ViewPosition="LL", KVP="109")
    put_image(archive / "c.dcm", patient="p2", study="1.2", KVP="81")
    put_image(archive / "d.dcm", patient="p2", study="1.3", Manufacturer="Philips Medical Systems", KVP=None)
    put_image(archive / "e.dcm", patient="", study="1.4", Manufacturer=None, ManufacturerModelName=None)
    build_index(archive, tmp_path / "a.sqlite")
    return tmp_path / "a.sqlite"


@pytest.fixture
def catalog(db):
    with Catalog(db) as opened:
        yield opened


def names(X):
    return [Path(path).stem for path in X.meta["path"]]


def label(catalog, name, values, *, labeler="reader", by="image_id"):
    with catalog.writing() as connection:
        connection.executemany(
            f"INSERT INTO label ({by}, labeler, name, value) VALUES (?, ?, ?, ?)",
            ((key, labeler, name, value) for key, value in values.items()),
        )


# -- choosing images ----------------------------------------------------------------------------------------------


def test_images_are_chosen_in_sql_and_read_when_they_are_asked_for(catalog):
    X = catalog.images("view = 'PA' AND kvp > 100")
    assert names(X) == ["a", "e"]
    assert X.is_lazy
    np.testing.assert_array_equal(X[0], STORED)
    assert X.radiograph(0).bits_stored == 12


def test_scanner_patient_and_acquisition_come_along(catalog):
    X = catalog.images("vendor IS NOT NULL")
    assert X.patient.tolist() == ["p1", "p1", "p2", "p2"]
    assert X.scanner.tolist() == ["GE XR656"] * 3 + ["Philips XR656"]
    assert X.meta.columns.tolist() == catalog.columns
    assert X.meta["kvp"].tolist()[:3] == [125.0, 109.0, 81.0]
    assert np.isnan(X.meta["kvp"].iloc[3])
    types = X.meta.dtypes.astype(str)
    assert (types["rows"], types["signed"], types["kvp"], types["view"]) == ("Int64", "boolean", "float64", "object")
    assert X.radiograph(0).meta["kvp"] == 125.0
    assert X.radiograph(3).meta.get("kvp") is None


def test_an_image_of_nobody_is_an_image_without_patient(catalog):
    X = catalog.images("patient_id IS NULL")
    assert X.patient.tolist() == [None]


def test_without_a_condition_all_images_come_in_the_order_of_their_paths(catalog):
    assert names(catalog.images(scanner=None)) == list("abcde")
    assert catalog.images(scanner=None).scanner is None
    assert [path.stem for path in catalog.paths()] == list("abcde")


@pytest.mark.parametrize(
    ("where", "parameters"),
    [("kvp BETWEEN ? AND ?", (80, 110)), ("kvp BETWEEN :low AND :high", {"low": 80, "high": 110})],
)
def test_values_may_be_given_apart_from_the_sql(catalog, where, parameters):
    assert names(catalog.images(where, parameters=parameters)) == ["b", "c"]
    assert [path.stem for path in catalog.paths(where, parameters)] == ["b", "c"]


def test_a_condition_is_one_expression_whatever_is_in_it(catalog):
    assert names(catalog.images("view = 'LL' OR kvp < 100 -- of lateral or soft images")) == ["b", "c"]
    assert names(catalog.images("path LIKE '%/c.dcm' OR path LIKE '%/a.dcm'")) == ["a", "c"]


def test_another_column_may_tell_the_scanner(catalog):
    assert (
        catalog.images("kvp > 110", scanner="acquisition_group").scanner[0]
        == catalog.query("SELECT acquisition_group FROM image_full WHERE path LIKE '%/a.dcm'").iloc[0, 0]
    )


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "vieww = 'PA'",
            "where=\"vieww = 'PA'\" cannot be answered: no such column: vieww; expected an SQL expression",
        ),
        ("view = ", "syntax error; expected an SQL expression over image_id, path, study_key, sop_instance_uid"),
        ("view = 'PA') OR (1", None),
        ("1); DELETE FROM image; --", "one statement at a time"),
        ("kvp > ?", "Incorrect number of bindings supplied"),
        ("label = 1", "no such column: label"),
        ("abs(-9223372036854775808) > 0", "integer overflow"),
    ],
)
def test_a_condition_that_is_none_is_explained(catalog, where, message):
    if message is None:  # it is an expression between the parentheses it is put into
        assert len(catalog.paths(where)) == 5
        return
    with pytest.raises(CatalogError) as raised:
        catalog.images(where)
    assert message in str(raised.value)
    assert len(catalog.paths()) == 5


def test_no_image_at_all_is_said_with_the_condition(catalog):
    with pytest.raises(NotEnoughImagesError, match=r"no image where kvp > 500; the catalogue holds 5 image\(s\). Ask"):
        catalog.images("kvp > 500")


def test_a_column_that_cannot_tell_the_scanner_is_refused(catalog):
    with pytest.raises(InvalidParameterError, match="scanner='device' is no column of image_full; expected one of"):
        catalog.images(scanner="device")
    with pytest.raises(MissingScannerError, match=r"device_serial is unknown for 5 of 5 image\(s\), such as .*a\.dcm"):
        catalog.images(scanner="device_serial")


def test_raw_and_processed_images_are_not_mixed_unless_asked_for(db):
    for name, intent in (("raw", "FOR PROCESSING"), ("shown", "FOR PRESENTATION")):
        put_image(db.parent / "archive" / f"{name}.dcm", PresentationIntentType=intent)
    build_index(db.parent / "archive", db)
    with Catalog(db) as catalog:
        with pytest.raises(InvalidParameterError, match=r"1 FOR PROCESSING \(first .*raw.dcm\) and 1 FOR PRESENTATION"):
            catalog.images("vendor = 'GE'")
        assert len(catalog.images("vendor = 'GE'", mixed_intent=True)) == 5
        assert len(catalog.images("presentation_intent = 'FOR PROCESSING'")) == 1


def test_a_file_that_is_gone_since_is_named_when_it_is_opened(db, catalog):
    (db.parent / "archive" / "a.dcm").unlink()
    X = catalog.images("view = 'PA'")
    with pytest.raises(ImageReadError, match=r"archive/a.dcm: cannot be opened \(No such file or directory\)"):
        X[0]


# -- labels -------------------------------------------------------------------------------------------------------


def test_labels_of_images_and_of_their_studies_join(catalog):
    label(catalog, "Pneumonia", {1: 0}, by="image_id")
    label(catalog, "Pneumonia", {"1.1": 1, "1.2": 1, "1.3": None, "9.9": 1}, by="study_key")
    X = catalog.images(label="Pneumonia")
    assert names(X) == ["a", "b", "c"], "no value, no label"
    assert X.label.tolist() == [0, 1, 1], "what is said of an image goes before what is said of its study"
    assert X.meta["label"].dtype == np.int64
    assert names(catalog.images("label = 1 AND view = 'PA'", label="Pneumonia")) == ["c"]
    rows = table(catalog.path, "SELECT image_id, value FROM label_full ORDER BY image_id")
    assert rows == [(1, 0), (2, 1), (3, 1), (4, None)]


def test_a_study_may_go_by_another_name_in_tables(catalog):
    with catalog.writing() as connection:
        connection.execute("UPDATE image SET study_key = 's50' WHERE image_id IN (3, 4)")
    label(catalog, "Pneumonia", {"s50": 1, "1.2": 0}, by="study_key")
    assert names(catalog.images(label="Pneumonia")) == ["c", "d"]
    assert table(catalog.path, "SELECT image_id, value FROM label_full ORDER BY image_id") == [(3, 1), (4, 1)]
    build_index(catalog.path.parent / "archive", catalog.path)
    put_image(catalog.path.parent / "archive" / "c.dcm", study="1.9", Rows=3)
    build_index(catalog.path.parent / "archive", catalog.path)
    assert catalog.query("SELECT study_key FROM image_full WHERE path LIKE '%c.dcm'").iloc[0, 0] == "s50"


def test_labels_may_be_words_or_fractions(catalog):
    label(catalog, "finding", {1: "ill", 2: "well"})
    label(catalog, "density", {1: 0.25, 2: 1})
    assert catalog.images(label="finding").label.tolist() == ["ill", "well"]
    assert catalog.images(label="density").label.tolist() == [0.25, 1.0]


def test_of_several_labelers_one_is_chosen(catalog):
    label(catalog, "Edema", {1: 1}, labeler="chexpert")
    label(catalog, "Edema", {1: 0, 2: 1}, labeler="it's negbio")
    assert names(catalog.images(label="Edema", labeler="it's negbio")) == ["a", "b"]
    with pytest.raises(
        InvalidParameterError, match="'Edema' comes from several labelers; choose with labeler= one of 'chexpert'"
    ):
        catalog.images(label="Edema")
    with pytest.raises(InvalidParameterError, match="no label 'Edema' by 'me', expected labeler= one of 'chexpert', "):
        catalog.images(label="Edema", labeler="me")
    with pytest.raises(InvalidParameterError, match="labeler='me' needs label="):
        catalog.images(labeler="me")


def test_a_label_that_is_not_there_is_named_with_those_that_are(catalog):
    with pytest.raises(InvalidParameterError, match="no label 'Edema', expected none, as there are none"):
        catalog.images(label="Edema")
    label(catalog, "Pneumonia", {1: None})
    with pytest.raises(InvalidParameterError, match=r"no label 'Edema', expected one of 'Pneumonia'\. Import"):
        catalog.images(label="Edema")
    with pytest.raises(NotEnoughImagesError, match="no image with the label 'Pneumonia'; the catalogue holds 5"):
        catalog.images(label="Pneumonia")


# -- asking -------------------------------------------------------------------------------------------------------


def test_a_query_gives_a_table(catalog):
    found = catalog.query("SELECT vendor, count(*) AS n FROM image_full WHERE kvp > ? GROUP BY vendor", (0,))
    assert found["n"].tolist() == [1, 3]
    assert catalog.query("SELECT * FROM image_full WHERE 0").columns.tolist() == catalog.columns


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "SELECT * FROM images",
            r"no such table: images\. The catalogue .*a.sqlite can be read, not changed, and has",
        ),
        ("DELETE FROM image", "attempt to write a readonly database"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("PRAGMA query_only = OFF", "gives no rows; expected a SELECT"),
        ("SELECT abs(-9223372036854775807 - 1)", "integer overflow"),
    ],
)
def test_a_query_that_cannot_be_answered_is_explained_and_changes_nothing(catalog, sql, message):
    before = table(catalog.path, "SELECT * FROM image")
    with pytest.raises(CatalogError, match=message):
        catalog.query(sql)
    assert table(catalog.path, "SELECT * FROM image") == before


@pytest.mark.parametrize("sql", ["ATTACH '{}' AS other", "VACUUM INTO '{}'"])
def test_no_other_database_is_written_through_a_query(catalog, tmp_path, sql):
    with pytest.raises(CatalogError, match="too many attached databases"):
        catalog.query(sql.format(tmp_path / "new.sqlite"))
    assert not (tmp_path / "new.sqlite").exists()


# -- keeping ------------------------------------------------------------------------------------------------------


def test_a_catalogue_travels_as_its_path_and_opens_again(catalog):
    copy = pickle.loads(pickle.dumps(catalog))
    assert len(copy.paths()) == 5
    copy.close()
    assert len(copy.paths()) == 5
    copy.close()
    assert repr(catalog) == f"Catalog({str(catalog.path)!r})"


def test_what_is_written_together_is_written_whole_or_not_at_all(catalog):
    def write_and_fail():
        with catalog.writing() as connection:
            connection.execute("INSERT INTO label (image_id, labeler, name) VALUES (1, 'me', 'Edema')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert catalog.query("SELECT * FROM label").empty


def test_an_archive_may_be_moved(catalog, read_nothing):
    archive = catalog.path.parent / "archive"
    moved = archive.rename(archive.with_name("moved"))
    catalog.relocate(archive, moved)
    assert catalog.images(scanner=None)[0].shape == STORED.shape
    assert build_index(moved, catalog.path).n_unchanged == 5


@pytest.fixture
def read_nothing(db, monkeypatch):
    def opened(path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("xray_harmonize.catalog.header_workers.read_acquisition", opened)


def test_an_archive_is_moved_from_where_it_was_to_where_it_is(catalog, tmp_path):
    archive = tmp_path / "archive"
    with pytest.raises(CatalogError, match=r"elsewhere: no such folder, expected the place that .*archive was moved"):
        catalog.relocate(archive, tmp_path / "elsewhere")
    with pytest.raises(CatalogError, match=r"elsewhere was not indexed, expected one of '.*archive'"):
        catalog.relocate(tmp_path / "elsewhere", archive)
    other = put_image(tmp_path / "other" / "x.dcm").parent
    build_index(other, catalog.path)
    with pytest.raises(CatalogError, match="other is indexed already; leave the old folder as it is"):
        catalog.relocate(archive, other)


def test_a_catalogue_may_be_made_empty(tmp_path):
    with Catalog.create(tmp_path / "new.sqlite") as catalog:
        assert catalog.paths() == []


def test_many_names_are_not_all_listed(catalog):
    for number in range(25):
        label(catalog, f"n{number:02d}", {1: 1})
    with pytest.raises(InvalidParameterError, match=r"expected one of 'n00', 'n01', .*'n19' and 5 more. Import"):
        catalog.images(label="n99")
