"""Envs: what code needs around it on the node where it runs."""

from __future__ import annotations

import base64
import copy
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from .faults import fault


class Env:
    """Interpreter, packages, setup commands and environment variables of a worker."""

    def __init__(
        self,
        reqs: Iterable[str] = (),
        name: str | None = None,
        python: str | None = None,
        conda_env: str | None = None,
        setup_cmds: Iterable[str] = (),
        env_vars: Mapping[str, str] | str | None = None,
        working_dir: str | None = "./",
        workers: int = 1,
        compute: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(reqs, str) or isinstance(setup_cmds, str):
            raise TypeError("reqs and setup_cmds are lists of strings")
        if workers < 1:
            raise ValueError("workers is the number of worker processes, 1 or more")
        self.name = name or ""
        self.reqs = [str(r) for r in reqs]
        self.python = str(python) if python is not None else None
        self.conda_env = conda_env
        self.setup_cmds = list(setup_cmds)
        self.env_vars = read_vars(env_vars) if isinstance(env_vars, str) else dict(env_vars or {})
        # "./" is what is sent anyway: the project that the code is in.
        self.working_dir = None if working_dir in (None, ".", "./") else os.fspath(working_dir)
        self.workers = workers
        self.compute = dict(compute or {})
        amounts_and_labels(self.compute)
        self.info: dict[str, Any] = {}
        self._node: str | None = None

    def wire(self) -> dict[str, Any]:
        """As the daemon reads it (`env::EnvSpec`)."""
        return {
            "name": self.name,
            "python": self.python,
            "conda_env": self.conda_env,
            "reqs": self.reqs,
            "setup_cmds": self.setup_cmds,
            "env_vars": {str(k): str(v) for k, v in self.env_vars.items()},
            "workers": self.workers if self.workers > 1 else None,
            "compute": amounts_and_labels(self.compute),
        }

    def to(self, cluster: Any = None) -> Env:
        """Builds it on a node and starts its worker, so that a first call finds it ready."""
        from .cluster import node_of
        from .daemon import daemon

        node = node_of(cluster)
        self.info = daemon().request("env_build", timeout=None, node=node, env=self.wire())
        self._node = node
        return self

    def run(
        self, cmds: str | Iterable[str], stream_logs: bool = True
    ) -> list[tuple[int, str, str]]:
        """Runs shell commands in it, on the node that it was sent to last; see `Cluster.run`."""
        from . import shell

        return shell.run(self._node, cmds, self, stream_logs)

    def install(self, reqs: str | Iterable[str]) -> Env:
        """Adds packages to it, on the node that it was sent to last. The worker there starts anew:
        objects that live in it are gone."""
        from . import shell

        return self.add(shell.lines(reqs), self._node)

    def replica(self, number: int) -> Env:
        """An env like this one with a worker, and so a home for modules, of its own."""
        return self._like(f"replica-{number}", 1)

    def replicas(self, count: int) -> Env:
        """An env like this one with this many workers."""
        if count < 1:
            raise ValueError("replicas are counted from 1")
        return self._like(f"workers-{count}", count)

    def _like(self, what: str, workers: int) -> Env:
        other = copy.copy(self)
        # Named after what it is made of, so that whoever asks for it again finds it.
        own = self.name or (base64.b32encode(self._hash())[:8].decode().lower())
        other.name = f"{own[: 99 - len(what)]}.{what}"
        other.workers = workers
        other.reqs = list(self.reqs)
        return other

    def _hash(self) -> bytes:
        return hashlib.sha256(repr(sorted(self.wire().items())).encode()).digest()

    def add(self, reqs: Iterable[str], node: str | None) -> Env:
        """Builds it on a node with further packages."""
        before = self.reqs
        self.reqs = before + [r for r in reqs if r not in before]
        try:
            return self.to(node)
        except BaseException:
            # What can't be built is not asked for again.
            self.reqs = before
            raise

    def __repr__(self) -> str:
        shown = {"name": self.name, "python": self.python, "reqs": self.reqs}
        return f"rh.env({', '.join(f'{k}={v!r}' for k, v in shown.items() if v)})"


_NAMED = ("name", "python", "conda_env", "reqs", "setup_cmds", "env_vars")

env = Env
"""`rh.env(…)`, as it is typed."""


def as_env(given: Any, node: str | None = None) -> Env:
    """An env from what `env=` takes: an env, a list of requirements, a name, or nothing."""
    if isinstance(given, Env):
        return given
    if given is None:
        return Env()
    if isinstance(given, str):
        return named(given, node)
    if isinstance(given, (list, tuple)):
        return Env(reqs=given)
    raise TypeError(f"env= takes rh.env(…), a list of requirements or a name, not {given!r}")


def named(name: str, node: str | None) -> Env:
    """The env that a node knows by this name."""
    from .daemon import daemon

    if name in ("base", "base_env"):
        return Env()
    known = {str(e["key"]): e["spec"] for e in daemon().request("envs", node=node)}
    if name not in known:
        raise fault(
            "not_found",
            f"no env {name!r} on {node or 'this node'}",
            hint=f'name what is in it: rh.env(name="{name}", reqs=[…])',
        )
    spec = known[name]
    if spec.get("binary"):
        raise fault(
            "bad_request",
            f"env {name!r} is a compiled program, which runs no Python",
            hint="name another env, or none",
        )
    needs = spec.get("compute", {})
    compute = {name: amount / 1000 for name, amount in needs.get("amounts", {}).items()}
    if needs.get("labels"):
        compute["labels"] = needs["labels"]
    # A node of a later version may say more of it.
    own = {key: spec[key] for key in _NAMED if spec.get(key) is not None}
    return Env(**own, workers=spec.get("workers") or 1, compute=compute)


def amounts_and_labels(compute: Mapping[str, Any]) -> dict[str, Any]:
    """What `compute=` says, as the daemon reads it (`compute::Compute`).

    `{"gpus": 1, "cpus": 2.5, "memory": 16, "labels": {"zone": "eu"}}`: memory is in GiB; a node's
    settings may declare more resources.
    """
    labels = compute.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise TypeError('compute["labels"] is a dict of names and values')
    amounts = {}
    for name, amount in compute.items():
        if name == "labels":
            continue
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise TypeError(f"compute[{name!r}] is a number, not {amount!r}")
        if not 0 <= amount < 1e9:
            raise ValueError(f"compute[{name!r}] is {amount}: 0 or more is what a node can have")
        amounts[str(name)] = round(amount * 1000)
    return {"amounts": amounts, "labels": {str(k): str(v) for k, v in labels.items()}}


def read_vars(path: str) -> dict[str, str]:
    """The variables of a `.env` file: `KEY=value` lines, `export` and quotes allowed."""
    found: dict[str, str] = {}
    with open(os.path.expanduser(path), encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip().removeprefix("export ").strip()
            if not text or text.startswith("#"):
                continue
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise ValueError(f"{path}:{number}: not KEY=value")
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
                value = value[1:-1]
            else:
                value = value.partition(" #")[0].rstrip()
            found[key.strip()] = value
    return found
