"""The folder of the pneumonia challenge: labels, pixel spacings that stand for scanners, and persons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import image_dataset, make_dicom, write_dicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import Tag

from xray_harmonize.catalog.partition import partition
from xray_harmonize.catalog.rsna import rsna_table
from xray_harmonize.catalog.selection import Selection, write_table
from xray_harmonize.exceptions import (
    InvalidParameterError,
    LabelTableError,
    NotEnoughImagesError,
    XRayHarmonizeWarning,
)
from xray_harmonize.images import ImageSet
from xray_harmonize.labels import read_labels

STORED = np.arange(12, dtype=np.uint8).reshape(3, 4)
HEADER = "patientId,x,y,width,height,Target\n"


class Challenge:
    """A folder of radiographs, its table of boxes, and the mapping to ChestX-ray14."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "stage_2_train_images"
        self.images.mkdir()
        self.labels = folder / "stage_2_train_labels.csv"
        self.mapping = folder / "pneumonia-challenge-dataset-mappings_2018.json"
        self.boxes: list[str] = []
        self.entries: list[Any] = []

    def image(
        self,
        name: str,
        target: str | None = "0",
        spacing: float = 0.143,
        person: int | None = None,
        **attributes: Any,
    ) -> Path:
        attributes = {"PatientID": name, "ViewPosition": "PA", "PatientSex": "F", **attributes}
        path = make_dicom(self.images / f"{name}.dcm", STORED, PixelSpacing=[spacing, 0.5], **attributes)
        if target is not None:
            self.box(name, target)
        if person is not None:
            self.entries.append({"subset_img_id": name, "img_id": f"{person:08d}_{len(self.entries):03d}.png"})
        return path

    def box(self, name: str, target: str) -> None:
        self.boxes.append(f"{name},{'1.0,2.0,3.0,4.0' if target == '1' else ',,,'},{target}\n")

    def write(self) -> None:
        self.labels.write_text(HEADER + "".join(self.boxes), encoding="utf-8")
        self.mapping.write_text(json.dumps(self.entries), encoding="utf-8")

    def read(self, **options: Any) -> Selection:
        self.write()
        return rsna_table(self.images, self.labels, **{"mapping": self.mapping} | options)


@pytest.fixture
def challenge(tmp_path: Path) -> Challenge:
    return Challenge(tmp_path)


@pytest.fixture
def one(challenge: Challenge) -> Challenge:
    challenge.image("kept", person=13)
    return challenge


# ---------------------------------------------------------------- what a file becomes


def test_a_file_tells_path_label_scanner_patient_and_more(challenge: Challenge) -> None:
    challenge.image("c0ffee", "1", person=13, PatientAge="051Y", ViewPosition="AP", PatientSex="M")
    assert challenge.read().images.to_dict("records") == [
        {
            "path": "c0ffee.dcm",
            "label": 1,
            "scanner": "Brand Y",
            "patient": "00000013",
            "view": "AP",
            "sex": "M",
            "age": 51.0,
            "pixel_spacing": 0.143,
        }
    ]


def test_age_without_a_unit_is_in_years_and_nothing_is_said_about_it(
    challenge: Challenge, recwarn: pytest.WarningsRecorder
) -> None:
    dataset = image_dataset(STORED, PatientID="kept", PixelSpacing=[0.143, 0.143])
    tag = Tag("PatientAge")
    dataset[tag] = RawDataElement(tag, "AS", 2, b"51", 0, False, True)
    write_dicom(challenge.images / "kept.dcm", dataset)
    challenge.box("kept", "0")
    challenge.entries.append({"subset_img_id": "kept", "img_id": "00000013_000.png"})
    recwarn.clear()
    assert challenge.read().images["age"].tolist() == [51.0]
    assert not [str(one.message) for one in recwarn.list]


@pytest.mark.parametrize(("age", "years"), [("018M", 1.5), ("004W", 28 / 365.25), ("", None), (None, None)])
def test_age_is_in_years_or_missing(challenge: Challenge, age: str | None, years: float | None) -> None:
    dataset = image_dataset(STORED, PatientID="kept", PixelSpacing=[0.143, 0.143])
    if age is not None:
        dataset.add(DataElement("PatientAge", "AS", age))
    write_dicom(challenge.images / "kept.dcm", dataset)
    challenge.box("kept", "0")
    challenge.entries.append({"subset_img_id": "kept", "img_id": "00000013_000.png"})
    images = challenge.read().images
    assert images["age"].tolist() == pytest.approx([years if years is not None else np.nan], nan_ok=True)
    assert images["view"].tolist() == [None]


