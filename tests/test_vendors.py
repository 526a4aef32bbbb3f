"""The simulated scanners that come with the package."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xray_harmonize.datasets import PRESETS, Acquisition, ToneResponse, VendorPreset
from xray_harmonize.datasets.vendors import find_presets
from xray_harmonize.exceptions import InvalidParameterError, UnknownScannerError


def test_each_task_has_its_reference_first_and_presets_under_their_own_names() -> None:
    assert find_presets("density", None)[0].name == "reference"
    assert find_presets("pneumonia", None)[0].name == "chest-reference"
    assert all(name == preset.name for name, preset in PRESETS.items())
    assert len(find_presets("density", None)) >= 3
    assert len(find_presets("pneumonia", None)) >= 2


def test_one_name_or_one_preset_stands_for_a_list_of_one() -> None:
    own = replace(PRESETS["reference"], name="own")
    assert find_presets("density", "clearview-like") == [PRESETS["clearview-like"]]
    assert find_presets("density", own) == [own]


def test_unknown_scanner_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        UnknownScannerError, match=r"no simulated scanner 'acme'.* reference, senograph-like, clearview-like"
    ):
        find_presets("density", ["reference", "acme"])


def test_scanner_of_another_task_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="'chest-reference' is made for task 'pneumonia'"):
        find_presets("density", ["chest-reference"])


@pytest.mark.parametrize("scanners", [[], ["reference", "reference"]])
def test_no_scanner_or_the_same_twice_is_refused(scanners: list[str]) -> None:
    with pytest.raises(InvalidParameterError, match="at least one scanner, each once"):
        find_presets("density", scanners)


def test_preset_needs_a_name_and_a_known_task() -> None:
    with pytest.raises(InvalidParameterError, match="name must not be empty"):
        VendorPreset("", "density", Acquisition(28.0, 80.0), ToneResponse("log", (0.0, 5.0)))
    with pytest.raises(InvalidParameterError, match="task must be one of 'density', 'pneumonia'"):
        VendorPreset("x", "knee", Acquisition(28.0, 80.0), ToneResponse("log", (0.0, 5.0)))  # type: ignore[arg-type]
