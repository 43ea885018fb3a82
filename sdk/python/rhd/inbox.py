"""Frames as they come out of a socket, as many at a time as one system call gives."""

from __future__ import annotations

import array
import os
import select
import socket

from . import frames, segments

# Room for any header with a body that is joined to it; a longer body has room of its own.
_ROOM = frames.PREFIX + frames.MAX_HEADER + 64 * 1024
# The first allocation for a longer body; it doubles as bytes arrive.
_STEP = 1024 * 1024
_FILE = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Inbox:
    """What was read from a socket and not yet handed out."""

    __slots__ = (
        "_body",
        "_data",
        "_end",
        "_files",
        "_filled",
        "_header",
        "_length",
        "_start",
        "_view",
    )

    def __init__(self) -> None:
        self._data = bytearray(_ROOM)
        self._view = memoryview(self._data)
        self._start = self._end = 0
        # Payloads that came with what was read: a read ends where one does.
        self._files: list[int] = []
        # A frame whose body has room of its own, and how much of it is there.
        self._header: dict | None = None
        self._body = bytearray()
        self._filled = self._length = 0

    def __del__(self) -> None:
        for file in getattr(self, "_files", ()):
            os.close(file)

    def is_empty(self) -> bool:
        """Whether everything that was read was handed out."""
        return self._start == self._end and self._header is None

    def fill(self, sock: socket.socket) -> None:
        """Reads what is there, at least a byte: `BlockingIOError` when nothing is, `EOFError` when
        the stream ended between frames."""
        if self._header is not None:
            with memoryview(self._body) as body:
                got = sock.recv_into(body[self._filled :], 0, _FLAGS)
            self._filled += got
        else:
            if self._start == self._end:
                self._start = self._end = 0
            elif self._end == _ROOM:
                self._end -= self._start
                self._data[: self._end] = self._data[self._start :]
                self._start = 0
            got, more, _, _ = sock.recvmsg_into((self._view[self._end :],), _FILE, _FLAGS)
            for _, kind, data in more:
                if kind == socket.SCM_RIGHTS:
                    files = array.array("i")
                    files.frombytes(data[: len(data) - len(data) % files.itemsize])
                    self._files.extend(files)
            self._end += got
        if not got:
            if self.is_empty():
                raise EOFError("the connection was closed")
            raise ConnectionError("the connection broke inside a frame")

    def cut(self) -> tuple[dict, memoryview] | None:
        """The next frame, if all of it is there."""
        if self._header is not None:
            return self._cut_long()
        start, held = self._start, self._end - self._start
        if held < frames.PREFIX:
            return None
        view = self._view
        head, body, aside = frames.lengths(view[start : start + frames.PREFIX])
        first = frames.PREFIX + head
        middle, end = start + first, start + first + body
        if first + body > _ROOM and held >= first:
            self._header = frames.decode(view[start + frames.PREFIX : middle])
            self._filled, self._length = held - first, body
            self._body = bytearray(min(max(self._filled, _STEP), body))
            self._body[: self._filled] = view[middle : self._end]
            self._start = self._end
            return self._cut_long()
        if end > self._end:
            return None
        header = frames.decode(view[start + frames.PREFIX : middle])
        self._start = end
        if aside:
            if len(self._files) != 1:
                raise frames.FrameError("a payload without its file")
            return header, segments.take(self._files.pop(), frames.payload_len(view[middle:end]))
        # A copy: what is decoded from it may refer to it.
        return header, memoryview(self._data[middle:end])

    def _cut_long(self) -> tuple[dict, memoryview] | None:
        if self._filled == self._length and self._header is not None:
            header, body = self._header, self._body
            self._header, self._body = None, bytearray()
            return header, memoryview(body)
        if self._filled == len(self._body):
            self._body.extend(bytes(min(self._length - self._filled, self._filled)))
        return None


class Reader:
    """Reads frames from a blocking socket.

    It waits by poll: a plain receive is woken as well when the other side has read what was sent.
    """

    __slots__ = ("_inbox", "_poll", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._inbox = Inbox()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def is_empty(self) -> bool:
        """Whether everything that was read was handed out."""
        return self._inbox.is_empty()

    def cut(self) -> tuple[dict, memoryview] | None:
        """The next frame, if all of it was read already."""
        return self._inbox.cut()

    def recv(self) -> tuple[dict, memoryview]:
        """Reads a frame, within the socket's timeout; `EOFError` when the stream ended between
        frames."""
        inbox, sock = self._inbox, self._sock
        while True:
            frame = inbox.cut()
            if frame is not None:
                return frame
            timeout = sock.gettimeout()
            if not self._poll.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError("timed out")
            try:
                inbox.fill(sock)
            except BlockingIOError:
                continue
