"""Calls to a service: the one way that functions, classes and instances are reached.

A plain call is its connection: when that breaks the call is lost. One that its host keeps goes
through a `pursuit` instead, which costs more and loses less.
"""

from __future__ import annotations

from typing import Any

from . import aio
from .connection import Connection
from .daemon import Daemon, decode
from .iterators import AsyncRemoteIterator, RemoteIterator
from .parallel import Batch
from .pursuit import AsyncStream, Stream
from .receipts import Pursuit
from .target import ASYNC, DEFAULT, GENERATORS, Options, Target, body

__all__ = ["ASYNC", "DEFAULT", "GENERATORS", "Options", "Target"]


def call(
    target: Target,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    verb: str = "call",
    *,
    batch: Batch | None = None,
    **extra: Any,
) -> Any:
    """Makes a call and waits for its result; a batch can cancel it meanwhile."""
    parts = body(target, args, kwargs or {})
    daemon, timeout = target.daemon, target.options.timeout
    if target.options.kept:
        stream = Stream(Pursuit.calling(target, parts, verb, extra), batch)
        reply, data = stream.next()
        if reply["t"] == "item":
            return RemoteIterator(Stream.close, stream, (reply, data), keep=target)
        stream.close()
        return decode(reply, data)
    cid, header = target.header(parts, verb, extra)
    conn = daemon.open(header, parts, cid, timeout)
    reply, data = first(daemon, conn, timeout, batch)
    if reply["t"] == "item":
        return RemoteIterator(daemon.give, conn, (reply, data), keep=target)
    daemon.give(conn)
    return decode(reply, data)


def first(
    daemon: Daemon, conn: Connection, timeout: float | None, batch: Batch | None
) -> tuple[dict[str, Any], memoryview]:
    """The first item or result of a call that was sent."""
    if batch is not None:
        batch.begin(conn)
    try:
        return conn.next()
    except BaseException:
        if batch is not None:
            batch.end(conn)
            batch = None
        daemon.give(conn)
        raise
    finally:
        if batch is not None:
            batch.end(conn)
        if timeout is not None:
            conn.relax()


async def call_async(
    target: Target,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    verb: str = "call",
    **extra: Any,
) -> Any:
    """Makes a call and waits for its result on the running loop."""
    parts = body(target, args, kwargs or {})
    daemon = target.daemon
    if target.options.kept:
        stream = AsyncStream(Pursuit.calling(target, parts, verb, extra))
        reply, data = await stream.next()
        if reply["t"] == "item":
            return _async_items(stream, (reply, data), target)
        stream.close()
        return decode(reply, data)
    cid, header = target.header(parts, verb, extra)
    conn, reply, data = await aio.ask(daemon, header, parts, cid, target.options.timeout)
    if reply["t"] == "item":
        return AsyncRemoteIterator(
            lambda conn: aio.give(daemon, conn),
            aio.close_from_anywhere,
            conn,
            (reply, data),
            keep=target,
        )
    aio.give(daemon, conn)
    return decode(reply, data)


def _async_items(start: Any, first: Any, keep: Any) -> AsyncRemoteIterator:
    close, drop = AsyncStream.close, AsyncStream.close_from_anywhere
    return AsyncRemoteIterator(close, drop, start, first, keep=keep)


def iterate(
    target: Target,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    verb: str = "call",
    **extra: Any,
) -> RemoteIterator:
    """Prepares a remote generator; nothing runs before the first item is asked for."""
    parts = body(target, args, kwargs or {})
    if target.options.kept:

        def pursue() -> Stream:
            return Stream(Pursuit.calling(target, parts, verb, extra))

        return RemoteIterator(Stream.close, pursue)

    def start() -> Connection:
        cid, header = target.header(parts, verb, extra)
        return target.daemon.open(header, parts, cid)

    return RemoteIterator(target.daemon.give, start)


def iterate_async(
    target: Target,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    verb: str = "call",
    **extra: Any,
) -> AsyncRemoteIterator:
    """Prepares a remote generator to be read on a loop."""
    parts = body(target, args, kwargs or {})
    daemon = target.daemon
    if target.options.kept:

        async def pursue() -> AsyncStream:
            return AsyncStream(Pursuit.calling(target, parts, verb, extra))

        return _async_items(pursue, None, None)

    async def start() -> aio.AsyncConnection:
        cid, header = target.header(parts, verb, extra)
        return await aio.open(daemon, header, parts, cid)

    return AsyncRemoteIterator(lambda conn: aio.give(daemon, conn), aio.close_from_anywhere, start)
