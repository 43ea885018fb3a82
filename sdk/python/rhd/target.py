"""A service as calls are addressed to it, and how they are made."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol

from . import codec, config, tracing
from .daemon import Daemon, call_id
from .errors import NotFound

GENERATORS = frozenset({"generator", "async_generator"})
ASYNC = frozenset({"coroutine", "async_generator"})


@dataclass(frozen=True)
class Options:
    """How calls are made; see `options()` of functions and methods."""

    timeout: float | None = None
    retries: int = 0
    stream_logs: bool = True
    codec: str = "pickle"
    run_name: str = ""
    # Has the host keep what it answers, so that a lost call can be asked about; retries do too.
    receipt: bool = False

    def changed(self, changes: dict[str, Any]) -> Options:
        """These options with some of them changed."""
        options = replace(self, **changes)
        if options.timeout is not None and options.timeout <= 0:
            raise ValueError("timeout is in seconds, above 0")
        if options.retries < 0:
            raise ValueError("retries is how often a call may be repeated, 0 or more")
        if options.codec not in ("pickle", "msgpack", "json"):
            raise ValueError(f"{options.codec!r} is no codec: use pickle, msgpack or json")
        return options

    @property
    def kept(self) -> bool:
        """Whether calls go on, with their replies kept, when the way back to here breaks."""
        return self.receipt or self.retries > 0


DEFAULT = Options()


class Block(Protocol):
    """What records the calls that are made in it."""

    def name(self, daemon: Daemon, call: str) -> str:
        """The name of the run that this call becomes."""
        ...


recording: ContextVar[Block | None] = ContextVar("rhd_recording", default=None)


class Target:
    """A service on a node (or on whichever node hosts it), as calls are addressed to it."""

    __slots__ = ("_template", "daemon", "lease", "node", "node_id", "options", "revive", "service")

    def __init__(
        self,
        daemon: Daemon,
        service: str,
        node: str | None,
        node_id: str | None,
        options: Options = DEFAULT,
        lease: Any = None,
        revive: Callable[[NotFound], bool] | None = None,
    ) -> None:
        self.daemon = daemon
        self.service = service
        self.node = node
        self.node_id = node_id
        self.options = options
        # Whatever can call an object keeps it alive, a method or an iterator alone too.
        self.lease = lease
        # Puts it there again, where a node has forgotten it.
        self.revive = revive
        self._template: dict[str, Any] = {
            "v": config.VERSION,
            "service": service,
            "codec": options.codec,
            "logs": options.stream_logs,
        }
        if node_id is not None:
            self._template["node"] = node_id
        if options.timeout is not None:
            self._template["timeout_ms"] = max(int(options.timeout * 1000), 1)
        if options.kept:
            self._template["keep"] = True
        if options.run_name:
            self._template["run"] = {"name": options.run_name, "detach": False}

    def with_options(self, options: Options) -> Target:
        """The same service, called in another way."""
        return Target(
            self.daemon, self.service, self.node, self.node_id, options, self.lease, self.revive
        )

    def header(
        self, parts: list[Any], verb: str, extra: dict[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """The header of a call with this body, and its id."""
        call = call_id()
        lengths = [p.nbytes if type(p) is memoryview else len(p) for p in parts]
        fields = {**self._template, "id": call, "verb": verb, "parts": lengths, **extra}
        trace = tracing.trace()
        if trace is not None:
            fields["trace"] = trace
        block = recording.get()
        if block is not None and verb == "call":
            asked = fields.get("run") or {"name": "", "detach": False}
            if not asked["name"]:
                fields["run"] = {**asked, "name": block.name(self.daemon, call)}
        return call, {"op": "call", "call": fields}


def body(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Arguments as they travel."""
    return codec.dumps((args, kwargs), target.options.codec)
