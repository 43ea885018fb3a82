"""Classes whose instances live on other nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import endpoint, instance, project, remote
from .cluster import Cluster, node_of
from .daemon import Daemon, daemon
from .deploy import Deployment, random_mark
from .env import as_env
from .errors import NotFound
from .faults import fault
from .remote import Target
from .replicas import Classes


def module(cls: type | None = None, name: str | None = None) -> Any:
    """Makes a class one that can be sent to a cluster; also a decorator."""
    if cls is None:
        return lambda cls: LocalClass(cls, name)
    return LocalClass(project.unwrap(cls), name)


class LocalClass:
    """A class of this process that can be sent to a cluster."""

    def __init__(self, cls: type, name: str | None = None) -> None:
        if not isinstance(cls, type):
            raise TypeError(f"rh.module takes a class; for {cls!r} see rh.function")
        functools.update_wrapper(self, cls, updated=())
        self.__rhd_wrapped__ = cls
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__rhd_wrapped__(*args, **kwargs)

    def to(self, cluster: Any = None, env: Any = None) -> Any:
        """Puts the class on a cluster, in an env; calling the result builds an instance there.

        With a list of clusters it builds one on each, and calls go to the least busy of them.
        """
        return send(self.__rhd_wrapped__, self.name, cluster, env)

    def get_or_to(self, cluster: Any = None, env: Any = None, name: str | None = None) -> Any:
        """What the cluster has under this name, or the class, put there under it."""
        name = name or self.name
        found = existing(name, node_of(cluster))
        return send(self.__rhd_wrapped__, name, cluster, env) if found is None else found

    def __repr__(self) -> str:
        return f"rh.module({self.__rhd_wrapped__.__qualname__})"

    def __reduce__(self) -> Any:
        home = project.home_of(self)
        if home is not None:
            return project.lookup, (home, self.__rhd_wrapped__.__qualname__)
        return LocalClass, (self.__rhd_wrapped__, self.name)


class _OnEither:
    """A method that works on the class and on an instance alike."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self.__doc__ = fn.__doc__

    def __get__(self, obj: Any, owner: type) -> Any:
        return functools.partial(self._fn, owner if obj is None else obj)


