"""What can go wrong, as exceptions, and how an exception travels between machines."""

from __future__ import annotations

import os
import pickle
import traceback
from typing import Any

# The header of a failure holds the texts, and has a limit of its own.
_MAX_MESSAGE = 8 * 1024
_MAX_TRACEBACK = 64 * 1024
_MAX_PICKLE = 1024 * 1024


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
    def _restored(cls, args: tuple, state: dict) -> RhdError:
        return restored(cls, args, state)


class RemoteError(RhdError):
    """Remote code raised an exception whose own class can't be rebuilt here."""

    kind = "remote"
    exc_type = ""
    remote_traceback = ""


class PeerLost(RhdError):
    """The peer went away; the call may or may not have run, and was not repeated."""

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
    """Rebuilds an exception without running its constructor, whose parameters are its own affair."""
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


def _full_name(cls: type) -> str:
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
        if exc is not None and exc_type and _full_name(type(exc)) != exc_type:
            exc = None
    if exc is None:
        message = _text(info, "message") or "it failed, and didn't say why"
        exc = _KINDS.get(kind, RhdError)(
            message, hint=hint, kind=kind, call_id=call, node=node
        )
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


def _dump(exc: BaseException) -> bytes:
    from ._deps import cloudpickle

    return cloudpickle().dumps(exc, protocol=5)


def _survives(data: bytes, cls: type) -> bool:
    if len(data) > _MAX_PICKLE:
        return False
    return type(pickle.loads(data)) is cls


class _Rebuilt:
    """Stands for an exception whose own pickling fails; becomes that exception when read."""

    def __init__(self, exc: BaseException, args: tuple, state: dict) -> None:
        self.parts = (type(exc), args, state)

    def __reduce__(self) -> tuple:
        return restored, self.parts


def _keep(values: dict) -> dict:
    out = {}
    for name, value in values.items():
        try:
            if len(_dump(value)) <= _MAX_PICKLE // 16:
                out[name] = value
        except BaseException:
            pass
    return out


def dump_exception(exc: BaseException) -> bytes:
    """Pickles an exception so that it can be read back; empty when there is no way."""

    def stripped() -> Any:
        args = tuple(
            _keep({"arg": arg}).get("arg", _shown(arg)) for arg in exc.args
        )
        return _Rebuilt(exc, args, _keep(dict(exc.__dict__)))

    for attempt in (lambda: exc, lambda: _Rebuilt(exc, exc.args, exc.__dict__), stripped):
        try:
            data = _dump(attempt())
            if _survives(data, type(exc)):
                return data
        except BaseException:  # the exception's own code may do anything
            continue
    return b""


def _shown(value: Any) -> str:
    try:
        return repr(value)[:200]
    except BaseException:
        return f"<{type(value).__name__}>"


def _cut(text: str, limit: int) -> str:
    """Shortens a text in its middle to at most `limit` bytes of UTF-8."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    half = limit // 2 - 32
    left = len(data) - 2 * half
    return (
        data[:half].decode("utf-8", "ignore")
        + f"\n... {left} bytes left out ...\n"
        + data[-half:].decode("utf-8", "ignore")
    )


_RUNTIME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker") + os.sep


def _without_runtime(shown: traceback.TracebackException | None, seen: set[int]) -> None:
    """Takes the frames of the worker itself out of a traceback and all that are chained to it."""
    if shown is None or id(shown) in seen:
        return
    seen.add(id(shown))
    kept = [f for f in shown.stack if not os.path.abspath(f.filename).startswith(_RUNTIME)]
    shown.stack = traceback.StackSummary.from_list(kept)
    for other in (shown.__cause__, shown.__context__, *(getattr(shown, "exceptions", None) or ())):
        _without_runtime(other, seen)


def traceback_text(exc: BaseException) -> str:
    """Returns the traceback with its causes, without the frames of the worker itself."""
    try:
        shown = traceback.TracebackException.from_exception(exc)
        _without_runtime(shown, set())
        return _cut("".join(shown.format()), _MAX_TRACEBACK)
    except BaseException as error:  # a __str__ or __repr__ that raises, or endless recursion
        return f"{_full_name(type(exc))}: no traceback can be shown ({type(error).__name__})"


# Names that differ between import and package index.
_PACKAGES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "Crypto": "pycryptodome",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "git": "GitPython",
    "google.protobuf": "protobuf",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}


def missing_module_hint(exc: BaseException) -> str:
    """Says which package to ask for, when a module is missing; else nothing."""
    if not isinstance(exc, ModuleNotFoundError) or not exc.name:
        return ""
    top = exc.name.split(".")[0]
    package = _PACKAGES.get(exc.name) or _PACKAGES.get(top) or top
    return f'add "{package}" to reqs: rh.env(reqs=["{package}"])'


def to_info(
    exc: BaseException, *, call_id: str = "", hint: str = "", message: str = ""
) -> tuple[dict, bytes]:
    """Returns a failure of remote code as it travels: the info, and the pickled exception."""
    name = type(exc).__qualname__
    if not message:
        try:
            said = str(exc)
        except BaseException:
            said = "its text can't be shown"
        message = f"{name}: {said}" if said else name
    info = {
        "kind": "remote",
        "message": _cut(message, _MAX_MESSAGE),
        "hint": _cut(hint or missing_module_hint(exc) or _own_hint(exc), _MAX_MESSAGE),
        "call": call_id,
        "exc_type": _full_name(type(exc))[:1024],
        "traceback": traceback_text(exc),
    }
    return info, dump_exception(exc)


def _own_hint(exc: BaseException) -> str:
    return exc.hint if isinstance(exc, RhdError) else ""


def failure(error: RhdError, *, call_id: str = "") -> dict:
    """Returns a failure of ours, not of the user's code, as it travels."""
    return {
        "kind": error.kind,
        "message": _cut(str(error.message), _MAX_MESSAGE),
        "hint": _cut(error.hint, _MAX_MESSAGE),
        "node": error.node,
        "call": call_id or error.call_id,
    }
