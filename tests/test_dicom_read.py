"""What a DICOM file tells beside its pixels, and the eight real files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import make_dicom, modality_lut
from pydicom import dcmread
from pydicom.uid import (
    ImplicitVRLittleEndian,
)

from xray_harmonize.dicom.header import parse_dicom, pixel_header
from xray_harmonize.dicom.read import read_dicom, read_dicom_size, read_header
from xray_harmonize.dicom.stored import stored_values


def test_meta_holds_the_scanner_and_no_name(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        np.zeros((2, 3), np.uint16),
        bits_stored=10,
        Manufacturer=" ACME\tX-rays ",
        ManufacturerModelName="M" * 64,
        ViewPosition="PA",
        ImageLaterality="L",
        KVP="+125.0",
        PatientID="p1",
        PatientName="Doe^Jane",
        PatientBirthDate="19700101",
        PresentationIntentType="FOR PRESENTATION",
    )
    image = read_dicom(path)
    meta = dict(image.meta)
    assert meta["manufacturer"] == "ACME X-rays"
    assert (meta["model"], meta["view"], meta["laterality"], meta["kvp"]) == ("M" * 64, "PA", "L", 125.0)
    assert (meta["patient"], meta["modality"], meta["bits_stored"]) == ("p1", "CR", 10)
    assert meta["bits_stored_in_file"] == 10
    assert (meta["photometric"], meta["presentation_intent"]) == ("MONOCHROME2", "FOR PRESENTATION")
    assert image.name == meta["path"] == str(path)
    assert "Doe" not in str(meta)
    assert "1970" not in str(meta)


def test_header_alone_tells_the_same(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        np.zeros((2, 3), np.uint16),
        bits_stored=12,
        photometric="MONOCHROME1",
        WindowCenter=7,
        WindowWidth=9,
        ModalityLUTSequence=modality_lut(np.arange(65536), 0),
    )
    assert read_header(path) == read_dicom(path).meta
    assert (read_header(path)["bits_stored"], read_header(path)["bits_stored_in_file"]) == (16, 12)
    content = path.read_bytes()
    path.write_bytes(content[:-8])
    assert read_header(path)["window_center"] == 65535 - 7 + 1


def test_header_alone_of_a_file_larger_than_any_buffer_is_read(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "large.dcm", np.zeros((300, 200), dtype=np.uint16), bits_stored=12)
    assert read_dicom_size(path) == (300, 200)
    assert read_header(path)["bits_stored"] == 12


def test_what_a_file_does_not_tell_is_none(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), KVP="", ViewPosition="", Manufacturer="")
    meta = read_dicom(path).meta
    assert all(meta[key] is None for key in ("kvp", "view", "manufacturer", "model", "patient", "laterality"))


def test_unreadable_side_notes_do_not_stop_the_reading(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), KVP="12345", syntax=ImplicitVRLittleEndian)
    path.write_bytes(path.read_bytes().replace(b"12345 ", b"high  "))
    assert read_dicom(path).meta["kvp"] is None


# ---------------------------------------------------------------- the eight real files

REAL_FILES = {
    # name: shape, bits, smallest and largest pixel, view, window (centre, width, function), share of pixels that count
    "dx_canon_chest_mono1_j2k_lossless": ((2128, 2000), 12, 0, 4095, "PA", (2048, 4096, "LINEAR"), 1),
    "cr_philips_chest_j2k": ((1955, 1841), 15, 6255, 31964, "PA", (17768, 30000, "LINEAR"), 1),
    "cr_fuji_chest_mono1_nopreamble": ((440, 440), 10, 44, 1023, "PA", (474, 1024, "LINEAR"), 1),
    "cr_fuji_leg_j2k_lossless": ((1760, 1760), 10, 0, 1023, "AP", (474, 1024, "LINEAR"), 1),
    "cr_fuji_hip_jpeg_lossless": ((2140, 1760), 10, 0, 893, None, (511, 1024, "LINEAR"), 1),
    "cr_konica_chest_mono1_jpeg": ((2446, 2010), 8, 7, 255, None, (141.484, 255.0623, "LINEAR"), 1),
    "cr_dental_modality_lut": ((1576, 1976), 10, 0, 1023, None, None, 1),
    "mg_ge_senographe_voi_lut": ((3062, 2394), 12, 0, 3471, "MLO", (2653, 900, "SIGMOID"), 0.32),
}

# A place in the air or lung that must be darker than a place in bone or soft tissue, as (row, column) of the upper left
# corner of a 40 x 40 patch, looked up in the pictures.
DARK_AND_BRIGHT = {
    "dx_canon_chest_mono1_j2k_lossless": ((1000, 300), (1600, 1000)),
    "cr_philips_chest_j2k": ((300, 560), (900, 960)),
    "cr_fuji_chest_mono1_nopreamble": ((180, 90), (250, 210)),
    "cr_fuji_leg_j2k_lossless": ((600, 500), (1560, 820)),
    "cr_fuji_hip_jpeg_lossless": ((1700, 400), (800, 720)),
    "cr_konica_chest_mono1_jpeg": ((1000, 400), (1200, 1130)),
    "cr_dental_modality_lut": ((100, 900), (1080, 580)),
    "mg_ge_senographe_voi_lut": ((1500, 300), (1250, 1750)),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL_FILES)
def test_real_file_is_read_upright_in_the_right_polarity(real_data: Path, name: str) -> None:
    path = real_data / "dicom" / f"{name}.dcm"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    shape, bits_stored, lowest, highest, view, window, share = REAL_FILES[name]
    image = read_dicom(path)
    assert image.pixels.shape == shape == read_dicom_size(path)
    assert image.bits_stored == bits_stored
    assert (int(image.pixels.min()), int(image.pixels.max())) == (lowest, highest)
    assert image.meta["view"] == view
    told = tuple(image.meta[key] for key in ("window_center", "window_width", "voi_lut_function"))
    assert told == (pytest.approx(window[0]), pytest.approx(window[1]), window[2]) if window else told == (None,) * 3
    counted = 1.0 if image.mask is None else float(image.mask.mean())
    assert counted == pytest.approx(share, abs=0.005)

    dark, bright = (image.pixels[row : row + 40, column : column + 40].mean() for row, column in DARK_AND_BRIGHT[name])
    assert dark + 0.05 * (2**bits_stored - 1) < bright


@pytest.mark.realdata
def test_padding_of_the_real_mammogram_is_the_air_around_the_breast(real_data: Path) -> None:
    path = real_data / "dicom" / "mg_ge_senographe_voi_lut.dcm"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    image = read_dicom(path)
    assert image.mask is not None
    np.testing.assert_array_equal(image.mask, image.pixels > 30)
    assert not image.mask[1500, 300]
    assert image.mask[1500, 1800]
    assert image.meta["voi_lut_sequence"] is True
    assert image.meta["collimator_in_pixels"] is True


@pytest.mark.realdata
def test_collimator_of_the_real_philips_image_is_told_not_to_be_in_pixels(real_data: Path) -> None:
    path = real_data / "dicom" / "cr_philips_chest_j2k.dcm"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    meta = read_dicom(path).meta
    assert (meta["collimator_left"], meta["collimator_right"]) == (-184, 184)
    assert meta["collimator_in_pixels"] is False


# Which program of dcmtk or GDCM writes the file uncompressed
OTHER_DECODERS = {
    "dx_canon_chest_mono1_j2k_lossless": ["gdcmconv", "--raw"],
    "cr_philips_chest_j2k": ["gdcmconv", "--raw"],
    "cr_fuji_chest_mono1_nopreamble": ["dcmconv", "+te"],
    "cr_fuji_leg_j2k_lossless": ["gdcmconv", "--raw"],
    "cr_fuji_hip_jpeg_lossless": ["dcmdjpeg"],
    "cr_konica_chest_mono1_jpeg": ["dcmdjpeg"],
    "cr_dental_modality_lut": ["dcmdjpeg"],
    "mg_ge_senographe_voi_lut": ["dcmdjpeg"],
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", OTHER_DECODERS)
def test_stored_values_of_the_real_file_are_those_of_another_toolkit(
    real_data: Path, tmp_path: Path, name: str
) -> None:
    path = real_data / "dicom" / f"{name}.dcm"
    program, *options = OTHER_DECODERS[name]
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed; it decodes {name} independently")
    plain = tmp_path / "plain.dcm"
    subprocess.run([program, *options, path, plain], check=True, capture_output=True)

    dataset = parse_dicom(path, max_bytes=2**28)
    header = pixel_header(dataset, name)
    stored = stored_values(dataset, header, name)
    data = dcmread(plain).PixelData
    theirs = np.frombuffer(data, f"<u{header.bits_allocated // 8}")[: stored.size].reshape(stored.shape)
    np.testing.assert_array_equal(stored, theirs)


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL_FILES)
def test_real_file_keeps_its_polarity_behind_the_voi_of_its_header(real_data: Path, name: str) -> None:
    path = real_data / "dicom" / f"{name}.dcm"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    image = read_dicom(path, voi="auto")
    assert image.bits_stored == (10 if REAL_FILES[name][5] is None else 16)
    dark, bright = (image.pixels[row : row + 40, column : column + 40].mean() for row, column in DARK_AND_BRIGHT[name])
    assert dark + 0.05 * (2**image.bits_stored - 1) < bright
    assert "; modality: LUT" in image.meta["provenance"] or name != "cr_dental_modality_lut"


@pytest.mark.realdata
def test_voi_lut_of_the_real_mammogram_shows_what_its_sigmoid_window_shows(real_data: Path) -> None:
    path = real_data / "dicom" / "mg_ge_senographe_voi_lut.dcm"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    lut, window = (read_dicom(path, voi=voi) for voi in ("lut", "window"))
    assert lut.mask is not None
    # Two ways of the vendor to say "normal", which agree within a tenth of full scale
    assert np.abs(lut.pixels[lut.mask] / 65535 - window.pixels[lut.mask] / 65535).max() < 0.1
    assert read_dicom(path, voi="auto").meta["provenance"] == lut.meta["provenance"]
    assert "VOI: LUT of 3447 entries of 12 bits from 625 (0028,3010)" in lut.meta["provenance"]
    assert lut.meta["pixel_spacing_source"] == "ImagerPixelSpacing / magnification"
