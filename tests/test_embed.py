"""Tables of EMBED: which images the density study takes, and what each step leaves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dicom_factory import make_dicom
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.catalog.embed import SCANNERS, TEST_ONLY, embed_table
from xray_harmonize.catalog.partition import partition, partition_sizes
from xray_harmonize.catalog.selection import Selection, write_table
from xray_harmonize.exceptions import InvalidParameterError, LabelTableError, NotEnoughImagesError
from xray_harmonize.images import ImageSet
from xray_harmonize.labels import read_labels

# Some columns of the distributed tables, in their order; those that are not read are among them on purpose.
METADATA = [
    "",
    "empi_anon",
    "acc_anon",
    "study_date_anon",
    "StudyDescription",
    "SeriesDescription",
    "FinalImageType",
    "ImageLateralityFinal",
    "ViewPosition",
    "spot_mag",
    "PatientAge",
    "PatientSex",
    "Manufacturer",
    "ManufacturerModelName",
    "num_roi",
    "ROI_coords",
    "anon_dicom_path",
]
CLINICAL = ["", "empi_anon", "acc_anon", "study_date_anon", "desc", "tissueden", "asses", "side", "age_at_study"]
PREFIX = "/mnt/NAS2/mammo/anon_dicom/"


class Tables:
    """Writes the two tables of a collection, a full craniocaudal view of a woman unless a row says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.metadata, self.clinical = folder / "EMBED_OpenData_metadata.csv", folder / "EMBED_OpenData_clinical.csv"
        self.images: list[dict[str, Any]] = []
        self.exams: list[dict[str, Any]] = []
        self.metadata_columns, self.clinical_columns = METADATA, CLINICAL

    def image(self, file: str = "", patient: str = "54861075", exam: str = "9938236302743644", **cells: Any) -> str:
        path = f"cohort_1/{patient}/{file or f'{len(self.images)}.dcm'}"
        row = {
            "empi_anon": patient,
            "acc_anon": exam,
            "SeriesDescription": "R CC",
            "FinalImageType": "2D",
            "ImageLateralityFinal": "R",
            "ViewPosition": "CC",
            "PatientAge": "051Y",
            "PatientSex": "F",
            "ManufacturerModelName": "Selenia Dimensions",
            "num_roi": "0",
            "ROI_coords": "((1, 2), (3, 4))",
            "anon_dicom_path": PREFIX + path,
        }
        self.images.append(row | cells)
        return path

    def exam(
        self, patient: str = "54861075", exam: str = "9938236302743644", density: str = "2.0", **cells: Any
    ) -> None:
        row = {"empi_anon": patient, "acc_anon": exam, "tissueden": density, "asses": "N", "age_at_study": "51.4"}
        self.exams.append(row | cells)

    def write(self) -> None:
        for path, columns, rows in (
            (self.metadata, self.metadata_columns, self.images),
            (self.clinical, self.clinical_columns, self.exams),
        ):
            with path.open("w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)

    def read(self, **options: Any) -> Selection:
        self.write()
        return embed_table(self.metadata, self.clinical, **options)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


@pytest.fixture
def one(tables: Tables) -> Tables:
    tables.image("kept.dcm")
    tables.exam()
    return tables


def paths(selection: Selection) -> list[str]:
    return [Path(path).name for path in selection.images["path"]]


# ---------------------------------------------------------------- what a row becomes


def test_a_row_tells_path_label_scanner_patient_and_more(one: Tables) -> None:
    images = one.read().images
    assert images.to_dict("records") == [
        {
            "path": "cohort_1/54861075/kept.dcm",
            "label": 1,
            "scanner": "Selenia",
            "patient": "54861075",
            "exam": "9938236302743644",
            "view": "CC",
            "laterality": "R",
            "sex": "F",
            "age": 51.4,
            "model": "Selenia Dimensions",
        }
    ]


@pytest.mark.parametrize("model", SCANNERS)
def test_models_are_merged_into_scanners(tables: Tables, model: str) -> None:
    tables.image(ManufacturerModelName=model)
    tables.exam()
    images = tables.read().images
    assert images["scanner"].tolist() == [model.split()[0]]
    assert images["model"].tolist() == [model]


@pytest.mark.parametrize(("density", "label"), [("1.0", 0), ("2", 1), ("3.0", 2), ("4.0", 3)])
def test_densities_are_labels_from_zero(tables: Tables, density: str, label: int) -> None:
    tables.image()
    tables.exam(density=density)
    assert tables.read().images["label"].tolist() == [label]


def test_columns_that_the_tables_lack_are_left_out(one: Tables) -> None:
    one.clinical_columns = CLINICAL[:-1]
    assert one.read().images["age"].tolist() == [51.0]
    one.metadata_columns = [name for name in METADATA if name not in ("PatientAge", "ImageLateralityFinal")]
    assert "age" not in one.read().images
    assert "laterality" not in one.read().images


def test_paths_that_are_relative_already_stay(tables: Tables) -> None:
    tables.image("a.dcm", anon_dicom_path="cohort_2/7/a.dcm")
    tables.exam()
    assert tables.read().images["path"].tolist() == ["cohort_2/7/a.dcm"]


# ---------------------------------------------------------------- which rows count


@pytest.mark.parametrize(
    "cells",
    [
        {"spot_mag": "1.0"},
        {"ViewPosition": "MLO"},
        {"ViewPosition": "XCCL"},
        {"ViewPosition": "", "SeriesDescription": "L MLO"},
        {"ViewPosition": "", "SeriesDescription": ""},
        {"ViewPosition": "", "SeriesDescription": "RXCCL"},
        {"ViewPosition": "CC", "SeriesDescription": "LXCCL"},
        {"ViewPosition": "", "SeriesDescription": "L XCCM"},
        {"FinalImageType": "C-view"},
        {"PatientSex": "M"},
        {"PatientSex": ""},
        {"ManufacturerModelName": "Lorad Selenia"},
        {"acc_anon": "1"},
        {"empi_anon": "1"},
        {"acc_anon": ""},
        {"anon_dicom_path": ""},
    ],
    ids=str,
)
def test_images_outside_of_the_study_are_left_out(one: Tables, cells: dict[str, str]) -> None:
    one.image("other.dcm", **cells)
    one.exam(patient="", exam="")
    assert paths(one.read()) == ["kept.dcm"]


@pytest.mark.parametrize(
    "cells",
    [
        {"ViewPosition": "", "SeriesDescription": "L CC"},
        {"ViewPosition": " CC "},
        {"ViewPosition": "CC", "SeriesDescription": ""},
        {"ViewPosition": "CC", "SeriesDescription": "L XCCL Spot"},
        {"spot_mag": "0.0"},
        {"spot_mag": "NaN"},
        {"acc_anon": "9938236302743644.0", "empi_anon": "54861075.0"},
    ],
    ids=str,
)
def test_images_of_the_study_are_taken_however_they_are_written(tables: Tables, cells: dict[str, str]) -> None:
    tables.image("kept.dcm", **cells)
    tables.exam()
    assert paths(tables.read()) == ["kept.dcm"]


@pytest.mark.parametrize("density", ["", "5.0", "9"])
def test_exams_without_a_density_of_women_are_left_out(one: Tables, density: str) -> None:
    one.image("other.dcm", patient="7", exam="71")
    one.exam(patient="7", exam="71", density=density)
    assert paths(one.read()) == ["kept.dcm"]


def test_exams_of_sixteen_digits_that_are_the_same_float_are_told_apart(tables: Tables) -> None:
    assert float("9938236302743644") == float("9938236302743645")
    tables.image("a.dcm", patient="7", exam="9938236302743644")
    tables.image("b.dcm", patient="7", exam="9938236302743645")
    tables.exam(patient="7", exam="9938236302743644", density="1.0")
    tables.exam(patient="7", exam="9938236302743645", density="3.0")
    tables.exam(patient="", exam="")  # pandas would read the column as floats
    assert dict(zip(paths(selection := tables.read()), selection.images["label"], strict=True)) == {
        "a.dcm": 0,
        "b.dcm": 2,
    }


def test_first_row_of_an_exam_tells_its_density(one: Tables) -> None:
    one.exam(density="4.0", numfind="2")
    assert one.read().images["label"].tolist() == [1]


def test_file_in_two_rows_counts_once_by_its_first(one: Tables) -> None:
    one.image("kept.dcm", anon_dicom_path="/elsewhere/cohort_1/54861075/kept.dcm", ImageLateralityFinal="L")
    selection = one.read()
    assert selection.images["laterality"].tolist() == ["R"]
    assert selection.flow["images"].tolist()[:2] == [2, 1]


def test_flow_counts_the_images_and_patients_that_every_step_leaves(tables: Tables) -> None:
    tables.image(patient="1", exam="1")
    tables.image(patient="1", exam="1")
    for number, cells in enumerate(
        [
            {"spot_mag": "1"},
            {"ViewPosition": "MLO"},
            {"FinalImageType": "C-view"},
            {"PatientSex": "M"},
            {"ManufacturerModelName": "Lorad Selenia"},
            {"acc_anon": "unknown"},
            {},
        ],
        start=2,
    ):
        tables.image(patient=str(number), exam=str(number), **cells)
        tables.exam(patient=str(number), exam=str(number), density="" if number == 8 else "2")
    tables.exam(patient="1", exam="1")
    assert tables.read().flow.to_dict("list") == {
        "step": [
            "rows of the metadata table",
            "each file once",
            "full view",
            "craniocaudal",
            "2D",
            "female",
            "scanner of the study",
            "exam in the clinical table",
            "density A to D",
            "drawn",
        ],
        "images": [9, 9, 8, 7, 6, 5, 4, 3, 2, 1],
        "patients": [8, 8, 7, 6, 5, 4, 3, 2, 1, 1],
    }


def test_other_scanners_can_be_named(one: Tables) -> None:
    one.image("other.dcm", ManufacturerModelName="Lorad Selenia")
    selection = one.read(scanners={"Lorad Selenia": "Lorad"})
    assert selection.images["scanner"].tolist() == ["Lorad"]


# ---------------------------------------------------------------- the draw


def many(tables: Tables, n_patients: int = 30) -> Tables:
    """Patients with two exams of other densities and two images each, on two scanners."""
    for patient in range(n_patients):
        for exam, density in ((2 * patient, "2"), (2 * patient + 1, "3")):
            model = ("Selenia Dimensions", "Clearview CSm")[patient % 2]
            tables.exam(patient=str(patient), exam=str(exam), density=density)
            for side in "LR":
                tables.image(
                    f"{exam}{side}.dcm",
                    patient=str(patient),
                    exam=str(exam),
                    ManufacturerModelName=model,
                    ImageLateralityFinal=side,
                )
    return tables


def test_draw_takes_one_image_of_up_to_n_patients_a_cell(tables: Tables) -> None:
    images = many(tables).read(n=10).images
    sizes = images.groupby(["scanner", "label"]).size()
    assert sizes.to_dict() == {(scanner, label): 10 for scanner in ("Clearview", "Selenia") for label in (1, 2)}
    assert not images.duplicated(["scanner", "label", "patient"]).any()


def test_a_patient_may_be_in_several_cells(tables: Tables) -> None:
    images = many(tables, 4).read().images
    assert images.groupby("patient")["label"].nunique().tolist() == [2] * 4


def test_all_patients_are_taken_where_there_are_fewer_or_no_limit_is_set(tables: Tables) -> None:
    many(tables)
    assert len(tables.read().images) == len(tables.read(n=None).images) == 60


def test_both_breasts_are_drawn_and_independently(tables: Tables) -> None:
    sides = many(tables).read().images["laterality"]
    assert 15 < (sides == "L").sum() < 45


def test_patients_with_many_images_are_drawn_no_more_often(tables: Tables) -> None:
    for patient in range(40):
        tables.exam(patient=str(patient), exam=str(patient))
        for _ in range(30 if patient < 20 else 1):
            tables.image(patient=str(patient), exam=str(patient))
    drawn = [tables.read(n=10, random_state=seed).images["patient"].astype(int) for seed in range(20)]
    share = np.mean([(patients < 20).mean() for patients in drawn])
    assert 0.35 < share < 0.65


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31))
def test_draw_does_not_depend_on_the_order_of_images(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    tables = many(Tables(tmp_path_factory.mktemp("embed")), 12)
    drawn = tables.read(n=3).images
    np.random.default_rng(seed).shuffle(tables.images)
    pd.testing.assert_frame_equal(tables.read(n=3).images, drawn)


def test_seed_tells_the_draw(tables: Tables) -> None:
    many(tables)
    assert tables.read(n=3).images["path"].tolist() == tables.read(n=3, random_state=42).images["path"].tolist()
    assert tables.read(n=3).images["path"].tolist() != tables.read(n=3, random_state=1).images["path"].tolist()


# ---------------------------------------------------------------- files and what reads them


def test_only_files_in_the_folder_are_drawn_from(tables: Tables, tmp_path: Path) -> None:
    tables.image("absent.dcm")
    present = tables.image("present.dcm")
    tables.image("outside.dcm", anon_dicom_path="../EMBED_OpenData_metadata.csv")
    tables.exam()
    file = tmp_path / "images" / present
    file.parent.mkdir(parents=True)
    file.touch()
    selection = tables.read(images=tmp_path / "images")
    assert paths(selection) == ["present.dcm"]
    assert selection.flow.tail(2).values.tolist() == [["file in the folder", 1, 1], ["drawn", 1, 1]]


def test_table_goes_into_an_image_set_with_its_partition(tables: Tables, tmp_path: Path) -> None:
    many(tables, 4)
    folder, stored = tmp_path / "images", np.arange(12, dtype=np.uint16).reshape(3, 4)
    for row in tables.images:
        file = folder / row["anon_dicom_path"].removeprefix(PREFIX)
        file.parent.mkdir(parents=True, exist_ok=True)
        make_dicom(file, stored)
    table = partition(tables.read(images=folder).images, n_train=1, n_test=1)
    write_table(table, tmp_path / "labels.csv")
    X = ImageSet.from_table(read_labels(folder, tmp_path / "labels.csv", check=True))
    assert X.label.tolist() == table["label"].tolist() == [1, 1, 2, 2] * 2
    assert X.scanner is not None
    assert X.patient is not None
    assert X.scanner.tolist() == ["Clearview"] * 4 + ["Selenia"] * 4
    assert X.patient.tolist() == table["patient"].tolist()
    assert X.meta["partition"].tolist() == table["partition"].tolist()
    assert X.meta["laterality"].tolist() == table["laterality"].tolist()
    assert X[0].tolist() == stored.tolist()
    sides = X.meta.groupby(X.patient)["partition"].nunique()
    assert sides.tolist() == [1] * 4


def test_sizes_are_those_of_the_paper(tables: Tables) -> None:
    cells = {"Clearview CSm": (123, 620, 510, 81), "Selenia Dimensions": (700,) * 4}
    cells |= {"Senograph 2000D ADS_17.4.5": (30, 300, 300, 50), "Senograph 2000D ADS_17.5": (22, 210, 250, 44)}
    patient = 0
    for model, sizes in cells.items():
        for density, size in enumerate(sizes, start=1):
            for _ in range(size):
                patient += 1
                tables.exam(patient=str(patient), exam=str(patient), density=str(density))
                tables.image(patient=str(patient), exam=str(patient), ManufacturerModelName=model)
    parts = partition(tables.read().images, test_only=TEST_ONLY)
    sizes = partition_sizes(parts).set_index(["scanner", "label"])
    assert [tuple(row) for row in sizes.loc["Clearview"].values] == [(0, 123), (400, 100), (400, 100), (0, 81)]
    assert [tuple(row) for row in sizes.loc["Selenia"].values] == [(400, 100)] * 4
    assert [tuple(row) for row in sizes.loc["Senograph"].values] == [(0, 52), (400, 100), (400, 100), (0, 94)]


# ---------------------------------------------------------------- bad input


def test_missing_columns_are_named_with_those_that_came(one: Tables) -> None:
    one.metadata_columns = [name for name in METADATA if name not in ("spot_mag", "PatientSex")]
    with pytest.raises(
        LabelTableError,
        match=r"metadata\.csv: no column 'spot_mag', 'PatientSex', expected 'empi_anon', .*; the table has '', "
        r"'empi_anon', .* and 3 more\. Give the full table as it is distributed, not the reduced one\.",
    ):
        one.read()
    one.metadata_columns, one.clinical_columns = METADATA, ["empi_anon", "acc_anon"]
    with pytest.raises(
        LabelTableError, match=r"clinical\.csv: no column 'tissueden', .*has 'empi_anon', 'acc_anon'\. "
    ):
        one.read()


def test_missing_tables_and_folder_are_named(one: Tables, tmp_path: Path) -> None:
    one.write()
    with pytest.raises(LabelTableError, match=r"nowhere\.csv: cannot be opened \(No such file or directory\)"):
        embed_table(tmp_path / "nowhere.csv", one.clinical)
    with pytest.raises(LabelTableError, match=r"nowhere\.csv: cannot be opened \(No such file or directory\)"):
        embed_table(one.metadata, tmp_path / "nowhere.csv")
    with pytest.raises(LabelTableError, match=r"nowhere: no such folder, expected the one that holds the images"):
        one.read(images=tmp_path / "nowhere")


def test_densities_that_are_no_numbers_are_refused(one: Tables) -> None:
    one.exam(exam="2", density="B")
    with pytest.raises(
        LabelTableError,
        match=r"clinical\.csv: 1 row\(s\) have a tissueden that is no number, such as 'B'; expected 1 to 4",
    ):
        one.read()


EMPTY = {
    "each file once": (
        {"anon_dicom_path": ""},
        r"expected some with path filled in, the 1 image\(s\) before it have nothing",
    ),
    "full view": ({"spot_mag": "1.0"}, r"expected some with spot_mag empty, .* have '1\.0' \(1\)"),
    "craniocaudal": ({"ViewPosition": "MLO"}, r"expected some with view 'CC', .* have 'MLO' \(1\)"),
    "2D": ({"FinalImageType": "C-view"}, r"expected some with FinalImageType '2D', .* have 'C-view' \(1\)"),
    "female": ({"PatientSex": ""}, r"expected some with PatientSex 'F', .* have nothing \(1\)"),
    "scanner of the study": (
        {"ManufacturerModelName": "Lorad Selenia"},
        r"expected some with ManufacturerModelName 'Selenia Dimensions' or .* have 'Lorad Selenia' \(1\)\. Name",
    ),
    "exam in the clinical table": (
        {"acc_anon": "9"},
        r"expected some with exam in the clinical table, .* have '9' \(1\)",
    ),
}


@pytest.mark.parametrize("step", EMPTY)
def test_step_that_leaves_no_image_is_named(tables: Tables, step: str) -> None:
    cells, message = EMPTY[step]
    tables.image(**cells)
    tables.exam()
    with pytest.raises(NotEnoughImagesError, match=rf"EMBED: no image is left after the step '{step}'; {message}"):
        tables.read()


def test_only_densities_outside_of_the_study_are_named(tables: Tables) -> None:
    for exam in range(7):
        tables.image(exam=str(exam))
        tables.exam(exam=str(exam), density=str(5 + exam))
    with pytest.raises(
        NotEnoughImagesError,
        match=r"'density A to D'; expected some with tissueden 1, 2, 3 or 4, the 7 image\(s\) before it have .*, and 2 "
        r"more\. Check that the tables are those of the collection",
    ):
        tables.read()


def test_folder_of_other_images_is_named(one: Tables, tmp_path: Path) -> None:
    with pytest.raises(
        NotEnoughImagesError,
        match=r"'file in the folder'; expected some with path in .* have 'cohort_1/54861075/kept\.dcm' \(1\)\. "
        "Give the folder that holds cohort_1 and cohort_2",
    ):
        one.read(images=tmp_path)


def test_table_without_rows_is_named(tables: Tables) -> None:
    with pytest.raises(NotEnoughImagesError, match=r"'each file once'; .* the 0 image\(s\) before it have none"):
        tables.read()


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "all"])
def test_number_of_patients_out_of_range_is_refused(one: Tables, n: Any) -> None:
    message = rf"n must be an integer of at least 1, or None for all patients; got {n!r}"
    with pytest.raises(InvalidParameterError, match=message):
        one.read(n=n)


def test_no_scanners_are_refused(one: Tables) -> None:
    with pytest.raises(InvalidParameterError, match=r"scanners is empty; expected at least one ManufacturerModelName"):
        one.read(scanners={})