def test_label_is_the_largest_target_of_an_image(challenge: Challenge) -> None:
    challenge.image("a", "0", person=1)
    challenge.box("a", "1")
    challenge.box("a", "1")
    challenge.image("b", "0", person=2)
    challenge.box("b", "0")
    images = challenge.read().images
    assert dict(zip(images["path"], images["label"], strict=True)) == {"a.dcm": 1, "b.dcm": 0}


def test_image_without_a_row_or_target_counts_as_zero_with_a_warning(one: Challenge) -> None:
    one.image("blank", "", person=14)
    one.image("unread", None, person=15)
    with pytest.warns(XRayHarmonizeWarning, match=r"labels\.csv: 2 of 3 image\(s\) have no Target, such as 'blank'"):
        images = one.read().images
    assert images["label"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("spacing", "scanner"),
    [
        (0.171, "Brand X"),
        (0.1715, "Brand X"),
        (0.1705, "Brand X"),
        (0.143, "Brand Y"),
        (0.1434, "Brand Y"),
        (0.172, None),
        (0.168, None),
        (0.139, None),
        (0.194311, None),
    ],
)
def test_first_pixel_spacing_tells_the_scanner(one: Challenge, spacing: float, scanner: str | None) -> None:
    one.image("other", spacing=spacing, person=14)
    found = one.read().images.set_index("path")["scanner"]
    assert found.get("other.dcm") == scanner


def test_other_spacings_can_be_named(one: Challenge) -> None:
    one.image("third", spacing=0.194311, person=14)
    assert one.read(scanners={"Brand C": (0.1943, 1e-3)}).images["scanner"].tolist() == ["Brand C"]


@pytest.mark.parametrize(
    "attributes",
    [{}, {"PixelSpacing": ""}, {"PixelSpacing": [0, 0]}, {"ImagerPixelSpacing": [0.143, 0.143]}],
    ids=["none", "empty", "zero", "that of the detector alone"],
)
def test_image_without_pixel_spacing_is_left_out(one: Challenge, attributes: dict[str, Any]) -> None:
    make_dicom(one.images / "other.dcm", STORED, PatientID="kept", **attributes)
    assert one.read().images["path"].tolist() == ["kept.dcm"]


def test_file_is_known_by_its_header_or_else_by_its_name(challenge: Challenge) -> None:
    challenge.image("renamed", None, PatientID="a")
    challenge.image("b", None, PatientID="anonymous")
    challenge.image("c", None, PatientID="")
    for name, person in (("a", 1), ("b", 2), ("c", 3)):
        challenge.box(name, "1")
        challenge.entries.append({"subset_img_id": name, "img_id": f"{person:08d}_000.png"})
    images = challenge.read().images.set_index("path")
    assert images["label"].tolist() == [1, 1, 1]
    assert images["patient"].to_dict() == {"b.dcm": "00000002", "c.dcm": "00000003", "renamed.dcm": "00000001"}


def test_files_lie_at_any_depth_and_others_are_ignored(one: Challenge) -> None:
    path = one.image("deep", "1", person=14)
    (one.images / "more").mkdir()
    path.rename(one.images / "more" / "deep.DCM")
    (one.images / "readme.txt").write_text("no image")
    selection = one.read()
    assert selection.images["path"].tolist() == ["kept.dcm", "more/deep.DCM"]
    assert selection.skipped == []


# ---------------------------------------------------------------- persons


def test_images_of_one_person_share_a_patient(challenge: Challenge) -> None:
    challenge.image("a", person=13)
    challenge.image("b", "1", spacing=0.171, person=13)
    challenge.image("c", person=14)
    selection = challenge.read()
    images = selection.images.set_index("path")
    assert images["patient"].to_dict() == {"a.dcm": "00000013", "b.dcm": "00000013", "c.dcm": "00000014"}
    assert selection.flow["patients"].tolist() == [2] * 4


def test_without_the_mapping_a_warning_speaks_of_persons(one: Challenge) -> None:
    with pytest.warns(XRayHarmonizeWarning, match=r"patientId numbers the images .*; give mapping=, the organizers'"):
        assert one.read(mapping=None).images["patient"].tolist() == ["kept"]


