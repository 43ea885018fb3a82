"""Classes of rhd itself that run in the envs of nodes: the object store and the shell."""

from __future__ import annotations

import os
import threading
from typing import Any

from . import config, remote
from .daemon import Daemon, call_id, daemon
from .deploy import random_mark
from .env import Env, as_env
from .errors import NotFound
from .lease import Lease
from .remote import Options, Target

KEPT = 256
"""Deployed classes that are remembered; before one more, all are let go."""


class Builtin:
    """One such class in one env of a node."""

    def __init__(self, at: Daemon, module: str, node: str | None, env: Any) -> None:
        self._daemon = at
        self._module = module
        self._node = node
        self._env = env
        self._lock = threading.Lock()
        self._target: Target | None = None

    def call(self, method: str, *args: Any, options: Options = remote.DEFAULT, **extra: Any) -> Any:
        """Calls one of its methods; where its node has forgotten it, it is put there again."""
        target = self._target or self._put(None)
        extra["method"] = method
        try:
            return remote.call(target.with_options(options), args, **extra)
        except NotFound as e:
            # Also what the class itself did not find, which is no service.
            if target.service not in str(e.message):
                raise
            return remote.call(self._put(target).with_options(options), args, **extra)

    def _put(self, stale: Target | None) -> Target:
        with self._lock:
            if self._target is not None and self._target is not stale:
                return self._target
            call, kind = call_id(), self._module.rpartition(".")[2]
            request = {
                "v": config.VERSION,
                "id": call,
                "node": self._node,
                # A name of one's own: somebody else's may have come from another version of rhd.
                "name": f".{kind}-{random_mark()}",
                "env": as_env(self._env, self._node).wire(),
                "roots": [],
                "entry": {"t": "import", "module": self._module, "qualname": kind.capitalize()},
            }
            info = self._daemon.ask({"op": "deploy", "deploy": request}, (), call)
            lease = Lease(self._daemon, info["name"], info["node_id"])
            self._target = Target(
                self._daemon, info["name"], info["node"], info["node_id"], lease=lease
            )
            return self._target


_known: dict[tuple[Any, ...], Builtin] = {}
_lock = threading.Lock()


def builtin(module: str, node: str | None, env: Any) -> Builtin:
    """The class of this module of `rhd.worker`, in an env of a node."""
    at = daemon()
    key = (at.home, os.getpid(), module, node, repr(env.wire()) if isinstance(env, Env) else env)
    with _lock:
        found = _known.get(key)
        if found is None:
            if len(_known) >= KEPT:
                _known.clear()
            found = _known[key] = Builtin(at, f"rhd.worker.{module}", node, env)
        return found


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _known.clear()


os.register_at_fork(after_in_child=_after_fork)
