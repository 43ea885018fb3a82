"""Commands in envs of nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from .builtin import builtin
from .env import as_env
from .faults import fault
from .remote import DEFAULT

Outcome = list[tuple[int, str, str]]


def lines(given: str | Iterable[str]) -> list[str]:
    """One string or several, as several."""
    found = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(one, str) for one in found):
        raise TypeError("commands and requirements are strings")
    return found


def _call(node: str | None, env: Any, method: str, what: Any, stream_logs: bool) -> Outcome:
    options = replace(DEFAULT, stream_logs=stream_logs)
    run = {"name": "", "detach": False}
    said = builtin("shell", node, env).call(method, what, options=options, run=run)
    return [tuple(one) for one in said]  # type: ignore[misc]


def run(node: str | None, cmds: str | Iterable[str], env: Any, stream_logs: bool = True) -> Outcome:
    """Runs commands one after the other; exit code, stdout and stderr of each."""
    return _call(node, env, "run", lines(cmds), stream_logs)


def run_python(
    node: str | None, cmds: str | Iterable[str], env: Any, stream_logs: bool = True
) -> Outcome:
    """Runs lines of Python in one fresh process."""
    return _call(node, env, "python", "\n".join(lines(cmds)), stream_logs)


def install(node: str | None, reqs: str | Iterable[str], env: Any) -> None:
    """Adds packages to an env, or to the node's own interpreter."""
    wanted = lines(reqs)
    if not wanted:
        return
    if env not in (None, "base", "base_env"):
        as_env(env, node).add(wanted, node)
        return
    ((code, out, err),) = _call(node, None, "install", wanted, True)
    if code:
        raise fault(
            "env_error",
            f"{', '.join(wanted)} can't be installed into the node's own interpreter: "
            + (err.strip() or out.strip())[-2000:],
            hint='give packages an env of their own: install_packages([…], env="name")',
        )
