"""Polarity, rescale, modality LUT and windows against an independently computed truth."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import (
    image_dataset,
    make_dicom,
    modality_lut,
    stored_sample,
    write_dicom,
)
from pydicom.uid import (
    ExplicitVRBigEndian,
)

from xray_harmonize.dicom.read import read_dicom
from xray_harmonize.exceptions import InvalidImageError, XRayHarmonizeWarning


def windowed(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Display values in [0, 1] as the standard writes the three functions (PS3.3 C.11.2.1.2, C.11.2.1.3)."""
    values = values.astype(np.float64)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    out = ((values - (center - 0.5)) / max(width - 1, 1e-12) + 0.5).clip(0, 1)
    out[values <= center - 0.5 - (width - 1) / 2] = 0
    out[values > center - 0.5 + (width - 1) / 2] = 1
    return out


# ---------------------------------------------------------------- polarity, rescale, sign, padding

PADDINGS = {
    "none": (None, None),
    "single": (1, None),
    "range": (0, 3),
    "range, limit first": (3, 0),
}


@pytest.mark.parametrize("bits_stored", [5, 8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_pixels_are_the_fraction_of_the_nominal_modality_range(
    tmp_path: Path, photometric: str, signed: bool, bits_stored: int
) -> None:
    stored = stored_sample(bits_stored, signed=signed)
    lowest, full_scale = int(stored.min()), 2**bits_stored - 1
    possible = np.arange(lowest, lowest + 2**bits_stored, dtype=np.float64)
    shape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    rescales = [None, (1, 0), (1, -1024), (-1, 0), (2.5, 3), (-0.5, 100), (0.001, -7)]
    for number, (lut_shape, rescale, padding) in enumerate(
        itertools.product([None, shape], rescales, PADDINGS.values())
    ):
        attributes: dict[str, Any] = {}
        if lut_shape:
            attributes["PresentationLUTShape"] = lut_shape
        slope, intercept = rescale or (1, 0)
        if rescale:
            attributes |= {"RescaleSlope": str(slope), "RescaleIntercept": str(intercept)}
        pads = [None if pad is None else pad + lowest for pad in padding]
        if pads[0] is not None:
            attributes["PixelPaddingValue"] = pads[0]
        if pads[1] is not None:
            attributes["PixelPaddingRangeLimit"] = pads[1]

        image = read_dicom(
            make_dicom(
                tmp_path / f"{number}.dcm", stored, bits_stored=bits_stored, photometric=photometric, **attributes
            )
        )

        modality = slope * possible + intercept
        fraction = (modality - modality.min()) / np.ptp(modality)
        if photometric == "MONOCHROME1":
            fraction = 1 - fraction
        truth = np.rint(fraction * full_scale)[stored.astype(np.int64) - lowest]
        np.testing.assert_array_equal(image.pixels, truth)
        assert image.bits_stored == bits_stored
        assert image.pixels.dtype == (np.uint8 if bits_stored <= 8 else np.uint16)

        if pads[0] is None:
            assert image.mask is None
        else:
            first, last = sorted((pads[0], pads[0] if pads[1] is None else pads[1]))
            assert image.mask is not None
            np.testing.assert_array_equal(image.mask, ~((first <= stored) & (stored <= last)))


@pytest.mark.parametrize(("photometric", "lut_shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")])
def test_photometric_interpretation_decides_where_the_lut_shape_contradicts(
    tmp_path: Path, photometric: str, lut_shape: str
) -> None:
    stored = stored_sample(12, signed=False)
    path = make_dicom(
        tmp_path / "a.dcm", stored, bits_stored=12, photometric=photometric, PresentationLUTShape=lut_shape
    )
    with pytest.warns(XRayHarmonizeWarning, match=f"a.dcm: PresentationLUTShape .* contradicts {photometric}"):
        image = read_dicom(path)
    np.testing.assert_array_equal(image.pixels, 4095 - stored if photometric == "MONOCHROME1" else stored)


def test_inversion_does_not_depend_on_the_maximum_of_the_image(tmp_path: Path) -> None:
    stored = np.array([[0, 100], [200, 979]], dtype=np.uint16)
    image = read_dicom(make_dicom(tmp_path / "a.dcm", stored, bits_stored=10, photometric="MONOCHROME1"))
    np.testing.assert_array_equal(image.pixels, 1023 - stored)


def test_bits_above_those_stored_are_ignored(tmp_path: Path) -> None:
    stored = stored_sample(12, signed=False)
    dirty = stored | np.uint16(0xA000)
    image = read_dicom(make_dicom(tmp_path / "a.dcm", dirty, bits_stored=12))
    np.testing.assert_array_equal(image.pixels, stored)


def test_sign_bit_is_the_highest_stored_one(tmp_path: Path) -> None:
    stored = np.array([[-2048, -1], [0, 2047]], dtype=np.int16)
    path = make_dicom(tmp_path / "a.dcm", stored & np.int16(0x0FFF), bits_stored=12)
    np.testing.assert_array_equal(read_dicom(path).pixels, stored + 2048)


@pytest.mark.parametrize("signed", [False, True])
def test_high_bit_above_the_stored_ones_shifts_the_values(tmp_path: Path, signed: bool) -> None:
    stored = stored_sample(12, signed=signed)
    path = make_dicom(tmp_path / "a.dcm", stored << 4, bits_stored=12, HighBit=15)
    np.testing.assert_array_equal(read_dicom(path).pixels, stored.astype(int) - int(stored.min()))


@pytest.mark.parametrize(
    ("dtype", "stored_padding", "written", "vr"), [("int16", -2000, 63536, "US"), ("uint16", 63536, -2000, "SS")]
)
def test_padding_value_written_in_the_wrong_signedness_is_understood(
    tmp_path: Path, dtype: str, stored_padding: int, written: int, vr: str
) -> None:
    dataset = image_dataset(np.array([[stored_padding, 5]], dtype=dtype))
    dataset.add_new("PixelPaddingValue", vr, written)
    image = read_dicom(write_dicom(tmp_path / "a.dcm", dataset))
    assert image.mask is not None
    assert image.mask.tolist() == [[False, True]]


# ---------------------------------------------------------------- modality LUT

TABLE = np.array([0, 1, 4, 9, 16, 25, 36, 49, 300, 1023])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("signed", "first"), [(False, 0), (False, 3), (True, -4)])
def test_modality_lut_maps_stored_values_and_ends_with_its_first_and_last_entry(
    tmp_path: Path, photometric: str, signed: bool, first: int
) -> None:
    stored = np.arange(-8 if signed else 0, 24).reshape(4, -1).astype("i2" if signed else "u2")
    path = make_dicom(
        tmp_path / "a.dcm",
        stored,
        bits_stored=10,
        photometric=photometric,
        ModalityLUTSequence=modality_lut(TABLE, first, signed=signed),
    )
    image = read_dicom(path)
    truth = np.array([[TABLE[min(max(int(v) - first, 0), len(TABLE) - 1)] for v in row] for row in stored])
    # The table ends at 1023: ten bits, although its entries are 16 bits wide
    np.testing.assert_array_equal(image.pixels, 1023 - truth if photometric == "MONOCHROME1" else truth)
    assert image.bits_stored == 10


