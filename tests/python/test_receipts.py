"""Calls that lose their way back: the receipt says what became of them, and nothing runs twice."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import socket
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from conftest import Node, freeze, until
from rhd import console, receipts
from rhd.connection import Connection
from test_lost_daemons import Underway, wait_for

Fresh = Callable[..., Node]
Pair = tuple[Node, Node]


@pytest.fixture
def pair(fresh: Fresh) -> Pair:
    """The client's node, and one that runs what it calls."""
    return fresh("near"), fresh("far")


def test_a_call_whose_own_daemon_died_is_attached_to_again(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, _ = pair
    attach, attached = receipts.Pursuit._attach, threading.Event()
    monkeypatch.setattr(receipts.Pursuit, "_attach", lambda self: (attach(self), attached.set()))
    call = Underway(rh.function(wait_for).to("far").options(retries=3), tmp_path)
    near.kill()
    near.up()
    # It runs still: what does not attach now would call it a second time.
    until(attached.is_set, "its caller has found it")
    call.mark.touch()
    assert call.end() == "done"
    assert call.count("began") == 1


def test_what_ended_meanwhile_is_fetched(pair: Pair, tmp_path: Path) -> None:
    near, _ = pair
    call = Underway(rh.function(wait_for).to("far").options(retries=3), tmp_path)
    near.kill()
    call.mark.touch()
    until(lambda: call.count("ended") == 1, "it ended though nobody waits")
    near.up()
    assert call.end() == "done"
    assert call.count("began") == 1


def test_what_failed_meanwhile_raises(pair: Pair, tmp_path: Path) -> None:
    def fail(lines, mark):
        import os
        import time

        with open(lines, "a") as out:
            out.write("began\n")
        while not os.path.exists(mark):
            time.sleep(0.01)
        raise KeyError("its own")

    near, _ = pair
    call = Underway(rh.function(fail).to("far").options(retries=3), tmp_path)
    near.kill()
    near.up()
    call.mark.touch()
    error = call.end()
    assert isinstance(error, KeyError) and call.count("began") == 1


def test_a_coroutine_finds_its_result_again(pair: Pair, tmp_path: Path) -> None:
    near, _ = pair
    remote = rh.function(wait_for).to("far").options(retries=3)
    lines, mark = tmp_path / "lines", tmp_path / "mark"

    async def main() -> Any:
        task = asyncio.create_task(remote.async_call(str(lines), str(mark)))
        while not lines.exists():
            await asyncio.sleep(0.01)
        near.kill()
        await asyncio.to_thread(near.up)
        mark.touch()
        return await task

    assert asyncio.run(main()) == "done"
    assert lines.read_text().count("began") == 1


def test_output_is_shown_once_and_items_come_once(pair: Pair, tmp_path: Path, capfd: Any) -> None:
    def count(mark):
        import os
        import time

        for i in range(6):
            print(f"item {i}")
            yield i
            while i == 2 and not os.path.exists(mark):
                time.sleep(0.01)

    near, _ = pair
    mark = tmp_path / "mark"
    items = rh.function(count).to("far").options(retries=3)(str(mark))
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    near.kill()
    near.up()
    mark.touch()
    assert list(items) == [3, 4, 5]
    shown = [line for line in capfd.readouterr().out.splitlines() if line.startswith("item")]
    assert shown == [f"item {i}" for i in range(6)]


def test_items_that_were_delivered_are_never_made_again(pair: Pair, tmp_path: Path) -> None:
    def count(path):
        import time

        with open(path, "a") as out:
            out.write("x")
        yield 1
        while True:
            time.sleep(0.01)

    _, far = pair
    path = tmp_path / "began"
    items = rh.function(count).to("far").options(retries=3)(str(path))
    assert next(items) == 1
    far.kill()
    far.up()
    with pytest.raises(rh.PeerLost):
        next(items)
    assert path.read_text() == "x"


def test_what_may_still_run_is_not_repeated(pair: Pair, tmp_path: Path) -> None:
    _, far = pair
    call = Underway(rh.function(wait_for).to("far").options(retries=100, timeout=4), tmp_path)
    far.kill()
    error = call.end()
    assert isinstance(error, rh.PeerLost) and error.call_id and not error.may_repeat
    assert call.count("began") == 1
    far.up()
    assert until(lambda: status(error.call_id), "the host tells") == "INTERRUPTED"


def status(call: str) -> str | None:
    try:
        return rh.run(call).status
    except rh.PeerLost:
        return None


def test_a_lost_plain_call_is_asked_about_later(pair: Pair, tmp_path: Path) -> None:
    near, _ = pair
    call = Underway(rh.function(wait_for).to("far"), tmp_path)
    near.kill()
    error = call.end()
    near.up()
    assert until(lambda: status(error.call_id), "the host tells") == "RUNNING"
    run = rh.run(error.call_id)
    call.mark.touch()
    assert run.result() == "done" and run.status == "COMPLETED"
    assert call.count("began") == 1


def test_repeats_are_counted(pair: Pair, tmp_path: Path) -> None:
    _, far = pair
    call = Underway(rh.function(wait_for).to("far").options(retries=1), tmp_path)
    far.kill()
    far.up()
    until(lambda: call.count("began") == 2, "it was called again")
    far.kill()
    far.up()
    error = call.end()
    assert isinstance(error, rh.PeerLost) and error.may_repeat
    assert call.count("began") == 2


def test_a_lost_result_of_a_detached_run_says_so(pair: Pair, tmp_path: Path) -> None:
    _, far = pair
    run = rh.function(wait_for).to("far").run(str(tmp_path / "lines"), str(tmp_path / "mark"))
    until((tmp_path / "lines").exists, "it began")
    far.kill()
    far.up()
    assert until(lambda: status(run.id), "the host tells") == "INTERRUPTED"
    with pytest.raises(rh.PeerLost) as caught:
        run.result()
    assert "part" in str(caught.value)


@pytest.mark.parametrize("end", [Node.kill, Node.stop])
def test_a_result_is_not_waited_for_from_a_host_that_is_gone(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Callable[[Node], None]
) -> None:
    monkeypatch.setattr(receipts, "PATIENCE", 3600.0)
    # A node that said good-bye is gone for certain; one that was killed is only silent.
    monkeypatch.setattr(receipts, "AWAY", 3600.0 if end is Node.stop else 3.0)
    _, far = pair
    far.settings["RHD_NODE_GRACE"] = "0"
    far.stop()
    far.up()
    run = rh.function(wait_for).to("far").run(str(tmp_path / "lines"), str(tmp_path / "mark"))
    until((tmp_path / "lines").exists, "it began")
    end(far)
    with pytest.raises(rh.PeerLost) as caught:
        run.result()
    error = caught.value
    assert error.node == "far" and error.call_id == run.id and not error.may_repeat
    # What is not known is not claimed: neither that it ran, nor that it did not.
    assert f"rh.run({run.id!r})" in error.hint and "nothing ran" not in error.hint
    far.up()
    assert until(lambda: status(run.id), "the host tells") == "INTERRUPTED"
    # A node that ends in order has the last word itself.
    with pytest.raises(rh.RhdError, match=r"in part|shutting down"):
        rh.run(run.id).result()


def test_a_host_that_is_silent_for_a_moment_is_waited_for(pair: Pair, tmp_path: Path) -> None:
    near, far = pair
    run = rh.function(wait_for).to("far").run(str(tmp_path / "lines"), str(tmp_path / "mark"))
    until((tmp_path / "lines").exists, "it began")
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(run.result()))
    thread.start()
    assert far.process is not None
    freeze(far.process.pid)
    try:
        until(lambda: not near._linked(far), "the link is lost")
    finally:
        far.process.send_signal(signal.SIGCONT)
    until(lambda: near._linked(far), "the link is back")
    (tmp_path / "mark").touch()
    thread.join(60)
    assert got == ["done"]


