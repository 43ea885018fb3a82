"""Commands of an env: shell commands that run where its functions do."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

KEPT = 8 * 1024 * 1024
"""Bytes of each stream that are returned: the last ones; all of it is streamed."""
_CHUNK = 64 * 1024
# A cancellation is noticed between two waits of this many seconds.
_WAIT = 0.1
# How long the output of what a command left in the background is still read, after its end.
_TAIL = 0.2
# What a cancelled command may take to end on SIGTERM.
_GRACE = 2.0
# Ends the group that it leads when this process has gone, however that came about.
_GUARD = "trap '' TERM; read -r _; kill -9 0"


class Shell:
    """A class whose methods run in the env's first worker."""

    @staticmethod
    def run(cmds: Sequence[str]) -> list[tuple[int, str, str]]:
        """Runs commands one after the other; returns the exit code and output of each."""
        shell = shutil.which("bash") or "/bin/sh"
        return [_run([shell, "-c", cmd]) for cmd in cmds]

    @staticmethod
    def python(code: str) -> list[tuple[int, str, str]]:
        """Runs code in a fresh process of the env's interpreter."""
        return [_run([sys.executable, "-c", code])]

    @staticmethod
    def install(reqs: Sequence[str]) -> list[tuple[int, str, str]]:
        """Installs packages into the interpreter, by uv where there is one, else by pip."""
        uv = shutil.which("uv")
        pip = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
        at = ["--python", sys.executable] if uv else []
        return [_run([*pip, "install", *at, "--", *reqs])]


class _Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        self._kept += data
        # At twice the size, so that a byte is moved once on average.
        if len(self._kept) > 2 * KEPT:
            self._cut()

    def _cut(self) -> None:
        extra = len(self._kept) - KEPT
        if extra > 0:
            self._dropped += extra
            del self._kept[:extra]

    def text(self) -> str:
        self._cut()
        text = self._kept.decode("utf-8", "replace")
        return f"... {self._dropped} bytes left out ...\n{text}" if self._dropped else text


def _run(argv: Sequence[str]) -> tuple[int, str, str]:
    with _group() as leader:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            **_in_group(leader),
        )
        # Closes its pipes and waits for it, also when `_group` had to end it.
        with process:
            try:
                out, err = _follow(process)
            except BaseException:
                _end(leader, process)
                raise
        return process.returncode, out, err


@contextlib.contextmanager
def _group() -> Iterator[int]:
    """A process group that ends with this process."""
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **_in_group(0),
    )
    try:
        yield guard.pid
    except BaseException:
        _signal(guard.pid, signal.SIGKILL)
        raise
    finally:
        # Only the guard: what a command left in the background goes on.
        guard.kill()
        with guard:
            pass


def _in_group(leader: int) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        return {"process_group": leader}
    return {"preexec_fn": lambda: os.setpgid(0, leader)}


def _environment() -> dict[str, str]:
    # Programs that the command starts are no workers.
    return {k: v for k, v in os.environ.items() if k != "RHD_WORKER"}


def _follow(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Passes the output on as it comes, until the process has ended and all is read."""
    tails = {1: _Tail(), 2: _Tail()}
    streams: dict[int, Any] = {1: sys.stdout, 2: sys.stderr}
    until: float | None = None
    with selectors.DefaultSelector() as pipes:
        for fd, pipe in ((1, process.stdout), (2, process.stderr)):
            if pipe is not None:
                pipes.register(pipe, selectors.EVENT_READ, fd)
        while pipes.get_map():
            ready = pipes.select(_WAIT)
            for key, _ in ready:
                data = os.read(key.fd, _CHUNK)
                if data:
                    tails[key.data].add(data)
                    streams[key.data].buffer.write(data)
                else:
                    pipes.unregister(key.fileobj)
            if process.poll() is not None:
                # Who keeps the pipes open longer is not the command.
                until = until or time.monotonic() + _TAIL
                if not ready or time.monotonic() > until:
                    break
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_WAIT)
    for stream in streams.values():
        stream.flush()
    return tails[1].text(), tails[2].text()


def _end(group: int, process: subprocess.Popen[bytes]) -> None:
    """Ends a command with all that it started, which may first tidy up."""
    _signal(group, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
