"""The two packages that rhd needs, as installed or else as vendored.

A vendored package is imported under its own name: pickles name the functions of cloudpickle, and
must be readable by a peer that has the real one.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from types import ModuleType

_VENDOR = os.path.join(os.path.dirname(__file__), "_vendor")
_lock = threading.RLock()


def _vendored(name: str) -> ModuleType:
    folder = os.path.join(_VENDOR, name)
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"rhd's own copy of {name} is missing from {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def is_vendored(module: ModuleType) -> bool:
    """Whether a package is rhd's own copy."""
    return (module.__file__ or "").startswith(_VENDOR + os.sep)


def load(name: str) -> ModuleType:
    """Imports a package, from rhd's own copy when it is not installed."""
    with _lock:
        try:
            return importlib.import_module(name)
        except ImportError:
            return _vendored(name)


msgpack = load("msgpack")
if getattr(msgpack, "version", (0,)) < (1, 0):
    # Older ones have other defaults (`raw`, `strict_map_key`); keep theirs for whoever imported it.
    _theirs = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "msgpack"}
    for _name in _theirs:
        del sys.modules[_name]
    msgpack = _vendored("msgpack")
    sys.modules.update(_theirs)

_cloudpickle: ModuleType | None = None


def cloudpickle() -> ModuleType:
    """Returns cloudpickle, imported at the first use: plain values never need it."""
    global _cloudpickle
    if _cloudpickle is None:
        _cloudpickle = load("cloudpickle")
    return _cloudpickle
