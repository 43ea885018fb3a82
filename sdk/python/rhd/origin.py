"""What made data: the call that the running code belongs to, and what that has read by now."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterable
from typing import Any

Origin = dict[str, Any]
"""As `data::Origin` of the protocol."""

MAX_INPUTS = 64
"""Inputs that one record names."""


class Reads:
    """What one call has read."""

    def __init__(self) -> None:
        self.inputs: dict[str, None] = {}
        self.more = False

    def add(self, text: str) -> None:
        """Notes one more, unless there are too many."""
        if text in self.inputs:
            return
        if len(self.inputs) < MAX_INPUTS:
            self.inputs[text] = None
        else:
            self.more = True


_reads: weakref.WeakKeyDictionary[Any, Reads] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _call() -> Any:
    worker = sys.modules.get("rhd.worker.call")
    return None if worker is None else worker.current.get()


def named(content_hash: str, name: str | None) -> str:
    """The text that a record has for an input."""
    return f"{name}@{content_hash}" if name else content_hash


def read(content_hash: str, name: str | None) -> None:
    """Notes that the call that this is in, if it is in one, has read something."""
    call = _call()
    if call is None:
        return
    with _lock:
        _reads.setdefault(call, Reads()).add(named(content_hash, name))


def noted() -> bool:
    """Whether one more reading would be noted: in a call that has not read too much yet."""
    call = _call()
    if call is None:
        return False
    with _lock:
        reads = _reads.get(call)
        return reads is None or not reads.more


def current(inputs: Iterable[str] | None = None) -> Origin | None:
    """What makes what is stored now: the call, and what it has read by now, or these inputs."""
    call = _call()
    origin: Origin = {}
    if call is not None:
        origin["run"] = call.id
        origin["service"] = ".".join(filter(None, (call.service, call.method)))
    if inputs is not None:
        origin["inputs"] = list(dict.fromkeys(inputs))
        if len(origin["inputs"]) > MAX_INPUTS:
            raise ValueError(f"a record has at most {MAX_INPUTS} inputs")
    elif call is not None:
        with _lock:
            reads = _reads.get(call)
            if reads is not None:
                origin.update(inputs=list(reads.inputs), more=reads.more)
    return origin or None


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
