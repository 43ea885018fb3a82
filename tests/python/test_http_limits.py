"""Requests that are slow, huge, malformed or too many, and nodes that leave in the middle."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import hosted, until
from http_client import Answer, Raw, ask, named, scale

HEAD = b"POST /scale HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def strict(fresh: Any) -> Iterator[str]:
    """A node with little patience and little room."""
    node = fresh(
        "strict",
        RHD_WEB_HEADER_TIMEOUT_MS="500",
        RHD_WEB_BODY_TIMEOUT_MS="500",
        RHD_WEB_MAX_BODY="100000",
        RHD_WEB_MAX_REQUESTS="2",
        RHD_WEB_MAX_CONNECTIONS="8",
    )
    with named(scale, "scale", "here"):
        yield str(hosted(node)["web"])
        # Whatever came, it still answers.
        until(
            lambda: ask(str(hosted(node)["web"]), "POST", "/scale", [[1]]).json == [2.0], "it works"
        )


def test_slow_heads_and_bodies_run_out_of_time(strict: str) -> None:
    slow = [Raw(strict).send(b""), Raw(strict).send(b"POST /sc"), Raw(strict).send(HEAD)]
    assert all(b" 200 " not in raw.rest() for raw in slow)
    body = Raw(strict).send(HEAD + b"Content-Length: 9\r\n\r\n[[")
    assert body.rest().startswith(b"HTTP/1.1 408 ")
    chunked = Raw(strict).send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[[\r\n")
    assert chunked.rest().startswith(b"HTTP/1.1 408 ")


def test_large_bodies_are_refused_unread(strict: str) -> None:
    claimed = Raw(strict).send(HEAD + b"Content-Length: 99999999999\r\n\r\n")
    assert claimed.rest().startswith(b"HTTP/1.1 413 ")
    chunk = b"%x\r\n%s\r\n" % (60_000, b" " * 60_000)
    grown = Raw(strict).send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    with contextlib.suppress(OSError):
        grown.send(chunk)
    assert grown.rest().startswith(b"HTTP/1.1 413 ")


def test_heads_that_are_no_heads_are_refused(strict: str) -> None:
    for bad in (
        b"\x00\xff\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"GET /scale HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /scale HTTP/1.1\r\nHost: localhost\r\n" + b"X: x\r\n" * 500 + b"\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n[]",
        HEAD + b"Content-Length: -1\r\n\r\n[]",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /scale HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/scale HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ):
        raw = Raw(strict)
        # It may hang up before it has heard all.
        with contextlib.suppress(OSError):
            raw.send(bad)
            raw.sock.shutdown(socket.SHUT_WR)
        answer = raw.rest()
        assert not answer or answer.startswith(b"HTTP/1.1 4"), answer


def test_more_requests_than_fit_are_refused_at_once(fresh: Any, tmp_path: Path) -> None:
    node = fresh("small", RHD_WEB_MAX_REQUESTS="2")
    url = hosted(node)["web"]

    def hold(path: str, name: str) -> str:
        import time
        from pathlib import Path

        Path(path, name).touch()
        while not Path(path, "go").exists():
            time.sleep(0.01)
        return name

    with named(hold, "hold", "here"):
        got: list[Any] = []

        def one(name: str) -> None:
            got.append(ask(url, "POST", "/hold", [str(tmp_path), name]).json)

        threads = [threading.Thread(target=one, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists(), "both run")
        answer = ask(url, "POST", "/hold", [str(tmp_path), "c"])
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        (tmp_path / "go").touch()
        for thread in threads:
            thread.join()
        assert sorted(got) == ["a", "b"] and not (tmp_path / "c").exists()


def test_a_full_queue_is_429(fresh: Any, tmp_path: Path) -> None:
    node = fresh("narrow", RHD_WORKERS_QUEUE="1", RHD_WORKERS_LANES="1")
    url = hosted(node)["web"]

    def hold(path: str) -> None:
        import time
        from pathlib import Path

        while not Path(path, "go").exists():
            time.sleep(0.01)

    with named(hold, "hold", "here"):
        got: list[int] = []

        def one() -> None:
            got.append(ask(url, "POST", "/hold", [str(tmp_path)]).status)

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: 429 in got, "one is refused")
        (tmp_path / "go").touch()
        for thread in threads:
            thread.join()
        assert set(got) == {200, 429}


def test_a_lost_peer_is_502(fresh: Any, tmp_path: Path) -> None:
    near, far = fresh("near"), fresh("far")

    def hold(path: str) -> None:
        import time
        from pathlib import Path

        Path(path, "began").touch()
        time.sleep(60)

    rh.function(hold, name="hold").to("far")
    got: list[Answer] = []
    url = hosted(near)["web"]
    thread = threading.Thread(target=lambda: got.append(ask(url, "POST", "/hold", [str(tmp_path)])))
    thread.start()
    until((tmp_path / "began").exists, "it runs")
    far.kill()
    thread.join()
    assert (got[0].status, got[0].json["kind"]) == (502, "peer_lost")


def test_a_node_that_ends_lets_requests_end(fresh: Any, tmp_path: Path) -> None:
    node = fresh("leaving")
    url = hosted(node)["web"]

    def hold(path: str) -> str:
        import time
        from pathlib import Path

        Path(path, "began").touch()
        while not Path(path, "go").exists():
            time.sleep(0.01)
        return "done"

    rh.function(hold, name="hold").to("here")
    got: list[Answer] = []
    thread = threading.Thread(target=lambda: got.append(ask(url, "POST", "/hold", [str(tmp_path)])))
    thread.start()
    until((tmp_path / "began").exists, "it runs")
    node.process.terminate()

    def closed() -> bool:
        try:
            ask(url, "GET", "/")
        except OSError:
            return True
        return False

    until(closed, "it takes no more")
    (tmp_path / "go").touch()
    thread.join()
    assert got[0].json == "done"
    assert node.process.wait(30) == 0
