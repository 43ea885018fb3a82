"""Remote code that does harm: to its process, to its connections, to everybody's memory."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, hosted, nodes, script, until
from rhd import daemon

# The memory of a daemon through which hundreds of megabytes pass may grow by so much.
GROWTH = 64 << 20


@pytest.fixture(scope="module")
def frail(root: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes with little patience for what ignores its cancellation."""
    with nodes(root) as make:
        patience = {"RHD_WORKERS_CANCEL_GRACE_MS": "200", "RHD_WORKERS_SHARED_GRACE_MS": "500"}
        yield make("close", **patience), make("remote", **patience)


@pytest.fixture(params=["here", "remote"])
def at(request: pytest.FixtureRequest, frail: Any) -> str:
    """Each of them in turn."""
    return str(request.param)


def workers(at: str) -> list[int]:
    """The processes of the node's envs."""
    return [env["pid"] for env in daemon.daemon().request("envs", node=at) if env["running"]]


def serves(at: str) -> None:
    """Fails unless the node takes calls, now or as soon as its worker was replaced."""
    quick = rh.function(lambda x: x + 1).to(at)

    def works() -> bool:
        try:
            return bool(quick.options(timeout=20)(1) == 2)
        except rh.RhdError:
            return False

    until(works, "the worker was replaced")


@pytest.mark.parametrize("how", ["abort", "kill", "segv"])
def test_a_worker_that_dies_fails_its_call_once(at: str, tmp_path: Path, how: str) -> None:
    def die(path, how):
        import ctypes
        import os
        import signal

        with open(path, "a") as out:
            out.write("ran\n")
        if how == "abort":
            os.abort()
        elif how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        ctypes.string_at(0)

    with pytest.raises(rh.RhdError) as caught:
        rh.function(die).to(at)(str(tmp_path / "ran"), how)
    assert caught.value.call_id and caught.value.hint
    serves(at)
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_code_that_hangs_in_c_with_the_interpreter_locked_is_ended(at: str) -> None:
    def hang():
        import ctypes

        while True:
            ctypes.PyDLL(None).sleep(600)

    remote = rh.function(hang).to(at)
    before = workers(at)
    assert len(before) == 1
    with pytest.raises(rh.Timeout) as caught:
        remote.options(timeout=0.5)()
    assert caught.value.call_id
    until(lambda: workers(at) != before, "its process was ended")
    serves(at)


def test_a_worker_that_closes_its_lanes_fails_its_call_once(at: str, tmp_path: Path) -> None:
    def close(path):
        import os

        with open(path, "a") as out:
            out.write("ran\n")
        os.closerange(3, 4096)
        return "never seen"

    with pytest.raises(rh.RhdError) as caught:
        rh.function(close).to(at)(str(tmp_path / "ran"))
    assert caught.value.call_id and caught.value.hint
    serves(at)
    assert (tmp_path / "ran").read_text() == "ran\n"


FLOOD = """
    import sys, rhd as rh
    def flood(path, below):
        import os, sys
        chunk = ("x" * 99 + "\\n") * 100
        raw = chunk.encode()
        written = 0
        while True:
            if below:
                os.write(1, raw)
            else:
                sys.stdout.write(chunk)
            written += len(raw)
            with open(path + ".new", "w") as out:
                out.write(str(written))
            os.rename(path + ".new", path)
    rh.function(flood).to(sys.argv[1])(sys.argv[2], sys.argv[3] == "below")
"""


@pytest.mark.parametrize("way", ["print", "below"])
@pytest.mark.parametrize("reader", ["fast", "stuck"])
def test_a_flood_stalls_nobody_and_fills_no_memory(
    frail: tuple[Node, Node], at: str, tmp_path: Path, way: str, reader: str
) -> None:
    quick = rh.function(lambda x: x).to(at)
    assert quick(0) == 0
    before = [hosted(node)["rss"] for node in frail]
    path = tmp_path / "written"
    # A pipe that nobody reads is a reader that hangs.
    stdout = subprocess.DEVNULL if reader == "fast" else subprocess.PIPE
    program = script(FLOOD, at, str(path), way, stdout=stdout)
    try:
        enough = 30_000_000 if reader == "fast" else 20_000
        until(lambda: path.exists() and int(path.read_text()) >= enough, "the flood runs")
        assert [quick.options(timeout=20)(i) for i in range(100)] == list(range(100))
        assert program.poll() is None
        for node, rss in zip(frail, before, strict=True):
            assert hosted(node)["rss"] < rss + GROWTH, node.name
    finally:
        program.kill()
        program.communicate()
    until(lambda: all(hosted(node)["calls"] == 0 for node in frail), "the flood was cancelled")
    serves(at)


def test_more_calls_than_may_wait_are_refused(fresh: Callable[..., Node], tmp_path: Path) -> None:
    fresh("narrow", RHD_WORKERS_LANES="1", RHD_WORKERS_QUEUE="1")

    def wait(path):
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.01)
        return "done"

    remote = rh.function(wait).to("here")
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(remote, str(tmp_path / "go")) for _ in range(8)]
        refused = until(lambda: [c for c in calls if c.done()], "some are refused")
        (tmp_path / "go").touch()
        assert isinstance(refused[0].exception(), rh.QueueFull)
        assert refused[0].exception().hint
        done = [c.result() for c in calls if c.exception() is None]
    assert done and set(done) == {"done"}
