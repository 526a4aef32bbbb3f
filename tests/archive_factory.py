"""Small archives for tests, and harmonizers that misbehave. Workers import this module, so it stands by itself."""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from dicom_factory import make_dicom
from sklearn.base import BaseEstimator

from xray_harmonize import CDFMatching, ImageSet
from xray_harmonize.atomic import replacing
from xray_harmonize.exceptions import XRayHarmonizeWarning

SCANNERS = ("far", "home")


def make_images(root: Path, n: int = 6, *, size: int = 24, seed: int = 0) -> list[Path]:
    """Write NPY files of 16 bits in two folders named after scanners, and give their paths."""
    rng = np.random.default_rng(seed)
    paths = [root / SCANNERS[i % 2] / f"{i:04d}.npy" for i in range(n)]
    for i, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, (rng.random((size, size + i % 3)) ** (1 + i % 2) * 65535).astype(np.uint16))
    return sorted(paths)


def make_dicom_images(root: Path, n: int = 3, **attributes) -> list[Path]:
    """Write DICOM files of 12 bits, named as UIDs are, without an extension."""
    rng = np.random.default_rng(1)
    root.mkdir(parents=True, exist_ok=True)
    return [
        make_dicom(
            root / f"1.2.840.{i}",
            (rng.random((20, 24)) ** 2 * 4095).astype(np.uint16),
            bits_stored=12,
            **{
                "SOPInstanceUID": f"1.2.3.{i}",
                "SeriesInstanceUID": "1.2.4",
                "StudyInstanceUID": "1.2.5",
                "PatientID": "p1",
                **attributes,
            },
        )
        for i in range(n)
    ]


def fitted(paths, **parameters) -> CDFMatching:
    """Fit CDF matching to files whose folders are scanners."""
    return CDFMatching(**parameters).fit(ImageSet(paths, scanner=[path.parent.name for path in paths]))


def rows(out: Path, columns: str = "*", where: str = "1") -> list[tuple]:
    """Ask the manifest of a folder, in the order of the sources."""
    connection = sqlite3.connect(out / "manifest.sqlite")
    try:
        return connection.execute(f"SELECT {columns} FROM image WHERE {where} ORDER BY source").fetchall()
    finally:
        connection.close()


def written(out: Path) -> dict[str, bytes]:
    """Read every file below a folder, but for those of the manifest."""
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith("manifest.")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


class Halving(BaseEstimator):
    """Halves images, slowly if asked to; warns, fails or ends its process at files whose name holds a word.

    A process that it ends was writing into the folder ``litters``.
    """

    def __init__(self, seconds: float = 0.0, kills: str = "", fails: str = "", warns: str = "", litters: str = ""):
        self.seconds = seconds
        self.kills = kills
        self.fails = fails
        self.warns = warns
        self.litters = litters

    def transform(self, X):
        """Halve every image."""
        return ImageSet.of(X).map(self._halve)

    def _halve(self, radiograph):
        time.sleep(self.seconds)
        if self.kills and self.kills in radiograph.name:
            with replacing(Path(self.litters, "never.png"), "wb") if self.litters else nullcontext():
                os._exit(1)
        if self.fails and self.fails in radiograph.name:
            raise RuntimeError("a line\nand \x1b[31manother " + "long " * 200)
        if self.warns and self.warns in radiograph.name:
            warnings.warn("it looks odd", XRayHarmonizeWarning, stacklevel=2)
        return (radiograph.pixels / np.float32(2 * 65535)).astype(np.float32)
