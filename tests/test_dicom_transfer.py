"""Transfer syntaxes of derived images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from derived_images import derive, derived_of, large, ramp, written
from dicom_factory import (
    NATIVE,
    make_compressed,
    stored_sample,
)
from pydicom import dcmread
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from xray_harmonize.dicom import transfer
from xray_harmonize.dicom.read import read_dicom
from xray_harmonize.dicom.transfer import SYNTAXES
from xray_harmonize.exceptions import InvalidParameterError, MissingDependencyError


@pytest.mark.parametrize("syntax", NATIVE)
def test_uncompressed_syntaxes_are_kept_but_for_the_retired_one(tmp_path: Path, syntax):
    derived = derived_of(tmp_path, syntax=syntax)
    expected = ExplicitVRLittleEndian if syntax == ExplicitVRBigEndian else syntax
    assert derived.file_meta.TransferSyntaxUID == expected
    back = read_dicom(written(derived, tmp_path / "b.dcm"))
    assert back.meta["transfer_syntax"] == expected
    assert np.array_equal(back.pixels, np.rint(np.linspace(0, 65535, 42)).reshape(6, 7))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_is_kept(tmp_path: Path, syntax):
    stored = stored_sample(12, signed=True, shape=(32, 40))
    derived = derive(make_compressed(tmp_path / "a.dcm", stored, syntax, bits_stored=12), ramp((32, 40)))
    assert derived.file_meta.TransferSyntaxUID == syntax
    back = read_dicom(written(derived, tmp_path / "b.dcm"))
    assert np.array_equal(back.pixels, np.rint(ramp((32, 40)) * np.float32(65535)))


def test_jpeg_2000_needs_some_pixels(tmp_path: Path):
    with pytest.raises(InvalidParameterError, match=r"'jpeg2000' needs at least 32 rows and columns, got 6 x 7; take"):
        derived_of(tmp_path, options={"transfer_syntax": "jpeg2000"})
    path = make_compressed(tmp_path / "b.dcm", ramp((40, 40)).astype(np.uint8), JPEG2000Lossless)
    source = dcmread(path)
    source.Rows = source.Columns = 6
    source.PixelData = b""
    assert derive(source, ramp((6, 6))).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize("wanted", [*SYNTAXES, *SYNTAXES.values()])
@pytest.mark.parametrize("bits", [8, 12])
def test_a_syntax_can_be_asked_for(tmp_path: Path, wanted, bits):
    if not transfer._is_installed(SYNTAXES.get(wanted, wanted)):
        pytest.skip(f"no encoder for {wanted}")
    derived = large(tmp_path, transfer_syntax=wanted, bits_stored=bits)
    assert derived.file_meta.TransferSyntaxUID == SYNTAXES.get(wanted, wanted)
    pixels = read_dicom(written(derived, tmp_path / "b.dcm")).pixels
    assert np.array_equal(pixels, np.rint(ramp((32, 33)) * np.float32(2**bits - 1)))


@pytest.mark.parametrize("wanted", ["gif", JPEGBaseline8Bit, ExplicitVRBigEndian])
def test_syntaxes_that_are_not_written_are_refused(tmp_path: Path, wanted):
    with pytest.raises(
        InvalidParameterError, match=r"transfer_syntax must be one of 'explicit', .*Nothing is written lo"
    ):
        derived_of(tmp_path, options={"transfer_syntax": wanted})


class NoEncoder:
    is_available = False


@pytest.mark.parametrize(
    ("wanted", "package"),
    [("jpeg2000", "pylibjpeg and pylibjpeg-openjpeg"), ("jpeg-ls", "pyjpegls"), ("rle", "pydicom")],
)
def test_a_missing_encoder_is_named(tmp_path: Path, monkeypatch, wanted, package):
    monkeypatch.setattr(transfer, "get_encoder", lambda syntax: NoEncoder)
    with pytest.raises(MissingDependencyError, match=f"needs an encoder that is not installed; install {package}"):
        large(tmp_path, transfer_syntax=wanted)


def test_without_an_encoder_the_source_syntax_is_not_kept(tmp_path: Path, monkeypatch):
    path = make_compressed(tmp_path / "a.dcm", stored_sample(12, signed=False), RLELossless, bits_stored=12)
    monkeypatch.setattr(transfer, "get_encoder", lambda syntax: NoEncoder)
    assert derive(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
