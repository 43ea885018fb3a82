"""Starts the systems that the plan names; what can't be started is said, and left out."""

import contextlib
from pathlib import Path

from .driver import Driver, DriverError
from .mesh import Mesh

HERE = Path(__file__).resolve().parent.parent
NAMES = ("rhd", "ray", "dask", "parsl", "floors")


class Systems:
    """Where each system's programs are, and how it is started."""

    def __init__(self, binaries, venvs, root):
        self.rhd = str(binaries / "rhd")
        self.bench = str(binaries / "rhd-bench")
        self._venvs = venvs
        self.root = root

    def python(self, name):
        """The interpreter of a system's environment."""
        return str(self._venvs / name / "bin" / "python")

    def mesh(self, size):
        """So many daemons of one realm."""
        return Mesh(self.rhd, self.root, self.python("rhd"), size)

    def driver(self, name, mesh=None):
        """One system, up."""
        if name == "floors":
            return Driver(name, [self.bench, "floors"], self.root)
        folder = self._venvs / name / "bin"
        env = {
            "PYTHONPATH": str(HERE / "systems"),
            "PATH": f"{folder}:/usr/local/bin:/usr/bin:/bin",
        }
        if name == "rhd":
            env |= self._client(mesh)
        return Driver(
            name, [self.python(name), str(HERE / "systems" / f"with_{name}.py")], self.root, env
        )

    def _client(self, mesh):
        project = self.root / "project"
        project.mkdir(exist_ok=True)
        (project / "pyproject.toml").touch()
        (project / "work.py").write_text((HERE / "systems" / "work.py").read_text())
        sdk = HERE.parent.parent / "sdk" / "python"
        return {
            "PYTHONPATH": f"{project}:{HERE / 'systems'}:{sdk}",
            "RHD_HOME": str(mesh.nodes[0].home),
            "RHD_AUTOSTART": "0",
            "BENCH_FAR": mesh.nodes[-1].name,
        }

    @contextlib.contextmanager
    def up(self, names, report):
        """All of these systems, by name; ended at the end."""
        with contextlib.ExitStack() as stack:
            mesh = stack.enter_context(self.mesh(2)) if "rhd" in names else None
            drivers = {}
            for name in names:
                report(f"starting {name}")
                try:
                    drivers[name] = self.driver(name, mesh)
                except DriverError as e:
                    report(f"LEFT OUT: {name} does not start: {e}")
                    continue
                stack.callback(drivers[name].stop)
            yield drivers
