"""A call lane: a thread that reads a call, runs it, and writes its replies."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import ctypes
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .. import frames, segments, tracing
from ..errors import Cancelled
from . import fork, replies
from .call import Call, current

if TYPE_CHECKING:
    import socket

    from .runtime import Runtime

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_END = object()
# How long a cancelled coroutine of a call lane may take to unwind.
_UNWIND = 5.0


class Source(Protocol):
    """Where the calls of a thread come from, and their replies go: `port.Port`, `shared.Seat`."""

    sock: socket.socket
    writing: threading.RLock  # type: ignore[valid-type]

    def next(self) -> tuple[dict, memoryview]: ...
    def last(self, header: dict, parts: Sequence[frames.Buffer] | segments.Segment) -> None: ...
    def item(self, header: dict, parts: Sequence[frames.Buffer] | segments.Segment) -> None: ...
    def write(self, frame: bytes) -> None: ...
    def grant(self, items: int) -> None: ...


class Lane:
    """A thread for calls, one at a time."""

    def __init__(self, runtime: Runtime, source: Source) -> None:
        self._runtime = runtime
        self._source = source
        self.sock = source.sock
        self._writing = source.writing
        # Guards which call may be interrupted, and whether; held for moments only.
        self._lock = threading.Lock()
        self._call: Call | None = None
        self._armed = False
        self._injected = False
        self._thread = threading.Thread(target=self._run, name="rhd-lane", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                header, body = self._source.next()
                call = Call(header, body, self)
                del header, body
                self._serve(call)
                del call
        except (EOFError, OSError):
            pass
        except frames.FrameError as error:
            print(f"rhd worker: lane closed: {error}", file=sys.stderr)
        finally:
            self.sock.close()
            self._runtime.forget(self)

    def _serve(self, call: Call) -> None:
        self._call = call
        self._runtime.begin(call)
        context = contextvars.copy_context()
        context.run(current.set, call)
        if call.trace is not None:
            context.run(tracing.enter, call.trace)
        try:
            reply = self._reply(call, context)
        except _LaneBroke as broke:
            raise broke.error from None
        except BaseException as error:  # SystemExit too ends the call, not the worker
            fork.leave_if_child()
            reply = replies.failure(call, error)
            error.__traceback__ = None
        finally:
            self._call = None
            self._runtime.end(call)
        fork.leave_if_child()
        call.output.flush_all()
        # What a finalizer prints meanwhile is no output of the call: it runs in no call's context.
        with self._writing:
            call.ended = True
            self._source.last(*reply)

    def _reply(self, call: Call, context: contextvars.Context) -> replies.Frame:
        first = self._interruptible(call, context, self._work, call)
        if type(first) is tuple:
            return first
        try:
            while True:
                frame, last = self._interruptible(call, context, _step, call, first)
                if last:
                    return frame
                fork.leave_if_child()
                try:
                    self._source.item(*frame)
                except OSError as error:
                    raise _LaneBroke(error) from None
                del frame
        finally:
            # Runs the generator's own `finally`, when it stopped before its end.
            close = getattr(first, "close", None)
            if close is not None:
                context.run(close)

    def _work(self, call: Call) -> replies.Frame | Iterator:
        """Runs the call. Returns its final reply, or what to stream."""
        parts = replies.take_body(call)
        if call.verb == "load":
            return self._runtime.loader.load(call, parts)
        target = self._runtime.targets.bind(call)
        args, kwargs = replies.arguments(call, parts)
        del parts
        result = target(*args, **kwargs)
        del args, kwargs
        if isinstance(result, types.GeneratorType):
            return result
        if isinstance(result, types.CoroutineType):
            result = self._await(call, result)
        if isinstance(result, types.AsyncGeneratorType) or call.method == "__aiter__":
            return self._drain(call, result)
        if call.method == "__iter__" and call.verb == "call":
            return result
        return replies.value(call, "done", result)

    def _await(self, call: Call, coroutine: Any) -> Any:
        """Runs a coroutine on the event loop, and waits for it here."""
        unwound = threading.Event()

        async def main() -> Any:
            try:
                return await coroutine
            except StopAsyncIteration:  # no future takes it
                return _END
            finally:
                unwound.set()

        future = asyncio.run_coroutine_threadsafe(main(), self._runtime.loop)
        with self._lock:
            call.future = future
            if call.cancelled:
                future.cancel()
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            unwound.wait(_UNWIND)
            if call.cancelled:
                raise Cancelled("the call was cancelled") from None
            raise
        finally:
            with self._lock:
                call.future = None
            future.cancel()

    def _drain(self, call: Call, items: AsyncIterator) -> Iterator:
        try:
            while True:
                item = self._await(call, items.__anext__())
                if item is _END:
                    return
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                asyncio.run_coroutine_threadsafe(close(), self._runtime.loop).result(_UNWIND)

    # --- interruption

    def _interruptible(
        self, call: Call, context: contextvars.Context, fn: Callable, /, *args: Any
    ) -> Any:
        """Runs user code, the only time that `cancel` may raise in this thread."""
        error: BaseException | None = None
        result: Any = None
        try:
            self._arm(call)
            try:
                result = context.run(fn, *args)
            except BaseException as raised:
                error = raised
            self._disarm()
        except Cancelled as late:
            # It was raised between the user's code and the end of `_disarm`. There is only one.
            self._disarm()
            error = error or late
        if error is not None:
            raise error
        return result

    def _arm(self, call: Call) -> None:
        with self._lock:
            if call.cancelled:
                raise Cancelled("the call was cancelled")
            self._injected = False
            self._armed = True

    def _disarm(self) -> None:
        with self._lock:
            self._armed = False
            injected = self._injected
        if injected:
            # Takes it back if it has not been raised yet, so that it can't hit the next call.
            _set_async_exc(threading.get_ident(), ctypes.py_object())

    def cancel(self, call: Call) -> None:
        """Raises `Cancelled` in the code of a call, if it still runs."""
        with self._lock:
            if self._call is not call or call.cancelled:
                return
            call.cancelled = True
            if call.future is not None:
                call.future.cancel()
            elif self._armed:
                self._injected = True
                _set_async_exc(self._thread.ident or 0, Cancelled)
            # It may wait for credit, in vain now, also when this item is done in spite of that.
            self._source.grant(1)

    def grant(self, call: Call, items: int) -> None:
        """Allows further items of a call."""
        with self._lock:
            if self._call is call:
                self._source.grant(items)

    # --- writing

    def log(self, call: Call, fd: int, data: bytes) -> bool:
        with self._writing:
            if call.ended:
                return False
            frame = frames.encode({"t": "log", "id": call.id, "fd": fd}, len(data)) + data
            try:
                self._source.write(frame)
            except OSError:
                return False
            return True


class _LaneBroke(Exception):
    """The daemon's end is gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _step(call: Call, items: Iterator) -> tuple[replies.Frame, bool]:
    """Returns the next item as a frame, or the final reply."""
    try:
        item = next(items)
    except StopIteration as stop:
        return replies.value(call, "done", stop.value), True
    return replies.value(call, "item", item), False
