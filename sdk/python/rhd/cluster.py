"""Clusters: the nodes that code runs on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from . import config, shell, store
from .daemon import daemon
from .faults import fault
from .stores import SYSTEMS, is_url, system_of


class Cluster:
    """A node of the realm, by name; made by `rh.cluster`, or `rh.here` for this one."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Its name in the realm."""
        return self._name or str(daemon().request("status")["name"])

    def is_up(self) -> bool:
        """Whether calls reach it now."""
        return self._name is None or self.status()["path"] != "none"

    def status(self) -> dict[str, Any]:
        """What the daemon here knows of it: how it is reached, its version, its load."""
        peers = daemon().request("peers")
        for peer in peers:
            mine = self._name is None and peer["path"] == "here"
            if mine or self._name in (peer["name"], peer["id"]):
                return {**daemon().request("status"), **peer} if peer["path"] == "here" else peer
        if self._name is None:
            return {**daemon().request("status"), "path": "here"}
        raise unknown(self._name, peers)

    def run(
        self, cmds: str | Iterable[str], env: Any = None, stream_logs: bool = True
    ) -> list[tuple[int, str, str]]:
        """Runs shell commands there, one after the other, in the folder and with the variables that
        functions of the env have. Their output is shown as it comes; returned are exit code,
        stdout and stderr of each (the last 8 MiB). Stopped by Ctrl-C, with all that they started.
        """
        return shell.run(self._name, cmds, self._env(env), stream_logs)

    def run_python(
        self, cmds: str | Iterable[str], env: Any = None, stream_logs: bool = True
    ) -> list[tuple[int, str, str]]:
        """Runs lines of Python there, together, in a fresh process of the env's interpreter."""
        return shell.run_python(self._name, cmds, self._env(env), stream_logs)

    def install_packages(self, reqs: str | Iterable[str], env: Any = None) -> None:
        """Adds packages to an env, whose worker starts anew; without one, to the node's own
        interpreter."""
        shell.install(self._name, reqs, self._env(env))

    def call(self, module: str, method: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of what is hosted there under this name; a function has none."""
        from .names import load

        found = load(module, self.name)
        return (found if method is None else getattr(found, method))(*args, **kwargs)

    def put(self, key: str, obj: Any, env: Any = None) -> None:
        """Stores an object in the memory of an env, in place of what had the key.

        All modules and functions of the env share it: there, `rh.here.get(key)` gives the object
        itself, here a copy. It is gone when the env's worker ends.
        """
        store.put(self._name, key, obj, self._env(env))

    def get(self, key: str, default: Any = store.REQUIRED, env: Any = None) -> Any:
        """The object of this key, else the default, else `NotFound`."""
        return store.get(self._name, key, default, self._env(env))

    def keys(self, env: Any = None) -> list[str]:
        """The keys of an env's objects."""
        return store.keys(self._name, self._env(env))

    def rename(self, old: str, new: str, env: Any = None) -> None:
        """Gives an object another key; `Conflict` where an object has that one."""
        store.rename(self._name, old, new, self._env(env))

    def delete(self, keys: str | Iterable[str], env: Any = None) -> None:
        """Drops objects; `NotFound`, and none is dropped, where one of the keys is unknown."""
        store.delete(self._name, keys, self._env(env))

    def clear(self, env: Any = None) -> None:
        """Drops all objects of an env."""
        store.clear(self._name, self._env(env))

    def _env(self, given: Any) -> Any:
        """The env that is meant: for code of this node's envs, without a word its own."""
        return config.env() if given is None and self._name is None else given

    @staticmethod
    def list() -> list[Cluster]:
        """The nodes of the realm that are known here, this one included."""
        return [Cluster(peer["name"]) for peer in daemon().request("peers")]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cluster) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f"rh.cluster({self._name!r})" if self._name else "rh.here"


here = Cluster(None)
"""The node of this machine."""


def cluster(name: str) -> Cluster:
    """The node of this name; nobody is asked before it is used."""
    if not isinstance(name, str) or not name:
        raise TypeError("a cluster is named by a string that is not empty")
    return here if name == "here" else Cluster(name)


def node_of(given: Any) -> str | None:
    """The name in a cluster, or in what stands for one; none for this node."""
    if given is None or given == "here":
        return None
    if isinstance(given, Cluster):
        return given._name
    if isinstance(given, str) and given:
        return given
    raise TypeError(f"expected rh.cluster(…) or the name of a node, not {given!r}")


def spot(system: Any, path: str | os.PathLike[str] | None) -> tuple[str | None, str | None]:
    """The node and the path that these mean: in an object store no node, and a URL."""
    where = None if path is None else os.fspath(path)
    if isinstance(system, str) and system in SYSTEMS:
        if where is None or not where.strip("/"):
            hint = f"path='bucket/name' means {system}://bucket/name"
            raise fault("bad_request", f"a place in {system} has a path", hint=hint)
        url = where if is_url(where) else f"{system}://{where.lstrip('/')}"
        if system_of(url) != system:
            raise fault("bad_request", f"{where!r} is not in {system}")
        return None, url
    node = node_of(None if system == "file" else system)
    if where is not None and is_url(where) and node is not None:
        hint = "leave the system out: the node that has or gets the data asks the store"
        raise fault("bad_request", f"{where!r} is on no node", hint=hint)
    return node, where


def unknown(name: str, peers: list[dict[str, Any]]) -> BaseException:
    """The error for a node that nobody here knows."""
    names = ", ".join(sorted(str(peer["name"]) for peer in peers)) or "none"
    return fault(
        "not_found",
        f"no node named {name!r} in this realm",
        hint=f"known nodes: {names}; let another join with `rhd invite` and `rhd join TICKET`",
    )
