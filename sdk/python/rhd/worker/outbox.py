"""Writes of the control lane, which many calls share: bounded, and never waiting on the loop."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import threading
from collections.abc import Sequence

from .. import frames, segments
from .call import Call

# Bytes that may wait before items and results have to.
_HIGH = 4 * 1024 * 1024
# Bytes of one call's output that may wait; what goes beyond is dropped, and said.
_LOG_BUDGET = 256 * 1024


_Frame = list[frames.Buffer] | tuple[dict, segments.Segment]
_Body = Sequence[frames.Buffer] | segments.Segment


class Outbox:
    """A queue of frames with a thread that writes them; an empty queue is passed by."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._loop = loop
        # Reentrant, because a finalizer may print while its own thread is in here.
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self._queue: collections.deque[tuple[_Frame, Call | None, int]] = collections.deque()
        self._queued = 0
        self._writing = False
        self._waiters: list[asyncio.Future] = []
        self._logs: dict[Call, list[int]] = {}
        threading.Thread(target=self._run, name="rhd-outbox", daemon=True).start()

    async def send(self, header: dict, parts: _Body = ()) -> None:
        """Writes a frame, after waiting for room; for the event loop."""
        while True:
            with self._lock:
                if self._queued < _HIGH:
                    break
                room = self._loop.create_future()
                self._waiters.append(room)
            await room
        frame, size = _frame(header, parts)
        self._put(frame, None, size)

    def finish(self, call: Call, header: dict, parts: _Body) -> None:
        """Writes the final reply of a call; nothing follows it."""
        call.output.flush_all()
        frame, size = _frame(header, parts)
        with self._lock:
            self._say_dropped(call)
            call.ended = True
            self._logs.pop(call, None)
            self._put(frame, None, size)

    def answer(self, ping: str) -> None:
        """Answers a ping, from any thread."""
        self._put([frames.encode({"t": "done", "id": ping}, 0)], None, 0)

    def log(self, call: Call, fd: int, data: bytes) -> bool:
        """Writes output, or drops it when the call has too much of it waiting; from any thread."""
        with self._lock:
            if call.ended:
                return False
            counts = self._logs.setdefault(call, [0, 0])
            if counts[0] + len(data) > _LOG_BUDGET:
                counts[1] += len(data)
                return True
            self._say_dropped(call)
            self._put_log(call, fd, data)
            return True

    def _say_dropped(self, call: Call) -> None:
        counts = self._logs.get(call)
        if counts is None or not counts[1]:
            return
        text = f"[rhd: {counts[1]} bytes of output dropped]\n"
        counts[1] = 0
        self._put_log(call, 2, text.encode())

    def _put_log(self, call: Call, fd: int, data: bytes) -> None:
        self._logs.setdefault(call, [0, 0])[0] += len(data)
        head = frames.encode({"t": "log", "id": call.id, "fd": fd}, len(data))
        self._put([head + data], call, len(data))

    def _put(self, frame: _Frame, call: Call | None, size: int) -> None:
        with self._lock:
            lent = isinstance(frame, tuple)
            if lent or self._writing or self._queue or size > frames.MAX_HEADER:
                self._queue.append((frame, call, size))
                self._queued += size
                self._ready.notify()
                return
            # Most replies fit into the socket's buffer: no hand-over to the thread.
            data = b"".join(frame)
            self._writing = True
            sent = 0
            with contextlib.suppress(OSError):  # full, or broken: the thread will see
                sent = self._sock.send(data, socket.MSG_DONTWAIT)
            self._writing = False
            if sent < len(data):
                self._queue.appendleft(([memoryview(data)[sent:]], call, size))
                self._queued += size
                self._ready.notify()
            elif call is not None:
                self._written(call, size)

    def _written(self, call: Call, size: int) -> None:
        counts = self._logs.get(call)
        if counts is not None:
            counts[0] -= size

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._queue:
                    self._ready.wait()
                frame, call, size = self._queue.popleft()
                self._writing = True
            try:
                if isinstance(frame, tuple):
                    frames.send(self._sock, *frame)
                else:
                    for buffer in frame:
                        self._sock.sendall(buffer)
            except OSError:
                return  # the reader of the same socket ends the process
            with self._lock:
                self._writing = False
                self._queued -= size
                if call is not None:
                    self._written(call, size)
                woken = self._waiters if self._queued < _HIGH else []
                if woken:
                    self._waiters = []
            del frame, call
            for room in woken:
                self._loop.call_soon_threadsafe(_wake, room)


def _frame(header: dict, parts: _Body) -> tuple[_Frame, int]:
    if isinstance(parts, segments.Segment):
        return (header, parts), parts.length
    size = sum(memoryview(p).nbytes for p in parts)
    return [frames.encode(header, size), *parts], size


def _wake(room: asyncio.Future) -> None:
    if not room.done():
        room.set_result(None)
