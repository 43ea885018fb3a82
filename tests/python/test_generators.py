"""Generators: lazy, with back-pressure, ended by closing."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import script, until


def counting(path: str) -> Any:
    """Counts for ever; writes how far it got, and that it ended."""
    n = 0
    try:
        while True:
            with open(path, "w") as out:
                out.write(str(n))
            yield bytes(64 * 1024)
            n += 1
    finally:
        with open(path + ".ended", "w") as out:
            out.write(str(n))


def sent(where: str) -> Any:
    return rh.function(lambda path: (yield from counting(path))).to(where)


def test_items_come_in_order_and_the_rest_follows(where: str) -> None:
    def numbers(n):
        yield from range(n)

    assert list(rh.function(numbers).to(where)(1000)) == list(range(1000))
    assert list(rh.function(numbers).to(where)(0)) == []


def test_nothing_runs_before_the_first_item_is_asked_for(beta: str, tmp_path: Path) -> None:
    items = sent(beta)(str(tmp_path / "n"))
    assert not (tmp_path / "n").exists()
    next(items)
    assert (tmp_path / "n").exists()
    items.close()


def test_a_reader_that_stops_stops_the_generator(where: str, tmp_path: Path) -> None:
    path = tmp_path / "n"
    items = sent(where)(str(path))
    for _ in range(3):
        next(items)

    # Other calls have the road to themselves for a while; an item takes far less than a call.
    quick = rh.function(lambda: 1).to(where)
    for _ in range(300):
        quick()
    assert int(path.read_text() or 0) < 200
    for _ in range(300):
        next(items)
    assert int(path.read_text() or 300) >= 300
    items.close()


@pytest.mark.parametrize("end", ["close", "drop", "break"])
def test_ending_the_iterator_ends_the_generator(where: str, tmp_path: Path, end: str) -> None:
    path = tmp_path / "n"
    items = sent(where)(str(path))
    next(items)
    if end == "close":
        items.close()
        assert list(items) == []
    elif end == "drop":
        del items
        gc.collect()
    else:
        for _ in items:
            break
        del items
        gc.collect()
    until((tmp_path / "n.ended").exists, "its finally block ran")


def test_an_error_comes_in_its_place(where: str) -> None:
    def fails():
        yield 1
        yield 2
        raise KeyError("third")

    items = rh.function(fails).to(where)()
    assert (next(items), next(items)) == (1, 2)
    with pytest.raises(KeyError):
        next(items)
    with pytest.raises(StopIteration):
        next(items)


def test_the_value_of_a_generator_comes_with_its_end(beta: str) -> None:
    def valued():
        yield 1
        return "end"

    def outer():
        return (yield from rh_iterator)

    rh_iterator = rh.function(valued).to(beta)()
    generator = outer()
    assert next(generator) == 1
    with pytest.raises(StopIteration) as caught:
        next(generator)
    assert caught.value.value == "end"


def test_a_function_may_return_a_generator(where: str) -> None:
    assert list(rh.function(lambda n: (x * x for x in range(n))).to(where)(4)) == [0, 1, 4, 9]


def test_async_generators(where: str) -> None:
    async def ticks(n):
        import asyncio

        for i in range(n):
            await asyncio.sleep(0)
            yield i

    remote = rh.function(ticks).to(where)

    async def main() -> list[int]:
        return [i async for i in remote(100)]

    assert asyncio.run(main()) == list(range(100))


def test_leaving_an_async_generator_ends_it(where: str, tmp_path: Path) -> None:
    path = tmp_path / "ended"

    async def endless(path):
        import asyncio

        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            open(path, "w").close()

    remote = rh.function(endless).to(where)

    async def main() -> None:
        items = remote(str(path))
        async for _ in items:
            break
        await items.aclose()

    asyncio.run(main())
    until(path.exists, "its finally block ran")


def test_a_generator_is_read_on_a_loop_too(beta: str) -> None:
    def numbers(n):
        yield from range(n)

    remote = rh.function(numbers).to(beta)

    async def main() -> list[int]:
        return [i async for i in await remote.async_call(5)]

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_a_client_that_is_killed_while_streaming_ends_the_generator(
    where: str, tmp_path: Path
) -> None:
    path = tmp_path / "n"
    program = script(
        """
        import sys, rhd as rh
        def endless(path):
            try:
                while True:
                    yield 1
            finally:
                open(path, "w").close()
        items = rh.function(endless).to(sys.argv[1])(sys.argv[2])
        next(items)
        print("streaming", flush=True)
        for item in items: pass
        """,
        where,
        str(path),
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "streaming\n"
    program.kill()
    program.wait()
    until(path.exists, "the generator ended")
