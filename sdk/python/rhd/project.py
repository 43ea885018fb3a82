"""Where a function or class lives: what to send so that it runs elsewhere.

Importable code goes by reference, with the project folder around it; what belongs to `__main__`, a
notebook, another function or `exec` goes by value. The daemon reads the folders itself.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from . import _deps, codec

MARKERS = (".git", "pyproject.toml", "setup.py")
MAX_ONLY = 500
"""Files of a folder without a project marker that are offered; with more, only loaded modules."""


@dataclass
class Root:
    """A folder to send (`api::LocalRoot`)."""

    path: str
    sys_path: list[str] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)

    def wire(self) -> dict[str, Any]:
        """As the daemon reads it."""
        return {"path": self.path, "sys_path": self.sys_path, "only": self.only}


@dataclass
class Source:
    """A function or class, ready to be deployed."""

    entry: dict[str, Any]
    body: bytes
    roots: list[Root]

    def watched(self, beside: int) -> set[str]:
        """The files that it may depend on: those loaded here, and some `beside` them that may be
        imported there."""
        loaded = set().union(*(root.files for root in self.roots))
        found: set[str] = set()
        for root in self.roots:
            for folder in root.sys_path:
                found.update(_python_files(os.path.join(root.path, folder), beside - len(found)))
        return loaded | found


def locate(obj: Any, working_dir: str | None = None) -> Source:
    """Finds out how `obj` gets to another node."""
    module = sys.modules.get(getattr(obj, "__module__", None) or "")
    if module is not None and is_importable(obj, module):
        entry = {"t": "import", "module": module.__name__, "qualname": obj.__qualname__}
        path = local_file(module)
        roots = _roots(module, working_dir) if path else []
        return Source(entry, b"", roots)
    entry = {"t": "value", "python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    return Source(entry, _by_value(obj, module), _roots(module, working_dir))


def _by_value(obj: Any, module: ModuleType | None) -> bytes:
    own = module is not None and local_file(module) is not None
    if own and isinstance(obj, (FunctionType, type)):
        return codec.dumps_by_value(obj)
    # A partial or bound method, say: its own parts decide which of them go by reference.
    return bytes(_deps.cloudpickle().dumps(obj, protocol=5))


def is_importable(obj: Any, module: ModuleType) -> bool:
    """Whether importing `module` elsewhere and looking up the qualified name finds `obj`."""
    if module.__name__ == "__main__":
        return False
    if getattr(module, "__file__", None) is None and not _is_builtin(module):
        return False
    found: Any = module
    for part in getattr(obj, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    return found is not None and (found is obj or unwrap(found) is obj)


def unwrap(obj: Any) -> Any:
    """What a decorated function or class was before it was decorated."""
    return getattr(obj, "__rhd_wrapped__", obj)


def _is_builtin(module: ModuleType) -> bool:
    return module.__name__.partition(".")[0] in sys.stdlib_module_names


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    paths = {sysconfig.get_path(k) for k in ("stdlib", "platstdlib", "purelib", "platlib")}
    own = str(Path(__file__).resolve().parent)
    return tuple(os.path.realpath(p) + os.sep for p in (*paths, own) if p)


def _is_installed(path: str) -> bool:
    return (
        f"{os.sep}site-packages{os.sep}" in path
        or f"{os.sep}dist-packages{os.sep}" in path
        or path.startswith(_installed())
    )


def local_file(module: ModuleType) -> str | None:
    """The file of a module of the user's own; none for those of Python, packages, or rhd."""
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or not path.endswith(".py"):
        return None
    path = os.path.realpath(path)
    return None if _is_installed(path) or not os.path.isfile(path) else path


def _import_dir(name: str, path: str) -> str:
    """The folder that was on `sys.path` when module `name` was imported from `path`."""
    if name in ("__main__", "__mp_main__"):
        return os.path.dirname(path)
    up = name.count(".") + (os.path.basename(path) == "__init__.py")
    folder = os.path.dirname(path)
    for _ in range(up):
        folder = os.path.dirname(folder)
    return folder


