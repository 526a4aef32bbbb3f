"""Requests to one server, over one connection that is kept, and what their answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from types import TracebackType
from urllib.parse import urljoin

import requests
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from xray_harmonize.download.address import origin
from xray_harmonize.download.credentials import Credentials, OriginAuth

MAX_REDIRECTS = 5
MAX_WAIT_SECONDS = 900.0
"""A server that asks for more is taken to be closed for now."""

_CONNECT_SECONDS = 15.0
_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class Status(StrEnum):
    """How an attempt, or a file, ended."""

    fetched = "fetched"
    kept = "kept"
    again = "again"
    failed = "failed"
    unreachable = "unreachable"
    denied = "denied"
    disk_full = "disk full"
    stopped = "stopped"


@dataclass(frozen=True)
class Ending:
    """How an attempt, or a file, ended, and why; a value and no exception, so that no traceback holds a request."""

    status: Status
    reason: str = ""
    wait: float | None = None
    """Seconds that the server asks to wait before the next attempt."""
    is_discarded: bool = False
    """Whether the bytes that had come were of no use."""


class Connection:
    """Asks one server for files, and sends it credentials, which no other host gets.

    Parameters
    ----------
    base : str
        Address of the collection; its host gets the credentials.
    credentials : Credentials, optional
    allow_http : bool
        Whether redirects to addresses without encryption are followed.
    timeout : float
        Seconds without a byte after which the connection counts as broken.
    """

    def __init__(self, base: str, credentials: Credentials | None, *, allow_http: bool, timeout: float) -> None:
        from xray_harmonize import __version__

        self._auth = OriginAuth(base, credentials)
        self._allow_http = allow_http
        self._timeout = (min(_CONNECT_SECONDS, timeout), timeout)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"xray_harmonize/{__version__}"
        # The bytes as they are stored: of others the checksum says nothing, and no range can be asked for.
        self._session.headers["Accept-Encoding"] = "identity"
        self._retry = Retry()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.close()

    def ask(self, url: str, headers: Mapping[str, str], *, method: str = "GET") -> requests.Response | Ending:
        """Send a request, follow redirects, and give the answer with its body unread, or why there is none.

        Parameters
        ----------
        url : str
        headers : mapping
        method : {"GET", "HEAD"}

        Returns
        -------
        Response or Ending
            A response of any status that is no redirect; the caller closes it.
        """
        for _ in range(MAX_REDIRECTS + 1):
            fault = None
            try:
                # requests would follow redirects by itself, and look into ~/.netrc for hosts that it is sent to.
                response = self._session.request(
                    method,
                    url,
                    headers=dict(headers),
                    auth=self._auth,
                    timeout=self._timeout,
                    stream=True,
                    allow_redirects=False,
                )
            except (requests.RequestException, HTTPError, ValueError) as error:
                fault = self.broken(error)
            if fault is not None:
                return fault
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                return response
            response.close()
            followed = self._redirected(url, location)
            if isinstance(followed, Ending):
                return followed
            url = followed
        return Ending(Status.failed, f"the server redirects more than {MAX_REDIRECTS} times")

    def _redirected(self, url: str, location: str) -> str | Ending:
        """Check where a redirect leads; neither reason repeats the address, which may be signed."""
        try:
            target = urljoin(url, location)
        except ValueError:
            target = ""
        reached = origin(target)
        if reached is None or "@" in target.split("/")[2]:
            return Ending(Status.failed, "the server redirects to what is no address")
        if reached[0] == "http" and not self._allow_http:
            return Ending(Status.failed, "the server redirects to an address that is not encrypted")
        return target

    def broken(self, error: BaseException) -> Ending:
        """Say in own words what went wrong on the way; texts of libraries could quote headers and addresses."""
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Ending(Status.failed, "the certificate of the server is not valid")
        if isinstance(error, requests.exceptions.ProxyError):
            reason = "the proxy does not let the connection through"
        elif isinstance(error, requests.exceptions.ConnectTimeout):
            reason = f"no connection within {self._timeout[0]:g} s"
        elif isinstance(error, requests.exceptions.Timeout | ReadTimeoutError):
            reason = f"no answer within {self._timeout[1]:g} s"
        elif isinstance(error, ValueError):
            return Ending(Status.failed, "its address, or one that the server redirects to, is not valid")
        else:
            reason = "the connection broke, or there was none"
        return Ending(Status.again, reason)

    def refusal(self, response: requests.Response) -> Ending:
        """Say what an answer means that brings no file."""
        code = response.status_code
        if code == 401:
            return Ending(Status.denied, "the server does not accept the user name and password (401)")
        wait = self._wait_of(response)
        if code not in _PASSING:
            return Ending(Status.failed, f"the server answers {_named(code)}")
        if wait is not None and wait > MAX_WAIT_SECONDS:
            return Ending(
                Status.unreachable, f"the server answers {_named(code)} and asks to come back in {wait / 60:.0f} min"
            )
        return Ending(Status.again, f"the server answers {_named(code)}", wait=wait)

    def _wait_of(self, response: requests.Response) -> float | None:
        value = response.headers.get("Retry-After")
        if value is None:
            return None
        try:
            return self._retry.parse_retry_after(value[:64])
        except (InvalidHeader, ValueError, OverflowError):
            return None


def _named(code: int) -> str:
    """Give the name that the standard has for a status; the server's own words are not repeated."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)
