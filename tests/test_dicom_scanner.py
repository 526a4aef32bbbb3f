"""Labels of scanners, and acquisition groups where vendors are unknown."""

from __future__ import annotations

from typing import Any

import pytest

from xray_harmonize.dicom.scanner import acquisition_group, scanner_label
from xray_harmonize.exceptions import InvalidParameterError

KNOWN: dict[str, Any] = {
    "manufacturer": "GE MEDICAL SYSTEMS",
    "vendor": "GE",
    "model": "Senographe Essential",
    "detector_id": "NPL0186",
    "device_serial": "1045",
    "rows": 3062,
    "columns": 2394,
    "bits_stored": 12,
    "photometric": "MONOCHROME2",
}
BARE: dict[str, Any] = {**KNOWN, "manufacturer": None, "vendor": None, "model": None}


@pytest.mark.parametrize(
    ("by", "label"),
    [
        (("vendor", "model"), "GE Senographe Essential"),
        (("vendor",), "GE"),
        (["model"], "Senographe Essential"),
        (("vendor", "model", "detector_id"), "GE Senographe Essential [detector NPL0186]"),
        (("device_serial", "vendor", "model"), "GE Senographe Essential [serial 1045]"),
        (("detector_id", "device_serial"), "3062x2394 12bit bare [detector NPL0186] [serial 1045]"),
    ],
)
def test_label_is_made_of_what_is_asked_for(by: Any, label: str) -> None:
    assert scanner_label(KNOWN, by=by) == label


def test_vendor_is_not_said_twice() -> None:
    assert scanner_label({"vendor": "Fujifilm", "model": "FUJIFILM FDR D-EVO"}) == "FUJIFILM FDR D-EVO"


def test_label_goes_by_what_is_known() -> None:
    assert scanner_label(KNOWN | {"vendor": None}) == "Senographe Essential"
    assert scanner_label(KNOWN | {"model": None}) == "GE"
    assert scanner_label(BARE) == acquisition_group(BARE) == "3062x2394 12bit bare"


@pytest.mark.parametrize(
    "key",
    [
        "GE Senographe Essential",
        "ge senographe essential",
        ("GE", "Senographe Essential"),
        ("ge", "SENOGRAPHE ESSENTIAL"),
        ("GE MEDICAL SYSTEMS", "Senographe Essential"),
    ],
)
def test_users_label_counts(key: Any) -> None:
    assert scanner_label(KNOWN, overrides={key: "room 3"}) == "room 3"
    assert scanner_label(KNOWN | {"model": "Pristina"}, overrides={key: "room 3"}) == "GE Pristina"


def test_users_label_of_one_device_comes_before_that_of_its_model() -> None:
    overrides: dict[Any, str] = {
        ("GE", "Senographe Essential"): "old",
        "GE Senographe Essential [serial 1045]": "room 3",
    }
    by = ("vendor", "model", "device_serial")
    assert scanner_label(KNOWN, by=by, overrides=overrides) == "room 3"
    assert scanner_label(KNOWN | {"device_serial": "7"}, by=by, overrides=overrides) == "old"


def test_users_label_of_an_acquisition_group() -> None:
    assert scanner_label(BARE, overrides={"3062x2394 12bit bare": "mammograms"}) == "mammograms"


@pytest.mark.parametrize("by", [(), ("vendor", "colour"), "vendor"])
def test_other_columns_are_refused(by: Any) -> None:
    with pytest.raises(
        InvalidParameterError, match=r"by is .*, expected one or more of vendor, model, detector_id, device_serial in a"
    ):
        scanner_label(KNOWN, by=by)


@pytest.mark.parametrize("key", [3, ("GE",), ("GE", "Pristina", "1")])
def test_other_keys_of_overrides_are_refused(key: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"overrides has the key .* expected a label or a pair of vendor"):
        scanner_label(KNOWN, overrides={key: "room 3"})


@pytest.mark.parametrize(
    ("values", "group"),
    [
        ({}, "3056x2544 12bit bare"),
        ({"pixel_spacing_mm": 0.139}, "3056x2544 0.139mm 12bit bare"),
        ({"pixel_spacing_mm": 0.1388889, "portable": False}, "3056x2544 0.139mm 12bit fixed bare"),
        ({"portable": True, "exposure_index": 410.0, "kvp": 90.0}, "3056x2544 12bit portable EI+kVp"),
        ({"photometric": "MONOCHROME1", "sensitivity": 0.0}, "3056x2544 12bit mono1 S"),
        (
            dict.fromkeys(
                ["dap", "mas", "kvp", "sensitivity", "relative_exposure", "deviation_index", "exposure_index"], 1.0
            ),
            "3056x2544 12bit EI+DI+REX+S+kVp+mAs+DAP",
        ),
    ],
)
def test_group_tells_matrix_spacing_bits_and_what_is_filled_in(values: dict[str, Any], group: str) -> None:
    image = {"rows": 3056, "columns": 2544, "bits_stored": 12, "photometric": "MONOCHROME2"}
    assert acquisition_group(image | values) == group
    assert acquisition_group(image | {"rows": 2544, "columns": 3056} | values) == group
