"""Memory and disk that run out, and workers that die with a payload in their hands."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, freeze, until
from rhd import codec, frames
from test_large import MIB, arrives, noise

numpy = pytest.importorskip("numpy")

Fresh = Callable[..., Node]


# --- memory


@pytest.fixture
def cage() -> Iterator[Path]:
    """A control group with little memory, for a worker to go into."""
    first = Path("/sys/fs/cgroup/memory")
    base = first if first.is_dir() else Path("/sys/fs/cgroup")
    folder = base / f"rhd-test-{os.getpid()}"
    limit = "memory.limit_in_bytes" if first.is_dir() else "memory.max"
    try:
        folder.mkdir()
        (folder / limit).write_text(str(128 * MIB))
    except OSError as e:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"no control group for memory can be made here: {e}")
    with contextlib.suppress(OSError):
        (folder / "memory.swap.max").write_text("0")
    yield folder
    until(lambda: not (folder / "cgroup.procs").read_text(), "nothing is left in it")
    folder.rmdir()


def takes_memory(cage: str) -> int:
    """Remote code that takes all that there is, and more."""
    with open(f"{cage}/cgroup.procs", "w") as procs:
        procs.write("0")
    held = []
    while True:
        held.append(b"x" * (1 << 20))


def returns_memory(cage: str) -> Any:
    """Remote code whose result finds no memory on its way out."""
    import numpy

    with open(f"{cage}/cgroup.procs", "w") as procs:
        procs.write("0")
    return numpy.zeros(200 << 20, dtype="uint8")


@pytest.mark.parametrize("eater", [takes_memory, returns_memory])
def test_the_system_kills_a_worker_for_its_memory(beta: str, cage: Path, eater: Any) -> None:
    env = rh.env(name=f"caged-{eater.__name__}".replace("_", "-"))
    remote = rh.function(eater).to(beta, env)
    with pytest.raises(rh.EnvError) as caught:
        remote(str(cage))
    error = caught.value
    assert "SIGKILL" in str(error) and "memory" in error.hint and error.node == beta
    assert rh.run(error.call_id).status == "ERROR"
    quick = rh.function(lambda x: x + 1).to(beta, env)
    assert quick(1) == 2, "the next call has a new worker"


def test_a_result_beyond_what_the_callers_node_takes_is_refused(fresh: Fresh) -> None:
    fresh("near", RHD_NODE_MAX_PAYLOAD=str(4 * MIB))
    far = fresh("far")
    remote = rh.function(lambda n: __import__("numpy").zeros(n, "uint8")).to("far")
    assert len(remote(2 * MIB)) == 2 * MIB
    with pytest.raises(rh.RhdError, match="limit") as caught:
        remote(5 * MIB)
    assert "max_payload" in caught.value.hint and caught.value.call_id
    assert len(remote(2 * MIB)) == 2 * MIB
    until(lambda: (far.status() or {}).get("calls") == 0, "nothing of it is left there")


def test_a_result_that_is_longer_than_a_record_keeps_is_refused(fresh: Fresh) -> None:
    fresh("near", RHD_WORKERS_MAX_BODY=str(4 * MIB))
    remote = rh.function(lambda n: b"x" * n).to("here")
    assert len(remote.run(2 * MIB).result()) == 2 * MIB
    run = remote.run(5 * MIB)
    with pytest.raises(rh.RhdError, match="limit") as caught:
        run.result()
    assert caught.value.hint and run.status == "ERROR"
    assert len(remote.run(2 * MIB).result()) == 2 * MIB


# --- workers that die with a payload in their hands


def pid_of(remote_env: rh.Env | str, where: str) -> int:
    return int(rh.function(os.getpid).to(where, remote_env)())


def test_a_worker_that_dies_as_its_result_travels_has_done_its_work(fresh: Fresh) -> None:
    near, _ = fresh("near"), fresh("far")
    remote = rh.function(lambda n: __import__("numpy").full(n, 7, "uint8")).to("far")
    pid = rh.function(lambda: __import__("os").getpid()).to("far")()
    got: list[Any] = []
    caller = threading.Thread(target=lambda: got.append(remote(400 * MIB)))
    caller.start()
    until(lambda: arrives(near), "the result is under way")
    os.kill(pid, signal.SIGKILL)
    caller.join(60)
    (result,) = got
    assert len(result) == 400 * MIB and (result[:: 64 * 1024] == 7).all()
    assert len(remote(MIB)) == MIB


def test_a_worker_that_dies_as_an_argument_travels_is_replaced(
    fresh: Fresh, tmp_path: Path
) -> None:
    def count(array, path):
        with open(path, "a") as out:
            out.write("x")
        return len(array)

    fresh("near")
    far = fresh("far")
    remote = rh.function(count).to("far")
    pid = rh.function(lambda: __import__("os").getpid()).to("far")()
    got: list[Any] = []
    path = tmp_path / "ran"
    array = numpy.zeros(400 * MIB, dtype=numpy.uint8)
    caller = threading.Thread(target=lambda: got.append(remote(array, str(path))))
    caller.start()
    until(lambda: arrives(far), "the argument is under way")
    os.kill(pid, signal.SIGKILL)
    caller.join(60)
    assert got == [400 * MIB] and path.read_text() == "x"


def test_a_worker_that_dies_between_large_items_ends_them_with_its_error(where: str) -> None:
    def items():
        import os

        import numpy

        yield os.getpid()
        for i in range(1000):
            yield numpy.full(8 << 20, i, "uint8")

    got = rh.function(items).to(where, rh.env(name="streams"))()
    pid = next(got)
    assert [int(next(got)[-1]) for _ in range(3)] == [0, 1, 2]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(rh.EnvError, match="SIGKILL") as caught:
        for _ in got:
            pass
    assert caught.value.call_id and rh.run(caught.value.call_id).status == "ERROR"


def test_a_worker_that_dies_as_it_reads_is_not_asked_again(mesh: Any, tmp_path: Path) -> None:
    path = tmp_path / "ran"

    def length(data, path):
        with open(path, "a") as out:
            out.write("x")
        return len(data)

    env = rh.env(name="reads")
    remote = rh.function(length).to("here", env)
    pid = rh.function(lambda: __import__("os").getpid()).to("here", env)()
    assert remote(b"", str(path)) == 0
    target = remote._target
    parts = codec.dumps(((noise(64 * MIB), str(path)), {}))
    _, header = target.header(parts, "call", {})
    freeze(pid)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(target.daemon.path)
        sock.settimeout(60)
        # In its frame: the worker has to read all of it, and can't.
        frames.send(sock, header, parts)
        until(lambda: (mesh[0].status() or {}).get("calls") == 1, "it is being written")
        os.kill(pid, signal.SIGKILL)
        reply, _ = frames.recv(sock)
    assert reply["t"] == "fail" and "SIGKILL" in reply["error"]["message"], reply
    assert reply["error"]["call"] == header["call"]["id"]
    assert remote(b"xy", str(path)) == 2 and path.read_text() == "xx"


# --- disks


def fill(folder: Path) -> Path:
    """Leaves no byte free where a node that was started on a small disk has this folder."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as out:
        for piece in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while out.write(b"x" * piece):
                    pass
    return filler


