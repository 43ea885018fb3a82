"""Runs: what became of calls, told by the nodes that executed them."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Literal, overload

from . import config, frames
from .connection import Connection, failed, lost
from .daemon import ANSWER, Daemon, daemon, decode
from .errors import Conflict, Timeout
from .iterators import AsyncRemoteIterator, RemoteIterator
from .pursuit import AsyncStream, Stream
from .receipts import DEAD, LOST, Beginning, Pursuit, question
from .target import Target, body, recording

SETTLING = 2.0
"""Seconds that the record of a run may take to say that it ended, after its result is there."""
PAUSE = 0.01
"""Seconds between two looks at that."""
FINAL = frozenset({"COMPLETED", "CANCELLED", "ERROR", "INTERRUPTED"})


class Run:
    """A call that its host keeps a record or a receipt of; made by `f.run(…)`, found by `rh.run`.

    `status` is NOT_STARTED, RUNNING, COMPLETED, CANCELLED, ERROR, or INTERRUPTED where its host
    went down while it ran.
    """

    def __init__(
        self,
        run: str,
        info: dict[str, Any] | None = None,
        *,
        at: Daemon | None = None,
        yields: bool = False,
        begun: _Begun | None = None,
    ) -> None:
        self._asked = checked(run)
        self._daemon = at
        self._known = info
        self._yields = yields
        # What starts it again when its host was lost, where it may be.
        self._begun = begun
        self._blocks: list[Any] = []
        # Its final reply was here; its host may need a moment to close the record.
        self._over = False
        self.calls: list[Run] = []
        """The runs of the calls made in `with rh.run(…)`, in the order in which they were made."""

    # --- what is known of it

    def _at(self) -> Daemon:
        if self._daemon is None:
            self._daemon = daemon()
        return self._daemon

    @property
    def _run(self) -> str:
        """What its host knows it by: the id, once that is known."""
        known = self._known
        return str(known["id"]) if known is not None else self._asked

    @property
    def _node(self) -> str | None:
        known = self._known
        return str(known["host"]) if known is not None and known.get("host") else None

    def _info(self) -> dict[str, Any]:
        known = self._known
        if known is not None and known["status"] in FINAL:
            return known
        limit = time.monotonic() + SETTLING
        while True:
            ask = question(self._run, self._node, "info")
            info = self._learn(self._at().ask(ask, (), "", ANSWER))
            # Who has its result in hand must not be told that it runs.
            if not self._over or info["status"] != "RUNNING" or time.monotonic() > limit:
                return info
            time.sleep(PAUSE)

    def _fixed(self) -> dict[str, Any]:
        """What does not change from the start on."""
        return self._info() if self._known is None else self._known

    def _learn(self, info: dict[str, Any]) -> dict[str, Any]:
        # One that nobody knows by its name may come yet, under an id that nobody knows.
        if info["status"] != "NOT_STARTED":
            self._known = info
        return info

    def refresh(self) -> Run:
        """Looks anew which run has the name, and how far it is."""
        if self._asked != self._run:
            self._known = None
        self._info()
        return self

    @property
    def status(self) -> str:
        """How far it got, asked now unless it has ended."""
        return str(self._info()["status"])

    @property
    def id(self) -> str:
        """The id of its call."""
        return str(self._fixed()["id"])

    @property
    def name(self) -> str:
        """Its name; empty for a call that nobody named."""
        return str(self._fixed().get("name") or "")

    @property
    def host(self) -> str:
        """The node that runs or ran it."""
        return str(self._fixed().get("host") or "")

    @property
    def caller(self) -> str:
        """The node that it was called from."""
        return str(self._fixed().get("caller") or "")

    @property
    def service(self) -> str:
        """What was called: the name of the function or object, and the method."""
        info = self._fixed()
        return ".".join(filter(None, (info.get("service"), info.get("method"))))

    @property
    def started_at(self) -> datetime | None:
        """When its host took it, by the host's clock."""
        return _time(self._fixed().get("started_ms"))

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; none while it runs."""
        return _time(self._info().get("ended_ms"))

    @property
    def inputs(self) -> tuple[Any, dict[str, Any]]:
        """Its arguments: positional and by name."""
        args, kwargs = self._at().ask(question(self._run, self._node, "inputs"), (), "", ANSWER)
        return tuple(args), kwargs

    # --- its result

    def result(self, timeout: float | None = None) -> Any:
        """Waits for its end and returns what the call did, or raises what it raised.

        Raises `Timeout` when that takes longer, which leaves the run as it is. Of a generator, an
        iterator of all its items. Where its function was called with `retries=`, a run whose host
        went down in it is started once more, and is that one from then on.
        """
        limit = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                value = self._attach(_left(limit), False)
            except LOST:
                if not self._again():
                    raise
            else:
                return iter(()) if self._yields and value is None else value

    async def async_result(self, timeout: float | None = None) -> Any:
        """The same without blocking the running loop."""
        limit = None if timeout is None else time.monotonic() + timeout
        while True:
            stream = AsyncStream(self._pursuit(_left(limit), False))
            try:
                with self._ending():
                    reply, data = await stream.next()
                break
            except LOST:
                if not await asyncio.get_running_loop().run_in_executor(None, self._again):
                    raise
        if reply["t"] == "item":
            close, drop = AsyncStream.close, AsyncStream.close_from_anywhere
            return AsyncRemoteIterator(close, drop, stream, (reply, data), keep=self)
        self._over = True
        stream.close()
        return decode(reply, data)

    def attach(self) -> Any:
        """Its result, with its output shown from the start and as it comes."""
        return self._attach(None, True)

    def _attach(self, timeout: float | None, logs: bool) -> Any:
        stream = Stream(self._pursuit(timeout, logs))
        with self._ending():
            reply, data = stream.next()
        if reply["t"] == "item":
            return RemoteIterator(Stream.close, stream, (reply, data), keep=self)
        self._over = True
        stream.close()
        return decode(reply, data)

    def _again(self) -> bool:
        """Starts it once more, after its host was lost; where that may be, it is another run."""
        if self._begun is None:
            return False
        with contextlib.suppress(*LOST):
            started = self._begun.again(self.status)
            if started is not None:
                self._asked, self._known = started
                self._over = False
                return True
        return False

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Takes note of the end of the run, where it failed."""
        try:
            yield
        except Timeout:
            raise
        except Exception:
            self._over = True
            raise

    def _pursuit(self, timeout: float | None, logs: bool) -> Pursuit:
        pursuit = Pursuit.attaching(self._at(), self._run, self._node, timeout, logs)
        # What may be started again is worth waiting for.
        pursuit.patient = self._begun is not None and self._begun.repeats > 0
        return pursuit

    def cancel(self) -> None:
        """Ends it, and waits until nothing of it runs any more."""
        ask = question(self._run, self._node, "cancel")
        self._learn(self._at().ask(ask, (), "", ANSWER))

    def delete(self) -> None:
        """Forgets what was kept of it; fails while it runs."""
        limit = time.monotonic() + SETTLING
        while True:
            try:
                self._at().ask(question(self._run, self._node, "remove"), (), "", ANSWER)
                return
            except Conflict:
                # One that has ended may take a moment to close its record.
                if self.status not in FINAL or time.monotonic() > limit:
                    raise
                time.sleep(PAUSE)

    # --- its output

    @overload
    def logs(self, follow: Literal[False] = False) -> str: ...
    @overload
    def logs(self, follow: Literal[True]) -> Iterator[str]: ...
    def logs(self, follow: bool = False) -> str | Iterator[str]:
        """What it wrote so far, stdout and stderr together; or, to follow it, an iterator of its
        lines from the start until it ends."""
        return self._lines() if follow else self._text(None)

    def stdout(self) -> str:
        """What it wrote to stdout so far."""
        return self._text(1)

    def stderr(self) -> str:
        """What it wrote to stderr so far."""
        return self._text(2)

    def _text(self, only: int | None) -> str:
        data = b"".join(piece for fd, piece in self._output(False) if only in (None, fd))
        return data.decode("utf-8", "replace")

    def _lines(self) -> Iterator[str]:
        decoders: dict[int, Any] = {}
        held: dict[int, str] = {}
        for fd, piece in self._output(True):
            if fd not in decoders:
                decoders[fd] = codecs.getincrementaldecoder("utf-8")("replace")
            *lines, held[fd] = (held.get(fd, "") + decoders[fd].decode(piece)).split("\n")
            for line in lines:
                yield line + "\n"
        for fd, decoder in decoders.items():
            rest = held[fd] + decoder.decode(b"", True)
            if rest:
                yield rest

    def _output(self, follow: bool) -> Iterator[tuple[int, bytes]]:
        at = self._at()
        conn: Connection = at.open(question(self._run, self._node, "logs", follow=follow), ())
        try:
            while True:
                try:
                    reply, piece = frames.recv(conn.sock)
                except (OSError, EOFError) as e:
                    raise lost("", e) from e
                kind = reply.get("t")
                if kind == "log":
                    yield int(reply.get("fd", 1)), bytes(piece)
                elif kind in ("done", "fail"):
                    conn.finished = True
                    if kind == "fail":
                        raise failed(reply, piece, "")
                    self._learn(decode(reply, piece))
                    return
        finally:
            at.give(conn)

    # --- as a context

    def __enter__(self) -> Run:
        self._blocks.append(recording.set(_Block(self, self._asked)))
        return self

    def __exit__(self, *_: object) -> None:
        recording.reset(self._blocks.pop())

    @staticmethod
    def list(name: str | None = None, cluster: Any = None, limit: int = 100) -> list[Run]:
        """Runs with a record, and calls under way, newest first; of one cluster, or of all that can
        be reached."""
        from .cluster import node_of

        at = daemon()
        node = None if cluster is None else node_of(cluster) or str(at.request("status")["name"])
        ask = {"op": "runs", "v": config.VERSION, "node": node, "name": name, "limit": limit}
        found = at.ask(ask, (), "", ANSWER)
        return [Run(info["id"], info, at=at) for info in found]

    def __repr__(self) -> str:
        known = self._known
        if known is None:
            return f"rh.run({self._asked!r})"
        return f"<run {known.get('name') or known['id']} on {known['host']}: {known['status']}>"

    def __reduce__(self) -> Any:
        return Run, (self._run,)


