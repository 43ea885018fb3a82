"""Functions that run on other nodes."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from . import project
from .callables import RemoteCallable
from .cluster import node_of
from .daemon import daemon
from .deploy import Deployment
from .env import as_env
from .errors import NotFound
from .faults import fault
from .parallel import Batch
from .pump import Start
from .remote import Target
from .runs import Run
from .spread import Spread


def function(fn: Callable[..., Any] | None = None, name: str | None = None) -> Any:
    """Makes a function one that can be sent to a cluster; also a decorator.

    Until `.to(cluster)` it runs here, as it did.
    """
    if fn is None:
        return lambda fn: Function(fn, name)
    return fn if isinstance(fn, Function) and name is None else Function(project.unwrap(fn), name)


class Function:
    """A function of this process that can be sent to a cluster."""

    def __init__(self, fn: Callable[..., Any], name: str | None = None) -> None:
        if not callable(fn) or isinstance(fn, type):
            raise TypeError(f"rh.function takes a function; for {fn!r} see rh.module")
        functools.update_wrapper(self, fn)
        self.__rhd_wrapped__ = fn
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__rhd_wrapped__(*args, **kwargs)

    def to(self, cluster: Any = None, env: Any = None) -> Any:
        """Puts it on a cluster, in an env, and returns the function there.

        Without a cluster it stays on this node, unless its env says what it needs
        (`rh.env(compute=…)`): then the daemon chooses the least loaded node that has it.
        With a list of clusters every call goes to the one with the fewest calls under way.
        """
        if isinstance(cluster, (list, tuple)):
            if not cluster:
                raise ValueError("a list of clusters needs at least one")
            return Spread([self.to(one, env) for one in cluster])
        node = node_of(cluster)
        fn = self.__rhd_wrapped__
        env, placed = as_env(env, node), cluster is None
        return RemoteFunction(Deployment(daemon(), fn, self.name, node, env, placed))

    def signature(self) -> str:
        """`(a, b=2)`, for people."""
        return str(inspect.signature(self.__rhd_wrapped__))

    def __repr__(self) -> str:
        return f"rh.function({getattr(self, '__qualname__', self.__rhd_wrapped__)!s})"

    def __reduce__(self) -> Any:
        module = project.home_of(self)
        if module is not None:
            return project.lookup, (module, self.__rhd_wrapped__.__qualname__)
        return Function, (self.__rhd_wrapped__, self.name)


class RemoteFunction(RemoteCallable):
    """A function on a node. Copies of it, pickled, reach the same function from anywhere."""

    _extra: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, deployment: Deployment) -> None:
        info = deployment.info
        self._deployment: Deployment | None = deployment
        self._target = Target(
            deployment.daemon,
            info["name"],
            info["node"],
            info["node_id"],
            lease=deployment.lease,
            revive=deployment.came_off,
        )
        self._learn(info["interface"])

    @classmethod
    def _known(
        cls, name: str, node: str | None, node_id: str | None, interface: dict[str, Any]
    ) -> RemoteFunction:
        self = cls.__new__(cls)
        self._deployment = None
        self._target = Target(daemon(), name, node, node_id)
        self._learn(interface)
        return self

    def _learn(self, interface: dict[str, Any]) -> None:
        self._interface = interface
        codec = interface.get("codec")
        if codec and self._target.options.codec == "pickle":
            # Not Python on the other side: it takes plain data.
            self._target = self._target.with_options(self._target.options.changed({"codec": codec}))
        self._flavor = interface.get("flavor", "plain")
        self.__doc__ = interface.get("doc") or None

    @property
    def name(self) -> str:
        """Its name, the same everywhere in the realm."""
        return self._target.service

    def signature(self) -> str:
        """`(a, b=2)`, for people."""
        return str(self._interface.get("signature", ""))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._flavor == "coroutine":
            return self.async_call(*args, **kwargs)
        deployment = self._deployment
        if deployment is not None and deployment.stale():
            self._renew(deployment)
        return super().__call__(*args, **kwargs)

    def _sync(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], batch: Batch | None = None
    ) -> Any:
        try:
            return super()._sync(args, kwargs, batch)
        except NotFound as e:
            if not self._came_off(e):
                raise
            return super()._sync(args, kwargs, batch)

    async def async_call(self, *args: Any, **kwargs: Any) -> Any:
        deployment = self._deployment
        if deployment is not None and deployment.stale():
            await asyncio.get_running_loop().run_in_executor(None, self._renew, deployment)
        try:
            return await super().async_call(*args, **kwargs)
        except NotFound as e:
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(None, self._came_off, e):
                raise
            return await super().async_call(*args, **kwargs)

    def _once(
        self,
        args: tuple[Any, ...],
        batch: Batch | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        deployment = self._deployment
        if deployment is not None and deployment.stale():
            self._renew(deployment)
        return super()._once(args, batch, kwargs)

    def _start(self) -> Start:
        deployment = self._deployment
        if deployment is not None and deployment.stale():
            self._renew(deployment)
        return super()._start()._replace(revive=self._came_off)

    def replicate(self, n: int) -> RemoteFunction:
        """The function in `n` worker processes on its node, in an env of their own; calls go to
        one that is free. They start as calls need them, and share nothing."""
        deployment = self._deployment
        if deployment is None:
            raise fault(
                "bad_request",
                f"{self.name} was not sent from here",
                hint="replicate the function that `.to(…)` returned",
            )
        many = deployment.env.replicas(n)
        made = Deployment(deployment.daemon, deployment.obj, None, deployment.node, many)
        other = RemoteFunction(made)
        other._target = other._target.with_options(self._target.options)
        return other

    def run(self, *args: Any, **kwargs: Any) -> Run:
        deployment = self._deployment
        if deployment is not None and deployment.stale():
            self._renew(deployment)
        try:
            return super().run(*args, **kwargs)
        except NotFound as e:
            if not self._came_off(e):
                raise
            return super().run(*args, **kwargs)

    def _renew(self, deployment: Deployment) -> None:
        deployment.renew()
        self._learn(deployment.info["interface"])

    def _came_off(self, error: NotFound) -> bool:
        # A kept call sees to it itself.
        revive = None if self._target.options.kept else self._target.revive
        return revive is not None and revive(error)

    def __repr__(self) -> str:
        return f"<function {self.name} on {self._target.node or 'any node'}>"

    def __reduce__(self) -> Any:
        t = self._target
        known = (t.service, t.node, t.node_id, self._interface)
        return _restored, (known, t.options)


def _restored(known: tuple[Any, ...], options: Any) -> RemoteFunction:
    fn = RemoteFunction._known(*known)
    fn._target = fn._target.with_options(options)
    return fn
