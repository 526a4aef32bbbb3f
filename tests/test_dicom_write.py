"""Derived images: pixels, attributes, encodings, and what independent validators and readers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from derived_images import METHOD, derive, derived_of, large, written
from dicom_factory import (
    image_dataset,
    make_baseline_jpeg,
    make_dicom,
    modality_lut,
    stored_sample,
    write_dicom,
)
from dicom_judges import as_displayed, pixels_by_dcmtk, pixels_by_gdcm, violations
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
)

from xray_harmonize.dicom.read import read_dicom
from xray_harmonize.dicom.write import derived_dicom, write_dicom_file
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError
from xray_harmonize.tone import ToneCurve

REAL_FILES = (
    "cr_dental_modality_lut",
    "cr_fuji_chest_mono1_nopreamble",
    "cr_fuji_hip_jpeg_lossless",
    "cr_fuji_leg_j2k_lossless",
    "cr_konica_chest_mono1_jpeg",
    "cr_philips_chest_j2k",
    "dx_canon_chest_mono1_j2k_lossless",
    "mg_ge_senographe_voi_lut",
)


# ---------------------------------------------------------------- pixels


@given(st.integers(8, 16), st.integers(0, 2**16 - 1))
def test_stored_values_survive_a_round_trip(bits, level):
    level %= 2**bits
    source = image_dataset(np.zeros((1, 1), np.uint16))
    source.ensure_file_meta()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pixels = np.full((1, 1), level / (2**bits - 1), np.float32)
    derived = derive(source, pixels, bits_stored=bits)
    assert derived.pixel_array.item() == level
    assert (derived.BitsStored, derived.HighBit) == (bits, bits - 1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_written_image_is_the_one_given(tmp_path: Path, photometric, signed):
    stored = stored_sample(12, signed=signed)
    attributes = {"RescaleSlope": "-2.5", "RescaleIntercept": "7", "PresentationLUTShape": "IDENTITY"}
    if photometric == "MONOCHROME1":
        attributes["PresentationLUTShape"] = "INVERSE"
    path = make_dicom(tmp_path / "a.dcm", stored, bits_stored=12, photometric=photometric, **attributes)
    image = read_dicom(path)
    pixels = ToneCurve([0, 0.4, 1], [0, 0.7, 1])(image.pixels, 12)
    derived = derive(path, pixels)
    assert derived.PixelRepresentation == 0
    assert derived.PresentationLUTShape == "IDENTITY"
    back = read_dicom(written(derived, tmp_path / "b.dcm"))
    assert np.array_equal(back.pixels, np.rint(pixels * 65535))
    assert np.abs(as_displayed(dcmread(tmp_path / "b.dcm")) - pixels).max() <= 1 / 65535


def test_eight_bits_take_one_byte_a_pixel(tmp_path: Path):
    derived = derived_of(tmp_path, options={"bits_stored": 8})
    assert (derived.BitsAllocated, len(derived.PixelData)) == (8, 42)
    odd = derive(make_dicom(tmp_path / "b.dcm", np.zeros((1, 1), np.uint8)), np.ones((1, 1), np.float32), bits_stored=8)
    assert odd.PixelData == b"\xff\x00"


@pytest.mark.parametrize("bits", [7, 17, 12.0, True, None])
def test_other_bits_are_refused(tmp_path: Path, bits):
    with pytest.raises(InvalidParameterError, match="bits_stored must be an integer from 8 to 16; got"):
        derived_of(tmp_path, options={"bits_stored": bits})


@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (np.zeros((7, 6), np.float32), r"float32 of shape \(7, 6\)"),
        (np.zeros((6, 7)), r"float64 of shape \(6, 7\)"),
        ([[0.0]], "list"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(tmp_path: Path, pixels, got):
    with pytest.raises(InvalidImageError, match=rf"a\.dcm: pixels are {got}, expected an array of float32 of shape"):
        derived_of(tmp_path, options={"pixels": pixels})


def test_pixels_out_of_range_are_refused(tmp_path: Path):
    with pytest.raises(InvalidImageError, match=r"a\.dcm: pixels holds floats from 2 to 2; expected \[0, 1\]"):
        derived_of(tmp_path, options={"pixels": np.full((6, 7), 2, np.float32)})


# ---------------------------------------------------------------- padding, shutter, statistics


def test_masked_pixels_become_padding_that_no_real_pixel_is(tmp_path: Path):
    mask = np.ones((6, 7), bool)
    mask[0] = False
    derived = derived_of(
        tmp_path,
        PixelPaddingValue=7,
        PixelPaddingRangeLimit=9,
        options={"mask": mask, "pixels": np.zeros((6, 7), "f4")},
    )
    assert derived.PixelPaddingValue == 0
    assert "PixelPaddingRangeLimit" not in derived
    assert np.array_equal(derived.pixel_array == 0, ~mask)
    assert np.array_equal(read_dicom(written(derived, tmp_path / "b.dcm")).mask, mask)


@pytest.mark.parametrize("mask", [None, np.ones((6, 7), bool)])
def test_without_masked_pixels_there_is_no_padding(tmp_path: Path, mask):
    derived = derived_of(tmp_path, PixelPaddingValue=7, options={"mask": mask, "pixels": np.zeros((6, 7), np.float32)})
    assert "PixelPaddingValue" not in derived
    assert not derived.pixel_array.any()


def test_pixels_behind_a_shutter_alone_are_kept(tmp_path: Path):
    shutter = {
        "ShutterShape": "RECTANGULAR",
        "ShutterLeftVerticalEdge": 2,
        "ShutterRightVerticalEdge": 6,
        "ShutterUpperHorizontalEdge": 2,
        "ShutterLowerHorizontalEdge": 5,
    }
    path = make_dicom(tmp_path / "a.dcm", stored_sample(12, signed=False), bits_stored=12, **shutter)
    mask = read_dicom(path).mask
    derived = derive(path, np.ones((6, 7), np.float32), mask=mask)
    assert (derived.pixel_array == 65535).all()
    assert derived.ShutterShape == "RECTANGULAR"
    assert np.array_equal(read_dicom(written(derived, tmp_path / "b.dcm")).mask, mask)


@pytest.mark.parametrize("mask", [np.ones((7, 6), bool), np.ones((6, 7), np.uint8)])
def test_masks_that_do_not_fit_are_refused(tmp_path: Path, mask):
    with pytest.raises(InvalidImageError, match=r"a\.dcm: mask is .* expected bool of shape \(6, 7\)"):
        derived_of(tmp_path, options={"mask": mask})


def test_smallest_and_largest_value_are_recomputed_where_they_were(tmp_path: Path):
    derived = derived_of(tmp_path, SmallestImagePixelValue=3, LargestImagePixelValue=4)
    assert (derived.SmallestImagePixelValue, derived.LargestImagePixelValue) == (0, 65535)
    assert "SmallestImagePixelValue" not in derived_of(tmp_path)


# ---------------------------------------------------------------- attributes


def test_patient_study_and_acquisition_are_untouched(tmp_path: Path):
    kept = {
        "PatientID": "p1",
        "PatientName": "Doe^Jane",
        "StudyInstanceUID": "1.2.3.4",
        "FrameOfReferenceUID": "1.2.3.5",
        "AcquisitionDate": "20200102",
        "Manufacturer": "ACME",
        "KVP": "120",
        "ExposureIndex": "300",
        "BurnedInAnnotation": "NO",
        "InstanceNumber": "3",
        "LossyImageCompression": "00",
    }
    derived = derived_of(tmp_path, **kept)
    assert {keyword: str(derived[keyword].value) for keyword in kept} == kept


@pytest.mark.parametrize(
    ("sop_class", "before", "then"),
    [
        (None, ["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY"]),
        (None, ["ORIGINAL", "SECONDARY", "", "A"], ["DERIVED", "SECONDARY", "", "A"]),
        (None, "ORIGINAL PRIMARY", ["DERIVED", "PRIMARY"]),
        (None, None, ["DERIVED", "PRIMARY"]),
        (DigitalXRayImageStorageForPresentation, ["ORIGINAL", "PRIMARY"], ["DERIVED", "PRIMARY", ""]),
    ],
)
def test_image_type_becomes_derived(tmp_path: Path, sop_class, before, then):
    attributes = {"SOPClassUID": sop_class} if sop_class else {}
    derived = derived_of(tmp_path, **attributes, **({} if before is None else {"ImageType": before}))
    assert list(derived.ImageType) == then


@pytest.mark.parametrize(
    ("photometric", "slope", "sign", "then"),
    [
        ("MONOCHROME2", 1, -1, -1),
        ("MONOCHROME1", 1, 1, -1),
        ("MONOCHROME1", -1, 1, 1),
        ("MONOCHROME2", -1, 1, -1),
    ],
)
def test_the_intensity_sign_follows_the_polarity(tmp_path: Path, photometric, slope, sign, then):
    derived = derived_of(
        tmp_path,
        SOPClassUID=DigitalXRayImageStorageForPresentation,
        photometric=photometric,
        RescaleSlope=slope,
        RescaleIntercept=0,
        PixelIntensityRelationship="LOG",
        PixelIntensityRelationshipSign=sign,
    )
    assert (derived.PixelIntensityRelationship, derived.PixelIntensityRelationshipSign) == ("LOG", then)


def test_the_intensity_sign_follows_a_falling_modality_lut(tmp_path: Path):
    derived = derived_of(
        tmp_path,
        SOPClassUID=DigitalXRayImageStorageForPresentation,
        ModalityLUTSequence=modality_lut(np.arange(4095, -1, -1), 0),
        PixelIntensityRelationshipSign=1,
    )
    assert derived.PixelIntensityRelationshipSign == -1


def test_digital_radiographs_get_identity_transforms(tmp_path: Path):
    derived = derived_of(tmp_path, SOPClassUID=DigitalXRayImageStorageForPresentation, PresentationIntentType="")
    assert (derived.RescaleSlope, derived.RescaleIntercept, derived.RescaleType) == (1, 0, "US")
    assert derived.PresentationLUTShape == "IDENTITY"
    assert (derived.WindowCenter, derived.WindowWidth) == (32768, 65536)


@pytest.mark.parametrize(
    "attributes",
    [{"SOPClassUID": DigitalXRayImageStorageForProcessing}, {"PresentationIntentType": "FOR PROCESSING"}],
)
def test_raw_images_get_no_window_and_stay_raw(tmp_path: Path, attributes):
    derived = derived_of(tmp_path, WindowCenter=1, WindowWidth=2, **attributes)
    assert "WindowCenter" not in derived
    assert all(derived[keyword].value == value for keyword, value in attributes.items())


def test_content_dates_are_empty_where_they_were(tmp_path: Path):
    derived = derived_of(tmp_path, ContentDate="20200102", ContentTime="101010")
    assert (derived.ContentDate, derived.ContentTime) == ("", "")
    assert "ContentDate" not in derived_of(tmp_path)


def test_the_equipment_tells_of_the_scanner_and_of_us(tmp_path: Path):
    derived = derived_of(tmp_path, Manufacturer="ACME")
    equipment = derived.ContributingEquipmentSequence
    assert [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in equipment] == ["109101", "109102"]


# ---------------------------------------------------------------- loss


def test_a_lossy_source_is_told_and_its_syntax_not_used_again(tmp_path: Path):
    path = make_baseline_jpeg(tmp_path / "a.dcm", np.zeros((6, 7), np.uint8))
    derived = derive(path)
    assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (derived.LossyImageCompression, derived.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert 0 < derived.LossyImageCompressionRatio < 1  # 42 bytes in a JPEG file's headers


def test_an_earlier_loss_stays_told(tmp_path: Path):
    told = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": "12",
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    path = make_baseline_jpeg(tmp_path / "a.dcm", np.zeros((6, 7), np.uint8), **told)
    derived = derive(path)
    assert {keyword: str(derived[keyword].value) for keyword in told} == told


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("wanted", ["explicit", "implicit", "deflated", "rle", "jpeg2000"])
def test_a_second_run_writes_the_same_bytes(tmp_path: Path, wanted):
    for name in ("b.dcm", "c.dcm"):
        written(large(tmp_path, transfer_syntax=wanted), tmp_path / name)
    assert (tmp_path / "b.dcm").read_bytes() == (tmp_path / "c.dcm").read_bytes()


def test_the_same_bytes_come_of_a_path_and_of_a_data_set(tmp_path: Path):
    path = make_dicom(tmp_path / "a.dcm", stored_sample(12, signed=False), bits_stored=12)
    by_path, by_dataset = written(derive(path), tmp_path / "b.dcm"), written(derive(dcmread(path)), tmp_path / "c.dcm")
    assert by_path.read_bytes() == by_dataset.read_bytes()


def test_other_bits_or_models_are_other_instances(tmp_path: Path):
    path = make_dicom(tmp_path / "a.dcm", stored_sample(12, signed=False), bits_stored=12)
    pixels = np.zeros((6, 7), np.float32)
    uids = {
        derived_dicom(path, pixels, method=METHOD, model_hash=model, bits_stored=bits).SOPInstanceUID
        for model in ("0" * 8, "1" * 8)
        for bits in (12, 16)
    }
    assert len(uids) == 4


def test_a_written_file_has_a_part_10_header(tmp_path: Path):
    path = make_dicom(tmp_path / "a.dcm", stored_sample(12, signed=False), bits_stored=12, preamble=False)
    content = written(derive(path), tmp_path / "b.dcm").read_bytes()
    assert content[:132] == bytes(128) + b"DICM"
    back = dcmread(tmp_path / "b.dcm")
    assert back.file_meta.MediaStorageSOPInstanceUID == back.SOPInstanceUID


def test_a_data_set_without_uids_is_not_written(tmp_path: Path):
    with pytest.raises(
        InvalidImageError, match="without SOPClassUID and SOPInstanceUID and TransferSyntaxUID cannot be"
    ):
        write_dicom_file(Dataset(), tmp_path / "a.dcm")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path):
    derived = derived_of(tmp_path)
    derived[0x00280106] = DataElement(0x00280106, "US", "no number", already_converted=True)
    target = tmp_path / "b.dcm"
    target.write_bytes(b"old")
    with pytest.raises(InvalidImageError, match=r"b\.dcm: the data set cannot be encoded .*\(0028,0106\).* correct it"):
        write_dicom_file(derived, target)
    assert target.read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir()} == {"a.dcm", "b.dcm"}


# ---------------------------------------------------------------- validators and other readers


@pytest.mark.parametrize("wanted", ["explicit", "implicit", "deflated", "rle", "jpeg2000"])
@pytest.mark.parametrize("bits", [8, 16])
def test_gdcm_reads_the_same_pixels(tmp_path: Path, wanted, bits):
    derived = large(tmp_path, transfer_syntax=wanted, bits_stored=bits)
    expected = derived.pixel_array
    assert np.array_equal(pixels_by_gdcm(written(derived, tmp_path / "b.dcm"), tmp_path), expected)


@pytest.mark.parametrize("wanted", ["explicit", "implicit", "deflated", "rle"])
@pytest.mark.parametrize("bits", [8, 16])
def test_dcmtk_reads_the_same_pixels(tmp_path: Path, wanted, bits):
    derived = large(tmp_path, transfer_syntax=wanted, bits_stored=bits)
    expected = derived.pixel_array
    assert np.array_equal(pixels_by_dcmtk(written(derived, tmp_path / "b.dcm"), tmp_path), expected)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"SOPClassUID": DigitalXRayImageStorageForPresentation, "PresentationIntentType": "FOR PRESENTATION"},
        {"SOPClassUID": DigitalXRayImageStorageForProcessing, "PresentationIntentType": "FOR PROCESSING"},
    ],
    ids=["CR", "DX", "DX raw"],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_validator_finds_no_new_error(tmp_path: Path, attributes, photometric):
    mask = np.arange(42).reshape(6, 7) > 3
    source = tmp_path / "a.dcm"
    dataset = image_dataset(
        stored_sample(12, signed=False),
        bits_stored=12,
        photometric=photometric,
        PixelIntensityRelationship="LOG",
        PixelIntensityRelationshipSign=-1,
        PixelPaddingValue=5,
        SmallestImagePixelValue=1,
        LargestImagePixelValue=9,
        Manufacturer="ACME",
        SeriesInstanceUID="1.2.3",
        StudyInstanceUID="1.2.4",
        **attributes,
    )
    write_dicom(source, dataset)
    derived = written(derive(source, mask=mask), tmp_path / "b.dcm")
    assert violations(derived) - violations(source) == set()


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_are_derived_without_new_errors(real_data: Path, tmp_path: Path, name):
    path = real_data / "dicom" / f"{name}.dcm"
    image = read_dicom(path)
    pixels = ToneCurve([0, 0.3, 0.7, 1], [0, 0.5, 0.8, 1])(image.pixels, image.bits_stored)
    target = written(derive(path, pixels, mask=image.mask), tmp_path / "derived.dcm")
    back = read_dicom(target)
    expected = np.rint(pixels * np.float32(65535)).astype(np.uint16)
    if image.mask is None:
        assert back.mask is None
    else:
        expected[image.mask] = np.maximum(expected[image.mask], 1)
        expected[~image.mask] = 0
        assert np.array_equal(back.mask, image.mask)
    assert np.array_equal(back.pixels, expected)
    assert back.meta["patient"] == image.meta["patient"]
    assert np.array_equal(pixels_by_gdcm(target, tmp_path), expected)
    assert violations(target) - violations(path) == set()
