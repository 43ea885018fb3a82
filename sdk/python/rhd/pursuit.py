"""The replies of a call that its host keeps, through lost connections, on a thread or a loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from . import aio, lease
from .connection import Connection
from .errors import RhdError
from .faults import fault
from .parallel import Batch
from .receipts import ANSWER, LOST, NEVER, Pursuit, Steps, no_answer, ours


class _Replies:
    """What both have in common: which end of a connection is the end of the call."""

    def __init__(self, pursuit: Pursuit) -> None:
        self._pursuit = pursuit
        self._conn: Any = None
        # Nothing more comes, or is asked for.
        self._over = False
        lease.ready()

    def _drop(self) -> None:
        """Gives the connection back."""
        raise NotImplementedError

    def _opened(self, conn: Any) -> None:
        conn._sink = self._pursuit.sink
        self._conn = conn

    def _unopened(self) -> None:
        """The request could not be sent: where that was to be the call, there is none."""
        self._over = self._pursuit.request["op"] == "call"

    def _failed(self, conn: Any, error: BaseException) -> BaseException:
        # A failure that arrived is the end; anything else gives the call up.
        self._over = conn.finished
        return self._pursuit.failed(error)

    def _lost(self, error: BaseException) -> Steps:
        """What to do about a connection that was lost; raises the error where that is nothing."""
        opening = self._conn is None
        if self._over or not (opening or ours(error, self._pursuit.call)):
            self.close()
            raise error
        self._drop()
        return self._pursuit.lost(error)

    def _gave_up(self, reason: BaseException) -> None:
        self._over = isinstance(reason, LOST)
        self.close()

    def _revival(self, error: BaseException) -> Callable[[], bool] | None:
        revive = self._pursuit.revives(error)
        self.close()
        return revive

    def _again(self) -> None:
        self._pursuit.again()
        self._over = False

    def _took(self, reply: dict[str, Any]) -> bool:
        took = self._pursuit.took(reply)
        self._over = took and reply["t"] == "done"
        return took

    def close(self) -> None:
        """Gives the connection back; before the final reply, has the call cancelled."""
        self._drop()
        self._cancel()

    def _cancel(self) -> None:
        ask = None if self._over else self._pursuit.abandoned()
        self._over = True
        if ask is not None:
            lease.later(self._pursuit.daemon, ask)


class Stream(_Replies):
    """The replies, read by a thread. Closed before the final one, it cancels the call."""

    def __init__(self, pursuit: Pursuit, batch: Batch | None = None) -> None:
        super().__init__(pursuit)
        self._batch = batch

    def next(self) -> tuple[dict[str, Any], memoryview]:
        """The next item or result."""
        while True:
            try:
                reply, body = self._read()
            except LOST as e:
                steps = self._lost(e)
                try:
                    self._settle(steps)
                except BaseException as given_up:
                    self._gave_up(given_up)
                    raise
            except BaseException as e:
                revive = self._revival(e)
                if revive is None or not revive():
                    raise
                self._again()
            else:
                if self._took(reply):
                    return reply, body

    def _read(self) -> tuple[dict[str, Any], memoryview]:
        pursuit, conn = self._pursuit, self._conn
        if conn is None:
            try:
                conn = pursuit.daemon.open(
                    pursuit.request, pursuit.parts, pursuit.call, pursuit.timeout
                )
            except LOST:
                self._unopened()
                raise
            self._opened(conn)
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
            raise self._failed(conn, e) from e.__cause__

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


class AsyncStream(_Replies):
    """The same on a loop."""

    async def next(self) -> tuple[dict[str, Any], memoryview]:
        """The next item or result."""
        while True:
            try:
                reply, body = await self._read()
            except LOST as e:
                steps = self._lost(e)
                try:
                    await self._settle(steps)
                except BaseException as given_up:
                    self._gave_up(given_up)
                    raise
            except BaseException as e:
                revive = self._revival(e)
                if revive is None:
                    raise
                if not await asyncio.get_running_loop().run_in_executor(None, revive):
                    raise
                self._again()
            else:
                if self._took(reply):
                    return reply, body

    async def _read(self) -> tuple[dict[str, Any], memoryview]:
        pursuit, conn = self._pursuit, self._conn
        if conn is None:
            try:
                conn = await aio.open(pursuit.daemon, pursuit.request, pursuit.parts, pursuit.call)
            except LOST:
                self._unopened()
                raise
            self._opened(conn)
        try:
            return await aio.within(conn, pursuit.timeout)
        except LOST:
            raise
        except BaseException as e:
            raise self._failed(conn, e) from e.__cause__

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

    def close_from_anywhere(self) -> None:
        """Closes it from whichever thread."""
        conn, self._conn = self._conn, None
        if conn is not None:
            aio.close_from_anywhere(conn)
        self._cancel()
