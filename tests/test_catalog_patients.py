"""Patient identifiers as keys: plain, or hashed with a salt."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_harmonize.catalog.database import create
from xray_harmonize.catalog.patients import check_salt, patient_key, read_salt
from xray_harmonize.exceptions import CatalogError, InvalidParameterError

SALT = b"a secret of many bytes"


@given(st.text(), st.text(), st.binary(min_size=16, max_size=200))
def test_two_patients_have_one_key_only_if_they_are_one(one, other, salt):
    assert (patient_key(one, salt) == patient_key(other, salt)) == (one.strip() == other.strip())
    assert len(patient_key(one, salt)) == 32


def test_a_key_depends_on_all_of_the_salt_however_long():
    assert patient_key("1", bytes(100) + b"a") != patient_key("1", bytes(100) + b"b")


def test_a_salt_is_the_bytes_of_a_file_less_white_space_at_its_end(tmp_path):
    (tmp_path / "salt").write_bytes(SALT + b"\r\n")
    assert read_salt(tmp_path / "salt") == SALT


def test_a_salt_that_is_missing_or_too_short_or_no_salt_is_refused(tmp_path):
    with pytest.raises(InvalidParameterError, match=r"none: the file with the salt cannot be read \(No such file"):
        read_salt(tmp_path / "none")
    (tmp_path / "short").write_bytes(b"123456789012345\n")
    with pytest.raises(InvalidParameterError, match=r"short: a salt has 16 to 1048576 bytes, got 15; make one with"):
        read_salt(tmp_path / "short")
    (tmp_path / "long").write_bytes(bytes(2**20 + 1))
    with pytest.raises(InvalidParameterError, match="bytes, got more;"):
        read_salt(tmp_path / "long")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (None, SALT, "its patient identifiers are not hashed; leave the salt out, or index into a new file"),
        (SALT, None, "its patient identifiers are hashed; give the salt that they were hashed with"),
        (SALT, SALT + b"!", "its patient identifiers are hashed with another salt; give that one"),
    ],
)
def test_a_catalogue_holds_one_kind_of_keys(first, second, message, tmp_path):
    with closing(create(tmp_path / "a.sqlite")) as connection:
        check_salt(connection, first, "a.sqlite")
        check_salt(connection, first, "a.sqlite")
        with pytest.raises(CatalogError, match=message):
            check_salt(connection, second, "a.sqlite")
