"""stdout and stderr: what a call writes goes back by its lane, all else to the process's own."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .call import Call

# The longest piece of output in one frame.
CHUNK = 64 * 1024

# Set in forked children, whose output is no call's.
_own_only = False


class Output:
    """The output of one call. Lines are kept apart by thread, so that they don't mix."""

    def __init__(self, call: Call, wanted: bool) -> None:
        self._call = call
        self.wanted = wanted
        self._pending: dict[tuple[int, int], bytearray] = {}

    def write(self, fd: int, data: bytes) -> bool:
        """Sends what ends in a newline or carriage return, keeps the rest; false when too late."""
        if self._call.ended:
            return False
        key = (fd, threading.get_ident())
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        pending = self._pending.get(key)
        if cut == 0:
            if pending is None:
                pending = self._pending[key] = bytearray()
            pending += data
            return self._flush(key) if len(pending) >= CHUNK else True
        if pending:
            del self._pending[key]
            out = bytes(pending) + data[:cut]
        else:
            out = data[:cut] if cut < len(data) else data
        if cut < len(data):
            self._pending[key] = bytearray(data[cut:])
        return self._send(fd, out)

    def flush(self, fd: int) -> None:
        """Sends what this thread has kept."""
        self._flush((fd, threading.get_ident()))

    def flush_all(self) -> None:
        """Sends what any thread has kept."""
        for key in list(self._pending):
            self._flush(key)

    def _flush(self, key: tuple[int, int]) -> bool:
        pending = self._pending.pop(key, None)
        return not pending or self._send(key[0], bytes(pending))

    def _send(self, fd: int, data: bytes) -> bool:
        log = self._call.sink.log
        if len(data) <= CHUNK:
            return log(self._call, fd, data)
        return all(
            [log(self._call, fd, data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]
        )


def _output() -> Output | None:
    if _own_only:
        return None
    from .call import current

    call = current.get()
    return call.output if call is not None and call.output.wanted and not call.ended else None


class _Bytes(io.RawIOBase):
    """What `sys.stdout.buffer` is."""

    def __init__(self, fd: int, own: io.TextIOWrapper) -> None:
        self._fd = fd
        self._own = own

    def write(self, data: Any) -> int:  # type: ignore[override]
        data = bytes(data)
        output = _output()
        if output is None or not output.write(self._fd, data):
            self._own.flush()
            self._own.buffer.write(data)
            self._own.buffer.flush()
        return len(data)

    def flush(self) -> None:
        output = _output()
        if output is not None:
            output.flush(self._fd)

    def close(self) -> None:
        """Stays open: other calls write here too."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False


class Stream(io.TextIOBase):
    """What `sys.stdout` and `sys.stderr` are."""

    encoding = "utf-8"
    errors = "backslashreplace"
    line_buffering = True
    mode = "w"

    def __init__(self, fd: int, own: io.TextIOWrapper) -> None:
        self._fd = fd
        self._own = own
        self.name = "<stdout>" if fd == 1 else "<stderr>"
        self.buffer = _Bytes(fd, own)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        output = _output()
        if output is None or not output.write(self._fd, text.encode("utf-8", self.errors)):
            self._own.write(text)
        return len(text)

    def flush(self) -> None:
        output = _output()
        if output is None:
            self._own.flush()
        else:
            output.flush(self._fd)

    def close(self) -> None:
        """Stays open: other calls write here too."""

    def reconfigure(self, **_: Any) -> None:
        """Takes what scripts set on a real stdout; the encoding is always UTF-8 here."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False


def _own(fd: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(_raw(fd))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _raw(fd: int) -> io.FileIO:
    try:
        return io.FileIO(fd, "wb", closefd=False)
    except OSError:
        return io.FileIO(os.devnull, "wb")


def install() -> None:
    """Replaces `sys.stdout` and `sys.stderr`."""
    sys.stdout, sys.stderr = Stream(1, _own(1)), Stream(2, _own(2))


def own_only() -> None:
    """Sends all output to the process's own, on streams that no lost thread holds a lock of."""
    global _own_only
    _own_only = True
    for fd, stream in ((1, sys.stdout), (2, sys.stderr)):
        if isinstance(stream, Stream):
            stream._own = stream.buffer._own = _own(fd)
