"""Many calls of one loop on one connection: small ones share it, the others have their own."""

from __future__ import annotations

import asyncio
import os
import socket
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from . import console, frames, many
from .daemon import Daemon


class AsyncCall(many.Call):
    """A call whose replies are read on a loop; to its reader like a connection of its own."""

    __slots__ = ("__weakref__", "_again", "_waiter", "instead", "loop")

    def __init__(
        self,
        on: LoopMany,
        call: str,
        loop: asyncio.AbstractEventLoop,
        again: Callable[[bytes], Awaitable[Any]],
    ) -> None:
        super().__init__(on, call)
        self.loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._again = again
        # The connection that it got in the place of one that had ended before it was sent.
        self.instead: Any = None
        console.underway.add(self)

    def arrived(self) -> None:
        """Wakes the reader."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def next(self) -> tuple[dict[str, Any], memoryview]:
        """The next item or result; output and progress on the way are shown, failures raised."""
        while self.instead is None:
            if self.replies:
                found = self.read()
                if found is not None:
                    return found
            elif self.many.ended is None:
                self._waiter = self.loop.create_future()
                await self._waiter
            elif self.order is None or self.many.was_sent(self):
                raise self.lost()
            else:
                self.instead = await self._again(self.order)
        try:
            return await self.instead.next()  # type: ignore[no-any-return]
        finally:
            self.finished = self.instead.finished


class LoopMany(many.Many):
    """A connection that its loop reads and writes."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        # No reference to the loop: what a loop has must not keep it alive.
        asyncio.get_running_loop().add_reader(sock, self.read)

    def ordered(self) -> None:
        """Writes, once whatever else is ready to order something has done so."""
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        if not self.write():
            asyncio.get_running_loop().add_writer(self.sock, self._go_on)

    def _go_on(self) -> None:
        if self.write() and self.ended is None:
            asyncio.get_running_loop().remove_writer(self.sock)

    def over(self) -> None:
        """Has the loop forget the socket."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.sock)
        loop.remove_writer(self.sock)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Any]] = (
    weakref.WeakKeyDictionary()
)


async def shared(
    daemon: Daemon, reach: Callable[[Daemon], Awaitable[socket.socket]]
) -> LoopMany | None:
    """The connection of this loop for many calls; none where the daemon is too old for that."""
    loop = asyncio.get_running_loop()
    homes = _loops.get(loop)
    if homes is None:
        homes = _loops[loop] = {}
    found = homes.get(daemon.home)
    if type(found) is LoopMany and found.ended is None:
        return found
    if daemon.one_each:
        return None
    if not isinstance(found, asyncio.Task):
        found = homes[daemon.home] = loop.create_task(_open(daemon, reach, homes))
        found.add_done_callback(_retrieved)
    # Whoever is cancelled meanwhile is not the only one that waits.
    return await asyncio.shield(found)  # type: ignore[no-any-return]


async def _open(
    daemon: Daemon,
    reach: Callable[[Daemon], Awaitable[socket.socket]],
    homes: dict[str, Any],
) -> LoopMany | None:
    made = None
    try:
        sock = await reach(daemon)
        try:
            if await _switched(sock):
                made = LoopMany(sock)
            else:
                daemon.one_each = True
        finally:
            if made is None:
                sock.close()
    finally:
        # Not the task: it has a reference to its loop.
        homes[daemon.home] = made
    return made


async def _switched(sock: socket.socket) -> bool:
    """Asks the daemon for it; false when it refuses."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, frames.encode(many.SWITCH, 0))
    said = b""
    while True:
        more = await loop.sock_recv(sock, 4096)
        if not more:
            raise EOFError("the connection was closed")
        said += more
        if len(said) >= frames.PREFIX:
            head, body, _ = frames.lengths(said[: frames.PREFIX])
            end = frames.PREFIX + head
            if len(said) >= end + body:
                return frames.decode(said[frames.PREFIX : end]).get("t") == "done"


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Takes note of its failure, in case that nobody waits any more."""
    if not task.cancelled():
        task.exception()


# A forked child has no loop running; its parent's are not its own.
os.register_at_fork(after_in_child=_loops.clear)
