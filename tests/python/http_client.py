"""A client of a node's HTTP endpoint, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import rhd as rh

JSON = {"Content-Type": "application/json"}


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request on a connection of its own."""
    conn = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    with contextlib.closing(conn):
        if not isinstance(body, (bytes, type(None))):
            body = json.dumps(body).encode()
        conn.request(method, path, body, {**(JSON if method == "POST" else {}), **(headers or {})})
        return Answer(conn.getresponse())


def sse(url: str, path: str, body: Any) -> Iterator[tuple[str, Any]]:
    """The events that answer a request."""
    conn = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    with contextlib.closing(conn):
        headers = {**JSON, "Accept": "text/event-stream"}
        conn.request("POST", path, json.dumps(body), headers)
        answer = conn.getresponse()
        assert answer.status == 200 and answer.headers["content-type"] == "text/event-stream"
        kind = ""
        for line in answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)


class Raw:
    """A connection for bytes that no library would send."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self.sock = socket.create_connection((where.hostname, where.port), timeout=60)

    def send(self, data: bytes) -> Raw:
        self.sock.sendall(data)
        return self

    def rest(self) -> bytes:
        """All that comes until the node closes."""
        out = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.sock.recv(65536):
                out += more
        return out


@contextlib.contextmanager
def named(fn: Any, name: str, where: str) -> Iterator[Any]:
    """A function or class on a node, under a name, for as long as a test takes."""
    make = rh.module if isinstance(fn, type) else rh.function
    remote = make(fn, name=name).to(where)
    try:
        yield remote
    finally:
        rh.daemon.daemon().request("remove", name=remote.name)


def scale(values: list[float], factor: float = 2.0) -> list[float]:
    """Multiplies."""
    return [value * factor for value in values]


class Tally:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, n: int = 1) -> int:
        """Adds."""
        self.count += n
        return self.count

    def upto(self, n: int) -> Any:
        for i in range(n):
            print("item", i, flush=True)
            yield i

    async def later(self, x: Any) -> Any:
        return x

    @property
    def total(self) -> int:
        return self.count