def project_of(folder: str) -> str | None:
    """The nearest folder with a project marker, from `folder` up; never `/` or the home folder."""
    home = os.path.realpath(os.path.expanduser("~"))
    path = os.path.realpath(folder)
    while path != home and os.path.dirname(path) != path:
        if any(os.path.exists(os.path.join(path, marker)) for marker in MARKERS):
            return path
        path = os.path.dirname(path)
    return None


def _roots(own: ModuleType | None, working_dir: str | None) -> list[Root]:
    """The folders of all local code that is loaded, that of `own` first."""
    roots: dict[str, Root] = {}
    bases: dict[str, list[str]] = {}
    bare: set[str] = set()

    def add(base: str, path: str | None = None) -> None:
        project = project_of(os.path.dirname(path) if path else base)
        root = roots.setdefault(project or base, Root(project or base))
        seen = bases.setdefault(root.path, [])
        if base not in seen:
            seen.append(base)
        if path:
            root.files.add(path)
        if not project:
            bare.add(base)

    local = {
        name: path
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and (path := local_file(module))
    }
    first = own.__name__ if own is not None and own.__name__ in local else "__main__"
    if first in local:
        add(_import_dir(first, local[first]), local[first])
    else:
        add(os.path.realpath(os.getcwd()))
    for name, path in local.items():
        add(_import_dir(name, path), path)
    if working_dir is not None:
        folder = os.path.realpath(os.path.expanduser(working_dir))
        roots.setdefault(folder, Root(folder))
        bases.setdefault(folder, []).append(folder)
        bare.discard(folder)

    for root in roots.values():
        root.sys_path = _sys_path(root.path, bases[root.path])
        if root.path in bare:
            root.only = _only(root)
    # Without a list of files, a folder is sent whole: never one that is no project.
    return [r for r in roots.values() if r.only or r.path not in bare]


def _sys_path(root: str, bases: Iterable[str]) -> list[str]:
    """The entries of `sys.path` inside `root`, relative to it, then the other import folders."""
    # The other side has an rhd of its own.
    own = str(Path(__file__).resolve().parent.parent)
    entries = [os.path.realpath(entry or os.getcwd()) for entry in sys.path]
    found: list[str] = []
    for entry in [*(entry for entry in entries if entry != own), *bases]:
        inside = entry == root or entry.startswith(root + os.sep)
        if not inside or _is_installed(entry + os.sep) or not os.path.isdir(entry):
            continue
        relative = "" if entry == root else os.path.relpath(entry, root)
        if relative not in found:
            found.append(relative)
    return found


def _only(root: Root) -> list[str]:
    """The Python files and packages right inside a folder that is no project."""
    loaded = {os.path.relpath(path, root.path).split(os.sep)[0] for path in root.files}
    found = set(loaded)
    with os.scandir(root.path) as entries:
        for entry in entries:
            is_package = os.path.exists(os.path.join(entry.path, "__init__.py"))
            if is_package or (entry.name.endswith(".py") and entry.is_file()):
                found.add(entry.name)
    return sorted(found if len(found) <= MAX_ONLY else loaded)


def _python_files(folder: str, limit: int) -> list[str]:
    found: list[str] = []
    for path, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith((".", "__")) and _is_package(path, f)]
        for name in files:
            if len(found) >= limit:
                return found
            if name.endswith(".py"):
                found.append(os.path.join(path, name))
    return found


def _is_package(path: str, folder: str) -> bool:
    return os.path.exists(os.path.join(path, folder, "__init__.py"))


def home_of(wrapper: Any) -> str | None:
    """The importable module in which a wrapper stands under its own qualified name."""
    module = sys.modules.get(getattr(wrapper, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or not is_importable(wrapper, module):
        return None
    return module.__name__


def lookup(module: str, qualname: str) -> Any:
    """What stands in `module` under `qualname`."""
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
