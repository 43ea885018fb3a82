"""The object store of an env: values in the memory of its first worker, by key.

What code of this process puts in is the very object that its other code gets. What callers send
stays as they encoded it until code of this process asks for it: they may store what only the
modules of the env can read.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Sequence
from typing import Any

from .. import codec
from ..errors import Conflict, NotFound, RhdError
from .call import Refused

MAX_KEY = 200
"""The longest key, in characters."""

_lock = threading.Lock()
_objects: dict[str, Held] = {}
_env: str | None = None


class Held:
    """An object, or what a caller encoded it as."""

    __slots__ = ("_lock", "_value", "packed")

    def __init__(self, value: Any = None, packed: tuple[str, list[Any]] | None = None) -> None:
        self._lock = threading.Lock()
        self._value = value
        self.packed = packed

    def value(self) -> Any:
        """The object, the same one every time."""
        with self._lock:
            if self.packed is not None:
                encoding, parts = self.packed
                self._value = codec.loads(parts, encoding)
                self.packed = None
            return self._value


def serve(env: str | None) -> None:
    """Makes this process the home of the env's objects."""
    global _env
    _env = env
    os.register_at_fork(after_in_child=_leave)


def _leave() -> None:
    # A forked child has copies, which nobody else would ever see changed.
    global _env, _lock
    _env, _lock = None, threading.Lock()
    _objects.clear()


def is_home(env: str) -> bool:
    """Whether the objects of this env are in this process."""
    return _env == env


def check(key: Any) -> str:
    """The key, if it is one."""
    if not isinstance(key, str):
        raise TypeError(f"a key is a string, not {key!r}")
    if not 0 < len(key) <= MAX_KEY:
        raise ValueError(f"a key has 1 to {MAX_KEY} characters")
    return key


def put(key: str, held: Held) -> None:
    """Stores an object in place of what had the key."""
    with _lock:
        _objects[key] = held


def find(key: str) -> Held | None:
    """What has this key."""
    with _lock:
        return _objects.get(key)


class Objects:
    """The same for callers, as a class whose methods run in the env's first worker."""

    @staticmethod
    def put(key: str, value: Any) -> None:
        """Stores a value in place of what had the key."""
        put(_checked(key), Held(value))

    @staticmethod
    def get(key: str) -> Any:
        """The value of a key."""
        held = find(key)
        if held is None:
            hint = "what an env holds ends with its worker; `keys` lists what is there"
            raise Refused(NotFound(f"no object {key!r} in this env", hint=hint))
        return held.value()

    @staticmethod
    def put_packed(key: str, encoding: str, parts: Sequence[Any]) -> None:
        """Stores what the caller encoded."""
        put(_checked(key), Held(packed=(encoding, list(parts))))

    @staticmethod
    def fetch(key: str) -> tuple[str, Any] | None:
        """An encoding and its parts, or no encoding and the value; nothing for an unknown key."""
        held = find(key)
        if held is None:
            return None
        packed = held.packed
        if packed is None:
            return "", held.value()
        return packed[0], [pickle.PickleBuffer(part) for part in packed[1]]

    @staticmethod
    def keys() -> list[str]:
        """All keys, in the order in which they were first stored."""
        with _lock:
            return list(_objects)

    @staticmethod
    def rename(old: str, new: str) -> None:
        """Gives an object another key, which must be free."""
        _checked(new)
        with _lock:
            if old not in _objects:
                raise Refused(NotFound(f"no object {old!r} in this env"))
            if new == old:
                return
            if new in _objects:
                hint = "delete that one first; `put` replaces what has the key, `rename` does not"
                raise Refused(Conflict(f"there is an object {new!r} already", hint=hint))
            _objects[new] = _objects.pop(old)

    @staticmethod
    def delete(keys: Sequence[str]) -> None:
        """Drops these objects, or none when one of the keys is unknown."""
        with _lock:
            missing = [repr(key) for key in keys if key not in _objects]
            if missing:
                hint = "nothing was deleted; `keys` lists what is there"
                raise Refused(
                    NotFound(f"no object {', '.join(missing[:20])} in this env", hint=hint)
                )
            for key in keys:
                _objects.pop(key, None)

    @staticmethod
    def clear() -> None:
        """Drops all objects."""
        with _lock:
            _objects.clear()


def _checked(key: Any) -> str:
    try:
        return check(key)
    except (TypeError, ValueError) as e:
        raise Refused(RhdError(str(e), kind="bad_request")) from None
