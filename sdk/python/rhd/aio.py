"""The same conversation with the daemon on an asyncio loop: a pool of connections for each loop."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Sequence
from typing import Any

from . import config, console, frames
from .connection import GRACE, failed, lost, show
from .daemon import IDLE, Daemon, decode, unavailable


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


def close_from_anywhere(conn: AsyncConnection) -> None:
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
    homes = _idle.setdefault(asyncio.get_running_loop(), {})
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


def give(daemon: Daemon, conn: AsyncConnection) -> None:
    """Takes a connection back: kept after the final reply, else closed, which cancels the call."""
    console.underway.discard(conn)
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
    *,
    again: bool = True,
) -> AsyncConnection:
    """Sends a request; its replies come from the connection."""
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
        return await open(daemon, header, parts, call, again=False)
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
) -> tuple[AsyncConnection, dict[str, Any], memoryview]:
    """Sends a request and waits for its first item or result."""
    conn = await open(daemon, header, parts, call)
    try:
        reply, body = await within(conn, timeout)
    except BaseException:
        give(daemon, conn)
        raise
    return conn, reply, body


async def within(conn: AsyncConnection, timeout: float | None) -> tuple[dict[str, Any], memoryview]:
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
    try:
        return await asyncio.open_unix_connection(daemon.path)
    except OSError as e:
        refusal = unavailable(daemon.path, e)
        if not config.autostart() or isinstance(e, PermissionError):
            raise refusal from e
    await asyncio.get_running_loop().run_in_executor(None, daemon.start)
    return await asyncio.open_unix_connection(daemon.path)


# A forked child has no loop running; its parent's are not its own.
os.register_at_fork(after_in_child=_idle.clear)
