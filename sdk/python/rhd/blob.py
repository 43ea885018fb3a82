"""Blobs: bytes or objects by hash, on any node, moved from node to node as verified chunks."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from . import codec, data, frames, origin
from .cluster import Cluster, node_of, spot
from .faults import fault
from .saved import Saved
from .segments import size as _size
from .stores import SYSTEMS

Progress = Callable[[dict[str, Any]], None]
"""Takes `done` and `total` in bytes, `rate` in bytes a second, and `left_ms` where it can tell."""

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "…"})()
"""Stands for data that was not given."""


Inputs = Iterable[Any]
"""Blobs, files, saved folders and tables, names or hashes."""


@dataclasses.dataclass(frozen=True)
class Held:
    """What a blob holds, and a node that has it."""

    content: dict[str, Any]
    node: str
    node_id: str


B = TypeVar("B", bound="Blob")


class Blob(Saved):
    """Content on a node; made by `rh.blob`."""

    kind = "blob"
    # What made its content, as far as this process or its name says.
    _origin: origin.Origin | None = None

    def __init__(self, held: Held | None, name: str | None, node: str | None) -> None:
        self._held = held
        self._name = name
        # The node it was put on; none: this one.
        self._node = node

    @property
    def name(self) -> str | None:
        """The name it has on its node; without one it is kept for a day after its last use."""
        return self._name

    @property
    def hash(self) -> str:
        """BLAKE3 of its bytes, as text."""
        return str(self._content()["hash"])

    @property
    def size(self) -> int:
        """Bytes of it."""
        return int(self._content()["size"])

    @property
    def system(self) -> str:
        """The name of its node."""
        return self._known().node

    def fetch(self, progress: Progress | None = None) -> Any:
        """The bytes, or the object. What this node lacks is fetched, and kept for a while."""
        content = self._content()
        body = data.read(content, 0, content["size"], self._holders(), progress)
        origin.read(content["hash"], self._name)
        if content.get("codec") is None:
            return bytes(body)
        return codec.loads(
            frames.split(body, content.get("parts") or [_size(body)]), content["codec"]
        )

    def write(self, value: Any, inputs: Inputs | None = None) -> Blob:
        """Puts other content in its place: under its name, that is the newest version.

        Its record names the call that this is in and what that has read by now, or these inputs.
        """
        made = origin.current(_texts(inputs))
        self._learn(_put(value, self._name, self._node, made), made)
        return self

    def to(
        self,
        system: str | Cluster,
        name: str | None = None,
        progress: Progress | None = None,
        path: str | None = None,
    ) -> Blob:
        """Has it on a node, too, under the same name or this one; what is there is not sent again.
        With a path it is written there as a file: on a node's disk, or in an object store.

        It goes there from whoever has it, not by way of this process.
        """
        if path is not None:
            node, path = spot(system, path)
            data.give_file(self._content(), str(path), self._holders(), node, progress)
            return self
        node, name = _node(system), name or self._name
        info = data.fetch(self._content(), name, self._holders(), node, progress, self._origin)
        return type(self)(None, None, node)._learn(info, self._origin)

    def save(self, name: str | None = None, inputs: Inputs | None = None) -> Blob:
        """Gives it a name on its node, where it stays until that is taken away.

        Its record names the call that made it and what that had read by then, or these inputs.
        """
        name = name or self._name
        if name is None:
            raise TypeError("give it a name: blob.save('name')")
        made = self._origin if inputs is None else None
        made = made or origin.current(_texts(inputs))
        info = data.fetch(self._content(), name, self._holders(), self._node, None, made)
        return self._learn(info, made)

    def rollback(self, version: int) -> Blob:
        """Puts the content of an earlier version in place, as a new version."""
        info = data.roll_back(self._named("rolled back"), version, self._node)
        return self._learn(info)

    def rm(self) -> None:
        """Takes its name away on its node; the content goes when nothing else needs it."""
        self.delete()

    def open(self, mode: str = "rb", **text: Any) -> Any:
        """A file to read from, which fetches only what is read, or one to write to, whose content
        takes the place of the blob's when it is closed."""
        plain = mode.replace("b", "").replace("t", "")
        if plain == "r":
            content = self._content()
            raw: Any = io.BufferedReader(Reader(content, self._holders()), data.AHEAD)
            origin.read(content["hash"], self._name)
        elif plain == "w":
            raw = Writer(self.write)
        else:
            raise ValueError(f"mode {mode!r}: use r, rb, w or wb")
        return raw if "b" in mode else io.TextIOWrapper(raw, **text)

    def exists_in_system(self) -> bool:
        """Whether its node has all of it now."""
        known = self._known()
        sizes = data.have([known.content["hash"]], self._node)
        return sizes == [known.content["size"]]

    def _learn(self: B, info: dict[str, Any], made: origin.Origin | None = None) -> B:
        super()._learn(info)
        self._held, self._origin = _held(info), info.get("origin") or made
        return self

    def _known(self) -> Held:
        if self._held is None:
            raise fault(
                "not_found", f"{self!r} has no content yet", hint="write(data) gives it some"
            )
        return self._held

    def _content(self) -> dict[str, Any]:
        return self._known().content

    def _holders(self) -> list[str]:
        return [self._known().node_id]

    def __repr__(self) -> str:
        held = self._held
        what = repr(self._name) if self._name else (held.content["hash"][:10] if held else "empty")
        return f"rh.{self.kind}({what}, system={held.node if held else self._node!r})"


