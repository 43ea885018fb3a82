"""The control lane: orders from the daemon, and calls that run on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from .. import frames, tracing
from . import fork, interface, replies
from .call import Call, current
from .outbox import Outbox

if TYPE_CHECKING:
    from .runtime import Runtime

# Items that may be under way before the daemon grants more.
ITEM_CREDIT = 16
_END = object()


class _Task:
    """A call on the event loop."""

    def __init__(self) -> None:
        self.task: asyncio.Task | None = None
        self.credit = ITEM_CREDIT
        self.granted = asyncio.Event()


class Control:
    """The one control lane of this process."""

    def __init__(
        self, runtime: Runtime, sock: socket.socket, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._runtime = runtime
        self._sock = sock
        self._loop = loop
        self._outbox = Outbox(sock, loop)
        # Of the event loop's thread alone.
        self._tasks: dict[str, _Task] = {}

    def start(self) -> None:
        threading.Thread(target=self._read, name="rhd-control", daemon=True).start()

    def _read(self) -> None:
        try:
            while True:
                order, body = frames.recv(self._sock)
                self._obey(order, body)
                del order, body
        except (EOFError, OSError):
            pass
        except Exception as error:
            print(f"rhd worker: control lane: {error}", file=sys.stderr)
        # No daemon, no worker: nobody would ever end what runs here.
        os.killpg(0, signal.SIGKILL)

    def _obey(self, order: dict, body: memoryview) -> None:
        kind = order.get("t")
        if kind == "call":
            header = order.get("call")
            if not isinstance(header, dict):
                raise frames.FrameError("a call without its header")
            call = Call(header, body, self)
            self._runtime.begin(call)
            self._loop.call_soon_threadsafe(self._begin, call)
        elif kind == "cancel":
            self._runtime.cancel(str(order.get("id")))
        elif kind == "ping":
            self._outbox.answer(str(order.get("id")))
        elif kind == "credit":
            items = order.get("items")
            if isinstance(items, int):
                self._runtime.grant(str(order.get("id")), items)
                self._loop.call_soon_threadsafe(self._grant, order.get("id"), items)
        elif kind == "lanes":
            count = order.get("count")
            if isinstance(count, int):
                try:
                    self._runtime.open_lanes(count)
                except (OSError, RuntimeError) as error:  # no more sockets or threads
                    print(f"rhd worker: no further lane: {error}", file=sys.stderr)
        elif kind == "share":
            threads = order.get("threads")
            if isinstance(threads, int):
                try:
                    self._runtime.share(threads)
                except (OSError, RuntimeError) as error:
                    print(f"rhd worker: no shared lane: {error}", file=sys.stderr)

    # --- on the event loop

    def _grant(self, call_id: Any, items: int) -> None:
        running = self._tasks.get(call_id)
        if running is not None:
            running.credit += items
            running.granted.set()

    def _begin(self, call: Call) -> None:
        running = self._tasks[call.id] = _Task()
        running.task = self._loop.create_task(self._serve(call, running))

    def log(self, call: Call, fd: int, data: bytes) -> bool:
        return self._outbox.log(call, fd, data)

    def cancel(self, call: Call) -> None:
        """Cancels the call's task, from any thread."""
        call.cancelled = True
        self._loop.call_soon_threadsafe(self._cancel, call.id)

    def _cancel(self, call_id: str) -> None:
        running = self._tasks.get(call_id)
        if running is not None and running.task is not None:
            running.task.cancel()

    async def _serve(self, call: Call, running: _Task) -> None:
        current.set(call)
        if call.trace is not None:
            tracing.enter(call.trace)
        try:
            if call.cancelled:
                raise asyncio.CancelledError
            reply = await self._reply(call, running)
        except BaseException as error:  # SystemExit too ends the call, not the worker
            fork.leave_if_child()
            reply = replies.failure(call, error)
            error.__traceback__ = None
        fork.leave_if_child()
        self._tasks.pop(call.id, None)
        self._runtime.end(call)
        self._outbox.finish(call, *reply)

    async def _reply(self, call: Call, running: _Task) -> replies.Frame:
        parts = replies.take_body(call)
        if call.verb == "load":
            return await asyncio.to_thread(self._runtime.loader.load, call, parts)
        target = self._runtime.targets.bind(call)
        args, kwargs = replies.arguments(call, parts)
        del parts
        if call.method == "__aiter__" or interface.flavor(target) in (
            "coroutine",
            "async_generator",
        ):
            result = target(*args, **kwargs)
        else:
            # Not what this lane is for, but it must not stop the loop.
            result = await asyncio.to_thread(target, *args, **kwargs)
        if inspect.isawaitable(result):
            result = await result
        if inspect.isgenerator(result) or (call.method == "__iter__" and call.verb == "call"):
            result = _in_threads(result)
        if inspect.isasyncgen(result) or call.method == "__aiter__":
            await self._stream(call, running, result)
            result = None
        return replies.value(call, "done", result)

    async def _stream(self, call: Call, running: _Task, items: AsyncIterator) -> None:
        close = getattr(items, "aclose", None)
        async with contextlib.AsyncExitStack() as stack:
            if close is not None:
                stack.push_async_callback(close)
            async for item in items:
                frame = replies.value(call, "item", item)
                while running.credit <= 0:
                    running.granted.clear()
                    await running.granted.wait()
                running.credit -= 1
                fork.leave_if_child()
                await self._outbox.send(*frame)


async def _in_threads(items: Iterator) -> AsyncIterator:
    try:
        while True:
            item = await asyncio.to_thread(next, items, _END)
            if item is _END:
                return
            yield item
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            await asyncio.to_thread(close)
