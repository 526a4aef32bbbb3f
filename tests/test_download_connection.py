"""Credentials and redirects: no host gets a password that is not its own."""

from __future__ import annotations

import logging
import traceback

import pytest
import requests
from flaky_server import PASSWORD, USER, Fault, serving
from small_collection import BIG, ENCODED, FILES, OTHER, SMALL, mirror_of, reason

from xray_harmonize.download.connection import Connection
from xray_harmonize.download.credentials import Credentials
from xray_harmonize.exceptions import XRayHarmonizeError


@pytest.fixture
def server():
    with serving(FILES) as running:
        yield running


@pytest.fixture
def bring(server, tmp_path):
    return mirror_of(server, tmp_path / "out")


def test_redirects_within_the_server_keep_the_credentials(server, bring, tmp_path):
    server.fault(SMALL, Fault(status=302, location="/chest/" + OTHER))
    server.fault(OTHER, Fault(), Fault())
    server.files[SMALL] = server.files[OTHER]
    assert bring().is_complete


def test_another_host_gets_no_credentials_not_even_those_of_netrc(server, bring, tmp_path, monkeypatch):
    with serving(FILES, address="localhost") as store:
        store.needs_login = False
        (tmp_path / "netrc").write_text(f"machine localhost login other password {PASSWORD}\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        server.fault(BIG, Fault(status=302, location=f"{store.base}{BIG}"))
        assert bring().is_complete
        (request,) = store.requests
        assert "Authorization" not in request.headers
        assert "Authorization" in server.of(BIG)[0].headers


def test_another_port_is_another_host(server, bring):
    with serving(FILES) as store:
        server.fault(BIG, Fault(status=307, location=f"{store.base}{BIG}"))
        summary = bring()
        assert summary.stopped.startswith("the server does not accept the user name and password (401)")
        assert "Authorization" not in store.requests[0].headers


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("ftp://a.example/x", "the server redirects to what is no address"),
        ("file:///etc/passwd", "the server redirects to what is no address"),
        ("http://[::1/x", "its address, or one that the server redirects to, is not valid"),
        (f"http://{USER}:sesame@127.0.0.1/x", "the server redirects to what is no address"),
        ("/chest/" + BIG.replace(" ", "%20"), "the server redirects more than 5 times"),
    ],
)
def test_redirects_that_lead_nowhere_are_not_followed(server, bring, location, words):
    server.always[BIG] = Fault(status=302, location=location)
    assert reason(bring()) == words


def test_a_redirect_without_encryption_is_not_followed():
    with serving(FILES) as server, Connection(server.base, None, allow_http=False, timeout=5) as connection:
        server.needs_login = False
        server.fault(BIG, Fault(status=302, location=f"{server.base}{OTHER}"))
        assert connection.ask(server.base + BIG, {}).reason == (
            "the server redirects to an address that is not encrypted"
        )
        assert len(server.requests) == 1


@pytest.mark.parametrize("credentials", [None, Credentials(USER, "wrong"), Credentials("other", PASSWORD)])
def test_wrong_credentials_are_one_error(bring, credentials):
    with pytest.raises(XRayHarmonizeError, match=r"\(401\)\. Check the user name and password, .* agreement"):
        bring(credentials=credentials)


def test_the_password_is_in_no_log_no_message_no_traceback_and_no_file(server, bring, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    server.always[BIG] = Fault(corrupt=True)
    server.always[SMALL] = Fault(status=302, location="ftp://x/")
    server.always[OTHER] = Fault(stall=True)
    summary = bring(timeout=0.2, attempts=2)
    assert len(summary.failures) == 3
    texts = [repr(summary), caplog.text]
    server.fault("SHA256SUMS.txt", Fault(status=401))
    with pytest.raises(XRayHarmonizeError) as error:
        bring()
    texts.append("".join(traceback.format_exception(error.value)))
    # The frames of the mirror itself; those of the tests hold the password.
    ours = traceback.TracebackException.from_exception(error.value, capture_locals=True)
    texts += [
        str(frame.locals) for frame in ours.stack if "download" in frame.filename and "test" not in frame.filename
    ]
    assert len(texts) > 4
    secrets = [PASSWORD, ENCODED, "sésame", "s%C3%A9same"]
    assert not [secret for secret in secrets for text in texts if secret in text]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (
            requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"),
            "failed",
            "the certificate of the server is not valid",
        ),
        (requests.exceptions.SSLError("UNEXPECTED_EOF"), "again", "the connection broke, or there was none"),
        (requests.exceptions.ProxyError(PASSWORD), "again", "the proxy does not let the connection through"),
        (requests.exceptions.ConnectTimeout(PASSWORD), "again", "no connection within 15 s"),
        (requests.exceptions.ReadTimeout(PASSWORD), "again", "no answer within 60 s"),
        (ConnectionResetError(PASSWORD), "again", "the connection broke, or there was none"),
        (
            requests.exceptions.InvalidURL(PASSWORD),
            "failed",
            "its address, or one that the server redirects to, is not valid",
        ),
    ],
)
def test_faults_on_the_way_are_told_in_own_words(error, status, words):
    with Connection("https://archive.example/", None, allow_http=False, timeout=60) as connection:
        ending = connection.broken(error)
    assert (ending.status, ending.reason) == (status, words)