def where_and_wait(item: int, folder: str) -> str:
    """Remote code that names its node; on the node that will be killed it waits."""
    import os
    import time

    node = os.path.basename(os.environ["RHD_HOME"])
    with open(f"{folder}/{node}", "a") as out:
        out.write(f"{item}\n")
    while node == "far" and not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    return node


def test_items_of_a_lost_node_go_to_another(pair: Pair, fresh: Fresh, tmp_path: Path) -> None:
    _, far = pair
    fresh("other")
    spread = rh.function(where_and_wait).to(["far", "other"]).options(retries=3)
    got: list[Any] = []
    items = [(n, str(tmp_path)) for n in range(20)]
    thread = threading.Thread(target=lambda: got.extend(spread.starmap(items, concurrency=4)))
    thread.start()
    until(lambda: len(lines(tmp_path / "far")) == 2, "it has its share")
    far.kill()
    far.up()
    thread.join(60)
    assert got == ["other"] * 20, got
    assert sorted(map(int, lines(tmp_path / "other"))) == list(range(20))
    assert len(lines(tmp_path / "far")) == 2


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_run_that_never_arrived_is_started_once_more(pair: Pair, tmp_path: Path) -> None:
    near, _ = pair
    remote = rh.function(wait_for).to("far").options(retries=1, run_name="once-more")
    lines, mark = tmp_path / "lines", tmp_path / "mark"
    began: list[rh.Run] = []
    # It takes what comes to its socket, and dies before it reads it.
    freeze(near.process.pid)
    thread = threading.Thread(target=lambda: began.append(remote.run(str(lines), str(mark))))
    thread.start()
    until(waits_unread, "the request is on its way")
    near.kill()
    near.up()
    thread.join(60)
    mark.touch()
    assert began[0].result() == "done" and lines.read_text().count("began") == 1
    assert rh.run("once-more").id == began[0].id


def waits_unread() -> bool:
    """Whether a request of this process was sent, and not read yet."""
    conns = [conn for conn in list(console.underway) if isinstance(conn, Connection)]
    return any(conn.call and unread(conn.sock) for conn in conns)


def unread(sock: socket.socket) -> int:
    """Bytes that were sent and not read, and what they take beside; see unix(7), SIOCOUTQ."""
    buffer = fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4)
    return int.from_bytes(buffer, sys.byteorder)


def test_a_run_whose_host_died_is_started_once_more(pair: Pair, tmp_path: Path) -> None:
    _, far = pair
    lines, mark = tmp_path / "lines", tmp_path / "mark"
    remote = rh.function(wait_for).to("far")
    runs = [remote.options(retries=n).run(str(lines), str(mark)) for n in (0, 1)]
    until(lambda: lines.exists() and lines.read_text().count("began") == 2, "both run")
    first = runs[1].id
    far.kill()
    mark.touch()
    far.up()
    assert runs[1].result() == "done"
    assert runs[1].id != first and rh.run(first).status == "INTERRUPTED"
    with pytest.raises(rh.PeerLost):
        runs[0].result()
    assert lines.read_text().count("began") == 3
