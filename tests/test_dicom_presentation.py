"""Tone curves as VOI LUTs: what a viewer shows by the standard is the harmonized image, and no pixel is touched."""

from __future__ import annotations

from datetime import datetime
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import (
    NATIVE,
    image_dataset,
    make_compressed,
    make_dicom,
    modality_lut,
    stored_sample,
    write_dicom,
)
from dicom_judges import as_displayed, picture, run, tool, violations
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    RLELossless,
)

from xray_harmonize.dicom.derivation import source_image
from xray_harmonize.dicom.presentation import presentation_state, voi_lut_copy
from xray_harmonize.dicom.read import read_dicom
from xray_harmonize.dicom.stored import stored_values
from xray_harmonize.dicom.write import write_dicom_file
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError, XRayHarmonizeWarning
from xray_harmonize.tone import ToneCurve

METHOD, MODEL = "CDF matching", "0123456789abcdef" * 4
CURVE = ToneCurve([0.05, 0.3, 0.7, 0.9], [0.02, 0.5, 0.8, 0.97])
# DCMTK opens no state of a nameless patient, though the standard allows it
STUDY = {
    "PatientName": "A^B",
    "PatientID": "p1",
    "StudyInstanceUID": "1.2.4",
    "SeriesInstanceUID": "1.2.5",
    "SOPInstanceUID": "1.2.6",
}
FALLING = np.arange(4095, -1, -1) // 4
RESCALES = {
    "none": {},
    "slope 1": {"RescaleSlope": "1", "RescaleIntercept": "-1024"},
    "slope -1": {"RescaleSlope": "-1", "RescaleIntercept": "4095"},
    "slope 3": {"RescaleSlope": "3", "RescaleIntercept": "-7"},
    "slope 0.25": {"RescaleSlope": "0.25", "RescaleIntercept": "10"},
    "slope -2.5": {"RescaleSlope": "-2.5", "RescaleIntercept": "0.5"},
    "intercept 0.5": {"RescaleSlope": "1", "RescaleIntercept": "0.5"},
    "far": {"RescaleSlope": "1", "RescaleIntercept": "-70000"},
    "steep": {"RescaleSlope": "20", "RescaleIntercept": "0"},
    "LUT": {"ModalityLUTSequence": modality_lut(FALLING, 0)},
}
HOLD_A_LUT = ("none", "slope 1", "slope -1", "slope 3", "LUT")
CASES = list(product(RESCALES, ["MONOCHROME1", "MONOCHROME2"], [False, True], [8, 12]))


def make(folder: Path, rescale="none", photometric="MONOCHROME2", signed=False, bits=12, **attributes) -> Path:
    stored = stored_sample(bits, signed=signed, shape=(40, 41))
    attributes = {**STUDY, **RESCALES[rescale], **attributes}
    return make_dicom(folder / "a.dcm", stored, bits_stored=bits, photometric=photometric, **attributes)


def harmonized(path: Path, curve=CURVE) -> np.ndarray:
    image = read_dicom(path)
    return curve(image.pixels, image.bits_stored)


def copied(path: Path, curve=CURVE) -> Dataset:
    return voi_lut_copy(path, curve, method=METHOD, model_hash=MODEL)


def state_of(path, curve=CURVE, **options) -> Dataset:
    return presentation_state(path, curve, method=METHOD, model_hash=MODEL, **options)


def saved(dataset: Dataset, path: Path) -> Path:
    write_dicom_file(dataset, path)
    return path


# ---------------------------------------------------------------- by the standard's text


@pytest.mark.parametrize(("rescale", "photometric", "signed", "bits"), CASES)
def test_a_state_shows_the_harmonized_image(tmp_path: Path, rescale, photometric, signed, bits):
    path = make(tmp_path, rescale, photometric, signed, bits)
    state = dcmread(saved(state_of(path), tmp_path / "b.dcm"))
    assert np.abs(as_displayed(dcmread(path), state) - harmonized(path)).max() <= 1 / 65535


