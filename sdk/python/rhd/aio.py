"""The same conversation with the daemon on an asyncio loop: a pool of connections for each loop."""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from collections.abc import Sequence
from typing import Any

from . import aiomany, config, console, frames
from .aiomany import AsyncCall
from .connection import GRACE, failed, lost, show
from .daemon import IDLE, Daemon, decode, unavailable
from .many import SMALL


class AsyncConnection:
    """A connection on a loop; it carries one request at a time."""

    __slots__ = ("__weakref__", "_sink", "call", "finished", "loop", "reader", "reused", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.loop = asyncio.get_running_loop()
        self.reader = reader
        self.writer = writer
        self.call = ""
        self.reused = False
        self.finished = False
        self._sink: console.Sink | None = None

    def is_alive(self) -> bool:
        """Whether an idle connection can be used."""
        return not (self.reader.at_eof() or self.writer.is_closing())

    async def next(self) -> tuple[dict[str, Any], memoryview]:
        """The next item or result; output and progress on the way are shown, failures raised."""
        while True:
            try:
                reply, body = await frames.recv_async(self.reader)
            except (OSError, EOFError) as e:
                raise lost(self.call, e) from e
            kind = reply.get("t")
            if kind == "done":
                self.finished = True
                self.settle()
                return reply, body
            if kind == "item":
                return reply, body
            if kind == "fail":
                self.finished = True
                self.settle()
                raise failed(reply, body, self.call)
            self._sink = show(self._sink, reply, body)

    def settle(self) -> None:
        """Ends the output of a call."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def close(self) -> None:
        """Closes it, which cancels a call that is under way; needs the loop's own thread."""
        console.underway.discard(self)
        self.settle()
        self.writer.transport.abort()


def close_from_anywhere(conn: AsyncConnection | AsyncCall) -> None:
    """Closes a connection on its own loop, whichever thread asks."""
    try:
        conn.loop.call_soon_threadsafe(conn.close)
    except RuntimeError:
        # The loop is closed, and its transports with it.
        console.underway.discard(conn)


_idle: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, list[AsyncConnection]]] = (
    weakref.WeakKeyDictionary()
)


def _kept(daemon: Daemon) -> list[AsyncConnection]:
    loop = asyncio.get_running_loop()
    homes = _idle.get(loop)
    if homes is None:
        # What is kept refers to its loop: one that is closed would never go.
        for old in [old for old in _idle if old.is_closed()]:
            del _idle[old]
        homes = _idle[loop] = {}
    return homes.setdefault(daemon.home, [])


async def take(daemon: Daemon, call: str = "") -> AsyncConnection:
    """A connection of one's own, for one request."""
    kept = _kept(daemon)
    while kept:
        conn = kept.pop()
        if conn.is_alive():
            conn.reused = True
            break
        conn.close()
    else:
        conn = AsyncConnection(*await _connect(daemon))
    conn.call = call
    conn.finished = False
    console.underway.add(conn)
    return conn


def give(daemon: Daemon, conn: AsyncConnection | AsyncCall) -> None:
    """Takes a connection back: kept after the final reply, else closed, which cancels the call."""
    console.underway.discard(conn)
    if type(conn) is AsyncCall:
        if conn.instead is not None:
            give(daemon, conn.instead)
        elif not conn.finished:
            conn.close()
        return
    assert isinstance(conn, AsyncConnection)
    kept = _kept(daemon)
    if conn.finished and len(kept) < IDLE:
        kept.append(conn)
    else:
        conn.close()


async def open(
    daemon: Daemon,
    header: dict[str, Any],
    parts: Sequence[Any],
    call: str = "",
) -> AsyncConnection | AsyncCall:
    """Sends a request; its replies come from what this returns."""
    fields = header.get("call")
    if fields is None or "keep" in fields or "run" in fields or sum(fields["parts"]) > SMALL:
        return await _open_own(daemon, header, parts, call)
    shared = await aiomany.shared(daemon, _reach)
    if shared is None or not shared.has_room():
        return await _open_own(daemon, header, parts, call)

    async def again(order: bytes) -> AsyncConnection:
        conn = AsyncConnection(*await _connect(daemon))
        conn.call = call
        console.underway.add(conn)
        conn.writer.write(order)
        return conn

    one = AsyncCall(shared, call, asyncio.get_running_loop(), again)
    shared.begin(one, header, parts)
    return one


async def _open_own(
    daemon: Daemon,
    header: dict[str, Any],
    parts: Sequence[Any],
    call: str = "",
    *,
    again: bool = True,
) -> AsyncConnection:
    conn = await take(daemon, call)
    try:
        await frames.send_async(conn.writer, header, parts)
    except (OSError, EOFError) as e:
        # Not sent whole, so it has not run; a kept connection may just be old.
        try:
            if not (conn.reused and again):
                await conn.next()
                raise lost(call, e) from e
        finally:
            conn.close()
        _kept(daemon).clear()
        return await _open_own(daemon, header, parts, call, again=False)
    except BaseException:
        conn.close()
        raise
    return conn


async def ask(
    daemon: Daemon,
    header: dict[str, Any],
    parts: Sequence[Any],
    call: str,
    timeout: float | None = None,
) -> tuple[AsyncConnection | AsyncCall, dict[str, Any], memoryview]:
    """Sends a request and waits for its first item or result."""
    conn = await open(daemon, header, parts, call)
    try:
        reply, body = await within(conn, timeout)
    except BaseException:
        give(daemon, conn)
        raise
    return conn, reply, body


async def within(
    conn: AsyncConnection | AsyncCall, timeout: float | None
) -> tuple[dict[str, Any], memoryview]:
    """The next item or result; the daemon has some time more than the call to say that it is
    late."""
    if timeout is None:
        return await conn.next()
    try:
        return await asyncio.wait_for(conn.next(), timeout + GRACE)
    except asyncio.TimeoutError as e:
        raise lost(conn.call, TimeoutError()) from e


async def answer(daemon: Daemon, header: dict[str, Any], timeout: float) -> Any:
    """Sends a request and returns its one result, decoded."""
    conn, reply, body = await ask(daemon, header, (), "", timeout)
    give(daemon, conn)
    return decode(reply, body)


async def _connect(daemon: Daemon) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_unix_connection(sock=await _reach(daemon))


async def _reach(daemon: Daemon) -> socket.socket:
    try:
        return await _socket(daemon)
    except OSError as e:
        refusal = unavailable(daemon.path, e)
        if not config.autostart() or isinstance(e, PermissionError):
            raise refusal from e
    await asyncio.get_running_loop().run_in_executor(None, daemon.start)
    return await _socket(daemon)


async def _socket(daemon: Daemon) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, daemon.path)
    except BaseException:
        sock.close()
        raise
    return sock


# A forked child has no loop running; its parent's are not its own.
os.register_at_fork(after_in_child=_idle.clear)
