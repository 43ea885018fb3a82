"""The calls of a map on one connection, which whoever asks for results reads while it waits."""

from __future__ import annotations

import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from . import console, many, segments
from .connection import GRACE, lost
from .daemon import Daemon, decode
from .errors import NotFound, RhdError
from .iterators import RemoteIterator
from .parallel import AHEAD, BEHIND
from .target import Target, body

# Seconds for which the socket may be left alone while results are there.
_QUIET = 0.001
# The part of the calls under way whose orders may be kept back meanwhile: no more than that waits
# for a reader that turns to something else.
_BATCH = 8


class Start(NamedTuple):
    """Where one call of a map goes."""

    target: Target
    extra: dict[str, Any]
    revive: Callable[[NotFound], bool] | None = None
    """Puts the target there again, where its node has forgotten it."""
    ended: Callable[[BaseException | None], None] | None = None
    """Hears how it ended."""


OLD = "the daemon is too old for many calls on one connection"


class TooOld(Exception):
    """The daemon takes one call at a time on a connection."""


class Item(many.Call):
    """A call of a map."""

    __slots__ = (
        "_args",
        "_revived",
        "_start",
        "deadline",
        "done",
        "error",
        "pump",
        "tail",
        "value",
    )

    def __init__(self, pump: Pump, start: Start, args: tuple[Any, ...]) -> None:
        self.pump = pump
        self._start = start
        self._args = args
        self._revived = False
        timeout = start.target.options.timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout + GRACE
        self.done = False
        # Whether the rest are items, which are read later or never.
        self.tail = False
        self.value: Any = None
        self.error: Exception | None = None
        self.call = ""
        pump.under_way += 1

    def send(self) -> None:
        """Orders it."""
        try:
            target = self._start.target
            parts = body(target, self._args, {})
            on = self.pump.connect()
            call, header = target.header(parts, "call", self._start.extra)
            header["call"]["beside"] = segments.available
            super().__init__(on, call)
            console.underway.add(self)
            if segments.is_large(parts):
                on.lend(self, header, segments.lend(parts))
            else:
                on.begin(self, header, parts)
        except Exception as e:
            self.over(e)

    def send_again(self) -> None:
        """Orders it as it is, where its order was not sent before its connection ended."""
        try:
            self.many = self.pump.connect()
            console.underway.add(self)
            self.many.resend(self)
        except Exception as e:
            self.over(e)

    def revive(self, error: NotFound) -> None:
        """Orders it anew, if its target can be put there again."""
        self._revived = True
        try:
            again = self._start.revive is not None and self._start.revive(error)
        except Exception as e:
            self.over(e)
            return
        if again:
            self.send()
        else:
            self.over(error)

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
                    console.underway.discard(self)
                    self.pump.todo.append(self.send_again)
                    return
                raise self.lost()
            reply, data = found
            if reply["t"] == "item":
                self.tail = True
                self.pump.tails.add(self)
                keep = self._start.target
                self.value = RemoteIterator(self.pump.give, self, found, keep=keep)
            else:
                self.value = decode(reply, data)
        except NotFound as e:
            if self._start.revive is None or self._revived or not self.finished:
                self.over(e)
            else:
                self.pump.todo.append(partial(self.revive, e))
            return
        except Exception as e:
            self.over(e)
            return
        self.over()

    def expire(self) -> None:
        """Gives it up: not even its deadline's own error has come."""
        self.close()
        self.over(lost(self.call, TimeoutError()))  # type: ignore[arg-type]

    def over(self, error: Exception | None = None) -> None:
        """Notes its end, or that the map has what it needs of it."""
        self.done = True
        self.error = error
        self._args = ()
        self.pump.under_way -= 1
        if not self.tail:
            console.underway.discard(self)
        if self._start.ended is not None:
            self._start.ended(error)

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
    """A call of a map that has nowhere to go."""

    done = True
    value = None

    def __init__(self, error: Exception) -> None:
        self.error = error


class Pump:
    """The calls under way of one map, and their connection."""

    def __init__(self, daemon: Daemon, concurrency: int) -> None:
        self._daemon = daemon
        self._batch = max(concurrency // _BATCH, 1)
        self._many: many.Many | None = None
        self._poll = select.poll()
        # A later reader of a call's items may be in another thread.
        self.lock = threading.RLock()
        self.under_way = 0
        # Calls with a deadline, the earliest first.
        self._due: deque[Item] = deque()
        # What is to be done about calls that ended as they must not.
        self.todo: list[Callable[[], None]] = []
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

    def begin(self, start: Callable[[], Start], args: tuple[Any, ...]) -> Item | Failed:
        """Makes a call."""
        try:
            item = Item(self, start(), args)
        except Exception as e:
            return Failed(e)
        self._kept_back += 1
        if item.deadline is not None:
            self._due.append(item)
        item.send()
        return item

    def touch(self) -> None:
        """Writes and reads without waiting, if that was not done just now."""
        now = time.monotonic()
        if self._many is not None and (
            self._kept_back >= self._batch or now - self._touched > _QUIET
        ):
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
        if self.todo:
            todo, self.todo = self.todo, []
            for do in todo:
                do()
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
            if self._many is not None:
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
    pump = Pump(daemon, concurrency)
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
                # An iterator that nobody reads any more goes with its last reader, and its call.
                item.value = None
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
                    waiting.append(pump.begin(start, args))
            elif not waiting:
                return
            elif not ready:
                pump.step()
    finally:
        pump.close()
