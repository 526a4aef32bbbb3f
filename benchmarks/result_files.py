"""How every benchmark writes its table: CSV under ``benchmarks/results`` with the command and versions above it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd

import xray_harmonize

PACKAGES = ("numpy", "scipy", "scikit-learn", "opencv-python-headless", "torch", "scikit-image", "pydicom")


def write_result(path: Path, table: pd.DataFrame, command: str) -> None:
    """Write a table under lines that begin with ``#``; ``pandas.read_csv(path, comment="#")`` reads it back."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(f"# {command}\n")
        stream.write(f"# xray_harmonize {xray_harmonize.__version__}, Python {platform.python_version()}, {packages}\n")
        table.to_csv(stream, index=False, float_format="%.5g")
