"""Small DICOM files of every encoding that can be written here, and what may become of their bytes on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dicom_factory import (
    NATIVE,
    image_dataset,
    make_baseline_jpeg,
    make_compressed,
    make_dicom,
    make_encapsulated,
    modality_lut,
)
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import get_encoder
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

SIDE = 40


def whole_files(folder: Path) -> dict[str, bytes]:
    """Write one file of each encoding, with all the attributes that reading looks at; give their bytes by name."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    stored = (rows * 51 + columns * 50 + (rows * columns) % 7).astype(np.uint16)
    options: dict[str, Any] = {
        "bits_stored": 12,
        "PhotometricInterpretation": "MONOCHROME1",
        "PresentationLUTShape": "INVERSE",
        "WindowCenter": [300, 400],
        "WindowWidth": [90, 100],
        "VOILUTFunction": "SIGMOID",
        "PixelPaddingValue": 4,
        "PixelPaddingRangeLimit": 7,
        "ShutterShape": ["RECTANGULAR", "CIRCULAR", "POLYGONAL"],
        "ShutterLeftVerticalEdge": 2,
        "ShutterRightVerticalEdge": SIDE - 1,
        "ShutterUpperHorizontalEdge": 2,
        "ShutterLowerHorizontalEdge": SIDE,
        "CenterOfCircularShutter": [20, 20],
        "RadiusOfCircularShutter": 20,
        "VerticesOfThePolygonalShutter": [1, 1, 1, SIDE, SIDE, SIDE, SIDE, 1],
        "ImagerPixelSpacing": [0.2, 0.2],
        "EstimatedRadiographicMagnificationFactor": 1.25,
        "PatientID": "p1",
        "KVP": "120",
    }
    luts: dict[str, Any] = {
        "ModalityLUTSequence": modality_lut(np.arange(20) ** 2, 3),
        "VOILUTSequence": modality_lut(np.arange(30) * 100, 5),
    }
    paths = {
        syntax.name: make_dicom(folder / f"{number}", stored, syntax=syntax, **options, **luts)
        for number, syntax in enumerate(NATIVE)
    }
    paths["no Part 10 header"] = make_dicom(folder / "bare", stored, syntax=NATIVE[0], preamble=False, **options)
    paths["rescaled"] = make_dicom(folder / "rescaled", stored, RescaleSlope="-2", RescaleIntercept="9", **options)
    for syntax in (RLELossless, JPEG2000Lossless):
        paths[syntax.name] = make_compressed(folder / syntax, stored, syntax, **options)
    for syntax, encoder in ((JPEG2000, {"j2k_cr": [4]}), (JPEGLSLossless, {}), (JPEGLSNearLossless, {"jls_error": 2})):
        dataset = image_dataset(stored, **options)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = NATIVE[1]
        if not get_encoder(syntax).is_available:
            continue
        dataset.compress(syntax, generate_instance_uid=False, **encoder)
        paths[syntax.name] = folder / syntax
        dataset.save_as(folder / syntax, enforce_file_format=True)
    paths["JPEG lossless"] = make_encapsulated(
        folder / "lossless", stored, lossless_jpeg(stored, 12), JPEGLosslessSV1, **options
    )
    small = {**options, "bits_stored": 8, "PixelPaddingRangeLimit": 5}
    paths["JPEG baseline"] = make_baseline_jpeg(folder / "baseline", (stored >> 4).astype(np.uint8), **small)
    return {name: path.read_bytes() for name, path in paths.items()}


def lossless_jpeg(stored: np.ndarray, bits: int) -> bytes:
    """Encode as JPEG lossless of process 14, selection value 1 (ISO/IEC 10918-1 annex H)."""
    values = stored.astype(np.int64)
    predicted = np.empty_like(values)
    predicted[0, 0] = 1 << (bits - 1)
    predicted[1:, 0] = values[:-1, 0]
    predicted[:, 1:] = values[:, :-1]
    # Modulo 2**16; the one difference of 17 bits is a category without any more bits
    differences = ((values - predicted + 0x8000) % 0x10000 - 0x8000).ravel().tolist()
    # Seventeen categories in codes of 5 bits; the code of ones alone is not in use
    text = []
    for difference in differences:
        size = abs(difference).bit_length()
        text.append(f"{size:05b}")
        if 0 < size < 16:
            text.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    packed = "".join(text)
    packed += "1" * (-len(packed) % 8)
    scan = int(packed, 2).to_bytes(len(packed) // 8, "big").replace(b"\xff", b"\xff\0")
    counts = bytes([0, 0, 0, 0, 17, *[0] * 11])
    huffman = b"\0" + counts + bytes(range(17))
    frame = bytes([bits]) + stored.shape[0].to_bytes(2, "big") + stored.shape[1].to_bytes(2, "big") + b"\1\1\x11\0"
    return b"".join(
        [
            b"\xff\xd8",
            b"\xff\xc4" + (len(huffman) + 2).to_bytes(2, "big") + huffman,
            b"\xff\xc3" + (len(frame) + 2).to_bytes(2, "big") + frame,
            b"\xff\xda\0\x08\1\1\0\1\0\0",
            scan,
            b"\xff\xd9",
        ]
    )


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file: a byte or bit changed, an end missing, bytes lost, doubled, or set to an extreme."""
    place = int(rng.integers(len(content)))
    kind = rng.integers(8)
    if kind == 0:
        return content[:place]
    if kind == 1:  # a piece is lost
        return content[:place] + content[place + int(rng.integers(1, 64)) :]
    if kind == 2:  # a piece comes twice
        return content[: place + int(rng.integers(1, 64))] + content[place:]
    out = bytearray(content)
    if kind == 3:  # lengths and counts at their ends
        extreme = bytes(rng.choice([0, 0x7F, 0x80, 0xFF], size=int(rng.choice([2, 4]))).astype(np.uint8))
        out[place : place + len(extreme)] = extreme
    elif kind == 4:  # several places
        for other in rng.integers(len(content), size=int(rng.integers(2, 12))):
            out[other] = rng.integers(256)
    elif kind == 5:
        out[place] ^= 1 << int(rng.integers(8))
    else:
        out[place] = rng.integers(256)
    return bytes(out)
