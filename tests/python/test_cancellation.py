"""Calls that are given up while their code does not listen, and workers that are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, until

Fresh = Callable[..., Node]


def deaf(path: str) -> None:
    """Remote code that stays in native code, where no exception reaches it."""
    import os
    import time

    with open(path, "a") as out:
        out.write(f"{os.getpid()}\n")
    time.sleep(1000)


def pids(path: Path) -> list[int]:
    """The processes that it ran in."""
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def quick(fresh: Fresh) -> tuple[Node, Node]:
    """Two nodes that do not wait long for cancelled calls."""
    short = {"RHD_WORKERS_CANCEL_GRACE_MS": "300"}
    return fresh("near", **short), fresh("far", **short)


@pytest.mark.parametrize("how", ["cancel", "timeout", "recorded"])
def test_code_that_does_not_listen_ends_with_its_process(
    quick: Any, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "pids"
    remote = rh.function(deaf).to("far")
    if how == "cancel":
        run = remote.run(str(path))
        until(lambda: pids(path), "it began")
        run.cancel()
        assert run.status == "CANCELLED"
    else:
        more = {"run_name": "deaf"} if how == "recorded" else {}
        with pytest.raises(rh.Timeout):
            remote.options(timeout=1.5, **more)(str(path))
        assert pids(path)
    (pid,) = pids(path)
    until(lambda: not os.path.exists(f"/proc/{pid}"), "its process was ended")
    assert rh.function(lambda: 1).to("far")() == 1, "the next call starts a new worker"
    assert len(pids(path)) == 1


def test_a_killed_worker_says_what_probably_happened(where: str) -> None:
    env = rh.env(name="killed")
    remote = rh.function(lambda: os.kill(os.getpid(), signal.SIGKILL)).to(where, env)
    with pytest.raises(rh.EnvError) as caught:
        remote()
    assert "SIGKILL" in str(caught.value) and "memory" in caught.value.hint
    assert rh.run(caught.value.call_id).status == "ERROR"


def test_a_worker_out_of_memory_raises_its_own_error(where: str) -> None:
    def eat():
        import resource

        limits = resource.getrlimit(resource.RLIMIT_AS)
        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, limits[1]))
        try:
            return len(bytearray(512 * 2**20))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)

    remote = rh.function(eat).to(where, rh.env(name="eats"))
    with pytest.raises(MemoryError):
        remote()
