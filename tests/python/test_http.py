"""Functions and methods called over HTTP, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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


def test_other_machines_need_the_token(fresh: Any) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no address but loopback")
        address = probe.getsockname()[0]
    node = fresh("open", RHD_WEB_LISTEN='["0.0.0.0"]')
    port = urlsplit(str(hosted(node)["web"])).port
    near, far = f"http://127.0.0.1:{port}", f"http://{address}:{port}"
    right = {"Authorization": "Bearer " + (node.home / "web.token").read_text()}
    with named(scale, "scale", "here"):
        assert ask(near, "POST", "/scale", [[1]]).status == 200
        assert ask(far, "POST", "/scale", [[1]]).status == 401
        for path in ("/", "/metrics", "/scale/openapi.json", "/nope"):
            assert ask(far, "GET", path).status == 401, path
        assert ask(far, "POST", "/scale", [[1]], right).json == [2.0]
        bent = {**right, "Host": "evil.example"}
        assert ask(far, "POST", "/scale", [[1]], bent).status == 403


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


def test_pages_of_other_origins_and_bent_names_are_refused(post: Any, get: Any) -> None:
    with named(scale, "scale", "here"):
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Host": "evil.example"},
        ):
            answer = post("/scale", [[1]], **headers)
            assert (answer.status, answer.json["kind"]) == (403, "permission_denied"), headers
            assert answer.json["hint"] and "access-control-allow-origin" not in answer.headers
            assert get("/scale?values=[1]", **headers).status == 403
        assert post("/scale", [[1]], **{"Sec-Fetch-Site": "same-origin"}).status == 200


def test_a_token_is_wanted_where_one_is_required(fresh: Any) -> None:
    node = fresh("gamma", RHD_WEB_REQUIRE_TOKEN="true")
    url = hosted(node)["web"]
    token = (node.home / "web.token").read_text()
    assert (node.home / "web.token").stat().st_mode & 0o777 == 0o600
    with named(scale, "scale", "here"):
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
            answer = ask(url, "POST", "/scale", [[1]], wrong)
            assert (answer.status, answer.json["kind"]) == (401, "permission_denied")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "web.token" in answer.json["hint"] and token not in answer.body.decode()
        right = {"Authorization": f"Bearer {token}"}
        assert ask(url, "POST", "/scale", [[1]], right).json == [2.0]
    assert token not in "".join(p.read_text() for p in (node.home / "log").iterdir())


def test_a_weak_token_is_refused_at_start(root: Path) -> None:
    node = Node(root / "weak", "weak", RHD_WEB_TOKEN="hunter2", RHD_WEB_LISTEN='["0.0.0.0"]')
    with pytest.raises(AssertionError, match=r"web\.token"):
        node.up()


def test_two_nodes_take_two_ports(mesh: tuple[Node, Node]) -> None:
    urls = [urlsplit(hosted(node)["web"]) for node in mesh]
    assert urls[0].port != urls[1].port
    assert all(url.hostname == "127.0.0.1" and (url.port or 0) >= 32300 for url in urls)


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


def numbers(url: str) -> dict[str, float]:
    """What /metrics says, by name and labels."""
    answer = ask(url, "GET", "/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("application/openm")
    lines = answer.body.decode().splitlines()
    assert lines[-1] == "# EOF"
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_metrics_count_calls_on_both_nodes(mesh: tuple[Node, Node]) -> None:
    urls = [str(hosted(node)["web"]) for node in mesh]

    def fail() -> None:
        raise ValueError

    before = [numbers(url) for url in urls]
    with named(scale, "scale", "beta") as one, named(fail, "fail", "beta"):
        assert one([1.0]) == [2.0]
        assert ask(urls[0], "POST", "/scale", [[1]]).status == 200
        assert ask(urls[0], "POST", "/fail").status == 500
        after = [numbers(url) for url in urls]

    def grew(node: int, name: str) -> float:
        return after[node][name] - before[node].get(name, 0)

    ok, bad = 'outcome="ok"}', 'outcome="remote"}'
    for node, stage in ((0, "call"), (1, "serve"), (1, "execute")):
        assert grew(node, f'rhd_calls_ended_total{{stage="{stage}",{ok}') == 2, stage
        assert grew(node, f'rhd_calls_ended_total{{stage="{stage}",{bad}') == 1, stage
        assert grew(node, f'rhd_call_seconds_count{{stage="{stage}"}}') == 3, stage
        assert after[node][f'rhd_calls_in_flight{{stage="{stage}"}}'] == 0, stage
    assert grew(0, 'rhd_calls_started_total{stage="execute"}') == 0
    assert grew(0, 'rhd_call_seconds_bucket{le="+Inf",stage="call"}') == 3
    assert grew(0, 'rhd_http_requests_total{status="2xx"}') >= 1
    assert grew(0, 'rhd_http_requests_total{status="5xx"}') == 1
    assert after[0]['rhd_peers{path="direct"}'] == 1
    assert after[1]["rhd_envs_running"] >= 1 and after[1]["rhd_workers_started_total"] >= 1
    assert after[0]["process_resident_memory_bytes"] > 1_000_000
    # As many lines before and after: no name or id of a call makes one more.
    assert after[0].keys() == before[0].keys()


def test_pages_describe_what_can_be_called(where: str, url: str, get: Any) -> None:
    with named(scale, "scale", where), named(Tally, "Tally", where) as remote:
        tally = remote(name="tally")
        page = get("/")
        assert page.status == 200 and page.headers["content-type"].startswith("text/html")
        assert b"/ann/scale" in page.body and b"/ann/tally" in page.body
        assert "default-src 'none'" in page.headers["content-security-policy"]
        document = get("/scale/openapi.json").json
        assert document["openapi"].startswith("3.1")
        post = document["paths"]["/ann/scale"]["post"]
        schema = post["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]
        assert schema["required"] == ["values"] and schema["properties"].keys() == {
            "values",
            "factor",
        }
        paths = get("/ann/tally/openapi.json").json["paths"]
        assert {"/ann/tally/add", "/ann/tally/upto", "/ann/tally/total"} <= paths.keys()
        query = paths["/ann/tally/add"]["get"]["parameters"]
        integer = {"type": "integer"}
        assert query == [{"name": "n", "in": "query", "required": False, "schema": integer}]
        assert get("/nope/openapi.json").status == 404
        rh.daemon.daemon().request("remove", name=tally.name)
