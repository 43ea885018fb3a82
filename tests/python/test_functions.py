"""Functions: calls, maps, options, names."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import threading
from pathlib import Path

import pytest
import rhd as rh
from conftest import script, until
from rhd import daemon, lease


def pid() -> int:
    return os.getpid()


def test_a_call_runs_in_another_process_and_returns(where: str) -> None:
    def add(a, b=2, *more, **named):
        import os

        return os.getpid(), a + b, more, named

    other, total, more, named = rh.function(add).to(where)(1, 3, 4, x="y")
    assert other != os.getpid()
    assert (total, more, named) == (4, (4,), {"x": "y"})


def test_large_buffers_go_both_ways_unharmed(where: str) -> None:
    echo = rh.function(lambda data: {"back": data, "size": len(data)}).to(where)
    data = os.urandom(5_000_000)
    assert echo(data) == {"back": data, "size": len(data)}
    out_of_band = pickle.PickleBuffer(bytearray(data))
    assert bytes(echo(bytearray(out_of_band))["back"]) == data


def test_a_decorated_function_stays_callable_here() -> None:
    @rh.function
    def twice(x):
        """Doubles."""
        return 2 * x

    @rh.function(name="thrice")
    def triple(x):
        return 3 * x

    assert (twice(2), triple(2)) == (4, 6)
    assert twice.__name__ == "twice" and twice.__doc__ == "Doubles."
    assert twice.__rhd_wrapped__(3) == 6
    assert triple.name == "thrice"


def test_signature_and_docs_come_from_the_host(beta: str) -> None:
    def scale(x: int, by=2):
        """Scales.

        More.
        """

    remote = rh.function(scale).to(beta)
    assert remote.signature().startswith("(x") and "by=2" in remote.signature()
    assert remote.__doc__ == "Scales."
    assert remote.cluster == rh.cluster("beta")


def test_map_is_ordered_and_takes_items_as_results_are_taken(where: str) -> None:
    square = rh.function(lambda x: x * x).to(where)
    assert list(square.map(range(50), concurrency=4)) == [x * x for x in range(50)]
    taken = itertools.count()
    results = square.map((next(taken) for _ in range(1_000_000)), concurrency=3)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    results.close()
    assert next(taken) < 20


def test_map_calls_run_side_by_side(beta: str) -> None:
    def meet(parties):
        import threading

        barrier = globals().setdefault("_barrier", threading.Barrier(parties, timeout=20))
        return barrier.wait() >= 0

    # More than run at once while calls are short.
    assert all(rh.function(meet).to(beta).map([32] * 32, concurrency=32))


def test_starmap_and_exceptions_in_place(beta: str) -> None:
    divide = rh.function(lambda a, b: a / b).to(beta)
    results = divide.starmap([(4, 2), (1, 0), (9, 3)], return_exceptions=True)
    two, error, three = results
    assert (two, three) == (2, 3) and isinstance(error, ZeroDivisionError)
    failing = divide.starmap([(4, 2), (1, 0), (9, 3)])
    assert next(failing) == 2
    with pytest.raises(ZeroDivisionError):
        next(failing)


def test_a_map_over_two_nodes_uses_both(mesh: object) -> None:
    def node(_):
        import os

        return os.getppid()

    spread = rh.function(node).to(["here", "beta"])
    assert len(set(spread.map(range(40)))) == 2
    assert spread.clusters == [rh.cluster("alpha"), rh.cluster("beta")]


def test_a_deadline_ends_the_call_on_its_node(where: str, tmp_path: Path) -> None:
    mark = tmp_path / "ended"

    def wait(path):
        import time

        try:
            while True:
                time.sleep(0.01)
        finally:
            open(path, "w").close()

    with pytest.raises(rh.Timeout) as caught:
        rh.function(wait).to(where).options(timeout=0.3)(str(mark))
    assert caught.value.call_id
    until(mark.exists, "the remote code was interrupted")


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"retries": -1}, {"codec": "xml"}])
def test_options_that_make_no_sense_are_refused(mesh: object, wrong: dict) -> None:
    with pytest.raises(ValueError):
        rh.function(lambda: 1).to("here").options(**wrong)


@pytest.mark.parametrize("codec", ["pickle", "msgpack", "json"])
def test_every_codec_carries_plain_data(where: str, codec: str) -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {"c": []}}
    assert rh.function(lambda x: x).to(where).options(codec=codec)(value) == value


def test_a_named_function_is_found_by_anyone(mesh: object) -> None:
    rh.function(lambda x: x + 1, name="tests/plus-one").to("beta")
    until(lambda: rh.exists("tests/plus-one"), "the name spreads")
    assert "/ann/tests/plus-one" in rh.ls("tests")
    assert rh.load("/ann/tests/plus-one")(1) == 2
    here, _ = mesh
    said = here.cli("call", "tests/plus-one", "41")
    assert json.loads(said) == 42


def test_what_has_no_name_is_not_listed_and_leaves_with_its_handle(beta: str) -> None:
    anonymous = rh.function(lambda: 1).to(beta)
    assert anonymous() == 1
    name, node = anonymous.name, anonymous._target.node_id
    assert name not in rh.ls()
    from rhd.names import describe

    assert describe(name, node)
    del anonymous

    def gone() -> bool:
        try:
            return not describe(name, node)
        except rh.NotFound:
            return True

    until(gone, "it was taken off its node")


def test_two_functions_of_one_name_do_not_meet(beta: str) -> None:
    def make(n):
        def f():
            return n

        return rh.function(f).to(beta)

    one, two = make(1), make(2)
    assert (one(), two(), one()) == (1, 2, 1)


def test_a_handle_works_where_it_is_sent(mesh: object) -> None:
    inner = rh.function(lambda x: x * 10).to("here")
    outer = rh.function(lambda f, x: f(x) + 1).to("beta")
    assert outer(inner, 4) == 41
    assert pickle.loads(pickle.dumps(inner))(2) == 20


def test_unknown_nodes_and_names_say_what_there_is(mesh: object) -> None:
    with pytest.raises(rh.NotFound) as caught:
        rh.function(lambda: 1).to("gamma")
    assert "beta" in caught.value.hint
    with pytest.raises(rh.NotFound) as caught:
        rh.cluster("gamma").is_up()
    assert "beta" in caught.value.hint
    with pytest.raises(rh.NotFound):
        rh.load("no-such-thing")
    assert not rh.exists("no-such-thing")


def test_clusters_know_themselves(mesh: object) -> None:
    assert rh.here.is_up() and rh.cluster("beta").is_up()
    assert {c.name for c in rh.Cluster.list()} >= {"alpha", "beta"}
    assert rh.here.name == "alpha"
    assert rh.here.status()["protocol"] == rh.VERSION


def test_a_program_leaves_nothing_of_its_own_behind(mesh: object) -> None:
    program = script(
        """
        import rhd as rh
        class Box: pass
        f = rh.function(lambda: 7).to("beta")
        box = rh.module(Box).to("beta")()
        print(f(), f.name, box.name, f._target.node_id)
        """
    )
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    seven, *names, node = out.split()
    assert seven == "7"
    from rhd.names import describe

    for name in names:
        with pytest.raises(rh.NotFound):
            describe(name, node)


def test_a_cancelled_map_frees_its_node(beta: str) -> None:
    def wait():
        import time

        time.sleep(600)

    slow = rh.function(lambda i: wait() if i else i).to(beta)
    results = slow.map(range(3), concurrency=3)
    assert next(results) == 0
    results.close()
    until(lambda: rh.cluster("beta").status()["load"] == 0, "no call is under way")
    assert threading.active_count() < 50


def test_what_is_taken_off_in_vain_hurries_no_later_call(beta: str) -> None:
    def nap(seconds: float) -> str:
        import time

        time.sleep(seconds)
        return "rested"

    remote = rh.function(nap).to(beta)
    at = daemon.daemon()
    at.drop_idle()
    # Gone already: the daemon says so, and its answer leaves the connection to the next call.
    lease.end(at, {"op": "remove", "v": rh.VERSION, "name": ".gone", "node": None}, 0.2)
    (conn,) = at._idle
    assert conn.sock.gettimeout() is None
    assert remote(0.5) == "rested"
