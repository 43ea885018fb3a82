"""Many callers at once: threads, loops, processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import rhd as rh
from conftest import script, until
from rhd import console, pump


def test_threads_share_a_handle(where: str) -> None:
    remote = rh.function(lambda x: x * 2).to(where)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(remote, range(500))) == [x * 2 for x in range(500)]


def test_connections_are_reused_not_piled_up(where: str) -> None:
    remote = rh.function(lambda x: x).to(where)
    for i in range(100):
        remote(i)
    held = len(os.listdir("/proc/self/fd"))
    for i in range(500):
        remote(i)
    assert len(os.listdir("/proc/self/fd")) <= held + 1


def test_an_object_sees_every_call_of_many_threads(where: str) -> None:
    class Total:
        def __init__(self):
            import threading

            self.lock, self.total = threading.Lock(), 0

        def add(self, n):
            with self.lock:
                self.total += n

    total = rh.module(Total).to(where)()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(total.add, range(200)))
    assert total.total == sum(range(200))


def test_loops_in_threads(beta: str) -> None:
    async def double(x):
        return 2 * x

    remote = rh.function(double).to(beta)
    results: dict[int, list[int]] = {}

    def run(n: int) -> None:
        async def main() -> list[int]:
            return await asyncio.gather(*(remote(n + i) for i in range(20)))

        results[n] = asyncio.run(main())

    threads = [threading.Thread(target=run, args=(n,)) for n in range(0, 80, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(x for r in results.values() for x in r) == [2 * x for x in range(80)]


def test_processes_share_a_daemon(mesh: Any) -> None:
    program = """
        import sys, rhd as rh
        n = int(sys.argv[1])
        f = rh.function(lambda x: x + n).to("beta")
        print(sum(f.map(range(50))))
    """
    programs = [script(program, str(n)) for n in range(3)]
    for n, one in enumerate(programs):
        out, err = one.communicate(timeout=120)
        assert out.strip() == str(sum(range(50)) + 50 * n), err


def test_a_forked_child_calls_on_its_own_connections(where: str) -> None:
    remote = rh.function(lambda x: x + 1).to(where)
    assert remote(1) == 2
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, bytes([remote(i) for i in range(10)]))
        finally:
            os._exit(0)
    os.close(write)
    assert [remote(i) for i in range(10, 20)] == list(range(11, 21))
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(read, 100) == bytes(range(1, 11))
    os.close(read)
    assert remote(5) == 6


def test_a_forked_child_keeps_no_stream_of_its_parent_open(where: str, tmp_path: Any) -> None:
    path = tmp_path / "ended"

    def endless(path):
        try:
            while True:
                yield 1
        finally:
            open(path, "w").close()

    items = rh.function(endless).to(where)(str(path))
    next(items)
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        items.close()
        until(path.exists, "the generator ended though a child holds a copy of its connection")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_two_deploys_of_one_name_at_once(mesh: Any) -> None:
    gate = threading.Barrier(2)

    def deploy(n: int) -> Any:
        def made():
            return n

        gate.wait()
        return rh.function(made, name="tests/contested").to("beta")

    with ThreadPoolExecutor(2) as pool:
        handles = list(pool.map(deploy, [1, 2]))
    values = {handle() for handle in handles}
    assert len(values) == 1 and values <= {1, 2}


def test_two_clients_deploy_one_name_at_once(mesh: Any, tmp_path: Path) -> None:
    program = """
        import os, sys, time, rhd as rh
        n, gate = int(sys.argv[1]), sys.argv[2]
        def made():
            return n
        to = rh.function(made, name="tests/fought-over")
        open(f"{gate}.{n}", "w").close()
        while not os.path.exists(gate): time.sleep(0.001)
        print([to.to("beta")() for _ in range(5)])
    """
    gate = tmp_path / "gate"
    # One asks the host itself, the other reaches it across the mesh.
    programs = [script(program, str(n), str(gate), home=mesh[n].home) for n in (0, 1)]
    until(lambda: len(list(tmp_path.glob("gate.*"))) == 2, "both are there")
    gate.touch()
    for one in programs:
        out, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
        values = json.loads(out)
        assert len(values) == 5 and set(values) <= {0, 1}
    (value,) = {rh.load("tests/fought-over")() for _ in range(5)}
    assert value in (0, 1)
    assert rh.ls("tests").count("/ann/tests/fought-over") == 1


def test_a_map_that_is_broken_off_leaves_nothing_under_way(where: str) -> None:
    # More than the connection takes at once, so that some of it is not sent yet.
    large = (b"x" * 50_000 for _ in range(1000))
    results = rh.function(len).to(where).map(large, concurrency=500)
    assert next(results) == 50_000
    results.close()  # type: ignore[attr-defined]
    assert [item for item in console.underway if isinstance(item, pump.Item)] == []
