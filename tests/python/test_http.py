"""Functions and methods called over HTTP."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgpack
import pytest
import rhd as rh
from conftest import hosted, until
from http_client import JSON, Tally, ask, named, scale, sse


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


def test_methods_and_attributes_of_an_object(where: str, post: Any, get: Any) -> None:
    with named(Tally, "Tally-" + where, where) as remote:
        tally = remote(name="tally-" + where)
        path = "/tally-" + where
        assert post(path + "/add", [4]).json == 4
        assert get(path + "/add?n=2").json == 6
        assert get(path + "/total").json == 6, "a property is read"
        assert post(tally.name + "/later", {"x": {"a": None}}).json == {"a": None}
        assert post(path + "/upto", [3]).json == [0, 1, 2], "items become a list"
        assert post(path + "/upto", [0]).json == [], "also none"
        assert post(path + "/later", [None]).json is None
        answer = post(path + "/nope")
        assert (answer.status, answer.json["kind"]) == (404, "not_found")
        rh.daemon.daemon().request("remove", name=tally.name)


def test_endpoint_is_a_url_that_works(where: str) -> None:
    def shout(text: str) -> str:
        return text.upper()

    def call(url: str, body: Any) -> Any:
        request = urllib.request.Request(url, json.dumps(body).encode(), JSON)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    assert call(rh.function(shout).to(where).endpoint(), ["a"]) == "A", "a name nobody chose"
    with named(shout, "shout", where) as remote:
        assert urlsplit(remote.endpoint()).path == "/ann/shout"
        assert call(remote.endpoint(), {"text": "b"}) == "B"
    tally = rh.module(Tally).to(where)()
    assert call(tally.add.endpoint(), [2]) == 2
    assert call(tally.endpoint("add"), {}) == 3


def test_msgpack_both_ways_and_mixed(beta: str, url: str) -> None:
    def echo(x: Any) -> Any:
        return x

    packed = {"Content-Type": "application/msgpack"}
    with named(echo, "echo", beta):
        answer = ask(url, "POST", "/echo", msgpack.packb([b"\x00\xff"]), packed)
        assert answer.headers["content-type"] == "application/msgpack"
        assert msgpack.unpackb(answer.body) == b"\x00\xff"
        as_json = {**packed, "Accept": "application/json"}
        assert ask(url, "POST", "/echo", msgpack.packb({"x": [1, None]}), as_json).json == [1, None]
        as_packed = {**JSON, "Accept": "application/msgpack"}
        assert msgpack.unpackb(ask(url, "POST", "/echo", {"x": "é"}, as_packed).body) == "é"
        answer = ask(url, "POST", "/echo", b"\x92\x01", packed)
        assert (answer.status, answer.json["kind"]) == (400, "bad_request")


def test_large_arguments_and_results_arrive_whole(where: str, post: Any) -> None:
    def twice(text: str) -> str:
        return text * 2

    with named(twice, "twice", where):
        text = "0123456789abcdef" * 300_000
        assert post("/twice", {"text": text}).json == text * 2


def test_an_exception_says_all_that_is_known_of_it(where: str, post: Any) -> None:
    def fail(n: int) -> None:
        raise KeyError(f"no {n}")

    with named(fail, "fail", where):
        answer = post("/fail", [3])
        said = answer.json
        assert (answer.status, said["kind"], said["exc_type"]) == (
            500,
            "remote",
            "builtins.KeyError",
        )
        assert "no 3" in said["message"] and "raise KeyError" in said["traceback"]
        assert said["call"] == answer.headers["x-rhd-call"]
        assert said["node"] == {"here": "alpha"}.get(where, where)


def test_errors_have_the_status_that_fits(beta: str, post: Any, get: Any, url: str) -> None:
    def nap(seconds: float) -> None:
        import time

        time.sleep(seconds)

    with named(nap, "nap", beta):
        late = post("/nap", [30], **{"X-Rhd-Timeout": "0.2"})
        assert (late.status, late.json["kind"]) == (504, "timeout")
        assert post("/nap?rhd-timeout=0.2", [30]).status == 504
        assert post("/nap", [30], **{"X-Rhd-Timeout": "soon"}).status == 400
        wrong = post("/nap", b'{"seconds": 1,\n oops}')
        assert wrong.status == 400 and "line 2" in wrong.json["message"]
        assert post("/nap", b"7").status == 400
        assert post("/nap?seconds=1", []).status == 400
        assert get("/nap?seconds=1&seconds=2").status == 400
        missing = post("/napp")
        assert missing.status == 404 and "/ann/nap" in missing.json["hint"]
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = ask(url, "POST", "/nap", b"[0]", {"Content-Type": content_type})
            assert (answer.status, answer.json["kind"]) == (415, "bad_request")
        assert ask(url, "PUT", "/nap", b"[0]").status == 405
        assert post("/nap", [0], **{"X-Rhd-Node": "nobody"}).status == 404
        for path in ("/nap%ff", "/%00", "/../nap", "//nap", "/nap/"):
            assert post(path, [0]).status in (400, 404), path


def test_events_come_as_they_happen(where: str, url: str) -> None:
    def steps(n: int) -> Any:
        for i in range(n):
            print("step", i, flush=True)
            yield {"i": i, "text": "a\nb"}
        raise ValueError("enough")

    with named(steps, "steps", where):
        events = list(sse(url, "/steps", [2]))
        kinds = [kind for kind, _ in events]
        assert kinds.count("item") == 2 and kinds[-1] == "error"
        assert events[-1][1]["exc_type"] == "builtins.ValueError"
        items = [data for kind, data in events if kind == "item"]
        assert items == [{"i": 0, "text": "a\nb"}, {"i": 1, "text": "a\nb"}]
        logs = "".join(data["text"] for kind, data in events if kind == "log")
        assert logs == "step 0\nstep 1\n"
        assert all(d["stream"] == "stdout" for k, d in events if k == "log")
    with named(scale, "scale", where):
        assert list(sse(url, "/scale", [[1]])) == [("result", [2.0])]


def test_signs_of_life_come_between_events_and_in_none(fresh: Any) -> None:
    near, _ = fresh("near", RHD_WEB_ALIVE_MS="1"), fresh("far")

    def slow(n: int) -> Any:
        import time

        for _ in range(n):
            time.sleep(0.02)
            yield "0123456789abcdef" * 250_000

    with named(slow, "slow", "far"):
        url = str(hosted(near)["web"])
        answer = ask(url, "POST", "/slow", [5], {"Accept": "text/event-stream"})
        events = answer.body.decode().split("\n\n")
        assert ":" in events, "there are comments"
        items = [event for event in events if event.startswith("event: item\n")]
        assert [len(item) for item in items] == [len(items[0])] * 5
        assert events[-2] == "event: result\ndata: null"


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_client_that_hangs_up_cancels(where: str, url: str, tmp_path: Path, accept: str) -> None:
    def hold(path: str) -> Any:
        import time
        from pathlib import Path

        try:
            Path(path, "began").touch()
            while True:
                time.sleep(0.01)
        finally:
            Path(path, "ended").touch()

    with named(hold, "hold", where):
        conn = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        conn.request("POST", "/hold", json.dumps([str(tmp_path)]), {**JSON, "Accept": accept})
        until((tmp_path / "began").exists, "it runs")
        conn.sock.close() if conn.sock else None
        conn.close()
        until((tmp_path / "ended").exists, "it is cancelled")


def test_a_generator_that_nobody_reads_waits(where: str, url: str, tmp_path: Path) -> None:
    def flood(path: str) -> Any:
        from pathlib import Path

        for i in range(10_000):
            Path(path, "at").write_text(str(i))
            yield "x" * 1_000_000

    with named(flood, "flood", where):
        events = sse(url, "/flood", [str(tmp_path)])
        assert next(events)[0] == "item"
        made = -1
        while made != (now := int((tmp_path / "at").read_text() or made)):
            # Until buffers are full it runs ahead; then it stands still.
            made = now
            threading.Event().wait(0.5)
        assert made < 500
        events.close()