def test_modality_lut_of_8_bit_entries(tmp_path: Path) -> None:
    table = np.array([200, 100, 7])
    path = make_dicom(
        tmp_path / "a.dcm",
        np.array([[0, 1, 2, 3]], dtype=np.uint16),
        ModalityLUTSequence=modality_lut(table, 0, width=8),
    )
    image = read_dicom(path)
    assert image.pixels.tolist() == [[200, 100, 7, 7]]
    assert (image.pixels.dtype, image.bits_stored) == (np.uint8, 8)


def test_modality_lut_of_65536_entries_is_written_with_0(tmp_path: Path) -> None:
    table = np.arange(65536)[::-1]
    path = make_dicom(
        tmp_path / "a.dcm", np.array([[0, 65535]], dtype=np.uint16), ModalityLUTSequence=modality_lut(table, 0)
    )
    assert read_dicom(path).pixels.tolist() == [[65535, 0]]


def test_modality_lut_counts_where_there_is_a_rescale_too(tmp_path: Path) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        np.array([[0, 9]], dtype=np.uint16),
        ModalityLUTSequence=modality_lut(TABLE, 0),
        RescaleSlope="-1",
        RescaleIntercept="5",
    )
    assert read_dicom(path).pixels.tolist() == [[0, 1023]]


