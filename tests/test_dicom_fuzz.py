"""Damaged files of every encoding are read or refused: no crash, no other error, no memory beyond the image's.

``benchmarks/fuzz_dicom.py`` does this by the ten thousand, in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from damaged_dicom import damaged, whole_files
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_harmonize.dicom.read import read_dicom, read_header
from xray_harmonize.exceptions import XRayHarmonizeError

MAX_PIXELS = 2**16

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return whole_files(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "a.dcm"


def read_or_refused(path: Path, content: bytes, voi: str) -> None:
    path.write_bytes(content)
    try:
        read_header(path, max_pixels=MAX_PIXELS)
        image = read_dicom(path, voi=voi, max_pixels=MAX_PIXELS)
    except XRayHarmonizeError:
        return
    assert image.pixels.size <= MAX_PIXELS
    assert int(image.pixels.max()) <= 2**image.bits_stored - 1
    assert image.mask is None or image.mask.shape == image.pixels.shape


def test_whole_files_are_read(whole: dict[str, bytes], path: Path) -> None:
    for content in whole.values():
        path.write_bytes(content)
        assert read_dicom(path, voi="auto").pixels.shape == (40, 40)


def test_truncated_files_are_read_or_refused(whole: dict[str, bytes], path: Path) -> None:
    for content in whole.values():
        for hundredth in range(0, 100, 4):
            read_or_refused(path, content[: len(content) * hundredth // 100], "auto")


@settings(max_examples=150)
@given(which=st.integers(0), place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_changed_byte_is_read_or_refused(
    whole: dict[str, bytes], path: Path, which: int, place: float, value: int
) -> None:
    content = bytearray(list(whole.values())[which % len(whole)])
    content[int(place * len(content))] = value
    read_or_refused(path, bytes(content), "none")


@settings(max_examples=150)
@given(which=st.integers(0), seed=st.integers(0, 2**32 - 1))
def test_damage_of_any_kind_is_read_or_refused(whole: dict[str, bytes], path: Path, which: int, seed: int) -> None:
    content = list(whole.values())[which % len(whole)]
    read_or_refused(path, damaged(content, np.random.default_rng(seed)), "auto")


BOUNDED = """
import resource, sys
from xray_harmonize.dicom.read import read_dicom, read_header
from xray_harmonize.exceptions import XRayHarmonizeError
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
read_dicom(sys.argv[1])
before = peak()
for path in sys.argv[2:]:
    for read in (read_dicom, read_header):
        try:
            read(path, max_pixels=2**16)
        except XRayHarmonizeError as error:
            assert not isinstance(error.__cause__, MemoryError), path
print(peak() - before)
"""


def test_lengths_at_their_ends_take_no_memory(whole: dict[str, bytes], tmp_path: Path) -> None:
    paths = []
    for number, (name, content) in enumerate(whole.items()):
        (tmp_path / f"{number}.dcm").write_bytes(content)
        explicit = "Implicit" not in name and "Part 10" not in name and "Deflated" not in name
        start = content.find(b"\x28\0\x06\x30" if explicit else b"\x28\0\x50\x10")  # LUT data, window centre
        for length in (b"\xff\xff\xff\x7f", b"\xfe\xff\xff\xff"):
            for place in {start + 4, start + 8} if start > 0 else set():
                paths.append(tmp_path / f"{number}_{place}_{length[0]}.dcm")
                paths[-1].write_bytes(content[:place] + length + content[place + 4 :])
    assert len(paths) > 10
    command = [sys.executable, "-W", "ignore", "-c", BOUNDED, str(tmp_path / "1.dcm"), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 64