class Module:
    """A base for classes that are sent to clusters, as a whole or with an instance of them."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        self.__dict__["_rhd_made_with"] = (args, kwargs)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_rhd_made_with"}

    @_OnEither
    def to(this: Any, cluster: Any = None, env: Any = None) -> Any:
        """On the class: puts it on a cluster. On an instance: builds one like it there, with the
        arguments that it was made with."""
        if isinstance(this, type):
            return send(this, None, cluster, env)
        args, kwargs = this.__dict__.get("_rhd_made_with", ((), {}))
        return send(type(this), None, cluster, env)._build(args, kwargs, None)

    @_OnEither
    def get_or_to(this: Any, cluster: Any = None, env: Any = None, name: str | None = None) -> Any:
        """What the cluster has under this name, or the class or instance, put there under it."""
        found = existing(name, node_of(cluster))
        if found is not None:
            return found
        if isinstance(this, type):
            return send(this, name, cluster, env)
        args, kwargs = this.__dict__.get("_rhd_made_with", ((), {}))
        return send(type(this), None, cluster, env)._build(args, kwargs, name)


def send(cls: type, name: str | None, cluster: Any, env: Any) -> Any:
    """Puts a class on a cluster, or on several."""
    if isinstance(cluster, (list, tuple)):
        if not cluster:
            raise ValueError("a list of clusters needs at least one")
        return Classes([send(cls, name, one, env) for one in cluster])
    node = node_of(cluster)
    placed = cluster is None
    return RemoteClass(Deployment(daemon(), cls, name, node, as_env(env, node), placed))


def existing(name: str | None, node: str | None) -> Any:
    """What a node (none: this one) hosts under a name, if anything."""
    from .names import load

    if not name:
        raise ValueError("get_or_to needs a name to look for")
    try:
        return load(name, node or Cluster(None).name)
    except NotFound:
        return None


class RemoteClass:
    """A class on a node: calling it builds an instance there.

    Class methods and static methods are called on it; other attributes are read from it.
    """

    def __init__(self, deployment: Deployment) -> None:
        info = deployment.info
        target = Target(
            deployment.daemon, info["name"], info["node"], info["node_id"], lease=deployment.lease
        )
        self._rhd_set(deployment, target, info["interface"])

    @classmethod
    def _known(
        cls, name: str, node: str | None, node_id: str | None, interface: dict[str, Any]
    ) -> RemoteClass:
        self = cls.__new__(cls)
        self._rhd_set(None, Target(daemon(), name, node, node_id), interface)
        return self

    def _rhd_set(
        self, deployment: Deployment | None, target: Target, interface: dict[str, Any]
    ) -> None:
        self._deployment = deployment
        self._target = target
        self._interface = interface
        self.__doc__ = interface.get("doc") or None

    def __call__(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        return self._build(args, kwargs, name)

    def _build(self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None) -> Any:
        self._renew()
        target = self._target
        wanted = canonical(name, target.daemon) if name else unnamed(target.service)
        try:
            remote.call(target, args, kwargs, "new", instance=wanted)
        except NotFound as e:
            if self._deployment is None or e.__cause__ is not None:
                raise
            self._deployment.put()
            remote.call(target, args, kwargs, "new", instance=wanted)
        there = Target(target.daemon, wanted, target.node, target.node_id, target.options)
        made = instance.made(there, self._interface, owned=name is None)
        if self._deployment is not None:
            made._rhd.built = (self, args, kwargs)
        return made

    def _replica(self, number: int) -> RemoteClass:
        """The class once more on its node, where its instances have a process of their own."""
        first = self._deployment
        if first is None:
            raise fault(
                "bad_request",
                f"{self.name} was not sent from here",
                hint="replicate an instance of the class that `.to(…)` returned",
            )
        env = first.env.replica(number)
        other = RemoteClass(Deployment(first.daemon, first.obj, None, first.node, env))
        other._target = other._target.with_options(self._target.options)
        return other

    def _renew(self) -> None:
        if self._deployment is not None and self._deployment.stale():
            self._deployment.renew()
            self._interface = self._deployment.info["interface"]

    @property
    def name(self) -> str:
        """Its name, the same everywhere in the realm."""
        return self._target.service

    @property
    def cluster(self) -> Cluster | None:
        """The node that it is on."""
        return Cluster(self._target.node) if self._target.node else None

    @property
    def local(self) -> type | None:
        """The class in this process, where it was sent from here."""
        return self._deployment.obj if self._deployment is not None else None

    def signature(self) -> str:
        """`(a, b=2)`, for people."""
        return str(self._interface.get("signature", ""))

    def endpoint(self, method: str | None = None) -> str:
        """The URL at which it, or one of its class methods, is called over HTTP."""
        return endpoint.url(self._target, method)

    def options(self, **changes: Any) -> RemoteClass:
        """The same, called in another way; instances built from it inherit that."""
        other = RemoteClass.__new__(RemoteClass)
        target = self._target.with_options(self._target.options.changed(changes))
        other._rhd_set(self._deployment, target, self._interface)
        return other

    def __getattr__(self, attr: str) -> Any:
        if attr.startswith("_"):
            raise AttributeError(attr)
        self._renew()
        if attr in self._interface.get("class_members", ()):
            flavor = self._interface.get("members", {}).get(attr, "plain")
            return instance.RemoteMethod(self._target, attr, flavor)
        return remote.call(self._target, verb="get", method=attr)

    def __repr__(self) -> str:
        return f"<class {self.name} on {self._target.node or 'any node'}>"

    def __reduce__(self) -> Any:
        t = self._target
        return RemoteClass._known, (t.service, t.node, t.node_id, self._interface)


def unnamed(service: str) -> str:
    """A name for an object of a class that nobody chose one for; the dot keeps it unlisted."""
    folder, _, last = service.rpartition("/")
    return f"{folder}/.{last.removeprefix('.')}-{random_mark()}"


def canonical(name: str, at: Daemon) -> str:
    """A name in full: bare ones and `@/x` are in the user's own folder."""
    if name.startswith(("/", "~/", "^")):
        return name
    return f"/{at.user()}/{name.removeprefix('@/')}"
