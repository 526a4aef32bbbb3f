"""``xray-harmonize download``: a copy of a collection, its password, and what a script learns of the outcome."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest
from flaky_server import PASSWORD, USER, Fault, serving

from xray_harmonize.cli import main

BIG = "files/p10/big.dcm"
FILES = {"LICENSE.txt": b"terms", BIG: hashlib.shake_128(b"big").digest(500_000), "list.csv.gz": b"x" * 1500}
COMMAND = [sys.executable, "-m", "xray_harmonize.cli.main", "download"]


@pytest.fixture
def server():
    with serving(FILES) as running:
        yield running


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("XRAY_HARMONIZE_PASSWORD", PASSWORD)
    monkeypatch.setattr("xray_harmonize.download.transfer._LONGEST_PAUSE_SECONDS", 0.001)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["xray-harmonize", "download", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main.run()
    return ending.value.code or 0


def download(monkeypatch, server, out, *further):
    return run(monkeypatch, server.base, "--allow-http", "--user", USER, "--out", out, *further)


def refused(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("error: ")
    assert PASSWORD not in line
    return line


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_all_verified_is_status_0_and_a_second_run_keeps_all(monkeypatch, server, tmp_path, capsys):
    out = tmp_path / "out"
    assert download(monkeypatch, server, out) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == f"{out}: 3 of 3 files verified, 3 of them fetched now (502 kB)."
    assert {path: (out / path).read_bytes() for path in FILES} == FILES
    assert download(monkeypatch, server, out, "--verify") == 0
    assert "3 of 3 files verified, 0 of them fetched now (0 B)" in capsys.readouterr().out


def test_some_failed_is_status_1_and_each_is_listed_with_its_reason(monkeypatch, server, tmp_path, capsys):
    server.always[BIG] = Fault(corrupt=True)
    server.listed = server.list_bytes() + b"0" * 64 + b" ../[red]evil\n"
    assert download(monkeypatch, server, tmp_path / "out", "--attempts", 2) == 1
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert lines[0] == "failed ../[red]evil: the path leaves its folder"
    assert lines[1].startswith(f"failed {BIG}: 500000 bytes came with the SHA-256 ")
    assert lines[2] == "2 files are not there. Run it again to go on."
    assert "2 of 4 files verified" in printed.out


def test_a_run_that_ends_early_is_status_1_and_says_why(monkeypatch, server, tmp_path, capsys):
    server.always[BIG] = Fault(status=401)
    assert download(monkeypatch, server, tmp_path / "out", "--jobs", 1) == 1
    assert "error: the server does not accept the user name and password (401). Check" in capsys.readouterr().err


def test_wrong_credentials_are_status_2(monkeypatch, server, tmp_path, capsys):
    monkeypatch.setenv("XRAY_HARMONIZE_PASSWORD", "wrong")
    assert download(monkeypatch, server, tmp_path / "out") == 2
    assert "(401). Check the user name and password, and that the data use agreement" in refused(capsys)


def test_a_part_of_the_collection_is_chosen(monkeypatch, server, tmp_path, capsys):
    out = tmp_path / "out"
    assert download(monkeypatch, server, out, "--only", "*.csv.gz", "--only", "LIC*") == 0
    assert "2 of 2 files verified" in capsys.readouterr().out
    assert not (out / "files").exists()
    assert download(monkeypatch, server, out, "--only", "p99/*") == 2
    assert "No file of the collection matches 'p99/*'" in refused(capsys)


def test_a_dry_run_tells_files_and_bytes_and_writes_nothing(monkeypatch, server, tmp_path, capsys):
    out = tmp_path / "out"
    assert download(monkeypatch, server, out, "--dry-run") == 0
    first, second = capsys.readouterr().out.strip().splitlines()
    assert first == f"{server.base}: 3 files, 0 of them in {out}, 3 to fetch."
    assert second == "They have 502 kB."
    assert not out.exists()
    server.always["LICENSE.txt"] = Fault(status=404)
    server.listed = server.list_bytes() + b"0" * 64 + b" ../evil\n"
    assert download(monkeypatch, server, out, "--dry-run") == 0
    printed = capsys.readouterr()
    assert "They have about 752 kB, by the size of 2 of them." in printed.out
    assert printed.err.strip() == "refused ../evil: the path leaves its folder"
    server.always |= {path: Fault(no_length=True) for path in FILES}
    assert download(monkeypatch, server, out, "--dry-run") == 0
    assert "The server does not say how many bytes they have." in capsys.readouterr().out


def test_user_and_password_come_from_netrc(monkeypatch, server, tmp_path, capsys):
    monkeypatch.delenv("XRAY_HARMONIZE_PASSWORD")
    (tmp_path / "home").mkdir()
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text(f'machine 127.0.0.1 login {USER} password "{PASSWORD}"\n')
    netrc.chmod(0o600)
    assert run(monkeypatch, server.base, "--allow-http", "--out", tmp_path / "out") == 0
    assert "3 of 3 files verified" in capsys.readouterr().out


def test_without_a_terminal_nothing_is_asked(monkeypatch, server, tmp_path, capsys):
    monkeypatch.delenv("XRAY_HARMONIZE_PASSWORD")
    assert download(monkeypatch, server, tmp_path / "out") == 2
    assert f"No password of {USER} at 127.0.0.1. Put it into the environment variable" in refused(capsys)
    assert run(monkeypatch, server.base, "--allow-http", "--out", tmp_path / "out") == 2
    assert "No user name for 127.0.0.1. Give it with --user" in refused(capsys)


def test_a_collection_open_to_all_needs_no_login(monkeypatch, server, tmp_path, capsys):
    server.needs_login = False
    assert run(monkeypatch, server.base, "--allow-http", "--anonymous", "--out", tmp_path / "out") == 0
    assert not [request for request in server.requests if "Authorization" in request.headers]
    capsys.readouterr()
    assert download(monkeypatch, server, tmp_path / "out", "--anonymous") == 2
    assert "--anonymous sends no user name, and --user gives one" in refused(capsys)


def test_an_address_with_a_password_is_refused_and_not_repeated(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "https://reader:sesame@a.example/", "--out", tmp_path) == 2
    line = refused(capsys)
    assert "holds an @" in line
    assert "sesame" not in line


def test_an_address_without_encryption_or_folder_is_refused(monkeypatch, server, tmp_path, capsys):
    assert run(monkeypatch, server.base, "--user", USER, "--out", tmp_path) == 2
    assert "allow it with allow_http (--allow-http)" in refused(capsys)
    assert run(monkeypatch, server.base, "--allow-http", "--user", USER) == 2
    assert "An address has no name to call a folder by. Give one with --out." in refused(capsys)
    assert run(monkeypatch, "mimic") == 2
    assert "There is no collection 'mimic'; known are mimic-cxr, mimic-cxr-jpg, mimic-iv" in refused(capsys)


def test_a_known_collection_goes_into_a_folder_of_its_name(monkeypatch, server, tmp_path, capsys):
    from xray_harmonize.download import address

    known = address.Collection(server.base, "a test")
    monkeypatch.setitem(address.COLLECTIONS, "mimic-cxr", known)
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "mimic-cxr", "--allow-http", "--user", USER) == 0
    assert (tmp_path / "mimic-cxr" / BIG).read_bytes() == FILES[BIG]


@pytest.mark.parametrize("option", ["--password", "--passwd", "--pass", "-p"])
def test_no_option_takes_a_password(monkeypatch, option, capsys):
    assert run(monkeypatch, "mimic-cxr", "--user", USER, option, "x") == 2
    assert "No such option" in capsys.readouterr().err


def test_the_help_names_credentials_agreement_and_ways_of_the_password(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "needs credentials of PhysioNet and the data use agreement of the collection, signed there" in words
    assert "XRAY_HARMONIZE_PASSWORD" in words
    assert "No option takes it" in words


def test_ctrl_c_is_status_130_and_the_next_run_goes_on(monkeypatch, server, tmp_path, capsys):
    server.fault(BIG, Fault(drop_at=200_000), Fault(stall=True))
    out = tmp_path / "out"
    command = [*COMMAND, server.base, "--allow-http", "--user", USER, "--out", str(out), "--jobs", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(server.of(BIG)) == 2)
    process.send_signal(signal.SIGINT)
    printed = "".join(process.communicate(timeout=30))
    assert process.returncode == 130
    assert "Interrupted. What is finished is kept: run the same command again to go on." in printed
    assert "Traceback" not in printed
    assert PASSWORD not in printed
    assert (out / "files/p10/.big.dcm.part").read_bytes() == FILES[BIG][:200_000]
    assert download(monkeypatch, server, out) == 0
    assert server.of(BIG)[-1].range == "bytes=200000-"
    assert (out / BIG).read_bytes() == FILES[BIG]


def test_a_run_that_is_killed_leaves_no_half_file_and_the_next_goes_on(monkeypatch, server, tmp_path, capsys):
    server.fault(BIG, Fault(drop_at=200_000), Fault(stall=True))
    out = tmp_path / "out"
    command = [*COMMAND, server.base, "--allow-http", "--user", USER, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(server.of(BIG)) == 2 and server.of("list.csv.gz"))
    process.kill()
    process.wait(30)
    assert not (out / BIG).exists()
    assert download(monkeypatch, server, out) == 0
    assert {path: (out / path).read_bytes() for path in FILES} == FILES


def test_a_password_that_is_typed_is_not_shown(monkeypatch, server, tmp_path):
    monkeypatch.delenv("XRAY_HARMONIZE_PASSWORD")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, server.base, "--allow-http", "--out", str(tmp_path / "out")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown = b""

    def read_until(words):
        nonlocal shown
        while words not in shown:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # what Linux says when the other side has closed
                piece = b""
            assert piece, shown
            shown += piece

    read_until(b"User name at 127.0.0.1: ")
    os.write(ours, USER.encode() + b"\n")
    read_until(f"Password of {USER} at 127.0.0.1: ".encode())
    os.write(ours, PASSWORD.encode() + b"\n")
    read_until(b"3 of 3 files verified")
    process.wait(30)
    os.close(ours)
    assert process.returncode == 0
    assert PASSWORD.encode() not in shown
    assert "sésame".encode() not in shown
