"""Where collections are, and which addresses a password may be sent to."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, urlsplit

from xray_harmonize.exceptions import InvalidParameterError

Origin = tuple[str, str, int]
"""Scheme, host and port: what a password belongs to."""

_PORTS = {"http": 80, "https": 443}


class Collection(NamedTuple):
    """A collection that is known by name."""

    url: str
    about: str


COLLECTIONS = {
    "mimic-cxr": Collection("https://physionet.org/files/mimic-cxr/2.1.0/", "chest radiographs as DICOM, and reports"),
    "mimic-cxr-jpg": Collection(
        "https://physionet.org/files/mimic-cxr-jpg/2.1.0/", "the same radiographs as JPEG, equalized, with labels"
    ),
    "mimic-iv": Collection("https://physionet.org/files/mimiciv/3.1/", "tables of the hospital and intensive care"),
}
"""Known collections. Each is open only to users with credentials who have signed its data use agreement."""


def base_address(collection: str, *, allow_http: bool = False) -> str:
    """Give the address of the folder that a collection is mirrored from.

    Parameters
    ----------
    collection : str
        A name out of :data:`COLLECTIONS`, or the address of a folder.
    allow_http : bool, default=False
        Accept addresses without encryption, over which anybody on the way can read a password.

    Returns
    -------
    str
        Ends in a slash.

    Raises
    ------
    InvalidParameterError
        An unknown name, no https address, or one with a user name, a password, a query or a fragment in it. No message
        repeats an address that may hold a password.

    Examples
    --------
    >>> base_address("mimic-iv")
    'https://physionet.org/files/mimiciv/3.1/'
    >>> base_address("https://archive.example/chest")
    'https://archive.example/chest/'
    """
    if collection in COLLECTIONS:
        return COLLECTIONS[collection].url
    # First of all, since every later message repeats what was given.
    if "@" in collection:
        raise InvalidParameterError(
            "The address holds an @, as if a user name and password stood in it. Give the address alone: the password "
            "is taken from the environment variable XRAY_HARMONIZE_PASSWORD, from ~/.netrc, or asked for."
        )
    if "?" in collection or "#" in collection:
        raise InvalidParameterError("The address holds a query or a fragment. Give the address of a folder alone.")
    if "://" not in collection:
        raise InvalidParameterError(
            f"There is no collection {collection!r}; known are {', '.join(COLLECTIONS)}. Give one of these, or an "
            "https address."
        )
    if not collection.isascii() or not collection.isprintable() or set(collection) & set(' \\"<>'):
        raise InvalidParameterError(f"{collection!r} is no address: write special characters as %XX.")
    scheme = collection.partition("://")[0].lower()
    if scheme not in _PORTS:
        raise InvalidParameterError(f"The address {collection} does not begin with https://. Give one that does.")
    if scheme == "http" and not allow_http:
        raise InvalidParameterError(
            f"The address {collection} is not encrypted, and a password would be readable on the way. Give an https "
            "address, or allow it with allow_http (--allow-http)."
        )
    if origin(collection) is None:
        raise InvalidParameterError(f"The address {collection} names no host, or no valid port. Correct it.")
    return collection if collection.endswith("/") else f"{collection}/"


def origin(url: str) -> Origin | None:
    """Give scheme, host and port of an address; None where it has none.

    Examples
    --------
    >>> origin("https://Archive.example/chest/")
    ('https', 'archive.example', 443)
    >>> origin("https:///chest/") is None
    True
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or not parts.hostname:
        return None
    return scheme, parts.hostname.lower(), _PORTS[scheme] if port is None else port


def file_address(base: str, path: str) -> str:
    """Give the address of a file of a collection.

    Examples
    --------
    >>> file_address("https://archive.example/chest/", "files/a b#1.dcm")
    'https://archive.example/chest/files/a%20b%231.dcm'
    """
    return base + quote(path, safe="/")


def folder_name(collection: str) -> str | None:
    """Give the folder that a known collection is mirrored to by default; None for an address."""
    return collection if collection in COLLECTIONS else None
