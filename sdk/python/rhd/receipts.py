"""What a caller does about a call that it lost: asks its receipt, then waits for it or repeats it.

```text
calling --lost--> asking --RUNNING, COMPLETED, ERROR, CANCELLED--> attached, until the result
                  |    ^                                              | lost
                  |    +----------------------------------------------+
                  +--NOT_STARTED, INTERRUPTED--> calling again, if repeats are left
```

What may still run is never repeated: while nobody can say, it is asked again, later.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator
from typing import Any

from . import config, console, errors
from .daemon import Daemon
from .faults import fault
from .target import Target

PATIENCE = 60.0
"""Seconds for which the receipt of a lost call is asked for, where it has no `timeout=`."""
AWAY = 15.0
"""The same, of a host that can't be reached, where nothing would be repeated. One that has gone, by
the word of its presence, is not waited for."""
ANSWER = 15.0
"""Seconds that one answer may take."""
PAUSES = (0.05, 2.0)
"""The first and the longest pause between two questions, and before a repetition."""

LOST = (errors.PeerLost, errors.DaemonUnavailable)
_LATER = (*LOST, errors.Timeout, errors.QueueFull)
DEAD = ("NOT_STARTED", "INTERRUPTED")

Ask = dict[str, Any]
NEVER: dict[str, Any] = {}
Steps = Generator["Ask | float", "dict[str, Any] | None", None]


def ours(error: BaseException, call: str) -> bool:
    """Whether an error is about this very call, not one that the remote code made and lost."""
    return error.__cause__ is None or getattr(error, "call_id", "") == call


def question(run: str, node: str | None, kind: str, **fields: Any) -> Ask:
    """A request about a run."""
    ask = {"t": kind, **{k: v for k, v in fields.items() if v is not None}}
    return {"op": "run", "v": config.VERSION, "run": run, "node": node, "ask": ask}


class Pursuit:
    """One call and what is done to learn its result: which request to send next.

    `lost` yields questions, to be answered by a `RunInfo`, and pauses in seconds; whoever drives it
    does the waiting. `None` is sent in for a question that nobody could answer yet, and `NEVER` for
    one that nobody will.
    """

    def __init__(self, daemon: Daemon, timeout: float | None, logs: bool) -> None:
        self.daemon = daemon
        self.timeout = timeout
        self.call = ""
        self.request: Ask = {}
        self.parts: Any = ()
        self.sink = _Sink()
        self._logs = logs
        self._node: str | None = None
        self._made: tuple[Target, list[Any], str, dict[str, Any]] | None = None
        self.repeats = 0
        self.patient = False
        self._began = time.monotonic()
        # Items that were passed on, and those that an attachment repeats.
        self._items = 0
        self._skip = 0
        self._pause = PAUSES[0]
        # When it was lost, and attached to, since the last reply.
        self._since = 0.0
        self._attached = False
        # Whether the service was put there again for this request.
        self._revived = False

    @classmethod
    def calling(cls, target: Target, parts: list[Any], verb: str, extra: dict[str, Any]) -> Pursuit:
        """A call that is kept by its host."""
        options = target.options
        self = cls(target.daemon, options.timeout, options.stream_logs)
        self.repeats = options.retries
        self.patient = options.kept
        self._made = (target, parts, verb, extra)
        self._node = target.node_id
        self._call()
        return self

    @classmethod
    def attaching(
        cls, daemon: Daemon, run: str, node: str | None, timeout: float | None, logs: bool
    ) -> Pursuit:
        """A run that was started before, by whomever."""
        self = cls(daemon, timeout, logs)
        self.call = run
        self._node = node
        self._attach()
        return self

    def _call(self) -> None:
        if self._made is not None:
            target, self.parts, verb, extra = self._made
            self.call, self.request = target.header(self.parts, verb, extra)
            # A repetition has the name of what it repeats.
            if "run" in self.request["call"]:
                extra["run"] = self.request["call"]["run"]
            self._attached = self._revived = False
            self._began = time.monotonic()
            self.sink.again(anew=True)

    def _attach(self) -> None:
        left = self._left()
        wait = None if left is None else max(int(left * 1000), 1)
        self.request = question(self.call, self._node, "attach", logs=self._logs, timeout_ms=wait)
        self.parts = ()
        self._attached = True
        self._skip = self._items
        self.sink.again(anew=False)

    def _left(self) -> float | None:
        if self.timeout is None:
            return None
        return self.timeout - (time.monotonic() - self._began)

    def took(self, reply: dict[str, Any]) -> bool:
        """Takes note of an item or result; false for one that was passed on before."""
        self._since, self._attached = 0.0, False
        if reply.get("t") != "item":
            return True
        if self._skip:
            self._skip -= 1
            return False
        self._items += 1
        return True

    def lost(self, error: BaseException) -> Steps:
        """Decides what `request` is next; raises the error where nothing can be done."""
        now = time.monotonic()
        self._since = self._since or now
        limit = self._since + PATIENCE if self.timeout is None else self._began + self.timeout
        pause = PAUSES[0]
        while True:
            age = int((time.monotonic() - self._began) * 1000)
            info = yield question(self.call, self._node, "info", age_ms=age)
            if info is None:
                # Where it decides on a repetition, the receipt is worth waiting for.
                if not self.patient:
                    yield from self._still_there(error)
                if time.monotonic() + pause > limit:
                    raise error
                yield pause
                pause = min(pause * 2, PAUSES[1])
            elif info is NEVER or time.monotonic() > limit:
                raise error
            elif info.get("status") in DEAD:
                break
            else:
                self._node = str(info.get("host") or "") or self._node
                if self._attached:
                    # Again, without a reply in between.
                    yield self._longer()
                return self._attach()
        if isinstance(error, errors.PeerLost):
            error.may_repeat = self._items == 0
        if self._made is None:
            raise self._ended_early(info) from error
        # Items that the caller has are not taken back.
        if self._made is None or self.repeats <= 0 or self._items:
            raise error
        self.repeats -= 1
        yield self._longer()
        self._node = self._made[0].node_id
        return self._call()

    def _still_there(self, error: BaseException) -> Steps:
        """Raises where the host is away, and not only for a moment."""
        host = self._node or getattr(error, "node", "")
        peers = yield {"op": "peers", "v": config.VERSION}
        away = time.monotonic() - self._since > AWAY
        for peer in peers or ():
            if host not in (peer.get("name"), peer.get("id")):
                continue
            if peer.get("gone") or (peer.get("path") == "none" and away):
                name = str(peer.get("name"))
                raise fault(
                    "peer_lost",
                    f"node {name} can't be reached, and only it knows what became of {self.call}",
                    hint=f"it may go on there, and was not repeated: when `rhd peers` shows {name} "
                    f"again, rh.run({self.call!r}) tells",
                    call=self.call,
                    node=name,
                ) from error

    def _ended_early(self, info: dict[str, Any]) -> BaseException:
        """What to raise for a run of somebody that brings no result any more."""
        host = str(info.get("host") or self._node or "its host")
        if info.get("status") == "NOT_STARTED":
            return fault("not_found", f"run {self.call} never started", call=self.call)
        lost = fault(
            "peer_lost",
            f"node {host} went down before run {self.call} ended: it may have run in part",
            hint=f"it was not repeated; rh.run({self.call!r}).logs() shows how far it came",
            call=self.call,
            node=host,
        )
        if isinstance(lost, errors.PeerLost):
            lost.may_repeat = True
        return lost

    def _longer(self) -> float:
        pause, self._pause = self._pause, min(self._pause * 2, PAUSES[1])
        return pause

    def revives(self, error: BaseException) -> Callable[[], bool] | None:
        """What may help against a failure that arrived, where nothing has run: if it says that it
        did, `again` makes the next request."""
        if not isinstance(error, errors.NotFound) or self.request["op"] != "call":
            return None
        revive = None if self._made is None or self._revived else self._made[0].revive
        return None if revive is None else functools.partial(revive, error)

    def again(self) -> None:
        """Calls once more, which is no repetition."""
        self._call()
        self._revived = True

    def failed(self, error: BaseException) -> BaseException:
        """What to raise for a failure that arrived."""
        attached = self._made is not None and self.request["op"] == "run"
        if attached and isinstance(error, errors.NotFound) and error.__cause__ is None:
            # Of the record, not of the function: that has run.
            return fault(
                "peer_lost",
                f"the call ended, and what became of it was not kept: {error.message}",
                hint=f"see rh.run({self.call!r}).status; it was not repeated",
                call=self.call,
            )
        return error

    def abandoned(self) -> Ask | None:
        """What to ask when the caller gives the call up; nothing for a run of somebody else."""
        if self._made is None:
            return None
        return question(self.call, self._node, "cancel")


class Beginning(Pursuit):
    """A run that nobody waits for: what may be lost is its host's word that it has it."""

    def _attach(self) -> None:
        self.request = question(self.call, self._node, "info")
        self.parts = ()
        self._attached = True


def no_answer(error: errors.RhdError) -> bool:
    """Whether another try may get an answer to a question."""
    return isinstance(error, _LATER)


class _Sink(console.Sink):
    """Output of a call that may come once more from its start: what was shown is passed over."""

    __slots__ = ("_seen", "_skip")

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, int] = {}
        self._skip: dict[int, int] = {}

    def again(self, anew: bool) -> None:
        """Its output starts from the beginning; `anew`: of another execution."""
        if anew:
            self._seen = {}
        self._skip = dict(self._seen)

    def log(self, fd: int, data: bytes) -> None:
        skip = self._skip.get(fd, 0)
        if skip:
            self._skip[fd] = max(skip - len(data), 0)
            data = data[skip:]
        if data:
            self._seen[fd] = self._seen.get(fd, 0) + len(data)
            super().log(fd, data)
