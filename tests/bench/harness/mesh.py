"""Daemons of one realm, each in a process and home of its own."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

READY = 60.0
LONGEST = 600.0
"""Seconds of one verb."""


class Node:
    """A daemon."""

    def __init__(self, binary, root, name, settings):
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
        self._binary = binary
        env = {k: v for k, v in os.environ.items() if not k.startswith("RHD_")}
        flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
        with open(self.home / "out.log", "wb") as out:
            self._process = subprocess.Popen(
                [binary, "--home", str(self.home), "up", "--name", name, "--port", "0", *flags],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            self._until(lambda: self._try("status").returncode == 0, "it answers")
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self):
        """Its process."""
        return self._process.pid

    def _try(self, *args):
        command = [self._binary, "--home", str(self.home), *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)

    def cli(self, *args):
        """What a verb writes to stdout."""
        done = self._try(*args)
        if done.returncode != 0:
            raise RuntimeError(f"rhd {args[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _until(self, true, what):
        deadline = time.monotonic() + READY
        while not true():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                said = (self.home / "out.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name}: not so: {what}\n{said}")
            time.sleep(0.05)

    def invite(self, uses):
        """A ticket for so many nodes."""
        return self.cli("invite", "--uses", str(uses))

    def join(self, ticket):
        """Joins the realm of a ticket."""
        self.cli("join", ticket)

    def until_linked(self, others):
        """Waits for a link to so many others."""

        def linked():
            peers = json.loads(self.cli("peers", "--json"))
            return sum(peer["path"] == "direct" for peer in peers) == others

        self._until(linked, f"links to {others} others")

    def stop(self):
        """Ends it in good order."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Mesh:
    """Nodes n0, n1 … that all see each other."""

    def __init__(self, binary, root, size, settings):
        self.nodes = []
        settings = {"mesh.mdns": "false", **settings}
        try:
            for i in range(size):
                self.nodes.append(Node(binary, root, f"n{i}", settings))
            if size > 1:
                ticket = self.nodes[0].invite(size - 1)
                for node in self.nodes[1:]:
                    node.join(ticket)
            for node in self.nodes:
                node.until_linked(size - 1)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Ends all of them."""
        for node in self.nodes:
            node.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
