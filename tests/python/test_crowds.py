"""Far more callers than lanes: bounded, told how many wait, and fair to whoever calls once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, script, until

Fresh = Callable[..., Node]


def take_turn(folder: str, who: str) -> str:
    """Remote code that notes its turn, and keeps the lane until told to go on."""
    import os
    import time

    with open(f"{folder}/order", "a") as out:
        out.write(who + "\n")
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    return who


@pytest.mark.parametrize("second_from", ["near", "far"])
def test_one_call_is_not_held_behind_a_thousand_of_another(
    fresh: Fresh, tmp_path: Path, second_from: str
) -> None:
    near = fresh("near", RHD_WORKERS_LANES="1", RHD_WORKERS_QUEUE="100")
    second_node = near if second_from == "near" else fresh("far")
    work = rh.function(take_turn, name="turns").to("near")
    order = tmp_path / "order"
    refused: list[rh.QueueFull] = []

    async def one() -> Any:
        try:
            return await work.async_call(str(tmp_path), "flood")
        except rh.QueueFull as full:
            refused.append(full)
            return full

    async def main() -> tuple[list[Any], str, str]:
        flood = [asyncio.create_task(one()) for _ in range(1000)]
        while len(refused) < 899:
            await asyncio.sleep(0.01)
        assert order.read_text() == "flood\n", "one runs, a hundred wait"
        other = script(
            "import sys, rhd as rh; print(rh.load('turns')(sys.argv[1], 'second'))",
            str(tmp_path),
            home=second_node.home,
        )
        # It waits too: in the place of one of those that had a hundred.
        while len(refused) < 900:
            assert other.poll() is None, other.communicate()
            await asyncio.sleep(0.01)
        (tmp_path / "go").touch()
        said = await asyncio.to_thread(other.communicate, None, 60)
        return await asyncio.gather(*flood), *said

    flood, out, err = asyncio.run(main())
    assert out == "second\n", err
    assert flood.count("flood") == 100 and len(refused) == 900
    assert all("100 calls wait" in str(full) and full.hint for full in refused)
    # One may have been its turn as the lane came free.
    assert "second" in order.read_text().split()[1:3]
    assert until(lambda: (near.status() or {}).get("calls") == 0, "nothing is left") is True
