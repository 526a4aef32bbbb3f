"""The record of what was done to the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_factory import make_compressed, make_dicom, modality_lut
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from xray_harmonize.dicom.read import read_dicom, read_header
from xray_harmonize.exceptions import XRayHarmonizeWarning

STORED = np.arange(16, dtype=np.uint16).reshape(4, 4)


def test_plain_file_goes_through_nothing(tmp_path: Path) -> None:
    assert read_dicom(make_dicom(tmp_path / "a.dcm", STORED)).meta["provenance"] == (
        "decode: Explicit VR Little Endian (0002,0010); mask: none; modality: none; VOI: none; "
        "polarity: kept, MONOCHROME2 (0028,0004)"
    )


def test_every_step_is_told_in_its_order_with_its_tags(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        STORED,
        photometric="MONOCHROME1",
        PresentationLUTShape="INVERSE",
        RescaleSlope="-0.5",
        RescaleIntercept="10",
        PixelPaddingValue=3,
        PixelPaddingRangeLimit=1,
        ShutterShape="RECTANGULAR",
        ShutterLeftVerticalEdge=1,
        ShutterRightVerticalEdge=3,
        ShutterUpperHorizontalEdge=1,
        ShutterLowerHorizontalEdge=4,
        WindowCenter=[5, 1],
        WindowWidth=[8.5, 1],
        VOILUTFunction="SIGMOID",
    )
    assert read_dicom(path, voi="window").meta["provenance"] == (
        "decode: Explicit VR Little Endian (0002,0010); "
        "mask: padding 1 to 3 (0028,0120)(0028,0121), RECTANGULAR shutter (0018,1600); "
        "modality: slope -0.5, intercept 10 (0028,1053)(0028,1052); "
        "VOI: SIGMOID window, centre 5, width 8.5 (0028,1050)(0028,1051)(0028,1056); "
        "polarity: inverted, MONOCHROME1 (0028,0004), INVERSE (2050,0020)"
    )


def test_tables_are_told_and_their_free_text_is_not(tmp_path: Path) -> None:
    modality, voi = modality_lut(np.arange(16), 0), modality_lut(np.arange(4), 2, width=8)
    modality[0].LUTExplanation = voi[0].LUTExplanation = "for Mr Doe"
    path = make_dicom(tmp_path / "a.dcm", STORED, ModalityLUTSequence=modality, VOILUTSequence=voi, PixelPaddingValue=0)
    record = read_dicom(path, voi="auto").meta["provenance"]
    assert "mask: padding 0 to 0 (0028,0120);" in record
    assert "modality: LUT (0028,3000); VOI: LUT of 4 entries of 8 bits from 2 (0028,3010);" in record
    assert "Doe" not in record


def test_encoding_that_no_tag_told_is_told_so(tmp_path: Path) -> None:
    bare = make_dicom(tmp_path / "a", STORED, syntax=ImplicitVRLittleEndian, preamble=False)
    assert read_dicom(bare).meta["provenance"].startswith("decode: Implicit VR Little Endian as found, no (0002,0010);")
    packed = make_compressed(tmp_path / "b", STORED, RLELossless)
    assert read_dicom(packed).meta["provenance"].startswith("decode: RLE Lossless (0002,0010);")


@pytest.mark.filterwarnings("ignore:.*shutter:xray_harmonize.exceptions.XRayHarmonizeWarning")
def test_shutter_that_was_left_out_is_not_told_by_either_reader(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", STORED, ShutterShape="CIRCULAR")
    assert "mask: none" in read_dicom(path).meta["provenance"]
    assert read_header(path) == read_dicom(path).meta
    path = make_dicom(tmp_path / "b.dcm", STORED, PresentationLUTShape="INVERSE")
    with pytest.warns(XRayHarmonizeWarning, match="contradicts"):
        assert read_dicom(path).meta["provenance"].endswith("polarity: kept, MONOCHROME2 (0028,0004)")
