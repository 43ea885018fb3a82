"""Many calls of one function: ordered, fed as results are taken, a bounded number at a time."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

CONCURRENCY = 8
"""Calls under way at once, where the caller doesn't say."""
AHEAD = 2
"""Items taken before their results are asked for, as a multiple of the calls under way."""
BEHIND = 32
"""The same while the next result is waited for: a slow node must not hold up the others."""

TOO_FEW = "concurrency is the number of calls under way at once, 1 or more"


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

    @property
    def over(self) -> bool:
        """Whether nobody wants its results any more."""
        return self._over

    def cancel(self) -> None:
        """Cancels what is under way and what starts from now on."""
        with self._lock:
            self._over = True
            for conn in self._conns:
                conn.cancel()


def ordered(
    call: Callable[..., Any],
    arguments: Iterable[Any],
    concurrency: int,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Yields the results of `call(args, batch)` in the order of `arguments`."""
    if concurrency < 1:
        raise ValueError(TOO_FEW)
    return _ordered(call, iter(arguments), concurrency, return_exceptions)


def _ordered(
    call: Callable[..., Any], arguments: Iterator[Any], concurrency: int, keep: bool
) -> Iterator[Any]:
    batch = Batch()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="rhd-map")
    waiting: deque[Future[Any]] = deque()
    progress = _Progress()
    # One item is taken for one result: an iterable that waits for something holds back no result.
    turn = False
    try:
        more = True
        while True:
            ready = bool(waiting) and waiting[0].done()
            if ready and turn:
                turn = False
                try:
                    result = waiting[0].result()
                except Exception as e:
                    if not keep:
                        raise
                    result = e
                waiting.popleft()
                yield result
                del result
                continue
            turn = True
            # Read only as fast as calls end, whatever the window has room for.
            window = concurrency * (AHEAD if ready else BEHIND)
            if more and len(waiting) < window and progress.under_way < concurrency * AHEAD:
                args = next(arguments, None)
                if args is None:
                    more = False
                else:
                    # Calls of a map belong to whatever the code that asks for it belongs to.
                    context = contextvars.copy_context()
                    waiting.append(progress.watch(pool.submit(context.run, call, args, batch)))
            elif not waiting:
                return
            elif not ready:
                progress.wait()
    finally:
        batch.cancel()
        pool.shutdown(wait=False, cancel_futures=True)


class _Progress:
    """Counts the calls of a map that were given to threads and have not ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.under_way = 0

    def watch(self, future: Future[Any]) -> Future[Any]:
        """Counts a call until it ends."""
        with self._lock:
            self.under_way += 1
        future.add_done_callback(self._end)
        return future

    def _end(self, _: Future[Any]) -> None:
        with self._lock:
            self.under_way -= 1
        self._ended.set()

    def wait(self) -> None:
        """Waits until one has ended since the last time."""
        self._ended.wait()
        self._ended.clear()
