"""The daemon of this machine: connections for one call each, kept for the next one."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import codec, compiled, config, console, frames, segments
from .connection import GRACE, Connection, lost
from .faults import fault

IDLE = 64
"""Connections kept for later calls; more than these are closed after use."""
START = 15.0
"""Seconds that a daemon may take to start."""
ANSWER = 60.0
"""Seconds that the daemon may take to answer a question about itself or the realm."""


class Daemon:
    """The daemon of one home."""

    def __init__(self, home: str) -> None:
        self.home = home
        self.path = os.path.join(home, "rhd.sock")
        self._idle: list[Connection] = []
        self._starting = threading.Lock()
        self._user: str | None = None
        self._beside: bool | None = None
        # Whether it is too old to take many calls on one connection.
        self.one_each = False
        compiled.watch()

    def take(self, call: str = "") -> Connection:
        """A connection of one's own, for one request."""
        return self._kept(call) or self._fresh(call, self._connect)

    def take_kept(self, call: str = "") -> Connection:
        """The same, but without starting a daemon where none runs."""
        return self._kept(call) or self._fresh(call, lambda: connect(self.path))

    def _kept(self, call: str) -> Connection | None:
        while self._idle:
            try:
                conn = self._idle.pop()
            except IndexError:
                break
            if conn.is_idle():
                conn.reused = True
                conn.finished = False
                conn.told = None
                conn.call = call
                console.underway.add(conn)
                return conn
            conn.close()
        return None

    def _fresh(self, call: str, reach: Callable[[], socket.socket]) -> Connection:
        conn = Connection(reach())
        conn.call = call
        console.underway.add(conn)
        return conn

    def give(self, conn: Connection) -> None:
        """Takes a connection back: kept after the final reply, else closed, which cancels it."""
        console.underway.discard(conn)
        if conn.finished and len(self._idle) < IDLE:
            self._idle.append(conn)
        else:
            conn.close()

    def open(
        self,
        header: dict[str, Any],
        parts: Sequence[Any],
        call: str = "",
        timeout: float | None = None,
    ) -> Connection:
        """Sends a request; its replies come from the connection, which is the caller's to give
        back after the final one, or to close."""
        conn = self.take(call)
        try:
            if timeout is not None:
                conn.sock.settimeout(timeout + GRACE)
            try:
                if "call" in header:
                    header["call"]["beside"] = segments.available
                if (
                    ("call" in header or "ask" in header)
                    and segments.is_large(parts)
                    and self.takes_beside()
                ):
                    conn.post(header, segments.lend(parts))
                else:
                    conn.post(header, parts)
            except (OSError, EOFError) as e:
                # A request that was not sent whole has not run. A kept connection may just be old;
                # a fresh one that is refused has the reason in it.
                if not conn.reused:
                    conn.next()
                    raise lost(call, e) from e
                conn.close()
                self.drop_idle()
                return self.open(header, parts, call, timeout)
        except BaseException:
            conn.close()
            raise
        return conn

    def request(self, op: str, *, timeout: float | None = ANSWER, **fields: Any) -> Any:
        """Asks the daemon something of its own and returns the answer as plain data."""
        return self.ask({"op": op, "v": config.VERSION, **fields}, (), timeout=timeout)

    def ask(
        self,
        header: dict[str, Any],
        parts: Sequence[Any],
        call: str = "",
        timeout: float | None = None,
    ) -> Any:
        """Sends a request and returns its one result, decoded."""
        conn = self.open(header, parts, call, timeout)
        return self.finish(conn, timeout)

    def finish(self, conn: Connection, timeout: float | None = None) -> Any:
        """Waits for the one result of a request and takes its connection back."""
        try:
            reply, body = conn.next()
        finally:
            if timeout is not None:
                conn.relax()
            self.give(conn)
        return decode(reply, body)

    def takes_beside(self) -> bool:
        """Whether the daemon takes payloads beside frames."""
        if self._beside is None:
            self._beside = bool(self.request("status").get("beside"))
        return self._beside

    def user(self) -> str:
        """The user whose folder bare names go to."""
        if self._user is None:
            self._user = str(self.request("status")["user"])
        return self._user

    def drop_idle(self) -> None:
        """Closes the connections that no call uses."""
        # Another daemon may have come in the place of this one.
        self._beside = None
        self.one_each = False
        idle, self._idle = self._idle, []
        for conn in idle:
            conn.close()

    def _connect(self) -> socket.socket:
        try:
            return connect(self.path)
        except OSError as e:
            refusal = unavailable(self.path, e)
            if not config.autostart() or isinstance(e, PermissionError):
                raise refusal from e
        self.start()
        return connect(self.path)

    def start(self) -> None:
        """Starts the daemon unless one answers by now; returns when it does."""
        with self._starting:
            if answers(self.path):
                return
            said = start(self.home)
            deadline = time.monotonic() + (2.0 if said else START)
            pause = 0.01
            while not answers(self.path):
                if time.monotonic() > deadline:
                    raise fault(
                        "daemon_unavailable",
                        f"the daemon of {self.home} did not start" + (f": {said}" if said else ""),
                        hint="run `rhd up` in a terminal and read what it says",
                    )
                time.sleep(pause)
                pause = min(pause * 2, 0.2)


