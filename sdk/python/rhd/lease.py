"""What nobody chose a name for lives on its node only as long as somebody here can reach it."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
import time
from typing import Any

from . import config
from .daemon import Daemon, call_id

FAREWELL = 1.0
"""Seconds that the end of this process may take for what it leaves behind."""
PATIENCE = 10.0
"""Seconds that taking one thing off its node may take."""


class Lease:
    """Keeps a service on its node; at the end of the lease it is taken off."""

    def __init__(
        self, daemon: Daemon, service: str, node: str | None, *, instance: bool = False
    ) -> None:
        self.daemon = daemon
        self.service = service
        self.node = node
        self.instance = instance
        self._key = call_id()
        _leases.hold(self._key, self._request())

    def _request(self) -> tuple[Daemon, dict[str, Any]]:
        v, node, name = config.VERSION, self.node, self.service
        if self.instance:
            call: dict[str, Any] = {"v": v, "id": self._key, "service": name, "verb": "drop"}
            if node is not None:
                call["node"] = node
            return self.daemon, {"op": "call", "call": call}
        return self.daemon, {"op": "remove", "v": v, "name": name, "node": node}

    def __del__(self) -> None:
        _leases.release(self._key)


class Leases:
    """Ends leases from a thread of its own: a finalizer must neither wait nor start threads."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Daemon, dict[str, Any]]] = {}
        self._over: queue.SimpleQueue[tuple[Daemon, dict[str, Any]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def hold(self, key: str, request: tuple[Daemon, dict[str, Any]]) -> None:
        """Notes a lease, with what to ask when it ends."""
        self._held[key] = request
        self.ready()

    def ready(self) -> None:
        """Starts the thread, where it does not run."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="rhd-leases", daemon=True)
            self._thread.start()

    def release(self, key: str) -> None:
        """Notes the end of a lease; safe in a finalizer."""
        request = self._held.pop(key, None)
        if request is not None:
            self._over.put(request)

    def later(self, daemon: Daemon, request: dict[str, Any]) -> None:
        """Has something asked that nobody waits for; safe in a finalizer once it is `ready`."""
        self._over.put((daemon, request))

    def _run(self) -> None:
        while True:
            end(*self._over.get(), PATIENCE)

    def farewell(self) -> None:
        """Ends all leases at the end of the process, as far as there is time for it."""
        deadline = time.monotonic() + FAREWELL
        left = list(self._held.values())
        self._held.clear()
        with contextlib.suppress(queue.Empty):
            while True:
                left.append(self._over.get_nowait())
        for request in left:
            patience = deadline - time.monotonic()
            if patience <= 0:
                return
            end(*request, patience)

    def after_fork(self) -> None:
        """Leaves the parent's leases to the parent, in a forked child."""
        self._held = {}
        self._over = queue.SimpleQueue()
        self._thread = None


def end(daemon: Daemon, request: dict[str, Any], patience: float) -> None:
    """Takes something off its node; when that fails, nobody waits for it."""
    with contextlib.suppress(Exception):
        conn = daemon.take_kept()
        try:
            conn.sock.settimeout(patience)
            conn.post(request, ())
            conn.next()
        finally:
            # Also after a failure: the next call on it has no such hurry.
            conn.relax()
            daemon.give(conn)


_leases = Leases()
ready, later = _leases.ready, _leases.later
atexit.register(_leases.farewell)
os.register_at_fork(after_in_child=_leases.after_fork)
