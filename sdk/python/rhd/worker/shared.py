"""The lane that brief calls share: whichever thread is free takes the next one.

A thread that has run one call finds the next in what it read before, and writes the replies of
several at once. While the calls on it turn out to be brief one thread does all of it; more would
only pass the interpreter lock around. Else others join in, also when the daemon asks for them,
which sees when calls wait and none ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import frames, inbox, segments
from .control import ITEM_CREDIT
from .lane import Lane

if TYPE_CHECKING:
    import socket

    from .runtime import Runtime

MAX_THREADS = 64
"""Threads that take calls off it, at most."""
FEW = 4
"""The same as long as the calls are short and the daemon asked for no more."""
# Seconds that a call takes on average, above which further threads join in.
_BRIEF = 100e-6
# Bytes of replies that are written at once.
_UNSENT = 16 * 1024
# Seconds that a reply may wait for the next one.
_LATE = 500e-6
# A thread that took a call within so many seconds will be back for the next.
_ALIVE = 200e-6


class Shared:
    """The one such lane of a process."""

    def __init__(self, runtime: Runtime, sock: socket.socket) -> None:
        self.sock = sock
        self.writing = threading.RLock()
        self._runtime = runtime
        self._reader = inbox.Reader(sock)
        # Held by the thread that reads.
        self._turn = threading.Lock()
        # Threads without a call wait here while another one reads.
        self._spare = threading.Semaphore(0)
        self._counts = threading.Lock()
        self._threads = self._parked = 0
        self._closed = False
        # Seconds that its calls take, on average of late.
        self._pace = 0.0
        # When a thread last took one.
        self._taken = 0.0
        # Replies that are not written yet, under `writing`.
        self._unsent = bytearray()
        self._since = 0.0

    def more(self, threads: int) -> None:
        """Has further threads take calls."""
        with self.writing:
            self.flush()
        for _ in range(threads):
            with self._counts:
                if self._parked:
                    self._parked -= 1
                    self._spare.release()
                    continue
                if self._threads >= MAX_THREADS:
                    return
                self._threads += 1
            try:
                Lane(self._runtime, Seat(self)).start()
            except BaseException:
                with self._counts:
                    self._threads -= 1
                raise

    def next(self) -> tuple[dict, memoryview]:
        """The next call; other threads wait for their turn meanwhile."""
        while (surplus := self._is_surplus()) or not self._turn.acquire(blocking=False):
            self._park(surplus)
        try:
            reader = self._reader
            frame = reader.cut()
            if frame is None:
                # It may take a while.
                with self.writing:
                    self.flush()
                frame = reader.recv()
            behind = not reader.is_empty()
        except BaseException:
            self._close()
            raise
        finally:
            self._turn.release()
        self._taken = now = time.perf_counter()
        order, body = frame
        header = order.get("call")
        if order.get("t") != "call" or not isinstance(header, dict):
            raise frames.FrameError("something else than a call")
        if behind and self._pace > _BRIEF and self._threads - self._parked < FEW:
            self.more(1)
        if self._unsent and now - self._since > _LATE:
            with self.writing:
                self.flush()
        return header, body

    def _is_surplus(self) -> bool:
        """Whether another thread alone keeps up with the calls; then this one counts as parked."""
        if self._threads - self._parked < 2 or self._pace > _BRIEF:
            return False
        if time.perf_counter() - self._taken > _ALIVE:
            return False
        with self._counts:
            if self._threads - self._parked < 2:
                return False
            self._parked += 1
        return True

    def _park(self, counted: bool) -> None:
        with self.writing:
            self.flush()
        if not counted:
            with self._counts:
                self._parked += 1
        self._spare.acquire()
        if self._closed:
            raise EOFError

    def _close(self) -> None:
        with self._counts:
            self._closed = True
            parked, self._parked = self._parked, 0
        self._spare.release(parked + MAX_THREADS)

    def put(self, frame: bytes) -> None:
        """Writes a small frame, together with those after it; the caller holds `writing`."""
        unsent = self._unsent
        if not unsent:
            self._since = time.perf_counter()
        unsent += frame
        if len(unsent) >= _UNSENT:
            self.flush()

    def flush(self) -> None:
        """Writes what waits; the caller holds `writing`."""
        if self._unsent:
            unsent, self._unsent = self._unsent, bytearray()
            self.sock.sendall(unsent)

    def took(self, seconds: float) -> None:
        """Learns how long a call took."""
        # Of no consequence if two threads do so at once.
        self._pace += (seconds - self._pace) / 8


class Seat:
    """What one thread has of it."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.sock = shared.sock
        self.writing = shared.writing
        self._began = 0.0
        self._credit: threading.Semaphore | None = None

    def next(self) -> tuple[dict, memoryview]:
        """The next call for this thread."""
        self._credit = None
        call = self._shared.next()
        self._began = time.perf_counter()
        return call

    def last(self, header: dict, parts: Sequence[frames.Buffer] | segments.Segment) -> None:
        """Writes a final reply; the caller holds `writing`."""
        self._shared.took(time.perf_counter() - self._began)
        self._send(header, parts)

    def item(self, header: dict, parts: Sequence[frames.Buffer] | segments.Segment) -> None:
        """Writes an item, once the daemon has allowed it."""
        if self._credit is None:
            self._credit = threading.Semaphore(ITEM_CREDIT)
        self._credit.acquire()
        with self.writing:
            self._send(header, parts)
            self._shared.flush()

    def _send(self, header: dict, parts: Sequence[frames.Buffer] | segments.Segment) -> None:
        if not isinstance(parts, segments.Segment):
            size = sum(map(segments.size, parts))
            if size < _UNSENT:
                self._shared.put(b"".join((frames.encode(header, size), *parts)))
                return
        self._shared.flush()
        frames.send(self.sock, header, parts)

    def write(self, frame: bytes) -> None:
        """Writes output of a call; the caller holds `writing`."""
        # One call into C, past the replies that wait, which are of other calls: the thread may be
        # interrupted anywhere, and must take none of them with it.
        self.sock.sendall(frame)

    def grant(self, items: int) -> None:
        """Allows further items, from any thread."""
        if self._credit is not None and items > 0:
            self._credit.release(items)
