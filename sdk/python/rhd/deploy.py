"""Puts functions and classes on nodes, and puts them there again when their files change."""

from __future__ import annotations

import base64
import os
import re
import threading
import time
from collections.abc import Iterable
from typing import Any

from . import config, project
from .daemon import Daemon, call_id
from .env import Env
from .errors import NotFound
from .lease import Lease

CHECK = 0.05
"""Seconds between two looks at the files behind a function that is being called."""
WATCHED = 256
"""Files of a project that are watched beside the loaded ones."""


class Watch:
    """The state of some files at the time it was made."""

    def __init__(self, files: Iterable[str]) -> None:
        self._marks = {path: _mark(path) for path in files}

    def changed(self) -> bool:
        """Whether any of them is another one by now."""
        return any(_mark(path) != mark for path, mark in self._marks.items())


def _mark(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Deployment:
    """A function or class of this process on a node."""

    def __init__(
        self,
        daemon: Daemon,
        obj: Any,
        name: str | None,
        node: str | None,
        env: Env,
        placed: bool = False,
    ) -> None:
        self.daemon = daemon
        self.obj = obj
        self.node = node
        self.env = env
        # Whether the daemon chooses the node, the first time.
        self.placed = placed
        self.info: dict[str, Any] = {}
        self.next_look = 0.0
        self.lease: Lease | None = None
        self._name = name
        self._lock = threading.Lock()
        self._watch = Watch(())
        with self._lock:
            self._put()

    def put(self) -> None:
        """Deploys it again."""
        with self._lock:
            self._put()

    def came_off(self, error: NotFound) -> bool:
        """Whether the node forgot it (it was started anew, say) and has it again. What was not
        found has not run, so nothing runs twice."""
        if error.__cause__ is not None:
            return False
        self.put()
        return True

    def stale(self) -> bool:
        """Whether files behind it have changed, looked at no more often than `CHECK` says."""
        now = time.monotonic()
        if now < self.next_look:
            return False
        self.next_look = now + CHECK
        return self._watch.changed()

    def renew(self) -> None:
        """Deploys it again if that is still due."""
        with self._lock:
            if self._watch.changed():
                self._put()

    def _put(self) -> None:
        source = project.locate(self.obj, self.env.working_dir)
        # Marked before the daemon reads the files: what changes meanwhile is seen by the next look.
        watch = Watch(source.watched(WATCHED))
        leased = self._name is None
        if self._name is None:
            # The dot keeps it from being listed: it is nobody else's.
            self._name = f".{plain_name(self.obj)}-{random_mark()}"
        call = call_id()
        parts = [source.body] if source.body else []
        request = {
            "v": config.VERSION,
            "id": call,
            "node": self.node,
            "place": self.placed and self.node is None,
            "name": self._name,
            "env": self.env.wire(),
            "roots": [root.wire() for root in source.roots],
            "entry": source.entry,
        }
        self.info = self.daemon.ask({"op": "deploy", "deploy": request}, parts, call)
        self.node = self.info["node_id"]
        if leased:
            self.lease = Lease(self.daemon, self.info["name"], self.node)
        self._watch = watch


def random_mark() -> str:
    """Eight random characters for a name that nobody chose."""
    return base64.b32encode(os.urandom(5)).decode().lower()


def plain_name(obj: Any) -> str:
    """The last part of what something is called in the code, as a part of a name."""
    name = getattr(obj, "__name__", None) or type(obj).__name__
    return re.sub(r"[^\w.-]", "", name)[:100].strip(".") or "unnamed"