@pytest.fixture
def tight(fresh: Fresh) -> Callable[[str, int], tuple[Node, Path]]:
    """Starts a node again with a folder of its home on a disk of so many MiB; returns where the
    folder can be seen from here."""

    def start(name: str, mib: int) -> tuple[Node, Path]:
        node = fresh("near")
        node.stop()
        folder = node.home / name
        folder.mkdir(parents=True, exist_ok=True)
        mount = f'mount -t tmpfs -o size={mib}m none "$0" && exec "$@"'
        node.wrapper = ["unshare", "--mount", "--propagation", "private"]
        if os.system(f"{' '.join(node.wrapper)} mount -t tmpfs none {folder} 2>/dev/null"):
            node.wrapper = []
            pytest.skip("no disk can be mounted here")
        node.wrapper += ["sh", "-c", mount, str(folder)]
        node.up()
        assert node.process is not None
        return node, Path(f"/proc/{node.process.pid}/root{folder}")

    return start


def test_on_a_full_disk_nothing_is_half_recorded(tight: Any) -> None:
    _, runs = tight("runs", 24)
    remote = rh.function(lambda n: b"x" * n).to("here")
    assert (
        remote.run(
            MIB,
        ).result()
        == b"x" * MIB
    )
    filler = fill(runs)
    before = sorted((runs / "records").iterdir())
    with pytest.raises(rh.QueueFull, match="note the call down") as caught:
        remote.run(1)
    assert "nothing ran" in caught.value.hint and "disk" in caught.value.hint
    assert rh.run(caught.value.call_id).status == "NOT_STARTED"
    assert sorted((runs / "records").iterdir()) == before, "no record of half a run"
    # Receipts have their room beforehand: plain calls go on.
    assert [len(remote(n)) for n in range(100)] == list(range(100))
    filler.unlink()
    assert remote.run(3).result() == b"xxx"


def test_a_disk_that_fills_up_under_a_run_is_told_as_what_it_is(tight: Any, tmp_path: Path) -> None:
    def work(path, n):
        import os
        import time

        open(path, "w").close()
        while not os.path.exists(path + ".go"):
            time.sleep(0.01)
        return b"x" * n

    def items(path):
        yield 1
        open(path, "w").close()
        while True:
            yield b"y" * (1 << 16)

    _, runs = tight("runs", 24)
    began = tmp_path / "began"
    run = rh.function(work).to("here").run(str(began), 3 * MIB)
    until(began.exists, "it began")
    filler = fill(runs)
    waiting: list[Any] = []
    thread = threading.Thread(target=lambda: waiting.append(run.result()))
    thread.start()
    until(lambda: run.status == "RUNNING", "it runs")
    Path(f"{began}.go").touch()
    thread.join(60)
    # Who waits has the result; later it is not there, and nothing else is said.
    assert waiting == [b"x" * (3 * MIB)] and run.status == "COMPLETED"
    with pytest.raises(rh.NotFound, match="could not be kept"):
        rh.run(run.id).result()
    filler.unlink()
    # What it yields has to be kept, or its replay would have a hole.
    endless = rh.function(items).to("here").run(str(tmp_path / "items"))
    with pytest.raises(rh.QueueFull, match="can't keep what it returns") as caught:
        for _ in endless.result():
            pass
    assert "disk" in caught.value.hint
    until(lambda: endless.status == "ERROR", "its record says so")


def test_a_payload_that_finds_no_room_on_disk_is_refused_unread(tight: Any) -> None:
    node, tmp = tight("tmp", 8)
    node.join(fresh_peer := Node(node.home.parent / "far", "far").up())
    try:
        os.environ["RHD_HOME"] = str(fresh_peer.home)
        remote = rh.function(lambda a: len(a)).to("near")
        with pytest.raises(rh.QueueFull, match="can't be stored") as caught:
            remote(numpy.zeros((1 << 30) + MIB, dtype=numpy.uint8))
        assert "disk" in caught.value.hint and caught.value.node == "near"
        assert not list(tmp.iterdir())
        assert remote(noise(MIB)) == MIB
    finally:
        fresh_peer.stop()