def run(name: str) -> Run:
    """The newest run of this name, or the run of a call by its id (`error.call_id`). Nobody is
    asked before it is used.

    `with rh.run(name) as r:` records the calls made in the block: the first as `name`, which `r`
    is, further ones as `name-2`, `name-3`, …; `r.calls` are all of them.
    """
    return Run(name)


class _Block:
    """Names the calls that are made in a `with rh.run(…)`."""

    def __init__(self, owner: Run, name: str) -> None:
        self._owner = owner
        self._name = name
        self._lock = threading.Lock()

    def name(self, at: Daemon, call: str) -> str:
        """The name of the run that this call becomes."""
        with self._lock:
            calls = self._owner.calls
            made = Run(call, at=at)
            calls.append(made)
            if len(calls) == 1:
                self._owner._asked = call
                self._owner._daemon = at
                return self._name
            return f"{self._name}-{len(calls)}"


def start(
    target: Target, flavor: str, args: tuple[Any, ...], kwargs: dict[str, Any], **extra: Any
) -> Run:
    """Starts a call, without waiting for more than its host's word that it has it."""
    parts = body(target, args, kwargs)
    extra["run"] = {"name": target.options.run_name, "detach": True}
    yields = flavor == "generator"
    if target.options.kept:
        begun = _Begun(target, parts, extra, target.options.retries)
        return Run(*begun.start(), at=target.daemon, yields=yields, begun=begun)
    cid, header = target.header(parts, "call", extra)
    info = target.daemon.ask(header, parts, cid)
    return Run(cid, info, at=target.daemon, yields=yields)


