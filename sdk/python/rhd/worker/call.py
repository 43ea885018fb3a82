"""A call under way in this process, and which call the running code belongs to."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from .. import segments
from ..errors import RhdError
from ..frames import FrameError
from .output import Output

current: ContextVar[Call | None] = ContextVar("rhd_call", default=None)


class Sink(Protocol):
    """The lane that a call came by."""

    def log(self, call: Call, fd: int, data: bytes) -> bool:
        """Writes output of a call; false when it ended, or its lane did."""
        ...

    def cancel(self, call: Call) -> None: ...


class Refused(Exception):
    """The runtime itself turned a call down; user code raised nothing."""

    def __init__(self, error: RhdError) -> None:
        super().__init__(str(error))
        self.error = error


class Call:
    """One call: its header, its lane, and how far it got."""

    __slots__ = (
        "__weakref__",
        "beside",
        "body",
        "cancelled",
        "codec",
        "ended",
        "future",
        "id",
        "instance",
        "load",
        "method",
        "output",
        "parts",
        "service",
        "sink",
        "trace",
        "verb",
    )  # fmt: skip

    def __init__(self, header: dict, body: memoryview, sink: Sink) -> None:
        get = header.get
        self.id: str = get("id")  # type: ignore[assignment]
        self.service: str = get("service")  # type: ignore[assignment]
        if type(self.id) is not str or type(self.service) is not str:
            raise FrameError("a call without id or service")
        self.verb: str = get("verb", "call")
        self.method: str | None = get("method")
        self.instance: str | None = get("instance")
        self.codec: str = get("codec", "pickle")
        self.parts: Any = get("parts", ())
        # Whether its replies may have payloads beside them.
        self.beside: bool = get("beside") is True and segments.available
        self.load: dict | None = get("load")
        self.trace: str | None = get("trace")
        # Taken when it is read, so that large arguments are not held twice.
        self.body: memoryview | None = body
        self.sink = sink
        self.output = Output(self, bool(get("logs", False)))
        self.cancelled = False
        # Set under the sink's write lock: nothing is written for a call after its final reply.
        self.ended = False
        # What to cancel instead of the lane's thread, while that waits for the event loop.
        self.future: concurrent.futures.Future | None = None


def _carried(call: Call | None, fn: Callable, /, *args: Any, **kwargs: Any) -> Any:
    token = current.set(call)
    try:
        return fn(*args, **kwargs)
    finally:
        current.reset(token)


def inherit_in_threads() -> None:
    """Makes threads, and work given to thread pools, belong to the call that started them."""
    start, submit = threading.Thread.start, concurrent.futures.ThreadPoolExecutor.submit

    @functools.wraps(start)
    def start_in_call(self: threading.Thread) -> None:
        call = current.get()
        if call is not None:
            run = self.run

            def run_in_call() -> None:
                # Not reset: the hook that shows an uncaught exception runs after this.
                current.set(call)
                self.__dict__.pop("run", None)
                run()

            self.run = run_in_call  # type: ignore[method-assign]
        try:
            start(self)
        except BaseException:
            self.__dict__.pop("run", None)
            raise

    @functools.wraps(submit)  # type: ignore[arg-type]
    def submit_in_call(self: Any, fn: Callable, /, *args: Any, **kwargs: Any) -> Any:
        # Also without a call: the pool's thread may have been started inside one.
        return submit(self, functools.partial(_carried, current.get(), fn), *args, **kwargs)

    threading.Thread.start = start_in_call  # type: ignore[method-assign]
    concurrent.futures.ThreadPoolExecutor.submit = submit_in_call  # type: ignore[method-assign]
