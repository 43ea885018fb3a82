"""What the realm has, by name."""

from __future__ import annotations

from typing import Any

from . import data, instance
from .blob import Blob
from .blob import found as found_blob
from .daemon import daemon
from .errors import NotFound
from .folder import Folder
from .folder import found as found_folder
from .function import RemoteFunction
from .module import RemoteClass
from .remote import Target
from .table import Table
from .table import found as found_table


def describe(name: str, node: str | None = None) -> dict[str, Any]:
    """All that is known of a service (`api::Described`)."""
    found: dict[str, Any] = daemon().request("describe", name=name, node=node)
    return found


def load(name: str, node: str | None = None) -> Any:
    """The function, class, object, blob, folder or table of this name, wherever it is; or where
    `node` says."""
    try:
        found = describe(name, node)
    except NotFound as unknown:
        try:
            return _saved(data.find(name, node), node)
        except NotFound:
            raise unknown from None
    service = found["service"]
    interface = service.get("interface") or {}
    if service["kind"] == "instance":
        # State is in one place; anything else may run wherever it is hosted.
        target = Target(daemon(), service["name"], found["node"], found["node_id"])
        return instance.made(target, interface, owned=False)
    kind = RemoteFunction if service["kind"] == "function" else RemoteClass
    if node is None:
        return kind._known(service["name"], None, None, interface)
    return kind._known(service["name"], found["node"], found["node_id"], interface)


def _saved(info: dict[str, Any], node: str | None) -> Blob | Folder | Table:
    tree = info.get("tree")
    if tree is None:
        return found_blob(info, node)
    return found_table(info, node) if tree.get("table") else found_folder(info, node)


def exists(name: str) -> bool:
    """Whether some node that is up hosts something of this name."""
    try:
        load(name)
    except NotFound:
        return False
    return True


def ls(path: str | None = None) -> list[str]:
    """The names below a folder, or all."""
    listed = daemon().request("services", prefix=path)
    found = {str(one["service"]["name"]) for one in listed}
    return sorted(found | {str(one["name"]) for one in data.names(path)})
