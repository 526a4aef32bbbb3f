"""Fixtures that several test modules share."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# A busy machine must not fail a law, nor may a law hold today and fail tomorrow on the same code.
settings.register_profile("laws", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("laws")


# A shell ignores Ctrl-C on behalf of what it starts in the background, and children inherit that: the programs that
# tests interrupt would never hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real radiographs; the test is skipped where it is absent."""
    name = os.environ.get("XRAY_HARMONIZE_DATA")
    if not name:
        pytest.skip("XRAY_HARMONIZE_DATA is not set; it names the folder with the real radiographs")
    folder = Path(name)
    if not folder.is_dir():
        pytest.skip(f"XRAY_HARMONIZE_DATA names {folder}, which is no folder")
    return folder


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Imports benchmarks by name, which lie beside each other and in no package; they are forgotten afterwards."""
    folder = Path(__file__).parent.parent / "benchmarks"
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    yield importlib.import_module
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if (folder / f"{name}.py").is_file():
            del sys.modules[name]
