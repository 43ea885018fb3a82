"""Several instances of one class, each with a state and a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .faults import fault
from .instance import RemoteInstance, RemoteMethod
from .spread import Balance, Spread

BUILDING = 16
"""Instances that are built side by side."""


class Replicas:
    """Instances that are used as one: a method call goes to the one with the fewest under way.

    They share nothing: what a call changes, it changes in one of them. `instances` are they, to
    call each, or to read what each has.
    """

    def __init__(self, instances: Sequence[RemoteInstance]) -> None:
        self.instances = list(instances)
        self._balance = Balance(len(self.instances))

    def __getattr__(self, attr: str) -> Any:
        if attr.startswith("_"):
            raise AttributeError(attr)
        return self._spread(attr)

    def _spread(self, attr: str) -> Spread:
        own = self.instances[0]._rhd
        flavor = own.members.get(attr)
        if flavor is None or flavor == "property":
            raise fault(
                "bad_request",
                f"{attr!r} is no method of {own.target.service}, and each replica has its own",
                hint=f"[each.{attr} for each in replicas.instances]",
            )
        methods = [RemoteMethod(one._rhd.target, attr, flavor) for one in self.instances]
        made = Spread(methods, self._balance)
        self.__dict__[attr] = made
        return made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._spread("__call__")(*args, **kwargs)

    def __len__(self) -> int:
        return len(self.instances)

    def __iter__(self) -> Iterator[RemoteInstance]:
        return iter(self.instances)

    @property
    def clusters(self) -> list[Any]:
        """The nodes that they are on."""
        return [one.cluster for one in self.instances]

    def options(self, **changes: Any) -> Replicas:
        """The same, called in another way; see `RemoteCallable.options`."""
        other = Replicas([one.options(**changes) for one in self.instances])
        other._balance = self._balance
        return other

    def __repr__(self) -> str:
        return f"<{len(self.instances)} replicas of {self.instances[0]!r}>"

    def __reduce__(self) -> Any:
        return Replicas, (self.instances,)


class Classes:
    """A class on several nodes: calling it builds an instance on each."""

    def __init__(self, classes: Sequence[Any]) -> None:
        self._classes = list(classes)

    def __call__(self, *args: Any, **kwargs: Any) -> Replicas:
        return self._build(args, kwargs, kwargs.pop("name", None))

    def _build(self, args: tuple[Any, ...], kwargs: dict[str, Any], name: str | None) -> Replicas:
        if name is not None:
            raise TypeError("several instances can't have one name; build them one by one")
        with ThreadPoolExecutor(BUILDING) as pool:
            made = pool.map(lambda cls: cls._build(args, kwargs, None), self._classes)
            return Replicas(list(made))

    @property
    def clusters(self) -> list[Any]:
        """The nodes that it is on."""
        return [cls.cluster for cls in self._classes]

    def options(self, **changes: Any) -> Classes:
        """The same, called in another way; instances built from it inherit that."""
        return Classes([cls.options(**changes) for cls in self._classes])

    def __repr__(self) -> str:
        return f"<{self._classes[0]!r} and {len(self._classes) - 1} more>"


def replicate(
    first: RemoteInstance, cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any], n: int
) -> Replicas:
    """This instance and as many more as make `n`, each in an env, and so a process, of its own."""
    if n < 1:
        raise ValueError("replicas are counted from 1")

    def build(number: int) -> RemoteInstance:
        made: RemoteInstance = cls._replica(number)._build(args, kwargs, None)
        return made.options(**vars(first._rhd.target.options))

    with ThreadPoolExecutor(BUILDING) as pool:
        return Replicas([first, *pool.map(build, range(1, n))])
