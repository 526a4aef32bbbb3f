"""A few files for a server to give out, and what is asked of a mirror of them."""

from __future__ import annotations

import hashlib
from base64 import b64encode

from flaky_server import PASSWORD, USER

from xray_harmonize.download.credentials import Credentials
from xray_harmonize.download.mirror import mirror

BIG = "files/p10/s1/big.dcm"
SMALL = "files/p10/s1/small one #1.dcm"
OTHER = "files/p11/s2/other.dcm"
FILES = {
    "LICENSE.txt": b"terms",
    "empty": b"",
    BIG: hashlib.shake_128(b"big").digest(700_000),
    SMALL: hashlib.shake_128(b"small").digest(3000),
    OTHER: hashlib.shake_128(b"other").digest(3000),
    "list.csv.gz": b"\x1f\x8b" + b"x" * 50,
}
ENCODED = b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def mirror_of(server, out):
    """Give a function that mirrors a server into a folder; faults come fast."""

    def bring(**settings):
        settings = {"credentials": Credentials(USER, PASSWORD), "pause": 0.001, "timeout": 10, "n_jobs": 2} | settings
        return mirror(server.base, out, allow_http=True, **settings)

    return bring


def contents(folder):
    """Every file below a folder that is not the mirror's own."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".xray-harmonize") and path.name != "SHA256SUMS.txt"
    }


def reason(summary):
    """Why the one file that failed did."""
    (failure,) = summary.failures
    return failure.reason
