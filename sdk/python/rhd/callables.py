"""What can be called on another node: functions and methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from . import endpoint, parallel, remote
from .cluster import Cluster
from .parallel import Batch
from .remote import ASYNC, GENERATORS, Target


class Mapped(ABC):
    """Ordered maps over anything that can be called once."""

    _width = 1

    @abstractmethod
    def _once(self, args: tuple[Any, ...], batch: Batch | None = None) -> Any:
        """Makes one call of a map; its connection is the batch's while it is under way."""

    def map(
        self,
        iterable: Iterable[Any],
        *,
        concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """Calls it with every item, `concurrency` at a time; yields results in order.

        Items are taken as results are; nothing runs before the first result is asked for. An
        exception ends the map at its place, or is yielded there with `return_exceptions`.
        """
        arguments = ((item,) for item in iterable)
        limit = concurrency or parallel.CONCURRENCY * self._width
        return parallel.ordered(self._once, arguments, limit, return_exceptions)

    def starmap(
        self,
        iterable: Iterable[Iterable[Any]],
        *,
        concurrency: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """As `map`, for items that are tuples of arguments."""
        arguments = (tuple(item) for item in iterable)
        limit = concurrency or parallel.CONCURRENCY * self._width
        return parallel.ordered(self._once, arguments, limit, return_exceptions)


class RemoteCallable(Mapped):
    """A function or method on another node."""

    _target: Target
    _flavor: str
    _extra: dict[str, Any]

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

    def endpoint(self) -> str:
        """The URL at which it is called over HTTP, by `POST` with JSON or by `GET`."""
        return endpoint.url(self._target, self._extra.get("method"))

    def options(self, **changes: Any) -> Any:
        """The same, called in another way.

        `timeout` is in seconds; `retries` is how often a call may be repeated when the peer was
        lost, for functions that may run twice; `stream_logs=False` leaves remote output remote;
        `codec` is pickle, msgpack or json.
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
