"""Payloads beside frames: files in memory that go from process to process, mapped at both ends.

A file's first byte is 1 while somebody needs its payload. Whoever reads the payload sets it to 0
when the last array in it is gone, and then its maker fills the file again: pages that were in use
once cost far less than fresh ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import threading
import time
import weakref
from collections.abc import Sequence

from .errors import RhdError

try:
    import fcntl

    _SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
except (ImportError, AttributeError):
    _SEALS = 0

Buffer = bytes | bytearray | memoryview

BESIDE = 256 * 1024
"""Payloads of at least this size travel beside their frames, in bytes."""
AT = 4096
"""Where in its file a payload starts."""
MAX_PAYLOAD = 64 << 30
"""The longest payload that is sent; nodes may take less."""

# Files for payloads above this size are used once.
_POOLED = 128 << 20
# What is kept for later payloads, each way: bytes, files, and seconds without use.
_KEPT = 256 << 20
_FILES = 16
_IDLE = 20.0
# Payloads above this size are held against the memory that is free.
_CHECKED = 64 << 20
# Buffers in one pwritev; the system's own limit is 1024.
_IOV = 512

available = bool(_SEALS) and hasattr(os, "memfd_create") and hasattr(os, "pwritev")
"""Whether this system has sealed files in memory."""


class TooLarge(RhdError):
    """A payload that nobody takes, or for which there is no memory."""

    kind = "bad_request"


def size(part: Buffer) -> int:
    """Bytes of a part."""
    return part.nbytes if type(part) is memoryview else len(part)


def flat(part: Buffer) -> memoryview:
    """A part as plain bytes."""
    view = memoryview(part)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class Segment:
    """A file with a payload in it, for whoever is sent its descriptor."""

    __slots__ = ("fd", "filled", "length", "map", "room", "used")

    def __init__(self, room: int) -> None:
        self.room = room
        self.length = 0
        self.filled = 0
        self.used = 0.0
        self.map: mmap.mmap | None = None
        self.fd = os.memfd_create("rhd-payload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, AT + room)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        os.pwrite(self.fd, b"\1", 0)

    def __del__(self) -> None:
        fd = getattr(self, "fd", -1)
        if fd >= 0:
            os.close(fd)

    def is_free(self) -> bool:
        """Whether whoever was sent it is done with it."""
        return os.pread(self.fd, 1, 0) == b"\0"

    def fill(self, parts: Sequence[Buffer], length: int) -> None:
        """Writes the payload."""
        self.length = length
        if self.filled < length:
            # Fresh pages are made faster by a write than by faults.
            self._write([flat(p) for p in parts if size(p)])
            self.filled = length
            return
        if self.map is None:
            self.map = mmap.mmap(self.fd, AT + self.room)
        at = AT
        for part in parts:
            view = flat(part)
            self.map[at : at + len(view)] = view
            at += len(view)

    def _write(self, pending: list[memoryview]) -> None:
        pending.reverse()
        at = AT
        while pending:
            done = os.pwritev(self.fd, pending[: -_IOV - 1 : -1], at)
            at += done
            while done:
                first = pending[-1]
                if done < len(first):
                    pending[-1] = first[done:]
                    break
                done -= len(first)
                pending.pop()


_lock = threading.Lock()
_pool: list[Segment] = []


def is_large(parts: Sequence[Buffer]) -> bool:
    """Whether a body is one to go beside its frame, to a reader that takes that."""
    return available and sum(map(size, parts)) >= BESIDE


def lend(parts: Sequence[Buffer]) -> Segment:
    """A file with these parts in it, to be sent to one reader."""
    length = sum(map(size, parts))
    if length > MAX_PAYLOAD:
        raise TooLarge(
            f"{length / 2**30:.1f} GiB in one message; the limit is {MAX_PAYLOAD >> 30} GiB",
            hint="send it in parts, or yield it item by item",
        )
    segment = _kept(length) if length <= _POOLED else None
    if segment is None:
        _check(length)
        segment = Segment(1 << (length - 1).bit_length() if length <= _POOLED else length)
        if length <= _POOLED:
            _keep(segment)
    try:
        segment.fill(parts, length)
    except MemoryError:
        raise TooLarge(f"no memory for a payload of {length / 2**20:.0f} MiB") from None
    return segment


def _kept(length: int) -> Segment | None:
    now = time.monotonic()
    with _lock:
        _pool[:] = [s for s in _pool if now - s.used < _IDLE or not s.is_free()]
        fitting = [s for s in _pool if s.room >= length and s.is_free()]
        if not fitting:
            return None
        segment = min(fitting, key=lambda s: s.room)
        segment.used = now
        os.pwrite(segment.fd, b"\1", 0)
        return segment


def _keep(segment: Segment) -> None:
    segment.used = time.monotonic()
    with _lock:
        _pool.append(segment)
        while len(_pool) > _FILES or sum(s.room for s in _pool) > _KEPT:
            oldest = min(_pool, key=lambda s: s.used)
            if oldest is segment:
                break
            _pool.remove(oldest)


def _check(length: int) -> None:
    """Refuses what there is no memory for, before any of it is taken."""
    if length < _CHECKED:
        return
    free = _free_memory()
    if free is not None and length > free:
        raise TooLarge(
            f"a payload of {length / 2**30:.1f} GiB; there are {free / 2**30:.1f} GiB of free "
            "memory here",
            hint="send it in parts, yield it item by item, or write it to a file and pass the path",
        )


def _free_memory() -> int | None:
    """Bytes that may be taken without pushing others out; none where the system doesn't say."""
    free = None
    with contextlib.suppress(OSError, ValueError), open("/proc/meminfo", "rb") as lines:
        for line in lines:
            if line.startswith(b"MemAvailable:"):
                free = int(line.split()[1]) * 1024 * 9 // 10
    with contextlib.suppress(OSError, ValueError):
        most, now = (_number(f"/sys/fs/cgroup/memory.{which}") for which in ("max", "current"))
        free = most - now if free is None else min(free, most - now)
    return free


