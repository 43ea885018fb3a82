"""Many calls of one function: ordered, fed as results are taken, a bounded number at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

CONCURRENCY = 8
"""Calls under way at once, where the caller doesn't say."""
AHEAD = 2
"""Results kept ready for the consumer, as a multiple of the calls under way."""


class Batch:
    """The connections of the calls under way, so that all can be cancelled."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._conns: set[Any] = set()
        self._over = False

    def watcher(self) -> tuple[Callable[[Any], None], Callable[[], None]]:
        """What one call reports its connection to, and what ends the report."""
        mine: list[Any] = []

        def watch(conn: Any) -> None:
            with self._lock:
                self._conns.add(conn)
                mine.append(conn)
                over = self._over
            if over:
                conn.cancel()

        def forget() -> None:
            with self._lock:
                self._conns.difference_update(mine)

        return watch, forget

    def cancel(self) -> None:
        """Cancels what is under way and what starts from now on."""
        with self._lock:
            self._over = True
            conns = list(self._conns)
        for conn in conns:
            conn.cancel()


def ordered(
    call: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    concurrency: int,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Yields the results of `call(args, watch)` in the order of `arguments`."""
    if concurrency < 1:
        raise ValueError("concurrency is the number of calls under way at once, 1 or more")
    return _ordered(call, iter(arguments), concurrency, return_exceptions)


def _ordered(
    call: Callable[..., Any], arguments: Iterator[tuple[Any, ...]], concurrency: int, keep: bool
) -> Iterator[Any]:
    batch = Batch()

    def one(args: tuple[Any, ...]) -> Any:
        watch, forget = batch.watcher()
        try:
            return call(args, watch)
        finally:
            forget()

    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="rhd-map")
    waiting: deque[Future[Any]] = deque()
    try:
        more = True
        while more or waiting:
            while more and len(waiting) < concurrency * AHEAD:
                args = next(arguments, None)
                if args is None:
                    more = False
                else:
                    waiting.append(pool.submit(one, args))
            if not waiting:
                return
            try:
                result = waiting[0].result()
            except Exception as e:
                if not keep:
                    raise
                result = e
            waiting.popleft()
            yield result
    finally:
        batch.cancel()
        pool.shutdown(wait=False, cancel_futures=True)
