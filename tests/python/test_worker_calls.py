"""Functions, instances and their members, on a real worker."""

import pytest
from worker_daemon import Under, codec, daemon_fixture, errors, frames  # noqa: F401

COUNTER = '''
import asyncio, functools

class Counter:
    """Counts.

    More about it.
    """
    made = 0

    def __init__(self, start=0, fail=False):
        if fail:
            raise ValueError("no start")
        self.value = start
        Counter.made += 1

    def add(self, n: int = 1) -> int:
        self.value += n
        return self.value

    @property
    def double(self):
        return self.value * 2

    @functools.cached_property
    def once(self):
        return object.__name__

    @classmethod
    def count(cls):
        return cls.made

    @staticmethod
    def twice(x):
        return 2 * x

    def __call__(self, x):
        return ("called", x)

    def __len__(self):
        return self.value

    def __iter__(self):
        return iter(range(self.value))

    def __getitem__(self, key):
        return [10, 20, 30][key]

    def down(self):
        while self.value:
            self.value -= 1
            yield self.value

    async def wait(self):
        await asyncio.sleep(0)
        return self.value

    async def ticks(self):
        for i in range(3):
            yield i

    def _private(self):
        pass
'''


def test_a_function_runs_in_every_codec(daemon):
    daemon.code("def add(a, b=2):\n    'Adds.'\n    return a + b\n", "add")
    assert daemon.call("add", 1) == 3
    assert daemon.call("add", 1, kwargs={"b": 5}) == 6
    assert daemon.call("add", 1, codec="msgpack") == 3
    assert daemon.call("add", "x", kwargs={"b": "y"}, codec="json") == "xy"


def test_the_interface_says_what_callers_may_do(daemon):
    root = daemon.project("p", "1", m=COUNTER + "async def go(a, *, b=1): 'Goes.'\n")
    loaded = daemon.load("Counter", "m", "Counter", root)
    assert loaded["class"] is True
    interface = loaded["interface"]
    assert interface["doc"] == "Counts." and interface["signature"].startswith("(start=0")
    assert interface["members"] == {
        "add": "plain",
        "double": "property",
        "once": "property",
        "count": "plain",
        "twice": "plain",
        "__call__": "plain",
        "__len__": "plain",
        "__iter__": "generator",
        "__getitem__": "plain",
        "down": "generator",
        "wait": "coroutine",
        "ticks": "async_generator",
    }
    assert sorted(interface["class_members"]) == ["count", "twice"]
    go = daemon.load("go", "m", "go", root)
    assert go["class"] is False
    assert go["interface"]["flavor"] == "coroutine"
    assert go["interface"]["signature"] == "(a, *, b=1)"


def test_an_instance_keeps_state_and_has_all_its_members(daemon):
    daemon.code(COUNTER, "Counter")
    assert daemon.call("Counter", 3, verb="new", instance="/me/c") is None
    assert daemon.call("/me/c", 2, method="add") == 5
    assert daemon.call("/me/c", method="value", verb="get") == 5
    assert daemon.call("/me/c", method="double", verb="get") == 10
    daemon.call("/me/c", 2, method="value", verb="set")
    assert daemon.call("/me/c", method="__len__") == 2
    assert daemon.call("/me/c", 1, method="__getitem__") == 20
    assert daemon.call("/me/c", 7) == ("called", 7)
    assert daemon.start("/me/c", method="__iter__").items() == [0, 1]
    assert daemon.start("/me/c", method="down").items() == [1, 0]
    assert daemon.call("Counter", method="count") == 1
    assert daemon.call("Counter", 4, method="twice") == 8
    assert daemon.call("/me/c", 4, method="twice") == 8


def test_a_whole_instance_can_be_fetched(daemon):
    class Box:
        def __init__(self, x):
            self.x = x

    daemon.load_value("Box", Box)
    daemon.call("Box", 5, verb="new", instance="box")
    box = daemon.call("box", verb="get")
    assert type(box) is Box and box.x == 5


def test_two_constructions_of_one_name_conflict_and_a_failed_one_frees_it(daemon):
    daemon.code(COUNTER, "Counter")
    with pytest.raises(ValueError, match="no start"):
        daemon.call("Counter", kwargs={"fail": True}, verb="new", instance="c")
    daemon.call("Counter", verb="new", instance="c")
    with pytest.raises(errors.Conflict) as conflict:
        daemon.call("Counter", verb="new", instance="c")
    assert "get_or_to" in conflict.value.hint
    daemon.call("c", verb="drop")
    with pytest.raises(errors.NotFound):
        daemon.call("c", method="add")


def test_what_is_not_there_is_said_with_a_hint(daemon):
    daemon.code(COUNTER, "Counter")
    daemon.call("Counter", verb="new", instance="c")
    with pytest.raises(errors.NotFound, match="has no method 'ad'") as missing:
        daemon.call("c", method="ad")
    assert missing.value.hint == "did you mean add?"
    with pytest.raises(AttributeError):
        daemon.call("c", method="nothing", verb="get")
    with pytest.raises(errors.NotFound, match="not in this worker"):
        daemon.call("nobody")
    with pytest.raises(errors.RhdError, match="needs an instance") as bad:
        daemon.call("Counter", method="add")
    assert bad.value.kind == "bad_request"
    with pytest.raises(errors.RhdError, match="is a class"):
        daemon.call("Counter")
    with pytest.raises(errors.RhdError, match="verb 'dance'"):
        daemon.call("c", verb="dance")


