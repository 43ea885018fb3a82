"""Handles on objects that live in the memory of another node's worker."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from . import endpoint, remote
from .callables import RemoteCallable
from .cluster import Cluster
from .daemon import daemon
from .faults import fault
from .lease import Lease
from .remote import GENERATORS, Target


class RemoteMethod(RemoteCallable):
    """A method of an object or class on another node."""

    def __init__(self, target: Target, name: str, flavor: str) -> None:
        self._target = target
        self._flavor = flavor
        self._extra = {"method": name}
        self.__name__ = name

    def __repr__(self) -> str:
        return f"<method {self.__name__} of {self._target.service}>"

    def __reduce__(self) -> Any:
        t = self._target
        known = (t.service, t.node, t.node_id, self.__name__, self._flavor)
        return _method, (known, t.options)


def _method(known: tuple[Any, ...], options: remote.Options) -> RemoteMethod:
    service, node, node_id, name, flavor = known
    return RemoteMethod(Target(daemon(), service, node, node_id, options), name, flavor)


class RemoteInstance:
    """An object on another node. Its methods and attributes are used as if it were here.

    The handle's own names are `name`, `cluster`, `refresh`, `fetch`, `endpoint`, `replicate`,
    `options` and `local`; what the object has under these is reached with `fetch(attr)`.
    """

    def __getattr__(self, attr: str) -> Any:
        # What pickle, notebooks and the like ask every object for is not asked for over the mesh.
        if attr.startswith(("__", "_repr_", "_ipython_")):
            raise AttributeError(attr)
        own = object.__getattribute__(self, "_rhd")
        flavor = own.members.get(attr)
        if flavor is None or flavor == "property":
            return remote.call(own.target, verb="get", method=attr)
        method = RemoteMethod(own.target, attr, flavor)
        self.__dict__[attr] = method
        return method

    def __setattr__(self, attr: str, value: Any) -> None:
        remote.call(self._rhd.target, (value,), verb="set", method=attr)

    @property
    def name(self) -> str:
        """Its name, the same everywhere in the realm."""
        return str(self._rhd.target.service)

    @property
    def cluster(self) -> Cluster | None:
        """The node that it is on."""
        node = self._rhd.target.node
        return Cluster(node) if node else None

    def refresh(self) -> RemoteInstance:
        """Learns anew which members the object has, after its class was sent again."""
        from .names import describe

        own = self._rhd
        found = describe(own.target.service, own.target.node_id)
        own.members = found["service"]["interface"].get("members", {})
        for attr in [k for k in self.__dict__ if k != "_rhd"]:
            del self.__dict__[attr]
        return self

    def fetch(self, attr: str | None = None) -> Any:
        """A copy of an attribute, or of the whole object."""
        if attr is None:
            return remote.call(self._rhd.target, verb="get")
        return remote.call(self._rhd.target, verb="get", method=attr)

    def endpoint(self, method: str | None = None) -> str:
        """The URL of the object, or of one of its methods, over HTTP."""
        return endpoint.url(self._rhd.target, method)

    @property
    def local(self) -> dict[str, Any]:
        """Notes of one's own on this handle, which stay in this process."""
        return self._rhd.notes  # type: ignore[no-any-return]

    def replicate(self, n: int) -> Any:
        """This object and `n - 1` more on its node, each built from the same arguments, with a
        state and a process of its own; calls go to the least busy one."""
        from .replicas import replicate

        own = self._rhd
        if own.built is None:
            raise fault(
                "bad_request",
                f"{own.target.service} was not built here",
                hint="replicate the object where it is built: Remote(…).replicate(n)",
            )
        return replicate(self, *own.built, n)

    def options(self, **changes: Any) -> RemoteInstance:
        """The same object, called in another way; see `RemoteCallable.options`."""
        own = copy.copy(self._rhd)
        own.target = own.target.with_options(own.target.options.changed(changes))
        return _handle(own)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._rhd.special("__call__", args, kwargs)

    def __iter__(self) -> Iterator[Any]:
        own = self._rhd
        if "__iter__" not in own.members and "__getitem__" not in own.members:
            raise TypeError(f"{own.target.service} is not iterable")
        return remote.iterate(own.target, method="__iter__")

    def __aiter__(self) -> Any:
        return remote.iterate_async(self._rhd.target, method="__aiter__")

    def __len__(self) -> int:
        return int(self._rhd.special("__len__"))

    def __bool__(self) -> bool:
        # Whether there is a handle, not whether there is something in the object.
        return True

    def __getitem__(self, key: Any) -> Any:
        return self._rhd.special("__getitem__", (key,))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._rhd.special("__setitem__", (key, value))

    def __delitem__(self, key: Any) -> None:
        self._rhd.special("__delitem__", (key,))

    def __contains__(self, item: Any) -> bool:
        own = self._rhd
        if "__contains__" in own.members:
            return bool(own.special("__contains__", (item,)))
        return any(item is one or item == one for one in self)

    def __repr__(self) -> str:
        target = self._rhd.target
        return f"<{target.service} on {target.node or 'any node'}>"

    def __reduce__(self) -> Any:
        own = self._rhd
        t = own.target
        return _restored, ((t.service, t.node, t.node_id, t.options), own.members)


class Own:
    """What a handle knows of its object."""

    def __init__(self, target: Target, members: dict[str, str]) -> None:
        self.target = target
        self.members = members
        self.notes: dict[str, Any] = {}
        # Class and arguments, where it was built from here.
        self.built: tuple[Any, tuple[Any, ...], dict[str, Any]] | None = None

    def special(self, method: str, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Calls one of the methods with which an object takes part in the language."""
        flavor = self.members.get(method)
        if flavor is None:
            raise TypeError(f"{self.target.service} has no {method}")
        if flavor in GENERATORS:
            return RemoteMethod(self.target, method, flavor)(*args, **(kwargs or {}))
        if flavor == "coroutine":
            return remote.call_async(self.target, args, kwargs, method=method)
        return remote.call(self.target, args, kwargs, method=method)


def _handle(own: Own) -> RemoteInstance:
    handle = RemoteInstance.__new__(RemoteInstance)
    handle.__dict__["_rhd"] = own
    return handle


def made(target: Target, interface: dict[str, Any], owned: bool) -> RemoteInstance:
    """A handle; the object of an `owned` one ends with it."""
    if owned:
        target.lease = Lease(target.daemon, target.service, target.node_id, instance=True)
    return _handle(Own(target, interface.get("members", {})))


def _restored(known: tuple[Any, ...], members: dict[str, str]) -> RemoteInstance:
    return _handle(Own(Target(daemon(), *known), members))
