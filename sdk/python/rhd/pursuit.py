"""The replies of a call that its host keeps, through lost connections, on a thread or a loop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from . import aio, lease
from .connection import Connection
from .errors import RhdError
from .faults import fault
from .parallel import Batch
from .receipts import ANSWER, LOST, NEVER, Pursuit, Steps, no_answer, ours


class Stream:
    """The replies, read by a thread. Closed before the final one, it cancels the call."""

    def __init__(self, pursuit: Pursuit, batch: Batch | None = None) -> None:
        self._pursuit = pursuit
        self._batch = batch
        self._conn: Connection | None = None
        self._over = False
        lease.ready()

    def next(self) -> tuple[dict[str, Any], memoryview]:
        """The next item or result."""
        while True:
            try:
                reply, body = self._read()
            except LOST as e:
                opening = self._conn is None
                if self._over or not (opening or ours(e, self._pursuit.call)):
                    self.close()
                    raise
                self._drop()
                try:
                    self._settle(self._pursuit.lost(e))
                except BaseException as given_up:
                    self._over = isinstance(given_up, LOST)
                    self.close()
                    raise
                continue
            except BaseException as e:
                revive = self._pursuit.revives(e)
                self.close()
                if revive is None or not revive():
                    raise
                self._pursuit.again()
                self._over = False
                continue
            if self._pursuit.took(reply):
                self._over = reply["t"] == "done"
                return reply, body

    def _read(self) -> tuple[dict[str, Any], memoryview]:
        pursuit, conn = self._pursuit, self._conn
        if conn is None:
            try:
                conn = pursuit.daemon.open(
                    pursuit.request, pursuit.parts, pursuit.call, pursuit.timeout
                )
            except LOST:
                # Nothing was sent.
                self._over = pursuit.request["op"] == "call"
                raise
            conn._sink = pursuit.sink
            self._conn = conn
        if self._batch is None:
            return self._next(conn)
        self._batch.begin(conn)
        try:
            return self._next(conn)
        finally:
            self._batch.end(conn)

    def _next(self, conn: Connection) -> tuple[dict[str, Any], memoryview]:
        try:
            return conn.next()
        except LOST:
            raise
        except BaseException as e:
            # A failure that arrived is the end; anything else gives the call up.
            self._over = conn.finished
            raise self._pursuit.failed(e) from e.__cause__

    def _settle(self, steps: Steps) -> None:
        answer = None
        try:
            while True:
                step = steps.send(answer)
                answer = None
                if self._batch is not None and self._batch.over:
                    raise fault("cancelled", "the call was cancelled", call=self._pursuit.call)
                if isinstance(step, float):
                    time.sleep(step)
                    continue
                try:
                    answer = self._pursuit.daemon.ask(step, (), "", ANSWER)
                except RhdError as e:
                    answer = None if no_answer(e) else NEVER
        except StopIteration:
            return

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            if self._pursuit.timeout is not None:
                conn.relax()
            self._pursuit.daemon.give(conn)

    def close(self) -> None:
        """Gives the connection back; before the final reply, has the call cancelled."""
        self._drop()
        ask = None if self._over else self._pursuit.abandoned()
        self._over = True
        if ask is not None:
            lease.later(self._pursuit.daemon, ask)


class AsyncStream:
    """The same on a loop."""

    def __init__(self, pursuit: Pursuit) -> None:
        self._pursuit = pursuit
        self._conn: aio.AsyncConnection | None = None
        self._over = False
        lease.ready()

    async def next(self) -> tuple[dict[str, Any], memoryview]:
        """The next item or result."""
        while True:
            try:
                reply, body = await self._read()
            except LOST as e:
                opening = self._conn is None
                if self._over or not (opening or ours(e, self._pursuit.call)):
                    self.close()
                    raise
                self._drop()
                try:
                    await self._settle(self._pursuit.lost(e))
                except BaseException as given_up:
                    self._over = isinstance(given_up, LOST)
                    self.close()
                    raise
                continue
            except BaseException as e:
                revive = self._pursuit.revives(e)
                self.close()
                if revive is None:
                    raise
                if not await asyncio.get_running_loop().run_in_executor(None, revive):
                    raise
                self._pursuit.again()
                self._over = False
                continue
            if self._pursuit.took(reply):
                self._over = reply["t"] == "done"
                return reply, body

    async def _read(self) -> tuple[dict[str, Any], memoryview]:
        pursuit, conn = self._pursuit, self._conn
        if conn is None:
            try:
                conn = await aio.open(pursuit.daemon, pursuit.request, pursuit.parts, pursuit.call)
            except LOST:
                self._over = pursuit.request["op"] == "call"
                raise
            conn._sink = pursuit.sink
            self._conn = conn
        try:
            return await aio.within(conn, pursuit.timeout)
        except LOST:
            raise
        except BaseException as e:
            self._over = conn.finished
            raise self._pursuit.failed(e) from e.__cause__

    async def _settle(self, steps: Steps) -> None:
        answer = None
        try:
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    continue
                try:
                    answer = await aio.answer(self._pursuit.daemon, step, ANSWER)
                except RhdError as e:
                    answer = None if no_answer(e) else NEVER
        except StopIteration:
            return

    def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            aio.give(self._pursuit.daemon, conn)

    def close(self) -> None:
        """Gives the connection back; before the final reply, has the call cancelled."""
        self._drop()
        self._cancel()

    def close_from_anywhere(self) -> None:
        """The same, from whichever thread."""
        conn, self._conn = self._conn, None
        if conn is not None:
            aio.close_from_anywhere(conn)
        self._cancel()

    def _cancel(self) -> None:
        ask = None if self._over else self._pursuit.abandoned()
        self._over = True
        if ask is not None:
            lease.later(self._pursuit.daemon, ask)