@pytest.mark.parametrize(
    ("rescale", "photometric", "signed", "bits"), [case for case in CASES if case[0] in HOLD_A_LUT]
)
def test_a_copy_shows_the_harmonized_image(tmp_path: Path, rescale, photometric, signed, bits):
    path = make(tmp_path, rescale, photometric, signed, bits)
    copy = dcmread(saved(copied(path), tmp_path / "b.dcm"))
    assert np.abs(as_displayed(copy) - harmonized(path)).max() <= 1 / 65535


@pytest.mark.parametrize("rescale", sorted(set(RESCALES) - set(HOLD_A_LUT)))
def test_a_copy_that_cannot_hold_the_curve_is_refused(tmp_path: Path, rescale):
    path = make(tmp_path, rescale)
    with pytest.raises(InvalidImageError, match=r"a\.dcm: modality values run from .* Write a presentation state"):
        copied(path)


@given(st.integers(1, 16), st.booleans(), st.booleans(), st.lists(st.integers(0, 999), min_size=2, max_size=9))
def test_a_state_shows_any_curve(bits, signed, inverted, heights):
    curve = ToneCurve(np.linspace(0, 1, len(heights)), np.sort(heights) / 999)
    stored = stored_sample(max(bits, 2), signed=signed)
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    source = image_dataset(stored, bits_stored=max(bits, 2), photometric=photometric, **STUDY)
    source.ensure_file_meta()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    fractions = (stored.astype(float) - stored.min()) / (2**source.BitsStored - 1)
    expected = curve(1 - fractions if inverted else fractions)
    assert np.abs(as_displayed(source, state_of(source, curve)) - expected).max() <= 1 / 65535


@pytest.mark.parametrize("syntax", NATIVE)
def test_every_byte_order_and_vr_holds_the_lut(tmp_path: Path, syntax):
    source = image_dataset(stored_sample(16, signed=True), photometric="MONOCHROME1", **STUDY)
    path = write_dicom(tmp_path / "a.dcm", source, syntax=syntax)
    expected = np.rint(harmonized(path) * np.float32(65535)).astype(int)
    copy = read_dicom(saved(copied(path), tmp_path / "b.dcm"), voi="lut")
    assert copy.meta["transfer_syntax"] == syntax
    assert np.abs(copy.pixels - expected).max() <= 1
    state = dcmread(saved(state_of(path), tmp_path / "c.dcm"))
    assert np.abs(as_displayed(dcmread(path), state) * 65535 - expected).max() <= 1


def test_a_lut_of_signed_values_says_so(tmp_path: Path):
    path = make(tmp_path, signed=True, bits=16)
    item = copied(path).VOILUTSequence[0]
    assert (item["LUTDescriptor"].VR, list(item.LUTDescriptor)) == ("SS", [0, -32768, 16])
    narrow = copied(make(tmp_path, "slope 1", bits=16)).VOILUTSequence[0]
    assert (narrow["LUTDescriptor"].VR, list(narrow.LUTDescriptor)) == ("SS", [0, -1024, 16])
    wide = copied(make(tmp_path, "slope 3", bits=13)).VOILUTSequence[0]
    assert list(wide.LUTDescriptor) == [8191 * 3 + 1, -7, 16]
    many = dcmread(saved(copied(make(tmp_path, "slope 3", bits=14)), tmp_path / "b.dcm")).VOILUTSequence[0]
    assert list(many.LUTDescriptor) == [16383 * 3 + 1, -7, 16]


# ---------------------------------------------------------------- by other toolkits


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rescale", HOLD_A_LUT)
def test_pydicom_shows_the_copy_alike(tmp_path: Path, rescale, photometric, signed):
    path = make(tmp_path, rescale, photometric, signed)
    copy = dcmread(saved(copied(path), tmp_path / "b.dcm"))
    shown = apply_voi_lut(apply_modality_lut(copy.pixel_array, copy).astype(int), copy).astype(int)
    shown = 65535 - shown if photometric == "MONOCHROME1" else shown
    assert np.abs(shown - np.rint(harmonized(path) * np.float32(65535))).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rescale", HOLD_A_LUT)
