"""One function or method in several places: every call goes to the one that is least busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from .callables import Mapped, RemoteCallable
from .daemon import Daemon
from .errors import PeerLost
from .parallel import Batch
from .pump import Start
from .remote import GENERATORS

PAUSE = 1.0
"""Seconds for which a place that was lost gets no calls, at first; doubles with every loss."""
LONGEST = 30.0
"""The longest such time. After it one call is let through, which finds out."""


class Balance:
    """Whose turn it is among several places, all of which do the same."""

    def __init__(self, places: int) -> None:
        self._lock = threading.Lock()
        self._busy = [0] * places
        self._pause = [0.0] * places
        self._until = [0.0] * places
        self._next = 0

    def take(self) -> int:
        """The place with the fewest calls under way, of those that were not lost lately."""
        with self._lock:
            count, now = len(self._busy), time.monotonic()
            order = [(self._next + step) % count for step in range(count)]
            alive = [place for place in order if self._until[place] <= now] or order
            place = min(alive, key=self._busy.__getitem__)
            self._busy[place] += 1
            self._next = (place + 1) % count
            if self._pause[place]:
                self._until[place] = now + self._pause[place]
            return place

    def give(self, place: int, lost: bool = False) -> None:
        """Notes the end of a call; a place that was lost is spared for a while."""
        with self._lock:
            self._busy[place] -= 1
            if lost:
                self._pause[place] = min(max(self._pause[place] * 2, PAUSE), LONGEST)
                self._until[place] = time.monotonic() + self._pause[place]
            elif self._pause[place]:
                self._pause[place] = self._until[place] = 0.0


class _Turns:
    """The places at which one call is tried, one after the other. An end that allows another try is
    swallowed."""

    __slots__ = ("_balance", "_left", "_place")

    def __init__(self, balance: Balance, retries: int) -> None:
        self._balance = balance
        self._left = retries
        self._place = 0

    def __enter__(self) -> int:
        self._place = self._balance.take()
        return self._place

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        lost = isinstance(error, PeerLost) and is_lost(error)
        self._balance.give(self._place, lost)
        if not lost or self._left <= 0 or not error.may_repeat:
            return False
        self._left -= 1
        return True


class Spread(Mapped):
    """A function or method in several places.

    A call that is lost with its node is repeated, if `options(retries=…)` allows it and its receipt
    says that it does not run any more, in another place.
    """

    def __init__(self, functions: Sequence[RemoteCallable], balance: Balance | None = None) -> None:
        self._retries = max(fn._target.options.retries for fn in functions)
        # Repeated by this one: the place where it was lost is the last to try again.
        self._functions = [fn.options(retries=0, receipt=self._retries > 0) for fn in functions]
        self._balance = balance or Balance(len(functions))
        self._width = len(self._functions)

    @property
    def _run_name(self) -> str:
        return self._functions[0]._target.options.run_name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        first = self._functions[0]
        if first._flavor in GENERATORS:
            # It ends whenever its reader likes: only its start is balanced.
            place = self._balance.take()
            self._balance.give(place)
            return self._functions[place](*args, **kwargs)
        if first.is_async:
            return self.async_call(*args, **kwargs)
        return self._sync(args, kwargs)

    def _shares(self) -> Daemon | None:
        # A call that may be repeated elsewhere needs to be followed.
        daemons = {fn._shares() for fn in self._functions}
        return daemons.pop() if len(daemons) == 1 and not self._retries else None

    def _start(self) -> Start:
        place = self._balance.take()
        start = self._functions[place]._start()

        def ended(error: BaseException | None) -> None:
            self._balance.give(place, isinstance(error, PeerLost) and is_lost(error))

        return start._replace(ended=ended)

    def _once(self, args: tuple[Any, ...], batch: Batch | None = None) -> Any:
        return self._sync(args, {}, batch)

    def _sync(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], batch: Batch | None = None
    ) -> Any:
        turns = _Turns(self._balance, self._retries)
        while True:
            with turns as place:
                return self._functions[place]._once(args, batch, kwargs)

    async def async_call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it without blocking the running loop."""
        turns = _Turns(self._balance, self._retries)
        while True:
            with turns as place:
                return await self._functions[place].async_call(*args, **kwargs)

    @property
    def clusters(self) -> list[Any]:
        """The nodes that it is on, in the order of its places."""
        return [fn.cluster for fn in self._functions]

    def signature(self) -> str:
        """`(a, b=2)`, for people."""
        return str(self._functions[0].signature())

    def options(self, **changes: Any) -> Spread:
        """The same, called in another way; see `RemoteCallable.options`."""
        changes = {"retries": self._retries, **changes}
        return Spread([fn.options(**changes) for fn in self._functions], self._balance)

    def __repr__(self) -> str:
        return f"{self._functions[0]!r} and {len(self._functions) - 1} more"

    def __reduce__(self) -> Any:
        return _restored, (self._functions, self._retries)


def _restored(functions: list[RemoteCallable], retries: int) -> Spread:
    return Spread([fn.options(retries=retries) for fn in functions])


def is_lost(error: PeerLost) -> bool:
    """Whether it is about this call, not one that the remote code made and lost."""
    return error.__cause__ is None
