"""A file system on which things are measured, and what they are measured with."""

import contextlib
import functools
import mmap
import os
import shutil
import tempfile
import time
from pathlib import Path

from .commands import run
from .mesh import Mesh
from .rounds import say
from .ssh import Ssh

SDK = Path(__file__).resolve().parents[3] / "sdk" / "python"
SYSTEMS = Path(__file__).resolve().parent.parent / "systems"


class Place:
    """A folder on one file system, for as long as it is measured there."""

    def __init__(self, args, on, left_out):
        self.args = args
        self.rounds, self.large = args.rounds, 256 if args.quick else 1024
        self._left_out = left_out
        # Short: sockets are made below it.
        self.root = Path(tempfile.mkdtemp(prefix="rhd-bench-", dir=on))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root, ignore_errors=True)

    @contextlib.contextmanager
    def mesh(self):
        """Two daemons, n0 and n1, with their stores on this file system."""
        python = self.args.venvs / "data" / "bin" / "python"
        with (
            self.folder() as homes,
            Mesh(self.args.binaries / "rhd", homes, 2, {"workers.python": python}) as mesh,
        ):
            yield mesh

    def python(self, program, *args, home=None):
        """What a program among `systems` prints, as a client of the daemon of this home."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("RHD_")}
        env |= {"PYTHONPATH": str(SDK), "RHD_AUTOSTART": "0"}
        env |= {"RHD_HOME": str(home)} if home else {}
        # What is around its working folder goes to nodes with its functions.
        with self.folder() as project:
            shutil.copy(SYSTEMS / program, project)
            (project / "pyproject.toml").touch()
            python = self.args.venvs / "data" / "bin" / "python"
            return run(python, project / program, *map(str, args), env=env, cwd=project)

    def turns(self, ways):
        """The ways of each round, in the order of their turns: each round begins with another."""
        ways = list(ways)
        for number in range(self.rounds):
            first = number % len(ways)
            yield ways[first:] + ways[:first]

    @contextlib.contextmanager
    def folder(self):
        """A folder that is not there afterwards."""
        with tempfile.TemporaryDirectory(dir=self.root) as path:
            yield Path(path)

    @functools.cached_property
    def ssh(self):
        """Ways to copy a folder over OpenSSH, by name; none where there is no server."""
        try:
            ssh = Ssh(self.root)
        except (RuntimeError, OSError) as e:
            self.leave_out("rsync and scp", e)
            return {}
        return {"rsync": ssh.rsync, "scp": ssh.scp}

    def timed(self, size, work, *args):
        """Milliseconds of what writes so many bytes."""
        self.settle(size)
        start = time.perf_counter()
        work(*args)
        return (time.perf_counter() - start) * 1000

    def settle(self, size):
        """Has memory at hand for so many bytes on both sides, and the disk at rest."""
        touch(2 * size)
        run("sync", "-f", self.root)

    def leave_out(self, what, why):
        """Says what can't be measured here."""
        say(f"NOT MEASURED: {what}: {why}")
        self._left_out[what] = str(why)


def touch(size):
    """Touches and releases memory: a virtual machine is slow to give what was never used."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    size = min(size, free // 4) // mmap.PAGESIZE * mmap.PAGESIZE
    with mmap.mmap(-1, max(size, mmap.PAGESIZE)) as memory:
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1
