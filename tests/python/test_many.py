"""Many calls on one connection: of a loop, and of a map."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import rhd as rh
from conftest import Node, until
from rhd import daemon, frames, many
from rhd.instance import RemoteMethod
from rhd.target import Target

Fresh = Callable[..., Node]


def sockets() -> int:
    """Sockets that this process has open."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return sum(os.path.islink(link) and os.readlink(link).startswith("socket:") for link in links)


# --- a loop


def test_calls_of_a_loop_share_a_connection(where: str) -> None:
    remote = rh.function(lambda x: x + 1).to(where)

    async def main() -> int:
        await remote.async_call(0)
        before = sockets()
        calls = asyncio.gather(*(remote.async_call(i) for i in range(200)))
        await asyncio.sleep(0)
        more = sockets() - before
        assert await calls == list(range(1, 201))
        return max(more, sockets() - before)

    assert asyncio.run(main()) <= 1


def test_loops_that_end_leave_no_connection(beta: str) -> None:
    remote = rh.function(lambda x: x + 1).to(beta)
    asyncio.run(remote.async_call(1))
    gc.collect()
    before = sockets()
    for n in range(10):
        assert asyncio.run(remote.async_call(n)) == n + 1
    gc.collect()
    assert sockets() <= before + 1


def test_one_of_many_is_cancelled_and_slow_items_hold_back_nobody(
    where: str, tmp_path: Path
) -> None:
    async def wait(path):
        import asyncio

        open(path, "w").close()
        try:
            await asyncio.sleep(600)
        finally:
            open(path + ".end", "w").close()

    def count(path):
        for n in itertools.count():
            with open(path, "w") as out:
                out.write(str(n))
            yield n

    waits, counts = rh.function(wait).to(where), rh.function(count).to(where)
    quick = rh.function(lambda x: x).to(where)
    paths = [tmp_path / name for name in ("left", "kept", "count")]

    async def main() -> None:
        left, kept = (asyncio.create_task(waits(str(path))) for path in paths[:2])
        items = await counts.async_call(str(paths[2]))
        assert await anext(items) == 0
        while not (paths[0].exists() and paths[1].exists()):
            await asyncio.sleep(0.01)
        for _ in range(5):
            assert await asyncio.gather(*(quick.async_call(i) for i in range(50))) == [*range(50)]
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        while not (tmp_path / "left.end").exists():
            await asyncio.sleep(0.01)
        assert int(paths[2].read_text() or 0) < 10_000, "its reader is behind"
        for n in range(1, 100):
            assert await anext(items) == n
        await items.aclose()
        assert not (tmp_path / "kept.end").exists()
        kept.cancel()

    asyncio.run(main())
    until((tmp_path / "kept.end").exists, "the other one ends with its loop")


def test_what_is_large_goes_beside_what_is_small(where: str) -> None:
    same = rh.function(lambda x: x).to(where)
    sizes = [10, 60_000, 70_000, 3_000_000] * 4

    async def main() -> None:
        arrays = [numpy.full(size, n, dtype="uint8") for n, size in enumerate(sizes)]
        back = await asyncio.gather(*(same.async_call(array) for array in arrays))
        assert all((a == b).all() for a, b in zip(arrays, back, strict=True))
        assert all(array.flags.writeable for array in back)

    asyncio.run(main())


def wait_for(folder: str, name: int, gate: str) -> int:
    """Remote code that tells that it began, and returns when told to."""
    import os
    import time

    with open(f"{folder}/{name}", "a") as out:
        out.write("began\n")
    while not os.path.exists(gate):
        time.sleep(0.01)
    return name


def test_a_daemon_that_dies_fails_all_and_the_next_is_found(fresh: Fresh, tmp_path: Path) -> None:
    near = fresh("near")
    remote, quick = rh.function(wait_for).to("here"), rh.function(lambda x: x).to("here")
    folder = tmp_path / "began"
    folder.mkdir()
    loop = asyncio.new_event_loop()

    async def lose() -> list[Any]:
        calls = [remote.async_call(str(folder), n, "/nowhere") for n in range(20)]
        tasks = [asyncio.create_task(call) for call in calls]
        while len(list(folder.iterdir())) < 20:
            await asyncio.sleep(0.01)
        near.kill()
        return await asyncio.gather(*tasks, return_exceptions=True)

    async def several() -> list[int]:
        return await asyncio.gather(*(quick.async_call(n) for n in range(20)))

    try:
        errors = loop.run_until_complete(lose())
        assert all(isinstance(error, rh.DaemonUnavailable) for error in errors), errors
        assert len({error.call_id for error in errors}) == 20
        near.up()
        assert loop.run_until_complete(several()) == [*range(20)]
        # While nobody looks at the loop's connection: what was not sent has not run.
        near.kill()
        near.up()
        assert loop.run_until_complete(several()) == [*range(20)]
    finally:
        loop.close()
    assert all(path.read_text() == "began\n" for path in folder.iterdir())


