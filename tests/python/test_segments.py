"""Payloads beside frames, as both ends of a socket see them."""

from __future__ import annotations

import fcntl
import gc
import os
import socket
from collections.abc import Iterator

import pytest
from rhd import codec, frames, segments

SIZE = segments.BESIDE


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)
    yield near, far
    near.close()
    far.close()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    segments._pool.clear()
    yield
    segments._pool.clear()


def through(ends: tuple[socket.socket, socket.socket], *parts: bytes) -> memoryview:
    near, far = ends
    frames.send(near, {"t": "x"}, segments.lend(parts))
    header, body = frames.recv(far)
    assert header == {"t": "x"}
    return body


def test_a_payload_comes_whole_and_may_be_written_to(ends) -> None:
    data = os.urandom(SIZE)
    body = through(ends, b"head", data, memoryview(data)[:7], b"")
    assert body == b"head" + data + data[:7]
    body[0] = 1
    assert body[0] == 1 and body.format == "B" and not body.readonly


def test_a_file_is_filled_again_when_its_last_reader_is_gone(ends) -> None:
    body = through(ends, os.urandom(SIZE))
    first = body[:10]
    kept = bytes(body)
    del body
    other = through(ends, os.urandom(SIZE))
    assert len(segments._pool) == 2 and kept[:10] == first
    del other, first
    gc.collect()
    for _ in range(20):
        through(ends, os.urandom(SIZE))
    assert len(segments._pool) == 2


def test_a_longer_payload_is_right_after_shorter_ones_in_the_same_file(ends) -> None:
    for size in (SIZE, SIZE + 5000, SIZE + 100, SIZE + 9000, SIZE + 9000):
        data = os.urandom(size)
        assert through(ends, data[:100], data[100:]) == data
    assert len(segments._pool) <= 2


def test_what_is_kept_is_bounded(ends) -> None:
    bodies = [through(ends, bytes([i]) * SIZE) for i in range(60)]
    assert len(segments._pool) <= 16 and len(segments._maps) <= 16
    assert all(body == bytes([i]) * SIZE for i, body in enumerate(bodies))
    before = len(os.listdir("/proc/self/fd"))
    del bodies
    for _ in range(60):
        through(ends, bytes(SIZE))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_a_fork_may_still_use_is_never_filled_again(ends) -> None:
    body = through(ends, b"a" * SIZE)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # The child's copy goes first: the parent's stays as it is.
        del body
        gc.collect()
        os.write(write, b"gone")
        os._exit(0)
    assert os.read(read, 4) == b"gone"
    os.waitpid(child, 0)
    other = through(ends, b"b" * SIZE)
    assert body == b"a" * SIZE
    del body
    third = through(ends, b"c" * SIZE)
    assert len(segments._pool) == 3 and other[:1] == b"b" and third[:1] == b"c"


def test_arrays_point_into_the_file_and_are_aligned(ends) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.random.default_rng(1).random((300, 200))
    near, far = ends
    parts = codec.dumps({"a": array, "b": array[:100]})
    sizes = [segments.size(p) for p in parts]
    frames.send(near, {"parts": sizes}, segments.lend(parts))
    header, body = frames.recv(far)
    back = codec.loads(frames.split(body, header["parts"]))
    del body
    assert (back["a"] == array).all() and (back["b"] == array[:100]).all()
    assert back["a"].flags.writeable and back["a"].flags.aligned
    back["a"][0] = 7
    assert array[0, 0] != 7


def test_files_are_sealed_against_shrinking() -> None:
    segment = segments.lend([bytes(SIZE)])
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 10)
    seals = fcntl.fcntl(segment.fd, fcntl.F_GET_SEALS)
    assert seals & fcntl.F_SEAL_SHRINK and seals & fcntl.F_SEAL_GROW


def test_frames_without_their_file_are_refused(ends) -> None:
    near, far = ends
    near.sendall(frames.beside({"t": "x"}) + SIZE.to_bytes(8, "big"))
    with pytest.raises(frames.FrameError):
        frames.recv(far)
    short = segments.lend([bytes(SIZE)])
    short.length = 10 * SIZE
    frames.send(near, {"t": "x"}, short)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(segments.TooLarge):
        frames.recv(far)
    assert len(os.listdir("/proc/self/fd")) == before
    near.sendall((1 << 31 | 5).to_bytes(4, "big") + (9).to_bytes(4, "big"))
    with pytest.raises(frames.FrameError):
        frames.recv(far)


def test_no_memory_is_said_before_any_is_taken(monkeypatch) -> None:
    monkeypatch.setattr(segments, "_free_memory", lambda: 1 << 20)
    with pytest.raises(segments.TooLarge, match="free memory") as caught:
        segments.lend([memoryview(bytes(1 << 20)).cast("B")] * 80)
    assert caught.value.hint
    with pytest.raises(segments.TooLarge, match="limit"):
        segments.lend([memoryview(bytes(1 << 20))] * (65 << 10))
