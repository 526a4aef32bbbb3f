"""Addresses of collections, and those that no password is sent to."""

from __future__ import annotations

import pytest

from xray_harmonize.download.address import COLLECTIONS, base_address, file_address, origin
from xray_harmonize.exceptions import InvalidParameterError


@pytest.mark.parametrize("name", COLLECTIONS)
def test_known_collections_are_https_folders(name):
    address = base_address(name)
    assert address.startswith("https://physionet.org/files/")
    assert address.endswith("/")


def test_an_address_ends_in_a_slash_once():
    assert base_address("https://a.example/x") == base_address("https://a.example/x/") == "https://a.example/x/"


@pytest.mark.parametrize(
    "address",
    ["https://reader:sesame@a.example/x/", "https://sesame@a.example/", "reader:sesame@a.example", "ftp://u:sesame@a/"],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(address):
    with pytest.raises(InvalidParameterError, match="holds an @, as if a user name and password stood in it") as error:
        base_address(address)
    assert "sesame" not in str(error.value)


@pytest.mark.parametrize("address", ["https://a.example/x/?token=sesame", "https://a.example/#sesame"])
def test_an_address_with_a_query_or_fragment_is_refused_and_not_repeated(address):
    with pytest.raises(InvalidParameterError, match="holds a query or a fragment") as error:
        base_address(address)
    assert "sesame" not in str(error.value)


def test_http_needs_to_be_allowed():
    with pytest.raises(InvalidParameterError, match=r"is not encrypted.*--allow-http"):
        base_address("http://a.example/")
    assert base_address("http://a.example/", allow_http=True) == "http://a.example/"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mimic", "There is no collection 'mimic'; known are mimic-cxr, mimic-cxr-jpg, mimic-iv"),
        ("ftp://a.example/", "does not begin with https://"),
        ("file:///etc/passwd", "does not begin with https://"),
        ("https:///x/", "names no host, or no valid port"),
        ("https://a.example:port/", "names no host, or no valid port"),
        ("https://a.example:99999/", "names no host, or no valid port"),
        ("https://[::1/", "names no host, or no valid port"),
        ("https://a.example/ x/", "is no address: write special characters as %XX"),
        ("https://a.example/\r\nHost: b/", "is no address: write special characters as %XX"),
        ("https://a.example\\b/", "is no address: write special characters as %XX"),
        ("https://ä.example/", "is no address: write special characters as %XX"),
    ],
)
def test_what_is_no_address_is_refused(address, message):
    with pytest.raises(InvalidParameterError, match=message):
        base_address(address)


def test_an_origin_is_scheme_host_and_port():
    assert origin("HTTPS://A.example/x") == origin("https://a.example:443/y") == ("https", "a.example", 443)
    assert origin("http://a.example/") == ("http", "a.example", 80)
    assert origin("https://a.example:8443/") != origin("https://a.example/")
    assert origin("file:///x") is None


def test_special_characters_of_a_path_do_not_change_the_address():
    assert file_address("https://a.example/", "a?b#c/%41 ä") == "https://a.example/a%3Fb%23c/%2541%20%C3%A4"
