"""Coroutines, on both sides."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import until


def test_a_coroutine_function_is_awaited(where: str) -> None:
    async def plus(a, b):
        import asyncio

        await asyncio.sleep(0)
        return a + b

    assert asyncio.run(rh.function(plus).to(where)(1, 2)) == 3


def test_any_function_can_be_awaited(where: str) -> None:
    remote = rh.function(lambda x: x + 1).to(where)

    async def main() -> list[int]:
        return await asyncio.gather(*(remote.async_call(i) for i in range(20)))

    assert asyncio.run(main()) == list(range(1, 21))


def test_coroutines_meet_on_one_loop(beta: str) -> None:
    async def meet(parties):
        import asyncio

        state = globals().setdefault("_meeting", {"event": asyncio.Event(), "count": 0})
        state["count"] += 1
        if state["count"] == parties:
            state["event"].set()
        await asyncio.wait_for(state["event"].wait(), 20)
        return state["count"]

    remote = rh.function(meet).to(beta)

    async def main() -> list[int]:
        return await asyncio.gather(*(remote(100) for _ in range(100)))

    assert asyncio.run(main()) == [100] * 100


def test_cancelling_here_cancels_there(where: str, tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"

    async def wait(begun, ended):
        import asyncio

        open(begun, "w").close()
        try:
            await asyncio.sleep(600)
        finally:
            open(ended, "w").close()

    remote = rh.function(wait).to(where)

    async def main() -> None:
        task = asyncio.create_task(remote(str(begun), str(ended)))
        while not begun.exists():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    until(ended.exists, "the coroutine was cancelled")


def test_one_handle_serves_several_loops(beta: str) -> None:
    async def same(x):
        return x

    remote = rh.function(same).to(beta)
    assert [asyncio.run(remote(i)) for i in range(3)] == [0, 1, 2]


def test_the_loop_runs_on_while_a_call_waits(beta: str, tmp_path: Path) -> None:
    async def later(path):
        import asyncio
        import os

        while not os.path.exists(path):
            await asyncio.sleep(0.01)
        return "done"

    remote = rh.function(later).to(beta)

    async def main() -> str:
        task = asyncio.create_task(remote(str(tmp_path / "go")))
        for _ in range(100):
            await asyncio.sleep(0)
        # Reached only when the call does not hold the loop.
        (tmp_path / "go").touch()
        return await task

    assert asyncio.run(main()) == "done"


def test_errors_of_coroutines_are_raised(where: str) -> None:
    async def fails():
        raise ValueError("no")

    async def main() -> Any:
        return await rh.function(fails).to(where)()

    with pytest.raises(ValueError, match="no"):
        asyncio.run(main())


def test_a_deadline_holds_on_a_loop(beta: str) -> None:
    async def wait():
        import asyncio

        await asyncio.sleep(600)

    with pytest.raises(rh.Timeout):
        asyncio.run(rh.function(wait).to(beta).options(timeout=0.2)())


def test_a_map_of_a_coroutine_function(beta: str) -> None:
    async def square(x):
        return x * x

    assert list(rh.function(square).to(beta).map(range(10))) == [x * x for x in range(10)]