# --- a map


def test_a_map_has_one_connection_and_no_threads(where: str) -> None:
    remote = rh.function(lambda x: x * 2).to(where)
    remote(0)
    connections, threads = sockets(), threading.active_count()
    results = remote.map(range(500), concurrency=64)
    for n, result in enumerate(results):
        assert result == n * 2
        assert sockets() <= connections + 1
        assert threading.active_count() <= threads
    gc.collect()
    assert sockets() <= connections


def test_a_map_carries_large_arguments_and_results(where: str) -> None:
    same = rh.function(lambda x: x + 0).to(where)
    arrays = [numpy.full(size, 3, dtype="uint8") for size in (10, 200_000, 5_000_000) * 4]
    for given, got in zip(arrays, same.map(arrays, concurrency=4), strict=True):
        assert (given == got).all() and got.flags.writeable


def test_iterators_that_a_map_gives_are_read_later(where: str) -> None:
    def upto(n, path):
        def items():
            try:
                yield from range(n)
            finally:
                open(path, "w").close()

        return items()

    remote = rh.function(upto).to(where)
    folder = Path(os.environ["RHD_HOME"]) / f"iterators-{where}-{time.time_ns()}"
    folder.mkdir()
    paths = [str(folder / str(n)) for n in range(4)]
    # More than ways have room for: who drops the last one ends it, nothing else does.
    counts = [100, 100, 100, 10**9]
    iterators = list(remote.starmap(zip(counts, paths, strict=True)))
    assert list(iterators[1]) == list(range(100))
    assert [next(iterators[0]) for _ in range(50)] == list(range(50))
    assert [next(iterators[2]) for _ in range(50)] == list(range(50))
    iterators[0].close()
    until(Path(paths[0]).exists, "the first was ended")
    assert list(iterators[2]) == list(range(50, 100))
    del iterators
    until(Path(paths[3]).exists, "the last was dropped")


def test_a_map_outlives_its_daemon(fresh: Fresh, tmp_path: Path) -> None:
    near = fresh("near")
    folder, gate = tmp_path / "began", tmp_path / "gate"
    folder.mkdir()
    remote = rh.function(wait_for).to("here")
    arguments = [(str(folder), n, str(gate)) for n in range(12)]
    results = remote.starmap(arguments, concurrency=4, return_exceptions=True)

    def break_it() -> None:
        until(lambda: len(list(folder.iterdir())) == 4, "the first ones began")
        near.kill()
        gate.touch()
        near.up()

    breaker = threading.Thread(target=break_it)
    breaker.start()
    lost = [next(results) for _ in range(4)]
    breaker.join()
    assert all(isinstance(error, rh.DaemonUnavailable) for error in lost), lost
    assert list(results)[-4:] == [8, 9, 10, 11]
    assert all(path.read_text() == "began\n" for path in folder.iterdir()), "nothing ran twice"


def test_a_map_shows_output_and_keeps_deadlines(where: str, capsys: Any) -> None:
    def speak(n):
        import time

        print(f"line {n}")
        if n == 5:
            while True:
                time.sleep(0.01)
        return n

    remote = rh.function(speak).to(where).options(timeout=2)
    results = list(remote.map(range(8), concurrency=4, return_exceptions=True))
    assert isinstance(results[5], rh.Timeout)
    assert [n for n in results if isinstance(n, int)] == [0, 1, 2, 3, 4, 6, 7]
    said = capsys.readouterr().out
    # A line that was cut by one of another call is ended there.
    assert sorted(filter(None, said.split("\n"))) == [f"line {n}" for n in range(8)]


# --- daemons that are old, or wrong


class Fake:
    """A daemon that is none: it answers as it is told to."""

    def __init__(self, home: Path, answer: Callable[[dict, socket.socket], None]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.asked: list[str] = []
        self.accepted = 0
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(home / "rhd.sock"))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            while True:
                header, _ = frames.recv(sock)
                self.asked.append(header["op"])
                self._answer(header, sock)
        except (OSError, EOFError):
            sock.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def fake(root: Path) -> Iterator[Callable[..., tuple[Fake, Target]]]:
    made: list[Fake] = []

    def make(answer: Callable[[dict, socket.socket], None]) -> tuple[Fake, Target]:
        home = root / f"fake-{time.time_ns()}"
        made.append(Fake(home, answer))
        return made[-1], Target(daemon.Daemon(str(home)), "/ann/f", None, None)

    yield make
    for one in made:
        one.close()


