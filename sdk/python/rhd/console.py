"""Remote output on this process's own stdout and stderr.

Output is passed on as it arrives. While several calls are under way their output is cut at line
ends, so that lines of two calls never mix; a bar that redraws itself with carriage returns counts
each redraw as a line.
"""

from __future__ import annotations

import codecs
import shutil
import sys
import threading

underway: set[object] = set()
"""Calls that are under way in this process; connections and streams add themselves."""

HELD = 64 * 1024
"""Characters of an unfinished line that are held back at most."""

_lock = threading.RLock()
_open_line: dict[int, object] = {}
_status = False


class Sink:
    """The output of one call."""

    __slots__ = ("_decoders", "_pending")

    def __init__(self) -> None:
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}
        self._pending: dict[int, str] = {}

    def log(self, fd: int, data: bytes) -> None:
        """Passes output on; `fd` is 1 for stdout, 2 for stderr."""
        decoder = self._decoders.get(fd)
        if decoder is None:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._decoders[fd] = decoder
        with _lock:
            self._write(fd, self._pending.pop(fd, "") + decoder.decode(data), len(underway) > 1)

    def progress(self, text: str, moving: bool = False) -> None:
        """Shows what is being done on the way: a status line on a terminal, else a line each, but
        for how far something is that moves."""
        global _status
        stream = sys.stderr
        if stream is None or (moving and not _is_terminal(stream)):
            return
        with _lock:
            if _is_terminal(stream):
                width = max(shutil.get_terminal_size().columns - 1, 10)
                stream.write("\r\x1b[K" + text.replace("\n", " ")[:width])
                _status = True
            else:
                stream.write(text + "\n")
            stream.flush()

    def close(self) -> None:
        """Writes what is held back and takes the status line away."""
        with _lock:
            _clear_status()
            others = len(underway) > 1
            for fd, decoder in self._decoders.items():
                text = self._pending.pop(fd, "") + decoder.decode(b"", True)
                if others and text and not text.endswith(("\n", "\r")):
                    text += "\n"
                self._write(fd, text, False)
                if not others and _open_line.get(fd) is self:
                    del _open_line[fd]

    def _write(self, fd: int, text: str, whole_lines: bool) -> None:
        if whole_lines and len(text) < HELD:
            end = max(text.rfind("\n"), text.rfind("\r")) + 1
            if end < len(text) and (end or _open_line.get(fd) is not self):
                self._pending[fd] = text[end:]
                text = text[:end]
        stream = sys.stderr if fd == 2 else sys.stdout
        if not text or stream is None:
            return
        _clear_status()
        if _open_line.get(fd, self) is not self:
            stream.write("\n")
        stream.write(text)
        stream.flush()
        if text.endswith("\n"):
            _open_line.pop(fd, None)
        else:
            _open_line[fd] = self


def _clear_status() -> None:
    global _status
    if _status and sys.stderr is not None:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
    _status = False


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):
        return False


def after_fork() -> None:
    """Forgets the parent's calls, in a forked child."""
    global _lock, _status
    _lock = threading.RLock()
    _status = False
    underway.clear()
    _open_line.clear()
