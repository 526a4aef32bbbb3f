"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

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