def connect(path: str) -> socket.socket:
    """A connection to the socket at `path`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def answers(path: str) -> bool:
    """Whether somebody listens at `path`."""
    try:
        connect(path).close()
    except OSError:
        return False
    return True


def start(home: str) -> str:
    """Runs `rhd up --detach`; returns what it said when it failed."""
    program = config.binary()
    if program is None:
        raise fault(
            "daemon_unavailable",
            f"no daemon runs for {home}, and there is no `rhd` program to start one",
            hint="put `rhd` on PATH, or name it in RHD_BIN",
        )
    # A file, not a pipe: the daemon would inherit the pipe and keep it open for good.
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                [program, "up", "--detach"],
                env={**os.environ, "RHD_HOME": home},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                timeout=START,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"`{program} up --detach` did not return"
        except OSError as e:
            return f"{program}: {e.strerror}"
        if done.returncode == 0:
            return ""
        said.seek(0)
        return said.read(4096).decode(errors="replace").strip() or f"exit {done.returncode}"


def unavailable(path: str, error: OSError) -> BaseException:
    """What it means that nobody can be reached at `path`."""
    if isinstance(error, PermissionError):
        return fault(
            "daemon_unavailable",
            f"the daemon's socket {path} belongs to somebody else",
            hint="name a home of your own in RHD_HOME",
        )
    return fault(
        "daemon_unavailable",
        f"no daemon answers at {path} ({error.strerror or error})",
        hint="start one with `rhd up --detach`",
    )


def decode(reply: dict[str, Any], body: memoryview) -> Any:
    """The value in an item or result."""
    parts = reply.get("parts")
    if parts == [len(body)] and reply.get("codec") == "pickle":
        return pickle.loads(body)
    return codec.loads(frames.split(body, reply.get("parts") or ()), reply.get("codec", "pickle"))


def call_id() -> str:
    """A fresh id: 16 random bytes in lower-case base32."""
    while True:
        try:
            return _ids.pop()
        except IndexError:
            digits = os.urandom(25 * _AT_ONCE).translate(_DIGIT).decode()
            lasts = os.urandom(_AT_ONCE).translate(_LAST).decode()
            _ids.extend(digits[25 * n : 25 * n + 25] + lasts[n] for n in range(_AT_ONCE))


# Made some at a time; a forked child makes its own.
_AT_ONCE = 64
_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)


_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567"
_DIGIT = _BASE32 * 8
# 26 digits have two bits more than 16 bytes; these are zero.
_LAST = bytes(_BASE32[byte & 28] for byte in range(256))

_daemons: dict[str, Daemon] = {}


def daemon() -> Daemon:
    """The daemon that RHD_HOME names now."""
    home = config.home()
    found = _daemons.get(home)
    return found or _daemons.setdefault(home, Daemon(home))


def _after_fork() -> None:
    # The parent's connections: closing this process's copies leaves the parent's open.
    held = [conn for d in _daemons.values() for conn in d._idle]
    held += [conn for conn in console.underway if isinstance(conn, Connection)]
    for conn in held:
        conn.sock.close()
    console.after_fork()
    for d in _daemons.values():
        d._idle = []
        d._starting = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