def function(target: Target) -> Any:
    """A handle on what the fake would host."""
    return RemoteMethod(target, "f", "plain")


def as_of_old(header: dict, sock: socket.socket) -> None:
    if header["op"] == "call":
        body = frames._packb(7)
        frames.send(sock, {"t": "done", "codec": "msgpack", "parts": [len(body)]}, [body])
    else:
        frames.send(sock, {"t": "fail", "error": {"kind": "bad_request", "message": "unknown"}})


def test_an_old_daemon_gets_a_connection_for_each_call(fake: Any) -> None:
    old, target = fake(as_of_old)
    remote = function(target)

    async def main() -> list[int]:
        return await asyncio.gather(*(remote.async_call() for _ in range(5)))

    assert asyncio.run(main()) == [7] * 5
    assert asyncio.run(main()) == [7] * 5
    assert list(remote.starmap([()] * 20, concurrency=3)) == [7] * 20
    assert old.asked.count("many") == 1, "it is asked once"


def switched(reply: Callable[[dict, socket.socket], None]) -> Callable[[dict, socket.socket], None]:
    """A daemon that takes many calls, and answers them like this."""

    def answer(header: dict, sock: socket.socket) -> None:
        if header["op"] == "many":
            frames.send(sock, {"t": "done", "codec": "msgpack", "parts": [1]}, [b"\xc0"])
        else:
            reply(header, sock)

    return answer


def flood(header: dict, sock: socket.socket) -> None:
    if header["op"] == "call":
        item = {"t": "item", "id": header["call"]["id"], "codec": "msgpack", "parts": [1]}
        # All at once: one by one, a fast reader would give credit for them.
        sock.sendall((frames.encode(item, 1) + b"\x01") * 100)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda header, sock: sock.sendall(b"\xff" * 64),
        lambda header, sock: sock.sendall(frames.encode({"t": "done"}, 9)[:-2]) or sock.close(),
        lambda header, sock: sock.sendall(b"\0\0\0\1\0\0\0\0\xc0"),
        lambda header, sock: frames.send(
            sock, {"t": "fail", "id": None, "error": {"kind": "internal", "message": "so"}}
        ),
        lambda header, sock: sock.close(),
        flood,
    ],
    ids=["noise", "cut", "no map", "of no call", "closed", "flood"],
)
def test_replies_that_are_wrong_fail_every_call(fake: Any, wrong: Any) -> None:
    bad, target = fake(switched(wrong))
    remote = function(target)

    async def main() -> list[Any]:
        async def one() -> Any:
            found = await remote.async_call()
            return [item async for item in found]

        calls = asyncio.gather(*(one() for _ in range(3)), return_exceptions=True)
        return await asyncio.wait_for(calls, 30)

    failed = asyncio.run(main())
    assert all(isinstance(error, rh.RhdError) for error in failed), failed
    found = list(remote.starmap([()] * 3, concurrency=3, return_exceptions=True))
    if wrong is not flood:
        assert all(isinstance(error, rh.RhdError) for error in found), found
    assert bad.accepted >= 2


def test_replies_of_no_call_and_kinds_of_tomorrow_are_passed_over(fake: Any) -> None:
    def answer(header: dict, sock: socket.socket) -> None:
        if header["op"] != "call":
            return
        call = header["call"]["id"]
        frames.send(sock, {"t": "progress", "text": "on the way"})
        frames.send(sock, {"t": "done", "id": "a" * 26, "codec": "msgpack", "parts": [1]}, [b"\1"])
        frames.send(sock, {"t": "tomorrow", "id": call, "x": [1]}, [b"12345"])
        frames.send(sock, {"t": "done", "id": call, "codec": "msgpack", "parts": [1]}, [b"\7"])

    _, target = fake(switched(answer))

    async def main() -> list[Any]:
        return await asyncio.gather(*(function(target).async_call() for _ in range(5)))

    assert asyncio.run(main()) == [7] * 5
    assert list(function(target).starmap([()] * 5)) == [7] * 5


def test_more_calls_than_a_connection_takes_have_their_own(
    beta: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "CALLS", 3)
    remote = rh.function(lambda x: x).to(beta)

    async def main() -> list[int]:
        return await asyncio.gather(*(remote.async_call(i) for i in range(20)))

    assert asyncio.run(main()) == [*range(20)]
    assert list(remote.map(range(20), concurrency=10)) == [*range(20)]
