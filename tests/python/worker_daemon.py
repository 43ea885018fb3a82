"""A daemon's side of the worker protocol, for tests that drive a real worker process."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

SDK = Path(__file__).resolve().parents[2] / "sdk" / "python"
if str(SDK) not in sys.path:
    sys.path.insert(0, str(SDK))

from rhd import codec, errors, frames  # noqa: E402
from rhd._deps import msgpack  # noqa: E402

# Nothing here takes long; a worker that hangs fails the test.
PATIENCE = 30.0
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def new_id() -> str:
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(26))


class Under:
    """A call under way on a lane of its own."""

    def __init__(self, daemon: Daemon, sock: socket.socket, header: dict) -> None:
        self.daemon, self.sock, self.id = daemon, sock, header["id"]
        self.output = {1: b"", 2: b""}
        self.frames: list[str] = []

    def next(self) -> tuple[dict, memoryview]:
        """Returns the next reply that is not output."""
        while True:
            header, body = frames.recv(self.sock)
            assert header["id"] == self.id
            self.frames.append(header["t"])
            if header["t"] != "log":
                if header["t"] in ("done", "fail"):
                    self.daemon.idle.put(self.sock)
                return header, body
            self.output[header["fd"]] += bytes(body)

    def until_output(self, text: str, fd: int = 1) -> None:
        while text.encode() not in self.output[fd]:
            header, body = frames.recv(self.sock)
            assert header["t"] == "log" and header["id"] == self.id, header
            self.frames.append("log")
            self.output[header["fd"]] += bytes(body)

    def item(self) -> Any:
        header, body = self.next()
        assert header["t"] == "item", header
        return codec.loads(frames.split(body, header["parts"]), header["codec"])

    def result(self) -> Any:
        header, body = self.next()
        if header["t"] == "fail":
            raise errors.from_info(header["error"], body)
        assert header["t"] == "done", header
        return codec.loads(frames.split(body, header["parts"]), header["codec"])

    def items(self) -> list:
        out = []
        while True:
            header, body = self.next()
            if header["t"] == "fail":
                raise errors.from_info(header["error"], body)
            if header["t"] == "done":
                return out
            out.append(codec.loads(frames.split(body, header["parts"]), header["codec"]))

    def info(self) -> tuple[dict, memoryview]:
        header, body = self.next()
        assert header["t"] == "fail", header
        return header["error"], body


class UnderControl(Under):
    """A call under way on the control lane."""

    def __init__(self, daemon: Daemon, header: dict) -> None:
        self.replies: queue.Queue = queue.Queue()
        super().__init__(daemon, daemon.control, header)
        daemon.on_control[self.id] = self.replies

    def next(self) -> tuple[dict, memoryview]:
        while True:
            header, body = self.replies.get(timeout=PATIENCE)
            self.frames.append(header["t"])
            if header["t"] != "log":
                return header, body
            self.output[header["fd"]] += bytes(body)

    def until_output(self, text: str, fd: int = 1) -> None:
        while text.encode() not in self.output[fd]:
            header, body = self.replies.get(timeout=PATIENCE)
            assert header["t"] == "log", header
            self.output[header["fd"]] += bytes(body)


class Daemon:
    """Starts a worker, accepts its lanes, and calls into it."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.token = secrets.token_hex(8)
        path = str(folder / "w.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        self.idle: queue.Queue[socket.socket] = queue.Queue()
        self.on_control: dict[str, queue.Queue] = {}
        self.reading = threading.Event()
        self.reading.set()
        self.hellos: queue.Queue[dict] = queue.Queue()
        self.out = (folder / "worker.out").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rhd.worker"],
            env={
                **os.environ,
                "PYTHONPATH": str(SDK),
                "RHD_WORKER": "w1",
                "RHD_WORKER_TOKEN": self.token,
                "RHD_WORKER_SOCKET": path,
                **env,
            },
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.control, hello = self._accept()
        assert hello["lane"] == "control"
        self.lanes = []
        for _ in range(4):
            self.accept_lane()
        threading.Thread(target=self._read_control, daemon=True).start()

    def _accept(self) -> tuple[socket.socket, dict]:
        self.listener.settimeout(PATIENCE)
        sock, _ = self.listener.accept()
        sock.settimeout(PATIENCE)
        hello, _ = frames.recv(sock)
        assert hello["token"] == self.token and hello["worker"] == "w1" and hello["v"] == 1
        return sock, hello

    def accept_lane(self) -> None:
        sock, hello = self._accept()
        assert hello["lane"] == "call" and hello["python"].startswith(PYTHON)
        self.lanes.append(sock)
        self.idle.put(sock)

    def _read_control(self) -> None:
        self.control.settimeout(None)
        try:
            while True:
                self.reading.wait()
                header, body = frames.recv(self.control)
                self.on_control[header["id"]].put((header, body))
        except (EOFError, OSError):
            pass

    def order(self, kind: str, **fields: Any) -> None:
        frames.send(self.control, {"t": kind, **fields})

    def ping(self) -> dict:
        """Asks whether the worker takes orders; returns its answer."""
        call_id, replies = new_id(), queue.Queue()
        self.on_control[call_id] = replies
        self.order("ping", id=call_id)
        header, body = replies.get(timeout=PATIENCE)
        assert not body
        return header

    def header(self, service: str, parts: list, **fields: Any) -> dict:
        return {
            "v": 1,
            "id": new_id(),
            "service": service,
            "verb": "call",
            "codec": "pickle",
            "parts": [memoryview(p).nbytes for p in parts],
            "logs": True,
            "caller": "test",
            **fields,
        }

    def start(self, service: str, *args: Any, kwargs: dict | None = None, **fields: Any) -> Under:
        """Starts a call on an idle lane."""
        parts = codec.dumps((args, kwargs or {}), fields.get("codec", "pickle"))
        header = self.header(service, parts, **fields)
        sock = self.idle.get(timeout=PATIENCE)
        frames.send(sock, header, parts)
        return Under(self, sock, header)

    def start_async(self, service: str, *args: Any, **fields: Any) -> UnderControl:
        """Starts a call on the control lane."""
        parts = codec.dumps((args, {}), fields.get("codec", "pickle"))
        header = self.header(service, parts, **fields)
        under = UnderControl(self, header)
        frames.send(self.control, {"t": "call", "call": header}, parts)
        return under

    def call(self, service: str, *args: Any, **fields: Any) -> Any:
        return self.start(service, *args, **fields).result()

    def project(self, name: str, version: str, **files: str) -> dict:
        """Writes a version of a project; returns it as a root. `a__b` is file a/b.py."""
        folder = self.folder / "projects" / f"{name}-{version}"
        for file, source in files.items():
            path = folder / (file.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        return {"project": name, "dir": str(folder), "sys_path": [""]}

    def load_under(
        self,
        name: str,
        entry: dict,
        roots: list | None = None,
        body: bytes = b"",
        version: str = "",
    ) -> Under:
        parts = [body] if body else []
        load = {"roots": roots or [], "entry": entry, "version": version or new_id() * 2}
        header = self.header(name, parts, verb="load", load=load)
        sock = self.idle.get(timeout=PATIENCE)
        frames.send(sock, header, parts)
        return Under(self, sock, header)

    def load(self, name: str, module: str, qualname: str, *roots: dict, version: str = "") -> dict:
        """Loads by reference."""
        entry = {"t": "import", "module": module, "qualname": qualname}
        return self.load_under(name, entry, list(roots), version=version).result()

    def load_value(self, name: str, obj: Any, python: str = PYTHON) -> dict:
        """Loads by value."""
        entry = {"t": "value", "python": python}
        return self.load_under(name, entry, body=codec.dumps_by_value(obj)).result()

    def code(self, source: str, *names: str) -> None:
        """Loads functions and classes of a one-file project, each under its own name."""
        root = self.project(f"p{new_id()}", "1", **{(module := f"m{new_id()}"): source})
        for name in names:
            self.load(name, module, name, root)

    def own_output(self) -> str:
        return (self.folder / "worker.out").read_text()

    def close(self) -> None:
        for sock in (self.control, self.listener, *self.lanes):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self.reading.set()
        try:
            self.process.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.out.close()


@pytest.fixture(name="daemon")
def daemon_fixture(tmp_path):
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.close()


__all__ = [
    "PYTHON",
    "Daemon",
    "Under",
    "UnderControl",
    "codec",
    "daemon_fixture",
    "errors",
    "frames",
    "msgpack",
    "new_id",
]