def test_dcmtk_shows_the_copy_alike(tmp_path: Path, rescale, photometric, signed):
    path = make(tmp_path, rescale, photometric, signed)
    copy = saved(copied(path), tmp_path / "b.dcm")
    run(tool("dcm2pnm", "dcmtk"), "--use-voi-lut", "1", "+opw", copy, tmp_path / "b.pgm")
    expected = np.rint(harmonized(path) * np.float32(65535))
    # It cuts where it might round, once more in turning the polarity round
    assert np.abs(picture(tmp_path / "b.pgm") - expected).max() <= 1 + (photometric == "MONOCHROME1")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rescale", RESCALES)
def test_dcmtk_shows_the_state_alike(tmp_path: Path, rescale, photometric, signed):
    path = make(tmp_path, rescale, photometric, signed)
    assert_dcmtk_shows(path, saved(state_of(path), tmp_path / "b.dcm"), harmonized(path), tmp_path)


def assert_dcmtk_shows(image: Path, state: Path, expected: np.ndarray, folder: Path) -> None:
    """The program writes 8 bits."""
    run(tool("dcmp2pgm", "dcmtk"), "--pstate", state, image, folder / "state.pgm")
    assert np.abs(picture(folder / "state.pgm") - expected * 255).max() <= 1


# ---------------------------------------------------------------- the copy


@pytest.mark.parametrize("compressed", [False, True])
def test_a_copy_leaves_pixel_data_byte_for_byte(tmp_path: Path, compressed):
    path = tmp_path / "a.dcm"
    if compressed:
        make_compressed(path, stored_sample(12, signed=False), RLELossless, bits_stored=12, **STUDY)
    else:
        make(tmp_path)
    copy = dcmread(saved(copied(path), tmp_path / "b.dcm"))
    source = dcmread(path)
    assert copy.PixelData == source.PixelData
    assert copy.file_meta.TransferSyntaxUID == source.file_meta.TransferSyntaxUID


def test_a_copy_has_the_curve_as_its_only_voi(tmp_path: Path):
    path = make(
        tmp_path,
        WindowCenter=[1, 2],
        WindowWidth=[3, 4],
        WindowCenterWidthExplanation=["a", "b"],
        VOILUTFunction="SIGMOID",
        VOILUTSequence=[Dataset(), Dataset()],
        DigitalSignaturesSequence=[Dataset()],
    )
    copy = copied(path)
    assert not {"WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction"} & set(copy.dir())
    assert "DigitalSignaturesSequence" not in copy
    assert len(copy.VOILUTSequence) == 1
    assert copy.VOILUTSequence[0].LUTExplanation == "CDF matching, model 0123456789abcdef"


def test_a_copy_is_a_new_instance_of_the_same_type(tmp_path: Path):
    copy = copied(make(tmp_path, ImageType=["ORIGINAL", "PRIMARY"], PatientID="p1", SmallestImagePixelValue=3))
    assert list(copy.ImageType) == ["ORIGINAL", "PRIMARY"]
    assert copy.SOPInstanceUID != STUDY["SOPInstanceUID"]
    assert copy.SeriesInstanceUID != STUDY["SeriesInstanceUID"]
    assert (copy.StudyInstanceUID, copy.PatientID) == (STUDY["StudyInstanceUID"], "p1")
    assert copy.SmallestImagePixelValue == 3
    assert copy.SourceImageSequence[0].ReferencedSOPInstanceUID == STUDY["SOPInstanceUID"]
    assert copy.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109103"


def test_a_contradicting_presentation_lut_shape_is_set_right(tmp_path: Path):
    path = make(tmp_path, photometric="MONOCHROME1", PresentationLUTShape="IDENTITY")
    with pytest.warns(XRayHarmonizeWarning, match="contradicts MONOCHROME1"):
        expected = harmonized(path)
    copy = dcmread(saved(copied(path), tmp_path / "b.dcm"))
    assert copy.PresentationLUTShape == "INVERSE"
    assert np.abs(as_displayed(copy) - expected).max() <= 1 / 65535


def test_a_raw_image_is_not_copied_with_a_lut(tmp_path: Path):
    path = make(tmp_path, SOPClassUID=DigitalXRayImageStorageForProcessing, PresentationIntentType="FOR PROCESSING")
    with pytest.raises(InvalidImageError, match=r"a\.dcm: PresentationIntentType \(0008,0068\) is FOR PROCESSING"):
        copied(path)