def test_modality_lut_of_a_big_endian_file(tmp_path: Path) -> None:
    sequence = modality_lut(TABLE, 0)
    sequence[0].LUTData = TABLE.astype(">u2").tobytes()
    path = make_dicom(
        tmp_path / "a.dcm",
        np.array([[1, 9]], dtype=np.uint16),
        syntax=ExplicitVRBigEndian,
        ModalityLUTSequence=sequence,
    )
    assert read_dicom(path).pixels.tolist() == [[1, 1023]]


def test_modality_lut_that_is_too_short_is_refused(tmp_path: Path) -> None:
    sequence = modality_lut(TABLE, 0)
    sequence[0].LUTData = b"\0" * 4
    path = make_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint16), ModalityLUTSequence=sequence)
    with pytest.raises(InvalidImageError, match=r"a.dcm: the Modality LUT Sequence .*2 entries of 10.*damaged"):
        read_dicom(path)


def test_modality_lut_given_as_numbers(tmp_path: Path) -> None:
    sequence = modality_lut(TABLE, 0)
    del sequence[0].LUTData
    sequence[0].add_new("LUTData", "US", TABLE.tolist())
    path = make_dicom(tmp_path / "a.dcm", np.array([[1, 9]], dtype=np.uint16), ModalityLUTSequence=sequence)
    assert read_dicom(path).pixels.tolist() == [[1, 1023]]


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("rescale", [(1, 0), (1, -1000), (-1, 0), (2.5, 7), (-0.25, 40)])
@pytest.mark.parametrize("signed", [False, True])
def test_window_on_the_pixels_shows_what_the_window_of_the_file_shows(
    tmp_path: Path, photometric: str, function: str | None, rescale: tuple[float, float], signed: bool
) -> None:
    stored = stored_sample(10, signed=signed, shape=(30, 40))
    slope, intercept = rescale
    modality = slope * stored.astype(np.float64) + intercept
    center, width = float(np.median(modality)), float(np.ptp(modality)) / 3
    attributes: dict[str, Any] = {
        "WindowCenter": [center, 1.0],
        "WindowWidth": [width, 2.0],
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
    }
    if function:
        attributes["VOILUTFunction"] = function
    image = read_dicom(make_dicom(tmp_path / "a.dcm", stored, bits_stored=10, photometric=photometric, **attributes))

    truth = windowed(modality, center, width, function or "LINEAR")
    if photometric == "MONOCHROME1":
        truth = 1 - truth
    shown = windowed(
        image.pixels, image.meta["window_center"], image.meta["window_width"], image.meta["voi_lut_function"]
    )
    np.testing.assert_allclose(shown, truth, atol=1e-5)
    assert image.meta["voi_lut_function"] == (function or "LINEAR")


def test_file_without_window_tells_none(tmp_path: Path) -> None:
    meta = read_dicom(make_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8))).meta
    assert meta["window_center"] is meta["window_width"] is meta["voi_lut_function"] is None
    assert meta["voi_lut_sequence"] is False


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (0.5, "LINEAR"), (-3, "SIGMOID"), (100, "CUBIC")])
def test_window_that_is_not_defined_is_left_out_with_a_warning(tmp_path: Path, width: float, function: str) -> None:
    path = make_dicom(
        tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), WindowCenter=50, WindowWidth=width, VOILUTFunction=function
    )
    with pytest.warns(XRayHarmonizeWarning, match="a.dcm: the display window .* is not defined; expected one of"):
        assert read_dicom(path).meta["window_center"] is None


def test_voi_lut_sequence_is_told(tmp_path: Path) -> None:
    path = make_dicom(tmp_path / "a.dcm", np.zeros((2, 2), np.uint8), VOILUTSequence=modality_lut(TABLE, 0))
    assert read_dicom(path).meta["voi_lut_sequence"] is True
