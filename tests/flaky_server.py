"""A server of a small collection, on this machine, that does on request what servers do wrong."""

from __future__ import annotations

import hashlib
import threading
from base64 import b64encode
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

USER = "reader"
PASSWORD = "open sésame: 100%/+"


@dataclass
class Fault:
    """What goes wrong with one request; the fields say what, the rest of the answer is as it should be."""

    drop_at: int | None = None  # bytes after which the connection breaks
    status: int | None = None
    retry_after: str | None = None
    location: str | None = None
    corrupt: bool = False  # one bit of another value
    body: bytes | None = None  # something else, of another length
    ignore_range: bool = False
    content_range: str | None = None
    no_length: bool = False
    stall: bool = False  # silent until the server ends
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What was asked for."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self):
        return self.headers.get("Range")


class FlakyServer(ThreadingHTTPServer):
    """Files below /chest/, SHA256SUMS.txt among them, for those who know user name and password."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, files, *, address="127.0.0.1"):
        super().__init__((address, 0), _Handler)
        self.address = address
        self.files = dict(files)
        self.faults = defaultdict(list)  # of every path, one a request, first come first served
        self.always = {}  # of a path, for every request
        self.requests = []
        self.listed = None  # bytes of the list, where it is not to be made from the files
        self.needs_login = True
        self.has_etags = True
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.n_open = self.most_open = 0

    @property
    def base(self):
        return f"http://{self.address}:{self.server_port}/chest/"

    def list_bytes(self):
        if self.listed is not None:
            return self.listed
        rows = [f"{hashlib.sha256(data).hexdigest()} {path}\n" for path, data in self.files.items()]
        return "".join(rows).encode()

    def fault(self, path, *faults):
        self.faults[path] += faults

    def of(self, path, method="GET"):
        """Requests for a path, in their order."""
        return [request for request in self.requests if request.path == path and request.method == method]

    def handle_error(self, request, client_address):
        """Connections that a client breaks off are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a small file takes 40 ms
    server: FlakyServer

    def log_message(self, *args):
        """Say nothing."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        with self.server.lock:
            self.server.n_open += 1
            self.server.most_open = max(self.server.most_open, self.server.n_open)
        try:
            self.answer(with_body=True)
        finally:
            with self.server.lock:
                self.server.n_open -= 1

    def answer(self, *, with_body):
        server = self.server
        path = unquote(self.path).removeprefix("/chest/")
        with server.lock:
            server.requests.append(Request(self.command, path, dict(self.headers)))
            queue = server.faults[path]
            fault = queue.pop(0) if queue else server.always.get(path, Fault())
        if server.needs_login and not self.is_welcome():
            self.refuse(401, {"WWW-Authenticate": 'Basic realm="collection"'})
            return
        if fault.stall:
            server.ended.wait(20)
            self.close_connection = True
            return
        if fault.status is not None:
            headers = {"Retry-After": fault.retry_after, "Location": fault.location}
            self.refuse(fault.status, {name: value for name, value in headers.items() if value is not None})
            return
        data = server.list_bytes() if path == "SHA256SUMS.txt" else server.files.get(path)
        if data is None:
            self.refuse(404, {})
            return
        self.send(data, fault, with_body)

    def is_welcome(self):
        expected = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == expected

    def refuse(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, data, fault, with_body):
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if self.server.has_etags and self.headers.get("If-None-Match") == etag:
            self.refuse(304, {})
            return
        if fault.body is not None:
            data = fault.body
        if fault.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = self.start(etag) if not fault.ignore_range else 0
        if start is not None and start > 0 and start >= len(data):
            self.refuse(416, {"Content-Range": f"bytes */{len(data)}"})
            return
        body = data[start:] if start else data
        self.send_response(206 if start else 200)
        if start:
            whole = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send_header("Content-Range", fault.content_range or whole)
        if not fault.no_length:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        if self.server.has_etags and "ETag" not in fault.headers:
            self.send_header("ETag", etag)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            return
        if fault.drop_at is not None:
            self.wfile.write(body[: fault.drop_at])
            self.close_connection = True
            return
        self.wfile.write(body)
        if fault.no_length:
            self.close_connection = True

    def start(self, etag):
        asked = self.headers.get("Range")
        if asked is None:
            return None
        condition = self.headers.get("If-Range")
        if condition is not None and condition != etag:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))


@contextmanager
def serving(files, **settings):
    """Run a server for a while."""
    server = FlakyServer(files, **settings)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