def _number(path: str) -> int:
    with open(path, "rb") as file:
        return int(file.read())


# --- the reader's end


class _Loan(weakref.ref):
    """Tells a file's maker when the last array in a payload is gone."""

    __slots__ = ("file",)


_maps: dict[tuple[int, int], mmap.mmap] = {}
_loans: dict[int, _Loan] = {}


def take(fd: int, length: int) -> memoryview:
    """The payload in a file that was sent here; closes the descriptor."""
    try:
        stat = os.fstat(fd)
        if stat.st_size < AT + length:
            raise TooLarge(f"a payload of {length} bytes in a file of {stat.st_size}")
        file = _mapped(fd, (stat.st_dev, stat.st_ino), stat.st_size)
    finally:
        os.close(fd)
    payload = (ctypes.c_char * length).from_buffer(file, AT)
    loan = _Loan(payload, _returned)
    loan.file = file
    _loans[id(loan)] = loan
    return memoryview(payload).cast("B")


def _mapped(fd: int, key: tuple[int, int], length: int) -> mmap.mmap:
    if length > 2 * _POOLED:
        return mmap.mmap(fd, length)
    with _lock:
        # The newest is the last; a file that is mapped keeps its number.
        file = _maps.pop(key, None)
        if file is None:
            file = mmap.mmap(fd, length)
        _maps[key] = file
        while len(_maps) > _FILES or sum(map(len, _maps.values())) > 2 * _KEPT:
            del _maps[next(iter(_maps))]
        return file


def _returned(loan: _Loan) -> None:
    if _loans.pop(id(loan), None) is not None:
        loan.file[0] = 0


def _before_fork() -> None:
    # The child may go on using what this process lets go of: that is never given back.
    _loans.clear()


def _after_fork() -> None:
    global _lock
    # The parent's files: filled by the child too, they would be of both.
    _lock = threading.Lock()
    _pool.clear()
    _maps.clear()


if available:
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
