"""rhd: a client of one daemon; the functions are on another node, or on this one."""

import itertools
import os
import time

import numpy
import rhd as rh
import work
from driver import serve
from timing import drained, in_groups, on_a_loop, on_threads, one_by_one

FAR = os.environ["BENCH_FAR"]

noop, echo, count = (rh.function(f).to(FAR) for f in (work.noop, work.echo, work.count))
near_size = rh.function(work.size).to(rh.here)
arrays = {mib: numpy.random.default_rng(0).bytes(mib << 20) for mib in (1, 64)}
arrays = {mib: numpy.frombuffer(data, dtype="uint8") for mib, data in arrays.items()}


def map_(seconds, width):
    def calls(end):
        forever = itertools.takewhile(lambda _: time.perf_counter() < end, itertools.repeat(()))
        return noop.starmap(forever, concurrency=width)

    return drained(calls, seconds)


def stream(seconds):
    n = 10_000
    return in_groups(lambda: sum(1 for _ in count(n)), n, seconds)


serve(
    f"rhd {rh.here.status()['version']}",
    {
        "noop": lambda seconds: one_by_one(noop, seconds),
        "threads": lambda seconds, width: on_threads(noop, width, seconds),
        "asyncio": lambda seconds, width: on_a_loop(noop.async_call, width, seconds),
        "map": map_,
        "echo": lambda seconds, mib: one_by_one(lambda: echo(arrays[mib]), seconds),
        "take": lambda seconds, mib: one_by_one(lambda: near_size(arrays[mib]), seconds),
        "stream": stream,
    },
)
