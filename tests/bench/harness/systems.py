"""Starts the systems that the plan names; what can't be started is said, and left out."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

from .driver import Driver, DriverError
from .mesh import Mesh

HERE = Path(__file__).resolve().parent.parent


class Systems:
    """Where each system's programs are, and how it is started."""

    def __init__(self, binaries, venvs, root):
        self.rhd = str(binaries / "rhd")
        self.bench = str(binaries / "rhd-bench")
        self._venvs = venvs
        self.root = root
        # What goes to rhd's nodes with the functions, as a user's project would.
        self.project = root / "project"
        self.project.mkdir()
        (self.project / "pyproject.toml").touch()
        (self.project / "work.py").write_text((HERE / "systems" / "work.py").read_text())

    def python(self, name):
        """The interpreter of a system's environment."""
        return str(self._venvs / name / "bin" / "python")

    def mesh(self, size, settings=None):
        """So many daemons of one realm."""
        python = {"workers.python": self.python("rhd")}
        return Mesh(self.rhd, self.root, size, python | (settings or {}))

    def driver(self, name, mesh=None):
        """One system, up."""
        if name == "floors":
            return Driver(name, [self.bench, "floors"], self.root)
        if name == "callers":
            return self._callers(mesh)
        folder = self._venvs / name / "bin"
        env = {
            "PYTHONPATH": str(HERE / "systems"),
            "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin",
        }
        if name == "rhd":
            env |= self._client(mesh)
        command = [self.python(name), str(HERE / "systems" / f"with_{name}.py")]
        return Driver(name, command, self.root, env, self.project if name == "rhd" else None)

    def _client(self, mesh):
        sdk = HERE.parent.parent / "sdk" / "python"
        return {
            "PYTHONPATH": f"{self.project}:{HERE / 'systems'}:{sdk}",
            "RHD_HOME": str(mesh.nodes[0].home),
            "RHD_AUTOSTART": "0",
            "BENCH_FAR": mesh.nodes[-1].name,
        }

    def _callers(self, mesh):
        home, far = str(mesh.nodes[0].home), mesh.nodes[-1].name
        command = [self.bench, "callers", "--home", home, "--far", far]
        return Driver("callers", command, self.root)

    @contextlib.contextmanager
    def callers(self, mesh, nodes):
        """Rust callers at the first node, and the no-ops on `nodes` that they may call."""
        names = [node.name for node in nodes]
        command = [self.python("rhd"), str(HERE / "systems" / "place.py"), *names]
        done = subprocess.run(
            command,
            env={**os.environ, **self._client(mesh)},
            cwd=self.project,
            stdout=subprocess.PIPE,
            timeout=120,
            check=True,
        )
        driver = self._callers(mesh)
        try:
            yield driver, [(name, node) for node, name in json.loads(done.stdout).items()]
        finally:
            driver.stop()

    @contextlib.contextmanager
    def up(self, names, report):
        """All of these systems by name, and why others don't start; ended at the end."""
        with contextlib.ExitStack() as stack:
            ours = {"rhd", "callers"}.intersection(names)
            mesh = stack.enter_context(self.mesh(2)) if ours else None
            drivers, missing = {}, {}
            for name in names:
                report(f"starting {name}")
                try:
                    drivers[name] = self.driver(name, mesh)
                except (DriverError, OSError) as e:
                    missing[name] = str(e)
                    report(f"LEFT OUT: {name} does not start: {e}")
                    continue
                stack.callback(drivers[name].stop)
            yield drivers, missing
