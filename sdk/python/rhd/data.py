"""What the daemon is asked about data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from . import config
from .daemon import daemon, decode
from .frames import Buffer
from .segments import size as _size

AHEAD = 256 * 1024
"""Bytes that a file reads at once, at least."""

Told = Callable[[dict[str, Any]], None] | None


def _ask(
    node: str | None, do: str, body: Sequence[Buffer] = (), told: Told = None, **fields: Any
) -> Any:
    d = daemon()
    header = {"op": "data", "v": config.VERSION, "node": node, "ask": {"do": do, **fields}}
    conn = d.open(header, body)
    conn.told = told
    return d.finish(conn)


def put(
    parts: Sequence[Buffer], codec: str | None, name: str | None, node: str | None
) -> dict[str, Any]:
    """Stores content."""
    lengths = [_size(part) for part in parts] if codec else []
    info: dict[str, Any] = _ask(node, "put", parts, name=name, codec=codec, parts=lengths)
    return info


def take_file(path: str, name: str | None, node: str | None) -> dict[str, Any]:
    """Stores a file of a node's disk; of this one's where none is named."""
    full = path if node else os.path.abspath(os.path.expanduser(path))
    info: dict[str, Any] = _ask(node, "import", path=full, name=name)
    return info


def find(blob: str, node: str | None) -> dict[str, Any]:
    """A blob by name or hash: on the node, else on any."""
    info: dict[str, Any] = _ask(node, "find", blob=blob, far=node is None)
    return info


def have(hashes: list[str], node: str | None) -> list[int | None]:
    """The sizes of those that the node has."""
    sizes: list[int | None] = _ask(node, "have", hashes=hashes)
    return sizes


def fetch(
    content: dict[str, Any],
    name: str | None,
    holders: list[str],
    node: str | None,
    told: Told = None,
) -> dict[str, Any]:
    """Brings a blob to a node."""
    info: dict[str, Any] = _ask(
        node, "fetch", told=told, content=content, name=name, **{"from": holders}
    )
    return info


def give_file(
    content: dict[str, Any], path: str, holders: list[str], node: str | None, told: Told = None
) -> dict[str, Any]:
    """Writes a blob to a file of a node's disk."""
    full = path if node else os.path.abspath(os.path.expanduser(path))
    info: dict[str, Any] = _ask(
        node, "export", told=told, content=content, path=full, **{"from": holders}
    )
    return info


def file_size(path: str, node: str | None) -> int | None:
    """Bytes of a file of a node's disk; none where it is not there."""
    size: int | None = _ask(node, "stat_file", path=path)
    return size


def remove_file(path: str, node: str | None) -> None:
    """Removes a file of a node's disk."""
    _ask(node, "remove_file", path=path)


def remove(name: str, node: str | None) -> None:
    """Takes a name away."""
    _ask(node, "remove", name=name)


def read(
    content: dict[str, Any], at: int, length: int, holders: list[str], told: Told = None
) -> bytearray:
    """Bytes of a blob, by way of the daemon here."""
    left = max(0, min(length, int(content["size"]) - at))
    if not left:
        return bytearray()
    d = daemon()
    ask = {"do": "read", "content": content, "at": at, "len": left, "from": holders}
    conn = d.open({"op": "data", "v": config.VERSION, "node": None, "ask": ask}, ())
    conn.told = told
    out, filled = bytearray(left), 0
    try:
        while True:
            reply, body = conn.next()
            if reply["t"] == "done":
                break
            out[filled : filled + len(body)] = body
            filled += len(body)
    finally:
        d.give(conn)
    decode(reply, body)
    if filled != left:
        raise EOFError(f"{filled} of {left} bytes came")
    return out
