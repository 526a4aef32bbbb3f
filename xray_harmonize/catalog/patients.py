"""Patient identifiers as keys that join tables: as they are, or hashed with a salt that stays outside the catalogue.

A keyed hash gives one patient the same key in every file and table, so that they join, while nobody without the salt
can tell whose it is, nor try all identifiers. A catalogue holds keys of one kind only: of plain identifiers, or of one
salt, which it recognizes by the hash of a constant.
"""

from __future__ import annotations

import os
import sqlite3
from hashlib import blake2b
from pathlib import Path

from xray_harmonize.exceptions import CatalogError, InvalidParameterError

_FEWEST_BYTES = 16
_MOST_BYTES = 2**20
_KEY_BYTES = 16
_SETTING = "patients"
_PLAIN = "plain"


def read_salt(path: str | os.PathLike[str]) -> bytes:
    r"""Read the secret that patient identifiers are hashed with.

    Parameters
    ----------
    path : path-like
        A file of at least 16 bytes, such as ``head -c 32 /dev/urandom > salt`` makes. White space at its end does not
        count, as editors add it.

    Returns
    -------
    bytes

    Raises
    ------
    InvalidParameterError
        The file cannot be read, or is too short to keep a secret, or too large to be one.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as stream:
            salt = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidParameterError(
            f"{name}: the file with the salt cannot be read ({error.strerror or error}); check the path."
        ) from error
    stripped = salt.rstrip()
    if not _FEWEST_BYTES <= len(stripped) <= _MOST_BYTES:
        raise InvalidParameterError(
            f"{name}: a salt has {_FEWEST_BYTES} to {_MOST_BYTES} bytes, got "
            f"{len(stripped) if len(salt) <= _MOST_BYTES else 'more'}; make one with `head -c 32 /dev/urandom`."
        )
    return stripped


def patient_key(patient_id: str, salt: bytes | None) -> str:
    """Give the key that stands for a patient in a catalogue.

    Parameters
    ----------
    patient_id : str
        As in the file; white space around it does not count (DICOM pads with it).
    salt : bytes or None
        As :func:`read_salt` gives; None leaves the identifier as it is.

    Returns
    -------
    str
        The identifier, or 32 hexadecimal digits.

    Examples
    --------
    >>> patient_key("10000032 ", None)
    '10000032'
    >>> patient_key("10000032 ", b"a secret of many bytes") == patient_key("10000032", b"a secret of many bytes")
    True
    >>> patient_key("10000032", b"a secret of many bytes") == patient_key("10000032", b"another secret")
    False
    """
    identifier = patient_id.strip()
    if salt is None:
        return identifier
    # BLAKE2b takes keys of up to 64 bytes; a longer secret is made one of 64.
    key = salt if len(salt) <= blake2b.MAX_KEY_SIZE else blake2b(salt).digest()
    return blake2b(identifier.encode("utf-8", "surrogatepass"), key=key, digest_size=_KEY_BYTES).hexdigest()


def check_salt(connection: sqlite3.Connection, salt: bytes | None, name: str) -> None:
    """Hold a catalogue to one kind of patient keys: the first to write patients settles it.

    Parameters
    ----------
    connection : sqlite3.Connection
        Open for writing, inside a transaction.
    salt : bytes or None
        What is about to be used.
    name : str
        What errors call the catalogue.

    Raises
    ------
    CatalogError
        The catalogue holds keys of another kind.
    """
    wanted = _PLAIN if salt is None else f"hashed {patient_key('which salt', salt)}"
    connection.execute("INSERT OR IGNORE INTO setting (name, value) VALUES (?, ?)", (_SETTING, wanted))
    (held,) = connection.execute("SELECT value FROM setting WHERE name = ?", (_SETTING,)).fetchone()
    if held == wanted:
        return
    if held == _PLAIN:
        problem = "its patient identifiers are not hashed; leave the salt out"
    elif salt is None:
        problem = "its patient identifiers are hashed; give the salt that they were hashed with"
    else:
        problem = "its patient identifiers are hashed with another salt; give that one"
    raise CatalogError(f"{name}: {problem}, or index into a new file. Otherwise one patient would count as two.")
