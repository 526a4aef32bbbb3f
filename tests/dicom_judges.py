"""Judges of DICOM files that know nothing of the package: the standard's own text in numpy, and other toolkits."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset


def as_displayed(image: Dataset, state: Dataset | None = None, stored: np.ndarray | None = None) -> np.ndarray:
    """Show an image by PS3.3 C.11 and PS3.4 N.2.1: 0 is black and 1 is white, as float64.

    With a presentation state, all three stages are the state's, and the polarity of the image counts for nothing.
    Stored values may be given, since no two decoders of lossy JPEG agree on the last bit.
    """
    stages = image if state is None else state
    values = (image.pixel_array if stored is None else stored).astype(np.int64)
    if "ModalityLUTSequence" in stages:
        values = _looked_up(stages.ModalityLUTSequence[0], values)
    elif "RescaleSlope" in stages:
        values = float(stages.RescaleSlope) * values + float(stages.RescaleIntercept)
    voi = stages if state is None else state.SoftcopyVOILUTSequence[0]
    if "VOILUTSequence" in voi:
        assert np.array_equal(values, np.rint(values))
        item = voi.VOILUTSequence[0]
        shown = _looked_up(item, values.astype(np.int64)) / (2 ** item.LUTDescriptor[2] - 1)
    else:
        center, width, full = float(voi.WindowCenter), float(voi.WindowWidth), 2**image.BitsStored - 1
        assert full > 0
        shown = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    default = "IDENTITY" if state is not None or image.PhotometricInterpretation == "MONOCHROME2" else "INVERSE"
    return 1 - shown if stages.get("PresentationLUTShape", default) == "INVERSE" else shown


def _looked_up(item: Dataset, values: np.ndarray) -> np.ndarray:
    n_entries, first, _ = item.LUTDescriptor
    data = item.LUTData
    table = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.array(data)
    n_entries = n_entries % 65536 or 65536
    return table[:n_entries].astype(np.int64)[np.clip(values - first, 0, n_entries - 1)]


def tool(name: str, package: str) -> str:
    """Path of a program; the test is skipped where it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian's {package})")
    return path


def run(*command: str | Path) -> str:
    """Run a program that must succeed; give what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def violations(path: Path) -> set[str]:
    """Errors that dciodvfy finds; a fault of a UID is the same fault wherever the UID stands."""
    program = tool("dciodvfy", "dicom3tools")
    done = subprocess.run(
        [program, str(path)], capture_output=True, text=True, timeout=60, check=False, errors="replace"
    )
    lines = (done.stdout + done.stderr).splitlines()
    uid = r"\(0x0008,0x(0018|1155)\) (UI )?(Referenced )?SOP Instance UID"
    return {re.sub(uid, "an instance's UID", line).replace("UI  UI", "UI") for line in lines if "Error" in line}


def pixels_by_gdcm(path: Path, folder: Path) -> np.ndarray:
    """Stored values of an unsigned image as GDCM decodes them."""
    plain = folder / "gdcm.dcm"
    run(tool("gdcmconv", "libgdcm-tools"), "--raw", path, plain)
    dataset = dcmread(plain)
    dtype = "<u2" if dataset.BitsAllocated == 16 else "u1"
    count = dataset.Rows * dataset.Columns
    return np.frombuffer(dataset.PixelData, dtype, count).reshape(dataset.Rows, dataset.Columns)


def pixels_by_dcmtk(path: Path, folder: Path) -> np.ndarray:
    """Stored values of an unsigned image, uncompressed or run-length coded, as DCMTK decodes them."""
    dataset = dcmread(path)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        plain = folder / "dcmtk.dcm"
        run(tool("dcmdrle", "dcmtk"), path, plain)
        path = plain
    run(tool("dcmdump", "dcmtk"), "+W", folder, path)
    raw = next(folder.glob(f"{path.name}*.raw"))
    dtype = "<u2" if dataset.BitsAllocated == 16 else "u1"
    count = dataset.Rows * dataset.Columns
    return np.fromfile(raw, dtype, count).reshape(dataset.Rows, dataset.Columns)


def picture(path: Path) -> np.ndarray:
    """Values of a binary or ASCII PGM file."""
    content = path.read_bytes()
    head = re.match(rb"(P[25])\s+(?:#.*\n)?(\d+)\s+(\d+)\s+(\d+)\s", content)
    assert head is not None
    columns, rows = int(head[2]), int(head[3])
    if head[1] == b"P2":
        return np.array(content[head.end() :].split(), dtype=np.int64).reshape(rows, columns)
    return np.frombuffer(content, "u1", rows * columns, head.end()).reshape(rows, columns).astype(np.int64)
