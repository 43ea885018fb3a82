"""How an exception of user code travels: its class, its traceback as text, and its pickle."""

from __future__ import annotations

import importlib
import os
import pickle
import traceback
from typing import Any

from .._deps import cloudpickle
from ..errors import RhdError, full_name, restored

# The header of a failure holds the texts, and has a limit of its own.
_MAX_MESSAGE = 8 * 1024
_MAX_TRACEBACK = 64 * 1024
_MAX_PICKLE = 1024 * 1024


def _dump(exc: Any) -> bytes:
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
        args = tuple(_keep({"arg": arg}).get("arg", _shown(arg)) for arg in exc.args)
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
        text = value if isinstance(value, str) else repr(value)
        return text if len(text) <= 200 else text[:200] + "..."
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


_HERE = os.path.dirname(os.path.abspath(__file__))
# Files whose frames say nothing about the user's code: the worker, and what imports modules.
_RUNTIME = (
    _HERE + os.sep,
    os.path.join(os.path.dirname(_HERE), "codec.py"),
    os.path.abspath(importlib.__file__),
)


def _is_runtime(filename: str) -> bool:
    if filename.startswith("<frozen importlib"):
        return True
    return os.path.abspath(filename).startswith(_RUNTIME)


def _without_runtime(shown: traceback.TracebackException | None, seen: set[int]) -> None:
    """Takes the frames of the worker out of a traceback and all that are chained to it."""
    if shown is None or id(shown) in seen:
        return
    seen.add(id(shown))
    kept = [frame for frame in shown.stack if not _is_runtime(frame.filename)]
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
        return f"{full_name(type(exc))}: no traceback can be shown ({type(error).__name__})"


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
        "exc_type": _cut(full_name(type(exc)), 1024),
        "traceback": traceback_text(exc),
    }
    return info, dump_exception(exc)


def _own_hint(exc: BaseException) -> str:
    return exc.hint if isinstance(exc, RhdError) else ""


def refusal(error: RhdError, *, call_id: str = "") -> dict:
    """Returns a failure of ours, not of the user's code, as it travels."""
    return {
        "kind": error.kind,
        "message": _cut(str(error.message), _MAX_MESSAGE),
        "hint": _cut(error.hint, _MAX_MESSAGE),
        "node": error.node,
        "call": call_id or error.call_id,
    }
