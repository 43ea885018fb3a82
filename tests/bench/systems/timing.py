"""Repeats something for some time and says how often, and how long each took."""

import asyncio
import threading
import time


def summary(count, seconds, times):
    """What a measurement found; the Rust drivers answer in the same form."""
    times = sorted(times)

    def at(share):
        return times[round((len(times) - 1) * share)] * 1e6 if times else None

    return {"count": count, "seconds": seconds, "p50_us": at(0.5), "p99_us": at(0.99)}


def one_by_one(operation, seconds):
    """One operation after the other."""
    return in_groups(operation, 1, seconds)


def in_groups(operation, size, seconds):
    """Operations that do `size` things at once; their times are those of a whole group."""
    clock = time.perf_counter
    times = []
    start = now = clock()
    end = start + seconds
    while now < end:
        operation()
        then, now = now, clock()
        times.append(now - then)
    return summary(len(times) * size, now - start, times)


def on_threads(operation, width, seconds):
    """So many threads, each with one operation after the other."""
    clock = time.perf_counter
    start = clock()
    end = start + seconds
    times, errors = [], []

    def work():
        mine = []
        now = clock()
        try:
            while now < end:
                operation()
                then, now = now, clock()
                mine.append(now - then)
        except Exception as e:
            errors.append(e)
        times.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return summary(len(times), clock() - start, times)


def on_a_loop(operation, width, seconds):
    """So many tasks of one event loop, each with one operation after the other."""
    clock = time.perf_counter

    async def work(end, times):
        now = clock()
        while now < end:
            await operation()
            then, now = now, clock()
            times.append(now - then)

    async def main():
        start = clock()
        times = []
        await asyncio.gather(*(work(start + seconds, times) for _ in range(width)))
        return summary(len(times), clock() - start, times)

    return asyncio.run(main())


def drained(stream, seconds):
    """Items of a stream that ends when its time is up; what one item took nobody knows."""
    clock = time.perf_counter
    start = clock()
    count = sum(1 for _ in stream(start + seconds))
    return summary(count, clock() - start, [])
