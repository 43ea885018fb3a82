"""Frames: what travels between client, daemon and worker.

A frame is two big-endian u32 lengths (header, body), the header as a msgpack map, and the body raw.
Both lengths are held against the limits before anything is allocated, and room for the body grows
only as its bytes arrive. The payload of a frame whose first length has its top bit set is beside
it: the body is the payload's length, and comes with the descriptor of the file that the payload is
in.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Sequence
from types import ModuleType

from . import segments
from ._deps import msgpack
from .errors import RhdError
from .segments import Buffer
from .segments import flat as _flat
from .segments import size as _size

VERSION = 1
PREFIX = 8
MAX_HEADER = 256 * 1024
MAX_BODY = 512 * 1024 * 1024

# Frames up to this size are joined into one buffer and one system call.
_JOIN = 64 * 1024
# The first allocation for a body; it doubles as bytes arrive.
_STEP = 1024 * 1024
# Buffers in one sendmsg; the system's own limit is 1024.
_IOV = 512
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_lengths = struct.Struct(">II")
_payload = struct.Struct(">Q")
_BESIDE = 1 << 31
_packb = msgpack.packb
_unpackb = msgpack.unpackb


def use(implementation: ModuleType) -> None:
    """Makes headers by another msgpack from now on; all of them write the same."""
    global _packb, _unpackb
    _packb, _unpackb = implementation.packb, implementation.unpackb


class FrameError(RhdError):
    """Bytes that are no frame, or a frame over the limits."""

    kind = "bad_request"


def encode(header: dict, body_len: int) -> bytes:
    """Returns the lengths and the header of a frame whose body follows."""
    head = _packb(header)
    if len(head) > MAX_HEADER:
        raise FrameError(f"header of {len(head)} bytes; the limit is {MAX_HEADER}")
    if body_len > MAX_BODY:
        raise FrameError(
            f"{body_len / 2**20:.0f} MiB in one message; the limit is {MAX_BODY // 2**20} MiB",
            hint="send it in parts, or yield it item by item",
        )
    return _lengths.pack(len(head), body_len) + head


def beside(header: dict) -> bytes:
    """Returns the lengths and the header of a frame whose payload travels beside it."""
    head = bytearray(encode(header, _payload.size))
    head[0] |= _BESIDE >> 24
    return bytes(head)


def decode(head: Buffer) -> dict:
    """Reads a header."""
    try:
        header = _unpackb(head)
    except Exception as error:
        raise FrameError(f"header is not understood: {error}") from None
    if not isinstance(header, dict):
        raise FrameError("header is not a map")
    return header


def lengths(prefix: Buffer) -> tuple[int, int, bool]:
    """Reads the lengths of header and body, and whether a payload is beside the frame."""
    head, body = _lengths.unpack(prefix)
    aside = head & _BESIDE != 0
    head &= ~_BESIDE
    if head == 0 or head > MAX_HEADER:
        raise FrameError(f"header of {head} bytes; the limit is {MAX_HEADER}")
    if body > MAX_BODY:
        raise FrameError(f"body of {body} bytes; the limit is {MAX_BODY}")
    if aside and body != _payload.size:
        raise FrameError("a payload without its length")
    return head, body, aside


def send(
    sock: socket.socket, header: dict, parts: Sequence[Buffer] | segments.Segment = ()
) -> None:
    """Writes a frame to a blocking socket. Large parts are not copied; a segment goes beside the
    frame, to a reader that takes that."""
    if not parts:
        sock.sendall(encode(header, 0))
        return
    if isinstance(parts, segments.Segment):
        sock.sendall(beside(header))
        body = _payload.pack(parts.length)
        sent = socket.send_fds(sock, [body], [parts.fd])
        if sent < len(body):
            sock.sendall(body[sent:])
        return
    size = sum(map(_size, parts))
    head = encode(header, size)
    if size <= _JOIN:
        sock.sendall(b"".join((head, *parts)))
        return
    pending = [memoryview(head), *(_flat(p) for p in parts if _size(p))]
    pending.reverse()
    while pending:
        sent = sock.sendmsg(pending[: -_IOV - 1 : -1])
        while sent:
            first = pending[-1]
            if sent < len(first):
                pending[-1] = first[sent:]
                break
            sent -= len(first)
            pending.pop()


def joined(header: dict, parts: Sequence[Buffer]) -> bytes:
    """Returns a frame in one piece."""
    return b"".join((encode(header, sum(map(_size, parts))), *parts))


def payload_len(body: Buffer) -> int:
    """Reads the length of the payload beside a frame, from its body."""
    return int(_payload.unpack(body)[0])


def lend(header: dict, payload: segments.Segment) -> tuple[bytes, bytes, segments.Segment]:
    """Returns a frame whose payload is beside it: the body goes with the payload's file."""
    return beside(header), _payload.pack(payload.length), payload


