"""Vendors by one name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.dicom.vendors import VENDOR_NAMES, normalized_vendor


@pytest.mark.parametrize(
    ("manufacturer", "vendor"),
    [
        ("GE MEDICAL SYSTEMS", "GE"),
        ("GE Healthcare", "GE"),
        ('"GE Healthcare"', "GE"),
        ("GE Medical Systems, China", "GE"),
        ("GEMS", "GE"),
        ("General Electric Company", "GE"),
        ("SIEMENS", "Siemens"),
        ("Siemens Healthineers", "Siemens"),
        ("Siemens Health Care GmbH", "Siemens"),
        ("Philips Medical Systems", "Philips"),
        ("PHILIPS Healthcare", "Philips"),
        ("FUJIFILM Corporation", "Fujifilm"),
        ("FUJI PHOTO FILM Co., ltd.", "Fujifilm"),
        ("Fuji Photo Film Co.,Ltd.", "Fujifilm"),
        ("Canon Inc.", "Canon"),
        ("CANON_MEC", "Canon Medical"),
        ("Canon Medical Systems", "Canon Medical"),
        ("TOSHIBA_MEC", "Canon Medical"),
        ("CARESTREAM HEALTH", "Carestream"),
        ("KODAK", "Carestream"),
        ("Eastman Kodak Company", "Carestream"),
        ("Agfa-Gevaert AG", "Agfa"),
        ("Agfa HealthCare", "Agfa"),
        ("KONICA MINOLTA", "Konica Minolta"),
        ("Konica Corporation", "Konica Minolta"),
        ("HOLOGIC, Inc.", "Hologic"),
        ("LORAD, A Hologic Company", "Hologic"),
        ("SAMSUNG ELECTRONICS", "Samsung"),
        ("SHIMADZU CORPORATION", "Shimadzu"),
        ("Varian Medical Systems", "Varian"),
        ("iRay Technology", "iRay"),
        ("Swissray Medical AG", "Swissray"),
        ("I.M.S. Giotto S.p.A.", "IMS Giotto"),
        ("IMS s.r.l.", "IMS Giotto"),
        ("Planmed Oy", "Planmed"),
        ("PLANMECA", "Planmeca"),
        ("DRTECH Corp.", "DRTECH"),
        ("Vieworks", "Vieworks"),
        ("Dentsply Sirona", "Sirona"),
    ],
)
def test_spellings_of_a_vendor_are_one_name(manufacturer: str, vendor: str) -> None:
    assert normalized_vendor(manufacturer) == vendor


@pytest.mark.parametrize("vendor", VENDOR_NAMES)
def test_a_name_of_the_table_stands_for_itself(vendor: str) -> None:
    assert normalized_vendor(vendor) == vendor
    assert all(normalized_vendor(words.upper()) == vendor for words in VENDOR_NAMES[vendor] if words.isascii())


@pytest.mark.parametrize(
    ("manufacturer", "vendor"),
    [
        (" Acme   Imaging  GmbH & Co. KG ", "Acme Imaging"),
        ("'Acme Imaging, Inc.'", "Acme Imaging"),
        ("Acme S.p.A.", "Acme"),
        ("Gemini X-Ray", "Gemini X-Ray"),  # begins with the letters of a known one
        ("Canonical Devices", "Canonical Devices"),
        ("Inc.", "Inc."),
        ("FO-DICOM", "FO-DICOM"),
    ],
)
def test_unknown_vendor_is_tidied_and_kept(manufacturer: str, vendor: str) -> None:
    assert normalized_vendor(manufacturer) == vendor


@pytest.mark.parametrize("manufacturer", [None, "", "  ", "___", "ANONYMIZED", "N/A", "Unknown", "removed"])
def test_placeholder_is_no_vendor(manufacturer: str | None) -> None:
    assert normalized_vendor(manufacturer) is None


@given(st.text(max_size=64))
def test_normalized_name_stays_as_it_is(manufacturer: str) -> None:
    vendor = normalized_vendor(manufacturer)
    assert vendor is None or (vendor and normalized_vendor(vendor) in (vendor, *VENDOR_NAMES))
