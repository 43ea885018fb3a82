"""Many calls on one connection to the daemon, for whoever waits for the socket: a loop or a map.

Once the daemon has agreed to it, orders (calls, cancellations, credit) go out as they come, and
replies come back with the id of their call. Nothing here waits.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from . import config, console, frames, segments
from .connection import failed, lost, show
from .errors import RhdError
from .inbox import Inbox

CALLS = 4096
"""Calls that a daemon takes on one connection (`rhd_protocol::many`)."""
SMALL = 64 * 1024
"""Bodies up to this size, in bytes, are no burden to the other calls."""
_WINDOW = 16
_WINDOW_BYTES = 1024 * 1024

# Bytes of orders that may wait for the system to take them.
_OUT = 1024 * 1024
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
        self.replies: deque[tuple[dict[str, Any], memoryview]] = deque()
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
                return reply, body
            if kind == "fail":
                self._end()
                raise failed(reply, body, self.call)
            self._owe(len(body))
            if kind == "item":
                return reply, body
            self._sink = show(self._sink, reply, body)
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
        _open.add(self)
        self.calls: dict[str, Call] = {}
        # Why it ended, and what the daemon said to that.
        self.ended: BaseException | None = None
        self.said: dict[str, Any] | None = None
        self._out: list[bytes] = []
        # Payloads by the place of what they go with among those.
        self._lent: dict[int, segments.Segment] = {}
        self._waiting = 0
        # Bytes of orders so far, and those that were written.
        self._ordered = self._written = 0
        self._inbox = Inbox()

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
        self.resend(call)

    def lend(self, call: Call, header: dict[str, Any], payload: segments.Segment) -> None:
        """Orders a call whose body goes beside its frame."""
        self.calls[call.call] = call
        head, body, payload = frames.lend(header, payload)
        self._say(head)
        self._say(body, payload)
        call.sent_at = self._ordered

    def resend(self, call: Call) -> None:
        """Orders a call again whose order was not written elsewhere."""
        assert call.order is not None
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

    def _say(self, data: bytes, payload: segments.Segment | None = None) -> None:
        self._ordered += len(data)
        self._waiting += len(data)
        if payload is not None:
            self._lent[len(self._out)] = payload
        self._out.append(data)
        if len(self._out) == 1:
            self.ordered()

    def ordered(self) -> None:
        """Hears that there is something to write."""

    # --- the socket

    def write(self) -> bool:
        """Writes what the system takes; whether that was all."""
        while self._out and self.ended is None:
            if self._lent and 0 in self._lent:
                done, data, payload = 1, self._out[0], self._lent[0]
            else:
                done, payload = min(self._lent, default=len(self._out)), None
                data = self._out[0] if done == 1 else b"".join(self._out[:done])
            try:
                if payload is None:
                    sent = self.sock.send(data)
                else:
                    sent = socket.send_fds(self.sock, [data], [payload.fd])
            except BlockingIOError:
                return False
            except OSError as e:
                self.end(e)
                return True
            self._written += sent
            self._waiting -= sent
            rest = [data[sent:]] if sent < len(data) else []
            self._out[:done] = rest
            if self._lent:
                self._lent.pop(0, None)
                moved = done - len(rest)
                self._lent = {at - moved: payload for at, payload in self._lent.items()}
            if rest and payload is None:
                return False
        return True

    def read(self) -> None:
        """Reads what there is, and hands replies to their calls."""
        inbox = self._inbox
        try:
            inbox.fill(self.sock)
            while (frame := inbox.cut()) is not None:
                self._pass_on(*frame)
        except BlockingIOError:
            return
        except (OSError, EOFError, RhdError) as e:
            self.end(e)

    def _pass_on(self, reply: dict[str, Any], body: memoryview) -> None:
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


# All that are in use, for a forked child to let go of.
_open: weakref.WeakSet[Many] = weakref.WeakSet()


def _after_fork() -> None:
    # The parent's connections: closing this process's copies leaves the parent's open.
    for one in _open:
        one.sock.close()
        one.ended = one.ended or EOFError("it belongs to the process that forked")
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)
