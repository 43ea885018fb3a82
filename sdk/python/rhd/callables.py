"""What can be called on another node: functions and methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from . import endpoint, parallel, pump, remote, runs
from .cluster import Cluster
from .daemon import Daemon
from .parallel import Batch
from .pump import Start
from .remote import ASYNC, GENERATORS, Target
from .runs import Run


class Mapped(ABC):
    """Ordered maps over anything that can be called once."""

    _width = 1

    @property
    @abstractmethod
    def _run_name(self) -> str:
        """What its calls are recorded as, if they are."""

    @abstractmethod
    def options(self, **changes: Any) -> Any:
        """The same, called in another way."""

    @abstractmethod
    def _once(self, args: tuple[Any, ...], batch: Batch | None = None) -> Any:
        """Makes one call of a map; its connection is the batch's while it is under way."""

    def _shares(self) -> Daemon | None:
        """The daemon on a connection to which the calls of a map can share; none where each needs
        one of its own."""
        return None

    def _start(self) -> Start:
        """Where the next call of such a map goes."""
        raise NotImplementedError

    def map(
        self,
        iterable: Iterable[Any],
        *,
        concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """Calls it with every item, `concurrency` at a time; yields results in order.

        Items are taken as results are; nothing runs before the first result is asked for. While a
        slow one holds back the results, the others go on, up to 32 times `concurrency` items. An
        exception ends the map at its place, or is yielded there with `return_exceptions`. With
        `options(run_name=…)` the calls are recorded as `name`, `name-2`, `name-3`, … by item.
        """
        arguments = ((item,) for item in iterable)
        return self._ordered(arguments, concurrency, return_exceptions)

    def starmap(
        self,
        iterable: Iterable[Iterable[Any]],
        *,
        concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """As `map`, for items that are tuples of arguments."""
        arguments = (tuple(item) for item in iterable)
        return self._ordered(arguments, concurrency, return_exceptions)

    def _ordered(
        self, arguments: Iterator[tuple[Any, ...]], concurrency: int | None, keep: bool
    ) -> Iterator[Any]:
        limit = parallel.CONCURRENCY * self._width if concurrency is None else concurrency
        name = self._run_name
        if not name:
            if limit < 1:
                raise ValueError(parallel.TOO_FEW)
            daemon = self._shares()
            if daemon is None:
                return parallel.ordered(self._once, arguments, limit, keep)

            def threads() -> Iterator[Any]:
                return parallel.ordered(self._once, arguments, limit, keep)

            return pump.ordered(self._start, daemon, arguments, limit, keep, threads)

        def once(numbered: tuple[int, tuple[Any, ...]], batch: Batch) -> Any:
            number, args = numbered
            # One name, one run: that of the first item has it as it is.
            one = name if number == 1 else f"{name}-{number}"
            return self.options(run_name=one)._once(args, batch)

        return parallel.ordered(once, enumerate(arguments, 1), limit, keep)


class RemoteCallable(Mapped):
    """A function or method on another node."""

    _target: Target
    _flavor: str
    _extra: dict[str, Any]

    @property
    def _run_name(self) -> str:
        return self._target.options.run_name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        flavor = self._flavor
        if flavor == "plain":
            return self._sync(args, kwargs)
        if flavor == "generator":
            return remote.iterate(self._target, args, kwargs, **self._extra)
        if flavor == "async_generator":
            return remote.iterate_async(self._target, args, kwargs, **self._extra)
        return self.async_call(*args, **kwargs)

    async def async_call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it without blocking the running loop; generators give an async iterator."""
        if self._flavor in GENERATORS:
            return remote.iterate_async(self._target, args, kwargs, **self._extra)
        return await remote.call_async(self._target, args, kwargs, **self._extra)

    def run(self, *args: Any, **kwargs: Any) -> Run:
        """Starts it there and returns at once. The run goes on whatever becomes of this process;
        its record (arguments, output, result) stays on its node."""
        return runs.start(self._target, self._flavor, args, kwargs, **self._extra)

    def get_or_call(self, run_name: str, /, *args: Any, **kwargs: Any) -> Any:
        """The result of the run of this name, where it was completed; waits for it, where it is
        under way; else calls, under this name. Of many who do so at once, one calls."""
        recorded = self.options(run_name=runs.checked(run_name))
        recorded._extra = {**self._extra, "run": {"name": run_name, "detach": False, "get": True}}
        return recorded(*args, **kwargs)

    def endpoint(self) -> str:
        """The URL at which it is called over HTTP, by `POST` with JSON or by `GET`."""
        return endpoint.url(self._target, self._extra.get("method"))

    def options(self, **changes: Any) -> Any:
        """The same, called in another way.

        `timeout` is in seconds. `retries` is how often a call may be repeated that was lost with
        its node; for functions that may run twice, as the first time may have ended half-way. What
        may still run is waited for, not repeated: its node is asked, for as long as `timeout` says,
        else for a minute. `run_name` records the call, for `rh.run(name)`. `stream_logs=False`
        leaves remote output remote. `codec` is pickle, msgpack or json.
        """
        # Not copy.copy: copies that are pickled let go of what a handle here holds.
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._target = self._target.with_options(self._target.options.changed(changes))
        return other

    def _once(
        self,
        args: tuple[Any, ...],
        batch: Batch | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if self._flavor in GENERATORS:
            return remote.iterate(self._target, args, kwargs, **self._extra)
        return self._sync(args, kwargs or {}, batch)

    def _shares(self) -> Daemon | None:
        # Generators start when they are read, and what is kept is looked for where it was lost.
        plain = self._flavor not in GENERATORS and not self._target.options.kept
        return self._target.daemon if plain else None

    def _start(self) -> Start:
        return Start(self._target, self._extra)

    def _sync(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], batch: Batch | None = None
    ) -> Any:
        return remote.call(self._target, args, kwargs, batch=batch, **self._extra)

    @property
    def cluster(self) -> Cluster | None:
        """The node that it is on; none when any that hosts it may answer."""
        return Cluster(self._target.node) if self._target.node else None

    @property
    def is_async(self) -> bool:
        """Whether calling it gives something to await, or to iterate with `async for`."""
        return self._flavor in ASYNC