def test_images_that_the_mapping_lacks_are_patients_of_their_own_with_a_warning(one: Challenge) -> None:
    one.image("new")
    with pytest.warns(
        XRayHarmonizeWarning, match=r"2018\.json: 1 of 2 image\(s\) are not in the mapping, such as 'new'"
    ):
        assert one.read().images["patient"].tolist() == ["00000013", "new"]


# ---------------------------------------------------------------- files that cannot be read


def test_bad_files_are_listed_and_the_run_goes_on(one: Challenge) -> None:
    (one.images / "bad.dcm").write_text("no image")
    (one.images / "cut.dcm").write_bytes((one.images / "kept.dcm").read_bytes()[:200])
    colour = image_dataset(STORED, photometric="RGB", PatientID="colour", PixelSpacing=[0.143, 0.143])
    write_dicom(one.images / "colour.dcm", colour)
    with pytest.warns(XRayHarmonizeWarning, match="3 of 4"):
        selection = one.read()
    assert selection.images["path"].tolist() == ["kept.dcm"]
    assert [skipped.path for skipped in selection.skipped] == ["bad.dcm", "colour.dcm", "cut.dcm"]
    assert "expected a DICOM file" in selection.skipped[0].reason
    assert "PhotometricInterpretation" in selection.skipped[1].reason
    assert selection.flow.to_dict("list") == {
        "step": ["files .dcm", "readable header", "pixel spacing of the study", "drawn"],
        "images": [4, 1, 1, 1],
        "patients": [4, 1, 1, 1],
    }


def test_pixels_are_not_read(one: Challenge) -> None:
    path = one.image("whole", person=14)
    path.write_bytes(path.read_bytes()[: -len(STORED.tobytes())])
    assert one.read().images["path"].tolist() == ["kept.dcm", "whole.dcm"]


# ---------------------------------------------------------------- the draw and what reads it


