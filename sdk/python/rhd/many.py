"""Many calls on one connection to the daemon, for whoever waits for the socket: a loop or a map.

Once the daemon has agreed to it, orders (calls, cancellations, credit) go out as they come, and
replies come back with the id of their call. Nothing here waits.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

from . import config, console, frames
from .connection import failed, lost, show

CALLS = 4096
"""Calls that a daemon takes on one connection (`rhd_protocol::many`)."""
SMALL = 64 * 1024
"""Bodies up to this size, in bytes, are no burden to the other calls."""
_WINDOW = 16
_WINDOW_BYTES = 1024 * 1024

# Bytes of orders that may wait for the system to take them.
_OUT = 1024 * 1024
# The buffer that is read into. A frame that is longer has a body of its own.
_ROOM = frames.MAX_HEADER + SMALL
# The first allocation for that; it doubles as bytes arrive.
_STEP = 1024 * 1024

SWITCH = {"op": "many", "v": config.VERSION}
"""Asks for it. A daemon that is too old refuses, and takes requests one by one as ever."""


class Call:
    """A call under way, and its replies that nobody has read yet."""

    __slots__ = (
        "_bytes",
        "_items",
        "_sink",
        "call",
        "finished",
        "many",
        "order",
        "replies",
        "sent_at",
    )

    def __init__(self, many: Many, call: str) -> None:
        self.many = many
        self.call = call
        self.replies: deque[tuple[dict[str, Any], bytearray]] = deque()
        self.finished = False
        # What was ordered, until it is known to have arrived.
        self.order: bytes | None = None
        self.sent_at = 0
        self._sink: console.Sink | None = None
        self._items = self._bytes = 0

    def arrived(self) -> None:
        """Hears that a reply is there, or that none will come."""

    def read(self) -> tuple[dict[str, Any], memoryview] | None:
        """The next item or result; output on the way is shown, a failure raised. None when there
        is nothing to read yet."""
        while self.replies:
            reply, body = self.replies.popleft()
            kind = reply.get("t")
            if kind == "done":
                self._end()
                return reply, memoryview(body)
            if kind == "fail":
                self._end()
                raise failed(reply, memoryview(body), self.call)
            self._owe(len(body))
            if kind == "item":
                return reply, memoryview(body)
            self._sink = show(self._sink, reply, memoryview(body))
        return None

    def lost(self) -> BaseException:
        """The error of a call whose connection has ended."""
        said = self.many.said
        if said is not None:
            return failed(said, memoryview(b""), self.call)
        return lost(self.call, self.many.ended or EOFError("the connection was closed"))

    def _end(self) -> None:
        self.finished = True
        if self._sink is not None:
            self.settle()

    def _owe(self, size: int) -> None:
        # As `Owed` of the protocol: a reader that is not behind never leaves the daemon waiting.
        self._items += 1
        self._bytes += size + 1024
        if self._items >= _WINDOW // 2 or self._bytes >= _WINDOW_BYTES // 2:
            self.many.tell({"op": "credit", "id": self.call, "items": self._items})
            self._items = self._bytes = 0

    def settle(self) -> None:
        """Ends the output of the call."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def close(self) -> None:
        """Forgets it, which cancels it if it is under way."""
        console.underway.discard(self)
        self.many.forget(self.call)
        self.settle()


