"""Passwords: where they come from, and that they show nowhere."""

from __future__ import annotations

import copy
import pickle
import traceback
from base64 import b64encode

import pytest
import requests

from xray_harmonize.download.credentials import Credentials, OriginAuth, find_credentials
from xray_harmonize.exceptions import InvalidParameterError

BASE = "https://archive.example/chest/"
SECRET = "open sésame: 100%/+"


def prepared(auth, url):
    return requests.Request("GET", url, auth=auth).prepare()


@pytest.fixture
def netrc(tmp_path):
    """Write a netrc file that NETRC names, and give the environment."""

    def write(text, mode=0o600):
        path = tmp_path / "netrc"
        path.write_text(text)
        path.chmod(mode)
        return {"NETRC": str(path)}

    return write


NOTHING = {"HOME": "/nonexistent"}


def never(question, is_hidden):
    raise AssertionError(f"asked {question}")


def password_of(credentials):
    return prepared(OriginAuth(BASE, credentials), BASE).headers["Authorization"]


def header(user, password):
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def test_a_password_is_not_shown_and_not_written():
    credentials = Credentials("reader", SECRET)
    assert repr(credentials) == str(credentials) == "Credentials(user='reader', password=hidden)"
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(InvalidParameterError, match="cannot be pickled or copied"):
            write(credentials)
    with pytest.raises(TypeError):
        vars(credentials)
    assert SECRET not in repr(OriginAuth(BASE, credentials))


@pytest.mark.parametrize(
    ("user", "password", "message"),
    [
        ("", SECRET, "The user name is empty"),
        ("reader", "", "The password is empty"),
        ("reader", f"{SECRET}\r\nX: y", "The password is empty, longer .* or holds control characters"),
        ("reader", SECRET * 100, "The password is empty, longer than 1024 characters"),
        ("rea:der", SECRET, "The user name holds a colon"),
    ],
)
def test_what_http_cannot_send_is_refused_without_repeating_it(user, password, message):
    with pytest.raises(InvalidParameterError, match=message) as error:
        Credentials(user, password)
    assert "sésame" not in "".join(traceback.format_exception(error.value))


def test_credentials_go_to_their_own_origin_alone():
    auth = OriginAuth(BASE, Credentials("reader", SECRET))
    assert prepared(auth, "https://archive.example:443/other").headers["Authorization"] == header("reader", SECRET)
    for url in (
        "http://archive.example/chest/",
        "https://archive.example:8443/chest/",
        "https://archive.example.evil.example/",
        "https://www.archive.example/",
    ):
        assert "Authorization" not in prepared(auth, url).headers


def test_a_header_that_is_there_is_taken_off_for_other_hosts():
    request = requests.Request("GET", "https://other.example/", headers={"Authorization": "Basic x"})
    request.auth = OriginAuth(BASE, None)
    assert "Authorization" not in request.prepare().headers


def test_the_variable_comes_first_then_netrc_then_the_question(netrc):
    environ = netrc("machine archive.example login reader password from-netrc\n")
    found = find_credentials(BASE, ask=never, environ=environ | {"XRAY_HARMONIZE_PASSWORD": "from-variable"})
    assert password_of(found) == header("reader", "from-variable")
    assert password_of(find_credentials(BASE, ask=never, environ=environ)) == header("reader", "from-netrc")
    asked = []

    def ask(question, is_hidden):
        asked.append((question, is_hidden))
        return "typed" if is_hidden else "somebody"

    assert password_of(find_credentials(BASE, ask=ask, environ=NOTHING)) == header("somebody", "typed")
    assert asked == [("User name at archive.example", False), ("Password of somebody at archive.example", True)]


def test_the_environment_of_the_process_is_looked_at(monkeypatch, netrc):
    for name, value in (netrc("") | {"XRAY_HARMONIZE_PASSWORD": "from-variable"}).items():
        monkeypatch.setenv(name, value)
    assert password_of(find_credentials(BASE, "reader")) == header("reader", "from-variable")


def test_netrc_is_found_at_home(tmp_path):
    (tmp_path / ".netrc").write_text("machine archive.example login reader password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert find_credentials(BASE, environ={"HOME": str(tmp_path)}).user == "reader"


def test_the_password_of_another_user_or_host_is_not_used(netrc):
    environ = netrc("machine archive.example login reader password a\nmachine other.example login reader password b\n")
    with pytest.raises(InvalidParameterError, match=r"No password of writer at archive.example"):
        find_credentials(BASE, "writer", environ=environ)
    with pytest.raises(InvalidParameterError, match=r"No user name for third.example"):
        find_credentials("https://third.example/", environ=environ)


def test_a_default_entry_is_for_no_host_in_particular_and_not_used(netrc):
    with pytest.raises(InvalidParameterError, match=r"No user name for archive.example"):
        find_credentials(BASE, environ=netrc("default login reader password a\n"))


def test_without_anybody_to_ask_the_ways_are_named():
    with pytest.raises(InvalidParameterError, match=r"Give it with --user, or in ~/.netrc"):
        find_credentials(BASE, environ=NOTHING)
    with pytest.raises(InvalidParameterError, match=r"XRAY_HARMONIZE_PASSWORD or into ~/.netrc.* No option takes it"):
        find_credentials(BASE, "reader", environ=NOTHING)


def test_a_damaged_netrc_is_named_and_not_quoted(netrc):
    environ = netrc("machine archive.example login reader passwort sesame\n")
    with pytest.raises(InvalidParameterError, match="is no netrc file, or damaged in line 1") as error:
        find_credentials(BASE, environ=environ)
    assert "sesame" not in "".join(traceback.format_exception(error.value))
    assert error.value.__context__ is None


def test_a_netrc_of_another_encoding_is_named(tmp_path, monkeypatch):
    path = tmp_path / "netrc"
    path.write_bytes(b"machine archive.example login reader password \xff\xfe\n")
    monkeypatch.setattr("locale.getencoding", lambda: "utf-8")
    with pytest.raises(InvalidParameterError, match=r"is no netrc file|No user name") as error:
        find_credentials("https://other.example/", environ={"NETRC": str(path)})
    assert "\\xff" not in str(error.value)


def test_a_netrc_that_others_may_read_is_refused(netrc):
    environ = netrc("machine archive.example login reader password sesame\n", mode=0o644)
    with pytest.raises(InvalidParameterError, match=r"others may read it. Close it with chmod 600") as error:
        find_credentials(BASE, environ=environ)
    assert "sesame" not in str(error.value)


def test_a_missing_netrc_is_named_if_it_was_asked_for(tmp_path):
    with pytest.raises(InvalidParameterError, match=r"NETRC names .*, which is not there"):
        find_credentials(BASE, "reader", environ={"NETRC": str(tmp_path / "missing")})


def test_a_netrc_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidParameterError, match="cannot be read: "):
        find_credentials(BASE, "reader", environ={"NETRC": str(tmp_path)})
