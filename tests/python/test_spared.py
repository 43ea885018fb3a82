"""Large arguments that a node has from a call before: named, and not sent again."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import rhd as rh
from conftest import Node, freeze, hosted, script, until
from http_client import ask

numpy = pytest.importorskip("numpy")

MIB = 1 << 20
SIZE = 8 * MIB


def noise(seed: int, size: int = SIZE) -> Any:
    return numpy.random.default_rng(seed).integers(0, 255, size, dtype=numpy.uint8)


@pytest.fixture
def spared(url: str) -> Callable[[], int]:
    """Bytes that were not sent since the last time it was asked."""
    last = 0

    def since() -> int:
        nonlocal last
        text = ask(url, "GET", "/metrics").body.decode()
        found = re.search(r"^rhd_arguments_spared_bytes_total (\d+)$", text, re.MULTILINE)
        assert found, text
        before, last = last, int(found[1])
        return last - before

    since()
    return since


def test_the_same_array_goes_to_a_node_once(beta: str, spared: Callable[[], int]) -> None:
    def work(n, array, other=None):
        return n, int(array.sum(dtype="int64")), other if other is None else int(other.sum())

    remote, array, other = rh.function(work).to(beta), noise(1), noise(2, 5 * MIB)
    total = int(array.sum(dtype="int64"))
    for n in range(4):
        assert remote(n, array) == (n, total, None)
    assert spared() == 3 * SIZE
    # With another one, which comes; then both are there.
    for _ in range(2):
        assert remote(9, array, other=other) == (9, total, int(other.sum()))
    assert spared() == 2 * SIZE + 5 * MIB
    # An equal one that is elsewhere in this process.
    assert remote(10, array.copy()) == (10, total, None)
    assert spared() == SIZE
    small = noise(3, MIB)
    assert all(remote(n, small)[0] == n for n in range(3))
    assert spared() == 0, "small ones are not worth it"


def test_what_changed_is_sent_on_whichever_side_it_did(
    beta: str, spared: Callable[[], int]
) -> None:
    def first(array, at):
        was = int(array[at])
        array[:] = 7
        return was

    remote, array = rh.function(first).to(beta), noise(4)
    for value in range(5):
        array[100_000] = value
        assert remote(array, 100_000) == value
    assert spared() == 0
    # The function writes to what it is given: each call has its own all the same.
    for _ in range(3):
        assert remote(array, 5) == array[5]


def test_each_env_has_its_own(beta: str, spared: Callable[[], int]) -> None:
    array = noise(5)
    for name in ("spared-one", "spared-two"):
        remote = rh.function(lambda a: int(a[0])).to(beta, env=rh.env(name=name))
        assert remote(array) == array[0]
        spared()
        assert remote(array) == array[0]
        assert spared() == SIZE


def test_map_with_one_large_argument_sends_it_a_few_times(
    beta: str, spared: Callable[[], int]
) -> None:
    remote, array = rh.function(lambda n, a: int(a[n])).to(beta), noise(6)
    remote(0, array)
    found = remote.starmap([(n, array) for n in range(20)], concurrency=4)
    assert list(found) == [int(array[n]) for n in range(20)]
    assert spared() == 20 * SIZE


def test_calls_at_the_same_moment_send_it_once(beta: str, spared: Callable[[], int]) -> None:
    remote, array = rh.function(lambda n, a: int(a[n])).to(beta), noise(9, 4 * SIZE)
    found = remote.starmap([(n, array) for n in range(10)], concurrency=10)
    assert list(found) == [int(array[n]) for n in range(10)]
    assert spared() == 9 * array.nbytes


def test_a_call_that_is_given_up_half_way_takes_no_other_along(fresh: Callable[..., Node]) -> None:
    here, there = fresh("alpha"), fresh("beta")
    url, array = str(hosted(here)["web"]), noise(10, 4 * SIZE)
    remote = rh.function(lambda n, a: int(a[n])).to("beta")
    assert remote(0, [5]) == 5

    def count(name: str) -> int:
        return int(ask(url, "GET", "/metrics").body.decode().split(f"{name} ")[1].split()[0])

    calls = 'rhd_calls_started_total{stage="call"}'

    def started(more: int) -> None:
        until(lambda: count(calls) == before + more, "they started")

    given_up = script(
        """
        import sys

        import numpy
        import rhd as rh

        array = numpy.random.default_rng(10).integers(0, 255, int(sys.argv[1]), dtype=numpy.uint8)
        remote = rh.function(lambda n, a: int(a[n])).to("beta")
        remote(0, [5])
        print("ready", flush=True)
        sys.stdin.readline()
        remote(0, array)
        """,
        str(array.nbytes),
        stdin=-1,
    )
    try:
        assert given_up.stdout.readline() == "ready\n", given_up.stderr.read()
        before = count(calls)
        # More comes than finds room on the way to a node that takes nothing.
        freeze(there.process.pid)
        given_up.stdin.write("\n")
        given_up.stdin.flush()
        started(1)
        with ThreadPoolExecutor() as pool:
            others = [pool.submit(remote, n, array) for n in range(4)]
            started(5)
            given_up.kill()
            until(lambda: count('rhd_calls_in_flight{stage="call"}') == 4, "it is given up")
            there.process.send_signal(signal.SIGCONT)
            assert [one.result(60) for one in others] == [int(array[n]) for n in range(4)]
    finally:
        there.process.send_signal(signal.SIGCONT)
        given_up.kill()
        given_up.communicate()
    assert count("rhd_arguments_spared_bytes_total") == 3 * array.nbytes


def test_a_node_that_forgot_is_sent_all_of_it(fresh: Callable[..., Node]) -> None:
    here, there = fresh("alpha"), fresh("beta")
    url = str(hosted(here)["web"])

    def spared() -> int:
        text = ask(url, "GET", "/metrics").body.decode()
        return int(text.split("rhd_arguments_spared_bytes_total ")[1].split()[0])

    array = noise(7)
    remote = rh.function(lambda a: int(a[3])).to("beta")
    assert remote(array) == remote(array) == array[3]
    assert spared() == SIZE
    there.kill()
    there.up()
    remote = until(lambda: _again(remote), "it can be called again")
    assert remote(array) == array[3]
    assert spared() >= SIZE


def _again(remote: Any) -> Any:
    try:
        again = rh.function(lambda a: int(a[3])).to("beta")
        again(noise(8, 16))
    except rh.RhdError:
        return None
    return again
