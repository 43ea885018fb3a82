"""What can go wrong, as exceptions, and how a failure that arrives becomes one again."""

from __future__ import annotations

import pickle
from typing import Any


class RhdError(Exception):
    """Something failed; `hint` says what to do about it."""

    kind = "internal"
    hint = ""
    call_id = ""
    node = ""

    def __init__(
        self,
        message: str = "",
        *,
        hint: str = "",
        kind: str = "",
        call_id: str = "",
        node: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.call_id = call_id
        self.node = node
        if kind:
            self.kind = kind

    def __str__(self) -> str:
        text = str(self.message)
        if self.node:
            text += f" (on {self.node})"
        if self.hint:
            text += f"\nhint: {self.hint}"
        return text

    def __reduce__(self) -> tuple:
        return type(self)._restored, (self.args, dict(self.__dict__))

    @classmethod
    def _restored(cls, args: tuple, state: dict) -> BaseException:
        return restored(cls, args, state)


class RemoteError(RhdError):
    """Remote code raised an exception whose own class can't be rebuilt here."""

    kind = "remote"
    exc_type = ""
    remote_traceback = ""


class PeerLost(RhdError):
    """The peer went away; the call may or may not have run, and was not repeated."""

    may_repeat = False
    """Whether its receipt says that it does not run, and never will."""

    kind = "peer_lost"


class Timeout(RhdError, TimeoutError):
    """The deadline passed."""

    kind = "timeout"


class Cancelled(RhdError):
    """Somebody cancelled the call."""

    kind = "cancelled"


class PermissionDenied(RhdError, PermissionError):
    """Not allowed."""

    kind = "permission_denied"


class NotFound(RhdError, LookupError):
    """No such name, node, method or ticket."""

    kind = "not_found"


class Conflict(RhdError):
    """It exists already, or somebody else holds it."""

    kind = "conflict"


class EnvError(RhdError):
    """The env can't be built, or its worker can't start."""

    kind = "env_error"


class VersionMismatch(RhdError):
    """Two sides are of versions that can't work together."""

    kind = "version_mismatch"


class QueueFull(RhdError):
    """The target has as many calls waiting as it takes."""

    kind = "queue_full"


class DaemonUnavailable(RhdError, ConnectionError):
    """No daemon answers."""

    kind = "daemon_unavailable"


_KINDS: dict[str, type[RhdError]] = {
    cls.kind: cls
    for cls in (
        RemoteError,
        PeerLost,
        Timeout,
        Cancelled,
        PermissionDenied,
        NotFound,
        Conflict,
        EnvError,
        VersionMismatch,
        QueueFull,
        DaemonUnavailable,
    )
}


class RemoteTraceback(Exception):
    """The traceback of the other machine, shown as the cause of what it raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def restored(cls: type[BaseException], args: tuple, state: dict) -> BaseException:
    """Rebuilds an exception without running its constructor, which has its own parameters."""
    exc = cls.__new__(cls, *args)
    exc.args = args
    exc.__dict__.update(state)
    return exc


def _unpickled(body: Any) -> BaseException | None:
    if not body:
        return None
    try:
        exc = pickle.loads(body)
    except BaseException:  # whatever code of a stranger's class raises
        return None
    # What ends a program is for the other program to end on.
    return exc if isinstance(exc, Exception) else None


def full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _text(info: dict, field: str) -> str:
    value = info.get(field)
    return value if isinstance(value, str) else ""


def from_info(info: dict, body: Any = b"") -> BaseException:
    """Returns the exception to raise for a failure that arrived; never raises itself."""
    kind = _text(info, "kind") or "internal"
    hint, node, call = _text(info, "hint"), _text(info, "node"), _text(info, "call")
    exc_type, tb = _text(info, "exc_type"), _text(info, "traceback")
    exc: BaseException | None = None
    if kind == "remote":
        exc = _unpickled(body)
        if exc is not None and exc_type and full_name(type(exc)) != exc_type:
            exc = None
    if exc is None:
        message = _text(info, "message") or "it failed, and didn't say why"
        exc = _KINDS.get(kind, RhdError)(message, hint=hint, kind=kind, call_id=call, node=node)
        if isinstance(exc, RemoteError):
            exc.exc_type, exc.remote_traceback = exc_type, tb
    else:
        _annotate(exc, kind=kind, hint=hint, call_id=call, node=node, remote_traceback=tb)
    if tb:
        exc.__cause__ = RemoteTraceback(tb)
    return exc


def _annotate(exc: BaseException, **about: str) -> None:
    """Sets what is known of the failure, where that takes no place of the exception's own."""
    for name, value in about.items():
        try:
            # An error of ours that passed through says itself what it is, but not where.
            if not hasattr(exc, name) or (isinstance(exc, RhdError) and not getattr(exc, name)):
                setattr(exc, name, value)
        except Exception:
            pass
    if isinstance(exc, RhdError):
        return
    notes = [f"on {about['node']}"] if about["node"] else []
    if about["hint"]:
        notes.append(f"hint: {about['hint']}")
    try:
        for note in notes:
            exc.add_note(note)  # type: ignore[attr-defined]  # from 3.11 on
    except Exception:
        pass
