"""Functions and methods called over HTTP, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgpack
import pytest
import rhd as rh
from conftest import Node, hosted, until

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


@pytest.fixture
def url(mesh: tuple[Node, Node]) -> str:
    """Where the node answers whose client this process is."""
    return str(hosted(mesh[0])["web"])


@pytest.fixture
def post(url: str) -> Callable[..., Answer]:
    """Posts JSON to a path."""
    return lambda path, body=None, **headers: ask(url, "POST", path, body, headers)


@pytest.fixture
def get(url: str) -> Callable[..., Answer]:
    """Gets a path."""
    return lambda path, **headers: ask(url, "GET", path, None, headers)


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
    return [value * factor for value in values]


def test_a_function_is_called_with_json(where: str, post: Any, get: Any) -> None:
    with named(scale, "scale-" + where, where) as remote:
        path = "/scale-" + where
        answer = post(path, {"values": [1, 2], "factor": 3})
        assert (answer.status, answer.json) == (200, [3, 6])
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.headers["x-rhd-call"]) == 26
        assert post(path, [[1, 2]]).json == [2.0, 4.0]
        assert post(path, {"args": [[1]], "kwargs": {"factor": 5}}).json == [5]
        assert post(remote.name, [[1]]).json == [2.0], "the full name"
        assert get(path + "?values=[1]&factor=4").json == [4]
