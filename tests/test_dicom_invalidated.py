"""What a derived image must not inherit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from derived_images import derive, derived_of, written
from dicom_factory import (
    image_dataset,
    make_compressed,
    make_dicom,
    modality_lut,
    stored_sample,
    write_dicom,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)


def test_what_described_the_old_pixels_is_gone(tmp_path: Path):
    old = {
        "ModalityLUTSequence": modality_lut(np.arange(4096), 0),
        "VOILUTSequence": [Dataset()],
        "WindowCenterWidthExplanation": "x",
        "VOILUTFunction": "SIGMOID",
        "RealWorldValueMappingSequence": [Dataset()],
        "IconImageSequence": [Dataset()],
        "HistogramSequence": [Dataset()],
        "DigitalSignaturesSequence": [Dataset()],
        "MACParametersSequence": [Dataset()],
        "SOPInstanceStatus": "AO",
        "RetrieveAETitle": "PACS",
        "SmallestPixelValueInSeries": 1,
        "PixelIntensityRelationship": "LIN",
        "PixelIntensityRelationshipSign": 1,
    }
    derived = derived_of(tmp_path, **old)
    assert not set(old) & set(derived.dir())


def test_private_elements_go_also_out_of_sequences(tmp_path: Path):
    item = Dataset()
    item.add_new(0x00091010, "LO", "private")
    item.CodeMeaning = "kept"
    path = make_dicom(
        tmp_path / "a.dcm", stored_sample(12, signed=False), syntax=ImplicitVRLittleEndian, bits_stored=12
    )
    source = dcmread(path)
    source.ViewCodeSequence = [item]
    source.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "private")
    source.save_as(path, enforce_file_format=True)
    derived = derive(path)
    assert not any(element.tag.is_private for element in derived.iterall())
    assert derived.ViewCodeSequence[0].CodeMeaning == "kept"


def test_overlays_of_their_own_stay_without_statistics(tmp_path: Path):
    path = make_dicom(tmp_path / "a.dcm", stored_sample(12, signed=False), bits_stored=12)
    source = dcmread(path)
    source.add_new(0x60000100, "US", 1)
    source.add_new(0x60000102, "US", 0)
    source.add_new(0x60001302, "DS", "3.5")
    source.add_new(0x60003000, "OW", b"\1\2\3\4\5\6")
    derived = derive(source)
    assert derived[0x60003000].value == b"\1\2\3\4\5\6"
    assert (0x6000, 0x1302) not in derived


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_overlays_in_unused_bits_get_an_element_of_their_own(tmp_path: Path, syntax):
    plane = np.random.default_rng(3).integers(0, 2, (6, 7))
    dataset = image_dataset((plane << 15 | 5).astype(np.uint16), bits_stored=12)
    for element, value in ((0x10, 6), (0x11, 7), (0x0100, 16), (0x0102, 15)):
        dataset.add_new((0x6002, element), "US", value)
    path = write_dicom(tmp_path / "a.dcm", dataset, syntax=syntax)
    derived = dcmread(written(derive(path), tmp_path / "b.dcm"))
    assert np.array_equal(derived.overlay_array(0x6002), plane)
    assert (derived[0x6002, 0x0100].value, derived[0x6002, 0x0102].value) == (1, 0)


def test_overlays_lost_in_compression_go(tmp_path: Path):
    path = make_compressed(tmp_path / "a.dcm", stored_sample(12, signed=False), RLELossless, bits_stored=12)
    source = dcmread(path)
    for element, value in ((0x10, 6), (0x0100, 16), (0x0102, 15)):
        source.add_new((0x6000, element), "US", value)
    assert not [element for element in derive(source) if element.tag.group == 0x6000]


def test_words_of_a_big_endian_source_are_turned_round(tmp_path: Path):
    item = Dataset()
    item.add_new(0x00282000, "OB", b"\1\2")
    item.add_new(0x00660016, "OF", b"\1\2\3\4")
    dataset = image_dataset(stored_sample(12, signed=False), bits_stored=12, ReferencedImageSequence=[item])
    dataset.add_new(0x60003000, "OW", b"\1\2\3\4\5\6")
    derived = derive(write_dicom(tmp_path / "a.dcm", dataset, syntax=ExplicitVRBigEndian))
    assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert derived[0x60003000].value == b"\2\1\4\3\6\5"
    assert derived.ReferencedImageSequence[0][0x00660016].value == b"\4\3\2\1"
    back = dcmread(written(derived, tmp_path / "b.dcm"))
    assert (back.Rows, back.Columns, back.pixel_array.max()) == (6, 7, 65535)
