"""Windows and VOI LUTs where they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import make_dicom, modality_lut
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from xray_harmonize.dicom.read import read_dicom
from xray_harmonize.dicom.voi import window_values
from xray_harmonize.exceptions import InvalidImageError, InvalidParameterError, XRayHarmonizeWarning

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16)
ENTRIES = np.array([5, 100, 255, 9])
LUT = {"VOILUTSequence": modality_lut(ENTRIES, 2, width=8)}
WINDOW = {"WindowCenter": 128, "WindowWidth": 64}


def lut_item(descriptor: list[int], data: bytes, vr: str = "US") -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", vr, descriptor)
    item.add_new("LUTData", "OW", data)
    return Sequence([item])


def read(tmp_path: Path, stored: np.ndarray, voi: str, **attributes: Any) -> list[list[int]]:
    return read_dicom(make_dicom(tmp_path / "a.dcm", stored, **attributes), voi=voi).pixels.tolist()


# ---------------------------------------------------------------- which of them


def test_auto_takes_the_lut_else_the_window_else_nothing(tmp_path: Path) -> None:
    lut = read(tmp_path, RAMP, "lut", **LUT)
    window = read(tmp_path, RAMP, "window", **WINDOW)
    assert lut != window
    assert read(tmp_path, RAMP, "auto", **LUT, **WINDOW) == lut
    assert read(tmp_path, RAMP, "window", **LUT, **WINDOW) == window
    assert read(tmp_path, RAMP, "auto", **WINDOW) == window
    assert read(tmp_path, RAMP, "auto") == RAMP.tolist()


@pytest.mark.parametrize("voi", ["window", "lut"])
def test_pixels_behind_a_voi_have_16_bits_and_no_window_left_to_apply(tmp_path: Path, voi: str) -> None:
    image = read_dicom(make_dicom(tmp_path / "a.dcm", RAMP, bits_stored=8, **LUT, **WINDOW), voi=voi)
    assert (image.pixels.dtype, image.bits_stored, image.meta["bits_stored"]) == (np.uint16, 16, 16)
    assert image.meta["bits_stored_in_file"] == 8
    told = [image.meta[key] for key in ("window_center", "window_width", "voi_lut_function")]
    assert told == [None, None, None]
    assert image.meta["voi_lut_sequence"] is True


def test_what_was_asked_for_and_is_not_there_is_refused(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", RAMP)
    with pytest.raises(InvalidImageError, match=r"a\.dcm: no usable Window Center .* Read it with voi='auto'"):
        read_dicom(path, voi="window")
    with pytest.raises(InvalidImageError, match=r"a\.dcm: no VOI LUT Sequence \(0028,3010\), expected one with"):
        read_dicom(path, voi="lut")
    with pytest.raises(InvalidParameterError, match="voi must be one of 'none', 'window', 'lut', 'auto'; got 'on'"):
        read_dicom(path, voi="on")


# ---------------------------------------------------------------- windows


def test_first_of_several_windows_is_applied(tmp_path: Path) -> None:
    several = {"WindowCenter": [128, 10, 20], "WindowWidth": [64, 5, 6]}
    assert read(tmp_path, RAMP, "window", **several) == read(tmp_path, RAMP, "window", **WINDOW)


def test_linear_window_of_width_1_is_a_step(tmp_path: Path) -> None:
    stored = np.array([[9, 10, 11]], dtype=np.uint16)
    assert read(tmp_path, stored, "window", WindowCenter=10, WindowWidth=1) == [[0, 65535, 65535]]


def test_window_counts_in_modality_values(tmp_path: Path) -> None:
    stored = np.array([[0, 24, 48]], dtype=np.uint16)
    rescale = {"RescaleSlope": "-1", "RescaleIntercept": "-1000", "VOILUTFunction": "LINEAR_EXACT"}
    assert read(tmp_path, stored, "window", WindowCenter=-1024, WindowWidth=48, **rescale) == [[65535, 32768, 0]]


def test_voi_comes_before_the_polarity(tmp_path: Path) -> None:
    bright = read_dicom(make_dicom(tmp_path / "a.dcm", RAMP, **LUT), voi="lut")
    dark = read_dicom(make_dicom(tmp_path / "b.dcm", RAMP, photometric="MONOCHROME1", **LUT), voi="lut")
    np.testing.assert_array_equal(dark.pixels, 65535 - bright.pixels)


def test_sigmoid_of_the_narrowest_and_widest_window_stays_finite(tmp_path: Path) -> None:
    stored = np.array([[0, 100, 4000]], dtype=np.uint16)
    sigmoid = {"WindowCenter": 100, "VOILUTFunction": "SIGMOID"}
    assert read(tmp_path, stored, "window", WindowWidth="1e-300", **sigmoid) == [[0, 32768, 65535]]
    assert read(tmp_path, stored, "window", WindowWidth="1e300", **sigmoid) == [[32768] * 3]


def test_window_that_is_not_defined_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=5, WindowWidth=0)
    with pytest.warns(XRayHarmonizeWarning, match=r"a\.dcm: the display window .* is not defined"):
        np.testing.assert_array_equal(read_dicom(path, voi="auto").pixels, RAMP)


def test_modality_values_beyond_floats_are_refused(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", RAMP, RescaleSlope="1e305", **LUT)
    assert read_dicom(path).bits_stored == 16
    with pytest.raises(InvalidImageError, match="modality values from 0 to inf, expected finite numbers to apply"):
        read_dicom(path, voi="lut")


@given(
    center=st.floats(-1e300, 1e300),
    width=st.floats(1, 1e300),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    values=st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20),
)
def test_a_window_rises_from_0_to_1(center: float, width: float, function: str, values: list[float]) -> None:
    shown = window_values(np.sort(values), center, width, function)
    assert np.all((shown >= 0) & (shown <= 1))
    assert np.all(np.diff(shown) >= 0)


# ---------------------------------------------------------------- VOI LUTs


def test_entries_are_fractions_of_their_bits_and_the_ends_go_on(tmp_path: Path) -> None:
    stored = np.array([[0, 2, 3, 4, 5, 90]], dtype=np.uint16)
    expected = [5 * 257, 5 * 257, 100 * 257, 65535, 9 * 257, 9 * 257]
    assert read(tmp_path, stored, "lut", **LUT) == [expected]


@pytest.mark.parametrize("bits", range(8, 17))
def test_entries_of_8_to_16_bits_are_scaled_to_full_range(tmp_path: Path, bits: int) -> None:
    data = np.array([0, 1, 2**bits - 1], dtype="<u2").tobytes()
    stored = np.array([[0, 1, 2]], dtype=np.uint16)
    sequence = lut_item([3, 0, bits], data)
    assert read(tmp_path, stored, "lut", VOILUTSequence=sequence) == [[0, round(65535 / (2**bits - 1)), 65535]]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("packed", [False, True])
def test_entries_of_8_bits_come_one_or_two_to_a_word(tmp_path: Path, syntax: str, packed: bool) -> None:
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    words = np.array([5 + (100 << 8), 255 + (9 << 8)]) if packed else ENTRIES
    sequence = lut_item([4, 0, 8], words.astype(f"{order}u2").tobytes())
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    expected = [[int(entry) * 257 for entry in ENTRIES]]
    assert read(tmp_path, stored, "lut", VOILUTSequence=sequence, syntax=syntax) == expected


@pytest.mark.parametrize(("vr", "written"), [("SS", -1000), ("US", 64536)])
def test_first_value_mapped_is_below_zero_where_modality_values_are(tmp_path: Path, vr: str, written: int) -> None:
    sequence = lut_item([3, written, 8], bytes([0, 255, 51, 0]), vr)
    stored = np.array([[24, 25, 26]], dtype=np.uint16)
    lut = {"VOILUTSequence": sequence, "RescaleSlope": "1", "RescaleIntercept": "-1024"}
    assert read(tmp_path, stored, "lut", **lut) == [[0, 65535, 51 * 257]]


@pytest.mark.parametrize(("vr", "written"), [("SS", -25536), ("US", 40000)])
def test_first_value_mapped_is_above_32767_where_modality_values_are(tmp_path: Path, vr: str, written: int) -> None:
    sequence = lut_item([3, written, 8], bytes([0, 255, 51, 0]), vr)
    stored = np.array([[40000, 40001, 40002]], dtype=np.uint16)
    assert read(tmp_path, stored, "lut", VOILUTSequence=sequence) == [[0, 65535, 51 * 257]]


def test_first_value_mapped_that_no_reading_explains_stays_as_written(tmp_path: Path) -> None:
    sequence = lut_item([2, 20000, 8], bytes([7, 255]))
    assert read(tmp_path, np.array([[0, 255]], np.uint8), "lut", VOILUTSequence=sequence) == [[7 * 257] * 2]


def test_first_lut_counts_and_a_fraction_takes_the_nearest_entry(tmp_path: Path) -> None:
    both = Sequence([lut_item([3, 0, 8], bytes([0, 51, 255, 0]))[0], lut_item([2, 0, 8], bytes([9, 9]))[0]])
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    lut = {"VOILUTSequence": both, "RescaleSlope": "0.6", "RescaleIntercept": "0"}
    assert read(tmp_path, stored, "lut", **lut) == [[0, 51 * 257, 51 * 257, 65535]]


@pytest.mark.parametrize("bits", [0, 7, 17])
def test_entries_of_other_widths_are_refused(tmp_path: Path, bits: int) -> None:
    path = make_dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=lut_item([1, 0, bits], b"\1\0"))
    with pytest.raises(InvalidImageError, match=rf"a\.dcm: the VOI LUT .* entries of {bits} bits .*expected 8 to 16"):
        read_dicom(path, voi="auto")


def test_lut_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=lut_item([9, 0, 12], b"\1\0"))
    with pytest.raises(InvalidImageError, match=r"a\.dcm: the VOI LUT Sequence \(0028,3010\) cannot.*1 entries of 9"):
        read_dicom(path, voi="lut")


def test_entries_of_more_bits_than_they_are_said_to_have_are_warned_about(tmp_path: Path) -> None:
    data = np.array([0, 4095], dtype="<u2").tobytes()
    path = make_dicom(tmp_path / "a.dcm", np.array([[0, 1]], np.uint16), VOILUTSequence=lut_item([2, 0, 10], data))
    with pytest.warns(XRayHarmonizeWarning, match=r"a\.dcm: the VOI LUT .* up to 4095, expected at most 1023"):
        assert read_dicom(path, voi="lut").pixels.tolist() == [[0, 65535]]
