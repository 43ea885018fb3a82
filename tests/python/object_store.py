"""A real S3-compatible server (moto's), behind a door that can be told to fail."""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.server import ThreadedMotoServer

Fault = Callable[["Door"], bool]
"""Answers a request in the server's place, if it wants to."""


class Store:
    """One server, with as many buckets as are made."""

    def __init__(self) -> None:
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        self.host, self.port = self._moto.get_host_and_port()
        self.requests: list[tuple[str, str]] = []
        """Method and path of each that came in by the door."""
        self.fault: Fault | None = None
        store = self

        class Handler(Door):
            def answer(self) -> None:
                store.requests.append((self.command, self.path))
                if store.fault is None or not store.fault(self):
                    self.forward(store.host, store.port)

        self._door = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._door.daemon_threads = True
        threading.Thread(target=self._door.serve_forever, daemon=True).start()
        self.settings = {
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._door.server_address[1]}",
        }

    def close(self) -> None:
        self._door.shutdown()
        self._door.server_close()
        self._moto.stop()

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Asks the server itself, past the door."""
        conn = http.client.HTTPConnection(self.host, self.port, timeout=30)
        with contextlib.closing(conn):
            signed = "AWS4-HMAC-SHA256 Credential=someone/20260101/us-east-1/s3/aws4_request"
            conn.request(method, urllib.parse.quote(path), body, {"Authorization": signed})
            said = conn.getresponse()
            answer = said.read()
            assert said.status < 300, (method, path, said.status, answer)
            return answer

    def bucket(self, name: str) -> str:
        self.ask("PUT", f"/{name}")
        return name

    def put(self, path: str, content: bytes) -> None:
        self.ask("PUT", f"/{path}", content)

    def get(self, path: str) -> bytes:
        return self.ask("GET", f"/{path}")

    def keys(self, bucket: str) -> list[str]:
        import re

        listed = self.ask("GET", f"/{bucket}").decode()
        return sorted(re.findall("<Key>([^<]*)</Key>", listed))

    def uploads(self, bucket: str) -> int:
        """Uploads that were begun and have neither ended nor been given up."""
        conn = http.client.HTTPConnection(self.host, self.port, timeout=30)
        with contextlib.closing(conn):
            conn.request("GET", f"/{bucket}?uploads")
            return conn.getresponse().read().count(b"<Upload>")

    def count(self, method: str, ending: str) -> int:
        """Requests so far for what ends like this."""
        paths = (path.partition("?")[0] for way, path in self.requests if way == method)
        return sum(path.endswith(ending) for path in paths)


class Door(BaseHTTPRequestHandler):
    """Passes requests on."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def forward(self, host: str, port: int, most: int | None = None) -> None:
        """The server's answer, or so many bytes of its body and an end."""
        conn = http.client.HTTPConnection(host, port, timeout=60)
        with contextlib.closing(conn):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            conn.request(self.command, self.path, body or None, dict(self.headers.items()))
            said = conn.getresponse()
            content = said.read()
            self.send_response(said.status)
            for name, value in said.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = said.getheader("Content-Length") or str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content if most is None else content[:most])
            if most is not None:
                self.close_connection = True

    def refuse(self, status: int, code: str) -> None:
        """An answer of its own."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        text = f"<Error><Code>{code}</Code><Message>as the test says</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)


@contextlib.contextmanager
def running() -> Iterator[Store]:
    store = Store()
    try:
        yield store
    finally:
        store.close()
