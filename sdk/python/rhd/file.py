"""Files of a node's disk: read, written and copied from node to node."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

from . import data, origin
from .blob import MISSING, Blob, Held, Inputs, Progress, _held, _texts
from .cluster import Cluster, spot
from .faults import fault
from .stores import is_url, local, system_of


class File(Blob):
    """A file of a node; made by `rh.file`."""

    kind = "file"

    def __init__(self, path: str, name: str | None, node: str | None) -> None:
        super().__init__(None, name, node)
        self._path = path if node else local(path)

    @property
    def path(self) -> str:
        """Where it is on its node."""
        return self._path

    @property
    def hash(self) -> str:
        """BLAKE3 of its bytes, as they are now."""
        self._held = None
        return super().hash

    @property
    def size(self) -> int:
        """Bytes of it now."""
        found = data.file_size(self._path, self._node)
        if found is None:
            raise fault("not_found", f"{self!r} is not there")
        return found

    def fetch(self, progress: Progress | None = None) -> bytes:
        """Its bytes, as they are now."""
        self._held = None
        disk = self._disk()
        if disk is None:
            return bytes(super().fetch(progress))
        with disk:
            return disk.read()

    def write(self, value: Any, inputs: Inputs | None = None) -> File:
        """Puts these bytes in its place: all of them, or, where that fails, what was there."""
        if isinstance(value, str):
            raise TypeError("a file takes bytes: encode the text, or open it with 'w'")
        content = data.put([value], None, None, None)
        self._give(_held(content), self._node, self._path, inputs=inputs)
        return self

    def to(  # type: ignore[override]
        self,
        system: str | Cluster,
        path: str | None = None,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> File:
        """Copies it, as it is now, to a node: to this path there, or the same. What chunks the node
        has are not sent again."""
        self._held = None
        node, at = spot(system, path)
        if at is None and is_url(self._path):
            hint = "name one: file.to(system, '/data/name')"
            raise fault("bad_request", f"{self!r} has a URL, not a path on a disk", hint=hint)
        held = self._known()
        copy = File(at or self._path, name or self._name, node)
        copy._give(held, node, copy._path, progress)
        return copy

    def save(self, name: str | None = None, inputs: Inputs | None = None) -> File:
        """Keeps its content, as it is now, under a name on its node.

        The record names the call that this is in and what that has read by now, or these inputs.
        """
        name = name or self._name
        if name is None:
            raise TypeError("give it a name: file.save('name')")
        made = origin.current(_texts(inputs))
        self._learn(data.take_file(self._path, name, self._node, made), made)
        return self

    def rollback(self, version: int) -> File:
        """Puts the content of an earlier version in its place, also on disk, as a new version.

        Raises `Conflict` where that would lose content that was never saved.
        """
        kept = {one.hash for one in self.history()}
        if self.exists_in_system() and self.hash not in kept:
            raise fault(
                "conflict",
                f"{self!r} has changed since it was saved",
                hint="save() keeps it as a version",
            )
        super().rollback(version)
        held = self._known()
        data.give_file(held.content, self._path, [held.node_id], self._node)
        return self

    def rm(self) -> None:
        """Removes the file, and its name, where it has one."""
        data.remove_file(self._path, self._node)
        self._held = None
        super().rm()

    def open(self, mode: str = "rb", **text: Any) -> Any:
        """A file to read from, as it is now, which fetches only what is read; or one to write to,
        which is put in place when it is closed."""
        self._held = None
        disk = self._disk() if mode in ("r", "rb", "rt") else None
        if disk is None:
            return super().open(mode, **text)
        return disk if "b" in mode else io.TextIOWrapper(disk, **text)

    def exists_in_system(self) -> bool:
        """Whether it is there."""
        return data.file_size(self._path, self._node) is not None

    def _disk(self) -> io.BufferedReader | None:
        """The file itself, where this machine has it and no record would name its hash: the way
        through the store costs milliseconds and a copy."""
        if self._node is not None or is_url(self._path) or origin.noted():
            return None
        if not os.path.isfile(self._path):
            # What is not there, or no file, the daemon has the words for.
            return None
        with contextlib.suppress(OSError):
            return open(self._path, "rb")
        return None

    def _known(self) -> Held:
        if self._held is None:
            self._held = _held(data.take_file(self._path, None, self._node))
        return self._held

    def _give(
        self,
        held: Held,
        node: str | None,
        path: str,
        progress: Progress | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        data.give_file(held.content, path, [held.node_id], node, progress)
        self._held = None
        if self._name is not None:
            self.save(inputs=inputs)

    def __repr__(self) -> str:
        system = self._node or system_of(self._path) or "here"
        return f"rh.file({self._path!r}, system={system!r})"


def file(
    data: Any = MISSING,
    name: str | None = None,
    path: str | None = None,
    system: str | Cluster | None = None,
    inputs: Inputs | None = None,
) -> File:
    """The file at `path` of a node's disk (this one's by default) or of an object store, with these
    bytes written to it if there are any."""
    if path is None:
        raise fault(
            "bad_request", "a file has a path", hint="rh.file(path='/data/x', system='box')"
        )
    node, path = spot(system, path)
    assert path is not None
    if node is not None and not path.startswith("/"):
        raise fault("bad_request", f"{path!r} is no absolute path", hint="name it from the root on")
    made = File(path, name, node)
    if data is not MISSING:
        made.write(data, inputs)
    elif name is not None:
        made.save(inputs=inputs)
    return made