# ---------------------------------------------------------------- the state


def test_a_state_refers_to_its_image(tmp_path: Path):
    state = state_of(make(tmp_path, SeriesNumber=4, InstanceNumber=9, Manufacturer="ACME"))
    (series,) = state.ReferencedSeriesSequence
    (image,) = series.ReferencedImageSequence
    assert series.SeriesInstanceUID == STUDY["SeriesInstanceUID"]
    assert image.ReferencedSOPInstanceUID == STUDY["SOPInstanceUID"]
    assert state.StudyInstanceUID == STUDY["StudyInstanceUID"]
    assert (state.SeriesNumber, state.InstanceNumber, state.Modality) == (3004, 9, "PR")
    assert state.Manufacturer == state.ManufacturerModelName == "xray_harmonize"
    assert MODEL in state.ContributingEquipmentSequence[-1].ContributionDescription


def test_a_state_has_the_patient_of_the_image_and_empty_what_is_unknown(tmp_path: Path):
    state = state_of(make(tmp_path, PatientID="p1", PatientName="Doe^Jane", StudyDate="20200102"))
    assert (state.PatientID, str(state.PatientName), state.StudyDate) == ("p1", "Doe^Jane", "20200102")
    assert all(not state[keyword].value for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"))


def test_a_state_names_no_creator(tmp_path: Path):
    state = state_of(make(tmp_path, OperatorsName="Roe^Richard", PerformingPhysicianName="Roe^Richard"))
    assert not state.ContentCreatorName
    assert "Roe" not in str(state)
    assert (state.ContentLabel, state.ContentDescription) == ("HARMONIZED", "CDF matching, model 0123456789abcdef")


@pytest.mark.parametrize(
    ("dates", "then"),
    [
        ({"ContentDate": "20200102", "ContentTime": "101112.500", "StudyDate": "20190101"}, ("20200102", "101112")),
        ({"ContentDate": "", "AcquisitionDate": "20200103", "AcquisitionTime": "10"}, ("20200103", "000000")),
        ({"StudyDate": "2020.01.04", "StudyTime": "10:11:12"}, ("20200104", "101112")),
        ({"StudyDate": "20201345"}, ("19000101", "000000")),
        ({}, ("19000101", "000000")),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_the_creation_date_follows_from_the_image(tmp_path: Path, dates, then):
    state = state_of(make(tmp_path, **dates))
    assert (state.PresentationCreationDate, state.PresentationCreationTime) == then


def test_the_creation_date_can_be_given(tmp_path: Path):
    state = state_of(make(tmp_path), created=datetime(2024, 5, 6, 7, 8, 9))
    assert (state.PresentationCreationDate, state.PresentationCreationTime) == ("20240506", "070809")


@pytest.mark.parametrize(
    ("attributes", "then"),
    [
        ({}, [1, 1]),
        ({"PixelSpacing": [0.2, 0.1]}, [2, 1]),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.15, 0.15]}, [1, 1]),
        ({"PixelAspectRatio": [4, 3]}, [4, 3]),
    ],
)
def test_the_whole_image_is_displayed_with_its_pixels_shape(tmp_path: Path, attributes, then):
    (area,) = state_of(make(tmp_path, **attributes)).DisplayedAreaSelectionSequence
    assert area.DisplayedAreaTopLeftHandCorner == [1, 1]
    assert area.DisplayedAreaBottomRightHandCorner == [41, 40]
    assert area.PresentationPixelAspectRatio == then


def test_a_shutter_stays_in_front_of_the_image(tmp_path: Path):
    shutter = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [20, 20], "RadiusOfCircularShutter": 9}
    state = state_of(make(tmp_path, **shutter))
    assert {keyword: state[keyword].value for keyword in shutter} == shutter