class Reader(io.RawIOBase):
    """A blob as a file to read from."""

    def __init__(self, content: dict[str, Any], holders: list[str]) -> None:
        self._of, self._from, self._at = content, holders, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: int(self._of["size"])}[whence]
        if start + offset < 0:
            raise ValueError("a position before the start")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readall(self) -> bytes:
        # The default asks for 8 KiB at a time.
        rest = data.read(self._of, self._at, int(self._of["size"]) - self._at, self._from)
        self._at += len(rest)
        return bytes(rest)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        got = data.read(self._of, self._at, len(view), self._from)
        view[: len(got)] = got
        self._at += len(got)
        return len(got)


class Writer(io.BytesIO):
    """What becomes a blob's content when it is closed."""

    def __init__(self, write: Callable[[Any], Any]) -> None:
        super().__init__()
        self._write = write

    def close(self) -> None:
        if not self.closed:
            self._write(self.getvalue())
        super().close()

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is not None:
            # What was cut short by an error is not saved.
            super().close()
        super().__exit__(kind, *rest)


def _put(
    value: Any, name: str | None, node: str | None, made: origin.Origin | None
) -> dict[str, Any]:
    """Stores bytes as they are, anything else as a pickle."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return data.put([value], None, name, node, made)
    return data.put(codec.dumps(value), "pickle", name, node, made)


def blob(
    data: Any = MISSING,
    name: str | None = None,
    path: str | None = None,
    system: str | Cluster | None = None,
    inputs: Inputs | None = None,
) -> Blob:
    """A blob with this data (bytes, or any object) or the content of the file at `path`, on a node
    (this one by default); without either, the one that has the name, wherever it is.

    The record of a name says which call made its content, and what that had read by then; `inputs`
    says it where that is not so: blobs, files, names, or hashes.
    """
    node = None if path is not None else _node(system)
    if data is not MISSING:
        if path is not None:
            raise TypeError("give data or path, not both")
        made = origin.current(_texts(inputs))
        return Blob(None, None, node)._learn(_put(data, name, node, made), made)
    if path is not None:
        made = origin.current(_texts(inputs))
        node, path = spot(system, path)
        return Blob(None, None, node)._learn(_imported(str(path), name, node, made), made)
    if name is None:
        raise TypeError("give data, path or name")
    return load(name, node)


def load(name: str, node: str | None = None) -> Blob:
    """The blob of this name, or with this hash."""
    return found(data.find(name, node), node)


def found(info: dict[str, Any], node: str | None) -> Blob:
    """The blob that was looked for."""
    if tree := info.get("tree"):
        kind = "table" if tree.get("table") else "folder"
        hint = f"rh.load({info['name']!r})"
        raise fault("bad_request", f"{info['name']} is a {kind}", hint=hint)
    return Blob(None, None, node or info["node"])._learn(info)


def _imported(
    path: str, name: str | None, node: str | None, made: origin.Origin | None
) -> dict[str, Any]:
    return data.take_file(path, name, node, made)


def _texts(inputs: Inputs | None) -> list[str] | None:
    """What records say of inputs; names stand for what they mean now."""
    if inputs is None:
        return None
    if isinstance(inputs, (str, Saved)):
        raise TypeError("inputs is a list of blobs, files, folders, tables, names or hashes")
    return [_text(one) for one in inputs]


def _text(one: Any) -> str:
    if isinstance(one, str):
        info = data.find(one, None)
        return origin.named(info["content"]["hash"], info.get("name"))
    return origin.named(one.hash, one.name)


def _held(info: dict[str, Any]) -> Held:
    return Held(info["content"], info["node"], info["node_id"])


def _node(system: str | Cluster | None) -> str | None:
    if isinstance(system, str) and system in SYSTEMS:
        hint = f"name it: path='bucket/name' means {system}://bucket/name"
        raise fault("bad_request", f"a blob in {system} has a path", hint=hint)
    return node_of(None if system == "file" else system)
