"""The calls of a map on one connection, which whoever asks for results reads while it waits."""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from . import console, many, segments
from .connection import GRACE, lost
from .daemon import Daemon, decode
from .errors import RhdError
from .iterators import RemoteIterator
from .parallel import AHEAD, BEHIND
from .target import Target, body

# Seconds for which the socket may be left alone while results are there.
_QUIET = 0.001
# Orders that are kept back meanwhile.
_BATCH = 16


class Start(NamedTuple):
    """Where one call of a map goes."""

    target: Target
    extra: dict[str, Any]
    ended: Callable[[BaseException | None], None]
    """Hears how it ended."""


OLD = "the daemon is too old for many calls on one connection"


class TooOld(Exception):
    """The daemon takes one call at a time on a connection."""


class Item(many.Call):
    """A call of a map."""

    __slots__ = ("_ended", "deadline", "done", "error", "pump", "tail", "target", "value")

    def __init__(self, pump: Pump, start: Start, call: str, on: many.Many) -> None:
        super().__init__(on, call)
        self.pump = pump
        self.target = start.target
        self._ended: Callable[[BaseException | None], None] | None = start.ended
        timeout = start.target.options.timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout + GRACE
        self.done = False
        # Whether the rest are items, which are read later or never.
        self.tail = False
        self.value: Any = None
        self.error: Exception | None = None

    def arrived(self) -> None:
        """Takes the result, or the first item."""
        if self.done:
            return
        try:
            found = self.read()
            if found is None:
                if self.many.ended is None:
                    return
                if self.order is not None and not self.many.was_sent(self):
                    self.pump.unsent.append(self)
                    return
                raise self.lost()
            reply, data = found
            if reply["t"] == "item":
                self.tail = True
                self.pump.tails.add(self)
                self.value = RemoteIterator(self.pump.give, self, found, keep=self.target)
            else:
                self.value = decode(reply, data)
        except Exception as e:
            self.error = e
        self.over()

    def expire(self) -> None:
        """Gives it up: not even its deadline's own error has come."""
        self.close()
        self.error = lost(self.call, TimeoutError())  # type: ignore[assignment]
        self.over()

    def over(self) -> None:
        """Notes its end, or that the map has what it needs of it."""
        self.done = True
        self.pump.under_way -= 1
        if not self.tail:
            console.underway.discard(self)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self.error)

    def next(self) -> tuple[dict[str, Any], memoryview]:
        """The next item, for the iterator that this call turned out to be."""
        while True:
            with self.pump.lock:
                found = self.read()
                if found is not None:
                    return found
                if self.many.ended is not None:
                    raise self.lost()
                self.pump.wait(self.many)


class Failed:
    """A call of a map that could not be made."""

    done = True
    value = None
    tail = False

    def __init__(self, error: Exception) -> None:
        self.error = error


