"""The lane that brief calls share, on a real worker."""

import contextlib
import queue
import socket
import threading

import pytest
from rhd.worker.shared import Seat
from rhd.worker.shared import Shared as Lane
from worker_daemon import PATIENCE, Daemon, codec, daemon_fixture, errors, frames  # noqa: F401

SOURCE = """
import threading, time

gates = {}

def gate(name):
    return gates.setdefault(name, threading.Event())

def add(a, b):
    return a + b

def hold(name):
    print("held", name)
    assert gate(name).wait(60)
    return name

def open(name):
    gate(name).set()

def thread():
    return threading.get_ident()

def items(n):
    def each():
        for i in range(n):
            gates["made"] = i + 1
            yield i
    return each()

def deaf():
    # Yields on when it is interrupted in the middle of an item.
    def each():
        for i in range(100):
            try:
                if i == 16:
                    print("spinning", flush=True)
                while i == 16:
                    time.sleep(0.001)
            except BaseException as error:
                assert type(error).__name__ == "Cancelled"
            yield i
    return each()

def made():
    return gates.get("made", 0)

def large(n):
    return b"x" * n

def fail():
    raise ValueError("no")
"""

NAMES = ("add", "hold", "open", "thread", "items", "deaf", "made", "large", "fail")


class Shared:
    """The daemon's end of the lane."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        daemon.order("share", threads=1)
        self.sock, hello = daemon._accept()
        assert hello["lane"] == "shared"
        self.replies: dict[str, queue.Queue] = {}
        self.asking = False
        self.sock.settimeout(None)
        self.closed = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                header, body = frames.recv(self.sock)
                self.replies[header["id"]].put((header, body))
        except (EOFError, OSError):
            self.closed.set()

    def start(self, service: str, *args, **fields) -> str:
        """Writes a call; returns its id."""
        parts = codec.dumps((args, {}), "pickle")
        header = self.daemon.header(service, parts, **fields)
        self.replies[header["id"]] = queue.Queue()
        frames.send(self.sock, {"t": "call", "call": header}, parts)
        return header["id"]

    def next(self, call: str) -> tuple[dict, memoryview]:
        """The next reply; asks for threads meanwhile, as a daemon does when no call ends."""
        for _ in range(int(PATIENCE / 0.02)):
            if self.asking:
                self.daemon.order("share", threads=1)
            with contextlib.suppress(queue.Empty):
                return self.replies[call].get(timeout=0.02)
        raise AssertionError("no reply came")

    def result(self, call: str):
        while True:
            header, body = self.next(call)
            if header["t"] == "fail":
                raise errors.from_info(header["error"], body)
            if header["t"] == "done":
                return codec.loads(frames.split(body, header["parts"]), header["codec"])

    def until_output(self, call: str, text: str) -> None:
        seen = b""
        while text.encode() not in seen:
            header, body = self.next(call)
            assert header["t"] == "log", header
            seen += bytes(body)


@pytest.fixture(name="shared")
def shared_fixture(daemon):
    daemon.code(SOURCE, *NAMES)
    return Shared(daemon)


def test_many_calls_are_answered_each_with_its_own(shared):
    calls = [shared.start("add", i, i) for i in range(500)]
    assert [shared.result(call) for call in calls] == [2 * i for i in range(500)]
    failed, after = shared.start("fail"), shared.start("add", 1, 2)
    assert shared.result(after) == 3
    with pytest.raises(ValueError, match="no"):
        shared.result(failed)


def test_brief_calls_are_all_one_threads(shared):
    for call in [shared.start("add", 1, 1) for _ in range(100)]:
        shared.result(call)
    assert len({shared.result(shared.start("thread")) for _ in range(50)}) == 1


def test_calls_behind_a_long_one_go_on_when_the_daemon_asks_for_it(shared):
    held = shared.start("hold", "a")
    shared.until_output(held, "held a")
    behind = [shared.start("add", i, 1) for i in range(20)]
    shared.asking = True
    assert [shared.result(call) for call in behind] == [i + 1 for i in range(20)]
    more = [shared.start("hold", "a") for _ in range(3)]
    for call in more:
        shared.until_output(call, "held a")
    shared.result(shared.start("open", "a"))
    assert [shared.result(call) for call in (held, *more)] == ["a"] * 4


def test_a_call_that_is_cancelled_before_it_begins_does_not_run(shared, daemon):
    held = shared.start("hold", "b")
    shared.until_output(held, "held b")
    behind = shared.start("open", "c")
    daemon.order("cancel", id=behind)
    daemon.ping()
    shared.asking = True
    with pytest.raises(errors.Cancelled):
        shared.result(behind)
    # Were it run, this would not have to wait.
    waiting = shared.start("hold", "c")
    shared.until_output(waiting, "held c")
    daemon.order("cancel", id=waiting)
    shared.result(shared.start("open", "c"))
    with pytest.raises(errors.Cancelled):
        shared.result(waiting)
    shared.result(shared.start("open", "b"))
    assert shared.result(held) == "b"


def test_items_wait_for_credit_and_not_for_others(shared, daemon):
    stream = shared.start("items", 100)
    got = [shared.next(stream)[0]["t"] for _ in range(16)]
    assert got == ["item"] * 16
    shared.asking = True
    while shared.result(shared.start("made")) < 17:
        pass
    assert shared.replies[stream].empty(), "no more than was allowed"
    daemon.order("credit", id=stream, items=200)
    got = [shared.next(stream)[0]["t"] for _ in range(85)]
    assert got == ["item"] * 84 + ["done"]


def test_a_stream_that_waits_for_credit_can_be_cancelled(shared, daemon):
    stream = shared.start("items", 100)
    for _ in range(16):
        shared.next(stream)
    daemon.order("cancel", id=stream)
    with pytest.raises(errors.Cancelled):
        shared.result(stream)
    assert shared.result(shared.start("add", 1, 1)) == 2


def test_a_cancellation_that_its_code_swallows_does_not_wait_for_credit(shared, daemon):
    stream = shared.start("deaf")
    for _ in range(16):
        shared.next(stream)
    shared.until_output(stream, "spinning")
    daemon.order("cancel", id=stream)
    with pytest.raises(errors.Cancelled):
        shared.result(stream)
    assert shared.result(shared.start("add", 1, 1)) == 2


def test_large_results_keep_their_place_among_small_ones(shared):
    calls = [shared.start("large", n) for n in (10, 100_000, 20, 3_000_000, 30)]
    assert [len(shared.result(call)) for call in calls] == [10, 100_000, 20, 3_000_000, 30]


def test_something_else_than_a_call_closes_the_lane_and_no_other(shared, daemon):
    frames.send(shared.sock, {"t": "nonsense"})
    assert shared.closed.wait(PATIENCE)
    assert daemon.call("add", 1, 2) == 3


def test_output_takes_no_reply_of_another_call_with_it():
    near, far = socket.socketpair()
    lane = Lane(None, near)  # type: ignore[arg-type]
    with near, far:
        lane.put(b"a reply")
        # Whoever prints may be interrupted in the middle of it.
        Seat(lane).write(b"output")
        assert far.recv(100) == b"output"
        lane.flush()
        assert far.recv(100) == b"a reply"
