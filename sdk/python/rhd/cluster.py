"""Clusters: the nodes that code runs on."""

from __future__ import annotations

from typing import Any

from .daemon import daemon
from .faults import fault


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


def unknown(name: str, peers: list[dict[str, Any]]) -> BaseException:
    """The error for a node that nobody here knows."""
    names = ", ".join(sorted(str(peer["name"]) for peer in peers)) or "none"
    return fault(
        "not_found",
        f"no node named {name!r} in this realm",
        hint=f"known nodes: {names}; let another join with `rhd invite` and `rhd join TICKET`",
    )