class Many:
    """A connection that was switched over."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.calls: dict[str, Call] = {}
        # Why it ended, and what the daemon said to that.
        self.ended: BaseException | None = None
        self.said: dict[str, Any] | None = None
        self._out: list[bytes] = []
        self._waiting = 0
        # Bytes of orders so far, and those that were written.
        self._ordered = self._written = 0
        self._room = bytearray(_ROOM)
        self._view = memoryview(self._room)
        self._held = 0
        # The reply whose body is being read, that body, how much of it is there, and its length.
        self._large: tuple[dict[str, Any], bytearray] | None = None
        self._filled = self._length = 0

    def __del__(self) -> None:
        # Not shut down: in a forked child this is a copy.
        sock = getattr(self, "sock", None)
        if sock is not None:
            sock.close()

    # --- orders

    def has_room(self) -> bool:
        """Whether a further call may be ordered now."""
        return self.ended is None and len(self.calls) < CALLS and self._waiting < _OUT

    def begin(self, call: Call, header: dict[str, Any], parts: Sequence[frames.Buffer]) -> None:
        """Orders a call."""
        call.order = frames.joined(header, parts)
        self.calls[call.call] = call
        self._say(call.order)
        call.sent_at = self._ordered

    def was_sent(self, call: Call) -> bool:
        """Whether all of a call's order was written; if not, it has not run."""
        return call.sent_at <= self._written

    def forget(self, call: str) -> None:
        """Takes no more replies of a call; cancels it if it is under way."""
        if self.calls.pop(call, None) is not None and self.ended is None:
            self.tell({"op": "cancel", "id": call})

    def tell(self, order: dict[str, Any]) -> None:
        """Orders something that has no body."""
        if self.ended is None:
            self._say(frames.encode(order, 0))

    def _say(self, frame: bytes) -> None:
        self._ordered += len(frame)
        self._waiting += len(frame)
        self._out.append(frame)
        if len(self._out) == 1:
            self.ordered()

    def ordered(self) -> None:
        """Hears that there is something to write."""

    # --- the socket

    def write(self) -> bool:
        """Writes what the system takes; whether that was all."""
        if self._out and self.ended is None:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as e:
                self.end(e)
                return True
            self._written += sent
            self._waiting -= sent
            if sent < len(data):
                self._out.append(data[sent:])
                return False
        return True

    def read(self) -> None:
        """Reads what there is, and hands replies to their calls."""
        try:
            if self._large is None:
                got = self.sock.recv_into(self._view[self._held :])
            else:
                with memoryview(self._large[1]) as body:
                    got = self.sock.recv_into(body[self._filled :])
        except BlockingIOError:
            return
        except OSError as e:
            self.end(e)
            return
        if not got:
            self.end(EOFError("the connection was closed"))
            return
        try:
            if self._large is None:
                self._held += got
                self._cut()
            else:
                self._filled += got
                self._grow(*self._large)
        except Exception as e:
            self.end(e)

    def _cut(self) -> None:
        room, view, at, held = self._room, self._view, 0, self._held
        while held - at >= frames.PREFIX:
            head, body, aside = frames.lengths(view[at : at + frames.PREFIX])
            if aside:
                raise frames.FrameError("a payload beside a frame that can't have one")
            start = at + frames.PREFIX
            middle, end = start + head, start + head + body
            if end > held:
                if end - at <= _ROOM or middle > held:
                    break
                self._filled, self._length = held - middle, body
                large = bytearray(min(max(self._filled, _STEP), body))
                large[: self._filled] = view[middle:held]
                self._large = frames.decode(view[start:middle]), large
                at = held
                break
            self._pass_on(frames.decode(view[start:middle]), room[middle:end])
            at = end
        self._held = held - at
        if at and self._held:
            room[: self._held] = room[at:held]

    def _grow(self, reply: dict[str, Any], body: bytearray) -> None:
        if self._filled == self._length:
            self._large = None
            self._pass_on(reply, body)
        elif self._filled == len(body):
            body.extend(bytes(min(self._length - self._filled, self._filled)))

    def _pass_on(self, reply: dict[str, Any], body: bytearray) -> None:
        call = reply.get("id")
        found = self.calls.get(call) if type(call) is str else None
        kind = reply.get("t")
        if found is None:
            if call is None and kind == "fail":
                self.said = reply
                raise EOFError("the daemon closed the connection")
            # Of a call that was given up there may still be some.
            return
        if kind in ("done", "fail"):
            del self.calls[call]
        elif len(found.replies) > _WINDOW:
            raise frames.FrameError("more replies than there was credit for")
        found.order = None
        found.replies.append((reply, body))
        found.arrived()

    def end(self, error: BaseException) -> None:
        """Ends it; what is under way is lost."""
        if self.ended is not None:
            return
        self.ended = error
        calls, self.calls = list(self.calls.values()), {}
        with contextlib.suppress(OSError):
            # Unlike closing, this ends it even where a forked child holds a copy.
            self.sock.shutdown(socket.SHUT_RDWR)
        self.over()
        self.sock.close()
        for call in calls:
            call.arrived()

    def over(self) -> None:
        """Hears that the socket is about to be closed."""
