"""What this process hosts, and what a call means by its service, verb and method."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from ..errors import Conflict, NotFound, RhdError
from .call import Call, Refused


@dataclasses.dataclass(frozen=True)
class Service:
    """A function, class or instance under its name."""

    kind: str
    target: Any
    version: str = ""
    # The answer to the load that made it.
    loaded: dict | None = None
    # Projects that its code comes from.
    projects: frozenset[str] = frozenset()


class Targets:
    """The services of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._services: dict[str, Service] = {}

    def get(self, name: str) -> Service | None:
        return self._services.get(name)

    def put(self, name: str, service: Service) -> None:
        """Sets or replaces a function or class."""
        with self._lock:
            old = self._services.get(name)
            if old is not None and old.kind == "instance":
                raise Refused(
                    Conflict(
                        f"{name} is the name of an instance in this worker",
                        hint="deploy under another name, or delete the instance first",
                    )
                )
            self._services[name] = service

    def projects(self) -> set[str]:
        """Returns the projects that some service needs."""
        with self._lock:
            return {p for service in self._services.values() for p in service.projects}

    def bind(self, call: Call) -> Callable:
        """Returns what to call with the arguments of a call."""
        service = self._services.get(call.service)
        if service is None or service.kind == "reserved":
            raise Refused(
                NotFound(
                    f"{call.service} is not in this worker",
                    hint="send it again with .to(...): the worker may have been restarted",
                )
            )
        target, method, verb = service.target, call.method, call.verb
        if verb == "call":
            if method is None:
                return self._callable(service, call.service)
            return _method(service, call.service, method)
        if verb == "get":
            if method is None:
                return lambda: target
            return functools.partial(getattr, target, method)
        if verb == "set":
            return functools.partial(setattr, target, _required(method, "method"))
        if verb == "drop":
            return functools.partial(self._drop, call.service)
        if verb == "new":
            if service.kind != "class":
                raise Refused(_bad(f"{call.service} is no class"))
            return functools.partial(
                self._new, call.service, service, _required(call.instance, "instance")
            )
        raise Refused(_bad(f"verb {verb!r} is not known to this worker"))

    @staticmethod
    def _callable(service: Service, name: str) -> Callable:
        if service.kind == "class":
            raise Refused(
                _bad(
                    f"{name} is a class",
                    "make an instance of it: Remote(...), and call its methods",
                )
            )
        if not callable(service.target):
            raise Refused(
                _bad(
                    f"{name} can't be called", "call one of its methods, or give its class __call__"
                )
            )
        return service.target

    def _new(
        self, name: str, service: Service, instance: str, /, *args: Any, **kwargs: Any
    ) -> None:
        with self._lock:
            if instance in self._services:
                raise Refused(
                    Conflict(
                        f"{instance} exists already",
                        hint="use the one that exists: .get_or_to(...), or choose another name",
                    )
                )
            # Two calls must not both construct it.
            self._services[instance] = Service("reserved", None)
        try:
            built = service.target(*args, **kwargs)
        except BaseException:
            with self._lock:
                self._services.pop(instance, None)
            raise
        with self._lock:
            self._services[instance] = Service(
                "instance", built, service.version, projects=service.projects
            )

    def _drop(self, name: str) -> None:
        with self._lock:
            self._services.pop(name, None)


def _bad(message: str, hint: str = "") -> RhdError:
    return RhdError(message, kind="bad_request", hint=hint)


def _required(value: str | None, field: str) -> str:
    if not value:
        raise Refused(_bad(f"the call names no {field}"))
    return value


def _method(service: Service, name: str, method: str) -> Callable:
    target = service.target
    if service.kind == "instance":
        # Built in ones find what the methods of the same name don't, such as old-style iteration.
        if method == "__iter__":
            return lambda: iter(target)
        if method == "__len__":
            return lambda: len(target)
        if method == "__getitem__":
            return lambda key: target[key]
    elif service.kind == "class" and not _is_of_class(target, method):
        raise Refused(
            _bad(
                f"{name}.{method} needs an instance",
                "make an instance of the class first: Remote(...), and call its methods",
            )
            if hasattr(target, method)
            else _no_method(service, name, method)
        )
    try:
        return getattr(target, method)
    except AttributeError:
        if inspect.getattr_static(target, method, None) is not None:
            raise  # a property's own code failed
        raise Refused(_no_method(service, name, method)) from None


def _is_of_class(cls: Any, method: str) -> bool:
    raw = inspect.getattr_static(cls, method, None)
    if raw is None:
        return hasattr(type(cls), method)
    return isinstance(raw, (classmethod, staticmethod, type))


def _no_method(service: Service, name: str, method: str) -> NotFound:
    public = [m for m in dir(service.target) if not m.startswith("_")]
    close = difflib.get_close_matches(method, public, 1)
    hint = f"did you mean {close[0]}?" if close else f"it has: {', '.join(public[:20])}"
    return NotFound(f"{name} has no method {method!r}", hint=hint)
