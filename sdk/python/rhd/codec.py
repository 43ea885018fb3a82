"""How arguments and results become bytes: pickle (with large buffers apart), msgpack, or JSON."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import sys
import threading
from collections.abc import Sequence
from typing import Any

from ._deps import cloudpickle, msgpack
from .frames import Buffer

# Buffers below this size are cheaper inside the pickle than as parts of their own.
_APART = 4096
# Their lengths have to fit into a header.
_MAX_PARTS = 4096
# Out-of-band arrays start at multiples of this.
_ALIGN = 16
# Values with more elements than this are left to cloudpickle without being looked through.
_GLANCE = 64

_LEAVES = frozenset({int, float, str, bytes, bool, type(None), complex, bytearray})
_by_value = threading.Lock()


def _plain(value: Any, budget: int) -> int:
    """Returns what is left of the budget, below zero when there is more than plain builtins."""
    kind = type(value)
    if kind in _LEAVES:
        return budget - 1
    if kind is tuple or kind is list:
        budget -= len(value) + 1
        for item in value:
            if budget < 0:
                break
            if type(item) not in _LEAVES:
                budget = _plain(item, budget)
        return budget
    if kind is dict:
        budget -= len(value) + 1
        for key, item in value.items():
            if budget < 0:
                break
            if type(key) not in _LEAVES:
                return -1
            if type(item) not in _LEAVES:
                budget = _plain(item, budget)
        return budget
    return -1


def _pickle(obj: Any) -> list[Buffer]:
    if _plain(obj, _GLANCE) >= 0:
        return [pickle.dumps(obj, 5)]
    apart: list[Buffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:
            return True
        if raw.nbytes < _APART or len(apart) >= _MAX_PARTS:
            return True
        apart.append(raw)
        return False

    out = io.BytesIO()
    cloudpickle().CloudPickler(out, protocol=5, buffer_callback=keep).dump(obj)
    if apart:
        # Bytes after the end of a pickle are ignored.
        out.write(bytes(-out.tell() % _ALIGN))
    return [out.getbuffer(), *apart]


def _simple(value: Any) -> Any:
    """Returns something plain in place of what msgpack and JSON have no form for."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not plain data")


def dumps(obj: Any, codec: str = "pickle") -> list[Buffer]:
    """Encodes a value; parts after the first are the buffers of arrays in it, not copied."""
    if codec == "pickle":
        return _pickle(obj)
    if codec == "msgpack":
        return [msgpack.packb(obj, default=_simple)]
    if codec == "json":
        return [json.dumps(obj, default=_simple, ensure_ascii=False, allow_nan=False).encode()]
    raise ValueError(f"{codec!r} is no codec: use pickle, msgpack or json")


def _aligned(part: memoryview) -> Buffer:
    """Returns the part itself, or a copy where an array in it would not be aligned."""
    import ctypes

    if part.readonly or not part.nbytes:
        return part
    address = ctypes.addressof(ctypes.c_char.from_buffer(part))
    return part if address % _ALIGN == 0 else bytearray(part)


def loads(parts: Sequence[Buffer], codec: str = "pickle") -> Any:
    """Decodes what `dumps` made; arrays keep pointing into the given buffers."""
    if codec == "pickle":
        if not parts:
            raise EOFError("an empty body is no pickle")
        if len(parts) == 1:
            return pickle.loads(parts[0])
        return pickle.loads(parts[0], buffers=[_aligned(memoryview(p)) for p in parts[1:]])
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if codec == "msgpack":
        return msgpack.unpackb(data, strict_map_key=False)
    if codec == "json":
        return json.loads(bytes(data))
    raise ValueError(f"{codec!r} is no codec: use pickle, msgpack or json")


def dumps_by_value(obj: Any) -> bytes:
    """Pickles a function or class with its code, whether or not its module can be imported."""
    pickler = cloudpickle()
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    if module is None or module.__name__ == "__main__":
        return pickler.dumps(obj, protocol=5)
    with _by_value:
        if module.__name__ in pickler.cloudpickle.list_registry_pickle_by_value():
            return pickler.dumps(obj, protocol=5)
        pickler.register_pickle_by_value(module)
        try:
            return pickler.dumps(obj, protocol=5)
        finally:
            pickler.unregister_pickle_by_value(module)
