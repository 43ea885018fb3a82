"""Large arguments and results: over one daemon and over two."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, until
from rhd import codec, daemon, frames, segments

numpy = pytest.importorskip("numpy")

MIB = 1 << 20
# What one call carries in its frame at most is half a GiB: more than that goes only beside it.
HUGE = int(os.environ.get("RHD_TEST_HUGE_MIB", "600")) * MIB
# What a daemon may take of memory, whatever passes through it.
RESIDENT = 150 * MIB


def noise(size: int, seed: int = 1) -> Any:
    return numpy.random.default_rng(seed).integers(0, 255, size, dtype=numpy.uint8)


def resident(node: Node, what: str = "VmHWM") -> int:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) * 1024


def arrives(node: Node) -> bool:
    """Whether a payload is on its way through a node, or in its hands."""
    assert node.process is not None
    files = Path(f"/proc/{node.process.pid}/fd").iterdir()
    # They come and go meanwhile.
    return any("rhd-payload" in os.readlink(file) for file in files if file.is_symlink())


def test_arrays_are_equal_and_writable_on_the_way_there_and_back(where: str) -> None:
    def work(a, b):
        assert a.flags.writeable and b["x"].flags.writeable
        a[0] = 99
        return {"a": a, "b": b["x"] * 2, "n": a.nbytes}

    a, b = noise(3 * MIB), numpy.arange(400_000, dtype="float64")
    before = a.copy()
    remote = rh.function(work).to(where)
    for _ in range(4):
        back = remote(a, {"x": b})
        assert (a == before).all(), "the caller's own array is its own"
        assert back["a"][0] == 99 and (back["a"][1:] == a[1:]).all() and back["n"] == a.nbytes
        assert (back["b"] == b * 2).all()
        back["a"][:] = 0
        back["b"][:] = 0


def test_what_is_kept_on_either_side_outlives_later_calls(where: str) -> None:
    class Keeper:
        def __init__(self):
            self.kept = []

        def keep(self, array):
            self.kept.append(array)
            return array

        def sums(self):
            return [int(array.sum()) for array in self.kept]

    keeper = rh.module(Keeper).to(where)()
    arrays = [noise(MIB, seed) for seed in range(12)]
    back = [keeper.keep(array) for array in arrays]
    for seed in range(6):
        keeper.sums()
        rh.function(lambda a: a).to(where)(noise(MIB, 100 + seed))
    assert keeper.sums() == [int(array.sum()) for array in arrays]
    assert all((mine == theirs).all() for mine, theirs in zip(arrays, back, strict=True))


def test_large_items_of_generators_are_each_their_own(where: str) -> None:
    def items(n):
        for i in range(n):
            yield __import__("numpy").full(1 << 19, i, dtype="uint8")

    async def later(n):
        for i in range(n):
            yield __import__("numpy").full(1 << 19, i, dtype="uint8")

    async def drained() -> list[Any]:
        return [item async for item in rh.function(later).to(where)(40)]

    for kept in (list(rh.function(items).to(where)(40)), asyncio.run(drained())):
        assert [int(item[0]) for item in kept] == list(range(40))
        assert all((item == i).all() for i, item in enumerate(kept))


def test_coroutines_take_and_return_large_payloads(where: str) -> None:
    async def double(a):
        return a * 2

    remote = rh.function(double).to(where)
    array = numpy.arange(200_000, dtype="int64")

    async def main() -> list[Any]:
        return await asyncio.gather(*[remote(array + i) for i in range(12)])

    for i, back in enumerate(asyncio.run(main())):
        assert (back == (array + i) * 2).all() and back.flags.writeable


def test_many_threads_send_at_once(where: str) -> None:
    echo = rh.function(lambda a: a).to(where)
    arrays = [(noise(700_000 + 10_000 * i, i),) for i in range(32)]
    backs = list(echo.starmap(arrays, concurrency=8))
    assert all((a == back).all() for (a,), back in zip(arrays, backs, strict=True))


def test_a_client_that_knows_nothing_of_files_gets_results_in_frames(where: str) -> None:
    echo = rh.function(lambda a: a).to(where)
    target = echo._target
    parts = codec.dumps(((noise(MIB),), {}))
    _, header = target.header(parts, "call", {})
    assert "beside" not in header["call"]
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(target.daemon.path)
        sock.settimeout(30)
        frames.send(sock, header, parts)
        # Without room for descriptors none may come.
        while True:
            prefix = frames._read(sock, 8)
            head, size = int.from_bytes(prefix[:4], "big"), int.from_bytes(prefix[4:], "big")
            assert head < frames.MAX_HEADER
            reply = frames.decode(frames._read(sock, head))
            body = frames._read(sock, size)
            if reply["t"] == "done":
                break
    assert size > MIB
    assert (codec.loads(frames.split(body, reply["parts"])) == noise(MIB)).all()


def test_files_that_are_not_as_they_should_be_are_refused(mesh: Any) -> None:
    echo = rh.function(lambda a: a).to("here")
    target = echo._target
    parts = codec.dumps(((noise(MIB),), {}))

    def ask(fd: int, length: int) -> bytes:
        _, header = target.header(parts, "call", {"beside": True})
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(target.daemon.path)
            sock.settimeout(30)
            sock.sendall(frames.beside(header))
            socket.send_fds(sock, [length.to_bytes(8, "big")], [fd])
            reply, _ = frames.recv(sock)
            assert reply["t"] == "fail", reply
            return bytes(str(reply["error"]["message"]), "utf-8")

    good = segments.lend(parts)
    unsealed = os.memfd_create("unsealed")
    os.ftruncate(unsealed, 2 * MIB)
    read, write = os.pipe()
    try:
        assert b"shrink" in ask(unsealed, MIB)
        assert b"short" in ask(good.fd, 100 * MIB)
        assert b"no file" in ask(read, MIB)
        assert b"limit" in ask(good.fd, 1 << 62)
    finally:
        for fd in (unsealed, read, write):
            os.close(fd)
    assert (echo(noise(MIB)) == noise(MIB)).all()


@pytest.mark.timeout(1800)  # of a size that daemons which are debug builds take minutes for
@pytest.mark.parametrize("what", ["argument", "result"])
def test_payloads_of_any_size_pass_through_daemons_that_stay_small(fresh: Any, what: str) -> None:
    def filled(size):
        array = __import__("numpy").zeros(size, dtype="uint8")
        array[-1] = 42
        return array

    alpha, beta = fresh("alpha"), fresh("beta")
    if what == "argument":
        remote = rh.function(lambda a: (len(a), int(a[-1]), bool(a[:: 4096 * 64][:-1].any())))
        far = remote.to("beta")
        far(noise(MIB))
        assert far(filled(HUGE)) == (HUGE, 42, False)
    else:
        far = rh.function(filled).to("beta")
        far(MIB)
        back = far(HUGE)
        assert len(back) == HUGE and back[-1] == 42 and not back[:: 4096 * 64][:-1].any()
        del back
    for node in (alpha, beta):
        print(f"{what} of {HUGE // MIB} MiB: {node.name} had {resident(node) // MIB} MiB at most")
        assert resident(node) < RESIDENT, node.name
        assert not list((node.home / "tmp").glob("*"))


def test_a_node_that_dies_in_the_middle_of_a_payload_is_a_lost_peer(fresh: Any) -> None:
    alpha, beta = fresh("alpha"), fresh("beta")
    remote = rh.function(len).to("beta")
    failed: list[BaseException] = []

    def call() -> None:
        try:
            remote(numpy.zeros(500 * MIB, dtype=numpy.uint8))
        except BaseException as error:
            failed.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    until(lambda: arrives(beta), "the payload is under way")
    beta.kill()
    caller.join(30)
    assert len(failed) == 1 and isinstance(failed[0], rh.PeerLost), failed
    here = rh.function(lambda a: a).to("here")
    assert (here(noise(MIB)) == noise(MIB)).all()
    assert resident(alpha) < RESIDENT


def test_more_than_a_node_takes_is_refused_with_what_to_do(fresh: Any) -> None:
    fresh("alpha")
    fresh("beta", RHD_NODE_MAX_PAYLOAD=str(2 * MIB))
    remote = rh.function(lambda a: len(a)).to("beta")
    assert remote(noise(MIB)) == MIB
    with pytest.raises(rh.RhdError, match="limit") as caught:
        remote(noise(3 * MIB))
    assert "max_payload" in caught.value.hint
    assert remote(noise(MIB)) == MIB


def test_a_result_that_there_is_no_memory_for_is_refused_in_the_worker(where: str) -> None:
    def big(free):
        from rhd import segments

        segments._free_memory = lambda: free
        return __import__("numpy").zeros(100 << 20, dtype="uint8")

    remote = rh.function(big).to(where)
    with pytest.raises(rh.RemoteError, match="free memory") as caught:
        remote(1 << 20)
    assert "yield" in caught.value.hint
    assert len(remote(1 << 30)) == 100 << 20


def test_the_daemon_is_asked_once_whether_it_takes_files(mesh: Any) -> None:
    assert daemon.daemon().takes_beside() is True