@pytest.mark.parametrize(("keyword", "side"), [("Laterality", "L"), ("ImageLaterality", "R")])
def test_the_side_is_told(tmp_path: Path, keyword, side):
    assert state_of(make(tmp_path, **{keyword: side})).Laterality == side


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_image_of_no_study_or_series_is_refused(tmp_path: Path, keyword):
    path = make(tmp_path, **{keyword: ""})
    with pytest.raises(InvalidImageError, match=rf"a\.dcm: no {keyword} .* expected one; a presentation state refers"):
        state_of(path)


def test_an_image_of_an_unknown_class_is_refused(tmp_path: Path):
    with pytest.raises(InvalidImageError, match=r"a\.dcm: no presentation state can refer to it \(KeyError"):
        state_of(make(tmp_path, SOPClassUID="1.2.3.4"))


# ---------------------------------------------------------------- both


@pytest.mark.parametrize("make_it", [copied, state_of])
def test_a_second_run_writes_the_same_bytes(tmp_path: Path, make_it):
    path = make(tmp_path)
    first, second = saved(make_it(path), tmp_path / "b.dcm"), saved(make_it(path), tmp_path / "c.dcm")
    assert first.read_bytes() == second.read_bytes()


def test_no_time_of_day_is_written(tmp_path: Path):
    path = make(tmp_path)
    now = datetime.now().strftime("%Y%m%d").encode()
    for make_it in (copied, state_of):
        assert now not in saved(make_it(path), tmp_path / "b.dcm").read_bytes()


@pytest.mark.parametrize("make_it", [copied, state_of])
def test_the_source_is_not_changed(tmp_path: Path, make_it):
    path = make(tmp_path, PresentationLUTShape="IDENTITY")
    source = dcmread(path)
    make_it(source)
    assert source == dcmread(path)


@pytest.mark.parametrize("make_it", [copied, state_of])
def test_anything_but_a_curve_is_refused(tmp_path: Path, make_it):
    with pytest.raises(InvalidParameterError, match=r"curve must be a ToneCurve over the fraction of .* got list"):
        make_it(make(tmp_path), [0, 1])


@pytest.mark.parametrize("make_it", [copied, state_of])
@pytest.mark.parametrize("sop_class", [None, DigitalXRayImageStorageForPresentation])
@pytest.mark.parametrize("rescale", ["none", "slope 1", "LUT"])
def test_the_validator_finds_no_new_error(tmp_path: Path, make_it, sop_class, rescale):
    attributes = {"PatientBirthDate": "", "PatientSex": "", "StudyDate": ""}
    attributes |= dict.fromkeys(["StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"], "")
    if sop_class:
        attributes |= {"SOPClassUID": sop_class, "PresentationIntentType": "FOR PRESENTATION"}
    path = make(tmp_path, rescale, signed=rescale == "none", **attributes)
    assert violations(saved(make_it(path), tmp_path / "b.dcm")) - violations(path) == set()


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name",
    [
        "cr_dental_modality_lut",
        "cr_fuji_chest_mono1_nopreamble",
        "cr_fuji_hip_jpeg_lossless",
        "cr_fuji_leg_j2k_lossless",
        "cr_konica_chest_mono1_jpeg",
        "cr_philips_chest_j2k",
        "dx_canon_chest_mono1_j2k_lossless",
        "mg_ge_senographe_voi_lut",
    ],
)
def test_real_files_are_shown_harmonized(real_data: Path, tmp_path: Path, name):
    path = real_data / "dicom" / f"{name}.dcm"
    expected = harmonized(path)
    copy, state = saved(copied(path), tmp_path / "copy.dcm"), saved(state_of(path), tmp_path / "state.dcm")
    assert violations(copy) - violations(path) == set()
    assert violations(state) - violations(path) == set()
    assert dcmread(copy).PixelData == dcmread(path, force=True).PixelData
    source = source_image(path)
    stored = stored_values(source.dataset, source.header, name)
    for image, through in ((dcmread(copy), None), (source.dataset, dcmread(state))):
        assert np.abs(as_displayed(image, through, stored) - expected).max() <= 1 / 65535
    plain = source.copy()
    plain.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain.PixelData = stored.tobytes()
    plain["PixelData"].is_undefined_length = False
    assert_dcmtk_shows(saved(plain, tmp_path / "plain.dcm"), state, expected, tmp_path)
