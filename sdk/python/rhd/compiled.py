"""Compiled msgpack for frames, as soon as the daemon has fetched it.

Nobody waits for packages from a registry: workers and clients start with rhd's own copy, in pure
Python, and change to the compiled one, which halves what a small call costs them, when it arrives.
"""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.machinery import PathFinder
from types import ModuleType

from . import _deps, frames

# Seconds between two looks, at first; each is longer than the one before, about a minute in all.
_FIRST = 0.2
_GROWTH = 1.3
_LOOKS = 17


def watch() -> None:
    """Starts to look for it, where frames are made by rhd's own copy."""
    if _deps.is_vendored(_deps.msgpack):
        threading.Thread(target=_look, name="rhd-compiled", daemon=True).start()


def _look() -> None:
    pause, never = _FIRST, threading.Event()
    for _ in range(_LOOKS):
        never.wait(pause)
        pause *= _GROWTH
        importlib.invalidate_caches()
        # Only what lies on `sys.path`; rhd's own copy doesn't.
        if PathFinder.find_spec("msgpack") is not None:
            found = _import()
            if found is not None:
                frames.use(found)
            return


def _import() -> ModuleType | None:
    """Imports it in place of rhd's own copy, which stays where it can't be imported after all."""
    own = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_msgpack(name)}
    try:
        return importlib.import_module("msgpack")
    except ImportError:
        sys.modules.update(own)
        return None


def _is_msgpack(name: str) -> bool:
    return name.partition(".")[0] == "msgpack"
