"""Project folders on `sys.path`: one version of each project, and no two with the same module."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.abc
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ..errors import EnvError, RhdError
from .call import Refused

_SUFFIXES = (".py", ".so", ".pyd")


@dataclasses.dataclass(frozen=True)
class Root:
    """One version of a project."""

    project: str
    dir: str
    paths: tuple[str, ...]

    @classmethod
    def parse(cls, root: Any) -> Root:
        try:
            folder = os.path.abspath(root["dir"])
            paths = tuple(
                os.path.normpath(os.path.join(folder, sub)) for sub in root["sys_path"] or [""]
            )
            return cls(str(root["project"]), folder, paths)
        except (KeyError, TypeError) as error:
            raise Refused(
                RhdError(f"a project folder lacks {error}", kind="bad_request")
            ) from error

    def defines(self) -> set[str]:
        """Names of the top-level modules and packages in it; folders without __init__ can share."""
        names = set()
        for path in self.paths:
            try:
                entries = list(os.scandir(path))
            except OSError:
                continue
            for entry in entries:
                stem, dot, _ = entry.name.partition(".")
                if dot and entry.name.endswith(_SUFFIXES):
                    names.add(stem)
                elif os.path.exists(os.path.join(entry.path, "__init__.py")):
                    names.add(entry.name)
        return names


class ModuleConflict(ImportError):
    """Two projects of one env define the same top-level module."""

    def __init__(self, error: EnvError, name: str = "") -> None:
        super().__init__(str(error), name=name)
        self.error = error


class Roots(importlib.abc.MetaPathFinder):
    """The projects of this process. The caller holds its lock while it changes them."""

    def __init__(self) -> None:
        self._roots: dict[str, Root] = {}
        self._defined: dict[str, frozenset[str]] = {}
        sys.meta_path.insert(0, self)

    def keep(self, projects: set[str]) -> None:
        """Forgets all other projects and their modules."""
        gone = [root for root in self._roots.values() if root.project not in projects]
        for root in gone:
            del self._roots[root.project]
            del self._defined[root.project]
            sys.path[:] = [p for p in sys.path if p not in root.paths]
        _purge([root.dir for root in gone])

    def activate(self, roots: Sequence[Root]) -> None:
        """Puts these versions on `sys.path` in place of other versions of the same projects."""
        for root in roots:
            if not os.path.isdir(root.dir):
                raise Refused(
                    EnvError(f"the project folder {root.dir} is missing", hint="send it again")
                )
        old_dirs = []
        for root in roots:
            old = self._roots.get(root.project)
            if old == root:
                continue
            if old is not None:
                if old.dir == root.dir:
                    root = dataclasses.replace(
                        root, paths=tuple(dict.fromkeys(root.paths + old.paths))
                    )
                else:
                    old_dirs.append(old.dir)
                    sys.path[:] = [p for p in sys.path if p not in old.paths]
            self._roots[root.project] = root
            self._defined[root.project] = frozenset(root.defines())
        _purge(old_dirs)
        first = list(dict.fromkeys(path for root in roots for path in root.paths))
        if sys.path[: len(first)] != first:
            sys.path[:] = first + [p for p in sys.path if p not in first]
        importlib.invalidate_caches()
        for root in roots:
            self._check_imported(root)

    def _check_imported(self, root: Root) -> None:
        """Fails when a module of this project would be hidden by another project's."""
        for name in self._defined.get(root.project, ()):
            module = sys.modules.get(name)
            # Below its own folder too: of nested projects, the inner one may be what was meant.
            if module is None or _is_below(module, root.dir):
                continue
            for other in self._roots.values():
                if other.project != root.project and _is_below(module, other.dir):
                    raise Refused(_conflict(name, root, other))

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Finds nothing; fails when it is ambiguous whose module is meant."""
        if path is not None or "." in name:
            return
        roots = list(self._roots.values())
        owners = [r for r in roots if name in self._defined.get(r.project, ())]
        if len(owners) > 1 and not (set(owners[0].paths) & set(owners[1].paths)):
            raise ModuleConflict(_conflict(name, owners[0], owners[1]), name)

    def invalidate_caches(self) -> None:
        """Has none: folders of projects never change."""


def is_hidden(name: str, roots: Sequence[Root]) -> bool:
    """Whether they define a module, but one of that name from elsewhere was imported before."""
    module = sys.modules.get(name)
    if module is None or any(_is_below(module, root.dir) for root in roots):
        return False
    return any(name in root.defines() for root in roots)


def _conflict(name: str, one: Root, other: Root) -> EnvError:
    return EnvError(
        f"two projects in this env define module {name!r}: {one.project} and {other.project}",
        hint="give each project an env of its own: rh.env(name=...)",
    )


def _is_below(module: ModuleType | None, folder: str) -> bool:
    places = [getattr(module, "__file__", None)]
    if places[0] is None:
        # A package without __init__ may have parts in several folders.
        try:
            places = list(getattr(module, "__path__", ()))
        except Exception:
            return False
    return any(isinstance(p, str) and p.startswith(folder + os.sep) for p in places)


def _purge(folders: Sequence[str]) -> None:
    """Forgets modules of old versions; who holds their objects keeps them."""
    if not folders:
        return
    for name, module in list(sys.modules.items()):
        if any(_is_below(module, folder) for folder in folders):
            sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            if parent in sys.modules and getattr(sys.modules[parent], child, None) is module:
                with contextlib.suppress(Exception):
                    delattr(sys.modules[parent], child)
    for path in list(sys.path_importer_cache):
        if any(path == f or path.startswith(f + os.sep) for f in folders):
            sys.path_importer_cache.pop(path, None)
