"""Many calls over many processes and nodes: replicas, workers, maps that go on."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, until
from rhd import spread

Fresh = Callable[..., Node]


def touch_and_wait(item: int, folder: str, slow: int) -> int:
    """Remote code that leaves a mark, and on the slow node waits for another."""
    import os
    import time

    if os.environ["RHD_HOME"].endswith("/slow") and slow:
        while not os.path.exists(f"{folder}/go"):
            time.sleep(0.01)
    open(f"{folder}/{item}", "w").close()
    return item


def test_workers_of_an_env_run_functions_side_by_side(where: str) -> None:
    env = rh.env(name="replicas-workers", workers=3)
    pid = rh.function(lambda _: os.getpid()).to(where, env)
    seen: set[int] = set()
    until(
        lambda: seen.update(pid.map(range(24), concurrency=12)) or len(seen) == 3, "three workers"
    )


def test_a_replicated_function_has_workers_of_its_own(where: str) -> None:
    pid = rh.function(lambda _: os.getpid()).to(where)
    many = pid.replicate(2)
    seen: set[int] = set()
    until(lambda: seen.update(many.map(range(24), concurrency=12)) or len(seen) == 2, "two workers")
    assert pid(0) not in seen
    with pytest.raises(ValueError):
        pid.replicate(0)


class Counter:
    def __init__(self, start: int = 0) -> None:
        self.n = start

    def add(self) -> tuple[int, int]:
        self.n += 1
        return os.getpid(), self.n

    async def later(self) -> int:
        return os.getpid()


def test_replicas_of_an_object_are_built_alike_and_share_nothing(where: str) -> None:
    replicas = rh.module(Counter).to(where)(10).replicate(3)
    assert len(replicas) == 3
    said = [replicas.add() for _ in range(6)]
    assert {n for _, n in said} == {11, 12}, "in turn, as nothing else is under way"
    assert len({pid for pid, _ in said}) == 3
    assert [one.n for one in replicas] == [12, 12, 12]
    assert len(set(replicas.add.map([]))) == 0
    with pytest.raises(rh.RhdError) as caught:
        replicas.n  # noqa: B018
    assert "instances" in caught.value.hint

    async def main() -> set[int]:
        return set(await asyncio.gather(*(replicas.later() for _ in range(9))))

    assert asyncio.run(main()) == {pid for pid, _ in said}


def test_a_class_on_two_nodes_has_an_instance_on_each(mesh: Any) -> None:
    pair = rh.module(Counter).to(["here", "beta"])(5)
    assert pair.clusters == [rh.cluster("alpha"), rh.cluster("beta")]
    assert sorted(n for _, n in (pair.add() for _ in range(4))) == [6, 6, 7, 7]
    with pytest.raises(TypeError):
        rh.module(Counter).to(["here", "beta"])(name="one-name")


def test_an_object_that_was_found_by_name_is_not_replicated(beta: str) -> None:
    counter = rh.module(Counter).to(beta)(name="tests/single")
    with pytest.raises(rh.RhdError) as caught:
        rh.load("tests/single").replicate(2)
    assert caught.value.hint
    del counter


def test_a_map_reads_no_further_than_it_has_to(where: str, tmp_path: Path) -> None:
    taken: list[int] = []

    def items() -> Any:
        for n in range(10**9):
            taken.append(n)
            yield n, str(tmp_path / "go")

    def wait(n, path):
        import os
        import time

        while n == 0 and not os.path.exists(path):
            time.sleep(0.01)
        return n

    results = rh.function(wait).to(where).starmap(items(), concurrency=2)
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(next(results) for _ in range(3)))
    thread.start()
    until(lambda: len(taken) >= 20, "the others go on while the first result is waited for")
    # As many as may wait behind one result, and not one more.
    until(lambda: len(taken) == 64, "it stops reading")
    (tmp_path / "go").touch()
    thread.join(30)
    assert got == [0, 1, 2]
    results.close()
    assert len(taken) <= 64 + 3


def test_a_map_gives_what_is_ready_though_its_items_come_slowly(where: str) -> None:
    fed: list[int] = []

    def items() -> Any:
        for n in range(4):
            fed.append(n)
            yield n

    results = rh.function(lambda n: n).to(where).map(items(), concurrency=1)
    assert next(results) == 0
    before = len(fed)
    assert next(results) == 1
    assert len(fed) <= before + 2
    assert list(results) == [2, 3]


@pytest.fixture
def realm(fresh: Fresh) -> tuple[Node, Node, Node]:
    """A client's node, one that works, and one that will not."""
    return fresh("near"), fresh("quick"), fresh("slow")


def test_a_slow_node_holds_only_what_it_was_given(realm: Any, tmp_path: Path) -> None:
    work = rh.function(touch_and_wait).to(["quick", "slow"])
    items = [(n, str(tmp_path), 1) for n in range(60)]
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.extend(work.starmap(items, concurrency=4)))
    thread.start()
    until(lambda: len(os.listdir(tmp_path)) >= 58, "the other node did all the rest")
    (tmp_path / "go").touch()
    thread.join(60)
    assert got == list(range(60))


def test_a_dead_node_gets_no_more_items_while_another_lives(
    realm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "PAUSE", 600.0)
    _, _, slow = realm
    work = rh.function(touch_and_wait).to(["quick", "slow"])
    slow.kill()
    items = [(n, str(tmp_path), 0) for n in range(40)]
    results = list(work.starmap(items, concurrency=4, return_exceptions=True))
    lost = [r for r in results if isinstance(r, rh.PeerLost)]
    # No more than were given to it before the first was known to be lost.
    assert 1 <= len(lost) <= 4, results
    assert all(r == n for n, r in enumerate(results) if not isinstance(r, rh.PeerLost))


def test_a_place_that_was_lost_is_tried_again_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(spread.time, "monotonic", lambda: now[0])
    balance = spread.Balance(2)
    taken = [balance.take(), balance.take()]
    assert sorted(taken) == [0, 1]
    balance.give(1, lost=True)
    assert [balance.take() for _ in range(3)] == [0, 0, 0]
    now[0] = spread.PAUSE + 0.1
    assert [balance.take() for _ in range(3)] == [1, 0, 0], "one call finds out"
    balance.give(1)
    assert balance.take() == 1, "it is back"
    for place in (0, 1):
        balance.give(place, lost=True)
    assert balance.take() in (0, 1), "when all are lost, any"


def test_more_callers_than_a_lane_can_take_are_told_how_many_wait(fresh: Fresh) -> None:
    near = fresh("near", RHD_WORKERS_LANES="1", RHD_WORKERS_QUEUE="100")
    work = rh.function(touch_and_wait).to("here")
    go = near.home / "go-on"
    go.mkdir()
    (go / "go").touch()

    async def main() -> list[Any]:
        calls = (work.async_call(n, str(go), 0) for n in range(1000))
        return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(main())
    full = [r for r in results if isinstance(r, rh.QueueFull)]
    assert full and all("100 calls wait" in str(r) and r.hint for r in full)
    done = [r for r in results if isinstance(r, int)]
    assert len(done) + len(full) == 1000 and len(done) >= 101
    assert work(5, str(go), 0) == 5
