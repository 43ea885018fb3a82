"""What has a name on a node, and versions under it: blobs, folders and tables."""

from __future__ import annotations

from typing import Any, TypeVar

from . import data, origin
from .faults import fault
from .history import Lineage, Version, lineage_of, version_of
from .stores import is_url

S = TypeVar("S", bound="Saved")


class Saved:
    """A resource that can be saved under a name on its node."""

    kind = "data"
    _name: str | None = None
    # None: this node.
    _node: str | None = None
    # The version of its name that it was found as.
    _version: int | None = None

    @property
    def name(self) -> str | None:
        """What it is called on its node."""
        return self._name

    @property
    def hash(self) -> str:
        """The BLAKE3 hash of its content, as text."""
        raise NotImplementedError

    def rename(self: S, name: str) -> S:
        """Gives it, and all its versions, another name, which nothing has."""
        return self._learn(data.rename(self._named("renamed"), name, self._node))

    def history(self, limit: int | None = None) -> list[Version]:
        """The versions that its node keeps under its name, the newest first."""
        listed = data.history(self._named("saved"), limit, self._node)
        return [version_of(one) for one in listed]

    def lineage(self, depth: int = 10) -> Lineage:
        """What made it, and what that was made from, as far as nodes that can be reached know."""
        of = self._name or self.hash
        version = self._version if self._name else None
        return lineage_of(data.lineage(of, version, depth, self._node))

    def delete(self) -> None:
        """Takes its name away on its node, with all its versions."""
        if self._name is not None:
            data.remove(self._name, self._node)
            self._name = self._version = None

    def _learn(self: S, info: dict[str, Any]) -> S:
        self._name, self._version = info.get("name"), info.get("version")
        return self

    def _named(self, what: str) -> str:
        if self._name is None:
            raise fault(
                "bad_request",
                f"{self!r} has no name: it can't be {what}",
                hint="save('name') first",
            )
        return self._name


T = TypeVar("T", bound="SavedTree")


class SavedTree(Saved):
    """A folder of files, each of whose versions is the files that were in it."""

    _path: str
    _hash: str | None = None
    skipped: dict[str, str]
    """What the last `save` left out, and why."""

    @property
    def hash(self) -> str:
        """What stands for all files of the version that it was saved or loaded as, as text."""
        if self._hash is None:
            raise fault("bad_request", f"{self!r} is not saved", hint="save('name') first")
        return self._hash

    def rollback(self: T, version: int) -> T:
        """Puts an earlier version in its place, also on disk, as a new version. What is there now
        is saved first, unless it is a version; ignored files stay."""
        name = self._named("rolled back")
        return self._learn(data.roll_back(name, version, self._node, self._path))

    def exists_in_system(self) -> bool:
        """Whether it is there."""
        raise NotImplementedError

    def _put_back(self) -> None:
        if self._version is not None and not self.exists_in_system():
            (newest,) = self.history(limit=1)
            self.rollback(newest.number)

    def _save(self: T, name: str | None, inputs: list[str] | None, progress: data.Told = None) -> T:
        name = name or self._name
        if name is None:
            raise TypeError(f"give it a name: {self.kind}.save('name')")
        if is_url(self._path):
            raise fault(
                "bad_request",
                f"{self!r} is in an object store, which keeps no versions",
                hint=f"copy it to a node first: {self.kind}.to('a node'), then save that",
            )
        made, table = origin.current(inputs), self.kind == "table"
        said = data.save_folder(self._path, name, table, self._node, made, progress)
        self.skipped = {one["path"]: one["why"] for one in said.get("skipped", ())}
        return self._learn(said["info"])

    def _learn(self: T, info: dict[str, Any]) -> T:
        super()._learn(info)
        self._hash, self._path = str(info["content"]["hash"]), str(info["tree"]["path"])
        return self