def test_calls_run_side_by_side(daemon):
    daemon.code(
        """
        import threading
        barrier = threading.Barrier(4, timeout=20)
        def meet():
            return barrier.wait() >= 0
        """,
        "meet",
    )
    under = [daemon.start("meet") for _ in range(4)]
    assert [u.result() for u in under] == [True] * 4


def test_more_lanes_are_opened_when_asked_for(daemon):
    daemon.order("lanes", count=2)
    daemon.accept_lane()
    daemon.accept_lane()
    assert daemon.idle.qsize() == 6


def test_coroutines_share_the_control_lane(daemon):
    daemon.code(
        """
        import asyncio
        waiting = []
        async def meet(n):
            waiting.append(asyncio.get_running_loop().create_future())
            if len(waiting) == 50:
                for future in waiting: future.set_result(None)
            await waiting[-1] if len(waiting) == 50 else await waiting[len(waiting) - 1]
            return n
        """,
        "meet",
    )
    under = [daemon.start_async("meet", n) for n in range(50)]
    assert [u.result() for u in under] == list(range(50))


def test_a_coroutine_that_nobody_announced_runs_on_a_call_lane(daemon):
    daemon.code(
        """
        import asyncio
        async def inner(n):
            await asyncio.sleep(0)
            print("inside", n)
            return n + 1
        def plain(n):
            return inner(n)
        async def count(n):
            try:
                for i in range(n):
                    yield i
            finally:
                print("closed")
        def fails():
            async def go():
                raise LookupError("deep")
            return go()
        """,
        "plain",
        "count",
        "fails",
    )
    under = daemon.start("plain", 1)
    assert under.result() == 2
    assert under.output[1] == b"inside 1\n"
    under = daemon.start("count", 3)
    assert under.items() == [0, 1, 2]
    assert under.output[1] == b"closed\n"
    with pytest.raises(LookupError, match="deep"):
        daemon.call("fails")


def test_a_plain_function_on_the_control_lane_does_not_stop_the_loop(daemon):
    daemon.code(
        """
        import asyncio, threading
        gate = threading.Event()
        def block():
            return gate.wait(20)
        def numbers():
            yield 1
            yield 2
        async def open_gate():
            gate.set()
        """,
        "block",
        "numbers",
        "open_gate",
    )
    blocked = daemon.start_async("block")
    daemon.start_async("open_gate").result()
    assert blocked.result() is True
    assert daemon.start_async("numbers").items() == [1, 2]


def test_context_variables_do_not_leak_into_the_next_call(daemon):
    daemon.code(
        """
        import contextvars
        var = contextvars.ContextVar("var", default=0)
        def bump():
            var.set(var.get() + 1)
            return var.get()
        """,
        "bump",
    )
    assert [daemon.call("bump") for _ in range(8)] == [1] * 8


def test_large_arrays_go_beside_the_pickle(daemon):
    numpy = pytest.importorskip("numpy")
    daemon.code("def double(a):\n    return {'a': a * 2, 'n': len(a)}\n", "double")
    array = numpy.arange(1_000_000, dtype="float64")
    under = daemon.start("double", array)
    header, body = under.next()
    assert len(header["parts"]) == 2 and header["parts"][0] < 1000
    result = codec.loads(frames.split(body, header["parts"]))
    assert (result["a"] == array * 2).all() and result["n"] == 1_000_000
    assert result["a"].flags.aligned and result["a"].flags.writeable


def test_a_result_of_many_megabytes_comes_whole(daemon):
    daemon.code("def big(n):\n    return bytes(n)\n", "big")
    assert daemon.call("big", 80_000_000) == bytes(80_000_000)


def test_arguments_that_cannot_be_read_are_the_callers_to_mend(daemon):
    daemon.code("def f(*a): return a\n", "f")
    sock = daemon.idle.get()
    header = daemon.header("f", [b"xx"])
    frames.send(sock, header, [b"xx"])
    info, _ = Under(daemon, sock, header).info()
    assert info["kind"] == "bad_request" and info["hint"]
    sock = daemon.idle.get()
    header = {**daemon.header("f", []), "parts": [5]}
    frames.send(sock, header, [b"xx"])
    info, _ = Under(daemon, sock, header).info()
    assert info["kind"] == "bad_request" and "parts" in info["message"]
    assert daemon.call("f", 1) == (1,)


def test_values_of_classes_sent_by_value_come_back_as_themselves(daemon):
    class Point:
        def __init__(self, x):
            self.x = x

    def move(p):
        p.x += 1
        return p

    daemon.load_value("move", move)
    moved = daemon.call("move", Point(1))
    assert type(moved) is Point and moved.x == 2
