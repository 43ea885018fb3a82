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

    def begin(self, conn: Any) -> None:
        """Notes the connection of a call."""
        with self._lock:
            self._conns.add(conn)
            if self._over:
                conn.cancel()

    def end(self, conn: Any) -> None:
        """Forgets a connection; from here on it may carry a call of somebody else."""
        with self._lock:
            self._conns.discard(conn)

    def cancel(self) -> None:
        """Cancels what is under way and what starts from now on."""
        with self._lock:
            self._over = True
            for conn in self._conns:
                conn.cancel()


def ordered(
    call: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    concurrency: int,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Yields the results of `call(args, batch)` in the order of `arguments`."""
    if concurrency < 1:
        raise ValueError("concurrency is the number of calls under way at once, 1 or more")
    return _ordered(call, iter(arguments), concurrency, return_exceptions)


def _ordered(
    call: Callable[..., Any], arguments: Iterator[tuple[Any, ...]], concurrency: int, keep: bool
) -> Iterator[Any]:
    batch = Batch()
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
                    waiting.append(pool.submit(call, args, batch))
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
