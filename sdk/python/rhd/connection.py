"""One connection to the daemon: a request, then replies until a final one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any

from . import console, errors, frames, segments
from .faults import fault
from .inbox import Reader

GRACE = 10.0
"""Seconds that a deadline's own error may take to arrive before the daemon counts as hung."""


class Connection:
    """A blocking connection; it carries one request at a time."""

    __slots__ = ("_reader", "_sink", "call", "cancelled", "finished", "reused", "sock", "told")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reader = Reader(sock)
        self.call = ""
        self.reused = False
        self.finished = False
        self.cancelled = False
        # Takes how far a transfer is, in place of the terminal.
        self.told: Callable[[dict[str, Any]], None] | None = None
        self._sink: console.Sink | None = None

    def is_idle(self) -> bool:
        """Whether nothing unexpected came after the last reply. Whether the daemon still is there
        shows when something is sent: what was not sent whole has not run."""
        return self._reader.is_empty()

    def post(self, header: dict[str, Any], parts: Sequence[Any] | segments.Segment) -> None:
        """Sends a request."""
        frames.send(self.sock, header, parts)

    def next(self) -> tuple[dict[str, Any], memoryview]:
        """The next item or result; output and progress on the way are shown, failures raised."""
        while True:
            try:
                reply, body = self._reader.recv()
            except (OSError, EOFError) as e:
                raise lost(self.call, e, self.cancelled) from e
            kind = reply.get("t")
            if kind == "done":
                self.finished = True
                if self._sink is not None:
                    self.settle()
                return reply, body
            if kind == "item":
                return reply, body
            if kind == "fail":
                self.finished = True
                self.settle()
                raise failed(reply, body, self.call)
            if self.told is not None and reply.get("moved"):
                self.told(reply["moved"])
            else:
                self._sink = show(self._sink, reply, body)

    def relax(self) -> None:
        """Takes the deadline off again."""
        if self.sock.fileno() >= 0:
            self.sock.settimeout(None)

    def settle(self) -> None:
        """Ends the output of a call."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def cancel(self) -> None:
        """Ends the call from another thread: its reader gets `Cancelled`."""
        self.cancelled = True
        self._shut()

    def close(self) -> None:
        """Closes it, which cancels a call that is under way."""
        console.underway.discard(self)
        self._shut()
        self.sock.close()
        self.settle()

    def _shut(self) -> None:
        # Unlike closing, this ends it even where a forked child holds a copy.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


def show(sink: console.Sink | None, reply: dict[str, Any], body: memoryview) -> console.Sink | None:
    """Shows a reply that is neither item nor final; replies of newer daemons are passed over."""
    sink = sink or console.Sink()
    if reply.get("t") == "log":
        sink.log(int(reply.get("fd", 1)), bytes(body))
    elif reply.get("t") == "progress":
        sink.progress(str(reply.get("text", "")), bool(reply.get("moved")))
    return sink


def failed(reply: dict[str, Any], body: memoryview, call: str) -> BaseException:
    """The exception in a failure, with the call that it ended."""
    info = dict(reply.get("error") or {})
    info["call"] = info.get("call") or call
    return errors.from_info(info, body)


def lost(call: str, error: BaseException, cancelled: bool = False) -> BaseException:
    """What a connection that died under a call means to the caller."""
    if cancelled:
        return fault("cancelled", "the call was cancelled", call=call)
    if isinstance(error, TimeoutError):
        return fault(
            "timeout",
            "the deadline passed and the daemon did not answer either",
            hint="look at it with `rhd status`",
            call=call,
        )
    return fault(
        "daemon_unavailable",
        f"the daemon on this machine went away during the call ({error or type(error).__name__}); "
        "the call may or may not have run, and was not repeated",
        hint=f"see `rhd status`; rh.run({call!r}) tells what became of it"
        if call
        else "see `rhd status`",
        call=call,
    )