class _Begun:
    """A run as it was started, for as long as it may be started again."""

    def __init__(
        self, target: Target, parts: list[Any], extra: dict[str, Any], repeats: int
    ) -> None:
        self._target = target
        self._parts = parts
        self._extra = extra
        self.repeats = repeats

    def start(self) -> tuple[str, dict[str, Any]]:
        """Starts it; returns its id, and what its host says of it."""
        pursuit = Beginning.calling(self._target, self._parts, "call", self._extra)
        pursuit.repeats = self.repeats
        stream = Stream(pursuit)
        reply, data = stream.next()
        stream.close()
        self.repeats = pursuit.repeats
        return pursuit.call, decode(reply, data)

    def again(self, status: str) -> tuple[str, dict[str, Any]] | None:
        """The same after a loss, where that is allowed and nothing of it runs any more."""
        if status not in DEAD or self.repeats <= 0:
            return None
        self.repeats -= 1
        return self.start()


def checked(name: Any) -> str:
    """What a run is called, if it can be."""
    if not isinstance(name, str) or not name:
        raise TypeError("a run is found by its name, or by the id of its call")
    return name


def _left(limit: float | None) -> float | None:
    return None if limit is None else max(limit - time.monotonic(), 0.001)


def _time(ms: Any) -> datetime | None:
    return datetime.fromtimestamp(ms / 1000, timezone.utc) if ms else None
