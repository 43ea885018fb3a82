"""A connection that carries one call at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import frames, inbox, segments

if TYPE_CHECKING:
    import socket


class Port:
    """A call lane of one thread's own."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reader = inbox.Reader(sock)
        # Held while a frame is written: threads of the call write its output. Reentrant, because
        # a finalizer may print while its own thread is about to.
        self.writing = threading.RLock()

    def next(self) -> tuple[dict, memoryview]:
        """The next call."""
        return self._reader.recv()

    def last(self, header: dict, parts: Sequence[frames.Buffer] | segments.Segment) -> None:
        """Writes a final reply; the caller holds `writing`."""
        frames.send(self.sock, header, parts)

    def item(self, header: dict, parts: Sequence[frames.Buffer] | segments.Segment) -> None:
        """Writes an item; a reader that is slow holds it up."""
        with self.writing:
            frames.send(self.sock, header, parts)

    def write(self, frame: bytes) -> None:
        """Writes output of a call; the caller holds `writing`."""
        # One call into C: an interrupted thread must not leave half a frame behind.
        self.sock.sendall(frame)

    def grant(self, items: int) -> None:
        """Nothing here waits for credit."""
