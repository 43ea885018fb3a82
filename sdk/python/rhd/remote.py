"""Calls to a service: the one way that functions, classes and instances are reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from . import aio, codec, config, errors, tracing
from .connection import Connection
from .daemon import Daemon, call_id, decode
from .parallel import Batch

GENERATORS = frozenset({"generator", "async_generator"})
ASYNC = frozenset({"coroutine", "async_generator"})
PAUSE = 0.05
"""Seconds before the first repetition of a call whose peer was lost; doubles up to two seconds."""


@dataclass(frozen=True)
class Options:
    """How calls are made; see `options()` of functions and methods."""

    timeout: float | None = None
    retries: int = 0
    stream_logs: bool = True
    codec: str = "pickle"
    receipt: bool = False

    def changed(self, changes: dict[str, Any]) -> Options:
        """These options with some of them changed."""
        options = replace(self, **changes)
        if options.timeout is not None and options.timeout <= 0:
            raise ValueError("timeout is in seconds, above 0")
        if options.retries < 0:
            raise ValueError("retries is how often a call may be repeated, 0 or more")
        if options.codec not in ("pickle", "msgpack", "json"):
            raise ValueError(f"{options.codec!r} is no codec: use pickle, msgpack or json")
        return options


DEFAULT = Options()


class Target:
    """A service on a node (or on whichever node hosts it), as calls are addressed to it."""

    __slots__ = ("_template", "daemon", "lease", "node", "node_id", "options", "service")

    def __init__(
        self,
        daemon: Daemon,
        service: str,
        node: str | None,
        node_id: str | None,
        options: Options = DEFAULT,
        lease: Any = None,
    ) -> None:
        self.daemon = daemon
        self.service = service
        self.node = node
        self.node_id = node_id
        self.options = options
        # Whatever can call an object keeps it alive, a method or an iterator alone too.
        self.lease = lease
        self._template: dict[str, Any] = {
            "v": config.VERSION,
            "service": service,
            "codec": options.codec,
            "logs": options.stream_logs,
        }
        if node_id is not None:
            self._template["node"] = node_id
        if options.timeout is not None:
            self._template["timeout_ms"] = max(int(options.timeout * 1000), 1)

    def with_options(self, options: Options) -> Target:
        """The same service, called in another way."""
        return Target(self.daemon, self.service, self.node, self.node_id, options, self.lease)

    def header(
        self, parts: list[Any], verb: str, extra: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """The header of a call with this body, and its id."""
        call = call_id()
        lengths = [p.nbytes if type(p) is memoryview else len(p) for p in parts]
        fields = {**self._template, "id": call, "verb": verb, "parts": lengths, **extra}
        trace = tracing.trace()
        if trace is not None:
            fields["trace"] = trace
        return call, {"op": "call", "call": fields}


def body(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Arguments as they travel."""
    return codec.dumps((args, kwargs), target.options.codec)


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
    left = target.options.retries
    pause = PAUSE
    while True:
        cid, header = target.header(parts, verb, extra)
        try:
            conn = daemon.open(header, parts, cid, timeout)
            reply, data = first(daemon, conn, timeout, batch)
        except errors.PeerLost as e:
            if left <= 0 or not ours(e, cid):
                raise
            left -= 1
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
            continue
        if reply["t"] == "item":
            return RemoteIterator(daemon, conn, (reply, data), keep=target)
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
    left = target.options.retries
    pause = PAUSE
    while True:
        cid, header = target.header(parts, verb, extra)
        try:
            conn, reply, data = await aio.ask(daemon, header, parts, cid, target.options.timeout)
        except errors.PeerLost as e:
            if left <= 0 or not ours(e, cid):
                raise
            left -= 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
            continue
        if reply["t"] == "item":
            return AsyncRemoteIterator(daemon, conn, (reply, data), keep=target)
        aio.give(daemon, conn)
        return decode(reply, data)


def ours(error: BaseException, call: str) -> bool:
    """Whether an error is about this very call, not one that the remote code made and lost."""
    return error.__cause__ is None or getattr(error, "call_id", "") == call


def iterate(
    target: Target,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    verb: str = "call",
    **extra: Any,
) -> RemoteIterator:
    """Prepares a remote generator; nothing runs before the first item is asked for."""
    parts = body(target, args, kwargs or {})

    def start() -> Connection:
        cid, header = target.header(parts, verb, extra)
        return target.daemon.open(header, parts, cid)

    return RemoteIterator(target.daemon, start)


def iterate_async(
    target: Target,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    verb: str = "call",
    **extra: Any,
) -> AsyncRemoteIterator:
    """Prepares a remote generator to be read on a loop."""
    parts = body(target, args, kwargs or {})

    async def start() -> aio.AsyncConnection:
        cid, header = target.header(parts, verb, extra)
        return await aio.open(target.daemon, header, parts, cid)

    return AsyncRemoteIterator(target.daemon, start)


class RemoteIterator(Iterator[Any]):
    """The items of a remote generator. The generator runs ahead only as far as buffers reach;
    closing or dropping the iterator ends it."""

    def __init__(
        self, daemon: Daemon, start: Any, first: tuple[Any, Any] | None = None, keep: Any = None
    ) -> None:
        self._daemon = daemon
        self._start = start
        self._first = first
        self._conn: Connection | None = start if first else None
        self._keep = keep
        self._done = False

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        if self._done:
            raise StopIteration
        if self._first is not None:
            (reply, data), self._first = self._first, None
            return decode(reply, data)
        try:
            if self._conn is None:
                self._conn = self._start()
            reply, data = self._conn.next()
        except BaseException:
            self.close()
            raise
        if reply["t"] == "item":
            return decode(reply, data)
        self.close()
        raise StopIteration(decode(reply, data) if reply.get("parts") else None)

    def close(self) -> None:
        """Ends the remote generator."""
        self._done = True
        conn, self._conn = self._conn, None
        if conn is not None:
            self._daemon.give(conn)

    def __enter__(self) -> RemoteIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AsyncRemoteIterator(AsyncIterator[Any]):
    """The items of a remote generator, read on a loop."""

    def __init__(
        self, daemon: Daemon, start: Any, first: tuple[Any, Any] | None = None, keep: Any = None
    ) -> None:
        self._daemon = daemon
        self._start = start
        self._first = first
        self._conn: aio.AsyncConnection | None = start if first else None
        self._keep = keep
        self._done = False

    def __aiter__(self) -> AsyncRemoteIterator:
        return self

    async def __anext__(self) -> Any:
        if self._done:
            raise StopAsyncIteration
        try:
            if self._conn is None:
                self._conn = await self._start()
            if self._first is not None:
                (reply, data), self._first = self._first, None
            else:
                reply, data = await self._conn.next()
        except BaseException:
            await self.aclose()
            raise
        if reply["t"] == "item":
            return decode(reply, data)
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the remote generator."""
        self._done = True
        conn, self._conn = self._conn, None
        if conn is not None:
            aio.give(self._daemon, conn)

    def __del__(self) -> None:
        conn = getattr(self, "_conn", None)
        if conn is not None:
            aio.close_from_anywhere(conn)
