"""Frames and codecs, without a worker."""

import asyncio
import os
import random
import socket
import threading

import pytest
from worker_daemon import codec, frames


def pair():
    a, b = socket.socketpair()
    a.settimeout(20)
    b.settimeout(20)
    return a, b


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 5_000_000])
def test_a_frame_round_trips_in_parts(size):
    a, b = pair()
    parts = [os.urandom(size), b"", bytearray(b"x"), memoryview(b"yz")]
    writer = threading.Thread(target=frames.send, args=(a, {"t": "x", "n": 1}, parts))
    writer.start()
    header, body = frames.recv(b)
    writer.join()
    assert header == {"t": "x", "n": 1}
    assert frames.split(body, [size, 0, 1, 2]) == parts
    a.close()
    with pytest.raises(EOFError):
        frames.recv(b)


def test_a_thousand_buffers_and_buffers_of_other_types_go_in_one_frame():
    import array

    a, b = pair()
    parts = [array.array("d", [1.0, 2.0])] + [bytes([i % 256]) * 200 for i in range(3000)]
    parts[0] = memoryview(parts[0])
    writer = threading.Thread(target=frames.send, args=(a, {"t": "x"}, parts))
    writer.start()
    _, body = frames.recv(b)
    writer.join()
    assert bytes(body) == b"".join(bytes(p) for p in parts)


def test_both_ways_of_reading_agree():
    async def go():
        a, b = pair()
        reader, back = await asyncio.open_connection(sock=b)
        _, writer = await asyncio.open_connection(sock=a)
        big = os.urandom(3_000_000)
        sent = asyncio.create_task(frames.send_async(writer, {"t": "x"}, [b"1", big]))
        header, body = await frames.recv_async(reader)
        await sent
        assert header == {"t": "x"} and bytes(body) == b"1" + big
        writer.close()
        with pytest.raises(EOFError):
            await frames.recv_async(reader)
        back.close()

    asyncio.run(go())


def test_random_and_truncated_bytes_are_errors():
    rng = random.Random(7)
    good = frames.encode({"t": "done", "parts": [3]}, 3) + b"abc"
    cases = [rng.randbytes(rng.randrange(1, 64)) for _ in range(300)]
    cases += [good[:n] for n in range(1, len(good))]
    for data in cases:
        a, b = pair()
        a.sendall(data)
        a.close()
        with pytest.raises((frames.FrameError, ConnectionError)):
            while True:
                try:
                    frames.recv(b)
                except EOFError:
                    raise ConnectionError from None  # it happened to be a frame
        b.close()


def test_a_claimed_length_allocates_nothing():
    import tracemalloc

    a, b = pair()
    frame = bytearray(frames.encode({"t": "x"}, 0))
    frame[4:8] = (500 * 1024 * 1024).to_bytes(4, "big")
    a.sendall(frame)
    a.close()
    tracemalloc.start()
    with pytest.raises(ConnectionError):
        frames.recv(b)
    assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    tracemalloc.stop()


def test_wrong_parts_and_oversize_are_refused():
    for parts in ([1], [4], [-1, 4], [3.0], "abc", None, [True, 2]):
        with pytest.raises(frames.FrameError):
            frames.split(b"abc", parts)
    with pytest.raises(frames.FrameError, match="limit"):
        frames.encode({"t": "x"}, frames.MAX_BODY + 1)
    with pytest.raises(frames.FrameError, match="limit"):
        frames.encode({"t": "x" * frames.MAX_HEADER}, 0)


class Odd:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


@pytest.mark.parametrize(
    "value",
    [
        None,
        (),
        ((1, 2.5), {"a": [True, b"x", "y", {1: 2}]}),
        list(range(1000)),
        {"deep": [[[[[[1]]]]]]},
        Odd(3),
        [Odd(1)] * 3,
        {1, 2},
        {(1, 2): 3},
        bytearray(b"abc"),
        "\udcff",
    ],
)
def test_values_survive_pickle(value):
    assert codec.loads(codec.dumps(value)) == value


def test_a_list_in_itself_and_lambdas_survive():
    loop = []
    loop.append(loop)
    back = codec.loads(codec.dumps(loop))
    assert back[0] is back
    assert codec.loads(codec.dumps([lambda: 4]))[0]() == 4


def test_plain_data_in_other_codecs():
    value = {"a": [1, 2.5, None, True, "x"]}
    for name in ("msgpack", "json"):
        assert codec.loads(codec.dumps(value, name), name) == value
        with pytest.raises((TypeError, ValueError)):
            codec.dumps(object(), name)
    assert codec.loads(codec.dumps({1, 2}, "json"), "json") == [1, 2]
    with pytest.raises(ValueError):
        codec.dumps(float("nan"), "json")
    with pytest.raises(ValueError):
        codec.dumps(1, "yaml")


def test_arrays_travel_beside_the_pickle_and_stay_aligned():
    numpy = pytest.importorskip("numpy")
    values = [numpy.arange(5000.0), numpy.arange(5000, dtype="u1"), numpy.arange(5000.0)]
    parts = codec.dumps((values, {}))
    assert len(parts) == 4
    body = bytearray(b"".join(bytes(p) for p in parts))
    back, _ = codec.loads(frames.split(body, [memoryview(p).nbytes for p in parts]))
    for one, other in zip(values, back, strict=False):
        assert (one == other).all() and other.flags.aligned and other.flags.writeable
    strided = numpy.arange(20000.0)[::2]
    assert (codec.loads(codec.dumps(strided)) == strided).all()
