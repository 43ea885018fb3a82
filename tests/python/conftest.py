"""Real daemons: one mesh of two nodes for all tests, fresh ones for those that break things."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rhd as rh
from http_client import Answer, ask
from rhd import daemon, deploy

BINARY = os.environ.get("RHD_BIN") or shutil.which("rhd") or "rhd"
READY = 30.0


def until(true: Callable[[], Any], what: str, limit: float = READY) -> Any:
    """Waits for something to become true and returns it."""
    deadline = time.monotonic() + limit
    while True:
        found = true()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit:.0f} s: {what}")
        time.sleep(0.01)


def freeze(pid: int) -> None:
    """Has a process stand still, and waits until all of its threads do.

    The signal stops it when one of them next runs; until then the others go on.
    """
    os.kill(pid, signal.SIGSTOP)
    task = Path("/proc") / str(pid) / "task"

    def stands_still() -> bool:
        # The state of a thread follows its name, see proc_pid_stat(5).
        states = [stat.read_text().rpartition(") ")[2] for stat in task.glob("*/stat")]
        return all(state.startswith("T") for state in states)

    until(stands_still, "it stands still")


class Node:
    """A daemon in a process and home of its own."""

    def __init__(self, home: Path, name: str, **settings: str) -> None:
        self.home = home
        self.name = name
        self.settings = settings
        # What becomes the daemon once it has prepared the place for it.
        self.wrapper: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def cli(self, *args: str, check: bool = True) -> str:
        """Runs a verb and returns its stdout."""
        done = subprocess.run(
            [BINARY, "--home", str(self.home), *args],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"rhd {args}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def status(self) -> dict[str, Any] | None:
        """How it is, or nothing while it doesn't answer."""
        said = self.cli("status", "--json", check=False)
        return json.loads(said) if said else None

    def up(self) -> Node:
        """Starts it and waits until it answers."""
        env = {
            **os.environ,
            "RHD_NODE_NAME": self.name,
            "RHD_NODE_USER": "ann",
            "RHD_WORKERS_PYTHON": sys.executable,
            **self.settings,
        }
        env.pop("RHD_HOME", None)
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "out.log", "ab") as out:
            self.process = subprocess.Popen(
                [*self.wrapper, BINARY, "--home", str(self.home), "up"],
                env=env,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        until(
            lambda: self.process and (self.process.poll() is not None or self.status()),
            f"{self.name} answers",
        )
        assert self.process.poll() is None, (self.home / "out.log").read_text()
        return self

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Ends it in good order."""
        if self.process is None or self.process.poll() is not None:
            return
        # Where a test failed that had it stand still.
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end on SIGTERM") from None

    def join(self, other: Node) -> Node:
        """Joins the realm of another node and waits until both have a link."""
        self.cli("join", other.cli("invite"))
        until(lambda: self._linked(other) and other._linked(self), f"{self.name} joins")
        return self

    def _linked(self, other: Node) -> bool:
        peers = json.loads(self.cli("peers", "--json"))
        return any(p["name"] == other.name and p["path"] != "none" for p in peers)


def use(node: Node) -> None:
    """Makes this process a client of the node."""
    os.environ["RHD_HOME"] = str(node.home)


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    # Short: the path of a socket has little room.
    path = Path(tempfile.mkdtemp(prefix="rhd-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def mesh(root: Path) -> Iterator[tuple[Node, Node]]:
    """Two nodes of one realm; this process is a client of the first."""
    os.environ["RHD_AUTOSTART"] = "0"
    here, there = Node(root / "a", "alpha"), Node(root / "b", "beta")
    try:
        here.up()
        there.up().join(here)
        use(here)
        yield here, there
    finally:
        here.stop()
        there.stop()


@pytest.fixture(params=["here", "beta"])
def where(request: pytest.FixtureRequest, mesh: Any) -> str:
    """Each node in turn: this one, and one across the mesh."""
    return str(request.param)


@pytest.fixture
def beta(mesh: Any) -> str:
    """The node across the mesh."""
    return "beta"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that is empty as yet."""
    path = tmp_path / "source"
    path.mkdir()
    return path


@contextlib.contextmanager
def nodes(root: Path) -> Iterator[Callable[..., Node]]:
    """Makes nodes of one realm; meanwhile this process is a client of the first."""
    before = os.environ.get("RHD_HOME")
    os.environ["RHD_AUTOSTART"] = "0"
    made: list[Node] = []
    folder = Path(tempfile.mkdtemp(dir=root))

    def make(name: str, **settings: str) -> Node:
        node = Node(folder / name, name, **settings)
        made.append(node)
        node.up()
        if len(made) == 1:
            use(node)
        else:
            node.join(made[0])
        return node

    try:
        yield make
    finally:
        # First of all: a node that does not end must not be what later tests talk to.
        if before is not None:
            os.environ["RHD_HOME"] = before
        else:
            os.environ.pop("RHD_HOME", None)
        for node in made:
            node.stop()


@pytest.fixture
def fresh(root: Path) -> Iterator[Callable[..., Node]]:
    """Makes nodes that a test may break; this process is a client of the first."""
    with nodes(root) as make:
        yield make


class Project:
    """A project folder whose modules this process imports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Two projects of one env can't both have an `app`.
        self.env = rh.env(name=f"{path.parent.name}-{os.getpid()}".replace("_", "-")[:60])

    def write(self, **files: str) -> None:
        """Writes modules; `pkg_DOT_mod` is `pkg/mod.py`."""
        for name, text in files.items():
            path = self.path / (name.replace("_DOT_", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))

    def load(self, name: str) -> Any:
        """Imports a module of it."""
        importlib.invalidate_caches()
        return importlib.import_module(name)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project folder on `sys.path`. Its changes are looked for before every call."""
    monkeypatch.setattr(deploy, "CHECK", 0.0)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Project(folder)
    yield made
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    for node in ("alpha", "beta"):
        # Only where it was built.
        with contextlib.suppress(rh.RhdError):
            daemon.daemon().request("env_remove", node=node, key=made.env.name)


def hosted(node: Node) -> dict[str, Any]:
    """Status of a node as its own client sees it."""
    return daemon.Daemon(str(node.home)).request("status")  # type: ignore[no-any-return]


@pytest.fixture
def url(mesh: tuple[Node, Node]) -> str:
    """Where the node answers whose client this process is."""
    return str(hosted(mesh[0])["web"])


@pytest.fixture
def post(url: str) -> Callable[..., Answer]:
    """Posts JSON to a path."""
    return lambda path, body=None, **headers: ask(url, "POST", path, body, headers)


@pytest.fixture
def get(url: str) -> Callable[..., Answer]:
    """Gets a path."""
    return lambda path, **headers: ask(url, "GET", path, None, headers)


# A shell starts what runs in its background with Ctrl-C ignored, and so do all that it starts.
_HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def script(
    text: str, *args: str, home: Path | None = None, python: str = sys.executable, **more: Any
) -> subprocess.Popen[str]:
    """Runs a Python program that is a client of its own, and hears Ctrl-C."""
    env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(rh.__file__))}
    if home is not None:
        env["RHD_HOME"] = str(home)
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.Popen(
        [python, "-c", _HEARS + textwrap.dedent(text), *args], env=env, text=True, **more
    )
