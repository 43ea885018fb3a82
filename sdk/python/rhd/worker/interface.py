"""What callers may do with a function or class."""

from __future__ import annotations

import functools
import inspect
from typing import Any

_MAX_TEXT = 4096
_MAX_MEMBERS = 1000
# Characters that the signatures of all methods may take.
_MAX_SIGNATURES = 32 * 1024

# Special methods that make sense from afar.
_SPECIAL = frozenset(
    [
        "__call__",
        "__iter__",
        "__next__",
        "__len__",
        "__getitem__",
        "__setitem__",
        "__delitem__",
        "__contains__",
        "__aiter__",
        "__anext__",
        "__enter__",
        "__exit__",
        "__aenter__",
        "__aexit__",
    ]
)
_STREAMS = {"__iter__": "generator", "__aiter__": "async_generator"}


def flavor(fn: Any) -> str:
    """Returns how a callable behaves, as far as can be seen without calling it."""
    seen = fn
    while isinstance(seen, functools.partial):
        seen = seen.func
    if not inspect.isroutine(seen) and not inspect.isclass(seen):
        seen = getattr(type(seen), "__call__", seen)  # noqa: B004
    if inspect.iscoroutinefunction(seen):
        return "coroutine"
    if inspect.isasyncgenfunction(seen):
        return "async_generator"
    if inspect.isgeneratorfunction(seen):
        return "generator"
    return "plain"


def _signature(fn: Any) -> str:
    try:
        return str(inspect.signature(fn))[:_MAX_TEXT]
    except Exception:
        return ""


def _doc(obj: Any) -> str:
    try:
        doc = inspect.getdoc(obj) or ""
    except Exception:
        return ""
    if inspect.isclass(obj) and doc == inspect.getdoc(object):
        return ""
    return doc.split("\n\n")[0][:_MAX_TEXT]


def _members(cls: type) -> tuple[dict[str, str], list[str]]:
    members: dict[str, str] = {}
    of_class: list[str] = []
    for name in dir(cls):
        if len(members) >= _MAX_MEMBERS:
            break
        if name.startswith("_") and name not in _SPECIAL:
            continue
        try:
            raw = inspect.getattr_static(cls, name)
        except AttributeError:
            continue
        if isinstance(raw, (classmethod, staticmethod)):
            members[name] = flavor(raw.__func__)
            of_class.append(name)
        elif isinstance(raw, (property, functools.cached_property)):
            members[name] = "property"
        elif name in _STREAMS:
            members[name] = _STREAMS[name]
        elif callable(raw):
            members[name] = flavor(raw)
        elif hasattr(type(raw), "__get__"):
            members[name] = "property"
    return members, of_class


def _signatures(cls: type, members: dict[str, str]) -> dict[str, str]:
    """Returns the signatures of public methods, as a caller sees them: without `self`."""
    found: dict[str, str] = {}
    left = _MAX_SIGNATURES
    for name, kind in members.items():
        if kind == "property" or name.startswith("_"):
            continue
        try:
            raw = inspect.getattr_static(cls, name)
            signature = inspect.signature(getattr(cls, name))
            if inspect.isfunction(raw):
                parameters = list(signature.parameters.values())[1:]
                signature = signature.replace(parameters=parameters)
            text = str(signature)[:_MAX_TEXT]
        except Exception:
            continue
        left -= len(text)
        if left < 0:
            break
        found[name] = text
    return found


def describe(target: Any) -> dict:
    """Returns the interface of a function or class, as it travels."""
    if not inspect.isclass(target):
        return {
            "flavor": flavor(target),
            "signature": _signature(target),
            "doc": _doc(target),
            "members": {},
            "class_members": [],
        }
    members, of_class = _members(target)
    return {
        "flavor": "plain",
        "signature": _signature(target),
        "doc": _doc(target),
        "members": members,
        "class_members": of_class,
        "signatures": _signatures(target, members),
    }
