"""What the realm has, by name."""

from __future__ import annotations

from typing import Any

from . import data, instance
from .blob import load as load_blob
from .daemon import daemon
from .errors import NotFound
from .function import RemoteFunction
from .module import RemoteClass
from .remote import Target


def describe(name: str, node: str | None = None) -> dict[str, Any]:
    """All that is known of a service (`api::Described`)."""
    found: dict[str, Any] = daemon().request("describe", name=name, node=node)
    return found


def load(name: str, node: str | None = None) -> Any:
    """The function, class, object or blob of this name, wherever it is; or where `node` says."""
    try:
        found = describe(name, node)
    except NotFound as unknown:
        try:
            return load_blob(name, node)
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