def _recv_payload(sock: socket.socket) -> memoryview:
    """Reads the body of a frame whose payload is beside it."""
    body, fds = b"", []
    try:
        while len(body) < _payload.size:
            missing = _payload.size - len(body)
            data, more, _, _ = socket.recv_fds(sock, missing, 1, _CLOEXEC)
            fds += more
            if not data:
                raise ConnectionError("the connection broke inside a frame")
            body += data
        if len(fds) != 1:
            raise FrameError("a payload without its file")
        return segments.take(fds.pop(), _payload.unpack(body)[0])
    finally:
        for fd in fds:
            os.close(fd)


def _fill(sock: socket.socket, view: memoryview) -> None:
    at, size = 0, len(view)
    while at < size:
        got = sock.recv_into(view[at:], size - at, socket.MSG_WAITALL)
        if got == 0:
            raise ConnectionError("the connection broke inside a frame")
        at += got


def _read(sock: socket.socket, size: int) -> bytearray:
    data = bytearray(min(size, _STEP))
    at = 0
    while True:
        with memoryview(data) as view:
            _fill(sock, view[at:])
        at = len(data)
        if at == size:
            return data
        data.extend(bytes(min(size - at, at)))


def recv(sock: socket.socket) -> tuple[dict, memoryview]:
    """Reads a frame from a blocking socket; `EOFError` when the stream ended between frames."""
    prefix = sock.recv(PREFIX, socket.MSG_WAITALL)
    if len(prefix) < PREFIX:
        if not prefix:
            raise EOFError("the connection was closed")
        rest = bytearray(PREFIX - len(prefix))
        _fill(sock, memoryview(rest))
        prefix += rest
    head, body, aside = lengths(prefix)
    if aside:
        header = decode(_read(sock, head))
        return header, _recv_payload(sock)
    if body <= _JOIN:
        data = memoryview(_read(sock, head + body))
        return decode(data[:head]), data[head:]
    # A body of its own starts where the allocator aligns it, and so do arrays in it.
    header = decode(_read(sock, head))
    return header, memoryview(_read(sock, body))


async def send_async(
    writer: asyncio.StreamWriter, header: dict, parts: Sequence[Buffer] = ()
) -> None:
    """Writes a frame and waits until the transport has room again."""
    size = sum(map(_size, parts))
    head = encode(header, size)
    if size <= _JOIN:
        writer.write(b"".join((head, *parts)))
    else:
        writer.write(head)
        for part in parts:
            view = _flat(part)
            for at in range(0, len(view), _STEP):
                writer.write(view[at : at + _STEP])
                await writer.drain()
    await writer.drain()


async def recv_async(reader: asyncio.StreamReader) -> tuple[dict, memoryview]:
    """Reads a frame; `EOFError` when the stream ended between frames."""
    try:
        prefix = await reader.readexactly(PREFIX)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionError("the connection broke inside a frame") from None
        raise EOFError("the connection was closed") from None
    head_len, body_len, aside = lengths(prefix)
    if aside:
        raise FrameError("a payload beside a frame that can't have one")
    try:
        head = await reader.readexactly(head_len)
        body = bytearray()
        while len(body) < body_len:
            chunk = await reader.read(min(_STEP, body_len - len(body)))
            if not chunk:
                raise ConnectionError("the connection broke inside a frame")
            body += chunk
    except asyncio.IncompleteReadError:
        raise ConnectionError("the connection broke inside a frame") from None
    return decode(head), memoryview(body)


def split(body: Buffer, parts: Sequence[int]) -> list[memoryview]:
    """Cuts a body into parts of the lengths that its header gives."""
    view = memoryview(body)
    if not isinstance(parts, (list, tuple)) or any(type(n) is not int or n < 0 for n in parts):
        raise FrameError("parts are not a list of lengths")
    if sum(parts) != len(view):
        raise FrameError(f"parts of {sum(parts)} bytes in a body of {len(view)}")
    out, at = [], 0
    for size in parts:
        out.append(view[at : at + size])
        at += size
    return out