def test_draw_takes_up_to_n_images_a_cell(challenge: Challenge) -> None:
    for number in range(24):
        challenge.image(f"{number:02d}", str(number % 2), (0.143, 0.171)[number // 2 % 2], person=number // 3)
    images = challenge.read(n=4).images
    assert images.groupby(["scanner", "label"]).size().tolist() == [4] * 4
    assert images["path"].tolist() == challenge.read(n=4, random_state=42).images["path"].tolist()
    assert images["path"].tolist() != challenge.read(n=4, random_state=1).images["path"].tolist()
    assert len(challenge.read(n=None).images) == 24


def test_table_goes_into_an_image_set_with_its_partition(challenge: Challenge, tmp_path: Path) -> None:
    for number in range(12):
        challenge.image(f"{number:02d}", str(number % 2), (0.143, 0.171)[number // 6], person=number // 2)
    table = partition(challenge.read().images, n_train=2, n_test=1)
    write_table(table, tmp_path / "labels.csv")
    X = ImageSet.from_table(read_labels(challenge.images, tmp_path / "labels.csv", check=True))
    assert X.scanner is not None
    assert X.patient is not None
    assert X.label.tolist() == table["label"].tolist()
    assert X.scanner.tolist() == ["Brand X"] * 6 + ["Brand Y"] * 6
    assert X.patient.tolist() == table["patient"].tolist()
    assert X.meta["partition"].value_counts().to_dict() == {"train": 8, "test": 4}
    assert X.meta.groupby(X.patient)["partition"].nunique().tolist() == [1] * 6
    assert X[0].tolist() == STORED.tolist()


# ---------------------------------------------------------------- bad input


def test_missing_folder_table_and_mapping_are_named(one: Challenge, tmp_path: Path) -> None:
    one.write()
    with pytest.raises(LabelTableError, match=r"nowhere: no such folder, expected the one with the DICOM files"):
        rsna_table(tmp_path / "nowhere", one.labels)
    with pytest.raises(LabelTableError, match=r"nowhere\.csv: cannot be opened \(No such file or directory\)"):
        rsna_table(one.images, tmp_path / "nowhere.csv")
    with pytest.raises(LabelTableError, match=r"nowhere\.json: cannot be opened \(No such file or directory\)"):
        one.read(mapping=tmp_path / "nowhere.json")


def test_missing_columns_are_named_with_those_that_came(one: Challenge) -> None:
    one.write()
    one.labels.write_text("patientId,class\nkept,Normal\n")
    with pytest.raises(
        LabelTableError,
        match=r"labels\.csv: no column 'Target', expected 'patientId', 'Target'; the table has 'patientId', 'class'\. "
        r"Give stage_2_train_labels\.csv as it is distributed\.",
    ):
        rsna_table(one.images, one.labels)


@pytest.mark.parametrize(("name", "target"), [("kept", "2"), ("kept", "Lung Opacity"), ("", "1")])
def test_rows_that_cannot_be_used_are_named(one: Challenge, name: str, target: str) -> None:
    one.box(name, target)
    with pytest.raises(
        LabelTableError,
        match=rf"labels\.csv: 1 row\(s\) cannot be used, such as patientId {name or None!r} with Target {target!r}; "
        "expected a patientId and a Target of 0 or 1",
    ):
        one.read()


def test_table_of_other_images_is_refused(challenge: Challenge) -> None:
    challenge.image("a", None)
    challenge.box("b", "1")
    with pytest.raises(
        LabelTableError,
        match=r"none of 1 file\(s\) is in the table, whose first patientId is 'b'; expected files such as 'a'",
    ):
        challenge.read()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", r"no JSON in UTF-8 \(.*\); fetch the file again"),
        ('{"a": 1}', "expected a list of entries with subset_img_id and img_id, got another JSON"),
        ('[{"subset_img_id": "kept"}]', "expected a list of entries with subset_img_id and img_id, got another JSON"),
        ("1", "expected a list of entries with subset_img_id and img_id, got another JSON"),
    ],
)
def test_mapping_that_is_none_is_refused(one: Challenge, text: str, message: str) -> None:
    one.write()
    one.mapping.write_text(text)
    with pytest.raises(LabelTableError, match=rf"2018\.json: {message}"):
        rsna_table(one.images, one.labels, mapping=one.mapping)


def test_folder_without_files_is_refused(challenge: Challenge) -> None:
    with pytest.raises(NotEnoughImagesError, match=r"images: no file \.dcm, expected radiographs in DICOM"):
        challenge.read()


def test_folder_without_a_readable_header_is_refused(challenge: Challenge) -> None:
    for number in range(5):
        (challenge.images / f"{number}.dcm").write_text("no image")
    with pytest.raises(
        NotEnoughImagesError,
        match=r"images: none of 5 header\(s\) can be read: .*0\.dcm: expected a DICOM file .*2\.dcm.*; and 2 more\. ",
    ):
        challenge.read()


def test_only_other_spacings_are_named(challenge: Challenge) -> None:
    challenge.image("a", spacing=0.168, person=1)
    with pytest.raises(
        NotEnoughImagesError,
        match=r"RSNA: no image is left after the step 'pixel spacing of the study'; expected some with pixel_spacing "
        r"0\.171 within 0\.0005 or 0\.143 within 0\.0005, the 1 image\(s\) before it have 0\.168 \(1\)\. Name the",
    ):
        challenge.read()


@pytest.mark.parametrize("n", [0, 1.5])
def test_number_of_images_out_of_range_is_refused(one: Challenge, n: Any) -> None:
    with pytest.raises(
        InvalidParameterError, match=rf"n must be an integer of at least 1, or None for all images; got {n}"
    ):
        one.read(n=n)


@pytest.mark.parametrize(
    ("scanners", "message"),
    [
        ({}, "scanners is empty; expected at least one"),
        (
            {"A": (0.0, 0.1)},
            r"scanners\['A'\] must be a spacing above 0 and a tolerance of at least 0.*got \(0\.0, 0\.1\)",
        ),
        ({"A": (0.1, -1e-3)}, r"scanners\['A'\] must be a spacing above 0"),
        ({"A": (0.1,)}, r"scanners\['A'\] must be a spacing above 0"),
        (
            {"A": (0.171, 0.02), "B": (0.143, 0.02)},
            r"The scanners 'B' and 'A' share pixel spacings: \(0\.143, 0\.02\) and \(0\.171, 0\.02\); make the tol",
        ),
    ],
)
def test_scanners_out_of_range_are_refused(one: Challenge, scanners: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        one.read(scanners=scanners)
