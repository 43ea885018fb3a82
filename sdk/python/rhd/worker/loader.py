"""Code into this process: functions and classes of project folders, or by value."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
from collections.abc import Sequence
from typing import Any

from .. import codec
from .._deps import cloudpickle, msgpack
from ..errors import EnvError, NotFound, RhdError, VersionMismatch
from ..frames import Buffer
from . import interface, replies
from .call import Call, Refused
from .roots import ModuleConflict, Root, Roots, is_hidden
from .targets import Service, Targets

# Wrappers around wrappers, at most.
_WRAPPERS = 8


class Loader:
    """Loads services, one at a time; calls run on meanwhile."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._lock = threading.Lock()
        self._roots = Roots()

    def load(self, call: Call, parts: Sequence[Buffer]) -> replies.Frame:
        """Loads what the call says under its service name; returns the final reply."""
        load = call.load
        if not isinstance(load, dict):
            raise Refused(RhdError("a load without anything to load", kind="bad_request"))
        version = str(load.get("version", ""))
        with self._lock:
            service = self._targets.get(call.service)
            if service is None or not version or service.version != version:
                try:
                    service = self._load(load, version, b"".join(parts))
                except BaseException:
                    # What was put on the path for it must not get in the way of what runs.
                    self._roots.keep(self._targets.projects())
                    raise
                self._targets.put(call.service, service)
        body = msgpack.packb(service.loaded)
        return {"t": "done", "id": call.id, "codec": "msgpack", "parts": [len(body)]}, [body]

    def _load(self, load: dict, version: str, body: bytes) -> Service:
        entry = load.get("entry") or {}
        by_value = entry.get("t") == "value"
        if by_value:
            _check_python(str(entry.get("python", "")))
        roots = [Root.parse(root) for root in load.get("roots") or ()]
        # Deleted services no longer claim the names of their modules.
        self._roots.keep(self._targets.projects() | {root.project for root in roots})
        self._roots.activate(roots)
        try:
            target = _by_value(body) if by_value else _imported(entry, roots)
        except ModuleConflict as conflict:
            raise Refused(conflict.error) from None
        for _ in range(_WRAPPERS):
            inner = getattr(target, "__rhd_wrapped__", None)
            if inner is None:
                break
            target = inner
        if not callable(target):
            raise Refused(
                RhdError(
                    f"{entry.get('qualname', 'it')} is neither function nor class",
                    kind="bad_request",
                )
            )
        is_class = inspect.isclass(target)
        loaded = {"interface": interface.describe(target), "class": is_class}
        projects = frozenset(root.project for root in roots)
        return Service("class" if is_class else "function", target, version, loaded, projects)


def _check_python(theirs: str) -> None:
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if theirs and theirs.split(".")[:2] != ours.split("."):
        raise Refused(
            VersionMismatch(
                f"sent by value from Python {theirs}, but the worker runs Python {ours}, "
                "which can't run its bytecode",
                hint=f'use rh.env(python="{theirs}"), or put the function into a file of your '
                "project, which is sent as source",
            )
        )


def _by_value(body: bytes) -> Any:
    if not body:
        raise Refused(RhdError("a load by value without the value", kind="bad_request"))
    # The pickle names its functions, so it must be importable under that name.
    cloudpickle()
    try:
        return codec.loads([body])
    except ImportError:
        raise
    except Exception as error:
        raise Refused(
            RhdError(
                f"what was sent by value can't be read here: {type(error).__name__}: {error}",
                kind="bad_request",
                hint="put it into a file of your project, which is sent as source",
            )
        ) from error


def _imported(entry: dict, roots: Sequence[Root]) -> Any:
    module_name, qualname = str(entry.get("module", "")), str(entry.get("qualname", ""))
    if not module_name or not qualname or module_name == "__main__":
        raise Refused(RhdError(f"{module_name}:{qualname} can't be imported", kind="bad_request"))
    target: Any = importlib.import_module(module_name)
    top = module_name.split(".")[0]
    if is_hidden(top, roots):
        raise Refused(
            EnvError(
                f"module {top!r} of the project has the name of one that Python itself uses",
                hint=f"rename {top}.py",
            )
        )
    for part in qualname.split("."):
        try:
            target = getattr(target, part)
        except AttributeError:
            raise Refused(
                NotFound(
                    f"module {module_name} has no {qualname}",
                    hint="define it at the top level of its file, and save that before .to(...)",
                )
            ) from None
    return target
