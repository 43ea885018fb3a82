"""What the daemon is asked about data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import config
from .daemon import daemon, decode
from .frames import Buffer
from .origin import Origin
from .segments import size as _size
from .stores import local

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


def _made_by(origin: Origin | None) -> dict[str, Any]:
    return {"origin": origin} if origin else {}


def put(
    parts: Sequence[Buffer],
    codec: str | None,
    name: str | None,
    node: str | None,
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Stores content."""
    lengths = [_size(part) for part in parts] if codec else []
    more = _made_by(origin)
    info: dict[str, Any] = _ask(node, "put", parts, name=name, codec=codec, parts=lengths, **more)
    return info


def take_file(
    path: str, name: str | None, node: str | None, origin: Origin | None = None
) -> dict[str, Any]:
    """Stores a file of a node's disk; of this one's where none is named."""
    full = path if node else local(path)
    info: dict[str, Any] = _ask(node, "import", path=full, name=name, **_made_by(origin))
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
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Brings a blob to a node."""
    more = {"from": holders, **_made_by(origin)}
    info: dict[str, Any] = _ask(node, "fetch", told=told, content=content, name=name, **more)
    return info


def give_file(
    content: dict[str, Any], path: str, holders: list[str], node: str | None, told: Told = None
) -> dict[str, Any]:
    """Writes a blob to a file of a node's disk."""
    full = path if node else local(path)
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


def names(below: str | None) -> list[dict[str, Any]]:
    """The names of data on all nodes that can be reached."""
    listed: list[dict[str, Any]] = _ask(None, "names", below=below, far=True)
    return listed


def rename(name: str, to: str, node: str | None) -> dict[str, Any]:
    """Gives a name's versions another name."""
    info: dict[str, Any] = _ask(node, "rename", name=name, to=to)
    return info


def history(name: str, limit: int | None, node: str | None) -> list[dict[str, Any]]:
    """The versions of a name, the newest first."""
    versions: list[dict[str, Any]] = _ask(node, "history", name=name, limit=limit)
    return versions


def roll_back(name: str, version: int, node: str | None, path: str | None = None) -> dict[str, Any]:
    """Puts an earlier version on top of a name; that of a folder also at a path of the node."""
    more = {"path": path} if path else {}
    info: dict[str, Any] = _ask(node, "rollback", name=name, version=version, **more)
    return info


def save_folder(
    path: str, name: str, table: bool, node: str | None, origin: Origin | None, told: Told = None
) -> dict[str, Any]:
    """Makes a folder of a node's disk the newest version of a name."""
    more = {"table": table, **_made_by(origin)}
    said: dict[str, Any] = _ask(node, "save_folder", told=told, path=path, name=name, **more)
    return said


def lineage(blob: str, version: int | None, depth: int, node: str | None) -> dict[str, Any]:
    """What something was made from."""
    found: dict[str, Any] = _ask(node, "lineage", blob=blob, version=version, depth=depth)
    return found


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
