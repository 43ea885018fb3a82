"""Runs that answer in the place of calls: by name, whoever made them."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, script, until
from rhd.daemon import call_id
from test_runs import begun, work

Fresh = Callable[..., Node]

CALLS = """
import sys, rhd as rh
def work(folder):
    import os, time
    with open(folder + "/began", "a") as out:
        out.write("x")
    print("began", flush=True)
    while not os.path.exists(folder + "/go"):
        time.sleep(0.01)
    return os.urandom(8).hex()
where, name, folder = sys.argv[1:]
remote = rh.function(work).to(where)
print("ready", flush=True)
sys.stdin.readline()
print(remote.get_or_call(name, folder))
"""
"""A client that says when it is ready, and gets or calls when it is told to."""


class Client:
    """Another program that calls the same."""

    def __init__(self, where: str, name: str, folder: Path) -> None:
        self.process = script(CALLS, where, name, str(folder), stdin=subprocess.PIPE)
        self.saw("ready")

    def go(self) -> None:
        """Lets it call."""
        assert self.process.stdin is not None
        self.process.stdin.write("now\n")
        self.process.stdin.flush()

    def saw(self, line: str) -> None:
        """Waits for its next line."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == line + "\n"

    def end(self) -> str:
        """What it got."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return str(out.split()[-1])


@pytest.fixture
def name() -> str:
    """The name of a run that nobody has used."""
    return f"run-{call_id()[:8]}"


def test_get_or_call_reuses_what_was_completed(where: str, name: str, tmp_path: Path) -> None:
    remote = rh.function(work).to(where)
    failing = rh.function(lambda: 1 / 0).to(where)
    with pytest.raises(ZeroDivisionError):
        failing.get_or_call(name)
    (tmp_path / "go").touch()
    assert remote.get_or_call(name, str(tmp_path), 1) == 1
    assert remote.get_or_call(name, str(tmp_path), 2) == 1
    assert begun(tmp_path) == 1

    async def add(x):
        return x + 1

    later = rh.function(add).to(where)

    async def main() -> list[int]:
        return [await later.get_or_call(f"{name}-async", n) for n in range(3)]

    assert asyncio.run(main()) == [1, 1, 1]


def test_get_or_call_waits_for_what_is_under_way(
    where: str, name: str, tmp_path: Path, capfd: Any
) -> None:
    remote = rh.function(work).to(where)
    got: list[Any] = []
    threads = [
        threading.Thread(target=lambda: got.append(remote.get_or_call(name, str(tmp_path))))
        for _ in range(3)
    ]
    threads[0].start()
    until(lambda: begun(tmp_path), "it began")
    for thread in threads[1:]:
        thread.start()
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(30)
    assert got == ["done"] * 3 and begun(tmp_path) == 1


def test_of_several_clients_at_once_one_calls(where: str, name: str, tmp_path: Path) -> None:
    clients = [Client(where, name, tmp_path) for _ in range(4)]
    for client in clients:
        client.go()
    until(lambda: begun(tmp_path), "one calls")
    for client in clients:
        client.saw("began")
    (tmp_path / "go").touch()
    assert len({client.end() for client in clients}) == 1
    assert begun(tmp_path) == 1


def test_who_began_a_run_that_others_wait_for_may_leave(
    where: str, name: str, tmp_path: Path
) -> None:
    first, second = Client(where, name, tmp_path), Client(where, name, tmp_path)
    for client in (first, second):
        client.go()
        # Its output comes to all who wait for it.
        client.saw("began")
    first.process.kill()
    first.process.communicate(timeout=60)
    (tmp_path / "go").touch()
    assert second.end() == rh.run(name).result()
    assert begun(tmp_path) == 1


def test_who_leaves_last_ends_the_run(where: str, name: str, tmp_path: Path) -> None:
    only = Client(where, name, tmp_path)
    only.go()
    only.saw("began")
    only.process.kill()
    only.process.communicate(timeout=60)
    until(lambda: rh.run(name).status == "CANCELLED", "nobody waits for it")


def test_a_generator_is_not_started_again(where: str, name: str) -> None:
    def numbers(n):
        import random

        for _ in range(n):
            yield random.random()

    remote = rh.function(numbers).to(where)
    first = list(remote.get_or_call(name, 3))
    assert len(first) == 3 and list(remote.get_or_call(name, 3)) == first


def test_two_people_may_call_their_runs_the_same(fresh: Fresh, name: str) -> None:
    near, _ = fresh("near", RHD_NODE_USER="ann"), fresh("far")
    other = fresh("other", RHD_NODE_USER="bob")
    text = """
        import sys, rhd as rh
        name, me = sys.argv[1:]
        print(rh.function(lambda: me).to("far").get_or_call(name), rh.run(name).name)
    """
    said = []
    for node in (near, other):
        out, err = script(text, name, node.name, home=node.home).communicate(timeout=60)
        assert out, err
        said.append(out.split())
    assert said == [["near", f"/ann/{name}"], ["other", f"/bob/{name}"]]
    assert rh.run(f"/bob/{name}").result() == "other"
