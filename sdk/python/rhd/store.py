"""Objects in the memory of an env: by a call to its first worker, or directly in that."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable
from typing import Any

from . import codec
from .builtin import Builtin, builtin
from .faults import fault

REQUIRED: Any = type("Required", (), {"__repr__": lambda _: "…"})()
"""Stands for a default that was not given."""


def _objects(node: str | None, env: Any) -> Any:
    """What answers: the class in this process where it is the home of the env, else its proxy."""
    inside = sys.modules.get("rhd.worker.objects")
    if node is None and isinstance(env, str) and inside is not None and inside.is_home(env):
        return inside
    return builtin("objects", node, env)


def _ask(node: str | None, env: Any, method: str, *args: Any) -> Any:
    at = _objects(node, env)
    if isinstance(at, Builtin):
        return at.call(method, *args)
    try:
        return getattr(at.Objects, method)(*args)
    except at.Refused as refused:
        raise refused.error from None


def put(node: str | None, key: str, obj: Any, env: Any) -> None:
    """Stores an object."""
    _check(key)
    at = _objects(node, env)
    if isinstance(at, Builtin):
        parts = [pickle.PickleBuffer(part) for part in codec.dumps(obj)]
        at.call("put_packed", key, "pickle", parts)
    else:
        at.put(key, at.Held(obj))


def get(node: str | None, key: str, default: Any, env: Any) -> Any:
    """The object of a key."""
    _check(key)
    at = _objects(node, env)
    if isinstance(at, Builtin):
        found = at.call("fetch", key)
        if found is not None:
            encoding, value = found
            return codec.loads(value, encoding) if encoding else value
    else:
        held = at.find(key)
        if held is not None:
            return held.value()
    if default is not REQUIRED:
        return default
    raise fault(
        "not_found",
        f"no object {key!r} in this env",
        hint="keys() lists what is there; what an env holds ends with its worker",
    )


def keys(node: str | None, env: Any) -> list[str]:
    """All keys."""
    return list(_ask(node, env, "keys"))


def rename(node: str | None, old: str, new: str, env: Any) -> None:
    """Gives an object another key."""
    _check(old)
    _check(new)
    _ask(node, env, "rename", old, new)


def delete(node: str | None, given: str | Iterable[str], env: Any) -> None:
    """Drops objects."""
    wanted = [given] if isinstance(given, str) else list(given)
    for key in wanted:
        _check(key)
    _ask(node, env, "delete", wanted)


def clear(node: str | None, env: Any) -> None:
    """Drops all objects."""
    _ask(node, env, "clear")


def _check(key: Any) -> None:
    if not isinstance(key, str):
        raise TypeError(f"a key is a string, not {key!r}")
    if not 0 < len(key) <= 200:
        raise ValueError("a key has 1 to 200 characters")
