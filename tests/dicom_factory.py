"""Small DICOM files for tests, written as headers of real devices are, faults included."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    generate_uid,
)

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def stored_sample(bits_stored: int, *, signed: bool, shape: tuple[int, int] = (6, 7)) -> np.ndarray:
    """Random stored values, the smallest and the largest among them."""
    lowest = -(2 ** (bits_stored - 1)) if signed else 0
    highest = lowest + 2**bits_stored - 1
    values = np.random.default_rng(20).integers(lowest, highest, shape, endpoint=True)
    values[0, :4] = [lowest, lowest + 1, highest - 1, highest]
    kind = "i" if signed else "u"
    return values.astype(f"{kind}{1 if bits_stored <= 8 else 2}")


def image_dataset(
    stored: np.ndarray, *, bits_stored: int | None = None, photometric: str = "MONOCHROME2", **attributes: Any
) -> Dataset:
    """Make a data set around stored values; attributes are set by keyword, None deletes one."""
    dataset = Dataset()
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=["xray_harmonize"])
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 * stored.dtype.itemsize
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    data = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def write_dicom(path: Path, dataset: Dataset, *, syntax: str = ExplicitVRLittleEndian, preamble: bool = True) -> Path:
    """Write a data set; without preamble, neither is there a file meta group."""
    implicit = syntax == ImplicitVRLittleEndian
    little_endian = syntax != ExplicitVRBigEndian
    if not little_endian:
        itemsize = dataset.BitsAllocated // 8
        # OW data is swapped word by word, whatever the size of a pixel (PS3.5 A.3)
        words = np.frombuffer(dataset.PixelData, dtype="<u2").byteswap()
        dataset.PixelData = words.tobytes()
        assert itemsize in (1, 2)
    if not preamble:
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = implicit, little_endian
        write_dataset(buffer, dataset)
        path.write_bytes(buffer.getvalue())
        return path
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, implicit_vr=implicit, little_endian=little_endian, enforce_file_format=True)
    return path


def make_dicom(path: Path, stored: np.ndarray, *, syntax: str = ExplicitVRLittleEndian, **options: Any) -> Path:
    """Write stored values uncompressed; options are those of image_dataset and `preamble`."""
    preamble = options.pop("preamble", True)
    return write_dicom(path, image_dataset(stored, **options), syntax=syntax, preamble=preamble)


def make_compressed(path: Path, stored: np.ndarray, syntax: str, **options: Any) -> Path:
    """Write stored values compressed losslessly by pydicom's encoders (RLE, JPEG 2000)."""
    dataset = image_dataset(stored, **options)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)
    return path


def make_baseline_jpeg(path: Path, stored: np.ndarray, **options: Any) -> Path:
    """Write 8-bit stored values as JPEG baseline."""
    buffer = BytesIO()
    Image.fromarray(stored).save(buffer, "JPEG", quality=100)
    return make_encapsulated(path, stored, buffer.getvalue(), JPEGBaseline8Bit, **options)


def make_encapsulated(path: Path, stored: np.ndarray, codestream: bytes, syntax: str, **options: Any) -> Path:
    """Write a header for `stored` around any codestream."""
    dataset = image_dataset(stored, **options)
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return write_dicom(path, dataset, syntax=syntax)


def modality_lut(table: np.ndarray, first: int, *, width: int = 16, signed: bool = False) -> Sequence:
    """Make a Modality LUT Sequence whose entries are `width` bits wide."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(table) % 65536, first, width])
    item.ModalityLUTType = "US"
    data = table.astype("<u2" if width > 8 else "u1").tobytes()
    item.add_new("LUTData", "OW", data + b"\0" * (len(data) % 2))
    return Sequence([item])


def deflate_bomb(path: Path, n_bytes: int) -> Path:
    """Write a small deflated file whose data set inflates to `n_bytes` zeros."""
    dataset = image_dataset(np.zeros((2, 2), dtype=np.uint8))
    write_dicom(path, dataset, syntax=DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    meta_end = 144 + int.from_bytes(content[140:144], "little")
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    inflated = zlib.decompress(content[meta_end:], -zlib.MAX_WBITS) + bytes(n_bytes)
    path.write_bytes(content[:meta_end] + deflater.compress(inflated) + deflater.flush())
    return path