class Pump:
    """The calls under way of one map, and their connection."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._many: many.Many | None = None
        self._poll = select.poll()
        # A later reader of a call's items may be in another thread.
        self.lock = threading.RLock()
        self.under_way = 0
        # Calls with a deadline, the earliest first.
        self._due: deque[Item] = deque()
        # Calls that were not sent before their connection ended.
        self.unsent: list[Item] = []
        # Calls whose items are read by whoever the map gave their iterators to.
        self.tails: set[Item] = set()
        self._over = False
        self._touched = 0.0
        self._kept_back = 0

    def connect(self) -> many.Many:
        """The connection; another one, where that has ended."""
        if self._many is None or self._many.ended is not None:
            daemon = self._daemon
            if daemon.one_each:
                raise TooOld(OLD)
            conn = daemon.open(dict(many.SWITCH), ())
            try:
                conn.next()
            except RhdError:
                daemon.one_each = conn.finished
                daemon.give(conn)
                raise TooOld(OLD) from None
            except BaseException:
                conn.close()
                raise
            console.underway.discard(conn)
            self._many = many.Many(conn.sock)
            self._poll = select.poll()
        return self._many

    def begin(self, start: Start, args: tuple[Any, ...]) -> Item | Failed:
        """Makes a call."""
        try:
            parts = body(start.target, args, {})
            on = self.connect()
            call, header = start.target.header(parts, "call", start.extra)
            header["call"]["beside"] = segments.available
            item = Item(self, start, call, on)
            if segments.is_large(parts):
                on.lend(item, header, segments.lend(parts))
            else:
                on.begin(item, header, parts)
        except Exception as e:
            start.ended(e)
            return Failed(e)
        self.under_way += 1
        self._kept_back += 1
        if item.deadline is not None:
            self._due.append(item)
        console.underway.add(item)
        return item

    def again(self) -> None:
        """Sends what was not sent before its connection ended."""
        unsent, self.unsent = self.unsent, []
        for item in unsent:
            try:
                item.many = self.connect()
                item.many.resend(item)
            except Exception as e:
                item.error = e
                item.over()

    def touch(self) -> None:
        """Writes and reads without waiting, if that was not done just now."""
        now = time.monotonic()
        if self._many is not None and (self._kept_back >= _BATCH or now - self._touched > _QUIET):
            self._touched, self._kept_back = now, 0
            with self.lock:
                self._many.write()
                if self._many.ended is None:
                    self._many.read()

    def wait(self, on: many.Many, deadline: float | None = None) -> None:
        """Writes what there is, and reads once there is something, or the deadline has passed."""
        with self.lock:
            events = select.POLLIN if on.write() else select.POLLIN | select.POLLOUT
            if on.ended is not None:
                return
            patience = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000
            self._poll.register(on.sock, events)
            ready = self._poll.poll(patience)
            self._touched, self._kept_back = time.monotonic(), 0
            if on.ended is None and any(event != select.POLLOUT for _, event in ready):
                on.read()

    def step(self) -> None:
        """Waits until something has come of the calls under way."""
        if self.unsent:
            self.again()
            return
        while self._due and self._due[0].done:
            self._due.popleft()
        deadline = self._due[0].deadline if self._due else None
        if self._many is not None:
            self.wait(self._many, deadline)
        if deadline is not None and time.monotonic() >= deadline and not self._due[0].done:
            self._due.popleft().expire()

    def give(self, item: Item) -> None:
        """Takes a call back whose items nobody wants any more."""
        with self.lock:
            self.tails.discard(item)
            console.underway.discard(item)
            item.close()
            self._leave()

    def close(self) -> None:
        """Cancels what is under way, but for calls whose items may still be read."""
        with self.lock:
            self._over = True
            if self._many is not None and self.tails:
                for item in list(self._many.calls.values()):
                    if isinstance(item, Item) and not item.tail:
                        item.close()
                        item.over()
            self._leave()

    def _leave(self) -> None:
        if self._many is not None:
            self._many.write()
            if self._over and not self.tails:
                self._many.end(EOFError("the map is over"))


def ordered(
    start: Callable[[], Start],
    daemon: Daemon,
    arguments: Iterator[tuple[Any, ...]],
    concurrency: int,
    keep: bool,
    instead: Callable[[], Iterator[Any]],
) -> Iterator[Any]:
    """Yields the results of calls in the order of their arguments; `instead` does so where the
    daemon is too old for that."""
    pump = Pump(daemon)
    try:
        pump.connect()
    except TooOld:
        yield from instead()
        return
    except Exception:
        # Each call finds out, and says so in its place.
        pass
    waiting: deque[Item | Failed] = deque()
    # One item is taken for one result: an iterable that waits for something holds back no result.
    turn = False
    try:
        more = True
        while True:
            ready = bool(waiting) and waiting[0].done
            if ready and turn:
                turn = False
                item = waiting[0]
                if item.error is not None and not keep:
                    raise item.error
                waiting.popleft()
                result = item.value if item.error is None else item.error
                del item
                pump.touch()
                yield result
                del result
                continue
            turn = True
            # Read only as fast as calls end, whatever the window has room for.
            window = concurrency * (AHEAD if ready else BEHIND)
            if more and len(waiting) < window and pump.under_way < min(concurrency, many.CALLS):
                args = next(arguments, None)
                if args is None:
                    more = False
                else:
                    waiting.append(pump.begin(start(), args))
            elif not waiting:
                return
            elif not ready:
                pump.step()
    finally:
        pump.close()
