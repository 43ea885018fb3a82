"""Folders of nodes: brought to any other node, and kept alike."""

from __future__ import annotations

import dataclasses
import os
import posixpath
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import config, data
from .blob import Inputs, Progress, _texts
from .cluster import Cluster, here, spot
from .daemon import daemon, decode
from .errors import RhdError
from .faults import fault
from .file import File
from .saved import SavedTree
from .stores import local, system_of

Place = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Synced:
    """What became of a folder that was brought up to date."""

    node: str
    """The node that has it."""
    path: str
    """Its absolute path there."""
    entries: int
    """Files, links and empty folders of the other folder."""
    bytes: int
    """Bytes of its files."""
    written: int
    """Entries that were written."""
    removed: int
    """Entries that were removed."""
    moved: int
    """Bytes that came from the other node."""
    kept: list[str]
    """What was changed or removed here only, and stays so."""
    conflicts: list[str]
    """New names of what was changed on both sides, as it was here."""
    skipped: dict[str, str]
    """What did not come, or needs a look, and why."""


class Folder(SavedTree):
    """A folder of a node; made by `rh.folder`."""

    kind = "folder"
    # Whether its node is this one, once that was asked.
    _is_here: bool | None = None

    def __init__(self, path: str, name: str | None, node: str | None) -> None:
        self._path = path if node else local(path)
        self._name, self._node = name, node
        self._origin: Folder | None = None
        self._copies: list[Folder] = []
        self.skipped = {}
        self.last: Synced | None = None
        """What became of it when it was last brought up to date."""

    @property
    def path(self) -> str:
        """Where it is on its node."""
        return self._path

    @property
    def system(self) -> str:
        """The name of its node, or the object store that it is in."""
        return self._node or system_of(self._path) or here.name

    def to(
        self,
        system: str | Cluster,
        path: str | None = None,
        progress: Progress | None = None,
    ) -> Folder:
        """Has a copy of it on a node or in an object store, or brings that up to date: at this path
        there, or, on a node, at a place of its own, the same each time.

        It goes there from its own node, not by way of this process. What is there is not sent
        again; what was changed there, too, is set aside under another name; what is only there
        stays. Where it was saved and is gone since, its newest version is put back first.
        """
        self._put_back()
        node, path = spot(system, path)
        if path is not None and node is None:
            path = local(path)
        done = _synced(_ask("copy", progress, **{"from": self._place()}, node=node, to=path))
        copy = Folder(done.path, self._name, node)
        copy._origin, copy.last = self, done
        known = [one for one in self._copies if one._place() != copy._place()]
        self._copies = [*known, copy]
        return copy

    def sync(self, watch: bool = False, progress: Progress | None = None) -> Any:
        """Brings what changed in it or in its copies to the others; a copy is brought together with
        what it is a copy of. What was changed on both sides is set aside under another name.

        With `watch`, it goes on each time that something changes, until `.stop()` of what is
        returned, which is also a context manager; else the results are, one for each folder.
        """
        pairs = [(self._origin, self)] if self._origin else [(self, c) for c in self._copies]
        if not pairs:
            raise fault(
                "bad_request", f"{self!r} has no copy", hint="make one: folder.to('a node')"
            )
        if watch:
            return Watch([(one._place(), other._place()) for one, other in pairs])
        done = []
        for one, other in pairs:
            sides = {"one": one._place(), "other": other._place(), "watch": False}
            there, back = map(_synced, _ask("sync", progress, **sides))
            other.last, one.last = there, back
            done += [there, back]
        return done

    def save(
        self,
        name: str | None = None,
        inputs: Inputs | None = None,
        progress: Progress | None = None,
    ) -> Folder:
        """Keeps its files, as they are now, as the newest version of a name on its node; what is
        stored there already is not stored again. What an ignore file names is no part of it.

        The record names the call that this is in and what that has read by now, or these inputs.
        """
        return self._save(name, _texts(inputs), progress)

    def ls(self, full_paths: bool = False) -> list[str]:
        """The names of what is in it, sorted."""
        listed = _ask("list", node=self._node, path=self._path)
        names = [str(one["name"]) for one in listed]
        return [self._at(name) for name in names] if full_paths else names

    def get(self, name: str) -> bytes:
        """The bytes of a file in it."""
        return self._file(name).fetch()

    def put(self, contents: Mapping[str, Any]) -> Folder:
        """Writes files by their paths in it: bytes, or text as UTF-8. None is seen in part."""
        for name, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            file = self._file(name)
            above = posixpath.dirname(file.path)
            _ask("make", node=self._node, path=above)
            file.write(data)
        return self

    def open(self, name: str, mode: str = "rb", **text: Any) -> Any:
        """A file in it, opened to read or write, as `File.open` does."""
        return self._file(name).open(mode, **text)

    def mkdir(self) -> Folder:
        """Makes it, with those above it."""
        self._path = str(_ask("make", node=self._node, path=self._path))
        return self

    def mv(self, path: str) -> Folder:
        """Moves or renames it on its node; nothing may be there."""
        path = path if self._node else local(path)
        self._path = str(_ask("move", node=self._node, path=self._path, to=path))
        return self

    def rm(self, contents: str | Iterable[str] | None = None) -> None:
        """Removes paths in it, or all of it and itself; versions that were saved stay."""
        names = [contents] if isinstance(contents, str) else contents and list(contents)
        _ask("remove", node=self._node, path=self._path, contents=names)

    def exists_in_system(self) -> bool:
        """Whether it is there."""
        return bool(_ask("exists", node=self._node, path=self._path))

    def _file(self, name: str) -> File:
        if self._is_here is None:
            self._is_here = self._node in (None, here.name)
        return File(self._at(name), None, None if self._is_here else self._node)

    def _at(self, name: str) -> str:
        parts = name.split("/")
        if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise fault("bad_request", f"{name!r} is no path in {self!r}")
        return posixpath.join(self._path, name)

    def _place(self) -> Place:
        return {"node": self._node, "path": self._path}

    def __getstate__(self) -> dict[str, Any]:
        # Elsewhere, this node has to be called by its name.
        node = None if system_of(self._path) else self.system
        return {**self.__dict__, "_node": node, "_copies": [], "_origin": None, "_is_here": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        system = self._node or system_of(self._path) or "here"
        return f"rh.folder({self._path!r}, system={system!r})"


class Watch:
    """Folders that are kept alike until it is stopped."""

    def __init__(self, pairs: list[tuple[Place, Place]]) -> None:
        self.synced: list[Synced] = []
        """What became of each, each time that something changed; the last 1,000."""
        self._changed = threading.Condition()
        self._failed: BaseException | None = None
        self._d = daemon()
        self._conns = []
        for one, other in pairs:
            ask = {"do": "sync", "one": one, "other": other, "watch": True}
            header = {"op": "folder", "v": config.VERSION, "node": None, "ask": ask}
            self._conns.append(self._d.open(header, ()))
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._follow, args=(conn,), name="rhd-folder", daemon=True)
            for conn in self._conns
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, true: Callable[[Watch], Any], timeout: float | None = None) -> bool:
        """Waits until something is so, which is asked after each change; whether it is."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or true(self), timeout)
            if self._failed:
                raise self._failed
            return bool(true(self))

    def stop(self) -> None:
        """Ends it; what went wrong meanwhile is raised."""
        self._stopped = True
        for conn in self._conns:
            conn.cancel()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed

    def _follow(self, conn: Any) -> None:
        try:
            while True:
                reply, body = conn.next()
                if reply["t"] == "done":
                    break
                if reply["t"] == "item":
                    done = [_synced(one) for one in decode(reply, body)]
                    with self._changed:
                        self.synced = [*self.synced, *done][-1000:]
                        self._changed.notify_all()
        except (RhdError, OSError, EOFError) as e:
            if not self._stopped:
                with self._changed:
                    self._failed = e
                    self._changed.notify_all()
        finally:
            self._d.give(conn)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def folder(
    path: str | os.PathLike[str] | None = None,
    name: str | None = None,
    system: str | Cluster = "file",
) -> Folder:
    """A folder: of this machine, of the node `system`, or of an object store ("s3", "gs" or "az").
    Nothing is made before it is used.

    A path on another node is absolute, or starts with `~/`; without a path it is one of its own,
    below `~/rhd`. In an object store it is `bucket/name`; a URL says the same without a system.
    With a name alone it is the one that was saved under it, if one was.
    """
    node, where = spot(system, path)
    if where is None and (info := sought(name, node, "folder")):
        return found(info, node)
    return Folder(where or f"~/rhd/{name or uuid.uuid4().hex}", name, node)


def found(info: dict[str, Any], node: str | None) -> Folder:
    """A saved folder that was looked for."""
    path, name, node = place_of(info, node)
    return Folder(path, name, node)._learn(info)


def place_of(info: dict[str, Any], node: str | None) -> tuple[str, str, str | None]:
    """Where what was found was saved from, its name, and its node; none: this one."""
    at = node or (None if info["node"] == here.name else str(info["node"]))
    return str(info["tree"]["path"]), str(info["name"]), at


def sought(name: str | None, node: str | None, kind: str) -> dict[str, Any] | None:
    """What was saved under a name, if it is of this kind."""
    if name is None:
        return None
    try:
        info = data.find(name, node)
    except RhdError as e:
        # Nothing has the name, or it can be none.
        if e.kind in ("not_found", "bad_request"):
            return None
        raise
    tree = info.get("tree")
    return info if tree and kind == ("table" if tree.get("table") else "folder") else None


def _ask(do: str, told: Progress | None = None, node: str | None = None, **fields: Any) -> Any:
    d = daemon()
    ask = {"do": do, **fields}
    if do == "copy":
        ask["node"], node = node, None
    conn = d.open({"op": "folder", "v": config.VERSION, "node": node, "ask": ask}, ())
    conn.told = told
    return d.finish(conn)


def _synced(said: dict[str, Any]) -> Synced:
    skipped = {one["path"]: one["why"] for one in said.get("skipped", [])}
    return Synced(**{**said, "skipped": skipped})
