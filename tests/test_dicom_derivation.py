"""How derived objects name themselves, their source, and what was done."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import image_dataset, make_dicom
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from xray_harmonize import __version__
from xray_harmonize.dicom.derivation import (
    add_equipment,
    add_scanner,
    check_method,
    code,
    derived_uid,
    describe,
    file_meta,
    name_instance,
    refer_to_source,
    source_image,
)
from xray_harmonize.exceptions import ImageReadError, InvalidImageError, InvalidParameterError

METHOD, MODEL = "CDF matching", "0123456789abcdef"


def source(**attributes):
    dataset = image_dataset(np.zeros((2, 2), np.uint16), SOPInstanceUID="1.2.3", SeriesInstanceUID="1.2", **attributes)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return source_image(dataset)


def named(**attributes):
    image = source(**attributes)
    target = image.copy()
    name_instance(target, image, METHOD, MODEL, "image", 1000)
    return target


@given(st.text("0123456789.", min_size=1, max_size=64), st.text("0123456789abcdef", min_size=8), st.text(max_size=9))
def test_uids_are_valid(uid, model, kind):
    derived = UID(derived_uid(uid, model, kind))
    assert derived.is_valid
    assert derived.startswith("2.25.")


def test_uids_never_change():
    assert derived_uid("1.2.3", MODEL, "image") == "2.25.307829422997011842610291331224109390483"


def test_uids_differ_by_source_model_and_kind():
    uids = {derived_uid(uid, model, kind) for uid in ("1.2", "1.3") for model in ("a", "b") for kind in ("i", "s")}
    assert len(uids) == 8


@pytest.mark.parametrize("method", ["", "  ", "a\\b", "Größe", "x" * 65, "two\nlines", None])
def test_methods_that_cannot_stand_in_a_header_are_refused(method):
    with pytest.raises(InvalidParameterError, match="method must be 1 to 64 printable ASCII characters"):
        check_method(method, MODEL)


@pytest.mark.parametrize("model", ["", "short", "0123-4567", "0" * 129, 12345678])
def test_hashes_that_are_none_are_refused(model):
    with pytest.raises(InvalidParameterError, match="model_hash must be 8 to 128 letters and digits"):
        check_method(METHOD, model)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_an_image_without_uids_cannot_be_referred_to(tmp_path: Path, keyword):
    # Written plainly, since a file with a file meta group needs both
    path = make_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), preamble=False, Modality="CR", **{keyword: None})
    with pytest.raises(InvalidImageError, match=rf"a\.dcm: no {keyword} .*refers to it by its UIDs"):
        source_image(path)


def test_a_file_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(ImageReadError, match="cannot be opened"):
        source_image(tmp_path / "none.dcm")


def test_a_copy_leaves_the_source_alone():
    image = source()
    before = copy.deepcopy(image.dataset)
    target = image.copy()
    name_instance(target, image, METHOD, MODEL, "image", 1000)
    refer_to_source(target, image, METHOD, MODEL)
    assert image.dataset == before
    assert target.PixelData is image.dataset.PixelData


def test_one_series_and_model_make_one_new_series():
    first, second = named(), named()
    assert first.SeriesInstanceUID == second.SeriesInstanceUID == derived_uid("1.2", MODEL, "image, series")
    assert first.SOPInstanceUID == derived_uid("1.2.3", MODEL, "image, instance")


@pytest.mark.parametrize(("number", "then"), [(7, 1007), (2**31 - 5, 2**31 - 5), ("", ""), (None, None)])
def test_series_numbers_grow_where_there_is_room(number, then):
    target = named() if number is None else named(SeriesNumber=number)
    assert target.get("SeriesNumber") == then


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (None, "harmonized (CDF matching)"),
        ("Thorax", "Thorax harmonized (CDF matching)"),
        ("T" * 64, "T" * 38 + " harmonized (CDF matching)"),
    ],
)
def test_series_descriptions_say_what_was_done(before, then):
    assert named(**({} if before is None else {"SeriesDescription": before})).SeriesDescription == then


def test_dates_of_instance_and_series_go_and_those_of_study_and_acquisition_stay():
    dates = dict.fromkeys(["InstanceCreationDate", "SeriesDate", "StudyDate", "AcquisitionDate"], "20200102")
    target = named(**dates, InstanceCreationTime="101010", SeriesTime="101010", InstanceCreatorUID="1.2.3")
    assert [keyword for keyword in dates if keyword in target] == ["StudyDate", "AcquisitionDate"]
    assert not {"InstanceCreationTime", "SeriesTime", "InstanceCreatorUID"} & set(target.dir())


def test_the_source_is_referred_to():
    image = source(SourceImageSequence=[Dataset()])
    target = image.copy()
    refer_to_source(target, image, METHOD, MODEL)
    (item,) = target.SourceImageSequence
    assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (image.sop_class_uid, "1.2.3")
    assert item.SpatialLocationsPreserved == "YES"
    purpose = item.PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")


def test_earlier_derivations_stay_before_the_new_one():
    image = source(
        DerivationDescription="JPEG 10:1", DerivationCodeSequence=[code("113040", "DCM", "Lossy Compression")]
    )
    target = image.copy()
    refer_to_source(target, image, METHOD, MODEL)
    assert target.DerivationDescription == (
        f"JPEG 10:1; Grey levels harmonized by CDF matching, xray_harmonize {__version__}, model {MODEL}"
    )
    assert [item.CodeValue for item in target.DerivationCodeSequence] == ["113040", "harmonization"]
    assert target.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99XRAYHARM"


def test_a_long_description_is_cut_before_the_new_part():
    image = source(DerivationDescription="x" * 1024)
    target = image.copy()
    refer_to_source(target, image, METHOD, MODEL)
    assert len(target.DerivationDescription) == 1024
    assert target.DerivationDescription.endswith(f"; {describe(METHOD, MODEL)}")


def test_a_second_derivation_names_the_coding_scheme_once():
    image = source()
    first = image.copy()
    refer_to_source(first, image, METHOD, MODEL)
    refer_to_source(first, image, METHOD, MODEL)
    assert len(first.CodingSchemeIdentificationSequence) == 1
    assert len(first.DerivationCodeSequence) == 2


def test_scanner_and_software_are_listed_as_equipment():
    target = source(Manufacturer="ACME", ManufacturerModelName="X1", DeviceSerialNumber="7").dataset
    add_scanner(target)
    add_equipment(target, code("109102", "DCM", "Processing Equipment"), METHOD, MODEL)
    scanner, software = target.ContributingEquipmentSequence
    assert (scanner.Manufacturer, scanner.ManufacturerModelName, scanner.DeviceSerialNumber) == ("ACME", "X1", "7")
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert (software.Manufacturer, software.SoftwareVersions) == ("xray_harmonize", __version__)
    assert MODEL in software.ContributionDescription
    add_scanner(target)
    assert len(target.ContributingEquipmentSequence) == 2


def test_a_nameless_scanner_is_not_listed():
    target = source(Manufacturer="").dataset
    add_scanner(target)
    assert "ContributingEquipmentSequence" not in target


def test_the_file_meta_group_names_this_package():
    meta = file_meta(source().dataset, ExplicitVRLittleEndian)
    assert meta.ImplementationVersionName == f"XRAYHARM_{__version__}"[:16]
    assert UID(meta.ImplementationClassUID).is_valid
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
