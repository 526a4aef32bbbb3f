"""A user name and a password that shows itself nowhere, and the one host that they are sent to."""

from __future__ import annotations

import netrc
import os
import stat
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from requests import PreparedRequest
from requests.auth import AuthBase

from xray_harmonize.download.address import origin
from xray_harmonize.exceptions import InvalidParameterError

PASSWORD_VARIABLE = "XRAY_HARMONIZE_PASSWORD"
"""Environment variable that the password is taken from."""

Ask = Callable[[str, bool], str]
"""Asks a question, and gives the answer; the second argument tells whether the answer is hidden."""

_MOST_CHARACTERS = 1024


class Credentials:
    """A user name and a password.

    The password is not shown when the object is printed, and cannot be pickled. It is never part of a message.

    Parameters
    ----------
    user : str
    password : str

    Raises
    ------
    InvalidParameterError
        One of them is empty, too long or holds control characters, or the user name holds a colon.

    Examples
    --------
    >>> Credentials("reader", "open sesame")
    Credentials(user='reader', password=hidden)
    """

    __slots__ = ("_password", "user")

    def __init__(self, user: str, password: str) -> None:
        for name, value in (("user name", user), ("password", password)):
            if not value or len(value) > _MOST_CHARACTERS or any(ord(character) < 32 for character in value):
                raise InvalidParameterError(
                    f"The {name} is empty, longer than {_MOST_CHARACTERS} characters, or holds control characters. "
                    "Give it as it was registered."
                )
        if ":" in user:
            raise InvalidParameterError("The user name holds a colon, which HTTP does not allow. Give it without.")
        self.user = user
        self._password = password

    def __repr__(self) -> str:
        return f"Credentials(user={self.user!r}, password=hidden)"

    def __reduce__(self) -> NoReturn:
        raise InvalidParameterError("Credentials cannot be pickled or copied: the password would be written down.")

    @property
    def header(self) -> str:
        """What HTTP's basic authentication sends (RFC 7617, in UTF-8)."""
        return "Basic " + b64encode(f"{self.user}:{self._password}".encode()).decode("ascii")


class OriginAuth(AuthBase):
    """Adds credentials to requests to one scheme, host and port, and takes them off all others.

    Given to every request, also without credentials: else ``requests`` would look for some in ``~/.netrc`` for any host
    that a server redirects to.

    Parameters
    ----------
    base : str
        Address whose host the credentials belong to.
    credentials : Credentials, optional
    """

    def __init__(self, base: str, credentials: Credentials | None) -> None:
        self._origin = origin(base)
        self._credentials = credentials

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Add the header to a request, or take it off."""
        if self._credentials is not None and self._origin is not None and origin(r.url or "") == self._origin:
            r.headers["Authorization"] = self._credentials.header
        else:
            r.headers.pop("Authorization", None)
        return r


def find_credentials(
    base: str, user: str | None = None, *, ask: Ask | None = None, environ: Mapping[str, str] | None = None
) -> Credentials:
    """Find the user name and password for a host.

    The password comes from the environment variable XRAY_HARMONIZE_PASSWORD, else from the entry of exactly this host
    in ``~/.netrc`` (or the file that NETRC names; a ``default`` entry is not used), else the user is asked. The user
    name is the one given, else that of ``~/.netrc``, else it is asked for.

    Parameters
    ----------
    base : str
        Address, as :func:`~xray_harmonize.download.address.base_address` gives.
    user : str, optional
    ask : callable, optional
        Asks the user; without it nobody is asked.
    environ : mapping, optional
        Environment variables; those of the process by default.

    Returns
    -------
    Credentials

    Raises
    ------
    InvalidParameterError
        There is no user name or password, or the netrc file cannot be read, is damaged, or is open to others.

    Examples
    --------
    >>> environ = {"XRAY_HARMONIZE_PASSWORD": "open sesame", "NETRC": "/dev/null"}
    >>> find_credentials("https://archive.example/", "reader", environ=environ)
    Credentials(user='reader', password=hidden)
    """
    environ = os.environ if environ is None else environ
    found = origin(base)
    host = found[1] if found else ""
    login, password = _netrc_entry(host, environ) or (None, None)
    if user is None:
        user = login
    elif login != user:
        password = None
    if user is None:
        if ask is None:
            raise InvalidParameterError(f"No user name for {host}. Give it with --user, or in ~/.netrc.")
        user = ask(f"User name at {host}", False)
    password = environ.get(PASSWORD_VARIABLE) or password
    if password is None:
        if ask is None:
            raise InvalidParameterError(
                f"No password of {user} at {host}. Put it into the environment variable {PASSWORD_VARIABLE} or into "
                "~/.netrc, or run the command in a terminal, where it is asked for. No option takes it."
            )
        password = ask(f"Password of {user} at {host}", True)
    return Credentials(user, password)


def _netrc_entry(host: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Find login and password of a host; a message never repeats what the file holds, as the parser's own do."""
    named = environ.get("NETRC")
    path = Path(named) if named else Path(environ.get("HOME") or Path.home()) / ".netrc"
    line = None
    try:
        mode = path.stat().st_mode
        entries = netrc.netrc(path).hosts
    except FileNotFoundError:
        if named:
            raise InvalidParameterError(f"NETRC names {path}, which is not there. Correct it, or unset it.") from None
        return None
    except OSError as error:
        raise InvalidParameterError(f"{path} cannot be read: {error.strerror}. Correct its permissions.") from None
    except netrc.NetrcParseError as error:
        entries, line = {}, error.lineno or 0
    except UnicodeDecodeError:
        entries, line = {}, 0
    # Raised out here, so that the parser's error, which may quote a password, is not in the chain.
    if line is not None:
        raise InvalidParameterError(f"{path} is no netrc file, or damaged in line {line or '?'}. Correct it.")
    login, _, password = entries.get(host, ("", "", ""))
    if not login or not password:
        return None
    if os.name == "posix" and stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidParameterError(f"{path} holds a password, and others may read it. Close it with chmod 600 {path}.")
    return login, password
