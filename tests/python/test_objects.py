"""The object store: values in an env's memory, shared by what lives there."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import Any

import pytest
import rhd as rh
from conftest import BINARY, script, until


@pytest.fixture
def cluster(where: str) -> Any:
    """A cluster whose base env holds nothing."""
    found = rh.cluster(where)
    found.clear()
    return found


def test_what_is_put_is_got_until_it_is_deleted(cluster: Any) -> None:
    data = os.urandom(3_000_000)
    cluster.put("big", {"data": data})
    cluster.put("small", [1, "two"])
    assert cluster.get("big") == {"data": data} and cluster.get("small") == [1, "two"]
    assert cluster.keys() == ["big", "small"]
    cluster.delete("big")
    assert cluster.keys() == ["small"]
    cluster.clear()
    assert cluster.keys() == []


def test_put_replaces_and_rename_does_not(cluster: Any) -> None:
    cluster.put("a", 1)
    cluster.put("a", 2)
    cluster.put("b", 3)
    with pytest.raises(rh.Conflict) as caught:
        cluster.rename("a", "b")
    assert caught.value.hint and cluster.get("a") == 2 and cluster.get("b") == 3
    cluster.rename("a", "c")
    assert cluster.get("c") == 2 and sorted(cluster.keys()) == ["b", "c"]
    cluster.rename("c", "c")


def test_missing_keys_are_named(cluster: Any) -> None:
    cluster.put("there", 1)
    assert cluster.get("absent", None) is None
    for attempt in (lambda: cluster.get("absent"), lambda: cluster.rename("absent", "x")):
        with pytest.raises(rh.NotFound) as caught:
            attempt()
        assert "absent" in str(caught.value)
    with pytest.raises(rh.NotFound) as caught:
        cluster.delete(["there", "absent", "gone"])
    assert "'absent', 'gone'" in str(caught.value) and caught.value.hint
    assert cluster.keys() == ["there"]


def test_keys_are_bounded_strings(cluster: Any) -> None:
    with pytest.raises(TypeError):
        cluster.put(1, 1)
    for bad in ("", "x" * 201):
        with pytest.raises(ValueError):
            cluster.put(bad, 1)


def test_modules_and_functions_of_an_env_share_the_object_itself(where: str) -> None:
    class Holder:
        def keep(self):
            import rhd as rh

            self.mine = {"n": 1}
            rh.here.put("shared", self.mine)

        def look(self):
            return self.mine["n"]

    def change():
        import rhd as rh

        held = rh.here.get("shared")
        held["n"] += 1
        return held is rh.here.get("shared")

    env = rh.env(name="objects-shared")
    cluster = rh.cluster(where)
    holder = rh.module(Holder).to(where, env)()
    holder.keep()
    assert rh.function(change).to(where, env)() is True
    assert holder.look() == 2
    assert cluster.get("shared", env=env) == cluster.get("shared", env="objects-shared") == {"n": 2}
    assert cluster.get("shared", None) is None, "another env has objects of its own"


def test_what_is_put_from_here_is_one_object_there(where: str) -> None:
    def change():
        import rhd as rh

        rh.here.get("list").append("there")
        return rh.here.keys()

    cluster, env = rh.cluster(where), rh.env(name="objects-put")
    cluster.put("list", ["here"], env=env)
    assert rh.function(change).to(where, env)() == ["list"]
    assert cluster.get("list", env=env) == ["here", "there"]


def test_replicas_and_forked_children_ask_the_home_of_the_objects(where: str) -> None:
    def work(n):
        import os
        import time

        import rhd as rh

        rh.here.put(f"key-{n}", os.getpid())
        time.sleep(0.05)
        read, write = os.pipe()
        if os.fork() == 0:
            try:
                rh.here.put(f"child-{n}", n)
                os.write(write, b"1")
            finally:
                os._exit(0)
        os.read(read, 1)
        return os.getpid()

    env = rh.env(name="objects-replicas", workers=3)
    remote = rh.function(work).to(where, env)
    pids: set[int] = set()
    until(lambda: pids.update(remote.map(range(12), concurrency=6)) or len(pids) > 1, "replicas")
    keys = rh.cluster(where).keys(env)
    assert sorted(keys) == sorted(
        [f"key-{n}" for n in range(12)] + [f"child-{n}" for n in range(12)]
    )
    assert {rh.cluster(where).get(f"key-{n}", env=env) for n in range(12)} <= pids


def test_objects_of_classes_that_the_env_does_not_have_come_back(where: str) -> None:
    program = """
        import sys, types, rhd as rh
        made = types.ModuleType("nowhere_else")
        exec("class Odd:\\n    n = 5", made.__dict__)
        made.Odd.__module__ = "nowhere_else"
        sys.modules["nowhere_else"] = made
        rh.cluster(sys.argv[1]).put("odd", made.Odd())
        print(rh.cluster(sys.argv[1]).get("odd").n)
        rh.cluster(sys.argv[1]).delete("odd")
    """
    done = script(program, where)
    out, err = done.communicate(timeout=60)
    assert out == "5\n", err


def test_objects_are_gone_with_their_worker_and_the_store_goes_on(beta: str) -> None:
    env = rh.env(name="objects-lost")
    cluster = rh.cluster(beta)
    cluster.put("x", 1, env=env)
    die = rh.function(lambda: __import__("os")._exit(1)).to(beta, env)
    with pytest.raises(rh.RhdError):
        die()
    until(lambda: cluster.get("x", None, env=env) is None, "the worker was replaced")
    cluster.put("x", 2, env=env)
    assert cluster.get("x", env=env) == 2


def test_the_store_outlives_a_restart_of_its_node(fresh: Any) -> None:
    near = fresh("near")
    rh.here.put("x", 1)
    near.stop()
    near.up()
    assert rh.here.keys() == []
    rh.here.put("x", 2)
    assert rh.here.get("x") == 2


def test_objects_from_the_command_line(mesh: Any, cluster: Any, where: str) -> None:
    here, _ = mesh
    at = [] if where == "here" else ["--node", where]
    here.cli("put", "answer", '{"n": [1, null]}', *at)
    assert cluster.get("answer") == {"n": [1, None]}
    cluster.put("back", {"x": "plain"})
    assert here.cli("get", "back", *at) == '{"x": "plain"}'
    here.cli("put", "text", "no json", *at)
    assert cluster.get("text") == "no json"
    absent = [BINARY, "--home", str(here.home), "get", "absent", *at]
    assert subprocess.run(absent, capture_output=True, check=False).returncode == 5


def test_many_threads_use_one_store(cluster: Any) -> None:
    def run(n: int) -> None:
        for i in range(20):
            cluster.put(f"{n}/{i}", n * i)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cluster.keys()) == 160 and cluster.get("7/19") == 133
