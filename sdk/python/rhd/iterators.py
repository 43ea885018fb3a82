"""Remote generators, as iterators of their items."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from .daemon import decode


class RemoteIterator(Iterator[Any]):
    """The items of a remote generator. The generator runs ahead only as far as buffers reach;
    closing or dropping the iterator ends it."""

    def __init__(
        self, give: Any, start: Any, first: tuple[Any, Any] | None = None, keep: Any = None
    ) -> None:
        self._give = give
        self._start = start
        self._first = first
        # What its replies come from, or before the first item a function that starts it.
        self._from: Any = start if first else None
        self._keep = keep
        self._done = False

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        if self._done:
            raise StopIteration
        if self._first is not None:
            (reply, data), self._first = self._first, None
            return decode(reply, data)
        try:
            if self._from is None:
                self._from = self._start()
            reply, data = self._from.next()
        except BaseException:
            self.close()
            raise
        if reply["t"] == "item":
            return decode(reply, data)
        self.close()
        raise StopIteration(decode(reply, data) if reply.get("parts") else None)

    def close(self) -> None:
        """Ends the remote generator."""
        self._done = True
        source, self._from = self._from, None
        if source is not None:
            self._give(source)

    def __enter__(self) -> RemoteIterator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AsyncRemoteIterator(AsyncIterator[Any]):
    """The items of a remote generator, read on a loop."""

    def __init__(
        self,
        give: Any,
        drop: Any,
        start: Any,
        first: tuple[Any, Any] | None = None,
        keep: Any = None,
    ) -> None:
        self._give = give
        self._drop = drop
        self._start = start
        self._first = first
        self._from: Any = start if first else None
        self._keep = keep
        self._done = False

    def __aiter__(self) -> AsyncRemoteIterator:
        return self

    async def __anext__(self) -> Any:
        if self._done:
            raise StopAsyncIteration
        try:
            if self._from is None:
                self._from = await self._start()
            if self._first is not None:
                (reply, data), self._first = self._first, None
            else:
                reply, data = await self._from.next()
        except BaseException:
            await self.aclose()
            raise
        if reply["t"] == "item":
            return decode(reply, data)
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the remote generator."""
        self._done = True
        source, self._from = self._from, None
        if source is not None:
            self._give(source)

    def __del__(self) -> None:
        source = getattr(self, "_from", None)
        if source is not None:
            self._drop(source)
